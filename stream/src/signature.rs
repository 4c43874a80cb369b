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

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;
    use crate::stage;

    #[test]
    fn the_blob_is_what_openssh_writes() {
        let batch = stage::batch(1, &[b"a"]);
        let text = armour(&stage::key().public(), batch.blob());
        let (key, signature) = sshsig::read_armour(&text, namespace()).unwrap();
        assert_eq!(blob(&key.to_bytes(), &signature), *batch.blob());
        let base64: String = text.lines().filter(|line| !line.starts_with('-')).collect();
        // 186 bytes without padding.
        assert_eq!(base64.len(), BLOB_LEN / 3 * 4);
    }

    /// `ssh-keygen -Y verify`, where there is one, says the same.
    #[test]
    fn openssh_verifies_a_batch() {
        let folder = tempfile::tempdir().unwrap();
        let key = stage::key().public();
        let batch = stage::batch(1, &[b"a", b"b"]);
        let signers = key.allowed_signer("node", &[namespace().as_str()]);
        std::fs::write(folder.path().join("signers"), signers).unwrap();
        std::fs::write(folder.path().join("sig"), armour(&key, batch.blob())).unwrap();
        let says = |signed: &[u8]| {
            std::fs::write(folder.path().join("signed"), signed).unwrap();
            let input = std::fs::File::open(folder.path().join("signed")).unwrap();
            Command::new("ssh-keygen")
                .args(["-Y", "verify", "-I", "node", "-n", namespace().as_str()])
                .args(["-f", "signers", "-s", "sig"])
                .current_dir(folder.path())
                .stdin(input)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
        };
        let mut changed = batch.signed_part().to_vec();
        changed[100] ^= 1;
        match says(batch.signed_part()) {
            Ok(status) => {
                assert!(status.success());
                assert!(!says(&changed).unwrap().success());
            }
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::NotFound),
        }
    }
}
