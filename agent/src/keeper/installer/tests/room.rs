//! Installs where there is no room: what is left lying, what is held up, and who took it.

use std::collections::BTreeSet;
use std::time::Duration;

use super::*;
use crate::keeper::installer::verdict::PUT_OFF_MAX;
use crate::keeper::room::Room;

/// What stays free whatever is staged.
const KEPT: u64 = 64 * 1024 * 1024;

fn digests(manifest: &Manifest) -> BTreeSet<Digest> {
    manifest.components.iter().map(|component| component.digest).collect()
}

/// Whether some unit was stopped.
fn stopped(bench: &Bench, unit: &str) -> bool {
    bench.fake.server().calls.contains(&format!("stop {unit}"))
}

#[test]
fn what_failed_is_gone_from_the_store_before_the_next_release_is_begun() {
    let bench = Bench::new();
    let old = old(&bench);
    bench.install(1, &old).unwrap();
    let sick = new(&bench, "sick");
    assert_eq!(outcome(bench.install(2, &sick)).0, Outcome::RolledBack);
    let leftover = bench.paths.store.join(format!(".{}.unpacking", Digest::of(b"cut off").hex()));
    fs::create_dir_all(leftover.join("files")).unwrap();
    let third = bench.release(&[service("hello", "units/hello.service", "three", "well")]);
    let expected: BTreeSet<_> = digests(&old).union(&digests(&third)).map(Digest::hex).collect();
    let look = |_: &Digest| {
        let stored = fs::read_dir(&bench.paths.store).unwrap();
        let stored: BTreeSet<_> =
            stored.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
        assert_eq!(stored, expected, "staged, and not begun");
        true
    };
    bench.installer().install(&third, Seq(3), id(3), &look).unwrap();
    assert!(bench.runs(3, &third));
}

#[test]
fn a_disk_without_room_for_users_holds_a_release_up_and_nothing_of_it_is_written() {
    let bench = Bench::new();
    let old = old(&bench);
    bench.install(1, &old).unwrap();
    let new = new(&bench, "well");
    let before = fs::read_dir(&bench.paths.store).unwrap().count();
    for room in [
        Room { bytes: 0, ..Room::BOUNDLESS },
        Room { files: 0, ..Room::BOUNDLESS },
        // The blob fits, and what is in it does not.
        Room { bytes: KEPT + 4096, ..Room::BOUNDLESS },
    ] {
        bench.fake.server().room = Some(room);
        for _ in 0..2 * STARTS_MAX {
            assert_eq!(bench.install(2, &new).unwrap_err().code(), "disk", "{room:?}");
        }
        assert_eq!(fs::read_dir(&bench.paths.store).unwrap().count(), before, "{room:?}");
        assert_eq!(fs::read_dir(bench.paths.spool()).unwrap().count(), 0, "{room:?}");
        assert!(bench.runs(1, &old) && !ledger::is_marked(&bench.paths, &id(2)));
    }
    bench.fake.server().room = Some(Room { bytes: KEPT + 64 * 1024, ..Room::BOUNDLESS });
    assert_eq!(outcome(bench.install(2, &new)).0, Outcome::Committed);
    assert!(bench.runs(2, &new));
}

#[test]
fn a_unit_that_does_not_start_on_a_full_disk_is_started_when_there_is_room() {
    let bench = Bench::new();
    let old = old(&bench);
    bench.install(1, &old).unwrap();
    let needy = bench.release(&[service("hello", "units/hello.service", "needs room", "well")]);
    bench.fake.server().cramped = true;
    let installer = bench.installer();
    assert_eq!(installer.install(&needy, Seq(2), id(2), &|_| true).unwrap_err().code(), "disk");
    for _ in 0..2 * STARTS_MAX {
        assert_eq!(installer.resume(&|_| true).unwrap_err().code(), "disk");
    }
    assert!(ledger::marked(&bench.paths).unwrap().is_empty());
    bench.fake.server().cramped = false;
    installer.resume(&|_| true).unwrap();
    assert!(bench.runs(2, &needy));
}

#[test]
fn what_is_not_well_on_a_disk_that_others_filled_is_looked_at_again() {
    let bench = Bench::new();
    let old = old(&bench);
    bench.install(1, &old).unwrap();
    // One part shows that it is well, the other would pass while it is stopped.
    let timer = ("units/quiet.timer", "1");
    let new = bench.release(&[
        service("hello", "units/hello.service", "two", "well"),
        Part { name: "quiet", files: vec![timer], health: false, restart: vec!["quiet.timer"] },
    ]);
    bench.fake.server().cramped = true;
    let installer = bench.installer();
    assert_eq!(installer.install(&new, Seq(2), id(2), &|_| true).unwrap_err().code(), "disk");
    assert!(matches!(ledger::read(&bench.paths), Ok(Journal::Probation { .. })));
    for _ in 0..2 * STARTS_MAX {
        assert_eq!(installer.resume(&|_| true).unwrap_err().code(), "disk");
    }
    assert!(ledger::marked(&bench.paths).unwrap().is_empty());
    let running = bench.fake.server().running.clone();
    assert!(running.is_empty(), "nothing may fill the disk while it waits: {running:?}");
    bench.fake.server().cramped = false;
    // Another process: it cannot know what the one before it stopped.
    bench.installer().resume(&|_| true).unwrap();
    assert!(bench.runs(2, &new));
}

#[test]
fn a_release_that_fills_the_disk_is_taken_back() {
    let bench = Bench::new();
    let old = old(&bench);
    bench.install(1, &old).unwrap();
    let filler = service("hello", "units/hello.service", "fills the disk", "well");
    let mut filler = bench.release(&[filler]);
    let (how, why) = outcome(bench.install(2, &filler));
    assert_eq!(how, Outcome::RolledBack);
    assert!(why.contains("hello is not well"), "{why}");
    assert!(bench.runs(1, &old) && ledger::is_marked(&bench.paths, &id(2)));
    // Where nothing may be gone back to, it runs on rather than nothing.
    filler.floor = Seq(3);
    let (how, why) = outcome(bench.install(3, &filler));
    assert_eq!(how, Outcome::Committed);
    assert!(why.contains("floor 3"), "{why}");
    assert!(stopped(&bench, "hello.service") && bench.runs(3, &filler));
}

#[test]
fn a_verdict_that_the_disk_does_not_take_stops_what_was_judged() {
    for spare in [true, false] {
        let bench = Bench::new();
        let old = old(&bench);
        bench.install(1, &old).unwrap();
        let sick = new(&bench, "sick");
        // The journal's next file goes to a full disk, once it is on probation.
        bench.fake.server().unwritable = Some(bench.paths.keeper.join(".journal.json.tmp"));
        let begun = |_: &Digest| {
            if !spare {
                fs::remove_file(bench.paths.spare()).unwrap();
            }
            true
        };
        let (how, _) = outcome(bench.installer().install(&sick, Seq(2), id(2), &begun));
        assert_eq!(how, Outcome::RolledBack, "{spare}");
        assert_eq!(stopped(&bench, "hello.service"), !spare, "{spare}");
        assert!(!bench.paths.spare().exists(), "{spare}");
        assert!(bench.runs(1, &old) && ledger::is_marked(&bench.paths, &id(2)), "{spare}");
    }
}

/// What it wrote may be what fills the disk, and stays when it is stopped.
#[test]
fn a_disk_that_stays_full_is_a_verdict_in_the_end() {
    let bench = Bench::new();
    let old = old(&bench);
    bench.install(1, &old).unwrap();
    let new = new(&bench, "well");
    bench.fake.server().cramped = true;
    let installer = bench.installer();
    assert_eq!(installer.install(&new, Seq(2), id(2), &|_| true).unwrap_err().code(), "disk");
    let (began, pause) = (bench.fake.server().now, 60_000);
    while installer.resume(&|_| true).is_err() {
        bench.fake.server().now += pause;
    }
    let passed = Duration::from_millis(bench.fake.server().now - began);
    let most = PUT_OFF_MAX + Duration::from_millis(2 * pause);
    assert!((PUT_OFF_MAX..most).contains(&passed), "{passed:?}");
    assert!(bench.runs(1, &old) && ledger::is_marked(&bench.paths, &id(2)));
}

/// A boot in probation: what a unit needs may come up after the keeper.
#[test]
fn what_starts_late_after_a_boot_has_as_long_as_to_become_well() {
    for (late, stays) in [(3, true), (usize::MAX, false)] {
        let bench = Bench::new();
        let old = old(&bench);
        bench.install(1, &old).unwrap();
        let new = bench.release(&[service("hello", "units/hello.service", "starts late", "well")]);
        bench.fake.server().cramped = true;
        let begun = bench.installer().install(&new, Seq(2), id(2), &|_| true);
        assert_eq!(begun.unwrap_err().code(), "disk");
        assert!(matches!(ledger::read(&bench.paths), Ok(Journal::Probation { .. })));
        bench.fake.server().cramped = false;
        bench.fake.server().late = late;
        bench.installer().resume(&|_| true).unwrap();
        assert_eq!(bench.runs(2, &new), stays, "{late}");
        assert_eq!(ledger::is_marked(&bench.paths, &id(2)), !stays, "{late}");
        assert!(stays || bench.runs(1, &old));
    }
}

/// What fills the disk may be what a timer or a socket started.
#[test]
fn what_its_timer_started_is_stopped_too_on_a_full_disk() {
    let bench = Bench::new();
    bench.install(1, &old(&bench)).unwrap();
    let files = vec![("units/quiet.timer", "1"), ("units/quiet.service", "1")];
    let new = bench.release(&[
        service("hello", "units/hello.service", "two", "well"),
        Part { name: "quiet", files, health: false, restart: vec!["quiet.timer"] },
    ]);
    bench.fake.server().cramped = true;
    let begun = bench.installer().install(&new, Seq(2), id(2), &|_| true);
    assert_eq!(begun.unwrap_err().code(), "disk");
    for unit in ["hello.service", "quiet.timer", "quiet.service"] {
        assert!(stopped(&bench, unit), "{unit}");
    }
}
