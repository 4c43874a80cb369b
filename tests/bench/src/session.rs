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
use crate::targets::{self, Judged, Round, median};

/// What one run found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Medians of each row over the rounds.
    pub rows: Vec<Row>,
    /// Medians of the ratios of each round; null where a row is not there.
    pub ratios: BTreeMap<String, Option<f64>>,
    /// The same beside their targets, and why some are null.
    pub targets: Vec<Judged>,
    /// Why rows are not there.
    pub absent: BTreeMap<String, String>,
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
    /// What follows them in the first round.
    pub first: Vec<String>,
    /// What follows them later; none where it is measured in the first round only.
    pub later: Option<Vec<String>>,
}

/// Runs one program in a network of its own, so that the counters of loopback are its alone, and
/// returns the last line it prints.
///
/// # Errors
/// It does not run, or fails.
pub fn run(measured: &Measured, more: &[String]) -> Result<String> {
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
        .args(more)
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

/// Runs all rows `rounds` times and puts the medians together. A row that fails is told and left out;
/// `absent` says why others are.
///
/// # Errors
/// No row at all could be measured.
pub fn rounds(
    all: &[Measured],
    rounds: usize,
    absent: BTreeMap<String, String>,
    mut tell: impl FnMut(&str),
) -> Result<Report> {
    let mut report = Report { rounds, absent, ..Report::default() };
    let mut found: Vec<Round> = Vec::new();
    let mut overloads: Vec<Overload> = Vec::new();
    for round in 0..rounds {
        report.load_before.push(machine::load());
        let mut rows = Round::new();
        for measured in all {
            let more = if round == 0 { Some(&measured.first) } else { measured.later.as_ref() };
            let Some(more) = more else { continue };
            tell(&format!("round {} of {rounds}: {}", round + 1, measured.name));
            let read = |line: String| -> Result<()> {
                if measured.name == "overload" {
                    overloads.push(serde_json::from_str(&line)?);
                } else {
                    rows.insert(measured.name.clone(), serde_json::from_str(&line)?);
                }
                Ok(())
            };
            if let Err(error) = run(measured, more).and_then(read) {
                tell(&format!("{}: {error:#}", measured.name));
                report.absent.insert(measured.name.clone(), format!("{error:#}"));
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
    report.targets = targets::judge(&found, &overloads, &report.absent);
    report.ratios =
        report.targets.iter().map(|judged| (judged.name.clone(), judged.value)).collect();
    Ok(report)
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
        cpu_us_per_single: column(|row| row.cpu_us_per_single),
        lost: rows.iter().map(|row| row.lost).sum(),
        ..(*first).clone()
    })
}
