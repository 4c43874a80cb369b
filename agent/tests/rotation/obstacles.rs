//! What stands in the way of a rotation on a real server: said, survived, and gone when it is gone.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::fs::FlockOperation;

use crate::bench::{Bench, PROGRAM};
use crate::server::{
    OWNERS, as_root, check_rest, rotate, rotates, schedule, scheduled, shadow, store, verifier,
    with_accounts,
};

/// A server whose root is to change from the owner's field to epoch 1.
fn first_rotation() -> Bench {
    let mut bench = with_accounts();
    let schedule = schedule(bench.board.network(), 86_400);
    let first = scheduled(&mut bench, &schedule, 1);
    store(&bench.paths, &[bench.policy.clone(), first]);
    bench
}

/// Expects that a rotation fails with this code and touches nothing.
fn fails(root: &Path, code: &str) {
    let before = fs::read(root.join("etc/shadow")).unwrap();
    let output = rotate(root);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(5), "{said}");
    assert!(said.contains(&format!("({code})")), "{said}");
    assert_eq!(fs::read(root.join("etc/shadow")).unwrap(), before, "{code}");
}

#[test]
fn locks_that_dead_programs_left_are_cleared() {
    // Without a PID, with nonsense, and with the PID of a program that lives but is no account tool.
    for content in ["", "no number", &format!("{}\0", std::process::id()), "99999999\0"] {
        let bench = first_rotation();
        let root = &bench.paths.root;
        for name in ["passwd.lock", "shadow.lock", "shadow.4711", "shadow+", ".pwd.lock"] {
            fs::write(root.join("etc").join(name), content).unwrap();
        }
        rotates(root, content);
        check_rest(root, 1, content);
    }
}

#[test]
fn a_lock_that_is_held_is_waited_for() {
    let bench = first_rotation();
    let root = &bench.paths.root;
    let lock = File::create(root.join("etc/.pwd.lock")).unwrap();
    rustix::fs::fcntl_lock(&lock, FlockOperation::LockExclusive).unwrap();
    let mut command = as_root(PROGRAM);
    command.args(["rotate", "--once", "--root"]).arg(root).stdout(Stdio::null());
    let mut child = command.spawn().unwrap();
    // It has begun to wait once it has taken its own lock and given it back a few times.
    crate::bench::until("the keeper waits", || bench.paths.keeper.join("rotation.lock").exists());
    assert!(child.try_wait().unwrap().is_none(), "it waits");
    assert_eq!(fs::read_to_string(root.join("etc/shadow")).unwrap(), shadow(OWNERS));
    drop(lock);
    assert!(child.wait().unwrap().success());
    check_rest(root, 1, "after the lock");
}

#[test]
fn account_tools_that_work_at_the_same_time_lose_nothing() {
    let bench = first_rotation();
    let root = &bench.paths.root;
    let passwd = "root:x:0:0:root:/root:/bin/bash\nann:x:1000:1000::/:/bin/sh\n";
    fs::write(root.join("etc/passwd"), passwd).unwrap();
    let with_ann = format!("{}ann:*:19000:0:99999:7:::\n", shadow(OWNERS));
    fs::write(root.join("etc/shadow"), with_ann).unwrap();
    let other = std::thread::scope(|scope| {
        let others = scope.spawn(|| {
            let mut last = String::new();
            for n in 0..30 {
                let field = format!("$6$salt$hash{n}");
                let mut tool = as_root("chpasswd");
                tool.args(["-e", "--root"]).arg(root).stdin(Stdio::piped()).stderr(Stdio::null());
                let mut child = tool.spawn().unwrap();
                let line = format!("ann:{field}\n");
                std::io::Write::write_all(&mut child.stdin.take().unwrap(), line.as_bytes())
                    .unwrap();
                if child.wait().unwrap().success() {
                    last = field;
                }
            }
            last
        });
        for _ in 0..10 {
            rotates(root, "beside another tool");
            // Someone takes root's field away again, so that there is work each time.
            let mut tool = as_root("chpasswd");
            tool.args(["-e", "--root"]).arg(root).stdin(Stdio::piped());
            let mut child = tool.spawn().unwrap();
            std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"root:*\n").unwrap();
            child.wait().unwrap();
        }
        others.join().unwrap()
    });
    rotates(root, "at the end");
    let text = fs::read_to_string(root.join("etc/shadow")).unwrap();
    assert!(text.contains(verifier(1).as_str()) && text.contains(&other), "{text}");
}

#[test]
fn files_that_cannot_be_trusted_are_told_and_not_touched() {
    let bench = first_rotation();
    let root = &bench.paths.root;
    let path = root.join("etc/shadow");
    let huge = "x".repeat(2 * 1024 * 1024);
    for damaged in ["", "root:x", &shadow("*:*"), &format!("{0}{0}", shadow("*")), "\0\n"] {
        fs::write(&path, damaged).unwrap();
        fails(root, "shadow");
    }
    fs::write(&path, huge).unwrap();
    fails(root, "disk");
    fs::write(&path, shadow(OWNERS)).unwrap();
    let passwd = root.join("etc/passwd");
    let good = fs::read_to_string(&passwd).unwrap();
    for bad in
        [good.replace(":x:", ":$6$salt$hash:"), good.replace("root:", "boot:"), good.repeat(2)]
    {
        fs::write(&passwd, bad).unwrap();
        fails(root, "passwd");
    }
    fs::write(&passwd, good).unwrap();
    fs::write(bench.paths.rotation(), "{\"rotation\":").unwrap();
    rotates(root, "with a damaged journal");
    check_rest(root, 1, "with a damaged journal");
    assert!(bench.paths.rotation().with_extension("damaged").exists());
}

#[test]
fn without_a_schedule_at_hand_no_password_opens_root() {
    let mut bench = with_accounts();
    store(&bench.paths, &[bench.policy.clone()]);
    let root = bench.paths.root.clone();
    let locked = |place: &str| {
        rotates(&root, place);
        let text = fs::read_to_string(root.join("etc/shadow")).unwrap();
        assert!(text.contains("\nroot:*:"), "{place}: {text}");
        assert_eq!(fs::read_to_string(root.join("etc/shadow-")).unwrap(), text, "{place}");
    };
    locked("no statement");
    let schedule = schedule(bench.board.network(), 86_400);
    let first = scheduled(&mut bench, &schedule, 1);
    store(&bench.paths, &[first]);
    let blob = bench.paths.depot.join(schedule.digest().hex());
    let away = bench.path("away");
    fs::rename(&blob, &away).unwrap();
    fs::write(root.join("etc/shadow"), shadow(OWNERS)).unwrap();
    locked("no blob");
    fs::rename(&away, &blob).unwrap();
    rotates(&root, "the blob is there");
    check_rest(&root, 1, "the blob is there");
}

/// Runs a script in mount namespace of its own, in the server's folder, with `$keeper` set.
fn among_mounts(root: &Path, script: &str) -> String {
    let mut command = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        command.arg("--map-root-user");
    }
    let keeper = format!("{PROGRAM} rotate --once --root {}", root.display());
    let output = command
        .args(["--mount", "sh", "-euc", script])
        .env("keeper", keeper)
        .current_dir(root)
        .output()
        .unwrap();
    let (out, err) = (output.stdout, output.stderr);
    let said = format!("{}{}", String::from_utf8_lossy(&out), String::from_utf8_lossy(&err));
    assert!(output.status.success(), "{said}");
    said
}

#[test]
fn a_read_only_etc_is_told() {
    let bench = first_rotation();
    let said = among_mounts(
        &bench.paths.root,
        "mount --bind etc etc; mount -o remount,bind,ro etc
         $keeper && exit 1 || echo code $?; umount etc; $keeper",
    );
    assert!(said.contains("(read_only)") && said.contains("code 5"), "{said}");
    check_rest(&bench.paths.root, 1, "writable again");
}

#[test]
fn a_full_disk_below_etc_or_the_keeper_is_told_and_leaves_the_old_field() {
    for (folder, code) in [("etc", "chpasswd"), ("var/lib/borgios-keeper", "disk_full")] {
        let bench = first_rotation();
        let said = among_mounts(
            &bench.paths.root,
            &format!(
                "cp -a {folder} was; mount -t tmpfs -o size=128k,mode=755 tmpfs {folder}
                 cp -a was/. {folder}
                 dd if=/dev/zero of={folder}/fill bs=1k 2>/dev/null || true
                 $keeper && exit 1 || echo code $?
                 grep -q '^root:.6.owner.hash:' etc/shadow
                 rm {folder}/fill; $keeper; cat etc/shadow
                 cmp etc/shadow etc/shadow-"
            ),
        );
        assert!(said.contains(&format!("({code})")) && said.contains("code 5"), "{said}");
        assert!(said.contains(verifier(1).as_str()), "{said}");
    }
}
