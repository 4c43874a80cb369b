//! An invitation: the right of new servers to join, signed by a governor.
//!
//! The signed part is public and names a token's public key. The *file* that a server owner is
//! given ([`crate::invite_file`]) also holds the token's secret half.

use std::collections::BTreeSet;

use borgios_types::{Digest, Envelope, PublicKey, UnixSeconds};
use serde::{Deserialize, Serialize};

use crate::board::Board;
use crate::name::Name;
use crate::object::{Object, ObjectError, for_network, in_date, signed_by_a_governor};
use crate::policy::Policy;

/// Most servers one invitation may admit.
pub const USES_MAX: u32 = 100_000;

/// The signed part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invitation {
    /// The fleet.
    pub network: Digest,
    /// Public key; a join is countersigned with its secret half.
    pub token: PublicKey,
    /// How many nodes may join with it.
    pub uses: u32,
    /// When it was made.
    pub issued: UnixSeconds,
    /// From when on nobody new may join with it; who joined stays.
    pub expires: UnixSeconds,
}

impl Object for Invitation {
    const KIND: &'static str = "invitation";
    const FIELDS: &'static [&'static str] = &["network", "token", "uses", "issued", "expires"];

    fn check(&self) -> Result<(), ObjectError> {
        if (1..=USES_MAX).contains(&self.uses) {
            return Ok(());
        }
        let why = format!("{} uses, expected 1 to {USES_MAX}", self.uses);
        Err(ObjectError::Refused { kind: Self::KIND, why })
    }
}

impl Invitation {
    /// Reads an invitation and returns the governor who signed it.
    ///
    /// Expiry is not asked: it ends new joins, not memberships. See [`Invitation::open`].
    ///
    /// # Errors
    /// As [`Object::parse`], `wrong_network` and `bad_signature`.
    pub fn verify(
        board: &Board,
        network: Digest,
        envelope: &Envelope,
    ) -> Result<(Self, Name), ObjectError> {
        let invitation = Self::parse(envelope)?;
        for_network(Self::KIND, invitation.network, network)?;
        let governor = signed_by_a_governor(board, Self::KIND, envelope)?;
        Ok((invitation, governor.name.clone()))
    }

    /// As [`Invitation::verify`], under a policy's board and its rules of admission: an invitation
    /// that breaks them admits nobody.
    ///
    /// # Errors
    /// As [`Invitation::verify`], and `bad_body` with the rule.
    pub fn verify_under(
        policy: &Policy,
        network: Digest,
        envelope: &Envelope,
    ) -> Result<(Self, Name), ObjectError> {
        let (invitation, by) = Self::verify(&policy.board, network, envelope)?;
        invitation.keeps_the_rules(policy, &by)?;
        Ok((invitation, by))
    }

    /// Whether a policy lets `by` make this invitation.
    ///
    /// # Errors
    /// `bad_body` with the rule.
    pub fn keeps_the_rules(&self, policy: &Policy, by: &Name) -> Result<(), ObjectError> {
        let Some(rules) = &policy.admission else { return Ok(()) };
        let refused = |why| Err(ObjectError::Refused { kind: Self::KIND, why });
        if rules.inviters.as_ref().is_some_and(|may| !may.contains(by)) {
            return refused(format!("{by} is none of the policy's inviters"));
        }
        if let Some(most) = rules.uses_max.filter(|most| self.uses > *most) {
            return refused(format!("{} uses, the policy allows {most}", self.uses));
        }
        let life = self.expires.0.saturating_sub(self.issued.0);
        if let Some(most) = rules.lifetime_s.filter(|most| life > *most) {
            return refused(format!("good for {life} s, the policy allows {most}"));
        }
        Ok(())
    }

    /// Whether a node that was never seen before may join with it now.
    ///
    /// # Errors
    /// `expired`.
    pub fn open(&self, now: UnixSeconds) -> Result<(), ObjectError> {
        in_date(Self::KIND, self.issued, self.expires, now)
    }

    /// Which of the nodes that joined with it stay, if there are more than `uses`: those whose
    /// keys come first by hash with the token, which every node works out alike.
    #[must_use]
    pub fn admits(&self, nodes: &BTreeSet<PublicKey>) -> BTreeSet<PublicKey> {
        let token = self.token.to_bytes();
        let rank = |node: &PublicKey| Digest::of_parts(&[&token, &node.to_bytes()]);
        let mut ranked: Vec<_> = nodes.iter().map(|node| (rank(node), *node)).collect();
        ranked.sort_unstable();
        let uses = usize::try_from(self.uses).unwrap_or(usize::MAX);
        ranked.into_iter().take(uses).map(|(_, node)| node).collect()
    }
}
