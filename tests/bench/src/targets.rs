//! What the tree is measured by: ratios of two rows, each with its target.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::overload::Overload;
use crate::row::Row;

/// The rows of one round, by name.
pub type Round = BTreeMap<String, Row>;

/// How a figure comes about. The first row named is ours.
#[derive(Clone, Copy, Debug)]
pub enum Of {
    /// Deliveries a second over those of the other.
    Rate(&'static str, &'static str),
    /// The same by processor time: the other's for a delivery over ours.
    RateByCpu(&'static str, &'static str),
    /// Milliseconds of a single message over those of the other.
    P50(&'static str, &'static str),
    /// The same by processor time for a delivery of a single message.
    P50ByCpu(&'static str, &'static str),
    /// Bytes over the least that could be.
    Bytes(&'static str),
    /// Memory of a node in MB.
    Memory(&'static str),
    /// Bytes a second of an idle node.
    Idle(&'static str),
}

/// What a figure is to be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// Not less.
    AtLeast(f64),
    /// Not more.
    AtMost(f64),
    /// It only explains another one.
    None,
}

/// All figures. Those by processor time say what a busy machine lets one see of those by the clock.
pub const FIGURES: &[(&str, Of, Target)] = {
    use Of::{Bytes, Idle, Memory, P50, P50ByCpu, Rate, RateByCpu};
    use Target::{AtLeast, AtMost, None};
    &[
        ("throughput_vs_tls_tree", Rate("ours-tls", "tls-tree"), AtLeast(0.35)),
        ("throughput_by_cpu_vs_tls_tree", RateByCpu("ours-tls", "tls-tree"), None),
        ("throughput_over_ssh_vs_tls_tree", Rate("ours-ssh", "tls-tree"), None),
        ("throughput_vs_ssh_tree", Rate("ours-ssh", "ssh-tree"), AtLeast(0.6)),
        ("throughput_by_cpu_vs_ssh_tree", RateByCpu("ours-ssh", "ssh-tree"), None),
        ("throughput_vs_ssh_tree_chacha", Rate("ours-ssh", "ssh-tree-chacha"), None),
        ("throughput_vs_iroh_gossip", Rate("ours-tls", "iroh-gossip"), AtLeast(5.0)),
        ("throughput_vs_gossipsub", Rate("ours-tls", "gossipsub"), None),
        ("throughput_vs_nats", Rate("ours-tls", "nats"), AtLeast(3.0)),
        ("throughput_vs_serf", Rate("ours-tls", "serf"), None),
        (
            "single_signature_vs_tls_verify",
            Rate("ours-tls-single", "tls-verify-tree"),
            AtLeast(0.9),
        ),
        (
            "single_signature_by_cpu_vs_tls_verify",
            RateByCpu("ours-tls-single", "tls-verify-tree"),
            None,
        ),
        ("p50_verified_vs_tls_verify", P50("ours-tls", "tls-verify-tree"), AtMost(0.75)),
        ("p50_verified_by_cpu_vs_tls_verify", P50ByCpu("ours-tls", "tls-verify-tree"), None),
        ("p50_offpath_vs_tls_tree", P50("ours-tls-link", "tls-tree"), AtMost(2.0)),
        ("p50_offpath_vs_iroh_gossip", P50("ours-tls-link", "iroh-gossip"), None),
        ("bytes_vs_minimum", Bytes("ours-tls"), AtMost(1.1)),
        ("bytes_over_ssh_vs_minimum", Bytes("ours-ssh"), AtMost(1.1)),
        ("memory_mb_per_node", Memory("ours-tls"), AtMost(0.5)),
        ("memory_mb_per_node_over_ssh", Memory("ours-ssh"), AtMost(0.5)),
        ("idle_bytes_per_s_per_node", Idle("ours-tls"), AtMost(200.0)),
    ]
};

/// Deliveries to the others with stalled members over those without.
pub const SIBLINGS: (&str, Target) = ("siblings_with_one_stalled_child", Target::AtLeast(0.9));
/// Deliveries that never came under overload.
pub const LOST: (&str, Target) = ("lost_under_overload", Target::AtMost(0.0));

/// One figure of a report.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Judged {
    /// Its name.
    pub name: String,
    /// What it is to be.
    pub target: Target,
    /// What it is.
    pub value: Option<f64>,
    /// Whether that is as it should be; none without a target or a value.
    pub met: Option<bool>,
    /// Why there is no value.
    pub reason: Option<String>,
}

impl Of {
    /// The rows it needs.
    #[must_use]
    pub fn rows(self) -> Vec<&'static str> {
        match self {
            Self::Rate(ours, other)
            | Self::RateByCpu(ours, other)
            | Self::P50(ours, other)
            | Self::P50ByCpu(ours, other) => vec![ours, other],
            Self::Bytes(ours) | Self::Memory(ours) | Self::Idle(ours) => vec![ours],
        }
    }

    /// Its value in one round.
    #[must_use]
    pub fn value(self, round: &Round) -> Option<f64> {
        let both = |ours: &str, other: &str, column: fn(&Row) -> Option<f64>| {
            Some(column(round.get(ours)?)? / column(round.get(other)?)?)
        };
        match self {
            Self::Rate(ours, other) => both(ours, other, |row| row.deliveries_per_s),
            Self::RateByCpu(ours, other) => both(other, ours, |row| row.cpu_us_per_delivery),
            Self::P50(ours, other) => both(ours, other, |row| row.p50_ms),
            Self::P50ByCpu(ours, other) => both(ours, other, |row| row.cpu_us_per_single),
            Self::Bytes(ours) => round.get(ours)?.bytes_vs_minimum,
            Self::Memory(ours) => round.get(ours)?.memory_mb,
            Self::Idle(ours) => round.get(ours)?.idle_bytes_per_s,
        }
    }
}

/// The medians of all rounds beside their targets. `absent` says why a row is not there.
#[must_use]
pub fn judge(
    rounds: &[Round],
    overloads: &[Overload],
    absent: &BTreeMap<String, String>,
) -> Vec<Judged> {
    let why = |rows: &[&str]| {
        let known = rows.iter().find_map(|row| Some(format!("{row}: {}", absent.get(*row)?)));
        known.unwrap_or_else(|| format!("{} not measured in one round", rows.join(", ")))
    };
    let mut all: Vec<Judged> = FIGURES
        .iter()
        .map(|(name, of, target)| {
            let values = rounds.iter().filter_map(|round| of.value(round)).collect();
            judged(name, *target, median(values), || why(&of.rows()))
        })
        .collect();
    let kept = overloads.iter().map(|found| found.stalled_per_s / found.before_per_s).collect();
    all.push(judged(SIBLINGS.0, SIBLINGS.1, median(kept), || why(&["overload"])));
    let lost: u64 = overloads.iter().map(|found| found.lost).sum();
    let lost = (!overloads.is_empty()).then_some(lost as f64);
    all.push(judged(LOST.0, LOST.1, lost, || why(&["overload"])));
    all
}

fn judged(name: &str, target: Target, value: Option<f64>, why: impl Fn() -> String) -> Judged {
    let met = value.and_then(|value| match target {
        Target::AtLeast(bound) => Some(value >= bound),
        Target::AtMost(bound) => Some(value <= bound),
        Target::None => None,
    });
    let reason = value.is_none().then(why);
    Judged { name: name.to_owned(), target, value, met, reason }
}

/// The middle of the values; the lower one of two.
#[must_use]
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len().checked_sub(1)? / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, rate: f64) -> (String, Row) {
        let row = Row { deliveries_per_s: Some(rate), ..Row::default() };
        (name.to_owned(), row)
    }

    #[test]
    fn a_ratio_is_taken_within_a_round_and_without_a_row_there_is_a_reason() {
        let rounds: [Round; 2] = [
            [row("ours-tls", 50.0), row("tls-tree", 200.0)].into(),
            [row("ours-tls", 90.0), row("tls-tree", 180.0), row("iroh-gossip", 10.0)].into(),
        ];
        let absent = [("nats".to_owned(), "not built".to_owned())].into();
        let all = judge(&rounds, &[], &absent);
        let of = |name: &str| all.iter().find(|judged| judged.name == name).unwrap();
        assert_eq!(of("throughput_vs_tls_tree").value, Some(0.25));
        assert_eq!(of("throughput_vs_tls_tree").met, Some(false));
        assert_eq!(of("throughput_vs_iroh_gossip").met, Some(true));
        assert_eq!(of("throughput_vs_nats").reason.as_deref(), Some("nats: not built"));
        assert_eq!(of("throughput_vs_nats").met, None);
        assert_eq!(of("lost_under_overload").value, None);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![]), None);
    }
}
