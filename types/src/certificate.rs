//! OpenSSH user certificates: the bytes a certificate authority signs, and the text that
//! stock `ssh` uses.
//!
//! Source: OpenSSH `PROTOCOL.certkeys`. The authority's signature is made elsewhere (by a board,
//! share by share), so a certificate is built in two passes: [`UserCertificate::to_be_signed`]
//! yields the exact bytes, [`UserCertificate::with_signature`] puts the signature behind them.

use core::cell::RefCell;

use ed25519_dalek::Signer;
use ed25519_dalek::ed25519::signature;
use ssh_key::certificate::{Builder, CertType};
use ssh_key::public::{Ed25519PublicKey, KeyData};
use ssh_key::{Algorithm, Certificate};

use crate::key::{PublicKey, Signature};
use crate::time::UnixSeconds;

/// What a user certificate says, before it is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserCertificate {
    /// Binds the certificate to what it was made for.
    pub nonce: [u8; 32],
    /// The key whose holder may log in.
    pub key: PublicKey,
    /// By which it can be revoked.
    pub serial: u64,
    /// What sshd writes into its log at a login.
    pub key_id: String,
    /// The one principal it is good for.
    pub principal: String,
    /// First second of its validity.
    pub after: UnixSeconds,
    /// First second after its validity.
    pub before: UnixSeconds,
    /// Addresses and CIDR ranges it may be used from; none means anywhere.
    pub sources: Vec<String>,
    /// The key that signs it.
    pub authority: PublicKey,
}

impl UserCertificate {
    /// The bytes that the authority's Ed25519 signature covers; the same whenever asked for.
    ///
    /// `None` for what is no certificate: validity that ends before it begins.
    #[must_use]
    pub fn to_be_signed(&self) -> Option<Vec<u8>> {
        let recorder = Recorder { authority: self.authority, bytes: RefCell::default() };
        // The recorder never signs, so this always fails; what it was asked to sign is the result.
        let _ = self.builder()?.sign(&recorder);
        Some(recorder.bytes.into_inner()).filter(|bytes| !bytes.is_empty())
    }

    /// The certificate with the authority's signature as one line of a `-cert.pub` file, if the
    /// signature is good.
    #[must_use]
    pub fn with_signature(&self, signature: &Signature) -> Option<String> {
        if !self.authority.verifies_bytes(&self.to_be_signed()?, signature) {
            return None;
        }
        let made = Made { authority: self.authority, signature: *signature };
        self.builder()?.sign(&made).ok()?.to_openssh().ok()
    }

    fn builder(&self) -> Option<Builder> {
        let key = KeyData::Ed25519(Ed25519PublicKey(self.key.to_bytes()));
        let mut builder = Builder::new(self.nonce, key, self.after.0, self.before.0).ok()?;
        builder.serial(self.serial).ok()?;
        builder.cert_type(CertType::User).ok()?;
        builder.key_id(&self.key_id).ok()?;
        builder.valid_principal(&self.principal).ok()?;
        if !self.sources.is_empty() {
            builder.critical_option("source-address", self.sources.join(",")).ok()?;
        }
        builder.extension("permit-pty", "").ok()?;
        Some(builder)
    }
}

/// Whether `text` is a user certificate signed by `authority`, as [`UserCertificate`] makes them.
#[must_use]
pub fn is_signed_by(text: &str, authority: &PublicKey) -> bool {
    let expected = KeyData::Ed25519(Ed25519PublicKey(authority.to_bytes()));
    Certificate::from_openssh(text).is_ok_and(|certificate| {
        certificate.signature_key() == &expected && certificate.verify_signature().is_ok()
    })
}

/// Notes what it is asked to sign and refuses.
struct Recorder {
    authority: PublicKey,
    bytes: RefCell<Vec<u8>>,
}

/// Gives back a signature that was made before.
struct Made {
    authority: PublicKey,
    signature: Signature,
}

impl From<&Recorder> for KeyData {
    fn from(recorder: &Recorder) -> Self {
        Self::Ed25519(Ed25519PublicKey(recorder.authority.to_bytes()))
    }
}

impl From<&Made> for KeyData {
    fn from(made: &Made) -> Self {
        Self::Ed25519(Ed25519PublicKey(made.authority.to_bytes()))
    }
}

impl Signer<ssh_key::Signature> for Recorder {
    fn try_sign(&self, message: &[u8]) -> Result<ssh_key::Signature, signature::Error> {
        *self.bytes.borrow_mut() = message.to_vec();
        Err(signature::Error::new())
    }
}

impl Signer<ssh_key::Signature> for Made {
    fn try_sign(&self, _message: &[u8]) -> Result<ssh_key::Signature, signature::Error> {
        ssh_key::Signature::new(Algorithm::Ed25519, self.signature.0.to_vec())
            .map_err(|_| signature::Error::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::SecretKey;

    fn sample(authority: &SecretKey) -> UserCertificate {
        UserCertificate {
            nonce: [7; 32],
            key: SecretKey::from_seed([1; 32]).public(),
            serial: 3,
            key_id: "borgios access/3".into(),
            principal: "borgios-3-abc".into(),
            after: UnixSeconds(1_795_000_000),
            before: UnixSeconds(1_795_000_900),
            sources: vec!["10.0.0.0/8".into(), "2001:db8::1".into()],
            authority: authority.public(),
        }
    }

    #[test]
    fn a_certificate_is_made_in_two_passes_and_verifies() {
        let authority = SecretKey::from_seed([9; 32]);
        let certificate = sample(&authority);
        let bytes = certificate.to_be_signed().unwrap();
        assert!(bytes.starts_with(b"\0\0\0\x20ssh-ed25519-cert-v01@openssh.com"));
        let text = certificate.with_signature(&authority.sign_bytes(&bytes)).unwrap();
        assert!(is_signed_by(&text, &authority.public()));
        assert!(!is_signed_by(&text, &SecretKey::from_seed([8; 32]).public()));
    }

    #[test]
    fn another_field_or_signer_makes_another_certificate() {
        let authority = SecretKey::from_seed([9; 32]);
        let good = sample(&authority);
        let signature = authority.sign_bytes(&good.to_be_signed().unwrap());
        let others = [
            UserCertificate { serial: 4, ..good.clone() },
            UserCertificate { nonce: [8; 32], ..good.clone() },
            UserCertificate { principal: "root".into(), ..good.clone() },
            UserCertificate { before: UnixSeconds(1_795_000_901), ..good.clone() },
            UserCertificate { sources: Vec::new(), ..good.clone() },
        ];
        for other in others {
            assert_eq!(other.with_signature(&signature), None);
        }
        let backwards = UserCertificate { before: UnixSeconds(1), ..good };
        assert_eq!(backwards.to_be_signed(), None);
    }
}
