//! Two-touch votes, for boards with too many signing sets for one: ROAST over FROST.
//!
//! ```text
//! ballot {nonces} ──┐                                       touch one: the decision
//! ballot {nonces} ──┼─▶ t of them, free ─▶ session ──┐      one of them, who sees it possible
//! ballot {nonces} ──┘                                ▼
//!        free again ◀── share {next nonces} ◀── each member's tool, once for each nonce
//!                             │                             touch two: no decision
//!                             └─▶ t good shares ─▶ signature
//! ```
//!
//! After Ruffing et al., "ROAST: Robust Asynchronous Schnorr Threshold Signatures" (2022), algorithm
//! 3, with every member's tool as the coordinator, since all of them see the same objects:
//!  1. a session is *dead* once a member's share in it is bad, or a member used the nonce that it
//!     names in another one, as happens where two tools opened one at the same time;
//!  2. of those alive some *stand*: taken in order, most shares first, each whose debtors owe nothing
//!     to one taken before. So nobody owes two at once, and each answers the one that stands;
//!  3. a member is *free* who approves, is no culprit and owes to no session that stands;
//!  4. whoever is one of the t free members that come first opens a session with them.
//!
//! One coordinator is ROAST's ground for this; where anybody may be one, rule 2 and [`SESSIONS_MAX`]
//! stand in for the nonces that ROAST has for each. Honest members answer only what stands, so a
//! session that one of them answered yields its debtors to no other that nobody answered. Who is silent
//! in it is thereby kept out of all later ones, whoever opens them and how many: each that neither ends
//! nor dies costs the liars one, and n−t of them can delay but not prevent a signature. A liar gets out
//! by using the nonce elsewhere, which kills the session, or draws honest members off a young one by one
//! with more liars' shares. Each time takes a further session by a liar, who has to be in it, and after
//! [`SESSIONS_MAX`] none of theirs stands for anybody. Liars who do it in sessions that honest members
//! opened kept others waiting, and come last in the next ones.
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

/// Most sessions of one statement that one governor's tool may open before none of them stands any more:
/// an honest one needs no more than n−t+1, at most 11, and as many again where others open some at the
/// same time. Everybody counts the same, from the openers' signatures.
pub const SESSIONS_MAX: usize = 32;

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
