//! The links in use, for what goes between neighbours beside the tree: blobs.
//!
//! A link may be used from either side, whoever dialled it: so a server that nobody can dial still
//! gives what only it has.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use borgios_types::{Digest, NodeId};
use tokio::sync::{oneshot, watch};

use crate::outbox::Outbox;
use crate::tree_handle::LinkId;
use crate::wire::{BlobAsk, Frame, Have, Piece};

/// Longest wait for one piece: it goes behind everything else on a line that may be slow.
const PIECE_TIMEOUT: Duration = Duration::from_secs(20);
/// Pieces of one transfer that are asked for and not yet there, at most; with 50 ms to and fro they
/// carry 7 MB/s.
pub const WINDOW: usize = 8;
/// Pieces asked of one neighbour and not yet there: a release and a credential at once.
pub const ASKED_MAX: usize = 2 * WINDOW;
/// Blobs that this node looks for and has not found: a release and a credential name fewer.
const MISSING_MAX: usize = 64;

/// All links in use. Clones share them.
#[derive(Clone, Debug)]
pub struct Neighbours(Arc<Inside>);

#[derive(Debug)]
struct Inside {
    links: Mutex<BTreeMap<u64, Neighbour>>,
    missing: Mutex<BTreeSet<Digest>>,
    /// Counts the reasons to look for missing blobs again.
    found: watch::Sender<u64>,
    ids: AtomicU64,
}

#[derive(Debug)]
struct Neighbour {
    peer: NodeId,
    outbox: Arc<Outbox>,
    waiting: BTreeMap<u64, oneshot::Sender<Piece>>,
}

impl Default for Neighbours {
    fn default() -> Self {
        Self::new()
    }
}

impl Neighbours {
    /// No link yet.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Inside {
            links: Mutex::default(),
            missing: Mutex::default(),
            found: watch::Sender::new(0),
            ids: AtomicU64::new(0),
        }))
    }

    /// A link is up; it is one no more when what this returns is dropped.
    #[must_use]
    pub fn add(&self, id: LinkId, peer: NodeId, outbox: Arc<Outbox>) -> Linked {
        let neighbour = Neighbour { peer, outbox, waiting: BTreeMap::new() };
        self.links().insert(id.0, neighbour);
        // It may have what nobody else has.
        if !self.missing().is_empty() {
            self.0.found.send_modify(|count| *count += 1);
        }
        Linked { neighbours: self.clone(), id }
    }

    /// The links, each with who is at its other end.
    #[must_use]
    pub fn all(&self) -> Vec<(LinkId, NodeId)> {
        self.links().iter().map(|(id, link)| (LinkId(*id), link.peer)).collect()
    }

    /// Asks for a piece of a blob; `None` if the link is gone, busy, or does not answer in time.
    pub async fn piece(
        &self,
        link: LinkId,
        digest: Digest,
        offset: u64,
        length: u32,
    ) -> Option<Piece> {
        let id = self.0.ids.fetch_add(1, Ordering::Relaxed);
        let (tell, told) = oneshot::channel();
        {
            let mut links = self.links();
            let neighbour = links.get_mut(&link.0)?;
            // Of those that gave up waiting the window is not kept.
            neighbour.waiting.retain(|_, tell| !tell.is_closed());
            let ask = Frame::Blob(BlobAsk { id, digest, offset, length }).to_line();
            // A full outbox ends the link anyway.
            if neighbour.waiting.len() >= ASKED_MAX || neighbour.outbox.push_control(ask).is_err() {
                return None;
            }
            neighbour.waiting.insert(id, tell);
        }
        tokio::time::timeout(PIECE_TIMEOUT, told).await.ok()?.ok()
    }

    /// A piece came over a link; one that nobody asked for is dropped.
    pub fn answered(&self, link: LinkId, piece: Piece) {
        let waiting = self.links().get_mut(&link.0).and_then(|link| link.waiting.remove(&piece.id));
        if let Some(tell) = waiting {
            // Whoever asked may have given up.
            let _ = tell.send(piece);
        }
    }

    /// Tells every neighbour that a blob is here now.
    pub fn tell(&self, digest: Digest) {
        let line = Frame::Have(Have { digest }).to_line();
        for link in self.links().values() {
            // A full outbox ends the link anyway.
            let _ = link.outbox.push_control(line.clone());
        }
    }

    /// A neighbour has a blob now: a reason to look again, if it is one that is missing.
    pub fn heard(&self, have: Have) {
        if self.missing().contains(&have.digest) {
            self.0.found.send_modify(|count| *count += 1);
        }
    }

    /// Whether a blob was looked for in vain.
    pub fn misses(&self, digest: Digest, missing: bool) {
        let mut all = self.missing();
        if missing && all.len() < MISSING_MAX {
            all.insert(digest);
        } else if !missing {
            all.remove(&digest);
        }
    }

    /// A notice of each reason to look for missing blobs again.
    #[must_use]
    pub fn found(&self) -> watch::Receiver<u64> {
        self.0.found.subscribe()
    }

    fn links(&self) -> MutexGuard<'_, BTreeMap<u64, Neighbour>> {
        // Each change is whole whatever its thread did then.
        self.0.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn missing(&self) -> MutexGuard<'_, BTreeSet<Digest>> {
        self.0.missing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A link that is up.
#[derive(Debug)]
pub struct Linked {
    neighbours: Neighbours,
    id: LinkId,
}

impl Drop for Linked {
    fn drop(&mut self) {
        self.neighbours.links().remove(&self.id.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use borgios_types::SecretKey;

    fn linked() -> (Neighbours, Arc<Outbox>, Linked) {
        let (neighbours, outbox) = (Neighbours::new(), Arc::new(Outbox::new()));
        let peer = SecretKey::from_seed([1; 32]).public();
        let linked = neighbours.add(LinkId(7), peer, outbox.clone());
        (neighbours, outbox, linked)
    }

    async fn asked(outbox: &Outbox) -> BlobAsk {
        let line = outbox.next().await.unwrap();
        match Frame::parse(&line).unwrap() {
            Frame::Blob(ask) => ask,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn an_answer_reaches_who_asked_and_nobody_else() {
        let (neighbours, outbox, _linked) = linked();
        let digest = Digest::of(b"x");
        let asking = neighbours.clone();
        let asking = tokio::spawn(async move { asking.piece(LinkId(7), digest, 5, 10).await });
        let ask = asked(&outbox).await;
        assert_eq!((ask.digest, ask.offset, ask.length), (digest, 5, 10));
        let piece = |id| Piece { id, size: Some(1), bytes: id.to_string() };
        neighbours.answered(LinkId(7), piece(ask.id + 1));
        neighbours.answered(LinkId(8), piece(ask.id));
        neighbours.answered(LinkId(7), piece(ask.id));
        assert_eq!(asking.await.unwrap(), Some(piece(ask.id)));
    }

    #[tokio::test]
    async fn a_link_that_ends_answers_nothing_more_and_no_more_than_a_window_is_asked() {
        let (neighbours, outbox, linked) = linked();
        let digest = Digest::of(b"x");
        let ask = |neighbours: &Neighbours| {
            let asking = neighbours.clone();
            tokio::spawn(async move { asking.piece(LinkId(7), digest, 0, 1).await })
        };
        let waiting: Vec<_> = (0..ASKED_MAX).map(|_| ask(&neighbours)).collect();
        for _ in 0..ASKED_MAX {
            asked(&outbox).await;
        }
        assert_eq!(ask(&neighbours).await.unwrap(), None, "beyond the window");
        drop(linked);
        for asked in waiting {
            assert_eq!(asked.await.unwrap(), None);
        }
        assert!(neighbours.all().is_empty());
    }

    #[tokio::test]
    async fn only_news_of_what_is_missing_is_a_reason_to_look_again() {
        let (neighbours, _outbox, _linked) = linked();
        let mut found = neighbours.found();
        let have = |text: &[u8]| Have { digest: Digest::of(text) };
        neighbours.misses(Digest::of(b"x"), true);
        neighbours.heard(have(b"y"));
        assert!(!found.has_changed().unwrap());
        neighbours.heard(have(b"x"));
        assert!(found.has_changed().unwrap());
        found.mark_unchanged();
        neighbours.misses(Digest::of(b"x"), false);
        neighbours.heard(have(b"x"));
        assert!(!found.has_changed().unwrap());
    }
}
