//! The words every part of BorgIOS shares: shared types, no logic of their own.
//!
//! | module | holds |
//! |---|---|
//! | [`key`] | Ed25519 identities as SSH keys: [`PublicKey`], [`SecretKey`], [`Signature`] |
//! | [`sshsig`] | the bytes an SSH signature covers, and its armoured file form |
//! | [`certificate`] | OpenSSH user certificates: the bytes an authority signs, the text `ssh` uses |
//! | [`digest`] | [`Digest`], a SHA-256 |
//! | [`envelope`] | [`Envelope`], the one wrapping of every signed object |
//! | [`json`] | the strict JSON rules every payload must obey before it is parsed |
//! | [`time`] | [`Time`] for timeouts and [`UnixSeconds`] for dates, which never mix |
//! | [`number`] | [`Seq`], [`Round`], [`KeyEpoch`], [`Epoch`], [`Threshold`] |
//! | [`limits`] | every bound on what comes from outside, with its reason |
//!
//! Nothing here opens a file, a socket or a clock, and nothing here depends on another crate of
//! this workspace.

pub mod certificate;
pub mod digest;
pub mod envelope;
pub mod json;
pub mod key;
pub mod limits;
pub mod number;
pub mod sshsig;
pub mod time;

pub use certificate::UserCertificate;
pub use digest::Digest;
pub use envelope::{Envelope, EnvelopeError, Kind, SignedBy};
pub use key::{NodeId, PublicKey, SecretKey, Signature};
pub use number::{Epoch, KeyEpoch, Round, Seq, Threshold};
pub use sshsig::Namespace;
pub use time::{Time, UnixSeconds};
