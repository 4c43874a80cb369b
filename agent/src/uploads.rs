//! Blobs that governors send in pieces over the `borgios` channel.

use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use borgios_types::Digest;

use crate::depot::{Depot, DepotError, Receiving};

/// Uploads that may be open at a time; the oldest gives way, and can be gone on with.
const OPEN_MAX: usize = 4;
/// Longest piece, in bytes of base64.
pub const PIECE_MAX: usize = 512 * 1024;

/// The open uploads.
#[derive(Clone)]
pub struct Uploads {
    depot: Depot,
    open: Arc<Mutex<Vec<(Digest, u64, Receiving)>>>,
}

/// How far an upload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Go on at this offset.
    At(u64),
    /// The blob is whole and in the depot.
    Whole,
}

impl Uploads {
    /// Uploads into `depot`.
    #[must_use]
    pub fn new(depot: Depot) -> Self {
        Self { depot, open: Arc::default() }
    }

    /// Adds a piece at `offset`; a piece at another offset than expected changes nothing and is
    /// answered with the right one. Blocks on the disk.
    ///
    /// # Errors
    /// See [`DepotError`].
    pub fn put(
        &self,
        digest: Digest,
        size: u64,
        offset: u64,
        piece: &str,
    ) -> Result<Progress, DepotError> {
        // Whoever begins anew may know that what lies here has changed on its disk.
        if offset == 0 && self.depot.check(&digest).is_err() {
            tracing::warn!(BORGIOS_EVENT = "blob_changed", BORGIOS_BLOB = %digest, "a blob of the depot had changed");
        }
        if self.depot.size(&digest) == Some(size) {
            return Ok(Progress::Whole);
        }
        let bytes = match BASE64.decode(piece) {
            Ok(bytes) if piece.len() <= PIECE_MAX => bytes,
            _ => {
                let text = format!("a piece is at most {PIECE_MAX} bytes of base64");
                return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, text).into());
            }
        };
        // An upload is whole whatever the thread that held the list did.
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let at = open.iter().position(|(known, length, _)| *known == digest && *length == size);
        let mut receiving = match at {
            Some(at) => open.remove(at).2,
            None => self.depot.receive(digest, size)?,
        };
        if receiving.have() == offset {
            receiving.write(&bytes)?;
        }
        if receiving.whole() {
            receiving.finish()?;
            return Ok(Progress::Whole);
        }
        let have = receiving.have();
        if open.len() >= OPEN_MAX {
            open.remove(0);
        }
        open.push((digest, size, receiving));
        Ok(Progress::At(have))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_make_a_blob_in_order_only() {
        let folder = tempfile::tempdir().unwrap();
        let depot = Depot::open(folder.path()).unwrap();
        let uploads = Uploads::new(depot.clone());
        let digest = Digest::of(b"hello world");
        let put = |offset, bytes: &[u8]| uploads.put(digest, 11, offset, &BASE64.encode(bytes));
        assert_eq!(put(0, b"hello ").unwrap(), Progress::At(6));
        assert_eq!(put(0, b"hello ").unwrap(), Progress::At(6));
        assert_eq!(put(9, b"ld").unwrap(), Progress::At(6));
        assert_eq!(put(6, b"world").unwrap(), Progress::Whole);
        assert_eq!(put(0, b"hello ").unwrap(), Progress::Whole);
        assert_eq!(depot.size(&digest), Some(11));
    }

    #[test]
    fn a_blob_that_changed_on_the_disk_can_be_brought_again() {
        let folder = tempfile::tempdir().unwrap();
        let depot = Depot::open(folder.path()).unwrap();
        let uploads = Uploads::new(depot.clone());
        let digest = Digest::of(b"hello");
        std::fs::write(depot.path(&digest), b"jello").unwrap();
        let progress = uploads.put(digest, 5, 0, &BASE64.encode(b"hello")).unwrap();
        assert_eq!(progress, Progress::Whole);
        assert_eq!(std::fs::read(depot.path(&digest)).unwrap(), b"hello");
    }

    #[test]
    fn a_wrong_blob_is_refused_at_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let uploads = Uploads::new(Depot::open(folder.path()).unwrap());
        let error = uploads.put(Digest::of(b"a"), 1, 0, &BASE64.encode(b"b")).unwrap_err();
        assert_eq!(error.code(), "bad_digest");
    }
}
