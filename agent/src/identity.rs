//! The node's own key: made at the first start, an OpenSSH private key file ever after.
//!
//! It is the server's name in the tree and its SSH host key. It never leaves the server.

use std::io;
use std::path::{Path, PathBuf};

use borgios_types::SecretKey;
use rand::RngCore as _;
use thiserror::Error;
use tracing::info;

use crate::disk;

/// Longest key file, in bytes; an Ed25519 one has about 400.
const KEY_FILE_MAX: usize = 16 * 1024;

/// Why a server has no identity.
#[derive(Debug, Error)]
pub enum IdentityError {
    /// The file cannot be read or written.
    #[error("cannot use the node key {path}")]
    Disk {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file holds something else. It is never overwritten: it may be somebody's key.
    #[error("{path} holds no OpenSSH Ed25519 private key; move it away to become a new node")]
    NotAKey {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: borgios_types::key::KeyError,
    },
}

/// Reads a key that was made before; `None` if there is none.
///
/// # Errors
/// See [`IdentityError`].
pub fn load(path: &Path) -> Result<Option<SecretKey>, IdentityError> {
    match disk::read_bounded(path, KEY_FILE_MAX) {
        Ok(bytes) => SecretKey::from_openssh(&String::from_utf8_lossy(&bytes))
            .map(Some)
            .map_err(|source| IdentityError::NotAKey { path: path.to_owned(), source }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(IdentityError::Disk { path: path.to_owned(), source }),
    }
}

/// Reads the node key, or makes it if there is none.
///
/// # Errors
/// See [`IdentityError`].
pub fn load_or_make(path: &Path) -> Result<SecretKey, IdentityError> {
    if let Some(key) = load(path)? {
        return Ok(key);
    }
    let disk = |source| IdentityError::Disk { path: path.to_owned(), source };
    let mut seed = [0; 32];
    rand::rngs::OsRng.try_fill_bytes(&mut seed).map_err(|e| disk(io::Error::other(e)))?;
    let key = SecretKey::from_seed(seed);
    disk::write_durable(path, key.to_openssh("borgios node").as_bytes(), 0o600).map_err(disk)?;
    info!(BORGIOS_EVENT = "node_key_made", BORGIOS_NODE = %key.public(), "made the node key");
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_a_foreign_file_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.key");
        assert!(load(&path).unwrap().is_none() && !path.exists(), "reading makes none");
        let first = load_or_make(&path).unwrap();
        assert_eq!(load(&path).unwrap().unwrap().public(), first.public());
        assert_eq!(load_or_make(&path).unwrap().public(), first.public());
        std::fs::write(&path, "something else").unwrap();
        assert!(matches!(load_or_make(&path), Err(IdentityError::NotAKey { .. })));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "something else");
    }
}
