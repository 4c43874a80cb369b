//! How a batch lies in a segment, and small facts in files of their own.
//!
//! ```text
//! 4  magic "BGL1"
//! 4  length of the batch
//! 8  first 8 bytes of the SHA-256 of the batch's envelope: header, kind, manifest, signature
//! .. the batch
//! ```
//!
//! The manifest covers the messages, so a record is whole if envelope and messages are.

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use crate::batch::{self, Batch};
use crate::bounds::BATCH_MAX;
use crate::position::{BatchId, Position};

/// Bytes before the batch.
pub(crate) const FRONT: usize = 16;
const MAGIC: [u8; 4] = *b"BGL1";

/// What stands before a batch.
pub(crate) fn front(batch: &Batch) -> [u8; FRONT] {
    let mut front = [0; FRONT];
    front[..4].copy_from_slice(&MAGIC);
    front[4..8].copy_from_slice(&u32::try_from(batch.len()).expect("bounded").to_be_bytes());
    front[8..].copy_from_slice(&Sha256::digest(batch.envelope())[..8]);
    front
}

/// What stands at some offset of a segment.
#[derive(Debug)]
pub(crate) enum Record {
    /// A whole batch; the record's length, in bytes.
    Whole(Batch, usize),
    /// Its length is known, but it is not what was written.
    Damaged(usize),
    /// Nothing, or nothing whose length is known.
    End,
}

/// Reads the record at the beginning of `bytes`; `thorough` looks at every byte of it.
pub(crate) fn read(bytes: &Bytes, thorough: bool) -> Record {
    if bytes.len() < FRONT || bytes[..4] != MAGIC {
        return Record::End;
    }
    let length = batch::u32_at(bytes, 4) as usize;
    if length > BATCH_MAX || bytes.len() < FRONT + length {
        return Record::End;
    }
    match Batch::parse(bytes.slice(FRONT..FRONT + length)) {
        Ok(batch) if !thorough || is_whole(&batch, &bytes[8..FRONT]) => {
            Record::Whole(batch, FRONT + length)
        }
        _ => Record::Damaged(FRONT + length),
    }
}

fn is_whole(batch: &Batch, check: &[u8]) -> bool {
    Sha256::digest(batch.envelope())[..8] == *check
        && batch.entries().all(|(message, digest)| Sha256::digest(message)[..] == digest[..])
}

/// A position and a name in a file of 56 bytes: 48 of them, and 8 of their SHA-256.
pub(crate) fn note(at: Position, id: BatchId) -> [u8; 56] {
    let mut note = [0; 56];
    note[..8].copy_from_slice(&at.epoch.to_be_bytes());
    note[8..16].copy_from_slice(&at.number.to_be_bytes());
    note[16..48].copy_from_slice(&id.0);
    let check = Sha256::digest(&note[..48]);
    note[48..].copy_from_slice(&check[..8]);
    note
}

/// Reads a [`note`]; none if it is torn.
pub(crate) fn read_note(bytes: &[u8]) -> Option<(Position, BatchId)> {
    let whole = bytes.len() == 56 && Sha256::digest(&bytes[..48])[..8] == bytes[48..];
    whole.then(|| {
        let at = Position::new(batch::u64_at(bytes, 0), batch::u64_at(bytes, 8));
        (at, BatchId(bytes[16..48].try_into().expect("32 bytes are 32 bytes")))
    })
}
