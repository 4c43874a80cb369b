//! Gaps: what a cross link brought and the tree should have; who withheld it, and what follows.
//!
//! ```text
//!  cross peer Y has O, this node X has not          X ── missing ──▶ next hop of the tree towards Y
//!     │ fetched from Y at once, relayed                 ▼
//!     ▼                              has it: sends O ── or: `lacking`, and asks the next hop in turn
//!  suspicion against the next hop                       │                  (until Y itself)
//!     ├─ it sends O                        cleared   ◀──┤
//!     ├─ `found`: its own suspect sent it  excused   ◀──┤
//!     ├─ `lacking`, and nothing more       evidence, excused
//!     └─ nothing at all                    evidence
//! ```
//!
//! The question travels along the tree's own path from X to Y. Everyone honest on it has the object,
//! or says that it lacks it and asks on; so the first link at which there is neither object nor word
//! ends at whoever withholds, and its neighbour is the only one without an excuse. Hence the rule for
//! leaving: *two gaps in different intervals without an excuse*, or five with one (an excuse may be a
//! lie, but then so many gaps remain). Whoever is nearest to the liar moves first; everybody behind
//! it sees its path change, and all that was held against anyone is forgotten. Losses and floods on
//! their way do not count: an honest neighbour then brings the object when asked. What it brings on
//! its own pays for a gap of that kind. What a peer says is no proof; how much of it is enough stands
//! in `blame.rs`. Between two departures lies a pause that doubles.
//!
//! A child that withholds upwards is found by the same walk, which then leads down to it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use borgios_types::{Digest, NodeId, Time};
use serde::{Deserialize, Serialize};

use crate::blame::Blame;
use crate::bounds;
use crate::io::Output;
use crate::message::Message;
use crate::node::Node;

/// Objects asked after in [`bounds::WANT_TIMEOUT`], whoever told of them: in a minute fewer than
/// [`bounds::SERVED_MAX`], beyond which an honest neighbour would part from this node. All that may tell
/// share it evenly, so that none of them keeps the others from being heard.
const ASKED_MAX: usize = 4 * bounds::GAPS_OPEN_MAX;

/// An object that a neighbour should have brought and did not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// The object.
    pub object: Digest,
    /// Its kind.
    pub kind: String,
    /// When this node heard of it, on its own clock.
    pub heard: Time,
    /// The cross peer that had it, or the neighbour that asked for it.
    pub from: NodeId,
    /// The neighbour that should have brought it.
    pub neighbour: NodeId,
    /// That neighbour said that it lacked it as well.
    pub excused: bool,
}

/// What is being found out, what was, and what is held against whom.
#[derive(Clone, Debug, Default)]
pub(crate) struct Suspicions {
    open: BTreeMap<Digest, Suspicion>,
    /// What was asked after of late, by whose telling, and when: what was brought and did not enter is
    /// missing still, and whoever tells of it again would have an honest neighbour asked without end. What
    /// one told of, others may tell of as well: it may have been told so that nobody looks when it comes.
    asked: BTreeMap<(Digest, NodeId), Time>,
    blame: BTreeMap<(NodeId, String), Blame>,
    kept: VecDeque<Evidence>,
    /// Gaps so far.
    gaps: u64,
    /// Neighbours left or cut off so far.
    left: u64,
    /// Since when the path has been this one.
    path_since: Time,
    /// Neighbours that were left, and until when they are not asked for a place.
    distrusted: BTreeMap<NodeId, Time>,
    /// When one was last left, and how long until the next may be.
    last_left: Option<(Time, Duration)>,
}

/// One object that is missing.
#[derive(Clone, Debug)]
struct Suspicion {
    neighbour: NodeId,
    from: NodeId,
    /// The cross peer that has it, as `from` says: the end of the path.
    end: NodeId,
    /// Seen over a cross link of this node's own.
    firsthand: bool,
    at: Time,
    /// Its kind, once it was admitted: what does not verify is missing nowhere.
    arrived: Option<String>,
    excused: bool,
    /// Neighbours that wait for word.
    askers: BTreeSet<NodeId>,
}

impl Suspicions {
    /// Whether this node was left lately.
    pub(crate) fn distrusts(&self, peer: &NodeId, now: Time) -> bool {
        self.distrusted.get(peer).is_some_and(|until| *until > now)
    }
}

impl Node {
    /// A cross peer has these and this node has not: fetched already, and now asked after.
    pub(crate) fn on_gap(&mut self, peer: NodeId, ids: &[Digest]) {
        let path = self.cross_path(&peer).to_vec();
        self.ask_after(peer, true, ids.to_vec(), path);
    }

    /// Asks the next hop towards `path` for objects that are missing here, once for each.
    fn ask_after(
        &mut self,
        from: NodeId,
        firsthand: bool,
        mut ids: Vec<Digest>,
        path: Vec<NodeId>,
    ) {
        // The link may have ended just now.
        let linked = |hop: &NodeId| *hop != from && self.links.contains_key(hop);
        let Some(hop) = self.next_hop(&path).filter(linked) else { return };
        let Some(end) = path.last().copied() else { return };
        // Whoever has just found its place is still catching up.
        let settled = self.now.since(self.suspicions.path_since) >= bounds::COMPARE;
        let now = self.now;
        let tellers = self.neighbours().len() + self.cross().len();
        let share = (ASKED_MAX / tellers.max(1)).clamp(1, bounds::GAPS_OPEN_MAX);
        let Suspicions { open, asked, .. } = &mut self.suspicions;
        asked.retain(|_, at| now.since(*at) < bounds::WANT_TIMEOUT);
        let mut lately = asked.keys().filter(|(_, teller)| *teller == from).count();
        let mut told = open.values().filter(|known| known.from == from).count();
        ids.retain(|id| {
            if let Some(known) = open.get_mut(id) {
                if !firsthand && known.askers.len() < bounds::OTHERS_MAX {
                    known.askers.insert(from);
                }
                return false;
            }
            if open.len() >= bounds::GAPS_OPEN_MAX || told >= bounds::GAPS_TOLD_MAX {
                return false;
            }
            if asked.contains_key(&(*id, from)) || lately >= share || asked.len() >= ASKED_MAX {
                return false;
            }
            asked.insert((*id, from), now);
            told += 1;
            lately += 1;
            let askers = if firsthand { BTreeSet::new() } else { BTreeSet::from([from]) };
            let suspicion = Suspicion {
                neighbour: hop,
                from,
                end,
                firsthand,
                at: now,
                arrived: None,
                // While it catches up itself it holds nothing against anyone.
                excused: !settled,
                askers,
            };
            open.insert(*id, suspicion);
            true
        });
        if !ids.is_empty() {
            self.beat.stale = true;
            self.out.push(Output::Send(hop, Message::Missing { ids, path }));
        }
    }

    /// The neighbour through which the tree leads to the end of `path`, if that is in this tree.
    fn next_hop(&self, path: &[NodeId]) -> Option<NodeId> {
        if path.first() != self.path().first() {
            return None;
        }
        match path.iter().position(|id| *id == self.me) {
            Some(at) => path.get(at + 1).copied().filter(|id| self.children.contains_key(id)),
            None => self.parent(),
        }
    }

    /// A neighbour misses what should have come through this node.
    pub(crate) fn on_missing(
        &mut self,
        now: Time,
        from: NodeId,
        ids: Vec<Digest>,
        path: Vec<NodeId>,
    ) {
        if !self.may_ask(now, from) || !self.is_neighbour(from) {
            return;
        }
        let (have, lack): (Vec<_>, Vec<_>) = ids.into_iter().partition(|id| self.store.holds(id));
        // What lapsed here is known and may not be there any more: that is said as well, or whoever
        // times an object to lapse could have an honest node look silent.
        let unsure: Vec<Digest> = have.iter().copied().filter(|id| !self.store.lists(id)).collect();
        if !unsure.is_empty() {
            self.out.push(Output::Send(from, Message::Lacking { ids: unsure }));
        }
        if !have.is_empty() {
            self.out.push(Output::Provide { to: from, ids: have });
        }
        if !lack.is_empty() {
            self.out.push(Output::Send(from, Message::Lacking { ids: lack.clone() }));
            self.ask_after(from, false, lack, path);
        }
    }

    /// A neighbour lacks it as well.
    pub(crate) fn on_lacking(&mut self, from: NodeId, ids: &[Digest]) {
        for id in ids {
            if let Some(open) = self.suspicions.open.get_mut(id)
                && open.neighbour == from
            {
                open.excused = true;
            }
        }
    }

    /// What a neighbour lacked as well was brought to it by whom it suspected.
    pub(crate) fn on_found(&mut self, from: NodeId, ids: &[Digest]) {
        for id in ids {
            let of = |open: &mut Suspicion| open.neighbour == from;
            if self.suspicions.open.get_mut(id).is_some_and(of)
                && let Some(open) = self.suspicions.open.remove(id)
            {
                self.tell_found(*id, &open.askers);
                // It may be so each time, and then it is no accident.
                if let Some(kind) = open.arrived.clone() {
                    self.count_gap(&open, kind, true);
                }
            }
        }
    }

    fn tell_found(&mut self, id: Digest, askers: &BTreeSet<NodeId>) {
        let askers: Vec<NodeId> =
            askers.iter().copied().filter(|asker| self.is_neighbour(*asker)).collect();
        for asker in askers {
            self.out.push(Output::Send(asker, Message::Found { ids: vec![id] }));
        }
    }

    /// An object came, whether or not it is news; whether this neighbour was asked after it.
    pub(crate) fn on_brought(&mut self, from: NodeId, id: &Digest) -> bool {
        let of_it = self.suspicions.open.get(id).is_some_and(|open| open.neighbour == from);
        if of_it && let Some(open) = self.suspicions.open.remove(id) {
            self.tell_found(*id, &open.askers);
        }
        of_it
    }

    /// An object was admitted. A neighbour that brings a kind pays for a gap in it.
    pub(crate) fn on_arrived(&mut self, from: NodeId, id: &Digest, kind: &str) {
        if let Some(open) = self.suspicions.open.get_mut(id) {
            open.arrived = Some(kind.to_owned());
        } else if let Some(blame) = self.suspicions.blame.get_mut(&(from, kind.to_owned()))
            && blame.pay()
        {
            self.suspicions.blame.remove(&(from, kind.to_owned()));
        }
    }

    /// When the next suspicion is to be decided.
    pub(crate) fn gaps_due(&self) -> Option<Time> {
        self.suspicions.open.values().map(|open| open.at + bounds::GAP_GRACE).min()
    }

    /// Decides about what is missing for long enough.
    pub(crate) fn decide_gaps(&mut self) {
        let now = self.now;
        let due = |open: &Suspicion| open.at + bounds::GAP_GRACE <= now;
        let due: Vec<Digest> =
            self.suspicions.open.iter().filter(|(_, open)| due(open)).map(|(id, _)| *id).collect();
        for object in due {
            // Leaving somebody forgets the rest.
            let Some(open) = self.suspicions.open.remove(&object) else { return };
            let settled = open.at.since(self.suspicions.path_since) >= bounds::COMPARE;
            let Some(kind) = open.arrived.clone().filter(|_| settled) else { continue };
            if !self.is_neighbour(open.neighbour) {
                continue;
            }
            let evidence = Evidence {
                object,
                kind: kind.clone(),
                heard: open.at,
                from: open.from,
                neighbour: open.neighbour,
                excused: open.excused,
            };
            if self.suspicions.kept.len() >= bounds::EVIDENCE_MAX {
                self.suspicions.kept.pop_front();
            }
            self.suspicions.kept.push_back(evidence.clone());
            self.suspicions.gaps += 1;
            self.out.push(Output::Withheld(evidence));
            self.count_gap(&open, kind, open.excused);
        }
    }

    fn count_gap(&mut self, open: &Suspicion, kind: String, excused: bool) {
        let (now, neighbour) = (self.now, open.neighbour);
        if self.suspicions.blame.len() >= bounds::BLAME_MAX {
            return;
        }
        let blame = self.suspicions.blame.entry((neighbour, kind)).or_default();
        blame.count(now, open.from, open.end, open.firsthand, excused);
        if blame.caught() {
            self.leave(neighbour);
        }
    }

    /// Leaves a parent, or cuts off a child, that withholds.
    fn leave(&mut self, neighbour: NodeId) {
        let now = self.now;
        let pause = match self.suspicions.last_left {
            Some((at, pause)) if now.since(at) < pause => return,
            Some((at, pause)) if now.since(at) < pause * 4 => {
                (pause * 2).min(bounds::LEAVE_PAUSE_MAX)
            }
            Some(_) | None => bounds::LEAVE_PAUSE_MIN,
        };
        self.suspicions.last_left = Some((now, pause));
        self.suspicions.left += 1;
        self.suspicions.blame.retain(|(who, _), _| *who != neighbour);
        while self.suspicions.distrusted.len() >= bounds::SHUNNED_MAX {
            self.suspicions.distrusted.pop_first();
        }
        self.suspicions.distrusted.insert(neighbour, now + bounds::SHUN);
        self.out.push(Output::Send(neighbour, Message::Leave));
        if self.parent() == Some(neighbour) {
            self.close(neighbour);
            self.leave_living();
        } else if self.children.remove(&neighbour).is_some() {
            self.shun(now, neighbour);
            self.close(neighbour);
            self.on_children_changed();
        }
    }

    /// Whether this node was left lately, and must not be asked for a place.
    pub(crate) fn distrusted(&self, peer: &NodeId) -> bool {
        self.suspicions.distrusts(peer, self.now)
    }

    /// The path changed: whoever was to blame may be on it no longer.
    pub(crate) fn forgive_all(&mut self) {
        let now = self.now;
        let Suspicions { open, asked, blame, path_since, distrusted, .. } = &mut self.suspicions;
        open.clear();
        asked.clear();
        blame.clear();
        *path_since = now;
        distrusted.retain(|_, until| *until > now);
    }

    /// What was withheld, oldest first; the last [`bounds::EVIDENCE_MAX`].
    #[must_use]
    pub fn evidence(&self) -> Vec<Evidence> {
        self.suspicions.kept.iter().cloned().collect()
    }

    /// Gaps so far, and neighbours left for them.
    #[must_use]
    pub fn gaps(&self) -> (u64, u64) {
        (self.suspicions.gaps, self.suspicions.left)
    }

    pub(crate) fn check_evidence(&self) -> Result<(), String> {
        let Suspicions { open, asked, blame, kept, distrusted, .. } = &self.suspicions;
        let bounded = open.len() <= bounds::GAPS_OPEN_MAX
            && asked.len() <= ASKED_MAX
            && blame.len() <= bounds::BLAME_MAX
            && kept.len() <= bounds::EVIDENCE_MAX
            && distrusted.len() <= bounds::SHUNNED_MAX;
        if bounded { Ok(()) } else { Err("evidence grew past its bound".to_owned()) }
    }
}

#[cfg(test)]
mod tests;
