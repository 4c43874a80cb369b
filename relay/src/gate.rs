//! Whether a reader may take the next batch: how a node that cannot keep up slows those before it.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// Open at first.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    shut: AtomicBool,
    opened: Notify,
}

impl Gate {
    /// Opens or shuts it.
    pub(crate) fn set(&self, open: bool) {
        let was_shut = self.shut.swap(!open, Ordering::AcqRel);
        if open && was_shut {
            self.opened.notify_waiters();
        }
    }

    /// Waits until it is open.
    pub(crate) async fn pass(&self) {
        while self.shut.load(Ordering::Acquire) {
            let opened = self.opened.notified();
            // Opened between the look and the wait: the next look sees it.
            if self.shut.load(Ordering::Acquire) {
                opened.await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_waits_passes_when_it_opens() {
        let gate = std::sync::Arc::new(Gate::default());
        gate.pass().await;
        gate.set(false);
        let waiting = tokio::spawn({
            let gate = gate.clone();
            async move { gate.pass().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        gate.set(true);
        waiting.await.unwrap();
    }
}
