//! The take-over: everything that could let someone else in as root is found, shown, and shut.
//!
//! ```text
//! plan ──▶ begin ──▶ trial ──▶ apply ──▶ verify ──▶ receipt ──▶ end-sessions ──▶ verify
//!            │ snapshot, timer    │ purging … done
//!            └── abort, deadline, boot: all as before
//! ```
//!
//! Run by `bootstrap.sh` as root, beside the daemon and outside of its sandbox.
//!
//! | file | holds |
//! |---|---|
//! | `verbs`, `show` | the command line, and what it prints |
//! | `finding`, `catalogue` | one way in; every kind of them |
//! | `sshd`, `sshd_config`, `sshd_unit` | kind `sshd`: its file, its settings, how it is started |
//! | `generated` | what containers say of every service, and is no way in |
//! | `host_key`, `authorized_keys`, `sudo`, `group`, `account` | the kinds of these names |
//! | `file_owner` | whose the files are that decide all this |
//! | `guest_agent`, `console`, `session` | kinds `agent`, `console`, `session` |
//! | `process` | whom a process comes from, and whether it can do anything any more |
//! | `linger` | services of users that need no login |
//! | `passwd` | the account files and their lock |
//! | `snapshot`, `restore`, `sealed` | what was before: kept, brought back, given to the owner |
//! | `journal`, `open` | where it stands; whether what is done now would be taken back |
//! | `begin`, `trial`, `apply`, `verify`, `receipt`, `abort` | the verbs |
//! | `timer` | the way back, and on, that needs nobody |
//! | `finish` | what follows `apply`, done by timer and boot if nobody else did |
//! | `machine`, `meta`, `inode`, `systemd` | what is done to the server, in one reviewable place |
//!
//! What always holds:
//!  1. `plan` changes nothing.
//!  2. Every change can be undone until the journal says `purging`, and is if anything fails.
//!  3. Once the journal says `done`, timer and boot unit stay until there is a receipt.
//!  4. No finding and no journal holds a secret, or a hash of a password.

mod abort;
mod account;
mod apply;
mod authorized_keys;
mod begin;
mod catalogue;
mod console;
mod failure;
#[cfg(test)]
mod fake;
mod file_owner;
mod finding;
mod finish;
#[cfg(feature = "fuzz")]
pub mod fuzz;
mod generated;
mod group;
mod guest_agent;
mod host_key;
mod inode;
mod journal;
mod linger;
mod machine;
mod meta;
mod open;
mod passwd;
mod process;
mod reach;
mod receipt;
mod restore;
mod sealed;
mod session;
mod show;
mod snapshot;
mod sshd;
mod sshd_config;
mod sshd_unit;
mod sudo;
mod systemd;
#[cfg(test)]
mod tests;
mod timer;
mod trial;
mod verbs;
mod verify;

pub use open::{NotOpen, check_open};
pub use verbs::{Call, USAGE};
