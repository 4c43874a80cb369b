//! Hostile bytes against every parser that sees the network or a file.
//!
//! ```text
//! vectors, corpus/ ──▶ seeds ──▶ mutate ──▶ Target::run ──▶ outcome ── new ──▶ kept as a seed
//!                                               │
//!                                               └── a panic, or too slow ──▶ a finding, on disk
//! ```
//!
//! A target takes bytes and says in a word what became of them; it must neither panic nor take long,
//! whatever they are. Objects of governors are signed anew after they were changed, so that the
//! rules behind the signature are reached, too. An input whose outcome was never seen before is kept
//! and changed further: that stands in for coverage. Each target is a plain function of bytes, so that
//! libFuzzer drives it just as well, and sees what it reaches (`guided/`).

pub mod agents;
pub mod ceremony;
pub mod course;
pub mod governance;
pub mod mutate;
pub mod papers;
pub mod recorded;
pub mod seeds;
pub mod servers;
pub mod sessions;
pub mod streams;
pub mod targets;
pub mod tools;
pub mod trees;
pub mod values;
pub mod words;

pub use targets::{TARGETS, Target};
