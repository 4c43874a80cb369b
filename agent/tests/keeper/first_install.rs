//! `borgios-keeper install`, as bootstrap.sh calls it, and the daemon that it leaves behind.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use borgios_releases::bundle::{self, Parts};
use borgios_types::{Envelope, Seq};

use crate::bench::{Bench, PROGRAM};

/// Writes the bundle and the invitation of a fresh server.
fn papers(bench: &mut Bench, health: u8) -> (PathBuf, PathBuf) {
    let blobs = bench.path("blobs");
    fs::create_dir_all(&blobs).unwrap();
    let hello = bench.hello(&blobs, "one", health);
    let blob = (hello.digest, blobs.join(hello.digest.hex()));
    let release = bench.release(vec![hello]);
    let (tar, invite) = (bench.path("bundle.tar"), bench.path("invite.json"));
    write_bundle(bench, &tar, &release, &BTreeMap::from([blob]));
    let file = bench.board.invite(Vec::new());
    fs::write(&invite, serde_json::to_string(&file).unwrap()).unwrap();
    (tar, invite)
}

fn write_bundle(
    bench: &Bench,
    to: &Path,
    release: &Envelope,
    blobs: &BTreeMap<borgios_types::Digest, PathBuf>,
) {
    let chain = bench.board.invite(Vec::new()).chain;
    let parts = Parts { release, chain: &chain, installer: Path::new(PROGRAM), blobs };
    bundle::write(File::create(to).unwrap(), &parts).unwrap();
}

/// Runs the installer; its exit code and what it said.
fn install(bench: &Bench, tar: &Path, invite: &Path) -> (i32, String) {
    let mut command = bench.command(Path::new(PROGRAM));
    command.args(["install", "--name", "web-3", "--listen", "127.0.0.1:7117", "--bundle"]);
    command.arg(tar).arg("--invite").arg(invite).arg("--root").arg(&bench.paths.root);
    let output = command.output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn a_fresh_server_becomes_a_member_once() {
    let mut bench = Bench::new();
    let (tar, invite) = papers(&mut bench, 0);
    let (code, said) = install(&bench, &tar, &invite);
    assert_eq!(code, 0, "{said}");
    assert_eq!(bench.words().as_deref(), Some("one"));
    let settings = fs::read_to_string(bench.paths.root.join("etc/borgios/agent.json")).unwrap();
    assert!(settings.contains("web-3"), "{settings}");
    assert!(bench.paths.root.join("var/lib/borgios/invite.json").exists());
    let (code, said) = install(&bench, &tar, &invite);
    assert_eq!(code, 10, "{said}");
    // The daemon finds all of it, and goes on with the next release.
    let second = bench.hello_release("two", 0);
    let keeper = bench.start();
    assert_eq!(keeper.status().installed, Seq(1));
    keeper.take(&second);
    keeper.install(2);
    assert_eq!(keeper.ended(2).installed, Seq(2));
    assert_eq!(bench.words().as_deref(), Some("two"));
}

/// Or its keeper would obey an earlier board than its agent does, for as long as the lock takes.
#[test]
fn a_fresh_server_holds_back_nothing_of_its_own_bundle() {
    let mut bench = Bench::new();
    bench.board.rules(|policy| {
        policy.classes.policy.lock_s = Some(86_400);
        policy.classes.release.lock_s = Some(86_400);
    });
    bench.board.policy(5);
    let (tar, invite) = papers(&mut bench, 0);
    let (code, said) = install(&bench, &tar, &invite);
    assert_eq!(code, 0, "{said}");
    let second = bench.hello_release("two", 0);
    let keeper = bench.start();
    let status = keeper.status();
    assert_eq!(status.heads["policy"].seq, Seq(3));
    assert_eq!((status.held, status.installed), (Vec::new(), Seq(1)));
    // What comes after it waits as everywhere.
    keeper.submit(&second);
    assert_eq!(keeper.status().held.len(), 1);
}

#[test]
fn links_that_a_taken_over_agent_left_behind_are_not_followed() {
    let mut bench = Bench::new();
    let (tar, invite) = papers(&mut bench, 0);
    let victim = bench.path("victim");
    fs::write(&victim, "untouched").unwrap();
    let agent = bench.paths.root.join("var/lib/borgios");
    fs::create_dir_all(agent.join("blobs")).unwrap();
    let blob = fs::read_dir(bench.path("blobs")).unwrap().next().unwrap().unwrap().file_name();
    let blob = agent.join("blobs").join(blob);
    let planted = ["invite.json", ".invite.json.tmp", ".invite.json.new"].map(|n| agent.join(n));
    for link in planted.iter().chain([&blob]) {
        std::os::unix::fs::symlink(&victim, link).unwrap();
    }
    let (code, said) = install(&bench, &tar, &invite);
    assert_eq!(code, 0, "{said}");
    assert_eq!(fs::read_to_string(&victim).unwrap(), "untouched");
    assert!(fs::symlink_metadata(&blob).unwrap().is_file());
}

#[test]
fn a_sick_first_release_is_taken_back_and_can_be_tried_again() {
    let mut bench = Bench::new();
    let (tar, invite) = papers(&mut bench, 1);
    for _ in 0..2 {
        let (code, said) = install(&bench, &tar, &invite);
        assert_eq!(code, 6, "{said}");
        assert!(said.contains("hello is not well"), "{said}");
        assert_eq!(bench.words(), None);
    }
}

/// Where the deadline has passed, or all went back, nothing would take an install back any more.
#[test]
fn nothing_is_installed_unless_the_take_over_is_open_and_in_date() {
    let mut bench = Bench::new();
    let (tar, invite) = papers(&mut bench, 0);
    let folder = bench.paths.root.join("var/lib/borgios-bootstrap/takeover");
    fs::create_dir_all(&folder).unwrap();
    let taking = r#""taking":{"begun":1,"sealed":null,"found":[]}"#;
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let open = |until_s: u64, boot: &str| {
        format!(
            r#"{{"state":"open",{taking},"deadline":1,"until_s":{until_s},"boot":"{}"}}"#,
            boot.trim()
        )
    };
    let forever = u64::from(u32::MAX);
    for journal in [
        format!(r#"{{"state":"aborted",{taking},"why":"the deadline passed","ended":1}}"#),
        format!(r#"{{"state":"aborting",{taking},"why":"the deadline passed","purged":false}}"#),
        format!(r#"{{"state":"purging",{taking},"owners_root":null}}"#),
        open(0, &boot),
        open(forever, "another"),
        "{".to_owned(),
    ] {
        fs::write(folder.join("journal.json"), &journal).unwrap();
        let (code, said) = install(&bench, &tar, &invite);
        assert_eq!(code, 1, "{journal}: {said}");
        assert!(said.contains("./bootstrap.sh join"), "{said}");
        for path in [&bench.paths.keeper, &bench.paths.store, &bench.paths.current] {
            assert!(!path.exists(), "{journal}: {} was made", path.display());
        }
    }
    fs::write(folder.join("journal.json"), open(forever, &boot)).unwrap();
    let (code, said) = install(&bench, &tar, &invite);
    assert_eq!(code, 0, "{said}");
    // A member is told so, whatever has become of the take-over.
    fs::write(folder.join("journal.json"), open(0, &boot)).unwrap();
    assert_eq!(install(&bench, &tar, &invite).0, 10);
}

#[test]
fn what_does_not_hold_changes_nothing() {
    let mut bench = Bench::new();
    let (tar, invite) = papers(&mut bench, 0);
    let good = fs::read(&tar).unwrap();
    let refused = |what: &str| {
        let (code, said) = install(&bench, &tar, &invite);
        assert_eq!(code, 4, "{what}: {said}");
        for path in [bench.paths.key(), bench.paths.keeper.join("pin"), bench.paths.current.clone()]
        {
            assert!(!path.exists(), "{what}: {} was made", path.display());
        }
    };
    // The last file is the component's blob; before it lies the installer.
    let mut bad = good.clone();
    let at = good.iter().rposition(|byte| *byte != 0).unwrap();
    bad[at] ^= 1;
    fs::write(&tar, &bad).unwrap();
    refused("a flipped bit in a component");
    let mut bad = good.clone();
    bad[good.len() / 2] ^= 1;
    fs::write(&tar, &bad).unwrap();
    refused("a flipped bit in the installer");
    fs::write(&tar, &good[..good.len() / 2]).unwrap();
    refused("a bundle that was cut short");
    fs::write(&tar, &good).unwrap();
    // An invitation of another network with this network's bundle.
    let other = Bench::new();
    let file = other.board.invite(Vec::new());
    let ours = fs::read(&invite).unwrap();
    fs::write(&invite, serde_json::to_string(&file).unwrap()).unwrap();
    refused("another network's invitation");
    fs::write(&invite, "{}").unwrap();
    refused("no invitation");
    fs::write(&invite, ours).unwrap();
    let (code, said) = install(&bench, &tar, &invite);
    assert_eq!(code, 0, "{said}");
    let (code, _) = {
        let mut command = bench.command(Path::new(PROGRAM));
        let output = command.args(["install", "--bundle"]).output().unwrap();
        (output.status.code().unwrap(), ())
    };
    assert_eq!(code, 2);
}
