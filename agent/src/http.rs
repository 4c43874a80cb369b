//! Public blobs over HTTP: `GET` and `HEAD /blobs/<hex>`, with ranges, and nothing else.
//!
//! Blobs are public to whoever can name their digest; there is no list of them.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use borgios_types::Digest;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncSeekExt as _, AsyncWrite};
use tokio_util::io::ReaderStream;

use crate::depot::Depot;

/// Longest wait for a whole request head; a slow reader of one would hold a connection for nothing.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest life of one connection: 512 MiB at 300 KB/s. Fetching goes on with a range.
const CONNECTION_MAX: Duration = Duration::from_secs(1_800);
/// Largest request head, in bytes; hyper's smallest.
const HEAD_MAX: usize = 8 * 1024;

/// The routes.
pub fn router(depot: Depot) -> Router {
    // `get` answers HEAD too: axum drops the body.
    Router::new().route("/blobs/{hex}", get(blob)).with_state(depot)
}

/// Serves one connection until it closes or lived too long.
pub async fn serve<S>(stream: S, router: Router)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(HEAD_MAX);
    let serving = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    // A peer that breaks off or speaks nonsense is no event: hyper has answered what it could.
    let _ = tokio::time::timeout(CONNECTION_MAX, serving).await;
}

async fn blob(State(depot): State<Depot>, Path(hex): Path<String>, headers: HeaderMap) -> Response {
    let Ok(digest) = Digest::from_hex(&hex) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let Ok(mut file) = tokio::fs::File::open(depot.path(&digest)).await else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let Ok(size) = file.metadata().await.map(|meta| meta.len()) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let range = match range_of(headers.get(header::RANGE), size) {
        Ok(range) => range,
        Err(Unsatisfiable) => {
            let allowed = [(header::CONTENT_RANGE, format!("bytes */{size}"))];
            return (StatusCode::RANGE_NOT_SATISFIABLE, allowed).into_response();
        }
    };
    let (start, end) = range.unwrap_or((0, size));
    if file.seek(std::io::SeekFrom::Start(start)).await.is_err() {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    let body = Body::from_stream(ReaderStream::with_capacity(file.take(end - start), 64 * 1024));
    let fixed = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::ACCEPT_RANGES, "bytes".to_owned()),
        (header::CONTENT_LENGTH, (end - start).to_string()),
    ];
    match range {
        None => (fixed, body).into_response(),
        Some(_) => {
            let last = end - 1;
            let part = [(header::CONTENT_RANGE, format!("bytes {start}-{last}/{size}"))];
            (StatusCode::PARTIAL_CONTENT, fixed, part, body).into_response()
        }
    }
}

/// What a range header asks of a file of `size` bytes, for the fuzzer; `None` sends the whole, as does
/// what is no range.
#[cfg(feature = "fuzz")]
#[must_use]
pub fn range(value: &[u8], size: u64) -> Option<(u64, u64)> {
    let value = HeaderValue::from_bytes(value).ok();
    range_of(value.as_ref(), size).ok().flatten()
}

/// A range that begins behind the end (RFC 9110 §15.5.17).
#[derive(Debug, PartialEq, Eq)]
struct Unsatisfiable;

/// Reads `bytes=a-`, `bytes=a-b` or `bytes=-n` as start and end (exclusive). What is not one such
/// range is ignored and the whole is sent, as RFC 9110 §14.2 allows.
fn range_of(value: Option<&HeaderValue>, size: u64) -> Result<Option<(u64, u64)>, Unsatisfiable> {
    let Some(range) = value
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.strip_prefix("bytes="))
        .and_then(|text| text.split_once('-'))
    else {
        return Ok(None);
    };
    let (start, end) = match range {
        ("", last) => match last.parse::<u64>() {
            Ok(last) => (size.saturating_sub(last), size),
            Err(_) => return Ok(None),
        },
        (first, "") => match first.parse() {
            Ok(first) => (first, size),
            Err(_) => return Ok(None),
        },
        (first, last) => match (first.parse::<u64>(), last.parse::<u64>()) {
            (Ok(first), Ok(last)) if first <= last => (first, last.saturating_add(1).min(size)),
            _ => return Ok(None),
        },
    };
    if start >= end { Err(Unsatisfiable) } else { Ok(Some((start, end))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_the_standard_says() {
        let read = |text: &str| range_of(Some(&HeaderValue::from_str(text).unwrap()), 10);
        assert_eq!(range_of(None, 10), Ok(None));
        assert_eq!(read("bytes=3-"), Ok(Some((3, 10))));
        assert_eq!(read("bytes=3-4"), Ok(Some((3, 5))));
        assert_eq!(read("bytes=3-99"), Ok(Some((3, 10))));
        assert_eq!(read("bytes=-4"), Ok(Some((6, 10))));
        assert_eq!(read("bytes=10-"), Err(Unsatisfiable));
        assert_eq!(read("bytes=-0"), Err(Unsatisfiable));
        for whole in ["bytes=4-3", "bytes=a-b", "lines=1-2", "bytes=1-2,4-5", "bytes"] {
            assert_eq!(read(whole), Ok(None), "{whole}");
        }
        let huge = format!("bytes=0-{}", u64::MAX);
        assert_eq!(read(&huge), Ok(Some((0, 10))));
    }
}
