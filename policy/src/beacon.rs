//! A beacon: a governor's signed sign of life, with the time and the heads of the lanes.
//!
//! ```text
//! {network, group, governor, time, heads: {lane: {seq, id}}, counter}
//! ```
//!
//! Tools send one whenever they run. Whoever hears too few for too long knows that it may be cut off
//! from the board, and installs nothing new meanwhile.

use std::collections::BTreeMap;

use borgios_types::{Digest, Envelope, PublicKey, Seq, UnixSeconds};
use serde::{Deserialize, Serialize};

use crate::board::Board;
use crate::lane::Lane;
use crate::name::Name;
use crate::object::{Object, ObjectError, for_network, signed_by};

/// Seconds a beacon may lie ahead of a holder's clock: honest clocks differ by less.
pub const AHEAD_MAX_S: u64 = 600;

/// The end of a lane, as its governor knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BeaconHead {
    /// The last place that is decided.
    pub seq: Seq,
    /// What the next statement names as `prev`.
    pub id: Digest,
}

/// A sign of life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beacon {
    /// The fleet.
    pub network: Digest,
    /// The group key of the board it is sent on.
    pub group: PublicKey,
    /// Who sends it.
    pub governor: Name,
    /// The sender's clock.
    pub time: UnixSeconds,
    /// What the sender knows of each lane.
    #[serde(default)]
    pub heads: BTreeMap<Lane, BeaconHead>,
    /// Counts the sender's beacons, so that of two with one time the later is known.
    pub counter: u64,
}

impl Object for Beacon {
    const KIND: &'static str = "beacon";
    const FIELDS: &'static [&'static str] =
        &["network", "group", "governor", "time", "heads", "counter"];
}

impl Beacon {
    /// Reads a beacon and checks network, board, governor and signature. Whether it is fresh,
    /// [`Beacon::is_fresh`] says.
    ///
    /// # Errors
    /// As [`Object::parse`], `wrong_network`, `wrong_policy`, `bad_body`, `bad_signature`.
    pub fn verify(
        board: &Board,
        network: Digest,
        envelope: &Envelope,
    ) -> Result<Self, ObjectError> {
        let (beacon, kind) = (Self::parse(envelope)?, Self::KIND);
        for_network(kind, beacon.network, network)?;
        if beacon.group != board.group() {
            let (found, expected) = (beacon.group, board.group());
            return Err(ObjectError::WrongGroup { kind, found, expected });
        }
        let governor = board.by_name(&beacon.governor).ok_or_else(|| ObjectError::Refused {
            kind,
            why: format!("{} is not on the board", beacon.governor),
        })?;
        signed_by(&governor.key, kind, envelope)?;
        Ok(beacon)
    }

    /// Whether it counts now: no older than `max_age_s`, and no further ahead than clocks differ.
    #[must_use]
    pub fn is_fresh(&self, now: UnixSeconds, max_age_s: u64) -> bool {
        is_fresh(self.time, now, max_age_s)
    }

    /// Of two beacons of one governor the one that says more, the same everywhere.
    #[must_use]
    pub fn is_after(&self, other: &Self) -> bool {
        (self.time, self.counter) > (other.time, other.counter)
    }
}

/// Whether what is dated `time` says something of `now`: see [`Beacon::is_fresh`].
pub(crate) fn is_fresh(time: UnixSeconds, now: UnixSeconds, max_age_s: u64) -> bool {
    time <= now.plus(AHEAD_MAX_S) && now <= time.plus(max_age_s)
}
