//! Rotations over a host in memory, in which anything fails at any call.

use std::fs;

use borgios_credentials::{Mark, Orders, RootField, Rotation, Schedule, Verifier};
use borgios_types::{Digest, Epoch, SecretKey, UnixSeconds};

use super::fake::{Fake, Fault, file};
use super::inputs::Inputs;
use super::journal::Record;
use super::*;

fn verifier(epoch: u64) -> Verifier {
    format!("$y$j9T${epoch:022}${epoch:043}").parse().unwrap()
}

fn mark(epoch: u64) -> Mark {
    Mark { epoch: Epoch(epoch), verifier: verifier(epoch) }
}

/// A server on which epoch 1 is at work.
fn at_rest() -> Fake {
    let rotation = Rotation::Idle { current: Some(mark(1)) };
    let record = Record { rotation, changed: UnixSeconds(5) };
    Fake::new(verifier(1).as_str(), record)
}

#[test]
fn whatever_fails_at_any_call_is_finished_by_the_next_attempt() {
    let clean = at_rest();
    let rested = rotator::rotate(&clean, UnixSeconds(9), &mark(2)).unwrap();
    assert_eq!(rested.work, Work::Renewed);
    let calls = clean.server().calls;
    let (mut runs, mut undone) = (0, 0);
    for n in 1..=calls {
        let faults = [Fault::Fails, Fault::DoneAndFails, Fault::CutBefore, Fault::CutAfter];
        for (fault, lost, then) in faults.into_iter().flat_map(|fault| {
            [(false, 2), (true, 2), (true, 3)].map(|(lost, then)| (fault, lost, then))
        }) {
            let place = format!("call {n}, {fault:?}, lost {lost}, then epoch {then}");
            let fake = at_rest();
            fake.server().fault = Some((n, fault));
            rotator::rotate(&fake, UnixSeconds(9), &mark(2)).unwrap_err();
            fake.server().boot(lost);
            let found = fake.server().root();
            assert!(
                [RootField::Verifier(verifier(1)), RootField::Verifier(verifier(2))]
                    .contains(&found),
                "{place}: {found:?}"
            );
            undone += usize::from(found == RootField::Verifier(verifier(1)));
            let rested = rotator::rotate(&fake, UnixSeconds(20), &mark(then)).expect(&place);
            let server = fake.server();
            assert_eq!(server.root(), RootField::Verifier(verifier(then)), "{place}");
            assert!(server.is_settled(), "{place}: {server:?}");
            let idle = Rotation::Idle { current: Some(mark(then)) };
            assert_eq!(server.journal, Record { rotation: idle, changed: rested.changed });
            runs += 1;
        }
    }
    assert!(runs >= 100 && undone > 20 && undone < runs, "{undone} of {runs} undone");
}

#[test]
fn who_is_new_or_was_interfered_with_is_not_late() {
    let fake = Fake::new("*", Record::default());
    let work = |epoch| rotator::rotate(&fake, UnixSeconds(9), &mark(epoch)).unwrap().work;
    assert_eq!((work(1), work(1), work(2)), (Work::PutRight, Work::None, Work::Renewed));
    fake.server().tamper(&file("*"));
    assert_eq!(work(2), Work::PutRight);
}

#[test]
fn one_who_interferes_without_end_is_an_obstacle() {
    struct Fighter(Fake);
    impl Accounts for Fighter {
        fn recall(&self) -> Result<Record, Obstacle> {
            self.0.recall()
        }
        fn remember(&self, record: &Record) -> Result<(), Obstacle> {
            self.0.remember(record)
        }
        fn stamp(&self) -> Result<Stamp, Obstacle> {
            self.0.stamp()
        }
        fn root(&self) -> Result<RootField, Obstacle> {
            self.0.root()
        }
        fn change(&self, _: Option<&Verifier>) -> Result<(), Obstacle> {
            self.0.server().tamper(&file("*"));
            Ok(())
        }
        fn settle(&self) -> Result<(), Obstacle> {
            self.0.settle()
        }
        fn scrub(&self, expected: &RootField) -> Result<(), Obstacle> {
            self.0.scrub(expected)
        }
    }
    let fighter = Fighter(at_rest());
    let tried = rotator::rotate(&fighter, UnixSeconds(9), &mark(2));
    assert!(matches!(tried, Err(Obstacle::NotTaken)));
}

#[test]
fn a_lock_leaves_a_field_that_no_password_opens_and_no_copy() {
    for n in 0..=5 {
        let fake = at_rest();
        fake.server().fault = Some((n, Fault::CutAfter));
        let first = rotator::lock(&fake);
        assert_eq!(first.is_ok(), n == 0, "call {n}");
        fake.server().boot(true);
        rotator::lock(&fake).unwrap();
        assert_eq!(fake.server().root(), RootField::Locked);
        assert!(fake.server().is_settled());
    }
}

const T0: u64 = 1_000;

/// A server below a folder with a schedule of ten epochs of 100 s in its depot.
struct Bench {
    _folder: tempfile::TempDir,
    paths: Paths,
    fake: Fake,
    inputs: Inputs,
    keeper: Rotations,
}

fn schedule(first: u64) -> Vec<u8> {
    let verifiers: Vec<String> =
        (first..first + 10).map(|e| format!("{:?}", verifier_text(e))).collect();
    format!(
        "{{\"network\":\"{}\",\"first\":{first},\"t0\":{T0},\"interval_s\":100,\"jitter_s\":0,\
         \"verifiers\":[{}]}}",
        Digest::of(b"network"),
        verifiers.join(",")
    )
    .into_bytes()
}

fn verifier_text(epoch: u64) -> String {
    verifier(epoch).as_str().to_owned()
}

impl Bench {
    fn new(field: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::below(folder.path());
        fs::create_dir_all(&paths.keeper).unwrap();
        fs::create_dir_all(&paths.depot).unwrap();
        let fake = Fake::new(field, Record::default());
        let inputs = Inputs {
            network: Digest::of(b"network"),
            schedules: Vec::new(),
            orders: Orders::default(),
            newest: UnixSeconds(T0),
        };
        let key = SecretKey::from_seed([1; 32]).public();
        let keeper = Rotations::new(&paths, Box::new(fake.clone()), key);
        let mut bench = Self { _folder: folder, paths, fake, inputs, keeper };
        bench.statement(&schedule(1), true);
        bench
    }

    fn statement(&mut self, schedule: &[u8], brought: bool) -> Digest {
        let digest = Digest::of(schedule);
        if brought {
            fs::write(self.paths.depot.join(digest.hex()), schedule).unwrap();
        }
        self.inputs.schedules.insert(0, digest);
        digest
    }

    /// A look without the pause after a failure.
    fn look(&mut self, now: u64) -> Option<CredentialStatus> {
        self.keeper.pause = None;
        self.keeper.look(UnixSeconds(now), &self.inputs)
    }

    fn carries(&self) -> RootField {
        self.fake.server().root()
    }
}

#[test]
fn root_stays_shut_before_there_is_a_schedule() {
    let mut bench = Bench::new("*");
    let schedules = std::mem::take(&mut bench.inputs.schedules);
    assert_eq!(bench.look(T0 + 250), None);
    assert_eq!(bench.carries(), RootField::Locked);
    // Rest costs one look at the file's stamp.
    let calls = bench.fake.server().calls;
    assert_eq!(bench.look(T0 + 250), None);
    assert_eq!(bench.fake.server().calls, calls + 1);
    for field in ["$6$owner$hash", "", verifier(1).as_str()] {
        bench.fake.server().tamper(&file(field));
        assert_eq!(bench.look(T0 + 250), None);
        assert_eq!(bench.carries(), RootField::Locked, "{field}");
        assert!(bench.fake.server().is_settled());
    }
    // A schedule that is signed and not at hand leaves what root carries.
    bench.fake.server().tamper(&file("$6$other$hash"));
    bench.inputs.schedules = vec![Digest::of(b"elsewhere")];
    assert_eq!(bench.look(T0 + 250), None);
    assert_eq!(bench.carries(), RootField::Other);
    bench.inputs.schedules = schedules;
    let status = bench.look(T0 + 250).unwrap();
    assert_eq!((status.epoch, status.due.0, status.next.unwrap().0), (Epoch(3), 1_200, 1_300));
    assert_eq!((status.changed.0, status.problem), (1_250, None));
    assert_eq!(bench.carries(), RootField::Verifier(verifier(3)));
}

#[test]
fn the_clock_an_order_and_a_tamperer_are_each_followed_and_rest_costs_one_stat() {
    let mut bench = Bench::new("*");
    for (now, epoch) in [(T0, 1), (T0 + 99, 1), (T0 + 100, 2), (T0 + 900, 10), (T0 + 110, 2)] {
        assert_eq!(bench.look(now).unwrap().epoch, Epoch(epoch), "at {now}");
        assert_eq!(bench.carries(), RootField::Verifier(verifier(epoch)));
        assert!(bench.fake.server().is_settled());
    }
    let calls = bench.fake.server().calls;
    bench.look(T0 + 120).unwrap();
    assert_eq!(bench.fake.server().calls, calls + 1);
    bench.inputs.orders.min_epoch = Epoch(4);
    assert_eq!(bench.look(T0 + 120).unwrap().epoch, Epoch(4));
    for field in ["*", "$6$other$hash", "", verifier(1).as_str()] {
        bench.fake.server().tamper(&file(field));
        bench.look(T0 + 120).unwrap();
        assert_eq!(bench.carries(), RootField::Verifier(verifier(4)), "{field}");
    }
    // A clock before what was signed is wrong.
    bench.inputs.newest = UnixSeconds(T0 + 500);
    assert_eq!(bench.look(0).unwrap().epoch, Epoch(6));
}

#[test]
fn what_stands_in_the_way_is_told_and_gone_when_it_is_gone() {
    let mut bench = Bench::new("*");
    bench.look(T0).unwrap();
    // Damaged: told, and not touched.
    let damaged = format!("{}root:x", file("*"));
    bench.fake.server().tamper(&damaged);
    let status = bench.look(T0 + 100).unwrap();
    assert_eq!(status.epoch, Epoch(0));
    assert!(status.problem.unwrap().contains("damaged"));
    assert_eq!(bench.fake.server().shadow, damaged);
    bench.fake.server().tamper(&file(verifier(1).as_str()));
    // Locked: told, with the epoch that is carried, and tried again without a pause.
    let calls = bench.fake.server().calls;
    // Stamp, journal, field, journal, field, change.
    bench.fake.server().fault = Some((calls + 6, Fault::Locked));
    let status = bench.look(T0 + 100).unwrap();
    assert_eq!(status.epoch, Epoch(1));
    assert!(status.problem.unwrap().contains(".pwd.lock"));
    assert!(bench.keeper.pause.is_none());
    let status = bench.look(T0 + 100).unwrap();
    assert_eq!((status.epoch, status.problem), (Epoch(2), None));
    // The disk: a pause before the next attempt.
    let calls = bench.fake.server().calls;
    bench.fake.server().fault = Some((calls + 2, Fault::Fails));
    assert!(bench.look(T0 + 200).unwrap().problem.unwrap().contains("injected"));
    let status = bench.keeper.look(UnixSeconds(T0 + 200), &bench.inputs).unwrap();
    assert!(status.problem.is_some(), "still pausing");
    assert_eq!(bench.look(T0 + 200).unwrap().problem, None);
}

#[test]
fn a_new_schedule_is_at_work_once_it_is_here_and_right_and_the_old_one_until_then() {
    let mut bench = Bench::new("*");
    let old = bench.look(T0).unwrap().schedule;
    let newer = schedule(20);
    let digest = bench.statement(&newer, false);
    let status = bench.look(T0 + 100).unwrap();
    assert_eq!((status.epoch, status.schedule), (Epoch(2), old));
    assert!(status.problem.unwrap().contains("not in the depot yet"));
    // What lies there is another blob, a link to a file of root's, a pipe, a folder, something huge.
    let path = bench.paths.depot.join(digest.hex());
    let secret = bench.paths.keeper.join("secret");
    fs::write(&secret, &newer).unwrap();
    let huge = vec![b' '; borgios_credentials::schedule::SCHEDULE_MAX + 1];
    for plant in 0..5 {
        match plant {
            0 => fs::write(&path, b"{}").unwrap(),
            1 => std::os::unix::fs::symlink(&secret, &path).unwrap(),
            2 => rustix::fs::mknodat(
                rustix::fs::CWD,
                &path,
                rustix::fs::FileType::Fifo,
                rustix::fs::Mode::RUSR,
                0,
            )
            .unwrap(),
            3 => fs::create_dir(&path).unwrap(),
            _ => fs::write(&path, &huge).unwrap(),
        }
        let status = bench.look(T0 + 100).unwrap();
        assert_eq!((status.epoch, status.schedule), (Epoch(2), old), "plant {plant}");
        assert!(status.problem.unwrap().contains("is another"), "plant {plant}");
        if plant == 3 { fs::remove_dir(&path).unwrap() } else { fs::remove_file(&path).unwrap() }
    }
    // Signed, and yet no schedule; a third statement puts it right.
    bench.statement(b"{}", true);
    assert!(bench.look(T0 + 100).unwrap().problem.unwrap().contains("cannot be used"));
    fs::write(&path, &newer).unwrap();
    bench.inputs.schedules.insert(0, digest);
    let status = bench.look(T0 + 100).unwrap();
    assert_eq!((status.epoch, status.schedule, status.problem), (Epoch(21), digest, None));
    assert_eq!(fs::read_dir(bench.paths.credential()).unwrap().count(), 1);
    // A restart needs no depot; a damaged copy does.
    fs::remove_dir_all(&bench.paths.depot).unwrap();
    let again = || Rotations::new(&bench.paths, Box::new(bench.fake.clone()), bench.keeper.key);
    let mut keeper = again();
    assert_eq!(keeper.look(UnixSeconds(T0 + 100), &bench.inputs).unwrap().epoch, Epoch(21));
    let own = fs::read_dir(bench.paths.credential()).unwrap().next().unwrap().unwrap().path();
    fs::write(own, b"{}").unwrap();
    let mut keeper = again();
    assert_eq!(keeper.look(UnixSeconds(T0 + 100), &bench.inputs), None);
    assert!(keeper.behind.text().unwrap().contains("not in the depot yet"));
}

#[test]
fn a_schedule_of_another_network_is_of_no_use() {
    let mut bench = Bench::new("*");
    bench.inputs.network = Digest::of(b"other");
    assert_eq!(bench.look(T0), None);
    assert!(bench.keeper.behind.text().unwrap().contains("another network's"));
    assert_eq!(bench.carries(), RootField::Locked);
    assert!(Schedule::parse(&schedule(1)).is_ok());
}

/// A server whose root carries epoch 1, which is revealed until 50 s after T0.
fn revealed() -> Bench {
    let mut bench = Bench::new("*");
    bench.inputs.orders.revealed = vec![(Epoch(1), UnixSeconds(T0 + 50))];
    for now in [T0, T0 + 49] {
        assert_eq!(bench.look(now).unwrap().epoch, Epoch(1));
        assert!(!bench.paths.access_open().exists(), "it may still be used");
    }
    bench
}

#[test]
fn the_end_of_a_revealed_password_is_marked_before_the_next_one_whatever_fails() {
    let mut clean = revealed();
    let before = clean.fake.server().calls;
    assert_eq!(clean.look(T0 + 50).unwrap().epoch, Epoch(2));
    assert!(clean.paths.access_open().exists());
    let calls = clean.fake.server().calls - before;
    let (mut runs, mut undone) = (0, 0);
    for n in 1..=calls {
        for fault in [Fault::Fails, Fault::DoneAndFails, Fault::CutBefore, Fault::CutAfter] {
            let place = format!("call {n}, {fault:?}");
            let mut bench = revealed();
            let marker = bench.paths.access_open();
            bench.fake.server().fault = Some((before + n, fault));
            bench.look(T0 + 50);
            let old = RootField::Verifier(verifier(1));
            assert!(bench.carries() == old || marker.exists(), "{place}");
            // Logins are ended, perhaps while the old password still opens root; then a restart.
            bench.fake.server().boot(true);
            let _ = fs::remove_file(&marker);
            let again = bench.carries() == old;
            undone += usize::from(again);
            let (fake, key) = (bench.fake.clone(), bench.keeper.key);
            bench.keeper = Rotations::new(&bench.paths, Box::new(fake), key);
            assert_eq!(bench.look(T0 + 50).unwrap().epoch, Epoch(2), "{place}");
            assert!(!again || marker.exists(), "{place}: who came in meanwhile stays");
            runs += 1;
        }
    }
    assert!(undone > 10 && undone < runs, "{undone} of {runs} undone");
}

#[test]
fn only_the_end_of_a_revealed_password_is_marked_and_no_tamperer_hides_it() {
    let mut bench = revealed();
    bench.fake.server().tamper(&file("$6$other$hash"));
    assert_eq!(bench.look(T0 + 50).unwrap().epoch, Epoch(2));
    assert!(bench.paths.access_open().exists());
    // By the clock alone, put right, and moved on past a reveal of another epoch.
    let mut bench = Bench::new("*");
    bench.inputs.orders.revealed = vec![(Epoch(7), UnixSeconds(T0 + 50_000))];
    for now in [T0, T0 + 100, T0 + 200] {
        bench.look(now).unwrap();
        bench.fake.server().tamper(&file("*"));
        bench.look(now).unwrap();
    }
    assert_eq!(bench.carries(), RootField::Verifier(verifier(3)));
    assert!(!bench.paths.access_open().exists());
    // Where the mark cannot be set, the password stays until it can.
    let mut bench = revealed();
    let marker = bench.paths.access_open();
    let temporary = bench.paths.keeper.join(".access-open.tmp");
    fs::create_dir(&temporary).unwrap();
    assert!(bench.look(T0 + 50).unwrap().problem.is_some());
    assert_eq!(bench.carries(), RootField::Verifier(verifier(1)));
    fs::remove_dir(&temporary).unwrap();
    assert_eq!(bench.look(T0 + 50).unwrap().epoch, Epoch(2));
    assert!(marker.exists());
}

/// Everybody would be put out every few seconds for as long as nothing can be changed.
#[test]
fn while_nothing_can_be_changed_logins_are_ended_once_and_again_before_the_change() {
    let mut bench = revealed();
    let marker = bench.paths.access_open();
    bench.fake.server().stuck = true;
    let mut ended = 0;
    for _ in 0..20 {
        bench.keeper.pause = None;
        bench.look(T0 + 50);
        assert_eq!(bench.carries(), RootField::Verifier(verifier(1)));
        // As the doorkeeper does.
        ended += usize::from(fs::remove_file(&marker).is_ok());
    }
    assert_eq!(ended, 1);
    bench.fake.server().stuck = false;
    bench.keeper.pause = None;
    assert_eq!(bench.look(T0 + 50).unwrap().epoch, Epoch(2));
    assert!(marker.exists(), "who came in meanwhile stays");
}
