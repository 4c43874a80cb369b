//! Each epoch's secret, split among the governors so that t of them can bring it back.
//!
//! ```text
//! {schedule, group, threshold, commitments: {epoch: [t points]}, sealed: {governor: age file}}
//!
//!  governor:  open own file ─▶ check every share against the commitments ─▶ approve the schedule
//!  reveal:    t governors each seal one share to the asker ─▶ reconstruct ─▶ check the verifier
//! ```
//! An [`Escrow`] belongs to one schedule and one board; [`Escrow::parse`] makes no other. What
//! it cannot prove is that a verifier is of the very secret that was split: that shows in a
//! reveal only, where [`Schedule::check`] names the dealer's schedule.

use std::collections::BTreeMap;

use borgios_policy::{Board, Bytes, Name, Share};
use borgios_types::json::{self, JsonError};
use borgios_types::{Digest, Epoch, PublicKey, Threshold};
use frost_ed25519 as frost;
use frost_ed25519::keys::VerifiableSecretSharingCommitment as Commitment;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::schedule::Schedule;
use crate::secret_share::SecretShare;

/// Longest escrow, in bytes: 4,096 epochs among 21 governors are about 10 MiB.
pub const ESCROW_MAX: usize = 12 * 1024 * 1024;

/// The escrow of one schedule among the governors of one board.
#[derive(Clone, Debug)]
pub struct Escrow {
    wire: Wire,
    pub(crate) network: Digest,
    pub(crate) commitments: BTreeMap<Epoch, Commitment>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    schedule: Digest,
    group: PublicKey,
    threshold: Threshold,
    commitments: BTreeMap<Epoch, Vec<Share>>,
    sealed: BTreeMap<Name, Bytes>,
}

/// Why bytes are not the escrow of that schedule among that board.
#[derive(Debug, Error)]
pub enum EscrowError {
    /// Too long or not strict JSON.
    #[error("an escrow that cannot be read")]
    Json(#[from] JsonError),
    /// Not text.
    #[error("an escrow that is not UTF-8")]
    NotText,
    /// The same content in other bytes.
    #[error("an escrow in another form than the one its digest is taken of")]
    Form,
    /// Of another schedule.
    #[error("an escrow of the schedule {found}, expected {expected}")]
    Schedule {
        /// The schedule it names.
        found: Digest,
        /// The schedule it came with.
        expected: Digest,
    },
    /// Of another board.
    #[error("an escrow for another board: its {0} is not that of the board that it was judged by")]
    Board(&'static str),
    /// Commitments are missing, or there are some for no epoch of the schedule.
    #[error("an escrow whose epochs are not those of its schedule")]
    Epochs,
    /// Not t points of the curve; the identity is none, so no secret is zero.
    #[error("the commitments of epoch {0} are not {1} points of the curve")]
    Points(Epoch, Threshold),
}

impl Escrow {
    pub(crate) fn dealt(
        schedule: &Schedule,
        board: &Board,
        commitments: BTreeMap<Epoch, Vec<Share>>,
        sealed: BTreeMap<Name, Bytes>,
    ) -> Self {
        let (group, threshold) = (board.group(), board.threshold());
        let wire = Wire { schedule: schedule.digest(), group, threshold, commitments, sealed };
        Self::new(wire, schedule, board).expect("what was just dealt keeps the rules")
    }

    fn new(wire: Wire, schedule: &Schedule, board: &Board) -> Result<Self, EscrowError> {
        let (found, expected) = (wire.schedule, schedule.digest());
        if found != expected {
            return Err(EscrowError::Schedule { found, expected });
        }
        if wire.group != board.group() {
            return Err(EscrowError::Board("group key"));
        }
        if wire.threshold != board.threshold() {
            return Err(EscrowError::Board("threshold"));
        }
        if !wire.sealed.keys().eq(board.governors().iter().map(|governor| &governor.name)) {
            return Err(EscrowError::Board("list of governors"));
        }
        let epochs = (schedule.first().0..=schedule.last().0).map(Epoch);
        if !wire.commitments.keys().copied().eq(epochs) {
            return Err(EscrowError::Epochs);
        }
        let mut commitments = BTreeMap::new();
        for (epoch, points) in &wire.commitments {
            let bad = || EscrowError::Points(*epoch, wire.threshold);
            if points.len() != usize::from(wire.threshold.0) {
                return Err(bad());
            }
            let commitment = Commitment::deserialize(points.iter().map(|point| point.0));
            commitments.insert(*epoch, commitment.map_err(|_| bad())?);
        }
        Ok(Self { wire, network: schedule.network(), commitments })
    }

    /// Reads the escrow that came with `schedule`, among the governors of `board`.
    ///
    /// # Errors
    /// The first rule that does not hold; nothing is parsed before the length holds.
    pub fn parse(bytes: &[u8], schedule: &Schedule, board: &Board) -> Result<Self, EscrowError> {
        if bytes.len() > ESCROW_MAX {
            return Err(JsonError::TooLarge { length: bytes.len(), max: ESCROW_MAX }.into());
        }
        let text = core::str::from_utf8(bytes).map_err(|_| EscrowError::NotText)?;
        let escrow = Self::new(json::parse_strict(text, ESCROW_MAX)?, schedule, board)?;
        if escrow.to_bytes() != bytes {
            return Err(EscrowError::Form);
        }
        Ok(escrow)
    }

    /// The one form in bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(&self.wire).expect("plain data serialises")
    }

    /// The digest of [`Escrow::to_bytes`], by which statements name it.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&self.to_bytes())
    }

    /// t, the shares that bring a secret back.
    #[must_use]
    pub fn threshold(&self) -> Threshold {
        self.wire.threshold
    }

    /// Whether a governor's share fits the commitments of that epoch.
    #[must_use]
    pub fn fits(&self, epoch: Epoch, name: &Name, share: &SecretShare) -> bool {
        self.package(epoch, name, share).is_some()
    }

    pub(crate) fn sealed_to(&self, name: &Name) -> Option<&Bytes> {
        self.wire.sealed.get(name)
    }

    pub(crate) fn package(
        &self,
        epoch: Epoch,
        name: &Name,
        share: &SecretShare,
    ) -> Option<frost::keys::KeyPackage> {
        share.verified(self.index(name)?, self.commitments.get(&epoch)?).ok()
    }

    /// Position of a governor, from 1: names are in the board's order.
    pub(crate) fn index(&self, name: &Name) -> Option<u16> {
        let at = self.wire.sealed.keys().position(|other| other == name)?;
        u16::try_from(at + 1).ok()
    }
}

/// Commitments as they stand in JSON.
pub(crate) fn points(commitment: &Commitment) -> Result<Vec<Share>, frost::Error> {
    let points = commitment.serialize()?.into_iter();
    Ok(points.map(|point| Share(point.try_into().expect("a point is 32 bytes"))).collect())
}

#[cfg(test)]
mod tests {
    use borgios_policy::fixture::Council;
    use borgios_types::UnixSeconds;
    use rand::SeedableRng as _;
    use rand_chacha::ChaCha20Rng;
    use serde_json::{Value, json};

    use age::x25519::Identity;

    use super::*;
    use crate::dealing::{Term, deal};
    use crate::opening::{OpenError, OpenedShares};
    use crate::reveal::ReconstructError;
    use crate::schedule::CheckError;
    use crate::sealed_share::SealedShare;

    struct Dealt {
        council: Council,
        schedule: Schedule,
        escrow: Escrow,
    }

    fn dealt(n: u16, t: u16) -> Dealt {
        let council = Council::new(n, t, 1, 7);
        let network = Digest::of(b"network");
        let (first, t0) = (Epoch(41), UnixSeconds(1_000));
        let term = Term { network, first, t0, interval_s: 100, jitter_s: 9, count: 2 };
        let (mut done, mut rng) = (Vec::new(), ChaCha20Rng::seed_from_u64(1));
        let made = deal(&term, &council.board, &mut rng, &mut |count| done.push(count));
        assert_eq!(done, [1, 2]);
        let (schedule, escrow) = made.unwrap();
        Dealt { council, schedule, escrow }
    }

    impl Dealt {
        fn identity(&self, at: usize) -> Identity {
            self.council.identities[&self.council.name(at)].parse().unwrap()
        }

        fn open(&self, at: usize) -> Result<OpenedShares, OpenError> {
            self.escrow.open(&self.council.name(at), &self.identity(at))
        }

        fn share(&self, at: usize, epoch: u64) -> (Name, SecretShare) {
            (self.council.name(at), self.open(at).unwrap().share(Epoch(epoch)).unwrap().clone())
        }

        fn parse(&self, value: &Value) -> Result<Escrow, EscrowError> {
            let wire: Wire = serde_json::from_value(value.clone()).unwrap();
            let bytes = serde_json::to_vec(&wire).unwrap();
            Escrow::parse(&bytes, &self.schedule, &self.council.board)
        }

        fn value(&self) -> Value {
            serde_json::from_slice(&self.escrow.to_bytes()).unwrap()
        }
    }

    #[test]
    fn any_t_governors_bring_back_the_password_that_opens_the_verifier() {
        let d = dealt(3, 2);
        for (a, b) in [(0, 1), (0, 2), (1, 2), (2, 0)] {
            let shares = [d.share(a, 42), d.share(b, 42)];
            let came = d.escrow.reconstruct(Epoch(42), &shares).unwrap();
            assert!(came.wrong.is_empty());
            d.schedule.check(Epoch(42), &came.password).unwrap();
            let other = d.schedule.check(Epoch(41), &came.password);
            assert!(matches!(other, Err(CheckError::Dealer { epoch: Epoch(41), .. })));
        }
        assert!(matches!(
            d.schedule.check(Epoch(43), &"a".repeat(26).parse().unwrap()),
            Err(CheckError::NoEpoch { epoch: Epoch(43), first: Epoch(41), last: Epoch(42) })
        ));
    }

    #[test]
    fn a_share_goes_through_a_seal_to_the_asker() {
        let d = dealt(2, 2);
        let asker = Identity::generate();
        let shares = [0, 1].map(|at| {
            let (name, share) = d.share(at, 41);
            let sealed = SealedShare::seal(&share, &asker.to_public()).unwrap();
            (name, sealed.open(&asker).unwrap())
        });
        let came = d.escrow.reconstruct(Epoch(41), &shares).unwrap();
        d.schedule.check(Epoch(41), &came.password).unwrap();
    }

    #[test]
    fn wrong_shares_are_named_and_fewer_than_t_bring_nothing_back() {
        let d = dealt(3, 2);
        let (ann, ben) = (d.share(0, 41), d.share(1, 41));
        let stranger: Name = "zoe".parse().unwrap();
        let wrong = [
            (d.council.name(2), SecretShare::from_bytes([0xff; 32])),
            (d.council.name(2), d.share(2, 42).1),
            (d.council.name(2), ben.1.clone()),
            (d.council.name(2), SecretShare::from_bytes([0; 32])),
            (stranger, ben.1.clone()),
        ];
        for wrong in wrong {
            assert!(!d.escrow.fits(Epoch(41), &wrong.0, &wrong.1));
            let three = [ann.clone(), wrong.clone(), ben.clone()];
            let came = d.escrow.reconstruct(Epoch(41), &three).unwrap();
            assert_eq!(came.wrong, std::slice::from_ref(&wrong.0));
            d.schedule.check(Epoch(41), &came.password).unwrap();
            let two = d.escrow.reconstruct(Epoch(41), &[ann.clone(), wrong.clone()]).unwrap_err();
            let text = two.to_string();
            assert!(text.starts_with("1 good shares of epoch 41, 2 are needed"), "{text}");
            assert!(text.ends_with(wrong.0.as_str()), "{text}");
        }
        // One governor twice is one governor.
        let twice = d.escrow.reconstruct(Epoch(41), &[ann.clone(), ann.clone()]);
        assert!(matches!(twice, Err(ReconstructError::TooFew { good: 1, .. })));
        let none = d.escrow.reconstruct(Epoch(40), &[ann, ben]);
        assert_eq!(none, Err(ReconstructError::NoEpoch(Epoch(40))));
    }

    #[test]
    fn a_governor_opens_only_its_own() {
        let d = dealt(3, 2);
        for at in 0..3 {
            assert_eq!(*d.open(at).unwrap().name(), d.council.name(at));
            let others = d.escrow.open(&d.council.name(at), &d.identity((at + 1) % 3));
            assert!(matches!(others, Err(OpenError::Sealed { .. })));
        }
        let stranger: Name = "zoe".parse().unwrap();
        let opened = d.escrow.open(&stranger, &d.identity(0));
        assert_eq!(opened.unwrap_err(), OpenError::NotOnBoard(stranger));
    }

    /// A dealer who gives a governor something that would be worth nothing in a reveal.
    #[test]
    fn every_share_is_checked_before_a_governor_approves() {
        let d = dealt(3, 2);
        let (name, recipient) = (d.council.name(1), d.identity(1).to_public());
        let right = |epoch| serde_json::to_value(d.share(1, epoch).1).unwrap();
        let anns = serde_json::to_value(d.share(0, 42).1).unwrap();
        for (plain, shape) in [
            (json!({ "41": right(41), "42": anns }), false),
            (json!({ "41": right(42), "42": right(41) }), false),
            (json!({ "41": right(41) }), true),
            (json!({ "41": right(41), "42": right(42), "43": right(42) }), true),
            (json!({ "41": "", "42": "" }), true),
            (json!([]), true),
        ] {
            let sealed = age::encrypt(&recipient, plain.to_string().as_bytes()).unwrap();
            let mut value = d.value();
            value["sealed"][name.as_str()] = serde_json::to_value(Bytes(sealed)).unwrap();
            let opened = d.parse(&value).unwrap().open(&name, &d.identity(1)).unwrap_err();
            match opened {
                OpenError::Shape { .. } => assert!(shape, "{plain}"),
                OpenError::Share { .. } => assert!(!shape, "{plain}"),
                other => panic!("{other}"),
            }
        }
    }

    #[test]
    fn an_escrow_belongs_to_its_schedule_and_board() {
        let d = dealt(3, 2);
        let bytes = d.escrow.to_bytes();
        let read = Escrow::parse(&bytes, &d.schedule, &d.council.board).unwrap();
        assert_eq!((read.to_bytes(), read.digest()), (bytes.clone(), Digest::of(&bytes)));
        let other = dealt(3, 3);
        assert!(matches!(
            Escrow::parse(&bytes, &other.schedule, &d.council.board),
            Err(EscrowError::Schedule { .. })
        ));
        assert!(matches!(
            Escrow::parse(&bytes, &d.schedule, &other.council.board),
            Err(EscrowError::Board(_))
        ));
        let identity = {
            let mut point = [0_u8; 32];
            point[0] = 1;
            serde_json::to_value(Share(point)).unwrap()
        };
        let change = |pointer: &str, to: Value| {
            let mut value = d.value();
            *value.pointer_mut(pointer).unwrap() = to;
            d.parse(&value).unwrap_err()
        };
        let point = d.value()["commitments"]["41"][0].clone();
        assert!(matches!(change("/threshold", json!(3)), EscrowError::Board("threshold")));
        assert!(matches!(change("/commitments", json!({})), EscrowError::Epochs));
        // A secret of zero, one of lower degree, a point that is none, and too few or too many.
        for points in [
            json!([identity, point]),
            json!([point, identity]),
            json!([point, serde_json::to_value(Share([0xff; 32])).unwrap()]),
            json!([point]),
            json!([point, point, point]),
        ] {
            let refused = change("/commitments/41", points);
            assert!(matches!(refused, EscrowError::Points(Epoch(41), _)), "{refused}");
        }
        let mut value = d.value();
        value["sealed"].as_object_mut().unwrap().remove("ben");
        assert!(matches!(d.parse(&value), Err(EscrowError::Board("list of governors"))));
        for bad in [&bytes[1..], &bytes[..bytes.len() - 1], b"", b"{}", &[0xff], &[b' '; 9]] {
            assert!(Escrow::parse(bad, &d.schedule, &d.council.board).is_err());
        }
        let spaced = [b" ".as_slice(), &bytes].concat();
        let spaced = Escrow::parse(&spaced, &d.schedule, &d.council.board);
        assert!(matches!(spaced, Err(EscrowError::Form)));
    }

    #[test]
    fn terms_are_refused_before_anything_is_drawn() {
        let council = Council::new(2, 2, 1, 7);
        let network = Digest::of(b"network");
        let (first, t0) = (Epoch(1), UnixSeconds(1_000));
        let term = Term { network, first, t0, interval_s: 100, jitter_s: 100, count: 2 };
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let made = deal(&term, &council.board, &mut rng, &mut |_| panic!("nothing is dealt"));
        assert!(made.is_err());
    }
}
