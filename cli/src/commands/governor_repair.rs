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
use serde_json::{Value, json};

use crate::ceremony::{self, LOOK_EVERY, list};
use crate::commands::governor_restore::burn;
use crate::commands::propose::{Terms, propose};
use crate::context::{Context, Membership};
use crate::durable;
use crate::failure::{Failure, OrFail as _};
use crate::identity::{Identity, read_card};
use crate::known::KnownNodes;
use crate::session::{Session, Settled};
use crate::unity;

/// Most remembered nodes that are talked to where nonces are made void: one would do, for nodes tell each
/// other, and two may be down.
const NODES_TOLD: usize = 3;

/// Whether it is done, for programs, for people.
type Said = (bool, Value, String);

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
        let wide = with_nodes(context)?;
        let mut said = String::new();
        loop {
            let session = Session::with(context, identity)?;
            let (opened, (done, answer, text)) =
                self.look(session, &folder, &card, wide.as_ref())?;
            // One new request is enough.
            self.anew = false;
            if done || !self.watch {
                return context.printer.answer(&answer, &text);
            }
            if text != said {
                context.printer.say(&text);
                said = text;
            }
            identity = opened;
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

    /// One look at the folder: whether it is done, and what to say. Where it comes to a burn, it is done
    /// with `wide`, if there is more than the folder: see [`with_nodes`].
    fn look<'a>(
        &self,
        mut session: Session<'a>,
        folder: &Path,
        card: &Card,
        wide: Option<&'a Context>,
    ) -> Result<(Identity, Said), Failure> {
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
            return Ok((session.into_identity(), said(&status, whom)));
        }
        // A repair may have been cut off between the share and the burn.
        let cut_off = session.is_restoring();
        if session.share().is_ok() && (self.anew || cut_off) {
            if let Some(wide) = wide {
                let session = Session::anew(wide, session.into_identity())?;
                return self.look(session, folder, card, None);
            }
            // Another copy's ballots, or its nonces, came to light: this copy counts from now on.
            let renewed = Renewed::make(&mut session)?;
            let generation = renewed.generation;
            let text = format!("{name} goes on with this folder, generation {generation}");
            return Ok((session.into_identity(), renewed.said("whole", &name, &board, text)));
        }
        if session.share().is_ok() {
            let text =
                format!("{name} has the share of key epoch {}; nothing to do", board.epoch());
            let answer = json!({"status": "whole", "governor": name});
            return Ok((session.into_identity(), (true, answer, text)));
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
            let answer = json!({"status": "asked", "helpers": helpers});
            return Ok((session.into_identity(), (false, answer, text)));
        }
        let status = repair::finish(&board, &me, &files)
            .or_fail(|| "the repair cannot go on")
            .map_err(|failure| {
                failure.hint("`--anew` with other helpers, named with `--helper`, asks again")
            })?;
        let Status::Repaired(share) = status else {
            return Ok((session.into_identity(), said(&status, &name)));
        };
        if let Some(wide) = wide {
            let session = Session::anew(wide, session.into_identity())?;
            return self.look(session, folder, card, None);
        }
        let home = &session.desk.context().home;
        let sealed = session.identity().seal(share.to_secret().expose())?;
        // First, so that what is cut off before the burn is not taken for done.
        durable::write(&home.restoring(), b"")?;
        durable::write(&home.governor("share.age"), &sealed)?;
        // The seeds are gone with the share: nonces published before are of no use.
        let renewed = Renewed::make(&mut session)?;
        let text = format!("{name} has the share of key epoch {} again", board.epoch());
        Ok((session.into_identity(), renewed.said("repaired", &name, &board, text)))
    }
}

/// This run with the nodes talked to last beside the folder; none if it names nodes itself, if none is
/// known, or if the machine has no network.
///
/// Nodes must hear at once that nonces are void, since the others may vote with them meanwhile, and what
/// they know of this governor's ballots is to be taken over before.
fn with_nodes(context: &Context) -> Result<Option<Context>, Failure> {
    if !context.nodes.is_empty() || context.home.air_gap().exists() {
        return Ok(None);
    }
    let known = KnownNodes::load(&context.home)?;
    let newest = known.nodes().iter().rev().take(NODES_TOLD);
    let nodes: Vec<String> = newest.map(|node| node.address.clone()).collect();
    Ok((!nodes.is_empty()).then(|| Context { nodes, ..context.clone() }))
}

/// What came of making this folder the one that counts.
struct Renewed {
    generation: u64,
    settled: Settled,
    places: String,
}

impl Renewed {
    fn make(session: &mut Session<'_>) -> Result<Self, Failure> {
        let generation = burn(session)?;
        let settled = session.settle()?;
        Ok(Self { generation, settled, places: session.desk.places() })
    }

    fn said(self, status: &str, name: &Name, board: &Board, mut text: String) -> Said {
        let Self { generation, settled, places } = self;
        for line in settled.lines() {
            text.push('\n');
            text.push_str(&line);
        }
        text.push_str(&format!("\nsent to {places}"));
        let answer = json!({
            "status": status, "governor": name, "epoch": board.epoch(), "generation": generation,
            "signed": settled.signed, "recoveries": settled.recoveries, "slots": settled.slots,
            "shares": settled.shares, "sent_to": places,
        });
        (true, answer, text)
    }
}

/// What a status says: whether it is the end, for programs, for people.
fn said(status: &Status, whom: &Name) -> Said {
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
    let mut next = Policy { board, rulings: Vec::new(), ..policy };
    unity::unite(&session.desk, &mut next)?;
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
