//! Ways to other people's objects: an exchange folder, or a node.
//!
//! ```text
//!             ┌── folder.rs   DIR/objects/<hex>.json and DIR/blobs/<hex>, any shared folder
//! Transport ──┤
//!             └── node.rs     the `borgios` SSH subsystem, JSON lines      ┐ the same requests,
//!                 socket.rs   POST /v1 on /run/borgios/api.sock, no objects ┘ api.rs
//! ```
//!
//! Nothing that comes through one is trusted: [`crate::archive`] verifies every object. No node is waited
//! for without an end: see `patience.rs`.

pub(crate) mod api;
mod download;
mod fetching;
pub(crate) mod folder;
pub(crate) mod listing;
pub(crate) mod node;
mod patience;
pub(crate) mod socket;
pub(crate) mod upload;

use std::collections::BTreeSet;

use borgios_policy::{Blob, Name};
use borgios_types::{Digest, Envelope, NodeId};

use crate::failure::Failure;

/// The kinds that governors' tools fetch, keep and pass on. Where one run does not take all that a
/// place has, what decides comes first.
pub(crate) const KINDS: [&str; 17] = [
    "policy",
    "release",
    "credential",
    "member",
    "access",
    "ballot",
    "veto",
    "pause",
    "proposal",
    "burn",
    "pool",
    "session",
    "share",
    "note",
    "drill",
    "drill-answer",
    "beacon",
];

/// What servers say of themselves, with the invitations that prove it: fetched where it is asked
/// for, since there is one of each for every server.
pub(crate) const SERVER_KINDS: [&str; 6] =
    ["invitation", "join", "handover", "departure", "rotation", "witness"];

/// What one place holds.
#[derive(Debug, Default)]
pub(crate) struct Fetched {
    /// Well-formed envelopes; no signature was checked.
    pub(crate) envelopes: Vec<Envelope>,
    /// Objects that it says it has and that were not asked for, for they are held here.
    pub(crate) has: BTreeSet<Digest>,
    /// More than one run takes: the next one goes on.
    pub(crate) more: bool,
    /// It was too late to ask for the rest.
    late: bool,
    /// What was left out, one line each.
    pub(crate) skipped: Vec<String>,
    /// What they take in memory, in bytes.
    bytes: usize,
    /// The ids of those that a node sent.
    came: BTreeSet<Digest>,
}

/// Most bytes of objects taken from one place in one run: many years of votes, and no more than a
/// laptop's memory can hold. A node that has more is gone on with in the next run.
pub(crate) const FETCH_MAX: usize = 512 * 1024 * 1024;

/// What an envelope takes in memory beside its payload, in bytes, about: a place could send nothing but
/// empty ones.
const ENVELOPE_COST: usize = 256;

/// What each signature takes, in bytes, about.
const SIGNATURE_COST: usize = 128;

/// What an envelope takes in memory, in bytes, about.
fn cost(envelope: &Envelope) -> usize {
    envelope.payload.len() + SIGNATURE_COST * envelope.sigs.len() + ENVELOPE_COST
}

impl Fetched {
    /// Whether `max` bytes have room for this one.
    fn room(&self, envelope: &Envelope, max: usize) -> bool {
        self.bytes + cost(envelope) <= max
    }

    /// Takes one more envelope.
    ///
    /// # Errors
    /// Beyond `max` bytes in memory.
    pub(crate) fn take(
        &mut self,
        from: &str,
        envelope: Envelope,
        max: usize,
    ) -> Result<(), Failure> {
        if !self.room(&envelope, max) {
            return Err(Failure::new(format!("{from} offers over {max} bytes of objects"))
                .hint("somebody filled it up; use another place, or clean this one"));
        }
        self.bytes += cost(&envelope);
        self.envelopes.push(envelope);
        Ok(())
    }
}

/// Most things left out of what one place offers, before all of it is.
const SKIPPED_MAX: usize = 50_000;

impl Fetched {
    /// Leaves something out, and says why.
    ///
    /// # Errors
    /// Beyond [`SKIPPED_MAX`] of them.
    pub(crate) fn skip(&mut self, from: &str, why: String) -> Result<(), Failure> {
        if self.skipped.len() == SKIPPED_MAX {
            return Err(Failure::new(format!("{from} offers over {SKIPPED_MAX} things of no use")));
        }
        self.skipped.push(why);
        Ok(())
    }
}

/// One place where objects are exchanged.
pub(crate) trait Transport {
    /// How to call it in a message: the folder, or the node's address.
    fn name(&self) -> String;

    /// Everything it has of these kinds. What `held` knows is not sent again where the place can tell
    /// what it has without sending it.
    fn fetch(&mut self, kinds: &[&str], held: &dyn Fn(&Digest) -> bool)
    -> Result<Fetched, Failure>;

    /// Leaves one object there. Returns only once the place has stored it.
    fn put(&mut self, envelope: &Envelope) -> Result<(), Failure>;

    /// Whether what servers say must be brought here; nodes hear it from each other.
    fn wants_servers(&self) -> bool;

    /// The bytes of a blob, if it has one of that digest and size; whoever takes them checks both.
    fn blob(&mut self, blob: &Blob) -> Result<Option<Vec<u8>>, Failure>;

    /// What a node signs that it knows of a governor's ballots, and which node; none from a place that
    /// signs nothing.
    fn handback(
        &mut self,
        governor: &Name,
        challenge: Digest,
    ) -> Result<Option<(NodeId, Envelope)>, Failure>;

    /// Leaves a blob there, unless it is there already.
    fn put_blob(&mut self, digest: Digest, bytes: &[u8]) -> Result<(), Failure>;
}

#[cfg(test)]
mod tests {
    use borgios_types::Kind;

    use super::*;

    #[test]
    fn a_place_cannot_fill_the_memory() {
        let envelope = Envelope::unsigned(Kind::new("note").unwrap(), "{\"a\":1}".into());
        let mut fetched = Fetched::default();
        let max = 3 * (7 + ENVELOPE_COST);
        for _ in 0..3 {
            fetched.take("here", envelope.clone(), max).unwrap();
        }
        assert!(fetched.take("here", envelope, max).is_err());
        assert_eq!(fetched.envelopes.len(), 3);
        // Nor with what has next to no payload, signed or not.
        let empty = Envelope::unsigned(Kind::new("note").unwrap(), "1".into());
        let key = borgios_types::SecretKey::from_seed([1; 32]);
        for (envelope, most) in [(empty.clone(), 40), (empty.sign(&key).sign(&key), 20)] {
            let mut fetched = Fetched::default();
            while fetched.take("here", envelope.clone(), 10_000).is_ok() {}
            assert!(fetched.envelopes.len() <= most, "{}", fetched.envelopes.len());
        }
    }
}
