//! The table for people.

use crate::row::Row;
use crate::session::Report;

/// The table, the ratios with their targets, and how quiet the machine was.
#[must_use]
pub fn report(report: &Report) -> String {
    let mut text = table(&report.rows);
    text += "\n";
    for (name, ratio) in &report.ratios {
        let target = TARGETS.iter().find(|(known, ..)| known == name);
        let verdict = target.map_or_else(String::new, |(_, least, bound)| {
            let met = if *least { ratio >= bound } else { ratio <= bound };
            let (sign, word) =
                (if *least { ">=" } else { "<=" }, if met { "met" } else { "missed" });
            format!("  target {sign} {bound}: {word}")
        });
        text += &format!("{name:<36} {ratio:>9.3}{verdict}\n");
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

/// Name, whether it is a least, and the bound.
const TARGETS: &[(&str, bool, f64)] = &[
    ("throughput_vs_tls_tree", true, 0.35),
    ("throughput_vs_ssh_tree", true, 0.6),
    ("throughput_vs_iroh_gossip", true, 5.0),
    ("throughput_vs_nats", true, 3.0),
    ("single_signature_vs_tls_verify", true, 0.9),
    ("p50_verified_vs_tls_verify", false, 0.75),
    ("p50_offpath_vs_tls_tree", false, 2.0),
    ("p50_offpath_vs_iroh_gossip", false, 0.34),
    ("bytes_vs_minimum", false, 1.1),
    ("siblings_with_one_stalled_child", true, 0.9),
    ("lost_under_overload", false, 0.0),
];

/// One line for each row, columns aligned.
#[must_use]
pub fn table(rows: &[Row]) -> String {
    let mut text = format!(
        "{:<22} {:>8} {:>8} {:>12} {:>7} {:>8} {:>9} {:>8} {:>6}\n",
        "", "p50 ms", "p99 ms", "deliveries/s", "bytes", "MB/node", "idle B/s", "CPU us", "lost"
    );
    for row in rows {
        let number = |value: Option<f64>, digits: usize| {
            value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
        };
        text += &format!(
            "{:<22} {:>8} {:>8} {:>12} {:>7} {:>8} {:>9} {:>8} {:>6}\n",
            row.name,
            number(row.p50_ms, 2),
            number(row.p99_ms, 2),
            number(row.deliveries_per_s, 0),
            number(row.bytes_vs_minimum, 2),
            number(row.memory_mb, 2),
            number(row.idle_bytes_per_s, 0),
            number(row.cpu_us_per_delivery, 2),
            row.lost.map_or_else(|| "-".to_owned(), |lost| lost.to_string()),
        );
    }
    text
}
