//! Fetching a blob by its digest from whoever has it: over HTTP from who can be dialled, in pieces
//! over a link from a neighbour that cannot.
//!
//! Size first, hashing while it streams, going on in the middle after a break. A source is trusted
//! with nothing: what it sends is the blob or it is not. One that sent wrong bytes is named in the
//! log, and the next one is asked from the beginning. One that is slow is left for the next, which goes
//! on where it ended; if all are, the fastest is asked again, and the last is waited for.
//!
//! What is fetched is named by something signed: whoever brings it unasked, and holds it, loses it to a
//! source that has it. Members are believed no address: only a statement's own may lead elsewhere.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use borgios_types::{Digest, NodeId};
use reqwest::{Client, RequestBuilder, StatusCode, header, redirect};
use thiserror::Error;
use tracing::{debug, info, warn};

use crate::depot::{Depot, DepotError, Receiving};
use crate::disk;
use crate::neighbours::{Neighbours, WINDOW};
use crate::rate::{Below, Rate};
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
/// How long a source may be slower than that before it is left: a lost packet or a busy line takes a few
/// seconds, and a dozen liars in a row must not take the time of a lock.
const RATE_WINDOW: Duration = Duration::from_secs(15);
/// Redirects followed from a statement's own addresses; mirrors use one or two.
const REDIRECTS_MAX: usize = 4;

/// Where to look for blobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// An HTTP folder that a signed statement names: `<base>/<hex>`, or where that leads.
    Url(String),
    /// The HTTP folder of a server whose own record names the address: it leads nowhere else, or any
    /// member could have the others ask whatever they can reach.
    Node(String),
    /// A neighbour, over the link it has with this node.
    Link(LinkId, NodeId),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(base) | Self::Node(base) => f.write_str(base),
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
    /// Too slow in one window; the next source goes on from there.
    #[error("too slow: {0} bytes a second")]
    Trickles(u64),
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
            Self::Http(_) | Self::Link | Self::Slow(_) | Self::Trickles(_) => "unreachable",
            Self::Status(_) | Self::Absent => "not_there",
            Self::BadPiece => "malformed",
            Self::WrongSize { .. } => "wrong_size",
            Self::Depot(error) => error.code(),
        }
    }
}

impl From<Below> for FetchError {
    fn from(Below(rate): Below) -> Self {
        Self::Trickles(rate)
    }
}

/// Longest time for one source, and for one upload, of a blob of `size` bytes.
pub(crate) fn patience(size: u64) -> Duration {
    PATIENCE + Duration::from_secs(size / RATE_MIN)
}

/// Fetches blobs into a depot.
#[derive(Clone)]
pub struct Fetcher {
    /// For what statements name.
    mirrors: Client,
    /// For servers; follows no redirect.
    nodes: Client,
    depot: Depot,
    neighbours: Neighbours,
    /// Longest time for one source, by the size of the blob.
    patience: fn(u64) -> Duration,
    /// How long one may be too slow.
    window: Duration,
}

/// What one attempt asks of a source.
#[derive(Clone, Copy)]
struct Attempt<'a> {
    digest: Digest,
    size: u64,
    source: &'a Source,
    /// Bytes a second below which it is left.
    least: u64,
    /// Forgets what others gave.
    anew: bool,
}

impl Fetcher {
    /// A fetcher into `depot`.
    ///
    /// # Errors
    /// The HTTP client cannot be made.
    pub fn new(depot: Depot, neighbours: Neighbours) -> Result<Self, reqwest::Error> {
        // One TLS provider for the whole process; another thread may have installed it already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = |redirects: redirect::Policy| {
            Client::builder()
                .connect_timeout(CONNECT_TIMEOUT)
                .read_timeout(READ_TIMEOUT)
                .redirect(redirects)
                .no_proxy()
                .user_agent(concat!("borgiosd/", env!("CARGO_PKG_VERSION")))
                .build()
        };
        let mirrors = client(redirect::Policy::limited(REDIRECTS_MAX))?;
        let nodes = client(redirect::Policy::none())?;
        Ok(Self { mirrors, nodes, depot, neighbours, patience, window: RATE_WINDOW })
    }

    /// Gets one blob from the first of `sources` that has it. Returns whether the depot holds it now.
    pub async fn get(&self, digest: Digest, size: u64, sources: &[Source]) -> bool {
        if self.depot.size(&digest) == Some(size) {
            return true;
        }
        // From here on news of it counts: a neighbour may get it while others are asked.
        self.neighbours.misses(digest, true);
        let mut slow = Vec::new();
        for source in sources {
            let attempt = Attempt { digest, size, source, least: RATE_MIN, anew: false };
            match self.get_from(attempt).await {
                Ok(()) => return true,
                Err(FetchError::Trickles(rate)) => slow.push((rate, source)),
                Err(_) => {}
            }
        }
        // Whoever has it is slow. Each but the last is held to half of what the next one gave, so that
        // none has to be faster than it can, and whoever does not even try is left once more.
        slow.sort_by_key(|(rate, _)| Reverse(*rate));
        for (at, &(_, source)) in slow.iter().enumerate() {
            let least = slow.get(at + 1).map_or(0, |(next, _)| next / 2);
            let attempt = Attempt { digest, size, source, least, anew: false };
            if self.get_from(attempt).await.is_ok() {
                return true;
            }
        }
        false
    }

    /// Gets a blob from one source within its time, and says how that went.
    async fn get_from(&self, attempt: Attempt<'_>) -> Result<(), FetchError> {
        let Attempt { digest, size, source, .. } = attempt;
        // Whoever brought it may have come to the end meanwhile.
        if self.depot.size(&digest) == Some(size) {
            self.neighbours.misses(digest, false);
            return Ok(());
        }
        let patience = (self.patience)(size);
        let got = tokio::time::timeout(patience, self.try_twice(attempt)).await;
        let got = got.unwrap_or(Err(FetchError::Slow(patience)));
        match &got {
            Ok(()) => {
                info!(
                    BORGIOS_EVENT = "blob_fetched",
                    BORGIOS_BLOB = %digest,
                    BORGIOS_FROM = %source,
                    size,
                    "fetched a blob of {size} bytes from {source}"
                );
                self.neighbours.misses(digest, false);
            }
            Err(
                error
                @ (FetchError::Depot(_) | FetchError::WrongSize { .. } | FetchError::BadPiece),
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
        got
    }

    async fn try_twice(&self, attempt: Attempt<'_>) -> Result<(), FetchError> {
        match self.attempt(attempt).await {
            // The beginning came from somebody else, who may be the one that lied: a source is
            // refused for its own bytes only, or a liar that always breaks off would keep the
            // honest from ever finishing.
            Ok(Some(error @ DepotError::BadDigest { .. })) => {
                debug!(source = %attempt.source, "begins anew: {error}");
                let anew = Attempt { anew: true, ..attempt };
                self.attempt(anew).await?.map_or(Ok(()), |error| Err(error.into()))
            }
            Ok(Some(error)) => Err(error.into()),
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// One attempt. `Some` is what was wrong with a blob of which this source gave the end only.
    async fn attempt(&self, attempt: Attempt<'_>) -> Result<Option<DepotError>, FetchError> {
        let Attempt { digest, size, source, least, anew } = attempt;
        let depot = self.depot.clone();
        // What is there already is hashed again: this blocks.
        let mut receiving = blocking(move || depot.receive(digest, size)).await?;
        if anew {
            disk::in_place(|| receiving.restart())?;
        }
        let mut rate = Rate::new(least, self.window);
        let mut resumed = receiving.have() > 0;
        if !receiving.whole() {
            match source {
                Source::Url(_) | Source::Node(_) => {
                    resumed &= self.stream(&mut receiving, attempt, &mut rate).await?;
                }
                Source::Link(link, _) => {
                    self.pieces(&mut receiving, digest, size, *link, &mut rate).await?;
                }
            }
        }
        match blocking(move || receiving.finish()).await {
            Ok(_) => Ok(None),
            Err(FetchError::Depot(error)) if resumed => Ok(Some(error)),
            Err(error) => Err(error),
        }
    }

    fn request(&self, source: &Source, base: &str, digest: Digest) -> RequestBuilder {
        let client = if matches!(source, Source::Url(_)) { &self.mirrors } else { &self.nodes };
        client.get(format!("{}/{}", base.trim_end_matches('/'), digest.hex()))
    }

    /// Asks a neighbour for piece after piece, as many ahead as its line carries. The first one alone
    /// says whether it has the blob at all.
    async fn pieces(
        &self,
        receiving: &mut Receiving,
        digest: Digest,
        size: u64,
        link: LinkId,
        rate: &mut Rate,
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
            let piece = rate.next(asking.finish()).await?.ok_or(FetchError::Link)?;
            let found = piece.size.ok_or(FetchError::Absent)?;
            if found != size {
                return Err(FetchError::WrongSize { found, expected: size });
            }
            let bytes = BASE64.decode(piece.bytes).map_err(|_| FetchError::BadPiece)?;
            if bytes.len() != length as usize {
                return Err(FetchError::BadPiece);
            }
            rate.came(bytes.len());
            let in_time = asked.elapsed() < PIECE_TARGET;
            window = if in_time { (window + 1).min(WINDOW) } else { (window - 1).max(1) };
            disk::in_place(|| receiving.write(&bytes))?;
        }
    }

    /// Streams the rest from a folder. Returns whether it went on where another source ended.
    async fn stream(
        &self,
        receiving: &mut Receiving,
        attempt: Attempt<'_>,
        rate: &mut Rate,
    ) -> Result<bool, FetchError> {
        let Attempt { digest, size, source, .. } = attempt;
        let (Source::Url(base) | Source::Node(base)) = source else {
            return Err(FetchError::Absent);
        };
        let have = receiving.have();
        let mut request = self.request(source, base, digest);
        if have > 0 {
            request = request.header(header::RANGE, format!("bytes={have}-"));
        }
        let mut response = rate.next(request.send()).await?.map_err(http_error)?;
        let left = match response.status() {
            StatusCode::OK => {
                disk::in_place(|| receiving.restart())?;
                size
            }
            StatusCode::PARTIAL_CONTENT if have > 0 && begins_at(&response, have) => size - have,
            status => return Err(FetchError::Status(status)),
        };
        if let Some(found) = response.content_length().filter(|found| *found != left) {
            return Err(FetchError::WrongSize { found, expected: left });
        }
        while let Some(chunk) = rate.next(response.chunk()).await?.map_err(http_error)? {
            rate.came(chunk.len());
            disk::in_place(|| receiving.write(&chunk))?;
        }
        Ok(left < size)
    }
}

fn http_error(error: reqwest::Error) -> FetchError {
    FetchError::Http(error.to_string())
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
mod tests;
