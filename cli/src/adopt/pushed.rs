//! The files that are copied to a host, each checked there by its digest.

use std::path::PathBuf;

use borgios_types::Digest;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use zeroize::Zeroizing;

use crate::failure::{Failure, OrFail as _};

/// Largest bundle: what bootstrap.sh takes.
const BUNDLE_MAX: u64 = 2 * 1024 * 1024 * 1024;

/// Where the bytes of a copy come from.
enum Source {
    /// Small, and perhaps secret.
    Memory(Zeroizing<Vec<u8>>),
    /// Read anew for every host.
    File(PathBuf),
}

/// One file as it shall lie in the folder on a host.
pub(crate) struct Pushed {
    /// Its name there; a word of ours, not of anybody else.
    pub(crate) name: &'static str,
    /// What the host must find when it hashes its copy.
    pub(crate) digest: Digest,
    /// In bytes.
    pub(crate) size: u64,
    source: Source,
}

impl Pushed {
    /// A file from memory.
    pub(crate) fn memory(name: &'static str, bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = Zeroizing::new(bytes.into());
        let (digest, size) = (Digest::of(&bytes), bytes.len() as u64);
        Self { name, digest, size, source: Source::Memory(bytes) }
    }

    /// A file from the disk, of at most 2 GiB.
    pub(crate) fn file(name: &'static str, path: PathBuf) -> Result<Self, Failure> {
        let what = || format!("could not read {}", path.display());
        let mut file = std::fs::File::open(&path).or_fail(what)?;
        let metadata = file.metadata().or_fail(what)?;
        if !metadata.is_file() || metadata.len() > BUNDLE_MAX || metadata.len() == 0 {
            return Err(
                Failure::new(what()).because(format!("it is no file of 1 to {BUNDLE_MAX} bytes"))
            );
        }
        // As much as the size that was just bounded, even if the file grows meanwhile.
        let (mut hash, mut piece) = (Sha256::new(), vec![0; 64 * 1024]);
        let mut bytes = std::io::Read::take(&mut file, metadata.len());
        loop {
            let length = std::io::Read::read(&mut bytes, &mut piece).or_fail(what)?;
            if length == 0 {
                break;
            }
            hash.update(&piece[..length]);
        }
        let digest = Digest(hash.finalize().into());
        Ok(Self { name, digest, size: metadata.len(), source: Source::File(path) })
    }

    /// Its bytes, from the beginning.
    pub(crate) async fn open(&self) -> std::io::Result<Box<dyn AsyncRead + Send + Unpin + '_>> {
        Ok(match &self.source {
            Source::Memory(bytes) => Box::new(bytes.as_slice()),
            Source::File(path) => Box::new(tokio::fs::File::open(path).await?.take(self.size)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_bundle_is_refused_here() {
        let folder = tempfile::tempdir().unwrap();
        let empty = folder.path().join("empty");
        std::fs::write(&empty, "").unwrap();
        for path in [empty, folder.path().to_owned(), folder.path().join("none")] {
            assert!(Pushed::file("bundle.tar", path).is_err());
        }
    }
}
