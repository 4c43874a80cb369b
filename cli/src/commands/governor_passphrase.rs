//! `borgios governor passphrase`: another passphrase for the identity in this folder.

use clap::Args;
use serde_json::json;

use crate::context::Context;
use crate::failure::Failure;
use crate::identity::Identity;
use crate::passphrase::Source;

/// Change the passphrase of this folder
#[derive(Debug, Args)]
pub(crate) struct Passphrase {
    /// Read the new passphrase from this file descriptor instead of asking
    #[arg(long, value_name = "N")]
    new_passphrase_fd: Option<u32>,
}

impl Passphrase {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let _lock = context.lock()?;
        // A restore goes on where identity.age is the very one of its backup.
        if context.home.restoring().exists() {
            return Err(Failure::new(
                "this folder was laid from a backup, or repaired, and that is not done yet",
            )
            .hint(
                "run the same `borgios governor restore` or `repair` again, with `--exchange DIR` or `--node \
                 HOST:PORT`; then change the passphrase",
            ));
        }
        let old = context.passphrase;
        let new = self.new_passphrase_fd.map_or(old, Source::Descriptor);
        let identity = Identity::relock(&context.home, old, new, &context.printer)?;
        let (name, file) = (identity.name(), context.home.governor("identity.age"));
        let answer = json!({"governor": name, "file": file, "changed": true});
        context.printer.answer(&answer, &format!("{name} has a new passphrase"))?;
        context.printer.say(
            "\nBackups and copies of the folder made before open with the old one: make a new backup, and \
             destroy the old.\nIf somebody may have both a copy and the old passphrase, a new passphrase \
             does not help: you need a new identity.",
        );
        Ok(())
    }
}
