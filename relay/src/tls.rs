//! A TLS 1.3 connection beside the SSH link, authenticated by keys that the SSH link vouched for.
//!
//! ```text
//! dialler                       SSH link                        acceptor
//!   makes a key ──────────── public half, hex ────────────▶ makes a key and a ticket
//!   ◀────────────────────── public half, ticket ──────────── expects that key for that ticket
//!   TLS ClientHello, server name = ticket ─────────────────▶ finds the ticket, once
//!   raw public keys both ways (RFC 7250): each side accepts exactly the one key it was told
//! ```
//!
//! The keys live for one connection and sign nothing but its handshake; the node's own key signs
//! nothing but SSH.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer,
    UnixTime,
};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, ServerConfig,
    SignatureScheme,
};
use zeroize::Zeroizing;

/// What comes before the 32 bytes of an Ed25519 public key in its SubjectPublicKeyInfo (RFC 8410).
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0];
/// What comes before the 32 bytes of an Ed25519 seed in its PKCS #8 (RFC 8410).
const PKCS8_PREFIX: [u8; 16] =
    [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];

/// A key for one TLS connection.
pub struct EphemeralKey {
    seed: Zeroizing<[u8; 32]>,
    public: [u8; 32],
}

impl EphemeralKey {
    /// Makes the key of a seed from a good source of randomness.
    #[must_use]
    pub fn from_seed(seed: [u8; 32]) -> Self {
        let public = borgios_types::SecretKey::from_seed(seed).public().to_bytes();
        Self { seed: Zeroizing::new(seed), public }
    }

    /// What the other side must be told, over SSH.
    #[must_use]
    pub fn public(&self) -> [u8; 32] {
        self.public
    }

    fn certified(&self, provider: &CryptoProvider) -> Result<Arc<CertifiedKey>, Error> {
        let mut pkcs8 = Zeroizing::new(PKCS8_PREFIX.to_vec());
        pkcs8.extend_from_slice(&*self.seed);
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pkcs8.to_vec()));
        let key = provider.key_provider.load_private_key(der)?;
        Ok(Arc::new(CertifiedKey::new(vec![CertificateDer::from(spki(&self.public))], key)))
    }
}

fn spki(public: &[u8; 32]) -> Vec<u8> {
    [SPKI_PREFIX.as_slice(), public].concat()
}

/// The side that dialled.
///
/// # Errors
/// The provider knows no Ed25519 or no TLS 1.3.
pub fn client_config(
    provider: Arc<CryptoProvider>,
    key: &EphemeralKey,
    expected: [u8; 32],
) -> Result<ClientConfig, Error> {
    let ours = key.certified(&provider)?;
    let verifier = Arc::new(OneKey { expected, provider: provider.clone() });
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_cert_resolver(Arc::new(
            rustls::client::AlwaysResolvesClientRawPublicKeys::new(ours),
        ));
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

/// The side that was dialled.
///
/// # Errors
/// The provider knows no Ed25519 or no TLS 1.3.
pub fn server_config(
    provider: Arc<CryptoProvider>,
    key: &EphemeralKey,
    expected: [u8; 32],
) -> Result<ServerConfig, Error> {
    let ours = key.certified(&provider)?;
    let verifier = Arc::new(OneKey { expected, provider: provider.clone() });
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(rustls::server::AlwaysResolvesServerRawPublicKeys::new(ours)));
    // A connection is never resumed: its keys live once.
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// Accepts one raw public key, and a handshake signed by it.
#[derive(Debug)]
struct OneKey {
    expected: [u8; 32],
    provider: Arc<CryptoProvider>,
}

impl OneKey {
    fn is_expected(&self, offered: &CertificateDer<'_>) -> Result<(), Error> {
        if offered.as_ref() == spki(&self.expected) {
            Ok(())
        } else {
            Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
        }
    }

    fn signed(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let key = SubjectPublicKeyInfoDer::from(key.as_ref());
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature_with_raw_key(message, &key, signature, algorithms)
    }
}

/// TLS 1.2 is not spoken here.
fn no_tls12() -> Error {
    Error::PeerIncompatible(rustls::PeerIncompatible::Tls13RequiredForQuic)
}

impl ServerCertVerifier for OneKey {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.is_expected(end_entity).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signed(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for OneKey {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.is_expected(end_entity).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signed(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}
