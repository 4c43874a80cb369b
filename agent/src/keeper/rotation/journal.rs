//! The rotation's journal on disk: whole, or the one before.

use std::fs;
use std::io;

use borgios_credentials::Rotation;
use borgios_types::UnixSeconds;
use serde::{Deserialize, Serialize};
use tracing::error;

use crate::disk;
use crate::keeper::paths::Paths;

/// Longest journal, in bytes; one has some 300.
const JOURNAL_MAX: usize = 4096;

/// What the file holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    /// Where the change stands.
    pub(super) rotation: Rotation,
    /// When root's field was last changed here.
    pub(super) changed: UnixSeconds,
}

/// Reads the journal; none is the idle one. A damaged one is set aside: `/etc/shadow` says what
/// root's field is, and the next look puts all in order.
pub(super) fn read(paths: &Paths) -> io::Result<Record> {
    let path = paths.rotation();
    let bytes = match disk::read_bounded(&path, JOURNAL_MAX) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Record::default()),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Vec::new(),
        other => other?,
    };
    match serde_json::from_slice(&bytes) {
        Ok(record) => Ok(record),
        Err(damage) => {
            error!(
                BORGIOS_EVENT = "journal_damaged",
                "{} is damaged ({damage}) and is set aside",
                path.display()
            );
            fs::rename(&path, path.with_extension("damaged"))?;
            disk::sync_folder(&paths.keeper)?;
            Ok(Record::default())
        }
    }
}

/// Writes the journal; when this returns, the state survives a crash.
pub(super) fn write(paths: &Paths, record: &Record) -> io::Result<()> {
    let text = serde_json::to_vec(record).expect("a journal has string keys only");
    disk::write_durable(&paths.rotation(), &text, 0o600)
}

#[cfg(test)]
mod tests {
    use borgios_credentials::Mark;
    use borgios_types::Epoch;

    use super::*;

    #[test]
    fn a_journal_reads_back_and_a_damaged_one_is_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::below(folder.path());
        fs::create_dir_all(&paths.keeper).unwrap();
        assert_eq!(read(&paths).unwrap(), Record::default());
        let verifier = format!("$y$j9T${}${}", "a".repeat(22), "b".repeat(43)).parse().unwrap();
        let rotation = Rotation::Prepared { next: Mark { epoch: Epoch(7), verifier } };
        let record = Record { rotation, changed: UnixSeconds(9) };
        write(&paths, &record).unwrap();
        assert_eq!(read(&paths).unwrap(), record);
        for damage in
            ["", "{", "{\"rotation\":{\"state\":\"no\"},\"changed\":1}", &"x".repeat(9000)]
        {
            write(&paths, &record).unwrap();
            fs::write(paths.rotation(), damage).unwrap();
            assert_eq!(read(&paths).unwrap(), Record::default());
            assert!(!paths.rotation().exists());
        }
    }
}
