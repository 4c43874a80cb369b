//! Other releases than the one that everything else is tested on: one too old is refused before
//! anything changes, a newer one is joined with a warning, and its old ways in are shut as well.

use anyhow::{Result, ensure};

use crate::lab::Lab;
use crate::member::JOIN_BOUND;
use crate::network::Network;
use crate::scenario::{Say, Scenario, Skipped};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "systems",
    about: "an old Debian is refused, a newer one hands root over",
    alone: false,
    run,
};

/// systemd 247, where 252 is wanted.
const OLD: &str = "bullseye";
/// Newer than what is tested on.
const NEWER: &str = "trixie";

fn run(say: &Say) -> Result<()> {
    for suite in [OLD, NEWER] {
        Lab::has_image(suite).map_err(|error| {
            let why = format!("{error:#}").replace('\n', " ");
            Skipped(format!("no image of Debian {suite} can be made here: {why}"))
        })?;
    }
    refused(say)?;
    joined(say)
}

fn refused(say: &Say) -> Result<()> {
    let lab = Lab::up_with(1, &[("LAB_SUITE", OLD)])?;
    let network = Network::founded(&lab, "systems")?;
    let server = lab.server(1);
    server.bring(&network.bundle(), &network.first_invitation()?)?;
    let before = server.disk()?;
    let refused = server.feed(&server.join_line(), b"", JOIN_BOUND)?.expect_code(3)?.all();
    ensure!(refused.contains("version 247 found, 252 or newer wanted"), "{refused}");
    server.disk()?.same_as(&before, &[])?;
    server.old_ways_open()?;
    say("Debian 11 is refused for its systemd; on its disk nothing changed");
    lab.take_down()
}

fn joined(say: &Say) -> Result<()> {
    let lab = Lab::up_with(1, &[("LAB_SUITE", NEWER)])?;
    let network = Network::founded(&lab, "systems")?;
    let server = lab.server(1);
    server.bring(&network.bundle(), &network.first_invitation()?)?;
    let before = server.disk()?;
    let line =
        format!("plan --invite invite.json --bundle bundle.tar --advertise {}", server.agent());
    let plan = server.bootstrap(&line)?.ok()?.stdout;
    ensure!(plan.contains("only Debian 12 is tested"), "{plan}");
    server.disk()?.same_as(&before, &[])?;
    server.old_ways_open()?;
    server.ssh(&server.join_line(), b"", JOIN_BOUND)?.ok()?;
    server.handed_over()?;
    say("Debian 13 joins with a warning, and its old ways in are shut");
    lab.take_down()
}
