//! The real keeper as a process, below a folder instead of `/`: real socket, real disk, real
//! programs as components; only systemctl and systemd-run are stand-ins on its `PATH`.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "all of it is test code; the lints see only #[test] itself"
)]

mod bench;
#[path = "../loopback/board.rs"]
#[allow(dead_code, reason = "the loopback tests use more of it")]
mod board;
mod departures;
mod first_install;
mod installs;
mod strangers;
