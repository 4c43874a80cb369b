//! `borgios bundle`: everything a fresh server needs besides its invitation, in one file.

use std::collections::BTreeMap;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use borgios_policy::Lane;
use borgios_releases::Manifest;
use borgios_releases::bundle::{Parts, write};
use borgios_types::{Digest, Envelope, Seq};
use clap::Args;
use serde_json::json;

use crate::archive::Archive;
use crate::blobs;
use crate::context::Context;
use crate::desk::Desk;
use crate::durable;
use crate::failure::{Failure, OrFail as _};

/// Pack everything a fresh server needs into one file
#[derive(Debug, Args)]
pub(crate) struct Bundle {
    /// Which release: its number, or latest
    #[arg(long, value_name = "N", default_value = "latest")]
    release: String,
    /// A folder with the components, under any names
    #[arg(long, value_name = "DIR")]
    blobs: PathBuf,
    /// The keeper executable that the release names as its installer
    #[arg(long, value_name = "FILE")]
    installer: PathBuf,
    /// The bundle to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

impl Bundle {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        // As `invite` does: an invitation that knows a newer release makes an older bundle useless.
        let archive = Desk::look(context)?.into_archive();
        let seq = self.seq(&archive)?;
        let release = archive.chain().get(Lane::Release, seq).ok_or_else(|| {
            Failure::new(format!("release/{seq} is not signed, or not known here"))
                .hint("`borgios log release` lists what is known; `borgios sync` fetches")
        })?;
        let manifest = Manifest::of(release).or_fail(|| "the release has no good manifest")?;
        let installer = blobs::measure(&self.installer)?;
        if installer.digest != manifest.installer.digest {
            return Err(Failure::new(format!(
                "{} is not the installer of release/{seq}",
                self.installer.display()
            ))
            .because(format!("it is {}", installer.digest))
            .because(format!("the release names {}", manifest.installer.digest)));
        }
        let found = find_blobs(&self.blobs, &manifest)?;
        let chain = chain_to(&archive, seq);
        let parts = Parts {
            release: release.envelope(),
            chain: &chain,
            installer: &self.installer,
            blobs: &found,
        };
        let what = || format!("could not write {}", self.out.display());
        let parent = self.out.parent().filter(|parent| !parent.as_os_str().is_empty());
        let unfinished = tempfile::NamedTempFile::new_in(parent.unwrap_or(Path::new(".")));
        let unfinished = unfinished.or_fail(what)?;
        write(BufWriter::new(unfinished.as_file()), &parts).or_fail(what)?;
        unfinished.as_file().sync_all().or_fail(what)?;
        unfinished.persist(&self.out).map_err(|error| error.error).or_fail(what)?;
        let readable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        std::fs::set_permissions(&self.out, readable).or_fail(what)?;

        let size = std::fs::metadata(&self.out).or_fail(what)?.len();
        let answer = json!({
            "file": self.out, "release": seq, "version": manifest.version, "size": size,
            "components": manifest.components,
        });
        let text = format!(
            "{}: release/{seq}, version {}, {} components, {}",
            self.out.display(),
            manifest.version,
            found.len(),
            blobs::size_text(size)
        );
        context.printer.answer(&answer, &text)
    }

    fn seq(&self, archive: &Archive) -> Result<Seq, Failure> {
        if self.release == "latest" {
            return match archive.chain().head_seq(Lane::Release) {
                Seq(0) => Err(Failure::new("no release is signed yet")),
                seq => Ok(seq),
            };
        }
        let number = self.release.strip_prefix("release/").unwrap_or(&self.release);
        number.parse().map(Seq).map_err(|_| {
            Failure::usage(format!("{:?} is no release: give its number, or latest", self.release))
        })
    }
}

/// Every component of the release among the files of a folder, found by content.
fn find_blobs(folder: &Path, manifest: &Manifest) -> Result<BTreeMap<Digest, PathBuf>, Failure> {
    let mut found = BTreeMap::new();
    let sizes: Vec<u64> = manifest.components.iter().map(|component| component.size).collect();
    for path in durable::list(folder)? {
        let metadata =
            path.metadata().or_fail(|| format!("could not look at {}", path.display()))?;
        // Only files of the right size are worth hashing.
        if metadata.is_file() && sizes.contains(&metadata.len()) {
            let digest = blobs::measure(&path)?.digest;
            if manifest.components.iter().any(|component| component.digest == digest) {
                found.insert(digest, path);
            }
        }
    }
    let missing = manifest.components.iter().find(|c| !found.contains_key(&c.digest));
    match missing {
        None => Ok(found),
        Some(component) => Err(Failure::new(format!(
            "{} does not hold the component {}",
            folder.display(),
            component.name
        ))
        .because(format!("no file there is {}", component.digest))
        .hint("build it from the same folder again: components are deterministic")),
    }
}

/// The statements up to `release/seq` in an order in which they verify, with their ballots.
pub(crate) fn chain_to(archive: &Archive, seq: Seq) -> Vec<Envelope> {
    let mut chain = Vec::new();
    for verified in archive.chain().history() {
        let statement = verified.statement();
        if statement.lane == Lane::Release && statement.seq > seq {
            continue;
        }
        chain.push(verified.envelope().clone());
        let approvals = archive
            .ballots()
            .values()
            .filter(|held| held.value.statement == verified.id() && held.value.approves());
        chain.extend(approvals.map(|held| held.envelope.clone()));
    }
    chain
}
