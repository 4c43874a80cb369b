//! A copy of the snapshot for the owner alone: a tar in an age file, sealed to their SSH key.
//!
//! `age -d -i ~/.ssh/id_ed25519 FILE | tar -tv` shows it. The recipient is laid out here, after age's
//! specification (`ssh-ed25519`): the library's own support for SSH keys brings RSA with it.

use std::collections::HashSet;
use std::io::Write as _;
use std::path::Path;

use age_core::format::{FileKey, Stanza};
use age_core::primitives::{aead_encrypt, hkdf};
use age_core::secrecy::ExposeSecret as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use borgios_types::PublicKey;
use curve25519_dalek::edwards::CompressedEdwardsY;
use rand::RngCore as _;
use rand::rngs::OsRng;
use sha2::{Digest as _, Sha256};
use x25519_dalek::{PublicKey as X25519, StaticSecret};

use super::failure::TakeoverError;
use super::machine::{Machine, write_like};
use super::snapshot::{Entry, Snapshot};
use crate::disk;

const LABEL: &[u8] = b"age-encryption.org/v1/ssh-ed25519";
/// Longest file of a public key, in bytes.
const KEY_FILE_MAX: usize = 16 * 1024;

/// An owner, by their SSH key.
pub(super) struct Recipient(PublicKey);

impl Recipient {
    /// Reads a public key file: `ssh-ed25519 AAAA… comment`.
    pub(super) fn read(path: &Path) -> Result<Self, TakeoverError> {
        let seal = |why: String| TakeoverError::Seal(format!("{}: {why}", path.display()));
        let bytes = disk::read_bounded(path, KEY_FILE_MAX).map_err(|e| seal(e.to_string()))?;
        let text = String::from_utf8_lossy(&bytes);
        text.trim().parse().map(Self).map_err(|error| seal(error.to_string()))
    }

    /// The key itself.
    pub(super) fn key(&self) -> PublicKey {
        self.0
    }
}

impl age::Recipient for Recipient {
    fn wrap_file_key(
        &self,
        file_key: &FileKey,
    ) -> Result<(Vec<Stanza>, HashSet<String>), age::EncryptError> {
        let point = CompressedEdwardsY(self.0.to_bytes()).decompress();
        let point = point.expect("a PublicKey is a point of the curve");
        let theirs = X25519::from(point.to_montgomery().to_bytes());
        let mut blob = b"\0\0\0\x0bssh-ed25519\0\0\0\x20".to_vec();
        blob.extend_from_slice(&self.0.to_bytes());
        let mut seed = [0; 32];
        OsRng
            .try_fill_bytes(&mut seed)
            .map_err(|error| age::EncryptError::Io(std::io::Error::other(error)))?;
        let mine = StaticSecret::from(seed);
        let share = X25519::from(&mine);
        let tweak = StaticSecret::from(hkdf(&blob, LABEL, &[]));
        let shared = tweak.diffie_hellman(&X25519::from(*mine.diffie_hellman(&theirs).as_bytes()));
        let salt = [*share.as_bytes(), *theirs.as_bytes()].concat();
        let key = hkdf(&salt, LABEL, shared.as_bytes());
        let stanza = Stanza {
            tag: "ssh-ed25519".to_owned(),
            args: vec![BASE64.encode(&Sha256::digest(&blob)[..4]), BASE64.encode(share.as_bytes())],
            body: aead_encrypt(&key, file_key.expose_secret()),
        };
        Ok((vec![stanza], HashSet::new()))
    }
}

/// Writes the sealed file, for root to read alone.
pub(super) fn write(
    machine: &Machine,
    snapshot: &Snapshot,
    recipient: &Recipient,
    file: &Path,
) -> Result<(), TakeoverError> {
    let plain = archive(machine, snapshot)?;
    let seal = |why: String| TakeoverError::Seal(format!("{}: {why}", file.display()));
    let sealed = encrypt(recipient, &plain).map_err(|error| seal(error.to_string()))?;
    // The file is the caller's, wherever they want it: not below the root.
    let written = machine.change("seal", file, || write_like(file, &sealed, 0o600, None));
    written.map_err(|error| seal(error.to_string()))
}

fn encrypt(recipient: &Recipient, plain: &[u8]) -> Result<Vec<u8>, age::EncryptError> {
    let recipient: &dyn age::Recipient = recipient;
    let encryptor = age::Encryptor::with_recipients(std::iter::once(recipient))?;
    let mut sealed = Vec::new();
    let mut writer = encryptor.wrap_output(&mut sealed)?;
    writer.write_all(plain)?;
    writer.finish()?;
    Ok(sealed)
}

/// Every file and link of the snapshot, with owner, mode and time, as any tar reads it.
fn archive(machine: &Machine, snapshot: &Snapshot) -> Result<Vec<u8>, TakeoverError> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, entry) in &snapshot.entries {
        let name = path.strip_prefix("/").unwrap_or(path);
        let mut header = tar::Header::new_gnu();
        let (meta, content) = match entry {
            Entry::File { meta, digest } => (meta, Snapshot::content(machine, digest)?),
            Entry::Link { meta, .. } | Entry::Folder { meta } => (meta, Vec::new()),
            Entry::Absent | Entry::Other => continue,
        };
        header.set_mode(meta.mode);
        header.set_mtime(meta.mtime_s());
        header.set_uid(meta.owner().0.into());
        header.set_gid(meta.owner().1.into());
        header.set_size(content.len() as u64);
        let added = match entry {
            Entry::Link { target, .. } => {
                header.set_entry_type(tar::EntryType::Symlink);
                tar.append_link(&mut header, name, target)
            }
            Entry::Folder { .. } => {
                header.set_entry_type(tar::EntryType::Directory);
                tar.append_data(&mut header, name, std::io::empty())
            }
            _ => tar.append_data(&mut header, name, content.as_slice()),
        };
        added.map_err(|error| TakeoverError::Seal(format!("{}: {error}", path.display())))?;
    }
    tar.into_inner().map_err(|error| TakeoverError::Seal(error.to_string()))
}

/// What the owner's age does with it, by the specification's own words and not by the code above:
/// the secret scalar takes the part of the public point.
#[cfg(test)]
pub(super) fn opened_by(owner: &borgios_types::SecretKey, sealed: &[u8]) -> Option<Vec<u8>> {
    use std::io::Read as _;

    struct Owner([u8; 32], Vec<u8>);

    impl age::Identity for Owner {
        fn unwrap_stanza(&self, stanza: &Stanza) -> Option<Result<FileKey, age::DecryptError>> {
            // age puts stanzas of no meaning between, so that nobody counts on there being none.
            let ours = stanza.tag == "ssh-ed25519" && stanza.args.len() == 2;
            ours.then_some(())?;
            let share: [u8; 32] = BASE64.decode(&stanza.args[1]).ok()?.try_into().ok()?;
            let scalar = StaticSecret::from(self.0);
            let tweak = StaticSecret::from(hkdf(&self.1, LABEL, &[]));
            let once = *scalar.diffie_hellman(&X25519::from(share)).as_bytes();
            let shared = tweak.diffie_hellman(&X25519::from(once));
            let salt = [share, *X25519::from(&scalar).as_bytes()].concat();
            let key = hkdf(&salt, LABEL, shared.as_bytes());
            let plain = age_core::primitives::aead_decrypt(&key, 16, &stanza.body).ok()?;
            let plain: [u8; 16] = plain.try_into().ok()?;
            Some(Ok(FileKey::new(Box::new(plain))))
        }
    }

    let hash = sha2::Sha512::digest(&owner.seed()[..]);
    let mut blob = b"\0\0\0\x0bssh-ed25519\0\0\0\x20".to_vec();
    blob.extend_from_slice(&owner.public().to_bytes());
    let owner = Owner(hash[..32].try_into().ok()?, blob);
    let decryptor = age::Decryptor::new(sealed).ok()?;
    let mut reader = decryptor.decrypt(std::iter::once(&owner as &dyn age::Identity)).ok()?;
    let mut plain = Vec::new();
    reader.read_to_end(&mut plain).ok()?;
    Some(plain)
}
