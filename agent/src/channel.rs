//! Frames over an SSH channel: one line of JSON each way at a time, whoever dialled.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use borgios_types::{PublicKey, SecretKey};
use russh::keys::{Algorithm, PrivateKey};
use russh::{ChannelMsg, ChannelReadHalf, ChannelWriteHalf, Preferred, SshId, client, kex, server};
use thiserror::Error;

use crate::frame::{FrameError, Lines};

/// Receive window of a channel. What lies in it can be overtaken by nothing: a heartbeat waits for
/// all of it, 0.4 s on a line of 10 Mbit/s, and the tree counts a neighbour dead after 2.4 s. With
/// 50 ms to and fro it carries 10 MB/s.
pub const WINDOW: u32 = 512 * 1024;
/// The same of a pipe for streams, which has a connection of its own: with 50 ms to and fro it
/// carries 80 MB/s.
pub const STREAM_WINDOW: u32 = 4 * 1024 * 1024;
/// Largest packet, as OpenSSH's; a piece of a blob takes two.
pub const PACKET: u32 = 32 * 1024;
/// Messages of a channel that wait to be read before the connection is no longer read: with
/// [`PACKET`] this bounds what a flood can make this process hold, 512 KiB for each channel. Opened
/// windows count too, so a long answer needs some to spare while nobody reads.
pub const CHANNEL_BUFFER: usize = 16;
/// Silence after which a connection is closed; a tree link beats every few seconds.
pub const INACTIVITY: Duration = Duration::from_secs(600);

/// What both sides call themselves in the SSH greeting.
#[must_use]
pub fn greeting() -> SshId {
    SshId::Standard(Cow::Borrowed(concat!("SSH-2.0-borgios_", env!("CARGO_PKG_VERSION"))))
}

/// The algorithms both sides offer: Ed25519 identities only, Curve25519 with ML-KEM before plain.
#[must_use]
pub fn preferred() -> Preferred {
    Preferred {
        key: Cow::Borrowed(&[Algorithm::Ed25519]),
        kex: Cow::Borrowed(&[
            kex::MLKEM768X25519_SHA256,
            kex::CURVE25519,
            kex::CURVE25519_PRE_RFC_8731,
            kex::EXTENSION_SUPPORT_AS_CLIENT,
            kex::EXTENSION_SUPPORT_AS_SERVER,
            kex::EXTENSION_OPENSSH_STRICT_KEX_AS_CLIENT,
            kex::EXTENSION_OPENSSH_STRICT_KEX_AS_SERVER,
        ]),
        ..Preferred::default()
    }
}

/// The node's key in russh's own type.
#[must_use]
pub fn russh_key(key: &SecretKey) -> Arc<PrivateKey> {
    let key = PrivateKey::from_openssh(key.to_openssh("").as_bytes())
        .expect("what to_openssh writes is an OpenSSH key");
    Arc::new(key)
}

/// A peer's key in our type; `None` for anything but a usable Ed25519 key.
#[must_use]
pub fn our_key(key: &russh::keys::PublicKey) -> Option<PublicKey> {
    PublicKey::from_bytes(key.key_data().ed25519()?.0).ok()
}

/// What a channel showed.
#[derive(Debug, PartialEq, Eq)]
pub enum Sign {
    /// A frame.
    Line(String),
    /// An empty line: the other side lives.
    Alive,
    /// Part of a frame, or room for more of this side's: the other side lives, and has not said so.
    Moved,
}

/// Reads frames.
pub struct FrameReader {
    half: ChannelReadHalf,
    lines: Lines,
}

impl FrameReader {
    /// Reads from a channel whose subsystem has been agreed on.
    #[must_use]
    pub fn new(half: ChannelReadHalf) -> Self {
        Self { half, lines: Lines::new() }
    }

    /// From here on a frame has at most `max` bytes.
    pub fn limit(&mut self, max: usize) {
        self.lines.limit(max);
    }

    /// The next frame that is not an empty line; `None` when the other side has finished.
    ///
    /// # Errors
    /// A frame beyond the bound, or one that is not text.
    pub async fn next(&mut self) -> Result<Option<String>, FrameError> {
        loop {
            match self.sign().await? {
                Some(Sign::Line(line)) => return Ok(Some(line)),
                Some(Sign::Alive | Sign::Moved) => {}
                None => return Ok(None),
            }
        }
    }

    /// The next frame or other sign of life; `None` when the other side has finished. Dropped
    /// half-way it loses nothing.
    ///
    /// # Errors
    /// As [`FrameReader::next`].
    pub async fn sign(&mut self) -> Result<Option<Sign>, FrameError> {
        if let Some(line) = self.lines.next_line()? {
            return Ok(Some(if line.is_empty() { Sign::Alive } else { Sign::Line(line) }));
        }
        match self.half.wait().await {
            Some(ChannelMsg::Data { data }) => {
                self.lines.push(&data);
                Ok(Some(match self.lines.next_line()? {
                    Some(line) if line.is_empty() => Sign::Alive,
                    Some(line) => Sign::Line(line),
                    None => Sign::Moved,
                }))
            }
            None | Some(ChannelMsg::Eof | ChannelMsg::Close) => Ok(None),
            // Window sizes, signals and the like are no frames.
            Some(_) => Ok(Some(Sign::Moved)),
        }
    }

    /// Reads and forgets everything until the other side has closed the channel, which it does
    /// once it has read what was sent before this side closed.
    pub async fn drain(&mut self) {
        while !matches!(self.half.wait().await, None | Some(ChannelMsg::Close)) {}
    }
}

/// Writes frames.
pub enum FrameWriter {
    /// On a connection this side dialled.
    Dialled(ChannelWriteHalf<client::Msg>),
    /// On a connection the other side dialled.
    Accepted(ChannelWriteHalf<server::Msg>),
}

/// The connection is gone.
#[derive(Clone, Copy, Debug, Error)]
#[error("the connection is closed")]
pub struct Closed;

impl FrameWriter {
    /// Writes one frame; waits while the other side does not read. Not to be dropped half-way
    /// unless the connection is given up with it.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn send(&self, mut line: String) -> Result<(), Closed> {
        line.push('\n');
        let bytes = line.into_bytes();
        match self {
            Self::Dialled(half) => half.data_bytes(bytes).await,
            Self::Accepted(half) => half.data_bytes(bytes).await,
        }
        .map_err(|_| Closed)
    }

    /// Ends the channel as a stock `ssh` client expects it: exit status, end of file, close.
    pub async fn finish(&self, status: u32) {
        // The connection may be gone already, and then there is nothing left to end.
        match self {
            Self::Dialled(half) => {
                let _ = half.eof().await;
                let _ = half.close().await;
            }
            Self::Accepted(half) => {
                let _ = half.exit_status(status).await;
                let _ = half.eof().await;
                let _ = half.close().await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_cross_over_unchanged() {
        let key = SecretKey::from_seed([5; 32]);
        let theirs = russh_key(&key);
        assert_eq!(our_key(theirs.public_key()), Some(key.public()));
    }
}
