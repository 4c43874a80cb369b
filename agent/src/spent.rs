//! Ballots of decided places: let go of, not taken again, and making room for new ones.
//!
//! Which ones are spent, [`borgios_policy::spent`] says. Here is what a node does about it: with each
//! statement that is applied some go, with their files; one that is brought again is known; and a governor
//! who has cast as many as are kept goes on voting.

use borgios_policy::{Ballot, Object as _};
use borgios_types::Digest;
use tracing::debug;

use crate::admission::{Denied, Judge, Passed, governors, quota};
use crate::ledger::Ledger;

/// Ballots let go at a time, so that the ledger's thread does not stop for long.
const FREED_MAX: usize = 512;

impl Judge<'_> {
    /// A ballot that is spent is nobody's fault and nobody's need; beyond the quota an old one of its
    /// governor makes room, or every board would come to an end of its decisions.
    pub(crate) fn ballot(
        &self,
        id: Digest,
        ballot: &Ballot,
        owner: &str,
    ) -> Result<Passed, Denied> {
        let casts = self.store.casts();
        if self.fresh && !casts.is_needed(self.chain, id, ballot) {
            return Err(Denied::Known);
        }
        let full = self.store.owned(Ballot::KIND, owner).count() >= quota(Ballot::KIND);
        let theirs = |id: &Digest| self.store.get(id).is_some_and(|one| one.owner == owner);
        let oldest = full.then(|| casts.oldest(self.chain, &ballot.governor, theirs)).flatten();
        match oldest {
            Some((counter, oldest)) if counter < ballot.counter => {
                Ok(Passed { owner: owner.to_owned(), date: 0, replaces: vec![oldest] })
            }
            // It would go again at once.
            Some(_) => Err(Denied::Known),
            None => governors(self.chain, self.store, Ballot::KIND, owner, 0),
        }
    }
}

impl Ledger {
    /// Lets go of ballots that are spent, so many at a time; what is left goes with the next statement.
    pub(crate) fn free_spent(&mut self) -> Vec<Digest> {
        let spent = self.store.casts().spent(&self.chain, FREED_MAX);
        if !spent.is_empty() {
            debug!(BORGIOS_EVENT = "ballots_freed", count = spent.len(), "let go of spent ballots");
        }
        self.store.remove(&spent);
        spent
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use borgios_policy::fixture::{Council, NOW, release_body, statement as draft};
    use borgios_policy::spent::NEWEST;
    use borgios_policy::{Chain, Lane, Statement, Verdict};
    use borgios_types::{Envelope, Round, Seq};

    use super::*;
    use crate::clock::unix_now;
    use crate::ledger::Admission;
    use crate::store::Store;

    /// A governor's ballots have a bound, and old ones of decided places make room for new ones.
    #[test]
    fn a_governors_ballots_are_no_end_of_decisions() {
        let council = Council::new(3, 2, 1, 1);
        let first = council.sign(&council.first_policy(2));
        let network = first.id();
        let mut chain = Chain::new(Some(network));
        let apply = |chain: &mut Chain, envelope: &Envelope| {
            let Ok(Verdict::New(verified)) = chain.verify(NOW, envelope, &[]) else {
                panic!("refused")
            };
            chain.apply(*verified);
        };
        apply(&mut chain, &first);
        let release = draft(Lane::Release, 1, Some(network), None, Some(1), release_body("1"));
        let ann = council.name(0);
        let rejection = council.reject(&ann, &release);
        let ballot = |counter: u32| {
            let read = Ballot::parse(&rejection).unwrap();
            let ballot = Ballot { counter: counter.into(), round: Round(counter), ..read };
            ballot.to_envelope().sign(&council.keys[&ann])
        };
        let folder = tempfile::tempdir().unwrap();
        let (mut store, _) = Store::open(folder.path()).unwrap();
        let most = u32::try_from(quota(Ballot::KIND)).unwrap();
        // As if their files were there.
        for counter in 2..most + 2 {
            store.index(ballot(counter), ann.to_string(), 0);
        }
        let evicted = BTreeSet::new();
        let judged = |chain: &Chain, store: &Store, counter: u32| {
            let (evicted, now, lapsed_kept, fresh) = (&evicted, NOW, 0, true);
            Judge {
                chain,
                store,
                gate: &borgios_policy::Gate::default(),
                me: None,
                evicted,
                now,
                lapsed_kept,
                fresh,
            }
            .judge(&ballot(counter))
        };
        match judged(&chain, &store, most + 2) {
            Err(Denied::Wrong { code, .. }) => assert_eq!(code, "too_many", "the place is open"),
            _ => panic!("there was no room"),
        }
        apply(&mut chain, &council.sign(&release));
        let Ok(Passed { replaces, .. }) = judged(&chain, &store, most + 2) else {
            panic!("no room was made")
        };
        assert_eq!(replaces, [ballot(2).id()], "the oldest");
        assert!(matches!(judged(&chain, &store, 1), Err(Denied::Known)), "older than all");
        // Those of a key that was replaced make room for themselves alone.
        store.reown(&[Ballot::KIND], |one| {
            let counter = Ballot::parse(&one.envelope).unwrap().counter;
            Some(if counter < 5 { format!("{ann}@former") } else { ann.to_string() })
        });
        for counter in most + 2..most + 5 {
            store.index(ballot(counter), ann.to_string(), 0);
        }
        let Ok(Passed { replaces, .. }) = judged(&chain, &store, most + 5) else {
            panic!("no room was made")
        };
        assert_eq!(replaces, [ballot(5).id()], "the oldest of this key");
    }

    /// It leaves the disk, does not come in again, and is not back after a restart.
    #[test]
    fn a_spent_ballot_leaves_the_disk_and_does_not_come_back() {
        let council = Council::new(3, 2, 1, 1);
        let (issued, expires) = (unix_now(), unix_now().plus(86_400));
        let dated = |draft| Statement { issued, expires, ..draft };
        let first = council.sign(&dated(council.first_policy(2)));
        let network = Some(first.id());
        let release = |body| dated(draft(Lane::Release, 1, network, None, Some(1), body));
        let two = release(release_body("2"));
        let digest = Digest::of(b"keeper");
        let body = serde_json::json!({
            "version": "1", "components": [{"name": "app", "digest": digest, "size": 6}],
            "floor": 1, "installer": {"digest": digest, "size": 6},
        });
        let one = release(body);
        let folder = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(folder.path(), 0).unwrap();
        ledger.pin(first.id()).unwrap();
        let admit = |ledger: &mut Ledger, envelope: &Envelope| {
            let admission = ledger.admit(envelope.clone(), "a test");
            let Admission::Admitted(all) = admission else { panic!("{admission:?}") };
            all.into_iter().next().unwrap()
        };
        admit(&mut ledger, &first);
        let cleo = &council.keys[&council.name(2)];
        let cast = |on: &Statement, counter| {
            let read = Ballot::parse(&council.reject(&council.name(2), on)).unwrap();
            (Ballot { round: Round(1), counter, ..read }).to_envelope().sign(cleo)
        };
        let lost = cast(&two, 1);
        admit(&mut ledger, &lost);
        for counter in 2..NEWEST as u64 + 2 {
            let prev = Some(first.id());
            let later = Statement { seq: Seq(counter), prev, ..one.clone() };
            admit(&mut ledger, &cast(&later, counter));
        }
        let file = ledger.store().path(&lost);
        assert!(file.exists());
        let entered = admit(&mut ledger, &council.sign(&one));
        assert_eq!(entered.forgotten, [lost.id()], "neighbours are not told of it any more");
        for _ in 0..2 {
            assert!(!file.exists() && ledger.store().get(&lost.id()).is_none());
            assert!(matches!(ledger.admit(lost.clone(), "a neighbour"), Admission::Known));
            drop(ledger);
            ledger = Ledger::open(folder.path(), 0).unwrap();
            assert_eq!(ledger.store().list(Ballot::KIND, None).count(), NEWEST);
        }
        // One of a build that kept everything.
        std::fs::write(&file, lost.to_json()).unwrap();
        drop(ledger);
        ledger = Ledger::open(folder.path(), 0).unwrap();
        assert!(!file.exists() && ledger.store().get(&lost.id()).is_none());
        assert_eq!(one.to_envelope().id(), ledger.chain().head(Lane::Release).unwrap().id());
    }
}
