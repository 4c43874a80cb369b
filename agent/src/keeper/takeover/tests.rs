//! Whole take-overs on a made-up server: undisturbed, cut off at every point, failing at every point.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};

use borgios_policy::Submission;
use borgios_policy::fixture::{Council, NOW};
use borgios_types::{Digest, SecretKey};
use tempfile::TempDir;

use super::abort::{self, Resumed};
use super::apply::{self, Taken};
use super::begin::{self, Beginning};
use super::failure::TakeoverError;
use super::fake::{Cut, Fake, Fate, server};
use super::journal::Journal;
use super::machine::Machine;
use super::meta::Meta;
use super::receipt::{self, Receipt};
use super::{account, catalogue, finish, host_key, sealed, snapshot, timer, verify};
use crate::disk;
use crate::identity;
use crate::keeper::chain_store::ChainStore;
use crate::keeper::handed_over;

use forward::assert_over;

mod forward;
mod kept;

/// An override of a console where few would look for one.
const AUTO: &str = "/usr/local/lib/systemd/system/serial-getty@ttyS0.service.d/auto.conf";

/// What lies below a folder: digests, modes, owners, times.
type Disk = BTreeMap<PathBuf, (Digest, Meta)>;

/// Parts of the server that are nobody's business here: the take-over's own, the installer's, and
/// what lies in memory.
const ASIDE: [&str; 4] = ["var/lib", "run", "opt", "proc"];

fn disk(machine: &Machine) -> Disk {
    fn add(disk: &mut Disk, root: &Path, path: &Path) {
        let name = path.strip_prefix(root).unwrap().to_owned();
        if ASIDE.iter().any(|aside| name.starts_with(aside)) {
            return;
        }
        let meta = fs::symlink_metadata(path).unwrap();
        let content = if meta.is_symlink() {
            fs::read_link(path).unwrap().into_os_string().into_encoded_bytes()
        } else if meta.is_dir() {
            Vec::new()
        } else {
            fs::read(path).unwrap()
        };
        // The root folder itself is the test's.
        if path != root {
            disk.insert(name, (Digest::of(&content), Meta::of(path).unwrap()));
        }
        if meta.is_dir() {
            for entry in fs::read_dir(path).unwrap() {
                add(disk, root, &entry.unwrap().path());
            }
        }
    }
    let mut all = Disk::new();
    add(&mut all, &machine.paths.root, &machine.paths.root);
    all
}

/// What root's state amounts to: contents and modes, without times, and without the key that is
/// made anew on every server.
fn outcome(machine: &Machine) -> BTreeMap<PathBuf, (Digest, u32)> {
    let all = disk(machine).into_iter();
    all.filter(|(path, _)| !path.starts_with(host_key::OURS.trim_start_matches('/')))
        .filter(|(path, _)| !path.ends_with("host_ed25519_key.pub"))
        .map(|(path, (digest, meta))| (path, (digest, meta.mode)))
        .collect()
}

/// An owner's server with everything in it, and what an install has put there.
fn owned() -> (TempDir, Machine, Fake) {
    let (folder, machine, fake) = server();
    for (path, text, mode) in [
        ("/root/.ssh/authorized_keys", "ssh-ed25519 AAAA me\n", 0o600),
        ("/home/ann/.ssh/authorized_keys", "# a\nssh-ed25519 AAAA ann\n", 0o600),
        ("/etc/ssh/sshd_config.d/50-provider.conf", "PermitRootLogin yes\n", 0o644),
        ("/etc/sudo-own/90-cloud", "ann ALL=(ALL) NOPASSWD:ALL\n", 0o440),
        ("/etc/default/ssh", "SSHD_OPTS=-p 2222\n", 0o644),
        ("/etc/systemd/system/ssh.service.d/x.conf", "[Service]\nEnvironment=A=1\n", 0o644),
        ("/etc/shadow-", "root:$y$older:1::::::\n", 0o640),
        ("/etc/cloud/cloud.cfg", "users: []\n", 0o644),
        (AUTO, "[Service]\nExecStart=\nExecStart=-/sbin/agetty -a root %I\n", 0o644),
        (timer::PROGRAM, "", 0o755),
    ] {
        machine.folder(Path::new(path).parent().unwrap(), 0o755).unwrap();
        machine.write(path, text.as_bytes(), mode).unwrap();
    }
    machine.link("/etc/sudoers.d", Path::new("sudo-own")).unwrap();
    for unit in ["qemu-guest-agent.service", "debug-shell.service"] {
        fake.unit(unit);
    }
    // Files that are not root's alone: an abort gives them back as they were. Set-uid comes back
    // to root's own only.
    for (path, mode, uid) in
        [("/etc/group", 0o666, 1_000), ("/etc/sudoers", 0o644, 1_000), ("/etc/shadow-", 0o4604, 0)]
    {
        let place = machine.at(path);
        if disk::roots().0 == 0 {
            std::os::unix::fs::chown(&place, Some(uid), Some(1_001)).unwrap();
        }
        fs::set_permissions(place, fs::Permissions::from_mode(mode)).unwrap();
    }
    // Times in the past, so that a file written again shows.
    for path in disk(&machine).into_keys() {
        let times = fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH);
        let path = machine.paths.root.join(path);
        fs::File::open(path).unwrap().set_times(times).unwrap();
    }
    (folder, machine, fake)
}

/// What `borgios-keeper install` leaves, as far as it matters.
fn install(machine: &Machine) {
    let council = Council::new(3, 2, 1, 1);
    let statement = council.sign(&council.first_policy(2));
    let keeper = &machine.paths.keeper;
    fs::create_dir_all(keeper).unwrap();
    ChainStore::pin(keeper, statement.id()).unwrap();
    let submission = Submission { statement, ballots: Vec::new() };
    ChainStore::open(keeper).unwrap().submit(NOW, &submission).unwrap();
    identity::load_or_make(&machine.paths.key()).unwrap();
    let noted = format!("{}\n", SecretKey::from_seed([5; 32]).public());
    machine.write(finish::NODE, noted.as_bytes(), 0o600).unwrap();
    fs::create_dir_all(machine.at("/proc/sys/kernel")).unwrap();
    fs::write(machine.at("/proc/sys/kernel/hostname"), "web-1\n").unwrap();
    for folder in ["/etc/borgios", "/opt/borgios/current", "/var/lib/borgios", "/run/borgios"] {
        machine.folder(folder, 0o755).unwrap();
    }
    machine.write("/etc/borgios/agent.json", b"{}", 0o644).unwrap();
    let passwd = machine.text("/etc/passwd").unwrap() + "borgios:x:998:998::/:/usr/sbin/nologin\n";
    machine.write("/etc/passwd", passwd.as_bytes(), 0o644).unwrap();
    let unit = Path::new("/opt/borgios/current/agent/units/borgiosd.service");
    machine.link("/etc/systemd/system/borgiosd.service", unit).unwrap();
}

fn begin(machine: &Machine) {
    begin::begin(machine, &Beginning { deadline_s: 900, owner: None }).unwrap();
}

/// Runs until the power goes.
fn until_cut<T>(run: impl FnOnce() -> T) -> Option<T> {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(done) => Some(done),
        Err(thrown) if thrown.is::<Cut>() => None,
        Err(thrown) => resume_unwind(thrown),
    }
}

fn is_done(machine: &Machine) -> bool {
    matches!(Journal::read(machine).unwrap(), Some(Journal::Done { .. }))
}

fn apply(machine: &Machine) -> Result<Taken, TakeoverError> {
    apply::apply(&mut machine.clone())
}

/// A server that is open, with the agent on it, and what it was before.
fn open() -> (TempDir, Machine, Fake, Disk) {
    let (folder, machine, fake) = owned();
    let before = disk(&machine);
    begin(&machine);
    install(&machine);
    (folder, machine, fake, before)
}

#[test]
fn a_plan_changes_nothing() {
    let (_folder, machine, fake) = owned();
    let (before, said) = (disk(&machine), fake.calls().len());
    let found = catalogue::look(&machine).unwrap();
    assert!(found.len() > 12, "{found:#?}");
    assert_eq!(disk(&machine), before);
    // Nor does it ask for a change: it only lists, and makes sshd's folder in memory.
    for call in &fake.calls()[said..] {
        let looks = ["sshd -T", " show ", "make /run/sshd"].iter().any(|look| call.contains(look));
        assert!(looks, "{call}");
    }
}

#[test]
fn after_apply_nothing_is_found_and_a_second_apply_changes_nothing() {
    let (_folder, machine, _, _) = open();
    let taken = apply(&machine).unwrap();
    for kind in [
        "account",
        "group",
        "sudo",
        "authorized-keys",
        "sshd",
        "host-key",
        "agent",
        "file-owner",
        "console",
    ] {
        assert!(taken[kind] > 0, "{kind}: {taken:?}");
    }
    assert!(is_done(&machine));
    assert_eq!(catalogue::look_for_apply(&machine).unwrap(), []);
    let after = disk(&machine);
    assert_eq!(apply(&machine).unwrap(), taken);
    assert_eq!(disk(&machine), after);
    assert!(machine.text("/etc/ssh/sshd_config").unwrap().contains("Port 2222\n"));
    // What is left is still to be done by somebody.
    assert!(timer::files().iter().all(|path| machine.exists(path)));
}

#[test]
fn apply_does_not_begin_where_others_may_write_to_a_folder_of_ours() {
    for folder in ["/etc", "/etc/ssh", "/etc/borgios"] {
        let (_root, machine, fake, before) = open();
        let (place, said) = (machine.at(folder), fake.calls().len());
        fs::set_permissions(&place, fs::Permissions::from_mode(0o777)).unwrap();
        let Err(TakeoverError::RolledBack(why)) = apply(&machine) else { panic!("{folder}") };
        assert!(why.starts_with(&format!("{folder}: ")), "{why}");
        // Nothing of root's was touched on the way.
        let restarted = fake.calls()[said..].iter().any(|call| call.contains("restart"));
        assert!(!restarted && matches!(Journal::read(&machine), Ok(Some(Journal::Aborted { .. }))));
        let (mut after, mut expected) = (disk(&machine), before);
        if folder == "/etc" {
            // It is above what the snapshot keeps: its mode stays the owner's business.
            fs::set_permissions(&place, fs::Permissions::from_mode(0o755)).unwrap();
            after = disk(&machine);
            // What anybody could have laid there comes back without the right to be root.
            let (_, meta) = expected.get_mut(std::path::Path::new("etc/shadow-")).unwrap();
            assert_eq!(std::mem::replace(&mut meta.mode, 0o604), 0o4604);
        }
        assert_eq!(after, expected, "{folder}");
    }
}

#[test]
fn an_abort_restores_every_bit() {
    let (_folder, machine, fake, before) = open();
    assert_ne!(disk(&machine), before);
    abort::abort(&machine).unwrap();
    assert_eq!(disk(&machine), before);
    for gone in ["/opt/borgios", "/var/lib/borgios", "/var/lib/borgios-keeper", snapshot::BEFORE] {
        assert!(!machine.exists(gone), "{gone}");
    }
    assert!(fake.calls().iter().any(|call| call.ends_with("stop borgiosd.service")));
    assert!(matches!(abort::abort(&machine), Err(TakeoverError::Refused(_))));
    // And all of it can begin again.
    begin(&machine);
}

/// Who owns a home may lead root elsewhere by a link while the hand-over is open.
#[test]
fn an_abort_writes_nothing_through_a_link_that_somebody_put_into_a_home() {
    if disk::roots().0 != 0 {
        return;
    }
    let (_folder, machine, _, _) = open();
    machine.folder("/etc/apt/apt.conf.d", 0o755).unwrap();
    let home = machine.at("/home/ann");
    std::os::unix::fs::chown(&home, Some(1_000), Some(1_000)).unwrap();
    fs::rename(home.join(".ssh"), home.join(".s")).unwrap();
    let victim = machine.at("/etc/apt/apt.conf.d");
    std::os::unix::fs::symlink(victim, home.join(".ssh")).unwrap();
    abort::abort(&machine).unwrap();
    assert!(!machine.exists("/etc/apt/apt.conf.d/authorized_keys"), "root wrote where ann said");
    assert_eq!(machine.text("/root/.ssh/authorized_keys").unwrap(), "ssh-ed25519 AAAA me\n");
}

/// What the rotation will not take is found while it can still go back: without it nobody gets in again.
#[test]
fn account_files_that_the_rotation_would_refuse_end_it_before_anybody_is_shut_out() {
    for (path, wrong) in [
        ("/etc/passwd", "root:x:0:0:root:/root:/bin/sh\nroot:x:0:0:root:/root:/bin/bash\n"),
        ("/etc/shadow", "root:$y$a:1:0:99999:7:::\nroot:$y$b:1:0:99999:7:::\n"),
    ] {
        let (_folder, machine, _) = owned();
        let mode = if path == "/etc/passwd" { 0o644 } else { 0o640 };
        machine.write(path, wrong.as_bytes(), mode).unwrap();
        begin(&machine);
        install(&machine);
        let ended = apply(&machine);
        assert!(matches!(ended, Err(TakeoverError::RolledBack(_))), "{path}: {ended:?}");
        assert!(machine.exists("/root/.ssh/authorized_keys") && !is_done(&machine));
        assert!(machine.text(path).unwrap().starts_with(wrong), "{path} was edited");
    }
}

#[test]
fn the_deadline_and_a_boot_go_back_and_before_the_deadline_nothing_happens() {
    for boot in [false, true] {
        let (_folder, mut machine, fake, before) = open();
        fake.pass(899);
        assert_eq!(abort::resume(&mut machine).unwrap(), Resumed::Nothing);
        if boot {
            fake.reboot()
        } else {
            fake.pass(1)
        }
        assert_eq!(abort::resume(&mut machine).unwrap(), Resumed::WentBack);
        assert_eq!(disk(&machine), before);
        assert_eq!(abort::resume(&mut machine).unwrap(), Resumed::Nothing);
        assert!(matches!(apply(&machine), Err(TakeoverError::Refused(_))));
    }
}

#[test]
fn after_a_boot_apply_is_refused_until_it_went_back() {
    let (_folder, machine, fake, _) = open();
    fake.reboot();
    assert!(matches!(apply(&machine), Err(TakeoverError::Refused(_))));
}

#[test]
fn once_root_is_handed_over_nothing_goes_back() {
    let (_folder, mut machine, fake, _) = open();
    apply(&machine).unwrap();
    fake.reboot();
    assert_eq!(abort::resume(&mut machine).unwrap(), Resumed::Done);
    let after = disk(&machine);
    assert_eq!(abort::resume(&mut machine).unwrap(), Resumed::Nothing);
    assert!(matches!(abort::abort(&machine), Err(TakeoverError::Refused(_))));
    let again = begin::begin(&machine, &Beginning { deadline_s: 900, owner: None });
    assert!(matches!(again, Err(TakeoverError::Refused(_))));
    assert_eq!(disk(&machine), after);
}

/// The heart of it: whatever the moment at which the power goes, a boot leads to the old state or
/// to the new one, and which of them the journal says.
#[test]
fn cut_off_anywhere_in_apply_a_boot_ends_in_the_old_state_or_the_new() {
    let (_folder, machine, fake, _) = open();
    fake.at(usize::MAX, Fate::Cut);
    apply(&machine).unwrap();
    let (points, new) = (fake.heal(), finished(&machine));
    let (mut went_on, mut went_back) = (0, 0);
    for point in 0..points {
        let (_folder, mut machine, fake, before) = open();
        fake.at(point, Fate::Cut);
        assert!(until_cut(|| apply(&machine)).is_none(), "point {point}");
        fake.heal();
        fake.reboot();
        abort::resume(&mut machine).unwrap();
        if is_done(&machine) {
            assert_over(&machine);
            assert_eq!(outcome(&machine), new, "point {point}");
            went_on += 1;
        } else {
            assert_eq!(disk(&machine), before, "point {point}");
            went_back += 1;
        }
    }
    assert!(went_on > 50 && went_back > 10, "{went_on} on, {went_back} back of {points}");
}

#[test]
fn failing_anywhere_in_apply_it_is_the_old_state_or_the_new() {
    let (_folder, machine, fake, _) = open();
    fake.at(usize::MAX, Fate::Fail);
    apply(&machine).unwrap();
    let (points, new) = (fake.heal(), finished(&machine));
    let (mut done, mut back, mut still_open) = (0, 0, 0);
    for point in 0..points {
        let (_folder, machine, fake, before) = open();
        fake.at(point, Fate::Fail);
        let ended = apply(&machine);
        fake.heal();
        match Journal::read(&machine).unwrap().unwrap() {
            Journal::Done { .. } => {
                assert_eq!(finished(&machine), new, "point {point}");
                done += 1;
            }
            Journal::Aborted { .. } => {
                assert!(matches!(ended, Err(TakeoverError::RolledBack(_))), "point {point}");
                assert_eq!(disk(&machine), before, "point {point}");
                back += 1;
            }
            Journal::Open { .. } => {
                assert!(ended.is_err(), "point {point}");
                abort::abort(&machine).unwrap();
                assert_eq!(disk(&machine), before, "point {point}");
                still_open += 1;
            }
            other => panic!("point {point}: {}", other.name()),
        }
    }
    assert!(back > 50 && still_open > 5, "{done} done, {back} back, {still_open} open of {points}");
}

/// What comes of it once the timer or a boot has done what is left.
fn finished(machine: &Machine) -> BTreeMap<PathBuf, (Digest, u32)> {
    abort::resume(&mut machine.clone()).unwrap();
    outcome(machine)
}

/// As when the job of a join that was cut off comes in between.
#[test]
fn a_unit_that_does_not_stop_at_once_is_asked_again_on_the_way_back() {
    let (_folder, machine, fake, _) = open();
    let said = fake.calls().len();
    abort::abort(&machine).unwrap();
    let is_stop = |call: &String| call.ends_with("stop borgiosd.service");
    let point = fake.calls()[said..].iter().position(is_stop).unwrap();
    let (_folder, machine, fake, before) = open();
    let said = fake.calls().len();
    fake.at(point, Fate::Fail);
    abort::abort(&machine).unwrap();
    assert_eq!(disk(&machine), before);
    assert_eq!(fake.calls()[said..].iter().filter(|call| is_stop(call)).count(), 2);
}

#[test]
fn cut_off_anywhere_on_the_way_back_a_boot_ends_in_the_old_state() {
    let (_folder, machine, fake, _) = open();
    fake.at(usize::MAX, Fate::Cut);
    abort::abort(&machine).unwrap();
    let points = fake.heal();
    assert!(points > 20, "{points}");
    for point in 0..points {
        let (_folder, mut machine, fake, before) = open();
        fake.at(point, Fate::Cut);
        assert!(until_cut(|| abort::abort(&machine)).is_none(), "point {point}");
        fake.heal();
        fake.reboot();
        abort::resume(&mut machine).unwrap();
        assert_eq!(disk(&machine), before, "point {point}");
        assert!(!machine.exists(snapshot::BEFORE), "point {point}");
    }
}

#[test]
fn cut_off_anywhere_in_begin_nothing_of_it_is_left_after_a_boot() {
    let (_folder, machine, fake) = owned();
    fake.at(usize::MAX, Fate::Cut);
    begin(&machine);
    let points = fake.heal();
    for point in 0..points {
        for fate in [Fate::Cut, Fate::Fail] {
            let (_folder, mut machine, fake) = owned();
            let before = disk(&machine);
            fake.at(point, fate);
            let beginning = Beginning { deadline_s: 900, owner: None };
            let begun = until_cut(|| begin::begin(&machine, &beginning));
            assert!(!matches!(begun, Some(Ok(_))), "point {point}");
            fake.heal();
            fake.reboot();
            abort::resume(&mut machine).unwrap();
            let mut after = disk(&machine);
            // A folder that systemd would have made too, and the times of those around it.
            let units = |path: &PathBuf| path.starts_with("etc/systemd") || path.ends_with("etc");
            after.retain(|path, _| !units(path));
            let before: Disk = before.into_iter().filter(|(path, _)| !units(path)).collect();
            assert_eq!(after, before, "point {point}");
            assert!(timer::files().iter().all(|path| !machine.exists(path)), "point {point}");
            begin(&machine);
        }
    }
}

#[test]
fn no_finding_and_no_journal_holds_a_hash_of_a_password() {
    let (_folder, machine, _, _) = open();
    apply(&machine).unwrap();
    let journal = machine.text(super::journal::FILE).unwrap();
    assert!(journal.contains("sha256:") && !journal.contains("$y$"));
    assert!(account::roots_field(&machine).unwrap().is_some());
}

#[test]
fn a_second_look_lets_the_snapshot_go_and_a_way_in_that_came_back_does_not_pass() {
    let (_folder, mut machine, _, _) = open();
    assert!(matches!(verify::verify(&mut machine), Err(TakeoverError::Refused(_))));
    apply(&machine).unwrap();
    machine.write("/etc/sudoers.d/90", b"ann ALL=(ALL) ALL\n", 0o440).unwrap();
    let Err(TakeoverError::Left(left)) = verify::verify(&mut machine) else { panic!() };
    assert_eq!(left.len(), 1, "{left:?}");
    assert!(machine.exists(snapshot::BEFORE));
    apply(&machine).unwrap();
    verify::verify(&mut machine).unwrap();
    verify::verify(&mut machine).unwrap();
    assert!(!machine.exists(snapshot::BEFORE));
}

#[test]
fn the_receipt_names_what_was_taken_and_is_made_once() {
    let (_folder, machine, _, _) = open();
    let node = SecretKey::from_seed([5; 32]).public();
    let asked = Receipt { node, owner: None, name: Some("Web-1.example.org".into()) };
    assert!(matches!(receipt::sign(&machine, &asked), Err(TakeoverError::Refused(_))));
    apply(&machine).unwrap();
    // Without the keeper's key there is nobody to sign, and none is made in its place.
    fs::remove_file(machine.paths.key()).unwrap();
    assert!(matches!(receipt::sign(&machine, &asked), Err(TakeoverError::Refused(_))));
    let key = identity::load_or_make(&machine.paths.key()).unwrap().public();
    let text = receipt::sign(&machine, &asked).unwrap();
    assert_eq!(receipt::sign(&machine, &asked).unwrap(), text);
    let network = ChainStore::open(&machine.paths.keeper).unwrap().network();
    let (handover, _) = handed_over::read(&machine.paths, network, &key).unwrap();
    assert_eq!((handover.node, handover.name.as_str()), (node, "web-1"));
    assert_eq!(handover.host_keys, [host_key::public(&machine).unwrap().unwrap()]);
    assert!(handover.taken.iter().any(|(kind, count)| kind.as_str() == "sudo" && *count > 0));
    let other = Receipt { node: SecretKey::from_seed([6; 32]).public(), ..asked };
    assert!(matches!(receipt::sign(&machine, &other), Err(TakeoverError::Refused(_))));
}

#[test]
fn the_owners_copy_opens_to_the_owners_key_alone() {
    let (folder, machine, _) = owned();
    let owner = SecretKey::from_seed([7; 32]);
    let (key, file) = (folder.path().join("owner.pub"), folder.path().join("before.age"));
    fs::write(&key, format!("{} ann@laptop\n", owner.public())).unwrap();
    let owner_of = |file: &Path| Some((key.clone(), file.to_owned()));
    begin::begin(&machine, &Beginning { deadline_s: 900, owner: owner_of(&file) }).unwrap();
    let sealed = fs::read(&file).unwrap();
    let other = sealed::opened_by(&SecretKey::from_seed([8; 32]), &sealed);
    assert!(other.is_none());
    let opened = sealed::opened_by(&owner, &sealed).unwrap();
    let mut tar = tar::Archive::new(opened.as_slice());
    let shadow = tar
        .entries()
        .unwrap()
        .map(Result::unwrap)
        .find(|entry| entry.path().unwrap() == Path::new("etc/shadow"));
    let mut text = String::new();
    shadow.unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, machine.text("/etc/shadow").unwrap());
}
