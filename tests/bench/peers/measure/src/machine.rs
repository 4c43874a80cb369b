//! What the kernel counts: bytes over `lo`, memory of a process.

use std::fs;

/// Bytes sent over `lo` in this network namespace so far; `None` where the kernel does not say.
pub(crate) fn loopback_bytes() -> Option<u64> {
    let table = fs::read_to_string("/proc/self/net/dev").ok()?;
    let line = table.lines().find_map(|line| line.trim().strip_prefix("lo:"))?;
    // Columns 0 to 7 are received, 8 is bytes sent (proc(5)).
    line.split_whitespace().nth(8)?.parse().ok()
}

/// Proportional set size of a process (`self` or a number), in bytes; 0 where it cannot be read.
#[must_use]
pub fn pss_bytes(process: &str) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{process}/smaps_rollup")).unwrap_or_default();
    let kib = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
    let kib = kib.and_then(|text| text.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}
