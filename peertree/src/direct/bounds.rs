//! Every bound and pace of directed messages, with its reason.

use std::time::Duration;

/// Longest body, in bytes of UTF-8. JSON writes some as six, and it fits a line even then.
pub const BODY_MAX: usize = 64 * 1024;
/// Links a message may cross: up and down again between two nodes at the deepest places there are.
pub const HOPS_MAX: u8 = 2 * crate::bounds::PATH_MAX as u8;
/// Messages of one sender, this node or a neighbour, that wait for their receipts.
pub const WAITING_MAX: usize = 32;
/// Messages of one neighbour in a row, before [`DIRECT_PACE`] holds.
pub const DIRECT_BURST: u32 = 32;
/// Pace of one neighbour's messages after that: with the longest bodies about 1 MiB a second.
pub const DIRECT_PACE: Duration = Duration::from_millis(62);
/// Longest wait for a receipt at the last node, and what each one before it waits longer, so that
/// the one that noticed is the one that tells.
pub const RECEIPT: Duration = Duration::from_secs(2);
/// See [`RECEIPT`].
pub const RECEIPT_HOP: Duration = Duration::from_millis(100);
/// Ways that are remembered: about 80 bytes each.
pub const ROUTES_MAX: usize = 4_096;
/// How long a way is remembered that nothing confirms: nodes move.
pub const ROUTE_LIFE: Duration = Duration::from_secs(600);
