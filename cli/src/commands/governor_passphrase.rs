//! `borgios governor passphrase`: another passphrase for the identity in this folder.

use borgios_policy::{Card, Object as _};
use clap::Args;
use serde_json::json;

use crate::context::Context;
use crate::failure::Failure;
use crate::identity::{Identity, read_card};

/// Change the passphrase of this folder
#[derive(Debug, Args)]
pub(crate) struct Passphrase {
    /// Read the new passphrase from this file descriptor instead of asking [default: with
    /// --passphrase-fd the second line there]
    #[arg(long, value_name = "N")]
    new_passphrase_fd: Option<u32>,
}

impl Passphrase {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let _lock = context.lock()?;
        // A restore goes on where identity.age is the very one of its backup.
        if context.home.restoring().exists() && !has_no_seat(context) {
            return Err(Failure::new(
                "this folder was laid from a backup, or repaired, and that is not done yet",
            )
            .hint(
                "run the same `borgios governor restore` or `repair` again, with `--exchange DIR` or `--node \
                 HOST:PORT`; then change the passphrase",
            ));
        }
        let old = context.passphrase;
        let new = old.then(self.new_passphrase_fd);
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

/// Whether whoever this folder is of has no seat on the board that is known here. Such a one has nothing to
/// burn, so no restore takes its mark away. It stays, and should there be a seat after all, `repair` goes on
/// from it, under any passphrase.
fn has_no_seat(context: &Context) -> bool {
    let card = read_card(&context.home).ok().and_then(|card| Card::parse(&card).ok());
    let (Some(card), Ok(archive)) = (card, context.archive()) else { return false };
    let Ok(board) = archive.board() else { return false };
    board.by_name(&card.name).is_none_or(|seat| seat.key != card.key)
}
