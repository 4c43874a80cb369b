//! Whose room a governor's objects take. A key that another one has replaced under the same name, since it
//! may be stolen, must not fill the room of whoever has the name now.
//!
//! ```text
//! the key of the name in force, or a former one that its policy lists ─▶ NAME
//! a key that the name had on an earlier board ────────────────────────▶ NAME@former
//! ```
//!
//! Who owns what follows from the policy in force alone: it is looked at again when that changes, and at
//! each start.

use std::collections::BTreeSet;

use borgios_policy::{
    Ballot, Board, Burn, Chain, Drill, DrillAnswer, Lane, Name, Object as _, Pool, Proposal,
    Session, SessionShare, VerifiedStatement,
};
use borgios_types::{Envelope, PublicKey, Seq};

use crate::ledger::Ledger;

/// The kinds that are owned so; all others have a date or a board of their own.
const KINDS: [&str; 8] = [
    Proposal::KIND,
    Pool::KIND,
    Ballot::KIND,
    Burn::KIND,
    Session::KIND,
    SessionShare::KIND,
    Drill::KIND,
    DrillAnswer::KIND,
];

/// Who said something under `board`, as the owner of it.
pub(crate) fn speaker(chain: &Chain, board: &Board, name: &Name) -> String {
    let key = board.by_name(name).map(|member| member.key);
    key.map_or_else(|| name.to_string(), |key| with_key(chain, name, key))
}

/// Who said something with a key that the name has, or had.
fn with_key(chain: &Chain, name: &Name, key: PublicKey) -> String {
    match chain.policy().and_then(|policy| policy.board.by_name(name)) {
        Some(now) if now.key != key && !now.former.contains(&key) => format!("{name}@former"),
        _ => name.to_string(),
    }
}

/// The key of the name, of the newest board first, that signed what is stored.
///
/// It was verified when it came, so that the one signature of most is the speaker's. Of several any may be
/// junk: they are no part of an object's id, and whoever hands it on can lay some beside the true one.
fn signer(chain: &Chain, name: &Name, envelope: &Envelope) -> Option<PublicKey> {
    if let [only] = envelope.sigs.as_slice() {
        return Some(only.by);
    }
    let policies: Vec<_> =
        chain.after(Lane::Policy, Seq(0)).filter_map(VerifiedStatement::policy).collect();
    let mut tried = BTreeSet::new();
    let keys =
        policies.into_iter().rev().filter_map(|policy| Some(policy.board.by_name(name)?.key));
    keys.filter(|key| tried.insert(*key)).find(|key| envelope.signed_by(key))
}

impl Ledger {
    /// After a new policy: what was said with a key that it replaced takes its successor's room no more.
    pub(crate) fn look_at_speakers(&mut self) {
        let Self { chain, store, .. } = self;
        store.reown(&KINDS, |stored| {
            let name: Name = stored.by().parse().ok()?;
            Some(with_key(chain, &name, signer(chain, &name, &stored.envelope)?))
        });
    }
}

#[cfg(test)]
mod tests {
    use borgios_policy::fixture::{Council, release_body, statement as draft};
    use borgios_policy::{Policy, Statement};
    use borgios_types::SecretKey;

    use super::*;
    use crate::clock::unix_now;
    use crate::ledger::Admission;

    fn dated(statement: Statement) -> Statement {
        Statement { issued: unix_now(), expires: unix_now().plus(86_400), ..statement }
    }

    fn admitted(ledger: &mut Ledger, envelope: &Envelope) {
        let admission = ledger.admit(envelope.clone(), "a test");
        assert!(matches!(admission, Admission::Admitted(_)), "{admission:?}");
    }

    /// A neighbour that lays a signature of its own before a governor's chooses whose room nothing takes.
    #[test]
    fn a_signature_that_was_laid_beside_the_speakers_moves_nothing() {
        let council = Council::new(3, 2, 1, 1);
        let folder = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(folder.path(), 0).unwrap();
        let first = council.sign(&dated(council.first_policy(2)));
        let (network, ann) = (first.id(), council.name(0));
        ledger.pin(network).unwrap();
        admitted(&mut ledger, &first);
        let release = draft(Lane::Release, 1, Some(network), None, Some(1), release_body("1"));
        let pools = council.pools(council.slot(&release));
        let ballot = council.approve(&ann, &release, &pools);
        let mut twin = ballot.clone().sign(&SecretKey::from_seed([99; 32]));
        twin.sigs.rotate_right(1);
        assert_ne!(twin.sigs[0].by, council.keys[&ann].public());
        admitted(&mut ledger, &twin);
        let owned = |ledger: &Ledger, owner: &str| {
            let owned = ledger.store().owned(Ballot::KIND, owner);
            owned.map(|stored| stored.id).collect::<Vec<_>>()
        };
        assert_eq!(owned(&ledger, "ann"), [ballot.id()]);
        let body = Policy { fanout: 5, ..council.policy(2) }.to_body();
        let next = draft(Lane::Policy, 2, Some(network), Some(network), Some(1), body);
        admitted(&mut ledger, &council.sign(&dated(next)));
        assert_eq!(owned(&ledger, "ann"), [ballot.id()]);
        assert_eq!(owned(&ledger, "ann@former"), []);
    }
}
