//! How long a message takes from machine to machine.

use rand::Rng as _;
use rand_chacha::ChaCha8Rng;

use crate::sim::wire::Index;

/// No draw is longer, whatever the tail of its distribution.
const MOST_MS: u64 = 10_000;

/// How long a message takes from machine to machine, in milliseconds.
#[derive(Clone, Debug, PartialEq)]
pub enum Latency {
    /// Any time between these, both included; equal ones make it constant.
    Uniform(u64, u64),
    /// Half of all messages take at most this long, and some take much longer: the logarithm is
    /// normally distributed, with this standard deviation.
    LogNormal(u64, f64),
    /// Machines take turns in so many regions; this long within one, that long between two.
    Regions(u64, u64, u64),
}

impl Latency {
    /// One draw. Where the ends are not known, they count as far apart.
    #[must_use]
    pub fn ms(&self, rng: &mut ChaCha8Rng, ends: Option<(Index, Index)>) -> u64 {
        match *self {
            Self::Uniform(least, most) => rng.gen_range(least..=most),
            Self::LogNormal(median, sigma) => {
                // Box and Muller make a normal draw of two uniform ones.
                let (one, two) = (1.0 - rng.r#gen::<f64>(), rng.r#gen::<f64>());
                let normal = (-2.0 * one.ln()).sqrt() * (std::f64::consts::TAU * two).cos();
                ((median as f64 * (sigma * normal).exp()) as u64).min(MOST_MS)
            }
            Self::Regions(count, within, between) => {
                let region = |at: Index| at as u64 % count.max(1);
                let near = ends.is_some_and(|(one, two)| region(one) == region(two));
                let around = if near { within } else { between };
                // A tenth more or less.
                rng.gen_range(around - around / 10..=around + around / 10)
            }
        }
    }

    /// About the longest.
    #[must_use]
    pub fn most_ms(&self) -> u64 {
        match *self {
            Self::Uniform(_, most) => most,
            Self::LogNormal(..) => MOST_MS,
            Self::Regions(_, within, between) => within.max(between) * 11 / 10,
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::*;

    #[test]
    fn half_of_the_lognormal_draws_are_below_its_median() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let latency = Latency::LogNormal(40, 0.8);
        let below = (0..2_000).filter(|_| latency.ms(&mut rng, None) < 40).count();
        assert!((900..1_100).contains(&below), "{below}");
    }

    #[test]
    fn regions_are_near_within_and_far_between() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let latency = Latency::Regions(3, 2, 100);
        assert!(latency.ms(&mut rng, Some((1, 4))) <= 3);
        assert!(latency.ms(&mut rng, Some((1, 2))) >= 90);
    }
}
