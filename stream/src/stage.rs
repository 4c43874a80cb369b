//! Batches, forks and mutations for tests.

use borgios_types::{Digest, SecretKey, UnixSeconds};
use bytes::Bytes;
use rand::{Rng as _, RngCore, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::batch::{Batch, Durability, Kind};
use crate::builder::Draft;
use crate::position::{BatchId, Position};

/// The epoch of every stream here, and the time.
pub(crate) const EPOCH: u64 = 1_790_000_000;

pub(crate) fn network() -> Digest {
    Digest::of(b"the network of the tests")
}

pub(crate) fn key() -> SecretKey {
    SecretKey::from_seed([3; 32])
}

/// A batch of the key's stream that begins with message `first`.
pub(crate) fn after(first: u64, previous: BatchId, messages: &[&[u8]]) -> Batch {
    Draft {
        network: network(),
        first: Position::new(EPOCH, first),
        previous,
        kind: Kind::new("chat").unwrap(),
        durability: Durability::Durable,
        issued: UnixSeconds(EPOCH),
        messages: messages.iter().map(|message| Bytes::copy_from_slice(message)).collect(),
    }
    .sign(&key())
}

pub(crate) fn batch(first: u64, messages: &[&[u8]]) -> Batch {
    let previous = if first == 1 { BatchId::NONE } else { BatchId([1; 32]) };
    after(first, previous, messages)
}

/// Two batches that no honest origin signs both of.
pub(crate) fn fork() -> [Batch; 2] {
    [batch(1, &[b"for you"]), batch(1, &[b"for them"])]
}

pub(crate) fn random(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

/// Flips, overwrites, cuts, grows: one to four times.
pub(crate) fn mutate(bytes: &mut Vec<u8>, random: &mut impl RngCore) {
    for _ in 0..random.gen_range(1..=4) {
        if bytes.is_empty() {
            return;
        }
        let at = random.gen_range(0..bytes.len());
        match random.gen_range(0..6) {
            0 => bytes[at] ^= 1 << random.gen_range(0..8),
            1 => bytes[at] = random.r#gen(),
            2 => bytes.truncate(at),
            3 => bytes.insert(at, random.r#gen()),
            4 => {
                let end = (at + 8).min(bytes.len());
                bytes[at..end].fill(if random.r#gen() { 0xff } else { 0 });
            }
            _ => {
                // The lengths and counts of a batch.
                let field = [4, 5, 6, 7, 80, 87, 88, 89, 90, 91][random.gen_range(0..10)];
                if let Some(byte) = bytes.get_mut(field) {
                    *byte = random.r#gen();
                }
            }
        }
    }
}
