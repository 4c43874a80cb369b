//! The log has stored something, or could not.

use crate::bounds::{STORE_RETRY, STORE_RETRY_MAX};
use crate::core::Core;
use crate::io::{Output, Role};
use crate::jobs::JobId;
use crate::position::Origin;
use crate::stream::Stage;

impl Core {
    /// The batch of this append, and what is before it, is stored.
    pub(crate) fn on_stored(&mut self, origin: Origin, job: JobId, out: &mut Vec<Output>) {
        self.store_retry = None;
        loop {
            let Some(stream) = self.streams.get_mut(&origin) else { return };
            let Some(front) = stream.pending.front() else { break };
            let id = match front.stage {
                Stage::Storing(id, append) if append <= job => id,
                _ => break,
            };
            let Some(stored) = stream.pending.pop_front() else { break };
            stream.pending_bytes -= stored.batch.len();
            self.release(&stored);
            self.leave_digest(origin);
            if let Some(stream) = self.streams.get_mut(&origin) {
                stream.head = stored.batch.last();
                stream.head_id = Some(id);
            }
            self.enter_digest(origin);
            match stored.from {
                None => self.on_own_stored(&stored, out),
                Some(link) => {
                    let role = self.links.get(&link).map(|neighbour| neighbour.role);
                    self.note_late(origin, stored.late);
                    if role == Some(Role::Cross) {
                        let upto = stored.batch.last();
                        out.push(Output::Withheld { origin, upto, told_by: link });
                    }
                }
            }
            self.deliver(origin, stored.batch, id, out);
        }
        self.accept_kept(origin, out);
        self.fetch(origin, out);
        self.sign_next(out);
    }

    /// The batch of this append, and what follows it, is not stored: it is fetched again later; this
    /// node's own is given back to the application.
    pub(crate) fn on_not_stored(&mut self, origin: Origin, job: JobId, out: &mut Vec<Output>) {
        let Some(stream) = self.streams.get_mut(&origin) else { return };
        let found = stream.pending.iter().position(|pending| match pending.stage {
            Stage::Storing(_, append) => append == job,
            _ => false,
        });
        let Some(index) = found else { return };
        let (until, pause) = match self.store_retry {
            // One failure of many streams is one.
            Some((until, pause)) if self.now.time < until => (until, pause),
            failed => {
                let pause = failed.map_or(STORE_RETRY, |(_, pause)| pause * 2).min(STORE_RETRY_MAX);
                (self.now.time + pause, pause)
            }
        };
        self.store_retry = Some((until, pause));
        stream.lack.retry_at = until;
        stream.clear_ahead(&mut self.ahead);
        let dropped = self.drop_pending(origin, index, out);
        let mut wanted = None;
        for pending in dropped {
            match pending.from {
                Some(link) => wanted = Some((pending.batch.last(), link)),
                None => self.on_own_not_stored(pending, out),
            }
        }
        if let Some((upto, link)) = wanted {
            self.want(origin, upto, link, out);
        }
        self.sign_next(out);
    }
}
