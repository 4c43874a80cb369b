//! `trial`: would the final configuration let the board in, and nobody else?
//!
//! A second sshd with that very configuration listens on a loopback port, with one difference: it
//! believes a certificate authority made on the spot. A certificate of that must open root, and
//! the bare key, a certificate for others, and passwords must not. Then all of it is gone. The
//! server's own sshd notices nothing.

use std::fs::Permissions;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use super::failure::TakeoverError;
use super::journal::Journal;
use super::machine::Machine;
use super::sshd_config::{Effective, PROGRAM, Places};
use super::{apply, sshd_config, sshd_unit};

/// In memory: the authority's key never reaches a disk.
const FOLDER: &str = "/run/borgios-trial";
const UNIT: &str = "borgios-trial.service";
const PRINCIPAL: &str = "borgios-trial";
/// Longest the second sshd lives, whatever becomes of us.
const LIFE: &str = "RuntimeMaxSec=60";
/// Longest one login may take.
const LOGIN_MAX: Duration = Duration::from_secs(15);
/// Looks for the listener, and the pause between them.
const LISTEN_TRIES: u32 = 50;
const LISTEN_PAUSE: Duration = Duration::from_millis(100);

/// Tries it; a line for each check that held.
pub(super) fn trial(machine: &Machine) -> Result<Vec<String>, TakeoverError> {
    if !matches!(Journal::read(machine)?, Some(Journal::Open { .. })) {
        return Err(TakeoverError::Refused("no take-over is open; `takeover begin` first".into()));
    }
    let options = sshd_unit::options(machine)?;
    let Some(effective) = Effective::ask(machine, "root", &options)? else {
        return Ok(vec!["no sshd here, so nothing to try".to_owned()]);
    };
    clean(machine)?;
    let tried = run(machine, &effective);
    // Whatever came of it, the authority goes.
    let cleaned = clean(machine);
    let lines = tried?;
    cleaned?;
    Ok(lines)
}

fn run(machine: &Machine, effective: &Effective) -> Result<Vec<String>, TakeoverError> {
    let board = apply::board(machine)?;
    let port = free_port()?;
    let file = |name: &str| format!("{FOLDER}/{name}");
    // 1. The authority, a key it certifies, one that it certifies for others, and a host key.
    machine.folder(FOLDER, 0o755)?;
    let place = machine.at(FOLDER);
    machine.change("open", FOLDER.as_ref(), || {
        // sshd reads principals as whoever logs in.
        std::fs::set_permissions(&place, Permissions::from_mode(0o755))
    })?;
    for name in ["ca", "key", "other", "host"] {
        make_key(machine, &file(name))?;
    }
    for (name, principal) in [("key", PRINCIPAL), ("other", "somebody-else")] {
        let (ca, public) = (file("ca"), file(&format!("{name}.pub")));
        machine.run(&[
            "ssh-keygen", "-q", "-s", &ca, "-I", "borgios trial", "-n", principal, "-V", "-1m:+5m",
            &public,
        ])?;
    }
    // 2. The doors of the trial: the board's key and the authority's, one principal, none revoked.
    let authority = machine.text(file("ca.pub"))?;
    machine.write(file("board.pub"), format!("{board}\n{authority}").as_bytes(), 0o644)?;
    machine.folder(file("principals"), 0o755)?;
    machine.write(file("principals/root"), format!("{PRINCIPAL}\n").as_bytes(), 0o644)?;
    machine.run(&["ssh-keygen", "-q", "-k", "-f", &file("revoked")])?;
    // 3. The final configuration, on one port of this machine.
    let host = file("host");
    let places = Places { doors: FOLDER, host_key: &host };
    let config = effective.trial(&places, port, !must_change_password(machine)?);
    machine.write(file("sshd_config"), config.as_bytes(), 0o600)?;
    sshd_config::check(machine, file("sshd_config").as_ref())?;
    let said = Effective::ask(machine, "root", &["-f".into(), file("sshd_config")])?;
    let wrong = said.unwrap_or_default().against_the_rules(&places);
    if !wrong.is_empty() {
        return Err(TakeoverError::Trial(wrong.join("; ")));
    }
    let config = file("sshd_config");
    machine.run(&[
        "systemd-run", "--no-ask-password", "--quiet", "--collect", "--unit", UNIT, "--property",
        LIFE, "--property", "KillMode=control-group", "--", PROGRAM, "-D", "-f", &config, "-E",
        &file("log"),
    ])?;
    listening(machine, port)?;
    // 4. The board's way in opens root.
    let who = login(machine, port, "key", true, "id -u");
    match who {
        Ok(uid) if uid.trim() == "0" => {}
        Ok(other) => return Err(failed(machine, &format!("a certificate opens uid {other:?}"))?),
        Err(error) => return Err(failed(machine, &format!("a certificate is refused ({error})"))?),
    }
    // 5. And nothing else does.
    for (key, certified, what) in
        [("key", false, "a bare key"), ("other", true, "a certificate for others")]
    {
        if login(machine, port, key, certified, "true").is_ok() {
            return Err(failed(machine, &format!("{what} opens root too"))?);
        }
    }
    let offered = offered(machine, port)?;
    if offered != "publickey" {
        return Err(failed(machine, &format!("sshd offers {offered:?} and not publickey alone"))?);
    }
    Ok(vec![
        "a certificate for this server opens root (uid 0)".to_owned(),
        "a bare key is refused".to_owned(),
        "a certificate for others is refused".to_owned(),
        "no password is asked for".to_owned(),
    ])
}

/// Stops the second sshd and removes everything of it.
fn clean(machine: &Machine) -> Result<(), TakeoverError> {
    if sshd_unit::property(machine, UNIT, "LoadState")? == "loaded" {
        machine.systemctl(&["stop", UNIT])?;
    }
    Ok(machine.remove(FOLDER)?)
}

fn make_key(machine: &Machine, path: &str) -> Result<(), TakeoverError> {
    let words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "trial", "-f", path];
    Ok(machine.run(&words).map(drop)?)
}

fn free_port() -> Result<u16, TakeoverError> {
    let bound = TcpListener::bind(("127.0.0.1", 0)).and_then(|socket| socket.local_addr());
    let port = bound.map(|address| address.port());
    port.map_err(|error| TakeoverError::Trial(format!("no loopback port is free: {error}")))
}

fn listening(machine: &Machine, port: u16) -> Result<(), TakeoverError> {
    for _ in 0..LISTEN_TRIES {
        if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return Ok(());
        }
        machine.tools.pause(LISTEN_PAUSE);
    }
    Err(failed(machine, "the second sshd does not listen")?)
}

/// A stock login to the second sshd as root.
fn login(
    machine: &Machine,
    port: u16,
    key: &str,
    certified: bool,
    command: &str,
) -> Result<String, String> {
    // A copy of the key without its certificate beside it, which ssh would find by itself.
    let mut options = vec![format!("IdentityFile={FOLDER}/{key}")];
    let certificate = format!("{FOLDER}/{key}-cert.pub");
    options.push(format!("CertificateFile={}", if certified { &certificate } else { "none" }));
    ssh(machine, port, &options, command)
}

/// What sshd would take from somebody who has nothing: `publickey`, and nothing else.
pub(super) fn offered(machine: &Machine, port: u16) -> Result<String, TakeoverError> {
    let options = ["PreferredAuthentications=none".to_owned()];
    match ssh(machine, port, &options, "true") {
        Ok(_) => Ok("a login without anything".to_owned()),
        Err(said) => {
            let list = said.rsplit_once('(').and_then(|(_, rest)| rest.split_once(')'));
            list.map(|(list, _)| list.to_owned()).ok_or(TakeoverError::Trial(said))
        }
    }
}

/// `ssh` as everybody has it, without this machine's settings and keys.
fn ssh(
    machine: &Machine,
    port: u16,
    options: &[String],
    command: &str,
) -> Result<String, String> {
    let port = port.to_string();
    let mut words = vec!["ssh", "-F", "/dev/null", "-T", "-p", &port];
    for option in [
        "BatchMode=yes",
        "IdentitiesOnly=yes",
        "IdentityAgent=none",
        "ConnectTimeout=5",
        // It is this very machine, and the key is a minute old.
        "StrictHostKeyChecking=no",
        "UserKnownHostsFile=/dev/null",
        "GlobalKnownHostsFile=/dev/null",
        "LogLevel=ERROR",
    ]
    .into_iter()
    .chain(options.iter().map(String::as_str))
    {
        words.extend(["-o", option]);
    }
    words.extend(["root@127.0.0.1", command]);
    machine.tools.run(&words, LOGIN_MAX).map_err(|error| error.to_string())
}

/// Without PAM if root has to change a password first: PAM would ask for that, and the take-over
/// ends it (see `account`).
fn must_change_password(machine: &Machine) -> Result<bool, TakeoverError> {
    let shadow = machine.text("/etc/shadow")?;
    let root = shadow.lines().find(|line| line.starts_with("root:"));
    Ok(root.and_then(|line| line.split(':').nth(2)).is_some_and(|changed| changed == "0"))
}

/// The failure, with what sshd has to say about it.
fn failed(machine: &Machine, what: &str) -> Result<TakeoverError, TakeoverError> {
    let log = machine.text(format!("{FOLDER}/log"))?;
    let last: Vec<_> = log.lines().rev().take(6).map(super::finding::plain).collect();
    let last: Vec<_> = last.into_iter().rev().collect();
    Ok(TakeoverError::Trial(format!("{what}; sshd says: {}", last.join(" | "))))
}
