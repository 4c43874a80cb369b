//! `kill -9` and a failing disk at every write, sync, rename, link and unlink of a rotation, in the
//! keeper and in the chpasswd that it runs.
//!
//! strace injects the fault at the N-th call of one kind in each process, for N = 1, 2, … until a
//! rotation ends unhurt. Each time root's field must be the old verifier or the new one, whole, and
//! one more rotation must finish the work and leave nothing behind. The same is done to the
//! rotation that finishes what an interrupted one began.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::bench::{Bench, PROGRAM};
use crate::server::{
    as_root, carried, check_rest, rotates, schedule, scheduled, store, verifier, with_accounts,
};

/// No rotation makes as many calls of one kind.
const CALLS_MAX: usize = 100;

/// A server whose root carries epoch 1 and is to change to epoch 2.
fn template() -> Bench {
    let mut bench = with_accounts();
    let schedule = schedule(bench.board.network(), 86_400);
    let first = scheduled(&mut bench, &schedule, 1);
    let root = bench.paths.root.clone();
    store(&bench.paths, &[bench.policy.clone(), first]);
    rotates(&root, "the first rotation");
    check_rest(&root, 1, "the first rotation");
    let advance = scheduled(&mut bench, &schedule, 2);
    store(&bench.paths, &[advance]);
    bench
}

fn copy(bench: &Bench, from: &Path, name: &str) -> PathBuf {
    let folder = bench.path(name);
    let copied = Command::new("cp").arg("-a").args([from, &folder]).status();
    assert!(copied.unwrap().success());
    folder
}

/// Rotates under strace; whether the fault struck, and whether the keeper says that all is well.
fn interrupted(root: &Path, call: &str, fault: &str, n: usize) -> (bool, bool) {
    let log = root.join("strace");
    let mut command = as_root("strace");
    command.args(["-f", "-qq", "-o"]).arg(&log).args([
        "-e",
        &format!("trace={call}"),
        "-e",
        &format!("inject={call}:{fault}:when={n}"),
        PROGRAM,
        "rotate",
        "--once",
        "--root",
    ]);
    let output =
        command.arg(root).output().expect("this test needs strace: apt-get install strace");
    let log = fs::read_to_string(&log).unwrap();
    let struck = log.contains("(INJECTED)") || log.contains("killed by SIGKILL");
    (struck, output.status.success())
}

/// One kind of fault at one kind of call, in a rotation that begins at `from`.
struct Sweep<'a> {
    bench: &'a Bench,
    from: &'a Path,
    call: &'static str,
    fault: &'static str,
}

impl Sweep<'_> {
    /// Interrupts at every call; how often, and how often the old verifier was still there.
    fn run(&self) -> (usize, usize) {
        let Self { bench, from, call, fault } = *self;
        let begins = from.file_name().unwrap().to_string_lossy();
        let mut undone = 0;
        for n in 1..CALLS_MAX {
            let place = format!("from {begins}, {call} number {n}, {fault}");
            let root = copy(bench, from, &place.replace([' ', ',', '='], "-"));
            let (struck, well) = interrupted(&root, call, fault, n);
            let found = carried(&root, &place);
            assert!(found == verifier(1) || found == verifier(2), "{place}: {found}");
            assert!(!well || found == verifier(2), "{place}: said to be done");
            if !struck {
                assert!(well, "{place}");
                check_rest(&root, 2, &place);
                return (n - 1, undone);
            }
            undone += usize::from(found == verifier(1));
            rotates(&root, &place);
            check_rest(&root, 2, &place);
            fs::remove_dir_all(&root).unwrap();
        }
        panic!("more than {CALLS_MAX} calls of {call}");
    }
}

#[test]
fn no_interruption_leaves_root_without_exactly_one_verifier() {
    let bench = template();
    // Two beginnings: all at rest, and a chpasswd that died while it took its locks.
    let died = copy(&bench, &bench.paths.root, "died");
    let (struck, well) = interrupted(&died, "link", "signal=KILL", 2);
    assert!(struck && !well && died.join("etc/passwd.lock").exists());
    let kinds = ["write", "fsync", "fdatasync", "rename", "link", "unlink", "fchown", "fchmod"];
    let mut sweeps = Vec::new();
    for from in [bench.paths.root.as_path(), &died] {
        for call in kinds {
            for fault in ["signal=KILL", "error=ENOSPC", "error=EIO"] {
                // No link, unlink or change of owner needs room.
                if fault != "error=ENOSPC" || matches!(call, "write" | "fsync" | "rename") {
                    sweeps.push(Sweep { bench: &bench, from, call, fault });
                }
            }
        }
    }
    let (next, runs, undone) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(sweep) = sweeps.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let (count, old) = sweep.run();
                    let Sweep { call, fault, .. } = sweep;
                    eprintln!("{call}: {fault} at each of {count} calls, {old} undone");
                    assert!(count > 0, "{call} was never called; does strace work here?");
                    runs.fetch_add(count, Ordering::Relaxed);
                    undone.fetch_add(old, Ordering::Relaxed);
                }
            });
        }
    });
    let (runs, undone) = (runs.into_inner(), undone.into_inner());
    eprintln!("{runs} interruptions, {undone} of them undone");
    assert!(runs >= 100 && undone > 10 && undone < runs, "{undone} of {runs} runs were undone");
}
