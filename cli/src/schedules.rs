//! The lane `credential` with its blobs: which schedule holds an epoch, and which is current.
//!
//! Blobs come from anywhere and are proved by digest; a schedule must be this network's, an escrow
//! must belong to its schedule and to the board under which it was dealt:
//!
//! ```text
//! credential/1 under policy/1   dealt: {schedule, escrow}         board 1 holds the shares
//! credential/2 under policy/2   an advance: the same two blobs    board 1 still holds them
//! credential/3 under policy/2   dealt: {schedule', escrow'}       board 2 holds the new ones
//! ```

use borgios_credentials::{Escrow, Orders, Schedule};
use borgios_policy::{Blob, Board, Chain, Credential, Lane, Statement, VerifiedStatement};
use borgios_types::{Epoch, Seq, UnixSeconds};

use crate::desk::Desk;
use crate::failure::{Failure, OrFail as _};

/// A credential statement whose schedule is at hand.
#[derive(Debug)]
pub(crate) struct Scheduled {
    /// What the statement says.
    pub(crate) credential: Credential,
    /// Its place in the lane.
    pub(crate) seq: Seq,
    /// The place of the statement with which it was dealt; an advance names it again.
    pub(crate) dealt: Seq,
    /// The policy under which it was dealt, whose board holds the shares.
    policy: Option<Seq>,
    /// What its blob says.
    pub(crate) schedule: Schedule,
}

impl Scheduled {
    /// Reads the schedule that a statement of this lane names, signed or not.
    ///
    /// # Errors
    /// The blob is nowhere, or no schedule of this network.
    pub(crate) fn of(desk: &mut Desk<'_>, statement: &Statement) -> Result<Self, Failure> {
        let place = format!("credential/{}", statement.seq);
        let what = || format!("{place} schedules nothing");
        let credential = Credential::of(statement).or_fail(what)?;
        let bytes = at_hand(desk, &credential.schedule, &format!("the schedule of {place}"))?;
        let what = || format!("the blob that {place} names is no schedule");
        let schedule = Schedule::parse(&bytes).or_fail(what)?;
        let network = desk.membership().network;
        if schedule.network() != network {
            return Err(Failure::new(format!("the schedule of {place} is another network's"))
                .because(format!("it names {}, this is {network}", schedule.network())));
        }
        let dealing = dealing(desk.archive().chain(), statement, &credential);
        let (dealt, policy) = (dealing.seq, dealing.policy);
        Ok(Self { credential, seq: statement.seq, dealt, policy, schedule })
    }

    /// The escrow that came with it.
    ///
    /// # Errors
    /// The blob is nowhere, or does not belong to this schedule and its board.
    pub(crate) fn escrow(&self, desk: &mut Desk<'_>) -> Result<Escrow, Failure> {
        let place = format!("credential/{}", self.seq);
        let bytes = at_hand(desk, &self.credential.escrow, &format!("the escrow of {place}"))?;
        let what = || format!("the escrow of {place} is refused");
        Escrow::parse(&bytes, &self.schedule, self.board(desk)?).or_fail(what)
    }

    /// The board that holds its shares.
    pub(crate) fn board<'d>(&self, desk: &'d Desk<'_>) -> Result<&'d Board, Failure> {
        let policy = self.policy.and_then(|seq| desk.archive().chain().policy_at(seq));
        let named = || format!("the policy of credential/{} is not known here", self.seq);
        policy.map(|policy| &policy.board).ok_or_else(|| Failure::new(named()))
    }

    /// The same, if another board is in force by now: a change of the board deals nothing anew.
    pub(crate) fn board_before<'d>(
        &self,
        desk: &'d Desk<'_>,
    ) -> Result<Option<&'d Board>, Failure> {
        let (dealt, now) = (self.board(desk)?, desk.archive().board()?);
        Ok(Some(dealt).filter(|dealt| dealt.group() != now.group()))
    }

    /// Whether it names what is in force already, as an advance does.
    pub(crate) fn is_in_force(&self, desk: &Desk<'_>) -> bool {
        let newest = desk.archive().chain().credential();
        newest.is_some_and(|(newest, _)| are_same(&newest, &self.credential))
    }
}

/// Whether both name the same two blobs.
fn are_same(one: &Credential, other: &Credential) -> bool {
    (one.schedule, one.escrow) == (other.schedule, other.escrow)
}

/// The statement with which what a statement names was dealt: the first signed one that named the same
/// two blobs, else itself. The board may have changed between the two.
fn dealing<'s>(
    chain: &'s Chain,
    statement: &'s Statement,
    credential: &Credential,
) -> &'s Statement {
    let all = chain.after(Lane::Credential, Seq(0)).map(VerifiedStatement::statement);
    let mut earlier = all.take_while(|at| at.seq < statement.seq);
    let first = earlier.find(|at| Credential::of(at).is_ok_and(|one| are_same(&one, credential)));
    first.unwrap_or(statement)
}

/// The board among which the schedule in force was dealt, if another one is in force by now: any t
/// of it bring the passwords back, and nobody who came since can help.
pub(crate) fn board_before(chain: &Chain) -> Option<&Board> {
    let (credential, at) = chain.credential()?;
    let dealt = chain.policy_at(dealing(chain, at.statement(), &credential).policy?)?;
    let now = chain.policy()?;
    Some(&dealt.board).filter(|dealt| dealt.group() != now.board.group())
}

/// How many of an earlier board are on the board in force and can open what was sealed to them then:
/// a name alone may be somebody else's by now, or of an identity that was replaced.
pub(crate) fn still_on(before: &Board, now: &Board) -> usize {
    let pairs = before.governors().iter().map(|then| (then, now.by_name(&then.name)));
    pairs.filter(|(then, at)| at.is_some_and(|at| at.recipient == then.recipient)).count()
}

/// The schedule in force, if there is any.
pub(crate) fn in_force(desk: &mut Desk<'_>) -> Result<Option<Scheduled>, Failure> {
    let newest = desk.archive().chain().credential().map(|(_, at)| at.statement().clone());
    newest.map(|statement| Scheduled::of(desk, &statement)).transpose()
}

/// Refuses an epoch that servers could not leave by the end of a reveal: the schedule in force has
/// no later one, so a password that was shown would stay.
///
/// # Errors
/// It is the last or a later one, or what is in force is not at hand.
pub(crate) fn leaves(desk: &mut Desk<'_>, epoch: Epoch) -> Result<(), Failure> {
    let none = || Failure::new("no schedule is in force, so no server could move on");
    let last = in_force(desk)?.ok_or_else(none)?.schedule.last();
    if epoch < last {
        return Ok(());
    }
    let what = if epoch == last {
        format!("epoch {epoch} is the last of its schedule")
    } else {
        format!("epoch {epoch} is later than {last}, the last of the schedule in force")
    };
    Err(Failure::new(what)
        .because("no server could move on from it, so its password would stay known")
        .hint("deal the next schedule first: `borgios credential schedule --days 90`"))
}

/// The newest schedule that holds this epoch.
///
/// A newer one that cannot be read ends the search: it may hold the epoch, and an older one's
/// share would then be of another password.
///
/// # Errors
/// No schedule holds it, or one that might is not at hand.
pub(crate) fn holding(desk: &mut Desk<'_>, epoch: Epoch) -> Result<Scheduled, Failure> {
    let all = desk.archive().chain().after(Lane::Credential, Seq(0));
    let mut statements: Vec<Statement> = all.map(|at| at.statement().clone()).collect();
    statements.retain(|statement| Credential::of(statement).is_ok());
    let mut seen: Vec<Blob> = Vec::new();
    for statement in statements.iter().rev() {
        // An advance names the schedule of an earlier statement again.
        let blob = Credential::of(statement).or_fail(|| "it was one before")?.schedule;
        if seen.contains(&blob) {
            continue;
        }
        seen.push(blob);
        let scheduled = Scheduled::of(desk, statement)?;
        if scheduled.schedule.verifier(epoch).is_some() {
            return Ok(scheduled);
        }
    }
    Err(Failure::new(format!("no schedule holds epoch {epoch}"))
        .hint("`borgios credential status` says which epochs there are"))
}

/// What the board ordered on top of the clock.
pub(crate) fn orders(chain: &Chain) -> Orders {
    let min_epoch = chain.min_epoch();
    let all = chain.after(Lane::Credential, Seq(0));
    let mut setting = all.filter_map(|at| {
        let body = Credential::of(at.statement()).ok()?;
        (body.min_epoch == min_epoch).then_some(at.statement().issued)
    });
    let min_since = setting.next().unwrap_or_default();
    Orders { min_epoch, min_since, revealed: chain.reveals() }
}

/// The epoch of a fleet without jitter.
pub(crate) fn epoch_at(schedule: &Schedule, chain: &Chain, now: UnixSeconds) -> Epoch {
    let ended = chain.reveals().into_iter().filter(|(_, until)| *until <= now);
    let after = ended.map(|(epoch, _)| Epoch(epoch.0.saturating_add(1)));
    let ordered = after.fold(chain.min_epoch(), Epoch::max);
    schedule.by_clock(now).max(ordered).clamp(schedule.first(), schedule.last())
}

/// When a schedule's clock reaches an epoch.
pub(crate) fn begins(schedule: &Schedule, epoch: Epoch) -> UnixSeconds {
    let index = epoch.0.saturating_sub(schedule.first().0);
    schedule.t0().plus(index.saturating_mul(schedule.interval_s()))
}

/// A blob, or what to do where it is nowhere.
fn at_hand(desk: &mut Desk<'_>, blob: &Blob, what: &str) -> Result<Vec<u8>, Failure> {
    desk.blob(blob)?.ok_or_else(|| {
        Failure::new(format!("{what} is not at hand"))
            .because(format!("nobody here has the blob {} of {} bytes", blob.digest, blob.size))
            .hint(
                "whoever dealt it runs `borgios sync` with the same node or folder, which brings \
                 it there",
            )
    })
}
