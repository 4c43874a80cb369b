//! One line of the table, as JSON for machines; programs of other workspaces print the same.

use serde::{Deserialize, Serialize};

/// What one way of broadcasting does on this machine. `None` is what a row does not measure.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Row {
    /// Name of the row.
    pub name: String,
    /// `limit`, `ours` or `peer`.
    pub class: String,
    /// Nodes, the origin included.
    pub nodes: usize,
    /// Children of a node, where there is a tree.
    pub fanout: Option<usize>,
    /// Bytes of a message.
    pub size: usize,
    /// Milliseconds until the last node has a single message, median.
    pub p50_ms: Option<f64>,
    /// The same, 99th percentile.
    pub p99_ms: Option<f64>,
    /// Messages times receivers a second, saturated.
    pub deliveries_per_s: Option<f64>,
    /// Bytes on the wire over messages times receivers times size, saturated.
    pub bytes_vs_minimum: Option<f64>,
    /// Memory of a node in MB.
    pub memory_mb: Option<f64>,
    /// Bytes a node sends each second when nothing happens.
    pub idle_bytes_per_s: Option<f64>,
    /// CPU time of a delivery, saturated, all nodes together.
    pub cpu_us_per_delivery: Option<f64>,
    /// CPU time of a delivery of single messages, all nodes together.
    pub cpu_us_per_single: Option<f64>,
    /// Deliveries that never came.
    pub lost: Option<u64>,
    /// What a reader must know.
    pub note: String,
}
