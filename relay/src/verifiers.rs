//! Threads that verify beside the relaying, with less claim to the processor than it has.

use std::sync::{Arc, Mutex, PoisonError, mpsc};

use borgios_stream::{Input, VerifyJob};
use tokio::sync::mpsc::UnboundedSender;

use crate::ready_keys::ReadyKeys;

/// How much less: relaying what a neighbour vouches for goes before looking at it.
const NICE: i32 = 10;

/// A few threads for all hubs of a process. Clones share them; they end with the last clone.
#[derive(Clone, Debug)]
pub struct Verifiers {
    jobs: mpsc::Sender<(VerifyJob, UnboundedSender<Input>)>,
}

impl Verifiers {
    /// Starts `threads` threads.
    ///
    /// # Panics
    /// If the system gives no threads, at the start of a program.
    #[must_use]
    pub fn start(threads: usize) -> Self {
        let (jobs, waiting) = mpsc::channel::<(VerifyJob, UnboundedSender<Input>)>();
        let waiting = Arc::new(Mutex::new(waiting));
        for number in 0..threads {
            let waiting = waiting.clone();
            std::thread::Builder::new()
                .name(format!("verify-{number}"))
                .spawn(move || verify(&waiting))
                .expect("the system gives threads");
        }
        Self { jobs }
    }

    /// Answers to `hub`. How much waits is bounded by the core, which has only so many jobs out.
    pub(crate) fn run(&self, job: VerifyJob, hub: UnboundedSender<Input>) {
        // The threads live as long as this.
        let _ = self.jobs.send((job, hub));
    }
}

fn verify(waiting: &Mutex<mpsc::Receiver<(VerifyJob, UnboundedSender<Input>)>>) {
    // Without it, verification competes with relaying: slower, not wrong.
    let _ = rustix::process::nice(NICE);
    let mut keys = ReadyKeys::default();
    loop {
        let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((job, hub)) = next else { return };
        // The hub may have ended.
        let _ = hub.send(keys.judge(&job));
    }
}
