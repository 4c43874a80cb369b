//! The tree under every fault a server or a cable has: nodes killed, the root killed, power cut, one
//! link cut, the fleet cut in two. After each the survivors are one tree again, what was said
//! meanwhile is heard by each of them once, and whoever comes back hears all of it too.
//!
//! ```text
//!  whole ─▶ fault ─▶ notes at two survivors ─▶ one tree of the survivors ─▶ each has every note once
//!    ▲                     measured: fault ─▶ last change of place in any survivor's journal   │
//!    └────────────────── repaired: all servers one tree, all notes on all ◀────────────────────┘
//! ```

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::ballot_box::Place;
use crate::journal::Mark;
use crate::lab::Lab;
use crate::network::{FANOUT, Network, TREE_BOUND};
use crate::scenario::{Say, Scenario};
use crate::server::Server;
use crate::wait::{self, SOON};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "tree",
    about: "killed, without power, cut off, cut in two: one tree again, and every note heard once",
    alone: true,
    run: |say| story(&CHECKS, say),
};
pub(super) const LONG: Scenario = Scenario {
    name: "tree-long",
    about: "the same on 16 servers, then a minute of killing; runs only by name",
    alone: true,
    run: |say| story(&WHOLE, say),
};

/// How much of the story is told.
struct Scale {
    servers: u8,
    /// For how long an inner node is killed every second, and comes back by itself.
    churn: Duration,
}

const CHECKS: Scale = Scale { servers: 6, churn: Duration::ZERO };
const WHOLE: Scale = Scale { servers: 16, churn: Duration::from_secs(60) };

/// Longest from a fault until the survivors' last change of place. A silent death is noticed after
/// some beats, and a node without parent tries several contacts; a computer that runs all servers
/// and other work is slow at both. What it took is said.
const HEALED_MAX: f64 = 120.0;
/// One server in so many is killed at once.
const KILLED_ONE_IN: usize = 10;
/// Every change of a node's place in the tree.
const PLACED: &str = "-u borgiosd BORGIOS_EVENT=tree_attached BORGIOS_EVENT=tree_root";
/// From here on an agent that is killed stays dead, until [`REVIVES`].
const STAYS_DEAD: &str = "mkdir -p /run/systemd/system/borgiosd.service.d && \
    printf '[Service]\\nRestart=no\\n' >/run/systemd/system/borgiosd.service.d/dead.conf && \
    systemctl daemon-reload";
const KILL: &str = "systemctl kill -s KILL borgiosd";
const REVIVES: &str = "rm /run/systemd/system/borgiosd.service.d/dead.conf && \
    systemctl daemon-reload && systemctl start borgiosd";

fn story(scale: &Scale, say: &Say) -> Result<()> {
    let lab = Lab::up(scale.servers)?;
    let network = Network::founded(&lab, "tree")?;
    network.join_all()?;
    network.wait_tree()?;
    let mut fleet = Fleet { network: &network, notes: Vec::new() };
    say(&format!("{} servers, at most {FANOUT} children each: one tree", scale.servers));
    say(&fleet.killed("one in ten killed", Fleet::tenth)?);
    say(&fleet.killed("the root killed", |shape| vec![shape.root])?);
    say(&fleet.power_cut()?);
    say(&fleet.link_cut()?);
    for line in fleet.halved()? {
        say(&line);
    }
    if !scale.churn.is_zero() {
        say(&fleet.churn(scale.churn)?);
    }
    lab.take_down()
}

/// Who hangs below whom, by the servers' numbers.
struct Shape {
    root: u8,
    parents: BTreeMap<u8, u8>,
}

impl Shape {
    /// The one tree of these servers, as each of them tells its place: one root, which all name, and
    /// everyone else below another of them.
    fn of(servers: &[Server<'_>]) -> Result<Self> {
        let told: Vec<(u8, Value)> = servers
            .iter()
            .map(|server| Ok((server.number(), server.status()?)))
            .collect::<Result<_>>()?;
        let number = |key: &Value| {
            told.iter().find(|(_, status)| status["node"] == *key).map(|(number, _)| *number)
        };
        let roots: Vec<u8> = told
            .iter()
            .filter(|(_, status)| status["tree"]["is_root"] == true)
            .map(|(number, _)| *number)
            .collect();
        ensure!(roots.len() == 1, "roots are {roots:?}");
        let mut parents = BTreeMap::new();
        for (child, status) in &told {
            let tree = &status["tree"];
            let children = tree["children"].as_array().map_or(0, Vec::len);
            let placed = tree["state"] == "attached" && number(&tree["root"]) == Some(roots[0]);
            ensure!(placed && children <= FANOUT, "server {child}: {tree}");
            if *child != roots[0] {
                let parent = number(&tree["parent"]);
                parents.insert(*child, parent.with_context(|| format!("server {child}: {tree}"))?);
            }
        }
        Ok(Self { root: roots[0], parents })
    }

    /// Those with both a parent and a child; where there are none, those with a parent.
    fn inner(&self) -> Vec<u8> {
        let has_child = |node: &&u8| self.parents.values().any(|parent| parent == *node);
        let inner: Vec<u8> = self.parents.keys().filter(has_child).copied().collect();
        if inner.is_empty() { self.parents.keys().copied().collect() } else { inner }
    }
}

/// The servers, and what was said to them so far.
struct Fleet<'a> {
    network: &'a Network<'a>,
    notes: Vec<String>,
}

impl<'a> Fleet<'a> {
    fn servers(&self) -> Vec<Server<'a>> {
        self.network.lab().servers().collect()
    }

    fn but(&self, gone: &[u8]) -> Vec<Server<'a>> {
        self.servers().into_iter().filter(|server| !gone.contains(&server.number())).collect()
    }

    /// One in ten, at least one, inner nodes first.
    fn tenth(shape: &Shape) -> Vec<u8> {
        let mut victims = shape.inner();
        victims.extend(shape.parents.keys().filter(|node| !shape.inner().contains(node)));
        victims.truncate((shape.parents.len() + 1).div_ceil(KILLED_ONE_IN));
        victims
    }

    /// Agents killed where they stand, which stay dead: their neighbours' connections are reset.
    fn killed(&mut self, what: &str, whom: impl Fn(&Shape) -> Vec<u8>) -> Result<String> {
        let whom = whom(&one_tree(&self.servers())?);
        let victims: Vec<Server<'_>> =
            whom.iter().map(|number| self.network.lab().server(*number)).collect();
        for victim in &victims {
            victim.sh(STAYS_DEAD)?;
        }
        let since = Mark::now();
        at_once(&victims, |victim| victim.sh(KILL).map(drop))?;
        let healed = self.healed(what, since, &[&self.but(&whom)])?;
        at_once(&victims, |victim| victim.sh(REVIVES).map(drop))?;
        self.whole()?;
        Ok(format!("{what} ({}): {healed}", named(&whom)))
    }

    /// A server without power says nothing, not even that it is gone; its cable is pulled first, or
    /// the kernel that it shares with this computer would say it.
    fn power_cut(&mut self) -> Result<String> {
        let victim = one_tree(&self.servers())?.inner()[0];
        let server = self.network.lab().server(victim);
        let since = Mark::now();
        server.link(false)?;
        server.kill()?;
        let what = format!("an inner node without power ({})", named(&[victim]));
        let healed = self.healed(&what, since, &[&self.but(&[victim])])?;
        server.link(true)?;
        server.start()?;
        self.whole()?;
        Ok(format!("{what}: {healed}"))
    }

    /// One link dies in silence, and both its ends live on.
    fn link_cut(&mut self) -> Result<String> {
        let shape = one_tree(&self.servers())?;
        let child = shape.inner()[0];
        let parent = shape.parents[&child];
        let since = Mark::now();
        self.network.lab().partition(&[parent], &[child])?;
        let what = format!("the link of {} cut", named(&[parent, child]));
        // The one tree before the fault would do as well, had its parent not to be another one.
        wait::until_true(&format!("{what}: noticed"), TREE_BOUND, || {
            Ok(Shape::of(&self.servers())?.parents.get(&child) != Some(&parent))
        })?;
        let healed = self.healed(&what, since, &[&self.servers()])?;
        self.network.lab().heal()?;
        self.whole()?;
        Ok(format!("{what}: {healed}"))
    }

    /// Two halves, each a tree of its own; then one again.
    fn halved(&mut self) -> Result<[String; 2]> {
        let all = self.servers();
        let (one, other) = all.split_at(all.len() / 2);
        let numbers = |half: &[Server<'_>]| half.iter().map(|s| s.number()).collect::<Vec<_>>();
        let since = Mark::now();
        self.network.lab().partition(&numbers(one), &numbers(other))?;
        let apart = self.healed("cut in two", since, &[one, other])?;
        let since = Mark::now();
        self.network.lab().heal()?;
        let again = self.healed("healed", since, &[&all])?;
        self.whole()?;
        Ok([format!("cut in two: two trees, {apart}"), format!("both healed into one: {again}")])
    }

    /// Every second an inner node is killed, which systemd brings back, and a note is said elsewhere.
    fn churn(&mut self, during: Duration) -> Result<String> {
        let (began, mut killed, mut said) = (Instant::now(), 0, 0);
        let mut servers = self.servers();
        while began.elapsed() < during {
            let turn = Instant::now();
            // Another one first in every turn, so that all have theirs.
            servers.rotate_left(1);
            let is_inner = |server: &Server<'_>| {
                server.status().is_ok_and(|status| {
                    let tree = &status["tree"];
                    tree["parent"].is_string()
                        && tree["children"].as_array().is_some_and(|c| !c.is_empty())
                })
            };
            let victim = servers.iter().position(is_inner);
            if let Some(victim) = victim {
                servers[victim].sh(KILL)?;
                killed += 1;
            }
            // One that just died takes no note; only what was acknowledged must be heard.
            let speaker = servers.len() - 1;
            if victim != Some(speaker) && self.say(servers[speaker]).is_ok() {
                said += 1;
            }
            std::thread::sleep(Duration::from_secs(1).saturating_sub(turn.elapsed()));
        }
        ensure!(killed > 0 && said > 0, "{killed} nodes killed, {said} notes said");
        let healed = self.healed("churn", Mark::now(), &[&self.servers()])?;
        self.whole()?;
        Ok(format!(
            "{killed} inner nodes killed in a row, {said} notes said meanwhile; then {healed}"
        ))
    }

    /// A note that nobody has said before, at one server.
    fn say(&mut self, at: Server<'_>) -> Result<()> {
        let words = format!("word {} of the tree", self.notes.len());
        self.network.at("ann", Place::Node(at), &["broadcast", &words])?;
        self.notes.push(words);
        Ok(())
    }

    /// Says notes while each of these groups heals, and waits until it is one tree in which every
    /// one of its notes was heard once. Returns what was measured.
    fn healed(&mut self, what: &str, since: Mark, groups: &[&[Server<'_>]]) -> Result<String> {
        let before = self.notes.len();
        let mut said: Vec<Vec<String>> = Vec::new();
        for group in groups {
            let from = self.notes.len();
            for at in [group.first(), group.last()].into_iter().flatten() {
                self.say(*at)?;
            }
            said.push(self.notes[from..].to_vec());
        }
        let mut last = 0.0_f64;
        for (group, said) in groups.iter().zip(&said) {
            one_tree(group).with_context(|| what.to_owned())?;
            heard_once(group, said).with_context(|| what.to_owned())?;
            for server in *group {
                let places = server.journal_after(since, PLACED)?;
                last = places.iter().map(|entry| since.until(entry)).fold(last, f64::max);
            }
        }
        ensure!(last <= HEALED_MAX, "{what}: healed after {last:.1} s, at most {HEALED_MAX}");
        let notes = self.notes.len() - before;
        Ok(format!("one tree after {last:.1} s, {notes} notes heard once by each survivor"))
    }

    /// All servers are one tree, and each has heard everything that was ever said, once.
    fn whole(&self) -> Result<()> {
        let all = self.servers();
        one_tree(&all).context("after the repair")?;
        heard_once(&all, &self.notes).context("after the repair")
    }
}

/// Does the same to several servers at once.
fn at_once(servers: &[Server<'_>], act: impl Fn(Server<'_>) -> Result<()> + Sync) -> Result<()> {
    std::thread::scope(|scope| {
        let act = &act;
        let threads: Vec<_> =
            servers.iter().map(|server| scope.spawn(move || act(*server))).collect();
        threads.into_iter().try_for_each(|thread| {
            thread.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a fault panicked")))
        })
    })
}

/// Waits until these servers are one tree.
fn one_tree(servers: &[Server<'_>]) -> Result<Shape> {
    let what = format!("one tree of {}", servers.len());
    wait::until(&what, TREE_BOUND, || Shape::of(servers).map(Some))
}

/// Each server's ledger lists each of these notes, and lists it once.
fn heard_once(servers: &[Server<'_>], notes: &[String]) -> Result<()> {
    for server in servers {
        wait::until(&format!("{} has heard every note", server.host()), SOON, || {
            let listed = listed(*server)?;
            for note in notes {
                let times = listed.iter().filter(|text| *text == note).count();
                ensure!(times == 1, "{note:?} is listed {times} times");
            }
            Ok(Some(()))
        })?;
    }
    Ok(())
}

/// The texts of all notes in a server's ledger.
fn listed(server: Server<'_>) -> Result<Vec<String>> {
    let mut texts = Vec::new();
    let mut after = String::new();
    loop {
        let request = format!(r#"{{"get":"objects","kind":"note"{after}}}"#);
        let ask = "curl -s --unix-socket /run/borgios/api.sock --data @- http://agent/v1";
        let page = server.feed(ask, request.as_bytes(), SOON)?.ok()?.json()?["ok"].clone();
        for envelope in page["objects"].as_array().with_context(|| format!("no list: {page}"))? {
            let payload = envelope["payload"].as_str().context("no payload")?;
            let note: Value = serde_json::from_str(payload)?;
            texts.push(note["text"].as_str().context("a note without a text")?.to_owned());
        }
        match page["next"].as_str() {
            Some(next) => after = format!(r#","after":"{next}""#),
            None => return Ok(texts),
        }
    }
}

/// Servers as a person names them.
fn named(numbers: &[u8]) -> String {
    let names: Vec<String> = numbers.iter().map(|number| format!("server {number}")).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inner_nodes_go_first_and_the_root_is_none_of_them() {
        // 1 is the root of 2 and 3; 4 and 5 hang below 3.
        let parents = BTreeMap::from([(2, 1), (3, 1), (4, 3), (5, 3)]);
        let shape = Shape { root: 1, parents };
        assert_eq!(shape.inner(), [3]);
        assert_eq!(Fleet::tenth(&shape), [3]);
        let pair = Shape { root: 1, parents: BTreeMap::from([(2, 1)]) };
        assert_eq!(pair.inner(), [2]);
        let many = Shape { root: 1, parents: (2..=16).map(|node| (node, 1 + node / 8)).collect() };
        assert_eq!(Fleet::tenth(&many).len(), 2);
    }
}
