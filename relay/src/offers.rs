//! TLS connections that were agreed on over SSH and have not come yet.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use borgios_types::NodeId;
use rand::RngCore as _;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::ServerName;
use rustls::server::Acceptor;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_rustls::{LazyConfigAcceptor, TlsConnector, TlsStream};

use crate::pipe::StreamPipe;
use crate::tls::{EphemeralKey, client_config, server_config};

/// Connections that may be awaited at a time: one for each link that comes up within [`LIFE`].
const OFFERS_MAX: usize = 1024;
/// How long a ticket is good for.
const LIFE: Duration = Duration::from_secs(10);
/// Longest time of a handshake, from the first byte.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// Names an awaited connection; the dialler shows it as the server name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TlsTicket(pub [u8; 16]);

impl TlsTicket {
    /// A name that a TLS ClientHello can carry: 32 hex digits, and a label that DNS has not.
    #[must_use]
    pub fn server_name(&self) -> String {
        let hex: String = self.0.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{hex}.borgios.invalid")
    }
}

/// Why there is no TLS connection; the SSH channel serves.
#[derive(Debug, Error)]
pub enum TlsError {
    /// Too many are awaited.
    #[error("too many connections are awaited")]
    TooMany,
    /// A ClientHello without a ticket that is awaited.
    #[error("nobody awaits this connection")]
    Unknown,
    /// The handshake failed, or the other key was not the expected one.
    #[error("the handshake failed")]
    Handshake(#[source] std::io::Error),
    /// Not done in time.
    #[error("the handshake took too long")]
    Timeout,
    /// The provider lacks something.
    #[error("TLS cannot be set up")]
    Setup(#[source] rustls::Error),
}

/// What the dialler sends over SSH: the public half of its key.
pub struct TlsDial {
    key: EphemeralKey,
    provider: Arc<CryptoProvider>,
}

/// Connections that this node awaits. Clones share them.
#[derive(Clone)]
pub struct Offers {
    provider: Arc<CryptoProvider>,
    awaited: Arc<Mutex<BTreeMap<TlsTicket, Awaited>>>,
}

struct Awaited {
    peer: NodeId,
    key: EphemeralKey,
    expected: [u8; 32],
    until: Instant,
    done: oneshot::Sender<TlsPipe>,
}

/// A pipe over TLS.
pub type TlsPipe = StreamPipe<TlsStream<Box<dyn Socket>>>;

/// What TLS runs over: TCP, in whatever wrapping the agent gives it.
pub trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Socket for S {}

fn seed() -> [u8; 32] {
    let mut seed = [0; 32];
    rand::rngs::OsRng.fill_bytes(&mut seed);
    seed
}

impl Offers {
    /// Awaits nothing yet.
    #[must_use]
    pub fn new(provider: Arc<CryptoProvider>) -> Self {
        Self { provider, awaited: Arc::default() }
    }

    /// Awaits a connection of `peer`, whose key for it is `expected`: what to tell it over SSH
    /// (ticket, public key), and where the pipe will come out. The receiver fails when the ticket
    /// has lapsed.
    ///
    /// # Errors
    /// [`TlsError::TooMany`].
    pub fn await_one(
        &self,
        peer: NodeId,
        expected: [u8; 32],
    ) -> Result<(TlsTicket, [u8; 32], oneshot::Receiver<TlsPipe>), TlsError> {
        let key = EphemeralKey::from_seed(seed());
        let public = key.public();
        let mut ticket = TlsTicket([0; 16]);
        rand::rngs::OsRng.fill_bytes(&mut ticket.0);
        let (done, pipe) = oneshot::channel();
        let until = Instant::now() + LIFE;
        let mut awaited = self.lock();
        awaited.retain(|_, awaited| Instant::now() < awaited.until && !awaited.done.is_closed());
        if awaited.len() >= OFFERS_MAX {
            return Err(TlsError::TooMany);
        }
        awaited.insert(ticket, Awaited { peer, key, expected, until, done });
        Ok((ticket, public, pipe))
    }

    /// Serves a connection whose first byte is that of a TLS handshake, 0x16; who it was.
    ///
    /// # Errors
    /// See [`TlsError`]; the connection is to be dropped.
    pub async fn accept(&self, stream: Box<dyn Socket>) -> Result<NodeId, TlsError> {
        tokio::time::timeout(HANDSHAKE, self.shake(stream)).await.map_err(|_| TlsError::Timeout)?
    }

    async fn shake(&self, stream: Box<dyn Socket>) -> Result<NodeId, TlsError> {
        let hello = LazyConfigAcceptor::new(Acceptor::default(), stream);
        let hello = hello.await.map_err(TlsError::Handshake)?;
        let shown = hello.client_hello().server_name().map(str::to_owned);
        let awaited = {
            let mut awaited = self.lock();
            let ticket = awaited.keys().find(|ticket| shown == Some(ticket.server_name())).copied();
            ticket.and_then(|ticket| awaited.remove(&ticket)).ok_or(TlsError::Unknown)?
        };
        if Instant::now() >= awaited.until {
            return Err(TlsError::Unknown);
        }
        let config = server_config(self.provider.clone(), &awaited.key, awaited.expected)
            .map_err(TlsError::Setup)?;
        let stream = hello.into_stream(Arc::new(config)).await.map_err(TlsError::Handshake)?;
        // Whoever awaited it may have given up.
        let _ = awaited.done.send(StreamPipe(stream.into()));
        Ok(awaited.peer)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<TlsTicket, Awaited>> {
        self.awaited.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TlsDial {
    /// Makes a key for one connection.
    #[must_use]
    pub fn new(provider: Arc<CryptoProvider>) -> Self {
        Self { key: EphemeralKey::from_seed(seed()), provider }
    }

    /// What the other side must be told over SSH.
    #[must_use]
    pub fn public(&self) -> [u8; 32] {
        self.key.public()
    }

    /// Shakes hands over a new TCP connection with who gave this ticket and has this key.
    ///
    /// # Errors
    /// See [`TlsError`].
    pub async fn dial(
        self,
        stream: Box<dyn Socket>,
        ticket: TlsTicket,
        expected: [u8; 32],
    ) -> Result<TlsPipe, TlsError> {
        let config = client_config(self.provider, &self.key, expected).map_err(TlsError::Setup)?;
        let name = ServerName::try_from(ticket.server_name()).expect("hex digits are a host name");
        let dialling = TlsConnector::from(Arc::new(config)).connect(name, stream);
        let stream = tokio::time::timeout(HANDSHAKE, dialling)
            .await
            .map_err(|_| TlsError::Timeout)?
            .map_err(TlsError::Handshake)?;
        Ok(StreamPipe(stream.into()))
    }
}
