//! `borgios governor restore`: identity and share come back, and what was open before is burnt.
//!
//! A restored folder has no seeds: whatever this governor published nonces for can no longer be
//! voted in with them, or could be voted in twice, here and on the machine the backup came from. So
//! a `burn` says that all earlier pools are void, and new ones are made. In a slot in which a ballot
//! of this name is known, no other is cast.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use age::secrecy::SecretString;
use bip39::{Language, Mnemonic};
use borgios_policy::{KeyShare, Lane, Name, SecretBytes, VerifiedStatement};
use borgios_types::{Envelope, Seq};
use clap::Args;
use serde_json::json;
use zeroize::{Zeroize as _, Zeroizing};

use crate::archive::Archive;
use crate::clones;
use crate::commands::governor_backup::{FORMAT, Kept};
use crate::context::{Context, Membership};
use crate::durable;
use crate::failure::{Failure, OrFail as _};
use crate::hearing::held_back_s;
use crate::identity::Identity;
use crate::passphrase::Source;
use crate::session::Session;
use crate::transport::folder::Folder;
use crate::transport::{KINDS, Transport as _};
use crate::vault;

/// Largest backup file, in bytes.
const BACKUP_MAX: usize = 512 * 1024;

/// Lay identity and share back from a backup
#[derive(Debug, Args)]
pub(crate) struct Restore {
    /// The backup file
    #[arg(value_name = "FILE", required_unless_present = "words", conflicts_with = "words")]
    file: Option<PathBuf>,
    /// Read the 24 words of the share from standard input; the identity is here already
    #[arg(long)]
    words: bool,
    /// Read the backup's own passphrase from this file descriptor instead of asking
    #[arg(long, value_name = "N", conflicts_with = "words")]
    backup_passphrase_fd: Option<u32>,
}

impl Restore {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let identity = match &self.file {
            Some(file) => self.read_file(context, file)?,
            None => from_words(context)?,
        };
        let mut session = Session::anew(context, identity).map_err(|failure| {
            if failure.advice().is_some() {
                return failure;
            }
            failure.hint(
                "run this again with `--exchange DIR` or another `--node HOST:PORT`. A node that does not \
                 accept the key may know of a newer one in its place, as another governor's `borgios log \
                 policy` would show",
            )
        })?;
        // Without the board in force nothing can be burnt, and nobody would hear of it later.
        session.desk.archive().board().map_err(|failure| {
            failure
                .within("what the backup held is laid, and its earlier nonces are not void yet")
                .hint(
                    "run the same command again with `--exchange DIR` or `--node HOST:PORT`, where the \
                     network's policies are",
                )
        })?;
        let folder_only = !session.desk.is_offline() && !context.talks_to_nodes()?;
        // What lies in the folder of a founding is all there is; later on servers carry the votes.
        let unheard = folder_only && {
            let chain = session.desk.archive().chain();
            let decided = Lane::ALL
                .iter()
                .any(|lane| chain.head_seq(*lane) > Seq(u64::from(*lane == Lane::Policy)));
            decided || session.desk.servers()?.all().next().is_some()
        };
        let burnt = burn(&mut session)?;
        let settled = session.settle()?;
        let (name, board) = (session.identity().name(), session.desk.archive().board()?);
        let (epoch, offline) = (board.epoch(), session.desk.is_offline());
        let usable = session.share().is_ok();
        let answer = json!({
            "governor": name, "epoch": epoch, "generation": burnt, "slots": settled.slots,
            "settled": settled, "usable": usable, "sent_to": session.desk.places(),
            "unheard": unheard,
        });
        let mut text = format!("{name} is back, generation {burnt}");
        for line in settled.lines() {
            text.push('\n');
            text.push_str(&line);
        }
        if offline {
            text.push_str(
                "\nnot sent anywhere yet: `borgios sync` with a node or folder sends the burn and \
                 makes new nonces",
            );
        }
        context.printer.answer(&answer, &text)?;
        if unheard {
            context.printer.warn(
                "no server was asked, and none has heard that the earlier nonces are void: if servers carry \
                 the votes by now, run the same command again with `--node HOST:7117` before you vote here",
            );
        }
        if !usable {
            context.printer.warn(&match session.on_board() {
                Ok(_) => format!(
                    "the share in the backup is not of key epoch {epoch}, which is in force; `borgios \
                     governor repair` asks the others for yours"
                ),
                Err(failure) => format!("{}: nothing can be voted on here", failure.summary()),
            });
        }
        Ok(())
    }

    /// Lays identity, share and membership, in the order of a founding: `board.json` last.
    fn read_file(&self, context: &Context, file: &Path) -> Result<Identity, Failure> {
        let _lock = context.lock()?;
        let path = context.home.governor("identity.age");
        let cipher = durable::read(file, BACKUP_MAX)?
            .ok_or_else(|| Failure::new(format!("{} does not exist", file.display())))?;
        let source = self.backup_passphrase_fd.map_or(context.passphrase, Source::Descriptor);
        let plain = vault::unlock(source.of_file(file)?, &cipher, file).map_err(|failure| {
            failure.hint(
                "try again: the backup has a passphrase of its own, not that of the identity in it. There \
                 is no way around it; if you are sure of it, the file is damaged: take another copy",
            )
        })?;
        let what = || format!("{} is no backup of this version", file.display());
        let kept: Kept = serde_json::from_slice(&plain).or_fail(what)?;
        if kept.format != FORMAT {
            return Err(Failure::new(what()).because(format!("it says {:?}", kept.format)));
        }
        let mut laid = false;
        match durable::read(&path, BACKUP_MAX)? {
            // A restore that was cut off goes on.
            Some(there) if there == kept.identity.0 => {}
            Some(_) => {
                return Err(Failure::new(format!("{} exists and is kept", path.display()))
                    .hint("restore into an empty folder, named with `--home DIR`"));
            }
            None => {
                durable::write(&path, &kept.identity.0)?;
                laid = true;
            }
        }
        let identity = Identity::open(&context.home, context.passphrase.behind(source))?;
        if let Err(failure) = refuse_replaced(context, &kept.membership, &identity, file) {
            // A newer backup has room here then.
            if laid {
                durable::erase(&path)?;
            }
            return Err(failure);
        }
        let share = KeyShare::from_secret(&kept.board, identity.name(), &kept.share)
            .or_fail(|| "the share in the backup is not this governor's")?;
        let card = identity.card().to_json();
        durable::write_public(&context.home.governor("card.json"), card.as_bytes())?;
        // A restore that is run once more must not put an old share in the place of a newer one.
        let there = context.home.governor("share.age");
        if !there.exists() {
            durable::write(&there, &identity.seal(share.to_secret().expose())?)?;
        }
        durable::write(&context.home.restoring(), b"")?;
        let text = serde_json::to_vec_pretty(&kept.membership).or_fail(|| "could not encode")?;
        durable::write(&context.home.governor("board.json"), &text)?;
        Ok(identity)
    }
}

/// Refuses an identity in whose place the board in force has another. That is asked of what lies here and
/// in the folder of this run: a node would say no more than that it does not let it in.
fn refuse_replaced(
    context: &Context,
    membership: &Membership,
    identity: &Identity,
    file: &Path,
) -> Result<(), Failure> {
    let (name, own) = (identity.name(), identity.ssh().public());
    let mut archive = Archive::open(&context.home, membership.network)?;
    if let Some(folder) = &context.exchange {
        let fetched = Folder::at(folder)?.fetch(&KINDS, &|_| false)?;
        archive.admit(context.now(), fetched.envelopes)?;
    }
    // Where no board is known here yet, the burn says so.
    let Ok(board) = archive.board() else { return Ok(()) };
    let Some(seat) = board.by_name(name).filter(|seat| seat.key != own) else { return Ok(()) };
    let chain = archive.chain();
    let policies = chain.after(Lane::Policy, Seq(0)).filter_map(VerifiedStatement::policy);
    let had =
        policies.filter(|at| at.board.by_name(name).is_some_and(|seat| seat.key == own)).last();
    if had.is_some_and(|before| held_back_s(before) > 0) {
        // Servers may have the board before in force yet, which can take the change back.
        context.printer.warn(&format!(
            "for {name} the board in force here has another key, {}: where servers still hold that change \
             back, this identity can veto it; else it speaks for nobody",
            seat.key.fingerprint()
        ));
        return Ok(());
    }
    Err(Failure::new(format!("the identity in {} was replaced since", file.display()))
        .because(format!("it is {}", own.fingerprint()))
        .because(format!("for {name} the board in force has {}", seat.key.fingerprint()))
        .hint(format!(
            "use the folder that holds the newer key, or a backup made of it, restored into an empty \
             folder named with `--home DIR`. If both are lost: `borgios governor init --name {name}` in an \
             empty folder, and another governor proposes its card with `borgios governor repair --card`"
        )))
}

/// Lays the share alone; identity and network are here.
fn from_words(context: &Context) -> Result<Identity, Failure> {
    let session = Session::open(context)?;
    let mut text = Zeroizing::new(String::new());
    context.printer.ask("The 24 words, then Ctrl-D: ");
    std::io::stdin()
        .lock()
        .take(4_096)
        .read_to_string(&mut text)
        .or_fail(|| "could not read the words")?;
    let scalar = scalar_of(&text)?;
    let (board, name) = session.on_board()?;
    let share = KeyShare::from_scalar(board, name, &scalar)
        .or_fail(|| format!("these words are not the share of {name} on the board in force"))
        .map_err(|failure| {
            let epoch = board.epoch();
            failure.hint(format!(
                "check that they are yours, of key epoch {epoch}: older words open nothing any more. \
                 Without them, `borgios governor repair` asks the others for your share"
            ))
        })?;
    let sealed = session.identity().seal(share.to_secret().expose())?;
    // First, so that what is cut off before the burn is not taken for done.
    durable::write(&context.home.restoring(), b"")?;
    durable::write(&context.home.governor("share.age"), &sealed)?;
    Ok(session.into_identity())
}

/// Takes back what is known of this governor's ballots, and publishes that all earlier pools are
/// void; the generation that counts. What this folder will make is written down before it is said.
pub(crate) fn burn(session: &mut Session<'_>) -> Result<u64, Failure> {
    let (board, name): (_, Name) = match session.on_board() {
        Ok((board, name)) => (board.clone(), name.clone()),
        // Who is not on the board in force has nothing to burn.
        Err(_) => return Ok(0),
    };
    let archive = session.desk.archive();
    // What another key signed, somebody else of this name said.
    let keys = clones::keys(session, &name);
    let mine = |ballot: &Envelope| keys.iter().any(|key| ballot.signed_by(key));
    let ballots = archive.ballots().values().filter(|held| held.by == name);
    for held in ballots.filter(|held| mine(&held.envelope)) {
        let made_under = archive.boards().find(|board| board.group() == held.value.group);
        if let Some(board) = made_under {
            session.slots().adopt(held.value.slot(board), &held.envelope)?;
        }
    }
    session.adopt_ahead()?;
    session.begin_anew(&board)?;
    let generation = session.finish_burn()?;
    session.restored()?;
    Ok(generation)
}

/// The 32 bytes of a share as 24 words, whose last holds a checksum (BIP 39, English list).
pub(crate) fn words_of(scalar: &SecretBytes) -> Result<SecretString, Failure> {
    let mut words = Mnemonic::from_entropy_in(Language::English, scalar.expose())
        .or_fail(|| "a share is not 32 bytes")?;
    let text = SecretString::from(words.to_string());
    words.zeroize();
    Ok(text)
}

/// What [`words_of`] made words of.
pub(crate) fn scalar_of(text: &str) -> Result<SecretBytes, Failure> {
    let clean: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let clean = Zeroizing::new(clean.to_lowercase());
    let mut words = Mnemonic::parse_in_normalized(Language::English, &clean)
        .or_fail(|| "these are not the words of a backup")
        .map_err(|failure| {
            failure.hint(
                "check the words against the paper and try again: 24 of the list, in order; the last is a \
                 checksum",
            )
        })?;
    let scalar = SecretBytes::new(words.to_entropy());
    words.zeroize();
    if scalar.expose().len() != 32 {
        return Err(Failure::new(format!(
            "{} bytes of words, a share has 32",
            scalar.expose().len()
        ))
        .hint("check the words against the paper and try again: a share is 24 words"));
    }
    Ok(scalar)
}

#[cfg(test)]
mod tests {
    use age::secrecy::ExposeSecret as _;

    use super::*;

    #[test]
    fn words_come_back_and_a_slip_of_the_pen_does_not() {
        let scalar = SecretBytes::new((0..32).collect());
        let words = words_of(&scalar).unwrap();
        let words = words.expose_secret();
        assert_eq!(words.split(' ').count(), 24);
        assert_eq!(scalar_of(words).unwrap().expose(), scalar.expose());
        let shouted = words.to_uppercase().replace(' ', "\n  ");
        assert_eq!(scalar_of(&shouted).unwrap().expose(), scalar.expose());
        let mut swapped: Vec<&str> = words.split(' ').collect();
        swapped.swap(0, 1);
        assert!(scalar_of(&swapped.join(" ")).is_err());
        assert!(scalar_of(&words[..words.len() - 1]).is_err());
        let twelve = Mnemonic::from_entropy_in(Language::English, &[7; 16]).unwrap().to_string();
        assert!(scalar_of(&twelve).is_err());
    }
}
