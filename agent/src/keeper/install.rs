//! `borgios-keeper install`: a fresh server becomes a member. Run by bootstrap.sh, as root, after
//! stock tools have verified this very program.
//!
//! ```text
//! 0 open       a take-over is, in date, or nothing would take this back; again before 3
//! 1 verify     bundle and invitation, from policy/1 on       nothing was changed before
//! 2 stage      every component into the store
//! 3 account    systemd-sysusers, from the agent's component
//! 4 write      pin, chain, settings, invitation, keeper's key
//! 5 install    links, units, starts, probation: what the keeper does for every later release
//! ```
//!
//! Every step can be run again; what was cut off is simply run again. Whoever was told "rolled
//! back" may run it again too: a person's word at the server takes the mark away.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use borgios_policy::Outcome;
use borgios_releases::Journal;
use borgios_releases::bundle::BundleError;
use thiserror::Error;

use super::account::{self, Account};
pub use super::first_install::Arguments;
use super::first_install::{FirstInstallError, Folders, Verified};
use super::host::{Host, HostError};
use super::installer::{self, InstallError, Installer, Run, Seat};
use super::ledger::{self, Lock};
use super::paths::Paths;
use super::staging::{self, StageError};
use super::takeover::{self, NotOpen};
use crate::clock::unix_now;
use crate::identity::{self, IdentityError};

/// Why a server did not become a member.
#[derive(Debug, Error)]
pub enum InstallCommandError {
    /// It is one.
    #[error("this server is a member already: release/{0} is installed; see ./bootstrap.sh status")]
    Member(borgios_types::Seq),
    /// It would stay a member without having handed root over, should the rest not follow.
    #[error(
        "unless a take-over is open here nothing takes an install back; run ./bootstrap.sh join"
    )]
    NotOpen(#[source] NotOpen),
    /// Something does not hold.
    #[error(transparent)]
    First(#[from] FirstInstallError),
    /// A component cannot be staged.
    #[error("the release cannot be staged")]
    Stage(#[from] StageError),
    /// An account cannot be made.
    #[error("cannot make the agent's account")]
    Account(#[source] HostError),
    /// The keeper's key.
    #[error(transparent)]
    Key(#[from] IdentityError),
    /// The disk.
    #[error("cannot read or write {path}")]
    Disk {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The installer could not go on.
    #[error("the install was not finished; run it again")]
    Install(#[from] InstallError),
    /// The release did not pass.
    #[error("release/{seq} was taken back: {reason}")]
    RolledBack {
        /// The release.
        seq: borgios_types::Seq,
        /// Why.
        reason: String,
    },
}

impl InstallCommandError {
    /// As bootstrap.sh knows them.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Member(_) => 10,
            Self::NotOpen(_) => 1,
            Self::First(
                FirstInstallError::Disk { .. }
                | FirstInstallError::Store(_)
                | FirstInstallError::Submit(_),
            ) => 5,
            Self::First(FirstInstallError::Bundle(BundleError::Disk { .. })) => 5,
            // A full disk says nothing against the bundle.
            Self::First(FirstInstallError::Bundle(BundleError::Stream(error)))
                if error.kind() == io::ErrorKind::StorageFull =>
            {
                5
            }
            Self::First(_) => 4,
            Self::Stage(error) if error.is_final() => 4,
            Self::RolledBack { .. } => 6,
            Self::Stage(_)
            | Self::Account(_)
            | Self::Key(_)
            | Self::Disk { .. }
            | Self::Install(_) => 5,
        }
    }
}

/// One line for the person who looks on: the only printer of this program.
pub fn say(line: &str) {
    // Nobody may be looking any more; the work goes on.
    let _ = writeln!(io::stdout().lock(), "{line}");
}

/// One line about what went wrong.
pub fn tell(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Makes this server a member.
///
/// # Errors
/// See [`InstallCommandError`]; up to the end of step 2 nothing but the store was changed.
pub fn run(
    paths: &Paths,
    host: impl Fn() -> Box<dyn Host>,
    arguments: &Arguments,
) -> Result<(), InstallCommandError> {
    let journal = ledger::read(paths).map_err(at(&paths.journal()))?;
    if let Journal::Idle { installed: Some(installed), .. } = &journal {
        return Err(InstallCommandError::Member(installed.seq));
    }
    check_open(paths)?;
    say("verify   bundle and invitation, from policy/1 on");
    let own = std::env::current_exe().map_err(at(Path::new("/proc/self/exe")))?;
    let spool = paths.keeper.join("bundle");
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&spool).map_err(at(&spool))?;
    let verified = Verified::read(unix_now(), arguments, &own, &spool)?;
    let statement = verified.release().statement();
    let (network, name) = verified.network();
    say(&format!("  ok     network {name}, {network}"));
    say(&format!("  ok     release/{}, version {}", statement.seq, verified.manifest().version));

    say("stage    every component, checked and unpacked");
    let host_here = host();
    let spooled = Paths { depot: spool.clone(), ..paths.clone() };
    {
        // A keeper that an earlier join left may be at work on its own.
        let _lock = Lock::take(paths).map_err(at(&paths.lock()))?;
        let journal = ledger::read(paths).map_err(at(&paths.journal()))?;
        installer::make_room(paths, &journal, verified.manifest());
        staging::stage(&spooled, &*host_here, verified.manifest())?;
    }
    for component in &verified.manifest().components {
        say(&format!("  ok     {} {}", component.name, component.digest));
    }

    // What came before takes its time, and the deadline may have passed.
    check_open(paths)?;
    say("account  the agent's own user, without password or shell");
    let account = make_account(paths, &*host_here, &verified)?;

    say("write    pin, chain, settings, invitation, keeper's key");
    verified.write(arguments, &Folders::below(&paths.root), account)?;
    let key = identity::load_or_make(&paths.key())?;
    say(&format!("  ok     keeper {}", key.public()));
    fs::remove_dir_all(&spool).map_err(at(&spool))?;

    say("install  links, units, starts; then every component shows that it is well");
    let id = verified.release().id();
    ledger::forgive(paths, &id).map_err(at(&paths.attempted()))?;
    let installer = Installer::new(paths.clone(), host(), Seat::Beside);
    let run = installer.install(verified.manifest(), statement.seq, id, &|_| true)?;
    match run {
        Run::Done(Some(last)) if last.outcome == Outcome::Committed => {
            say(&format!("done     release/{} runs here", last.seq));
            Ok(())
        }
        Run::Done(last) => {
            let reason = last.and_then(|last| last.reason).unwrap_or_default();
            Err(InstallCommandError::RolledBack { seq: statement.seq, reason })
        }
        Run::ReplaceKeeper => unreachable!("beside the keeper, the keeper is a unit like others"),
    }
}

/// Refuses where the take-over's timer and boot unit would not take the install back.
fn check_open(paths: &Paths) -> Result<(), InstallCommandError> {
    match takeover::check_open(&paths.root) {
        // Below a test's root nobody takes anything over, unless the test does.
        Err(NotOpen::Never) if paths.root != Path::new("/") => Ok(()),
        checked => checked.map_err(InstallCommandError::NotOpen),
    }
}

/// Runs every sysusers.d fragment of the release, and looks the agent's user up.
fn make_account(
    paths: &Paths,
    host: &dyn Host,
    verified: &Verified,
) -> Result<Option<Account>, InstallCommandError> {
    for component in &verified.manifest().components {
        let folder = paths.stored(&component.digest).join("sysusers.d");
        for file in staging::files(&folder).map_err(at(&folder))? {
            host.sysusers(&folder.join(file)).map_err(InstallCommandError::Account)?;
        }
    }
    match account::lookup(&paths.root) {
        Ok(account) => Ok(Some(account)),
        // Below a test's root there are no accounts, and everything belongs to whoever runs it.
        Err(_) if paths.root != Path::new("/") => Ok(None),
        Err(source) => {
            Err(InstallCommandError::Disk { path: paths.root.join("etc/passwd"), source })
        }
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> InstallCommandError {
    let path = path.to_owned();
    move |source| InstallCommandError::Disk { path, source }
}
