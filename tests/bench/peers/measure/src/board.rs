//! Who has which message: a count and a time for each, written by all nodes at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Messages of one run, at most; a slot costs 16 bytes.
const MESSAGES_MAX: usize = 200_000;

/// Who has which message.
#[derive(Clone)]
pub struct Board(Arc<Slots>);

struct Slots {
    begun: Instant,
    slots: Vec<Slot>,
}

#[derive(Default)]
struct Slot {
    nodes: AtomicU32,
    /// Nanoseconds since `begun`.
    last: AtomicU64,
}

impl Default for Board {
    fn default() -> Self {
        let slots = (0..MESSAGES_MAX).map(|_| Slot::default()).collect();
        Self(Arc::new(Slots { begun: Instant::now(), slots }))
    }
}

impl Board {
    /// Message `number`, of `size` bytes (at least 8): the number, then bytes that depend on it, so that nothing can be compressed away.
    #[must_use]
    pub fn message(number: usize, size: usize) -> Vec<u8> {
        let mut state = number as u64 + 1;
        let mut bytes: Vec<u8> = (0..size)
            .map(|_| {
                // xorshift64
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state.to_le_bytes()[3]
            })
            .collect();
        bytes[..8].copy_from_slice(&(number as u64).to_be_bytes());
        bytes
    }

    /// A node has received this message, for the first time.
    pub fn seen(&self, message: &[u8]) {
        let now = self.now();
        let Some(number) = message.first_chunk::<8>().map(|bytes| u64::from_be_bytes(*bytes))
        else {
            return;
        };
        let Some(slot) = self.0.slots.get(number as usize) else { return };
        slot.last.fetch_max(now.as_nanos() as u64, Ordering::Relaxed);
        slot.nodes.fetch_add(1, Ordering::Release);
    }

    /// How many nodes have it.
    #[must_use]
    pub fn nodes(&self, number: usize) -> u32 {
        self.0.slots[number].nodes.load(Ordering::Acquire)
    }

    /// When the last node so far received it.
    #[must_use]
    pub fn last(&self, number: usize) -> Duration {
        Duration::from_nanos(self.0.slots[number].last.load(Ordering::Relaxed))
    }

    /// Time on the board's clock.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.0.begun.elapsed()
    }

    /// How many messages fit.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.0.slots.len()
    }
}
