//! Component files and other blobs: measured and checked without holding them in memory twice.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use borgios_releases::entry::INFO;
use borgios_releases::info::INFO_MAX;
use borgios_releases::{ComponentInfo, Expected, unpack};
use borgios_types::Digest;
use borgios_types::limits::COMPONENT_MAX;

use crate::failure::{Failure, OrFail as _};

/// Largest window of a compressed component, as a power of two: what a server accepts.
const WINDOW_LOG_MAX: u32 = 24;

/// A file by its content.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Blob {
    /// SHA-256 of its bytes.
    pub(crate) digest: Digest,
    /// In bytes.
    pub(crate) size: u64,
}

/// Reads a file that is small enough to be a blob.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let what = || format!("could not read {}", path.display());
    let file = File::open(path).or_fail(what)?;
    let mut bytes = Vec::new();
    file.take(COMPONENT_MAX + 1).read_to_end(&mut bytes).or_fail(what)?;
    if bytes.len() as u64 > COMPONENT_MAX {
        return Err(
            Failure::new(what()).because(format!("it is larger than {COMPONENT_MAX} bytes"))
        );
    }
    if bytes.is_empty() {
        return Err(Failure::new(what()).because("it is empty"));
    }
    Ok(bytes)
}

/// Digest and size of a file.
pub(crate) fn measure(path: &Path) -> Result<Blob, Failure> {
    let bytes = read(path)?;
    Ok(Blob { digest: Digest::of(&bytes), size: bytes.len() as u64 })
}

/// Digest, size and description of a component, checked by unpacking it as a server would.
pub(crate) fn component(path: &Path) -> Result<(ComponentInfo, Blob), Failure> {
    let what = || format!("{} is no component", path.display());
    let bytes = read(path)?;
    let blob = Blob { digest: Digest::of(&bytes), size: bytes.len() as u64 };
    let info = describe(&bytes).map_err(|failure| failure.within(what()))?;
    let folder = tempfile::tempdir().or_fail(|| "could not make a temporary folder")?;
    let expected = Expected { name: &info.name, arch: &info.arch };
    unpack(bytes.as_slice(), &folder.path().join("component"), &expected).or_fail(what)?;
    Ok((info, blob))
}

/// The description that stands first in a component; nothing is read that a server would not read.
pub(crate) fn describe(bytes: &[u8]) -> Result<ComponentInfo, Failure> {
    let what = || "it does not begin with a component.json";
    let mut zstd = zstd::Decoder::new(bytes).or_fail(what)?;
    zstd.window_log_max(WINDOW_LOG_MAX).or_fail(what)?;
    let mut tar = tar::Archive::new(zstd);
    // `raw`: otherwise an extension, a long name of many gigabytes, is read before it is seen here.
    let entry = tar.entries().or_fail(what)?.raw(true).next();
    let entry = entry.ok_or_else(|| Failure::new(what()))?.or_fail(what)?;
    let header = entry.header();
    if header.entry_type() != tar::EntryType::Regular || *header.path_bytes() != *INFO.as_bytes() {
        return Err(Failure::new(what()));
    }
    let size = header.entry_size().or_fail(what)?;
    if size > INFO_MAX as u64 {
        return Err(Failure::new(what()).because(format!("{size} bytes, at most {INFO_MAX}")));
    }
    let mut text = Vec::new();
    entry.take(INFO_MAX as u64).read_to_end(&mut text).or_fail(what)?;
    ComponentInfo::parse(&text).or_fail(what)
}

/// A size for people.
pub(crate) fn size_text(bytes: u64) -> String {
    const UNITS: [&str; 3] = ["KiB", "MiB", "GiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let (mut size, mut unit) = (bytes as f64 / 1024.0, 0);
    while size >= 1024.0 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    format!("{size:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        assert_eq!(size_text(1023), "1023 B");
        assert_eq!(size_text(1536), "1.5 KiB");
        assert_eq!(size_text(512 * 1024 * 1024), "512.0 MiB");
    }

    const JSON: &str = r#"{"name":"hello","version":"1","arch":"any"}"#;

    /// A compressed tar of hand-made entries: name, type, size in its header, content.
    fn packed(entries: &[(&str, u8, u64, &[u8])]) -> Vec<u8> {
        let mut tar = Vec::new();
        for (name, kind, size, content) in entries {
            let mut header = tar::Header::new_ustar();
            header.set_path(name).unwrap();
            header.set_entry_type(tar::EntryType::new(*kind));
            header.set_mode(0o644);
            header.set_size(*size);
            header.set_cksum();
            tar.extend_from_slice(header.as_bytes());
            tar.extend_from_slice(content);
            tar.resize(tar.len().next_multiple_of(512), 0);
        }
        tar.resize(tar.len() + 1024, 0);
        zstd::encode_all(tar.as_slice(), 1).unwrap()
    }

    #[test]
    fn a_description_is_the_first_plain_file_and_nothing_before_it_is_read() {
        let json = (INFO, b'0', JSON.len() as u64, JSON.as_bytes());
        assert_eq!(describe(&packed(&[json])).unwrap().name.as_str(), "hello");
        // Extensions that give the next entry this name.
        let other = ("other", b'0', JSON.len() as u64, JSON.as_bytes());
        let pax = b"23 path=component.json\n";
        for (kind, content) in [(b'L', INFO.as_bytes()), (b'x', pax.as_slice())] {
            let long = ("long", kind, content.len() as u64, content);
            let refused = describe(&packed(&[long, other])).unwrap_err();
            assert_eq!(refused.summary(), "it does not begin with a component.json");
        }
        // What promises more than there may be is refused by its header.
        for kind in [b'L', b'K', b'x', b'g', b'1', b'5'] {
            let huge = (INFO, kind, 64 * 1024 * 1024 * 1024, JSON.as_bytes());
            let refused = describe(&packed(&[huge, json])).unwrap_err();
            assert_eq!(refused.summary(), "it does not begin with a component.json");
        }
        let huge = (INFO, b'0', 7 * 1024 * 1024 * 1024, JSON.as_bytes());
        let refused = describe(&packed(&[huge])).unwrap_err();
        assert!(refused.summary().ends_with("7516192768 bytes, at most 65536"), "{refused:?}");
    }
}
