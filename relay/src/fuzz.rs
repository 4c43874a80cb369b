//! A door for the fuzzer (feature `fuzz`): what a reader makes of bytes that come in pieces. No
//! program uses it.

use std::io;
use std::task::{Context, Poll, Waker};

use bytes::BytesMut;

use crate::pipe::PipeRead;
use crate::reader::{Heard, Reader, Reading as _};

/// Gives its bytes in pieces, then ends.
struct Pieces {
    bytes: Vec<u8>,
    size: usize,
}

impl PipeRead for Pieces {
    async fn read(&mut self, into: &mut BytesMut) -> io::Result<usize> {
        let length = self.size.min(self.bytes.len());
        into.extend_from_slice(&self.bytes[..length]);
        self.bytes.drain(..length);
        Ok(length)
    }
}

/// Reads a pipe that carries `bytes`, `size` at a time (at least 1): how many frames came out, and
/// what ended it if that was no frame.
///
/// # Panics
/// If the reader waits for what is there, or holds more than was sent.
#[must_use]
pub fn read(bytes: &[u8], size: usize) -> (usize, Option<String>) {
    let mut reader = Reader::new(Pieces { bytes: bytes.to_vec(), size: size.max(1) });
    let mut context = Context::from_waker(Waker::noop());
    let (mut frames, mut held) = (0, 0);
    loop {
        let Poll::Ready(heard) = reader.poll_heard(&mut context, true) else {
            panic!("a reader waits, and everything is there");
        };
        held += heard.bytes();
        assert!(held <= bytes.len(), "more is held than was sent");
        match heard {
            Heard::Frame(_) => frames += 1,
            Heard::Garbage(error) => return (frames, Some(error.to_string())),
            Heard::End => return (frames, None),
        }
    }
}
