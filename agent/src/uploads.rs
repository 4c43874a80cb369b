//! Blobs that governors send in pieces over the `borgios` channel.
//!
//! ```text
//!  put ─▶ list of open uploads (a lock for a moment) ─▶ one upload (its own lock, while the disk works)
//!            ▲ lapse, on the runtime: never waits for a disk
//! ```
//!
//! An upload holds its part of a blob for as long as pieces come, and for a bounded time in all; what
//! something signed names is fetched beside it (see `depot`).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use borgios_types::Digest;

use crate::depot::{Depot, DepotError, Receiving};
use crate::fetch::patience;

/// Uploads that may be open at a time; the oldest gives way, and can be gone on with.
const OPEN_MAX: usize = 4;
/// Time without a piece that was of use after which an upload gives its blob free: others may have it. It
/// is gone on with where it stopped, whoever brings the next piece.
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
    begun: Instant,
    /// When a piece last was of use.
    last: Instant,
    part: Part,
}

/// What came so far; `None` before it is opened and after it was finished or lost.
type Part = Arc<Mutex<Option<Receiving>>>;

impl Upload {
    fn holds(&self) -> bool {
        self.last.elapsed() < UPLOAD_IDLE && self.begun.elapsed() < patience(self.size)
    }
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
        let part = self.part(digest, size);
        // Another laptop may be bringing the same blob: one piece after the other.
        let mut receiving = part.lock().unwrap_or_else(PoisonError::into_inner);
        let added = self.add(&mut receiving, digest, size, offset, &bytes);
        if receiving.is_none() {
            self.open().uploads.retain(|upload| !Arc::ptr_eq(&upload.part, &part));
        } else if matches!(added, Ok((_, true))) {
            self.was_of_use(&part);
        }
        added.map(|(progress, _)| progress)
    }

    /// The part of the upload of this blob, which begins with this if there is none.
    fn part(&self, digest: Digest, size: u64) -> Part {
        let mut open = self.open();
        open.uploads.retain(Upload::holds);
        if let Some(upload) =
            open.uploads.iter().find(|one| (one.digest, one.size) == (digest, size))
        {
            return upload.part.clone();
        }
        if open.uploads.len() >= OPEN_MAX {
            open.uploads.remove(0);
        }
        let (now, part) = (Instant::now(), Part::default());
        open.uploads.push(Upload { digest, size, begun: now, last: now, part: part.clone() });
        part
    }

    /// Adds a piece to what came so far. Returns how far that is, and whether it brought anything.
    fn add(
        &self,
        part: &mut Option<Receiving>,
        digest: Digest,
        size: u64,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(Progress, bool), DepotError> {
        if self.depot.size(&digest) == Some(size) {
            // It may have come another way meanwhile.
            *part = None;
            return Ok((Progress::Whole, false));
        }
        let mut receiving = match part.take() {
            Some(receiving) => receiving,
            None if !self.depot.has_room(size)? => return Err(DepotError::Full(size)),
            None => self.depot.receive_unasked(digest, size)?,
        };
        let brings = receiving.have() == offset && !bytes.is_empty();
        if brings {
            receiving.write(bytes)?;
        }
        if receiving.whole() {
            receiving.finish()?;
            return Ok((Progress::Whole, brings));
        }
        let have = receiving.have();
        *part = Some(receiving);
        Ok((Progress::At(have), brings))
    }

    /// The upload is the last to give way now. It may have lapsed or given way while the disk worked.
    fn was_of_use(&self, part: &Part) {
        let mut open = self.open();
        if let Some(at) = open.uploads.iter().position(|one| Arc::ptr_eq(&one.part, part)) {
            let mut upload = open.uploads.remove(at);
            upload.last = Instant::now();
            open.uploads.push(upload);
        }
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

    /// Lets go of what nobody goes on with, or took too long; returns whether anything is left to watch.
    fn lapse(&self) -> bool {
        let mut open = self.open();
        open.uploads.retain(Upload::holds);
        open.watched = !open.uploads.is_empty();
        open.watched
    }

    /// The list, for a moment: nobody who has it waits for a disk.
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
        assert_eq!(depot.receive_unasked(digest, 5).err().map(|error| error.code()), Some("busy"));
        assert!(uploads.lapse(), "it is young");
        let Some(long_ago) = Instant::now().checked_sub(UPLOAD_IDLE) else { return };
        uploads.open().uploads[0].last = long_ago;
        assert!(!uploads.lapse());
        let receiving = depot.receive_unasked(digest, 5).unwrap();
        assert_eq!(receiving.have(), 2, "what came is not lost");
        drop(receiving);
        let progress = uploads.put(digest, 5, 2, &BASE64.encode(b"llo")).unwrap();
        assert_eq!(progress, Progress::Whole);
    }

    /// As if its last piece of use, or its first one, had come so long ago.
    fn age(uploads: &Uploads, last: Duration, begun: Duration) {
        let mut open = uploads.open();
        let upload = &mut open.uploads[0];
        upload.last = upload.last.checked_sub(last).unwrap();
        upload.begun = upload.begun.checked_sub(begun).unwrap();
    }

    #[test]
    fn pieces_that_bring_nothing_do_not_hold_a_blob() {
        let folder = tempfile::tempdir().unwrap();
        let depot = Depot::open(folder.path()).unwrap();
        let uploads = Uploads::new(depot.clone());
        let digest = Digest::of(b"hello");
        let put = |offset, bytes: &[u8]| uploads.put(digest, 5, offset, &BASE64.encode(bytes));
        put(0, b"he").unwrap();
        age(&uploads, UPLOAD_IDLE / 2, Duration::ZERO);
        assert_eq!(put(2, b"").unwrap(), Progress::At(2));
        assert_eq!(put(9, b"x").unwrap(), Progress::At(2));
        age(&uploads, UPLOAD_IDLE / 2, Duration::ZERO);
        assert!(!uploads.lapse(), "nothing came for so long");
        drop(depot.receive_unasked(digest, 5).unwrap());
        put(2, b"l").unwrap();
        age(&uploads, UPLOAD_IDLE / 2, patience(5));
        assert!(!uploads.lapse(), "it had its time");
        assert_eq!(put(3, b"lo").unwrap(), Progress::Whole, "and goes on all the same");
    }

    /// A disk that does not answer holds up whoever writes to it, and nobody else.
    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn a_disk_that_stands_still_does_not_stop_the_runtime() {
        use rustix::fs::{CWD, Mode, mkfifoat};
        let folder = tempfile::tempdir().unwrap();
        let depot = Depot::open(folder.path()).unwrap();
        let uploads = Uploads::new(depot.clone());
        let digest = Digest::of(b"hello");
        // What is there already is read first, and of a pipe that never comes to its end.
        let part = folder.path().join(format!("{}.brought", digest.hex()));
        mkfifoat(CWD, &part, Mode::RWXU).unwrap();
        let writing = uploads.clone();
        // Its thread ends with the process.
        std::thread::spawn(move || writing.put(digest, 5, 0, &BASE64.encode("he")));
        let begun = Instant::now();
        while !depot.is_receiving(&digest) {
            assert!(begun.elapsed() < Duration::from_secs(60), "it never began");
            std::thread::yield_now();
        }
        let (tell, told) = std::sync::mpsc::channel();
        tokio::spawn(async move {
            uploads.watch();
            let others = Digest::of(b"other");
            let put = move || uploads.put(others, 5, 0, &BASE64.encode("ot"));
            let put = tokio::task::spawn_blocking(put).await.unwrap().unwrap();
            tell.send(put).unwrap();
        });
        let put = told.recv_timeout(Duration::from_secs(60)).expect("the only worker stands still");
        assert_eq!(put, Progress::At(2));
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
