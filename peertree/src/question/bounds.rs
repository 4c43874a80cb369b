//! Every bound and pace of questions, with its reason.

use std::time::Duration;

/// Labels of one histogram; what has no room is counted under "other".
pub const LABELS_MAX: usize = 32;
/// Longest label or reason, in bytes: one cell of a table.
pub const LABEL_MAX: usize = 64;
/// Nodes named as exceptions: what a person reads; the number tells of the others.
pub const EXCEPTIONS_MAX: usize = 32;
/// Nodes named as silent.
pub const SILENT_MAX: usize = 32;
/// Measures in one answer, such as load and memory.
pub const MEASURES_MAX: usize = 4;
/// Longest name of a measure, in bytes.
pub const MEASURE_MAX: usize = 24;
/// Nodes whose answers are listed one by one, so that the asker can tell who is missing: 16 bytes
/// of JSON each. In a larger fleet only their number is known.
pub const ROLL_MAX: usize = 8_192;
/// Most nodes anybody may claim to have counted; sums stop there.
pub const NODES_MAX: u64 = u32::MAX as u64;
/// Places in one answer: about 250 bytes each must fit a frame.
pub const PLACES_MAX: usize = 2_000;
/// Bytes of JSON of the places of one answer: with a full roll and all names it stays below 1 MiB,
/// the longest line between neighbours.
pub const PLACES_BYTES: usize = 768 * 1024;
/// Claims to be the node that is looked for that are passed on: two show a liar, more show no more.
pub const CLAIMS_MAX: usize = 2;
/// Longest version or release in words, in bytes.
pub const VERSION_MAX: usize = 64;

/// Longest deadline anyone may ask for: a door's own patience is 30 s.
pub const WITHIN_MAX: Duration = Duration::from_secs(25);
/// What each level keeps of its deadline for its own work and the way back: a tenth, and this.
pub const HOP: Duration = Duration::from_millis(50);
/// Questions of one neighbour that are open at a time; one more is answered with nothing at once.
pub const ASKS_MAX: usize = 4;
/// Questions of all neighbours that are open at a time: each may hold an answer of a mebibyte.
pub const OPEN_MAX: usize = 64;
/// Questions of this node's own tools that are open at a time, however many the neighbours have.
pub const TOOLS_MAX: usize = 16;
/// Questions of one neighbour in a row, before [`ASK_PACE`] holds.
pub const ASK_BURST: u32 = 64;
/// Pace of questions of one neighbour after that: each of them costs every node behind this one a
/// message, so whoever floods is slowed down where it stands.
pub const ASK_PACE: Duration = Duration::from_millis(125);
/// Nonces of questions remembered, so that none goes in circles.
pub const SEEN_MAX: usize = 1_024;
/// Nodes an answer may speak of beyond twice those with a join record: records travel as well, and
/// a newcomer has few.
pub const MEMBERS_SLACK: u64 = 64;
