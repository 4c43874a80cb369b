//! Frames out of a pipe: each length is checked before there is room for it.
//!
//! The hub polls its readers itself, so that a frame costs no wake of one task by another. A reader
//! that may not take the next batch is not woken by anything: the hub looks at all of them each time
//! it has done something.

use std::io;
use std::mem;
use std::task::{Context, Poll, ready};

use borgios_stream::Frame;
use borgios_stream::frame::{FRAME_MAX, FrameError, frame_len};
use bytes::{Bytes, BytesMut};
use tokio_util::sync::ReusableBoxFuture;

use crate::pipe::{PipeRead, READ_SIZE};

/// What a reader hears.
#[derive(Debug)]
pub(crate) enum Heard {
    /// A frame.
    Frame(Frame),
    /// What came was none; nothing follows.
    Garbage(FrameError),
    /// The pipe has ended; nothing follows.
    End,
}

impl Heard {
    /// Bytes that it holds.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Frame(Frame::Batch(batch)) => batch.len(),
            // Small beside a batch, or bounded by what the core keeps of it.
            Self::Frame(_) | Self::Garbage(_) | Self::End => 0,
        }
    }
}

/// A reader, whatever pipe it reads.
pub(crate) trait Reading: Send {
    /// What comes next; a batch only while the gate is `open`.
    fn poll_heard(&mut self, context: &mut Context<'_>, open: bool) -> Poll<Heard>;
    /// Whether a batch was heard that waits for the gate: nothing wakes anybody for it.
    fn is_held(&self) -> bool;
}

/// Reads a pipe to its end.
pub(crate) struct Reader<R> {
    state: State<R>,
    /// A read that is under way, with the pipe and the buffer.
    read: ReusableBoxFuture<'static, (R, BytesMut, io::Result<usize>)>,
    frames: Frames,
    /// Heard, and waiting for the gate.
    next: Option<Heard>,
}

enum State<R> {
    /// More may be in the buffer.
    Looking(R),
    /// Waits for bytes.
    Waiting,
    /// Nothing follows.
    Ended,
}

impl<R: PipeRead> Reader<R> {
    pub(crate) fn new(pipe: R) -> Self {
        Self {
            state: State::Looking(pipe),
            read: ReusableBoxFuture::new(std::future::pending()),
            frames: Frames::default(),
            next: None,
        }
    }

    /// Parses what has come, or waits for more of it.
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Heard> {
        loop {
            match mem::replace(&mut self.state, State::Ended) {
                State::Looking(pipe) => match self.frames.next() {
                    Ok(Some(bytes)) => match Frame::parse(bytes) {
                        Ok(frame) => {
                            self.state = State::Looking(pipe);
                            return Poll::Ready(Heard::Frame(frame));
                        }
                        Err(error) => return Poll::Ready(Heard::Garbage(error)),
                    },
                    Ok(None) => {
                        let buffer = mem::take(&mut self.frames.buffer);
                        self.read.set(read_more(pipe, buffer));
                        self.state = State::Waiting;
                    }
                    Err(error) => return Poll::Ready(Heard::Garbage(error)),
                },
                State::Waiting => {
                    self.state = State::Waiting;
                    let (pipe, buffer, read) = ready!(self.read.poll(context));
                    self.frames.buffer = buffer;
                    self.state = match read {
                        Ok(length) if length > 0 => State::Looking(pipe),
                        Ok(_) | Err(_) => State::Ended,
                    };
                    if matches!(self.state, State::Ended) {
                        return Poll::Ready(Heard::End);
                    }
                }
                // Its link is closed by what was heard last.
                State::Ended => return Poll::Pending,
            }
        }
    }
}

async fn read_more<R: PipeRead>(
    mut pipe: R,
    mut buffer: BytesMut,
) -> (R, BytesMut, io::Result<usize>) {
    let read = pipe.read(&mut buffer).await;
    (pipe, buffer, read)
}

impl<R: PipeRead> Reading for Reader<R> {
    fn poll_heard(&mut self, context: &mut Context<'_>, open: bool) -> Poll<Heard> {
        let next = match self.next.take() {
            Some(next) => next,
            None => ready!(self.poll_next(context)),
        };
        if !open && matches!(next, Heard::Frame(Frame::Batch(_))) {
            self.next = Some(next);
            return Poll::Pending;
        }
        Poll::Ready(next)
    }

    fn is_held(&self) -> bool {
        self.next.is_some()
    }
}

/// Collects bytes until they make frames.
#[derive(Debug, Default)]
struct Frames {
    buffer: BytesMut,
    /// The buffer was made for the frame that it begins with.
    made_for_one: bool,
}

impl Frames {
    /// Takes the next whole frame; `None` when more bytes are needed, with room for them.
    ///
    /// No frame holds more than twice its length in memory: bounds count the bytes of what is kept, and
    /// whoever sends it decides what comes with it.
    fn next(&mut self) -> Result<Option<Bytes>, FrameError> {
        let Some(head) = self.buffer.first_chunk::<8>() else {
            self.buffer.reserve(READ_SIZE);
            return Ok(None);
        };
        let length = frame_len(head)?;
        if length > FRAME_MAX || length < head.len() {
            return Err(FrameError::Length(length));
        }
        if self.buffer.len() < length {
            // At most FRAME_MAX, and one allocation for all of it: no more than the frame is read then, so
            // that what is kept of it is no larger than it. (`reserve` would double what there is.)
            if self.buffer.capacity() < length {
                let mut whole = BytesMut::with_capacity(length);
                whole.extend_from_slice(&self.buffer);
                self.buffer = whole;
                self.made_for_one = true;
            }
            return Ok(None);
        }
        // A packet that is longer than the rest of the frame makes the buffer grow.
        let fits = self.buffer.capacity() <= 2 * length;
        let own = mem::take(&mut self.made_for_one) && fits;
        let frame = self.buffer.split_to(length);
        if !own {
            return Ok(Some(Bytes::copy_from_slice(&frame)));
        }
        // A copy of what follows, a packet at most: else each would keep the other's memory.
        self.buffer = BytesMut::from(&*self.buffer);
        Ok(Some(frame.freeze()))
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use borgios_stream::frame::HeadsDigest;

    use super::*;

    /// Gives its bytes in pieces, then ends.
    struct Pieces(Vec<Vec<u8>>);

    impl PipeRead for Pieces {
        async fn read(&mut self, into: &mut BytesMut) -> io::Result<usize> {
            if self.0.is_empty() {
                return Ok(0);
            }
            let piece = self.0.remove(0);
            into.extend_from_slice(&piece);
            Ok(piece.len())
        }
    }

    #[test]
    fn frames_come_whole_whatever_the_pieces_and_the_end_comes_last() {
        let frame = Frame::Digest(HeadsDigest { count: 3, xor: [7; 32] });
        let bytes = [frame.encode(), frame.encode()].concat();
        for size in 1..bytes.len() {
            let pieces = bytes.chunks(size).map(<[u8]>::to_vec).collect();
            let mut reader = Reader::new(Pieces(pieces));
            let mut context = Context::from_waker(Waker::noop());
            for _ in 0..2 {
                let heard = reader.poll_heard(&mut context, false);
                assert!(matches!(heard, Poll::Ready(Heard::Frame(found)) if found == frame));
            }
            assert!(matches!(reader.poll_heard(&mut context, false), Poll::Ready(Heard::End)));
            assert!(reader.poll_heard(&mut context, true).is_pending());
        }
    }

    /// 68,000 bytes of which a first piece has come.
    #[test]
    fn a_long_frame_gets_room_for_itself_and_no_more() {
        let length = 68_000_u32;
        let mut frames = Frames::default();
        assert_eq!(frames.next().unwrap(), None);
        frames.buffer.extend_from_slice(b"BGS1");
        frames.buffer.extend_from_slice(&length.to_be_bytes());
        frames.buffer.extend_from_slice(&[0; 16 * 1024]);
        assert_eq!(frames.next().unwrap(), None);
        assert_eq!(frames.buffer.capacity(), length as usize);
    }

    /// A long frame's last packet brings a short one too, and the one after that begins a third.
    #[test]
    fn a_frame_that_is_kept_keeps_little_beside_itself() {
        let frame = |length: u32| {
            let mut bytes = vec![7_u8; length as usize];
            bytes[..4].copy_from_slice(b"BGS1");
            bytes[4..8].copy_from_slice(&length.to_be_bytes());
            bytes
        };
        let (long, short, third) = (frame(264_800), frame(16 * 1024), frame(400));
        let mut frames = Frames::default();
        for piece in long[..long.len() - 1].chunks(32 * 1024) {
            frames.buffer.extend_from_slice(piece);
            assert_eq!(frames.next().unwrap(), None);
        }
        let last = [&long[long.len() - 1..], &short[..], &third[..20]].concat();
        frames.buffer.extend_from_slice(&last);
        let mut kept = Vec::new();
        kept.extend(frames.next().unwrap());
        kept.extend(frames.next().unwrap());
        assert_eq!(frames.next().unwrap(), None);
        frames.buffer.extend_from_slice(&[&third[20..], &long[..20_000]].concat());
        kept.extend(frames.next().unwrap());
        assert_eq!(kept, [long, short, third]);
        for frame in kept {
            let length = frame.len();
            let held = frame.try_into_mut().expect("nothing else holds its memory");
            assert!(held.capacity() <= 2 * length, "{} bytes for {length}", held.capacity());
        }
    }
}
