//! An exchange folder: a stick, a synced directory, a git checkout; nobody needs to be online.

use std::path::{Path, PathBuf};

use borgios_types::Envelope;
use borgios_types::limits::ENVELOPE_MAX;

use super::{FETCH_MAX, Fetched, KINDS, Transport};
use crate::durable;
use crate::failure::Failure;

/// Most files looked at: a folder that someone filled up must not stall a vote for hours.
const FILES_MAX: usize = 50_000;

/// `DIR/objects/<hex>.json`, one envelope each.
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
}

impl Transport for Folder {
    fn name(&self) -> String {
        self.root.display().to_string()
    }

    fn fetch(&mut self) -> Result<Fetched, Failure> {
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
                Ok(Some(envelope)) if KINDS.contains(&envelope.kind.as_str()) => {
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
}

fn read(path: &Path) -> Result<Option<Envelope>, String> {
    let bytes = durable::read(path, ENVELOPE_MAX).map_err(|failure| failure.summary())?;
    let Some(bytes) = bytes else { return Ok(None) };
    Envelope::parse(&bytes)
        .map(Some)
        .map_err(|error| Failure::new("no object").cause(error).summary())
}
