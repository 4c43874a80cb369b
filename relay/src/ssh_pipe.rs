//! A pipe over a channel of the SSH connection that two neighbours have anyway.

use std::io;

use bytes::{Bytes, BytesMut};
use russh::{ChannelMsg, ChannelReadHalf, ChannelWriteHalf, cipher, client, server};

use crate::pipe::{Pipe, PipeRead, PipeWrite, next_write};

/// The ciphers of an SSH connection that carries streams, best first: AES-256-GCM moves 2.6 times what
/// `chacha20-poly1305@openssh.com`, russh's own first choice, does on a processor with AES
/// instructions (`tests/run.sh bench tree`: `ssh-tree` beside `ssh-tree-chacha`).
pub const CIPHERS: &[cipher::Name] =
    &[cipher::AES_256_GCM, cipher::AES_128_GCM, cipher::CHACHA20_POLY1305];

/// A channel whose subsystem both sides have agreed on.
pub struct SshPipe {
    read: ChannelReadHalf,
    write: SshWrite,
}

impl SshPipe {
    /// On a connection this side dialled.
    #[must_use]
    pub fn dialled(read: ChannelReadHalf, write: ChannelWriteHalf<client::Msg>) -> Self {
        Self { read, write: SshWrite::Dialled(write) }
    }

    /// On a connection the other side dialled.
    #[must_use]
    pub fn accepted(read: ChannelReadHalf, write: ChannelWriteHalf<server::Msg>) -> Self {
        Self { read, write: SshWrite::Accepted(write) }
    }
}

impl Pipe for SshPipe {
    type Read = SshRead;
    type Write = SshWrite;

    fn split(self) -> (SshRead, SshWrite) {
        (SshRead(self.read), self.write)
    }
}

/// Reads from a channel.
pub struct SshRead(ChannelReadHalf);

impl PipeRead for SshRead {
    async fn read(&mut self, into: &mut BytesMut) -> io::Result<usize> {
        loop {
            match self.0.wait().await {
                Some(ChannelMsg::Data { data }) if data.is_empty() => {}
                Some(ChannelMsg::Data { data }) => {
                    let length = data.len();
                    // What nobody else holds is taken over, not copied.
                    if into.is_empty() {
                        *into = BytesMut::from(data);
                    } else {
                        into.extend_from_slice(&data);
                    }
                    return Ok(length);
                }
                None | Some(ChannelMsg::Eof | ChannelMsg::Close) => return Ok(0),
                // Window sizes, signals and the like carry no bytes.
                Some(_) => {}
            }
        }
    }
}

/// Writes to a channel.
pub enum SshWrite {
    /// On a connection this side dialled.
    Dialled(ChannelWriteHalf<client::Msg>),
    /// On a connection the other side dialled.
    Accepted(ChannelWriteHalf<server::Msg>),
}

impl SshWrite {
    async fn send(&self, bytes: Bytes) -> io::Result<()> {
        match self {
            Self::Dialled(half) => half.data_bytes(bytes).await,
            Self::Accepted(half) => half.data_bytes(bytes).await,
        }
        .map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
    }
}

impl PipeWrite for SshWrite {
    async fn write(&mut self, frames: &[Bytes]) -> io::Result<()> {
        let mut rest = frames;
        while let Some(bytes) = next_write(&mut rest) {
            self.send(bytes).await?;
        }
        Ok(())
    }

    async fn close(&mut self) {
        // The connection may be gone, and then there is nothing left to end.
        match self {
            Self::Dialled(half) => {
                let _ = half.eof().await;
                let _ = half.close().await;
            }
            Self::Accepted(half) => {
                let _ = half.eof().await;
                let _ = half.close().await;
            }
        }
    }
}
