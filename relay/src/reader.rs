//! Frames out of a pipe: each length is checked before there is room for it.

use std::sync::Arc;

use borgios_stream::frame::{FRAME_MAX, FrameError, frame_len};
use borgios_stream::{Frame, LinkId};
use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;

use crate::gate::Gate;
use crate::pipe::{PipeRead, READ_SIZE};

/// Frames shorter than this are copied out of the read buffer, so that one small message that is
/// kept does not keep the whole buffer.
const SMALL: usize = READ_SIZE / 4;

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

/// Reads a pipe to its end; batches wait at the `gate`.
pub(crate) async fn read<R: PipeRead>(
    link: LinkId,
    mut pipe: R,
    gate: Arc<Gate>,
    inbox: mpsc::Sender<(LinkId, Heard)>,
) {
    let mut frames = Frames::default();
    loop {
        loop {
            let heard = match frames.next() {
                Ok(None) => break,
                Ok(Some(bytes)) => Frame::parse(bytes).map_or_else(Heard::Garbage, Heard::Frame),
                Err(error) => Heard::Garbage(error),
            };
            if matches!(heard, Heard::Frame(Frame::Batch(_))) {
                gate.pass().await;
            }
            let last = matches!(heard, Heard::Garbage(_));
            if inbox.send((link, heard)).await.is_err() || last {
                return;
            }
        }
        match pipe.read(&mut frames.buffer).await {
            Ok(read) if read > 0 => {}
            // The hub may have ended before.
            _ => return drop(inbox.send((link, Heard::End)).await),
        }
    }
}

/// Collects bytes until they make frames.
#[derive(Debug, Default)]
struct Frames {
    buffer: BytesMut,
}

impl Frames {
    /// Takes the next whole frame; `None` when more bytes are needed.
    fn next(&mut self) -> Result<Option<Bytes>, FrameError> {
        let Some(head) = self.buffer.first_chunk::<8>() else { return Ok(None) };
        let length = frame_len(head)?;
        if length > FRAME_MAX || length < head.len() {
            return Err(FrameError::Length(length));
        }
        if self.buffer.len() < length {
            // At most FRAME_MAX, and one allocation for all of it.
            self.buffer.reserve(length - self.buffer.len());
            return Ok(None);
        }
        let frame = self.buffer.split_to(length);
        Ok(Some(if length < SMALL { Bytes::copy_from_slice(&frame) } else { frame.freeze() }))
    }
}
