//! How much of a disk a component takes once it is unpacked, without unpacking it.
//!
//! A blob tells its own size and not that of what comes out of it. Who unpacks one as root may write
//! where nobody else may any more, so it is looked at first whether there is room for all of it.

use std::collections::BTreeSet;
use std::io::{self, Read};

use crate::component::{FILES_MAX, UNPACKED_MAX};
use crate::entry::EntryPath;

/// Largest window of a compressed blob, as [`crate::unpack()`] bounds it.
const WINDOW_LOG_MAX: u32 = 24;
/// What a disk gives a file is a multiple of so many bytes, and a folder takes as much.
const BLOCK: u64 = 4096;

/// What a component takes on a disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Footprint {
    /// In bytes, whole blocks.
    pub bytes: u64,
    /// Files and folders.
    pub files: u64,
}

/// Adds up what unpacking `blob` writes to the disk.
///
/// Nothing in it is trusted: work and memory have the bounds of [`crate::unpack()`]. Of a blob that
/// breaks a rule, what comes before the breach counts: unpacking comes no further either.
///
/// # Errors
/// What the disk says that `blob` is read from.
pub fn measure(blob: impl Read) -> io::Result<Footprint> {
    let mut taken = Footprint { bytes: BLOCK, files: 1 };
    match add_up(blob, &mut taken) {
        Err(error) if error.raw_os_error().is_some() => Err(error),
        // Damaged from here on.
        Err(_) | Ok(()) => Ok(taken),
    }
}

fn add_up(blob: impl Read, taken: &mut Footprint) -> io::Result<()> {
    let mut zstd = zstd::Decoder::new(blob)?.single_frame();
    zstd.window_log_max(WINDOW_LOG_MAX)?;
    let mut archive = tar::Archive::new(zstd);
    let mut folders = BTreeSet::new();
    let (mut total, mut entries) = (0_u64, 0);
    for entry in archive.entries()?.raw(true) {
        let entry = entry?;
        let header = entry.header();
        let size = header.entry_size()?;
        total = total.saturating_add(size);
        entries += 1;
        // Unpacking ends here as well; going on would read as much as the entry promises.
        if total > UNPACKED_MAX
            || entries > FILES_MAX
            || header.entry_type() != tar::EntryType::Regular
        {
            return Ok(());
        }
        let bytes = header.path_bytes();
        let Ok(path) = EntryPath::parse(&String::from_utf8_lossy(&bytes)) else { return Ok(()) };
        taken.bytes += size.div_ceil(BLOCK) * BLOCK;
        taken.files += 1;
        for folder in path.folders() {
            if folders.insert(folder.to_owned()) {
                taken.bytes += BLOCK;
                taken.files += 1;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::component::header;
    use crate::component::tests::{HELLO, hello};

    #[test]
    fn what_is_unpacked_takes_no_more_than_was_measured() {
        let (blob, _) = hello();
        let taken = measure(blob.as_slice()).unwrap();
        // One block each: the files, their folders (files, files/bin, files/share, units), the component's.
        let files = HELLO.len() as u64 + 4 + 1;
        assert_eq!(taken, Footprint { bytes: files * BLOCK, files });
    }

    #[test]
    fn a_blob_that_breaks_a_rule_is_measured_as_far_as_it_is_unpacked() {
        let (blob, _) = hello();
        let whole = measure(blob.as_slice()).unwrap();
        let none = Footprint { bytes: BLOCK, files: 1 };
        assert_eq!(measure(&b"no blob"[..]).unwrap(), none);
        let cut = measure(&blob[..blob.len() / 2]).unwrap();
        assert!(cut.bytes <= whole.bytes && cut.files <= whole.files, "{cut:?}");
        // It promises more than any component may hold: nothing of that is read.
        let mut tar = header("files/all", 0o644, 2 * UNPACKED_MAX).unwrap().as_bytes().to_vec();
        tar.resize(4096, 0);
        assert_eq!(measure(zstd::encode_all(tar.as_slice(), 1).unwrap().as_slice()).unwrap(), none);
    }

    #[test]
    fn a_disk_that_cannot_be_read_is_no_size() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::from_raw_os_error(5))
            }
        }
        assert_eq!(measure(Broken).unwrap_err().raw_os_error(), Some(5));
    }
}
