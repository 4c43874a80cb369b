//! A tree of servers with bounded fan-out that heals itself and carries broadcasts.
//!
//! The core, [`Node`], is a state machine without IO: the shell tells it what happened
//! ([`Input`]) and does, in order, what it returns ([`Output`]). It knows no sockets, no clock and
//! no randomness of its own; the simulator ([`sim`]) runs hundreds of them under a virtual clock.
//!
//! Start reading at [`node`], whose first screen draws the states and names what always holds.

mod ask;
mod beat;
mod blame;
pub mod bounds;
mod catchup;
mod climb;
pub mod config;
pub mod contact;
mod cross;
mod dice;
pub mod direct;
pub mod evidence;
mod facts;
mod fetch;
mod flood;
mod host;
mod id_set;
pub mod io;
mod link;
mod memory;
mod merge;
pub mod message;
pub mod node;
mod place;
mod probe;
pub mod question;
mod seek;
pub mod sim;
mod sorted;
#[cfg(test)]
mod stage;
pub mod state;
mod store;

pub use config::Config;
pub use contact::{Address, Contact, Contacts, Spot};
pub use evidence::Evidence;
pub use io::{Input, Output, Timer, Verdict};
pub use message::{Body, Down, Head, Join, Message, Summary, Up};
pub use node::Node;
pub use state::State;
