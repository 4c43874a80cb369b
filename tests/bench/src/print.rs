//! The table for people.

use crate::row::Row;
use crate::session::Report;
use crate::targets::Target;

/// The table, the ratios with their targets, and how quiet the machine was.
#[must_use]
pub fn report(report: &Report) -> String {
    let mut text = table(&report.rows);
    text += "\n";
    for judged in &report.targets {
        let name = &judged.name;
        let value = judged.value.map_or_else(|| "-".to_owned(), |value| format!("{value:.3}"));
        let target = match judged.target {
            Target::AtLeast(bound) => format!(">= {bound}"),
            Target::AtMost(bound) => format!("<= {bound}"),
            Target::None => String::new(),
        };
        let verdict = match (judged.met, &judged.reason) {
            (Some(true), _) => "met",
            (Some(false), _) => "missed",
            (None, Some(reason)) => reason.as_str(),
            (None, None) => "",
        };
        let line = format!("{name:<40} {value:>9}  {target:<8} {verdict}");
        text += &format!("{}\n", line.trim_end());
    }
    let noisy = report.load_before.iter().any(|load| *load > QUIET);
    text += &format!(
        "\nmedian of {} rounds; load before each: {:?}{}\n",
        report.rounds,
        report.load_before,
        if noisy { ": the machine was not quiet, trust ratios more than figures" } else { "" }
    );
    text
}

/// Load above which the machine is called noisy.
const QUIET: f64 = 0.5;

/// One line for each row, columns aligned.
#[must_use]
pub fn table(rows: &[Row]) -> String {
    let mut text = format!(
        "{:<22} {:>8} {:>8} {:>12} {:>7} {:>8} {:>9} {:>8} {:>8} {:>6}\n",
        "",
        "p50 ms",
        "p99 ms",
        "deliveries/s",
        "bytes",
        "MB/node",
        "idle B/s",
        "CPU us",
        "CPU one",
        "lost"
    );
    for row in rows {
        let number = |value: Option<f64>, digits: usize| {
            value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
        };
        text += &format!(
            "{:<22} {:>8} {:>8} {:>12} {:>7} {:>8} {:>9} {:>8} {:>8} {:>6}\n",
            row.name,
            number(row.p50_ms, 2),
            number(row.p99_ms, 2),
            number(row.deliveries_per_s, 0),
            number(row.bytes_vs_minimum, 2),
            number(row.memory_mb, 2),
            number(row.idle_bytes_per_s, 0),
            number(row.cpu_us_per_delivery, 2),
            number(row.cpu_us_per_single, 1),
            row.lost.map_or_else(|| "-".to_owned(), |lost| lost.to_string()),
        );
    }
    text
}
