//! What the kernel knows about this process: time, CPU, memory, bytes over loopback.

use std::fs;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds of the monotonic clock, the same in every process of a machine.
#[must_use]
pub fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

/// CPU time of this process so far, all threads.
#[must_use]
pub fn cpu() -> Duration {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// Bytes received over loopback in this network namespace so far: every packet counts once.
#[must_use]
pub fn loopback_bytes() -> u64 {
    received_bytes("lo")
}

/// Bytes received over one interface of this network namespace so far.
#[must_use]
pub fn received_bytes(interface: &str) -> u64 {
    let table = fs::read_to_string("/proc/self/net/dev").unwrap_or_default();
    let line =
        table.lines().find_map(|line| line.trim().strip_prefix(interface)?.strip_prefix(':'));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// Memory of this process in bytes: its private pages and its share of the shared ones.
#[must_use]
pub fn memory() -> u64 {
    let table = fs::read_to_string("/proc/self/smaps_rollup").unwrap_or_default();
    let line = table.lines().find_map(|line| line.strip_prefix("Pss:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse().ok());
    kib.unwrap_or(0_u64) * 1024
}

/// The machine's load over the last minute: what else runs here disturbs what is measured.
#[must_use]
pub fn load() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|word| word.parse().ok()).unwrap_or(0.0)
}
