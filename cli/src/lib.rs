//! borgios: the governors' and operators' command line.
//!
//! ```text
//! args ──▶ Context ──▶ commands/<one file each> ──▶ Printer: data to stdout, talk to stderr
//!                          │
//!        home, identity, vault, slots   the governor's folder and its secrets
//!        archive, exchange, transport   objects: verified, kept, fetched and sent
//! ```
//!
//! Exit codes: 0 done, 1 refused, 2 usage. This program builds no code that handles root.
//!
//! A library with one door, [`run`], so that the fuzzer reaches the readers too (feature `fuzz`).

mod adopt;
mod archive;
mod args;
mod asker;
mod beacons;
mod blobs;
mod carrier;
mod ceremony;
mod changes;
mod clones;
mod code;
mod commands;
mod context;
mod deadlines;
mod desk;
mod durable;
mod ending;
mod escrowed;
mod exchange;
mod failure;
#[cfg(feature = "fuzz")]
pub mod fuzz;
mod hearing;
mod home;
mod identity;
mod known;
mod next_key;
mod notices;
mod objections;
mod passphrase;
mod printer;
mod receipts;
mod recovery;
mod reviewed;
mod revived;
mod rivalry;
mod rulings;
mod schedules;
mod servers;
mod session;
mod shelf;
mod signed;
mod slots;
mod span;
mod subject;
mod succession;
mod touch_two;
mod transport;
mod unity;
mod upholding;
mod vault;
mod wording;

use std::process::ExitCode;

use clap::Parser as _;
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

use crate::args::Args;

/// Does what the command line says.
#[must_use]
pub fn run() -> ExitCode {
    let args = Args::parse();
    let printer = args.global.printer();
    keep_memory_private();
    let done = args.global.context().and_then(|context| args.command.run(&context));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            printer.failure(&failure);
            failure.exit_code()
        }
    }
}

/// Shares, nonces and passphrases pass through this memory: no core file gets it, and no other process of
/// the same user may look into it. What it starts, as `ssh`, may be looked at as ever.
fn keep_memory_private() {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    // A kernel that refuses leaves things as they are for every other program too.
    let _ = setrlimit(Resource::Core, none);
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}
