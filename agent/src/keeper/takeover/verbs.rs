//! The command `borgios-keeper takeover VERB`: what it understands, and what it prints.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use borgios_types::NodeId;
use rustix::fs::{FlockOperation, flock};

use super::abort::{self, Resumed};
use super::begin::{self, Beginning};
use super::failure::TakeoverError;
use super::journal::{FOLDER, Journal};
use super::machine::{Machine, disk_error};
use super::receipt::{self, Receipt};
use super::systemd::Real;
use super::{apply, catalogue, session, show, trial, verify};
use crate::keeper::install::{say, tell};

/// How the command is used.
pub const USAGE: &str = "borgios-keeper takeover plan [--json] | status [--json] | trial | apply
                      | verify | end-sessions | abort | resume [--by-systemd] [--root DIR]
       borgios-keeper takeover begin --deadline-s N [--owner-key FILE --sealed FILE]
       borgios-keeper takeover receipt --node KEY [--owner-key FILE] [--name HOST]";

/// Shortest and longest time an open take-over may have.
const DEADLINE_S: std::ops::RangeInclusive<u64> = 60..=86_400;
/// How long another verb may hold the lock.
const LOCK_TRIES: u32 = 600;
const LOCK_PAUSE: Duration = Duration::from_millis(100);

/// What the command line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    root: PathBuf,
    verb: Verb,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Verb {
    Plan { json: bool },
    Begin(Beginning),
    Trial,
    Apply,
    Verify,
    Receipt(Receipt),
    EndSessions,
    Abort,
    Resume { by_systemd: bool },
    Status { json: bool },
}

impl Call {
    /// Reads the words after `takeover`.
    ///
    /// # Errors
    /// What is wrong with them, in words.
    pub fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let verb = words.next().ok_or("takeover needs a verb")?;
        let (mut root, mut json, mut by_systemd) = (PathBuf::from("/"), false, false);
        let mut deadline_s = None;
        let (mut owner, mut sealed, mut node, mut name) = (None, None, None, None);
        while let Some(flag) = words.next() {
            if flag == "--json" && ["plan", "status"].contains(&verb.as_str()) {
                json = true;
                continue;
            }
            if flag == "--by-systemd" && verb == "resume" {
                by_systemd = true;
                continue;
            }
            let value = words.next().ok_or_else(|| format!("{flag} needs a value"))?;
            match (verb.as_str(), flag.as_str()) {
                (_, "--root") => root = PathBuf::from(value),
                ("begin", "--deadline-s") => {
                    let seconds = value.parse().ok().filter(|s| DEADLINE_S.contains(s));
                    let (first, last) = (DEADLINE_S.start(), DEADLINE_S.end());
                    let why = || format!("--deadline-s is a number from {first} to {last}");
                    deadline_s = Some(seconds.ok_or_else(why)?);
                }
                ("begin" | "receipt", "--owner-key") => owner = Some(PathBuf::from(value)),
                ("begin", "--sealed") => sealed = Some(PathBuf::from(value)),
                ("receipt", "--node") => {
                    let key: NodeId = value.parse().map_err(|error| format!("--node: {error}"))?;
                    node = Some(key);
                }
                ("receipt", "--name") => name = Some(value),
                _ => return Err(format!("takeover {verb} has no option {flag}")),
            }
        }
        let verb = match verb.as_str() {
            "plan" => Verb::Plan { json },
            "begin" => {
                let owner = match (owner, sealed) {
                    (Some(key), Some(file)) => Some((key, file)),
                    (None, None) => None,
                    _ => return Err("--owner-key and --sealed go together".to_owned()),
                };
                let deadline_s = deadline_s.ok_or("begin needs --deadline-s N")?;
                Verb::Begin(Beginning { deadline_s, owner })
            }
            "trial" => Verb::Trial,
            "apply" => Verb::Apply,
            "verify" => Verb::Verify,
            "receipt" => {
                let node = node.ok_or("receipt needs --node KEY")?;
                Verb::Receipt(Receipt { node, owner, name })
            }
            "end-sessions" => Verb::EndSessions,
            "abort" => Verb::Abort,
            "resume" => Verb::Resume { by_systemd },
            "status" => Verb::Status { json },
            other => return Err(format!("takeover has no verb {other}")),
        };
        Ok(Self { root, verb })
    }

    /// Does it on this server.
    #[must_use]
    pub fn run(self) -> ExitCode {
        let mut machine = Machine::new(&self.root, Arc::new(Real));
        match perform(&mut machine, self.verb) {
            Ok(code) => code,
            Err(error) => {
                tell(&format!("borgios-keeper: {error}"));
                ExitCode::from(error.exit_code())
            }
        }
    }
}

fn perform(machine: &mut Machine, verb: Verb) -> Result<ExitCode, TakeoverError> {
    // Those two only look.
    match verb {
        Verb::Plan { json } => {
            let found = catalogue::look(machine)?;
            say(&if json { show::plan_json(machine, &found) } else { show::plan(&found) });
            return Ok(ExitCode::SUCCESS);
        }
        Verb::Status { json } => {
            say(&show::status(machine, json)?);
            return Ok(ExitCode::SUCCESS);
        }
        _ => {}
    }
    let is_resume = matches!(verb, Verb::Resume { .. });
    let is_late = is_resume && abort::end_late(machine)?;
    let _lock = lock(machine, is_resume && !is_late)?;
    match verb {
        Verb::Plan { .. } | Verb::Status { .. } => {}
        Verb::Begin(beginning) => {
            let journal = begin::begin(machine, &beginning)?;
            if let Journal::Open { deadline, .. } = journal {
                say(&format!("open until {}", deadline.0));
            }
        }
        Verb::Trial => say_all(trial::trial(machine)?),
        Verb::Apply => {
            let taken = apply::apply(machine)?;
            say_all(taken.iter().map(|(kind, count)| format!("{kind} {count}")));
        }
        Verb::Verify => say_all(verify::verify(machine)?),
        Verb::Receipt(receipt) => say(&receipt::sign(machine, &receipt)?),
        Verb::EndSessions => {
            if !has_changed_hands(machine)? {
                return Err(TakeoverError::Refused("root has not changed hands here".to_owned()));
            }
            say(&format!("ended {}", session::end(machine)?));
        }
        Verb::Abort => {
            abort::abort(machine)?;
            say("all is as it was before");
        }
        Verb::Resume { by_systemd } => {
            let (said, code) = match abort::resume(machine)? {
                Resumed::Done => ("went on, and is done", 0),
                Resumed::WentBack => ("went back: all is as it was before", 6),
                Resumed::Nothing => ("nothing to do", 1),
            };
            say(said);
            // For a unit all three are a success. Its own SuccessExitStatus= could not say so: by
            // then its file is gone.
            return Ok(ExitCode::from(if by_systemd { 0 } else { code }));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether root of this server is the network's. The journal says so first; it is bootstrap's, and nobody
/// has to keep it for as long as the server is a member: the keeper's own receipt says it for good.
fn has_changed_hands(machine: &Machine) -> Result<bool, TakeoverError> {
    let journal = Journal::read(machine);
    if matches!(journal, Ok(Some(Journal::Done { .. }))) || receipt::exists(machine)? {
        return Ok(true);
    }
    // One that cannot be read is told as such.
    journal?;
    Ok(false)
}

fn say_all(lines: impl IntoIterator<Item = String>) {
    for line in lines {
        say(&format!("ok     {line}"));
    }
}

/// One verb at a time. The timer does not wait for whoever is not late: it asks again.
fn lock(machine: &Machine, at_once: bool) -> Result<std::fs::File, TakeoverError> {
    let path = Path::new(FOLDER).join("lock");
    machine.folder(FOLDER, 0o700)?;
    let file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(machine.at(&path))
        .map_err(|source| disk_error(&path, source))?;
    for _ in 0..if at_once { 1 } else { LOCK_TRIES } {
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            return Ok(file);
        }
        machine.tools.pause(LOCK_PAUSE);
    }
    Err(TakeoverError::Refused("another `takeover` is at work".to_owned()))
}

#[cfg(test)]
mod tests {
    use borgios_policy::{Handover, Object as _};
    use borgios_types::{Digest, SecretKey, UnixSeconds};

    use super::super::fake::server;
    use super::*;
    use crate::keeper::chain_store::ChainStore;
    use crate::keeper::handed_over;
    use crate::keeper::takeover::journal::Journal;
    use crate::keeper::takeover::timer;

    /// A verb of the join that hangs must not keep the deadline away: it is ended, and lets go.
    #[test]
    fn a_join_that_hangs_with_the_lock_held_is_ended_at_its_deadline() {
        let (_folder, mut machine, fake) = server();
        machine.folder(Path::new(timer::PROGRAM).parent().unwrap(), 0o700).unwrap();
        machine.write(timer::PROGRAM, b"", 0o755).unwrap();
        begin::begin(&machine, &Beginning { deadline_s: 900, owner: None }).unwrap();
        let held = lock(&machine, true).unwrap();
        fake.race("systemctl kill", move || drop(held));
        let is_kill = |call: &String| call.starts_with("systemctl kill");
        fake.pass(899);
        // Whoever is in time is left alone.
        let resume = Verb::Resume { by_systemd: true };
        let early = perform(&mut machine, resume.clone());
        assert!(matches!(early, Err(TakeoverError::Refused(_))), "{early:?}");
        assert!(!fake.calls().iter().any(is_kill));
        fake.pass(1);
        perform(&mut machine, resume).unwrap();
        assert!(fake.calls().iter().any(is_kill));
        assert!(matches!(Journal::read(&machine), Ok(Some(Journal::Aborted { .. }))));
    }

    fn parse(line: &str) -> Result<Call, String> {
        Call::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn only_whole_command_lines_are_understood() {
        let call = parse("begin --deadline-s 900 --root /x").unwrap();
        assert_eq!(call.root, Path::new("/x"));
        assert_eq!(call.verb, Verb::Begin(Beginning { deadline_s: 900, owner: None }));
        assert_eq!(parse("plan --json").unwrap().verb, Verb::Plan { json: true });
        for bad in [
            "",
            "purge",
            "begin",
            "begin --deadline-s 5",
            "begin --deadline-s 900 --owner-key x",
            "apply --json",
            "apply --force yes",
            "abort --root",
            "receipt",
            "receipt --node ssh-rsa",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    /// A server of a network, without a receipt yet; the keeper's key.
    fn member(machine: &Machine, network: Digest) -> SecretKey {
        std::fs::create_dir_all(&machine.paths.keeper).unwrap();
        ChainStore::pin(&machine.paths.keeper, network).unwrap();
        let keeper = SecretKey::from_seed([1; 32]);
        std::fs::write(machine.paths.key(), keeper.to_openssh("keeper").as_bytes()).unwrap();
        keeper
    }

    fn receipt_by(signer: &SecretKey, network: Digest) -> String {
        let handover = Handover {
            network,
            node: SecretKey::from_seed([2; 32]).public(),
            keeper: signer.public(),
            name: "web-1".parse().unwrap(),
            host_keys: Vec::new(),
            taken: [].into(),
            owner: None,
            at: UnixSeconds(5),
        };
        handover.to_envelope().sign(signer).to_json()
    }

    #[test]
    fn a_receipt_is_enough_to_end_logins_where_the_journal_is_gone() {
        for journal in [None, Some("no journal of any version")] {
            let (_folder, mut machine, fake) = server();
            let network = Digest::of(b"network");
            let keeper = member(&machine, network);
            fake.process(&machine, 12, "bash", "0::/user.slice/user-0.slice/session-3.scope");
            if let Some(text) = journal {
                machine.folder(FOLDER, 0o700).unwrap();
                machine.write(super::super::journal::FILE, text.as_bytes(), 0o600).unwrap();
            }
            // None, and one of another keeper.
            assert!(perform(&mut machine, Verb::EndSessions).is_err(), "{journal:?}");
            let path = handed_over::path(&machine.paths);
            std::fs::write(&path, receipt_by(&SecretKey::from_seed([3; 32]), network)).unwrap();
            assert!(perform(&mut machine, Verb::EndSessions).is_err(), "{journal:?}");
            assert!(fake.killed().is_empty(), "{journal:?}");
            std::fs::write(&path, receipt_by(&keeper, network)).unwrap();
            perform(&mut machine, Verb::EndSessions).unwrap();
            assert_eq!(fake.killed(), [12], "{journal:?}");
        }
    }
}
