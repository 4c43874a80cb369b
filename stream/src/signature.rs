//! The SSH signature of a batch: a raw SSHSIG blob, in the one wording this project writes.
//!
//! ```text
//! "SSHSIG"  version 1
//! string    public key: string "ssh-ed25519", string 32 bytes
//! string    namespace "borgios-batch@v1"
//! string    reserved: empty
//! string    hash algorithm "sha512"
//! string    signature: string "ssh-ed25519", string 64 bytes
//! ```
//!
//! Each blob has [`BLOB_LEN`] bytes; all but key and signature are fixed. Source: OpenSSH
//! `PROTOCOL.sshsig`. Armoured, it is what `ssh-keygen -Y verify` reads.

use std::sync::LazyLock;

use borgios_types::{Namespace, PublicKey, SecretKey, Signature, sshsig};

/// Length of the blob, in bytes.
pub const BLOB_LEN: usize = KEY_AT + 32 + MIDDLE.len() + 64;

const FRONT: &[u8] = b"SSHSIG\0\0\0\x01\0\0\0\x33\0\0\0\x0bssh-ed25519\0\0\0\x20";
const KEY_AT: usize = FRONT.len();
const MIDDLE: &[u8] =
    b"\0\0\0\x10borgios-batch@v1\0\0\0\0\0\0\0\x06sha512\0\0\0\x53\0\0\0\x0bssh-ed25519\0\0\0\x40";

static NAMESPACE: LazyLock<Namespace> = LazyLock::new(|| Namespace::of_kind("batch"));

/// What batches are signed for: `borgios-batch@v1`.
#[must_use]
pub fn namespace() -> &'static Namespace {
    &NAMESPACE
}

/// The blob of `signature` by the key of these 32 bytes.
pub(crate) fn blob(key: &[u8; 32], signature: &Signature) -> [u8; BLOB_LEN] {
    let mut blob = [0; BLOB_LEN];
    blob[..KEY_AT].copy_from_slice(FRONT);
    blob[KEY_AT..][..32].copy_from_slice(key);
    blob[KEY_AT + 32..][..MIDDLE.len()].copy_from_slice(MIDDLE);
    blob[BLOB_LEN - 64..].copy_from_slice(&signature.0);
    blob
}

/// Signs `signed_part` and returns the blob.
pub(crate) fn sign(key: &SecretKey, signed_part: &[u8]) -> [u8; BLOB_LEN] {
    blob(&key.public().to_bytes(), &key.sign(namespace(), signed_part))
}

/// Whether these bytes, [`BLOB_LEN`] of them, are worded as a signature by `key`.
pub(crate) fn is_worded(blob: &[u8], key: &[u8]) -> bool {
    blob[..KEY_AT] == *FRONT
        && blob[KEY_AT..][..32] == *key
        && blob[KEY_AT + 32..][..MIDDLE.len()] == *MIDDLE
}

/// The 64 bytes of the Ed25519 signature in a worded blob.
pub(crate) fn signature_of(blob: &[u8]) -> Signature {
    Signature(*blob.last_chunk().expect("a blob has more than 64 bytes"))
}

/// The armoured file (`-----BEGIN SSH SIGNATURE-----`) of a worded blob by `key`.
#[must_use]
pub fn armour(key: &PublicKey, blob: &[u8; BLOB_LEN]) -> String {
    sshsig::armour(key, namespace(), &signature_of(blob))
}
