//! An origin's draft of a batch, until it is signed.

use borgios_types::{Digest, SecretKey, UnixSeconds};
use bytes::{BufMut as _, Bytes, BytesMut};
use sha2::{Digest as _, Sha256};

use crate::batch::{Batch, Durability, ENTRY_LEN, FLAG_DURABLE, HEADER_LEN, Kind, MAGIC};
use crate::position::{BatchId, Position};
use crate::signature::{self, BLOB_LEN};

/// What the next batch of an origin will hold.
///
/// The caller keeps the bounds: 1 to 64 messages of at most 256 KiB together
/// ([`bounds`](crate::bounds)).
#[derive(Clone, Debug)]
pub struct Draft {
    /// The network.
    pub network: Digest,
    /// Position of the first message.
    pub first: Position,
    /// Id of the batch before it, [`BatchId::NONE`] for number 1.
    pub previous: BatchId,
    /// What the application calls the messages.
    pub kind: Kind,
    /// Whether it is stored synced.
    pub durability: Durability,
    /// Now.
    pub issued: UnixSeconds,
    /// The messages.
    pub messages: Vec<Bytes>,
}

impl Draft {
    /// Hashes, signs and lays out the batch: one copy of each message, the only one of its life.
    ///
    /// # Panics
    /// If the draft breaks a bound: [`Core`](crate::Core) makes none that does.
    #[must_use]
    pub fn sign(&self, key: &SecretKey) -> Batch {
        let body: usize = self.messages.iter().map(Bytes::len).sum();
        let kind = self.kind.as_str().as_bytes();
        let signed = HEADER_LEN + kind.len() + self.messages.len() * ENTRY_LEN;
        let length = signed + 2 + BLOB_LEN + body;
        let mut bytes = BytesMut::with_capacity(length);
        bytes.put_slice(&MAGIC);
        bytes.put_u32(u32::try_from(length).expect("a draft keeps the bounds"));
        bytes.put_slice(&self.network.0);
        bytes.put_slice(&key.public().to_bytes());
        bytes.put_u64(self.first.epoch);
        bytes.put_u64(self.first.number);
        bytes.put_u16(u16::try_from(self.messages.len()).expect("a draft keeps the bounds"));
        bytes.put_u8(u8::try_from(kind.len()).expect("a kind has at most 32 bytes"));
        bytes.put_u8(match self.durability {
            Durability::Durable => FLAG_DURABLE,
            Durability::Volatile => 0,
        });
        bytes.put_u64(self.issued.0);
        bytes.put_slice(&self.previous.0);
        bytes.put_slice(kind);
        for message in &self.messages {
            bytes.put_u32(u32::try_from(message.len()).expect("a draft keeps the bounds"));
            bytes.put_slice(&Sha256::digest(message));
        }
        let blob = signature::sign(key, &bytes);
        bytes.put_u16(u16::try_from(BLOB_LEN).expect("186 fits"));
        bytes.put_slice(&blob);
        for message in &self.messages {
            bytes.put_slice(message);
        }
        Batch::parse(bytes.freeze()).expect("a draft within the bounds is a well-formed batch")
    }
}
