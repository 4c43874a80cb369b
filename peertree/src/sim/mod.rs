//! A fleet in memory: many [`Node`](crate::Node)s, a network that delays, loses and splits, and a
//! virtual clock.
//!
//! | file | holds |
//! |---|---|
//! | [`scenario`] | the stories: `spine`, `root-death`, `partition`, `churn` |
//! | [`fleet`] | events, the clock, and what a scenario can do to the fleet |
//! | `shell` | does what a core asks for |
//! | [`wire`] | links: delays, order, half-open ends, partitions |
//! | [`machine`] | one server: the core, its timers, and a disk that survives `kill -9` |
//! | `across` | cross links chosen for all, and a machine that withholds |
//! | [`check`] | the invariants |
//! | [`million`], `giant`, `wheel` | a million nodes: the story, the compact fleet, its queue of events |
//! | [`trace`] | a digest of all that happened, so that a replay can be told from a likeness |
//!
//! Everything derives from one seed: the same scenario with the same seed is the same run, event
//! by event.

mod across;
pub mod check;
pub mod fleet;
mod giant;
pub mod machine;
pub mod million;
pub mod scenario;
mod shell;
pub mod trace;
mod wheel;
pub mod wire;

pub use across::Withhold;
pub use fleet::{Fleet, Violation};
pub use scenario::{Outcome, Scenario};
