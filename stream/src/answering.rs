//! Answers to neighbours that lack something, out of the log: what is stored, in order, bounded.

use crate::bounds::{
    BATCH_MAX, FETCH_WINDOW, SERVED_MAX, SERVING_BYTES_PER_LINK, SERVING_PER_LINK,
};
use crate::core::Core;
use crate::frame::{Fetch, Frame, Gone, Served};
use crate::io::{LinkId, Output};
use crate::log::{Found, LogError, LogJob, Reader};
use crate::position::{Origin, Position};

impl Core {
    /// A neighbour lacks something. Whoever asks for more than its share gets no answer to it.
    pub(crate) fn on_fetch(&mut self, link: LinkId, fetch: &Fetch, out: &mut Vec<Output>) {
        let Some(neighbour) = self.links.get_mut(&link) else { return };
        let max_bytes = (fetch.window as usize).min(FETCH_WINDOW);
        let share = max_bytes.max(BATCH_MAX);
        let over = neighbour.serving.len() >= SERVING_PER_LINK
            || neighbour.serving.iter().sum::<usize>() + share > SERVING_BYTES_PER_LINK;
        if neighbour.full || over {
            return;
        }
        let origin = fetch.origin;
        let stream = self.streams.get(&origin);
        let head = stream.map_or(Position::START, |stream| stream.head);
        if stream.is_some_and(|stream| stream.stopped)
            && let Some(evidence) = self.evidence.get(&origin)
        {
            neighbour.warn(evidence);
            self.send_warnings(out);
        } else if fetch.after < head {
            // Reads for one link are answered in the order in which they were asked for.
            neighbour.serving.push_back(share);
            let (after, reader) = (fetch.after, Reader::Link(link));
            out.push(Output::Log(LogJob::Read { origin, after, max_bytes, reader }));
            return;
        }
        self.send(link, Frame::Served(Served { origin, head, count: 0 }).encode(), out);
    }

    pub(crate) fn on_read_for_link(
        &mut self,
        origin: Origin,
        link: LinkId,
        found: Result<Found, LogError>,
        out: &mut Vec<Output>,
    ) {
        if let Some(neighbour) = self.links.get_mut(&link) {
            neighbour.serving.pop_front();
        }
        let head = self.streams.get(&origin).map_or(Position::START, |stream| stream.head);
        let batches = match found {
            Ok(Found::Batches(batches)) => batches,
            Ok(Found::Gone { next }) => {
                return self.send(link, Frame::Gone(Gone { origin, next }).encode(), out);
            }
            Err(_) => Vec::new(),
        };
        // What is appended and not synced yet is not told to anybody.
        let stored = batches.iter().take_while(|batch| batch.last() <= head);
        let count = stored.clone().take(SERVED_MAX as usize).count();
        let served = Served { origin, head, count: count as u32 };
        self.send(link, Frame::Served(served).encode(), out);
        for batch in stored.take(count) {
            self.send(link, batch.bytes().clone(), out);
        }
    }
}
