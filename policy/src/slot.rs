//! A slot: the right to vote once, and the signing sets that may use it.

use core::fmt;

use borgios_types::{KeyEpoch, Round, Seq};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::lane::Lane;

/// Most signing sets that contain one governor, C(n−1, t−1). Beyond it a pool of one slot no
/// longer fits its payload, and a vote takes seconds; such boards need two-touch sessions.
pub const SUBSETS_MAX: u64 = 1_000;

/// One attempt at one place of one lane, under one group key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Slot {
    /// Generation of the group key.
    pub epoch: KeyEpoch,
    /// The lane.
    pub lane: Lane,
    /// Place in the lane.
    pub seq: Seq,
    /// Attempt at that place.
    pub round: Round,
}

/// `<epoch>-<lane>-<seq>-<round>`, which is also a file name.
impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}-{}", self.epoch, self.lane, self.seq, self.round)
    }
}

/// A board too large for one-touch votes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "{threshold} of {governors} governors means {found} signing sets for each, at most \
     {SUBSETS_MAX} are possible with one-touch votes; choose a smaller board"
)]
pub struct TooManySubsets {
    /// t.
    pub threshold: u16,
    /// n.
    pub governors: u16,
    /// C(n−1, t−1).
    pub found: u64,
}

/// C(n, k), for boards, whose n is at most 21; beyond 32 it only says "too many".
#[must_use]
pub fn binomial(n: u16, k: u16) -> u64 {
    if n > 32 {
        return u64::MAX;
    }
    if k > n {
        return 0;
    }
    (1..=u64::from(k)).fold(1, |product, i| product * (u64::from(n - k) + i) / i)
}

/// Whether `t` of `n` governors can vote in one touch.
///
/// # Errors
/// [`TooManySubsets`] where one governor would be in more than [`SUBSETS_MAX`] signing sets.
pub fn one_touch(n: u16, t: u16) -> Result<(), TooManySubsets> {
    let found = binomial(n.saturating_sub(1), t.saturating_sub(1));
    if found > SUBSETS_MAX {
        return Err(TooManySubsets { threshold: t, governors: n, found });
    }
    Ok(())
}

/// Every set of `t` of the indices 1..=`n`, in lexicographic order.
///
/// # Errors
/// As [`one_touch`].
pub fn subsets(n: u16, t: u16) -> Result<Vec<Vec<u16>>, TooManySubsets> {
    one_touch(n, t)?;
    let mut all = Vec::new();
    if t == 0 || t > n {
        return Ok(all);
    }
    let mut subset: Vec<u16> = (1..=t).collect();
    loop {
        all.push(subset.clone());
        // The last place that can still grow; what follows it starts right after it.
        let Some(at) = (0..subset.len()).rev().find(|i| subset[*i] < n - t + 1 + *i as u16) else {
            return Ok(all);
        };
        let grown = subset[at] + 1;
        for (place, value) in subset[at..].iter_mut().zip(grown..) {
            *place = value;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subsets_come_in_lexicographic_order() {
        let expected: &[&[u16]] = &[&[1, 2], &[1, 3], &[2, 3]];
        assert_eq!(subsets(3, 2).unwrap(), expected);
        for (n, t) in [(2, 2), (5, 3), (7, 7), (9, 5), (13, 7), (21, 20)] {
            let all = subsets(n, t).unwrap();
            assert_eq!(all.len() as u64, binomial(n, t), "{t} of {n}");
            assert!(all.windows(2).all(|pair| pair[0] < pair[1]), "{t} of {n}");
            let mine = all.iter().filter(|subset| subset.contains(&1)).count();
            assert_eq!(mine as u64, binomial(n - 1, t - 1), "{t} of {n}");
        }
    }

    #[test]
    fn a_board_too_large_for_one_touch_is_refused() {
        assert_eq!(subsets(15, 8).unwrap_err().found, 3432);
        assert_eq!(subsets(13, 7).unwrap().len(), 1716);
    }

    #[test]
    fn a_slot_is_a_file_name() {
        let slot = Slot { epoch: KeyEpoch(1), lane: Lane::Release, seq: Seq(42), round: Round(0) };
        assert_eq!(slot.to_string(), "1-release-42-0");
    }
}
