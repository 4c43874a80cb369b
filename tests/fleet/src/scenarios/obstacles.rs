//! What stands in the way of a rotation on one server: a read-only `/etc`, a full disk, locks left
//! behind and locks held, accounts being changed. The keeper says so, tries again, and in the end
//! the right epoch is there; in between there is always the field of some epoch.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::sampler::TOLERANCE_S;
use crate::schedule::{self, Schedule};
use crate::server::Server;
use crate::wait;

/// Longest until the keeper says that it cannot, and until it can again: an epoch of the long story
/// and the time that `chpasswd` itself waits for a lock.
const BOUND: Duration = Duration::from_secs(180);
const FAILED: &str = "-u borgios-keeper BORGIOS_EVENT=rotation_failed";
const ROTATED: &str = "-u borgios-keeper BORGIOS_EVENT=rotated";
/// Runs a command where the keeper lives: in its mount namespace.
const AMONG_ITS_MOUNTS: &str =
    "nsenter -m -t $(systemctl show -p MainPID --value borgios-keeper) --";

/// Something in the way, and how it is put there and taken away.
struct Obstacle {
    what: &'static str,
    lay: String,
    clear: String,
    /// Whether no rotation is possible while it lies there.
    stops: bool,
}

fn all() -> [Obstacle; 5] {
    // Twice `$`: systemd-run would put the environment there.
    let lock = "use Fcntl; open(my $$f, q(>>), q(/etc/.pwd.lock)) or die; \
        my $$all = pack(q(s s x4 q q i x4), F_WRLCK, 0, 0, 0, 0); \
        fcntl($$f, F_SETLKW, $$all) or die; open(my $$held, q(>), q(/run/held)) or die; sleep 600";
    [
        Obstacle {
            what: "/etc is read-only",
            lay: format!(
                "{AMONG_ITS_MOUNTS} sh -c 'mountpoint -q /etc || mount --bind /etc /etc; \
                 mount -o remount,bind,ro /etc'"
            ),
            clear: format!("{AMONG_ITS_MOUNTS} mount -o remount,bind,rw /etc"),
            stops: true,
        },
        Obstacle {
            what: "the disk is full",
            lay: "fallocate -l $(($(df -k --output=avail / | tail -1) - 64))K /srv/fill; \
                  dd if=/dev/zero of=/srv/rest bs=4k 2>/dev/null; \
                  test \"$(df -k --output=avail / | tail -1)\" -lt 8"
                .into(),
            clear: "rm -f /srv/fill /srv/rest".into(),
            stops: true,
        },
        Obstacle {
            what: "another program holds /etc/.pwd.lock",
            lay: format!(
                "systemd-run --quiet --collect --unit=pwd-lock perl -e '{lock}'; i=0; \
                 until test -e /run/held; do i=$((i + 1)); [ $i -lt 1200 ] || exit 9; sleep 0.05; done"
            ),
            clear: "systemctl stop pwd-lock; rm /run/held".into(),
            stops: true,
        },
        Obstacle {
            what: "locks of programs that are gone",
            lay: "pid=$(sh -c 'echo $$'); touch /etc/.pwd.lock; \
                  for file in shadow passwd; do printf '%s\\0' \"$pid\" >/etc/$file.lock; done"
                .into(),
            clear: "rm -f /etc/shadow.lock /etc/passwd.lock".into(),
            stops: false,
        },
        Obstacle {
            what: "passwords of others change all the time",
            lay: "id bob >/dev/null 2>&1 || useradd -M bob; systemd-run --quiet --collect \
                  --unit=busy-passwd sh -c 'while :; do echo bob:word | chpasswd; sleep 0.1; done'"
                .into(),
            clear: "systemctl stop busy-passwd".into(),
            stops: false,
        },
    ]
}

/// Lays each in turn and returns a line for each that was survived.
pub(super) fn obstacles(server: Server<'_>, schedule: &Schedule) -> Result<Vec<String>> {
    let mut told = Vec::new();
    for obstacle in all() {
        told.push(meet(server, schedule, &obstacle).context(obstacle.what)?);
    }
    told.push(overwritten(server, schedule)?);
    whole(server)?;
    Ok(told)
}

fn meet(server: Server<'_>, schedule: &Schedule, obstacle: &Obstacle) -> Result<String> {
    right(server, schedule)?;
    let mark = server.journal_end()?;
    server.sh(&obstacle.lay)?;
    let survived = if obstacle.stops {
        // Measured from what is there now: a rotation may just have been under way.
        server.wait_journal_after(mark, FAILED, BOUND)?;
        let problem = |status: &Value| status["keeper"]["credential"]["problem"].clone();
        let status = server.wait_status("what is in the way is told", BOUND, |status| {
            problem(status).as_str().is_some_and(|text| !text.is_empty())
        })?;
        let problem = problem(&status);
        let held = server.root_verifier()?;
        ensure!(schedule.epoch_of(&held).is_some(), "root's field is {held:?}");
        format!("said so ({problem})")
    } else {
        let from = schedule.at(schedule::now());
        let next = schedule.begins(from + 1) - schedule::now() + schedule.jitter() + TOLERANCE_S;
        let bound = Duration::from_secs_f64(next) + BOUND;
        wait::until_true("an epoch begins with it there", bound, || {
            Ok(schedule.epoch_of(&server.root_verifier()?) >= Some(from + 1))
        })?;
        "rotated all the same".to_owned()
    };
    let cleared = server.journal_end()?;
    server.sh(&obstacle.clear)?;
    if obstacle.stops {
        server.wait_journal_after(cleared, ROTATED, BOUND)?;
    }
    right(server, schedule)?;
    server.wait_status("no problem is left", BOUND, |status| {
        status["keeper"]["credential"]["problem"].is_null()
    })?;
    Ok(format!("{}: {survived}, then right again", obstacle.what))
}

/// Root's password set by hand is put back.
fn overwritten(server: Server<'_>, schedule: &Schedule) -> Result<String> {
    let mark = server.journal_end()?;
    server.sh("echo root:by-hand | chpasswd")?;
    let held = server.root_verifier()?;
    server.wait_journal_after(mark, ROTATED, BOUND)?;
    right(server, schedule)?;
    ensure!(server.root_verifier()? != held, "the password set by hand is still there");
    Ok("root's password set by hand: the keeper put its own back".into())
}

fn right(server: Server<'_>, schedule: &Schedule) -> Result<()> {
    wait::until_true("the file carries the epoch of now", BOUND, || {
        let oldest = schedule.at(schedule::now() - schedule.jitter() - TOLERANCE_S);
        Ok(schedule.epoch_of(&server.root_verifier()?) >= Some(oldest))
    })
}

/// After all that the account files are whole.
fn whole(server: Server<'_>) -> Result<()> {
    let odd = server.sh("awk -F: 'NF != 9' /etc/shadow; awk -F: 'NF != 7' /etc/passwd")?;
    ensure!(odd.is_empty(), "odd lines: {odd}");
    let roots = server.sh("grep -c '^root:' /etc/shadow /etc/passwd /etc/shadow-")?;
    ensure!(roots.lines().all(|line| line.ends_with(":1")), "{roots}");
    let modes = server.sh("stat -c '%U %a' /etc/shadow /etc/passwd")?;
    ensure!(modes == "root 640\nroot 644", "modes are {modes}");
    Ok(())
}
