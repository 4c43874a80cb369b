//! All streams of one node, as a state machine without IO.
//!
//! ```text
//!  a batch from a link, or an answer to a fetch         the application's messages
//!      │ arriving.rs: network, epoch, admission,            │ publishing.rs: collect, sign
//!      ▼   number: twice? too early? next!                  ▼
//!   pending ── Verify ──▶ judging.rs: verdict, chain ──▶ pending
//!      │                      │ forged: the link pays         │
//!      │ forward              │ two histories: contesting.rs  │ Append
//!      ▼ (relay = verified)   ▼                               ▼
//!   other tree links       stopped                  storing.rs: Stored
//!                                                      │ own: forward, Published
//!                                                      ▼ delivering.rs
//!                                                    application
//! ```
//!
//! What is missing is found by comparing heads (`comparing.rs`) or by a gap in the numbers, and
//! fetched (`fetching.rs`).
//!
//! Invariants, checked after every step of the simulation by [`Core::check`]:
//!  1. what is pending of a stream follows its head, in order of numbers;
//!  2. only what was verified is appended, only what was stored is delivered, each once, in order;
//!  3. this node's own batches are sent only after they were stored;
//!  4. every list, map and queue has a bound of `bounds.rs`, whatever neighbours send.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use borgios_types::{Digest, PublicKey, Time};
use bytes::Bytes;

use crate::admitting::{Asked, Newcomer};
use crate::ahead::Shares;
use crate::bounds::{self, COMPARE_INTERVAL};
use crate::evidence::Evidence;
use crate::frame::{Frame, HeadsDigest};
use crate::io::{Input, LinkId, Misdeed, Now, Output, Role};
use crate::jobs::JobId;
use crate::log::{LogAnswer, Reader, Recovered};
use crate::neighbour::{Neighbour, Toll};
use crate::position::{Origin, Position};
use crate::publishing::Own;
use crate::stream::{Stage, Stream};

/// When a node forwards what came from a tree neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relay {
    /// After it has verified it: a forgery goes no further than one node.
    Verified,
    /// Before, on the link's authentication: one verification less of latency per hop. A forgery goes
    /// further, and costs whoever began it the link.
    Link,
}

/// What a core must know about itself.
#[derive(Clone, Debug)]
pub struct Config {
    /// The network.
    pub network: Digest,
    /// This node, an origin itself.
    pub me: PublicKey,
    /// When it forwards.
    pub relay: Relay,
}

/// All streams of one node.
#[derive(Debug)]
pub struct Core {
    pub(crate) config: Config,
    pub(crate) me: Origin,
    /// The time of the input in hand.
    pub(crate) now: Now,
    pub(crate) links: BTreeMap<LinkId, Neighbour>,
    pub(crate) streams: BTreeMap<Origin, Stream>,
    /// Origins that the shell was asked about.
    pub(crate) asked: BTreeMap<Origin, Asked>,
    /// Bytes of batches held until it answers.
    pub(crate) held_bytes: usize,
    /// Origins of which it said that their records may come.
    pub(crate) newcomers: BTreeMap<Origin, Newcomer>,
    /// Origins that are no members, and until when they are not asked about again.
    pub(crate) refused: BTreeMap<Origin, Time>,
    /// Evidence against origins whose streams are stopped.
    pub(crate) evidence: BTreeMap<Origin, Evidence>,
    /// Evidence that the log has not kept yet.
    pub(crate) unkept: BTreeSet<Origin>,
    /// Whose batch a worker judges.
    pub(crate) jobs: BTreeMap<JobId, Origin>,
    pub(crate) next_job: u64,
    /// Bytes of all streams between arrival and storage.
    pub(crate) pending_bytes: usize,
    /// Bytes of all streams that came too early, by link.
    pub(crate) ahead: Shares,
    /// Batches that were forwarded and are not judged yet.
    pub(crate) unjudged: usize,
    /// When something pending was last found to be a forgery.
    pub(crate) forged_at: Option<Time>,
    /// Of all heads.
    pub(crate) digest: HeadsDigest,
    /// Streams of which something is missing.
    pub(crate) wants: BTreeSet<Origin>,
    /// Streams whose application is served from the log.
    pub(crate) lagging: BTreeSet<Origin>,
    /// Bytes that the application has not taken yet.
    pub(crate) given_bytes: usize,
    pub(crate) own: Own,
    /// When the log, which failed, is tried again, and the pause before that.
    pub(crate) store_retry: Option<(Time, Duration)>,
    compare_at: Time,
    /// Streams of which something came late and was not told over cross links yet.
    pub(crate) late: BTreeSet<Origin>,
    /// No such telling before this time.
    pub(crate) tell_at: Time,
    /// The last stream told then.
    pub(crate) told_upto: Origin,
}

/// How much a core holds, for metrics and tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Streams followed.
    pub streams: usize,
    /// Links.
    pub links: usize,
    /// Bytes between arrival and storage.
    pub pending_bytes: usize,
    /// Bytes kept because they came too early.
    pub ahead_bytes: usize,
    /// Bytes that wait for an admission.
    pub held_bytes: usize,
    /// Bytes that wait to be published.
    pub waiting_bytes: usize,
    /// Bytes that the application has not taken yet.
    pub given_bytes: usize,
    /// Streams of which something is missing.
    pub wants: usize,
}

impl Core {
    /// A core that goes on from what the log held. Its streams are taken to be members': the shell
    /// says [`Admitted`](Input::Admitted) where one is not any more.
    #[must_use]
    pub fn new(config: Config, recovered: Recovered) -> Self {
        let me = Origin::from(config.me);
        let mut core = Self {
            me,
            now: Now::default(),
            links: BTreeMap::new(),
            streams: BTreeMap::from([(me, Stream::default())]),
            asked: BTreeMap::new(),
            held_bytes: 0,
            refused: BTreeMap::new(),
            newcomers: BTreeMap::new(),
            evidence: BTreeMap::new(),
            unkept: BTreeSet::new(),
            jobs: BTreeMap::new(),
            next_job: 0,
            pending_bytes: 0,
            ahead: Shares::default(),
            unjudged: 0,
            forged_at: None,
            digest: HeadsDigest::default(),
            wants: BTreeSet::new(),
            lagging: BTreeSet::new(),
            given_bytes: 0,
            own: Own::default(),
            store_retry: None,
            compare_at: Time(0),
            late: BTreeSet::new(),
            tell_at: Time(0),
            told_upto: Origin([0; 32]),
            config,
        };
        for found in recovered.streams {
            let stream = core.streams.entry(found.head.origin).or_default();
            stream.head = found.head.last;
            stream.head_id = Some(found.head.id);
            stream.delivery.delivered = found.taken;
            if found.taken < found.head.last {
                stream.delivery.lagging = true;
                core.lagging.insert(found.head.origin);
            }
            core.enter_digest(found.head.origin);
        }
        core.own = Own::recovered(recovered.own_epoch, core.streams.get(&me));
        for evidence in recovered.stopped {
            core.stop_stream(&evidence, &mut Vec::new());
        }
        core
    }

    /// Applies one input and pushes what the shell must do, in order, to `out`.
    ///
    /// Never blocks and never fails: an input that the present state has no use for is dropped.
    pub fn handle(&mut self, now: Now, input: Input, out: &mut Vec<Output>) {
        self.now = now;
        match input {
            Input::LinkUp { link, peer, role } => {
                self.links.insert(link, Neighbour::new(peer, role));
                self.send_digest(link, out);
            }
            Input::RoleChanged { link, role } => {
                if let Some(neighbour) = self.links.get_mut(&link) {
                    neighbour.role = role;
                    self.send_heads_from_start(link, out);
                }
            }
            Input::LinkDown(link) => self.on_link_down(link, out),
            Input::LinkFull(link) => {
                if let Some(neighbour) = self.links.get_mut(&link) {
                    neighbour.full = true;
                }
            }
            Input::LinkDrained(link) => {
                if let Some(neighbour) = self.links.get_mut(&link) {
                    neighbour.full = false;
                    self.send_heads_from_start(link, out);
                }
            }
            Input::Frame { link, frame } => self.on_frame(link, frame, out),
            Input::Garbage { link, error } => self.cut(link, Misdeed::Garbage(error), out),
            Input::Admitted { origin, admission } => self.on_admitted(origin, admission, out),
            Input::Verified { job, verdict } => self.on_verified(job, verdict, out),
            Input::Signed(signed) => self.on_signed(signed, out),
            Input::Log(answer) => self.on_log(answer, out),
            Input::LogReopened(recovered) => self.on_reopened(recovered, out),
            Input::Publish { ticket, kind, durability, body } => {
                self.on_publish(ticket, kind, durability, body, out);
            }
            Input::PublishMore(more) => self.on_publish_more(more, out),
            Input::Taken { origin, upto } => self.on_taken(origin, upto, out),
            Input::Tick => self.on_tick(out),
        }
    }

    fn on_frame(&mut self, link: LinkId, frame: Frame, out: &mut Vec<Output>) {
        let cost = match &frame {
            Frame::Batch(_) => 0,
            Frame::Heads(_) | Frame::Evidence(_) => bounds::HEADS_TOKENS,
            Frame::Served(_) | Frame::Gone(_) => 0,
            Frame::Digest(_) | Frame::Fetch(_) | Frame::Disown(_) => 1,
        };
        match self.links.get_mut(&link).map(|neighbour| neighbour.pay(cost)) {
            Some(Toll::Paid) => {}
            Some(Toll::Flood) => return self.cut(link, Misdeed::Flood, out),
            Some(Toll::Dropped) | None => return,
        }
        match frame {
            Frame::Batch(batch) => self.on_batch(link, batch, out),
            Frame::Digest(digest) => self.on_digest(link, &digest, out),
            Frame::Heads(heads) => self.on_heads(link, &heads, out),
            Frame::Fetch(fetch) => self.on_fetch(link, &fetch, out),
            Frame::Served(served) => self.on_served(link, &served, out),
            Frame::Gone(gone) => self.on_gone(link, &gone, out),
            Frame::Evidence(evidence) => self.on_evidence(&evidence, out),
            Frame::Disown(disown) => self.on_disown(link, &disown, out),
        }
    }

    fn on_log(&mut self, answer: LogAnswer, out: &mut Vec<Output>) {
        match answer {
            LogAnswer::Stored { job, origin } => self.on_stored(origin, job, out),
            LogAnswer::NotStored { job, origin, error: _ } => {
                self.on_not_stored(origin, job, out);
            }
            LogAnswer::NotKept { origin, error: _ } => {
                self.unkept.insert(origin);
            }
            LogAnswer::Read { origin, after, reader, found } => match reader {
                Reader::Link(link) => self.on_read_for_link(origin, link, found, out),
                Reader::Application => self.on_read_for_application(origin, after, found, out),
                Reader::Evidence => self.on_read_for_evidence(origin, found, out),
            },
        }
    }

    fn on_tick(&mut self, out: &mut Vec<Output>) {
        self.links.values_mut().for_each(Neighbour::refill);
        self.cut_suspects(out);
        self.forget_questions();
        self.ask_again(out);
        self.end_grace(out);
        self.time_out_fetches(out);
        self.fetch_more(out);
        self.serve_laggards(out);
        self.keep_evidence(out);
        self.send_warnings(out);
        self.tell_late(out);
        let compare = self.now.time >= self.compare_at;
        if compare {
            self.compare_at = self.now.time + COMPARE_INTERVAL;
        }
        let links: Vec<LinkId> = self.links.keys().copied().collect();
        for link in links {
            self.send_page(link, out);
            if compare {
                self.compare(link, out);
            }
        }
    }

    /// Sends one frame, unless the link's queue is full.
    pub(crate) fn send(&self, link: LinkId, frame: Bytes, out: &mut Vec<Output>) {
        if self.links.get(&link).is_some_and(|neighbour| !neighbour.full) {
            out.push(Output::Send { link, frame });
        }
    }

    /// Sends one batch to every tree link but one.
    pub(crate) fn forward(&self, bytes: &Bytes, except: Option<LinkId>, out: &mut Vec<Output>) {
        for (link, neighbour) in &self.links {
            if neighbour.role == Role::Tree && !neighbour.full && Some(*link) != except {
                out.push(Output::Send { link: *link, frame: bytes.clone() });
            }
        }
    }

    /// Cuts a neighbour off.
    pub(crate) fn cut(&mut self, link: LinkId, why: Misdeed, out: &mut Vec<Output>) {
        if self.links.contains_key(&link) {
            out.push(Output::Cut { link, why });
            self.on_link_down(link, out);
        }
    }

    fn on_link_down(&mut self, link: LinkId, out: &mut Vec<Output>) {
        if self.links.remove(&link).is_some() {
            if self.ahead.of(link) > 0 {
                for stream in self.streams.values_mut() {
                    stream.drop_ahead_of(link, &mut self.ahead);
                }
            }
            self.abandon_fetches(link);
            self.fetch_more(out);
        }
    }

    pub(crate) fn new_job(&mut self, origin: Origin) -> JobId {
        let job = self.next_job();
        self.jobs.insert(job, origin);
        job
    }

    /// A name for a job, larger than all before.
    pub(crate) fn next_job(&mut self) -> JobId {
        self.next_job += 1;
        JobId(self.next_job)
    }

    /// How much this core holds.
    #[must_use]
    pub fn load(&self) -> Load {
        Load {
            streams: self.streams.len(),
            links: self.links.len(),
            pending_bytes: self.pending_bytes,
            ahead_bytes: self.ahead.all(),
            held_bytes: self.held_bytes,
            waiting_bytes: self.own.waiting_bytes,
            given_bytes: self.given_bytes,
            wants: self.wants.len(),
        }
    }

    /// Until when nothing is under way that a tick would bring further, if no input comes before: an
    /// idle server need not be woken. None while something is.
    #[must_use]
    pub fn rests_until(&self) -> Option<Time> {
        let rests = self.wants.is_empty()
            && self.lagging.is_empty()
            && self.asked.is_empty()
            && self.unkept.is_empty()
            && self.store_retry.is_none()
            && self.pending_bytes == 0
            && self.links.values().all(Neighbour::is_at_rest);
        let late = (!self.late.is_empty()).then_some(self.tell_at);
        let next = self.newcomers.values().filter_map(Newcomer::next).chain(late).min();
        rests.then(|| next.map_or(self.compare_at, |next| next.min(self.compare_at)))
    }

    /// How far a stream is stored here: none where it is not followed.
    #[must_use]
    pub fn head(&self, origin: &Origin) -> Option<Position> {
        self.streams.get(origin).map(|stream| stream.head)
    }

    /// Evidence against an origin whose stream is stopped.
    #[must_use]
    pub fn evidence(&self, origin: &Origin) -> Option<&Evidence> {
        self.evidence.get(origin)
    }

    /// Who is at the other end of a link.
    #[must_use]
    pub fn peer(&self, link: LinkId) -> Option<borgios_types::NodeId> {
        self.links.get(&link).map(|neighbour| neighbour.peer)
    }

    /// Checks the invariants; for simulations, it looks at everything.
    ///
    /// # Errors
    /// The one that does not hold.
    pub fn check(&self) -> Result<(), String> {
        let (mut bytes, mut unjudged) = (0, 0);
        for (origin, stream) in &self.streams {
            let mut last = stream.head;
            let mut storing = true;
            for pending in &stream.pending {
                bytes += pending.batch.len();
                let judging = matches!(pending.stage, Stage::Judging(_));
                unjudged += usize::from(judging && pending.forwarded);
                let is_storing = matches!(pending.stage, Stage::Storing(..));
                if pending.batch.first() <= last || (is_storing && !storing) {
                    return Err(format!("{origin}: pending out of order after {last}"));
                }
                if pending.from.is_none() && pending.forwarded {
                    return Err(format!("{origin}: own batch sent before it was stored"));
                }
                last = pending.batch.last();
                storing = is_storing;
            }
            if stream.delivery.delivered > stream.head {
                return Err(format!("{origin}: delivered what is not stored"));
            }
        }
        if unjudged != self.unjudged || unjudged > bounds::UNJUDGED_MAX {
            return Err(format!(
                "{unjudged} batches forwarded unjudged, {} counted",
                self.unjudged
            ));
        }
        self.check_ahead()?;
        let most = bounds::PENDING_MAX + bounds::OWN_PENDING_MAX * bounds::BATCH_MAX;
        if bytes != self.pending_bytes || bytes > most {
            return Err(format!("{bytes} bytes pending, {} counted", self.pending_bytes));
        }
        if self.held_bytes > bounds::HELD_MAX || self.asked.len() > bounds::ASKED_MAX {
            return Err("too much is held until an origin is admitted".to_owned());
        }
        if self.newcomers.len() > bounds::NEWCOMERS_MAX {
            return Err("too many origins are asked about again".to_owned());
        }
        if !self.late.iter().all(|origin| self.streams.contains_key(origin)) {
            return Err("a stream that is not followed is late".to_owned());
        }
        if self.streams.len() > bounds::STREAMS_MAX {
            return Err("too many streams".to_owned());
        }
        Ok(())
    }

    fn check_ahead(&self) -> Result<(), String> {
        let (mut all, mut shares) = (0, Shares::default());
        for (origin, stream) in &self.streams {
            let bytes: usize = stream.ahead.values().map(|(_, batch)| batch.len()).sum();
            if bytes != stream.ahead_bytes || bytes > bounds::AHEAD_MAX {
                return Err(format!(
                    "{origin}: {bytes} bytes ahead, {} counted",
                    stream.ahead_bytes
                ));
            }
            if !stream.ahead.values().all(|(link, _)| self.links.contains_key(link)) {
                return Err(format!("{origin}: kept ahead of a link that is gone"));
            }
            all += bytes;
            stream.ahead.values().for_each(|(link, batch)| shares.take(*link, batch));
        }
        if shares != self.ahead {
            return Err(format!("ahead of streams: {shares:?}, counted {:?}", self.ahead));
        }
        let link_over = |link: &LinkId| self.ahead.of(*link) > bounds::LINK_AHEAD_MAX;
        let over = all > bounds::NODE_AHEAD_MAX || self.links.keys().any(link_over);
        if all != self.ahead.all() || over {
            return Err(format!("{all} bytes ahead of all streams, {} counted", self.ahead.all()));
        }
        Ok(())
    }

    /// Position of the last message stored or pending of a stream.
    pub(crate) fn seen(&self, origin: &Origin) -> Position {
        self.streams.get(origin).map_or(Position::START, Stream::seen)
    }
}
