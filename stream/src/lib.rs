//! Streams: broadcast of byte messages that loses nothing, as a core without IO, and its log.
//!
//! ```text
//!        Frame, Publish, Verified, Signed, Stored, Tick
//!  shell ───────────────────────────────────────────────▶ Core
//!        ◀───────────────────────────────────────────────
//!        Send, Verify, Sign, Log, Deliver, Cut, Admit
//! ```
//!
//! | module | holds |
//! |---|---|
//! | [`batch`] | the format: [`Batch`], zero-copy; [`builder`]: an origin's draft of one |
//! | [`signature`] | the SSH signature of a batch: its raw blob, its armoured form |
//! | [`proof`] | one message that proves itself offline |
//! | [`evidence`] | two batches that prove that an origin equivocated |
//! | [`frame`] | what travels between neighbours |
//! | [`core`] | [`Core`]: all origins of one node, as a state machine; [`io`]: what goes in and out |
//! | [`jobs`] | what the core leaves to workers: verify, sign |
//! | [`log`] | bounded logs of batches, on disk and in memory |
//! | [`bounds`] | every bound with its reason |
//!
//! The format as a second implementation needs it is `docs/protocol/stream.md`; the reasons are
//! in `docs/design/0005-peertree.md`.

mod admitting;
mod ahead;
mod answering;
mod arriving;
pub mod batch;
pub mod bounds;
pub mod builder;
mod comparing;
mod contesting;
pub mod core;
mod delivering;
pub mod evidence;
mod fetching;
pub mod frame;
pub mod io;
pub mod jobs;
mod judging;
mod lack;
pub mod log;
mod neighbour;
pub mod position;
pub mod proof;
mod publishing;
mod reopening;
pub mod signature;
#[cfg(test)]
mod stage;
mod storing;
mod stream;

pub use batch::{Batch, BatchError, Durability, Kind, Message};
pub use core::{Config, Core, Load, Relay};
pub use evidence::Evidence;
pub use frame::Frame;
pub use io::{Admission, Input, LinkId, Misdeed, Now, Output, Role, Ticket};
pub use jobs::{Forgery, SignJob, Signed, Verdict, VerifyJob};
pub use log::{DiskLog, Limits, Log, LogAnswer, LogError, LogJob, MemoryLog, Recovered};
pub use position::{BatchId, Head, Origin, Position};
