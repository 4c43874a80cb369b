//! Who this governor is: one SSH key, one age identity, in one file under one passphrase.

use age::secrecy::{ExposeSecret as _, SecretString};
use age::x25519;
use borgios_policy::{Card, Name, Object as _};
use borgios_types::{Envelope, SecretKey};
use rand::RngCore as _;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::durable;
use crate::failure::{Failure, OrFail as _};
use crate::home::Home;
use crate::passphrase::Source;
use crate::printer::Printer;
use crate::vault;

/// Largest identity or card file, in bytes.
const FILE_MAX: usize = 16 * 1024;

/// The opened identity. Its parts zeroise themselves.
pub(crate) struct Identity {
    name: Name,
    ssh: SecretKey,
    age: x25519::Identity,
}

/// The plaintext of `identity.age`.
#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
struct Stored {
    #[zeroize(skip)]
    name: Name,
    seed: [u8; 32],
    age: String,
}

impl Identity {
    /// Makes a new identity and stores it with its card.
    ///
    /// The identity is on the disk before the card: a card without its secret would be a promise
    /// nobody can keep. Where that was cut off between the two, the card is made of the identity that is
    /// there. The caller holds the home's lock.
    ///
    /// # Errors
    /// When there is one already: it is never overwritten.
    pub(crate) fn create(
        home: &Home,
        name: Name,
        source: Source,
        printer: &Printer,
    ) -> Result<Self, Failure> {
        let (path, card) = (home.governor("identity.age"), home.governor("card.json"));
        if path.exists() && !card.exists() {
            let identity = Self::open(home, source)?;
            if identity.name != name {
                let (path, own) = (path.display(), &identity.name);
                return Err(Failure::new(format!("{path} exists and is kept"))
                    .because(format!("it is {own}'s, and has no card yet"))
                    .hint(format!("`borgios governor init --name {own}` makes the card")));
            }
            durable::write_public(&card, identity.card().to_json().as_bytes())?;
            return Ok(identity);
        }
        if path.exists() {
            return Err(Failure::new(format!("{} exists and is kept", path.display())).hint(
                "for another governor on this computer, name another folder with `--home DIR`",
            ));
        }
        let passphrase = source.new_one(printer)?;
        let mut seed = Zeroizing::new([0; 32]);
        rand::rngs::OsRng.fill_bytes(seed.as_mut());
        let identity =
            Self { name, ssh: SecretKey::from_seed(*seed), age: x25519::Identity::generate() };
        let stored = Stored {
            name: identity.name.clone(),
            seed: *seed,
            age: identity.age.to_string().expose_secret().to_owned(),
        };
        let plain = Zeroizing::new(serde_json::to_vec(&stored).or_fail(|| "could not encode")?);
        durable::write(&path, &vault::lock(passphrase, &plain)?)?;
        durable::write_public(&card, identity.card().to_json().as_bytes())?;
        Ok(identity)
    }

    /// Asks for the passphrase and opens the stored identity.
    pub(crate) fn open(home: &Home, source: Source) -> Result<Self, Failure> {
        Self::unlock(home, source).map(|(identity, ..)| identity)
    }

    /// Locks the stored identity under another passphrase. It is the one file that lies under it: all else
    /// in the folder is sealed to the identity.
    ///
    /// The file is replaced in one step, so after a crash at any time one of the two passphrases opens it.
    /// The caller holds the home's lock.
    ///
    /// # Errors
    /// The old passphrase does not open it, the new one is no other or is empty, or the file cannot be
    /// written. The old passphrase opens it then, unless the disk failed after the file was replaced.
    pub(crate) fn relock(
        home: &Home,
        old: Source,
        new: Source,
        printer: &Printer,
    ) -> Result<Self, Failure> {
        let (identity, plain, before) = Self::unlock(home, old)?;
        let passphrase = new.new_one(printer)?;
        if passphrase.expose_secret() == before.expose_secret() {
            return Err(Failure::usage("the new passphrase is the old one; nothing was changed")
                .hint(
                    "on one file descriptor the old one is the first line, the new one the second",
                ));
        }
        let path = home.governor("identity.age");
        let cipher = vault::lock(passphrase.clone(), &plain)?;
        // What the next command will do, before the only other way in goes.
        if *vault::unlock(passphrase, &cipher, &path)? != *plain {
            return Err(Failure::new("the identity did not open again; nothing was changed"));
        }
        durable::write(&path, &cipher)?;
        Ok(identity)
    }

    /// The stored identity, its plaintext, and the passphrase that opened it.
    fn unlock(
        home: &Home,
        source: Source,
    ) -> Result<(Self, Zeroizing<Vec<u8>>, SecretString), Failure> {
        let path = home.governor("identity.age");
        let Some(cipher) = durable::read(&path, FILE_MAX)? else {
            return Err(Failure::new(format!("{} does not exist", path.display())).hint(
                "make an identity with `borgios governor init --name NAME`, or name its folder \
                 with `--home DIR`",
            ));
        };
        let name = card_name(home).unwrap_or_else(|| home.root().display().to_string());
        let passphrase = source.existing(&name)?;
        let plain = vault::unlock(passphrase.clone(), &cipher, &path)?;
        let what = || format!("{} is not an identity", path.display());
        let stored: Stored = serde_json::from_slice(&plain).or_fail(what)?;
        let age = stored.age.parse().map_err(|why: &str| Failure::new(what()).because(why))?;
        let ssh = SecretKey::from_seed(stored.seed);
        let identity = Self { name: stored.name.clone(), ssh, age };
        Ok((identity, plain, passphrase))
    }

    /// One that lies nowhere.
    #[cfg(test)]
    pub(crate) fn drawn(name: Name) -> Self {
        Self { name, ssh: SecretKey::from_seed([1; 32]), age: x25519::Identity::generate() }
    }

    /// The governor's name.
    pub(crate) fn name(&self) -> &Name {
        &self.name
    }

    /// The key that signs this governor's objects and opens connections.
    pub(crate) fn ssh(&self) -> &SecretKey {
        &self.ssh
    }

    /// What opens everything sealed to this governor.
    pub(crate) fn age(&self) -> &x25519::Identity {
        &self.age
    }

    /// Encrypts to this governor alone.
    pub(crate) fn seal(&self, plain: &[u8]) -> Result<Vec<u8>, Failure> {
        vault::seal(&self.age.to_public(), plain)
    }

    /// Decrypts what was sealed to this governor; `name` says what it is.
    pub(crate) fn unseal(&self, cipher: &[u8], name: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
        vault::open(&self.age, cipher, name)
    }

    /// The public card, signed.
    pub(crate) fn card(&self) -> Envelope {
        let card = Card {
            name: self.name.clone(),
            key: self.ssh.public(),
            recipient: self.age.to_public().to_string(),
        };
        card.to_envelope().sign(&self.ssh)
    }
}

/// The stored card.
pub(crate) fn read_card(home: &Home) -> Result<Envelope, Failure> {
    let path = home.governor("card.json");
    let Some(bytes) = durable::read(&path, FILE_MAX)? else {
        return Err(Failure::new(format!("{} does not exist", path.display()))
            .hint("make an identity with `borgios governor init --name NAME`"));
    };
    Envelope::parse(&bytes).or_fail(|| format!("{} is no card", path.display()))
}

/// The name on the stored card, for the prompt.
fn card_name(home: &Home) -> Option<String> {
    #[derive(Deserialize)]
    struct Named {
        name: Name,
    }
    let card = read_card(home).ok()?;
    serde_json::from_str::<Named>(&card.payload).ok().map(|card| card.name.to_string())
}
