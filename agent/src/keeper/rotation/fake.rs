//! Root's account in memory: it fails or loses power at any call.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use borgios_credentials::{RootField, Shadow, Verifier};

use super::host::Accounts;
use super::journal::Record;
use super::obstacle::{Obstacle, at};
use crate::disk::Stamp;

/// What goes wrong at a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It fails and has done nothing.
    Fails,
    /// It is done and yet fails, as a tool does that is killed in its last line.
    DoneAndFails,
    /// The power goes before it.
    CutBefore,
    /// The power goes after it.
    CutAfter,
    /// Another program holds the lock of the account tools.
    Locked,
}

/// The server: what outlives the keeper.
#[derive(Debug)]
pub(super) struct Server {
    /// `/etc/shadow` as programs see it, and as the disk holds it.
    pub(super) shadow: String,
    durable: String,
    /// `/etc/shadow-`.
    pub(super) copy: String,
    pub(super) journal: Record,
    pub(super) calls: usize,
    pub(super) fault: Option<(usize, Fault)>,
    /// Nothing is changed, as on a disk that is read-only.
    pub(super) stuck: bool,
    dark: bool,
    writes: i64,
}

/// Root's line with this field, and another's.
pub(super) fn file(field: &str) -> String {
    format!("root:{field}:1:0:99999:7:::\ndaemon:*:1:0:99999:7:::\n")
}

impl Server {
    /// The power comes back; what was not synced may be lost.
    pub(super) fn boot(&mut self, lost: bool) {
        if lost {
            self.shadow.clone_from(&self.durable);
        }
        self.durable.clone_from(&self.shadow);
        (self.dark, self.fault) = (false, None);
        self.writes += 1;
    }

    /// Someone else writes root's field.
    pub(super) fn tamper(&mut self, shadow: &str) {
        self.shadow = shadow.to_owned();
        self.durable = shadow.to_owned();
        self.writes += 1;
    }

    /// Root's field, which is always one whole thing.
    pub(super) fn root(&self) -> RootField {
        Shadow::parse(self.shadow.as_bytes()).unwrap().root().clone()
    }

    /// Whether nothing is left that a power cut or a reader of the copy could bring back.
    pub(super) fn is_settled(&self) -> bool {
        self.durable == self.shadow && self.copy == self.shadow
    }
}

#[derive(Clone, Debug)]
pub(super) struct Fake(Arc<Mutex<Server>>);

impl Fake {
    pub(super) fn new(field: &str, journal: Record) -> Self {
        let shadow = file(field);
        let (durable, copy) = (shadow.clone(), shadow.clone());
        let (calls, fault, stuck, dark, writes) = (0, None, false, false, 0);
        let server = Server { shadow, durable, copy, journal, calls, fault, stuck, dark, writes };
        Self(Arc::new(Mutex::new(server)))
    }

    pub(super) fn server(&self) -> MutexGuard<'_, Server> {
        self.0.lock().unwrap()
    }

    fn call<T>(&self, act: impl FnOnce(&mut Server) -> Result<T, Obstacle>) -> Result<T, Obstacle> {
        let failed = || Err(at(Path::new("/etc"))(io::Error::other("injected")));
        let mut server = self.server();
        if server.dark {
            return failed();
        }
        server.calls += 1;
        let fault = server.fault.filter(|(n, _)| *n == server.calls).map(|(_, fault)| fault);
        match fault {
            None => act(&mut server),
            Some(Fault::Locked) => Err(Obstacle::Locked),
            Some(Fault::Fails) => failed(),
            Some(Fault::CutBefore) => {
                server.dark = true;
                failed()
            }
            Some(fault @ (Fault::DoneAndFails | Fault::CutAfter)) => {
                act(&mut server)?;
                server.dark = fault == Fault::CutAfter;
                failed()
            }
        }
    }
}

impl Accounts for Fake {
    fn recall(&self) -> Result<Record, Obstacle> {
        self.call(|server| Ok(server.journal.clone()))
    }

    fn remember(&self, record: &Record) -> Result<(), Obstacle> {
        self.call(|server| {
            server.journal = record.clone();
            Ok(())
        })
    }

    fn stamp(&self) -> Result<Stamp, Obstacle> {
        self.call(|server| Ok(Stamp([server.writes; 7])))
    }

    fn root(&self) -> Result<RootField, Obstacle> {
        self.call(|server| {
            let shadow = Shadow::parse(server.shadow.as_bytes()).map_err(Obstacle::Shadow)?;
            Ok(shadow.root().clone())
        })
    }

    fn change(&self, to: Option<&Verifier>) -> Result<(), Obstacle> {
        self.call(|server| {
            if server.stuck {
                return Err(at(Path::new("/etc"))(io::Error::other("read-only")));
            }
            server.copy.clone_from(&server.shadow);
            server.shadow = file(to.map_or("*", Verifier::as_str));
            server.writes += 1;
            Ok(())
        })
    }

    fn settle(&self) -> Result<(), Obstacle> {
        self.call(|server| {
            server.durable.clone_from(&server.shadow);
            Ok(())
        })
    }

    fn scrub(&self, expected: &RootField) -> Result<(), Obstacle> {
        self.call(|server| {
            assert_eq!(server.root(), *expected);
            server.copy.clone_from(&server.shadow);
            Ok(())
        })
    }
}
