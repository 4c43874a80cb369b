//! How a governor's tool makes a schedule and its escrow.
//!
//! ```text
//! for each epoch:  random scalar ──▶ password ──▶ verifier ──────────▶ Schedule
//!                       └─ split among the governors (RFC 9591 C.2) ─▶ Escrow
//! ```
//! Secrets and passwords live in this function's memory only and are erased epoch by epoch; the
//! shares, until they are sealed.

use std::collections::BTreeMap;

use borgios_policy::{Board, Bytes, Name};
use borgios_types::{Digest, Epoch, UnixSeconds};
use frost_ed25519 as frost;
use rand::{CryptoRng, RngCore};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::escrow::{Escrow, points};
use crate::password::Password;
use crate::schedule::{Schedule, ScheduleError, check_terms};
use crate::secret_share::SecretShare;
use crate::verifier::Verifier;

/// What a schedule is to cover.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    /// Whose credential.
    pub network: Digest,
    /// Its first epoch.
    pub first: Epoch,
    /// When that begins.
    pub t0: UnixSeconds,
    /// Seconds from one epoch to the next.
    pub interval_s: u64,
    /// Most seconds that a node waits after a boundary; less than the interval.
    pub jitter_s: u64,
    /// How many epochs.
    pub count: usize,
}

/// Why nothing was dealt.
#[derive(Debug, Error)]
pub enum DealError {
    /// No schedule can have these terms.
    #[error("no schedule can be made so")]
    Term(#[from] ScheduleError),
    /// The board's own recipient is not one; `Board` does not let that happen.
    #[error("the age recipient of {0} cannot be used")]
    Recipient(Name),
    /// The age library could not seal to a governor.
    #[error("could not seal the shares of {name}: {why}")]
    Seal {
        /// Whose.
        name: Name,
        /// What it said.
        why: String,
    },
    /// The FROST library refused its own numbers.
    #[error("could not split the secret of epoch {epoch}: {why}")]
    Split {
        /// Which.
        epoch: Epoch,
        /// What it said.
        why: String,
    },
}

/// Deals a schedule and its escrow among the governors of `board`.
///
/// Takes some 50 ms an epoch and calls `progress` with the number of epochs done after each.
///
/// # Errors
/// Terms that no schedule can have, before anything is drawn.
pub fn deal(
    term: &Term,
    board: &Board,
    rng: &mut (impl RngCore + CryptoRng),
    progress: &mut dyn FnMut(usize),
) -> Result<(Schedule, Escrow), DealError> {
    let Term { network, first, t0, interval_s, jitter_s, count } = *term;
    check_terms(first, t0, interval_s, jitter_s, count)?;
    let (n, t) = (board.size(), board.threshold().0);
    let mut verifiers = Vec::with_capacity(count);
    let mut commitments = BTreeMap::new();
    let mut shares: BTreeMap<Name, BTreeMap<Epoch, SecretShare>> = BTreeMap::new();
    for (done, epoch) in (1..=count).zip((first.0..).map(Epoch)) {
        let failed = |error: frost::Error| DealError::Split { epoch, why: error.to_string() };
        // Never zero: the library draws until it is not.
        let secret = frost::SigningKey::new(rng);
        let all = frost::keys::IdentifierList::Default;
        let (dealt, _) = frost::keys::split(&secret, n, t, all, rng).map_err(failed)?;
        for (index, governor) in (1..=n).zip(board.governors()) {
            let identifier = frost::Identifier::try_from(index).map_err(failed)?;
            let share = &dealt[&identifier];
            let own = shares.entry(governor.name.clone()).or_default();
            own.insert(epoch, SecretShare::of(share));
            if index == 1 {
                commitments.insert(epoch, points(share.commitment()).map_err(failed)?);
            }
        }
        let password = Password::derive(&network, epoch, &Zeroizing::new(secret.serialize()));
        verifiers.push(Verifier::make(&password, rng));
        progress(done);
    }
    let schedule = Schedule::new(network, (first, t0), (interval_s, jitter_s), verifiers)?;
    let sealed = seal(board, &shares)?;
    let escrow = Escrow::dealt(&schedule, board, commitments, sealed);
    Ok((schedule, escrow))
}

/// Each governor's shares of all epochs, as one age file.
fn seal(
    board: &Board,
    shares: &BTreeMap<Name, BTreeMap<Epoch, SecretShare>>,
) -> Result<BTreeMap<Name, Bytes>, DealError> {
    let mut sealed = BTreeMap::new();
    for governor in board.governors() {
        let name = || governor.name.clone();
        let recipient: age::x25519::Recipient =
            governor.recipient.parse().map_err(|_| DealError::Recipient(name()))?;
        let mut plain = Zeroizing::new(Vec::with_capacity(128 * shares[&governor.name].len()));
        serde_json::to_writer(&mut *plain, &shares[&governor.name]).expect("plain data serialises");
        let file = age::encrypt(&recipient, &plain)
            .map_err(|error| DealError::Seal { name: name(), why: error.to_string() })?;
        sealed.insert(name(), Bytes(file));
    }
    Ok(sealed)
}
