//! The keeper: the process that holds root, has no network, and obeys signed statements only.
//!
//! ```text
//!            keeper.sock                    ┌──────────── keeper, root ─────────────┐
//! borgiosd ─────────────▶ socket ─ protocol │ chain_store ─▶ newest verified release│
//!                                           └───────────────────────────────────────┘
//! ```
//!
//! | file | holds |
//! |---|---|
//! | [`protocol`] | the fixed verbs and their answers |
//! | [`socket`] | the one door, which asks the kernel who knocks |
//! | [`chain_store`] | the keeper's own verified copy of the chain |
//! | [`account`] | the agent's unprivileged user |
//! | [`doors`] | the files through which the board's certificates open the server |
//! | [`first_install`] | what a fresh server checks and writes before its first release |
//! | [`install`] | the command that makes a fresh server a member |
//! | [`service`] | the daemon: verbs in, statements kept |
//! | `again` | what is tried until it succeeds, such as making the socket |
//! | `errands` | the installer's thread and what it is asked for |
//! | [`installer`] | stage, switch, probation, commit or back, as the journal says |
//! | [`staging`] | from an untrusted blob to a folder of the store |
//! | [`ledger`] | the journal's file, and the releases that failed here |
//! | [`room`] | what is left on a disk, without root's reserve |
//! | [`host`] | everything that is done to the host, with a fake beside it |
//! | [`rotation`] | the thread that keeps root's field at the current epoch |
//! | [`command`] | running another program with an end in sight |
//! | [`handed_over`] | the receipt for this server's root: whether, and for which node |
//! | [`grants`], [`doors`], `doorkeeper` | root access: what the board granted, sshd's files, who keeps them true |
//! | [`leaving`], [`outside`] | out of the network at the owner's word; what is done beyond the sandbox |
//! | [`refused`] | how a refusal stands in the system's journal |
//! | [`selftest`] | a new keeper shows that it runs here |
//! | [`takeover`] | root changes hands |
//! | [`notify`] | word to systemd: ready, alive |
//! | [`planting`] | files into a folder that borgiosd owns, following none of its links |
//! | [`paths`] | where everything lies |

pub mod account;
mod again;
pub mod chain_store;
pub mod command;
mod doorkeeper;
pub mod doors;
mod due;
mod errands;
pub mod first_install;
pub mod grants;
pub mod handed_over;
pub mod host;
pub mod install;
pub mod installer;
pub mod leaving;
pub mod ledger;
pub mod notify;
pub mod outside;
pub mod paths;
pub mod planting;
pub mod protocol;
pub mod refused;
pub mod room;
pub mod rotation;
pub mod selftest;
pub mod service;
pub mod socket;
pub mod staging;
pub mod takeover;
