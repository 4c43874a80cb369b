//! The one TCP port: SSH and public blobs share it, told apart by their first bytes.
//!
//! ```text
//!  accept ─▶ gate ─▶ first bytes ─┬─ "GET ", "HEAD", … ─▶ HTTP blob server
//!                                   └─ "SSH-", silence, anything else ─▶ SSH server
//! ```
//!
//! Silence means SSH because some clients wait for the server's greeting; nonsense is left to the
//! SSH server, which refuses it. How many connections there may be is the gate's business.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::gate::{Gate, Place};
use crate::stream::Guarded;

/// Silence after which a connection counts as SSH.
const SILENCE: Duration = Duration::from_millis(300);
/// Pause after an accept that failed, as it does when no file descriptor is left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// What HTTP requests begin with; only the first two are ever served.
const METHODS: [&[u8]; 8] =
    [b"GET ", b"HEAD", b"POST", b"PUT ", b"DELE", b"OPTI", b"PATC", b"CONN"];

/// What a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speech {
    /// SSH, or something that its server shall refuse.
    Ssh,
    /// HTTP.
    Http,
}

/// A connection that was let in.
pub struct Visitor {
    /// What it speaks.
    pub speech: Speech,
    /// The bytes.
    pub stream: Guarded<TcpStream>,
    /// Where it comes from.
    pub from: SocketAddr,
    /// Cuts the connection.
    pub cut: CancellationToken,
    /// Its place among all connections.
    pub place: Arc<Place>,
}

/// Accepts connections until `stop`, each served by the future that `serve` returns, and waits for
/// those futures then. A connection is cut when its future has ended, in whatever way.
pub async fn run<F, Fut>(listener: TcpListener, gate: Gate, stop: CancellationToken, serve: F)
where
    F: Fn(Visitor) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = ()> + Send,
{
    let mut serving = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = serving.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        let (stream, from) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(BORGIOS_EVENT = "accept_failed", "cannot accept a connection: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let cut = CancellationToken::new();
        let place = gate.enter(from.ip(), &cut);
        let serve = serve.clone();
        serving.spawn(async move {
            let _cut = cut.clone().drop_guard();
            // Small frames must not wait for each other; a socket that cannot is slower, not wrong.
            let _ = stream.set_nodelay(true);
            if let Some(visitor) = listen_first(stream, from, cut, place).await {
                serve(visitor).await;
            }
        });
    }
    // Those who dial find nobody from here on.
    drop(listener);
    while serving.join_next().await.is_some() {}
}

/// Reads the first four bytes, or as many as come in time.
async fn listen_first(
    mut stream: TcpStream,
    from: SocketAddr,
    cut: CancellationToken,
    place: Arc<Place>,
) -> Option<Visitor> {
    let mut first = [0; 4];
    let mut have = 0;
    let reading = async {
        while have < first.len() {
            match stream.read(&mut first[have..]).await {
                Ok(0) | Err(_) => return false,
                Ok(read) => have += read,
            }
        }
        true
    };
    // On silence `have` counts what did come; a closed connection is nobody's visitor.
    tokio::select! {
        read = tokio::time::timeout(SILENCE, reading) => if read == Ok(false) {
            return None;
        },
        () = cut.cancelled() => return None,
    }
    let speech = if METHODS.contains(&&first[..have]) { Speech::Http } else { Speech::Ssh };
    if speech == Speech::Http {
        place.downloads();
    }
    let stream = Guarded::new(first[..have].to_vec(), stream, cut.clone());
    Some(Visitor { speech, stream, from, cut, place })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt as _;
    use tokio::sync::mpsc;

    async fn speech_of(bytes: &[u8]) -> Speech {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (tell, mut told) = mpsc::channel(1);
        let stop = CancellationToken::new();
        let serving = tokio::spawn(run(listener, Gate::new(), stop.clone(), move |visitor| {
            let tell = tell.clone();
            async move { tell.send(visitor.speech).await.unwrap() }
        }));
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let speech = told.recv().await.unwrap();
        stop.cancel();
        serving.await.unwrap();
        speech
    }

    #[tokio::test]
    async fn first_bytes_tell_what_is_spoken() {
        assert_eq!(speech_of(b"GET / HTTP/1.1\r\n").await, Speech::Http);
        assert_eq!(speech_of(b"HEAD / HTTP/1.1\r\n").await, Speech::Http);
        assert_eq!(speech_of(b"SSH-2.0-x\r\n").await, Speech::Ssh);
        assert_eq!(speech_of(b"").await, Speech::Ssh);
        assert_eq!(speech_of(b"GE").await, Speech::Ssh);
        assert_eq!(speech_of(b"\0\0\0\0").await, Speech::Ssh);
    }
}
