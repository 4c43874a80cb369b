//! Every bound on what comes from outside, with its reason.

/// Longest payload of a signed object that the fleet relays, in bytes.
///
/// A release of 200 components is about 30 KiB; twice that leaves room and still lets a node
/// hold thousands.
pub const PAYLOAD_MAX: usize = 64 * 1024;

/// Longest payload of a nonce pool, in bytes: 8-of-15 boards need 220 KB for one slot.
///
/// Pools travel among governors and the few nodes that relay for them only.
pub const POOL_PAYLOAD_MAX: usize = 256 * 1024;

/// Longest envelope on the wire, in bytes: a pool, JSON-escaped, and its signature.
pub const ENVELOPE_MAX: usize = 2 * POOL_PAYLOAD_MAX;

/// Most signatures one envelope may carry: a policy at a change of board has two, a join record
/// two (node and invitation); four leaves room without letting a forger buy many verifications.
pub const SIGNATURES_MAX: usize = 4;

/// Deepest nesting of a payload.
pub const JSON_DEPTH_MAX: usize = 16;

/// Largest integer a payload may hold, 2^53: the largest every JSON reader keeps exactly
/// (RFC 8259 §6).
pub const JSON_INTEGER_MAX: u64 = 1 << 53;

/// Most governors of a board (DKG and one-touch votes were measured up to this size).
pub const GOVERNORS_MAX: usize = 21;

/// Longest name of a governor, network or component, in bytes.
pub const NAME_MAX: usize = 63;

/// Largest release component, in bytes: a disk must not fill because one number was wrong.
pub const COMPONENT_MAX: u64 = 512 * 1024 * 1024;
