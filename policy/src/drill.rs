//! A drill: the board proves, without deciding anything, who of it can still vote.
//!
//! ```text
//! drill         {network, group, governor, note, at, until}            signed by a governor
//! drill-answer  {network, group, governor, drill, pools: {lane: n}, at}
//!               signed twice: by the governor's identity, and by the governor's *share*
//! ```
//!
//! The second signature is a plain Ed25519 signature whose secret is the governor's share of the
//! group key and whose public key is the verifying share on the board, in the namespace
//! `borgios-drill-answer@v1`. So an answer shows that passphrase, share and pools are at hand, anyone
//! can check it (with `ssh-keygen`, too), and it can never count as anything else:
//!  1. it verifies under one governor's verifying share, statements under the group key alone;
//!  2. what it covers begins with another namespace than any statement, ballot or pool;
//!  3. its nonce is drawn for it alone; no seed and no slot of any lane is touched.
//!
//! That such signatures help nobody to forge under the group key is argued in
//! `docs/design/0007-safety-of-the-fan-out.md`.

use std::collections::BTreeMap;

use borgios_types::{Digest, Envelope, Kind, PublicKey, Signature, SignedBy, UnixSeconds, sshsig};
use frost_ed25519 as frost;
use rand::{CryptoRng, RngCore};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::board::Board;
use crate::lane::Lane;
use crate::name::Name;
use crate::object::{Object, ObjectError, for_network, in_date, signed_by, text_fits};
use crate::share::KeyShare;

/// Longest time a drill runs, in seconds: whoever has not answered in a month is silent.
pub const DRILL_MAX_S: u64 = 31 * 86_400;

/// The call: who can still vote?
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drill {
    /// The fleet.
    pub network: Digest,
    /// The board that is asked.
    pub group: PublicKey,
    /// Who asks.
    pub governor: Name,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// When it was called.
    pub at: UnixSeconds,
    /// Until when answers are made.
    pub until: UnixSeconds,
}

/// One governor's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrillAnswer {
    /// The fleet.
    pub network: Digest,
    /// The board that was asked.
    pub group: PublicKey,
    /// Who answers.
    pub governor: Name,
    /// Id of the drill.
    pub drill: Digest,
    /// For each lane, in how many places ahead of its head the answerer holds the seed of the pool
    /// that was published, tried out one by one.
    pub pools: BTreeMap<Lane, u16>,
    /// When.
    pub at: UnixSeconds,
}

impl Object for Drill {
    const KIND: &'static str = "drill";
    const FIELDS: &'static [&'static str] =
        &["network", "group", "governor", "note", "at", "until"];

    fn check(&self) -> Result<(), ObjectError> {
        text_fits(Self::KIND, "note", self.note.as_ref())?;
        in_date(Self::KIND, self.at, self.until, UnixSeconds(0))?;
        if self.until > self.at.plus(DRILL_MAX_S) {
            let why = format!("it runs until {}, at most {DRILL_MAX_S} s", self.until);
            return Err(ObjectError::Refused { kind: Self::KIND, why });
        }
        Ok(())
    }
}

impl Object for DrillAnswer {
    const KIND: &'static str = "drill-answer";
    const FIELDS: &'static [&'static str] =
        &["network", "group", "governor", "drill", "pools", "at"];
}

impl Drill {
    /// Reads a drill of `board` and checks network, group key, governor and signature.
    ///
    /// # Errors
    /// As [`Object::parse`], `wrong_network`, `wrong_policy`, `bad_signature`.
    pub fn verify(
        board: &Board,
        network: Digest,
        envelope: &Envelope,
    ) -> Result<Self, ObjectError> {
        let drill = Self::parse(envelope)?;
        for_network(Self::KIND, drill.network, network)?;
        let governor = on_board(board, Self::KIND, drill.group, &drill.governor)?;
        signed_by(&governor.key, Self::KIND, envelope)?;
        Ok(drill)
    }
}

impl DrillAnswer {
    /// The answer, with the share's signature on it; the identity's comes with
    /// [`Envelope::sign`].
    ///
    /// # Errors
    /// A share whose public half is no key that signatures verify under: the library's own
    /// refusal, which an honest share never meets.
    pub fn prove(
        &self,
        key: &KeyShare,
        rng: &mut (impl RngCore + CryptoRng),
    ) -> Result<Envelope, ObjectError> {
        let refused = |why: &str| ObjectError::Refused { kind: Self::KIND, why: why.to_owned() };
        let mut envelope = self.to_envelope();
        let secret = Zeroizing::new(key.package().signing_share().serialize());
        let signing = frost::SigningKey::deserialize(&secret)
            .map_err(|_| refused("the share is no signing key"))?;
        let message = sshsig::preimage(&envelope.kind.namespace(), envelope.payload.as_bytes());
        let signature = signing.sign(rng, &message).serialize();
        let sig = signature.ok().and_then(|bytes| bytes.try_into().ok());
        let sig = Signature(sig.ok_or_else(|| refused("the signature has no encoding"))?);
        let public = key.package().verifying_share().serialize().ok();
        let public: Option<[u8; 32]> = public.and_then(|bytes| bytes.try_into().ok());
        let by = share_key(Self::KIND, &public.unwrap_or_default())?;
        envelope.sigs.push(SignedBy { by, sig });
        Ok(envelope)
    }

    /// Reads an answer and checks network, group key, governor, and both signatures.
    ///
    /// # Errors
    /// As [`Object::parse`], `wrong_network`, `wrong_policy`, `bad_signature`.
    pub fn verify(
        board: &Board,
        network: Digest,
        envelope: &Envelope,
    ) -> Result<Self, ObjectError> {
        let answer = Self::parse(envelope)?;
        for_network(Self::KIND, answer.network, network)?;
        let governor = on_board(board, Self::KIND, answer.group, &answer.governor)?;
        signed_by(&governor.key, Self::KIND, envelope)?;
        let share = share_key(Self::KIND, &governor.share.0)?;
        signed_by(&share, Self::KIND, envelope)?;
        Ok(answer)
    }

    /// The envelope's type.
    #[must_use]
    pub fn kind() -> Kind {
        Kind::new(Self::KIND).expect("kinds are lower-case words")
    }
}

/// A verifying share read as an Ed25519 public key, which it is.
fn share_key(kind: &'static str, bytes: &[u8; 32]) -> Result<PublicKey, ObjectError> {
    PublicKey::from_bytes(*bytes).map_err(|_| ObjectError::Refused {
        kind,
        why: "the verifying share is no public key".to_owned(),
    })
}

fn on_board<'a>(
    board: &'a Board,
    kind: &'static str,
    found: PublicKey,
    name: &Name,
) -> Result<&'a crate::board::Governor, ObjectError> {
    let expected = board.group();
    if found != expected {
        return Err(ObjectError::WrongGroup { kind, found, expected });
    }
    board
        .by_name(name)
        .ok_or_else(|| ObjectError::Refused { kind, why: format!("{name} is not on the board") })
}
