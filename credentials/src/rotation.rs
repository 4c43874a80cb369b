//! How one node's root changes to the next verifier, as its journal records it.
//!
//! ```text
//!          another is wanted            chpasswd done, synced         read back
//!   Idle ───────────────────▶ Prepared ──────────────────────▶ Applied ───────▶ Verified ──▶ Idle
//!     ▲                          ▲  ▲                             │                │   copies
//!     └ shadow has what is wanted│  └──── shadow lost it again ───┴────────────────┘   scrubbed
//!                                └ or something else is wanted by now
//! ```
//! [`Rotation::next`] says what to do; the keeper does it and asks again, with a fresh look at
//! `/etc/shadow`. What always holds:
//!  1. each state is written and synced before the step it announces, so that after a crash
//!     between any two lines the next question finishes what was begun;
//!  2. what is wanted is a verifier, not a number: whoever changed root's field, it is changed back;
//!  3. no state holds a secret.

use borgios_types::Epoch;
use serde::{Deserialize, Serialize};

use crate::verifier::Verifier;

/// One epoch's verifier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mark {
    /// For people and reports; nothing is decided by it.
    pub epoch: Epoch,
    /// What root's field is to be.
    pub verifier: Verifier,
}

/// The journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case", deny_unknown_fields)]
pub enum Rotation {
    /// Nothing under way; `current` was the last to be verified here, if any was.
    Idle {
        /// What root's field was left as.
        current: Option<Mark>,
    },
    /// `next` is due; `/etc/shadow` may or may not carry it yet.
    Prepared {
        /// What root's field is to be.
        next: Mark,
    },
    /// `/etc/shadow` carries `next`, and on the disk too; it has not been read back yet.
    Applied {
        /// What root's field is.
        next: Mark,
    },
    /// Read back and proved; the copies of the old verifier may go.
    Verified {
        /// What root's field is.
        next: Mark,
    },
}

/// What to do next. After each, [`Rotation::next`] is asked again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing: `/etc/shadow` carries what is wanted and no copy of anything older is left.
    Rest,
    /// Write this state into the journal and sync it.
    Journal(Rotation),
    /// Have the account tools set root's field.
    Change(Mark),
    /// Sync `/etc/shadow` and its folder, then write this state.
    Settle(Rotation),
    /// Make `/etc/shadow-` a copy of `/etc/shadow`, then write this state.
    Scrub(Rotation),
}

impl Default for Rotation {
    fn default() -> Self {
        Self::Idle { current: None }
    }
}

impl Rotation {
    /// What to do next, if `wanted` is what the schedule says now and `seen` what `/etc/shadow`
    /// carries (`None` if that is no verifier).
    ///
    /// With a `wanted` that stays, at most five steps lead from any state to [`Step::Rest`].
    #[must_use]
    pub fn next(&self, wanted: &Mark, seen: Option<&Verifier>) -> Step {
        let is_there = seen == Some(&wanted.verifier);
        let prepare = || Step::Journal(Self::Prepared { next: wanted.clone() });
        match self {
            Self::Idle { current: Some(current) } if is_there && current == wanted => Step::Rest,
            // Set by a step whose journal was lost: settle it, and scrub what it left behind.
            Self::Idle { .. } => prepare(),
            Self::Prepared { next } | Self::Applied { next } | Self::Verified { next }
                if next != wanted =>
            {
                prepare()
            }
            Self::Prepared { next } if is_there => {
                Step::Settle(Self::Applied { next: next.clone() })
            }
            Self::Prepared { next } => Step::Change(next.clone()),
            Self::Applied { .. } | Self::Verified { .. } if !is_there => prepare(),
            Self::Applied { next } => Step::Journal(Self::Verified { next: next.clone() }),
            Self::Verified { next } => Step::Scrub(Self::Idle { current: Some(next.clone()) }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(epoch: u64) -> Mark {
        let verifier = format!("$y$j9T${epoch:022}${epoch:043}").parse().unwrap();
        Mark { epoch: Epoch(epoch), verifier }
    }

    fn states() -> Vec<Rotation> {
        let marks = [mark(1), mark(2), mark(3)];
        let mut states = vec![Rotation::default()];
        for next in marks {
            states.push(Rotation::Idle { current: Some(next.clone()) });
            states.push(Rotation::Prepared { next: next.clone() });
            states.push(Rotation::Applied { next: next.clone() });
            states.push(Rotation::Verified { next });
        }
        states
    }

    /// Does steps until there is nothing to do; returns their names.
    fn run(state: &mut Rotation, seen: &mut Option<Verifier>, wanted: &Mark) -> Vec<&'static str> {
        let mut steps = Vec::new();
        loop {
            assert!(steps.len() <= 5, "no end: {steps:?}");
            match state.next(wanted, seen.as_ref()) {
                Step::Rest => return steps,
                Step::Journal(to) => {
                    steps.push("journal");
                    *state = to;
                }
                Step::Change(to) => {
                    assert!(matches!(state, Rotation::Prepared { next } if *next == to));
                    steps.push("change");
                    *seen = Some(to.verifier);
                }
                Step::Settle(to) => {
                    steps.push("settle");
                    *state = to;
                }
                Step::Scrub(to) => {
                    steps.push("scrub");
                    *state = to;
                }
            }
        }
    }

    #[test]
    fn a_rotation_takes_the_steps_of_the_drawing_in_order() {
        let mut state = Rotation::Idle { current: Some(mark(1)) };
        let mut seen = Some(mark(1).verifier);
        let steps = run(&mut state, &mut seen, &mark(2));
        assert_eq!(steps, ["journal", "change", "settle", "journal", "scrub"]);
        assert_eq!(state, Rotation::Idle { current: Some(mark(2)) });
        assert_eq!(run(&mut state, &mut seen, &mark(2)), [""; 0]);
    }

    #[test]
    fn every_state_over_every_shadow_ends_with_what_is_wanted_and_scrubbed() {
        for state in states() {
            for seen in [None, Some(mark(1)), Some(mark(2)), Some(mark(9))] {
                let (mut after, mut field) = (state.clone(), seen.clone().map(|m| m.verifier));
                let rested =
                    state == Rotation::Idle { current: Some(mark(2)) } && seen == Some(mark(2));
                let steps = run(&mut after, &mut field, &mark(2));
                assert_eq!(field, Some(mark(2).verifier), "{state:?} {seen:?}");
                assert_eq!(after, Rotation::Idle { current: Some(mark(2)) });
                assert_eq!(steps.last() == Some(&"scrub"), !rested, "{state:?} {seen:?} {steps:?}");
            }
        }
    }

    #[test]
    fn whoever_changes_roots_field_it_is_changed_back() {
        let mut state = Rotation::Idle { current: Some(mark(2)) };
        for mut seen in [None, Some(mark(1).verifier), Some(mark(7).verifier)] {
            assert!(run(&mut state, &mut seen, &mark(2)).contains(&"change"));
            assert_eq!(seen, Some(mark(2).verifier));
        }
    }

    #[test]
    fn the_journal_reads_back_and_damage_is_no_state() {
        for state in states() {
            let text = serde_json::to_string(&state).unwrap();
            assert_eq!(serde_json::from_str::<Rotation>(&text).unwrap(), state);
            assert!(serde_json::from_str::<Rotation>(&text[..text.len() - 1]).is_err());
        }
        assert!(serde_json::from_str::<Rotation>(r#"{"state":"done"}"#).is_err());
    }
}
