//! Hands back to a governor what this node knows of the governor's own ballots, so that a clone of a
//! laptop is noticed before it votes: see [`borgios_policy::handback`].
//!
//! An answer costs a signature and a look at one governor's ballots, so each asker gets only so many in
//! a minute; one who asks too often takes nothing from the others.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use borgios_policy::handback::BALLOTS_MAX;
use borgios_policy::{Ballot, Handback, Name, Object as _, SessionShare};
use borgios_types::{Digest, Envelope, PublicKey, SecretKey, Seq};
use serde_json::{Value, json};

use crate::api::{Caller, error, ok};
use crate::clock::unix_now;
use crate::ledger::Ledger;
use crate::ledger_handle::LedgerHandle;

/// Answers for one asker in one minute: a vote in every lane, many times over.
const PER_MINUTE: u32 = 60;
/// Most askers whose allowance is noted: only governors ask, and boards follow each other slowly.
const ASKERS_MAX: usize = 64;
/// Most shares of second touches named in one answer, those of the highest places first; the rest is for
/// ballots.
const SHARES_MAX: usize = BALLOTS_MAX / 2;
const MINUTE: Duration = Duration::from_secs(60);

/// Makes the answers. Clones share the allowance.
#[derive(Clone)]
pub struct Handbacks {
    key: SecretKey,
    allowances: Arc<Mutex<BTreeMap<PublicKey, Allowance>>>,
}

/// How many answers are left for one asker in this minute.
#[derive(Debug)]
struct Allowance {
    left: u32,
    since: Instant,
}

impl Allowance {
    fn new(now: Instant) -> Self {
        Self { left: PER_MINUTE, since: now }
    }

    /// Takes one, if one is left.
    fn take(&mut self, now: Instant) -> bool {
        if now.duration_since(self.since) >= MINUTE {
            *self = Self::new(now);
        }
        let some = self.left > 0;
        self.left = self.left.saturating_sub(1);
        some
    }
}

impl Handbacks {
    /// Signs with the node's key.
    #[must_use]
    pub fn new(key: SecretKey) -> Self {
        Self { key, allowances: Arc::default() }
    }

    /// Answers one question.
    pub async fn answer(
        &self,
        ledger: &LedgerHandle,
        governor: Name,
        challenge: Digest,
        caller: &Caller,
    ) -> Value {
        // Who sits on this server may ask as often as they like.
        if let Caller::Key(asker) = caller
            && !self.allows(*asker, Instant::now())
        {
            let why = format!("{PER_MINUTE} answers in a minute were given; ask again later");
            return error("busy", &why);
        }
        let key = self.key.clone();
        let made = ledger.run(move |ledger| sign(ledger, &key, governor, challenge)).await;
        made.map_or_else(
            || error("no_policy", "this node has no policy yet"),
            |envelope| ok(json!(envelope)),
        )
    }
}

impl Handbacks {
    fn allows(&self, asker: PublicKey, now: Instant) -> bool {
        let mut noted = self.allowances.lock().unwrap_or_else(PoisonError::into_inner);
        if noted.len() >= ASKERS_MAX {
            noted.retain(|_, allowance| now.duration_since(allowance.since) < MINUTE);
        }
        if noted.len() >= ASKERS_MAX && !noted.contains_key(&asker) {
            return false;
        }
        noted.entry(asker).or_insert_with(|| Allowance::new(now)).take(now)
    }
}

/// The signed answer.
fn sign(ledger: &Ledger, key: &SecretKey, governor: Name, challenge: Digest) -> Option<Envelope> {
    let network = ledger.chain().network()?;
    let held = ledger.store().owned(Ballot::KIND, governor.as_str());
    let mut ballots: Vec<(u64, Digest)> = held
        .filter_map(|stored| Some((Ballot::parse(&stored.envelope).ok()?.counter, stored.id)))
        .collect();
    ballots.sort_unstable_by(|one, other| other.cmp(one));
    let counter = ballots.first().map_or(0, |(counter, _)| *counter);
    let shares = ledger.store().owned(SessionShare::KIND, governor.as_str());
    let mut shares: Vec<(Seq, Digest)> = shares
        .filter_map(|stored| Some((SessionShare::parse(&stored.envelope).ok()?.seq, stored.id)))
        .collect();
    shares.sort_unstable_by(|one, other| other.cmp(one));
    shares.truncate(SHARES_MAX);
    let ballots = ballots.into_iter().take(BALLOTS_MAX - shares.len()).map(|(_, id)| id);
    let mut ballots: Vec<Digest> = ballots.chain(shares.iter().map(|(_, id)| *id)).collect();
    ballots.sort_unstable();
    let (node, at) = (key.public(), unix_now());
    let handback = Handback { network, node, governor, challenge, counter, ballots, at };
    Some(handback.to_envelope().sign(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_has_only_so_many_answers() {
        let start = Instant::now();
        let mut allowance = Allowance::new(start);
        assert!((0..PER_MINUTE).all(|_| allowance.take(start)));
        assert!(!allowance.take(start + MINUTE - Duration::from_millis(1)));
        assert!(allowance.take(start + MINUTE));
    }

    #[test]
    fn one_asker_takes_nothing_from_another() {
        let handbacks = Handbacks::new(SecretKey::from_seed([1; 32]));
        let key = |seed| SecretKey::from_seed([seed; 32]).public();
        let now = Instant::now();
        while handbacks.allows(key(2), now) {}
        assert!(handbacks.allows(key(3), now));
    }
}
