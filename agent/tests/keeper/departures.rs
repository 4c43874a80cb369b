//! Leaving, killed at every unlink, rename, sync and write: a boot goes on with it, or the keeper's
//! key is gone; and run once more, it ends.
//!
//! strace kills at the N-th call of one kind in each process, for N = 1, 2, … until it ends unhurt.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Output;

use borgios_agent::keeper::chain_store::ChainStore;
use borgios_agent::keeper::paths::Paths;
use borgios_agent::keeper::{handed_over, leaving};
use borgios_policy::{Departure, Handover, Object as _};
use borgios_types::SecretKey;

use crate::bench::{Bench, PROGRAM, until};
use crate::board::now;

/// No leaving makes as many calls of one kind.
const CALLS_MAX: usize = 100;
/// Where systemd finds what it starts at boot.
const WANTS: &str = "multi-user.target.wants";
/// The keeper's own unit.
const KEEPER: &str = "borgios-keeper.service";
/// Components and their units.
const UNITS: [(&str, &str); 3] =
    [("agent", "borgiosd.service"), ("borgios-keeper", KEEPER), ("hello", "hello.service")];
/// What a member can prove itself with, but for the keeper's key.
const SECRETS: [&str; 3] = [
    "var/lib/borgios/node.key",
    "var/lib/borgios/invite.json",
    "var/lib/borgios-keeper/credential/schedule",
];

/// Stands in for chpasswd: like it, it does nothing while there is a lock of another's, and changes the
/// file by a rename. `chpasswd -e --root DIR`.
const CHPASSWD: &str = "#!/bin/sh\nset -e\ncd \"$3/etc\"\n\
    if [ -e passwd.lock ] || [ -e shadow.lock ]; then exit 1; fi\n\
    IFS=: read -r name field\nsed \"s|^$name:[^:]*:|$name:$field:|\" shadow >shadow+\n\
    cp shadow shadow-\nmv shadow+ shadow\n";
/// What root's line in the shadow file is while the fleet's password opens it, and once none does.
const OPEN: &str = "root:$y$j9T$fleet$password:20000:0:99999:7:::\n";
const SHUT: &str = "root:*:20000:0:99999:7:::\n";

/// Stand-ins: like systemd, systemctl stops no unit whose file is gone, and ends no login here.
fn with_tools() -> Bench {
    let bench = Bench::new();
    let (calls, units) = (bench.path("calls"), bench.paths.units.display());
    let systemctl = format!(
        "#!/bin/sh\necho \"$*\" >>{}\nfor unit; do :; done\ncase \"$*\" in\n\
         *show*) echo inactive ;;\n*stop*) [ -L {units}/\"$unit\" ] || exit 5 ;;\nesac\n",
        calls.display()
    );
    let systemd_run = "#!/bin/sh\ncase \"$*\" in *end-sessions*) exit 0 ;; esac\n\
                       while [ \"$1\" != -- ]; do shift; done\nshift\nexec \"$@\"\n";
    let scripts =
        [("systemctl", systemctl.as_str()), ("systemd-run", systemd_run), ("chpasswd", CHPASSWD)];
    for (name, script) in scripts {
        let path = bench.path("tools").join(name);
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    bench
}

/// A server whose owner takes it out, before anything was done about it.
fn lay(bench: &Bench) {
    let Bench { paths, board, .. } = bench;
    let network = board.network();
    if paths.root.exists() {
        fs::remove_dir_all(&paths.root).unwrap();
    }
    let agent = paths.root.join("var/lib/borgios");
    for folder in [&paths.units.join(WANTS), &paths.tmpfiles, &paths.credential(), &agent] {
        fs::create_dir_all(folder).unwrap();
    }
    ChainStore::pin(&paths.keeper, network).unwrap();
    let [keeper, node, owner] = [1, 2, 3].map(|seed| SecretKey::from_seed([seed; 32]));
    fs::write(paths.key(), keeper.to_openssh("keeper").as_bytes()).unwrap();
    for secret in SECRETS {
        fs::write(paths.root.join(secret), "secret").unwrap();
    }
    let etc = paths.root.join("etc");
    fs::write(etc.join("passwd"), "root:x:0:0:root:/root:/bin/bash\n").unwrap();
    for file in ["shadow", "shadow-"] {
        fs::write(etc.join(file), OPEN).unwrap();
    }
    let handover = Handover {
        network,
        node: node.public(),
        keeper: keeper.public(),
        name: "web-1".parse().unwrap(),
        host_keys: Vec::new(),
        taken: [].into(),
        owner: Some(owner.public()),
        at: now(),
    };
    let receipt = handover.to_envelope().sign(&keeper);
    fs::write(handed_over::path(paths), receipt.to_json()).unwrap();
    let departure = Departure { network, node: node.public(), at: now() };
    let departure = departure.to_envelope().sign(&owner);
    fs::write(leaving::path(paths), departure.to_json()).unwrap();
    for (component, unit) in UNITS {
        let target = paths.current.join(component).join("units").join(unit);
        symlink(target, paths.units.join(unit)).unwrap();
        symlink(Path::new("..").join(unit), paths.units.join(WANTS).join(unit)).unwrap();
    }
    let fragment = paths.current.join("agent/tmpfiles.d/borgios.conf");
    symlink(fragment, paths.tmpfiles.join("borgios.conf")).unwrap();
    fs::write(paths.units.join("theirs.service"), "").unwrap();
}

/// Whether a boot starts the keeper: its unit, what starts that, and the folder that it names.
fn boots(paths: &Paths) -> bool {
    let unit = paths.units.join(KEEPER);
    let [wanted, fragment] =
        [paths.units.join(WANTS).join(KEEPER), paths.tmpfiles.join("borgios.conf")];
    unit.is_symlink() && wanted.is_symlink() && fragment.is_symlink()
}

/// Whether nothing is left of the keeper's key, or nothing but its name.
fn is_shredded(paths: &Paths) -> bool {
    !fs::read(paths.key()).is_ok_and(|bytes| bytes.iter().any(|byte| *byte != 0))
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> = entries.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}

/// What must hold once it has left.
fn has_left(paths: &Paths, place: &str) {
    for secret in SECRETS.map(|secret| paths.root.join(secret)).iter().chain([&paths.key()]) {
        assert!(!secret.exists(), "{place}: {}", secret.display());
    }
    assert_eq!(names(&paths.units), [WANTS, "theirs.service"], "{place}");
    assert!(names(&paths.units.join(WANTS)).is_empty(), "{place}");
    assert!(names(&paths.tmpfiles).is_empty(), "{place}");
    let doors = fs::read_to_string(paths.root.join("etc/borgios/ssh/principals/root"));
    assert_eq!(doors.unwrap(), "", "{place}");
    for file in ["shadow", "shadow-"] {
        let shadow = fs::read_to_string(paths.root.join("etc").join(file)).unwrap();
        assert_eq!(shadow, SHUT, "{place}: {file}");
    }
}

/// `borgios-keeper leave`, which must end well.
fn leaves(bench: &Bench, place: &str) {
    let mut command = bench.command(Path::new(PROGRAM));
    let output = command.args(["leave", "--root"]).arg(&bench.paths.root).output().unwrap();
    assert!(output.status.success(), "{place}: {}", said(&output));
}

/// Leaves, and is killed at the n-th call; whether there was one.
fn is_cut_off(bench: &Bench, call: &str, n: usize) -> bool {
    let log = bench.path("strace");
    let (trace, inject) = (format!("trace={call}"), format!("inject={call}:signal=KILL:when={n}"));
    let mut command = bench.command(Path::new("strace"));
    command.args(["-f", "-qq", "-o"]).arg(&log).args(["-e", &trace, "-e", &inject]);
    command.args([PROGRAM, "leave", "--root"]).arg(&bench.paths.root);
    let output = command.output().expect("this test needs strace: apt-get install strace");
    let log = fs::read_to_string(&log).unwrap();
    let struck = log.contains("(INJECTED)") || log.contains("killed by SIGKILL");
    assert!(struck || output.status.success(), "{call} number {n}: {}", said(&output));
    struck
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn wherever_a_leaving_is_cut_off_it_is_gone_on_with_or_no_key_is_left() {
    let bench = with_tools();
    for call in ["unlink", "rename", "fsync", "write"] {
        let mut cuts = 0;
        lay(&bench);
        while is_cut_off(&bench, call, cuts + 1) {
            cuts += 1;
            assert!(cuts < CALLS_MAX, "more than {CALLS_MAX} calls of {call}");
            let place = format!("{call} number {cuts}");
            assert!(boots(&bench.paths) || is_shredded(&bench.paths), "{place}: for ever stuck");
            leaves(&bench, &place);
            has_left(&bench.paths, &place);
            lay(&bench);
        }
        assert!(cuts > 0, "{call} was never called; does strace work here?");
        has_left(&bench.paths, call);
        // And once it is done, once more is fine.
        leaves(&bench, call);
        has_left(&bench.paths, call);
    }
}

/// A power cut in the middle of any account tool leaves such locks, which would keep every other out for
/// ever.
#[test]
fn locks_that_dead_account_tools_left_do_not_keep_a_server_from_leaving() {
    let bench = with_tools();
    for lock in ["shadow.lock", "passwd.lock"] {
        lay(&bench);
        fs::write(bench.paths.root.join("etc").join(lock), "").unwrap();
        leaves(&bench, lock);
        has_left(&bench.paths, lock);
        assert!(!bench.paths.root.join("etc").join(lock).exists(), "{lock}");
    }
}

/// Whoever reads the keys' absence may rely on it that root is shut, on the disk too.
#[test]
fn while_root_cannot_be_shut_no_key_goes() {
    let bench = with_tools();
    lay(&bench);
    let paths = &bench.paths;
    // Sent elsewhere than to the shadow file: what is written there would shut nothing.
    let passwd = paths.root.join("etc/passwd");
    let right = fs::read(&passwd).unwrap();
    fs::write(&passwd, "root:$y$j9T$fleet$password:0:0:root:/root:/bin/bash\n").unwrap();
    let mut command = bench.command(Path::new(PROGRAM));
    let output = command.args(["leave", "--root"]).arg(&paths.root).output().unwrap();
    assert!(!output.status.success() && said(&output).contains("(passwd)"), "{}", said(&output));
    assert!(!is_shredded(paths) && boots(paths));
    assert!(SECRETS.iter().all(|secret| paths.root.join(secret).exists()));
    fs::write(&passwd, right).unwrap();
    leaves(&bench, "once it is right");
    has_left(paths, "once it is right");
}

#[test]
fn a_keeper_whose_key_was_shredded_makes_no_other_and_goes_on_leaving() {
    let bench = with_tools();
    let paths = &bench.paths;
    for zeros in [false, true] {
        lay(&bench);
        // All that comes before the key is done.
        leaves(&bench, "at first");
        let target = paths.current.join("borgios-keeper/units").join(KEEPER);
        symlink(target, paths.units.join(KEEPER)).unwrap();
        symlink(Path::new("..").join(KEEPER), paths.units.join(WANTS).join(KEEPER)).unwrap();
        if zeros {
            fs::write(paths.key(), [0_u8; 400]).unwrap();
        }
        let calls = bench.path("calls");
        fs::remove_file(&calls).unwrap();
        let keeper = bench.spawn(Path::new(PROGRAM));
        until("the keeper's unit is stopped, last of all", || {
            fs::read_to_string(&calls).is_ok_and(|calls| calls.contains(&format!("stop {KEEPER}")))
        });
        keeper.kill();
        has_left(paths, "after the keeper");
        assert!(!paths.socket.exists(), "it serves nobody");
    }
}
