//! A board of governors for tests: real folders, the real program, a shared exchange folder.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use age::secrecy::SecretString;
use borgios_types::SecretKey;
use rustix::io::Errno;
use serde_json::Value;
use tempfile::TempDir;

use crate::strike::{CALLS, Fault, counted, interrupted};

/// Governors in one temporary folder.
pub(crate) struct Board {
    folder: TempDir,
}

thread_local! {
    /// Whether this test (each has a thread of its own) has no board yet.
    static FIRST: Cell<bool> = const { Cell::new(true) };
}

/// What locks everything here.
const PASSPHRASE: &str = "correct horse battery staple\n";

/// The program under test.
pub(crate) const BORGIOS: &str = env!("CARGO_BIN_EXE_borgios");

impl Board {
    /// Governors with identities and no network yet; what locks them is [`hasten`](Self::hasten)ed.
    pub(crate) fn of(names: &[&str]) -> Self {
        let board = Self { folder: tempfile::tempdir().unwrap() };
        std::fs::create_dir(board.exchange()).unwrap();
        std::fs::write(board.path("passphrase"), PASSPHRASE).unwrap();
        let first = FIRST.replace(false);
        for name in names {
            if first {
                board.settle(name);
            } else {
                board.ok(name, &["governor", "init", "--name", name]);
                board.hasten(name);
            }
        }
        board
    }

    /// Copies the home of a governor of that name: the work that locks an identity is done once per name and
    /// run, but for further boards of one test, whose governors are others.
    fn settle(&self, name: &str) {
        static HOMES: Mutex<BTreeMap<String, Arc<OnceLock<Vec<u8>>>>> = Mutex::new(BTreeMap::new());
        let home = HOMES.lock().unwrap().entry(name.to_owned()).or_default().clone();
        let home = home.get_or_init(|| {
            let board = Self { folder: tempfile::tempdir().unwrap() };
            std::fs::write(board.path("passphrase"), PASSPHRASE).unwrap();
            board.ok(name, &["governor", "init", "--name", name]);
            board.hasten(name);
            let mut archive = tar::Builder::new(Vec::new());
            archive.append_dir_all(format!("home-{name}"), board.home(name)).unwrap();
            archive.into_inner().unwrap()
        });
        tar::Archive::new(home.as_slice()).unpack(self.folder.path()).unwrap();
    }

    /// Governors who have founded a network: the first one wrote the plan.
    pub(crate) fn founded(names: &[&str], threshold: usize) -> Self {
        let board = Self::of(names);
        board.found(names, threshold);
        board
    }

    /// Runs the founding to its end.
    pub(crate) fn found(&self, names: &[&str], threshold: usize) {
        let (threshold, count) = (threshold.to_string(), names.len().to_string());
        for name in &names[1..] {
            self.json(name, &["governor", "found"]);
        }
        let plan = self.json(
            names[0],
            &["governor", "found", "--threshold", &threshold, "--governors", &count],
        );
        assert_eq!(plan["status"], "confirm");
        let roster = plan["roster"].as_str().unwrap();
        for _ in 0..6 {
            let mut founded = 0;
            for name in names {
                let step = self
                    .json(name, &["governor", "found", "--accept-roster", roster, "--name", "lab"]);
                founded += usize::from(step["status"] == "founded");
            }
            if founded == names.len() {
                return;
            }
        }
        panic!("not founded after six rounds");
    }

    /// The shared folder.
    pub(crate) fn exchange(&self) -> PathBuf {
        self.path("exchange")
    }

    /// A path in the board's folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A governor's home.
    pub(crate) fn home(&self, name: &str) -> PathBuf {
        self.path(&format!("home-{name}"))
    }

    /// The program as a governor types it, passphrase and folders set.
    pub(crate) fn command(&self, name: &str, args: &[&str]) -> Command {
        let mut command = Command::new(BORGIOS);
        self.prepare(&mut command, name, args);
        command
    }

    /// Adds the arguments and the passphrase to a command that runs the program.
    pub(crate) fn prepare(&self, command: &mut Command, name: &str, args: &[&str]) {
        let passphrase = std::fs::File::open(self.path("passphrase")).unwrap();
        command
            .args(args)
            .arg("--home")
            .arg(self.home(name))
            .arg("--exchange")
            .arg(self.exchange())
            .args(["--passphrase-fd", "0", "--socket"])
            .arg(self.path("no.sock"))
            .env_remove("BORGIOS_HOME")
            .stdin(Stdio::from(passphrase));
    }

    /// Runs it.
    pub(crate) fn run(&self, name: &str, args: &[&str]) -> Output {
        self.command(name, args).output().unwrap()
    }

    /// Runs it with these lines on its standard input, the passphrase being the first one asked for.
    pub(crate) fn run_with(&self, name: &str, args: &[&str], lines: &str) -> Output {
        let path = self.path("stdin");
        std::fs::write(&path, lines).unwrap();
        let mut command = self.command(name, args);
        command.stdin(Stdio::from(std::fs::File::open(path).unwrap())).output().unwrap()
    }

    /// Looks at a place and approves what is there.
    pub(crate) fn approve(&self, name: &str, place: &str) -> Value {
        self.ok(name, &["review", place]);
        self.json(name, &["vote", place, "approve"])
    }

    /// Runs `governor change` of all these in turn until each says that the policy is proposed.
    pub(crate) fn change(&self, names: &[&str], roster: Option<&str>) -> Value {
        let mut args = vec!["governor", "change"];
        args.extend(roster.iter().flat_map(|roster| ["--accept-roster", roster]));
        for _ in 0..8 {
            let answers: Vec<Value> = names.iter().map(|name| self.json(name, &args)).collect();
            if answers.iter().all(|answer| answer["status"] == "proposed") {
                return answers[0].clone();
            }
        }
        panic!("no key after eight rounds");
    }

    /// Looks at what is about to be approved, as the program demands. A look at nothing that can
    /// be voted on is the vote's to refuse.
    fn look_first(&self, name: &str, args: &[&str]) {
        if let ["vote", subject, "approve", ..] = args {
            self.run(name, &["review", subject]);
        }
    }

    /// Runs it (before an approval the review, too), expects success, and returns what it printed.
    pub(crate) fn ok(&self, name: &str, args: &[&str]) -> String {
        self.look_first(name, args);
        let output = self.run(name, args);
        assert!(output.status.success(), "{name} {args:?}: {}", stderr(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs it with `--json`, expects success, and returns the answer.
    pub(crate) fn json(&self, name: &str, args: &[&str]) -> Value {
        let args: Vec<&str> = args.iter().copied().chain(["--json"]).collect();
        serde_json::from_str(&self.ok(name, &args)).unwrap()
    }

    /// Runs it, expects exit code 1, and returns what it said.
    pub(crate) fn refused(&self, name: &str, args: &[&str]) -> String {
        let output = self.run(name, args);
        assert_eq!(output.status.code(), Some(1), "{name} {args:?}: {}", stderr(&output));
        stderr(&output)
    }

    /// A component with one file, and an installer, as `propose release` takes them.
    pub(crate) fn component(&self, name: &str, content: &str) -> PathBuf {
        let folder = self.path(&format!("{name}-{content}"));
        std::fs::create_dir_all(folder.join("files")).unwrap();
        std::fs::write(folder.join("files/text"), content).unwrap();
        let info = format!(r#"{{"name":"{name}","version":"1","arch":"any"}}"#);
        std::fs::write(folder.join("component.json"), info).unwrap();
        let out = self.path(&format!("{name}-{content}.tar.zst"));
        let (from, to) = (folder.to_str().unwrap(), out.to_str().unwrap());
        self.ok("nobody", &["release", "build", from, "--out", to]);
        out
    }

    /// Proposes the next release with one component.
    pub(crate) fn propose(&self, name: &str, version: &str) -> Value {
        let component = self.component("hello", version);
        let installer = self.path("keeper");
        std::fs::write(&installer, "the keeper").unwrap();
        let (component, installer) = (component.to_str().unwrap(), installer.to_str().unwrap());
        self.json(
            name,
            &[
                "propose",
                "release",
                "--component",
                component,
                "--installer",
                installer,
                "--version",
                version,
                "--note",
                "as agreed",
            ],
        )
    }

    /// Locks a governor's identity with little work, so that a test can open it hundreds of times.
    /// The program itself never writes such a file.
    pub(crate) fn hasten(&self, name: &str) {
        use age::secrecy::SecretString;
        let path = self.home(name).join("governor/identity.age");
        let passphrase = std::fs::read_to_string(self.path("passphrase")).unwrap();
        let passphrase = SecretString::from(passphrase.trim());
        let identity = age::scrypt::Identity::new(passphrase.clone());
        let plain = age::decrypt(&identity, &std::fs::read(&path).unwrap()).unwrap();
        let mut recipient = age::scrypt::Recipient::new(passphrase);
        recipient.set_work_factor(1);
        std::fs::write(&path, age::encrypt(&recipient, &plain).unwrap()).unwrap();
    }

    /// A governor's identity key and what opens what is sealed to them, as only their passphrase opens it.
    pub(crate) fn secrets(&self, name: &str) -> (SecretKey, age::x25519::Identity) {
        let path = self.home(name).join("governor/identity.age");
        let passphrase = std::fs::read_to_string(self.path("passphrase")).unwrap();
        let identity = age::scrypt::Identity::new(SecretString::from(passphrase.trim()));
        let plain = age::decrypt(&identity, &std::fs::read(path).unwrap()).unwrap();
        let stored: Value = serde_json::from_slice(&plain).unwrap();
        let seed: Vec<u8> = serde_json::from_value(stored["seed"].clone()).unwrap();
        let age = stored["age"].as_str().unwrap().parse().unwrap();
        (SecretKey::from_seed(seed.try_into().unwrap()), age)
    }

    /// Lays an object into the exchange folder, as anybody can.
    pub(crate) fn publish(&self, envelope: &borgios_types::Envelope) {
        let folder = self.exchange().join("objects");
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join(format!("{}.json", envelope.id().hex()));
        std::fs::write(path, envelope.to_json()).unwrap();
    }

    /// Every object of one kind in the exchange folder, by its file.
    pub(crate) fn published(&self, kind: &str) -> Vec<(PathBuf, Value)> {
        let mut found = Vec::new();
        for path in files(&self.exchange().join("objects")) {
            let envelope: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            if envelope["type"] == kind {
                found.push((path, envelope));
            }
        }
        found
    }
}

/// The whole files of a folder, sorted.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    paths.sort();
    paths
}

/// Waits until the clock shows another second: the program tells times in whole ones.
pub(crate) fn next_second() {
    let second = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let began = second();
    while second() == began {
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// What a program said.
pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The calls and what happens to them.
const FAULTS: [(&str, Fault); 8] = [
    ("write", Fault::Kill),
    ("fsync", Fault::Kill),
    ("rename", Fault::Kill),
    ("unlink", Fault::Kill),
    ("write", Fault::Error(Errno::NOSPC)),
    ("fsync", Fault::Error(Errno::NOSPC)),
    ("rename", Fault::Error(Errno::NOSPC)),
    ("unlink", Fault::Error(Errno::IO)),
];

/// Runs one step of a governor's, interrupted at each of its calls, for each kind of fault from the
/// same start. How often it was interrupted, and what it answered in the end.
///
/// Of kills there are two stories. In the first every one hits a run that begins at the start, so that
/// none of its calls is passed over: what lies there then is looked at by `struck`, and the next run
/// must go on from it. In the second, which errors have too, each run begins at what the last one
/// left, until one ends unhurt.
///
/// The first leaves `fsync` out: a kill takes nothing back that was written, so what one leaves there is
/// what one at the rename or unlink that comes next leaves. It would be a third of all its runs.
pub(crate) fn step(
    board: &Board,
    name: &str,
    args: &[&str],
    struck: impl Fn(&str),
) -> (usize, Value) {
    let log = board.path("struck");
    let args: Vec<&str> = args.iter().copied().chain(["--json"]).collect();
    let folders = [board.home(name), board.exchange()];
    let mut hits = 0;
    let kept = board.path("kept");
    copy(&folders, &kept);
    for call in CALLS {
        let (ours, seen) = counted(
            &log,
            call,
            |command| board.prepare(command, name, &args),
            || {
                put_back(&folders, &kept);
            },
        );
        assert_eq!(ours, seen, "{call}: as many calls as strace sees");
    }
    for (call, fault) in FAULTS {
        let interrupted = |story, n| {
            let prepare = |command: &mut Command| board.prepare(command, name, &args);
            let (struck, output) = interrupted(&log, call, fault, n, prepare);
            let context = format!("story {story}, {call} {n} {fault:?}");
            assert!(struck || output.status.success(), "{context}: {}", stderr(&output));
            struck
        };
        if fault == Fault::Kill && call != "fsync" {
            for n in 1.. {
                if !interrupted(1, n) {
                    break;
                }
                hits += 1;
                let context = format!("{call} {n}");
                struck(&context);
                let output = board.run(name, &args);
                assert!(output.status.success(), "after {context}: {}", stderr(&output));
                put_back(&folders, &kept);
            }
            put_back(&folders, &kept);
        }
        for n in 1.. {
            if !interrupted(2, n) {
                break;
            }
            hits += 1;
        }
        if (call, fault) != FAULTS[7] {
            put_back(&folders, &kept);
        }
    }
    std::fs::remove_dir_all(&kept).unwrap();
    (hits, serde_json::from_str(&board.ok(name, &args)).unwrap())
}

/// Back to the start. Nobody else has looked at the folders meanwhile.
fn put_back(folders: &[PathBuf], kept: &Path) {
    for folder in folders {
        std::fs::remove_dir_all(folder).unwrap();
        copy(&[kept.join(folder.file_name().unwrap())], folder.parent().unwrap());
    }
}

/// Copies whole folders into another.
pub(crate) fn copy(from: &[PathBuf], to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    assert!(Command::new("cp").arg("-a").args(from).arg(to).status().unwrap().success());
}
