//! The rules: what can happen next, and what it does. Each step names what it abstracts.

use crate::rules::state::{Fleet, Id, Node, Place, Search, Why, Word};
use crate::rules::{Mutant, Rules};

/// What can happen next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// `seek.rs` `ask_next`: a seeker asks a candidate.
    Ask(Id, Id),
    /// `climb.rs` `climb`: an attached node asks for a shallower place.
    Climb(Id, Id),
    /// `host.rs` `on_join`: the node asked (first) takes the one that asks, or says where not.
    Answer(Id, Id),
    /// `seek.rs` `on_candidate_failed`: the candidate is dead.
    Unreachable(Id),
    /// `seek.rs` `on_attempt_over`: the answer takes too long; the link is closed, whatever comes.
    TooLong(Id),
    /// `seek.rs` `on_accept`, `climb.rs` `on_climbed`: the answer of the first arrives at the second.
    Accepted(Id, Id),
    /// `beat.rs` `on_heartbeat`: a child hears its parent.
    Hear(Id),
    /// `node.rs` `on_link_down`, `on_leave`: the parent is dead, or answered a report with `leave`.
    Orphaned(Id),
    /// `host.rs` `on_report`, `node.rs` `on_link_down`: a parent learns that a child is none.
    Disown(Id, Id),
    /// `seek.rs` `end_round`: everyone was asked in vain; pause and begin again.
    Again(Id),
    /// `seek.rs` `end_round`, `become_root`: everyone was asked in vain; be the root.
    Rise(Id),
    /// `merge.rs` `on_probe_due`, `on_compare`, `on_rival`: a root meets a node of another tree.
    Meet(Id, Id),
    /// Fault: a node dies.
    Die(Id),
    /// Fault: it starts again (`node.rs` `on_start`, as a former member).
    Start(Id),
    /// Fault: the link to the parent breaks, and the parent (second) learns of it first.
    LosesChild(Id, Id),
    /// Fault: the link to the parent breaks, and the child learns of it first.
    LosesParent(Id),
}

impl Step {
    /// Whether it is a fault.
    #[must_use]
    pub fn is_fault(self) -> bool {
        matches!(self, Self::Die(_) | Self::Start(_) | Self::LosesChild(..) | Self::LosesParent(_))
    }
}

impl Fleet {
    /// Everything that can happen next.
    pub fn steps(&self, rules: &Rules, steps: &mut Vec<Step>) {
        for (from, to, _) in &self.accepts {
            steps.push(Step::Accepted(*from, *to));
        }
        for at in self.ids() {
            let node = self.node(at);
            match &node.place {
                Place::Down => {}
                Place::Seeking(search) => self.steps_of_seeker(rules, at, search, steps),
                Place::Attached { word, climbing } => {
                    self.steps_of_child(rules, at, word, *climbing, steps);
                }
                Place::Root => {
                    let met = |other: &Id| self.up(*other) && self.root_of(*other) != at;
                    if rules.mutant != Mutant::NoProbe {
                        steps.extend(self.ids().filter(met).map(|other| Step::Meet(at, other)));
                    }
                }
            }
            let none = |child: &&Id| !self.believes(**child, at);
            steps.extend(node.children.iter().filter(none).map(|child| Step::Disown(at, *child)));
        }
        self.faults(steps);
    }

    fn steps_of_seeker(&self, rules: &Rules, at: Id, search: &Search, steps: &mut Vec<Step>) {
        if let Some(asked) = search.asking {
            if !self.up(asked) {
                steps.push(Step::Unreachable(at));
                return;
            }
            if !self.answered(asked, at) {
                steps.push(Step::Answer(asked, at));
            }
            if !rules.timely {
                steps.push(Step::TooLong(at));
            }
            return;
        }
        let candidates: Vec<Id> =
            self.ids().filter(|other| self.worth_asking(rules, at, search, *other)).collect();
        if !candidates.is_empty() {
            steps.extend(candidates.into_iter().map(|other| Step::Ask(at, other)));
            return;
        }
        let heir = self.heirs_before(rules, at, search).is_some() && !search.heir_seeks;
        let merge = matches!(search.why, Why::Merge(_));
        if heir || merge || !rules.timely {
            steps.push(Step::Rise(at));
        }
        if !merge {
            steps.push(Step::Again(at));
        }
    }

    fn steps_of_child(
        &self,
        rules: &Rules,
        at: Id,
        word: &Word,
        climbing: Option<Id>,
        steps: &mut Vec<Step>,
    ) {
        let Some(&parent) = word.path.last() else { return };
        let listed = self.up(parent) && self.node(parent).children.contains(&at);
        if listed {
            steps.push(Step::Hear(at));
        } else if !self.up(parent) || rules.mutant != Mutant::NoLeave {
            steps.push(Step::Orphaned(at));
        }
        match climbing {
            Some(asked) if self.up(asked) && !self.answered(asked, at) => {
                steps.push(Step::Answer(asked, at));
                steps.push(Step::TooLong(at));
            }
            Some(_) => steps.push(Step::TooLong(at)),
            None => {
                let better = |other: &Id| {
                    self.in_tree(*other)
                        && !self.node(at).children.contains(other)
                        && self.word(*other).path.len() < word.path.len()
                        && self.node(*other).children.len() < usize::from(rules.fanout)
                };
                steps.extend(self.ids().filter(better).map(|other| Step::Climb(at, other)));
            }
        }
    }

    fn faults(&self, steps: &mut Vec<Step>) {
        for at in self.ids() {
            if self.deaths > 0 {
                steps.push(if self.up(at) { Step::Die(at) } else { Step::Start(at) });
            }
            if let Some(parent) = self.parent(at).filter(|_| self.breaks > 0) {
                steps.push(Step::LosesParent(at));
                if self.node(parent).children.contains(&at) {
                    steps.push(Step::LosesChild(at, parent));
                }
            }
        }
    }

    /// Whether `other` is a candidate (`candidates` and `ask_next`).
    fn worth_asking(&self, rules: &Rules, at: Id, search: &Search, other: Id) -> bool {
        if other == at || search.tried.contains(&other) || self.node(at).children.contains(&other) {
            return false;
        }
        match &search.why {
            Why::Merge(rival) => self.up(other) && self.root_of(other) == *rival,
            Why::Orphan(word) => match self.heirs_before(rules, at, search) {
                Some(before) => word.path.contains(&other) || before.contains(&other),
                None => true,
            },
            Why::Afresh => true,
        }
    }

    /// If the lost parent was the root and `at` an heir: the heirs before it (`heirs_before_me`).
    fn heirs_before(&self, rules: &Rules, at: Id, search: &Search) -> Option<Vec<Id>> {
        let Why::Orphan(word) = &search.why else { return None };
        let rank = word.heirs.iter().position(|heir| *heir == at)?;
        let before = if rules.mutant == Mutant::NoHeirRule { 0 } else { rank };
        (word.path.len() == 1).then(|| word.heirs[..before].to_vec())
    }

    /// The root as this node knows it (`merge.rs` `root`).
    fn root_of(&self, at: Id) -> Id {
        self.word(at).path[0]
    }

    fn in_tree(&self, at: Id) -> bool {
        matches!(self.node(at).place, Place::Attached { .. } | Place::Root)
    }

    fn answered(&self, from: Id, to: Id) -> bool {
        self.accepts.iter().any(|(a, b, _)| (*a, *b) == (from, to))
    }

    /// Whether `child` is a child of `parent`, or may still become one, for all it knows.
    fn believes(&self, child: Id, parent: Id) -> bool {
        match &self.node(child).place {
            Place::Down | Place::Root => false,
            Place::Seeking(search) => search.asking == Some(parent),
            Place::Attached { word, climbing } => {
                word.path.last() == Some(&parent) || *climbing == Some(parent)
            }
        }
    }

    /// Does one step.
    pub fn take(&mut self, rules: &Rules, step: Step) {
        match step {
            Step::Ask(at, other) => self.search(at, |search| {
                search.asking = Some(other);
                search.tried.insert(other);
            }),
            Step::Climb(at, other) => self.set_climbing(at, Some(other)),
            Step::Answer(at, joiner) => self.answer(rules, at, joiner),
            Step::Unreachable(at) => self.search(at, |search| search.asking = None),
            Step::TooLong(at) => {
                // The link is closed: an answer on its way is lost with it.
                self.accepts.retain(|(_, to, _)| *to != at);
                self.search(at, |search| search.asking = None);
                self.set_climbing(at, None);
            }
            Step::Accepted(from, at) => self.accepted(rules, from, at),
            Step::Hear(at) => self.hear(rules, at),
            Step::Orphaned(at) | Step::LosesParent(at) => {
                self.breaks -= u8::from(matches!(step, Step::LosesParent(_)));
                if let Place::Attached { word, .. } = self.node(at).place.clone() {
                    self.seek(at, Why::Orphan(word));
                }
            }
            Step::Disown(at, child) => self.node_mut(at).children.retain(|other| *other != child),
            Step::Again(at) => self.search(at, |search| {
                search.tried.clear();
                search.heir_seeks = false;
            }),
            Step::Rise(at) => self.node_mut(at).place = Place::Root,
            Step::Meet(at, other) => self.meet(rules, at, other),
            Step::Die(at) => {
                self.deaths -= 1;
                *self.node_mut(at) = Node { place: Place::Down, children: Vec::new() };
                self.accepts.retain(|(from, to, _)| *from != at && *to != at);
            }
            Step::Start(at) => {
                self.deaths -= 1;
                self.seek(at, Why::Afresh);
            }
            Step::LosesChild(at, parent) => {
                self.breaks -= 1;
                self.node_mut(parent).children.retain(|other| *other != at);
            }
        }
    }

    fn search(&mut self, at: Id, change: impl FnOnce(&mut Search)) {
        if let Place::Seeking(search) = &mut self.node_mut(at).place {
            change(search);
        }
    }

    fn set_climbing(&mut self, at: Id, to: Option<Id>) {
        if let Place::Attached { climbing, .. } = &mut self.node_mut(at).place {
            *climbing = to;
        }
    }

    /// `seek`: an attempt to climb is given up with the place.
    fn seek(&mut self, at: Id, why: Why) {
        self.accepts.retain(|(_, to, _)| *to != at);
        self.node_mut(at).place = Place::seeking(why);
    }

    fn answer(&mut self, rules: &Rules, at: Id, joiner: Id) {
        let full = self.node(at).children.len() >= usize::from(rules.fanout)
            && rules.mutant != Mutant::NoFanout;
        let known = self.node(at).children.contains(&joiner);
        let ancestor = self.word(at).path.contains(&joiner);
        if known || (!ancestor && self.in_tree(at) && !full) {
            if !known {
                self.node_mut(at).children.push(joiner);
            }
            let word = self.word(at);
            self.accepts.insert((at, joiner, word));
            return;
        }
        let seeks = !self.in_tree(at);
        self.search(joiner, |search| {
            search.asking = None;
            let heir = matches!(&search.why, Why::Orphan(word) if word.heirs.contains(&at));
            search.heir_seeks |= heir && (seeks || ancestor);
        });
        self.set_climbing(joiner, None);
    }

    fn accepted(&mut self, rules: &Rules, from: Id, at: Id) {
        let Some(accept) = self.accepts.iter().find(|(a, b, _)| (*a, *b) == (from, at)).cloned()
        else {
            return;
        };
        self.accepts.remove(&accept);
        let word = accept.2;
        let usable = usable(rules, at, &word);
        let shorter = word.path.len() < self.word(at).path.len() - 1;
        let (asked, climbs) = match &self.node(at).place {
            Place::Seeking(search) => (search.asking == Some(from), false),
            Place::Attached { climbing, .. } => (false, *climbing == Some(from)),
            Place::Down | Place::Root => (false, false),
        };
        if usable && (asked || (climbs && shorter)) {
            // One link joins two nodes, and a new one ends what the old one meant (`node.rs` `on_link_up`).
            self.node_mut(at).children.retain(|child| *child != from);
            self.node_mut(at).place = Place::Attached { word, climbing: None };
            return;
        }
        // It says `leave`: the parent will disown it.
        self.search(at, |search| search.asking = search.asking.filter(|asked| *asked != from));
        if climbs {
            self.set_climbing(at, None);
        }
    }

    fn hear(&mut self, rules: &Rules, at: Id) {
        let Some(parent) = self.parent(at) else { return };
        let news = self.word(parent);
        if rules.mutant == Mutant::NoPathCheck && news.path.len() > usize::from(rules.nodes) {
            // Round and round: the path says nothing new any more.
            return;
        }
        if !usable(rules, at, &news) {
            self.node_mut(parent).children.retain(|child| *child != at);
            return self.seek(at, Why::Afresh);
        }
        if let Place::Attached { word, .. } = &mut self.node_mut(at).place {
            *word = news;
        }
    }

    fn meet(&mut self, rules: &Rules, at: Id, other: Id) {
        let theirs = self.root_of(other);
        let both = rules.mutant == Mutant::NoIdOrder;
        if theirs < at || both {
            self.seek(at, Why::Merge(theirs));
        }
        if (theirs > at || both) && self.node(theirs).place == Place::Root {
            self.seek(theirs, Why::Merge(at));
        }
    }
}

fn usable(rules: &Rules, at: Id, word: &Word) -> bool {
    rules.mutant == Mutant::NoPathCheck || !word.path.contains(&at)
}
