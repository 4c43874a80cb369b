//! What lies at places that depend on the server: what is removed there comes back with all else,
//! and what comes back by itself keeps nobody from handing root over.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use super::super::failure::TakeoverError;
use super::super::fake::{Fake, Fate};
use super::super::machine::Machine;
use super::{AUTO, Disk, apply, begin, disk, install, is_done, open, owned};

const GENERATED: &str = "/run/systemd/system/service.d/zzz-lxc-service.conf";

/// As [`open`], with folders of sshd's and of a console's that are links.
fn open_with_links() -> (TempDir, Machine, Fake, Disk) {
    let (folder, machine, fake) = owned();
    machine.folder("/srv/getty", 0o755).unwrap();
    fs::rename(machine.at("/etc/ssh/sshd_config.d"), machine.at("/srv/sshd")).unwrap();
    fs::copy(machine.at(AUTO), machine.at("/srv/getty/auto.conf")).unwrap();
    for (link, target) in [
        ("/etc/ssh/sshd_config.d", "../../srv/sshd"),
        ("/etc/systemd/system/getty@tty1.service.d", "../../../srv/getty"),
    ] {
        machine.link(link, Path::new(target)).unwrap();
    }
    // A folder in the place of a file goes with all that is in it.
    machine.folder("/etc/sudo-own/old", 0o755).unwrap();
    machine.write("/etc/sudo-own/old/x", b"ann ALL=(ALL) ALL\n", 0o440).unwrap();
    let before = disk(&machine);
    begin(&machine);
    install(&machine);
    (folder, machine, fake, before)
}

#[test]
fn what_was_removed_behind_a_link_or_in_an_odd_folder_comes_back_and_a_root_shell_runs_again() {
    let (_folder, machine, fake, _) = open_with_links();
    let said = fake.calls().len();
    apply(&machine).unwrap();
    for gone in
        [AUTO, "/srv/getty/auto.conf", "/srv/sshd/50-provider.conf", "/etc/sudo-own/90-cloud"]
    {
        assert!(!machine.exists(gone), "{gone}");
    }
    let is_stop = |call: &String| call.ends_with("stop debug-shell.service");
    let stopped = fake.calls()[said..].iter().position(is_stop).unwrap();
    // What follows fails, as on a full disk.
    let (_folder, machine, fake, before) = open_with_links();
    let said = fake.calls().len();
    fake.at(stopped + 1, Fate::Fail);
    let ended = apply(&machine);
    assert!(matches!(ended, Err(TakeoverError::RolledBack(_))), "{ended:?}");
    assert_eq!(disk(&machine), before);
    let is_start = |call: &String| call.ends_with("start debug-shell.service");
    assert!(fake.calls()[said..].iter().any(is_start));
}

/// A container of LXD or Incus: its generator writes a drop-in at each `daemon-reload`.
fn contained(text: &str) -> (TempDir, Machine, Fake) {
    let (folder, machine, fake, _) = open();
    machine.folder(Path::new(GENERATED).parent().unwrap(), 0o755).unwrap();
    fake.generator(GENERATED, text);
    machine.systemctl(&["daemon-reload"]).unwrap();
    assert!(machine.exists(GENERATED));
    (folder, machine, fake)
}

#[test]
fn what_a_containers_generator_takes_off_keeps_nobody_from_handing_root_over() {
    let (_folder, machine, _) = contained("[Service]\nProtectProc=default\nNoNewPrivileges=no\n");
    apply(&machine).unwrap();
    assert!(is_done(&machine) && machine.exists(GENERATED));
}

#[test]
fn what_a_generator_has_sshd_run_does() {
    let (_folder, machine, _) = contained("[Service]\nNoNewPrivileges=no\nExecStartPre=/srv/x\n");
    let Err(TakeoverError::RolledBack(why)) = apply(&machine) else { panic!("it is handed over") };
    assert!(why.contains(GENERATED), "{why}");
}
