//! Looks at every server's `/etc/shadow` all the time and compares it with the schedule.
//!
//! ```text
//!            right: an epoch of [clock − window, clock]
//!  server ─▶ excused (being killed or booted): any past epoch, but never a field of no epoch
//!            off: nothing to look at
//! ```
//!
//! It reads the file through `/proc` of the server's systemd, at no cost to the server and without
//! any word to what is tested; only where that is depends on the lab.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::command::{self, COMMAND_BOUND};
use crate::lab::Lab;
use crate::schedule::{self, Schedule};

/// Time between two looks at a server.
const EVERY: Duration = Duration::from_millis(100);
/// What a busy computer of two cores and `chpasswd` may take beyond the jitter, in seconds. How late
/// the latest was is said.
pub const TOLERANCE_S: f64 = 6.0;
/// Most wrong looks that are kept.
const WRONG_MAX: usize = 20;

/// What the looks showed of one server.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// How often its file was looked at.
    pub looks: usize,
    /// Every epoch its file carried, with how late it was first seen after the boundary, in seconds;
    /// only those that began while it was not excused.
    pub epochs: BTreeMap<u64, f64>,
}

/// A running comparison.
#[derive(Debug)]
pub struct Sampler<'a> {
    lab: &'a Lab,
    schedule: Schedule,
    stop: AtomicBool,
    /// Servers whose files others look at.
    left_out: Vec<u8>,
    /// Until when a server's file may be old, in seconds since 1970.
    excused: Mutex<BTreeMap<u8, f64>>,
    /// Since when it has not been: an epoch that began earlier may be seen late.
    clear: Mutex<BTreeMap<u8, f64>>,
    seen: Mutex<BTreeMap<u8, Seen>>,
    wrong: Mutex<Vec<String>>,
}

impl<'a> Sampler<'a> {
    /// One that compares all servers but those left out; [`Sampler::run`] starts it.
    #[must_use]
    pub fn new(lab: &'a Lab, schedule: Schedule, left_out: &[u8]) -> Self {
        let stop = AtomicBool::new(false);
        let (excused, clear) = (Mutex::default(), Mutex::default());
        let (seen, wrong) = (Mutex::default(), Mutex::default());
        Self { lab, schedule, stop, left_out: left_out.to_vec(), excused, clear, seen, wrong }
    }

    /// Looks until [`Sampler::stop`].
    pub fn run(&self) {
        let mut servers: Vec<u8> = self.lab.servers().map(|server| server.number()).collect();
        servers.retain(|number| !self.left_out.contains(number));
        let mut roots: BTreeMap<u8, PathBuf> = BTreeMap::new();
        while !self.stop.load(Ordering::Relaxed) {
            for number in &servers {
                let root = match roots.get(number) {
                    Some(root) => root.clone(),
                    None => match self.root(*number) {
                        Some(root) => roots.entry(*number).or_insert(root).clone(),
                        None => continue,
                    },
                };
                let before = schedule::now();
                match std::fs::read_to_string(root.join("etc/shadow")) {
                    Ok(shadow) => self.compare(*number, before, &shadow),
                    // It went off, or booted anew; where it is now is asked at the next look.
                    Err(_) => drop(roots.remove(number)),
                }
            }
            std::thread::sleep(EVERY);
        }
    }

    /// Ends [`Sampler::run`].
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// From now on a server's file may be old, until [`Sampler::expect`].
    pub fn excuse(&self, server: u8) {
        lock(&self.excused).insert(server, f64::INFINITY);
    }

    /// A server is back: its file must be right once it has been right, or after `grace`.
    pub fn expect(&self, server: u8, grace: Duration) {
        lock(&self.excused).insert(server, schedule::now() + grace.as_secs_f64());
    }

    /// What was seen; fails if anything was wrong.
    ///
    /// # Errors
    /// A look at which a server's file carried what it must not.
    pub fn verdict(&self) -> Result<BTreeMap<u8, Seen>> {
        let wrong = lock(&self.wrong);
        ensure!(wrong.is_empty(), "{} wrong looks or more:\n{}", wrong.len(), wrong.join("\n"));
        Ok(lock(&self.seen).clone())
    }

    fn compare(&self, number: u8, before: f64, shadow: &str) {
        let after = schedule::now();
        let mut seen = lock(&self.seen);
        let seen = seen.entry(number).or_default();
        seen.looks += 1;
        let (newest, oldest) = self.bounds(before, after);
        let Some(field) = schedule::root_field(shadow) else {
            return self.wrong(number, after, "root has not one line");
        };
        let Some(epoch) = self.schedule.epoch_of(field) else {
            return self.wrong(number, after, &format!("{field:?} is of no epoch"));
        };
        if epoch > newest {
            return self.wrong(number, after, &format!("epoch {epoch} before its time, {newest}"));
        }
        let mut excused = lock(&self.excused);
        let until = excused.get(&number).copied();
        if epoch >= oldest {
            // Right again: the excuse of one that is back has ended.
            if until.is_some_and(f64::is_finite) {
                excused.remove(&number);
                lock(&self.clear).insert(number, after);
            }
            let begins = self.schedule.begins(epoch);
            let clear = *lock(&self.clear).entry(number).or_insert(after);
            if until.is_none() && begins >= clear {
                seen.epochs.entry(epoch).or_insert(after - begins);
            }
        } else if until.is_none_or(|until| after > until) {
            let what = format!("epoch {epoch}, expected {oldest} to {newest}");
            self.wrong(number, after, &what);
        }
    }

    /// The newest and the oldest epoch that a file read between these times may carry.
    fn bounds(&self, before: f64, after: f64) -> (u64, u64) {
        let window = self.schedule.jitter() + TOLERANCE_S;
        (self.schedule.at(after), self.schedule.at(before - window))
    }

    fn wrong(&self, number: u8, at: f64, what: &str) {
        let mut wrong = lock(&self.wrong);
        if wrong.len() < WRONG_MAX {
            let since = at - self.schedule.begins(self.schedule.at(at));
            wrong.push(format!("server {number}, {since:.1} s into its epoch: {what}"));
        }
    }

    /// Where a server's files are now; none while it is off.
    fn root(&self, number: u8) -> Option<PathBuf> {
        let script = self.lab.script(&["root", &number.to_string()]);
        let output = command::run(script, b"", COMMAND_BOUND).ok()?.ok().ok()?;
        Some(PathBuf::from(output.text()))
    }
}

/// A panic elsewhere does not make what was seen untrue.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
