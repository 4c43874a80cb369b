//! One target under libFuzzer, named by FUZZ_TARGET: its processes inherit that.
//!
//! A quarter of the changes are those of the fuzzer without guidance, which knows JSON; the others are
//! libFuzzer's own, which knows what was compared with what.
#![no_main]

use std::sync::OnceLock;

use borgios_fuzz::{mutate, seeds, Target, TARGETS};
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// The target, and its seeds.
type Aim = (&'static Target, Vec<Vec<u8>>);

fn aim() -> &'static Aim {
    static AIM: OnceLock<Aim> = OnceLock::new();
    AIM.get_or_init(|| {
        let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
        let target = TARGETS.iter().find(|target| target.name == name);
        let target = target.unwrap_or_else(|| panic!("FUZZ_TARGET={name:?} names no target"));
        (target, seeds::of(target.name))
    })
}

fuzz_target!(init: { aim(); }, |bytes: &[u8]| {
    let _ = (aim().0.run)(bytes);
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let mut rng = ChaCha8Rng::seed_from_u64(u64::from(seed));
    if rng.gen_ratio(3, 4) {
        return fuzzer_mutate(data, size, max_size);
    }
    let other = aim().1.choose(&mut rng).map_or(&[][..], Vec::as_slice);
    let changed = mutate::mutate(&mut rng, &data[..size], other);
    let length = changed.len().min(max_size);
    data[..length].copy_from_slice(&changed[..length]);
    length
});
