//! A server below a folder, with a keeper that can be killed.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use borgios_agent::keeper::chain_store::ChainStore;
use borgios_agent::keeper::paths::Paths;
use borgios_agent::keeper::protocol::Status;
use borgios_policy::Lane;
use borgios_releases::manifest::Installer;
use borgios_releases::{Component, Manifest, build};
use borgios_types::{Digest, Envelope, Seq};
use serde_json::{Value, json};

use crate::board::TestBoard;

/// The program under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_borgios-keeper");
/// Longest wait for anything here; a slow machine compiles beside us.
const PATIENCE: Duration = Duration::from_secs(120);

/// A server's disk, and the programs its keeper finds.
pub(crate) struct Bench {
    folder: tempfile::TempDir,
    pub(crate) paths: Paths,
    pub(crate) board: TestBoard,
    pub(crate) policy: Envelope,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::below(&folder.path().join("root"));
        fs::create_dir_all(&paths.depot).unwrap();
        let tools = folder.path().join("tools");
        fs::create_dir_all(&tools).unwrap();
        // A restart waits while there is a file `hold`, so that the keeper can be killed in it.
        let systemctl = format!(
            "#!/bin/sh\necho \"$*\" >>{0}/calls\ncase \"$*\" in\n*show*) echo active ;;\n\
             *restart*) while [ -e {0}/hold ]; do sleep 0.02; done ;;\nesac\n",
            folder.path().display()
        );
        let systemd_run = "#!/bin/sh\nwhile [ \"$1\" != -- ]; do shift; done\nshift\n\
                           case $1 in systemd-*) exit 0 ;; esac\nexec \"$@\"\n";
        for (name, script) in [("systemctl", systemctl.as_str()), ("systemd-run", systemd_run)] {
            let path = tools.join(name);
            fs::write(&path, script).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let board = TestBoard::new(4);
        let policy = board.invite(Vec::new()).chain.remove(0);
        Self { folder, paths, board, policy }
    }

    /// Pins the keeper's folder, as the first install does.
    pub(crate) fn pinned() -> Self {
        let bench = Self::new();
        fs::create_dir_all(&bench.paths.keeper).unwrap();
        ChainStore::pin(&bench.paths.keeper, bench.board.network()).unwrap();
        bench
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A command of the program with our tools before the system's.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let path = format!("{}:{}", self.path("tools").display(), std::env::var("PATH").unwrap());
        let mut command = Command::new(program);
        command.env("PATH", path).env_remove("NOTIFY_SOCKET").env_remove("JOURNAL_STREAM");
        command.env("NO_COLOR", "1").stdin(Stdio::null());
        command
    }

    pub(crate) fn start(&self) -> Keeper<'_> {
        self.start_program(Path::new(PROGRAM))
    }

    pub(crate) fn start_program(&self, program: &Path) -> Keeper<'_> {
        let keeper = self.spawn(program);
        until("the keeper answers", || UnixStream::connect(&self.paths.socket).is_ok());
        keeper
    }

    /// Starts it and does not wait for its socket.
    pub(crate) fn spawn(&self, program: &Path) -> Keeper<'_> {
        let log = File::options().create(true).append(true).open(self.path("log")).unwrap();
        let mut command = self.command(program);
        command.args(["run", "--root"]).arg(&self.paths.root).stderr(log);
        let child = command.spawn().unwrap();
        Keeper { bench: self, child }
    }

    /// Everything the keeper said.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Builds `hello`, whose health command ends with `health`, into `folder`.
    pub(crate) fn hello(&self, folder: &Path, words: &str, health: u8) -> Component {
        let check = format!("#!/bin/sh\nexit {health}\n");
        // What is well says so at once, if the machine lets it; for what is not, the keeper waits.
        let deadline_s = if health == 0 { 60 } else { 1 };
        let info = json!({
            "name": "hello", "version": "1", "arch": "any", "restart": ["hello.service"],
            "health": {
                "command": ["/opt/borgios/current/hello/files/bin/check"],
                "deadline_s": deadline_s,
            },
        });
        let files = [
            ("component.json", info.to_string(), 0o644),
            ("files/bin/check", check, 0o755),
            ("files/words", words.to_owned(), 0o644),
            ("units/hello.service", "[Service]\nExecStart=/bin/true\n".to_owned(), 0o644),
        ];
        let source = tempfile::tempdir().unwrap();
        for (path, text, mode) in files {
            let path = source.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
        component(source.path(), folder)
    }

    /// Builds the keeper's own component: the program under test, and `words` to tell it apart.
    pub(crate) fn keeper_component(&self, words: &str) -> Component {
        let source = tempfile::tempdir().unwrap();
        let info = json!({"name": "borgios-keeper", "version": "1", "arch": "any",
            "restart": ["borgios-keeper.service"]});
        for folder in ["files/bin", "units"] {
            fs::create_dir_all(source.path().join(folder)).unwrap();
        }
        fs::write(source.path().join("component.json"), info.to_string()).unwrap();
        fs::write(source.path().join("files/words"), words).unwrap();
        fs::write(source.path().join("units/borgios-keeper.service"), "[Service]\n").unwrap();
        fs::copy(PROGRAM, source.path().join("files/bin/borgios-keeper")).unwrap();
        component(source.path(), &self.paths.depot)
    }

    /// Signs the next release.
    pub(crate) fn release(&mut self, mut components: Vec<Component>) -> Envelope {
        components.sort_by(|one, other| one.name.cmp(&other.name));
        let program = fs::read(PROGRAM).unwrap();
        let manifest = Manifest {
            version: "1".into(),
            components,
            installer: Installer { digest: Digest::of(&program), size: program.len() as u64 },
            urls: Vec::new(),
            floor: Seq(1),
            notes: String::new(),
        };
        self.board.statement(Lane::Release, manifest.to_body())
    }

    /// The next release: `hello` with these words and this health, its blob in the depot.
    pub(crate) fn hello_release(&mut self, words: &str, health: u8) -> Envelope {
        let hello = self.hello(&self.paths.depot, words, health);
        self.release(vec![hello])
    }

    /// What runs says.
    pub(crate) fn words(&self) -> Option<String> {
        fs::read_to_string(self.paths.current.join("hello/files/words")).ok()
    }
}

fn component(source: &Path, folder: &Path) -> Component {
    let mut blob = Vec::new();
    let built = build(source, &mut blob).unwrap();
    fs::write(folder.join(built.digest.hex()), blob).unwrap();
    Component { name: built.info.name, digest: built.digest, size: built.size }
}

/// A running keeper; killed on drop.
pub(crate) struct Keeper<'a> {
    bench: &'a Bench,
    child: Child,
}

impl Keeper<'_> {
    /// One line there, one line back.
    pub(crate) fn ask(&self, request: &Value) -> Value {
        let mut stream = UnixStream::connect(&self.bench.paths.socket).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(format!("{request}\n").as_bytes()).unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("{request}: answer {line:?}"))
    }

    pub(crate) fn submit(&self, statement: &Envelope) -> Value {
        self.ask(&json!({"verb": "submit", "statement": statement, "ballots": []}))
    }

    /// Submits and expects that it is taken.
    pub(crate) fn take(&self, statement: &Envelope) {
        assert_eq!(self.submit(statement), json!({"ok": "accepted"}));
    }

    /// The code of a refusal.
    pub(crate) fn refusal(&self, statement: &Envelope) -> String {
        code(&self.submit(statement))
    }

    pub(crate) fn status(&self) -> Status {
        serde_json::from_value(self.ask(&json!({"verb": "status"}))["ok"].clone()).unwrap()
    }

    pub(crate) fn install(&self, seq: u64) -> Value {
        self.ask(&json!({"verb": "install", "seq": seq}))
    }

    /// Waits until the install of a release has ended.
    pub(crate) fn ended(&self, seq: u64) -> Status {
        let mut last = None;
        until(&format!("release/{seq} has ended"), || {
            let status = self.status();
            let ended = status.last.as_ref().is_some_and(|last| last.release == Seq(seq));
            last = Some(status);
            ended
        });
        last.unwrap()
    }

    /// Ends it as a power cut would.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits until it ends by itself.
    pub(crate) fn gone(mut self) -> ExitStatus {
        let mut status = None;
        until("the keeper has ended", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }
}

impl Drop for Keeper<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the keeper said:\n{}", self.bench.log());
        }
    }
}

/// The code of an error answer.
pub(crate) fn code(answer: &Value) -> String {
    answer["error"]["code"].as_str().unwrap_or_else(|| panic!("no error: {answer}")).to_owned()
}

/// Waits for a condition, within bounds.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "not in time: {what}");
        std::thread::yield_now();
        std::thread::park_timeout(Duration::from_millis(20));
    }
}
