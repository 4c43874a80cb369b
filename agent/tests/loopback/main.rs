//! Several whole agents on loopback in one process, each with its own folder and a stand-in for its
//! keeper: the wiring of borgiosd, for real, over real SSH.

#![allow(clippy::unwrap_used, reason = "all of it is test code; the lint sees only #[test] itself")]

mod board;
mod credentials;
mod cuts;
mod departures;
mod evictions;
mod fleet;
mod follow;
mod handbacks;
mod hostile;
mod keeper;
mod lapses;
mod lines;
mod locks;
mod overload;
mod pressure;
mod questions;
mod recovery;
mod releases;
mod rulings;
mod stock_ssh;
mod streams;
mod tree;
mod witnesses;
