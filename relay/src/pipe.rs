//! A two-way stream of bytes to one neighbour, whatever carries it.
//!
//! The hub writes whole frames and reads whatever has arrived; it never asks what lies below.
//! There are two kinds: a channel of the SSH connection ([`crate::ssh_pipe`]) and a TLS connection
//! beside it ([`crate::tls`]). Both have authenticated the neighbour before there is a pipe.

use std::future::Future;
use std::io;

use bytes::{Bytes, BytesMut};
use tokio::io::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf,
};

/// Bytes that one read asks for: four TLS records, or one SSH packet.
pub const READ_SIZE: usize = 64 * 1024;

/// Both halves of a pipe.
pub trait Pipe: Send + 'static {
    /// The half that reads.
    type Read: PipeRead;
    /// The half that writes.
    type Write: PipeWrite;

    /// Takes it apart, for one task each.
    fn split(self) -> (Self::Read, Self::Write);
}

/// The reading half.
pub trait PipeRead: Send + 'static {
    /// Waits for bytes and appends them, at most about [`READ_SIZE`]; 0 means the end.
    ///
    /// # Errors
    /// The connection is gone.
    fn read(&mut self, into: &mut BytesMut) -> impl Future<Output = io::Result<usize>> + Send;
}

/// The writing half.
pub trait PipeWrite: Send + 'static {
    /// Writes these bytes one after the other and sees that they leave; waits while the neighbour
    /// does not read. Dropped half-way, the pipe is of no more use.
    ///
    /// # Errors
    /// The connection is gone.
    fn write(&mut self, frames: &[Bytes]) -> impl Future<Output = io::Result<()>> + Send;

    /// Ends this direction in an orderly way; errors do not matter any more.
    fn close(&mut self) -> impl Future<Output = ()> + Send;
}

/// A pipe over anything that reads and writes: TCP, TLS, or memory in tests.
#[derive(Debug)]
pub struct StreamPipe<S>(pub S);

impl<S: AsyncRead + AsyncWrite + Send + 'static> Pipe for StreamPipe<S> {
    type Read = StreamRead<S>;
    type Write = StreamWrite<S>;

    fn split(self) -> (Self::Read, Self::Write) {
        let (read, write) = tokio::io::split(self.0);
        (StreamRead(read), StreamWrite(write))
    }
}

/// Reads from a [`StreamPipe`].
#[derive(Debug)]
pub struct StreamRead<S>(ReadHalf<S>);

impl<S: AsyncRead + Send + 'static> PipeRead for StreamRead<S> {
    async fn read(&mut self, into: &mut BytesMut) -> io::Result<usize> {
        into.reserve(READ_SIZE);
        self.0.read_buf(into).await
    }
}

/// Writes to a [`StreamPipe`].
#[derive(Debug)]
pub struct StreamWrite<S>(WriteHalf<S>);

impl<S: AsyncWrite + Send + 'static> PipeWrite for StreamWrite<S> {
    async fn write(&mut self, frames: &[Bytes]) -> io::Result<()> {
        for frame in frames {
            self.0.write_all(frame).await?;
        }
        self.0.flush().await
    }

    async fn close(&mut self) {
        // The neighbour may be gone, and then there is nothing left to end.
        let _ = self.0.shutdown().await;
    }
}
