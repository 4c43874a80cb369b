//! Fleet tests on real servers: the lab from Rust, and the scenarios that run in it.
//!
//! | module | holds |
//! |---|---|
//! | [`command`] | running a program with a bound on its time, and what it said |
//! | [`wait`] | waiting for a condition with a bound, instead of sleeping |
//! | [`lab`] | [`Lab`]: the servers, and the network between them |
//! | [`server`] | [`Server`]: one of them; boots, dies, is cut off and reinstalled |
//! | [`journal`] | a server's journal, as the entries it is made of |
//! | [`programs`] | the programs under test, built once |
//! | [`governor`] | a governor's laptop: the `borgios` command line with a folder of its own |
//! | [`network`] | governors who found a network, and servers that join it |
//! | [`member`] | a server of a network: how it joins, and what it says of itself |
//! | [`handover`] | how far a hand-over of root is on a server, and ending it |
//! | [`trap`] | what happens to a join at one of its stages, laid before it begins |
//! | [`old_ways`] | the ways into root that the owner had: open, or refused |
//! | [`disk`] | a server's whole disk as a list, to be compared |
//! | [`component`] | folders that become components: the agent, the keeper, small services |
//! | [`ballot_box`] | releases and policies put to the vote, until they are signed |
//! | [`orders`] | what the board orders about root, and an owner's departure |
//! | [`login`] | stock `ssh` and `su` that try a door: open, or refused |
//! | [`schedule`] | the schedule in force, computed anew |
//! | [`sampler`] | every server's `/etc/shadow` compared with it, all the time |
//! | [`usage`] | what both processes cost a server |
//! | [`forgery`] | statements altered |
//! | [`door`] | a governor's doors at a node with stock `ssh`: ask, put, follow |
//! | [`keeper`] | the keeper's socket, as any user of the server |
//! | [`scenario`] | the list of scenarios, and how one runs |
//! | [`lane`] | scenarios side by side, each lane with a lab of its own |
//!
//! `borgios-fleet list` names the scenarios, `borgios-fleet run NAME…` runs them; `tests/run.sh
//! fleet` is the door that also builds, prepares and cleans up.

pub mod ballot_box;
pub mod command;
pub mod component;
pub mod disk;
pub mod door;
pub mod forgery;
pub mod governor;
pub mod handover;
pub mod journal;
pub mod keeper;
pub mod lab;
pub mod lane;
pub mod login;
pub mod member;
pub mod network;
pub mod old_ways;
pub mod orders;
pub mod programs;
pub mod sampler;
pub mod scenario;
pub mod scenarios;
pub mod schedule;
pub mod server;
pub mod trap;
pub mod usage;
pub mod wait;

pub use command::Output;
pub use governor::Governor;
pub use lab::Lab;
pub use network::Network;
pub use programs::Programs;
pub use server::Server;
