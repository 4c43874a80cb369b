//! One row of the benchmark's table, as one line of JSON.

use serde::Serialize;

/// One row of the benchmark's table; the benchmark's own rows have the same fields.
#[derive(Debug, Serialize)]
pub struct Row {
    /// Name of the row.
    pub name: &'static str,
    /// `peer`, for all of these.
    pub class: &'static str,
    /// How many nodes, all on this machine.
    pub nodes: usize,
    /// Bytes of a message.
    pub size: usize,
    /// Milliseconds until the last node has a single message, median.
    pub p50_ms: f64,
    /// The same, 99th percentile.
    pub p99_ms: f64,
    /// Messages times receiving nodes per second, with as many messages on their way as the window allows.
    pub deliveries_per_s: f64,
    /// Bytes over `lo` in that time, divided by deliveries times the bytes of a message.
    pub bytes_vs_minimum: f64,
    /// Memory (PSS) that a node added, in millions of bytes, after all this.
    pub memory_mb: f64,
    /// Bytes over `lo` per second and node while nothing is sent.
    pub idle_bytes_per_s: f64,
    /// Deliveries of the saturated part that never came.
    pub lost: u64,
    /// What a reader must know.
    pub note: &'static str,
}
