//! What a core knows of one link: its role, its quotas, its debts.

use std::collections::VecDeque;

use borgios_types::{NodeId, Time};

use crate::bounds::{
    DISOWN_INTERVAL, DISOWNED_KEPT, DISOWNED_MAX, FETCHES_PER_TICK, FLOOD_MAX, TOKENS_MAX,
    TOKENS_PER_TICK,
};
use crate::frame::Disown;
use crate::io::Role;
use crate::jobs::Forgery;
use crate::position::{BatchId, Origin};

/// One link.
#[derive(Debug)]
pub(crate) struct Neighbour {
    pub(crate) peer: NodeId,
    pub(crate) role: Role,
    /// Its queue is full.
    pub(crate) full: bool,
    /// Bytes it brought that are not stored yet.
    pub(crate) pending_bytes: usize,
    /// Fetches under way to it.
    pub(crate) fetching: usize,
    /// Fetches that may still be sent in this tick.
    pub(crate) fetches_left: u32,
    /// Its fetches that the log reads for.
    pub(crate) serving: usize,
    /// The page of heads to send next begins after this origin.
    pub(crate) page: Option<Option<Origin>>,
    /// When it was last told that it is behind.
    pub(crate) replied: Option<Time>,
    /// Forgeries that it forwarded and has not disowned yet.
    pub(crate) suspects: Vec<Suspect>,
    /// What it disowned and was not blamed for yet; the oldest makes room.
    disowned: VecDeque<BatchId>,
    /// When it was absolved.
    absolved: VecDeque<Time>,
    tokens: u32,
    excess: u32,
}

/// A forgery that a neighbour forwarded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Suspect {
    pub(crate) id: BatchId,
    pub(crate) forgery: Forgery,
    pub(crate) deadline: Time,
}

/// What becomes of a control frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Toll {
    Paid,
    /// Beyond its tokens: dropped.
    Dropped,
    /// Far beyond them.
    Flood,
}

impl Neighbour {
    pub(crate) fn new(peer: NodeId, role: Role) -> Self {
        Self {
            peer,
            role,
            full: false,
            pending_bytes: 0,
            fetching: 0,
            fetches_left: FETCHES_PER_TICK,
            serving: 0,
            page: None,
            replied: None,
            suspects: Vec::new(),
            disowned: VecDeque::new(),
            absolved: VecDeque::new(),
            tokens: TOKENS_MAX,
            excess: 0,
        }
    }

    /// A tick has passed.
    pub(crate) fn refill(&mut self) {
        self.tokens = (self.tokens + TOKENS_PER_TICK).min(TOKENS_MAX);
        self.excess = self.excess.saturating_sub(TOKENS_PER_TICK);
        self.fetches_left = FETCHES_PER_TICK;
    }

    /// Takes `tokens` for a control frame.
    pub(crate) fn pay(&mut self, tokens: u32) -> Toll {
        if let Some(left) = self.tokens.checked_sub(tokens) {
            self.tokens = left;
            return Toll::Paid;
        }
        self.excess = self.excess.saturating_add(tokens);
        if self.excess > FLOOD_MAX { Toll::Flood } else { Toll::Dropped }
    }

    /// It says that it forwarded what it had not verified; false if it was absolved too often.
    pub(crate) fn disowns(&mut self, disown: &Disown, now: Time) -> bool {
        let blamed = self.suspects.len();
        self.suspects.retain(|suspect| suspect.id != disown.id);
        if self.suspects.len() < blamed {
            return self.absolve(now);
        }
        if self.disowned.len() >= DISOWNED_KEPT {
            self.disowned.pop_front();
        }
        self.disowned.push_back(disown.id);
        true
    }

    /// Whether it has disowned this forgery, and may still be absolved.
    pub(crate) fn has_disowned(&mut self, id: BatchId, now: Time) -> bool {
        let Some(index) = self.disowned.iter().position(|disowned| *disowned == id) else {
            return false;
        };
        self.disowned.remove(index);
        self.absolve(now)
    }

    fn absolve(&mut self, now: Time) -> bool {
        while self.absolved.front().is_some_and(|at| now.since(*at) > DISOWN_INTERVAL) {
            self.absolved.pop_front();
        }
        self.absolved.push_back(now);
        self.absolved.len() <= DISOWNED_MAX
    }
}
