//! A witness: a member's word that it saw a grant, so that none is used unseen.

use std::collections::BTreeSet;

use borgios_types::{Digest, Envelope, NodeId, PublicKey, UnixSeconds};
use serde::{Deserialize, Serialize};

use crate::board::Board;
use crate::invitation::Invitation;
use crate::join::Join;
use crate::object::{Object, ObjectError, for_network, signed_by};

/// How many members are asked first to sign that they saw a grant: those whose keys come first by hash with
/// the statement's id, which everyone works out alike. Enough that the largest demand of a policy
/// is met though half of them are away.
pub const WITNESSES_ASKED: usize = 32;

/// What one member says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Witness {
    /// The fleet.
    pub network: Digest,
    /// Who saw it.
    pub node: NodeId,
    /// Id of the statement.
    pub statement: Digest,
    /// When.
    pub at: UnixSeconds,
}

/// A witness with what shows that its node is a member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WitnessProof {
    /// The witness.
    pub witness: Envelope,
    /// The first join record of its node.
    pub join: Envelope,
    /// The invitation that the record names.
    pub invitation: Envelope,
}

impl Object for Witness {
    const KIND: &'static str = "witness";
    const FIELDS: &'static [&'static str] = &["network", "node", "statement", "at"];
}

impl Witness {
    /// Reads a witness and checks its node's signature. That the node is a member, its join record
    /// says.
    ///
    /// # Errors
    /// As [`Object::parse`], `wrong_network` and `bad_signature`.
    pub fn verify(network: Digest, envelope: &Envelope) -> Result<Self, ObjectError> {
        let witness = Self::parse(envelope)?;
        for_network(Self::KIND, witness.network, network)?;
        signed_by(&witness.node, Self::KIND, envelope)?;
        Ok(witness)
    }

    /// Whether `node` is one of the members asked first to sign that they saw a statement.
    #[must_use]
    pub fn is_asked(node: &NodeId, members: &BTreeSet<NodeId>, statement: &Digest) -> bool {
        Self::is_asked_of(node, members, statement, WITNESSES_ASKED)
    }

    /// Whether `node` is one of the `most` members that come first by hash with a statement's id.
    #[must_use]
    pub fn is_asked_of(
        node: &NodeId,
        members: &BTreeSet<NodeId>,
        statement: &Digest,
        most: usize,
    ) -> bool {
        let rank = |key: &PublicKey| Digest::of_parts(&[&statement.0, &key.to_bytes()]);
        let own = rank(node);
        members.iter().filter(|other| rank(other) < own).count() < most
    }
}

impl WitnessProof {
    /// Checks a witness together with its proofs, from nothing but the boards so far: the member
    /// that saw `statement`.
    ///
    /// # Errors
    /// The first of the three objects that does not hold, or does not belong to the others.
    pub fn verify<'a>(
        &self,
        boards: impl Iterator<Item = &'a Board>,
        network: Digest,
        statement: &Digest,
    ) -> Result<NodeId, ObjectError> {
        let kind = Witness::KIND;
        let refused = |why: &str| ObjectError::Refused { kind, why: why.to_owned() };
        let witness = Witness::verify(network, &self.witness)?;
        if witness.statement != *statement {
            return Err(refused("it saw another statement"));
        }
        let mut invitation = Err(refused("there is no board"));
        for board in boards {
            invitation = Invitation::verify(board, network, &self.invitation);
            if invitation.is_ok() {
                break;
            }
        }
        let (invitation, _) = invitation?;
        // A first record holds for good: it may have lapsed and been renewed since.
        let issued = Join::parse(&self.join)?.issued;
        let join = Join::verify(network, issued, &self.join, (&invitation, self.invitation.id()))?;
        invitation.open(join.issued)?;
        if join.node != witness.node {
            return Err(refused("its join record is another node's"));
        }
        Ok(witness.node)
    }
}
