//! Verdicts come in any order; what follows from them happens in the order of numbers.

use crate::arriving::Way;
use crate::bounds::{DISOWN_GRACE, DISOWNED_KEPT, DISOWNED_MAX};
use crate::core::Core;
use crate::frame::{Disown, Frame};
use crate::io::{LinkId, Misdeed, Output, Role};
use crate::jobs::{Forgery, JobId, Verdict};
use crate::log::LogJob;
use crate::neighbour::Suspect;
use crate::position::{BatchId, Origin, Position};
use crate::stream::{Pending, Rival, RivalStage, Stage};

impl Core {
    pub(crate) fn on_verified(&mut self, job: JobId, verdict: Verdict, out: &mut Vec<Output>) {
        let Some(origin) = self.jobs.remove(&job) else { return };
        let Some(stream) = self.streams.get_mut(&origin) else { return };
        let judged = Stage::Judging(job);
        if let Some(pending) = stream.pending.iter_mut().find(|pending| pending.stage == judged) {
            if pending.forwarded {
                self.unjudged -= 1;
            }
            pending.stage = match verdict {
                Verdict::Good(id) => Stage::Verified(id),
                Verdict::Bad(forgery) => {
                    self.forged_at = Some(self.now.time);
                    Stage::Forged(forgery)
                }
            };
            self.advance(origin, out);
        } else if stream.rival.as_ref().is_some_and(|rival| rival.stage == RivalStage::Judging(job))
        {
            self.on_rival_judged(origin, verdict, out);
        }
    }

    /// Moves on every batch whose predecessors are all verified.
    fn advance(&mut self, origin: Origin, out: &mut Vec<Output>) {
        loop {
            let Some(stream) = self.streams.get_mut(&origin) else { return };
            let storing = |pending: &Pending| matches!(pending.stage, Stage::Storing(..));
            let index = stream.pending.iter().take_while(|pending| storing(pending)).count();
            let (before, before_id) = match index.checked_sub(1).map(|i| &stream.pending[i]) {
                Some(pending) => (pending.batch.last(), id_of(pending)),
                None => (stream.head, stream.head_id),
            };
            let Some(pending) = stream.pending.get_mut(index) else { return };
            let id = match pending.stage {
                Stage::Judging(_) | Stage::Storing(..) => return,
                Stage::Forged(forgery) => return self.on_forged(origin, index, forgery, out),
                Stage::Verified(id) => id,
            };
            let batch = pending.batch.clone();
            let follows = before.is_followed_by(batch.first());
            if follows && before_id.is_some_and(|before| before != batch.previous()) {
                return self.on_broken_chain(origin, index, out);
            }
            let from = pending.from;
            let forwarded = pending.forwarded || batch.last() <= stream.sent;
            stream.sent = stream.sent.max(batch.last());
            let job = self.next_job();
            if let Some(pending) = self.pending_mut(&origin, index) {
                pending.stage = Stage::Storing(id, job);
                pending.forwarded = true;
            }
            if !forwarded {
                self.forward(batch.bytes(), from, out);
            }
            let (after, own) = (before, false);
            out.push(Output::Log(LogJob::Append { job, origin, batch, id, after, own }));
            self.on_judged(origin, out);
        }
    }

    /// The batch at `index` is a forgery: whoever brought it pays, what follows it is fetched anew.
    fn on_forged(&mut self, origin: Origin, index: usize, forgery: Forgery, out: &mut Vec<Output>) {
        let stream = self.streams.get_mut(&origin);
        let waiting = |rival: &mut Rival| rival.stage == RivalStage::Waiting;
        let rival = stream.and_then(|stream| stream.rival.take_if(waiting));
        let dropped = self.drop_pending(origin, index, out);
        let Some(forged) = dropped.first() else { return };
        let (first, id, answer) = (forged.batch.first(), forged.batch.id(), forged.answer);
        let Some(link) = forged.from else { return };
        if let Some(stream) = self.streams.get_mut(&origin) {
            stream.drop_ahead_of(link, &mut self.ahead);
        }
        self.end_fetch(&origin);
        self.blame(link, answer, id, forgery, out);
        // The genuine one may have come and waited for the verdict.
        if let Some(rival) = rival
            && self.links.contains_key(&rival.link)
        {
            self.place(origin, rival.link, rival.batch, Way::Flood, out);
        }
        let other = self
            .links
            .iter()
            .find(|(other, neighbour)| **other != link && neighbour.role == Role::Tree);
        if let Some((other, _)) = other {
            self.want(origin, first, *other, out);
        }
        self.sign_next(out);
    }

    /// Full queues are told too, and have room for it: what it names may have been the last that fitted.
    fn disown(&self, origin: Origin, dropped: &[Pending], out: &mut Vec<Output>) {
        let unverified = |pending: &&Pending| pending.forwarded && id_of(pending).is_none();
        for pending in dropped.iter().filter(unverified).take(DISOWNED_KEPT) {
            let (first, id) = (pending.batch.first(), pending.batch.id());
            let frame = Frame::Disown(Disown { origin, first, id }).encode();
            for (link, neighbour) in &self.links {
                if neighbour.role == Role::Tree && Some(*link) != pending.from {
                    out.push(Output::Send { link: *link, frame: frame.clone() });
                }
            }
        }
    }

    /// Cuts off whoever brought a forgery; at once where an honest node cannot have, else when it
    /// has not disowned it within the grace: it may have forwarded it before it verified it.
    pub(crate) fn blame(
        &mut self,
        link: LinkId,
        answer: bool,
        id: BatchId,
        forgery: Forgery,
        out: &mut Vec<Output>,
    ) {
        let deadline = self.now.time + DISOWN_GRACE;
        let Some(neighbour) = self.links.get_mut(&link) else { return };
        let at_once = answer || neighbour.role == Role::Cross;
        if !at_once && neighbour.has_disowned(id, self.now.time) {
            return;
        }
        if at_once || neighbour.suspects.len() >= DISOWNED_MAX {
            return self.cut(link, Misdeed::Forgery(forgery), out);
        }
        neighbour.suspects.push(Suspect { id, forgery, deadline });
    }

    pub(crate) fn on_disown(&mut self, link: LinkId, disown: &Disown, out: &mut Vec<Output>) {
        let now = self.now.time;
        let fair = self.links.get_mut(&link).is_none_or(|known| known.disowns(disown, now));
        if !fair {
            self.cut(link, Misdeed::Flood, out);
        }
    }

    /// The grace of some is over.
    pub(crate) fn cut_suspects(&mut self, out: &mut Vec<Output>) {
        let now = self.now.time;
        let over = self.links.iter().filter_map(|(link, neighbour)| {
            let suspect = neighbour.suspects.iter().find(|suspect| suspect.deadline <= now)?;
            Some((*link, suspect.forgery))
        });
        for (link, forgery) in over.collect::<Vec<_>>() {
            self.cut(link, Misdeed::Forgery(forgery), out);
        }
    }

    fn pending_mut(&mut self, origin: &Origin, index: usize) -> Option<&mut Pending> {
        self.streams.get_mut(origin)?.pending.get_mut(index)
    }

    /// Drops what is pending of a stream from `index` on; a rival that waits for it waits no more.
    ///
    /// Those to whom it was forwarded unverified are told: some of it may be forged, and nobody
    /// here will ever know.
    pub(crate) fn drop_pending(
        &mut self,
        origin: Origin,
        index: usize,
        out: &mut Vec<Output>,
    ) -> Vec<Pending> {
        let dropped = match self.streams.get_mut(&origin) {
            Some(stream) => {
                stream.rival.take_if(|rival| rival.stage == RivalStage::Waiting);
                stream.drop_from(index)
            }
            None => return Vec::new(),
        };
        if let Some(first) = dropped.iter().find(|pending| id_of(pending).is_none())
            && let Some(stream) = self.streams.get_mut(&origin)
        {
            // What was not verified may not have been it.
            stream.sent = stream.sent.min(first.batch.first().before());
        }
        for pending in &dropped {
            self.release(pending);
            if let Stage::Judging(job) = pending.stage {
                self.jobs.remove(&job);
                if pending.forwarded {
                    self.unjudged -= 1;
                }
            }
        }
        let dropped = Vec::from(dropped);
        self.disown(origin, &dropped, out);
        dropped
    }
}

/// The name of a pending batch, once it is verified.
pub(crate) fn id_of(pending: &Pending) -> Option<BatchId> {
    match pending.stage {
        Stage::Verified(id) | Stage::Storing(id, _) => Some(id),
        Stage::Judging(_) | Stage::Forged(_) => None,
    }
}

/// Whether the numbers of a pending batch meet these.
pub(crate) fn meets(pending: &Pending, first: Position, last: Position) -> bool {
    pending.batch.first() <= last && first <= pending.batch.last()
}
