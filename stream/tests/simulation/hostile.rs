//! What hostile members do to the frames that they send.

use borgios_stream::frame::{Fetch, HeadsDigest};
use borgios_stream::{Batch, BatchId, Frame, Head, Origin, Position};
use bytes::Bytes;
use rand::Rng as _;
use rand_chacha::ChaCha8Rng;

/// A kind of hostile member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Vice {
    /// Forwards no batch of others.
    Withhold,
    /// Changes what it forwards.
    Forge,
    /// Signs two histories.
    Equivocate,
    /// Sends again what it sent before.
    Replay,
    /// Sends what is no frame.
    Garbage,
    /// Claims to have what nobody has, and asks for everything.
    Lie,
}

impl Vice {
    pub(crate) const ALL: [Self; 6] =
        [Self::Withhold, Self::Forge, Self::Equivocate, Self::Replay, Self::Garbage, Self::Lie];
}

/// What goes out instead of `frame`, and how many misdeeds that was.
pub(crate) fn twist(
    vice: Vice,
    frame: Bytes,
    sent: &mut Vec<Bytes>,
    random: &mut ChaCha8Rng,
) -> (Vec<Bytes>, usize) {
    let is_batch = frame[..4] == *b"BGS1";
    match vice {
        Vice::Withhold if is_batch => (Vec::new(), 1),
        Vice::Forge if is_batch && random.gen_bool(0.3) => (vec![forge(&frame, random)], 1),
        Vice::Replay if is_batch => {
            sent.push(frame.clone());
            let again = sent[random.gen_range(0..sent.len())].clone();
            (vec![frame, again.clone(), again], 1)
        }
        Vice::Garbage if random.gen_bool(0.2) => {
            let mut garbage = frame.to_vec();
            for _ in 0..4 {
                let at = random.gen_range(0..garbage.len());
                garbage[at] = random.r#gen();
            }
            (vec![garbage.into()], 1)
        }
        Vice::Lie if random.gen_bool(0.3) => {
            let Ok(Frame::Batch(batch)) = Frame::parse(frame.clone()) else {
                return (vec![frame], 0);
            };
            (lies(&batch, frame, random), 1)
        }
        Vice::Withhold
        | Vice::Forge
        | Vice::Replay
        | Vice::Garbage
        | Vice::Lie
        | Vice::Equivocate => (vec![frame], 0),
    }
}

/// Flips a bit where the batch stays well-formed: of the signature or a message.
fn forge(frame: &Bytes, random: &mut ChaCha8Rng) -> Bytes {
    loop {
        let mut forged = frame.to_vec();
        let at = random.gen_range(92..forged.len());
        forged[at] ^= 1 << random.gen_range(0..8);
        let forged = Bytes::from(forged);
        if Batch::parse(forged.clone()).is_ok() {
            return forged;
        }
    }
}

/// Heads far beyond, for origins that exist and some that do not; fetches of everything.
fn lies(batch: &Batch, frame: Bytes, random: &mut ChaCha8Rng) -> Vec<Bytes> {
    let origin = batch.origin();
    let far = Position::new(batch.epoch(), batch.last().number + random.gen_range(1..1_000_000));
    let head = |origin| Head { origin, last: far, id: BatchId(random_id(far)) };
    let heads = vec![head(origin), head(Origin([random.r#gen(); 32]))];
    let fetch = Fetch { origin, after: Position::START, window: u32::MAX };
    let digest = HeadsDigest { count: 7, xor: [1; 32] };
    vec![
        frame,
        Frame::Heads(heads).encode(),
        Frame::Fetch(fetch).encode(),
        Frame::Digest(digest).encode(),
    ]
}

fn random_id(at: Position) -> [u8; 32] {
    [at.number as u8; 32]
}
