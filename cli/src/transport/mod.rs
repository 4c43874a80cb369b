//! Ways to other people's objects: an exchange folder, or a node.
//!
//! ```text
//!             ┌── folder.rs   DIR/objects/<hex>.json, any shared folder
//! Transport ──┤
//!             └── node.rs     the `borgios` SSH subsystem, JSON lines      ┐ the same requests,
//!                 socket.rs   POST /v1 on /run/borgios/api.sock, no objects ┘ api.rs
//! ```
//!
//! Nothing that comes through one is trusted: [`crate::archive`] verifies every object.

pub(crate) mod api;
pub(crate) mod folder;
pub(crate) mod node;
pub(crate) mod socket;

use borgios_types::Envelope;

use crate::failure::Failure;

/// The kinds that governors' tools fetch, keep and pass on.
pub(crate) const KINDS: [&str; 6] = ["policy", "release", "proposal", "pool", "ballot", "note"];

/// What one place holds.
#[derive(Debug, Default)]
pub(crate) struct Fetched {
    /// Well-formed envelopes; no signature was checked.
    pub(crate) envelopes: Vec<Envelope>,
    /// What was left out, one line each.
    pub(crate) skipped: Vec<String>,
}

/// One place where objects are exchanged.
pub(crate) trait Transport {
    /// How to call it in a message: the folder, or the node's address.
    fn name(&self) -> String;

    /// Everything it has of [`KINDS`].
    fn fetch(&mut self) -> Result<Fetched, Failure>;

    /// Leaves one object there. Returns only once the place has stored it.
    fn put(&mut self, envelope: &Envelope) -> Result<(), Failure>;
}
