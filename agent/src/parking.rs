//! Objects that wait for others: statements for their predecessors or ballots, join records for
//! their invitation, what a node or its keeper says for the join record.
//!
//! ```text
//!  deferred ─▶ lacks ground    a statement before it, or the policy it names: nobody may have signed it.
//!           │                  Looked at again after a step of the ledger that may have brought it
//!           └▶ lacks something ballots, time, room, a record: looked at whenever anything enters
//! ```
//!
//! So what anyone can bring unsigned costs nothing while it waits, however much else enters.

use std::collections::BTreeMap;

use borgios_policy::{Lane, Statement};
use borgios_types::{Digest, Envelope, Seq, UnixSeconds};

/// Objects that wait.
const PARKED_MAX: usize = 256;
/// Of these, those that are no statements. Nothing of them is verified yet, so anyone can bring as
/// many as they like: they must neither crowd out statements nor cost much to try again.
const OTHERS_MAX: usize = 64;
/// Longest payload of such a one, in bytes: records have a few hundred. What is longer comes again.
const OTHERS_BYTES: usize = 4 * 1024;

/// Bytes of the statements that wait: tried again together, they must not hold the ledger up.
const BYTES_MAX: usize = 4 * 1024 * 1024;
/// Envelopes of one document that wait, each with other signatures. What waits is not verified yet: a
/// forged one must not take the place of the true one.
const TWINS_MAX: usize = 4;
/// Seconds for which something waits of which nothing is verified: a week, longer than a vote on what it
/// builds upon should lack its ballots. Whoever holds it offers it again; what nobody holds was junk.
const WAIT_MAX_S: u64 = 7 * 86_400;

/// Where an object waits; `None` is for what is no statement, and comes first. The last is the digest of
/// the whole envelope.
type Place = (Option<Lane>, Seq, Digest, Digest);

/// What an object lacks that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lacks {
    /// What it builds upon: it did not fit what the ledger held at this step (see
    /// [`Ledger::step`](crate::ledger::Ledger::step)), and does not before the next one.
    Ground(u64),
    /// Anything that enters may be it.
    Something,
}

impl Lacks {
    /// By the code with which the ledger deferred it at `step`. A gap alone is found before the signature
    /// is looked at; of a statement that is deferred for anything else a board's holds.
    #[must_use]
    pub fn of(code: &str, step: u64) -> Self {
        if code == "gap" { Self::Ground(step) } else { Self::Something }
    }
}

/// An object that waits.
#[derive(Debug)]
pub struct Waiting {
    /// The object.
    pub envelope: Envelope,
    /// When it came first.
    since: UnixSeconds,
    lacks: Lacks,
    /// The policy that a statement names; 0 for policy/1 and for what is no statement.
    policy: Seq,
}

impl Waiting {
    /// Whether it can be right now, if policies up to `reach` are known and the ledger is at `step`.
    fn may_fit(&self, step: u64, reach: Seq) -> bool {
        match self.lacks {
            Lacks::Ground(tried) => tried != step && self.policy <= reach,
            Lacks::Something => true,
        }
    }
}

/// A run that brought nothing, and what that hung on.
#[derive(Debug, PartialEq, Eq)]
struct Vain {
    step: u64,
    of: Vec<Digest>,
}

/// The waiting objects, by lane and number.
#[derive(Debug, Default)]
pub struct Parking {
    waiting: BTreeMap<Place, Waiting>,
    vain: Option<(UnixSeconds, Vain)>,
    tried: u64,
}

impl Parking {
    /// Lets an object wait that came now, if there is room for one of its kind.
    pub fn park(&mut self, envelope: Envelope, lacks: Lacks, now: UnixSeconds) {
        self.put(envelope, lacks, now);
    }

    /// Lets an object wait on that was tried again.
    pub fn park_again(&mut self, waiting: Waiting, lacks: Lacks) {
        self.put(waiting.envelope, lacks, waiting.since);
    }

    fn put(&mut self, envelope: Envelope, lacks: Lacks, since: UnixSeconds) {
        let whole = Digest::of(envelope.to_json().as_bytes());
        let (place, policy) = match Statement::parse(&envelope) {
            Ok(Statement { lane, seq, policy, .. }) => {
                ((Some(lane), seq, envelope.id(), whole), policy.unwrap_or_default())
            }
            Err(_) => {
                let others = self.waiting.keys().filter(|(lane, ..)| lane.is_none()).count();
                if envelope.payload.len() > OTHERS_BYTES {
                    return;
                }
                let place = (None, Seq(0), envelope.id(), whole);
                if others >= OTHERS_MAX && !self.waiting.contains_key(&place) {
                    // Junk that nobody signed must not keep an honest record out for good.
                    self.waiting.pop_first();
                }
                (place, Seq(0))
            }
        };
        let (lane, seq, id, _) = place;
        let (least, most) = (Digest([0; 32]), Digest([u8::MAX; 32]));
        // The same once more takes no other's place, and waits since it came first.
        let before = self.waiting.get(&place).map(|before| before.since);
        let twins = self.waiting.range((lane, seq, id, least)..=(lane, seq, id, most)).count();
        if twins >= TWINS_MAX && before.is_none() {
            return;
        }
        let since = before.map_or(since, |before| before.min(since));
        // A record hangs on other records, whatever it was deferred for.
        let lacks = if lane.is_some() { lacks } else { Lacks::Something };
        self.waiting.insert(place, Waiting { envelope, since, lacks, policy });
        while self.make_room() {}
    }

    /// Drops one of the lane of which most waits where too much does: junk of one lane pushes nothing of
    /// the others out. What lies furthest ahead is needed last. Whatever is dropped here comes again.
    fn make_room(&mut self) -> bool {
        let bytes = |one: &Waiting| one.envelope.payload.len() + 256 * one.envelope.sigs.len();
        let many = self.waiting.len() > PARKED_MAX;
        if !many && self.waiting.values().map(bytes).sum::<usize>() <= BYTES_MAX {
            return false;
        }
        let mut weights: BTreeMap<Option<Lane>, usize> = BTreeMap::new();
        for ((lane, ..), one) in &self.waiting {
            *weights.entry(*lane).or_default() += if many { 1 } else { bytes(one) };
        }
        let full = weights.into_iter().max_by_key(|(lane, weight)| (*weight, *lane));
        let last = full
            .and_then(|(full, _)| self.waiting.keys().rfind(|(lane, ..)| *lane == full).copied());
        last.is_some_and(|last| self.waiting.remove(&last).is_some())
    }

    /// The waiting statements, each lane in order.
    pub fn statements(&self) -> impl Iterator<Item = &Envelope> {
        let all = self.waiting.iter().filter(|((lane, ..), _)| lane.is_some());
        all.map(|(_, one)| &one.envelope)
    }

    /// It waits no longer.
    pub fn remove(&mut self, lane: Lane, seq: Seq, id: Digest) {
        self.waiting
            .retain(|(at, number, known, _), _| (*at, *number, *known) != (Some(lane), seq, id));
    }

    /// Takes out what may be right now, with the ledger at `step` and policies known up to `reach`, in the
    /// order in which it is to be tried. What waited for too long and names a later policy, or is no
    /// statement, is forgotten.
    pub fn take(&mut self, step: u64, reach: Seq, now: UnixSeconds) -> Vec<Waiting> {
        self.waiting.retain(|(lane, ..), one| {
            let signed = lane.is_some() && one.policy <= reach;
            signed || now < one.since.plus(WAIT_MAX_S)
        });
        let may_fit = self.waiting.iter().filter(|(_, one)| one.may_fit(step, reach));
        let places: Vec<Place> = may_fit.map(|(place, _)| *place).collect();
        self.tried += places.len() as u64;
        places.iter().filter_map(|place| self.waiting.remove(place)).collect()
    }

    /// The statements of a run that may begin at these ends of the lanes: what expired counts in it if
    /// something in date builds upon it. None if nothing follows an end, or if they were all there when
    /// the last run brought nothing and the ledger is at the same step.
    pub fn run(&mut self, step: u64, now: UnixSeconds, end: impl Fn(Lane) -> Seq) -> Vec<Envelope> {
        let in_force = end(Lane::Policy);
        let statements = || {
            let all = self.waiting.iter();
            all.filter_map(|((lane, seq, _, whole), one)| Some(((*lane)?, *seq, *whole, one)))
        };
        let follows = |(lane, seq, _, one): (Lane, Seq, Digest, &Waiting)| {
            seq == end(lane).next() && one.policy <= in_force
        };
        if !statements().any(follows) {
            return Vec::new();
        }
        // Policies that follow each other may come into force on the way; what names a later one cannot be
        // right, and nobody may have signed it.
        let mut last = in_force;
        for (lane, seq, _, one) in statements() {
            if lane == Lane::Policy && seq == last.next() && one.policy <= last {
                last = seq;
            }
        }
        let run = || statements().filter(move |(.., one)| one.policy <= last);
        let vain = Vain { step, of: run().map(|(_, _, whole, _)| whole).collect() };
        // A clock that was set back puts in date again what was not.
        if self.vain.as_ref().is_some_and(|(at, before)| *before == vain && now >= *at) {
            return Vec::new();
        }
        let envelopes: Vec<Envelope> = run().map(|(.., one)| one.envelope.clone()).collect();
        self.vain = Some((now, vain));
        self.tried += envelopes.len() as u64;
        envelopes
    }

    /// The last run was not in vain: the next may be tried though nothing else came.
    pub fn ran(&mut self) {
        self.vain = None;
    }

    /// How often something that waits was looked at again, so far.
    #[must_use]
    pub fn tried(&self) -> u64 {
        self.tried
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use borgios_types::Kind;

    const NOW: UnixSeconds = UnixSeconds(1_800_000_000);
    const GAP: Lacks = Lacks::Ground(1);

    /// It names policy/1.
    fn statement(lane: Lane, seq: u64, text: &str) -> Envelope {
        naming(1, lane, seq, text)
    }

    fn naming(policy: u64, lane: Lane, seq: u64, text: &str) -> Envelope {
        use borgios_policy::fixture::statement;
        let body = serde_json::json!({ "text": text });
        let (network, prev) = (Digest::of(b"network"), Digest::of(b"before"));
        let prev = (seq > 1).then_some(prev);
        let draft = statement(lane, seq, Some(network), prev, Some(policy), body);
        Envelope::unsigned(lane.kind(), draft.to_payload())
    }

    fn note(text: String) -> Envelope {
        Envelope::unsigned(Kind::new("report").unwrap(), text)
    }

    #[test]
    fn a_forged_twin_takes_no_true_ones_place_and_many_fill_nothing() {
        let one = statement(Lane::Release, 7, "one");
        let twin = |seed: u8| one.clone().sign(&borgios_types::SecretKey::from_seed([seed; 32]));
        let mut parking = Parking::default();
        parking.park(one.clone(), GAP, NOW);
        for seed in 0..20 {
            parking.park(twin(seed), GAP, NOW);
        }
        let waiting: Vec<_> = parking.statements().cloned().collect();
        assert!(waiting.contains(&one) && waiting.len() == TWINS_MAX, "{}", waiting.len());
        parking.remove(Lane::Release, Seq(7), one.id());
        assert_eq!(parking.statements().count(), 0);
    }

    #[test]
    fn junk_of_one_lane_pushes_nothing_of_another_out() {
        let mut parking = Parking::default();
        let honest = statement(Lane::Release, 9, "honest");
        parking.park(honest.clone(), GAP, NOW);
        let long = "x".repeat(50_000);
        for (count, text) in [(2 * PARKED_MAX as u64, "junk"), (120, &*long)] {
            for seq in 0..count {
                parking.park(statement(Lane::Policy, 1_000 + seq, text), GAP, NOW);
            }
            let bytes: usize = parking.statements().map(|one| one.payload.len()).sum();
            assert!(bytes <= BYTES_MAX && parking.statements().count() <= PARKED_MAX);
            assert!(parking.statements().any(|one| *one == honest), "it was pushed out");
        }
    }

    #[test]
    fn what_is_no_statement_has_room_of_its_own_and_no_more() {
        let mut parking = Parking::default();
        for n in 0..2 * OTHERS_MAX {
            parking.park(note(n.to_string()), GAP, NOW);
        }
        parking.park(note("x".repeat(OTHERS_BYTES + 1)), GAP, NOW);
        assert_eq!(parking.statements().count(), 0);
        assert_eq!(parking.take(1, Seq(0), NOW).len(), OTHERS_MAX, "whatever was the step");
        assert_eq!(parking.take(1, Seq(0), NOW).len(), 0);
    }

    /// The four cases of [`Waiting::may_fit`].
    #[test]
    fn only_what_may_fit_is_looked_at_again() {
        let mut parking = Parking::default();
        let [gap, ahead] = [1, 2].map(|policy| naming(policy, Lane::Release, 5, "one"));
        let ballots = naming(1, Lane::Release, 1, "two");
        for (envelope, code) in [(&gap, "gap"), (&ahead, "gap"), (&ballots, "too_few_approvals")] {
            parking.park(envelope.clone(), Lacks::of(code, 1), NOW);
        }
        let mut tried = |step: u64, reach: u64| {
            let taken = parking.take(step, Seq(reach), NOW);
            let found: Vec<_> = taken.iter().map(|one| one.envelope.clone()).collect();
            for one in taken {
                let code = if one.envelope == ballots { "expired" } else { "gap" };
                parking.park_again(one, Lacks::of(code, step));
            }
            let mut found = [&gap, &ahead, &ballots].map(|one| found.contains(one)).to_vec();
            found.push(parking.statements().count() == 3);
            found
        };
        assert_eq!(tried(1, 1), [false, false, true, true], "nothing but a record came");
        assert_eq!(tried(2, 1), [true, false, true, true]);
        assert_eq!(tried(2, 2), [false, true, true, true]);
        assert_eq!(tried(3, 2), [true, true, true, true]);
        assert_eq!(parking.tried(), 1 + 2 + 2 + 3);
    }

    /// A statement of which a signature holds may be the last copy there is.
    #[test]
    fn what_nobody_may_have_signed_waits_for_a_week() {
        let mut parking = Parking::default();
        let [signed, ahead] = [1, 2].map(|policy| naming(policy, Lane::Release, 5, "one"));
        for envelope in [&signed, &ahead, &note("{}".to_owned())] {
            parking.park(envelope.clone(), GAP, NOW);
        }
        let all = |parking: &Parking| parking.waiting.len();
        let again = |parking: &mut Parking, now: UnixSeconds| {
            for one in parking.take(1, Seq(1), now) {
                parking.park_again(one, GAP);
            }
        };
        again(&mut parking, NOW.plus(WAIT_MAX_S - 1));
        assert_eq!(all(&parking), 3);
        // That it is brought again makes it no younger.
        parking.park(ahead.clone(), GAP, NOW.plus(WAIT_MAX_S - 1));
        again(&mut parking, NOW.plus(WAIT_MAX_S));
        assert_eq!(parking.statements().collect::<Vec<_>>(), [&signed]);
        assert_eq!(all(&parking), 1);
    }

    /// Junk is in no run, and a run that brought nothing is tried again only when something came.
    #[test]
    fn a_run_begins_at_an_end_and_is_not_tried_twice_for_nothing() {
        let mut parking = Parking::default();
        let end = |lane: Lane| if lane == Lane::Policy { Seq(1) } else { Seq(4) };
        let sixth = statement(Lane::Release, 6, "sixth");
        for seq in 0..50 {
            parking.park(naming(7, Lane::Release, 5 + seq, "junk"), GAP, NOW);
            parking.park(naming(7 + seq, Lane::Policy, 8 + seq, "junk"), GAP, NOW);
        }
        parking.park(sixth.clone(), GAP, NOW);
        assert_eq!(parking.run(1, NOW, end), [], "nothing follows an end");
        let fifth = statement(Lane::Release, 5, "fifth");
        parking.park(fifth.clone(), Lacks::Something, NOW);
        assert_eq!(parking.run(1, NOW, end), [fifth.clone(), sixth.clone()]);
        parking.park(naming(9, Lane::Release, 70, "junk"), GAP, NOW);
        assert_eq!(parking.run(1, NOW.plus(1), end), [], "the same once more");
        let before = UnixSeconds(NOW.0 - 1);
        assert_eq!(parking.run(1, before, end).len(), 2, "the clock was set back");
        assert_eq!(parking.run(2, NOW, end).len(), 2, "ballots came, or something else did");
        assert_eq!(parking.run(2, NOW, end), []);
        parking.ran();
        assert_eq!(parking.run(2, NOW, end).len(), 2);
        // A policy that follows, and what was made under it.
        let next = naming(1, Lane::Policy, 2, "next");
        let under = naming(2, Lane::Release, 7, "under it");
        parking.park(next.clone(), Lacks::Something, NOW);
        parking.park(under.clone(), GAP, NOW);
        assert_eq!(parking.run(2, NOW, end), [next, fifth, sixth, under]);
    }
}
