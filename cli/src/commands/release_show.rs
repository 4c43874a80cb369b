//! `borgios release show`: what a component file is.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use crate::blobs;
use crate::context::Context;
use crate::failure::Failure;

/// Say what a component file is
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// The component
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

impl Show {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let (info, blob) = blobs::component(&self.file)?;
        let answer = json!({"digest": blob.digest, "size": blob.size, "info": info});
        let mut text = format!(
            "{} {} ({})\n  {}\n  {}",
            info.name,
            info.version,
            info.arch,
            blob.digest,
            blobs::size_text(blob.size)
        );
        if !info.restart.is_empty() {
            text.push_str(&format!("\n  restarts {}", info.restart.join(", ")));
        }
        match &info.health {
            Some(health) => text.push_str(&format!(
                "\n  well when `{}` succeeds within {} s and for {} s",
                health.command.join(" "),
                health.deadline_s,
                health.stable_s
            )),
            None => text.push_str("\n  has no health command"),
        }
        context.printer.answer(&answer, &text)
    }
}
