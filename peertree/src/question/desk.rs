//! One node's open questions, as a state machine; drawn in [`super`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use borgios_types::{NodeId, Time};

use super::ask::{Answer, Ask, Findings, Question, Scope};
use super::bounds::{
    ASK_BURST, ASK_PACE, ASKS_MAX, HOP, MEMBERS_SLACK, OPEN_MAX, ROLL_MAX, SEEN_MAX, TOOLS_MAX,
    WITHIN_MAX,
};
use super::pace::Pace;
use super::places::Place;
use super::roll::Roll;
use super::share::{PlaceShares, Shares};
use super::tally::{Exception, Measure, Tally, label};

/// What can happen.
#[derive(Clone, Debug)]
pub enum Input {
    /// This node's place in the tree, at the start and whenever it changes.
    Place {
        /// The parent.
        up: Option<NodeId>,
        /// The children.
        down: Vec<NodeId>,
    },
    /// How many nodes have a join record in date here.
    Members(u64),
    /// A tool of this node asks; answered with [`Output::Done`].
    Open {
        /// Chosen by the shell, which knows the answer by it.
        key: u64,
        /// Drawn by the shell: never the same twice, never 0.
        nonce: u64,
        /// What.
        question: Question,
        /// How long the tool waits.
        within: Duration,
    },
    /// A neighbour asks.
    Asked(NodeId, Ask),
    /// A neighbour answers.
    Answered(NodeId, Answer),
    /// What this node itself says, as [`Output::Observe`] wanted to know; `None` if it cannot.
    Observed {
        /// Of which question.
        inquiry: u64,
        /// What it says.
        own: Option<Own>,
    },
    /// The time that [`Desk::due`] named has come.
    Tick,
}

/// What must be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send a question to a neighbour.
    Ask(NodeId, Ask),
    /// Send an answer to a neighbour.
    Answer(NodeId, Answer),
    /// Find out what this node has to say, and come back with [`Input::Observed`].
    Observe {
        /// Of which question.
        inquiry: u64,
        /// What is asked.
        question: Question,
    },
    /// The answer for a tool of this node; `None`: too many questions are open.
    Done {
        /// As in [`Input::Open`].
        key: u64,
        /// The answer.
        findings: Option<Findings>,
    },
    /// A node was found behind this child.
    Learned {
        /// Which node.
        node: NodeId,
        /// Behind which neighbour.
        via: NodeId,
    },
}

/// What one node says for itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Own {
    /// Its label in the histogram.
    pub label: Option<String>,
    /// Its numbers.
    pub measures: Vec<(&'static str, u64)>,
    /// How grave it is, and what is the matter, if it is an exception.
    pub exception: Option<(u64, String)>,
    /// Where it stands, if that is asked of it.
    pub place: Option<Place>,
}

/// Who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asker {
    /// A tool of this node.
    Tool { key: u64 },
    /// A neighbour, with its own number of the question.
    Neighbour { peer: NodeId, id: u64 },
}

/// One open question.
#[derive(Debug)]
struct Inquiry {
    asker: Asker,
    question: Question,
    ends: Time,
    /// What this node says itself is still to come.
    own: bool,
    /// Neighbours whose answers are still to come.
    waiting: BTreeSet<NodeId>,
    findings: Findings,
    /// What was taken out of the answers, to be put into `findings` in the end.
    shares: Shares,
    /// The same of places.
    places: PlaceShares,
}

impl Inquiry {
    /// Adds what one neighbour, or this node, says; at most `most` answers in all.
    fn add(&mut self, mut said: Findings, most: u64) {
        self.shares.take(&mut said.tally, most);
        // A search ends with the first place that is named.
        if self.question == Question::Tree {
            self.places.take(&mut said.places);
        }
        self.findings.merge(said);
    }
}

/// One node's open questions.
#[derive(Debug)]
pub struct Desk {
    me: NodeId,
    up: Option<NodeId>,
    down: BTreeSet<NodeId>,
    members: u64,
    /// By number, which is the id of the asks that belong to it.
    open: BTreeMap<u64, Inquiry>,
    next: u64,
    seen: VecDeque<u64>,
    paces: BTreeMap<NodeId, Pace>,
    out: Vec<Output>,
}

/// What the next level may take of `within`; nothing is left after some levels.
#[must_use]
pub fn next_level(within: Duration) -> Duration {
    within.saturating_sub(within / 10).saturating_sub(HOP)
}

impl Desk {
    /// A node without neighbours and questions.
    #[must_use]
    pub fn new(me: NodeId) -> Self {
        Self {
            me,
            up: None,
            down: BTreeSet::new(),
            members: 0,
            open: BTreeMap::new(),
            next: 1,
            seen: VecDeque::new(),
            paces: BTreeMap::new(),
            out: Vec::new(),
        }
    }

    /// Applies one input and returns what must be done, in order. Never fails: what fits no open
    /// question is dropped.
    pub fn handle(&mut self, now: Time, input: Input) -> Vec<Output> {
        match input {
            Input::Place { up, down } => self.on_place(up, down),
            Input::Members(members) => self.members = members,
            Input::Open { key, nonce, question, within } => {
                self.on_open(now, key, nonce, question, within);
            }
            Input::Asked(from, ask) => self.on_asked(now, from, ask),
            Input::Answered(from, answer) => self.on_answered(from, answer),
            Input::Observed { inquiry, own } => self.on_observed(inquiry, own),
            Input::Tick => {
                let over = self.open.iter().filter(|(_, inquiry)| inquiry.ends <= now);
                let over: Vec<u64> = over.map(|(number, _)| *number).collect();
                over.into_iter().for_each(|number| self.close(number));
            }
        }
        std::mem::take(&mut self.out)
    }

    /// When [`Input::Tick`] is due, if anything is open.
    #[must_use]
    pub fn due(&self) -> Option<Time> {
        self.open.values().map(|inquiry| inquiry.ends).min()
    }

    /// Open questions of this node's own tools.
    fn tools(&self) -> usize {
        let own = |inquiry: &&Inquiry| matches!(inquiry.asker, Asker::Tool { .. });
        self.open.values().filter(own).count()
    }

    fn is_neighbour(&self, peer: &NodeId) -> bool {
        self.up.as_ref() == Some(peer) || self.down.contains(peer)
    }

    fn on_place(&mut self, up: Option<NodeId>, down: Vec<NodeId>) {
        (self.up, self.down) = (up, down.into_iter().collect());
        let gone: BTreeSet<NodeId> =
            self.paces.keys().filter(|peer| !self.is_neighbour(peer)).copied().collect();
        self.paces.retain(|peer, _| !gone.contains(peer));
        // Nobody is left to whom the answer could go.
        let (up, down) = (self.up, &self.down);
        let near = |peer: &NodeId| up.as_ref() == Some(peer) || down.contains(peer);
        self.open.retain(|_, inquiry| match inquiry.asker {
            Asker::Tool { .. } => true,
            Asker::Neighbour { peer, .. } => near(&peer),
        });
        for inquiry in self.open.values_mut() {
            let lost: Vec<NodeId> =
                inquiry.waiting.iter().filter(|peer| !near(peer)).copied().collect();
            for peer in lost {
                inquiry.waiting.remove(&peer);
                inquiry.findings.tally.merge(Tally::of_silent(peer));
            }
        }
        self.close_complete();
    }

    fn on_open(&mut self, now: Time, key: u64, nonce: u64, question: Question, within: Duration) {
        if self.tools() >= TOOLS_MAX || !question.bounded() {
            return self.out.push(Output::Done { key, findings: None });
        }
        self.see(nonce);
        self.begin(now, Asker::Tool { key }, nonce, question, Scope::Fleet, within);
    }

    fn on_asked(&mut self, now: Time, from: NodeId, ask: Ask) {
        let Ask { id, nonce, scope, question, within_ms } = ask;
        if !self.is_neighbour(&from) {
            return;
        }
        let asker = Asker::Neighbour { peer: from, id };
        let open = |inquiry: &&Inquiry| matches!(inquiry.asker, Asker::Neighbour { peer, .. } if peer == from);
        let pace = self.paces.entry(from).or_insert_with(|| Pace::new(now, ASK_BURST, ASK_PACE));
        // In this order: what is refused for another reason costs a token too.
        let paced = pace.take(now);
        let refused = !paced
            || !question.bounded()
            || question == Question::Unknown
            || self.open.len() - self.tools() >= OPEN_MAX
            || self.open.values().filter(open).count() >= ASKS_MAX
            || (nonce != 0 && self.seen.contains(&nonce));
        if refused {
            // Said at once, so that nobody waits for it.
            let answer = Answer::of(id, &question, Findings::default());
            return self.out.push(Output::Answer(from, answer));
        }
        self.see(nonce);
        self.begin(now, asker, nonce, question, scope, Duration::from_millis(within_ms));
    }

    fn see(&mut self, nonce: u64) {
        if nonce == 0 {
            return;
        }
        if self.seen.len() >= SEEN_MAX {
            self.seen.pop_front();
        }
        self.seen.push_back(nonce);
    }

    fn begin(
        &mut self,
        now: Time,
        asker: Asker,
        nonce: u64,
        question: Question,
        scope: Scope,
        within: Duration,
    ) {
        let within = within.min(WITHIN_MAX);
        let number = self.next;
        self.next += 1;
        let from = match asker {
            Asker::Tool { .. } => None,
            Asker::Neighbour { peer, .. } => Some(peer),
        };
        let up = self.up.filter(|_| scope == Scope::Fleet);
        let to_ask = up.into_iter().chain(self.down.iter().copied());
        let mut waiting: BTreeSet<NodeId> = to_ask.filter(|to| Some(*to) != from).collect();
        let mut findings = Findings::default();
        let below = next_level(within);
        if below.is_zero() {
            // Not asked: the answer that waits for theirs would come too late.
            let unasked = std::mem::take(&mut waiting).into_iter();
            unasked.for_each(|node| findings.tally.merge(Tally::of_silent(node)));
        }
        for to in &waiting {
            let scope = if Some(*to) == self.up { Scope::Fleet } else { Scope::Below };
            let within_ms = u64::try_from(below.as_millis()).unwrap_or(u64::MAX);
            let question = question.clone();
            let ask = Ask { id: number, nonce, scope, question, within_ms };
            self.out.push(Output::Ask(*to, ask));
        }
        self.out.push(Output::Observe { inquiry: number, question: question.clone() });
        let ends = now + within;
        let (shares, places) = (Shares::default(), PlaceShares::default());
        let inquiry =
            Inquiry { asker, question, ends, own: true, waiting, findings, shares, places };
        self.open.insert(number, inquiry);
    }

    /// Most answers that this node speaks of. Before the shell has counted the records, nothing is known to
    /// compare with.
    fn limit(&self) -> u64 {
        match self.members {
            0 => u64::MAX,
            members => members.saturating_mul(2).saturating_add(MEMBERS_SLACK),
        }
    }

    fn on_answered(&mut self, from: NodeId, answer: Answer) {
        // An honest neighbour brings down to its limit what it passes on, and may hold a few records more.
        // Their sum is brought down where they are put together: it is no fault of whoever answers last.
        let limit = self.limit();
        let most = limit.saturating_add(limit / 4);
        let number = answer.id;
        // Late, twice, or never asked for.
        let Some(inquiry) = self.open.get_mut(&number) else { return };
        if !inquiry.waiting.remove(&from) {
            return;
        }
        let mut findings = answer.findings(&inquiry.question);
        // A neighbour speaks for itself, over a link that proves who it is; nobody else does for it.
        let (up, down) = (self.up, &self.down);
        let near = |node: &NodeId| up.as_ref() == Some(node) || down.contains(node);
        if matches!(inquiry.question, Question::Find { .. }) {
            findings.places.nodes.retain(|place| place.node == from || !near(&place.node));
        }
        let taken = findings.tally.bounded()
            && findings.tally.plausible()
            && findings.tally.answered <= most
            // Too many to list are not to be had among so few members: one could erase the list for all.
            && (findings.tally.roll.tags().is_some() || limit / 2 > ROLL_MAX as u64)
            && findings.places.nodes.len() as u64 <= findings.tally.answered
            && !findings.is_empty();
        if !taken {
            inquiry.findings.tally.merge(Tally::of_silent(from));
            return self.close_if_complete(number);
        }
        if let Question::Find { node } = &inquiry.question
            && !findings.places.nodes.is_empty()
            && self.down.contains(&from)
        {
            self.out.push(Output::Learned { node: *node, via: from });
        }
        inquiry.add(findings, limit);
        self.close_if_complete(number);
    }

    fn on_observed(&mut self, number: u64, own: Option<Own>) {
        let limit = self.limit();
        let Some(inquiry) = self.open.get_mut(&number) else { return };
        if !std::mem::take(&mut inquiry.own) {
            return;
        }
        match own {
            Some(own) => inquiry.add(said_by(self.me, own), limit),
            None => inquiry.findings.tally.merge(Tally::of_silent(self.me)),
        }
        self.close_if_complete(number);
    }

    fn close_complete(&mut self) {
        let all: Vec<u64> = self.open.keys().copied().collect();
        all.into_iter().for_each(|number| self.close_if_complete(number));
    }

    fn close_if_complete(&mut self, number: u64) {
        let Some(inquiry) = self.open.get(&number) else { return };
        let looked_for = matches!(inquiry.question, Question::Find { .. });
        let found = looked_for && !inquiry.findings.places.nodes.is_empty();
        if found || (!inquiry.own && inquiry.waiting.is_empty()) {
            self.close(number);
        }
    }

    /// Ends a question with what is known.
    fn close(&mut self, number: u64) {
        let limit = self.limit();
        let Some(inquiry) = self.open.remove(&number) else { return };
        let Inquiry { asker, question, own, waiting, mut findings, shares, places, .. } = inquiry;
        shares.put(&mut findings.tally);
        places.put(&mut findings.places);
        findings.trim(limit);
        let found = matches!(question, Question::Find { .. }) && !findings.places.nodes.is_empty();
        // Where a node was found nobody waits for the others, who may well be about to answer.
        let silent = waiting.into_iter().chain(own.then_some(self.me)).filter(|_| !found);
        silent.for_each(|node| findings.tally.merge(Tally::of_silent(node)));
        self.out.push(match asker {
            Asker::Tool { key } => Output::Done { key, findings: Some(findings) },
            Asker::Neighbour { peer, id } => {
                Output::Answer(peer, Answer::of(id, &question, findings))
            }
        });
    }

    /// Checks what always holds (see [`super`]).
    ///
    /// # Errors
    /// The first rule that is broken; that is a bug of this crate, whatever was received.
    pub fn check(&self) -> Result<(), String> {
        let rule = |holds: bool, what: &str| if holds { Ok(()) } else { Err(what.to_owned()) };
        let tools = self.tools();
        rule(tools <= TOOLS_MAX, "more questions of tools than their bound")?;
        rule(self.open.len() - tools <= OPEN_MAX, "more open questions than their bound")?;
        rule(self.seen.len() <= SEEN_MAX, "more nonces than their bound")?;
        rule(self.paces.len() <= self.down.len() + 1, "paces of strangers")?;
        for inquiry in self.open.values() {
            rule(inquiry.findings.tally.bounded(), "a tally beyond its bounds")?;
            rule(inquiry.findings.tally.plausible(), "a tally that cannot be")?;
            rule(inquiry.own || !inquiry.waiting.is_empty(), "a question that waits for nobody")?;
        }
        Ok(())
    }
}

/// One node's words as findings.
fn said_by(me: NodeId, own: Own) -> Findings {
    let Own { label: said, measures, exception, place } = own;
    let exception =
        exception.map(|(weight, what)| Exception { node: me, weight, what: label(&what) });
    let tally = Tally {
        answered: 1,
        measures: measures
            .into_iter()
            .map(|(name, value)| (name.to_owned(), Measure::one(value)))
            .collect(),
        labels: said.map(|text| (label(&text), 1)).into_iter().collect(),
        exceptional: u64::from(exception.is_some()),
        exceptions: exception.into_iter().collect(),
        roll: Roll::one(&me),
        ..Tally::default()
    };
    let mut findings = Findings { tally, ..Findings::default() };
    findings.places.nodes.extend(place);
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::key;

    fn claim(node: NodeId) -> Place {
        let name = "web-1".to_owned();
        Place { node, name, address: None, parent: None, depth: 1, hops: None, detail: None }
    }

    /// A desk with parent 1 and children 2 and 3 that looks for `node`; its own part is said.
    fn looks_for(node: NodeId) -> (Desk, u64) {
        let mut desk = Desk::new(key(9));
        let now = Time(1_000);
        desk.handle(now, Input::Place { up: Some(key(1)), down: vec![key(2), key(3)] });
        let question = Question::Find { node };
        let within = Duration::from_secs(5);
        desk.handle(now, Input::Open { key: 7, nonce: 5, question, within });
        let inquiry = 1;
        desk.handle(now, Input::Observed { inquiry, own: Some(Own::default()) });
        (desk, inquiry)
    }

    fn answers(desk: &mut Desk, from: u8, id: u64, node: NodeId) -> Vec<Output> {
        let tally = Tally { answered: 1, roll: Roll::one(&key(from)), ..Tally::default() };
        let places =
            super::super::places::Places { nodes: vec![claim(node)], ..Default::default() };
        let answer = Answer { id, tally: Some(tally), tree: Some(places) };
        desk.handle(Time(1_001), Input::Answered(key(from), answer))
    }

    #[test]
    fn nobody_claims_to_be_a_neighbour_but_that_one() {
        let (mut desk, id) = looks_for(key(3));
        assert_eq!(answers(&mut desk, 2, id, key(3)), [], "a claim that this node knows better");
        let out = answers(&mut desk, 3, id, key(3));
        assert!(out.contains(&Output::Learned { node: key(3), via: key(3) }), "{out:?}");
        assert!(matches!(&out[..], [.., Output::Done { key: 7, findings: Some(_) }]));
    }

    /// One leaf that claims more than can be listed would erase for all who answered.
    #[test]
    fn members_that_can_all_be_listed_are_not_too_many_to_list() {
        for (members, taken) in [(5_000, false), (8_200, true)] {
            let mut desk = Desk::new(key(9));
            let now = Time(1_000);
            desk.handle(now, Input::Place { up: Some(key(1)), down: Vec::new() });
            desk.handle(now, Input::Members(members));
            let (question, within) = (Question::Epochs, Duration::from_secs(5));
            desk.handle(now, Input::Open { key: 7, nonce: 5, question, within });
            desk.handle(now, Input::Observed { inquiry: 1, own: Some(Own::default()) });
            let tally = Tally { answered: 8_193, roll: Roll::too_many(), ..Tally::default() };
            let answer = Answer { id: 1, tally: Some(tally), tree: None };
            let out = desk.handle(Time(1_001), Input::Answered(key(1), answer));
            let [.., Output::Done { findings: Some(findings), .. }] = &out[..] else {
                panic!("{out:?}")
            };
            assert_eq!(findings.tally.roll.tags().is_none(), taken, "{members} members");
            assert_eq!(findings.tally.silent.contains(&key(1)), !taken, "{members} members");
        }
    }

    /// A child claims all that can be claimed, in many small labels, with tags laid between the honest ones:
    /// what gives way is its own, and not the largest label, which is what the honest said; nor the list,
    /// where its tags and theirs are more than that holds.
    #[test]
    fn what_one_neighbour_invents_does_not_make_the_others_give_way() {
        for (members, limit) in [(100, 264), (5_000, 10_064)] {
            let mut desk = Desk::new(key(9));
            let now = Time(1_000);
            desk.handle(now, Input::Place { up: None, down: vec![key(2), key(3)] });
            desk.handle(now, Input::Members(members));
            let (question, within) = (Question::Epochs, Duration::from_secs(5));
            desk.handle(now, Input::Open { key: 7, nonce: 5, question, within });
            let own = Own { label: Some("epoch 1".into()), ..Own::default() };
            desk.handle(now, Input::Observed { inquiry: 1, own: Some(own) });
            let roll = |tags: &[u64]| -> Roll {
                let text: String = tags.iter().map(|tag| format!("{tag:016x}")).collect();
                serde_json::from_str(&format!("\"{text}\"")).unwrap()
            };
            let honest: Vec<u64> = (1..members).map(|n| n * 1_000).collect();
            let invented: Vec<u64> = (0..limit).take(ROLL_MAX).map(|n| n * 400 + 7).collect();
            let said = |tags: &[u64], answered: u64, labels: BTreeMap<String, u64>| {
                let tally = Tally { answered, labels, roll: roll(tags), ..Tally::default() };
                Answer { id: 1, tally: Some(tally), tree: None }
            };
            let many = (0..31).map(|n| (format!("!{n:02}"), 8)).collect();
            desk.handle(now, Input::Answered(key(3), said(&invented, limit, many)));
            let one = BTreeMap::from([("epoch 1".to_owned(), members - 1)]);
            let out = desk.handle(now, Input::Answered(key(2), said(&honest, members - 1, one)));
            let [.., Output::Done { findings: Some(Findings { tally, .. }), .. }] = &out[..] else {
                panic!("{out:?}")
            };
            assert_eq!((tally.answered, tally.labels["epoch 1"]), (limit, members));
            let heard = tally.roll.tags().expect("a list");
            assert!(honest.iter().all(|tag| heard.contains(&super::super::roll::Tag(*tag))));
            assert!(tally.bounded() && tally.plausible(), "{members} members");
        }
    }

    #[test]
    fn of_a_node_farther_away_a_claim_is_all_there_is() {
        let (mut desk, id) = looks_for(key(40));
        let out = answers(&mut desk, 2, id, key(40));
        assert!(matches!(&out[..], [.., Output::Done { key: 7, findings: Some(_) }]), "{out:?}");
    }
}
