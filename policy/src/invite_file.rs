//! The invitation file: what a server owner is given, and what a fresh server checks in it.

use borgios_types::json::{self, JsonError};
use borgios_types::{Digest, Envelope, PublicKey, SecretKey, Seq, UnixSeconds, key::KeyError};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::chain::Chain;
use crate::invitation::Invitation;
use crate::lane::Lane;
use crate::name::Name;
use crate::object::ObjectError;
use crate::recovery::policies_to;
use crate::refusal::Refusal;
use crate::submission::Submission;
use crate::wire::SecretText;

/// Longest invitation file, in bytes: years of statements.
pub const FILE_MAX: usize = 8 * 1024 * 1024;

/// What a server owner is given. Whoever holds it can join servers: it is a secret.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct InvitationFile {
    /// The signed part.
    pub invitation: Envelope,
    /// The token's secret half, an OpenSSH private key.
    pub token: SecretText,
    /// The fleet.
    pub network: Digest,
    /// The fleet's name, for people.
    pub name: Name,
    /// Nodes to dial; empty for the first server of a fleet.
    pub members: Vec<Member>,
    /// The group key as a line of `allowed_signers`, for stock `ssh-keygen -Y verify`.
    pub allowed_signers: String,
    /// Statements from policy/1 on, and the ballots that some of them need.
    pub chain: Vec<Envelope>,
    /// A policy that a newcomer must have seen before it follows the chain.
    pub policy: PolicyPin,
    /// Where the bundle can be downloaded, for `bootstrap.sh`; what comes from there is verified.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
}

/// A node that can be dialled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// `host:port`.
    pub address: String,
    /// The node's key.
    pub key: PublicKey,
}

/// One policy of the chain, by number and id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyPin {
    /// Its number.
    pub seq: Seq,
    /// Its id.
    pub id: Digest,
}

/// Why an invitation file is refused.
#[derive(Debug, Error)]
pub enum InviteError {
    /// Too long, or not strict JSON of that shape.
    #[error("not an invitation file")]
    Json(#[source] JsonError),
    /// The chain in it does not lead from its network to a policy.
    #[error("its chain holds no policy of network {network}{}", why(.first))]
    Chain {
        /// The network the file names.
        network: Digest,
        /// The first statement refused.
        first: Option<Box<Refusal>>,
    },
    /// The chain does not hold the policy that it is pinned to.
    #[error("its chain does not hold policy/{} with id {}", .0.seq, .0.id)]
    Pin(PolicyPin),
    /// The signed part is no good, or closed.
    #[error("its invitation is refused")]
    Invitation(#[source] ObjectError),
    /// The secret half is unreadable.
    #[error("its token is unreadable")]
    Token(#[source] KeyError),
    /// The secret half is of another invitation.
    #[error("its token is {}, the invitation names {}", found.short(), expected.short())]
    OtherToken {
        /// The public key of the token in the file.
        found: PublicKey,
        /// The one that was signed.
        expected: PublicKey,
    },
    /// The line for `ssh-keygen` names another key than the board's.
    #[error("its allowed_signers line does not hold the group key {}", .0.short())]
    AllowedSigners(PublicKey),
}

fn why(first: &Option<Box<Refusal>>) -> String {
    first.as_ref().map(|refusal| format!(": {refusal}")).unwrap_or_default()
}

impl InvitationFile {
    /// Reads a file; nothing of it is believed before [`InvitationFile::verify`].
    ///
    /// # Errors
    /// [`InviteError::Json`].
    pub fn parse(text: &str) -> Result<Self, InviteError> {
        json::parse_strict(text, FILE_MAX).map_err(InviteError::Json)
    }

    /// Checks all of it and returns the chain it leads to, and the invitation.
    ///
    /// What makes the file trustworthy is the way it came: it names its own network.
    ///
    /// # Errors
    /// See [`InviteError`].
    pub fn verify(&self, now: UnixSeconds) -> Result<(Chain, Invitation), InviteError> {
        let mut chain = Chain::new(Some(self.network));
        // So does it name the policy in force: whether a recovery key's policy on the way counted, a
        // newcomer cannot know of itself.
        policies_to(&self.chain, self.policy.id).into_iter().for_each(|id| chain.ripen(id));
        let run = chain.verify_run(now, &Submission::sort(self.chain.iter().cloned()));
        run.accepted.into_iter().for_each(|verified| chain.apply(verified));
        let Some(policy) = chain.policy() else {
            let first = run.refused.into_iter().next().map(|(_, refusal)| Box::new(refusal));
            return Err(InviteError::Chain { network: self.network, first });
        };
        let pinned = chain.get(Lane::Policy, self.policy.seq).map(|verified| verified.id());
        if pinned != Some(self.policy.id) {
            return Err(InviteError::Pin(self.policy));
        }
        let (invitation, _) = Invitation::verify(&policy.board, self.network, &self.invitation)
            .map_err(InviteError::Invitation)?;
        invitation.open(now).map_err(InviteError::Invitation)?;
        let (found, expected) =
            (self.token_key().map_err(InviteError::Token)?.public(), invitation.token);
        if found != expected {
            return Err(InviteError::OtherToken { found, expected });
        }
        let group = policy.board.group();
        if !self.allowed_signers.contains(&group.to_string()) {
            return Err(InviteError::AllowedSigners(group));
        }
        Ok((chain, invitation))
    }

    /// The token's secret half.
    ///
    /// # Errors
    /// A text that is no unencrypted OpenSSH private key.
    pub fn token_key(&self) -> Result<SecretKey, KeyError> {
        SecretKey::from_openssh(self.token.expose())
    }
}
