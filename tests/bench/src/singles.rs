//! Single messages, one after the other, with time to rest between them.

use std::time::Duration;

use anyhow::Result;

use crate::board::Board;
use crate::machine::now_ns;
use crate::raw_tree::Load;

/// Pause after a message, in which whatever it caused can end.
pub(crate) const REST: Duration = Duration::from_millis(3);
/// Longest wait for one message.
const PATIENCE: Duration = Duration::from_secs(10);
/// Messages before the first that counts: code and caches get warm.
pub(crate) const WARM_UP: usize = 20;

/// Sends `messages` and returns the sorted milliseconds until the last receiver had each.
///
/// # Errors
/// A message that cannot be sent, or does not arrive.
pub async fn late_ms<F>(board: &Board, messages: usize, mut send: F) -> Result<Vec<f64>>
where
    F: AsyncFnMut(u64) -> Result<()>,
{
    let mut late = Vec::with_capacity(messages);
    for number in 0..messages + WARM_UP {
        let target = board.least() + 1;
        let begun = now_ns();
        send(number as u64).await?;
        anyhow::ensure!(board.reach(target, PATIENCE).await, "message {number} did not arrive");
        if number >= WARM_UP {
            late.push(board.last_ns().saturating_sub(begun) as f64 / 1e6);
        }
        tokio::time::sleep(REST).await;
    }
    late.sort_by(f64::total_cmp);
    Ok(late)
}

/// Microseconds of processor for each delivery, where `cpu` was spent on all messages of
/// [`late_ms`]: what a busy machine disturbs less than the time until the last node has one.
#[must_use]
pub fn cpu_us(cpu: Duration, load: &Load) -> f64 {
    let deliveries = (load.singles + WARM_UP) * (load.nodes - 1);
    cpu.as_secs_f64() * 1e6 / deliveries as f64
}

/// The value below which `percent` of the sorted `values` lie.
#[must_use]
pub fn percentile(values: &[f64], percent: usize) -> Option<f64> {
    values.get((values.len() * percent / 100).min(values.len().saturating_sub(1))).copied()
}
