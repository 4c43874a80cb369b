//! Until the purge there is a way back: by word, by the timer, by a boot after a power cut. And
//! whatever is killed, full or broken, a server ends in the old state or in the new, never between.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::command::{Output, tail};
use crate::disk::Disk;
use crate::lab::Lab;
use crate::member::JOIN_BOUND;
use crate::network::Network;
use crate::scenario::{Say, Scenario};
use crate::server::Server;
use crate::trap::{KILL, Trap};
use crate::wait;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "trial",
    about: "until the purge everything comes back, whatever happens",
    alone: false,
    run,
};

/// Shortest deadline the keeper takes.
const DEADLINE_S: u64 = 60;
/// Longest from the kill of a join until the timer has brought everything back.
const TIMER_BOUND: Duration = Duration::from_secs(DEADLINE_S + 120);
/// Takes all that is left of the disk.
const FILL: &str = "fallocate -l $(df --output=avail -B1 / | tail -n 1) /var/tmp/fill; \
                    dd if=/dev/zero of=/var/tmp/fill2 bs=4k 2>/dev/null; true";
/// Room for everything, and little enough to be filled.
const DISK: &str = "1400M";

/// What happens to one server, from a fresh disk on.
type Story = fn(Server<'_>) -> Result<()>;

fn run(say: &Say) -> Result<()> {
    let lab = Lab::up_with(10, &[("LAB_DISK", DISK)])?;
    let network = Network::founded(&lab, "trial")?;
    lab.server(1).join(&network.bundle(), &network.first_invitation()?)?;
    network.meet_first()?;
    let invitation = network.invite(20)?;
    for server in lab.servers().skip(1) {
        server.bring(&network.bundle(), &invitation)?;
        cut_off(server)?;
    }
    let began = Instant::now();
    std::thread::scope(|scope| -> Result<()> {
        let stories: [(&str, Story); 9] = [
            ("a killed join came back by the timer, bit by bit", timer),
            ("an install that hangs ended before its deadline, and took itself back", hangs),
            ("abort brought everything back, bit by bit, and told the join's terminal", aborted),
            ("a power cut while open: the boot brought everything back, bit by bit", power_cut),
            (
                "killed at every stage before the purge, it went on, and abort brought all back",
                before,
            ),
            ("killed at every stage from the purge on, it went on to the new state", after),
            ("killed at the point of no return: abort kept to what the journal says", at_the_purge),
            ("a power cut in the middle of the purge: the boot alone made it a member", purge_cut),
            ("a full disk and a broken sshd end in the old state", broken),
        ];
        let threads: Vec<_> = stories
            .into_iter()
            .zip(lab.servers().skip(1))
            .map(|((told, story), server)| {
                let timed = move || (story(server), began.elapsed().as_secs());
                (told, scope.spawn(timed))
            })
            .collect();
        let mut failed = Vec::new();
        for (told, thread) in threads {
            let panicked = |_| (Err(anyhow::anyhow!("it panicked")), 0);
            match thread.join().unwrap_or_else(panicked) {
                (Ok(()), seconds) => say(&format!("{told} ({seconds} s)")),
                (Err(error), _) => failed.push(format!("not so: {told}: {error:#}")),
            }
        }
        ensure!(failed.is_empty(), "{}", failed.join("\n"));
        Ok(())
    })?;
    lab.take_down()
}

/// From now on the server reaches no other one, only the laptop: an agent that is installed finds no
/// place in the tree, and the install waits for it, with everything open.
fn cut_off(server: Server<'_>) -> Result<()> {
    server.sh(&format!("ip route add blackhole {}.1.0/24", server.lab().net())).map(drop)
}

fn reconnect(server: Server<'_>) -> Result<()> {
    server.sh(&format!("ip route del blackhole {}.1.0/24", server.lab().net())).map(drop)
}

/// Joins on the console while something is done to it; what the join's terminal said.
fn join_while(
    server: Server<'_>,
    setting: &str,
    act: impl FnOnce() -> Result<()>,
) -> Result<Output> {
    std::thread::scope(|scope| {
        let line = format!("export {setting}; {}", server.join_line());
        let terminal = scope.spawn(move || server.feed(&line, b"", JOIN_BOUND));
        let acted = act();
        let said = terminal.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a terminal panicked")));
        let words = said.as_ref().map(|said| tail(&said.all())).unwrap_or_default();
        acted.with_context(|| format!("the join said\n{words}"))?;
        said
    })
}

/// Joins on the console into a trap that is laid already; what the join's terminal said.
fn join_into(server: Server<'_>, trap: Trap<'_>) -> Result<Output> {
    let said = server.feed(&server.join_line(), b"", JOIN_BOUND)?;
    trap.sprung().with_context(|| format!("the join said\n{}", tail(&said.all())))?;
    Ok(said)
}

/// A join that is killed at a stage.
fn killed_at(server: Server<'_>, stage: &str) -> Result<()> {
    join_into(server, server.trap_at(stage, KILL)?)?.expect_code(5).map(drop)
}

/// A join that is killed in the middle of its purge.
fn killed_purging(server: Server<'_>) -> Result<()> {
    join_into(server, server.trap_purging(KILL)?)?.expect_code(5).map(drop)
}

/// Everything is as it was, and the owner's ways in are open.
fn is_old(server: Server<'_>, before: &Disk) -> Result<()> {
    server.wait_join_over()?;
    server.disk()?.same_as(before, &[])?;
    server.old_ways_open()?;
    let units = server
        .sh("systemctl list-units --all --no-legend 'borgios*' | grep -v not-found || true")?;
    ensure!(units.is_empty(), "{}: units are left: {units}", server.host());
    ensure!(server.try_sh("id borgios")?.code != 0, "{}: the account is left", server.host());
    Ok(())
}

fn waits(server: Server<'_>) -> Result<()> {
    server.wait_stage("install", JOIN_BOUND)?;
    server.old_ways_open()
}

fn timer(server: Server<'_>) -> Result<()> {
    let before = server.disk()?;
    let setting = format!("BORGIOS_DEADLINE_S={DEADLINE_S}");
    join_while(server, &setting, || waits(server).and_then(|()| server.kill_join()))?
        .expect_code(5)?;
    ensure!(server.takeover()?["state"] == "open", "the kill closed it");
    let status = server.bootstrap("status")?.stdout;
    ensure!(status.contains("stage of bootstrap: install") && status.contains("open"), "{status}");
    wait::until_true("the timer brings everything back", TIMER_BOUND, || {
        Ok(server.takeover()?["state"] == "aborted")
    })?;
    is_old(server, &before)
}

/// The agent finds no place in the tree, and the deadline is near: nothing is installed while the timer
/// takes things back.
fn hangs(server: Server<'_>) -> Result<()> {
    let before = server.disk()?;
    let setting = format!("BORGIOS_DEADLINE_S={DEADLINE_S}");
    join_while(server, &setting, || Ok(()))?.expect_code(6)?;
    is_old(server, &before)
}

fn aborted(server: Server<'_>) -> Result<()> {
    let before = server.disk()?;
    let said = join_while(server, "A=", || {
        waits(server)?;
        server.bootstrap("abort")?.ok().map(drop)
    })?;
    ensure!(said.code == 6, "the join's terminal was told {}: {}", said.code, said.all());
    is_old(server, &before)?;
    let again = server.bootstrap("abort")?.ok()?.stdout;
    ensure!(again.contains("nothing to bring back"), "a second abort says {again}");
    is_old(server, &before)
}

fn power_cut(server: Server<'_>) -> Result<()> {
    let before = server.disk()?;
    let cut = join_while(server, "A=", || {
        waits(server)?;
        // What is on the disk now, not what would be after a while.
        server.sh("sync")?;
        server.kill()
    })?;
    ensure!(cut.code != 0, "a join without power ended well");
    server.start()?;
    wait::until_true("the boot brings everything back", JOIN_BOUND, || {
        Ok(server.takeover()?["state"] == "aborted")
    })?;
    is_old(server, &before)
}

fn before(server: Server<'_>) -> Result<()> {
    let before = server.disk()?;
    reconnect(server)?;
    for stage in ["install", "join", "trial"] {
        killed_at(server, stage)?;
        server.old_ways_open()?;
    }
    server.bootstrap("abort")?.ok()?;
    is_old(server, &before)
}

/// The stage says purge a moment before the keeper's journal does: which of the two states comes of
/// it is the journal's word, and `abort` keeps to it.
fn at_the_purge(server: Server<'_>) -> Result<()> {
    let before = server.disk()?;
    reconnect(server)?;
    killed_at(server, "purge")?;
    match server.bootstrap("abort")?.code {
        0 => is_old(server, &before),
        3 => joins_on(server),
        code => anyhow::bail!("abort ended with {code}"),
    }
}

fn purge_cut(server: Server<'_>) -> Result<()> {
    reconnect(server)?;
    killed_purging(server)?;
    ensure!(server.takeover()?["state"] == "purging", "the kill ended the purge");
    server.sh("sync")?;
    server.kill()?;
    server.start()?;
    // Nobody runs anything: whoever is locked out now, the board included, could not.
    wait::until_true("the boot goes on to the last look", JOIN_BOUND, || {
        let takeover = server.takeover()?;
        Ok(takeover["state"] == "done" && takeover["verified"] == true)
    })?;
    server.wait_status("a member with a receipt, by booting alone", JOIN_BOUND, |status| {
        status["tree"]["state"] == "attached" && status["keeper"]["handed_over"] == true
    })?;
    server.old_ways_shut()?;
    let armed = server.sh("ls /etc/systemd/system | grep borgios-takeover || true")?;
    ensure!(armed.is_empty(), "the boot unit is left: {armed}");
    // A join that is run all the same finds nothing to do but to say so.
    joins_on(server)
}

/// Join is run again and does what is left.
fn joins_on(server: Server<'_>) -> Result<()> {
    server.feed(&server.join_line(), b"", JOIN_BOUND)?.ok()?;
    server.handed_over()
}

fn after(server: Server<'_>) -> Result<()> {
    reconnect(server)?;
    killed_purging(server)?;
    let late = server.bootstrap("abort")?.expect_code(3)?.all();
    ensure!(late.contains("only reinstalling"), "abort says {late}");
    ensure!(server.takeover()?["state"] == "done", "abort left the purge where it was");
    server.old_ways_shut()?;
    for stage in ["rotate", "verify", "receipt"] {
        killed_at(server, stage)?;
    }
    // Killed in its last stage, when its terminal was already told that it is over.
    join_into(server, server.trap_at("sessions", KILL)?)?;
    joins_on(server)?;
    server.reboot()?;
    server.handed_over()
}

fn broken(server: Server<'_>) -> Result<()> {
    let before = server.disk()?;
    // Refused before anything is changed: such an sshd would not start again.
    server.sh("echo 'Nonsense yes' >/etc/ssh/sshd_config.d/99-odd.conf")?;
    let refused = server.feed(&server.join_line(), b"", JOIN_BOUND)?.expect_code(3)?.stdout;
    ensure!(refused.contains("not clean"), "{refused}");
    server.sh("rm /etc/ssh/sshd_config.d/99-odd.conf")?;
    reconnect(server)?;
    // The disk fills up as soon as the backup is made.
    let full = join_into(server, server.trap_at("install", FILL)?)?;
    ensure!([5, 6].contains(&full.code), "a full disk ended with {}: {}", full.code, full.all());
    server.sh("rm -f /var/tmp/fill /var/tmp/fill2")?;
    if full.code == 5 {
        server.bootstrap("abort")?.ok()?;
    }
    is_old(server, &before).context("after a full disk")?;
    // An sshd that cannot be started is found out by the trial.
    let broken = "chmod 000 /usr/sbin/sshd";
    let tried = join_into(server, server.trap_at("install", broken)?)?;
    server.sh("chmod 755 /usr/sbin/sshd")?;
    ensure!(tried.code == 6, "a broken sshd ended with {}: {}", tried.code, tried.all());
    is_old(server, &before).context("after a broken sshd")
}
