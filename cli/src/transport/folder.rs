//! An exchange folder: a stick, a synced directory, a git checkout; nobody needs to be online.

use std::path::{Path, PathBuf};

use borgios_policy::{Blob, Name};
use borgios_types::limits::ENVELOPE_MAX;
use borgios_types::{Digest, Envelope, NodeId};

use super::{FETCH_MAX, Fetched, Transport};
use crate::blobs;
use crate::durable;
use crate::failure::Failure;

/// Most files looked at: a folder that someone filled up must not stall a vote for hours.
const FILES_MAX: usize = 50_000;

/// `DIR/objects/<hex>.json`, one envelope each, and `DIR/blobs/<hex>`.
#[derive(Debug)]
pub(crate) struct Folder {
    root: PathBuf,
}

impl Folder {
    /// The folder at `root`, which must exist: a mistyped path shall not become a new exchange.
    pub(crate) fn at(root: &Path) -> Result<Self, Failure> {
        if !root.is_dir() {
            return Err(Failure::new(format!("the exchange {} is no folder", root.display()))
                .hint("create it, or give the folder that the other governors use"));
        }
        Ok(Self { root: root.to_owned() })
    }

    fn objects(&self) -> PathBuf {
        self.root.join("objects")
    }

    fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs").join(digest.hex())
    }
}

impl Transport for Folder {
    fn name(&self) -> String {
        self.root.display().to_string()
    }

    fn fetch(&mut self, kinds: &[&str], _: &dyn Fn(&Digest) -> bool) -> Result<Fetched, Failure> {
        let mut fetched = Fetched::default();
        let paths = durable::list(&self.objects())?;
        if paths.len() > FILES_MAX {
            return Err(Failure::new(format!(
                "{} holds {} files, at most {FILES_MAX} are read",
                self.objects().display(),
                paths.len()
            )));
        }
        for path in paths.into_iter().filter(|path| path.extension().is_some_and(|e| e == "json")) {
            match read(&path) {
                Ok(Some(envelope)) if kinds.contains(&envelope.kind.as_str()) => {
                    fetched.take(&self.name(), envelope, FETCH_MAX)?;
                }
                Ok(_) => {}
                Err(why) => fetched.skip(&self.name(), format!("{}: {why}", path.display()))?,
            }
        }
        Ok(fetched)
    }

    fn put(&mut self, envelope: &Envelope) -> Result<(), Failure> {
        let folder = self.objects();
        std::fs::create_dir_all(&folder).map_err(|error| {
            Failure::new(format!("could not create {}", folder.display())).cause(error)
        })?;
        let path = folder.join(format!("{}.json", envelope.id().hex()));
        durable::write_public(&path, envelope.to_json().as_bytes())
    }

    fn wants_servers(&self) -> bool {
        true
    }

    fn handback(&mut self, _: &Name, _: Digest) -> Result<Option<(NodeId, Envelope)>, Failure> {
        // Whoever shares the folder sees all that was laid into it; nobody signs for it.
        Ok(None)
    }

    fn blob(&mut self, blob: &Blob) -> Result<Option<Vec<u8>>, Failure> {
        let path = self.blob_path(&blob.digest);
        // A component may be far larger than anything else that is read whole.
        match path.metadata() {
            Ok(metadata) if metadata.is_file() && metadata.len() == blob.size => {}
            _ => return Ok(None),
        }
        blobs::read(&path).map(Some)
    }

    fn put_blob(&mut self, digest: Digest, bytes: &[u8]) -> Result<(), Failure> {
        let path = self.blob_path(&digest);
        if durable::read(&path, bytes.len()).is_ok_and(|there| there.as_deref() == Some(bytes)) {
            return Ok(());
        }
        let folder = self.root.join("blobs");
        std::fs::create_dir_all(&folder).map_err(|error| {
            Failure::new(format!("could not create {}", folder.display())).cause(error)
        })?;
        durable::write_public(&path, bytes)
    }
}

fn read(path: &Path) -> Result<Option<Envelope>, String> {
    let bytes = durable::read(path, ENVELOPE_MAX).map_err(|failure| failure.summary())?;
    let Some(bytes) = bytes else { return Ok(None) };
    Envelope::parse(&bytes)
        .map(Some)
        .map_err(|error| Failure::new("no object").cause(error).summary())
}
