//! Whether many encodings are points of prime order, in a fraction of the time that each alone takes.
//!
//! To ask it of one point costs a multiplication by the order of the group, about 40 us; a pool has
//! thousands. A sum of points of prime order is one, too; and where one point of many is not, the sum of
//! a random subset of them is not with probability 1/2 at least, since the part of small order of such a
//! sum is as often that of one value as that of the other. So [`SUMS`] random subsets are added up, and
//! only the sums are asked: the random subset test of Bellare, Garay and Rabin, "Fast batch verification
//! for modular exponentiation and digital signatures" (EUROCRYPT '98, section 3).
//!
//! ```text
//! points ─▶ a byte of chance each ─▶ 256 buckets ─▶ for each of 8 bits, the buckets that have it
//!           16 times over: 16 additions a point, and 128 sums
//! ```
//!
//! Pools are judged together where there are several, and where that are many points by [`THREADS`] threads.
//!
//! The subsets follow from a hash of the encodings, so that everyone comes to the same answer; to find
//! encodings that deceive takes 2^128 attempts.

use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
use curve25519_dalek::traits::Identity as _;
use rand::{RngCore as _, SeedableRng as _};
use rand_chacha::ChaCha20Rng;
use sha2::{Digest as _, Sha256};

/// Sums that must all be of prime order: a wrong answer has the probability 2^-128.
const SUMS: usize = 128;
/// Subsets that one byte of chance chooses.
const BITS: usize = 8;
/// Points above which the sums cost less than to ask each: they alone cost as much as 230 points.
const MANY: usize = 320;
/// Points from which threads share the work, some 60 ms of it: the first pools of a large board have
/// ten times as many for each governor.
const SHARED: usize = 8_192;
/// Threads that share it. A number, so that nothing has to be asked of the machine; the answer is
/// the same however many there are.
const THREADS: usize = 4;

/// Whether all of `encodings`, 32 bytes each, are points of prime order (so canonical ones, and none
/// is the identity). A rest of less than 32 bytes is none.
pub(crate) fn all_of_prime_order(encodings: &[u8]) -> bool {
    all_in_prime_order(&[encodings])
}

/// The place of the first of `parts` that [`all_of_prime_order`] refuses. All are judged together,
/// and each alone only where that finds fault.
pub(crate) fn first_refused(parts: &[&[u8]]) -> Option<usize> {
    if all_in_prime_order(parts) {
        return None;
    }
    parts.iter().position(|part| !all_of_prime_order(part))
}

/// [`all_of_prime_order`] of each part.
fn all_in_prime_order(parts: &[&[u8]]) -> bool {
    let mut encodings = Vec::with_capacity(parts.iter().map(|part| part.len() / 32).sum());
    for part in parts {
        let (whole, rest) = part.as_chunks::<32>();
        if !rest.is_empty() {
            return false;
        }
        encodings.extend(whole);
    }
    let threads = if encodings.len() < SHARED { 1 } else { THREADS };
    let Some(points) = points(&encodings, threads) else { return false };
    if points.len() < MANY {
        return points.iter().all(EdwardsPoint::is_torsion_free);
    }
    let mut hash = Sha256::new_with_prefix(b"borgios: subsets of points\0");
    encodings.iter().for_each(|encoding| hash.update(encoding));
    let mut chance = ChaCha20Rng::from_seed(hash.finalize().into());
    let mut choices = vec![0; points.len() * (SUMS / BITS)];
    chance.fill_bytes(&mut choices);
    let rounds: Vec<&[u8]> = choices.chunks_exact(points.len()).collect();
    let judged = in_threads(&rounds, threads, |rounds| {
        rounds
            .iter()
            .all(|choices| sums(&points, choices).iter().all(EdwardsPoint::is_torsion_free))
    });
    judged.into_iter().all(|good| good)
}

/// The points, if all encodings are those of points other than the identity.
fn points(encodings: &[[u8; 32]], threads: usize) -> Option<Vec<EdwardsPoint>> {
    let parts = in_threads(encodings, threads, |part| {
        let points = part.iter().map(|encoding| {
            let point = CompressedEdwardsY(*encoding).decompress()?;
            // Of order 1, which is not prime.
            (point != EdwardsPoint::identity()).then_some(point)
        });
        points.collect::<Option<Vec<EdwardsPoint>>>()
    });
    Some(parts.into_iter().collect::<Option<Vec<_>>>()?.concat())
}

/// Does `work` on equal parts of `items`, each in a thread of its own; the last one, and any for
/// which there is no thread, in this one.
fn in_threads<T: Sync, R: Send>(
    items: &[T],
    threads: usize,
    work: impl Fn(&[T]) -> R + Sync,
) -> Vec<R> {
    let parts: Vec<&[T]> = items.chunks(items.len().div_ceil(threads).max(1)).collect();
    let Some((last, others)) = parts.split_last() else { return Vec::new() };
    let work = &work;
    std::thread::scope(|scope| {
        let started: Vec<_> = others
            .iter()
            .map(|part| (std::thread::Builder::new().spawn_scoped(scope, move || work(part)), part))
            .collect();
        let last = work(last);
        let done = started.into_iter().map(|(thread, part)| match thread {
            Ok(thread) => thread.join().expect("adding points does not panic"),
            Err(_) => work(part),
        });
        done.chain([last]).collect()
    })
}

/// For each bit, the sum of the points whose choice has it.
fn sums(points: &[EdwardsPoint], choices: &[u8]) -> [EdwardsPoint; BITS] {
    let mut buckets = [EdwardsPoint::identity(); 1 << BITS];
    for (point, choice) in points.iter().zip(choices) {
        buckets[usize::from(*choice)] += point;
    }
    // Halves the buckets bit by bit: the upper half has the bit, and is then added to the lower one.
    let mut width = buckets.len();
    std::array::from_fn(|_| {
        width /= 2;
        let (lower, upper) = buckets.split_at_mut(width);
        let sum = upper[..width].iter().sum();
        lower.iter_mut().zip(upper).for_each(|(low, high)| *low += &*high);
        sum
    })
}

#[cfg(test)]
mod tests {
    use curve25519_dalek::Scalar;
    use curve25519_dalek::constants::{ED25519_BASEPOINT_POINT, EIGHT_TORSION};

    use super::*;

    fn points(count: u64) -> Vec<EdwardsPoint> {
        (1..=count).map(|number| ED25519_BASEPOINT_POINT * Scalar::from(number * 7 + 1)).collect()
    }

    fn encoded(points: &[EdwardsPoint]) -> Vec<u8> {
        points.iter().flat_map(|point| point.compress().to_bytes()).collect()
    }

    #[test]
    fn what_each_alone_would_say_all_together_say() {
        for count in [1, MANY as u64 - 1, MANY as u64, 1_000] {
            let good = points(count);
            assert!(all_of_prime_order(&encoded(&good)), "{count} points");
            // One of them with a part of order 2, 4 or 8, wherever it stands.
            for (at, torsion) in [(0, 4), (good.len() / 2, 2), (good.len() - 1, 1)] {
                let mut bad = good.clone();
                bad[at] += EIGHT_TORSION[torsion];
                assert!(!bad[at].is_torsion_free());
                assert!(!all_of_prime_order(&encoded(&bad)), "{count} points, number {at}");
            }
        }
    }

    #[test]
    fn threads_and_parts_change_no_answer() {
        let good = points(SHARED as u64 + 5);
        let bytes = encoded(&good);
        let parts: Vec<&[u8]> = bytes.chunks(32 * 1_000).collect();
        assert!(all_of_prime_order(&bytes));
        assert_eq!(first_refused(&parts), None);
        for at in [0, 4_500, good.len() - 1] {
            let mut bad = good.clone();
            bad[at] += EIGHT_TORSION[4];
            let bytes = encoded(&bad);
            let parts: Vec<&[u8]> = bytes.chunks(32 * 1_000).collect();
            assert!(!all_of_prime_order(&bytes), "number {at}");
            assert_eq!(first_refused(&parts), Some(at / 1_000), "number {at}");
        }
        // What is whole only together is not whole.
        assert_eq!(first_refused(&[&bytes[..40], &bytes[40..64]]), Some(0));
        assert_eq!(first_refused(&[]), None);
        assert_eq!(in_threads(&[1, 2, 3, 4, 5], 4, <[i32]>::to_vec).concat(), [1, 2, 3, 4, 5]);
        assert_eq!(in_threads(&[], 4, <[i32]>::to_vec).len(), 0);
    }

    #[test]
    fn parts_of_small_order_that_cancel_out_do_not_hide_each_other() {
        let mut bad = points(1_000);
        bad[10] += EIGHT_TORSION[4];
        bad[900] += EIGHT_TORSION[4];
        assert!(bad.iter().sum::<EdwardsPoint>().is_torsion_free());
        assert!(!all_of_prime_order(&encoded(&bad)));
        bad[11] += EIGHT_TORSION[1];
        bad[12] += EIGHT_TORSION[7];
        assert!(!all_of_prime_order(&encoded(&bad)));
    }

    #[test]
    fn the_identity_other_encodings_and_what_is_no_point_are_refused() {
        for strange in [
            EdwardsPoint::identity().compress().0,
            EIGHT_TORSION[1].compress().0,
            [2; 32],
            [0xff; 32],
        ] {
            let mut bytes = encoded(&points(1_000));
            bytes[640..672].copy_from_slice(&strange);
            assert!(!all_of_prime_order(&bytes), "{strange:?}");
        }
        let bytes = encoded(&points(1_000));
        assert!(!all_of_prime_order(&bytes[..bytes.len() - 1]));
        assert!(all_of_prime_order(&[]));
    }

    #[test]
    fn every_bit_has_the_sum_of_its_points() {
        let points = points(600);
        let choices: Vec<u8> = (0_u32..600).map(|at| (at * 37 % 256) as u8).collect();
        let found = sums(&points, &choices);
        for (bit, sum) in (0..BITS).rev().zip(found) {
            let chosen = points.iter().zip(&choices).filter(|(_, choice)| *choice >> bit & 1 == 1);
            assert_eq!(sum, chosen.map(|(point, _)| point).sum::<EdwardsPoint>(), "bit {bit}");
        }
    }
}
