//! `borgios vote`: one ballot for one slot, once and for good.
//!
//! The order is the discipline of the nonces: lock, intent, compute, ballot (stored and read back),
//! erase the seed, send. [`crate::slots`] says what holds after a crash at any of these; [`cast`]
//! is that order in code.

use std::collections::BTreeSet;
use std::path::PathBuf;

use borgios_policy::outcome::Thought;
use borgios_policy::round::OpenRound;
use borgios_policy::tally::State;
use borgios_policy::vote::{Intent, Vote as Choice, VoteError};
use borgios_policy::{Ballot, Name, Object as _, Slot};
use borgios_types::{Digest, Envelope, Round};
use clap::{Args, ValueEnum};
use serde_json::json;

use crate::carrier;
use crate::clones;
use crate::commands::{inbox, vote_checks};
use crate::context::Context;
use crate::desk::OpenVote;
use crate::failure::{Failure, OrFail as _};
use crate::next_key;
use crate::reviewed::Reviewed;
use crate::session::{Session, Settled};
use crate::slots::SlotState;
use crate::subject::Subject;
use crate::succession::{self, Second, Words};
use crate::upholding;

/// Approve or reject, once and for good
#[derive(Debug, Args)]
pub(crate) struct Vote {
    /// What to vote on: release/2, or the first digits of a proposal's id
    #[arg(value_name = "ID")]
    subject: Subject,
    /// For or against it
    choice: ForOrAgainst,
    /// Why you reject it
    #[arg(long, value_name = "TEXT", required_if_eq("choice", "reject"))]
    reason: Option<String>,
    /// A word to the other governors
    #[arg(long, value_name = "TEXT")]
    comment: Option<String>,
    /// Approve without this governor, who has published no nonces; again for each
    #[arg(long, value_name = "NAME")]
    without: Vec<Name>,
    /// The round to vote in [default: the newest that is open]
    #[arg(long, value_name = "N")]
    round: Option<u32>,
    /// A component of the release that you built yourself, or its installer; again for each
    #[arg(long, value_name = "FILE")]
    rebuilt: Vec<PathBuf>,
    /// What you built it with, for the others
    #[arg(long, value_name = "TEXT", requires = "rebuilt")]
    env: Option<String>,
    /// Vote even if the place can then neither pass nor open a further round
    #[arg(long)]
    even_if_stuck: bool,
    /// Take the objects of a file that a carrier brought, before you vote
    #[arg(long = "in", value_name = "FILE")]
    brought: Option<PathBuf>,
    /// Write the ballot into a file for a carrier
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// What can be said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ForOrAgainst {
    /// Sign it
    Approve,
    /// Give up your signature for it
    Reject,
}

/// How this run came by the ballot.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Made {
    Now,
    Before,
}

impl Vote {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        if self.choice == ForOrAgainst::Approve && self.reason.is_some() {
            return Err(Failure::usage("an approval takes no --reason")
                .hint("`--comment TEXT` says a word to the other governors"));
        }
        if self.choice == ForOrAgainst::Reject && !self.rebuilt.is_empty() {
            return Err(Failure::usage("a rejection takes no --rebuilt"));
        }
        let mut session = Session::open(context)?;
        if let Some(path) = &self.brought {
            session.desk.take_in(path)?;
        }
        clones::refuse(&mut session)?;
        let (slot, statement) = self.target(&session)?;
        if session.desk.membership().recovery.is_some() {
            return self.vote_to_recover(context, session, statement);
        }
        if succession::is_newcomer(&session, &statement) {
            return self.vote_as_newcomer(context, session, statement);
        }
        succession::refuse_recoverers(&session, &statement)?;
        let place = format!("{}/{}", slot.lane, slot.seq);
        let what = || format!("no ballot was made for {place}");
        let state = match session.on_board() {
            Ok((board, _)) => session.slots().state_under(slot, board)?,
            Err(_) => session.slots().state(slot)?,
        };
        let (ballot, made) = match state {
            SlotState::Cast(envelope) => (self.again(slot, statement, envelope)?, Made::Before),
            SlotState::Begun(intent) => {
                let intent = self.resume(&session, slot, statement, intent)?;
                (cast(&session, &intent).map_err(|failure| failure.within(what()))?, Made::Now)
            }
            SlotState::Fresh | SlotState::Absent => {
                let intent = self.intent(&mut session, slot, statement)?;
                refuse_without_seed(&session, &intent).map_err(|failure| failure.within(what()))?;
                session.slots().begin(slot, &intent)?;
                (cast(&session, &intent).map_err(|failure| failure.within(what()))?, Made::Now)
            }
        };
        session.desk.publish(&ballot).map_err(|failure| {
            failure
                .within(format!("the ballot for {place} is stored, but was not sent"))
                .hint("run the same command again: it sends the stored ballot")
        })?;
        let mut done = || -> Result<_, Failure> {
            let second = succession::second_ballot(&mut session, statement, &self.words())?;
            let settled = session.settle()?;
            if let Some(path) = &self.out {
                carrier::write(path, &self.carried(&session, &ballot)?)?;
            }
            Ok((second, settled))
        };
        let (second, settled) = done().map_err(|failure| {
            failure
                .within(format!("the ballot for {place} counts, and what follows it was not done"))
        })?;
        if let Some(second) = &second {
            context.printer.say(&second.to_string());
        }
        let cast = (&ballot, made, second.as_ref());
        self.answer(context, &session, (slot, statement), cast, &settled)
    }

    /// What a carrier takes from here: the ballot, and what this governor gave since in sessions.
    fn carried(&self, session: &Session<'_>, ballot: &Envelope) -> Result<Vec<Envelope>, Failure> {
        let mut all = vec![ballot.clone()];
        let read = Ballot::parse(ballot).or_fail(|| "the stored ballot is damaged")?;
        let boards = session.desk.archive().boards();
        let Some(board) = boards.into_iter().find(|board| board.group() == read.group) else {
            return Ok(all);
        };
        for number in 0.. {
            let Some(share) = session.slots().share(read.slot(board), number)? else { break };
            all.push(share);
        }
        Ok(all)
    }

    /// The one ballot of who is on the board that a policy makes, and not on the one in force.
    fn vote_as_newcomer(
        self,
        context: &Context,
        mut session: Session<'_>,
        statement: Digest,
    ) -> Result<(), Failure> {
        let second = succession::second_ballot(&mut session, statement, &self.words())?;
        let second = second.ok_or_else(|| Failure::new("there is no board to vote for"))?;
        let settled = session.settle()?;
        self.answer_for_other(context, &session, statement, &second, &settled)
    }

    /// The answer to a vote for another board than the one in force.
    fn answer_for_other(
        &self,
        context: &Context,
        session: &Session<'_>,
        statement: Digest,
        cast: &Second,
        settled: &Settled,
    ) -> Result<(), Failure> {
        let archive = session.desk.archive();
        let mut answer = cast.to_json();
        answer["statement"] = json!(statement);
        answer["signed"] = json!(archive.chain().known(&statement).is_some());
        answer["waits"] = json!(archive.recoveries().waiting().any(|one| one.id() == statement));
        answer["settled"] = json!(settled);
        let mut text = cast.to_string();
        for line in settled.lines() {
            text.push('\n');
            text.push_str(&line);
        }
        context.printer.answer(&answer, &text)
    }

    /// The one ballot of a member of the recovery board.
    fn vote_to_recover(
        self,
        context: &Context,
        mut session: Session<'_>,
        statement: Digest,
    ) -> Result<(), Failure> {
        let without = self.without.iter().cloned().collect();
        let words = Words { without, ..self.words() };
        let cast = succession::recovery_ballot(&mut session, statement, &words)?;
        let settled = session.settle()?;
        if let Some(path) = &self.out {
            carrier::write(path, core::slice::from_ref(&cast.ballot))?;
        }
        self.answer_for_other(context, &session, statement, &cast, &settled)
    }

    fn words(&self) -> Words {
        let rejects = self.choice == ForOrAgainst::Reject;
        let reject = rejects.then(|| self.reason.clone().unwrap_or_default());
        Words { reject, comment: self.comment.clone(), without: BTreeSet::new() }
    }

    /// Which slot and document is meant. A place that is decided by now is still this governor's
    /// to ask for, if a ballot is stored for it.
    fn target(&self, session: &Session<'_>) -> Result<(Slot, Digest), Failure> {
        let failure = match session.desk.named(&self.subject, self.round.map(Round)) {
            Ok((vote, id)) => return Ok((vote.slot, id)),
            Err(failure) => failure,
        };
        let mut found = None;
        for envelope in session.slots().ballots()? {
            let ballot = Ballot::parse(&envelope).or_fail(|| "a stored ballot is damaged")?;
            let wanted = self.round.is_none_or(|round| ballot.round == Round(round));
            if wanted && self.subject.names(ballot.lane, ballot.seq, &ballot.statement) {
                let board = session.desk.archive().boards().find(|b| b.group() == ballot.group);
                let slot = board.map(|board| (ballot.slot(board), ballot.statement));
                found = found.max(slot);
            }
        }
        match found {
            // A ballot for a place that is nobody's any more is of no use to anybody.
            Some((slot, _)) => match session.desk.closed(slot.lane, slot.seq) {
                Some(closed) => Err(closed),
                None => found.ok_or(failure),
            },
            None => Err(failure),
        }
    }

    /// The stored ballot of a slot, if it says what is asked for now.
    fn again(&self, slot: Slot, statement: Digest, stored: Envelope) -> Result<Envelope, Failure> {
        let ballot = Ballot::parse(&stored).or_fail(|| "the stored ballot is damaged")?;
        let same = ballot.approves() == (self.choice == ForOrAgainst::Approve);
        if same && ballot.statement == statement {
            return Ok(stored);
        }
        Err(used(slot, ballot.approves(), ballot.statement, "holds"))
    }

    /// What a vote that was cut off may still become: see the argument in [`crate::slots`].
    fn resume(
        &self,
        session: &Session<'_>,
        slot: Slot,
        statement: Digest,
        begun: Intent,
    ) -> Result<Intent, Failure> {
        let before = Digest::of(begun.statement.as_bytes());
        let approving = !matches!(begun.vote, Choice::Reject { .. });
        match (approving, self.choice) {
            (true, ForOrAgainst::Approve) | (false, ForOrAgainst::Reject)
                if before == statement =>
            {
                let printer = session.desk.context().printer;
                printer.say(&format!("going on with the vote for {slot} that was cut off"));
                Ok(begun)
            }
            (true, ForOrAgainst::Reject) => {
                let reason = self.reason.clone().unwrap_or_default();
                let text = self.text(session, slot, statement)?.unwrap_or(begun.statement);
                let rejection = Intent {
                    statement: text,
                    vote: Choice::Reject { reason },
                    comment: self.comment.clone(),
                    // Whoever rejects gives no share.
                    reveal: None,
                    rebuild: None,
                    ..begun
                };
                // The old intent is replaced in one step; from here on this slot only rejects.
                session.slots().begin(slot, &rejection)?;
                Ok(rejection)
            }
            (approving, _) => Err(used(slot, approving, before, "was begun for")),
        }
    }

    /// The exact text of a proposal for this slot.
    fn text(
        &self,
        session: &Session<'_>,
        slot: Slot,
        statement: Digest,
    ) -> Result<Option<String>, Failure> {
        let vote = session.desk.vote(slot.lane, slot.seq, slot.round)?;
        Ok(vote.documents.get(&statement).map(|document| document.text.clone()))
    }

    /// What this slot will be used for. Nothing is stored yet.
    fn intent(
        &self,
        session: &mut Session<'_>,
        slot: Slot,
        statement: Digest,
    ) -> Result<Intent, Failure> {
        let context = session.desk.context();
        let place = format!("{}/{}", slot.lane, slot.seq);
        let what = || format!("no ballot was made for {place}");
        let text = self
            .text(session, slot, statement)?
            .ok_or_else(|| Failure::new(what()).because("the proposal's text is not at hand"))?;
        let ballots = session.desk.archive().ballots_at(slot.lane, slot.seq);
        let counter = next_counter(session)?;
        let (board, me) = session.on_board()?;
        let dead = session.desk.archive().dead();
        let open = OpenRound::check_vetoed(board, slot, &ballots, dead)
            .or_fail(what)
            .map_err(|failure| failure.code(Failure::ROUND_CLOSED))?;
        let approve = self.choice == ForOrAgainst::Approve;
        let thought = Thought { governor: me, statement, approve };
        let without: BTreeSet<Name> = self.without.iter().cloned().collect();
        vote_checks::refuse_stuck(session, slot, &ballots, thought, &without, self.even_if_stuck)?;
        let comment = self.comment.clone();
        if self.choice == ForOrAgainst::Reject {
            vote_checks::warn_of_rejection(session, slot, statement)?;
            let reason = self.reason.clone().unwrap_or_default();
            return Intent::reject(board, me, &open, &text, reason, comment, counter).or_fail(what);
        }
        if let Some(stranger) = self.without.iter().find(|name| board.by_name(name).is_none()) {
            return Err(Failure::usage(format!("--without {stranger}: not on the board")));
        }
        let vote = session.desk.vote(slot.lane, slot.seq, slot.round)?;
        let standing = vote.tally.documents.get(&statement);
        if standing.is_some_and(|standing| standing.state == State::Dead) {
            return Err(Failure::new(what())
                .because(format!("{} is dead: t governors are bound otherwise", statement.short()))
                .hint("a further round is open: propose it there"));
        }
        upholding::refuse_both(session, slot)?;
        if succession::successor(board, &text).is_some() {
            next_key::refuse_further(&context.home, context.now(), &what())?;
        }
        // Nobody signs what no node would obey.
        let draft = Envelope::unsigned(slot.lane.kind(), text.clone());
        let drafted = session.desk.archive().chain().review(context.now(), &draft).or_fail(what)?;
        let sealed = vote_checks::sealed_share(session, &drafted)
            .map_err(|failure| failure.within(what()))?;
        let reviewed = Reviewed::load(&context.home)?;
        let Some(shown) = reviewed.shown_with(&statement) else {
            self.refuse_another(session, &reviewed, slot, statement)?;
            let short = statement.short();
            return Err(Failure::new(what())
                .code(Failure::UNREVIEWED)
                .because(format!("{short} was never shown here"))
                .hint(format!(
                    "`borgios review {short}` shows what it would change; then vote again"
                )));
        };
        vote_checks::refuse_new_rival(session, &vote, statement, shown)?;
        let approve = |session: &Session<'_>| {
            let (board, me) = session.on_board()?;
            let pools = session.desk.archive().papers_for(board, slot);
            let comment = comment.clone();
            if board.one_touch().is_err() {
                // The nonces are on the disk before the intent names them.
                let seed = session.slots().nonce_or_draw(slot, 0, session.identity())?;
                let key = session.share()?;
                return Ok(Intent::commit(board, &key, &open, &text, &seed, comment, counter));
            }
            Ok(Intent::approve(board, me, &open, &text, &pools, &without, comment, counter))
        };
        let made = match approve(session)? {
            // A place that was reached faster than pools were refilled: make the own one now.
            Err(VoteError::NoOwnPool(_)) => {
                session.settle()?;
                approve(session)?
            }
            made => made,
        };
        let intent = made.map_err(|error| no_intent(&place, error))?;
        let intent = match vote_checks::rebuild(&self.rebuilt, self.env.as_deref(), &drafted)
            .map_err(|failure| failure.within(what()))?
        {
            Some(rebuild) => intent.with_rebuild(rebuild),
            None => intent,
        };
        Ok(match sealed {
            Some(sealed) => intent.with_reveal(sealed),
            None => intent,
        })
    }

    /// Refuses to approve by its place what is not the document that was reviewed there: a
    /// further round may have opened with another one since.
    fn refuse_another(
        &self,
        session: &Session<'_>,
        reviewed: &Reviewed,
        slot: Slot,
        statement: Digest,
    ) -> Result<(), Failure> {
        let Subject::Place(lane, seq) = self.subject else { return Ok(()) };
        let proposals = session.desk.archive().proposals().values();
        let mut seen = proposals.filter(|held| reviewed.contains(&held.value.statement_id()));
        let there = seen.find(|held| {
            held.value.parse_statement().is_ok_and(|other| (other.lane, other.seq) == (lane, seq))
        });
        let Some(other) = there else { return Ok(()) };
        let (now, other) = (statement.short(), other.value.statement_id().short());
        Err(Failure::new(format!("no ballot was made for {lane}/{seq}"))
            .code(Failure::UNREVIEWED)
            .because(format!(
                "{now}, of round {}, is not the one you reviewed: {other}",
                slot.round
            ))
            .hint(format!("`borgios review {now}` shows what would change now")))
    }

    fn answer(
        &self,
        context: &Context,
        session: &Session<'_>,
        (slot, statement): (Slot, Digest),
        (ballot, made, second): (&Envelope, Made, Option<&Second>),
        settled: &Settled,
    ) -> Result<(), Failure> {
        let place = format!("{}/{}", slot.lane, slot.seq);
        let vote = session.desk.vote(slot.lane, slot.seq, slot.round)?;
        let signed = session.desk.archive().chain().known(&statement).is_some();
        let approvals: Vec<String> = names(&vote, &statement);
        let threshold = session.desk.archive().board()?.threshold();
        let needed = inbox::needed(&session.desk, &vote, &statement)?;
        let answer = json!({
            "place": place, "round": slot.round, "statement": statement, "ballot": ballot.id(),
            "choice": if self.choice == ForOrAgainst::Approve { "approve" } else { "reject" },
            "again": made == Made::Before, "approvals": approvals, "threshold": threshold,
            "needed": needed, "signed": signed, "second": second.map(Second::to_json), "settled": settled,
            "shares": settled.shares, "sent_to": session.desk.places(),
        });
        let done = match self.choice {
            ForOrAgainst::Approve => "approved",
            ForOrAgainst::Reject => "rejected",
        };
        let again =
            if made == Made::Before { " before; the stored ballot was sent again" } else { "" };
        let mut text = format!("{done} {place} ({}){again}", statement.short());
        if !signed {
            text.push_str(&format!("\n{} of {needed} approvals", approvals.len()));
        }
        for line in settled.lines() {
            text.push('\n');
            text.push_str(&line);
        }
        if !signed && session.desk.archive().board()?.one_touch().is_err() {
            text.push_str("\n`borgios sync` gives your share once enough approve");
        }
        if let Some(path) = &self.out {
            text.push_str(&format!("\n{} is for the carrier", path.display()));
        } else if session.desk.is_offline() {
            text.push_str("\nnot sent anywhere yet: `borgios sync` with a node or folder sends it");
        }
        context.printer.answer(&answer, &text)
    }
}

/// Refuses to begin what could not be finished: an approval whose nonces are not in this folder. Begun, it
/// would keep the slot for ever.
pub(crate) fn refuse_without_seed(session: &Session<'_>, intent: &Intent) -> Result<(), Failure> {
    let needed = matches!(intent.vote, Choice::Approve { .. });
    if !needed || session.slots().seed(intent.slot, session.identity())?.is_some() {
        return Ok(());
    }
    Err(Failure::new(format!("the nonces that you published for {} are not in this folder", intent.slot))
        .code(Failure::CLONE)
        .hint(
            "if this folder is the one that counts, `borgios governor repair --anew --exchange DIR` voids \
             them and publishes new ones; else vote with the folder that has them",
        ))
}

/// The order that keeps nonces safe. The intent is on the disk already.
fn cast(session: &Session<'_>, intent: &Intent) -> Result<Envelope, Failure> {
    let slots = session.slots();
    let (board, _) = session.on_board()?;
    // 1. Compute: it follows from intent and seed alone.
    let seed = match intent.vote {
        Choice::Approve { .. } => slots.seed(intent.slot, session.identity())?,
        Choice::Commit { .. } => slots.nonce(intent.slot, 0, session.identity())?,
        Choice::Reject { .. } => None,
    };
    let pools = session.desk.archive().papers_for(board, intent.slot);
    let ballot = intent
        .ballot(board, &session.share()?, seed.as_ref(), &pools)
        .or_fail(|| format!("the ballot for {} could not be made", intent.slot))?;
    drop(seed);
    let envelope = ballot.to_envelope().sign(session.identity().ssh());
    Ballot::verify(board, &envelope).or_fail(|| "this program made a ballot it would refuse")?;
    // 2. Store, sync, read back.
    let stored = slots.cast(intent.slot, &envelope)?;
    // 3. Only now the seed goes; in two touches it is needed for the first session.
    slots.erase(intent.slot)?;
    if matches!(intent.vote, Choice::Reject { .. }) {
        slots.erase_nonce(intent.slot, 0)?;
    }
    Ok(stored)
}

/// The count of this governor's next ballot. One who had the name before counted for themselves, up to where
/// no further ballot can be made.
pub(crate) fn next_counter(session: &Session<'_>) -> Result<u64, Failure> {
    let keys = clones::keys(session, session.identity().name());
    let mut last = 0;
    let all = session.slots().ballots()?.into_iter();
    for envelope in all.filter(|ballot| keys.iter().any(|key| ballot.signed_by(key))) {
        let ballot = Ballot::parse(&envelope).or_fail(|| "a stored ballot is damaged")?;
        last = last.max(ballot.counter);
    }
    Ok(last + 1)
}

fn used(slot: Slot, approving: bool, statement: Digest, how: &str) -> Failure {
    let what = if approving { "approval" } else { "rejection" };
    let place = format!("{}/{}", slot.lane, slot.seq);
    let verb = if approving { "approve" } else { "reject --reason …" };
    Failure::new(format!("no ballot was made for {place}"))
        .code(Failure::SLOT_USED)
        .because(format!(
            "slot {slot} {how} your {what} of {}; a slot takes one ballot for ever",
            statement.short()
        ))
        .hint(format!(
            "`borgios vote {} {verb}` finishes or sends that one again; a further round opens \
             when every document of this one is dead",
            statement.short()
        ))
}

/// Says in the command's own words what kept a vote from being begun.
fn no_intent(place: &str, error: VoteError) -> Failure {
    let what = format!("no ballot was made for {place}");
    match error {
        VoteError::MissingPools { names, .. } => {
            let list = names.iter().map(Name::as_str).collect::<Vec<_>>();
            let without: Vec<String> =
                list.iter().map(|name| format!("--without {name}")).collect();
            let (has, run, them) = match list[..] {
                [one] => ("has", "runs", one),
                _ => ("have", "each run", "them"),
            };
            let who = list.join(" and ");
            Failure::new(what)
                .code(Failure::POOL_MISSING)
                .because(format!(
                    "{who} {has} published no nonces for this slot, so no signature with {them} is \
                     possible"
                ))
                .hint(format!(
                    "{who} {run} `borgios sync` on their own laptop, which publishes them; then run this \
                     again. If it says the same, or cannot wait: `borgios vote {place} approve {}` votes \
                     for the other signing sets",
                    without.join(" ")
                ))
        }
        VoteError::TwoPools { ref name, .. } => {
            let hint = format!("`borgios vote {place} approve --without {name}` votes without");
            Failure::new(what).code(Failure::POOL_MISSING).cause(error).hint(hint)
        }
        VoteError::NoOwnPool(_) => Failure::new(what).code(Failure::POOL_MISSING).cause(error).hint(
            "run `borgios sync` with a node or exchange folder, which publishes nonces for this slot; then \
             run this again",
        ),
        error => Failure::new(what).cause(error),
    }
}

/// Who approves a document so far.
fn names(vote: &OpenVote, statement: &Digest) -> Vec<String> {
    let standing = vote.tally.documents.get(statement);
    standing.into_iter().flat_map(|s| &s.approvals).map(ToString::to_string).collect()
}
