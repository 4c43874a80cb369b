//! The log failed and was opened again: the core goes on from what it holds now.
//!
//! What was written and not synced may be gone, though the application has it: a head may go back.
//! It comes again from the neighbours; a reader with a cursor is given nothing twice. What was said
//! not to be stored may be there: a head may go on, as after a crash.

use std::collections::BTreeMap;

use crate::core::Core;
use crate::io::Output;
use crate::log::{LogJob, Recovered};
use crate::position::{Head, Origin};

impl Core {
    pub(crate) fn on_reopened(&mut self, recovered: Recovered, out: &mut Vec<Output>) {
        self.store_retry = None;
        let held: BTreeMap<Origin, Head> =
            recovered.streams.iter().map(|stream| (stream.head.origin, stream.head)).collect();
        for origin in self.streams.keys().copied().collect::<Vec<_>>() {
            self.go_on_from(origin, held.get(&origin).copied(), out);
        }
        // Expelled while the log could not remove it.
        for origin in held.into_keys().filter(|origin| !self.streams.contains_key(origin)) {
            out.push(Output::Log(LogJob::Forget { origin }));
        }
        self.own.go_on(recovered.own_epoch, self.streams.get(&self.me));
        self.unkept.extend(self.evidence.keys());
        self.fetch_more(out);
        self.sign_next(out);
        self.serve_laggards(out);
        for link in self.links.keys().copied().collect::<Vec<_>>() {
            self.send_digest(link, out);
        }
    }

    /// A stream goes on from the head that the log has.
    fn go_on_from(&mut self, origin: Origin, held: Option<Head>, out: &mut Vec<Output>) {
        let now = self.now.time;
        let Some(stream) = self.streams.get_mut(&origin) else { return };
        stream.lack.retry_at = now;
        let head = held.map(|held| held.last).unwrap_or_default();
        if head == stream.head && held.map(|held| held.id) == stream.head_id {
            return;
        }
        for pending in self.drop_pending(origin, 0, out) {
            if pending.from.is_none() {
                self.on_own_not_stored(pending, out);
            }
        }
        self.leave_digest(origin);
        if let Some(stream) = self.streams.get_mut(&origin) {
            stream.head = head;
            stream.head_id = held.map(|held| held.id);
            stream.delivery.delivered = stream.delivery.delivered.min(head);
            if stream.delivery.delivered < head {
                stream.delivery.lagging = true;
                self.lagging.insert(origin);
            }
            stream.clear_ahead(&mut self.ahead);
        }
        self.enter_digest(origin);
    }
}
