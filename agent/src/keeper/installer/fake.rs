//! A host in memory that can lose power at any call.
//!
//! Links are real, below a test's folder, so that what a crash leaves is what the next run finds;
//! units are names with the file they were started from. A health command passes if the file it
//! names says `well`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use borgios_types::Time;

use crate::keeper::command::CommandError;
use crate::keeper::host::{Activity, Host, HostError, Systemd};
use crate::keeper::paths::Paths;

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
    /// Whether only the disk of systemd's tools is full.
    pub(super) cramped: bool,
    /// How often systemd's own tools fail from here on.
    pub(super) refusals: usize,
    now: u64,
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

    fn real(&self) -> Systemd {
        Systemd::new(&self.paths.root)
    }
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
            return Err(HostError::Disk(std::io::ErrorKind::StorageFull.into()));
        }
        self.real().link(link, target)
    }

    fn unlink(&self, link: &Path) -> Result<(), HostError> {
        drop(self.call(format!("unlink {}", link.file_name().unwrap().display())));
        self.real().unlink(link)
    }

    fn is_full(&self) -> bool {
        self.server().cramped
    }

    fn reload(&self) -> Result<(), HostError> {
        self.tool("reload")
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
        if fs::read_to_string(&file).unwrap().contains("does not start") {
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
        drop(self.call("health".into()));
        let said = fs::read_to_string(&command[0]).unwrap_or_default();
        if said == "well" { Ok(()) } else { Err(failed(&command[0], &said)) }
    }

    fn selftest(&self, program: &Path) -> Result<(), HostError> {
        drop(self.call("selftest".into()));
        let said = fs::read_to_string(program).unwrap_or_default();
        if said == "broken" { Err(failed("selftest", &said)) } else { Ok(()) }
    }
}
