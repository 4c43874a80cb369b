//! A TCP connection whose first bytes were looked at, and that can be cut from outside.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// A stream that first gives back the bytes already read from it, and fails as soon as its token is
/// cancelled: the one sure way to end a session that its library runs in a task of its own.
pub struct Guarded<S> {
    prefix: Vec<u8>,
    given: usize,
    inner: S,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    token: CancellationToken,
}

impl<S> Guarded<S> {
    /// Puts `prefix` back in front of `inner`.
    pub fn new(prefix: Vec<u8>, inner: S, token: CancellationToken) -> Self {
        let cut = Box::pin(token.clone().cancelled_owned());
        Self { prefix, given: 0, inner, cut, token }
    }

    fn is_cut(&mut self, context: &mut Context<'_>) -> bool {
        // A finished future must not be polled again, so the token is asked first.
        self.token.is_cancelled() || self.cut.as_mut().poll(context).is_ready()
    }
}

fn aborted() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the connection was cut by this side")
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_cut(context) {
            return Poll::Ready(Err(aborted()));
        }
        if self.given < self.prefix.len() {
            let end = self.prefix.len().min(self.given + buffer.remaining());
            buffer.put_slice(&self.prefix[self.given..end]);
            self.given = end;
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_cut(context) {
            return Poll::Ready(Err(aborted()));
        }
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_cut(context) {
            return Poll::Ready(Err(aborted()));
        }
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt as _;

    #[tokio::test]
    async fn a_cut_stream_fails_at_once_even_while_somebody_reads() {
        let (near, _far) = tokio::io::duplex(64);
        let token = CancellationToken::new();
        let mut stream = Guarded::new(b"SSH-".to_vec(), near, token.clone());
        let mut four = [0; 4];
        stream.read_exact(&mut four).await.unwrap();
        assert_eq!(&four, b"SSH-");
        let reading = tokio::spawn(async move { stream.read(&mut [0; 1]).await });
        token.cancel();
        let error = reading.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
    }
}
