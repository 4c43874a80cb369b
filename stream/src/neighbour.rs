//! What a core knows of one link: its role, its quotas, its debts.

use std::collections::{BTreeMap, VecDeque};

use borgios_types::{NodeId, Time};

use crate::bounds::{
    BOASTS_MAX, DISOWN_INTERVAL, DISOWNED_KEPT, DISOWNED_MAX, DISTRUST_MAX, DISTRUST_MIN,
    EVIDENCE_MAX, FETCH_SHARE, FETCH_WINDOW, FETCH_WINDOW_MIN, FETCHES_PER_LINK, FETCHES_PER_TICK,
    FLOOD_MAX, TOKENS_MAX, TOKENS_PER_TICK, WARNINGS_PER_TICK,
};
use crate::evidence::Evidence;
use crate::frame::{Disown, HeadsDigest};
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
    fetching: usize,
    /// Most bytes that the next one may ask for, by how it answered the last ones.
    window: usize,
    /// How often in a row it did not have what it said, and how often it was distrusted.
    boasts: u32,
    lies: u32,
    /// Until then the others are asked first.
    distrusted: Option<Time>,
    /// Fetches that may still be sent in this tick.
    pub(crate) fetches_left: u32,
    /// Its fetches that the log reads for, oldest first: most bytes of each answer.
    pub(crate) serving: VecDeque<usize>,
    /// The page of heads to send next begins after this origin.
    pub(crate) page: Option<Option<Origin>>,
    /// The digest that it was sent last, and when.
    pub(crate) compared: Option<(HeadsDigest, Time)>,
    /// The digest that it sent last.
    pub(crate) theirs: Option<HeadsDigest>,
    /// When it was last told that it is behind.
    pub(crate) replied: Option<Time>,
    /// When it was last sent evidence, which must not wait for such news of busy streams.
    pub(crate) warned: Option<Time>,
    /// Evidence that it is to be sent.
    warnings: BTreeMap<Origin, Evidence>,
    /// Pieces of it that may still be sent in this tick.
    warnings_left: u32,
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
            window: FETCH_WINDOW,
            boasts: 0,
            lies: 0,
            distrusted: None,
            fetches_left: FETCHES_PER_TICK,
            serving: VecDeque::new(),
            page: None,
            compared: None,
            theirs: None,
            replied: None,
            warned: None,
            warnings: BTreeMap::new(),
            warnings_left: WARNINGS_PER_TICK,
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
        self.warnings_left = WARNINGS_PER_TICK;
    }

    /// Whether a tick would change nothing here.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.page.is_none()
            && self.suspects.is_empty()
            && self.serving.is_empty()
            && self.tokens == TOKENS_MAX
            && self.excess == 0
            && self.fetches_left == FETCHES_PER_TICK
            && self.warnings.is_empty()
            && self.warnings_left == WARNINGS_PER_TICK
    }

    /// It is to be sent this evidence, if not too much of it waits.
    pub(crate) fn warn(&mut self, evidence: &Evidence) {
        if self.warnings.len() < EVIDENCE_MAX {
            self.warnings.insert(evidence.origin(), evidence.clone());
        }
    }

    /// The next piece of evidence that may be sent now.
    pub(crate) fn next_warning(&mut self) -> Option<Evidence> {
        if self.full || self.warnings.is_empty() {
            return None;
        }
        self.warnings_left = self.warnings_left.checked_sub(1)?;
        self.warnings.pop_first().map(|(_, evidence)| evidence)
    }

    /// Whether it can be asked now.
    pub(crate) fn is_askable(&self) -> bool {
        self.fetching < FETCHES_PER_LINK && self.fetches_left > 0 && !self.full
    }

    /// A request is sent; the most bytes it asks for: all answers under way fit the queue of whoever
    /// gives them. One batch, where `one` is enough.
    pub(crate) fn begin_fetch(&mut self, one: bool) -> usize {
        let window = if self.fetching == 0 { self.window } else { self.window.min(FETCH_SHARE) };
        self.fetching += 1;
        self.fetches_left = self.fetches_left.saturating_sub(1);
        if one { 0 } else { window }
    }

    /// It is under way no more.
    pub(crate) fn end_fetch(&mut self) {
        self.fetching = self.fetching.saturating_sub(1);
    }

    /// Whether others are asked first, for it did not keep its word.
    pub(crate) fn is_distrusted(&self, now: Time) -> bool {
        self.distrusted.is_some_and(|until| now < until)
    }

    /// It brought what it had said.
    pub(crate) fn kept_its_word(&mut self, quick: bool) {
        (self.boasts, self.lies, self.distrusted) = (0, 0, None);
        if quick {
            self.window = (self.window * 2).min(FETCH_WINDOW);
        }
    }

    /// It has not what it said to have. Once may be bad luck: it stores it right now.
    pub(crate) fn boasted(&mut self, now: Time) {
        self.boasts += 1;
        if self.boasts >= BOASTS_MAX {
            self.distrust(now);
        }
    }

    /// Its answer did not come in time, or only `some` of it.
    pub(crate) fn was_late(&mut self, now: Time, some: bool) {
        self.window = (self.window / 2).max(FETCH_WINDOW_MIN);
        if !some {
            self.distrust(now);
        }
    }

    fn distrust(&mut self, now: Time) {
        self.boasts = 0;
        let pause = DISTRUST_MIN * 2_u32.saturating_pow(self.lies.min(16));
        self.lies += 1;
        self.distrusted = Some(now + pause.min(DISTRUST_MAX));
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
