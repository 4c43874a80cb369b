//! A node's own randomness: 16 bytes of state, each draw a block of ChaCha8.

use rand::{RngCore, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// A node's own randomness, decided by its seed.
///
/// A `ChaCha8Rng` keeps 300 bytes for draws to come; a node draws a few times a second, so it
/// makes the generator anew for each draw, on a stream of its own.
#[derive(Clone, Debug)]
pub(crate) struct Dice {
    seed: u64,
    drawn: u64,
}

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, drawn: 0 }
    }

    fn draw(&mut self) -> ChaCha8Rng {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(self.drawn);
        self.drawn = self.drawn.wrapping_add(1);
        rng
    }
}

impl RngCore for Dice {
    fn next_u32(&mut self) -> u32 {
        self.draw().next_u32()
    }

    fn next_u64(&mut self) -> u64 {
        self.draw().next_u64()
    }

    fn fill_bytes(&mut self, dest: &mut [u8]) {
        self.draw().fill_bytes(dest);
    }

    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), rand::Error> {
        self.fill_bytes(dest);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_draw_repeats_and_the_seed_decides_all() {
        let draws = |seed| {
            let mut dice = Dice::new(seed);
            (0..1_000).map(|_| dice.next_u64()).collect::<Vec<_>>()
        };
        let mut once = draws(7);
        assert_eq!(once, draws(7));
        assert_ne!(once, draws(8));
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), 1_000);
    }
}
