//! A host in memory that can lose power at any call.
//!
//! Links are real, below a test's folder, so that what a crash leaves is what the next run finds;
//! units are names with the file they were started from. A health command passes if the file it
//! names says `well`. A unit with `fills the disk` in its file does so while it runs, and one with
//! `needs room` does not start on a full disk.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use borgios_types::Time;

use crate::keeper::command::CommandError;
use crate::keeper::host::{Activity, Host, HostError, Systemd};
use crate::keeper::paths::Paths;
use crate::keeper::room::Room;

/// What survives a crash of the keeper: the server itself.
#[derive(Debug, Default)]
pub(super) struct Server {
    /// Units that run, and what their file was when they were started.
    pub(super) running: BTreeMap<String, PathBuf>,
    /// Every call, for a look afterwards.
    pub(super) calls: Vec<String>,
    /// Calls until the power goes; `None` never.
    pub(super) left: Option<usize>,
    /// Whether the disk is full: no link can be made.
    pub(super) full: bool,
    /// Whether only the disk of systemd's tools and units is full; nothing is well there.
    pub(super) cramped: bool,
    /// So many starts of what starts late fail, for what it needs is not up yet.
    pub(super) late: usize,
    /// What is left for what is staged; `None` is enough.
    pub(super) room: Option<Room>,
    /// A file that is written to a full disk once, when a health command runs.
    pub(super) unwritable: Option<PathBuf>,
    /// Unit files as systemd has read them.
    pub(super) loaded: BTreeMap<String, String>,
    /// The program of the keeper's process; `None` is one outside the store.
    pub(super) program: Option<PathBuf>,
    /// The unit file that systemd started the keeper's process with.
    pub(super) keeper_unit: Option<String>,
    /// How often systemd's own tools fail from here on.
    pub(super) refusals: usize,
    pub(super) now: u64,
}

/// What a lost power throws through the installer.
pub(super) struct Cut;

#[derive(Clone)]
pub(super) struct Fake {
    paths: Paths,
    server: Arc<Mutex<Server>>,
}

impl Fake {
    pub(super) fn new(paths: &Paths) -> Self {
        Self { paths: paths.clone(), server: Arc::default() }
    }

    pub(super) fn server(&self) -> MutexGuard<'_, Server> {
        self.server.lock().unwrap()
    }

    fn call(&self, what: String) -> MutexGuard<'_, Server> {
        let mut server = self.server();
        if server.left == Some(0) {
            drop(server);
            std::panic::resume_unwind(Box::new(Cut));
        }
        server.left = server.left.map(|left| left - 1);
        server.calls.push(what);
        server
    }

    /// One of systemd's tools, which may fail.
    fn tool(&self, what: &str) -> Result<(), HostError> {
        let mut server = self.call(what.to_owned());
        if server.refusals == 0 {
            return Ok(());
        }
        server.refusals -= 1;
        Err(failed(what, "not now"))
    }

    /// Starts the keeper as systemd does: the program of the links, with the unit that was read.
    pub(super) fn start_keeper(&self) {
        let program = self.paths.current.join("borgios-keeper/files/bin/borgios-keeper");
        let mut server = self.server();
        server.program = Some(fs::canonicalize(program).unwrap());
        server.keeper_unit = server.loaded.get("borgios-keeper.service").cloned();
    }

    fn real(&self) -> Systemd {
        Systemd::new(&self.paths.root)
    }
}

/// Whether a unit's file holds these words.
fn says(unit: &Path, words: &str) -> bool {
    fs::read_to_string(unit).is_ok_and(|text| text.contains(words))
}

fn failed(what: &str, said: &str) -> HostError {
    let source = CommandError::Failed { how: "exit code 1".into(), said: said.into() };
    HostError::Command { what: what.into(), source }
}

impl Host for Fake {
    fn now(&self) -> Time {
        Time(self.server().now)
    }

    fn pause(&self, time: Duration) {
        self.server().now += u64::try_from(time.as_millis()).unwrap();
    }

    fn link(&self, link: &Path, target: &Path) -> Result<(), HostError> {
        if self.call(format!("link {}", link.file_name().unwrap().display())).full {
            return Err(HostError::Disk(io::ErrorKind::StorageFull.into()));
        }
        self.real().link(link, target)
    }

    fn unlink(&self, link: &Path) -> Result<(), HostError> {
        drop(self.call(format!("unlink {}", link.file_name().unwrap().display())));
        self.real().unlink(link)
    }

    fn program(&self) -> io::Result<PathBuf> {
        self.server().program.clone().map_or_else(std::env::current_exe, Ok)
    }

    fn room(&self, _: &Path) -> io::Result<Room> {
        Ok(self.server().room.unwrap_or(Room::BOUNDLESS))
    }

    fn is_full(&self) -> bool {
        let server = self.server();
        server.cramped || server.running.values().any(|unit| says(unit, "fills the disk"))
    }

    fn reload(&self) -> Result<(), HostError> {
        self.tool("reload")?;
        let units = fs::read_dir(&self.paths.units).into_iter().flatten().map(Result::unwrap);
        let read = units.filter_map(|unit| {
            let name = unit.file_name().to_string_lossy().into_owned();
            Some((name, fs::read_to_string(unit.path()).ok()?))
        });
        self.server().loaded = read.collect();
        Ok(())
    }

    fn sysusers(&self, fragment: &Path) -> Result<(), HostError> {
        assert!(fragment.is_file(), "{}", fragment.display());
        self.tool("sysusers")
    }

    fn tmpfiles(&self, fragment: &Path) -> Result<(), HostError> {
        assert!(fragment.is_file(), "{}", fragment.display());
        self.tool("tmpfiles")
    }

    fn restart(&self, unit: &str) -> Result<(), HostError> {
        let mut server = self.call(format!("restart {unit}"));
        let file = fs::canonicalize(self.paths.units.join(unit)).unwrap();
        if says(&file, "starts late") && server.late > 0 {
            server.late -= 1;
            return Err(failed(unit, "what it needs is not up"));
        }
        if says(&file, "does not start") || (server.cramped && says(&file, "needs room")) {
            return Err(failed(unit, "it does not start"));
        }
        server.running.insert(unit.to_owned(), file);
        Ok(())
    }

    fn stop(&self, unit: &str) -> Result<(), HostError> {
        self.call(format!("stop {unit}")).running.remove(unit);
        Ok(())
    }

    fn activity(&self, unit: &str) -> Result<Activity, HostError> {
        let runs = self.call(format!("activity {unit}")).running.contains_key(unit);
        Ok(if runs { Activity::Well } else { Activity::Failed })
    }

    fn health(&self, command: &[String]) -> Result<(), HostError> {
        let unwritable = self.call("health".into()).unwritable.take();
        if let Some(file) = unwritable {
            symlink("/dev/full", file).unwrap();
        }
        let said = fs::read_to_string(&command[0]).unwrap_or_default();
        if self.is_full() {
            return Err(failed(&command[0], "no room"));
        }
        if said == "well" { Ok(()) } else { Err(failed(&command[0], &said)) }
    }

    fn selftest(&self, program: &Path) -> Result<(), HostError> {
        drop(self.call("selftest".into()));
        let said = fs::read_to_string(program).unwrap_or_default();
        if said == "broken" { Err(failed("selftest", &said)) } else { Ok(()) }
    }
}
