//! `borgios governor found`: every step of founding a network that can be done now.
//!
//! The state machine is `borgios_policy::founding`; this file reads the folder, keeps the secret
//! state, asks the one question, and at the end lays everything where votes expect it. Order at
//! each step: the state is stored and synced, only then are files published. Order at the end: all
//! that votes need, then `board.json`, whose presence means done, then the state is erased.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use age::secrecy::ExposeSecret as _;
use borgios_policy::founding::{Files, Me, PLAN_FILE, POLICY_FILE, Status, Step, step};
use borgios_policy::{
    Ballot, Board, Card, Ceremony, CeremonyError, Founded, Lane, Name, Object as _, Plan, Statement,
};
use borgios_types::limits::ENVELOPE_MAX;
use borgios_types::{Digest, Envelope, Seq, Threshold};
use clap::Args;
use serde_json::{Value, json};

use crate::archive::{Archive, recoveries};
use crate::ceremony::{self, LOOK_EVERY, Question};
use crate::context::{Context, Membership};
use crate::durable;
use crate::failure::{Failure, OrFail as _};
use crate::identity::{Identity, read_card};
use crate::next_key;
use crate::slots::Slots;
use crate::transport::Transport as _;
use crate::transport::folder::Folder;

/// Half a year: who has not joined on policy/1 by then needs a newer policy.
const EXPIRES_S: u64 = 180 * 86_400;

/// Files of pools from which it is said that a look takes time: 13 governors lay 182, with a million
/// points in them.
const POOLS_MANY: usize = 100;

/// Do the next steps of founding a network; run it until it says done
#[derive(Debug, Args)]
pub(crate) struct Found {
    /// Write the plan: how many governors must sign together (one governor gives this)
    #[arg(long, value_name = "T")]
    threshold: Option<u16>,
    /// With --threshold: wait until so many governors' cards are there
    #[arg(long, value_name = "N", requires = "threshold")]
    governors: Option<usize>,
    /// With --threshold: most children of a node in the tree
    #[arg(long, value_name = "K", default_value_t = 8)]
    fanout: u16,
    /// With --threshold: the key shall be that of a recovery board of this network, sha256:…
    #[arg(long, value_name = "ID", requires = "threshold")]
    recovers: Option<Digest>,
    /// What this governor calls the network
    #[arg(long, value_name = "NET")]
    name: Option<Name>,
    /// The roster digest, or its first 40 digits at least, as compared with every other governor
    #[arg(long, value_name = "DIGEST")]
    accept_roster: Option<String>,
    /// Begin with the plan in the folder, where this home folder took part in another attempt that came to
    /// nothing; its state is kept aside
    #[arg(long)]
    anew: bool,
    /// Go on until the network is founded
    #[arg(long)]
    watch: bool,
}

impl Found {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let folder = ceremony::folder(context)?;
        let _lock = context.lock()?;
        if let Ok(membership) = context.membership() {
            drop_state(context, &membership)?;
            self.refuse_another(context, &folder, &membership)?;
            return answer_done(context, &membership);
        }
        let identity = context.identity()?;
        let card = Card::verify(&read_card(&context.home)?).or_fail(|| "the card is damaged")?;
        let mut said = String::new();
        let mut confirmed = None;
        let mut warned = false;
        loop {
            let files = ceremony::read_files(&folder)?;
            let pools = files.keys().filter(|file| file.contains(".pool")).count();
            if pools > POOLS_MANY && !warned {
                context.printer.say(&format!(
                    "{pools} pools of nonces are in the folder; checking those of a large board takes \
                     some seconds"
                ));
                warned = true;
            }
            match self.round(context, (&folder, files), &identity, &card, confirmed)? {
                Status::Founded(founded) => {
                    let membership = self.conclude(context, &identity, &founded)?;
                    return answer_done(context, &membership);
                }
                Status::Confirm(plan) => match self.confirm(context, &plan)? {
                    Some(roster) => confirmed = Some(roster),
                    None => return Ok(()),
                },
                status if self.watch => {
                    let text = format!("{status}");
                    if text != said {
                        context.printer.say(&text);
                        said = text;
                    }
                    std::thread::sleep(LOOK_EVERY);
                }
                status => return answer_waiting(context, &status),
            }
        }
    }

    /// Refuses to call done what this folder did not come of: it belongs to a network already, and what it
    /// is asked to found is another one, or was founded otherwise.
    fn refuse_another(
        &self,
        context: &Context,
        folder: &Path,
        membership: &Membership,
    ) -> Result<(), Failure> {
        let (place, name) = (folder.join(PLAN_FILE), &membership.name);
        let refused = |why: String| {
            let home = context.home.root().display();
            Failure::new(format!("{home} belongs to {name} already and founds nothing else"))
                .because(why)
                .hint(
                    "for another founding make an identity of its own with `borgios governor init` in \
                     another folder, and name that with `--home DIR` in each command",
                )
        };
        let Some(bytes) = durable::read(&place, ENVELOPE_MAX)? else {
            if self.threshold.is_some() {
                let there = place.display();
                return Err(refused(format!("{there} is missing, and would be another plan")));
            }
            // With any folder one may ask which network this is.
            let folder = folder.display();
            let what = format!("this home folder is of {name}: nothing was laid into {folder}");
            context.printer.say(&what);
            return Ok(());
        };
        let plan = Envelope::parse(&bytes).ok().and_then(|envelope| Plan::verify(&envelope).ok());
        let (made, board) = beginning(&context.archive()?, membership)?;
        let Some(plan) = plan.filter(|plan| made_this(plan, &made, &board, membership)) else {
            return Err(refused(format!("{} is not the plan that it came of", place.display())));
        };
        // The same command again is no other founding: everyone repeats it until it says done.
        let Some(threshold) = self.threshold else { return Ok(()) };
        let (founded, count) = (plan.threshold, plan.governors.len());
        if Threshold(threshold) != founded || self.governors.is_some_and(|wanted| wanted > count) {
            return Err(refused(format!("its plan is {founded} of {count} governors")));
        }
        if self.recovers != plan.recovers {
            return Err(refused(match plan.recovers {
                Some(network) => format!("it holds the key of a recovery board of {network}"),
                None => "it holds the key of a network, and of no recovery board".to_owned(),
            }));
        }
        Ok(())
    }

    /// One look at the folder, and everything that follows from it.
    fn round(
        &self,
        context: &Context,
        (folder, mut files): (&Path, Files),
        identity: &Identity,
        card: &Card,
        confirmed: Option<Digest>,
    ) -> Result<Status, Failure> {
        if let (Some(threshold), false) = (self.threshold, files.contains_key(PLAN_FILE))
            && let Some(plan) = self.plan(context, identity, card, &files, Threshold(threshold))?
        {
            let text = plan.to_json().into_bytes();
            durable::write_public(&folder.join(PLAN_FILE), &text)?;
            files.insert(PLAN_FILE.to_owned(), text);
        }
        let state = match files.get(PLAN_FILE).filter(|_| self.anew) {
            Some(plan) => of_this_plan(context, plan, identity, confirmed)?,
            None => ceremony::load_state(&state_path(context), identity)?,
        };
        let begun = state.is_some();
        let secret = identity.age().to_string();
        let me = Me { card, key: identity.ssh(), identity: secret.expose_secret() };
        let stepped = step(&me, state, &files, confirmed, &mut rand::rngs::OsRng);
        let another = begun && matches!(stepped, Err(CeremonyError::Roster { .. }));
        let Step { state, write, status } =
            stepped.or_fail(|| "the founding cannot go on").map_err(|failure| match another {
                true => failure.hint(
                    "if all agreed by voice to begin another attempt, `borgios governor found --anew` goes \
                     on with the plan in this folder; else use the folder of the first one",
                ),
                false => failure,
            })?;
        if let Some(state) = state {
            ceremony::save_state(&state_path(context), &state, identity)?;
        }
        ceremony::write_files(folder, write)?;
        Ok(status)
    }

    /// The plan this governor proposes, once enough cards are there.
    fn plan(
        &self,
        context: &Context,
        identity: &Identity,
        card: &Card,
        files: &Files,
        threshold: Threshold,
    ) -> Result<Option<Envelope>, Failure> {
        let mut cards = BTreeMap::from([(card.name.clone(), card.clone())]);
        for (file, bytes) in files.iter().filter(|(file, _)| file.ends_with(".card.json")) {
            let what = || format!("{file} is no governor's card");
            let envelope = Envelope::parse(bytes).or_fail(what)?;
            let other = Card::verify(&envelope).or_fail(what)?;
            cards.insert(other.name.clone(), other);
        }
        if self.governors.is_some_and(|wanted| cards.len() < wanted) {
            return Ok(None);
        }
        let now = context.now();
        let cards: Vec<Card> = cards.into_values().collect();
        let count = cards.len();
        let plan = Plan::new(cards, threshold, self.fanout, now, now.plus(EXPIRES_S))
            .and_then(|plan| match self.recovers {
                Some(network) => plan.recovering(network),
                None => Ok(plan),
            })
            .or_fail(|| format!("no plan can be made of the {count} cards in the folder"))
            .map_err(|failure| {
                failure.hint(
                    "every governor runs `borgios governor found` once to lay a card; \
                              `--governors N` waits for N of them",
                )
            })?;
        Ok(Some(plan.to_envelope().sign(identity.ssh())))
    }

    /// Takes the governor's word that the roster was compared by voice.
    fn confirm(&self, context: &Context, plan: &Plan) -> Result<Option<Digest>, Failure> {
        if let Some(network) = plan.recovers {
            context.printer.say(&format!(
                "This founds no network. It makes the key of a recovery board, which may name the next \
                 board of\n{network} once its own has long been silent."
            ));
        }
        let question = Question {
            file: PLAN_FILE,
            roster: plan.roster(),
            threshold: plan.threshold,
            governors: &plan.governors,
            warning: plan.warning(),
        };
        ceremony::confirm(context, &question, self.accept_roster.as_ref())
    }

    /// Lays everything where votes expect it. Repeated after a crash, it writes the same again:
    /// `board.json`, without which no vote is possible, comes last.
    fn conclude(
        &self,
        context: &Context,
        identity: &Identity,
        founded: &Founded,
    ) -> Result<Membership, Failure> {
        let home = &context.home;
        let mut objects: Vec<&Envelope> = founded.pools.iter().collect();
        match founded.recovers {
            Some(_) => recoveries::store(home, &founded.policy)?,
            None => objects.extend(founded.ballots.iter().chain([&founded.policy])),
        }
        for envelope in objects {
            durable::folder(&home.kind(&envelope.kind))?;
            let path = home.object(&envelope.kind, &envelope.id());
            durable::write(&path, envelope.to_json().as_bytes())?;
        }
        // Who comes later, or comes back, finds the beginning where all objects lie.
        let mut shared = Folder::at(&ceremony::folder(context)?)?;
        for envelope in core::iter::once(&founded.policy).chain(&founded.pools) {
            shared.put(envelope)?;
        }
        let slots = Slots::new(home);
        for (slot, seed) in &founded.seeds {
            slots.keep_seed(*slot, seed, identity)?;
        }
        for envelope in &founded.ballots {
            let ballot = Ballot::parse(envelope).or_fail(|| "a founding ballot is damaged")?;
            if ballot.governor == *identity.name() {
                slots.cast(ballot.slot(&founded.board), envelope)?;
            }
        }
        let share = identity.seal(founded.key.to_secret().expose())?;
        durable::write(&home.governor("share.age"), &share)?;
        let network = founded.recovers.unwrap_or(founded.network);
        let recovery = founded.recovers.map(|_| founded.network);
        let name = self.name.clone().map_or_else(|| ceremony::short_name(network), Ok)?;
        let membership = Membership { network, name, recovery };
        let text = serde_json::to_vec_pretty(&membership).or_fail(|| "could not encode")?;
        durable::write(&home.governor("board.json"), &text)?;
        durable::erase(&state_path(context))?;
        Ok(membership)
    }
}

/// What a founding signed at its end, and the board it made: policy/1, or a recovery board's paper.
fn beginning(archive: &Archive, membership: &Membership) -> Result<(Statement, Board), Failure> {
    if let Some(id) = membership.recovery {
        let paper = archive.recoveries().papers().find(|paper| paper.id() == id);
        let paper = paper.ok_or_else(|| Failure::new("the recovery board's paper is damaged"))?;
        let made = Statement::parse(paper.envelope()).or_fail(|| "the paper is no statement")?;
        return Ok((made, paper.board().clone()));
    }
    // A folder that was told which network it belongs to may have fetched nothing yet.
    archive.board()?;
    let first = archive.chain().get(Lane::Policy, Seq(1));
    let made = first.and_then(|first| Some((first.statement(), &first.policy()?.board)));
    let (made, board) = made.ok_or_else(|| Failure::new("policy/1 is not known here"))?;
    Ok((made.clone(), board.clone()))
}

/// Whether a founding by this plan ended so: what it signed says who governs, by how many and from when to
/// when, as the plan did.
fn made_this(plan: &Plan, made: &Statement, board: &Board, membership: &Membership) -> bool {
    let sits = |card: &Card| board.by_name(&card.name).is_some_and(|seat| seat.key == card.key);
    plan.recovers == membership.recovery.map(|_| membership.network)
        && (plan.issued, plan.expires) == (made.issued, made.expires)
        && (plan.threshold, plan.governors.len()) == (board.threshold(), board.governors().len())
        && plan.governors.iter().all(sits)
}

fn state_path(context: &Context) -> PathBuf {
    context.home.governor("founding.age")
}

/// The last run may have been cut off before it removed what is no longer needed. Only that goes: a folder
/// may also have been told which network it belongs to while the one copy of its share was in there.
fn drop_state(context: &Context, membership: &Membership) -> Result<(), Failure> {
    if !state_path(context).exists() {
        return Ok(());
    }
    let identity = context.identity()?;
    match beginning(&context.archive()?, membership) {
        Ok((_, board)) => next_key::end_founding(&context.home, &board, &[&board], &identity),
        // Nothing is known here to compare it with.
        Err(_) => Ok(()),
    }
}

/// The state of the attempt whose plan lies in the folder. That of another one is set aside, since its
/// governors may have ended it without telling anybody; what cannot be read is, too. Neither is before the
/// roster in the folder is `confirmed`: anyone who writes there can lay another plan, and the state may be
/// the only copy of a share.
fn of_this_plan(
    context: &Context,
    plan: &[u8],
    identity: &Identity,
    confirmed: Option<Digest>,
) -> Result<Option<Ceremony>, Failure> {
    let path = state_path(context);
    let state = ceremony::load_state(&path, identity);
    // A plan that cannot be read is no other one.
    let Ok(plan) = Envelope::parse(plan.trim_ascii_end()) else { return state };
    if let Ok(state) = state
        && state.as_ref().is_none_or(|state| state.roster() == plan.id())
    {
        return Ok(state);
    }
    if confirmed != Some(plan.id()) {
        // Nothing is written over it: without a state and the word of its governor no step makes one.
        return Ok(None);
    }
    if let Some(cipher) = durable::read(&path, ceremony::STATE_MAX)? {
        let aside = format!("founding-{}.age", &Digest::of(&cipher).hex()[..16]);
        let aside = context.home.governor(&aside);
        durable::write(&aside, &cipher)?;
        durable::erase(&path)?;
        let aside = aside.display();
        context.printer.say(&format!("the attempt before is set aside, as {aside}"));
    }
    Ok(None)
}

fn answer_waiting(context: &Context, status: &Status) -> Result<(), Failure> {
    let (answer, text) = match status {
        Status::NoPlan(cards) => {
            let names: Vec<&Name> = cards.iter().map(|card| &card.name).collect();
            let list: Vec<&str> = names.iter().map(|name| name.as_str()).collect();
            (
                json!({"status": "no_plan", "cards": names}),
                format!(
                    "your card is in the folder; cards there: {}\nwhen all are there, one governor \
                     runs `borgios governor found --exchange DIR --threshold T`",
                    list.join(", ")
                ),
            )
        }
        Status::Waiting { kind, missing } => {
            let list: Vec<&str> = missing.iter().map(Name::as_str).collect();
            (
                json!({"status": "waiting", "for": missing, "what": kind}),
                format!("waiting for {} ({kind}); run this again afterwards", list.join(", ")),
            )
        }
        Status::Confirm(_) | Status::Founded(_) => (Value::Null, status.to_string()),
    };
    context.printer.answer(&answer, &text)
}

fn answer_done(context: &Context, membership: &Membership) -> Result<(), Failure> {
    let archive = context.archive()?;
    if let Some(id) = membership.recovery {
        return answer_recovery(context, membership, &archive, id);
    }
    let board = archive.board()?;
    let names: Vec<&str> = board.governors().iter().map(|g| g.name.as_str()).collect();
    let answer = json!({
        "status": "founded", "network": membership.network, "name": membership.name,
        "group": board.group(), "fingerprint": board.group().fingerprint(),
        "threshold": board.threshold(), "governors": names,
    });
    let text = format!(
        "founded: {}\n  network     {}\n  group key   {}\n  board       {} of {}",
        membership.name,
        membership.network,
        board.group().fingerprint(),
        board.threshold(),
        names.join(", ")
    );
    context.printer.answer(&answer, &text)?;
    context.printer.say(&format!(
        "\nNext: publish the network's id, which is what servers' owners compare. Once every governor's \
         folder says `founded`, one of you proposes the first software: `borgios propose release{}`.",
        context.with_exchange()
    ));
    Ok(())
}

/// What came of the founding of a recovery board.
fn answer_recovery(
    context: &Context,
    membership: &Membership,
    archive: &Archive,
    id: Digest,
) -> Result<(), Failure> {
    let paper = archive.recoveries().papers().find(|paper| paper.id() == id);
    let paper = paper.ok_or_else(|| Failure::new("the recovery board's paper is damaged"))?;
    let board = paper.board();
    let names: Vec<&str> = board.governors().iter().map(|g| g.name.as_str()).collect();
    let answer = json!({
        "status": "founded", "recovers": membership.network, "name": membership.name, "paper": id,
        "group": board.group(), "fingerprint": board.group().fingerprint(),
        "threshold": board.threshold(), "governors": names,
    });
    let text = format!(
        "made: the key of a recovery board\n  network     {}\n  recovery key {}\n  board       {} of {}\n\
         Next: a governor of the network names it with {POLICY_FILE} of this folder: `borgios propose \
         policy --recovery-board {POLICY_FILE} --recovery-silence 60d --recovery-lock 30d --freshness 2/24h`. Keep this \
         home folder for nothing else.",
        membership.network,
        board.group().fingerprint(),
        board.threshold(),
        names.join(", ")
    );
    context.printer.answer(&answer, &text)
}
