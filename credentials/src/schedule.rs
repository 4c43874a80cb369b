//! A schedule: the verifiers of the fleet's shared root credential, and when each is due.
//!
//! ```text
//! {network, first, t0, interval_s, jitter_s, verifiers: ["$y$…", …]}
//!
//!  t0         +1·interval     +2·interval                          ends
//!  ├─ first ──┼─ first + 1 ───┼─ first + 2 ─── … ─── first + n−1 ───┤ last one stays
//!             └▶ a node changes up to jitter_s later, always after the same delay
//! ```
//!
//! A schedule has one form in bytes, so its digest names its meaning. Which epoch is current is
//! said in `current.rs`.

use std::collections::BTreeSet;

use borgios_types::json::{self, JsonError};
use borgios_types::limits::JSON_INTEGER_MAX;
use borgios_types::{Digest, Epoch, UnixSeconds};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::password::Password;
use crate::verifier::Verifier;

/// Longest schedule, in bytes; 4,096 verifiers are 320 KiB.
pub const SCHEDULE_MAX: usize = 1024 * 1024;
/// Most epochs: eleven years of days, and what a dealer hashes in four minutes.
pub const EPOCHS_MAX: usize = 4096;
/// Longest interval, in seconds: a leap year. It also keeps every sum far from overflow.
pub const INTERVAL_S_MAX: u64 = 366 * 86_400;

/// Verifiers and when each is due. Only [`Schedule::parse`] and `deal` make one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Schedule {
    network: Digest,
    first: Epoch,
    t0: UnixSeconds,
    interval_s: u64,
    jitter_s: u64,
    verifiers: Vec<Verifier>,
}

/// A schedule as it is read, before its rules are checked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unchecked {
    network: Digest,
    first: Epoch,
    t0: UnixSeconds,
    interval_s: u64,
    jitter_s: u64,
    verifiers: Vec<Verifier>,
}

/// Why bytes are not a schedule.
#[derive(Debug, Error)]
pub enum ScheduleError {
    /// Too long, not UTF-8 or not strict JSON.
    #[error("a schedule that cannot be read")]
    Json(#[from] JsonError),
    /// Not text.
    #[error("a schedule that is not UTF-8")]
    NotText,
    /// No epochs, or too many.
    #[error("a schedule of {0} epochs, expected 1 to {EPOCHS_MAX}")]
    Count(usize),
    /// Epochs count from 1; nothing goes beyond what JSON keeps exactly.
    #[error(
        "a schedule from epoch {first} and second {t0}, expected both below 2^52 and epochs from 1"
    )]
    Range {
        /// Its first epoch.
        first: Epoch,
        /// Its beginning.
        t0: u64,
    },
    /// An interval that never ends, or one without length.
    #[error("an interval of {0} s, expected 1 to {INTERVAL_S_MAX}")]
    Interval(u64),
    /// A node could still wait for one change when the next is due.
    #[error("a jitter of {jitter_s} s, expected less than the interval of {interval_s} s")]
    Jitter {
        /// Jitter found.
        jitter_s: u64,
        /// The interval.
        interval_s: u64,
    },
    /// One password in two epochs would make a rotation nothing.
    #[error("epoch {0} has the verifier of another epoch")]
    Repeated(Epoch),
    /// The same content in other bytes.
    #[error("a schedule in another form than the one its digest is taken of")]
    Form,
}

/// Why a revealed password is not the one that the fleet's nodes carry.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CheckError {
    /// Not an epoch of this schedule.
    #[error("epoch {epoch} is not in the schedule, which has {first} to {last}")]
    NoEpoch {
        /// The epoch asked for.
        epoch: Epoch,
        /// The schedule's first.
        first: Epoch,
        /// The schedule's last.
        last: Epoch,
    },
    /// The dealer published a hash that is not of the secret that was escrowed.
    #[error(
        "the escrowed password of epoch {epoch} does not open its verifier: whoever dealt the \
         schedule {schedule} made the two differ"
    )]
    Dealer {
        /// The epoch.
        epoch: Epoch,
        /// The schedule, as the credential statement names it.
        schedule: Digest,
    },
}

impl Schedule {
    pub(crate) fn new(
        network: Digest,
        (first, t0): (Epoch, UnixSeconds),
        (interval_s, jitter_s): (u64, u64),
        verifiers: Vec<Verifier>,
    ) -> Result<Self, ScheduleError> {
        check_terms(first, t0, interval_s, jitter_s, verifiers.len())?;
        let mut seen = BTreeSet::new();
        for (epoch, verifier) in (first.0..).map(Epoch).zip(&verifiers) {
            if !seen.insert(verifier) {
                return Err(ScheduleError::Repeated(epoch));
            }
        }
        Ok(Self { network, first, t0, interval_s, jitter_s, verifiers })
    }

    /// Reads a schedule.
    ///
    /// # Errors
    /// The first rule that does not hold; nothing is parsed before the length holds.
    pub fn parse(bytes: &[u8]) -> Result<Self, ScheduleError> {
        if bytes.len() > SCHEDULE_MAX {
            let (length, max) = (bytes.len(), SCHEDULE_MAX);
            return Err(JsonError::TooLarge { length, max }.into());
        }
        let text = core::str::from_utf8(bytes).map_err(|_| ScheduleError::NotText)?;
        let read: Unchecked = json::parse_strict(text, SCHEDULE_MAX)?;
        let schedule = Self::new(
            read.network,
            (read.first, read.t0),
            (read.interval_s, read.jitter_s),
            read.verifiers,
        )?;
        if schedule.to_bytes() != bytes {
            return Err(ScheduleError::Form);
        }
        Ok(schedule)
    }

    /// The one form in bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("plain data serialises")
    }

    /// The digest of [`Schedule::to_bytes`], by which statements name it.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&self.to_bytes())
    }

    /// Whose credential it is.
    #[must_use]
    pub fn network(&self) -> Digest {
        self.network
    }

    /// The first epoch.
    #[must_use]
    pub fn first(&self) -> Epoch {
        self.first
    }

    /// The last epoch, which stays when the schedule has ended.
    #[must_use]
    pub fn last(&self) -> Epoch {
        Epoch(self.first.0 + self.count() - 1)
    }

    /// When the first epoch begins.
    #[must_use]
    pub fn t0(&self) -> UnixSeconds {
        self.t0
    }

    /// Seconds from one epoch to the next.
    #[must_use]
    pub fn interval_s(&self) -> u64 {
        self.interval_s
    }

    /// Most seconds that a node waits after a boundary.
    #[must_use]
    pub fn jitter_s(&self) -> u64 {
        self.jitter_s
    }

    /// The verifier of an epoch of this schedule.
    #[must_use]
    pub fn verifier(&self, epoch: Epoch) -> Option<&Verifier> {
        let at = usize::try_from(epoch.0.checked_sub(self.first.0)?).ok()?;
        self.verifiers.get(at)
    }

    /// Checks a revealed password against the verifier that the nodes carry.
    ///
    /// # Errors
    /// An epoch of another schedule, or a dealer who cheated, which nobody could see before.
    pub fn check(&self, epoch: Epoch, password: &Password) -> Result<(), CheckError> {
        let (first, last) = (self.first, self.last());
        let verifier = self.verifier(epoch).ok_or(CheckError::NoEpoch { epoch, first, last })?;
        if !verifier.matches(password) {
            return Err(CheckError::Dealer { epoch, schedule: self.digest() });
        }
        Ok(())
    }

    pub(crate) fn count(&self) -> u64 {
        self.verifiers.len() as u64
    }
}

/// Everything that does not need the verifiers themselves, so that a dealer asks before it hashes.
pub(crate) fn check_terms(
    first: Epoch,
    t0: UnixSeconds,
    interval_s: u64,
    jitter_s: u64,
    count: usize,
) -> Result<(), ScheduleError> {
    if !(1..=EPOCHS_MAX).contains(&count) {
        return Err(ScheduleError::Count(count));
    }
    if first.0 == 0 || first.0 >= JSON_INTEGER_MAX / 2 || t0.0 >= JSON_INTEGER_MAX / 2 {
        return Err(ScheduleError::Range { first, t0: t0.0 });
    }
    if !(1..=INTERVAL_S_MAX).contains(&interval_s) {
        return Err(ScheduleError::Interval(interval_s));
    }
    if jitter_s >= interval_s {
        return Err(ScheduleError::Jitter { jitter_s, interval_s });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn verifiers(count: usize) -> Vec<String> {
        (0..count).map(|i| format!("$y$j9T${i:022}${i:043}")).collect()
    }

    fn written(count: usize, interval_s: u64, jitter_s: u64) -> Value {
        json!({ "network": Digest::of(b"network"), "first": 10, "t0": 1_000,
                "interval_s": interval_s, "jitter_s": jitter_s, "verifiers": verifiers(count) })
    }

    /// In the order of the struct's fields, which `json!` would sort.
    fn bytes(value: &Value) -> Vec<u8> {
        let fields = ["network", "first", "t0", "interval_s", "jitter_s", "verifiers"];
        let fields: Vec<String> =
            fields.iter().map(|name| format!("\"{name}\":{}", value[*name])).collect();
        format!("{{{}}}", fields.join(",")).into_bytes()
    }

    #[test]
    fn reads_what_it_writes_and_nothing_that_breaks_a_rule() {
        let good = written(3, 100, 9);
        assert_eq!(Schedule::parse(&bytes(&good)).unwrap().to_bytes(), bytes(&good));
        let mut repeated = verifiers(3);
        repeated[2] = repeated[0].clone();
        for (field, bad) in [
            ("first", json!(1_u64 << 52)),
            ("first", json!(-1)),
            ("first", json!(0)),
            ("t0", json!(1_u64 << 52)),
            ("interval_s", json!(0)),
            ("interval_s", json!(INTERVAL_S_MAX + 1)),
            ("jitter_s", json!(100)),
            ("verifiers", json!([])),
            ("verifiers", json!(["*"])),
            ("verifiers", json!(repeated)),
            ("verifiers", json!(verifiers(EPOCHS_MAX + 1))),
            ("network", json!("demo")),
        ] {
            let mut value = good.clone();
            value[field] = bad;
            assert!(Schedule::parse(&bytes(&value)).is_err(), "{field}: {value}");
        }
        let text = String::from_utf8(bytes(&good)).unwrap();
        for bad in [
            text.replacen('{', "{ ", 1),
            text.replacen("\"first\":10", "\"first\":10,\"first\":11", 1),
            text.replacen("\"first\":10", "\"first\":10,\"also\":1", 1),
            text[..text.len() - 1].to_owned(),
            " ".repeat(SCHEDULE_MAX + 1),
        ] {
            assert!(Schedule::parse(bad.as_bytes()).is_err());
        }
        assert!(matches!(Schedule::parse(&[0xff; 10]), Err(ScheduleError::NotText)));
    }
}
