//! What travels between two neighbours: frames of 4 bytes of type, 4 of length, and a body.
//!
//! A batch is its own frame: its magic is the type, its length the frame's. The pipe reads 8
//! bytes, asks [`frame_len`] how many there are in all, reads those and hands them to
//! [`Frame::parse`]; it never buffers more than [`FRAME_MAX`].

use bytes::{BufMut as _, Bytes, BytesMut};
use thiserror::Error;

use crate::batch::{self, Batch, BatchError};
use crate::bounds::{BATCH_MAX, CONTROL_MAX, HEADS_PAGE_MAX};
use crate::evidence::{Evidence, EvidenceError};
use crate::position::{BatchId, Head, Origin, Position};

/// Longest frame, in bytes.
pub const FRAME_MAX: usize = if BATCH_MAX > CONTROL_MAX { BATCH_MAX } else { CONTROL_MAX };

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// `BGS1`: a batch.
    Batch(Batch),
    /// `BGSd`: how many streams the sender holds, and the exclusive or of their heads' hashes.
    Digest(HeadsDigest),
    /// `BGSh`: heads, at most [`HEADS_PAGE_MAX`].
    Heads(Vec<Head>),
    /// `BGSf`: send me what comes after this position, at most `window` bytes of it.
    Fetch(Fetch),
    /// `BGSs`: the answer to a fetch begins: so many batches follow, one after the other.
    Served(Served),
    /// `BGSg`: what was asked for is gone; what is left begins after `after`.
    Gone(Gone),
    /// `BGSe`: an origin equivocated.
    Evidence(Evidence),
    /// `BGSx`: I forwarded this to you before I had verified it, and it is a forgery.
    Disown(Disown),
}

/// What two neighbours compare first: equal digests, equal logs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeadsDigest {
    /// Streams held.
    pub count: u32,
    /// Exclusive or over all streams of SHA-256(origin, epoch, last number, batch id).
    pub xor: [u8; 32],
}

/// A request for a part of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fetch {
    /// Whose stream.
    pub origin: Origin,
    /// The last message that the asker has.
    pub after: Position,
    /// Most bytes of the answer; one batch is sent in any case.
    pub window: u32,
}

/// The beginning of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Served {
    /// Whose stream.
    pub origin: Origin,
    /// The last message that the answering node has stored.
    pub head: Position,
    /// How many batches of this stream follow as the answer; what comes after them is flood again.
    pub count: u32,
}

/// The answer to a request for what retention has removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone {
    /// Whose stream.
    pub origin: Origin,
    /// The first message still there.
    pub next: Position,
}

/// A forwarded forgery, told to those it was forwarded to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disown {
    /// The origin that the forgery names.
    pub origin: Origin,
    /// Its first position.
    pub first: Position,
    /// Its name.
    pub id: BatchId,
}

/// Why bytes are no frame; the link they came over is cut.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FrameError {
    /// A type that is not known.
    #[error("a frame of unknown type")]
    Type,
    /// Longer or shorter than its type allows.
    #[error("a frame of {0} bytes")]
    Length(usize),
    /// A malformed batch.
    #[error("a malformed batch")]
    Batch(#[source] BatchError),
    /// Evidence that proves nothing.
    #[error("false evidence")]
    Evidence(#[source] EvidenceError),
}

/// The length of the whole frame that its first 8 bytes announce: never more than [`FRAME_MAX`].
///
/// # Errors
/// [`FrameError::Type`], [`FrameError::Length`], [`FrameError::Batch`].
pub fn frame_len(head: &[u8; 8]) -> Result<usize, FrameError> {
    if head[..4] == batch::MAGIC {
        return batch::announced_len(head).map_err(FrameError::Batch);
    }
    let length = batch::u32_at(head, 4) as usize;
    let fits = match head.first_chunk().expect("8 bytes hold 4") {
        b"BGSd" => length == DIGEST_LEN,
        b"BGSh" => {
            let body = length.wrapping_sub(HEAD_LEN);
            body.is_multiple_of(ENTRY_LEN) && (1..=HEADS_PAGE_MAX).contains(&(body / ENTRY_LEN))
        }
        b"BGSf" => length == FETCH_LEN,
        b"BGSs" => length == SERVED_LEN,
        b"BGSg" => length == GONE_LEN,
        b"BGSe" => (HEAD_LEN..=CONTROL_MAX).contains(&length),
        b"BGSx" => length == DISOWN_LEN,
        _ => return Err(FrameError::Type),
    };
    if fits { Ok(length) } else { Err(FrameError::Length(length)) }
}

/// Type and length.
const HEAD_LEN: usize = 8;
const POSITION_LEN: usize = 16;
/// One head of a page: origin, position, id.
const ENTRY_LEN: usize = 32 + POSITION_LEN + 32;
const DIGEST_LEN: usize = HEAD_LEN + 4 + 32;
const FETCH_LEN: usize = HEAD_LEN + 32 + POSITION_LEN + 4;
const SERVED_LEN: usize = HEAD_LEN + 32 + POSITION_LEN + 4;
const GONE_LEN: usize = HEAD_LEN + 32 + POSITION_LEN;
/// Length of a [`Frame::Disown`], in bytes.
pub const DISOWN_LEN: usize = HEAD_LEN + 32 + POSITION_LEN + 32;

impl Frame {
    /// Reads one whole frame. A batch in it shares `bytes`; nothing is verified but evidence, whose
    /// two signatures are.
    ///
    /// # Errors
    /// See [`FrameError`].
    pub fn parse(bytes: Bytes) -> Result<Self, FrameError> {
        let head = bytes.first_chunk().ok_or(FrameError::Length(bytes.len()))?;
        if frame_len(head)? != bytes.len() {
            return Err(FrameError::Length(bytes.len()));
        }
        if bytes[..4] == batch::MAGIC {
            return Batch::parse(bytes).map(Self::Batch).map_err(FrameError::Batch);
        }
        let body = &bytes[HEAD_LEN..];
        Ok(match bytes[3] {
            b'd' => {
                Self::Digest(HeadsDigest { count: batch::u32_at(body, 0), xor: array(body, 4) })
            }
            b'h' => Self::Heads(body.chunks_exact(ENTRY_LEN).map(head_of).collect()),
            b'f' => Self::Fetch(Fetch {
                origin: Origin(array(body, 0)),
                after: position(body, 32),
                window: batch::u32_at(body, 48),
            }),
            b's' => Self::Served(Served {
                origin: Origin(array(body, 0)),
                head: position(body, 32),
                count: batch::u32_at(body, 48),
            }),
            b'g' => Self::Gone(Gone { origin: Origin(array(body, 0)), next: position(body, 32) }),
            b'x' => Self::Disown(Disown {
                origin: Origin(array(body, 0)),
                first: position(body, 32),
                id: BatchId(array(body, 48)),
            }),
            _ => Self::Evidence(
                // A copy: the frame must not keep the pipe's buffer alive as long as the evidence.
                Evidence::decode(&Bytes::copy_from_slice(body)).map_err(FrameError::Evidence)?,
            ),
        })
    }

    /// Its bytes, as [`Frame::parse`] reads them; those of a batch are shared.
    ///
    /// # Panics
    /// On a page of heads that is empty or longer than a page: the core makes none.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        match self {
            Self::Batch(batch) => batch.bytes().clone(),
            Self::Digest(digest) => framed(*b"BGSd", DIGEST_LEN, |to| {
                to.put_u32(digest.count);
                to.put_slice(&digest.xor);
            }),
            Self::Heads(heads) => {
                assert!((1..=HEADS_PAGE_MAX).contains(&heads.len()), "a page has 1 to 1,024 heads");
                framed(*b"BGSh", HEAD_LEN + heads.len() * ENTRY_LEN, |to| {
                    for head in heads {
                        put(to, &head.origin, head.last);
                        to.put_slice(&head.id.0);
                    }
                })
            }
            Self::Fetch(fetch) => framed(*b"BGSf", FETCH_LEN, |to| {
                put(to, &fetch.origin, fetch.after);
                to.put_u32(fetch.window);
            }),
            Self::Served(served) => framed(*b"BGSs", SERVED_LEN, |to| {
                put(to, &served.origin, served.head);
                to.put_u32(served.count);
            }),
            Self::Gone(gone) => framed(*b"BGSg", GONE_LEN, |to| put(to, &gone.origin, gone.next)),
            Self::Evidence(evidence) => {
                let body = evidence.encode();
                framed(*b"BGSe", HEAD_LEN + body.len(), |to| to.put_slice(&body))
            }
            Self::Disown(disown) => framed(*b"BGSx", DISOWN_LEN, |to| {
                put(to, &disown.origin, disown.first);
                to.put_slice(&disown.id.0);
            }),
        }
    }
}

fn framed(kind: [u8; 4], length: usize, body: impl FnOnce(&mut BytesMut)) -> Bytes {
    let mut bytes = BytesMut::with_capacity(length);
    bytes.put_slice(&kind);
    bytes.put_u32(u32::try_from(length).expect("a frame has at most some hundred KiB"));
    body(&mut bytes);
    debug_assert_eq!(bytes.len(), length, "a frame is as long as it says");
    bytes.freeze()
}

fn put(to: &mut BytesMut, origin: &Origin, at: Position) {
    to.put_slice(&origin.0);
    to.put_u64(at.epoch);
    to.put_u64(at.number);
}

fn head_of(entry: &[u8]) -> Head {
    Head {
        origin: Origin(array(entry, 0)),
        last: position(entry, 32),
        id: BatchId(array(entry, 32 + POSITION_LEN)),
    }
}

fn position(body: &[u8], at: usize) -> Position {
    Position::new(batch::u64_at(body, at), batch::u64_at(body, at + 8))
}

fn array(body: &[u8], at: usize) -> [u8; 32] {
    body[at..][..32].try_into().expect("32 bytes are 32 bytes")
}

#[cfg(test)]
mod tests {
    use borgios_types::Digest;

    use super::*;
    use crate::stage;

    fn samples() -> Vec<Frame> {
        let origin = Origin([7; 32]);
        let at = Position::new(1_700_000_000, 9);
        let [one, other] = stage::fork();
        vec![
            Frame::Batch(stage::batch(1, &[b"a", b""])),
            Frame::Digest(HeadsDigest { count: 3, xor: Digest::of(b"x").0 }),
            Frame::Heads(vec![Head { origin, last: at, id: BatchId([9; 32]) }; 3]),
            Frame::Fetch(Fetch { origin, after: at, window: 77 }),
            Frame::Served(Served { origin, head: at, count: 5 }),
            Frame::Gone(Gone { origin, next: at }),
            Frame::Evidence(Evidence::of(one.envelope(), other.envelope()).unwrap()),
            Frame::Disown(Disown { origin, first: at, id: BatchId([8; 32]) }),
        ]
    }

    #[test]
    fn reads_what_it_writes() {
        for frame in samples() {
            let bytes = frame.encode();
            assert_eq!(frame_len(bytes.first_chunk().unwrap()), Ok(bytes.len()), "{frame:?}");
            assert_eq!(Frame::parse(bytes).unwrap(), frame);
        }
    }

    #[test]
    fn no_length_passes_but_its_own() {
        for frame in samples() {
            let bytes = frame.encode();
            for end in 0..bytes.len() {
                assert!(Frame::parse(bytes.slice(..end)).is_err(), "{frame:?} cut at {end}");
            }
            let longer = [&bytes[..], b"\0"].concat();
            assert!(Frame::parse(longer.into()).is_err(), "{frame:?}");
        }
    }

    #[test]
    fn what_no_bound_allows_is_refused_by_its_first_eight_bytes() {
        for (kind, length) in [
            (b"BGSh", 8 + 80 * 1_025),
            (b"BGSh", 8),
            (b"BGSd", 45),
            (b"BGSe", u32::MAX),
            (b"BGS1", u32::MAX),
            (b"BGS1", 8),
            (b"SSH-", 60),
        ] {
            let mut head = [0; 8];
            head[..4].copy_from_slice(kind);
            head[4..].copy_from_slice(&length.to_be_bytes());
            assert!(frame_len(&head).is_err(), "{kind:?} {length}");
        }
    }

    #[test]
    fn mutated_frames_never_panic() {
        for (index, frame) in samples().into_iter().enumerate() {
            let bytes = frame.encode();
            let mut random = stage::random(index as u64);
            for round in 0..500 {
                let mut mutant = bytes.to_vec();
                stage::mutate(&mut mutant, &mut random);
                let parsed = Frame::parse(mutant.clone().into());
                if let Ok(frame) = parsed {
                    assert_eq!(frame.encode(), mutant, "seed {index}, round {round}");
                }
            }
        }
    }
}
