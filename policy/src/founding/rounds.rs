//! The rounds of a founding: what each paper is made of, and what is checked before the next.

use std::collections::BTreeMap;

use borgios_types::Digest;
use frost_ed25519 as frost;
use frost_ed25519::keys::dkg;
use rand::{CryptoRng, RngCore};

use super::first::{
    first_policy, first_pools, first_slots, first_statement, policy_slot, pool_file,
};
use super::papers::{self, All, Dkg1, Dkg2, Done, Paper, file_name};
use super::plan::Plan;
use super::{Ceremony, Files, Founded, FoundingError, Made, Me, POLICY_FILE, Phase, Status, cheat};
use crate::ballot::Ballot;
use crate::board::identifier;
use crate::card::Card;
use crate::chain::Chain;
use crate::name::Name;
use crate::object::{Object, ObjectError};
use crate::pool::{Pool, slots_per_pool};
use crate::round::OpenRound;
use crate::share::{KeyShare, Seed};
use crate::slot::Slot;
use crate::tally::tally;
use crate::vote::Intent;
use crate::wire::{Bytes, SecretBytes};

/// What one look at the folder comes to.
pub(super) enum Advance {
    /// The next phase is reached.
    Further(Box<Ceremony>),
    /// Nothing more to do for now.
    Stays(Status),
}

impl Ceremony {
    /// First round: a secret polynomial, and the commitments to it.
    pub(super) fn begin(
        me: &Me<'_>,
        plan: &Plan,
        roster: Digest,
        rng: &mut (impl RngCore + CryptoRng),
    ) -> Result<Self, FoundingError> {
        let index = index_of(plan, &me.card.name)?;
        let (n, t) = (size(plan), plan.threshold.0);
        let (secret, package) =
            dkg::part1(identifier(index), n, t, rng).map_err(|error| state(&error))?;
        let package = Bytes(package.serialize().map_err(|error| state(&error))?);
        let secret = SecretBytes::new(secret.serialize().map_err(|error| state(&error))?);
        let mut ceremony = Self {
            roster,
            phase: Phase::Committed { secret },
            wrote: BTreeMap::new(),
            answered: BTreeMap::new(),
        };
        let governor = me.card.name.clone();
        ceremony.write_paper(me, &Dkg1 { roster, governor, package });
        Ok(ceremony)
    }

    /// One transition, if the papers it needs are there.
    pub(super) fn advance(
        &self,
        me: &Me<'_>,
        plan: &Plan,
        files: &Files,
        rng: &mut (impl RngCore + CryptoRng),
    ) -> Result<Advance, FoundingError> {
        let first: All<Dkg1> = match papers::round(files, plan, self.roster)? {
            Ok(all) => all,
            Err(missing) => return Ok(waiting(Dkg1::KIND, missing)),
        };
        if let Phase::Committed { secret } = &self.phase {
            return self.share(me, plan, secret, &first).map(further);
        }
        let second: All<Dkg2> = match papers::round(files, plan, self.roster)? {
            Ok(all) => all,
            Err(missing) => return Ok(waiting(Dkg2::KIND, missing)),
        };
        let seen = papers::digest(&first);
        if let Some((name, _)) = second.iter().find(|(_, (_, paper))| paper.round1 != seen) {
            return Err(FoundingError::Disagrees { name: name.clone(), what: Dkg1::KIND });
        }
        if let Phase::Shared { secret } = &self.phase {
            return self.derive(me, plan, secret, &first, &second, rng).map(further);
        }
        let done: All<Done> = match papers::round(files, plan, self.roster)? {
            Ok(all) => all,
            Err(missing) => return Ok(waiting(Done::KIND, missing)),
        };
        match &self.phase {
            Phase::Keyed { made } => self.vote(me, plan, made, files, &done),
            Phase::Voted { made } => self.conclude(me, plan, made, files, &done),
            Phase::Committed { .. } | Phase::Shared { .. } => {
                Err(FoundingError::State("the ceremony went back a round".to_owned()))
            }
        }
    }

    /// Second round: a value of the polynomial for each other governor, sealed to each.
    fn share(
        &self,
        me: &Me<'_>,
        plan: &Plan,
        secret: &SecretBytes,
        first: &All<Dkg1>,
    ) -> Result<Self, FoundingError> {
        let secret =
            dkg::round1::SecretPackage::deserialize(secret.expose()).map_err(|e| state(&e))?;
        let others = first_packages(me, plan, first)?;
        let (secret, values) =
            dkg::part2(secret, &others).map_err(|error| blame(plan, Dkg1::KIND, &error))?;
        let mut packages = BTreeMap::new();
        for (index, Card { name, recipient, .. }) in (1..).zip(&plan.governors) {
            let Some(value) = values.get(&identifier(index)) else { continue };
            let recipient: age::x25519::Recipient =
                recipient.parse().map_err(|error: &str| FoundingError::State(error.to_owned()))?;
            let value = SecretBytes::new(value.serialize().map_err(|error| state(&error))?);
            let sealed = age::encrypt(&recipient, value.expose())
                .map_err(|error| FoundingError::State(error.to_string()))?;
            packages.insert(name.clone(), Bytes(sealed));
        }
        let mut next = self.clone();
        let secret = SecretBytes::new(secret.serialize().map_err(|error| state(&error))?);
        next.phase = Phase::Shared { secret };
        next.answer(me, first);
        let (governor, round1) = (me.card.name.clone(), papers::digest(first));
        next.write_paper(me, &Dkg2 { roster: self.roster, governor, round1, packages });
        Ok(next)
    }

    /// Third round: the key share, the first policy and the first pools.
    fn derive(
        &self,
        me: &Me<'_>,
        plan: &Plan,
        secret: &SecretBytes,
        first: &All<Dkg1>,
        second: &All<Dkg2>,
        rng: &mut (impl RngCore + CryptoRng),
    ) -> Result<Self, FoundingError> {
        let secret =
            dkg::round2::SecretPackage::deserialize(secret.expose()).map_err(|e| state(&e))?;
        let received = unseal(me, plan, second)?;
        let (package, public) = dkg::part3(&secret, &first_packages(me, plan, first)?, &received)
            .map_err(|error| blame(plan, Dkg2::KIND, &error))?;
        let policy = first_policy(plan, &public)?;
        let payload = first_statement(plan, &policy).to_payload();
        let board = policy.board.clone();
        let key = KeyShare::new(&board, &me.card.name, package)
            .map_err(|error| FoundingError::State(error.to_string()))?;
        let seeds: Vec<(Slot, Seed)> =
            first_slots(&board).into_iter().map(|slot| (slot, Seed::random(rng))).collect();
        let transcript = Digest::of_parts(&[
            &self.roster.0,
            &papers::digest(first).0,
            &papers::digest(second).0,
        ]);
        let mut next = self.clone();
        let mut pools = Vec::new();
        for (number, seeds) in (1..).zip(seeds.chunks(slots_per_pool(&board).max(1))) {
            let pool = Pool::make(&board, &key, seeds)
                .map_err(|error| FoundingError::State(error.to_string()))?;
            let envelope = pool.to_envelope().sign(me.key);
            pools.push(envelope.id());
            next.wrote.insert(pool_file(&me.card.name, number), envelope.to_json());
        }
        next.answer(me, second);
        let policy_id = Digest::of(payload.as_bytes());
        next.write_paper(
            me,
            &Done {
                roster: self.roster,
                governor: me.card.name.clone(),
                transcript,
                group: board.group(),
                policy: policy_id,
                pools,
            },
        );
        let key = key.to_secret();
        next.phase = Phase::Keyed { made: Made { policy, payload, transcript, key, seeds } };
        Ok(next)
    }

    /// All signed the same: approve policy/1, once, and erase the seed of its slot.
    fn vote(
        &self,
        me: &Me<'_>,
        plan: &Plan,
        made: &Made,
        files: &Files,
        done: &All<Done>,
    ) -> Result<Advance, FoundingError> {
        self.check_done(made, done)?;
        let pools = match first_pools(&made.policy.board, plan, files, done)? {
            Ok(pools) => pools,
            Err(missing) => return Ok(waiting(Pool::KIND, missing)),
        };
        let board = &made.policy.board;
        let (slot, failed) = (policy_slot(board), |error: &dyn core::fmt::Display| {
            FoundingError::State(format!("voting on policy/1 failed: {error}"))
        });
        let key = KeyShare::from_secret(board, &me.card.name, &made.key)
            .map_err(|error| failed(&error))?;
        let open = OpenRound::check(board, slot, &[]).map_err(|error| failed(&error))?;
        let intent = Intent::approve(
            board,
            &me.card.name,
            &open,
            &made.payload,
            &pools,
            &[].into(),
            None,
            1,
        )
        .map_err(|error| failed(&error))?;
        let seed = made.seeds.iter().find(|(of, _)| *of == slot).map(|(_, seed)| seed);
        let ballot = intent.ballot(board, &key, seed, &pools).map_err(|error| failed(&error))?;
        let mut next = self.clone();
        next.answer(me, done);
        let envelope = ballot.to_envelope().sign(me.key);
        next.wrote.insert(file_name(&me.card.name, Ballot::KIND), envelope.to_json());
        let mut made = made.clone();
        made.seeds.retain(|(of, _)| *of != slot);
        next.phase = Phase::Voted { made };
        Ok(further(next))
    }

    /// Takes policy/1 from the folder, or makes it of the ballots as soon as there are enough.
    fn conclude(
        &self,
        me: &Me<'_>,
        plan: &Plan,
        made: &Made,
        files: &Files,
        done: &All<Done>,
    ) -> Result<Advance, FoundingError> {
        let board = &made.policy.board;
        let pools = match first_pools(board, plan, files, done)? {
            Ok(pools) => pools,
            Err(missing) => return Ok(waiting(Pool::KIND, missing)),
        };
        let mut ballots = Vec::new();
        let mut missing = Vec::new();
        for Card { name, .. } in &plan.governors {
            // A ballot that is no good is one that is not there.
            let ballot = papers::envelope(files, &file_name(name, Ballot::KIND))?;
            match ballot.filter(|ballot| Ballot::verify(board, ballot).is_ok()) {
                Some(ballot) => ballots.push(ballot),
                None => missing.push(name.clone()),
            }
        }
        let network = Digest::of(made.payload.as_bytes());
        let policy = match papers::envelope(files, POLICY_FILE)? {
            Some(envelope) => {
                Chain::new(Some(network)).verify_stored(&envelope, &[]).map_err(|refusal| {
                    let source = ObjectError::Refused { kind: "policy", why: refusal.to_string() };
                    FoundingError::File { file: POLICY_FILE.to_owned(), source }
                })?;
                envelope
            }
            None => {
                let slot = policy_slot(board);
                let texts = [made.payload.clone()];
                match tally(board, slot, &texts, &pools, &ballots).signed() {
                    Some(envelope) => envelope.clone(),
                    None => return Ok(waiting(Ballot::KIND, missing)),
                }
            }
        };
        let key = KeyShare::from_secret(board, &me.card.name, &made.key)
            .map_err(|error| FoundingError::State(error.to_string()))?;
        let (board, seeds) = (board.clone(), made.seeds.clone());
        let founded = Founded { network, policy, board, key, seeds, pools, ballots };
        Ok(Advance::Stays(Status::Founded(Box::new(founded))))
    }

    /// Every governor signed the same transcript, group key and policy.
    fn check_done(&self, made: &Made, done: &All<Done>) -> Result<(), FoundingError> {
        let group = made.policy.board.group();
        let policy = Digest::of(made.payload.as_bytes());
        let differs = |paper: &Done| {
            (paper.transcript, paper.group, paper.policy) != (made.transcript, group, policy)
        };
        match done.iter().find(|(_, (_, paper))| differs(paper)) {
            Some((name, _)) => {
                Err(FoundingError::Disagrees { name: name.clone(), what: Dkg2::KIND })
            }
            None => Ok(()),
        }
    }

    /// Notes a round's papers by others as answered.
    fn answer<T: Paper>(&mut self, me: &Me<'_>, all: &All<T>) {
        let others = all.iter().filter(|(name, _)| **name != me.card.name);
        let noted = others.map(|(name, (envelope, _))| (file_name(name, T::KIND), envelope.id()));
        self.answered.extend(noted);
    }

    /// Signs and keeps a paper, to be written.
    fn write_paper<T: Paper>(&mut self, me: &Me<'_>, paper: &T) {
        let text = paper.to_envelope().sign(me.key).to_json();
        self.wrote.insert(file_name(&me.card.name, T::KIND), text);
    }
}

/// The others' first-round packages.
fn first_packages(
    me: &Me<'_>,
    plan: &Plan,
    first: &All<Dkg1>,
) -> Result<BTreeMap<frost::Identifier, dkg::round1::Package>, FoundingError> {
    let mut packages = BTreeMap::new();
    for (name, (_, paper)) in first.iter().filter(|(name, _)| **name != me.card.name) {
        let package = dkg::round1::Package::deserialize(&paper.package.0)
            .map_err(|error| cheat(name, Dkg1::KIND, &error))?;
        packages.insert(identifier(index_of(plan, name)?), package);
    }
    Ok(packages)
}

/// The others' second-round packages for this governor, opened.
fn unseal(
    me: &Me<'_>,
    plan: &Plan,
    second: &All<Dkg2>,
) -> Result<BTreeMap<frost::Identifier, dkg::round2::Package>, FoundingError> {
    let identity: age::x25519::Identity =
        me.identity.parse().map_err(|error: &str| FoundingError::State(error.to_owned()))?;
    let mut packages = BTreeMap::new();
    for (name, (_, paper)) in second.iter().filter(|(name, _)| **name != me.card.name) {
        let wrong = |why: &dyn core::fmt::Display| cheat(name, Dkg2::KIND, why);
        let sealed = paper.packages.get(&me.card.name);
        let sealed = sealed.ok_or_else(|| wrong(&format!("nothing for {}", me.card.name)))?;
        let value = age::decrypt(&identity, &sealed.0).map_err(|error| wrong(&error))?;
        let value = SecretBytes::new(value);
        let package =
            dkg::round2::Package::deserialize(value.expose()).map_err(|error| wrong(&error))?;
        packages.insert(identifier(index_of(plan, name)?), package);
    }
    Ok(packages)
}

fn size(plan: &Plan) -> u16 {
    u16::try_from(plan.governors.len()).unwrap_or(u16::MAX)
}

/// A governor's place in the plan, from 1.
fn index_of(plan: &Plan, name: &Name) -> Result<u16, FoundingError> {
    let at = plan.governors.iter().position(|card| card.name == *name);
    at.and_then(|at| u16::try_from(at + 1).ok()).ok_or_else(|| FoundingError::Card(name.clone()))
}

fn further(ceremony: Ceremony) -> Advance {
    Advance::Further(Box::new(ceremony))
}

fn waiting(kind: &'static str, missing: Vec<Name>) -> Advance {
    Advance::Stays(Status::Waiting { kind, missing })
}

fn state(error: &frost::Error) -> FoundingError {
    FoundingError::State(format!("the key generation failed: {error}"))
}

/// The library's error, laid at the door of whom it names.
fn blame(plan: &Plan, kind: &'static str, error: &frost::Error) -> FoundingError {
    let culprits = error.culprits();
    let cards = (1..).zip(&plan.governors);
    let mut named = cards.filter(|(index, _)| culprits.contains(&identifier(*index)));
    match named.next() {
        Some((_, card)) => cheat(&card.name, kind, error),
        None => FoundingError::State(format!("the {kind} files do not fit together: {error}")),
    }
}
