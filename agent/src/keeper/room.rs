//! Room on a disk, as whoever is not root has it.
//!
//! Root may write where nobody else may any more: ext4 keeps a twentieth of a disk for it. All that
//! is decided here goes by what is left without that reserve. Once it is gone, `borgiosd` stores no
//! statement, whatever the keeper can still write.

use std::io;
use std::path::Path;

use borgios_releases::Footprint;
use rustix::fs::StatVfs;

/// Below so many bytes, or so many files, a disk counts as full: what systemd's tools write is smaller.
const ROOM_MIN: u64 = 256 * 1024;
const FILES_MIN: u64 = 8;

/// So many bytes, and so many files, are left when a component has been unpacked: statements, logs and
/// accounts need room as well, and so does what was installed, to show that it is well.
const ROOM_KEPT: u64 = 64 * 1024 * 1024;
const FILES_KEPT: u64 = 1024;

/// What is left on a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// In bytes.
    pub bytes: u64,
    /// Files and folders.
    pub files: u64,
}

impl Room {
    /// Of a disk that counts nothing.
    pub const BOUNDLESS: Self = Self { bytes: u64::MAX, files: u64::MAX };

    /// What is left on the disk that `folder` lies on.
    ///
    /// # Errors
    /// Whatever the disk says.
    pub fn on(folder: &Path) -> io::Result<Self> {
        Ok(Self::of(&rustix::fs::statvfs(folder)?))
    }

    /// The same with root's reserve: what root alone writes there has that too.
    ///
    /// # Errors
    /// Whatever the disk says.
    pub fn of_root_on(folder: &Path) -> io::Result<Self> {
        Ok(Self::of_root(&rustix::fs::statvfs(folder)?))
    }

    fn of(disk: &StatVfs) -> Self {
        Self::counted(disk, disk.f_bavail, disk.f_favail)
    }

    fn of_root(disk: &StatVfs) -> Self {
        Self::counted(disk, disk.f_bfree, disk.f_ffree)
    }

    /// Some disks count no inodes; a tmpfs without bounds counts no blocks either.
    fn counted(disk: &StatVfs, blocks: u64, files: u64) -> Self {
        let bytes = blocks.saturating_mul(disk.f_frsize);
        Self {
            bytes: if disk.f_blocks == 0 { Self::BOUNDLESS.bytes } else { bytes },
            files: if disk.f_files == 0 { Self::BOUNDLESS.files } else { files },
        }
    }

    /// Whether as good as nothing is left.
    #[must_use]
    pub fn is_short(self) -> bool {
        self.bytes < ROOM_MIN || self.files < FILES_MIN
    }

    /// Whether something fits that takes so much, and leaves what others need.
    ///
    /// # Errors
    /// `StorageFull`, with the numbers.
    pub fn check(self, taken: Footprint) -> io::Result<()> {
        let Footprint { bytes, files } = taken;
        if self.bytes >= bytes.saturating_add(ROOM_KEPT)
            && self.files >= files.saturating_add(FILES_KEPT)
        {
            return Ok(());
        }
        let text = format!(
            "{bytes} bytes and {files} files are to be written, {ROOM_KEPT} and {FILES_KEPT} stay free, \
             and users have {} and {} left",
            self.bytes, self.files
        );
        Err(io::Error::new(io::ErrorKind::StorageFull, text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(blocks: [u64; 2], files: [u64; 2]) -> StatVfs {
        let mut disk = rustix::fs::statvfs("/").unwrap();
        disk.f_frsize = 4096;
        [disk.f_blocks, disk.f_bavail] = blocks;
        [disk.f_files, disk.f_favail] = files;
        // Root's reserve, of which nothing here is.
        (disk.f_bfree, disk.f_ffree) = (1_000_000, 1_000_000);
        disk
    }

    #[test]
    fn a_disk_is_short_of_bytes_or_of_files_and_never_of_what_it_does_not_count() {
        let short = |blocks, files| Room::of(&disk(blocks, files)).is_short();
        assert!(!short([1_000, 64], [1_000, 8]));
        assert!(short([1_000, 63], [1_000, 8]));
        assert!(short([1_000, 64], [1_000, 7]));
        assert!(!short([0, 0], [0, 0]));
        assert_eq!(Room::of(&disk([0, 0], [0, 0])), Room::BOUNDLESS);
        // What users have filled, root still has room on.
        assert!(!Room::of_root(&disk([1_000, 0], [1_000, 0])).is_short());
        assert_eq!(Room::of_root(&disk([0, 0], [0, 0])), Room::BOUNDLESS);
    }

    #[test]
    fn what_fits_leaves_room_for_others() {
        let taken = Footprint { bytes: 1000, files: 10 };
        let room = Room { bytes: ROOM_KEPT + 1000, files: FILES_KEPT + 10 };
        room.check(taken).unwrap();
        Room::BOUNDLESS.check(Footprint { bytes: u64::MAX, files: u64::MAX }).unwrap();
        for short in
            [Room { bytes: room.bytes - 1, ..room }, Room { files: room.files - 1, ..room }]
        {
            assert_eq!(short.check(taken).unwrap_err().kind(), io::ErrorKind::StorageFull);
        }
    }
}
