//! What a start makes of a place that policies gave to one statement, took from it and gave back: the
//! same as it was before, whichever id is lower.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may stop")]

use std::collections::BTreeSet;

use borgios_policy::fixture::{Council, NOW, release_body, statement};
use borgios_policy::{
    Chain, Lane, Policy, Ruling, SettledBy, Statement, Submission, Verdict, VerifiedStatement,
    merge_signatures,
};
use borgios_types::{Digest, Envelope, Seq};

const PLACE: Seq = Seq(1);

/// A chain, and the board of its first policy.
struct Fleet {
    council: Council,
    chain: Chain,
}

impl Fleet {
    fn new() -> Self {
        let council = Council::new(3, 2, 1, 1);
        let first = council.sign(&council.first_policy(2));
        let mut fleet = Self { council, chain: Chain::new(Some(first.id())) };
        fleet.take(&first);
        fleet
    }

    fn take(&mut self, one: &Envelope) {
        match self.chain.verify(NOW, one, &[]).unwrap() {
            Verdict::New(verified) => self.chain.apply(*verified),
            Verdict::AlreadyKnown(id) => panic!("{id} is known"),
        }
    }

    /// Under policy/1.
    fn release(&self, seq: u64, prev: Option<Digest>, version: &str) -> Envelope {
        let (network, body) = (self.chain.network(), release_body(version));
        self.council.sign(&statement(Lane::Release, seq, network, prev, Some(1), body))
    }

    /// Two for one place, of which the first has the lower id, or else the higher.
    fn two(&self, lower: bool) -> (Envelope, Envelope) {
        let one = self.release(PLACE.0, None, "1.0");
        let mut others = (0..100).map(|n| self.release(PLACE.0, None, &format!("7.{n}")));
        let other = others.find(|other| (one.id() < other.id()) == lower).unwrap();
        (one, other)
    }

    /// The next policy, upon `prev`, unsigned.
    fn draft(&self, prev: Digest, change: impl FnOnce(&mut Policy)) -> Statement {
        let mut rules = self.chain.policy().unwrap().clone();
        (rules.rulings, rules.unites) = (Vec::new(), BTreeSet::new());
        change(&mut rules);
        let (network, under) = (self.chain.network(), self.chain.head_seq(Lane::Policy));
        let (seq, body) = (under.next().0, rules.to_body());
        statement(Lane::Policy, seq, network, Some(prev), Some(under.0), body)
    }

    /// Applies the next policy, upon `prev`; returns its id.
    fn policy(&mut self, prev: Digest, change: impl FnOnce(&mut Policy)) -> Digest {
        let signed = self.council.sign(&self.draft(prev, change));
        self.take(&signed);
        signed.id()
    }

    /// The policy in force.
    fn head(&self) -> Digest {
        self.chain.head(Lane::Policy).unwrap().id()
    }

    /// All that lies in a folder: what stands, and what was taken back.
    fn stored(&self) -> Vec<Envelope> {
        let all = self.chain.history().chain(self.chain.overruled());
        all.map(|one| one.envelope().clone()).collect()
    }

    /// Another start has the same releases, and took back the same.
    fn starts_alike(&self, what: &str) {
        let again = Chain::restore(self.chain.network(), self.stored()).unwrap();
        assert_eq!(again.tip(Lane::Release), self.chain.tip(Lane::Release), "{what}");
        assert_eq!(releases(&again), releases(&self.chain), "{what}");
        let gone = |chain: &Chain| -> BTreeSet<Digest> {
            chain.overruled().map(VerifiedStatement::id).collect()
        };
        assert_eq!(gone(&again), gone(&self.chain), "{what}");
    }
}

fn releases(chain: &Chain) -> Vec<Digest> {
    chain.after(Lane::Release, Seq(0)).map(VerifiedStatement::id).collect()
}

fn gives(winner: &Envelope) -> Vec<Ruling> {
    vec![Ruling::new(Lane::Release, PLACE, Some(winner.id()))]
}

fn closes() -> Vec<Ruling> {
    vec![Ruling::new(Lane::Release, PLACE, None)]
}

/// Both boards signed policy/2, a change of the board that closes a place; the first one had signed two
/// for that, of which one was here. The policy that unites this with its next round gives the place to the
/// other. Returns what was here, and the change, too.
fn changed(lower: bool) -> (Fleet, Envelope, Envelope) {
    let (mut fleet, next) = (Fleet::new(), Council::new(3, 2, 2, 2));
    let (lost, won) = fleet.two(lower);
    fleet.take(&lost);
    let rules = |policy: &mut Policy| {
        (policy.board, policy.rulings) = (next.board.clone(), closes());
    };
    let change = fleet.draft(fleet.head(), rules);
    let change = merge_signatures(&fleet.council.sign(&change), &next.sign(&change)).unwrap();
    fleet.take(&change);
    let united = fleet.draft(Digest::of(b"the next round"), |policy| {
        (policy.unites, policy.rulings) = ([change.id()].into(), gives(&won));
    });
    fleet.take(&next.sign(&united));
    fleet.take(&won);
    assert_eq!(releases(&fleet.chain), [won.id()]);
    (fleet, lost, change)
}

fn forged(one: &Envelope) -> Envelope {
    let mut forged = one.clone();
    forged.sigs[0].sig.0[7] ^= 1;
    forged
}

#[test]
fn what_an_earlier_board_signed_and_lost_its_place_ends_no_start() {
    for lower in [true, false] {
        let (fleet, lost, _) = changed(lower);
        let again = Chain::restore(fleet.chain.network(), fleet.stored()).unwrap();
        assert_eq!(again.tip(Lane::Release), fleet.chain.tip(Lane::Release), "lower: {lower}");
        assert_eq!(releases(&again), releases(&fleet.chain), "lower: {lower}");
        // What nobody signed is damage, as it was.
        let with_forged = fleet.stored().into_iter().chain([forged(&lost)]);
        let refused = Chain::restore(fleet.chain.network(), with_forged).unwrap_err();
        assert_eq!(refused.code(), "bad_signature", "lower: {lower}");
        let onto = |one: Envelope| {
            let stored = Submission { statement: one, ballots: Vec::new() };
            fleet.chain.clone().restored(&[stored]).map(drop)
        };
        assert_eq!(onto(lost.clone()), Ok(()), "lower: {lower}");
        assert_eq!(onto(forged(&lost)).unwrap_err().code(), "wrong_policy", "lower: {lower}");
    }
}

/// In a lane in which no policy settled anything, nothing can have lost its place.
#[test]
fn what_an_earlier_board_signed_elsewhere_is_refused_still() {
    let (fleet, ..) = changed(true);
    let body = serde_json::json!({"evict": [fleet.council.board.group()], "reason": "late"});
    let network = fleet.chain.network();
    let late = fleet.council.sign(&statement(Lane::Member, 1, network, None, Some(1), body));
    let stored = Submission { statement: late, ballots: Vec::new() };
    let refused = fleet.chain.restored(&[stored]).unwrap_err();
    assert_eq!(refused.code(), "wrong_policy");
}

/// Only what a ruling can make room for is looked at again after one.
#[test]
fn what_nobody_signed_is_looked_at_once_however_many_policies_settle_places() {
    let (fleet, lost, change) = changed(true);
    let first = fleet.chain.get(Lane::Policy, Seq(1)).unwrap().envelope().clone();
    let offered = Submission::sort([first, forged(&lost), change]);
    let run = Chain::new(fleet.chain.network()).verify_run(NOW, &offered);
    assert_eq!(run.accepted.len(), 2);
    // The second look would have found its board out of force, before its signature.
    let codes: Vec<&str> = run.refused.iter().map(|(_, refusal)| refusal.code()).collect();
    assert_eq!(codes, ["bad_signature"]);
}

/// A policy that unites others says again what the one before it had settled.
#[test]
fn who_lost_the_place_before_a_policy_that_unites_loses_it_again() {
    for lower in [true, false] {
        let mut fleet = Fleet::new();
        let (lost, won) = fleet.two(lower);
        fleet.take(&lost);
        fleet.take(&fleet.release(2, Some(lost.id()), "2.0"));
        let by = fleet.policy(fleet.head(), |policy| policy.rulings = gives(&won));
        fleet.take(&won);
        let by = Some(SettledBy { policy: Seq(2), id: by });
        fleet.policy(fleet.head(), |policy| {
            policy.unites = [Digest::of(b"another policy/2")].into();
            policy.rulings = vec![Ruling { by, ..gives(&won)[0] }];
        });
        assert_eq!(fleet.chain.overruled().count(), 2);
        fleet.starts_alike(&format!("lower: {lower}"));
    }
}

/// Its proposer ruled on a place of which those that it unites say nothing.
#[test]
fn who_loses_the_place_by_a_policy_that_unites_loses_it_again() {
    for lower in [true, false] {
        let mut fleet = Fleet::new();
        let (lost, won) = fleet.two(lower);
        fleet.take(&lost);
        fleet.take(&fleet.release(2, Some(lost.id()), "2.0"));
        let second = fleet.policy(fleet.head(), |policy| policy.fanout = 9);
        fleet.policy(Digest::of(b"another policy/2"), |policy| {
            (policy.unites, policy.rulings) = ([second].into(), gives(&won));
        });
        fleet.take(&won);
        assert_eq!(fleet.chain.overruled().count(), 2);
        fleet.starts_alike(&format!("lower: {lower}"));
    }
}

/// The last of several policies that unite decides who was there first; what was built upon that is judged as
/// when it came, and not by what is asked for since.
#[test]
fn of_two_that_were_given_back_the_later_one_was_there_first() {
    for lower in [true, false] {
        let mut fleet = Fleet::new();
        let (here, other) = fleet.two(lower);
        fleet.take(&here);
        fleet.take(&fleet.release(2, Some(here.id()), "2.0"));
        let held = releases(&fleet.chain);
        let second = fleet.policy(fleet.head(), |policy| policy.rulings = closes());
        let third = fleet.policy(Digest::of(b"another policy/2"), |policy| {
            (policy.unites, policy.rulings) = ([second].into(), gives(&other));
        });
        fleet.take(&other);
        fleet.policy(Digest::of(b"another policy/3"), |policy| {
            (policy.unites, policy.rulings) = ([third].into(), gives(&here));
            policy.classes.release.approvals = 3;
        });
        assert_eq!(releases(&fleet.chain), held);
        fleet.starts_alike(&format!("lower: {lower}"));
    }
}

/// Whether the uniting policy rules by itself or says again what the one before it ruled, and though the next
/// one says it once more.
#[test]
fn what_was_given_back_was_there_first_whoever_says_so_and_however_often() {
    let before = SettledBy { policy: Seq(2), id: Digest::of(b"another policy/2") };
    for (lower, by) in [(true, None), (false, None), (true, Some(before)), (false, Some(before))] {
        let mut fleet = Fleet::new();
        let (here, other) = fleet.two(lower);
        fleet.take(&here);
        fleet.take(&fleet.release(2, Some(here.id()), "2.0"));
        let held = releases(&fleet.chain);
        let second = fleet.policy(fleet.head(), |policy| policy.rulings = gives(&other));
        fleet.take(&other);
        fleet.policy(before.id, |policy| {
            policy.unites = [second].into();
            policy.rulings = vec![Ruling { by, ..gives(&here)[0] }];
            policy.classes.release.approvals = 3;
        });
        assert_eq!(releases(&fleet.chain), held);
        let settled = *fleet.chain.settled(Lane::Release, PLACE).unwrap();
        let again = Some(SettledBy { policy: settled.policy, id: settled.by });
        fleet.policy(fleet.head(), |policy| {
            policy.unites = [Digest::of(b"another policy/3")].into();
            policy.rulings = vec![Ruling { by: again, ..gives(&here)[0] }];
        });
        fleet.starts_alike(&format!("lower: {lower}, by: {by:?}"));
    }
}
