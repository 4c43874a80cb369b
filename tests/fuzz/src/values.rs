//! Changes to an input as the JSON it is: members dropped, doubled, moved and exchanged, and so
//! within a string that holds JSON again, which is how statements travel.
//!
//! Changes of bytes alone seldom leave JSON in JSON readable; these always do.

use rand::Rng;
use rand::seq::SliceRandom as _;
use serde_json::{Map, Value, json};

/// Deepest string within a string that is opened.
const INNER_MAX: usize = 3;

/// One change to the JSON that `bytes` hold, with values of `other`; a byte of the target's own
/// before it stays. `None` where there is no JSON.
#[must_use]
pub fn change(rng: &mut impl Rng, bytes: &[u8], other: &[u8]) -> Option<Vec<u8>> {
    let (front, mut value) = read(bytes)?;
    let theirs = read(other).map_or(Value::Null, |(_, value)| value);
    for _ in 0..rng.gen_range(1..=3) {
        within(rng, &mut value, &theirs, 0);
    }
    Some([front, value.to_string().as_bytes()].concat())
}

/// The JSON of an input, and what stands before it: nothing, or one byte.
fn read(bytes: &[u8]) -> Option<(&[u8], Value)> {
    let whole = serde_json::from_slice(bytes).ok().map(|value| (&bytes[..0], value));
    whole.or_else(|| {
        let (front, rest) = bytes.split_at_checked(1)?;
        Some((front, serde_json::from_slice(rest).ok()?))
    })
}

/// Goes down a random way and changes what is there.
fn within(rng: &mut impl Rng, value: &mut Value, theirs: &Value, inner: usize) {
    let stop = rng.gen_ratio(1, 4);
    match value {
        Value::Object(map) if !map.is_empty() && !stop => {
            let keys: Vec<String> = map.keys().cloned().collect();
            if let Some(below) = keys.choose(rng).and_then(|key| map.get_mut(key)) {
                within(rng, below, theirs, inner);
            }
        }
        Value::Array(list) if !list.is_empty() && !stop => {
            if let Some(below) = list.choose_mut(rng) {
                within(rng, below, theirs, inner);
            }
        }
        // JSON in JSON.
        Value::String(text) if inner < INNER_MAX && rng.gen_ratio(9, 10) => {
            match serde_json::from_str::<Value>(text) {
                Ok(mut below) if below.is_object() || below.is_array() => {
                    within(rng, &mut below, theirs, inner + 1);
                    *text = below.to_string();
                }
                _ => exchange(rng, value, theirs),
            }
        }
        _ => exchange(rng, value, theirs),
    }
}

/// Another value, or another number of members.
fn exchange(rng: &mut impl Rng, value: &mut Value, theirs: &Value) {
    match value {
        Value::Object(map) if rng.gen_ratio(3, 4) => members(rng, map, theirs),
        Value::Array(list) if rng.gen_ratio(3, 4) => match rng.gen_range(0..4) {
            0 => list.truncate(rng.gen_range(0..=list.len())),
            1 => list.reverse(),
            2 => list.extend(some(rng, theirs)),
            _ => {
                let one = list.choose(rng).cloned().unwrap_or(Value::Null);
                let times = [1, 2, 20, 300].choose(rng).copied().unwrap_or(1);
                list.extend(std::iter::repeat_n(one, times));
            }
        },
        Value::String(text) if rng.gen_ratio(1, 2) => {
            let at = rng.gen_range(0..=text.chars().count());
            let mut chars: Vec<char> = text.chars().collect();
            match rng.gen_range(0..4) {
                0 => chars.truncate(at),
                1 if at < chars.len() => chars[at] = rng.r#gen(),
                2 => chars.insert(
                    at,
                    *['\0', '/', '0', 'A', '=', '\u{fffd}'].choose(rng).unwrap_or(&'a'),
                ),
                _ => {
                    if at < chars.len() {
                        chars.remove(at);
                    }
                }
            }
            *text = chars.into_iter().collect();
        }
        _ => {
            *value = some(rng, theirs).unwrap_or_else(|| made(rng));
        }
    }
}

fn members(rng: &mut impl Rng, map: &mut Map<String, Value>, theirs: &Value) {
    let keys: Vec<String> = map.keys().cloned().collect();
    let pick = |rng: &mut dyn rand::RngCore| keys.choose(rng).cloned();
    match (rng.gen_range(0..4), pick(rng), pick(rng)) {
        (0, Some(key), _) => drop(map.remove(&key)),
        // Two exchange their values.
        (1, Some(one), Some(other)) => {
            let (first, second) = (map[&one].clone(), map[&other].clone());
            map.insert(one, second);
            map.insert(other, first);
        }
        (2, Some(key), _) => {
            let name = ["critical", "sha256:00", "a", "", "__proto__"].choose(rng);
            map.insert(name.copied().unwrap_or("x").to_owned(), map[&key].clone());
        }
        _ => {
            if let Value::Object(other) = theirs {
                let keys: Vec<&String> = other.keys().collect();
                if let Some(key) = keys.choose(rng) {
                    map.insert((*key).clone(), other[*key].clone());
                }
            }
        }
    }
}

/// Some value of somebody else's.
fn some(rng: &mut impl Rng, theirs: &Value) -> Option<Value> {
    let mut at = theirs;
    loop {
        let below: Vec<&Value> = match at {
            Value::Object(map) => map.values().collect(),
            Value::Array(list) => list.iter().collect(),
            _ => Vec::new(),
        };
        match below.choose(rng) {
            Some(next) if rng.gen_ratio(3, 4) => at = next,
            _ => return (!at.is_null()).then(|| at.clone()),
        }
    }
}

/// A value that readers care about.
fn made(rng: &mut impl Rng) -> Value {
    match rng.gen_range(0..10) {
        0 => Value::Null,
        1 => json!([]),
        2 => json!({}),
        3 => json!(rng.r#gen::<bool>()),
        4 => json!(""),
        5 => json!(-1),
        6 => json!((1_u64 << 53) + 1),
        7 => json!(u64::MAX >> rng.gen_range(0..64)),
        8 => json!(rng.gen_range(0..70)),
        _ => json!("x".repeat(1 << rng.gen_range(0..12))),
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand_chacha::ChaCha20Rng;

    use super::*;

    /// What stands in front stays, JSON stays JSON, and so does JSON in JSON, which is changed too.
    #[test]
    fn what_was_changed_is_json_still_and_within_strings_too() {
        let inner = json!({"a": [1, 2], "b": {"c": "d"}}).to_string();
        let outer = json!({"payload": inner, "type": "x"}).to_string();
        let input = [b"\x07", outer.as_bytes()].concat();
        let mut within = 0;
        for seed in 0..500 {
            let mut rng = ChaCha20Rng::seed_from_u64(seed);
            let changed = change(&mut rng, &input, &input).expect("it holds JSON");
            assert_eq!(changed[0], 7, "seed {seed}");
            let value: Value = serde_json::from_slice(&changed[1..]).expect("JSON");
            let payload = value["payload"].as_str().unwrap_or_default();
            let is_json = serde_json::from_str::<Value>(payload).is_ok();
            within += usize::from(is_json && payload != inner);
        }
        assert!(within > 100, "{within} of 500 changes were made within the string");
        assert_eq!(change(&mut ChaCha20Rng::seed_from_u64(1), b"\x01no", b"{}"), None);
    }
}
