//! `borgios governor change`: every step of changing the board that can be done now.
//!
//! ```text
//! change-E.json ─▶ E.NAME.dkg1 ─▶ E.NAME.dkg2 ─▶ E.NAME.done ─▶ proposal of policy/p+1 ─▶ vote
//! ```
//!
//! The state machine is `borgios_policy::change`. Order at each step: the state is stored and
//! synced, only then are files published. Order at the end: pools, seeds, the next share, the note
//! of it; then the state is erased. The old share is not touched here: see [`crate::next_key`].

mod attempts;
mod closing;
mod joining;
mod recovering;

use std::path::{Path, PathBuf};

use age::secrecy::ExposeSecret as _;
use borgios_policy::change::{
    ATTEMPTS_MAX, Change as Plan, Changed, Standing, Status, Step, newest, step,
};
use borgios_policy::founding::Me;
use borgios_policy::keygen::{Ceremony, CeremonyError, Files};
use borgios_policy::{Board, Card, Lane, Name, Object as _, RecoveryBoard};
use borgios_types::{Digest, Envelope, Threshold};
use clap::Args;
use serde_json::{Value, json};

use crate::ceremony::{self, LOOK_EVERY, Question, list};
use crate::commands::propose::{Terms, put_to_vote};
use crate::context::Context;
use crate::durable;
use crate::failure::{Failure, OrFail as _};
use crate::identity::read_card;
use crate::next_key::{self, NextKey};
use crate::session::Session;
use crate::slots::Slots;
use crate::succession::successor;

/// Do the next steps of changing the board; run it until it says done
#[derive(Debug, Args)]
pub(crate) struct Change {
    /// Plan it: bring in the governor of this card; again for each
    #[arg(long, value_name = "CARD.json")]
    add: Vec<PathBuf>,
    /// Plan it: this governor goes; again for each
    #[arg(long, value_name = "NAME")]
    remove: Vec<Name>,
    /// Plan it: how many must sign together from then on [default: as before]
    #[arg(long, value_name = "T")]
    threshold: Option<u16>,
    #[command(flatten)]
    common: Common,
}

/// Give the same governors a new key: who kept an old share can sign nothing any more
#[derive(Debug, Args)]
pub(crate) struct Refresh {
    #[command(flatten)]
    common: Common,
}

/// What both take.
#[derive(Clone, Debug, Args)]
struct Common {
    /// The change that the recovery board plans and proposes, the board in force being silent
    #[arg(long)]
    recovery: bool,
    /// Plan it once more, where an attempt was given up
    #[arg(long)]
    anew: bool,
    /// Give up the key that an earlier attempt made here, for the attempt that was planned since
    #[arg(long)]
    give_up: bool,
    /// Propose the policy, though another was to do it
    #[arg(long)]
    propose: bool,
    /// A statement under the old key that shall still count; again for each
    #[arg(long, value_name = "ID")]
    carry: Vec<Digest>,
    /// A word to the other governors with the proposal
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    /// For who is new: what you call the network
    #[arg(long, value_name = "NET")]
    name: Option<Name>,
    /// The roster digest, or its first 40 digits at least, as compared with every other governor
    #[arg(long, value_name = "DIGEST")]
    accept_roster: Option<String>,
    /// Go on until the policy is proposed
    #[arg(long)]
    watch: bool,
}

/// What one look at the folder came to.
enum Look {
    /// For now, nothing more to do.
    Waiting { answer: Value, text: String },
    /// The policy is there to be voted on, or the change is over.
    Done { answer: Value, text: String },
    /// The roster is to be confirmed.
    Confirm(Box<Plan>),
    /// Something was learnt by which more can be done at once.
    Again,
}

impl Change {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let plans = !self.add.is_empty() || !self.remove.is_empty() || self.threshold.is_some();
        let anew = self.common.anew;
        Run { plans: plans || anew, refresh: false, warned: false, change: self }.run(context)
    }
}

impl Refresh {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let change =
            Change { add: Vec::new(), remove: Vec::new(), threshold: None, common: self.common };
        Run { plans: true, refresh: true, warned: false, change }.run(context)
    }
}

/// One run of either command.
struct Run {
    /// Whether a plan is to be written, if there is none.
    plans: bool,
    /// Whether a plan in which nothing changes but the key is meant.
    refresh: bool,
    /// Whether a newer attempt was spoken of.
    warned: bool,
    change: Change,
}

impl Run {
    fn run(mut self, context: &Context) -> Result<(), Failure> {
        let folder = ceremony::folder(context)?;
        let mut identity = context.identity()?;
        let card = Card::verify(&read_card(&context.home)?).or_fail(|| "the card is damaged")?;
        let watch = self.change.common.watch;
        let mut said = String::new();
        let mut confirmed = None;
        loop {
            let look = if context.membership().is_ok() {
                let mut session = Session::with(context, identity)?;
                let look = if session.desk.membership().recovery.is_some() {
                    self.look_as_recoverer(&mut session, &folder)?
                } else {
                    self.look(&mut session, &folder, &card, confirmed)?
                };
                identity = session.into_identity();
                look
            } else {
                self.look_as_newcomer(context, &folder, &identity, &card, confirmed)?
            };
            let (answer, text) = match look {
                Look::Done { answer, text } => return context.printer.answer(&answer, &text),
                Look::Confirm(plan) => {
                    let file = plan.file(self.change.common.recovery);
                    let question = Question {
                        file: &file,
                        roster: plan.roster(),
                        threshold: plan.threshold,
                        governors: &plan.governors,
                        warning: plan.warning(),
                    };
                    let accepted = self.change.common.accept_roster.as_ref();
                    match ceremony::confirm(context, &question, accepted)? {
                        Some(roster) => confirmed = Some(roster),
                        None => return Ok(()),
                    }
                    continue;
                }
                Look::Again => continue,
                Look::Waiting { answer, text } => (answer, text),
            };
            if !watch {
                return context.printer.answer(&answer, &text);
            }
            if text != said {
                context.printer.say(&text);
                said = text;
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// One look at the folder by who belongs to the network, and everything that follows from it.
    fn look(
        &mut self,
        session: &mut Session<'_>,
        folder: &Path,
        card: &Card,
        confirmed: Option<Digest>,
    ) -> Result<Look, Failure> {
        let mut files = ceremony::read_files(folder)?;
        let network = session.network();
        let board = session.desk.archive().board()?.clone();
        let paper = self.recovery_board(session)?;
        let recovery = paper.as_ref().map(RecoveryBoard::board);
        let standing = Standing { network, board: &board, recovery };
        let context = session.desk.context();
        let next = lying(session)?;
        let path = context.home.governor("change.age");
        // A key that all signed for leaves no state, or one that is being erased.
        let state = match &next {
            Some(_) => None,
            None => ceremony::load_state(&path, session.identity())?,
        };
        let mut found = newest(standing, &files).or_fail(|| "the plan in the folder is refused")?;
        let held = attempts::Held { next: next.as_ref(), state: state.as_ref() };
        let Common { give_up, anew, recovery: by_recovery, .. } = self.change.common;
        let kept = if give_up || anew { None } else { held.keeps(session)? };
        if let Some(kept) = kept {
            let newer = attempts::keep_only(&mut files, kept, by_recovery);
            if let Some(text) = newer.filter(|_| !core::mem::replace(&mut self.warned, true)) {
                context.printer.warn(&text);
            }
            found = newest(standing, &files).or_fail(|| "the plan in the folder is refused")?;
        }
        let wanted = found.is_none() || self.change.common.anew;
        if self.plans && wanted && (self.refresh || !self.is_so(session, &board)?) {
            let attempt = found.as_ref().map_or(0, |(plan, _, _)| plan.attempt + 1);
            self.plan(session, standing, attempt, folder, &mut files)?;
            found = newest(standing, &files).or_fail(|| "this program wrote a bad plan")?;
            // Who is new finds the whole chain where they look.
            session.desk.push()?;
            // One plan is enough.
            (self.plans, self.change.common.anew) = (false, false);
        }
        let Some((plan, _, roster)) = found else { return Ok(in_force(session)) };
        self.same_wish(&plan)?;
        match next {
            Some(next) if next.roster == roster => {
                // It holds the share and the seeds; the end may have been cut off before it went.
                durable::erase(&path)?;
                return self.proposed(session, &next);
            }
            // Its plan is not in this folder.
            Some(next) if kept.is_some() => return self.proposed(session, &next),
            Some(next) if proposal(session, &next)?.is_some() => {
                return Err(Failure::new("another attempt at this change has a proposal")
                    .hint("vote on that policy first; once it is dead, this one can go on"));
            }
            // Not before it is known what for.
            Some(_) if confirmed != Some(roster) && plan.needs_confirmation(card, &board) => {
                return Ok(Look::Confirm(Box::new(plan)));
            }
            Some(next) => {
                next.lay_down(&context.home)?;
                self.change.common.give_up = false;
            }
            None if kept.is_some_and(|kept| kept != roster) => {
                return Err(attempts::without_plan(&plan.file(by_recovery)));
            }
            None => {}
        }
        let secret = session.identity().age().to_string();
        let me = Me { card, key: session.identity().ssh(), identity: secret.expose_secret() };
        let agreed = (confirmed, true);
        let (begun, before) = (state.is_some(), state.as_ref().map(Ceremony::roster));
        let stepped = step(&me, standing, state, &files, agreed, &mut rand::rngs::OsRng);
        if let (false, Err(CeremonyError::OwnFile(file))) = (begun, &stepped) {
            let plan = plan.file(self.change.common.recovery);
            return Err(attempts::over(session, &plan, file));
        }
        let Step { state, write, status } =
            stepped.or_fail(|| "the change cannot go on").map_err(|failure| {
                failure.hint(
                    "nothing is lost: the old key stands. `borgios governor change --anew` \
                         begins another attempt",
                )
            })?;
        if let Some(state) = state {
            // What was noted of the slots of the attempt before is of no use to this one.
            if before.is_some_and(|before| before != state.roster()) {
                Slots::new(&context.home).forget(board.next_epoch())?;
            }
            ceremony::save_state(&path, &state, session.identity())?;
            if state.roster() == roster {
                // Given up once; what is planned after that is another matter.
                self.change.common.give_up = false;
            }
        }
        ceremony::write_files(folder, write)?;
        match status {
            Status::Confirm(plan) => Ok(Look::Confirm(plan)),
            Status::Made(made) => {
                let by_recovery = self.change.common.recovery;
                let next = conclude(session, &made, (roster, by_recovery), &path)?;
                self.proposed(session, &next)
            }
            status => Ok(waiting(session, &status)),
        }
    }

    /// The cards that are to come.
    fn cards(&self) -> Result<Vec<Card>, Failure> {
        let read = |path: &PathBuf| {
            let what = || format!("{} is no governor's card", path.display());
            let bytes = durable::read(path, borgios_types::limits::ENVELOPE_MAX)?;
            let bytes =
                bytes.ok_or_else(|| Failure::new(what()).because("there is no such file"))?;
            Card::verify(&Envelope::parse(&bytes).or_fail(what)?).or_fail(what)
        };
        self.change.add.iter().map(read).collect()
    }

    /// Whether the board in force is what was asked for: the same command was run once more.
    fn is_so(&self, session: &Session<'_>, board: &Board) -> Result<bool, Failure> {
        let archive = session.desk.archive();
        let there = |card: &Card| board.by_key(&card.key).is_some_and(|g| g.name == card.name);
        let cards = self.cards()?;
        let new = |name: &Name| cards.iter().any(|card| card.name == *name);
        let Change { remove, threshold, .. } = &self.change;
        // Whoever was to get a new identity, and is named with the one that the board has.
        let old = cards.iter().find(|card| remove.contains(&card.name) && there(card));
        if let Some(card) = old
            && !archive
                .boards()
                .any(|one| one.by_name(&card.name).is_some_and(|g| g.key != card.key))
        {
            return Err(Failure::new(format!("this is the card that {} has now", card.name)).hint(
                "ask for that of the new identity: `borgios governor card --json` prints it there",
            ));
        }
        Ok(cards.iter().all(there)
            && remove.iter().all(|name| board.by_name(name).is_none() || new(name))
            && (!remove.is_empty() || !cards.is_empty() || threshold.is_some())
            && threshold.is_none_or(|threshold| threshold == board.threshold().0))
    }

    /// Writes the plan of an attempt.
    fn plan(
        &self,
        session: &Session<'_>,
        standing: Standing<'_>,
        attempt: u32,
        folder: &Path,
        files: &mut Files,
    ) -> Result<(), Failure> {
        match standing.recovery {
            None => {
                session.on_board()?;
                let context = session.desk.context();
                let what = "no further change of the board can be planned yet";
                next_key::refuse_further(&context.home, context.now(), what)?;
            }
            Some(_) => {
                session.recovering()?;
            }
        }
        let add = self.cards()?;
        let threshold = self.change.threshold.map_or(standing.board.threshold(), Threshold);
        let chain = session.desk.archive().chain();
        let heads = Lane::ALL.map(|lane| (lane, chain.head_seq(lane))).into();
        let who = (&self.change.remove[..], &add[..]);
        if attempt > ATTEMPTS_MAX {
            return Err(Failure::new(format!("{attempt} attempts at this key epoch are enough"))
                .hint(
                    "agree by voice on who stays, and go on with the newest plan without `--anew`; or \
                     begin in an empty exchange folder, in which the attempts count from 0",
                ));
        }
        let plan = Plan::new(standing, attempt, who, threshold, heads)
            .or_fail(|| "this change cannot be planned")
            .map_err(|failure| failure.hint("`--threshold T` names another number of signers"))?;
        let text = plan.to_envelope().sign(session.identity().ssh()).to_json().into_bytes();
        let file = plan.file(standing.recovery.is_some());
        durable::write_public(&folder.join(&file), &text)?;
        files.insert(file, text);
        Ok(())
    }

    /// Refuses to go on with another plan than the one that was asked for.
    fn same_wish(&self, plan: &Plan) -> Result<(), Failure> {
        let Change { remove, threshold, .. } = &self.change;
        let added = self.cards()?;
        // Who lost an identity is removed and added under one name.
        let stays =
            plan.governors.iter().any(|card| remove.contains(&card.name) && !added.contains(card));
        let lacks = added.iter().any(|card| !plan.governors.contains(card));
        let other = threshold.is_some_and(|threshold| threshold != plan.threshold.0);
        if !(stays || lacks || other) {
            return Ok(());
        }
        let file = plan.file(self.change.common.recovery);
        Err(Failure::new(format!("{file} plans another change")).hint(
            "run the command without `--add`, `--remove` and `--threshold` to go on with it, or \
             with `--anew` to plan another attempt",
        ))
    }

    /// There is a key here: the policy that makes its board is proposed, by one of us.
    fn proposed(&self, session: &mut Session<'_>, next: &NextKey) -> Result<Look, Failure> {
        if proposal(session, next)?.is_none() {
            let me = session.identity().name();
            if next.recovery {
                let text =
                    "the new key is made; waiting for a member of the recovery board to propose \
                            the policy with `borgios governor change --recovery`"
                        .to_owned();
                return Ok(Look::Waiting { answer: json!({"status": "made"}), text });
            }
            if *me != next.proposer && !self.change.common.propose {
                let text = format!(
                    "the new key is made; waiting for {} to propose the policy, or run this with \
                     `--propose`",
                    next.proposer
                );
                let answer = json!({"status": "made", "for": [next.proposer]});
                return Ok(Look::Waiting { answer, text });
            }
            let carry = &self.change.common.carry;
            let policy = closing::policy_of(session, next.board.clone(), carry)?;
            let terms = Terms::usual(self.change.common.note.clone());
            put_to_vote(session, Lane::Policy, policy.to_body(), terms)?;
        }
        // Now everyone's archive can judge the new board's nonces.
        session.desk.push()?;
        let (place, id, closes) = proposal(session, next)?
            .ok_or_else(|| Failure::new("the proposal that was made is not to be found"))?;
        let with = session.desk.context().with_exchange();
        let who =
            if next.recovery { "member of the recovery board" } else { "governor of the old" };
        let mut text = format!(
            "the new key is made and {place} is proposed ({})\nNext: every {who} and \
             of the new board runs `borgios review {place}{with}` and `borgios vote {place} \
             approve{with}`; the old key works until it is in force",
            id.short()
        );
        text.push_str(&closing::words(&closes));
        let answer = json!({
            "status": "proposed", "place": place, "closes": closes, "statement": id,
            "epoch": next.board.epoch(), "group": next.board.group(),
            "fingerprint": next.board.group().fingerprint(),
        });
        Ok(Look::Done { answer, text })
    }
}

/// The key of a change that lies here. Without its share it is one only while its policy is voted on: nobody
/// can go on with it, and what is left of it must hold up no other attempt.
fn lying(session: &Session<'_>) -> Result<Option<NextKey>, Failure> {
    let home = &session.desk.context().home;
    match NextKey::load(home)? {
        Some(next) if proposal(session, &next)?.is_none() => {
            next.if_whole(home, session.identity())
        }
        next => Ok(next),
    }
}

/// The live proposal of the policy that makes this board, if there is one: its place, its id, and the
/// places that it closes.
fn proposal(
    session: &Session<'_>,
    next: &NextKey,
) -> Result<Option<(String, Digest, Vec<String>)>, Failure> {
    for vote in session.desk.votes()? {
        for (id, document) in &vote.documents {
            let standing = vote.tally.documents.get(id);
            // Or signed, and taken back.
            let dead = standing.is_some_and(|s| s.state == borgios_policy::State::Dead)
                || session.desk.archive().is_dead(id);
            let makes = successor(session.desk.archive().board()?, &document.text);
            if !dead && makes.is_some_and(|board| board.group() == next.board.group()) {
                let place = format!("{}/{}", vote.slot.lane, vote.slot.seq);
                return Ok(Some((place, *id, closing::closes(&document.statement))));
            }
        }
    }
    Ok(None)
}

/// Lays everything where votes expect it. Repeated after a crash, it writes the same again:
/// `next.json`, by which the rest is found, comes last but for the state's end.
fn conclude(
    session: &Session<'_>,
    made: &Changed,
    (roster, recovery): (Digest, bool),
    state: &Path,
) -> Result<NextKey, Failure> {
    let (home, identity) = (&session.desk.context().home, session.identity());
    for envelope in &made.pools {
        durable::folder(&home.kind(&envelope.kind))?;
        let path = home.object(&envelope.kind, &envelope.id());
        durable::write(&path, envelope.to_json().as_bytes())?;
    }
    let slots = Slots::new(home);
    // Whoever said since that another copy of this folder exists has no more use for them.
    if !home.generation(made.board.epoch()).exists() {
        for (slot, seed) in &made.seeds {
            slots.keep_seed(*slot, seed, identity)?;
        }
    }
    // Who wrote the plan proposes, or the first who stays, if the author goes.
    let in_force = session.desk.archive().board()?;
    let stays =
        |name: &&Name| made.board.by_name(name).is_some() && in_force.by_name(name).is_some();
    let names = in_force.governors().iter().map(|governor| &governor.name);
    let proposer = core::iter::once(&made.author).chain(names).find(stays);
    let proposer = proposer.unwrap_or(&made.author).clone();
    let next = NextKey { board: made.board.clone(), roster, proposer, recovery };
    next.store(home, &made.key, identity)?;
    durable::erase(state)?;
    Ok(next)
}

fn in_force(session: &Session<'_>) -> Look {
    let Ok(board) = session.desk.archive().board() else {
        let text = "no policy is known here yet".to_owned();
        return Look::Waiting { answer: json!({"status": "no_policy"}), text };
    };
    let names: Vec<Name> = board.governors().iter().map(|g| g.name.clone()).collect();
    let text = format!(
        "no change is planned; in force: key epoch {}, {} of {}",
        board.epoch(),
        board.threshold(),
        list(&names)
    );
    let answer = json!({
        "status": "in_force", "epoch": board.epoch(), "threshold": board.threshold(),
        "governors": names, "group": board.group(),
    });
    Look::Done { answer, text }
}

fn waiting(session: &Session<'_>, status: &Status) -> Look {
    match status {
        Status::NotIncluded(plan) => {
            let epoch = plan.epoch;
            let text = format!(
                "the change to key epoch {epoch} goes on without you; what is left to you is to vote \
                 on the policy it comes to"
            );
            Look::Done { answer: json!({"status": "not_included", "epoch": epoch}), text }
        }
        Status::Waiting { kind, missing } => Look::Waiting {
            answer: json!({"status": "waiting", "for": missing, "what": kind}),
            text: format!("waiting for {} ({kind}); run this again afterwards", list(missing)),
        },
        Status::NoPlan | Status::Confirm(_) | Status::Made(_) => in_force(session),
    }
}
