//! What a governor checks and gives of an escrow: before it approves a schedule, and for a reveal.

use borgios_credentials::schedule::EPOCHS_MAX;
use borgios_credentials::{Escrow, OpenedShares, Schedule, SealedShare};
use borgios_policy::{Bytes, Chain, Credential, Reveal, Statement, VerifiedStatement};
use borgios_types::Epoch;

use crate::desk::Desk;
use crate::failure::{Failure, OrFail as _};
use crate::printer::one_line;
use crate::schedules::{self, Scheduled};
use crate::session::Session;
use crate::signed;
use crate::span;

/// What helps where the escrow is an earlier board's.
const DEAL: &str = "deal a new schedule: `borgios credential schedule --days 90`";

/// Refuses a schedule that this governor could not help to reveal later: both blobs are at hand,
/// belong together and to the board, and the own share of every epoch fits its commitments.
///
/// There is no way around this: whoever approves unchecked shares finds out when it is too late. But
/// an advance deals no shares. Its escrow is judged by the board it was dealt among, and who has no
/// share in it has none to check: were an advance refused for that, nobody could move servers off
/// a password that leaked once the board has changed.
pub(crate) fn check(session: &mut Session<'_>, statement: &Statement) -> Result<(), Failure> {
    let scheduled = Scheduled::of(&mut session.desk, statement)?;
    let (min, schedule) = (scheduled.credential.min_epoch, &scheduled.schedule);
    if min < schedule.first() || min > schedule.last() {
        return Err(Failure::new(format!("credential/{} leads nowhere", scheduled.seq)).because(
            format!(
                "no epoch below {min} may be current, the schedule has {} to {}",
                schedule.first(),
                schedule.last()
            ),
        ));
    }
    let advances = scheduled.is_in_force(&session.desk);
    if !advances && scheduled.board_before(&session.desk)?.is_some() {
        let what = format!("credential/{} brings an earlier schedule back", scheduled.seq);
        return Err(Failure::new(what)
            .because("its shares are an earlier board's, which can bring its passwords back")
            .hint(DEAL));
    }
    let (first, reached) = (scheduled.schedule.first(), reached(session.desk.archive().chain()));
    if !advances && is_far(first, reached) {
        let what = format!("credential/{} begins far beyond what was reached", scheduled.seq);
        return Err(Failure::new(what)
            .because(format!(
                "its first epoch is {first}, servers may be at {reached}: there may be no number left for \
                 another schedule after it"
            ))
            .hint(DEAL));
    }
    if advances && !is_sealed_to(session, &scheduled)? {
        return scheduled.escrow(&mut session.desk).map(drop);
    }
    open(session, &scheduled).map(drop)
}

/// The lowest epoch that may be current, and past every one that was revealed.
fn reached(chain: &Chain) -> Epoch {
    let revealed = chain.reveals().into_iter().map(|(epoch, _)| Epoch(epoch.0.saturating_add(1)));
    revealed.max().unwrap_or_default().max(chain.min_epoch())
}

/// Whether a first epoch is further than an honest dealer begins: behind all of the schedule in force, which
/// holds what was reached. Numbers have an end, and none of them is used twice.
fn is_far(first: Epoch, reached: Epoch) -> bool {
    let longest = u64::try_from(EPOCHS_MAX).unwrap_or(u64::MAX);
    first.0 > reached.0.saturating_add(longest.saturating_mul(2))
}

/// Whether a share of a schedule was sealed to this governor as it is now. The name on the board is
/// not enough: it may have been another's, and an identity may have been replaced.
fn is_sealed_to(session: &Session<'_>, scheduled: &Scheduled) -> Result<bool, Failure> {
    let (identity, board) = (session.identity(), scheduled.board(&session.desk)?);
    let own = identity.age().to_public().to_string();
    Ok(board.by_name(identity.name()).is_some_and(|seat| seat.recipient == own))
}

/// The own shares of a schedule, each proved.
fn open(session: &mut Session<'_>, scheduled: &Scheduled) -> Result<OpenedShares, Failure> {
    let escrow = scheduled.escrow(&mut session.desk)?;
    let identity = session.identity();
    escrow.open(identity.name(), identity.age()).or_fail(|| {
        format!("the escrow of credential/{} does not keep its promise to you", scheduled.seq)
    })
}

/// The own share of a reveal's epoch, sealed to the asker. Sealing draws randomness, so it is done
/// once, before the intent is stored. It is refused for an epoch that no server could leave.
pub(crate) fn share(session: &mut Session<'_>, reveal: &Reveal) -> Result<Bytes, Failure> {
    let what = || format!("your share of epoch {} cannot be given", reveal.epoch);
    let recipient: age::x25519::Recipient =
        reveal.to.parse().map_err(|why: &str| Failure::new(what()).because(why))?;
    let scheduled = schedules::holding(&mut session.desk, reveal.epoch)?;
    schedules::leaves(&mut session.desk, reveal.epoch).map_err(|failure| failure.within(what()))?;
    if !is_sealed_to(session, &scheduled)? {
        let place = format!("credential/{}", scheduled.seq);
        return Err(Failure::new(what())
            .because(format!("nothing in the escrow of {place} is sealed to you"))
            .because("it was dealt among an earlier board, or to an identity you no longer have")
            .hint(DEAL));
    }
    let opened = open(session, &scheduled)?;
    let share = opened.share(reveal.epoch).ok_or_else(|| Failure::new(what()))?;
    let sealed = SealedShare::seal(share, &recipient).or_fail(what)?;
    Ok(Bytes(sealed.as_bytes().to_vec()))
}

/// What a review says of where servers go at the end of a reveal, line by line.
pub(crate) fn review_reveal(desk: &mut Desk<'_>, reveal: &Reveal) -> Vec<String> {
    let epoch = reveal.epoch;
    let unknown = |why: String| {
        vec![
            format!("UNKNOWN   {why}"),
            "            you cannot tell from which epoch servers would move on".to_owned(),
        ]
    };
    let schedule = match schedules::in_force(desk) {
        Ok(Some(scheduled)) => scheduled.schedule,
        Ok(None) => return unknown("no schedule is in force".to_owned()),
        Err(failure) => return unknown(one_line(&failure.summary())),
    };
    let chain = desk.archive().chain();
    let now = desk.context().now().max(chain.now_floor());
    let current = schedules::epoch_at(&schedule, chain, now);
    if epoch >= schedule.last() {
        return vec![
            format!("now       epoch {current}; the schedule ends with epoch {}", schedule.last()),
            format!(
                "WRONG     servers could not move on from epoch {epoch}: its password would stay \
                 known"
            ),
            "            your tool refuses to approve it; the next schedule is dealt first"
                .to_owned(),
        ];
    }
    let next = epoch.0.saturating_add(1);
    let moves = match next.saturating_sub(current.0) {
        0 => format!("servers have left epoch {epoch} already: none moves on"),
        1 => format!("servers move on by 1 epoch, to {next}, at the latest when the reveal ends"),
        skipped => format!(
            "servers skip {skipped} epochs at once, to {next}, when the reveal ends: passwords are \
             lost"
        ),
    };
    vec![
        format!("now       epoch {current}, by the clock and the board's orders"),
        format!("then      {moves}"),
    ]
}

/// What a review says of a schedule, line by line.
pub(crate) fn review(desk: &mut Desk<'_>, statement: &Statement) -> Result<Vec<String>, Failure> {
    let credential = match Credential::of(statement) {
        Ok(credential) => credential,
        Err(error) => return Ok(vec![format!("nothing: {error}")]),
    };
    let before = signed::before(desk, statement).map(|before| before.statement().clone());
    let asked = signed::all_before(desk, statement).map(VerifiedStatement::statement);
    let asked = asked.filter_map(|at| Some(Credential::of(at).ok()?.min_epoch));
    let reached = asked.max().unwrap_or_default();
    let old = before.map(|before| Scheduled::of(desk, &before)).transpose();
    let now = desk.context().now();
    let mut lines = Vec::new();
    let new = match Scheduled::of(desk, statement) {
        Ok(new) => new,
        Err(failure) => {
            lines.push(format!("UNKNOWN   {}", one_line(&failure.summary())));
            lines.push("            you cannot approve what you cannot check".to_owned());
            return Ok(lines);
        }
    };
    let schedule = &new.schedule;
    let describe = |schedule: &Schedule| {
        format!(
            "epochs {} to {}, {} to {}, a new one every {}",
            schedule.first(),
            schedule.last(),
            schedule.t0(),
            schedule.ends(),
            span::words(schedule.interval_s())
        )
    };
    match &old {
        Ok(Some(old)) if old.schedule.digest() == schedule.digest() => {
            lines.push(format!("same      schedule: {}", describe(schedule)));
        }
        Ok(Some(old)) => {
            lines.push(format!("schedule  {}", describe(schedule)));
            lines.push(format!("was       {}", describe(&old.schedule)));
        }
        Ok(None) => lines.push(format!("schedule  {} (the first)", describe(schedule))),
        Err(_) => {
            lines.push(format!("schedule  {}", describe(schedule)));
            lines.push("was       not at hand here".to_owned());
        }
    }
    let jitter = span::words(schedule.jitter_s());
    lines.push(format!("spread    each server changes within {jitter} after its time"));
    lines.push(format!("            {}", credential.schedule.digest));
    let min = credential.min_epoch;
    lines.push(match reached {
        Epoch(0) => format!("from      epoch {min} on"),
        reached if reached == min => format!("same      no epoch below {min} may be current"),
        reached => {
            format!("from      epoch {min} on, was {reached}: no earlier password opens anything")
        }
    });
    if min < schedule.first() || min > schedule.last() {
        lines.push(format!("WRONG     epoch {min} is not in the schedule"));
    }
    let so_far = self::reached(desk.archive().chain()).max(reached);
    if !new.is_in_force(desk) && is_far(schedule.first(), so_far) {
        lines.push(format!(
            "WRONG     its first epoch is {}, far beyond {so_far}, which was reached: your tool refuses it",
            schedule.first()
        ));
    }
    if schedule.ends() <= now {
        lines.push("WRONG     it has ended already: the last password would stay".to_owned());
    }
    match new.escrow(desk) {
        Ok(escrow) => {
            lines.extend(held_by(desk, &new, &escrow)?);
            lines.push(format!("            {}", credential.escrow.digest));
        }
        Err(failure) => lines.push(format!("REFUSED   {}", one_line(&failure.summary()))),
    }
    if !credential.reason.is_empty() {
        lines.push(format!("reason    {}", one_line(&credential.reason)));
    }
    Ok(lines)
}

/// What a review says of who holds the shares of an escrow that belongs to its schedule.
fn held_by(desk: &Desk<'_>, new: &Scheduled, escrow: &Escrow) -> Result<Vec<String>, Failure> {
    let threshold = escrow.threshold();
    let Some(before) = new.board_before(desk)? else {
        return Ok(vec![
            format!(
                "escrow    belongs to schedule and board; {threshold} governors bring a password \
                 back"
            ),
            "            your own shares are checked when you vote".to_owned(),
        ]);
    };
    let (here, of) = (schedules::still_on(before, desk.archive().board()?), before.size());
    let mut lines = vec![
        format!(
            "escrow    the escrow is the earlier board's; {here} of its {of} governors are on the \
             board in force"
        ),
        format!(
            "            any {threshold} of the {of} bring a password back, until a new schedule is \
             dealt"
        ),
        "            your own shares, if you have any, are checked when you vote".to_owned(),
    ];
    if !new.is_in_force(desk) {
        lines.push(
            "WRONG     it brings an earlier schedule back: your tool refuses to approve it"
                .to_owned(),
        );
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_first_epoch_that_leaves_no_room_is_far() {
        let longest = u64::try_from(EPOCHS_MAX).unwrap();
        // The first schedule, one behind the longest, and one whose servers are at its end.
        for (first, reached) in [(1, 0), (longest + 1, 1), (2 * longest + 2, longest + 2)] {
            assert!(!is_far(Epoch(first), Epoch(reached)), "{first} {reached}");
        }
        for (first, reached) in [((1 << 52) - 1, 0), (2 * longest + 8, 7), (u64::MAX, 7)] {
            assert!(is_far(Epoch(first), Epoch(reached)), "{first} {reached}");
        }
        assert!(!is_far(Epoch(u64::MAX), Epoch(u64::MAX)));
    }
}
