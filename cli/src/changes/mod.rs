//! What a statement changes against what runs now, line by line and in words.
//!
//! ```text
//! policy.rs    rule by rule, board by governor
//! board.rs     a change of the board in words
//! release.rs   version, components by digest, floor, urls
//! contents.rs  what is in two components' bytes: files, units, health, powers
//! installer.rs what fresh servers run first, against the keeper's program
//! ```
//!
//! Each line begins with a word of its kind (`changed`, `added`, `removed`, `powers`, …). Whatever
//! is not known is said to be so; no line is left out because a file is missing.

pub(crate) mod board;
pub(crate) mod contents;
pub(crate) mod installer;
pub(crate) mod policy;
pub(crate) mod release;
