//! borgiosd's socket for tools on this server: HTTP on `/run/borgios/api.sock`.
//!
//! `POST /v1` takes the same requests as the SSH subsystem; `PUT /blobs/<hex>` fills the depot;
//! `/livez`, `/readyz` and `/metrics` are for monitoring, `/healthz` for the keeper's probation. Who may open the socket decides who may
//! ask: it belongs to the user and group `borgios`, mode 0660.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Path as UrlPath, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post, put};
use borgios_types::Digest;
use borgios_types::limits::COMPONENT_MAX;
use hyper::body::Body as _;
use serde_json::Value;
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;

use crate::api::{Api, Caller, error};
use crate::depot::{Depot, DepotError};
use crate::disk;
use crate::frame::FRAME_MAX;
use crate::uploads::UPLOAD_IDLE;

/// Longest wait for the answer on the agent's health.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(10);

/// What the routes are answered from.
#[derive(Clone)]
struct Local {
    api: Api,
    depot: Depot,
}

/// Makes the socket.
///
/// # Errors
/// The folder or the socket cannot be made.
pub fn bind(path: &Path) -> io::Result<UnixListener> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    // One left behind by an earlier life; nobody else may bind here.
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
    Ok(listener)
}

/// Serves until `stop`.
pub async fn serve(listener: UnixListener, api: Api, depot: Depot, stop: CancellationToken) {
    let blobs = put(put_blob).layer(DefaultBodyLimit::disable());
    let router = Router::new()
        .route("/v1", post(request))
        .layer(DefaultBodyLimit::max(FRAME_MAX))
        .route("/blobs/{hex}", blobs)
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/healthz", get(healthz))
        .route("/metrics", get(metrics))
        .with_state(Local { api, depot });
    let serving = axum::serve(listener, router);
    tokio::select! {
        result = serving.into_future() => {
            if let Err(error) = result {
                tracing::error!(BORGIOS_EVENT = "api_ended", "the API socket failed: {error}");
            }
        }
        () = stop.cancelled() => {}
    }
}

async fn request(State(local): State<Local>, body: Result<Bytes, BytesRejection>) -> Response {
    let body = match body {
        Ok(body) => body,
        Err(rejection) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            tracing::warn!(
                BORGIOS_EVENT = "refused",
                BORGIOS_REFUSAL = "too_large",
                BORGIOS_FROM = Caller::Local.to_string(),
                "refused a request longer than {FRAME_MAX} bytes from {}",
                Caller::Local
            );
            let text = format!("a request is at most {FRAME_MAX} bytes");
            return answer(StatusCode::PAYLOAD_TOO_LARGE, &error("too_large", &text));
        }
        Err(rejection) => return rejection.into_response(),
    };
    let Ok(line) = std::str::from_utf8(&body) else {
        return answer(StatusCode::BAD_REQUEST, &error("bad_request", "not UTF-8"));
    };
    let value = local.api.request(&Caller::Local, line).await;
    let status =
        if value.get("ok").is_some() { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY };
    answer(status, &value)
}

async fn readyz(State(local): State<Local>) -> Response {
    if local.api.ready() {
        "ok\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "no place in the tree yet\n").into_response()
    }
}

async fn healthz(State(local): State<Local>) -> Response {
    if local.api.well().await {
        "ok\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "a member without a place in the tree\n").into_response()
    }
}

async fn metrics(State(local): State<Local>) -> Response {
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4")];
    (kind, crate::metrics::text(&local.api).await).into_response()
}

async fn put_blob(
    State(local): State<Local>,
    UrlPath(hex): UrlPath<String>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let Ok(digest) = Digest::from_hex(&hex) else {
        return answer(StatusCode::NOT_FOUND, &error("bad_request", "not 64 hexadecimal digits"));
    };
    let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    let Some(size) = length.and_then(|text| text.parse().ok()) else {
        let text = "a blob needs a Content-Length";
        return answer(StatusCode::LENGTH_REQUIRED, &error("bad_request", text));
    };
    match receive(&local.depot, digest, size, body).await {
        Ok(()) => answer(StatusCode::CREATED, &serde_json::json!({"ok": {"digest": digest}})),
        Err(refused) => {
            tracing::warn!(
                BORGIOS_EVENT = "refused",
                BORGIOS_REFUSAL = refused.code(),
                BORGIOS_BLOB = %digest,
                BORGIOS_FROM = "a local tool",
                "refused a blob: {refused}"
            );
            let text = refused.to_string();
            answer(StatusCode::UNPROCESSABLE_ENTITY, &error(refused.code(), &text))
        }
    }
}

async fn receive(
    depot: &Depot,
    digest: Digest,
    size: u64,
    mut body: Body,
) -> Result<(), DepotError> {
    if size > COMPONENT_MAX {
        return Err(DepotError::TooLarge(size));
    }
    // Whoever brings a blob may know that what lies here has changed on its disk; then it is removed.
    let held = depot.clone();
    let changed = blocking(move || held.check(&digest)).await.is_err();
    if !changed && depot.size(&digest) == Some(size) {
        return Ok(());
    }
    if !disk::in_place(|| depot.has_room(size))? {
        return Err(DepotError::Full(size));
    }
    let opened = depot.clone();
    let mut receiving = blocking(move || opened.receive(digest, size)).await?;
    // A body is sent from its beginning.
    disk::in_place(|| receiving.restart())?;
    // Nobody else can bring this blob meanwhile.
    let stalled = |_| io::Error::new(io::ErrorKind::TimedOut, "the blob stopped coming");
    while let Some(chunk) =
        tokio::time::timeout(UPLOAD_IDLE, next(&mut body)).await.map_err(stalled)?
    {
        let chunk = chunk.map_err(io::Error::other)?;
        disk::in_place(|| receiving.write(&chunk))?;
    }
    blocking(move || receiving.finish()).await?;
    Ok(())
}

/// The next piece of a body; trailers are empty pieces.
async fn next(body: &mut Body) -> Option<Result<Bytes, axum::Error>> {
    let frame = std::future::poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await?;
    Some(frame.map(|frame| frame.into_data().unwrap_or_default()))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, DepotError> + Send + 'static,
) -> Result<T, DepotError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(io::Error::other(error).into()),
    }
}

/// Asks the agent behind `socket` whether it is well; for `borgiosd --health`.
///
/// # Errors
/// It does not answer, or says why it is not well.
pub fn ask_health(socket: &Path) -> io::Result<()> {
    use std::io::{Read as _, Write as _};
    let mut stream = std::os::unix::net::UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(HEALTH_TIMEOUT))?;
    stream.write_all(b"GET /healthz HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut text = String::new();
    stream.take(4096).read_to_string(&mut text)?;
    let status = text.split_ascii_whitespace().nth(1).unwrap_or_default();
    if status == "200" {
        return Ok(());
    }
    let why = text.rsplit("\r\n").next().unwrap_or_default().trim();
    Err(io::Error::other(format!("it answers {status:?}: {why}")))
}

fn answer(status: StatusCode, value: &Value) -> Response {
    let kind = [(header::CONTENT_TYPE, "application/json")];
    (status, kind, format!("{value}\n")).into_response()
}
