//! The lab itself: servers boot, and each fault does what it says and no more.
//!
//! Every other scenario trusts these: a partition that cuts nothing would make them pass in vain.

use anyhow::{Context as _, Result, ensure};

use crate::lab::Lab;
use crate::scenario::{Say, Scenario};
use crate::server::Server;
use crate::wait::{self, SOON};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "lab",
    about: "servers boot, and each fault does what it says",
    alone: false,
    run,
};

fn run(say: &Say) -> Result<()> {
    let lab = Lab::up(3)?;
    boots(&lab)?;
    say("three servers boot a systemd of their own and answer over ssh");
    partitions(&lab)?;
    say("a partition cuts, and only where it should; heal heals");
    power(&lab)?;
    say("reboot, power cut and start keep the disk; a freeze lets go again");
    reinstall(&lab)?;
    say("a reinstalled server is another machine with an empty disk");
    journal(&lab)?;
    say("the journal is read back by field, and from a mark on");
    lab.take_down()?;
    say("nothing is left on this computer");
    Ok(())
}

fn boots(lab: &Lab) -> Result<()> {
    let mut machine_ids = std::collections::BTreeSet::new();
    for server in lab.servers() {
        let output = server.ssh("hostname; cat /proc/1/comm", b"", SOON)?.ok()?;
        ensure!(output.text() == format!("{}\nsystemd", server.host()), "{}", output.text());
        machine_ids.insert(server.sh("cat /etc/machine-id")?);
    }
    ensure!(machine_ids.len() == 3, "servers share a machine id: {machine_ids:?}");
    let clock = lab.server(1).try_sh("date -s 2001-01-01")?;
    ensure!(clock.code != 0, "a server can set this computer's clock");
    Ok(())
}

fn partitions(lab: &Lab) -> Result<()> {
    let [one, two, three] = [1, 2, 3].map(|number| lab.server(number));
    reach(one, two)?;
    reach(two, three)?;
    lab.partition(&[1], &[2, 3])?;
    ensure!(!one.reaches(two)? && !three.reaches(one)?, "the partition let a packet through");
    reach(two, three).context("the partition cut one side in itself")?;
    ensure!(one.ssh("true", b"", SOON)?.code == 0, "the partition cut the laptop off");
    lab.heal()?;
    reach(one, two).context("heal did not heal the partition")?;
    one.link(false)?;
    ensure!(!two.reaches(one)?, "a server without its cable answers");
    one.link(true)?;
    reach(two, one).context("the cable is plugged again")?;
    two.netem(&["delay=60ms"])?;
    let ping = one.sh(&format!("ping -n -q -c 3 -i 0.2 {} | tail -n 1", two.address()))?;
    let least = ping.split(['=', '/']).nth(4).and_then(|ms| ms.trim().parse::<f64>().ok());
    ensure!(least.is_some_and(|ms| ms > 55.0), "a delay of 60 ms is not there: {ping}");
    lab.heal()
}

/// A ping is answered; one that a busy computer answered late is sent again.
fn reach(one: Server<'_>, other: Server<'_>) -> Result<()> {
    let what = format!("{} reaches {}", one.host(), other.host());
    wait::until_true(&what, SOON, || one.reaches(other))
}

fn power(lab: &Lab) -> Result<()> {
    let two = lab.server(2);
    two.sh("echo kept >/srv/mark && sync")?;
    let mut boots = vec![two.boot_id()?];
    two.reboot()?;
    boots.push(two.boot_id()?);
    two.kill()?;
    ensure!(two.try_sh("true")?.code != 0, "a server without power runs commands");
    ensure!(!lab.server(1).reaches(two)?, "a server without power answers a ping");
    two.start()?;
    boots.push(two.boot_id()?);
    ensure!(boots[0] != boots[1] && boots[1] != boots[2], "a boot kept its id: {boots:?}");
    ensure!(two.sh("cat /srv/mark")? == "kept", "the disk did not survive");
    two.freeze()?;
    let frozen = !answers_ssh(lab, two)?;
    two.thaw()?;
    ensure!(frozen, "a frozen server answers");
    wait::until_true("a thawed server answers", SOON, || answers_ssh(lab, two))
}

fn answers_ssh(lab: &Lab, server: Server<'_>) -> Result<bool> {
    let mut look = lab.laptop("timeout");
    let hello = format!("exec 3<>/dev/tcp/{}/22 && head -c 4 <&3", server.address());
    look.args(["2", "bash", "-c", &hello]);
    Ok(crate::command::run(look, b"", SOON)?.stdout == "SSH-")
}

fn reinstall(lab: &Lab) -> Result<()> {
    let two = lab.server(2);
    let before = two.sh("cat /etc/machine-id /etc/ssh/ssh_host_ed25519_key.pub")?;
    two.reinstall()?;
    ensure!(two.try_sh("test -e /srv/mark")?.code == 1, "the old disk is still there");
    let after = two.sh("cat /etc/machine-id /etc/ssh/ssh_host_ed25519_key.pub")?;
    ensure!(before != after, "a reinstalled server kept its identity");
    Ok(())
}

fn journal(lab: &Lab) -> Result<()> {
    let three = lab.server(3);
    let send = "printf 'MESSAGE=hello\\nLAB_FIELD=%s\\n' \"$0\" | logger --journald";
    three.sh(&send.replace("\"$0\"", "first"))?;
    three.wait_journal("LAB_FIELD=first", SOON)?;
    let mark = three.journal_end()?;
    three.sh(&send.replace("\"$0\"", "second"))?;
    let entry = three.wait_journal_after(mark, "LAB_FIELD=second", SOON)?;
    ensure!(entry.message() == "hello", "another message: {}", entry.message());
    let later = three.journal_after(mark, "LAB_FIELD=first")?;
    ensure!(later.is_empty(), "an entry from before the mark is seen after it");
    Ok(())
}
