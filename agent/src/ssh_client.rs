//! Dialling another server: TCP, its host key, our key, a subsystem: `peertree`, or `peertree-stream`
//! for a pipe beside the link.

use std::sync::Arc;
use std::time::Duration;

use borgios_relay::SshPipe;
use borgios_types::NodeId;
use russh::keys::{PrivateKey, PrivateKeyWithHashAlg, PublicKeyOrCertificate};
use russh::{ChannelMsg, ChannelReadHalf, ChannelWriteHalf, client};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::channel::{self, FrameReader, FrameWriter, our_key};
use crate::stream::Guarded;

/// Longest time from the first packet to the open subsystem; the tree gives up after four seconds.
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);
/// The user name nodes give; nobody looks at it.
const USER: &str = "borgios";

/// The subsystem of pipes.
pub const STREAM: &str = "peertree-stream";

/// Why a server could not be reached.
#[derive(Debug, Error)]
pub enum DialError {
    /// No answer in time.
    #[error("no answer within {} seconds", DIAL_TIMEOUT.as_secs())]
    Timeout,
    /// No TCP connection.
    #[error("no connection")]
    Connect(#[source] std::io::Error),
    /// The server there is another one.
    #[error("another server answers there: its host key is not {expected}")]
    WrongKey {
        /// Who should have answered.
        expected: NodeId,
    },
    /// It does not accept this node's key.
    #[error("it does not let this node's key in")]
    Refused,
    /// It does not speak the tree's language.
    #[error("it does not offer the subsystem")]
    NoSubsystem,
    /// Something in the SSH protocol.
    #[error("SSH failed")]
    Ssh(#[source] russh::Error),
}

/// An open `peertree` channel.
pub struct Dialled {
    /// Frames from the other side.
    pub reader: FrameReader,
    /// Frames to the other side.
    pub writer: FrameWriter,
    /// Cuts the connection.
    pub cut: CancellationToken,
    /// Keeps the connection; without it russh ends the session.
    pub session: client::Handle<HostKey>,
}

/// Checks the host key. No key on first use: who is dialled is known beforehand.
pub struct HostKey {
    expected: NodeId,
}

impl client::Handler for HostKey {
    type Error = russh::Error;

    async fn check_server_key(
        &mut self,
        offered: &PublicKeyOrCertificate,
    ) -> Result<bool, Self::Error> {
        Ok(match offered {
            PublicKeyOrCertificate::PublicKey { key, .. } => our_key(key) == Some(self.expected),
            PublicKeyOrCertificate::Certificate(_) => false,
        })
    }
}

/// Dials `address` and opens the tree's subsystem there, if it is `expected` who answers.
///
/// # Errors
/// See [`DialError`].
pub async fn dial(
    address: &str,
    expected: NodeId,
    key: Arc<PrivateKey>,
    cut: CancellationToken,
) -> Result<Dialled, DialError> {
    let (read, write, session) = subsystem(address, expected, key, "peertree", &cut).await?;
    let reader = FrameReader::new(read);
    Ok(Dialled { reader, writer: FrameWriter::Dialled(write), cut, session })
}

/// Dials `address` and opens a pipe for streams there, if it is `expected` who answers. The
/// connection lives as long as the handle.
///
/// # Errors
/// See [`DialError`].
pub async fn dial_stream(
    address: &str,
    expected: NodeId,
    key: Arc<PrivateKey>,
    cut: CancellationToken,
) -> Result<(SshPipe, client::Handle<HostKey>), DialError> {
    let (read, write, session) = subsystem(address, expected, key, STREAM, &cut).await?;
    Ok((SshPipe::dialled(read, write), session))
}

type Opened = (ChannelReadHalf, ChannelWriteHalf<client::Msg>, client::Handle<HostKey>);

async fn subsystem(
    address: &str,
    expected: NodeId,
    key: Arc<PrivateKey>,
    name: &str,
    cut: &CancellationToken,
) -> Result<Opened, DialError> {
    let dialling = open(address, expected, key, name, cut.clone());
    let result =
        tokio::time::timeout(DIAL_TIMEOUT, dialling).await.unwrap_or(Err(DialError::Timeout));
    if result.is_err() {
        // Ends whatever session task was begun.
        cut.cancel();
    }
    result
}

async fn open(
    address: &str,
    expected: NodeId,
    key: Arc<PrivateKey>,
    name: &str,
    cut: CancellationToken,
) -> Result<Opened, DialError> {
    let stream = TcpStream::connect(address).await.map_err(DialError::Connect)?;
    stream.set_nodelay(true).map_err(DialError::Connect)?;
    let config = client::Config {
        client_id: channel::greeting(),
        window_size: if name == STREAM { channel::STREAM_WINDOW } else { channel::WINDOW },
        maximum_packet_size: channel::PACKET,
        channel_buffer_size: channel::CHANNEL_BUFFER,
        preferred: channel::preferred(),
        inactivity_timeout: Some(channel::INACTIVITY),
        ..client::Config::default()
    };
    let stream = Guarded::new(Vec::new(), stream, cut.clone());
    let mut session = client::connect_stream(Arc::new(config), stream, HostKey { expected })
        .await
        .map_err(|error| match error {
            russh::Error::UnknownKey => DialError::WrongKey { expected },
            other => DialError::Ssh(other),
        })?;
    let key = PrivateKeyWithHashAlg::new(key, None);
    let answer = session.authenticate_publickey(USER, key).await.map_err(DialError::Ssh)?;
    if !answer.success() {
        return Err(DialError::Refused);
    }
    let channel = session.channel_open_session().await.map_err(DialError::Ssh)?;
    let (mut read, write) = channel.split();
    write.request_subsystem(true, name).await.map_err(DialError::Ssh)?;
    loop {
        match read.wait().await {
            Some(ChannelMsg::Success) => break,
            Some(ChannelMsg::WindowAdjusted { .. }) => {}
            _ => return Err(DialError::NoSubsystem),
        }
    }
    Ok((read, write, session))
}
