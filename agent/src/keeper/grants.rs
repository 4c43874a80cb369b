//! Root access on this server: which grants of the board are open here, and who witnessed them.
//!
//! ```text
//! signed grant ─▶ waiting ── enough other members saw it ──▶ open ── before, or revoked ──▶ over
//!                    └────────── class offline ───────────────┘
//! ```
//!
//! Everything follows from the keeper's own chain, its clock and the witnesses it verified, which
//! lie in `witnesses/<statement>.json`. borgiosd can keep witnesses back; it cannot make one.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;

use borgios_policy::policy::WITNESSES_MAX;
use borgios_policy::{
    AccessClass, Chain, Granted, Lane, ObjectError, VerifiedStatement, WitnessProof,
};
use borgios_types::{Digest, NodeId, Seq, UnixSeconds};
use thiserror::Error;
use tracing::warn;

use super::paths::Paths;
use super::protocol::{AccessState, AccessStatus};
use crate::disk;

/// Longest stored list of proofs, in bytes: [`WITNESSES_MAX`] of three small envelopes each.
const FILE_MAX: usize = 512 * 1024;
/// Longest proof that is kept, so that as many as are kept fit such a file.
const PROOF_MAX: usize = FILE_MAX / WITNESSES_MAX as usize - 1;
/// Seconds for which a grant that is over is still told of.
const TOLD_S: u64 = 24 * 3600;
/// Most grants told of.
const TOLD_MAX: usize = 32;

/// Why witnesses were not taken.
#[derive(Debug, Error)]
pub enum WitnessError {
    /// No such grant in the keeper's own chain.
    #[error("{0} is no grant that this keeper knows")]
    UnknownGrant(Digest),
    /// It is for another node.
    #[error("access/{seq} is for another node than this one")]
    OtherNode {
        /// The grant's number.
        seq: Seq,
    },
    /// One of them does not hold.
    #[error("a witness does not hold: {0}")]
    Proof(#[from] ObjectError),
    /// More than anyone needs.
    #[error("{0} witnesses at once, at most {WITNESSES_MAX}")]
    TooMany(usize),
    /// The disk failed.
    #[error("cannot keep the witnesses")]
    Disk(#[from] io::Error),
}

impl WitnessError {
    /// The stable name.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::UnknownGrant(_) => "unknown_grant",
            Self::OtherNode { .. } => "other_node",
            Self::Proof(error) => error.code(),
            Self::TooMany(_) => "too_many",
            Self::Disk(_) => "disk",
        }
    }
}

/// The witnesses this keeper has verified and kept.
#[derive(Clone, Debug)]
pub struct Witnesses {
    folder: PathBuf,
}

impl Witnesses {
    /// Below the keeper's own folder.
    #[must_use]
    pub fn at(paths: &Paths) -> Self {
        Self { folder: paths.keeper.join("witnesses") }
    }

    /// Verifies witnesses of a grant for this node and keeps those that hold and are new; returns
    /// how many members have seen it. What is kept survives a power cut.
    ///
    /// # Errors
    /// See [`WitnessError`]; nothing was kept. A proof that does not hold is one only if none does.
    pub fn take(
        &self,
        chain: &Chain,
        me: &NodeId,
        statement: &Digest,
        offered: &[WitnessProof],
    ) -> Result<usize, WitnessError> {
        if offered.len() > usize::from(WITNESSES_MAX) {
            return Err(WitnessError::TooMany(offered.len()));
        }
        let granted = chain.grant(statement).ok_or(WitnessError::UnknownGrant(*statement))?;
        if granted.grant.node != *me {
            return Err(WitnessError::OtherNode { seq: granted.statement.statement().seq });
        }
        let mut kept = self.read(statement);
        let mut seen = others(chain, me, statement, &kept);
        let before = seen.len();
        let (mut held, mut first_error) = (0, None);
        for proof in offered {
            // One member's bad word must not take the others' with it.
            let node = match verify(chain, statement, proof) {
                Ok(node) => node,
                Err(error) => {
                    first_error.get_or_insert(error);
                    continue;
                }
            };
            held += 1;
            // Never more than is read again: one member's long words must not undo what others said.
            let length = serde_json::to_vec(proof).map_err(io::Error::other)?.len();
            let fits = kept.len() < usize::from(WITNESSES_MAX) && length <= PROOF_MAX;
            if fits && counts(chain, me, &node) && seen.insert(node) {
                kept.push(proof.clone());
            }
        }
        if let Some(error) = first_error.filter(|_| held == 0) {
            return Err(error.into());
        }
        if seen.len() > before {
            std::fs::create_dir_all(&self.folder)?;
            let bytes = serde_json::to_vec(&kept).map_err(io::Error::other)?;
            disk::write_durable(&self.file(statement), &bytes, 0o600)?;
        }
        Ok(seen.len())
    }

    /// Forgets the witnesses of grants that are over.
    pub fn forget(&self, chain: &Chain, now: UnixSeconds) {
        let over = |granted: &Granted<'_>| granted.grant.before <= now;
        for granted in chain.grants().iter().filter(|granted| over(granted)) {
            // Worthless by then; the next look tries again.
            let _ = std::fs::remove_file(self.file(&granted.statement.id()));
        }
    }

    fn file(&self, statement: &Digest) -> PathBuf {
        self.folder.join(format!("{}.json", statement.hex()))
    }

    fn read(&self, statement: &Digest) -> Vec<WitnessProof> {
        let path = self.file(statement);
        let read = disk::read_bounded(&path, FILE_MAX)
            .and_then(|bytes| serde_json::from_slice(&bytes).map_err(io::Error::other));
        match read {
            Ok(proofs) => proofs,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                // borgiosd brings them again.
                warn!(BORGIOS_EVENT = "damaged", %error, "{} is set aside", path.display());
                let _ = std::fs::remove_file(&path);
                Vec::new()
            }
        }
    }
}

/// Every grant for this node that is not long over, oldest first, and how it stands.
#[must_use]
pub fn standing(
    chain: &Chain,
    me: &NodeId,
    witnesses: &Witnesses,
    now: UnixSeconds,
) -> Vec<AccessStatus> {
    let revoked = chain.revoked();
    let needed = usize::from(chain.policy().map_or(0, borgios_policy::Policy::witnesses));
    let grants = chain.grants();
    let mine = grants
        .iter()
        .filter(|granted| granted.grant.node == *me)
        .filter(|granted| granted.grant.before.plus(TOLD_S) > now);
    let told = mine.map(|Granted { grant, statement }| {
        let id = statement.id();
        let needed = match grant.class {
            AccessClass::Normal => needed,
            AccessClass::Offline => 0,
        };
        let seen = others(chain, me, &id, &witnesses.read(&id)).len();
        let state = if revoked.contains(&grant.serial) {
            AccessState::Revoked
        } else if grant.before <= now || !made_under_this_board(chain, statement) {
            AccessState::Over
        } else if seen >= needed && grant.after <= now {
            AccessState::Open
        } else {
            AccessState::Waiting
        };
        let (seq, before) = (statement.statement().seq, grant.before);
        AccessStatus { seq, id, before, state, witnesses: seen, needed }
    });
    let mut told: Vec<_> = told.collect();
    // Only what is over makes room: the doors are made from this list too.
    while told.len() > TOLD_MAX {
        let over =
            |one: &AccessStatus| matches!(one.state, AccessState::Over | AccessState::Revoked);
        let Some(at) = told.iter().position(over) else { break };
        told.remove(at);
    }
    told
}

/// The principals of the grants that are open.
#[must_use]
pub fn principals(chain: &Chain, standing: &[AccessStatus]) -> Vec<String> {
    let open = standing.iter().filter(|status| status.state == AccessState::Open);
    open.filter_map(|status| Some(chain.grant(&status.id)?.grant.principal(status.id))).collect()
}

/// Whether sshd would take a certificate of this statement at all: it knows the key of the board
/// in force alone.
fn made_under_this_board(chain: &Chain, statement: &VerifiedStatement) -> bool {
    let made = statement.statement().policy.and_then(|seq| chain.policy_at(seq));
    match (made, chain.policy()) {
        (Some(then), Some(now)) => then.board.group() == now.board.group(),
        (_, _) => false,
    }
}

/// Whether a member's word counts here: not this node's own, and not that of one who is out.
fn counts(chain: &Chain, me: &NodeId, node: &NodeId) -> bool {
    node != me && !chain.evicted().contains(node)
}

/// The other members who have seen a grant.
fn others(
    chain: &Chain,
    me: &NodeId,
    statement: &Digest,
    proofs: &[WitnessProof],
) -> BTreeSet<NodeId> {
    let seen = proofs.iter().filter_map(|proof| verify(chain, statement, proof).ok());
    seen.filter(|node| counts(chain, me, node)).collect()
}

fn verify(chain: &Chain, statement: &Digest, proof: &WitnessProof) -> Result<NodeId, ObjectError> {
    let newest = chain.head_seq(Lane::Policy).0;
    let policies = (1..=newest).rev().filter_map(|seq| chain.policy_at(Seq(seq)));
    let refused = |why: &str| ObjectError::Refused { kind: "witness", why: why.to_owned() };
    let network = chain.network().ok_or_else(|| refused("this keeper has no network"))?;
    proof.verify(policies.map(|policy| &policy.board), network, statement)
}

#[cfg(test)]
mod tests {
    use borgios_policy::fixture::{Council, ISSUED, NOW, statement};
    use borgios_policy::{Invitation, Join, Object as _, Verdict, Witness};
    use borgios_types::{Envelope, SecretKey};
    use serde_json::json;

    use super::*;

    struct Server {
        council: Council,
        chain: Chain,
        witnesses: Witnesses,
        _folder: tempfile::TempDir,
    }

    fn key(seed: u8) -> SecretKey {
        SecretKey::from_seed([seed; 32])
    }

    fn me() -> NodeId {
        key(1).public()
    }

    impl Server {
        fn new() -> Self {
            let council = Council::new(3, 2, 1, 1);
            let first = council.sign(&council.first_policy(2));
            let chain = Chain::new(Some(first.id()));
            let folder = tempfile::tempdir().unwrap();
            let witnesses = Witnesses::at(&Paths::below(folder.path()));
            let mut server = Self { council, chain, witnesses, _folder: folder };
            server.apply(&first, &[]);
            server
        }

        fn apply(&mut self, envelope: &Envelope, ballots: &[Envelope]) {
            let Ok(Verdict::New(verified)) = self.chain.verify(NOW, envelope, ballots) else {
                panic!("refused")
            };
            self.chain.apply(*verified);
        }

        fn order(&mut self, body: serde_json::Value, approvals: usize) -> Digest {
            let prev = self.chain.head(Lane::Access).map(VerifiedStatement::id);
            let seq = self.chain.head_seq(Lane::Access).next().0;
            let draft = statement(Lane::Access, seq, self.chain.network(), prev, Some(1), body);
            let pools = self.council.pools(self.council.slot(&draft));
            let ballots: Vec<_> = (0..approvals)
                .map(|at| self.council.approve(&self.council.name(at), &draft, &pools))
                .collect();
            let signed = self.council.sign(&draft);
            self.apply(&signed, &ballots);
            signed.id()
        }

        fn grant(&mut self, node: NodeId, class: &str) -> Digest {
            let serial = self.chain.head_seq(Lane::Access).next();
            let body = json!({
                "order": "grant", "node": node, "serial": serial, "key": key(2).public(),
                "after": ISSUED, "before": NOW.plus(600), "class": class, "reason": "disk",
            });
            self.order(body, 3)
        }

        fn proof(&self, node: u8, saw: &Digest) -> WitnessProof {
            let network = self.chain.network().unwrap();
            let (node, token) = (key(node), key(200));
            let invitation = Invitation {
                network,
                token: token.public(),
                uses: 9,
                issued: ISSUED,
                expires: ISSUED.plus(3600),
            };
            let invitation =
                invitation.to_envelope().sign(&self.council.keys[&self.council.name(0)]);
            let join = Join {
                network,
                node: node.public(),
                keeper: key(201).public(),
                name: "web".parse().unwrap(),
                address: None,
                owner: None,
                invitation: invitation.id(),
                issued: ISSUED,
                expires: ISSUED.plus(60),
            };
            let witness = Witness { network, node: node.public(), statement: *saw, at: NOW };
            WitnessProof {
                witness: witness.to_envelope().sign(&node),
                join: join.to_envelope().sign(&node).sign(&token),
                invitation,
            }
        }

        fn states(&self, now: UnixSeconds) -> Vec<AccessState> {
            let standing = standing(&self.chain, &me(), &self.witnesses, now);
            let open = standing.iter().filter(|one| one.state == AccessState::Open).count();
            assert_eq!(principals(&self.chain, &standing).len(), open);
            standing.iter().map(|status| status.state).collect()
        }

        fn take(&self, grant: &Digest, proofs: &[WitnessProof]) -> Result<usize, WitnessError> {
            self.witnesses.take(&self.chain, &me(), grant, proofs)
        }
    }

    #[test]
    fn a_grant_opens_once_two_others_saw_it_and_closes_in_time() {
        let mut server = Server::new();
        let grant = server.grant(me(), "normal");
        assert_eq!(server.states(NOW), [AccessState::Waiting]);
        assert_eq!(server.take(&grant, &[server.proof(10, &grant)]).unwrap(), 1);
        // The same member again, and this node itself, are nobody else.
        let again = [server.proof(10, &grant), server.proof(1, &grant)];
        assert_eq!(server.take(&grant, &again).unwrap(), 1);
        assert_eq!(server.states(NOW), [AccessState::Waiting]);
        assert_eq!(server.take(&grant, &[server.proof(11, &grant)]).unwrap(), 2);
        assert_eq!(server.states(NOW), [AccessState::Open]);
        assert_eq!(server.states(NOW.plus(600)), [AccessState::Over]);
        assert_eq!(server.states(NOW.plus(600 + TOLD_S)), []);
        server.witnesses.forget(&server.chain, NOW.plus(600));
        assert_eq!(server.states(NOW), [AccessState::Waiting]);
    }

    #[test]
    fn what_is_forged_for_another_node_or_revoked_opens_nothing() {
        let mut server = Server::new();
        let other = server.grant(key(77).public(), "offline");
        assert_eq!(server.states(NOW), []);
        let refused = server.take(&other, &[server.proof(10, &other)]);
        assert_eq!(refused.unwrap_err().code(), "other_node");
        let grant = server.grant(me(), "normal");
        let stray = server.proof(10, &other);
        assert_eq!(server.take(&grant, &[stray]).unwrap_err().code(), "bad_body");
        let mut forged = server.proof(10, &grant);
        forged.witness.sigs = server.proof(11, &grant).witness.sigs;
        assert_eq!(server.take(&grant, &[forged]).unwrap_err().code(), "bad_signature");
        let many = vec![server.proof(10, &grant); 17];
        assert_eq!(server.take(&grant, &many).unwrap_err().code(), "too_many");
        let unknown = Digest::of(b"none");
        assert_eq!(server.take(&unknown, &[]).unwrap_err().code(), "unknown_grant");
        assert_eq!(server.states(NOW), [AccessState::Waiting]);
        // A poisoned proof among good ones costs itself alone.
        let poison = server.proof(12, &other);
        let mixed = [poison, server.proof(10, &grant), server.proof(11, &grant)];
        assert_eq!(server.take(&grant, &mixed).unwrap(), 2);
        assert_eq!(server.states(NOW), [AccessState::Open]);
        let body = json!({"order": "revoke", "serials": [2], "reason": "done"});
        server.order(body, 2);
        assert_eq!(server.states(NOW), [AccessState::Revoked]);
    }

    #[test]
    fn many_grants_close_none_that_is_open() {
        let mut server = Server::new();
        for _ in 0..TOLD_MAX + 3 {
            server.grant(me(), "offline");
        }
        assert_eq!(server.states(NOW), vec![AccessState::Open; TOLD_MAX + 3]);
        assert_eq!(server.states(NOW.plus(600)).len(), TOLD_MAX);
    }

    #[test]
    fn an_offline_grant_needs_nobody_and_an_evicted_witness_is_none() {
        let mut server = Server::new();
        server.grant(me(), "offline");
        assert_eq!(server.states(NOW), [AccessState::Open]);
        let grant = server.grant(me(), "normal");
        let both = [server.proof(10, &grant), server.proof(11, &grant)];
        assert_eq!(server.take(&grant, &both).unwrap(), 2);
        let body = json!({"evict": [key(11).public()], "reason": "dark"});
        let network = server.chain.network();
        let draft = statement(Lane::Member, 1, network, None, Some(1), body);
        let signed = server.council.sign(&draft);
        server.apply(&signed, &[]);
        assert_eq!(server.states(NOW), [AccessState::Open, AccessState::Waiting]);
    }

    #[test]
    fn damaged_proofs_are_set_aside() {
        let mut server = Server::new();
        let grant = server.grant(me(), "normal");
        let both = [server.proof(10, &grant), server.proof(11, &grant)];
        server.take(&grant, &both).unwrap();
        std::fs::write(server.witnesses.file(&grant), "{").unwrap();
        assert_eq!(server.states(NOW), [AccessState::Waiting]);
        assert_eq!(server.take(&grant, &both).unwrap(), 2);
    }
}
