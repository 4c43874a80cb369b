//! Deadlines: which open votes still lack this governor's ballot, until when, and what happens then.
//!
//! ```text
//! due   issued + deadline_s of its class          the board wanted it decided; nothing happens but that
//!                                                 the tools say so
//! ends  expires; of a grant or a reveal its end   signed later it is worthless
//! ```
//!
//! Time decides nothing: neither date opens a round, counts as a vote, or ends one. All of it is reckoned
//! from what this folder holds; whatever fetches first, as `borgios sync` does, knows more.

use borgios_policy::tally::State;
use borgios_policy::{AccessOrder, Board, Card, Chain, Lane, Name, RecoveryBoard, Slot, Statement};
use borgios_types::{Digest, PublicKey, Round, Seq, UnixSeconds};
use serde_json::{Value, json};

use crate::context::Context;
use crate::desk::{Desk, OpenVote};
use crate::failure::Failure;
use crate::identity::read_card;
use crate::span;
use crate::succession::successor;

/// The dates of what is voted on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Dates {
    /// When the board wanted it decided; none if its class has no deadline.
    due: Option<UnixSeconds>,
    /// From when on it is worthless, signed or not; none if it has no such date.
    ends: Option<UnixSeconds>,
}

/// One slot that waits for this governor's ballot: one ballot answers all that is proposed there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reminder {
    lane: Lane,
    seq: Seq,
    round: Round,
    recovery: bool,
    /// What is proposed there and not dead.
    statements: Vec<Digest>,
    /// The earliest of theirs.
    dates: Dates,
}

impl Dates {
    /// Those of one document. A vote of the recovery board has no deadline: the classes are those of the
    /// board in force.
    pub(crate) fn of(chain: &Chain, statement: &Statement, id: Digest, recovery: bool) -> Self {
        let class = chain.class_for(statement, id).filter(|_| !recovery);
        let due =
            class.and_then(|class| class.deadline_s).map(|after| statement.issued.plus(after));
        let ends = match AccessOrder::of(statement) {
            Ok(AccessOrder::Grant(grant)) => Some(grant.before),
            Ok(AccessOrder::Reveal(reveal)) => Some(reveal.until),
            Ok(AccessOrder::Revoke(_)) | Err(_) => None,
        };
        let expires = Some(statement.expires).filter(|_| statement.lane.expires());
        Self { due, ends: ends.or(expires) }
    }

    /// The earlier of each.
    fn or_earlier(self, other: Self) -> Self {
        let earlier = |one: Option<UnixSeconds>, two: Option<UnixSeconds>| match (one, two) {
            (Some(one), Some(two)) => Some(one.min(two)),
            (one, two) => one.or(two),
        };
        Self { due: earlier(self.due, other.due), ends: earlier(self.ends, other.ends) }
    }

    /// In sentences, for the review of one document.
    pub(crate) fn terms(self, now: UnixSeconds) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(due) = self.due {
            let late = match now.0.checked_sub(due.0) {
                Some(late) => format!(", {} ago", span::words(late)),
                None => String::new(),
            };
            lines.push(format!(
                "The board wanted this decided by {due}{late}; time decides nothing, it stays open."
            ));
        }
        match self.ends {
            Some(ends) if now < ends => {
                lines.push(format!("Signed later than {ends} it would be worthless."));
            }
            Some(ends) => lines.push(format!(
                "It has been worthless since {ends}: reject it, so that a further round can open."
            )),
            None => {}
        }
        lines
    }

    /// For `--json`: Unix seconds or null, and whether the board wanted it decided by now.
    pub(crate) fn to_json(self, now: UnixSeconds) -> Value {
        let late = self.due.is_some_and(|due| due <= now);
        json!({"due": self.due, "late": late, "ends": self.ends})
    }

    /// Until when, and what happens then.
    fn words(self, now: UnixSeconds) -> String {
        let mut text = match self.due {
            Some(due) if now < due => format!(
                "due {due}, in {}; it stays open after that, for time decides nothing",
                span::words(due.0 - now.0)
            ),
            Some(due) => format!(
                "DUE since {due}, {} ago; it stays open, for time decides nothing",
                span::words(now.0 - due.0)
            ),
            None => "no deadline, it stays open until it is decided".to_owned(),
        };
        match self.ends {
            Some(ends) if now < ends => {
                text.push_str(&format!("; signed later than {ends} it is worthless"));
            }
            Some(ends) => text.push_str(&format!(
                "; worthless since {ends}: reject it, so that a further round can open"
            )),
            None => {}
        }
        text
    }
}

impl Reminder {
    /// Whether it is about this document.
    pub(crate) fn names(&self, id: &Digest) -> bool {
        self.statements.contains(id)
    }

    fn place(&self) -> String {
        format!("{}/{}", self.lane, self.seq)
    }

    /// `release/2 waits for your ballot: due …`, and the next step.
    pub(crate) fn line(&self, now: UnixSeconds) -> String {
        let place = self.place();
        let round = match self.round {
            Round(0) => String::new(),
            round => format!(", round {round},"),
        };
        format!(
            "{place}{round} waits for your ballot: {}; look at it with `borgios review {place}`",
            self.dates.words(now)
        )
    }

    /// For `--json`.
    pub(crate) fn to_json(&self, now: UnixSeconds) -> Value {
        let place = self.place();
        let mut row = self.dates.to_json(now);
        row["next"] = json!(format!("borgios review {place}"));
        row["place"] = json!(place);
        row["round"] = json!(self.round);
        row["recovery"] = json!(self.recovery);
        row["statements"] = json!(self.statements);
        row
    }
}

/// What waits for the ballot of the governor whose folder this is, the most urgent first; nothing where
/// no governor lives.
pub(crate) fn reminders(desk: &Desk<'_>) -> Result<Vec<Reminder>, Failure> {
    let Some(me) = owner(desk.context()) else { return Ok(Vec::new()) };
    let mut all = Vec::new();
    for vote in desk.votes()? {
        let newest = match vote.recovery {
            true => desk.recovery_round(vote.slot.seq),
            false => desk.open_round(vote.slot.lane, vote.slot.seq)?,
        };
        if vote.slot.round == newest {
            all.extend(reminder(desk, &vote, &me)?);
        }
    }
    // What has no date comes last.
    let until = |reminder: &Reminder| {
        let Dates { due, ends } = reminder.dates;
        due.into_iter().chain(ends).min().unwrap_or(UnixSeconds(u64::MAX))
    };
    all.sort_by_key(|reminder| (until(reminder), reminder.lane, reminder.seq));
    Ok(all)
}

/// What waits, as far as this folder knows without asking anybody; what keeps it from telling is a warning,
/// for it was not what was asked for.
pub(crate) fn at_hand(context: &Context) -> Vec<Reminder> {
    if owner(context).is_none() || context.membership().is_err() {
        return Vec::new();
    }
    let found = Desk::at_hand(context).and_then(|desk| reminders(&desk));
    found.unwrap_or_else(|failure| {
        context.printer.warn(&format!("no reminders of votes: {}", failure.summary()));
        Vec::new()
    })
}

fn reminder(desk: &Desk<'_>, vote: &OpenVote, me: &Card) -> Result<Option<Reminder>, Failure> {
    let chain = desk.archive().chain();
    let (mut statements, mut dates, mut lacks) = (Vec::new(), Dates::default(), false);
    for (id, standing) in &vote.tally.documents {
        if standing.state == State::Dead {
            continue;
        }
        statements.push(*id);
        let document = vote.documents.get(id);
        lacks |= lacks_ballot(desk, vote, document.map(|document| document.text.as_str()), me)?;
        if let Some(document) = document {
            let of_it = Dates::of(chain, &document.statement, *id, vote.recovery);
            dates = dates.or_earlier(of_it);
        }
    }
    let Slot { lane, seq, round, .. } = vote.slot;
    let recovery = vote.recovery;
    Ok(lacks.then_some(Reminder { lane, seq, round, recovery, statements, dates }))
}

/// Whether a board that votes on this document has the governor as a member, and no ballot of theirs: the
/// board in force or the recovery board, and the board that the document makes.
fn lacks_ballot(
    desk: &Desk<'_>,
    vote: &OpenVote,
    text: Option<&str>,
    me: &Card,
) -> Result<bool, Failure> {
    let (archive, in_force) = (desk.archive(), desk.archive().board()?);
    let speaks = match vote.recovery {
        true => archive.recovery_board().map(RecoveryBoard::board),
        false => Some(in_force),
    };
    let made = text.and_then(|text| successor(in_force, text));
    let spoke = |board: &Board, slot: Slot| {
        archive.ballots().values().any(|held| {
            held.by == me.name
                && held.value.group == board.group()
                && held.value.slot(board) == slot
        })
    };
    let boards = speaks.into_iter().chain(&made);
    Ok(boards.filter(|board| sits(board, &me.name, me.key)).any(|board| {
        let slot = Slot { epoch: board.epoch(), ..vote.slot };
        !spoke(board, slot)
    }))
}

fn sits(board: &Board, name: &Name, key: PublicKey) -> bool {
    board.by_name(name).is_some_and(|member| member.key == key)
}

/// Whose folder this is, by its public card, for which nobody has to type a passphrase.
fn owner(context: &Context) -> Option<Card> {
    Card::verify(&read_card(&context.home).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixSeconds = UnixSeconds(1_795_000_000);

    fn reminder(due: Option<u64>, ends: Option<u64>) -> Reminder {
        let dates = Dates { due: due.map(UnixSeconds), ends: ends.map(UnixSeconds) };
        let (lane, seq, round) = (Lane::Release, Seq(2), Round(1));
        Reminder { lane, seq, round, recovery: false, statements: vec![Digest::of(b"a")], dates }
    }

    #[test]
    fn a_reminder_says_until_when_and_what_happens_then() {
        let line = reminder(Some(NOW.0 + 90_000), Some(NOW.0 + 180_000)).line(NOW);
        assert_eq!(
            line,
            "release/2, round 1, waits for your ballot: due 2026-11-19T12:06:40Z, in 1 d 1 h; it stays \
             open after that, for time decides nothing; signed later than 2026-11-20T13:06:40Z it is \
             worthless; look at it with `borgios review release/2`"
        );
        let late = reminder(Some(NOW.0 - 60), Some(NOW.0)).line(NOW);
        assert!(
            late.contains("DUE since 2026-11-18T11:05:40Z, 1 min ago; it stays open"),
            "{late}"
        );
        assert!(late.contains("worthless since 2026-11-18T11:06:40Z: reject it"), "{late}");
        assert!(reminder(None, None).line(NOW).contains("no deadline, it stays open until"));
    }

    #[test]
    fn a_program_reads_the_same_dates() {
        let row = reminder(Some(NOW.0), None).to_json(NOW);
        assert_eq!(
            row,
            json!({"place": "release/2", "round": 1, "recovery": false, "due": NOW.0, "late": true,
                "ends": null, "statements": [Digest::of(b"a")], "next": "borgios review release/2"})
        );
        assert_eq!(reminder(Some(NOW.0 + 1), None).to_json(NOW)["late"], false);
    }

    #[test]
    fn of_two_documents_the_earlier_dates_count() {
        let dates = |due, ends| Dates { due, ends };
        let one = dates(Some(NOW), None);
        let two = dates(Some(NOW.plus(1)), Some(NOW.plus(2)));
        assert_eq!(one.or_earlier(two), dates(Some(NOW), Some(NOW.plus(2))));
        assert_eq!(Dates::default().or_earlier(two), two);
    }

    #[test]
    fn a_review_tells_the_dates_in_sentences() {
        let terms = |due, ends| Dates { due, ends }.terms(NOW);
        let open = terms(Some(NOW.plus(5)), Some(NOW.plus(9)));
        assert_eq!(
            open,
            [
                "The board wanted this decided by 2026-11-18T11:06:45Z; time decides nothing, it stays \
                 open.",
                "Signed later than 2026-11-18T11:06:49Z it would be worthless."
            ]
        );
        let over = terms(Some(UnixSeconds(NOW.0 - 3_600)), Some(NOW));
        assert!(over[0].contains("10:06:40Z, 1 h ago; time decides nothing"), "{over:?}");
        assert!(over[1].contains("worthless since 2026-11-18T11:06:40Z: reject it"), "{over:?}");
        assert!(terms(None, None).is_empty());
    }
}
