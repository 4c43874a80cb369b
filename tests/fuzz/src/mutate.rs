//! Changes to inputs: bytes, numbers, words of the formats, and pieces of other inputs.

use std::collections::BTreeSet;

use rand::Rng;
use rand::seq::SliceRandom as _;

use crate::values;

/// Longest input made, in bytes: beyond every bound of a line or payload, and quick to make.
pub const INPUT_MAX: usize = 2 * 1024 * 1024;

/// Pieces that parsers care about.
pub const WORDS: &[&[u8]] = &[
    b"\"",
    b"\\u0000",
    b"\\ud800",
    b"null",
    b"true",
    b"-1",
    b"0",
    b"1e9",
    b"1.5",
    b"9007199254740992",
    b"9007199254740993",
    b"18446744073709551615",
    b"18446744073709551616",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"\xef\xbb\xbf",
    b"\xff",
    b"\n",
    b"\r\n",
    b"../",
    b"/",
    b"\0",
    b"sha256:",
    b"ssh-ed25519 ",
    b"\"critical\":[\"x\"],",
    b"\"a\":1,\"a\":2,",
];

/// Longest word of a dictionary, in bytes.
const WORD_MAX: usize = 40;

/// The pieces, and the words of these inputs, as libFuzzer reads a dictionary.
#[must_use]
pub fn dictionary(inputs: &[Vec<u8>]) -> String {
    let of = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    let own = inputs.iter().flat_map(|input| input.split(|byte| !of(*byte)));
    let own = own.filter(|word| (3..=WORD_MAX).contains(&word.len()));
    let all: BTreeSet<&[u8]> = WORDS.iter().copied().chain(own).collect();
    let quoted = all.iter().map(|word| {
        let bytes = word.iter().map(|byte| format!("\\x{byte:02x}"));
        format!("\"{}\"\n", bytes.collect::<String>())
    });
    quoted.collect()
}

/// One to eight changes to a copy of `input`, as JSON where it is that; `other` is another input of the same target.
#[must_use]
pub fn mutate(rng: &mut impl Rng, input: &[u8], other: &[u8]) -> Vec<u8> {
    if rng.gen_ratio(1, 3)
        && let Some(mut changed) = values::change(rng, input, other)
    {
        changed.truncate(INPUT_MAX);
        return changed;
    }
    let mut bytes = input.to_vec();
    for _ in 0..rng.gen_range(1..=8) {
        change(rng, &mut bytes, other);
        bytes.truncate(INPUT_MAX);
    }
    bytes
}

fn change(rng: &mut impl Rng, bytes: &mut Vec<u8>, other: &[u8]) {
    let at = rng.gen_range(0..=bytes.len());
    let span = |rng: &mut dyn rand::RngCore, length: usize| {
        let from = rng.gen_range(0..=length);
        let most = (length - from).min(1 << rng.gen_range(0..12));
        (from, from + rng.gen_range(0..=most))
    };
    match rng.gen_range(0..10) {
        0 if at < bytes.len() => bytes[at] ^= 1 << rng.gen_range(0..8),
        1 if at < bytes.len() => bytes[at] = rng.r#gen(),
        2 => {
            let (from, to) = span(rng, bytes.len());
            bytes.drain(from..to);
        }
        3 => {
            let (from, to) = span(rng, bytes.len());
            let piece = bytes[from..to].to_vec();
            bytes.splice(at..at, piece);
        }
        4 => {
            let (from, to) = span(rng, other.len());
            bytes.splice(at..at, other[from..to].iter().copied());
        }
        5 => bytes.truncate(at),
        6 => number(rng, bytes),
        7 => {
            // The same piece many times: depth and length.
            let word = WORDS.choose(rng).copied().unwrap_or_default();
            let times = 1 << rng.gen_range(0..14);
            let many = word.iter().copied().cycle().take(word.len() * times);
            bytes.splice(at..at, many);
        }
        8 => {
            let (from, to) = span(rng, bytes.len());
            let word = WORDS.choose(rng).copied().unwrap_or_default();
            bytes.splice(from..to, word.iter().copied());
        }
        _ => {
            let word = WORDS.choose(rng).copied().unwrap_or_default();
            bytes.splice(at..at, word.iter().copied());
        }
    }
}

/// Another number in the place of one: in digits, or as four bytes.
fn number(rng: &mut impl Rng, bytes: &mut Vec<u8>) {
    let digits: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at].is_ascii_digit()).collect();
    match digits.choose(rng) {
        Some(at) if rng.gen_bool(0.7) => {
            let end = (*at..bytes.len()).find(|i| !bytes[*i].is_ascii_digit());
            let value = match rng.gen_range(0..4) {
                0 => 0,
                1 => rng.gen_range(0..300),
                2 => u64::MAX >> rng.gen_range(0..63),
                _ => (1 << rng.gen_range(0..63)) - 1,
            };
            bytes.splice(*at..end.unwrap_or(bytes.len()), value.to_string().into_bytes());
        }
        _ if bytes.len() >= 4 => {
            let at = rng.gen_range(0..=bytes.len() - 4);
            let value: u32 = u32::MAX >> rng.gen_range(0..32);
            bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
        }
        _ => {}
    }
}
