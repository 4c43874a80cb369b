//! Two batches that cannot be in one history: one is a forgery, or the origin equivocated.
//!
//! ```text
//!  rival ── Waiting ──▶ Judging ──▶ Reading ──▶ evidence: the stream stops, all neighbours are told
//!             │ the other is forged  │ forged: its link is blamed
//!             ▼                      ▼
//!        takes its place          dropped
//! ```
//!
//! One rival per stream at a time; what comes meanwhile is dropped, for a contradiction shows again
//! in every later batch and in every comparison of heads.

use crate::batch::Batch;
use crate::bounds::{BATCH_MAX, EVIDENCE_MAX};
use crate::core::Core;
use crate::evidence::Evidence;
use crate::frame::Frame;
use crate::io::{LinkId, Output};
use crate::jobs::{Verdict, VerifyJob};
use crate::judging::{id_of, meets};
use crate::log::{Found, LogError, LogJob, Reader};
use crate::position::Origin;
use crate::stream::{Rival, RivalStage, Stage};

impl Core {
    /// A batch whose numbers are all here: mostly the very same one.
    pub(crate) fn on_twice(
        &mut self,
        origin: Origin,
        link: LinkId,
        batch: Batch,
        out: &mut Vec<Output>,
    ) {
        let Some(stream) = self.streams.get(&origin) else { return };
        let (first, last) = (batch.first(), batch.last());
        let other = match stream.pending.iter().find(|pending| meets(pending, first, last)) {
            Some(pending) => pending.batch.bytes() != batch.bytes(),
            // Older ones are told apart by the head that they lead to.
            None if last == stream.head => stream.head_id.is_some_and(|id| id != batch.id()),
            None => false,
        };
        if other {
            self.contest(origin, link, batch, out);
        }
    }

    /// A batch that contradicts a pending or stored one.
    pub(crate) fn contest(
        &mut self,
        origin: Origin,
        link: LinkId,
        batch: Batch,
        out: &mut Vec<Output>,
    ) {
        let Some(stream) = self.streams.get_mut(&origin) else { return };
        if stream.rival.is_some() {
            return;
        }
        stream.rival = Some(Rival { link, batch, stage: RivalStage::Waiting });
        self.on_judged(origin, out);
    }

    /// Something pending was judged: a rival that waited for it has its turn.
    pub(crate) fn on_judged(&mut self, origin: Origin, out: &mut Vec<Output>) {
        let Some(stream) = self.streams.get(&origin) else { return };
        let Some(rival) = &stream.rival else { return };
        let (first, last) = (rival.batch.first(), rival.batch.last());
        let unjudged = stream.pending.iter().any(|pending| {
            meets(pending, first, last) && !matches!(pending.stage, Stage::Storing(..))
        });
        if rival.stage != RivalStage::Waiting || unjudged {
            return;
        }
        let batch = rival.batch.clone();
        let job = self.new_job(origin);
        if let Some(rival) = self.streams.get_mut(&origin).and_then(|s| s.rival.as_mut()) {
            rival.stage = RivalStage::Judging(job);
            out.push(Output::Verify(VerifyJob { job, batch }));
        }
    }

    pub(crate) fn on_rival_judged(
        &mut self,
        origin: Origin,
        verdict: Verdict,
        out: &mut Vec<Output>,
    ) {
        let Some(stream) = self.streams.get_mut(&origin) else { return };
        match verdict {
            Verdict::Bad(forgery) => {
                if let Some(rival) = stream.rival.take() {
                    self.blame(rival.link, false, rival.batch.id(), forgery, out);
                }
            }
            Verdict::Good(_) => self.find_contradicted(origin, out),
        }
    }

    /// A verified batch does not name its predecessor: it is a rival of what is here.
    pub(crate) fn on_broken_chain(&mut self, origin: Origin, index: usize, out: &mut Vec<Output>) {
        let dropped = self.drop_pending(origin, index, out);
        let Some(broken) = dropped.into_iter().next() else { return };
        let (Some(stream), Some(link)) = (self.streams.get_mut(&origin), broken.from) else {
            return;
        };
        stream.rival = Some(Rival { link, batch: broken.batch, stage: RivalStage::Reading });
        self.find_contradicted(origin, out);
    }

    /// Finds the batch that a genuine rival contradicts: pending, or in the log.
    fn find_contradicted(&mut self, origin: Origin, out: &mut Vec<Output>) {
        let Some(stream) = self.streams.get_mut(&origin) else { return };
        let Some(rival) = &stream.rival else { return };
        // The one before it counts too: it may not be named.
        let (first, last) = (rival.batch.first().before(), rival.batch.last());
        let verified = stream.pending.iter().filter(|pending| id_of(pending).is_some());
        let near = verified.filter(|pending| meets(pending, first, last));
        for ours in near.map(|pending| pending.batch.clone()).collect::<Vec<_>>() {
            self.on_contradicted(origin, &ours, out);
        }
        let Some(stream) = self.streams.get_mut(&origin) else { return };
        let Some(rival) = &mut stream.rival else { return };
        rival.stage = RivalStage::Reading;
        out.push(Output::Log(LogJob::Read {
            origin,
            after: first.before(),
            // The one before it, and the one with its number.
            max_bytes: 2 * BATCH_MAX,
            reader: Reader::Evidence,
        }));
    }

    pub(crate) fn on_read_for_evidence(
        &mut self,
        origin: Origin,
        found: Result<Found, LogError>,
        out: &mut Vec<Output>,
    ) {
        if let Ok(Found::Batches(batches)) = found {
            for ours in batches.iter().take(2) {
                self.on_contradicted(origin, ours, out);
            }
        }
        // Nothing left to compare it with: retention has removed it.
        if let Some(stream) = self.streams.get_mut(&origin) {
            stream.rival = None;
        }
    }

    /// Compares a genuine rival with one of ours.
    fn on_contradicted(&mut self, origin: Origin, ours: &Batch, out: &mut Vec<Output>) {
        let Some(stream) = self.streams.get_mut(&origin) else { return };
        let Some(rival) = stream.rival.as_ref() else { return };
        // A copy: evidence must not keep whole batches in memory.
        let copy = |batch: &Batch| bytes::Bytes::copy_from_slice(&batch.envelope());
        if let Ok(evidence) = Evidence::of(copy(ours), copy(&rival.batch)) {
            self.on_evidence(&evidence, out);
        }
    }

    /// An origin equivocated, by our own finding or a neighbour's proof.
    pub(crate) fn on_evidence(&mut self, evidence: &Evidence, out: &mut Vec<Output>) {
        let origin = evidence.origin();
        if evidence.network() != self.config.network {
            return;
        }
        match self.streams.get(&origin) {
            None => return self.ask_about_forger(evidence, out),
            Some(stream) if stream.stopped => return,
            Some(_) => {}
        }
        self.stop_stream(evidence, out);
        self.refuse_own_if_stopped(out);
        out.push(Output::Log(LogJob::Keep(evidence.clone())));
        out.push(Output::Equivocated(evidence.clone()));
        for neighbour in self.links.values_mut() {
            neighbour.warn(evidence);
        }
        self.send_warnings(out);
    }

    /// Sends the evidence whose turn it is; the rest has its turn with the next ticks.
    pub(crate) fn send_warnings(&mut self, out: &mut Vec<Output>) {
        for (link, neighbour) in &mut self.links {
            while let Some(evidence) = neighbour.next_warning() {
                out.push(Output::Send { link: *link, frame: Frame::Evidence(evidence).encode() });
            }
        }
    }

    /// Ends a stream; what is with the log already is still stored and delivered.
    pub(crate) fn stop_stream(&mut self, evidence: &Evidence, out: &mut Vec<Output>) {
        let origin = evidence.origin();
        self.end_fetch(&origin);
        self.leave_digest(origin);
        let stream = self.streams.entry(origin).or_default();
        stream.stopped = true;
        stream.rival = None;
        stream.clear_ahead(&mut self.ahead);
        stream.lack = crate::lack::Lack::default();
        let storing = stream.pending.iter();
        let index = storing.take_while(|entry| matches!(entry.stage, Stage::Storing(..))).count();
        self.drop_pending(origin, index, out);
        self.wants.remove(&origin);
        if self.evidence.len() < EVIDENCE_MAX {
            self.evidence.insert(origin, evidence.clone());
        }
    }

    /// Asks the log again to keep what it could not.
    pub(crate) fn keep_evidence(&mut self, out: &mut Vec<Output>) {
        for origin in std::mem::take(&mut self.unkept) {
            if let Some(evidence) = self.evidence.get(&origin) {
                out.push(Output::Log(LogJob::Keep(evidence.clone())));
            }
        }
    }
}
