//! A fleet in memory: many [`Node`](crate::Node)s, a network that delays, loses and splits, and a
//! virtual clock.
//!
//! | file | holds |
//! |---|---|
//! | [`script`], [`play`] | scenario files: their language, and how they are played |
//! | [`latency`], [`vice`] | how long messages take; what hostile machines do |
//! | [`draw`] | the tree and the coverage of a broadcast as SVG |
//! | [`fleet`] | events, the clock, and what a scenario can do to the fleet |
//! | `shell` | does what a core asks for |
//! | [`wire`] | links: delays, order, half-open ends, partitions |
//! | [`machine`] | one server: the core, its timers, and a disk that survives `kill -9` |
//! | `across` | cross links chosen for all, and a machine that withholds |
//! | [`check`] | the invariants |
//! | [`million`], `plan`, `giant`, `desk`, `wheel` | a million nodes: the story, what is asked and measured, the compact fleet, one machine's links, the queue of events |
//! | [`trace`] | a digest of all that happened, so that a replay can be told from a likeness |
//!
//! Everything derives from one seed: the same scenario with the same seed is the same run, event
//! by event.

mod across;
pub mod check;
mod desk;
pub mod draw;
pub mod fleet;
mod giant;
pub mod latency;
pub mod machine;
pub mod million;
mod plan;
pub mod play;
pub mod script;
mod shell;
pub mod trace;
pub mod vice;
mod wheel;
pub mod wire;

pub use across::Withhold;
pub use fleet::{Fleet, Violation};
pub use play::Outcome;
pub use script::{Script, ScriptError};
