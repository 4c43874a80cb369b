//! What the agent is told, in order, and nothing of it lost: what its queue does not take waits here.
//!
//! Questions about origins are bounded by the core, which asks about so many at a time; what can come
//! again and again is told once while it waits. While much waits, no more batches are taken in.

use std::collections::VecDeque;

use borgios_stream::LogError;
use tokio::sync::mpsc;

use crate::hub::Event;

/// Events that wait above which the hub takes in no more.
const BEHIND: usize = 64;

/// The way to the agent.
pub(crate) struct Told {
    events: mpsc::Sender<Event>,
    waiting: VecDeque<Event>,
}

impl Told {
    pub(crate) fn new(events: mpsc::Sender<Event>) -> Self {
        Self { events, waiting: VecDeque::new() }
    }

    /// Tells it, or lets it wait.
    pub(crate) fn tell(&mut self, event: Event) {
        if self.waiting.is_empty() {
            match self.events.try_send(event) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(event)) => self.waiting.push_back(event),
                // An agent that listens no more has heard all it wanted.
                Err(mpsc::error::TrySendError::Closed(_)) => {}
            }
            return;
        }
        let once = matches!(event, Event::Admit(_));
        if once || !self.waiting.iter_mut().any(|waiting| covers(waiting, &event)) {
            self.waiting.push_back(event);
        }
    }

    /// Whether so much waits that no more is to be taken in.
    pub(crate) fn is_behind(&self) -> bool {
        self.waiting.len() > BEHIND
    }

    /// Whether something waits.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Waits until the agent takes one more, and gives it. Safe to drop half-way.
    pub(crate) async fn pass_on(&mut self) {
        let Ok(room) = self.events.reserve().await else {
            return self.waiting.clear();
        };
        if let Some(event) = self.waiting.pop_front() {
            room.send(event);
        }
    }
}

/// Whether what waits says what is new too, or is made to.
fn covers(waiting: &mut Event, new: &Event) -> bool {
    match (waiting, new) {
        (
            Event::Withheld { origin, upto, told_by },
            Event::Withheld { origin: whose, upto: to, told_by: by },
        ) => {
            let same = origin == whose && told_by == by;
            if same {
                *upto = (*upto).max(*to);
            }
            same
        }
        (Event::LogFailed(old), Event::LogFailed(error)) => {
            // The first reason says more than that it is broken since.
            if *old == LogError::Broken {
                *old = error.clone();
            }
            true
        }
        (Event::Stalled { link, .. }, Event::Stalled { link: other, .. })
        | (Event::Recovered { link, .. }, Event::Recovered { link: other, .. })
        | (Event::Stuck { link, .. }, Event::Stuck { link: other, .. }) => link == other,
        _ => false,
    }
}
