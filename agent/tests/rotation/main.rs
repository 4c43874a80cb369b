//! Real rotations below a folder: the real keeper, the system's own chpasswd, real files. Killed
//! and failed at every call, kept from its work in every way a server knows, and as a daemon.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "all of it is test code; the lints see only #[test] itself"
)]

#[path = "../keeper/bench.rs"]
#[allow(dead_code, reason = "the keeper's own tests use more of it")]
mod bench;
#[path = "../loopback/board.rs"]
#[allow(dead_code, reason = "the loopback tests use more of it")]
mod board;
mod daemon;
mod interrupted;
mod obstacles;
mod server;
