//! `borgios release build`: a deterministic component from a folder.

use std::fs::File;
use std::io::BufWriter;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use crate::blobs::size_text;
use crate::context::Context;
use crate::failure::{Failure, OrFail as _};

/// Build a component from a folder
#[derive(Debug, Args)]
pub(crate) struct Build {
    /// Holds component.json, and files/, units/, sysusers.d/, tmpfiles.d/ as needed
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// The component to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

impl Build {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let what = || format!("could not write {}", self.out.display());
        let parent = self.out.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or(std::path::Path::new("."));
        // Written beside its place and renamed: a half-built component never has the name.
        let unfinished = tempfile::NamedTempFile::new_in(parent).or_fail(what)?;
        let out =
            BufWriter::new(File::options().write(true).open(unfinished.path()).or_fail(what)?);
        let built = borgios_releases::build(&self.folder, out)
            .or_fail(|| format!("{} is no component", self.folder.display()))?;
        unfinished.persist(&self.out).map_err(|error| error.error).or_fail(what)?;
        let readable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        std::fs::set_permissions(&self.out, readable).or_fail(what)?;
        let info = &built.info;
        let answer = json!({
            "name": info.name, "version": info.version, "arch": info.arch,
            "digest": built.digest, "size": built.size, "file": self.out,
        });
        let text = format!(
            "{} {} ({})\n  {}\n  {}",
            info.name,
            info.version,
            info.arch,
            built.digest,
            size_text(built.size)
        );
        context.printer.answer(&answer, &text)
    }
}
