//! Fetching a blob by its digest from whoever has it.
//!
//! Size first, hashing while it streams, going on in the middle after a break. A source is trusted
//! with nothing: what it sends is the blob or it is not. One that sent wrong bytes is named in the
//! log, and the next one is asked from the beginning.

use std::time::Duration;

use borgios_types::Digest;
use reqwest::{Client, StatusCode, header};
use thiserror::Error;
use tracing::{debug, info, warn};

use crate::depot::{Depot, DepotError, Receiving};

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest silence in the middle of a blob.
const READ_TIMEOUT: Duration = Duration::from_secs(20);
/// Redirects followed; mirrors use one or two.
const REDIRECTS_MAX: usize = 4;

/// Why one source did not give a blob.
#[derive(Debug, Error)]
pub enum FetchError {
    /// No answer, or it broke off.
    #[error("{0}")]
    Http(String),
    /// It does not have it.
    #[error("it answered {0}")]
    Status(StatusCode),
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
            Self::Http(_) => "unreachable",
            Self::Status(_) => "not_there",
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
}

impl Fetcher {
    /// A fetcher into `depot`.
    ///
    /// # Errors
    /// The HTTP client cannot be made.
    pub fn new(depot: Depot) -> Result<Self, reqwest::Error> {
        // One TLS provider for the whole process; another thread may have installed it already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            .redirect(reqwest::redirect::Policy::limited(REDIRECTS_MAX))
            .no_proxy()
            .user_agent(concat!("borgiosd/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { client, depot })
    }

    /// Gets one blob from the first of `sources` (`<base>`, asked for `<base>/<hex>`) that has it.
    /// Returns whether the depot holds it now.
    pub async fn get(&self, digest: Digest, size: u64, sources: &[String]) -> bool {
        if self.depot.size(&digest) == Some(size) {
            return true;
        }
        for source in sources {
            let url = format!("{}/{}", source.trim_end_matches('/'), digest.hex());
            match self.get_from(digest, size, &url).await {
                Ok(()) => {
                    info!(
                        BORGIOS_EVENT = "blob_fetched",
                        BORGIOS_BLOB = %digest,
                        size,
                        url,
                        "fetched a blob of {size} bytes"
                    );
                    return true;
                }
                Err(error @ (FetchError::Depot(_) | FetchError::WrongSize { .. })) => warn!(
                    BORGIOS_EVENT = "refused",
                    BORGIOS_REFUSAL = error.code(),
                    BORGIOS_KIND = "blob",
                    BORGIOS_BLOB = %digest,
                    BORGIOS_FROM = url,
                    "refused a blob from {url}: {error}"
                ),
                Err(error) => debug!(url, "no blob from there: {error}"),
            }
        }
        false
    }

    async fn get_from(&self, digest: Digest, size: u64, url: &str) -> Result<(), FetchError> {
        let depot = self.depot.clone();
        // What is there already is hashed again: this blocks.
        let mut receiving = blocking(move || depot.receive(digest, size)).await?;
        if !receiving.whole() {
            self.stream(&mut receiving, size, url).await?;
        }
        blocking(move || receiving.finish()).await?;
        Ok(())
    }

    async fn stream(
        &self,
        receiving: &mut Receiving,
        size: u64,
        url: &str,
    ) -> Result<(), FetchError> {
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
        Ok(())
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

    async fn server(blobs: &[&[u8]]) -> (tempfile::TempDir, Depot, String) {
        let folder = tempfile::tempdir().unwrap();
        let depot = Depot::open(folder.path()).unwrap();
        for bytes in blobs {
            let mut receiving = depot.receive(Digest::of(bytes), bytes.len() as u64).unwrap();
            receiving.write(bytes).unwrap();
            receiving.finish().unwrap();
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}/blobs", listener.local_addr().unwrap());
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
        let fetcher = Fetcher::new(depot.clone()).unwrap();
        let nobody = "http://127.0.0.1:1/blobs".to_owned();
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
        let fetcher = Fetcher::new(depot.clone()).unwrap();
        assert!(!fetcher.get(digest, 1000, std::slice::from_ref(&lying)).await);
        assert_eq!(depot.size(&digest), None);
        assert!(fetcher.get(digest, 1000, &[lying, honest]).await);
        assert_eq!(std::fs::read(depot.path(&digest)).unwrap(), good);
    }

    #[tokio::test]
    async fn a_blob_of_another_size_is_not_even_begun() {
        let blob = vec![7; 1000];
        let (_theirs, _, base) = server(&[&blob]).await;
        let (_ours, depot, _) = server(&[]).await;
        let fetcher = Fetcher::new(depot.clone()).unwrap();
        assert!(!fetcher.get(Digest::of(&blob), 999, &[base]).await);
        assert_eq!(depot.size(&Digest::of(&blob)), None);
    }
}
