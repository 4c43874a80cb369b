//! `borgios governor backup`: what must not be lost, in one file or in 24 words.
//!
//! Seeds are never backed up: a seed that lies in two places can be used twice.

use std::path::PathBuf;

use age::secrecy::ExposeSecret as _;
use borgios_policy::SecretBytes;
use borgios_types::Digest;
use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::commands::governor_restore::words_of;
use crate::context::{Context, Membership};
use crate::durable;
use crate::failure::{Failure, OrFail as _};
use crate::session::Session;
use crate::vault;

/// Write identity and share into a file, or the share alone as words
#[derive(Debug, Args)]
pub(crate) struct Backup {
    /// The file to write, which must not exist
    #[arg(value_name = "FILE", required_unless_present = "words", conflicts_with = "words")]
    file: Option<PathBuf>,
    /// Print the share alone as 24 words, for paper; without your identity nobody can vote with it
    #[arg(long)]
    words: bool,
    /// Read the backup's own passphrase from this file descriptor instead of asking
    #[arg(long, value_name = "N", conflicts_with = "words")]
    backup_passphrase_fd: Option<u32>,
}

/// The plaintext of a backup file.
#[derive(Serialize, Deserialize)]
pub(crate) struct Kept {
    /// `borgios-backup/1`.
    pub(crate) format: String,
    /// The network.
    pub(crate) membership: Membership,
    /// The board in force when it was made: the restored share must fit it or be of no use.
    pub(crate) board: borgios_policy::Board,
    /// The whole of `identity.age`, as it lies under its own passphrase.
    pub(crate) identity: borgios_policy::Bytes,
    /// The FROST key package.
    pub(crate) share: SecretBytes,
}

/// What a backup file says it is.
pub(crate) const FORMAT: &str = "borgios-backup/1";

impl Backup {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let session = Session::open(context)?;
        let (board, name) = session.on_board()?;
        let share = session.share()?;
        let Some(file) = self.file else {
            let words = words_of(&share.to_scalar())?;
            let answer = json!({
                "governor": name, "epoch": board.epoch(), "words": words.expose_secret(),
            });
            let text = format!(
                "share of {name}, key epoch {}, network {}:\n\n{}\n",
                board.epoch(),
                session.network().short(),
                words.expose_secret()
            );
            context.printer.answer(&answer, &text)?;
            context.printer.say(
                "Write them down by hand. They are the share alone; who has them and your identity \
                 votes as you.\nThey are worth nothing after the next change of the board.",
            );
            return Ok(());
        };
        if file.exists() {
            return Err(Failure::new(format!("{} exists and is kept", file.display()))
                .hint("name another file"));
        }
        let path = context.home.governor("identity.age");
        let identity = durable::read(&path, 16 * 1024)?
            .ok_or_else(|| Failure::new(format!("{} does not exist", path.display())))?;
        let kept = Kept {
            format: FORMAT.to_owned(),
            membership: session.desk.membership().clone(),
            board: board.clone(),
            identity: borgios_policy::Bytes(identity),
            share: share.to_secret(),
        };
        let plain = serde_json::to_vec(&kept).or_fail(|| "could not encode the backup")?;
        let plain = zeroize::Zeroizing::new(plain);
        context.printer.say("The backup gets a passphrase of its own.");
        let source = context.passphrase.then(self.backup_passphrase_fd);
        let cipher = vault::lock(source.new_one(&context.printer)?, &plain)?;
        durable::write(&file, &cipher)?;
        let (epoch, id) = (board.epoch(), Digest::of(&cipher));
        let answer = json!({
            "file": file, "governor": name, "epoch": epoch, "digest": id,
        });
        let text = format!(
            "{}\n  governor    {name}\n  key epoch   {epoch}\n  sha256      {}",
            file.display(),
            id.hex()
        );
        context.printer.answer(&answer, &text)?;
        context.printer.say(
            "It opens with its own passphrase, and the identity in it with yours. After a change of \
             the board, make another.",
        );
        Ok(())
    }
}
