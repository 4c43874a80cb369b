//! Fetching a blob by its digest from whoever has it: over HTTP from who can be dialled, in pieces
//! over a link from a neighbour that cannot.
//!
//! Size first, hashing while it streams, going on in the middle after a break. A source is trusted
//! with nothing: what it sends is the blob or it is not. One that sent wrong bytes is named in the
//! log, and the next one is asked from the beginning.

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use borgios_types::{Digest, NodeId};
use reqwest::{Client, StatusCode, header};
use thiserror::Error;
use tracing::{debug, info, warn};

use crate::depot::{Depot, DepotError, Receiving};
use crate::neighbours::{Neighbours, WINDOW};
use crate::tree_handle::LinkId;
use crate::wire::PIECE_MAX;

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest silence in the middle of a blob.
const READ_TIMEOUT: Duration = Duration::from_secs(20);
/// What a piece over a link should take. More of them are asked for at a time while they come faster,
/// fewer while they come slower: so a slow line never holds more than this much time's worth of them,
/// which is what an urgent frame may find before it.
const PIECE_TARGET: Duration = Duration::from_millis(250);
/// What every source has at least, whatever the size.
const PATIENCE: Duration = Duration::from_secs(60);
/// Slowest source that is waited for to the end, in bytes a second. A slower one is left for the next,
/// which goes on where it ended: one byte now and then must not keep a release from anybody.
const RATE_MIN: u64 = 64 * 1024;
/// Redirects followed; mirrors use one or two.
const REDIRECTS_MAX: usize = 4;

/// Where to look for blobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// An HTTP folder: `<base>/<hex>`.
    Url(String),
    /// A neighbour, over the link it has with this node.
    Link(LinkId, NodeId),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(base) => f.write_str(base),
            Self::Link(_, peer) => write!(f, "the link with {}", peer.short()),
        }
    }
}

/// Why one source did not give a blob.
#[derive(Debug, Error)]
pub enum FetchError {
    /// No answer, or it broke off.
    #[error("{0}")]
    Http(String),
    /// It does not have it.
    #[error("it answered {0}")]
    Status(StatusCode),
    /// It is a neighbour that does not have it.
    #[error("it is not there")]
    Absent,
    /// The link ended, or nothing came for too long.
    #[error("no answer over the link")]
    Link,
    /// Too slow; the next source goes on from there.
    #[error("too slow: not done after {} s", .0.as_secs())]
    Slow(Duration),
    /// A piece that is none.
    #[error("a piece that is not what was asked for")]
    BadPiece,
    /// It has something else.
    #[error("it offers {found} bytes, expected {expected}")]
    WrongSize {
        /// Bytes offered.
        found: u64,
        /// Bytes asked for.
        expected: u64,
    },
    /// The depot did not take it.
    #[error(transparent)]
    Depot(#[from] DepotError),
}

impl FetchError {
    /// The stable name of the reason.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Http(_) | Self::Link | Self::Slow(_) => "unreachable",
            Self::Status(_) | Self::Absent => "not_there",
            Self::BadPiece => "malformed",
            Self::WrongSize { .. } => "wrong_size",
            Self::Depot(error) => error.code(),
        }
    }
}

/// Fetches blobs into a depot.
#[derive(Clone)]
pub struct Fetcher {
    client: Client,
    depot: Depot,
    neighbours: Neighbours,
    /// Longest time for one source, by the size of the blob.
    patience: fn(u64) -> Duration,
}

impl Fetcher {
    /// A fetcher into `depot`.
    ///
    /// # Errors
    /// The HTTP client cannot be made.
    pub fn new(depot: Depot, neighbours: Neighbours) -> Result<Self, reqwest::Error> {
        // One TLS provider for the whole process; another thread may have installed it already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            .redirect(reqwest::redirect::Policy::limited(REDIRECTS_MAX))
            .no_proxy()
            .user_agent(concat!("borgiosd/", env!("CARGO_PKG_VERSION")))
            .build()?;
        let patience = |size| PATIENCE + Duration::from_secs(size / RATE_MIN);
        Ok(Self { client, depot, neighbours, patience })
    }

    /// Gets one blob from the first of `sources` that has it. Returns whether the depot holds it now.
    pub async fn get(&self, digest: Digest, size: u64, sources: &[Source]) -> bool {
        if self.depot.size(&digest) == Some(size) {
            return true;
        }
        // From here on news of it counts: a neighbour may get it while others are asked.
        self.neighbours.misses(digest, true);
        for source in sources {
            let patience = (self.patience)(size);
            let got = tokio::time::timeout(patience, self.get_from(digest, size, source)).await;
            match got.unwrap_or(Err(FetchError::Slow(patience))) {
                Ok(()) => {
                    info!(
                        BORGIOS_EVENT = "blob_fetched",
                        BORGIOS_BLOB = %digest,
                        BORGIOS_FROM = %source,
                        size,
                        "fetched a blob of {size} bytes from {source}"
                    );
                    self.neighbours.misses(digest, false);
                    return true;
                }
                Err(
                    error @ (FetchError::Depot(_)
                    | FetchError::WrongSize { .. }
                    | FetchError::BadPiece),
                ) => warn!(
                    BORGIOS_EVENT = "refused",
                    BORGIOS_REFUSAL = error.code(),
                    BORGIOS_KIND = "blob",
                    BORGIOS_BLOB = %digest,
                    BORGIOS_FROM = %source,
                    "refused a blob from {source}: {error}"
                ),
                Err(error) => debug!(%source, "no blob from there: {error}"),
            }
        }
        false
    }

    async fn get_from(&self, digest: Digest, size: u64, source: &Source) -> Result<(), FetchError> {
        match self.attempt(digest, size, source).await {
            // The beginning came from somebody else, who may be the one that lied: a source is
            // refused for its own bytes only, or a liar that always breaks off would keep the
            // honest from ever finishing.
            Ok(Some(error @ DepotError::BadDigest { .. })) => {
                debug!(%source, "begins anew: {error}");
                self.attempt(digest, size, source).await?.map_or(Ok(()), |error| Err(error.into()))
            }
            Ok(Some(error)) => Err(error.into()),
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// One attempt. `Some` is what was wrong with a blob of which this source gave the end only.
    async fn attempt(
        &self,
        digest: Digest,
        size: u64,
        source: &Source,
    ) -> Result<Option<DepotError>, FetchError> {
        let depot = self.depot.clone();
        // What is there already is hashed again: this blocks.
        let mut receiving = blocking(move || depot.receive(digest, size)).await?;
        let mut resumed = receiving.have() > 0;
        if !receiving.whole() {
            match source {
                Source::Url(base) => {
                    let url = format!("{}/{}", base.trim_end_matches('/'), digest.hex());
                    resumed &= self.stream(&mut receiving, size, &url).await?;
                }
                Source::Link(link, _) => {
                    self.pieces(&mut receiving, digest, size, *link).await?;
                }
            }
        }
        match blocking(move || receiving.finish()).await {
            Ok(_) => Ok(None),
            Err(FetchError::Depot(error)) if resumed => Ok(Some(error)),
            Err(error) => Err(error),
        }
    }

    /// Asks a neighbour for piece after piece, as many ahead as its line carries. The first one alone
    /// says whether it has the blob at all.
    async fn pieces(
        &self,
        receiving: &mut Receiving,
        digest: Digest,
        size: u64,
        link: LinkId,
    ) -> Result<(), FetchError> {
        let mut next = receiving.have();
        let (mut coming, mut window) = (VecDeque::new(), 1);
        loop {
            while coming.len() < window && next < size {
                let length = PIECE_MAX.min(u32::try_from(size - next).unwrap_or(PIECE_MAX));
                let (neighbours, offset) = (self.neighbours.clone(), next);
                let asking = async move { neighbours.piece(link, digest, offset, length).await };
                let asking = AbortOnDrop(tokio::spawn(asking));
                coming.push_back((length, Instant::now(), asking));
                next += u64::from(length);
            }
            let Some((length, asked, asking)) = coming.pop_front() else { return Ok(()) };
            let piece = asking.finish().await.ok_or(FetchError::Link)?;
            let found = piece.size.ok_or(FetchError::Absent)?;
            if found != size {
                return Err(FetchError::WrongSize { found, expected: size });
            }
            let bytes = BASE64.decode(piece.bytes).map_err(|_| FetchError::BadPiece)?;
            if bytes.len() != length as usize {
                return Err(FetchError::BadPiece);
            }
            receiving.write(&bytes)?;
            let in_time = asked.elapsed() < PIECE_TARGET;
            window = if in_time { (window + 1).min(WINDOW) } else { (window - 1).max(1) };
        }
    }

    /// Streams the rest from a URL. Returns whether it went on where another source ended.
    async fn stream(
        &self,
        receiving: &mut Receiving,
        size: u64,
        url: &str,
    ) -> Result<bool, FetchError> {
        let http = |error: reqwest::Error| FetchError::Http(error.to_string());
        let have = receiving.have();
        let mut request = self.client.get(url);
        if have > 0 {
            request = request.header(header::RANGE, format!("bytes={have}-"));
        }
        let mut response = request.send().await.map_err(http)?;
        let left = match response.status() {
            StatusCode::OK => {
                receiving.restart().map_err(DepotError::from)?;
                size
            }
            StatusCode::PARTIAL_CONTENT if have > 0 && begins_at(&response, have) => size - have,
            status => return Err(FetchError::Status(status)),
        };
        if let Some(found) = response.content_length().filter(|found| *found != left) {
            return Err(FetchError::WrongSize { found, expected: left });
        }
        while let Some(chunk) = response.chunk().await.map_err(http)? {
            receiving.write(&chunk)?;
        }
        Ok(left < size)
    }
}

/// A question under way, given up when nobody waits for it any more.
struct AbortOnDrop<T>(tokio::task::JoinHandle<Option<T>>);

impl<T> AbortOnDrop<T> {
    async fn finish(mut self) -> Option<T> {
        (&mut self.0).await.ok().flatten()
    }
}

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Whether a partial answer begins where it was asked to.
fn begins_at(response: &reqwest::Response, have: u64) -> bool {
    response
        .headers()
        .get(header::CONTENT_RANGE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|text| text.starts_with(&format!("bytes {have}-")))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, DepotError> + Send + 'static,
) -> Result<T, FetchError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => Ok(result?),
        Err(error) => Err(DepotError::Disk(std::io::Error::other(error)).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http;
    use tokio::net::TcpListener;

    async fn server(blobs: &[&[u8]]) -> (tempfile::TempDir, Depot, Source) {
        let folder = tempfile::tempdir().unwrap();
        let depot = Depot::open(folder.path()).unwrap();
        for bytes in blobs {
            let mut receiving = depot.receive(Digest::of(bytes), bytes.len() as u64).unwrap();
            receiving.write(bytes).unwrap();
            receiving.finish().unwrap();
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = Source::Url(format!("http://{}/blobs", listener.local_addr().unwrap()));
        let router = http::router(depot.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(http::serve(stream, router.clone()));
            }
        });
        (folder, depot, base)
    }

    #[tokio::test]
    async fn a_blob_is_fetched_whole_or_from_where_it_was_cut_off() {
        let blob = vec![7; 300_000];
        let (_theirs, _, base) = server(&[&blob]).await;
        let (_ours, depot, _) = server(&[]).await;
        let digest = Digest::of(&blob);
        let mut begun = depot.receive(digest, 300_000).unwrap();
        begun.write(&blob[..100_000]).unwrap();
        drop(begun);
        let fetcher = Fetcher::new(depot.clone(), Neighbours::new()).unwrap();
        let nobody = Source::Url("http://127.0.0.1:1/blobs".to_owned());
        assert!(fetcher.get(digest, 300_000, &[nobody, base]).await);
        assert_eq!(std::fs::read(depot.path(&digest)).unwrap(), blob);
    }

    #[tokio::test]
    async fn a_tampered_blob_is_refused_and_the_next_source_is_asked() {
        let good = vec![7; 1000];
        let bad = vec![8; 1000];
        let digest = Digest::of(&good);
        let (_lying, liar, lying) = server(&[&bad]).await;
        // The liar keeps other bytes under the name that is asked for.
        std::fs::rename(liar.path(&Digest::of(&bad)), liar.path(&digest)).unwrap();
        let (_honest, _, honest) = server(&[&good]).await;
        let (_ours, depot, _) = server(&[]).await;
        let fetcher = Fetcher::new(depot.clone(), Neighbours::new()).unwrap();
        assert!(!fetcher.get(digest, 1000, std::slice::from_ref(&lying)).await);
        assert_eq!(depot.size(&digest), None);
        assert!(fetcher.get(digest, 1000, &[lying, honest]).await);
        assert_eq!(std::fs::read(depot.path(&digest)).unwrap(), good);
    }

    #[tokio::test]
    async fn t31_a_source_that_trickles_is_left_for_the_next_one() {
        use tokio::io::AsyncWriteExt as _;
        let blob = vec![7; 1000];
        let digest = Digest::of(&blob);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let trickle = Source::Url(format!("http://{}/blobs", listener.local_addr().unwrap()));
        let trickling = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let head = b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n";
            stream.write_all(head).await.unwrap();
            stream.write_all(&[7; 10]).await.unwrap();
            // And nothing more, for as long as anybody waits.
            let mut rest = [0; 1024];
            while matches!(stream.try_read(&mut rest), Ok(1..) | Err(_)) {
                if stream.readable().await.is_err() {
                    break;
                }
            }
        });
        let (_honest, _, honest) = server(&[&blob]).await;
        let (_ours, depot, _) = server(&[]).await;
        let mut fetcher = Fetcher::new(depot.clone(), Neighbours::new()).unwrap();
        fetcher.patience = |_| Duration::from_millis(300);
        assert!(!fetcher.get(digest, 1000, std::slice::from_ref(&trickle)).await);
        fetcher.patience = |_| Duration::from_secs(60);
        assert!(fetcher.get(digest, 1000, &[honest]).await);
        assert_eq!(std::fs::read(depot.path(&digest)).unwrap(), blob);
        tokio::time::timeout(Duration::from_secs(60), trickling).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_blob_of_another_size_is_not_even_begun() {
        let blob = vec![7; 1000];
        let (_theirs, _, base) = server(&[&blob]).await;
        let (_ours, depot, _) = server(&[]).await;
        let fetcher = Fetcher::new(depot.clone(), Neighbours::new()).unwrap();
        assert!(!fetcher.get(Digest::of(&blob), 999, &[base]).await);
        assert_eq!(depot.size(&Digest::of(&blob)), None);
    }

    /// A link whose other end gives pieces of what lies in its depot, as `lie` changes them.
    fn neighbour(
        theirs: &Depot,
        neighbours: &Neighbours,
        lie: impl Fn(&mut crate::wire::Piece) + Send + 'static,
    ) -> (Source, crate::neighbours::Linked) {
        use crate::outbox::Outbox;
        use crate::wire::Frame;
        use std::sync::Arc;
        let peer = borgios_types::SecretKey::from_seed([1; 32]).public();
        let (link, asks) = (LinkId(1), Arc::new(Outbox::new()));
        let linked = neighbours.add(link, peer, asks.clone());
        let (tell, asked) = tokio::sync::mpsc::channel(crate::pieces::QUEUE);
        let answers = Arc::new(Outbox::new());
        let cut = tokio_util::sync::CancellationToken::new();
        tokio::spawn(crate::pieces::give(asked, theirs.clone(), answers.clone(), cut));
        tokio::spawn(async move {
            while let Some(line) = asks.next().await {
                let Frame::Blob(ask) = Frame::parse(&line).unwrap() else { panic!("{line}") };
                tell.send(ask).await.unwrap();
            }
        });
        let back = neighbours.clone();
        tokio::spawn(async move {
            while let Some(line) = answers.next().await {
                let Frame::Piece(mut piece) = Frame::parse(&line).unwrap() else {
                    panic!("{line}")
                };
                lie(&mut piece);
                back.answered(link, piece);
            }
        });
        (Source::Link(link, peer), linked)
    }

    #[tokio::test]
    async fn a_blob_comes_over_a_link_whole_or_from_where_it_was_cut_off() {
        let blob: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();
        let digest = Digest::of(&blob);
        let (_theirs, theirs, _) = server(&[&blob]).await;
        for have in [0, 1, 100_000, 1_000_000] {
            let (_ours, depot, _) = server(&[]).await;
            let neighbours = Neighbours::new();
            let (source, _linked) = neighbour(&theirs, &neighbours, |_| ());
            let fetcher = Fetcher::new(depot.clone(), neighbours).unwrap();
            let mut begun = depot.receive(digest, 1_000_000).unwrap();
            begun.write(&blob[..have]).unwrap();
            drop(begun);
            assert!(!fetcher.get(Digest::of(b"x"), 1, std::slice::from_ref(&source)).await);
            assert!(fetcher.get(digest, 1_000_000, &[source]).await, "from {have} on");
            assert_eq!(std::fs::read(depot.path(&digest)).unwrap(), blob);
        }
    }

    #[tokio::test]
    async fn t33_a_neighbour_that_lies_is_refused_and_its_beginning_poisons_nobody_elses_end() {
        let blob = vec![7; 200_000];
        let digest = Digest::of(&blob);
        let (_theirs, theirs, honest) = server(&[&blob]).await;
        let (_ours, depot, _) = server(&[]).await;
        for lie in [
            (|piece| piece.bytes = "AAAA".into()) as fn(&mut crate::wire::Piece),
            |piece| piece.bytes = "not base64".into(),
            |piece| piece.size = Some(7),
            |piece| {
                piece.bytes = BASE64.encode(vec![8; BASE64.decode(&piece.bytes).unwrap().len()])
            },
        ] {
            let neighbours = Neighbours::new();
            let (source, _linked) = neighbour(&theirs, &neighbours, lie);
            let fetcher = Fetcher::new(depot.clone(), neighbours).unwrap();
            assert!(!fetcher.get(digest, 200_000, &[source]).await);
            assert_eq!(depot.size(&digest), None);
        }
        // It gave a wrong beginning and broke off; the next one is asked for the end, and that
        // does not fit.
        let mut begun = depot.receive(digest, 200_000).unwrap();
        begun.write(&[8; 100_000]).unwrap();
        drop(begun);
        let fetcher = Fetcher::new(depot.clone(), Neighbours::new()).unwrap();
        assert!(fetcher.get(digest, 200_000, &[honest]).await);
        assert_eq!(std::fs::read(depot.path(&digest)).unwrap(), blob);
    }
}
