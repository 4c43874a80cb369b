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

/// Room for one read while it is not known what comes: four TLS records, or one SSH packet.
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
    /// Waits for bytes and appends them, as many as there is room for in `into`, which has room for some,
    /// or one packet; 0 means the end.
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

/// Frames up to this many bytes are copied together: a copy costs less than a packet.
const SMALL: usize = 16 * 1024;
/// Bytes that are copied together at most.
const TOGETHER: usize = 64 * 1024;

/// Takes what goes into one write from the front of `frames`: one frame, or some small ones together.
/// Each write becomes a packet or a record of its own, and a call of the kernel.
pub(crate) fn next_write(frames: &mut &[Bytes]) -> Option<Bytes> {
    let (first, after) = frames.split_first()?;
    let (mut count, mut bytes) = (0, 0);
    for frame in frames.iter() {
        if frame.len() > SMALL || bytes + frame.len() > TOGETHER {
            break;
        }
        (count, bytes) = (count + 1, bytes + frame.len());
    }
    if count < 2 {
        *frames = after;
        return Some(first.clone());
    }
    let (small, after) = frames.split_at(count);
    *frames = after;
    let mut together = BytesMut::with_capacity(bytes);
    small.iter().for_each(|frame| together.extend_from_slice(frame));
    Some(together.freeze())
}

/// Reads from a [`StreamPipe`].
#[derive(Debug)]
pub struct StreamRead<S>(ReadHalf<S>);

impl<S: AsyncRead + Send + 'static> PipeRead for StreamRead<S> {
    async fn read(&mut self, into: &mut BytesMut) -> io::Result<usize> {
        self.0.read_buf(into).await
    }
}

/// Writes to a [`StreamPipe`].
#[derive(Debug)]
pub struct StreamWrite<S>(WriteHalf<S>);

impl<S: AsyncWrite + Send + 'static> PipeWrite for StreamWrite<S> {
    async fn write(&mut self, frames: &[Bytes]) -> io::Result<()> {
        let mut rest = frames;
        while let Some(bytes) = next_write(&mut rest) {
            self.0.write_all(&bytes).await?;
        }
        self.0.flush().await
    }

    async fn close(&mut self) {
        // The neighbour may be gone, and then there is nothing left to end.
        let _ = self.0.shutdown().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_frames_go_together_large_ones_alone_and_the_order_stays() {
        let lengths = [1, 2, SMALL + 1, 3, SMALL, SMALL, SMALL, SMALL, SMALL, TOGETHER, 4];
        let frames: Vec<Bytes> =
            (0_u8..).zip(lengths).map(|(index, length)| vec![index; length].into()).collect();
        let mut rest = &frames[..];
        let writes: Vec<Bytes> = std::iter::from_fn(|| next_write(&mut rest)).collect();
        assert_eq!(writes.concat(), frames.concat());
        let written: Vec<usize> = writes.iter().map(Bytes::len).collect();
        let four = 3 + 3 * SMALL;
        assert_eq!(written, [3, SMALL + 1, four, 2 * SMALL, TOGETHER, 4]);
    }
}
