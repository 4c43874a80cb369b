//! A made-up server in a folder, for the tests: real files, and programs that only say what the
//! files say. It can lose power, or fail, at any change to the disk and at any program.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use borgios_types::UnixSeconds;
use tempfile::TempDir;

use super::machine::{Machine, Tools};
use crate::keeper::command::CommandError;
use crate::keeper::paths::Paths;
use crate::keeper::rotation::Obstacle;
use crate::keeper::rotation::once::OnceError;

/// What a lost power throws through everything.
pub(super) struct Cut;

/// What happens at a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// The power goes; nothing after it happens.
    Cut,
    /// It fails once, as a full disk or a program would.
    Fail,
}

/// What somebody else does, and at the beginning of which change or program.
type Race = (String, Box<dyn FnOnce() + Send>);
/// What somebody else does whenever somebody waits.
type Meanwhile = Box<dyn FnMut() + Send>;

#[derive(Default)]
struct State {
    root: PathBuf,
    calls: Vec<String>,
    units: BTreeSet<String>,
    failing: Vec<String>,
    killed: Vec<u32>,
    main_pid: u32,
    /// Main processes of units that are one connection's each.
    connections: Vec<u32>,
    properties: BTreeMap<(String, String), String>,
    generated: Option<(String, String)>,
    /// Points until something happens.
    fate: Option<(usize, Fate)>,
    race: Option<Race>,
    meanwhile: Option<Meanwhile>,
    /// What `status` says of processes that a hard kill does not end.
    survivors: BTreeMap<u32, String>,
    points: usize,
    uptime_s: u64,
    boot: u32,
}

#[derive(Clone, Default)]
pub(super) struct Fake(Arc<Mutex<State>>);

impl Fake {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub(super) fn calls(&self) -> Vec<String> {
        self.state().calls.clone()
    }

    /// Every program whose words begin so fails.
    pub(super) fn fail(&self, beginning: &str) {
        self.state().failing.push(beginning.to_owned());
    }

    /// Right before the first change or program whose words begin so, somebody else does
    /// something, once.
    pub(super) fn race(&self, beginning: &str, deed: impl FnOnce() + Send + 'static) {
        let race: Race = (beginning.to_owned(), Box::new(deed));
        self.state().race = Some(race);
    }

    /// In each pause somebody else does something.
    pub(super) fn meanwhile(&self, deed: impl FnMut() + Send + 'static) {
        self.state().meanwhile = Some(Box::new(deed));
    }

    pub(super) fn unit(&self, name: &str) {
        self.state().units.insert(name.to_owned());
    }

    /// What systemd says of a unit.
    pub(super) fn property(&self, unit: &str, name: &str, value: &str) {
        let key = (unit.to_owned(), format!("--property={name}"));
        self.state().properties.insert(key, value.to_owned());
    }

    /// What a generator of systemd writes, each time that units are read anew.
    pub(super) fn generator(&self, path: &str, text: &str) {
        self.state().generated = Some((path.to_owned(), text.to_owned()));
    }

    fn generate(&self) {
        let state = self.state();
        if let Some((path, text)) = &state.generated {
            let place = state.root.join(path.trim_start_matches('/'));
            fs::write(&place, text).unwrap();
            fs::set_permissions(&place, fs::Permissions::from_mode(0o644)).unwrap();
        }
    }

    pub(super) fn main_pid(&self, pid: u32) {
        self.state().main_pid = pid;
    }

    /// systemd knows it as the main process of a unit that is one connection's.
    pub(super) fn connection(&self, pid: u32) {
        self.state().connections.push(pid);
    }

    pub(super) fn killed(&self) -> Vec<u32> {
        self.state().killed.clone()
    }

    pub(super) fn own(&self) -> u32 {
        99
    }

    /// At the `nth` point from now, counted from 0, `fate` happens.
    pub(super) fn at(&self, nth: usize, fate: Fate) {
        let mut state = self.state();
        (state.fate, state.points) = (Some((nth, fate)), 0);
    }

    /// No more fate; how many points there were since [`Fake::at`].
    pub(super) fn heal(&self) -> usize {
        let mut state = self.state();
        state.fate = None;
        std::mem::take(&mut state.points)
    }

    pub(super) fn pass(&self, seconds: u64) {
        self.state().uptime_s += seconds;
    }

    pub(super) fn reboot(&self) {
        let mut state = self.state();
        (state.boot, state.uptime_s) = (state.boot + 1, 5);
    }

    pub(super) fn process(&self, machine: &Machine, pid: u32, name: &str, group: &str) {
        let folder = machine.at(format!("/proc/{pid}"));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("comm"), format!("{name}\n")).unwrap();
        fs::write(folder.join("cgroup"), format!("{group}\n")).unwrap();
        fs::write(folder.join("cmdline"), name).unwrap();
        self.parent(machine, pid, name, 1);
    }

    /// Another parent than pid 1; when it began is its own number.
    pub(super) fn parent(&self, machine: &Machine, pid: u32, name: &str, parent: u32) {
        let between = "0 ".repeat(17);
        let stat = format!("{pid} ({name}) S {parent} {between}{pid} 0\n");
        fs::write(machine.at(format!("/proc/{pid}/stat")), stat).unwrap();
    }

    /// What `status` says of each of its threads, of which the first is the main one; that of a process
    /// whose main thread is a zombie has no command line.
    pub(super) fn threads(&self, machine: &Machine, pid: u32, all: &[&str]) {
        let folder = machine.at(format!("/proc/{pid}"));
        fs::create_dir_all(folder.join("task")).unwrap();
        for (tid, text) in (pid..).zip(all) {
            let thread = folder.join(format!("task/{tid}"));
            fs::create_dir_all(&thread).unwrap();
            fs::write(thread.join("status"), text).unwrap();
            if tid == pid {
                fs::write(folder.join("status"), text).unwrap();
            }
        }
        if all.first().is_some_and(|main| main.contains("State:\tZ")) {
            fs::write(folder.join("cmdline"), "").unwrap();
        }
    }

    /// No kill ends it; after a hard one its `status` is this.
    pub(super) fn survives(&self, pid: u32, status: &str) {
        self.state().survivors.insert(pid, status.to_owned());
    }

    fn let_race(&self, what: &str) {
        let is_now = |race: &mut Race| what.starts_with(&race.0);
        let race = self.state().race.take_if(is_now);
        if let Some((_, deed)) = race {
            deed();
        }
    }

    /// Whether something happens here.
    fn point(&self, what: &str) -> bool {
        let mut state = self.state();
        state.calls.push(what.to_owned());
        let point = state.points;
        state.points += 1;
        match state.fate {
            Some((at, Fate::Cut)) if point >= at => {
                drop(state);
                std::panic::resume_unwind(Box::new(Cut));
            }
            Some((at, Fate::Fail)) if point == at => true,
            _ => false,
        }
    }

    /// As `sshd -T` would say it of the server's files.
    fn sshd(&self, words: &[&str]) -> String {
        let root = self.state().root.clone();
        let read = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
        let mut text = String::new();
        if let Some(at) = words.iter().position(|word| *word == "-p") {
            text.push_str(&format!("Port {}\n", words[at + 1]));
        }
        for line in read("etc/ssh/sshd_config").lines() {
            if line.starts_with("Include") {
                let mut names: Vec<_> = fs::read_dir(root.join("etc/ssh/sshd_config.d"))
                    .map(|all| all.map(|entry| entry.unwrap().path()).collect())
                    .unwrap_or_default();
                names.sort();
                text.extend(names.iter().map(|path| fs::read_to_string(path).unwrap()));
            } else {
                text.push_str(&format!("{line}\n"));
            }
        }
        let mut said: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let Some((key, value)) = line.trim().split_once(' ') else { continue };
            let values = said.entry(key.to_ascii_lowercase()).or_default();
            if values.is_empty()
                || ["listenaddress", "hostkey"].contains(&key.to_ascii_lowercase().as_str())
            {
                values.push(value.to_owned());
            }
        }
        for (key, value) in [
            ("port", "22"),
            ("addressfamily", "any"),
            ("usepam", "yes"),
            ("permitrootlogin", "without-password"),
            ("passwordauthentication", "yes"),
            ("authorizedkeysfile", ".ssh/authorized_keys .ssh/authorized_keys2"),
            ("hostkey", "/etc/ssh/ssh_host_ed25519_key"),
        ] {
            said.entry(key.to_owned()).or_insert_with(|| vec![value.to_owned()]);
        }
        let port = said["port"][0].clone();
        said.entry("listenaddress".into())
            .or_insert_with(|| vec![format!("[::]:{port}"), format!("0.0.0.0:{port}")]);
        let lines = said
            .iter()
            .flat_map(|(key, values)| values.iter().map(move |value| format!("{key} {value}\n")));
        lines.collect()
    }

    fn systemctl(&self, words: &[&str]) -> String {
        let root = self.state().root.clone();
        let state = self.state();
        if words == ["show", "--property=MainPID", "--value", "ssh@*.service", "sshd@*.service"] {
            return state.connections.iter().map(|pid| format!("{pid}\n\n")).collect();
        }
        let ["show", asked, "--value", unit] = words else { return String::new() };
        let link = fs::read_link(root.join("etc/systemd/system").join(unit));
        let masked = link.is_ok_and(|target| target == std::path::Path::new("/dev/null"));
        let known = state.units.contains(*unit);
        match (*asked, known, masked) {
            ("--property=LoadState", _, true) => "masked",
            ("--property=LoadState", true, false) => "loaded",
            ("--property=LoadState", false, false) => "not-found",
            ("--property=ActiveState", true, false) => "active",
            // Whoever masks one stops it first.
            ("--property=ActiveState", ..) => "inactive",
            ("--property=MainPID", ..) => return state.main_pid.to_string(),
            _ => {
                let key = ((*unit).to_owned(), (*asked).to_owned());
                state.properties.get(&key).map(String::as_str).unwrap_or_default()
            }
        }
        .to_owned()
    }
}

impl Tools for Fake {
    fn about_to(&self, what: &str) -> io::Result<()> {
        self.let_race(what);
        if self.point(what) { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn run(&self, words: &[&str], _max: Duration) -> Result<String, CommandError> {
        let words: Vec<_> =
            words.iter().filter(|word| !word.starts_with("--no-")).copied().collect();
        let call = words.join(" ");
        self.let_race(&call);
        let fails = self.point(&call);
        let failing = self.state().failing.clone();
        if fails || failing.iter().any(|beginning| call.starts_with(beginning)) {
            let how = "exit code 1".to_owned();
            return Err(CommandError::Failed { how, said: "as the test said".to_owned() });
        }
        Ok(match words.as_slice() {
            [program, "-T", rest @ ..] if program.ends_with("sshd") => self.sshd(rest),
            ["systemctl", "--quiet", "daemon-reload"] => {
                self.generate();
                String::new()
            }
            ["systemctl", "--quiet", rest @ ..] => self.systemctl(rest),
            _ => String::new(),
        })
    }

    fn rotate(&self, paths: &Paths) -> Result<(), OnceError> {
        if self.point("rotate --once") {
            return Err(Obstacle::Locked.into());
        }
        let shadow = paths.root.join("etc/shadow");
        let text = fs::read_to_string(&shadow).unwrap();
        let lines = text.lines().map(|line| match line.strip_prefix("root:") {
            Some(rest) => format!("root:*:{}\n", rest.split_once(':').unwrap().1),
            None => format!("{line}\n"),
        });
        fs::write(&shadow, lines.collect::<String>()).unwrap();
        Ok(())
    }

    fn kill(&self, pid: u32, hard: bool) {
        let mut state = self.state();
        state.killed.push(pid);
        if let Some(status) = state.survivors.get(&pid) {
            if hard {
                fs::write(state.root.join(format!("proc/{pid}/status")), status).unwrap();
            }
            return;
        }
        fs::remove_dir_all(state.root.join(format!("proc/{pid}"))).unwrap();
    }

    fn unix(&self) -> UnixSeconds {
        UnixSeconds(1_790_000_000 + self.state().uptime_s)
    }

    fn uptime_s(&self) -> u64 {
        self.state().uptime_s
    }

    fn boot(&self) -> String {
        format!("boot-{}", self.state().boot)
    }

    fn pause(&self, _time: Duration) {
        let deed = self.state().meanwhile.take();
        if let Some(mut deed) = deed {
            deed();
            self.state().meanwhile = Some(deed);
        }
    }

    fn own_pid(&self) -> u32 {
        self.own()
    }
}

/// A small Debian server with an owner: a password, keys, sudo, an sshd that takes all of it.
pub(super) fn server() -> (TempDir, Machine, Fake) {
    let folder = tempfile::tempdir().unwrap();
    let fake = Fake::default();
    {
        let mut state = fake.state();
        state.root = folder.path().to_owned();
        state.uptime_s = 1_000;
        state.units.insert("ssh.service".to_owned());
    }
    for (path, text) in [
        ("usr/sbin/sshd", ""),
        (
            "etc/passwd",
            "root:x:0:0:root:/root:/bin/bash\nann:x:1000:1000:Ann,,,:/home/ann:/bin/bash\n",
        ),
        ("etc/shadow", "root:$y$owners:19000:0:99999:7:::\nann:$y$anns:19000:0:99999:7:::\n"),
        ("etc/group", "root:x:0:\nsudo:x:27:ann\nann:x:1000:\n"),
        ("etc/gshadow", "root:*::\nsudo:*::ann\nann:!::\n"),
        (
            "etc/sudoers",
            "Defaults env_reset\n%sudo ALL=(ALL:ALL) ALL\n@includedir /etc/sudoers.d\n",
        ),
        ("etc/ssh/sshd_config", "Include /etc/ssh/sshd_config.d/*.conf\nUsePAM yes\n"),
        ("etc/ssh/ssh_host_ed25519_key", "a private key"),
        ("etc/ssh/ssh_host_ed25519_key.pub", "a public key"),
        ("etc/systemd/system/app.service", "[Service]\n"),
        ("root/.keep", ""),
    ] {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let machine = Machine::new(folder.path(), Arc::new(fake.clone()));
    (folder, machine, fake)
}
