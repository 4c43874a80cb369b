//! Which link has something to read: each wakes the hub with a bell of its own, so that the hub, once it
//! is awake, looks at those that rang and not at all of them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};

/// Who is woken by all bells.
#[derive(Debug, Default)]
pub(crate) struct Listener(Mutex<Option<Waker>>);

impl Listener {
    /// From now on, this one is.
    pub(crate) fn listen(&self, waker: &Waker) {
        let mut known = self.lock();
        if !known.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *known = Some(waker.clone());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Waker>> {
        // It is replaced as a whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The bell of one link.
#[derive(Debug)]
pub(crate) struct Bell {
    rung: AtomicBool,
    listener: Arc<Listener>,
}

impl Bell {
    /// Rung: nobody has looked at its link yet.
    pub(crate) fn new(listener: Arc<Listener>) -> Arc<Self> {
        Arc::new(Self { rung: AtomicBool::new(true), listener })
    }

    /// Whether it was rung since this was asked last.
    pub(crate) fn take(&self) -> bool {
        self.rung.swap(false, Ordering::AcqRel)
    }

    /// Whoever looked has left something: it wakes nobody.
    pub(crate) fn ring_again(&self) {
        self.rung.store(true, Ordering::Release);
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        if let Some(hub) = &*self.listener.lock() {
            hub.wake_by_ref();
        }
    }
}
