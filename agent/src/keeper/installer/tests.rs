//! Installs on a host that fails: power lost at every call, blobs swapped, units taken.

mod room;
mod succession;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use borgios_releases::manifest::Installer as RawInstaller;
use borgios_releases::plan::STARTS_MAX;
use borgios_releases::{Component, Journal, Manifest, Outcome, build};
use borgios_types::{Digest, Seq};

use super::fake::{Cut, Fake};
use super::{InstallError, Installer, Run, Seat};
use crate::keeper::ledger;
use crate::keeper::paths::Paths;
use crate::keeper::staging::StageError;

/// A component to build: its name and its files besides `component.json`.
struct Part<'a> {
    name: &'a str,
    files: Vec<(&'a str, &'a str)>,
    health: bool,
    restart: Vec<&'a str>,
}

/// A service with a health file that says `health`.
fn service<'a>(name: &'a str, unit: &'a str, text: &'a str, health: &'a str) -> Part<'a> {
    let files = vec![(unit, text), ("files/bin/check", health)];
    Part { name, files, health: true, restart: vec![unit.strip_prefix("units/").unwrap()] }
}

struct Bench {
    _folder: tempfile::TempDir,
    paths: Paths,
    fake: Fake,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::below(folder.path());
        for made in [&paths.keeper, &paths.depot] {
            fs::create_dir_all(made).unwrap();
        }
        let fake = Fake::new(&paths);
        Self { _folder: folder, paths, fake }
    }

    fn installer(&self) -> Installer {
        Installer::new(self.paths.clone(), Box::new(self.fake.clone()), Seat::Keeper)
    }

    /// Builds the parts into the depot and names them as a release.
    fn release(&self, parts: &[Part<'_>]) -> Manifest {
        let mut components = Vec::new();
        for part in parts {
            let folder = tempfile::tempdir().unwrap();
            let health = format!(
                r#","health":{{"command":["/opt/borgios/current/{}/files/bin/check"],"deadline_s":5,"stable_s":1}}"#,
                part.name
            );
            let restart = serde_json::to_string(&part.restart).unwrap();
            let (name, health) = (part.name, if part.health { &*health } else { "" });
            let info = format!(
                r#"{{"name":"{name}","version":"1","arch":"any","restart":{restart}{health}}}"#
            );
            for (path, text) in part.files.iter().copied().chain([("component.json", &*info)]) {
                let path = folder.path().join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            let mut blob = Vec::new();
            let built = build(folder.path(), &mut blob).unwrap();
            fs::write(self.paths.depot.join(built.digest.hex()), blob).unwrap();
            let (digest, size) = (built.digest, built.size);
            components.push(Component { name: built.info.name, digest, size });
        }
        components.sort_by(|one, other| one.name.cmp(&other.name));
        Manifest {
            version: "1".into(),
            components,
            installer: RawInstaller { digest: Digest::of(b"installer"), size: 9 },
            urls: Vec::new(),
            floor: Seq(1),
            notes: String::new(),
        }
    }

    fn install(&self, seq: u64, manifest: &Manifest) -> Result<Run, InstallError> {
        self.installer().install(manifest, Seq(seq), id(seq), &|_| true)
    }

    /// Installs until the power goes after `calls` calls; whether it went.
    fn cut(&self, calls: Option<usize>, work: impl FnOnce(&Self)) -> bool {
        self.fake.server().left = calls;
        let ended = catch_unwind(AssertUnwindSafe(|| work(self)));
        self.fake.server().left = None;
        match ended {
            Ok(()) => false,
            Err(thrown) if thrown.is::<Cut>() => true,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// Whether links, units and journal are those of this very release and of no other.
    fn runs(&self, seq: u64, manifest: &Manifest) -> bool {
        let named: BTreeMap<_, _> =
            manifest.components.iter().map(|c| (c.name.clone(), c.digest)).collect();
        let journal = ledger::read(&self.paths).unwrap();
        let Journal::Idle { installed: Some(installed), .. } = &journal else { return false };
        let units: BTreeMap<_, _> = named
            .values()
            .flat_map(|digest| {
                let units = self.paths.stored(digest).join("units");
                fs::read_dir(units).into_iter().flatten().map(|unit| {
                    let path = unit.unwrap().path();
                    let name = path.file_name().unwrap().to_string_lossy().into_owned();
                    (name, fs::canonicalize(path).unwrap())
                })
            })
            .collect();
        installed.seq == Seq(seq)
            && Installer::running(&self.paths).unwrap() == named
            && self.fake.server().running == units
            && linked(&self.paths.units) == units.keys().cloned().collect::<Vec<_>>()
    }
}

fn id(seq: u64) -> Digest {
    Digest::of(&seq.to_be_bytes())
}

/// The links in systemd's folder.
fn linked(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().map(Result::unwrap);
    let links = entries.filter(|entry| entry.file_type().unwrap().is_symlink());
    let mut names: Vec<_> =
        links.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn outcome(run: Result<Run, InstallError>) -> (Outcome, String) {
    match run.unwrap() {
        Run::Done(Some(last)) => (last.outcome, last.reason.unwrap_or_default()),
        other => panic!("{other:?}"),
    }
}

fn old(bench: &Bench) -> Manifest {
    bench.release(&[
        service("hello", "units/hello.service", "one", "well"),
        service("only-old", "units/gone.service", "one", "well"),
        Part {
            name: "same",
            files: vec![("units/same.timer", "1")],
            health: false,
            restart: vec!["same.timer"],
        },
    ])
}

fn new(bench: &Bench, health: &str) -> Manifest {
    bench.release(&[
        service("hello", "units/hello.service", "two", health),
        service("only-new", "units/fresh.service", "one", "well"),
        Part {
            name: "same",
            files: vec![("units/same.timer", "1")],
            health: false,
            restart: vec!["same.timer"],
        },
    ])
}

#[test]
fn a_set_replaces_another_and_touches_nothing_that_stays() {
    let bench = Bench::new();
    let (old, new) = (old(&bench), new(&bench, "well"));
    assert_eq!(outcome(bench.install(1, &old)).0, Outcome::Committed);
    assert!(bench.runs(1, &old));
    bench.fake.server().calls.clear();
    assert_eq!(outcome(bench.install(2, &new)).0, Outcome::Committed);
    assert!(bench.runs(2, &new));
    let calls = std::mem::take(&mut bench.fake.server().calls);
    assert!(calls.contains(&"stop gone.service".to_owned()), "{calls:?}");
    assert!(!calls.contains(&"restart same.timer".to_owned()), "{calls:?}");
    let wants = bench.paths.units.join("multi-user.target.wants");
    assert_eq!(linked(&wants), ["fresh.service", "hello.service"]);
    assert_eq!(linked(&bench.paths.units.join("timers.target.wants")), ["same.timer"]);
    // The same release again is nothing to do.
    assert_eq!(outcome(bench.install(2, &new)).0, Outcome::Committed);
    assert_eq!(bench.fake.server().calls, Vec::<String>::new());
}

#[test]
fn power_lost_at_any_call_ends_in_the_old_set_or_the_new_one() {
    for health in ["well", "sick"] {
        let mut calls = 0;
        loop {
            let bench = Bench::new();
            let (old, new) = (old(&bench), new(&bench, health));
            bench.install(1, &old).unwrap();
            let cut = bench.cut(Some(calls), |bench| drop(bench.install(2, &new)));
            // Cut once more on the way back up, then left alone.
            bench.cut(Some(calls / 2), |bench| drop(bench.installer().resume(&|_| true)));
            bench.installer().resume(&|_| true).unwrap();
            let marked = ledger::is_marked(&bench.paths, &id(2));
            if health == "well" {
                assert!(bench.runs(2, &new) && !marked, "{health}, cut at call {calls}");
            } else {
                assert!(bench.runs(1, &old) && marked, "{health}, cut at call {calls}");
            }
            if !cut {
                assert!(calls > 20, "only {calls} calls were cut");
                break;
            }
            calls += 1;
        }
    }
}

#[test]
fn a_sick_release_and_one_that_does_not_start_are_taken_back() {
    let bench = Bench::new();
    let old = old(&bench);
    bench.install(1, &old).unwrap();
    let (how, why) = outcome(bench.install(2, &new(&bench, "sick")));
    assert_eq!(how, Outcome::RolledBack);
    assert!(why.contains("hello is not well after 5 s"), "{why}");
    assert!(bench.runs(1, &old));
    let dead = bench.release(&[service("hello", "units/hello.service", "does not start", "well")]);
    let (how, why) = outcome(bench.install(3, &dead));
    assert_eq!(how, Outcome::RolledBack);
    assert!(why.contains("does not start"), "{why}");
    assert!(bench.runs(1, &old));
    assert_eq!(ledger::marked(&bench.paths).unwrap().len(), 2);
}

#[test]
fn a_release_that_fails_once_the_disk_has_room_again_is_not_begun_a_second_time() {
    let bench = Bench::new();
    let old = old(&bench);
    bench.install(1, &old).unwrap();
    let sick = new(&bench, "sick");
    // One process, as the daemon is: the disk holds the switch up, then the same call goes on.
    let installer = bench.installer();
    bench.fake.server().full = true;
    let held_up = installer.install(&sick, Seq(2), id(2), &|_| true).unwrap_err();
    assert_eq!(held_up.code(), "disk");
    bench.fake.server().full = false;
    let (how, _) = outcome(installer.install(&sick, Seq(2), id(2), &|_| true));
    assert_eq!(how, Outcome::RolledBack);
    assert!(bench.runs(1, &old));
    let calls = std::mem::take(&mut bench.fake.server().calls);
    let starts = calls.iter().filter(|call| *call == "restart fresh.service").count();
    assert_eq!(starts, 1, "{calls:?}");
}

#[test]
fn a_blob_that_is_not_the_blob_changes_nothing() {
    let bench = Bench::new();
    let old = old(&bench);
    bench.install(1, &old).unwrap();
    let new = new(&bench, "well");
    let hello = &new.components[0];
    let blob = bench.paths.depot.join(hello.digest.hex());
    let good = fs::read(&blob).unwrap();
    let refused = |what: &str| {
        let error = bench.install(2, &new).unwrap_err();
        assert!(!matches!(&error, InstallError::Stage(stage) if stage.is_final()), "{what}");
        assert!(bench.runs(1, &old) && ledger::marked(&bench.paths).unwrap().is_empty(), "{what}");
        error.code()
    };
    fs::remove_file(&blob).unwrap();
    assert_eq!(refused("missing"), "no_blob");
    symlink("/etc/passwd", &blob).unwrap();
    assert_eq!(refused("a link"), "bad_digest");
    fs::remove_file(&blob).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &blob,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    assert_eq!(refused("a pipe that nobody writes to"), "bad_digest");
    fs::remove_file(&blob).unwrap();
    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 1;
    fs::write(&blob, &flipped).unwrap();
    assert_eq!(refused("a flipped bit"), "bad_digest");
    fs::write(&blob, [&good[..], b"x"].concat()).unwrap();
    assert_eq!(refused("a byte more"), "bad_digest");
    fs::write(&blob, &good).unwrap();
    assert_eq!(outcome(bench.install(2, &new)).0, Outcome::Committed);
    assert!(bench.runs(2, &new));
}

#[test]
fn a_release_that_can_never_work_is_refused_and_marked() {
    let bench = Bench::new();
    let old = old(&bench);
    bench.install(1, &old).unwrap();
    let twice = bench.release(&[
        service("hello", "units/hello.service", "one", "well"),
        service("other", "units/hello.service", "two", "well"),
    ]);
    let mut misnamed = bench.release(&[service("hello", "units/hello.service", "x", "well")]);
    misnamed.components[0].name = "other".parse().unwrap();
    let broken = bench.release(&[Part {
        name: "borgios-keeper",
        files: vec![("files/bin/borgios-keeper", "broken")],
        health: false,
        restart: vec![],
    }]);
    for (seq, manifest) in [(2, twice), (3, misnamed), (4, broken)] {
        let error = bench.install(seq, &manifest).unwrap_err();
        assert!(
            matches!(
                &error,
                InstallError::Stage(StageError::Set(_) | StageError::Component { .. })
            ),
            "{error}"
        );
        assert!(bench.runs(1, &old) && ledger::is_marked(&bench.paths, &id(seq)), "{seq}");
        let journal = ledger::read(&bench.paths).unwrap();
        let Journal::Idle { last: Some(last), .. } = journal else { panic!("not idle") };
        assert_eq!((last.seq, last.outcome), (Seq(seq), Outcome::Refused));
    }
}

#[test]
fn somebody_elses_unit_is_left_alone() {
    let bench = Bench::new();
    fs::create_dir_all(&bench.paths.units).unwrap();
    let theirs = bench.paths.units.join("hello.service");
    fs::write(&theirs, "theirs").unwrap();
    let hello = bench.release(&[service("hello", "units/hello.service", "ours", "well")]);
    let (how, why) = outcome(bench.install(1, &hello));
    assert_eq!(how, Outcome::RolledBack);
    assert!(why.contains("belongs to somebody else"), "{why}");
    assert_eq!(fs::read_to_string(theirs).unwrap(), "theirs");
    assert!(Installer::running(&bench.paths).unwrap().is_empty());
}

#[test]
fn what_was_overtaken_before_the_switch_is_left() {
    let bench = Bench::new();
    let old = old(&bench);
    bench.install(1, &old).unwrap();
    let new = new(&bench, "well");
    bench.installer().install(&new, Seq(2), id(2), &|_| false).unwrap();
    assert!(bench.runs(1, &old) && !ledger::is_marked(&bench.paths, &id(2)));
    // What is no longer named is swept out with the next release that stays.
    bench.install(2, &new).unwrap();
    let third = bench.release(&[service("hello", "units/hello.service", "three", "well")]);
    bench.install(3, &third).unwrap();
    let stored = fs::read_dir(&bench.paths.store).unwrap().count();
    assert_eq!(stored, new.components.len() + third.components.len());
}

/// The journal may hold another release than the one that is asked for: staged, and held up by the disk.
#[test]
fn what_was_staged_and_then_overtaken_or_overruled_is_never_begun() {
    for overruled in [false, true] {
        let bench = Bench::new();
        let old = old(&bench);
        bench.install(1, &old).unwrap();
        let burnt = new(&bench, "well");
        let third = bench.release(&[service("hello", "units/hello.service", "three", "well")]);
        // The power goes when it is staged and not begun.
        let cut = |_: &Digest| -> bool { std::panic::panic_any(Cut) };
        let went = bench.cut(None, |bench| {
            drop(bench.installer().install(&burnt, Seq(2), id(2), &cut));
        });
        assert!(went && matches!(ledger::read(&bench.paths), Ok(Journal::Staged { .. })));
        let calls = bench.fake.server().calls.len();
        let installer = bench.installer();
        if overruled {
            installer.resume(&|release| *release == id(1)).unwrap();
            assert!(bench.runs(1, &old), "what the board burnt was installed");
        } else {
            let head = |release: &Digest| *release == id(3);
            installer.install(&third, Seq(3), id(3), &head).unwrap();
            assert!(bench.runs(3, &third));
        }
        let server = bench.fake.server();
        let links = server.calls[calls..].iter().filter(|call| call.starts_with("link ")).count();
        assert!(if overruled { links == 0 } else { links > 0 }, "{:?}", &server.calls[calls..]);
        drop(server);
        assert!(!ledger::is_marked(&bench.paths, &id(2)), "nothing was wrong with it");
    }
}

#[test]
fn a_component_whose_description_is_damaged_is_unpacked_anew_and_stays_until_then() {
    let bench = Bench::new();
    let old = old(&bench);
    bench.install(1, &old).unwrap();
    let digest = old.components[0].digest;
    let (blob, info) =
        (bench.paths.depot.join(digest.hex()), bench.paths.stored(&digest).join("component.json"));
    fs::write(&info, "{").unwrap();
    let kept = bench.paths.depot.join("kept");
    fs::rename(&blob, &kept).unwrap();
    let error = bench.install(2, &old).unwrap_err();
    assert_eq!(error.code(), "no_blob");
    assert!(info.exists(), "what may run was removed with nothing in its place");
    fs::rename(&kept, &blob).unwrap();
    bench.install(2, &old).unwrap();
    assert!(bench.runs(2, &old) && fs::read_to_string(&info).unwrap().len() > 1);
    assert_eq!(fs::read_dir(bench.paths.spool()).unwrap().count(), 0);
}

#[test]
fn a_full_disk_is_no_verdict_and_the_install_goes_on_when_there_is_room() {
    for health in ["well", "sick"] {
        let bench = Bench::new();
        let old = old(&bench);
        bench.install(1, &old).unwrap();
        let new = new(&bench, health);
        bench.fake.server().full = true;
        let installer = bench.installer();
        let error = installer.install(&new, Seq(2), id(2), &|_| true).unwrap_err();
        assert_eq!(error.code(), "disk");
        for _ in 0..2 * STARTS_MAX {
            assert_eq!(installer.resume(&|_| true).unwrap_err().code(), "disk");
        }
        assert!(ledger::marked(&bench.paths).unwrap().is_empty());
        bench.fake.server().full = false;
        installer.resume(&|_| true).unwrap();
        assert!(if health == "well" { bench.runs(2, &new) } else { bench.runs(1, &old) });
    }
}

/// A set that makes an account.
fn with_account(bench: &Bench) -> Manifest {
    let account = ("sysusers.d/app.conf", "u app -");
    let files = vec![("units/app.service", "one"), ("files/bin/check", "well"), account];
    bench.release(&[Part { name: "app", files, health: true, restart: vec!["app.service"] }])
}

#[test]
fn systemd_s_tools_that_fail_for_a_moment_or_on_a_full_disk_are_no_verdict() {
    let bench = Bench::new();
    let old = old(&bench);
    bench.install(1, &old).unwrap();
    let new = with_account(&bench);
    let installer = bench.installer();
    bench.fake.server().refusals = usize::MAX;
    bench.fake.server().cramped = true;
    let held_up = installer.install(&new, Seq(2), id(2), &|_| true).unwrap_err();
    assert_eq!(held_up.code(), "disk");
    for _ in 0..2 * STARTS_MAX {
        assert_eq!(installer.resume(&|_| true).unwrap_err().code(), "disk");
    }
    // There is room again, and something holds them up a few times more.
    bench.fake.server().cramped = false;
    bench.fake.server().refusals = 5;
    installer.resume(&|_| true).unwrap();
    assert!(bench.runs(2, &new));
    assert!(ledger::marked(&bench.paths).unwrap().is_empty());
}

#[test]
fn systemd_s_tools_that_go_on_failing_end_in_the_old_set() {
    let bench = Bench::new();
    let old = old(&bench);
    bench.install(1, &old).unwrap();
    let new = with_account(&bench);
    // Just enough for the minute of the switch; on the way back they work again.
    bench.fake.server().refusals = 31;
    let (how, why) = outcome(bench.install(2, &new));
    assert_eq!(how, Outcome::RolledBack);
    assert!(why.contains("sysusers"), "{why}");
    assert!(bench.runs(1, &old));
}

#[test]
fn a_damaged_journal_costs_the_way_back_only_where_something_was_under_way() {
    let bench = Bench::new();
    let old = old(&bench);
    bench.install(1, &old).unwrap();
    fs::write(bench.paths.journal(), "{").unwrap();
    let (how, _) = outcome(bench.install(2, &new(&bench, "sick")));
    assert_eq!(how, Outcome::RolledBack);
    assert!(bench.runs(1, &old), "it went back to what ran before");
    // Links that are not those of the set that was written down: it is not believed.
    fs::write(bench.paths.journal(), "{").unwrap();
    fs::remove_file(bench.paths.current.join("hello")).unwrap();
    assert_eq!(ledger::read(&bench.paths).unwrap(), Journal::default());
}
