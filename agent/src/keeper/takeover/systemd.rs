//! The real server's programs, signals and clocks.

use std::io;
use std::process::Command;
use std::time::Duration;

use borgios_types::UnixSeconds;
use rustix::process::{Pid, Signal};
use rustix::time::{ClockId, clock_gettime};

use super::machine::Tools;
use crate::clock::unix_now;
use crate::keeper::command::{self, CommandError};
use crate::keeper::paths::Paths;
use crate::keeper::rotation::once::{self, OnceError};

/// Where this boot's id stands.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// What the real server does.
#[derive(Debug, Default)]
pub(super) struct Real;

impl Tools for Real {
    fn about_to(&self, _what: &str) -> io::Result<()> {
        Ok(())
    }

    fn run(&self, words: &[&str], max: Duration) -> Result<String, CommandError> {
        let (program, arguments) = words.split_first().expect("a command has a program");
        let mut command = Command::new(program);
        command.args(arguments).env("LC_ALL", "C");
        command::run(command, max)
    }

    fn rotate(&self, paths: &Paths) -> Result<(), OnceError> {
        once::run(paths).map(drop)
    }

    fn kill(&self, pid: u32, hard: bool) {
        let signal = if hard { Signal::KILL } else { Signal::TERM };
        if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
            // Gone meanwhile is as good.
            let _ = rustix::process::kill_process(pid, signal);
            // An interactive shell heeds no TERM, but knows what a lost line means.
            if !hard {
                let _ = rustix::process::kill_process(pid, Signal::HUP);
            }
        }
    }

    fn unix(&self) -> UnixSeconds {
        unix_now()
    }

    fn uptime_s(&self) -> u64 {
        // The clock of systemd's OnActiveSec, whose timer asks.
        u64::try_from(clock_gettime(ClockId::Monotonic).tv_sec).unwrap_or(0)
    }

    fn boot(&self) -> String {
        std::fs::read_to_string(BOOT_ID).unwrap_or_default().trim().to_owned()
    }

    fn pause(&self, time: Duration) {
        std::thread::sleep(time);
    }

    fn own_pid(&self) -> u32 {
        std::process::id()
    }
}
