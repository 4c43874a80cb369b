//! The vote on a change of the board: two boards sign one document, each in a slot of its own.
//!
//! ```text
//! borgios vote policy/p+1 ─▶ ballot in the slot of the board in force   (vote.rs)
//!                         └▶ ballot in the slot of the board it makes   (here)
//! both signed ─▶ merged ─▶ verified ─▶ published
//! ```
//!
//! Who sits on both boards casts both ballots with one command, who is new casts one, who goes
//! casts one. Where a recovery board speaks in the place of the board in force, its members vote in
//! slots of their own: [`recovery_ballot`]. The order that keeps nonces safe is that of [`crate::commands::vote`].

use std::collections::BTreeSet;

use borgios_policy::round::OpenRound;
use borgios_policy::tally::{State, tally};
use borgios_policy::vote::{Intent, Vote as Choice, VoteError};
use borgios_policy::{
    Ballot, Board, KeyShare, Lane, Name, Object as _, Policy, Pool, Ruling, Slot, Statement,
    merge_signatures,
};
use borgios_types::{Digest, Envelope, Seq};

use crate::commands::vote::refuse_without_seed;
use crate::desk::Desk;
use crate::failure::{Failure, OrFail as _};
use crate::next_key::{self, NextKey};
use crate::reviewed::Reviewed;
use crate::session::Session;
use crate::slots::SlotState;

/// What is said with the ballot.
#[derive(Clone, Debug)]
pub(crate) struct Words {
    /// Why not; absent approves.
    pub(crate) reject: Option<String>,
    /// A word to the others.
    pub(crate) comment: Option<String>,
    /// Members of a recovery board who have no nonces there.
    pub(crate) without: BTreeSet<Name>,
}

/// A board that votes beside the one in force, and the slot it votes in.
struct Seat {
    board: Board,
    slot: Slot,
    open: OpenRound,
    /// `the new board`, for people.
    of: &'static str,
}

/// How that board stands on the document, for people.
#[derive(Clone, Debug)]
pub(crate) struct Second {
    /// The slot.
    pub(crate) slot: Slot,
    /// This governor's ballot in it.
    pub(crate) ballot: Envelope,
    /// Approvals so far.
    pub(crate) approvals: usize,
    /// t of that board.
    pub(crate) threshold: u16,
    of: &'static str,
}

/// The board that a document makes, if it is another one than the board in force.
pub(crate) fn successor(in_force: &Board, text: &str) -> Option<Board> {
    let draft = Envelope::unsigned(Lane::Policy.kind(), text.to_owned());
    let statement = Statement::parse(&draft).ok().filter(|s| s.lane == Lane::Policy)?;
    let board = Policy::parse(&statement.body).ok()?.board;
    (board.group() != in_force.group()).then_some(board)
}

/// A change of the board that is being voted on.
pub(crate) struct UnderWay {
    /// `policy/3`.
    place: String,
    rulings: Vec<Ruling>,
}

impl UnderWay {
    /// The one that could still come into force, if there is one.
    pub(crate) fn of(desk: &Desk<'_>) -> Result<Option<Self>, Failure> {
        let in_force = desk.archive().board()?;
        for vote in
            desk.votes()?.iter().filter(|vote| vote.slot.lane == Lane::Policy && !vote.recovery)
        {
            for (id, document) in &vote.documents {
                let standing = vote.tally.documents.get(id);
                let dead = standing.is_some_and(|standing| standing.state == State::Dead)
                    || desk.archive().is_dead(id);
                let Ok(policy) = Policy::parse(&document.statement.body) else { continue };
                if !dead && policy.board.group() != in_force.group() {
                    return Ok(Some(Self { place: place(vote.slot), rulings: policy.rulings }));
                }
            }
        }
        Ok(None)
    }

    /// What becomes of a place at which something is voted on, once this is in force.
    pub(crate) fn warning(&self, lane: Lane, seq: Seq) -> String {
        let closes = self
            .rulings
            .iter()
            .any(|ruling| (ruling.lane, ruling.seq, ruling.winner) == (lane, seq, None));
        let change = &self.place;
        if closes {
            return format!(
                "{change}, which is voted on, changes the board and closes {lane}/{seq}: once it is in \
                 force, nothing that is voted on there counts"
            );
        }
        format!(
            "{change}, which is voted on, changes the board: if it is in force before {lane}/{seq} is \
             signed, the new board has to vote on that again"
        )
    }
}

/// Adds the new board's signature to a document that the board in force has signed, if it needs one
/// and its ballots are there; else gives it back as it is.
pub(crate) fn completed(
    desk: &Desk<'_>,
    slot: Slot,
    signed: Envelope,
) -> Result<Envelope, Failure> {
    if slot.lane != Lane::Policy {
        return Ok(signed);
    }
    let archive = desk.archive();
    let Some(board) = successor(archive.board()?, &signed.payload) else { return Ok(signed) };
    let slot = Slot { epoch: board.epoch(), ..slot };
    let texts = [signed.payload.clone()];
    let (pools, ballots) =
        (archive.papers_for(&board, slot), archive.ballots_at(slot.lane, slot.seq));
    let theirs = tally(&board, slot, &texts, &pools, &ballots);
    let merged = theirs.signed().and_then(|theirs| merge_signatures(&signed, theirs));
    Ok(merged.unwrap_or(signed))
}

/// Whether this governor's only ballot on a document is that of the board it makes.
pub(crate) fn is_newcomer(session: &Session<'_>, statement: &Digest) -> bool {
    document(session, statement).is_some_and(|Matter { text, recovery, .. }| {
        if !recovery && session.on_board().is_ok() {
            return false;
        }
        let in_force = session.desk.archive().board();
        let board = in_force.ok().and_then(|board| successor(board, &text));
        board.is_some_and(|board| is_on(session, &board))
    })
}

/// Refuses a vote of the board in force on what the recovery board votes on.
pub(crate) fn refuse_recoverers(session: &Session<'_>, id: &Digest) -> Result<(), Failure> {
    match document(session, id) {
        Some(Matter { recovery: true, slot, .. }) => {
            let what = format!("the recovery board votes on {} of {}", id.short(), place(slot));
            Err(Failure::new(what).hint(
                "any sign of life of the board in force ends it at a server: `borgios beacon --node \
                 HOST:PORT`",
            ))
        }
        Some(_) | None => Ok(()),
    }
}

/// Casts, or sends again, the ballot in the slot of the board that the document makes; none if it
/// makes none, or this governor is not on it.
pub(crate) fn second_ballot(
    session: &mut Session<'_>,
    statement: Digest,
    words: &Words,
) -> Result<Option<Second>, Failure> {
    let Some(matter) = document(session, &statement) else { return Ok(None) };
    let in_force = session.desk.archive().board()?;
    let Some(board) = successor(in_force, &matter.text) else { return Ok(None) };
    if !is_on(session, &board) {
        return Ok(None);
    }
    refuse_another_board(session, &board)?;
    let open = open(session, &matter)?.for_successor(&board);
    let seat = Seat { slot: open.slot(), board, open, of: "the new board" };
    ballot_in(session, &seat, &matter.text, statement, words).map(Some)
}

/// Refuses a board that has this governor's new key, and is not the one that the ceremony made: whoever
/// writes the proposal may have changed an identity, or a recipient.
fn refuse_another_board(session: &Session<'_>, board: &Board) -> Result<(), Failure> {
    let made = NextKey::load(&session.desk.context().home)?.map(|next| next.board);
    match made.filter(|made| made.group() == board.group() && made != board) {
        None => Ok(()),
        Some(_) => Err(Failure::new(
            "the board in this proposal is not the one that the change of the board made",
        )
        .because("it has the same key, and other members, identities or recipients")
        .hint(
            "reject it with `borgios vote reject`, and ask whoever proposed it; `borgios governor change` \
             of another member proposes the right one with `--propose`",
        )),
    }
}

/// Casts, or sends again, the ballot of a member of the recovery board on what it votes on.
pub(crate) fn recovery_ballot(
    session: &mut Session<'_>,
    statement: Digest,
    words: &Words,
) -> Result<Second, Failure> {
    let matter = document(session, &statement).filter(|matter| matter.recovery);
    let matter = matter.ok_or_else(|| {
        Failure::new(format!("the recovery board has no vote on {}", statement.short()))
            .hint("it votes on what its own members propose, once the policy in force names it")
    })?;
    let (board, _) = session.recovering()?;
    let board = board.clone();
    let open = open(session, &matter)?;
    let seat = Seat { slot: open.slot(), board, open, of: "the recovery board" };
    ballot_in(session, &seat, &matter.text, statement, words)
}

/// The one ballot of this governor in the slot of a board.
fn ballot_in(
    session: &mut Session<'_>,
    seat: &Seat,
    text: &str,
    statement: Digest,
    words: &Words,
) -> Result<Second, Failure> {
    let Seat { board, slot, of, .. } = seat;
    let slot = *slot;
    let what = || format!("no ballot was made for {} as a member of {of}", place(slot));
    let ballot = match session.slots().state_under(slot, board)? {
        SlotState::Cast(stored) => again(seat, statement, words, stored)?,
        SlotState::Begun(intent) => {
            let begun = Digest::of(intent.statement.as_bytes());
            let approving = !matches!(intent.vote, Choice::Reject { .. });
            if begun != statement || approving != words.reject.is_none() {
                return Err(used(seat, begun));
            }
            let key = share(session, board)?;
            cast(session, board, &key, &intent).map_err(|failure| failure.within(what()))?
        }
        SlotState::Fresh | SlotState::Absent => {
            let key = share(session, board).map_err(|failure| failure.within(what()))?;
            if words.reject.is_none() {
                session.generation(board).map_err(|failure| failure.within(what()))?;
            }
            let intent = intent(session, seat, &key, text, words)?;
            refuse_without_seed(session, &intent).map_err(|failure| failure.within(what()))?;
            session.slots().begin(slot, &intent)?;
            cast(session, board, &key, &intent).map_err(|failure| failure.within(what()))?
        }
    };
    session.desk.publish(&ballot).map_err(|failure| {
        failure
            .within(format!("the ballot for {} is stored, but was not sent", place(slot)))
            .hint("run the same command again: it sends the stored ballot")
    })?;
    let archive = session.desk.archive();
    let (pools, ballots) =
        (archive.papers_for(board, slot), archive.ballots_at(slot.lane, slot.seq));
    let counted = tally(board, slot, &[text.to_owned()], &pools, &ballots);
    let standing = counted.documents.get(&statement);
    let approvals = standing.map_or(0, |standing| standing.approvals.len());
    Ok(Second { slot, ballot, approvals, threshold: board.threshold().0, of })
}

/// What is voted on.
struct Matter {
    /// The exact text of the proposal.
    text: String,
    /// The slot of the board that speaks: the one in force, or the recovery board.
    slot: Slot,
    /// Whether it is the recovery board.
    recovery: bool,
}

fn document(session: &Session<'_>, statement: &Digest) -> Option<Matter> {
    let (desk, archive) = (&session.desk, session.desk.archive());
    let mut proposals = archive.proposals().values();
    let held = proposals.find(|held| held.value.statement_id() == *statement)?;
    let parsed = held.value.parse_statement().ok()?;
    let recovery = desk.is_recoverers(held);
    let board = match recovery {
        true => archive.recovery_board()?.board(),
        false => archive.board().ok()?,
    };
    let slot = crate::archive::slot_of(board, &parsed);
    Some(Matter { text: held.value.statement.clone(), slot, recovery })
}

/// Whether the round of the board that speaks is open.
fn open(session: &Session<'_>, matter: &Matter) -> Result<OpenRound, Failure> {
    let (archive, slot) = (session.desk.archive(), matter.slot);
    let recoverers = archive.recovery_board().filter(|_| matter.recovery);
    let board = match recoverers {
        Some(paper) => paper.board(),
        None => archive.board()?,
    };
    let ballots = archive.ballots_at(slot.lane, slot.seq);
    OpenRound::check_vetoed(board, slot, &ballots, archive.dead())
        .or_fail(|| format!("no ballot was made for {}", place(slot)))
        .map_err(|failure| failure.code(Failure::ROUND_CLOSED))
}

fn is_on(session: &Session<'_>, board: &Board) -> bool {
    let identity = session.identity();
    board.by_name(identity.name()).is_some_and(|me| me.key == identity.ssh().public())
}

fn share(session: &Session<'_>, board: &Board) -> Result<KeyShare, Failure> {
    let (home, identity) = (&session.desk.context().home, session.identity());
    next_key::share(home, board, identity.name(), identity).map_err(|failure| {
        failure.hint("take part in the change first: `borgios governor change --exchange DIR`")
    })
}

/// The stored ballot, if it says what is asked for now.
fn again(
    seat: &Seat,
    statement: Digest,
    words: &Words,
    stored: Envelope,
) -> Result<Envelope, Failure> {
    let ballot = Ballot::parse(&stored).or_fail(|| "the stored ballot is damaged")?;
    if ballot.statement == statement && ballot.approves() == words.reject.is_none() {
        return Ok(stored);
    }
    Err(used(seat, ballot.statement))
}

fn used(seat: &Seat, statement: Digest) -> Failure {
    let Seat { slot, of, .. } = seat;
    Failure::new(format!("no ballot was made for {} as a member of {of}", place(*slot)))
        .code(Failure::SLOT_USED)
        .because(format!(
            "E_SLOT_USED: slot {slot} of {of} holds another choice of yours, on {}",
            statement.short()
        ))
        .hint("a slot takes one ballot for ever")
}

/// What the slot will be used for. Nothing is stored yet.
fn intent(
    session: &mut Session<'_>,
    seat: &Seat,
    key: &KeyShare,
    text: &str,
    words: &Words,
) -> Result<Intent, Failure> {
    let Seat { board, slot, open, of } = seat;
    let slot = *slot;
    let what = || format!("no ballot was made for {} as a member of {of}", place(slot));
    let me: Name = session.identity().name().clone();
    let counter = crate::commands::vote::next_counter(session)?;
    let comment = words.comment.clone();
    if let Some(reason) = words.reject.clone() {
        return Intent::reject(board, &me, open, text, reason, comment, counter).or_fail(what);
    }
    let id = Digest::of(text.as_bytes());
    if !Reviewed::load(&session.desk.context().home)?.contains(&id) {
        let short = id.short();
        return Err(Failure::new(what())
            .code(Failure::UNREVIEWED)
            .because(format!("{short} was never shown here"))
            .hint(format!(
                "`borgios review {short}` shows what it would change; then vote again"
            )));
    }
    own_pool(session, board, key, slot)?;
    let draft = Envelope::unsigned(slot.lane.kind(), text.to_owned());
    let (archive, now) = (session.desk.archive(), session.desk.context().now());
    archive.chain().review(now, &draft).or_fail(what)?;
    if board.one_touch().is_err() {
        let seed = session.slots().nonce_or_draw(slot, 0, session.identity())?;
        return Intent::commit(board, key, open, text, &seed, comment, counter).or_fail(what);
    }
    let pools = archive.papers_for(board, slot);
    Intent::approve(board, &me, open, text, &pools, &words.without, comment, counter).map_err(
        |error| {
            let who = if let VoteError::MissingPools { names, .. } = &error {
                names.iter().map(Name::as_str).collect::<Vec<_>>().join(" and ")
            } else {
                "each of its members".to_owned()
            };
            Failure::new(what()).code(Failure::POOL_MISSING).cause(error).hint(format!(
                "nonces of {of} are missing here: {who} must run `borgios sync` with this folder, or \
                 `borgios governor change` where its key is new; then run this again. A recovery board \
                 may vote `--without NAME`"
            ))
        },
    )
}

/// Makes the own pool where the ceremony made none: in a further round.
fn own_pool(
    session: &mut Session<'_>,
    board: &Board,
    key: &KeyShare,
    slot: Slot,
) -> Result<(), Failure> {
    let pools = session.desk.archive().papers_for(board, slot);
    let own =
        |pool: &Envelope| Pool::verify(board, pool).is_ok_and(|pool| pool.governor == *key.name());
    if board.one_touch().is_err() || pools.iter().any(own) {
        return Ok(());
    }
    let seed = match session.slots().seed(slot, session.identity())? {
        Some(seed) => seed,
        None => session.slots().draw(slot, session.identity())?,
    };
    let pool = Pool::make(board, key, &[(slot, seed)]).or_fail(|| "could not make a pool")?;
    let envelope = pool.to_envelope().sign(session.identity().ssh());
    session.desk.publish(&envelope)
}

/// The order that keeps nonces safe. The intent is on the disk already.
fn cast(
    session: &Session<'_>,
    board: &Board,
    key: &KeyShare,
    intent: &Intent,
) -> Result<Envelope, Failure> {
    let slots = session.slots();
    // 1. Compute: it follows from intent and seed alone.
    let seed = match intent.vote {
        Choice::Approve { .. } => slots.seed(intent.slot, session.identity())?,
        Choice::Commit { .. } => slots.nonce(intent.slot, 0, session.identity())?,
        Choice::Reject { .. } => None,
    };
    let pools = session.desk.archive().papers_for(board, intent.slot);
    let ballot = intent
        .ballot(board, key, seed.as_ref(), &pools)
        .or_fail(|| format!("the ballot for {} could not be made", intent.slot))?;
    drop(seed);
    let envelope = ballot.to_envelope().sign(session.identity().ssh());
    Ballot::verify(board, &envelope).or_fail(|| "this program made a ballot it would refuse")?;
    // 2. Store, sync, read back. 3. Only now the seed goes.
    let stored = slots.cast(intent.slot, &envelope)?;
    slots.erase(intent.slot)?;
    Ok(stored)
}

fn place(slot: Slot) -> String {
    format!("{}/{}", slot.lane, slot.seq)
}

impl Second {
    /// For `--json`.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "place": place(self.slot), "epoch": self.slot.epoch, "ballot": self.ballot.id(),
            "approvals": self.approvals, "threshold": self.threshold,
        })
    }
}

impl core::fmt::Display for Second {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let (place, epoch) = (place(self.slot), self.slot.epoch);
        let Self { approvals, threshold, of, .. } = self;
        write!(f, "voted on {place} for {of}, of key epoch {epoch}: {approvals} of ")?;
        write!(f, "{threshold} approvals there")
    }
}
