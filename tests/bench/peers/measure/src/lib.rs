//! The measurement that every peer of the tree's benchmark goes through, so that their rows can stand beside ours.
//!
//! ```text
//! start n nodes ─▶ warm up ─▶ idle 20 s ─▶ single messages ─▶ saturated ─▶ memory ─▶ one JSON line
//! ```
//!
//! All nodes are in one place: this process, or daemons on this machine; messages are 1 KiB and go from node 0 to the
//! other n - 1. A message's latency is the time from its publishing until the *last* node has it.
//!
//! Bytes are those of the interface `lo` and of all who use it: run it in a network namespace of its own
//! (`unshare -n`, as the benchmark does), or they are not those of the nodes alone.

mod board;
mod course;
mod machine;
mod row;

pub use board::Board;
pub use course::{Course, run};
pub use machine::pss_bytes;
pub use row::Row;
