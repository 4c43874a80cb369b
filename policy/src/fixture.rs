//! A board for tests: every key known, everything reproducible. Never part of a real build.

use std::collections::{BTreeMap, BTreeSet};

use age::secrecy::ExposeSecret as _;
use borgios_types::{
    Digest, Envelope, KeyEpoch, PublicKey, Round, SecretKey, Seq, Signature, SignedBy, Threshold,
    UnixSeconds,
};
use frost_ed25519 as frost;
use rand::{RngCore as _, SeedableRng as _};
use rand_chacha::ChaCha20Rng;
use serde_json::json;

use crate::board::{Board, Governor, Share, identifier};
use crate::card::Card;
use crate::lane::Lane;
use crate::message;
use crate::name::Name;
use crate::object::Object as _;
use crate::policy::{Class, Classes, Policy};
use crate::pool::Pool;
use crate::round::OpenRound;
use crate::share::{KeyShare, Seed};
use crate::slot::Slot;
use crate::statement::Statement;
use crate::vote::Intent;

/// When everything a fixture makes was issued.
pub const ISSUED: UnixSeconds = UnixSeconds(1_795_000_000);
/// A clock by which it is in date.
pub const NOW: UnixSeconds = UnixSeconds(1_795_000_100);
/// When it expires.
pub const EXPIRES: UnixSeconds = UnixSeconds(1_800_000_000);

const NAMES: [&str; 21] = [
    "ann", "ben", "cleo", "dan", "eve", "fay", "gus", "hal", "ida", "jon", "kim", "lea", "max",
    "ned", "ora", "pia", "quin", "ria", "sam", "tom", "una",
];

/// A board with all its secrets in one place.
#[derive(Debug)]
pub struct Council {
    /// The public side.
    pub board: Board,
    /// Identity keys, by name.
    pub keys: BTreeMap<Name, SecretKey>,
    /// Shares of the group key, by name.
    pub shares: BTreeMap<Name, KeyShare>,
    /// Recipients' secret halves, by name.
    pub identities: BTreeMap<Name, String>,
}

impl Council {
    /// `t` of the first `n` names; the same `seed` gives the same council, to the last byte.
    #[must_use]
    pub fn new(n: u16, t: u16, epoch: u32, seed: u64) -> Self {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let (packages, public) =
            frost::keys::generate_with_dealer(n, t, frost::keys::IdentifierList::Default, &mut rng)
                .expect("2 to 21 governors");
        let group = public.verifying_key().serialize().expect("a key");
        let group = PublicKey::from_bytes(group.try_into().expect("32 bytes")).expect("a key");
        let (mut governors, mut keys, seed_of_all) = (Vec::new(), BTreeMap::new(), seed);
        let mut identities = BTreeMap::new();
        for (index, name) in (1..=n).zip(NAMES) {
            let name: Name = name.parse().expect("a name");
            let mut seed = [0; 32];
            rng.fill_bytes(&mut seed);
            let key = SecretKey::from_seed(seed);
            let identity = identity(seed_of_all, &name);
            let share = public.verifying_shares()[&identifier(index)].serialize().expect("a point");
            governors.push(Governor {
                name: name.clone(),
                key: key.public(),
                recipient: identity.to_public().to_string(),
                share: Share(share.try_into().expect("32 bytes")),
                former: Vec::new(),
            });
            identities.insert(name.clone(), identity.to_string().expose_secret().to_owned());
            keys.insert(name, key);
        }
        let board = Board::new(KeyEpoch(epoch), Threshold(t), group, governors)
            .expect("a dealt board keeps the rules");
        let shares = keys.keys().zip(1..).map(|(name, index)| {
            let package = packages[&identifier(index)].clone().try_into().expect("a dealt share");
            (name.clone(), KeyShare::new(&board, name, package).expect("its own share"))
        });
        let shares = shares.collect();
        Self { board, keys, shares, identities }
    }

    /// The name at a place of the board, from 0.
    #[must_use]
    pub fn name(&self, at: usize) -> Name {
        self.board.governors()[at].name.clone()
    }

    /// A governor's card.
    #[must_use]
    pub fn card(&self, name: &Name) -> Card {
        let governor = self.board.by_name(name).expect("on the board");
        let (key, recipient) = (governor.key, governor.recipient.clone());
        Card { name: name.clone(), key, recipient }
    }

    /// A policy of this board; its policies and releases need `approvals`.
    #[must_use]
    pub fn policy(&self, approvals: u16) -> Policy {
        let class = Class::of(approvals);
        let classes = Classes::of(class, class);
        Policy::new(self.board.clone(), 4, classes)
    }

    /// policy/1, unsigned.
    #[must_use]
    pub fn first_policy(&self, approvals: u16) -> Statement {
        statement(Lane::Policy, 1, None, None, None, self.policy(approvals).to_body())
    }

    /// The statement of `payload` with this board's group signature, by the first t governors.
    #[must_use]
    pub fn sign(&self, statement: &Statement) -> Envelope {
        let mut envelope = statement.to_envelope();
        let sig = self.group_signature(statement.lane, &envelope.payload);
        envelope.sigs.push(SignedBy { by: self.board.group(), sig });
        envelope
    }

    /// A plain FROST signature in a lane's namespace.
    #[must_use]
    pub fn group_signature(&self, lane: Lane, payload: &str) -> Signature {
        let mut rng = ChaCha20Rng::seed_from_u64(7);
        let message = message::signed_bytes(lane, payload, &self.board.group());
        let signers: Vec<&KeyShare> =
            self.shares.values().take(usize::from(self.board.threshold().0)).collect();
        let mut nonces = BTreeMap::new();
        let mut commitments = BTreeMap::new();
        for signer in &signers {
            let id = identifier(signer.index());
            let (secret, public) =
                frost::round1::commit(signer.package().signing_share(), &mut rng);
            nonces.insert(id, secret);
            commitments.insert(id, public);
        }
        let package = frost::SigningPackage::new(commitments, &message);
        let shares = signers.iter().map(|signer| {
            let id = identifier(signer.index());
            let share = frost::round2::sign(&package, &nonces[&id], signer.package());
            (id, share.expect("an honest signer"))
        });
        let shares = shares.collect();
        let signature = frost::aggregate(&package, &shares, &self.board.public_key_package());
        let bytes = signature.expect("honest shares").serialize().expect("64 bytes");
        Signature(bytes.try_into().expect("64 bytes"))
    }

    /// The seed that a governor of a fixture uses in a slot.
    #[must_use]
    pub fn seed(&self, name: &Name, slot: Slot) -> Seed {
        let text = format!("{name} {slot} {}", self.board.group());
        Seed::from_bytes(Digest::of(text.as_bytes()).0)
    }

    /// A governor's pool for some slots.
    #[must_use]
    pub fn pool(&self, name: &Name, slots: &[Slot]) -> Envelope {
        let seeds: Vec<(Slot, Seed)> =
            slots.iter().map(|slot| (*slot, self.seed(name, *slot))).collect();
        let pool = Pool::make(&self.board, &self.shares[name], &seeds).expect("a small board");
        pool.to_envelope().sign(&self.keys[name])
    }

    /// Everyone's pools for one slot.
    #[must_use]
    pub fn pools(&self, slot: Slot) -> Vec<Envelope> {
        self.keys.keys().map(|name| self.pool(name, &[slot])).collect()
    }

    /// The slot of a statement.
    #[must_use]
    pub fn slot(&self, statement: &Statement) -> Slot {
        let Statement { lane, seq, round, .. } = *statement;
        Slot { epoch: self.board.epoch(), lane, seq, round }
    }

    /// A governor's approval of a statement in a first round.
    #[must_use]
    pub fn approve(&self, name: &Name, statement: &Statement, pools: &[Envelope]) -> Envelope {
        let slot = self.slot(statement);
        let open = OpenRound::check(&self.board, Slot { round: Round(0), ..slot }, &[]);
        let (open, none) = (open.expect("a first round is open"), BTreeSet::new());
        let payload = statement.to_payload();
        let intent = Intent::approve(&self.board, name, &open, &payload, pools, &none, None, 1);
        let intent = intent.expect("all pools are there");
        let seed = self.seed(name, slot);
        let ballot = intent.ballot(&self.board, &self.shares[name], Some(&seed), pools);
        ballot.expect("own seed").to_envelope().sign(&self.keys[name])
    }

    /// A governor's rejection of a statement in a first round.
    #[must_use]
    pub fn reject(&self, name: &Name, statement: &Statement) -> Envelope {
        let slot = Slot { round: Round(0), ..self.slot(statement) };
        let open = OpenRound::check(&self.board, slot, &[]).expect("a first round is open");
        let (payload, reason) = (statement.to_payload(), "not today".to_owned());
        let intent = Intent::reject(&self.board, name, &open, &payload, reason, None, 1);
        let ballot =
            intent.expect("on the board").ballot(&self.board, &self.shares[name], None, &[]);
        ballot.expect("a rejection").to_envelope().sign(&self.keys[name])
    }
}

/// An identity that follows from seed and name: age itself only draws them.
fn identity(seed: u64, name: &Name) -> age::x25519::Identity {
    let secret = Digest::of(format!("recipient of {name}, {seed}").as_bytes()).0;
    bech32("age-secret-key-", &secret).to_uppercase().parse().expect("a secret key's own form")
}

/// BIP 173: the data in groups of five bits, and a checksum of six.
fn bech32(prefix: &str, data: &[u8]) -> String {
    const CHARACTERS: &[u8; 32] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";
    const GENERATOR: [u32; 5] = [0x3b6a_57b2, 0x2650_8e6d, 0x1ea1_19fa, 0x3d42_33dd, 0x2a14_62b3];
    let bits: Vec<u8> =
        data.iter().flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1)).collect();
    let five = |bits: &[u8]| (0..5).fold(0, |sum, at| sum << 1 | bits.get(at).unwrap_or(&0));
    let mut words: Vec<u8> = bits.chunks(5).map(five).collect();
    let high = prefix.bytes().map(|byte| byte >> 5);
    let low = prefix.bytes().map(|byte| byte & 31);
    let all = high.chain([0]).chain(low).chain(words.iter().copied()).chain([0; 6]);
    let sum = all.fold(1_u32, |sum, word| {
        let shifted = (sum & 0x1ff_ffff) << 5 ^ u32::from(word);
        let added = (0..5).filter(|at| sum >> 25 >> at & 1 == 1);
        added.fold(shifted, |sum, at| sum ^ GENERATOR[at])
    }) ^ 1;
    words.extend((0..6).rev().map(|at| (sum >> (5 * at) & 31) as u8));
    let text = words.iter().map(|word| char::from(CHARACTERS[usize::from(*word)]));
    format!("{prefix}1{}", text.collect::<String>())
}

/// A statement with a fixture's dates.
#[must_use]
pub fn statement(
    lane: Lane,
    seq: u64,
    network: Option<Digest>,
    prev: Option<Digest>,
    policy: Option<u64>,
    body: serde_json::Value,
) -> Statement {
    Statement {
        network,
        lane,
        seq: Seq(seq),
        round: Round(0),
        prev,
        policy: policy.map(Seq),
        issued: ISSUED,
        expires: EXPIRES,
        critical: Vec::new(),
        body,
    }
}

/// A release's body, as far as this crate cares.
#[must_use]
pub fn release_body(version: &str) -> serde_json::Value {
    json!({ "version": version, "components": [], "urls": [], "floor": 1, "notes": "" })
}
