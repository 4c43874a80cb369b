//! `borgios-sim million`: a million nodes at several fan-outs, beside the founder's table.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use borgios_peertree::sim::million::{self, Figures, Plan};
use serde_json::{Value, json};

use crate::heap::heap;
use crate::number;

/// The fan-outs of the founder's table, and the layers it promises for a million nodes.
const FOUNDER: [(u16, u32); 4] = [(3, 13), (10, 5), (25, 4), (100, 3)];
/// Time a message takes from node to node.
const HOP: Duration = Duration::from_millis(10);
/// Share of the nodes that leave, and as many join, before the depth is measured.
const CHURN: f64 = 0.002;
/// Share of the nodes that die at once.
const DEATHS: f64 = 0.1;
/// Asks the allocator for huge pages, where it knows how to (glibc 2.35, `mallopt`'s successor): a
/// fleet is read in no order, and the translation of addresses was a fifth of the time.
const HUGE_PAGES: &str = "glibc.malloc.hugetlb=1";
/// Where glibc reads that; who set it keeps what they set.
const TUNABLES: &str = "GLIBC_TUNABLES";
/// Runs at a time, each a process of its own so that its heap is counted alone.
const AT_A_TIME: usize = 2;

/// What the command line asks for.
pub(crate) struct Asked {
    pub(crate) nodes: u32,
    pub(crate) fanout: Option<u16>,
    pub(crate) seed: u64,
    pub(crate) json: bool,
}

/// Reads the command line behind `million`.
pub(crate) fn parse(arguments: &[String]) -> Result<Asked, String> {
    let mut asked = Asked { nodes: 1_000_000, fanout: None, seed: 1, json: false };
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        if word == "--json" {
            asked.json = true;
            continue;
        }
        if !["--nodes", "--fanout", "--seed"].contains(&word.as_str()) {
            return Err(format!("million: unknown option {word}"));
        }
        let text = words.next().ok_or_else(|| format!("{word} needs a number after it"))?;
        match word.as_str() {
            "--nodes" => asked.nodes = number(word, text, 2, 4_000_000)? as u32,
            "--fanout" => asked.fanout = Some(number(word, text, 2, 256)? as u16),
            _ => asked.seed = number(word, text, 0, u64::MAX)?,
        }
    }
    Ok(asked)
}

/// Runs it; false if anything was not as it must be.
pub(crate) fn run(asked: &Asked) -> Result<bool, String> {
    match asked.fanout {
        Some(fanout) => one(asked, fanout),
        None => all(asked),
    }
}

/// One fan-out, in this process.
fn one(asked: &Asked, fanout: u16) -> Result<bool, String> {
    let plan = Plan {
        nodes: asked.nodes,
        fanout,
        hop: HOP,
        churn: CHURN,
        deaths: DEATHS,
        seed: asked.seed,
    };
    #[allow(clippy::disallowed_methods, reason = "the wall clock is measured, not simulated")]
    let begun = Instant::now();
    let mut say = |line: String| {
        eprintln!("fan-out {fanout}, {:>5.0} s: {line}", begun.elapsed().as_secs_f64());
    };
    let figures = million::run(plan, &heap, &mut say)?;
    let mut row = json!(figures);
    row["wall_s"] = json!(begun.elapsed().as_secs());
    row["missed"] = json!(missed(&figures));
    println!("{row}");
    Ok(missed(&figures).is_empty())
}

/// Which of the figures are not what issue and arithmetic ask for.
fn missed(figures: &Figures) -> Vec<String> {
    let hop = HOP.as_millis() as u64;
    let rules = [
        (figures.depth <= figures.minimum_depth + 1, "depth at most one more than the least"),
        (figures.transmissions == figures.nodes - 1, "one transmission for each other node"),
        (figures.last_ms == u64::from(figures.depth) * hop, "the last node after depth x hop"),
        (figures.transmissions_healed == figures.survivors - 1, "the same after the deaths"),
        (figures.heal_virtual_s <= 10.0, "healed within 10 s"),
        (figures.bytes_per_node <= 4_096, "4 KB a node"),
    ];
    rules.iter().filter(|rule| !rule.0).map(|rule| rule.1.to_owned()).collect()
}

/// All fan-outs of the table, each in a process of its own.
fn all(asked: &Asked) -> Result<bool, String> {
    #[allow(clippy::disallowed_methods, reason = "the wall clock is measured, not simulated")]
    let begun = Instant::now();
    let program = std::env::current_exe().map_err(|error| format!("this program: {error}"))?;
    let mut waiting: Vec<u16> = FOUNDER.iter().map(|(fanout, _)| *fanout).collect();
    let (mut running, mut rows) = (Vec::new(), Vec::new());
    while !(waiting.is_empty() && running.is_empty()) {
        while running.len() < AT_A_TIME && !waiting.is_empty() {
            let fanout = waiting.remove(0);
            let mut command = Command::new(&program);
            if std::env::var_os(TUNABLES).is_none() {
                command.env(TUNABLES, HUGE_PAGES);
            }
            let child = command
                .args(["million", "--json", "--fanout", &fanout.to_string()])
                .args(["--nodes", &asked.nodes.to_string(), "--seed", &asked.seed.to_string()])
                .stdout(Stdio::piped())
                .spawn()
                .map_err(|error| format!("a run of its own: {error}"))?;
            running.push((fanout, child));
        }
        // The first to end makes room; each prints one line, which no pipe is too short for.
        let ended = running.iter_mut().position(|(_, child)| !matches!(child.try_wait(), Ok(None)));
        let Some(at) = ended else {
            std::thread::sleep(Duration::from_millis(200));
            continue;
        };
        let (fanout, child) = running.remove(at);
        let output = child.wait_with_output().map_err(|error| error.to_string())?;
        let row: Value = serde_json::from_slice(&output.stdout)
            .map_err(|_| format!("the run at fan-out {fanout} failed; its words are above"))?;
        rows.push(beside_founder(row, fanout));
    }
    rows.sort_by_key(|row| row["fanout"].as_u64());
    let wall = begun.elapsed().as_secs();
    let good = rows.iter().all(|row| row["missed"].as_array().is_some_and(Vec::is_empty));
    if asked.json {
        let notes = notes(asked);
        println!("{}", json!({ "runs": rows, "wall_s": wall, "notes": notes, "passed": good }));
    } else {
        table(asked, &rows, wall);
    }
    Ok(good)
}

/// Adds what the founder's table promises to a row.
fn beside_founder(mut row: Value, fanout: u16) -> Value {
    let founder = FOUNDER.iter().find(|one| one.0 == fanout).map(|one| one.1);
    row["founder_layers"] = json!(founder);
    for (layers, depth) in [("layers", "depth"), ("minimum_layers", "minimum_depth")] {
        row[layers] = json!(row[depth].as_u64().map(|depth| depth + 1));
    }
    row
}

fn table(asked: &Asked, rows: &[Value], wall: u64) {
    println!("{} nodes, {} ms a hop, seed {}", asked.nodes, HOP.as_millis(), asked.seed);
    println!();
    println!(
        "fan-out  founder  least  layers  depth  transmissions  last node  10 % die: healed  depth  \
         bytes/node (state)  wall"
    );
    for row in rows {
        let number = |name: &str| row[name].as_u64().unwrap_or(0);
        let fanout = number("fanout");
        let (founder, least) = (number("founder_layers"), number("minimum_layers"));
        let below = if founder < least { "*" } else { " " };
        println!(
            "{fanout:>7}  {founder:>6}{below}  {least:>5}  {:>6}  {:>5}  {:>13}  {:>6} ms  {:>13.1} s  \
             {:>7}  {:>10} ({:>5})  {:>3} s",
            number("layers"),
            number("depth"),
            number("transmissions"),
            number("last_ms"),
            row["heal_virtual_s"].as_f64().unwrap_or(f64::NAN),
            number("depth_healed"),
            number("bytes_per_node"),
            number("state_bytes_per_node"),
            number("wall_s"),
        );
        for what in row["missed"].as_array().into_iter().flatten() {
            println!("         MISSED: {}", what.as_str().unwrap_or_default());
        }
    }
    println!();
    for note in notes(asked) {
        println!("{note}");
    }
    println!("all runs: {wall} s, {AT_A_TIME} at a time");
}

fn notes(asked: &Asked) -> Vec<String> {
    // Where the founder's figures are below the least, counted in layers or (one less) in hops.
    let short = |more: u32| {
        let least = |fanout| million::minimum_depth(u64::from(asked.nodes), fanout) + more;
        let short = FOUNDER.iter().filter(|(fanout, layers)| *layers < least(*fanout));
        short.map(|(fanout, _)| fanout.to_string()).collect::<Vec<_>>().join(", ")
    };
    let mut notes = Vec::new();
    if !short(1).is_empty() {
        notes.push(format!(
            "* the founder's layers are below what a tree can do at fan-out {}: N nodes take at least \
             ceil(log_k(N(k-1)+1)) layers at fan-out k. Read as hops they are below it at fan-out {}.",
            short(1),
            if short(0).is_empty() { "none".to_owned() } else { short(0) }
        ));
    }
    notes.push(
        "layers count nodes from the root down, depth counts hops: layers less one. Depth, broadcast and \
         layers are measured after churn."
            .to_owned(),
    );
    notes.push(format!(
        "The real core runs on every node, and every heartbeat of every link is played. Signatures are stubbed, join records are not broadcast, {} \
         contacts are remembered; the first nodes join at the root, all others at members of the upper levels, and follow redirects. All nodes and \
         links are checked at intervals: at every tenfold size, and whenever a stage ends.",
        million::REMEMBERED
    ));
    notes.push(format!(
        "Churn: {} % leave in good order and as many join within 5 s. Deaths: {} % lose their power at \
         once, nobody is told.",
        CHURN * 100.0,
        DEATHS * 100.0
    ));
    notes.push(
        "bytes/node: peak of the live heap (nodes, their links, messages under way) by a counting \
         allocator, less the simulator's own tables, divided by the nodes; in brackets: what the state \
         of one node holds at rest. process_bytes_per_node in the JSON takes nothing off."
            .to_owned(),
    );
    notes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_founders_table_stands_beside_the_least_a_tree_can_do() {
        let row = beside_founder(json!({ "depth": 7, "minimum_depth": 6 }), 10);
        assert_eq!(row["founder_layers"], 5);
        assert_eq!((&row["layers"], &row["minimum_layers"]), (&json!(8), &json!(7)));
        let asked = Asked { nodes: 1_000_000, fanout: None, seed: 1, json: false };
        let note = &notes(&asked)[0];
        assert!(note.contains("at fan-out 3, 10, 25, 100:"), "{note}");
        assert!(note.ends_with("at fan-out 10, 25."), "{note}");
    }
}
