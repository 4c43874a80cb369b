//! A handback: what a node knows of a governor's ballots, said to that governor on a challenge.
//!
//! ```text
//! {network, node, governor, challenge, counter, ballots: [ids], at}
//! ```
//!
//! Two copies of one governor's folder would each vote in good faith, and two votes with one nonce
//! give the key share away. So before a vote the tool asks nodes what they saw of its own name: a
//! ballot or share that it did not make, or a counter beyond its own, is a clone's. The challenge keeps an old
//! answer from being given again; the node's signature says who withheld a ballot.

use borgios_types::{Digest, Envelope, NodeId, UnixSeconds};
use serde::{Deserialize, Serialize};

use crate::name::Name;
use crate::object::{Object, ObjectError, for_network, signed_by};

/// Most ballots and shares named in one answer, the highest counters and places first: those of all open
/// places fit.
pub const BALLOTS_MAX: usize = 128;

/// What a node knows of one governor's ballots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handback {
    /// The fleet.
    pub network: Digest,
    /// Who answers.
    pub node: NodeId,
    /// Whose ballots.
    pub governor: Name,
    /// What the asker drew for this one answer.
    pub challenge: Digest,
    /// The highest counter of a ballot of that governor; 0 if there is none.
    pub counter: u64,
    /// Ids of the ballots with the highest counters, and of shares given in sessions, sorted.
    pub ballots: Vec<Digest>,
    /// By the node's clock.
    pub at: UnixSeconds,
}

impl Object for Handback {
    const KIND: &'static str = "handback";
    const FIELDS: &'static [&'static str] =
        &["network", "node", "governor", "challenge", "counter", "ballots", "at"];

    fn check(&self) -> Result<(), ObjectError> {
        let found = self.ballots.len();
        if found > BALLOTS_MAX {
            let why = format!("{found} ballots, at most {BALLOTS_MAX}");
            return Err(ObjectError::Refused { kind: Self::KIND, why });
        }
        Ok(())
    }
}

impl Handback {
    /// Reads the answer of `node` to the question of `governor` with this `challenge`.
    ///
    /// # Errors
    /// As [`Object::parse`], `wrong_network`, `bad_signature`, and an answer to something else.
    pub fn verify(
        network: Digest,
        node: &NodeId,
        governor: &Name,
        challenge: Digest,
        envelope: &Envelope,
    ) -> Result<Self, ObjectError> {
        let (handback, kind) = (Self::parse(envelope)?, Self::KIND);
        for_network(kind, handback.network, network)?;
        signed_by(node, kind, envelope)?;
        let asked = (&handback.node, &handback.governor, handback.challenge);
        if asked != (node, governor, challenge) {
            let why = "it answers another question".to_owned();
            return Err(ObjectError::Refused { kind, why });
        }
        Ok(handback)
    }
}

#[cfg(test)]
mod tests {
    use borgios_types::SecretKey;

    use super::*;

    #[test]
    fn only_the_asked_node_s_answer_to_this_challenge_counts() {
        let (network, challenge) = (Digest::of(b"net"), Digest::of(b"drawn now"));
        let key = SecretKey::from_seed([7; 32]);
        let governor: Name = "ann".parse().unwrap();
        let handback = Handback {
            network,
            node: key.public(),
            governor: governor.clone(),
            challenge,
            counter: 3,
            ballots: vec![Digest::of(b"a")],
            at: UnixSeconds(1),
        };
        let envelope = handback.to_envelope().sign(&key);
        let verify = |challenge, envelope: &Envelope| {
            Handback::verify(network, &key.public(), &governor, challenge, envelope)
        };
        assert_eq!(verify(challenge, &envelope).unwrap(), handback);
        assert_eq!(verify(Digest::of(b"before"), &envelope).unwrap_err().code(), "bad_body");
        let forged = handback.to_envelope().sign(&SecretKey::from_seed([8; 32]));
        assert_eq!(verify(challenge, &forged).unwrap_err().code(), "bad_signature");
        let elsewhere =
            Handback::verify(Digest::of(b"x"), &key.public(), &governor, challenge, &envelope);
        assert_eq!(elsewhere.unwrap_err().code(), "wrong_network");
        let many = Handback { ballots: vec![challenge; BALLOTS_MAX + 1], ..handback };
        let many = many.to_envelope().sign(&key);
        assert_eq!(verify(challenge, &many).unwrap_err().code(), "bad_body");
    }
}
