//! What lies on a server's disk: two keys of its own, and no other secret, not even the one it was
//! invited with.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use crate::component::Service;
use crate::lab::Lab;
use crate::network::Network;
use crate::scenario::{Say, Scenario};
use crate::server::Server;
use crate::wait::{self, SOON};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "secrets",
    about: "a server's disk holds no secret but its own two keys",
    alone: false,
    run,
};

/// The folders that anything of ours is in, and those where it must not be.
const FOLDERS: [&str; 9] =
    ["/etc", "/opt", "/var/lib", "/var/log", "/run", "/root", "/tmp", "/var/tmp", "/home"];
/// Text that only secrets begin with.
const MARKS: [&[u8]; 3] = [b"PRIVATE KEY-----", b"AGE-SECRET-KEY-", b"age-encryption.org/v1"];
/// The two keys, their owners and modes.
const KEYS: [(&str, &str); 2] = [
    ("/var/lib/borgios/node.key", "borgios borgios 600"),
    ("/var/lib/borgios-keeper/keeper.key", "root root 600"),
];

fn run(say: &Say) -> Result<()> {
    let lab = Lab::up(2)?;
    let network = Network::founded(&lab, "secrets")?;
    network.join_all()?;
    network.wait_tree()?;
    network.release(2, &Service::new("hello", "2"))?;
    network.wait_installed(2)?;
    for server in lab.servers() {
        wait::until_true(&format!("{}: the invitation is gone", server.host()), SOON, || {
            Ok(server.try_sh("test -e /var/lib/borgios/invite.json")?.code == 1)
        })?;
        let files = look(&network, server)?;
        say(&format!("{}: {files} files looked at, two secrets: its own keys", server.host()));
    }
    lab.take_down()
}

/// Copies the disk out and searches every byte of it; returns how many files there were.
fn look(network: &Network<'_>, server: Server<'_>) -> Result<usize> {
    let host = server.host();
    for (path, wanted) in KEYS {
        let stat = server.sh(&format!("stat -c '%U %G %a' {path}"))?;
        ensure!(stat == wanted, "{host}: {path} is {stat}, expected {wanted}");
    }
    for (folder, wanted) in
        [("/var/lib/borgios", "borgios borgios 700"), ("/var/lib/borgios-keeper", "root root 700")]
    {
        let stat = server.sh(&format!("stat -c '%U %G %a' {folder}"))?;
        ensure!(stat == wanted, "{host}: {folder} is {stat}, expected {wanted}");
    }
    let copy = network.file(&format!("disk-{}", server.number()));
    for folder in FOLDERS {
        // A socket cannot be copied, and holds nothing.
        let archive = format!("{}{folder}", copy.display());
        std::fs::create_dir_all(&archive)?;
        pull(server, folder, Path::new(&archive))?;
    }
    let mut files = Vec::new();
    walk(&copy, &mut files)?;
    let secrets = needles(network)?;
    for file in &files {
        let bytes = std::fs::read(file)?;
        let place = Path::new("/").join(file.strip_prefix(&copy)?);
        let own = KEYS.iter().any(|(key, _)| Path::new(key) == place);
        // The programs know what a key looks like; sshd's host key since the hand-over is the
        // server's own, and the ones before it are gone.
        let program = bytes.starts_with(b"\x7fELF") || bytes.starts_with(b"\x28\xb5\x2f\xfd");
        let hosts = place == Path::new("/etc/borgios/ssh/host_ed25519_key");
        let marked = MARKS.iter().find(|mark| contains(&bytes, mark));
        if let Some(mark) = marked.filter(|_| !own && !program && !hosts) {
            let mark = String::from_utf8_lossy(mark);
            anyhow::bail!("{host}: {} holds {mark}", place.display());
        }
        for (what, needle) in &secrets {
            ensure!(!contains(&bytes, needle), "{host}: {} holds {what}", place.display());
        }
    }
    for (key, _) in KEYS {
        let bytes = std::fs::read(copy.join(key.trim_start_matches('/')))?;
        // Both keys must be found by what finds others, or it finds nothing at all.
        ensure!(contains(&bytes, MARKS[0]), "{host}: {key} does not look like a key");
    }
    Ok(files.len())
}

/// Every secret this story knows, as it would stand in a file.
fn needles(network: &Network<'_>) -> Result<Vec<(String, Vec<u8>)>> {
    let mut needles = Vec::new();
    for name in ["first.json", "invite.json"] {
        let text = std::fs::read(network.file(name))?;
        let file: serde_json::Value = serde_json::from_slice(&text)?;
        let token = file["token"].as_str().context("an invitation without a token")?;
        // One whole line from the middle of the armour: in JSON or not, it looks the same.
        let line = token.lines().nth(2).context("a token of one line")?;
        needles.push((format!("the token of {name}"), line.as_bytes().to_vec()));
    }
    for governor in network.governors() {
        let key = governor.key()?;
        let what = format!("{}'s key", governor.name());
        needles.push((what.clone(), key.seed().to_vec()));
        let armour = key.to_openssh("x");
        let line = armour.lines().nth(2).context("a key of one line")?;
        needles.push((what, line.as_bytes().to_vec()));
        let share = std::fs::read(governor.home().join("governor/share.age"))?;
        let what = format!("{}'s sealed share", governor.name());
        needles.push((what, share.get(..200).unwrap_or(&share).to_vec()));
    }
    needles.push(("the governors' passphrase".into(), b"correct horse battery".to_vec()));
    Ok(needles)
}

/// Copies the plain files of a folder.
pub(super) fn pull(server: Server<'_>, folder: &str, to: &Path) -> Result<()> {
    // What systemd notes while it runs comes and goes; its settings and its state do not.
    let but = if folder == "/run" { " ! -path './systemd/*'" } else { "" };
    let list = format!("find . -xdev -type f -readable{but}");
    let archive = "/srv/look.tar";
    // tar ends with 1 where a file changed while it was read, and with 2 also where one that was
    // listed has gone since: then all of it is listed once more, a second later, for it may still be
    // busy there.
    server.sh(&format!(
        "rm -f {archive}; cd {folder} || exit 2; for turn in 1 2 3 4 5; do {list} -print0 | tar --null -T - -cf {archive}; code=$?; \
         [ $code -gt 1 ] || exit 0; sleep 1; done; echo tar: $code >&2; exit $code"
    ))?;
    server.sh(&format!("test -s {archive}"))?;
    let local = to.join("look.tar");
    server.get(archive, &local)?;
    let mut tar = std::process::Command::new("tar");
    tar.arg("-C").arg(to).arg("-xf").arg(&local).arg("--no-same-owner");
    crate::command::run(tar, b"", SOON)?.ok()?;
    Ok(std::fs::remove_file(local)?)
}

pub(super) fn walk(folder: &Path, files: &mut Vec<std::path::PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            walk(&entry.path(), files)?;
        } else if kind.is_file() {
            files.push(entry.path());
        }
    }
    Ok(())
}

fn contains(bytes: &[u8], needle: &[u8]) -> bool {
    // The first byte is looked for quickly; what follows is compared only there.
    let Some(first) = needle.first() else { return false };
    let mut from = 0;
    while let Some(at) = bytes[from..].iter().position(|byte| byte == first) {
        let at = from + at;
        if bytes[at..].starts_with(needle) {
            return true;
        }
        from = at + 1;
    }
    false
}
