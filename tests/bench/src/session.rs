//! A whole run: rounds of rows, each row in a process and a network of its own, then the medians.
//!
//! Rows of one round follow each other within seconds, so a ratio of two of them suffers less from
//! what else the machine does than either figure; a ratio is taken in each round, and its median
//! printed.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use serde::Serialize;

use crate::machine;
use crate::overload::Overload;
use crate::row::Row;

/// What one run found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Medians of each row over the rounds.
    pub rows: Vec<Row>,
    /// Medians of the ratios of each round.
    pub ratios: BTreeMap<String, f64>,
    /// Rounds.
    pub rounds: usize,
    /// The machine's load before each round: above 0.5, something else was running.
    pub load_before: Vec<f64>,
}

/// A row, and the program that measures it.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Its name.
    pub name: String,
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
}

/// Runs one program in a network of its own, so that the counters of loopback are its alone, and
/// returns the last line it prints.
///
/// # Errors
/// It does not run, or fails.
pub fn run(measured: &Measured) -> Result<String> {
    let mut command = if has_own_network() {
        let mut command = Command::new("unshare");
        command.args(["-n", "sh", "-c", "ip link set lo up && exec \"$0\" \"$@\""]);
        command.arg(&measured.program);
        command
    } else {
        Command::new(&measured.program)
    };
    let output = command
        .args(&measured.arguments)
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot run {}", measured.program.display()))?;
    if !output.status.success() {
        bail!("row {} ended with {}", measured.name, output.status);
    }
    let text = String::from_utf8(output.stdout)?;
    text.lines()
        .last()
        .map(str::to_owned)
        .with_context(|| format!("row {} is empty", measured.name))
}

/// Whether this user may make network namespaces.
fn has_own_network() -> bool {
    let probe = Command::new("unshare").args(["-n", "ip", "link", "set", "lo", "up"]).status();
    probe.is_ok_and(|status| status.success())
}

/// Runs all rows `rounds` times and puts the medians together. A row that fails is told and left out.
///
/// # Errors
/// No row at all could be measured.
pub fn rounds(all: &[Measured], rounds: usize, mut tell: impl FnMut(&str)) -> Result<Report> {
    let mut report = Report { rounds, ..Report::default() };
    let mut found: Vec<BTreeMap<String, Row>> = Vec::new();
    let mut overloads: Vec<Overload> = Vec::new();
    for round in 0..rounds {
        report.load_before.push(machine::load());
        let mut rows = BTreeMap::new();
        for measured in all {
            tell(&format!("round {} of {rounds}: {}", round + 1, measured.name));
            let line = match run(measured) {
                Ok(line) => line,
                Err(error) => {
                    tell(&format!("{error:#}"));
                    continue;
                }
            };
            if measured.name == "overload" {
                overloads.push(serde_json::from_str(&line)?);
            } else {
                let row: Row = serde_json::from_str(&line)
                    .with_context(|| format!("row {} prints no row", measured.name))?;
                rows.insert(measured.name.clone(), row);
            }
        }
        found.push(rows);
    }
    for measured in all {
        let rows: Vec<&Row> = found.iter().filter_map(|round| round.get(&measured.name)).collect();
        if let Some(row) = middle(&rows) {
            report.rows.push(row);
        }
    }
    if report.rows.is_empty() && overloads.is_empty() {
        bail!("nothing could be measured");
    }
    for (name, ratio) in RATIOS {
        let values = found.iter().filter_map(ratio).collect();
        if let Some(value) = median(values) {
            report.ratios.insert((*name).to_owned(), value);
        }
    }
    let kept = overloads.iter().map(|found| found.stalled_per_s / found.before_per_s).collect();
    if let Some(kept) = median(kept) {
        report.ratios.insert("siblings_with_one_stalled_child".to_owned(), kept);
        let lost: u64 = overloads.iter().map(|found| found.lost).sum();
        report.ratios.insert("lost_under_overload".to_owned(), lost as f64);
    }
    Ok(report)
}

type Round = BTreeMap<String, Row>;
type Ratio = fn(&Round) -> Option<f64>;

/// What the targets of the tree are about; each from the rows of one round.
const RATIOS: &[(&str, Ratio)] = &[
    ("throughput_vs_tls_tree", |round| rate(round, "ours-tls", "tls-tree")),
    ("throughput_over_ssh_vs_tls_tree", |round| rate(round, "ours-ssh", "tls-tree")),
    ("throughput_vs_ssh_tree", |round| rate(round, "ours-ssh", "ssh-tree")),
    ("throughput_vs_ssh_tree_chacha", |round| rate(round, "ours-ssh", "ssh-tree-chacha")),
    ("throughput_vs_iroh_gossip", |round| rate(round, "ours-tls", "iroh-gossip")),
    ("throughput_vs_gossipsub", |round| rate(round, "ours-tls", "gossipsub")),
    ("throughput_vs_nats", |round| rate(round, "ours-tls", "nats")),
    ("single_signature_vs_tls_verify", |round| rate(round, "ours-tls-single", "tls-verify-tree")),
    ("p50_verified_vs_tls_verify", |round| p50(round, "ours-tls", "tls-verify-tree")),
    ("p50_offpath_vs_tls_tree", |round| p50(round, "ours-tls-link", "tls-tree")),
    ("p50_offpath_vs_iroh_gossip", |round| p50(round, "ours-tls-link", "iroh-gossip")),
    ("bytes_vs_minimum", |round| round.get("ours-tls")?.bytes_vs_minimum),
    ("bytes_over_ssh_vs_minimum", |round| round.get("ours-ssh")?.bytes_vs_minimum),
];

fn rate(round: &Round, ours: &str, other: &str) -> Option<f64> {
    Some(round.get(ours)?.deliveries_per_s? / round.get(other)?.deliveries_per_s?)
}

fn p50(round: &Round, ours: &str, other: &str) -> Option<f64> {
    Some(round.get(ours)?.p50_ms? / round.get(other)?.p50_ms?)
}

/// The middle of the values; the lower one of two.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len().checked_sub(1)? / 2).copied()
}

/// The medians of each column; losses are added up.
fn middle(rows: &[&Row]) -> Option<Row> {
    let first = rows.first()?;
    let column =
        |of: fn(&Row) -> Option<f64>| median(rows.iter().filter_map(|row| of(row)).collect());
    Some(Row {
        p50_ms: column(|row| row.p50_ms),
        p99_ms: column(|row| row.p99_ms),
        deliveries_per_s: column(|row| row.deliveries_per_s),
        bytes_vs_minimum: column(|row| row.bytes_vs_minimum),
        memory_mb: column(|row| row.memory_mb),
        idle_bytes_per_s: column(|row| row.idle_bytes_per_s),
        cpu_us_per_delivery: column(|row| row.cpu_us_per_delivery),
        lost: rows.iter().map(|row| row.lost).sum(),
        ..(*first).clone()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_taken_within_a_round() {
        let row = |name: &str, rate: f64| {
            let row = Row { deliveries_per_s: Some(rate), ..Row::default() };
            (name.to_owned(), row)
        };
        let round: Round = [row("ours-tls", 50.0), row("tls-tree", 200.0)].into();
        let of = |name: &str| RATIOS.iter().find(|(known, _)| *known == name).unwrap().1;
        assert_eq!(of("throughput_vs_tls_tree")(&round), Some(0.25));
        assert_eq!(of("throughput_vs_iroh_gossip")(&round), None);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![]), None);
    }
}
