//! The paper of a recovery board: who may make a network's next board once its own is silent.
//!
//! ```text
//! payload  that of a policy/1, whose body says {…, recovers: network}; critical: ["recovers"]
//! sigs     the recovery key itself
//! ```
//!
//! A recovery board makes its key as every board does, by a founding ([`crate::founding`]) whose plan
//! names the network it is for. What comes of it looks like a policy/1 and is none: no chain takes
//! it, and no server is ever installed from it. The key signs for its members' names and shares, so
//! that whoever finds the key in a policy can judge what its members say.

use std::collections::BTreeMap;

use borgios_types::{Digest, Envelope, Seq};

use crate::board::Board;
use crate::lane::Lane;
use crate::message;
use crate::object::{ObjectError, for_network};
use crate::policy::Policy;
use crate::statement::Statement;

/// What errors call it.
const KIND: &str = "recovery board";

/// A recovery board whose paper was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveryBoard {
    board: Board,
    envelope: Envelope,
}

impl RecoveryBoard {
    /// Reads the paper of a board that may recover `network`. Whether a policy of that network names
    /// its key, is another question.
    ///
    /// # Errors
    /// `malformed`, `bad_body`, `wrong_network`, `bad_signature`; a board too large for one-touch
    /// votes: it votes once in years, and then by files.
    pub fn verify(network: Digest, envelope: &Envelope) -> Result<Self, ObjectError> {
        let refused = |why: String| ObjectError::Refused { kind: KIND, why };
        let statement = Statement::parse(envelope)
            .map_err(|refusal| ObjectError::Malformed { kind: KIND, why: refusal.to_string() })?;
        if (statement.lane, statement.seq) != (Lane::Policy, Seq(1)) {
            return Err(refused(format!("it is {}/{}", statement.lane, statement.seq)));
        }
        let policy = Policy::parse(&statement.body).map_err(|error| refused(error.to_string()))?;
        let found = policy.recovers.ok_or_else(|| {
            refused(
                "it founds a network of its own; a recovery board is founded for one".to_owned(),
            )
        })?;
        for_network(KIND, found, network)?;
        let board = policy.board;
        if !message::signed_by(envelope, &board.group()) {
            let signer = "its own group key".to_owned();
            return Err(ObjectError::BadSignature { kind: KIND, signer });
        }
        board.one_touch().map_err(|error| refused(error.to_string()))?;
        Ok(Self { board, envelope: envelope.clone() })
    }

    /// Its members and their key.
    #[must_use]
    pub fn board(&self) -> &Board {
        &self.board
    }

    /// The paper.
    #[must_use]
    pub fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    /// Id of the paper.
    #[must_use]
    pub fn id(&self) -> Digest {
        self.envelope.id()
    }
}

/// The ids of the policies through which `envelopes` lead to the policy `id`, itself included: each is
/// named by the next one's `prev`. Whoever was told of that policy by somebody they trust, as by an
/// invitation, was told of all of them.
#[must_use]
pub fn policies_to<'a>(
    envelopes: impl IntoIterator<Item = &'a Envelope>,
    id: Digest,
) -> Vec<Digest> {
    let policies = envelopes.into_iter().filter(|one| one.kind == Lane::Policy.kind());
    let prev: BTreeMap<Digest, Option<Digest>> =
        policies.filter_map(|one| Some((one.id(), Statement::parse(one).ok()?.prev))).collect();
    let mut found = Vec::new();
    let mut next = Some(id);
    while let Some(id) = next {
        let Some(before) = prev.get(&id) else { break };
        found.push(id);
        next = *before;
    }
    found
}
