//! `borgios-keeper`: the process that holds root, and the installer of a fresh server.
//!
//! ```text
//! borgios-keeper run [--root DIR]                          the daemon; systemd starts it
//! borgios-keeper install --bundle FILE --invite FILE --name HOST
//!                [--listen ADDR:PORT] [--advertise HOST:PORT] [--owner KEY] [--root DIR]
//! borgios-keeper leave [--root DIR]                        what the owner's departure asks for
//! borgios-keeper takeover VERB …                           root changes hands, or goes back
//! borgios-keeper rotate --once [--root DIR]                brings root's credential up to date now
//! borgios-keeper --selftest                                shows that it runs on this server
//! borgios-keeper --version
//! ```
//!
//! Exit codes: 0 done, 1 refused or nothing to do, 2 usage, 4 verification failed, 5 failed otherwise, 6 rolled back, 10 already
//! a member.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use borgios_agent::keeper::chain_store::ChainStore;
use borgios_agent::keeper::host::Systemd;
use borgios_agent::keeper::install::{self, Arguments};
use borgios_agent::keeper::paths::Paths;
use borgios_agent::keeper::rotation::once::{self, Done};
use borgios_agent::keeper::{leaving, selftest, service, takeover};
use borgios_agent::logging;
use borgios_types::PublicKey;

/// What the command line says.
enum Command {
    Run { root: PathBuf },
    Install { root: PathBuf, arguments: Arguments },
    Leave { root: PathBuf },
    Takeover(takeover::Call),
    Rotate { root: PathBuf },
    Selftest,
    Version,
}

const USAGE: &str = "usage: borgios-keeper run [--root DIR]
       borgios-keeper install --bundle FILE --invite FILE --name HOST
                      [--listen ADDR:PORT] [--advertise HOST:PORT] [--owner KEY] [--root DIR]
       borgios-keeper leave [--root DIR]
       borgios-keeper rotate --once [--root DIR]
       borgios-keeper --selftest | --version";

fn main() -> ExitCode {
    // What is installed is for every user to read, whatever the caller's umask says; what is not
    // says so at each file.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    match parse(std::env::args().skip(1)) {
        Err(why) => {
            install::tell(&format!("{why}\n{USAGE}\n       {}", takeover::USAGE));
            ExitCode::from(2)
        }
        Ok(Command::Version) => {
            install::say(env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        Ok(Command::Selftest) => ending(selftest::run().map_err(|why| why.to_string()), 5),
        Ok(Command::Run { root }) => {
            logging::begin("borgios-keeper");
            ending(run(&root), 5)
        }
        Ok(Command::Leave { root }) => {
            logging::begin("borgios-keeper");
            ending(leave(&Paths::below(&root)), 5)
        }
        Ok(Command::Takeover(call)) => {
            logging::begin("borgios-keeper");
            call.run()
        }
        Ok(Command::Rotate { root }) => {
            logging::begin("borgios-keeper");
            match once::run(&Paths::below(&root)) {
                Ok(Done::Carries(epoch)) => install::say(&format!("root carries epoch {epoch}")),
                Ok(Done::Locked) => install::say("no schedule is at hand; no password opens root"),
                Err(error) => return ending(Err(explain(&error)), 5),
            }
            ExitCode::SUCCESS
        }
        Ok(Command::Install { root, arguments }) => {
            logging::begin("borgios-keeper");
            let paths = Paths::below(&root);
            match install::run(&paths, || Box::new(Systemd::new(&root)), &arguments) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    install::tell(&explain(&error));
                    ExitCode::from(error.exit_code())
                }
            }
        }
    }
}

fn run(root: &Path) -> Result<(), String> {
    let host = Box::new(Systemd::new(root));
    service::run(Paths::below(root), host).map_err(|error| explain(&error))
}

fn leave(paths: &Paths) -> Result<(), String> {
    let chain = ChainStore::look(&paths.keeper).map_err(|error| explain(&error))?;
    let network = chain.network().expect("a chain is only ever read with a pin");
    leaving::run(paths, network).map_err(|error| explain(&error))
}

fn ending(result: Result<(), String>, code: u8) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            install::tell(&why);
            ExitCode::from(code)
        }
    }
}

/// An error and its causes, on one line each.
fn explain(error: &dyn std::error::Error) -> String {
    let mut text = format!("borgios-keeper: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!("\n  cause: {error}"));
        cause = error.source();
    }
    text
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Command, String> {
    let verb = words.next().ok_or("a command is missing")?;
    match verb.as_str() {
        "--version" => return Ok(Command::Version),
        "--selftest" => return Ok(Command::Selftest),
        "takeover" => return takeover::Call::parse(words).map(Command::Takeover),
        "run" | "install" | "leave" | "rotate" => {}
        other => return Err(format!("{other:?} is no command")),
    }
    let mut root = PathBuf::from("/");
    let (mut bundle, mut invite, mut name) = (None, None, None);
    let (mut listen, mut advertise, mut owner) = (None, None, None);
    let mut once = false;
    while let Some(flag) = words.next() {
        if verb == "rotate" && flag == "--once" {
            once = true;
            continue;
        }
        let value = words.next().ok_or_else(|| format!("{flag} needs a value"))?;
        match (verb.as_str(), flag.as_str()) {
            (_, "--root") => root = PathBuf::from(value),
            ("install", "--bundle") => bundle = Some(PathBuf::from(value)),
            ("install", "--invite") => invite = Some(PathBuf::from(value)),
            ("install", "--name") => name = Some(value),
            ("install", "--listen") => listen = Some(value),
            ("install", "--advertise") => advertise = Some(value),
            ("install", "--owner") => {
                let key = value.parse::<PublicKey>();
                owner = Some(key.map_err(|error| format!("--owner {value:?}: {error}"))?);
            }
            _ => return Err(format!("{verb} has no option {flag}")),
        }
    }
    match verb.as_str() {
        "run" => return Ok(Command::Run { root }),
        "leave" => return Ok(Command::Leave { root }),
        "rotate" if once => return Ok(Command::Rotate { root }),
        "rotate" => return Err("rotate needs --once; by the clock the daemon does it".to_owned()),
        _ => {}
    }
    let arguments = Arguments {
        bundle: bundle.ok_or("install needs --bundle FILE")?,
        invite: invite.ok_or("install needs --invite FILE")?,
        name: name.ok_or("install needs --name HOST")?,
        listen,
        advertise,
        owner,
    };
    Ok(Command::Install { root, arguments })
}
