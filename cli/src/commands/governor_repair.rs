//! `borgios governor repair`: a lost share comes back with the help of t others.
//!
//! ```text
//! a lost laptop   repair --card BEN.card.json   a governor proposes the new identity; vote on it
//! who lost it     repair                        asks, and takes the share when all have helped
//! t helpers       repair --for BEN              twice each, in any order
//! ```

use std::path::{Path, PathBuf};

use age::secrecy::ExposeSecret as _;
use borgios_policy::founding::Me;
use borgios_policy::repair::{self, Status};
use borgios_policy::{Board, Card, Lane, Name, Policy};
use borgios_types::{Digest, Envelope};
use clap::Args;
use serde_json::json;

use crate::ceremony::{self, LOOK_EVERY, list};
use crate::commands::governor_restore::burn;
use crate::commands::propose::{Terms, propose};
use crate::context::{Context, Membership};
use crate::durable;
use crate::failure::{Failure, OrFail as _};
use crate::identity::read_card;
use crate::session::Session;

/// Get a lost share back with the others' help, or help
#[derive(Debug, Args)]
pub(crate) struct Repair {
    /// Help this governor, who lost the share
    #[arg(long = "for", value_name = "NAME", conflicts_with_all = ["card", "helper"])]
    whom: Option<Name>,
    /// Propose that the governor of this card goes on under this new identity
    #[arg(long, value_name = "CARD.json", conflicts_with = "helper")]
    card: Option<PathBuf>,
    /// Ask this governor for help; again for each of t [default: the first others by name]
    #[arg(long, value_name = "NAME")]
    helper: Vec<Name>,
    /// Ask once more, where one of the helpers gave a wrong value; with the share here: say that
    /// this copy of the folder is the one that counts, and make new nonces
    #[arg(long)]
    anew: bool,
    /// On a new laptop: the id of the network, as another governor reads it to you
    #[arg(long, value_name = "ID")]
    network: Option<Digest>,
    /// Go on until it is done
    #[arg(long)]
    watch: bool,
}

impl Repair {
    pub(crate) fn run(mut self, context: &Context) -> Result<(), Failure> {
        if let Some(path) = self.card.take() {
            return replace(context, &path);
        }
        let folder = ceremony::folder(context)?;
        if context.membership().is_err() {
            self.join(context)?;
        }
        let card = Card::verify(&read_card(&context.home)?).or_fail(|| "the card is damaged")?;
        let mut identity = context.identity()?;
        let mut said = String::new();
        loop {
            let mut session = Session::with(context, identity)?;
            let (done, answer, text) = self.look(&mut session, &folder, &card)?;
            // One new request is enough.
            self.anew = false;
            if done || !self.watch {
                return context.printer.answer(&answer, &text);
            }
            if text != said {
                context.printer.say(&text);
                said = text;
            }
            identity = session.into_identity();
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// A new laptop learns which network it belongs to.
    fn join(&self, context: &Context) -> Result<(), Failure> {
        let network = self.network.ok_or_else(|| {
            Failure::usage("this folder belongs to no network yet")
                .hint("name it with `--network ID`; `borgios governor found` shows the others' id")
        })?;
        let _lock = context.lock()?;
        let name = ceremony::short_name(network)?;
        let text = serde_json::to_vec_pretty(&Membership { network, name, recovery: None })
            .or_fail(|| "could not encode")?;
        durable::write(&context.home.governor("board.json"), &text)
    }

    /// One look at the folder: whether it is done, and what to say.
    fn look(
        &self,
        session: &mut Session<'_>,
        folder: &Path,
        card: &Card,
    ) -> Result<(bool, serde_json::Value, String), Failure> {
        let files = ceremony::read_files(folder)?;
        let (board, name) = session.on_board().map_err(|failure| {
            failure.hint(
                "with a new identity, another governor runs `borgios governor repair --card \
                 YOUR.card.json` first, and the board votes on it",
            )
        })?;
        let (board, name): (Board, Name) = (board.clone(), name.clone());
        let secret = session.identity().age().to_string();
        let me = Me { card, key: session.identity().ssh(), identity: secret.expose_secret() };
        if let Some(whom) = &self.whom {
            let key = session.share()?;
            let rng = &mut rand::rngs::OsRng;
            let (write, status) = repair::help(&board, &me, &key, whom, &files, rng)
                .or_fail(|| format!("the repair for {whom} cannot go on"))?;
            ceremony::write_files(folder, write)?;
            return Ok(said(&status, whom));
        }
        if session.share().is_ok() && self.anew {
            // Another copy's ballots, or its nonces, came to light: this copy counts from now on.
            let generation = burn(session)?;
            let settled = session.settle()?;
            let mut text = format!("{name} goes on with this folder, generation {generation}");
            for line in settled.lines() {
                text.push('\n');
                text.push_str(&line);
            }
            let answer = json!({"status": "whole", "governor": name, "generation": generation});
            return Ok((true, answer, text));
        }
        if session.share().is_ok() {
            let text =
                format!("{name} has the share of key epoch {}; nothing to do", board.epoch());
            return Ok((true, json!({"status": "whole", "governor": name}), text));
        }
        if repair::newest(&board, &name, &files).is_none() || self.anew {
            let others = board.governors().iter().map(|g| g.name.clone()).filter(|n| *n != name);
            let t = usize::from(board.threshold().0);
            let helpers: Vec<Name> =
                if self.helper.is_empty() { others.take(t).collect() } else { self.helper.clone() };
            let attempt = repair::free(&board, &name, &files).ok_or_else(|| {
                let papers = folder.join(format!("repair.{name}.*"));
                Failure::new("no further request has a place in this folder")
                    .because(format!("{} are papers of earlier attempts", papers.display()))
                    .hint("move them away, then run this again")
            })?;
            let (file, envelope) = repair::ask(&board, &me, attempt, &helpers)
                .or_fail(|| "no request can be made")
                .map_err(|failure| {
                    failure.hint(format!("name {t} of the others with `--helper`"))
                })?;
            durable::write_public(&folder.join(file), envelope.to_json().as_bytes())?;
            let text = format!(
                "asked {}; each of them runs `borgios governor repair --exchange DIR --for {name}` \
                 until it says done",
                list(&helpers)
            );
            return Ok((false, json!({"status": "asked", "helpers": helpers}), text));
        }
        let status = repair::finish(&board, &me, &files)
            .or_fail(|| "the repair cannot go on")
            .map_err(|failure| {
                failure.hint("`--anew` with other helpers, named with `--helper`, asks again")
            })?;
        let Status::Repaired(share) = status else { return Ok(said(&status, &name)) };
        let path = session.desk.context().home.governor("share.age");
        let sealed = session.identity().seal(share.to_secret().expose())?;
        durable::write(&path, &sealed)?;
        // The seeds are gone with the share: nonces published before are of no use.
        let generation = burn(session)?;
        let settled = session.settle()?;
        let mut text = format!("{name} has the share of key epoch {} again", board.epoch());
        for line in settled.lines() {
            text.push('\n');
            text.push_str(&line);
        }
        let answer = json!({
            "status": "repaired", "governor": name, "epoch": board.epoch(),
            "generation": generation,
        });
        Ok((true, answer, text))
    }
}

/// What a status says: whether it is the end, for programs, for people.
fn said(status: &Status, whom: &Name) -> (bool, serde_json::Value, String) {
    match status {
        Status::NotAsked => (
            false,
            json!({"status": "not_asked"}),
            format!("{whom} has not asked you; `borgios governor repair` there names the helpers"),
        ),
        Status::Waiting { kind, missing } => (
            false,
            json!({"status": "waiting", "for": missing, "what": kind}),
            format!("waiting for {} ({kind}); run this again afterwards", list(missing)),
        ),
        Status::Helped(name) => (
            true,
            json!({"status": "helped", "governor": name}),
            format!("done: {name} was helped"),
        ),
        Status::Repaired(_) => (true, json!({"status": "repaired"}), "repaired".to_owned()),
    }
}

/// Proposes that a governor goes on under the identity of this card, with the same share.
fn replace(context: &Context, path: &Path) -> Result<(), Failure> {
    let what = || format!("{} is no governor's card", path.display());
    let bytes = durable::read(path, borgios_types::limits::ENVELOPE_MAX)?;
    let bytes = bytes.ok_or_else(|| Failure::new(what()).because("there is no such file"))?;
    let card = Card::verify(&Envelope::parse(&bytes).or_fail(what)?).or_fail(what)?;
    let mut session = Session::open(context)?;
    let policy = session.desk.archive().chain().policy().cloned();
    let policy = policy.ok_or_else(|| Failure::new("no policy is known here"))?;
    let board = &policy.board;
    let before = board.by_name(&card.name).ok_or_else(|| {
        Failure::new(format!("{} is not on the board", card.name))
            .hint("`borgios governor change --add` brings somebody new in, with a new key")
    })?;
    if before.key == card.key {
        return Err(Failure::new(format!("{} has this identity already", card.name))
            .hint("a lost share alone needs no vote: `borgios governor repair`"));
    }
    let governors = board.governors().iter().map(|governor| {
        if governor.name == card.name {
            governor.with_identity(card.key, card.recipient.clone())
        } else {
            governor.clone()
        }
    });
    let board = Board::new(board.epoch(), board.threshold(), board.group(), governors.collect())
        .or_fail(|| "this identity cannot be taken")?;
    // What the policy in force ruled is done, and no rule.
    let next = Policy { board, rulings: Vec::new(), ..policy };
    context.printer.warn(&format!(
        "compare {} with {} by voice before anyone votes; if the old laptop may be in wrong hands, \
         `borgios governor change` is the way, not this",
        card.key.fingerprint(),
        card.name
    ));
    // The new laptop knows nothing yet: it shall find the whole chain where it looks.
    session.desk.push()?;
    let note = format!("a new identity for {}: {}", card.name, card.key.fingerprint());
    propose(context, &mut session, Lane::Policy, next.to_body(), Terms::usual(Some(note)))
}
