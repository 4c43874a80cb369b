//! Giving neighbours pieces of blobs over the link they have.
//!
//! Each question is answered by itself: nothing is remembered of a transfer, so one that broke off
//! goes on over any link, and one that nobody goes on with costs nothing. The asker's window is its
//! pace; pieces go behind everything else on the link.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::depot::Depot;
use crate::outbox::Outbox;
use crate::wire::{BlobAsk, Frame, PIECE_MAX, Piece};

/// Questions of one neighbour that may wait: as many as it has open, and what it gave up waiting for.
/// One more is dropped.
pub const QUEUE: usize = 2 * crate::neighbours::ASKED_MAX;

/// Answers one neighbour's questions, one after the other, at the pace at which it reads.
pub async fn give(
    mut asked: mpsc::Receiver<BlobAsk>,
    depot: Depot,
    outbox: Arc<Outbox>,
    cut: CancellationToken,
) {
    let giving = async {
        while let Some(ask) = asked.recv().await {
            let from = depot.clone();
            let Ok(piece) = tokio::task::spawn_blocking(move || piece(&from, ask)).await else {
                return;
            };
            outbox.push_bulk(Frame::Piece(piece).to_line()).await;
        }
    };
    tokio::select! {
        () = giving => {}
        () = cut.cancelled() => {}
    }
}

/// Reads one piece. Blocks.
fn piece(depot: &Depot, ask: BlobAsk) -> Piece {
    let read = || {
        let file = File::open(depot.path(&ask.digest)).ok()?;
        let size = file.metadata().ok().filter(|meta| meta.is_file())?.len();
        let left = size.saturating_sub(ask.offset).min(ask.length.min(PIECE_MAX).into());
        let mut bytes = vec![0; usize::try_from(left).ok()?];
        file.read_exact_at(&mut bytes, ask.offset).ok()?;
        Some((size, BASE64.encode(bytes)))
    };
    // What cannot be read is not here.
    let (size, bytes) = read().map_or((None, String::new()), |(size, bytes)| (Some(size), bytes));
    Piece { id: ask.id, size, bytes }
}

#[cfg(test)]
mod tests {
    use super::*;
    use borgios_types::Digest;

    fn ask(digest: Digest, offset: u64, length: u32) -> BlobAsk {
        BlobAsk { id: 1, digest, offset, length }
    }

    #[tokio::test]
    async fn pieces_are_what_was_asked_for_and_what_is_not_here_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let depot = Depot::open(folder.path()).unwrap();
        let digest = Digest::of(b"hello world");
        let mut receiving = depot.receive(digest, 11).unwrap();
        receiving.write(b"hello world").unwrap();
        receiving.finish().unwrap();
        let (tell, asked) = mpsc::channel(QUEUE);
        let outbox = Arc::new(Outbox::new());
        let giving = give(asked, depot, outbox.clone(), CancellationToken::new());
        for ask in [
            ask(digest, 6, 5),
            ask(digest, 6, u32::MAX),
            ask(digest, 11, 5),
            ask(digest, u64::MAX, 5),
            ask(Digest::of(b"x"), 0, 5),
        ] {
            tell.send(ask).await.unwrap();
        }
        drop(tell);
        giving.await;
        outbox.push_object("end".into()).unwrap();
        assert_eq!(outbox.next().await.as_deref(), Some("end"), "objects go first");
        for (size, text) in
            [(Some(11), "world"), (Some(11), "world"), (Some(11), ""), (Some(11), ""), (None, "")]
        {
            let line = outbox.next().await.unwrap();
            let Frame::Piece(piece) = Frame::parse(&line).unwrap() else { panic!("{line}") };
            assert_eq!(piece, Piece { id: 1, size, bytes: BASE64.encode(text) });
        }
    }
}
