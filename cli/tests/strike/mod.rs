//! The program, struck at one of its calls: killed there, or told that the disk is full.

use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use rustix::io::Errno;

use crate::board::{BORGIOS, stderr};

/// The calls with which it changes what is on the disk.
pub(crate) const CALLS: [&str; 4] = ["write", "fsync", "rename", "unlink"];

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// `kill -9` on entering the call.
    Kill,
    /// The call fails with this error.
    Error(Errno),
}

/// Runs the program with a fault at its `n`-th `call`; whether it struck, and how the program ended.
/// `log` is a file that nobody else writes to.
pub(crate) fn interrupted(
    log: &Path,
    call: &str,
    fault: Fault,
    n: usize,
    prepare: impl FnOnce(&mut Command),
) -> (bool, Output) {
    drop(std::fs::remove_file(log));
    let error = match fault {
        Fault::Kill => 0,
        Fault::Error(error) => error.raw_os_error(),
    };
    let mut command = Command::new(BORGIOS);
    prepare(&mut command);
    command
        .env("LD_PRELOAD", library())
        .env("STRIKE_CALL", call)
        .env("STRIKE_NTH", n.to_string())
        .env("STRIKE_ERROR", error.to_string())
        .env("STRIKE_LOG", log);
    let output = command.output().unwrap();
    let struck = std::fs::read(log).is_ok_and(|calls| calls.contains(&b'!'));
    assert!(!struck || fault != Fault::Kill || output.status.signal() == Some(9), "{output:?}");
    (struck, output)
}

/// How often an unhurt run makes a `call`, as our library counts and as strace does: one that the library
/// does not see would not be struck. `put_back` is called after each of the two runs.
pub(crate) fn counted(
    log: &Path,
    call: &str,
    prepare: impl Fn(&mut Command),
    put_back: impl Fn(),
) -> (usize, usize) {
    let (_, output) = interrupted(log, call, Fault::Kill, 0, &prepare);
    assert!(output.status.success(), "{}", stderr(&output));
    let ours = std::fs::read(log).map_or(0, |calls| calls.len());
    put_back();
    let mut command = Command::new("strace");
    command.args(["-f", "--seccomp-bpf", "-qqq", "-e", &format!("trace={call}"), "-e"]);
    command.args(["signal=none", "-o"]).arg(log).arg(BORGIOS);
    prepare(&mut command);
    let output = command.output().expect("this test needs strace: apt-get install strace");
    assert!(output.status.success(), "{}", stderr(&output));
    let lines = std::fs::read_to_string(log).unwrap();
    put_back();
    (ours, lines.lines().filter(|line| line.contains(&format!("{call}("))).count())
}

/// `strike.so`, compiled by the linker that Rust itself needs, once per run.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let (path, new) =
            (folder.join("strike.so"), tempfile::NamedTempFile::new_in(folder).unwrap());
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/strike/strike.c");
        let options = ["-shared", "-fPIC", "-O1", "-Wall", "-Werror", source, "-o"];
        let output = Command::new("cc").args(options).arg(new.path()).output();
        let output = output.expect("this test needs a C compiler: apt-get install gcc libc6-dev");
        assert!(output.status.success(), "{}", stderr(&output));
        new.persist(&path).unwrap();
        path
    })
}
