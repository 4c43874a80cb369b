//! The keeper as a component: which program runs, with which unit, and whose unit that is.

use super::*;

const UNIT: &str = "borgios-keeper.service";

/// A release of the keeper alone; `words` are program and units.
fn keeper(bench: &Bench, words: &str) -> Manifest {
    let files = vec![
        ("files/bin/borgios-keeper", words),
        ("units/borgios-keeper.service", words),
        ("units/watch.service", words),
    ];
    bench.release(&[Part { name: "borgios-keeper", files, health: false, restart: vec![UNIT] }])
}

/// Installs a server's first release, as the owner's command does, and starts the keeper.
fn first(bench: &Bench, manifest: &Manifest) {
    let host = Box::new(bench.fake.clone());
    let beside = Installer::new(bench.paths.clone(), host, Seat::Beside);
    let run = beside.install(manifest, Seq(1), id(1), &|_| true);
    assert_eq!(outcome(run).0, Outcome::Committed);
    bench.fake.start_keeper();
}

/// Lets the keeper install a release, started by systemd as often as it ends.
fn keep_on(bench: &Bench, seq: u64, manifest: &Manifest) -> usize {
    let mut replaced = 0;
    while let Run::ReplaceKeeper = bench.install(seq, manifest).unwrap() {
        replaced += 1;
        assert!(replaced < 4, "it gives way for ever");
        bench.fake.start_keeper();
    }
    replaced
}

/// Whether the keeper's process is what the links name: its program, and the unit it was started with.
fn stands(bench: &Bench, words: &str) -> bool {
    let linked = bench.paths.current.join("borgios-keeper/files/bin/borgios-keeper");
    let unit = fs::read_to_string(bench.paths.units.join(UNIT)).unwrap();
    let server = bench.fake.server();
    server.program == Some(fs::canonicalize(linked).unwrap())
        && server.keeper_unit.as_deref() == Some(words)
        && unit == words
}

#[test]
fn killed_at_any_call_the_keeper_ends_with_the_unit_of_its_set() {
    let mut calls = 0;
    loop {
        let bench = Bench::new();
        let (old, new) = (keeper(&bench, "one"), keeper(&bench, "two"));
        first(&bench, &old);
        assert!(stands(&bench, "one"));
        let cut = bench.cut(Some(calls), |bench| drop(bench.install(2, &new)));
        bench.fake.start_keeper();
        let replaced = keep_on(&bench, 2, &new);
        assert!(stands(&bench, "two"), "cut at call {calls}");
        assert!(replaced <= 1, "cut at call {calls}: replaced {replaced} times");
        let journal = ledger::read(&bench.paths).unwrap();
        assert_eq!(journal.installed().map(|set| set.seq), Some(Seq(2)));
        if !cut {
            assert!(calls > 3, "only {calls} calls were cut");
            break;
        }
        calls += 1;
    }
}

#[test]
fn a_release_that_leaves_the_keeper_as_it_is_replaces_nobody() {
    let bench = Bench::new();
    let old = keeper(&bench, "one");
    first(&bench, &old);
    let mut new = bench.release(&[service("hello", "units/hello.service", "one", "well")]);
    new.components.insert(0, old.components[0].clone());
    assert_eq!(keep_on(&bench, 2, &new), 0);
    // A server of before: nobody wrote down whose unit it runs with.
    fs::remove_file(bench.paths.loaded()).unwrap();
    let third = bench.release(&[service("hello", "units/hello.service", "two", "well")]);
    assert_eq!(keep_on(&bench, 3, &third), 1);
    assert!(stands(&bench, "one"));
}

#[test]
fn a_keeper_below_a_linked_folder_replaces_itself() {
    let bench = Bench::new();
    fs::create_dir(bench.paths.root.join("elsewhere")).unwrap();
    symlink("elsewhere", bench.paths.root.join("opt")).unwrap();
    let (old, new) = (keeper(&bench, "one"), keeper(&bench, "two"));
    first(&bench, &old);
    assert_eq!(keep_on(&bench, 2, &new), 1);
    assert!(stands(&bench, "two"));
}

#[test]
fn units_of_the_two_processes_come_from_their_components_alone() {
    let bench = Bench::new();
    let old = keeper(&bench, "one");
    first(&bench, &old);
    let taken = [
        // Reserved; what the keeper brings, which is not named and stays; reserved for the agent.
        ("hello", "units/borgios-keeper.service"),
        ("hello", "units/borgios-keeper.timer"),
        ("hello", "units/watch.service"),
        ("hello", "units/borgiosd.service"),
    ];
    for (seq, (name, unit)) in (2..).zip(taken) {
        let thief = bench.release(&[service(name, unit, "theirs", "well")]);
        let error = bench.install(seq, &thief).unwrap_err();
        assert!(matches!(error, InstallError::Stage(StageError::Set(_))), "{unit}: {error}");
        assert!(ledger::is_marked(&bench.paths, &id(seq)), "{unit}");
        assert!(stands(&bench, "one"), "{unit}");
    }
    let agent = bench.release(&[service("agent", "units/borgiosd.service", "ours", "well")]);
    assert_eq!(keep_on(&bench, 9, &agent), 0);
    assert_eq!(Installer::running(&bench.paths).unwrap().len(), 2);
}
