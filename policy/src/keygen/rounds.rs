//! The rounds of a key generation: what each paper is made of, and what is checked before the next.

use std::collections::BTreeMap;

use borgios_types::Digest;
use frost_ed25519 as frost;
use frost_ed25519::keys::{VerifiableSecretSharingCommitment, dkg};
use rand::{CryptoRng, RngCore};

use super::papers::{self, All, Dkg1, Dkg2, Done, Paper};
use super::pools::{FirstPools, Points, count, first_pools};
use super::roster::Roster;
use super::{Ceremony, CeremonyError, Files, Made, Me, Phase, cheat};
use crate::board::{Board, identifier};
use crate::card::Card;
use crate::name::Name;
use crate::object::Object;
use crate::pool::{Pool, slots_per_pool};
use crate::share::{KeyShare, Seed};
use crate::slot::Slot;
use crate::wire::{Bytes, SecretBytes};

/// What all can work out alike of a new board: at a founding the id of policy/1.
pub(crate) type Outcome<'a> = &'a dyn Fn(&Board) -> Option<Digest>;

/// How far the rounds are.
pub(crate) enum Reached {
    /// Nothing to do before these governors have written theirs.
    Waiting {
        /// Which of their files.
        kind: &'static str,
        /// Whose.
        missing: Vec<Name>,
    },
    /// Everyone signed the same.
    Agreed(Agreed),
}

/// What everyone signed for.
pub(crate) struct Agreed {
    /// The last papers.
    pub(crate) done: All<Done>,
    /// Everyone's first pools.
    pub(crate) pools: FirstPools,
}

/// What one look at the folder comes to.
enum Advance {
    /// The next phase is reached.
    Further(Box<Ceremony>),
    /// Nothing more to do for now.
    Stays(Reached),
}

impl Ceremony {
    /// Goes as far as the folder allows. What this very call wrote counts as being there.
    pub(crate) fn advance(
        &mut self,
        me: &Me<'_>,
        roster: &Roster,
        files: &Files,
        outcome: Outcome<'_>,
        rng: &mut (impl RngCore + CryptoRng),
    ) -> Result<Reached, CeremonyError> {
        self.check_unchanged(files)?;
        loop {
            let seen = self.seen(files);
            match self.look(me, roster, &seen, outcome, rng)? {
                Advance::Further(next) => *self = *next,
                Advance::Stays(reached) => return Ok(reached),
            }
        }
    }

    /// First round: a secret polynomial, and the commitments to it.
    pub(crate) fn begin(
        me: &Me<'_>,
        roster: &Roster,
        rng: &mut (impl RngCore + CryptoRng),
    ) -> Result<Self, CeremonyError> {
        let index = roster.index_of(&me.card.name)?;
        let (n, t) = (roster.size(), roster.threshold.0);
        let (secret, package) =
            dkg::part1(identifier(index), n, t, rng).map_err(|error| state(&error))?;
        let package = Bytes(package.serialize().map_err(|error| state(&error))?);
        let secret = SecretBytes::new(secret.serialize().map_err(|error| state(&error))?);
        let mut ceremony = Self {
            roster: roster.id,
            phase: Phase::Committed { secret },
            wrote: BTreeMap::new(),
            answered: BTreeMap::new(),
        };
        let governor = me.card.name.clone();
        ceremony.write_paper(me, roster, &Dkg1 { roster: roster.id, governor, package });
        Ok(ceremony)
    }

    /// One transition, if the papers it needs are there.
    fn look(
        &self,
        me: &Me<'_>,
        roster: &Roster,
        files: &Files,
        outcome: Outcome<'_>,
        rng: &mut (impl RngCore + CryptoRng),
    ) -> Result<Advance, CeremonyError> {
        let first: All<Dkg1> = match papers::round(files, roster)? {
            Ok(all) => all,
            Err(missing) => return Ok(waiting(Dkg1::KIND, missing)),
        };
        if let Phase::Committed { secret } = &self.phase {
            return self.share(me, roster, secret, &first).map(further);
        }
        let second: All<Dkg2> = match papers::round(files, roster)? {
            Ok(all) => all,
            Err(missing) => return Ok(waiting(Dkg2::KIND, missing)),
        };
        let seen = papers::digest(&first);
        if let Some((name, _)) = second.iter().find(|(_, (_, paper))| paper.round1 != seen) {
            return Err(CeremonyError::Disagrees { name: name.clone(), what: Dkg1::KIND });
        }
        if let Phase::Shared { secret } = &self.phase {
            return self.derive(me, roster, secret, (&first, &second), outcome, rng).map(further);
        }
        let done: All<Done> = match papers::round(files, roster)? {
            Ok(all) => all,
            Err(missing) => return Ok(waiting(Done::KIND, missing)),
        };
        let (made, points) = match &self.phase {
            Phase::Keyed { made } => (made, Points::Unasked),
            // It voted upon these very pools.
            Phase::Voted { made } => (made, Points::Asked),
            Phase::Committed { .. } | Phase::Shared { .. } => {
                return Err(CeremonyError::State("the ceremony went back a round".to_owned()));
            }
        };
        check_done(made, outcome, &done)?;
        Ok(Advance::Stays(match first_pools(&made.board, roster, files, &done, points)? {
            Ok(pools) => Reached::Agreed(Agreed { done, pools }),
            Err(missing) => Reached::Waiting { kind: Pool::KIND, missing },
        }))
    }

    /// Second round: a value of the polynomial for each other governor, sealed to each.
    fn share(
        &self,
        me: &Me<'_>,
        roster: &Roster,
        secret: &SecretBytes,
        first: &All<Dkg1>,
    ) -> Result<Self, CeremonyError> {
        let length = secret.expose().len();
        let secret =
            dkg::round1::SecretPackage::deserialize(secret.expose()).map_err(|e| state(&e))?;
        let numbers = (*secret.min_signers(), *secret.max_signers());
        check_kept(me, roster, secret.identifier(), secret.commitment(), numbers)?;
        // Of the polynomial itself no more can be seen from here than how much room it takes.
        if length != polynomial_len(roster) {
            return Err(damaged());
        }
        let others = first_packages(me, roster, first)?;
        let (secret, values) =
            dkg::part2(secret, &others).map_err(|error| blame(roster, Dkg1::KIND, &error))?;
        let mut packages = BTreeMap::new();
        for (index, Card { name, recipient, .. }) in (1..).zip(&roster.governors) {
            let Some(value) = values.get(&identifier(index)) else { continue };
            let recipient: age::x25519::Recipient =
                recipient.parse().map_err(|error: &str| CeremonyError::State(error.to_owned()))?;
            let value = SecretBytes::new(value.serialize().map_err(|error| state(&error))?);
            let sealed = age::encrypt(&recipient, value.expose())
                .map_err(|error| CeremonyError::State(error.to_string()))?;
            packages.insert(name.clone(), Bytes(sealed));
        }
        let mut next = self.clone();
        let secret = SecretBytes::new(secret.serialize().map_err(|error| state(&error))?);
        next.phase = Phase::Shared { secret };
        next.answer(me, roster, first);
        let (governor, round1) = (me.card.name.clone(), papers::digest(first));
        next.write_paper(me, roster, &Dkg2 { roster: self.roster, governor, round1, packages });
        Ok(next)
    }

    /// Third round: the key share and the first pools.
    fn derive(
        &self,
        me: &Me<'_>,
        roster: &Roster,
        secret: &SecretBytes,
        (first, second): (&All<Dkg1>, &All<Dkg2>),
        outcome: Outcome<'_>,
        rng: &mut (impl RngCore + CryptoRng),
    ) -> Result<Self, CeremonyError> {
        let secret =
            dkg::round2::SecretPackage::deserialize(secret.expose()).map_err(|e| state(&e))?;
        let numbers = (*secret.min_signers(), *secret.max_signers());
        check_kept(me, roster, secret.identifier(), secret.commitment(), numbers)?;
        let received = unseal(me, roster, second)?;
        let (package, public) = dkg::part3(&secret, &first_packages(me, roster, first)?, &received)
            .map_err(|error| blame(roster, Dkg2::KIND, &error))?;
        let board = roster.board(&public)?;
        let failed = |error: &dyn core::fmt::Display| CeremonyError::State(error.to_string());
        let key = KeyShare::new(&board, &me.card.name, package).map_err(|error| failed(&error))?;
        let slots = roster.slots();
        let pooled = count(&board, slots.len()) > 0;
        let slots = slots.into_iter().filter(|_| pooled);
        let seeds: Vec<(Slot, Seed)> = slots.map(|slot| (slot, Seed::random(rng))).collect();
        let policy = outcome(&board);
        // Without pools, policy/1 is signed with nonces of its own.
        let nonces = (policy.is_some() && !pooled)
            .then(|| frost::round1::commit(key.package().signing_share(), rng).0);
        let commitment = nonces
            .as_ref()
            .map(|nonces| nonces.commitments().serialize().map(Bytes))
            .transpose()
            .map_err(|error| state(&error))?;
        let nonces = nonces.map(|nonces| nonces.serialize().map(SecretBytes::new)).transpose();
        let nonces = nonces.map_err(|error| state(&error))?;
        let transcript =
            Digest::of_parts(&[&roster.id.0, &papers::digest(first).0, &papers::digest(second).0]);
        let mut next = self.clone();
        let mut pools = Vec::new();
        for (number, seeds) in (1..).zip(seeds.chunks(slots_per_pool(&board).max(1))) {
            let pool = Pool::make(&board, &key, seeds).map_err(|error| failed(&error))?;
            let envelope = pool.to_envelope().sign(me.key);
            pools.push(envelope.id());
            next.wrote.insert(roster.pool_file(&me.card.name, number), envelope.to_json());
        }
        next.answer(me, roster, second);
        let (governor, group) = (me.card.name.clone(), board.group());
        let done =
            Done { roster: roster.id, governor, transcript, group, policy, pools, commitment };
        next.write_paper(me, roster, &done);
        let key = key.to_secret();
        next.phase = Phase::Keyed { made: Made { board, transcript, key, seeds, nonces } };
        Ok(next)
    }

    /// Notes a round's papers by others as answered.
    pub(crate) fn answer<T: Paper>(&mut self, me: &Me<'_>, roster: &Roster, all: &All<T>) {
        let others = all.iter().filter(|(name, _)| **name != me.card.name);
        let noted = others.map(|(name, (envelope, _))| (roster.file(name, T::KIND), envelope.id()));
        self.answered.extend(noted);
    }

    /// Signs and keeps a paper, to be written.
    pub(crate) fn write_paper<T: Paper>(&mut self, me: &Me<'_>, roster: &Roster, paper: &T) {
        let text = paper.to_envelope().sign(me.key).to_json();
        self.wrote.insert(roster.file(&me.card.name, T::KIND), text);
    }
}

/// What a ceremony kept is this governor's secret for this roster. The library takes the numbers in it on
/// trust: of no signers it would subtract one, and of a polynomial without coefficients take the first.
fn check_kept(
    me: &Me<'_>,
    roster: &Roster,
    of: &frost::Identifier,
    commitment: &VerifiableSecretSharingCommitment,
    (t, n): (u16, u16),
) -> Result<(), CeremonyError> {
    let mine = *of == identifier(roster.index_of(&me.card.name)?);
    let committed = commitment.coefficients().len() == usize::from(roster.threshold.0);
    match mine && committed && (t, n) == (roster.threshold.0, roster.size()) {
        true => Ok(()),
        false => Err(damaged()),
    }
}

fn damaged() -> CeremonyError {
    CeremonyError::State("the secret that it kept is damaged, or another ceremony's".to_owned())
}

/// Bytes of a first round's secret: who, then t coefficients and t commitments, each list with its length,
/// then t and n. At most 21, so that each number takes one byte.
fn polynomial_len(roster: &Roster) -> usize {
    let list = 1 + 32 * usize::from(roster.threshold.0);
    32 + list + list + 1 + 1
}

/// Every governor signed the same transcript, group key and outcome.
fn check_done(made: &Made, outcome: Outcome<'_>, done: &All<Done>) -> Result<(), CeremonyError> {
    let expected = (made.transcript, made.board.group(), outcome(&made.board));
    let differs = |paper: &Done| (paper.transcript, paper.group, paper.policy) != expected;
    match done.iter().find(|(_, (_, paper))| differs(paper)) {
        Some((name, _)) => Err(CeremonyError::Disagrees { name: name.clone(), what: Dkg2::KIND }),
        None => Ok(()),
    }
}

/// The others' first-round packages.
fn first_packages(
    me: &Me<'_>,
    roster: &Roster,
    first: &All<Dkg1>,
) -> Result<BTreeMap<frost::Identifier, dkg::round1::Package>, CeremonyError> {
    let mut packages = BTreeMap::new();
    for (name, (_, paper)) in first.iter().filter(|(name, _)| **name != me.card.name) {
        let package = dkg::round1::Package::deserialize(&paper.package.0)
            .map_err(|error| cheat(name, Dkg1::KIND, &error))?;
        packages.insert(identifier(roster.index_of(name)?), package);
    }
    Ok(packages)
}

/// The others' second-round packages for this governor, opened.
fn unseal(
    me: &Me<'_>,
    roster: &Roster,
    second: &All<Dkg2>,
) -> Result<BTreeMap<frost::Identifier, dkg::round2::Package>, CeremonyError> {
    let identity: age::x25519::Identity =
        me.identity.parse().map_err(|error: &str| CeremonyError::State(error.to_owned()))?;
    let mut packages = BTreeMap::new();
    for (name, (_, paper)) in second.iter().filter(|(name, _)| **name != me.card.name) {
        let wrong = |why: &dyn core::fmt::Display| cheat(name, Dkg2::KIND, why);
        let sealed = paper.packages.get(&me.card.name);
        let sealed = sealed.ok_or_else(|| wrong(&format!("nothing for {}", me.card.name)))?;
        let value = age::decrypt(&identity, &sealed.0).map_err(|error| wrong(&error))?;
        let value = SecretBytes::new(value);
        let package =
            dkg::round2::Package::deserialize(value.expose()).map_err(|error| wrong(&error))?;
        packages.insert(identifier(roster.index_of(name)?), package);
    }
    Ok(packages)
}

fn further(ceremony: Ceremony) -> Advance {
    Advance::Further(Box::new(ceremony))
}

fn waiting(kind: &'static str, missing: Vec<Name>) -> Advance {
    Advance::Stays(Reached::Waiting { kind, missing })
}

fn state(error: &frost::Error) -> CeremonyError {
    CeremonyError::State(format!("the key generation failed: {error}"))
}

/// The library's error, laid at the door of whom it names.
fn blame(roster: &Roster, kind: &'static str, error: &frost::Error) -> CeremonyError {
    let culprits = error.culprits();
    let cards = (1..).zip(&roster.governors);
    let mut named = cards.filter(|(index, _)| culprits.contains(&identifier(*index)));
    match named.next() {
        Some((_, card)) => cheat(&card.name, kind, error),
        None => CeremonyError::State(format!("the {kind} files do not fit together: {error}")),
    }
}
