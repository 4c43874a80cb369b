//! Whether this server's root was handed over, and to which node: the receipt that the take-over
//! left, read back.
//!
//! The receipt pins this server's node key. From then on the keeper knows for which node it is
//! asked to open a door, whatever borgiosd says it is.

use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use borgios_policy::Handover;
use borgios_types::limits::ENVELOPE_MAX;
use borgios_types::{Digest, Envelope, PublicKey};
use tracing::warn;

use super::paths::Paths;
use crate::disk::{self, Stamp};

/// Where the receipt lies.
#[must_use]
pub fn path(paths: &Paths) -> PathBuf {
    paths.keeper.join("handover.json")
}

/// The receipt, if there is one that this keeper signed for this network.
#[must_use]
pub fn read(paths: &Paths, network: Digest, keeper: &PublicKey) -> Option<(Handover, Envelope)> {
    let path = path(paths);
    let found = disk::read_bounded(&path, ENVELOPE_MAX).and_then(|bytes| {
        let envelope = Envelope::parse(&bytes).map_err(io::Error::other)?;
        let handover = Handover::verify(network, &envelope).map_err(io::Error::other)?;
        if handover.keeper != *keeper {
            return Err(io::Error::other("another keeper signed it"));
        }
        Ok((handover, envelope))
    });
    match found {
        Ok(found) => Some(found),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            warn!(
                BORGIOS_EVENT = "damaged",
                %error,
                "{} is no receipt of this server; no door opens here and nothing rotates",
                path.display()
            );
            None
        }
    }
}

/// The receipt as it was last read. Threads ask every second; its signature is checked again only when
/// the file is another one.
#[derive(Debug, Default)]
pub(super) struct Receipt {
    seen: Mutex<Option<(Stamp, Handover, Envelope)>>,
}

impl Receipt {
    /// As [`read`], for the same `network` and `keeper` each time.
    pub(super) fn read(
        &self,
        paths: &Paths,
        network: Digest,
        keeper: &PublicKey,
    ) -> Option<(Handover, Envelope)> {
        // Before reading: a file that is replaced meanwhile is read once more than needed.
        let stamp = std::fs::metadata(path(paths)).ok().map(|meta| Stamp::of(&meta));
        // A whole value, whatever a thread did.
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some((known, handover, envelope)), Some(stamp)) = (&*seen, stamp)
            && *known == stamp
        {
            return Some((handover.clone(), envelope.clone()));
        }
        let found = read(paths, network, keeper);
        *seen = stamp
            .zip(found.clone())
            .map(|(stamp, (handover, envelope))| (stamp, handover, envelope));
        found
    }
}

#[cfg(test)]
mod tests {
    use borgios_policy::Object as _;
    use borgios_types::{SecretKey, UnixSeconds};

    use super::*;

    #[test]
    fn only_this_keepers_receipt_for_this_network_counts() {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::below(folder.path());
        std::fs::create_dir_all(&paths.keeper).unwrap();
        let (keeper, node) = (SecretKey::from_seed([1; 32]), SecretKey::from_seed([2; 32]));
        let network = Digest::of(b"network");
        assert!(read(&paths, network, &keeper.public()).is_none());
        let handover = Handover {
            network,
            node: node.public(),
            keeper: keeper.public(),
            name: "web-1".parse().unwrap(),
            host_keys: Vec::new(),
            taken: [].into(),
            owner: None,
            at: UnixSeconds(5),
        };
        let write = |envelope: &Envelope| {
            disk::write_durable(&path(&paths), envelope.to_json().as_bytes(), 0o600).unwrap();
        };
        let receipt = Receipt::default();
        let again = || receipt.read(&paths, network, &keeper.public()).map(|(found, _)| found);
        assert!(again().is_none());
        write(&handover.to_envelope().sign(&keeper));
        let (found, _) = read(&paths, network, &keeper.public()).unwrap();
        assert_eq!(found, handover);
        assert_eq!(again().as_ref(), Some(&handover));
        assert_eq!(again().as_ref(), Some(&handover));
        assert!(read(&paths, Digest::of(b"other"), &keeper.public()).is_none());
        assert!(read(&paths, network, &node.public()).is_none());
        write(&handover.to_envelope().sign(&node));
        assert!(read(&paths, network, &keeper.public()).is_none());
        assert!(again().is_none(), "another file is read again");
        write(&handover.to_envelope().sign(&keeper));
        assert_eq!(again(), Some(handover));
        std::fs::write(path(&paths), "{").unwrap();
        assert!(read(&paths, network, &keeper.public()).is_none() && again().is_none());
        std::fs::remove_file(path(&paths)).unwrap();
        assert!(again().is_none());
    }
}
