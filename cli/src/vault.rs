//! Secrets at rest: age files, under a passphrase or to the governor's own recipient.
//!
//! One passphrase opens `identity.age`; the age identity inside opens everything else. So the
//! slow key derivation is paid once per command, and a slot's seed can be written without asking.

use std::path::Path;

use age::secrecy::SecretString;
use age::{scrypt, x25519};
use zeroize::Zeroizing;

use crate::failure::{Failure, OrFail as _};

/// scrypt's cost, N = 2^17 (r = 8, p = 1), the strength OWASP asks for: 128 MiB of memory and,
/// measured on a slow server core, a fifth of a second for each guess. Every command that needs
/// the identity pays it once; twice of it would be felt at each vote.
///
/// It is a constant and no setting: a measured cost would be low on a busy machine, and a flag or
/// variable for tests would some day be set in earnest.
const WORK_FACTOR: u8 = 17;

/// Encrypts under a passphrase.
pub(crate) fn lock(passphrase: SecretString, plain: &[u8]) -> Result<Vec<u8>, Failure> {
    let mut recipient = scrypt::Recipient::new(passphrase);
    recipient.set_work_factor(WORK_FACTOR);
    age::encrypt(&recipient, plain).or_fail(|| "could not encrypt under the passphrase")
}

/// Decrypts what [`lock`] made and `file` holds.
///
/// # Errors
/// A wrong passphrase and a damaged file cannot be told apart.
pub(crate) fn unlock(
    passphrase: SecretString,
    cipher: &[u8],
    file: &Path,
) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let mut identity = scrypt::Identity::new(passphrase);
    // A file that asks for more work than we ever ask for was not written here.
    identity.set_max_work_factor(WORK_FACTOR);
    age::decrypt(&identity, cipher).map(Zeroizing::new).map_err(|error| {
        let what =
            format!("could not open {}: wrong passphrase, or a damaged file", file.display());
        let failure = match error {
            // The library's own words shift by as much as the file says, and overflow.
            age::DecryptError::ExcessiveWork { required, .. } => Failure::new(what).because(
                format!("it asks for work of 2^{required}, at most 2^{WORK_FACTOR} is done"),
            ),
            error => Failure::new(what).cause(error),
        };
        failure.hint(
            "there is no way around the passphrase: try again, or take another copy of the file",
        )
    })
}

/// Encrypts to the governor's own recipient.
pub(crate) fn seal(recipient: &x25519::Recipient, plain: &[u8]) -> Result<Vec<u8>, Failure> {
    age::encrypt(recipient, plain).or_fail(|| format!("could not encrypt to {recipient}"))
}

/// Decrypts what [`seal`] made.
pub(crate) fn open(
    identity: &x25519::Identity,
    cipher: &[u8],
    name: &str,
) -> Result<Zeroizing<Vec<u8>>, Failure> {
    age::decrypt(identity, cipher)
        .map(Zeroizing::new)
        .or_fail(|| format!("could not decrypt {name} with this governor's identity"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unlocked(passphrase: &str, cipher: &[u8]) -> Result<Zeroizing<Vec<u8>>, String> {
        let file = Path::new("stick/ben.backup");
        unlock(passphrase.into(), cipher, file).map_err(|failure| failure.to_text())
    }

    #[test]
    fn only_the_passphrase_opens_and_whatever_does_not_names_the_file() {
        let locked = lock("correct horse".into(), b"secret").unwrap();
        assert_eq!(*unlocked("correct horse", &locked).unwrap(), b"secret");
        let (mut damaged, cut) = (locked.clone(), &locked[..locked.len() / 2]);
        *damaged.last_mut().unwrap() ^= 1;
        for (passphrase, cipher) in [
            ("wrong horse", &locked[..]),
            ("correct horse", &damaged[..]),
            ("correct horse", cut),
            ("correct horse", &b"no such file"[..]),
        ] {
            let said = unlocked(passphrase, cipher).unwrap_err();
            assert!(said.starts_with("error: could not open stick/ben.backup: "), "{said}");
            assert!(said.contains("wrong passphrase, or a damaged file\n"), "{said}");
            assert!(said.contains("\nhint: "), "{said}");
        }
    }

    #[test]
    fn a_file_that_asks_for_more_work_than_is_done_is_refused_in_words() {
        let locked = lock("correct horse".into(), b"secret").unwrap();
        let at = locked.windows(4).position(|window| window == b" 17\n").unwrap();
        for asked in [18, 63, 80, 81, 206, 255] {
            let mut hostile = locked.clone();
            hostile.splice(at..at + 4, format!(" {asked}\n").into_bytes());
            let failure = unlocked("correct horse", &hostile).unwrap_err();
            assert!(failure.contains(&format!("2^{asked}, at most 2^17")), "{failure}");
        }
    }

    #[test]
    fn only_the_own_identity_opens() {
        let (mine, other) = (x25519::Identity::generate(), x25519::Identity::generate());
        let sealed = seal(&mine.to_public(), b"seed").unwrap();
        assert_eq!(*open(&mine, &sealed, "seed").unwrap(), b"seed");
        assert!(open(&other, &sealed, "seed").is_err());
    }
}
