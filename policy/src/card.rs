//! A card: who a governor is, signed by the governor's own key.

use borgios_types::{Envelope, PublicKey};
use serde::{Deserialize, Serialize};

use crate::name::Name;
use crate::object::{Object, ObjectError, signed_by};

/// Name, identity key and recipient of a governor, before there is a board.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Card {
    /// How the others call this governor.
    pub name: Name,
    /// The governor's SSH identity.
    pub key: PublicKey,
    /// `age1…`: what is sealed to this governor.
    pub recipient: String,
}

impl Object for Card {
    const KIND: &'static str = "card";
    const FIELDS: &'static [&'static str] = &["name", "key", "recipient"];

    fn check(&self) -> Result<(), ObjectError> {
        let fits = self.recipient.len() <= 100;
        if fits && self.recipient.parse::<age::x25519::Recipient>().is_ok() {
            return Ok(());
        }
        let why = format!("{} has no age1… recipient", self.name);
        Err(ObjectError::Refused { kind: Self::KIND, why })
    }
}

impl Card {
    /// Reads a card and checks that its own key signed it. Whether that key belongs to the
    /// person of that name, only people can confirm.
    ///
    /// # Errors
    /// As [`Object::parse`], and `bad_signature`.
    pub fn verify(envelope: &Envelope) -> Result<Self, ObjectError> {
        let card = Self::parse(envelope)?;
        signed_by(&card.key, Self::KIND, envelope)?;
        Ok(card)
    }
}
