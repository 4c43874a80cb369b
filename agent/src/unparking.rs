//! What waits is tried again: each time something entered that it may have lacked, and no oftener.
//!
//! ```text
//!  something entered ─▶ unpark      one by one: what may be right now, until nothing more is
//!  a statement waits ─▶ admit_run   together: those that may follow each other from the chain's end
//! ```
//!
//! Looking at a statement means to read it and to ask the gate. What nobody signed waits for free: see
//! [`crate::parking`].

use borgios_policy::{Dated, Lane, Submission};
use borgios_types::Seq;
use tracing::error;

use crate::admission::{Denied, ballots_on};
use crate::clock::unix_now;
use crate::ledger::{Admitted, Ledger, Stop};
use crate::parking::Lacks;

impl Ledger {
    /// Counts what can give a statement its ground: what was applied, each change of the gate, each ballot.
    #[must_use]
    pub fn step(&self) -> u64 {
        self.steps + self.gate.saves()
    }

    /// The last policy that a statement may name here: applied, or waiting in the gate.
    fn reach(&self) -> Seq {
        let docs = self.gate().docs().map(|(_, doc)| doc.statement());
        let waiting = docs.filter(|held| held.lane == Lane::Policy).map(|held| held.seq);
        waiting.fold(self.chain.head_seq(Lane::Policy), Seq::max)
    }

    /// Tries what waits again until nothing more fits.
    pub(crate) fn unpark(&mut self, all: &mut Vec<Admitted>) {
        loop {
            let (before, step, reach) = (all.len(), self.step(), self.reach());
            for waiting in self.parked.take(step, reach, unix_now()) {
                let step = self.step();
                match self.admit_one(waiting.envelope.clone()) {
                    Ok(admitted) => all.push(admitted),
                    Err(Stop::Denied(Denied::Later { code, .. })) => {
                        self.parked.park_again(waiting, Lacks::of(code, step));
                    }
                    // Nothing was wrong with it.
                    Err(Stop::Disk(_)) => self.parked.park_again(waiting, Lacks::Something),
                    Err(Stop::Denied(Denied::Known | Denied::Wrong { .. })) => {}
                }
            }
            if all.len() == before {
                return;
            }
        }
    }

    /// Tries the waiting statements as one run: what expired counts if something in date builds
    /// upon it, so that a node that was away for long can follow.
    pub(crate) fn admit_run(&mut self) -> Vec<Admitted> {
        let (step, now) = (self.step(), unix_now());
        let Self { chain, parked, store, .. } = self;
        let offered = parked.run(step, now, |lane| chain.head_seq(lane));
        if offered.is_empty() {
            return Vec::new();
        }
        let mut envelopes = offered.clone();
        for envelope in &offered {
            envelopes.extend(ballots_on(store, envelope));
        }
        let run = chain.verify_run(now, &Submission::sort(envelopes));
        if !run.accepted.is_empty() {
            parked.ran();
        }
        let mut all = Vec::new();
        for verified in run.accepted {
            let (lane, seq) = (verified.statement().lane, verified.statement().seq);
            let id = verified.id();
            match self.admit_statement(verified.envelope().clone(), Dated::Judged) {
                Ok(admitted) => {
                    self.parked.remove(lane, seq, id);
                    all.push(admitted);
                }
                Err(Stop::Denied(Denied::Known)) => self.parked.remove(lane, seq, id),
                Err(Stop::Denied(_)) => break,
                Err(Stop::Disk(error)) => {
                    error!(BORGIOS_EVENT = "disk_failed", "cannot store a statement: {error}");
                    break;
                }
            }
        }
        if !all.is_empty() {
            self.unpark(&mut all);
            self.tell_heads();
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use borgios_policy::fixture::{Council, statement as draft};
    use borgios_policy::{Note, Object as _, Policy, Statement};
    use borgios_types::{Digest, Envelope, UnixSeconds};
    use serde_json::json;

    use super::*;
    use crate::ledger::Admission;

    const DAY: u64 = 86_400;

    fn dated(statement: Statement) -> Statement {
        Statement { issued: unix_now(), expires: unix_now().plus(DAY), ..statement }
    }

    /// policy/2 by the same board, with other rules.
    fn second(council: &Council, rules: &Policy, network: Digest) -> Envelope {
        let (body, this) = (Policy { fanout: 5, ..rules.clone() }.to_body(), Some(network));
        council.sign(&dated(draft(Lane::Policy, 2, this, this, Some(1), body)))
    }

    /// The release after `prev`.
    fn release(network: Digest, seq: u64, prev: Option<Digest>, policy: u64) -> Statement {
        let digest = Digest::of(b"keeper");
        let component = json!({"name": "app", "digest": digest, "size": 6});
        let body = json!({
            "version": seq.to_string(), "components": [component], "floor": 1,
            "installer": {"digest": digest, "size": 6},
        });
        dated(draft(Lane::Release, seq, Some(network), prev, Some(policy), body))
    }

    /// What anyone can write: nobody signed it, and it names a policy to come.
    fn junk(network: Digest, seq: u64, policy: u64) -> Envelope {
        release(network, seq, (seq > 1).then(|| Digest::of(b"none")), policy).to_envelope()
    }

    /// A ledger under a policy that `change` made, and the network.
    fn ledger(
        folder: &std::path::Path,
        council: &Council,
        change: impl FnOnce(&mut Policy),
    ) -> (Ledger, Policy, Digest) {
        let mut rules = council.policy(2);
        change(&mut rules);
        let first = council.sign(&dated(draft(Lane::Policy, 1, None, None, None, rules.to_body())));
        let mut ledger = Ledger::open(folder, 0).unwrap();
        ledger.pin(first.id()).unwrap();
        admitted(&mut ledger, &first);
        (ledger, rules, first.id())
    }

    fn admitted(ledger: &mut Ledger, envelope: &Envelope) {
        let admission = ledger.admit(envelope.clone(), "a test");
        assert!(matches!(admission, Admission::Admitted(_)), "{admission:?}");
    }

    fn deferred(ledger: &mut Ledger, envelope: &Envelope) {
        let admission = ledger.admit(envelope.clone(), "a test");
        assert!(matches!(admission, Admission::Deferred { .. }), "{admission:?}");
    }

    /// Whom the tree is told as the end of a lane, one after the other.
    fn heads(told: &[Admitted]) -> Vec<u64> {
        told.iter().filter_map(|one| Some(one.head.as_ref()?.1.seq)).collect()
    }

    fn head(ledger: &Ledger, lane: Lane) -> u64 {
        ledger.chain().head_seq(lane).0
    }

    /// Each would be read and judged once for every object that enters, until a restart.
    #[test]
    fn what_nobody_signed_is_not_looked_at_while_other_things_enter() {
        let (council, folder) = (Council::new(3, 2, 1, 1), tempfile::tempdir().unwrap());
        let (mut ledger, _, network) = ledger(folder.path(), &council, |_| ());
        for seq in 1..=64 {
            deferred(&mut ledger, &junk(network, seq, 9));
        }
        let ann = &council.keys[&council.name(0)];
        for n in 0..100 {
            let note = Note { network, text: n.to_string(), at: unix_now() };
            admitted(&mut ledger, &note.to_envelope().sign(ann));
        }
        let mut prev = None;
        for seq in 1..=5 {
            let one = council.sign(&release(network, seq, prev, 1));
            admitted(&mut ledger, &one);
            prev = Some(one.id());
            deferred(&mut ledger, &junk(network, 100 + seq, 9));
        }
        assert_eq!(ledger.parked.tried(), 0);
        assert_eq!(ledger.parked.statements().count(), 69);
    }

    /// When the policy that it names is in force, it is found out.
    #[test]
    fn what_nobody_signed_waits_no_longer_than_for_the_policy_it_names() {
        let (council, folder) = (Council::new(3, 2, 1, 1), tempfile::tempdir().unwrap());
        let (mut ledger, rules, network) = ledger(folder.path(), &council, |_| ());
        for seq in 1..=64 {
            deferred(&mut ledger, &junk(network, seq, 2));
        }
        admitted(&mut ledger, &second(&council, &rules, network));
        assert_eq!((ledger.parked.tried(), ledger.parked.statements().count()), (64, 0));
    }

    #[test]
    fn statements_enter_in_whatever_order_they_come() {
        let council = Council::new(3, 2, 1, 1);
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let folder = tempfile::tempdir().unwrap();
            let (mut ledger, rules, network) = ledger(folder.path(), &council, |_| ());
            let one = council.sign(&release(network, 1, None, 2));
            let two = council.sign(&release(network, 2, Some(one.id()), 2));
            let all = [second(&council, &rules, network), one, two];
            for (n, at) in (1..).zip(order) {
                deferred(&mut ledger, &junk(network, n, 9));
                ledger.admit(all[at].clone(), "a test");
            }
            assert_eq!((head(&ledger, Lane::Policy), head(&ledger, Lane::Release)), (2, 2));
            assert_eq!(ledger.parked.statements().count(), 3, "{order:?}: the junk alone waits");
        }
    }

    /// A policy in its lock is not in the chain; what was made under it waits beside it, not before.
    #[test]
    fn what_builds_upon_a_statement_in_its_lock_enters_with_it() {
        let (council, folder) = (Council::new(3, 2, 1, 1), tempfile::tempdir().unwrap());
        let (mut ledger, rules, network) = ledger(folder.path(), &council, |rules| {
            rules.classes.policy.lock_s = Some(DAY);
            rules.classes.release.lock_s = Some(DAY);
        });
        let one = council.sign(&release(network, 1, None, 2));
        let two = council.sign(&release(network, 2, Some(one.id()), 2));
        for early in [&two, &one] {
            deferred(&mut ledger, early);
        }
        admitted(&mut ledger, &second(&council, &rules, network));
        assert_eq!((head(&ledger, Lane::Policy), ledger.gate().docs().count()), (1, 3));
        assert_eq!(ledger.parked.statements().count(), 0);
    }

    /// What is signed and lacks ballots is tried with each ballot.
    #[test]
    fn a_statement_enters_with_the_last_ballot_it_lacked() {
        let (council, folder) = (Council::new(3, 2, 1, 1), tempfile::tempdir().unwrap());
        let (mut ledger, _, network) =
            ledger(folder.path(), &council, |rules| rules.classes.release.approvals = 3);
        let one = release(network, 1, None, 1);
        let pools = council.pools(council.slot(&one));
        let signed = council.sign(&one);
        deferred(&mut ledger, &signed);
        for at in 0..3 {
            deferred(&mut ledger, &junk(network, 7 + at, 9));
            assert_eq!(head(&ledger, Lane::Release), 0);
            let name = council.name(usize::try_from(at).unwrap());
            admitted(&mut ledger, &council.approve(&name, &one, &pools));
        }
        assert_eq!(head(&ledger, Lane::Release), 1);
    }

    /// A node that was away: what expired meanwhile counts with what is in date upon it, in whatever order
    /// they come, and junk in between starts no run.
    #[test]
    fn a_run_of_which_only_the_newest_is_in_date_enters() {
        let council = Council::new(3, 2, 1, 1);
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let folder = tempfile::tempdir().unwrap();
            let (mut ledger, _, network) = ledger(folder.path(), &council, |_| ());
            let ago = |seconds: u64| UnixSeconds(unix_now().0 - seconds);
            let old = |one: Statement| {
                council.sign(&Statement { issued: ago(1_000), expires: ago(10), ..one })
            };
            let one = old(release(network, 1, None, 1));
            let two = old(release(network, 2, Some(one.id()), 1));
            let three = council.sign(&release(network, 3, Some(two.id()), 1));
            let all = [one, two, three];
            for at in &order[..2] {
                deferred(&mut ledger, &all[*at]);
            }
            let tried = ledger.parked.tried();
            for seq in 1..=20 {
                deferred(&mut ledger, &junk(network, seq, 9));
            }
            assert_eq!(ledger.parked.tried(), tried, "{order:?}");
            let entered = match ledger.admit(all[order[2]].clone(), "a test") {
                Admission::Admitted(entered) => entered,
                other => panic!("{order:?}: {other:?}"),
            };
            let ids: BTreeSet<Digest> = entered.iter().map(|one| one.object.id).collect();
            assert_eq!(ids, all.iter().map(Envelope::id).collect(), "{order:?}");
            // They wait in the gate, each for the last of them; the next look at the clock applies them in
            // their order.
            assert!(entered.iter().all(|one| one.head.is_none()), "{order:?}");
            assert_eq!(heads(&ledger.tick()), [1, 2, 3], "{order:?}");
            assert_eq!(head(&ledger, Lane::Release), 3, "{order:?}");
        }
    }

    /// What another statement's coming lets enter is told to the tree even where that one does not enter.
    #[test]
    fn what_enters_beside_another_is_told_with_the_next_look() {
        let council = Council::new(3, 2, 1, 1);
        let folder = tempfile::tempdir().unwrap();
        let (mut ledger, _, network) = ledger(folder.path(), &council, |policy| {
            policy.classes.release.approvals = 3;
        });
        let ago = |seconds: u64| UnixSeconds(unix_now().0 - seconds);
        let first = release(network, 1, None, 1);
        let first = Statement { issued: ago(1_000), expires: ago(10), ..first };
        let one = council.sign(&first);
        let second = release(network, 2, Some(one.id()), 1);
        let two = council.sign(&second);
        for waiting in [&one, &two] {
            deferred(&mut ledger, waiting);
        }
        for statement in [&first, &second] {
            let pools = council.pools(council.slot(statement));
            for at in 0..3 {
                admitted(&mut ledger, &council.approve(&council.name(at), statement, &pools));
            }
        }
        assert_eq!(head(&ledger, Lane::Release), 0);
        deferred(&mut ledger, &junk(network, 7, 9));
        let told = ledger.tick();
        for entered in [&one, &two] {
            assert!(told.iter().any(|one| one.object.id == entered.id()));
        }
        assert_eq!((heads(&told), head(&ledger, Lane::Release)), (vec![1, 2], 2));
        assert!(ledger.tick().is_empty());
    }
}
