//! Two-touch votes, for boards with too many signing sets for one: ROAST over FROST.
//!
//! ```text
//! ballot {nonces} ──┐                                       touch one: the decision
//! ballot {nonces} ──┼─▶ t of them, free ─▶ session ──┐      any tool that sees it possible
//! ballot {nonces} ──┘                                ▼
//!        free again ◀── share {next nonces} ◀── each member's tool, once for each nonce
//!                             │                             touch two: no decision
//!                             └─▶ t good shares ─▶ signature
//! ```
//!
//! After Ruffing et al., "ROAST: Robust Asynchronous Schnorr Threshold Signatures" (2022), algorithm
//! 3, with every tool as the coordinator, since all of them see the same objects:
//!  1. a member is *free* who approves, is no culprit and owes no share to a session that is alive;
//!  2. whoever sees t free members may open a session with them;
//!  3. a session is *dead* once a member's share in it is bad, or a member used the nonce that it
//!     names in another one, as happens where two tools opened one at the same time;
//!  4. so each session that neither ends nor dies keeps one silent member out of all later ones, and
//!     n−t of them can delay but not prevent a signature.
//!
//! What always holds: a nonce is bound, on the disk, to the first session that uses it, before
//! anything is computed ([`Bound`]); whoever is named as a culprit signed the proof; everything here
//! is a function of the *set* of objects.

mod answer;
mod objects;
mod table;

pub use answer::{Bound, SessionError};
pub use objects::{Member, Session, SessionShare};
pub use table::Table;

use frost_ed25519 as frost;
use frost_ed25519::round1::{NonceCommitment, SigningCommitments};

use crate::wire::Bytes;

/// Most sessions of one slot that one governor's tool may open before others no longer answer it: an
/// honest one needs no more than n−t+1, and as many again where others open some at the same time.
pub const SESSIONS_MAX: usize = 64;

/// Reads 64 bytes: hiding, then binding.
pub(crate) fn commitment(bytes: &Bytes) -> Result<SigningCommitments, String> {
    let found = bytes.0.len();
    let (hiding, binding) = bytes
        .0
        .split_at_checked(32)
        .filter(|(_, binding)| binding.len() == 32)
        .ok_or_else(|| format!("{found} bytes of nonces, expected 64"))?;
    let point = |bytes: &[u8]| {
        NonceCommitment::deserialize(bytes).map_err(|_| "nonces that are no points".to_owned())
    };
    Ok(SigningCommitments::new(point(hiding)?, point(binding)?))
}

/// Writes what [`commitment`] reads.
pub(crate) fn publish(nonces: &frost::round1::SigningNonces) -> Bytes {
    let pair = SigningCommitments::from(nonces);
    let halves = [pair.hiding(), pair.binding()]
        .map(|half| half.serialize().expect("a nonce commitment is never the identity"));
    Bytes(halves.concat())
}
