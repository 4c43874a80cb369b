//! Blobs that governors send in pieces over the `borgios` channel.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use borgios_types::Digest;

use crate::depot::{Depot, DepotError, Receiving};

/// Uploads that may be open at a time; the oldest gives way, and can be gone on with.
const OPEN_MAX: usize = 4;
/// Time without a piece after which an upload gives its blob free: others may have it. It is gone on with
/// where it stopped, whoever brings the next piece.
pub const UPLOAD_IDLE: Duration = Duration::from_secs(30);
/// Longest piece, in bytes of base64.
pub const PIECE_MAX: usize = 512 * 1024;

/// The open uploads.
#[derive(Clone)]
pub struct Uploads {
    depot: Depot,
    open: Arc<Mutex<Open>>,
}

#[derive(Default)]
struct Open {
    /// The last piece came longest ago first.
    uploads: Vec<Upload>,
    /// Whether a task lets them lapse.
    watched: bool,
}

struct Upload {
    digest: Digest,
    size: u64,
    last: Instant,
    receiving: Receiving,
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
        let mut open = self.open();
        open.uploads.retain(|upload| upload.last.elapsed() < UPLOAD_IDLE);
        let at = open.uploads.iter().position(|one| (one.digest, one.size) == (digest, size));
        let mut receiving = match at {
            Some(at) => open.uploads.remove(at).receiving,
            None if !self.depot.has_room(size)? => return Err(DepotError::Full(size)),
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
        if open.uploads.len() >= OPEN_MAX {
            open.uploads.remove(0);
        }
        open.uploads.push(Upload { digest, size, last: Instant::now(), receiving });
        Ok(Progress::At(have))
    }

    /// Makes what is left half-way give its blob free in time. Call it after a piece, on a runtime.
    pub fn watch(&self) {
        let mut open = self.open();
        if open.uploads.is_empty() || std::mem::replace(&mut open.watched, true) {
            return;
        }
        drop(open);
        let this = self.clone();
        tokio::spawn(async move {
            while this.lapse() {
                tokio::time::sleep(UPLOAD_IDLE / 4).await;
            }
        });
    }

    /// Lets go of what nobody goes on with; returns whether anything is left to watch.
    fn lapse(&self) -> bool {
        let mut open = self.open();
        open.uploads.retain(|upload| upload.last.elapsed() < UPLOAD_IDLE);
        open.watched = !open.uploads.is_empty();
        open.watched
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        // An upload is whole whatever the thread that held the list did.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
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
    fn an_upload_that_nobody_goes_on_with_gives_its_blob_free() {
        let folder = tempfile::tempdir().unwrap();
        let depot = Depot::open(folder.path()).unwrap();
        let uploads = Uploads::new(depot.clone());
        let digest = Digest::of(b"hello");
        uploads.put(digest, 5, 0, &BASE64.encode(b"he")).unwrap();
        assert_eq!(depot.receive(digest, 5).err().map(|error| error.code()), Some("busy"));
        assert!(uploads.lapse(), "it is young");
        let Some(long_ago) = Instant::now().checked_sub(UPLOAD_IDLE) else { return };
        uploads.open().uploads[0].last = long_ago;
        assert!(!uploads.lapse());
        let receiving = depot.receive(digest, 5).unwrap();
        assert_eq!(receiving.have(), 2, "what came is not lost");
        drop(receiving);
        let progress = uploads.put(digest, 5, 2, &BASE64.encode(b"llo")).unwrap();
        assert_eq!(progress, Progress::Whole);
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
