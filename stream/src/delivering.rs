//! The application gets what is stored, in order, each message once, and says what it has taken.
//!
//! While it keeps up it gets each batch as it is stored. When a window's worth is not taken yet, it
//! is served from the log, at its own pace: memory has a bound however slow it is.

use crate::batch::Batch;
use crate::bounds::{DELIVERY_WINDOW, FETCH_WINDOW};
use crate::core::Core;
use crate::io::Output;
use crate::log::{Found, LogError, LogJob, Reader, joins};
use crate::position::{BatchId, Origin, Position};

impl Core {
    /// A batch is stored.
    pub(crate) fn deliver(
        &mut self,
        origin: Origin,
        batch: Batch,
        id: BatchId,
        out: &mut Vec<Output>,
    ) {
        let full = self.given_bytes + batch.len() > DELIVERY_WINDOW;
        let Some(stream) = self.streams.get_mut(&origin) else { return };
        if stream.delivery.lagging || (full && self.given_bytes > 0) {
            stream.delivery.lagging = true;
            self.lagging.insert(origin);
            return;
        }
        self.give(origin, batch, id, out);
    }

    fn give(&mut self, origin: Origin, batch: Batch, id: BatchId, out: &mut Vec<Output>) {
        let Some(stream) = self.streams.get_mut(&origin) else { return };
        let after = stream.delivery.delivered;
        if batch.last() <= after {
            return;
        }
        if !joins(after, batch.first()) {
            out.push(Output::Missed { origin, after, next: batch.first() });
        }
        stream.delivery.delivered = batch.last();
        stream.delivery.given.push_back((batch.last(), batch.len()));
        self.given_bytes += batch.len();
        out.push(Output::Deliver { origin, batch, id, after });
    }

    pub(crate) fn on_taken(&mut self, origin: Origin, upto: Position, out: &mut Vec<Output>) {
        let Some(stream) = self.streams.get_mut(&origin) else { return };
        while let Some((last, length)) = stream.delivery.given.front() {
            if *last > upto {
                break;
            }
            self.given_bytes -= length;
            stream.delivery.given.pop_front();
        }
        if !self.lagging.is_empty() {
            self.serve_laggards(out);
        }
    }

    /// Reads for applications that lag behind, while there is room for what they get.
    pub(crate) fn serve_laggards(&mut self, out: &mut Vec<Output>) {
        let mut room = DELIVERY_WINDOW.saturating_sub(self.given_bytes);
        let mut served = Vec::new();
        for origin in &self.lagging {
            if room < FETCH_WINDOW {
                break;
            }
            let Some(stream) = self.streams.get_mut(origin) else { continue };
            // Counted as used, whether it is read now or was asked for before.
            room -= FETCH_WINDOW;
            if stream.delivery.reading {
                continue;
            }
            stream.delivery.reading = true;
            served.push((*origin, stream.delivery.delivered));
        }
        for (origin, after) in served {
            let (max_bytes, reader) = (FETCH_WINDOW, Reader::Application);
            out.push(Output::Log(LogJob::Read { origin, after, max_bytes, reader }));
        }
    }

    pub(crate) fn on_read_for_application(
        &mut self,
        origin: Origin,
        after: Position,
        found: Result<Found, LogError>,
        out: &mut Vec<Output>,
    ) {
        let Some(stream) = self.streams.get_mut(&origin) else { return };
        stream.delivery.reading = false;
        let before = stream.delivery.delivered;
        match found {
            Ok(Found::Batches(batches)) => {
                for batch in batches {
                    // Not stored as its durability asks, if it was appended a moment ago.
                    if self.streams.get(&origin).is_some_and(|s| batch.last() <= s.head) {
                        let id = batch.id();
                        self.give(origin, batch, id, out);
                    }
                }
            }
            Ok(Found::Gone { next }) => {
                if next > stream.head {
                    // Retention has removed all there was.
                    let missed = Position::new(stream.head.epoch, stream.head.number + 1);
                    stream.delivery.delivered = stream.head;
                    out.push(Output::Missed { origin, after, next: missed });
                } else {
                    out.push(Output::Missed { origin, after, next });
                    stream.delivery.delivered = next.before();
                }
            }
            // The next tick tries again.
            Err(_) => return,
        }
        let Some(stream) = self.streams.get_mut(&origin) else { return };
        if stream.delivery.delivered >= stream.head {
            stream.delivery.lagging = false;
            self.lagging.remove(&origin);
        }
        if stream.delivery.delivered > before {
            self.serve_laggards(out);
        }
    }
}
