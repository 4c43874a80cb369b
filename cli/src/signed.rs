//! What is signed: where it stands, what was said against it, and what was in force before it.
//!
//! ```text
//! signed ─┬─ its class has a lock ─▶ Locked ─▶ InForce
//!         │                            └─ enough vetoes ─▶ Vetoed
//!         ├─ without a lock ─────────▶ InForce ─ a ruling ─▶ Overruled
//!         ├─ beside another one ─────▶ Rival
//!         └─ by the recovery key ────▶ Recovery ─▶ InForce
//! ```
//!
//! A laptop counts a statement as in force from its signature on; servers hold it back for its lock. Until
//! when is reckoned from when it came into this folder: a server that heard of it later holds it longer.

use std::collections::BTreeSet;

use borgios_policy::{Lane, Objection, Statement, VerifiedStatement};
use borgios_types::{Digest, Round, Seq, UnixSeconds};
use serde_json::{Value, json};

use crate::archive::{Held, is_veto};
use crate::desk::Desk;
use crate::failure::Failure;
use crate::hearing::hearing;
use crate::objections;
use crate::printer::one_line;
use crate::subject::Subject;

/// Most statements of a lane that are listed as held back: a folder that was restored knows no dates.
const LISTED_MAX: usize = 8;

/// Where a signed statement stands, as far as this folder knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Servers hold it back until then, and vetoes can still take it back.
    Locked(UnixSeconds),
    /// Servers obey it once they hear of it.
    InForce,
    /// Enough governors took it back.
    Vetoed,
    /// A ruling took its effect away.
    Overruled,
    /// Another signed document has its place here.
    Rival,
    /// The recovery key signed it; servers wait for silence and a lock of its own.
    Recovery,
}

/// A signed statement.
#[derive(Clone, Debug)]
pub(crate) struct Signed {
    pub(crate) statement: Statement,
    pub(crate) id: Digest,
    pub(crate) standing: Standing,
}

/// Vetoes of one board.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Vetoes {
    epoch: u32,
    said: usize,
    needed: u16,
}

impl Signed {
    fn of(desk: &Desk<'_>, verified: &VerifiedStatement) -> Self {
        let standing = locked_until(desk, verified).map_or(Standing::InForce, Standing::Locked);
        Self { statement: verified.statement().clone(), id: verified.id(), standing }
    }

    /// `policy/2`.
    pub(crate) fn place(&self) -> String {
        format!("{}/{}", self.statement.lane, self.statement.seq)
    }

    /// Vetoes and pauses of boards that were in force, in the order of time.
    pub(crate) fn objections<'d>(&self, desk: &'d Desk<'_>) -> Vec<&'d Held<Objection>> {
        let Statement { lane, seq, .. } = self.statement;
        let mut all = objections::to(desk.archive(), self.id);
        all.retain(|held| (held.value.lane, held.value.seq) == (lane, seq));
        // A governor of two boards says it on both.
        all.dedup_by(|one, other| {
            (&one.by, &one.envelope.kind, &one.value.reason)
                == (&other.by, &other.envelope.kind, &other.value.reason)
        });
        all
    }

    /// How far each board whose vetoes kill it at servers has come.
    pub(crate) fn vetoes(&self, desk: &Desk<'_>) -> Vec<Vetoes> {
        let archive = desk.archive();
        let mut boards = archive.chain().veto_boards(&self.statement, self.id);
        // The board that a policy makes is in force too late to take it back.
        if self.statement.lane == Lane::Policy {
            let hear = hearing(desk, &self.statement);
            boards.retain(|(board, _)| hear.iter().any(|at| at.board.group() == board.group()));
        }
        let all = objections::to(archive, self.id).into_iter();
        let at = (self.statement.lane, self.statement.seq);
        let all: Vec<_> =
            all.filter(|held| is_veto(held) && (held.value.lane, held.value.seq) == at).collect();
        let each = boards.into_iter().map(|(board, needed)| {
            let by = all.iter().filter(|held| objections::is_of(board, held));
            let by: BTreeSet<_> = by.map(|held| &held.by).collect();
            Vetoes { epoch: board.epoch().0, said: by.len(), needed }
        });
        each.collect()
    }

    /// Whether another signed document has its place here by now.
    fn is_replaced(&self, desk: &Desk<'_>) -> bool {
        self.statement.seq <= desk.archive().chain().head_seq(self.statement.lane)
    }

    /// Where it stands and what can be done, line by line.
    pub(crate) fn words(&self, desk: &Desk<'_>) -> Vec<String> {
        let place = self.place();
        let mut lines = match self.standing {
            Standing::Locked(until) => vec![
                format!(
                    "SIGNED, and servers that saw it when this folder did hold it back until {until} (issued \
                     {})",
                    self.statement.issued
                ),
                format!(
                    "`borgios veto {place} --reason TEXT` takes it back with enough others; \
                     `borgios pause {place} --reason TEXT` asks servers to wait"
                ),
            ],
            Standing::InForce => {
                vec!["signed, and no lock of its own runs: servers obey it once they have what comes before \
                      it; only a later statement changes that"
                    .to_owned()]
            }
            Standing::Vetoed => {
                let mut lines = vec![
                    "signed, and taken back by vetoes: it is dead wherever it was not applied before they \
                     came"
                        .to_owned(),
                ];
                lines.push(match self.is_replaced(desk) {
                    true => "another one is signed for its place".to_owned(),
                    false => format!(
                        "where servers have it (`borgios status`), the board can go on from it: \
                         `borgios sync --uphold {}`",
                        self.id
                    ),
                });
                lines
            }
            Standing::Overruled => {
                vec!["signed, and taken back by a policy's ruling: it counts nowhere".to_owned()]
            }
            Standing::Rival => {
                vec!["signed, and so is another document for its place, which stands here".to_owned()]
            }
            Standing::Recovery => vec![
                "signed by the RECOVERY key: servers take it after silence and a lock, and any sign of life \
                 of the board in force ends it"
                    .to_owned(),
                format!("one governor's `borgios veto {place} --reason TEXT` ends it"),
            ],
        };
        if matches!(self.standing, Standing::Locked(_) | Standing::Vetoed) {
            for Vetoes { epoch, said, needed } in self.vetoes(desk) {
                lines.insert(
                    1,
                    format!("{said} of {needed} vetoes of the board of key epoch {epoch} are said"),
                );
            }
        }
        lines
    }

    /// What was said against it, line by line.
    pub(crate) fn said_against(&self, desk: &Desk<'_>) -> Vec<String> {
        let each = self.objections(desk).into_iter();
        let line = |held: &Held<Objection>| {
            let (kind, said) = (held.envelope.kind.as_str(), &held.value);
            format!("{kind} by {} at {}: {}", held.by, said.at, one_line(&said.reason))
        };
        each.map(line).collect()
    }

    /// For `--json`.
    pub(crate) fn to_json(&self, desk: &Desk<'_>) -> Value {
        let (standing, until) = match self.standing {
            Standing::Locked(until) => ("locked", Some(until)),
            Standing::InForce => ("in_force", None),
            Standing::Vetoed => ("vetoed", None),
            Standing::Overruled => ("overruled", None),
            Standing::Rival => ("rival", None),
            Standing::Recovery => ("recovery", None),
        };
        let objection = |held: &Held<Objection>| {
            let said = &held.value;
            json!({
                "kind": held.envelope.kind.as_str(), "by": held.by, "at": said.at, "reason": said.reason,
            })
        };
        let vetoes = |one: Vetoes| {
            let Vetoes { epoch, said, needed } = one;
            json!({"epoch": epoch, "said": said, "needed": needed})
        };
        json!({
            "place": self.place(), "round": self.statement.round, "statement": self.id, "signed": true,
            "standing": standing, "until": until,
            "objections": self.objections(desk).into_iter().map(objection).collect::<Vec<_>>(),
            "vetoes": self.vetoes(desk).into_iter().map(vetoes).collect::<Vec<_>>(),
        })
    }
}

/// The signed statement that was named. A place means the one that has it, else the newest that was taken
/// back there.
pub(crate) fn named(
    desk: &Desk<'_>,
    subject: &Subject,
    round: Option<Round>,
) -> Result<Option<Signed>, Failure> {
    let archive = desk.archive();
    let names = |at: &Statement, id: &Digest| {
        subject.names(at.lane, at.seq, id) && round.is_none_or(|round| round == at.round)
    };
    let in_chain = archive.chain().history().find(|at| names(at.statement(), &at.id()));
    if let Some(found) = in_chain {
        return Ok(Some(Signed::of(desk, found)));
    }
    let signed = |standing: Standing, at: &Statement, id: Digest| {
        names(at, &id).then(|| Signed { statement: at.clone(), id, standing })
    };
    let waiting = archive.recoveries().waiting();
    let waiting = waiting.filter_map(|at| signed(Standing::Recovery, at.statement(), at.id()));
    let overruled = archive.chain().overruled();
    let overruled = overruled.filter_map(|at| signed(Standing::Overruled, at.statement(), at.id()));
    let rivals = archive.rivals().all().filter_map(|(id, at)| signed(Standing::Rival, at, *id));
    let dead = vetoed(desk)?.into_iter().filter(|dead| names(&dead.statement, &dead.id));
    let all = waiting.chain(overruled).chain(rivals).chain(dead);
    Ok(all.max_by_key(|one| (one.statement.round, one.statement.issued)))
}

/// What servers may still hold back: the newest of each lane, with what the newest builds upon.
fn locked(desk: &Desk<'_>) -> Vec<Signed> {
    let mut all = Vec::new();
    for lane in Lane::ALL {
        let lane: Vec<_> = desk.archive().chain().after(lane, Seq(0)).collect();
        let newest = lane.into_iter().rev().take(LISTED_MAX);
        let held_back = newest.take_while(|verified| locked_until(desk, verified).is_some());
        all.extend(held_back.map(|verified| Signed::of(desk, verified)));
    }
    all.sort_by_key(|signed| (signed.statement.lane, signed.statement.seq));
    all
}

/// What `inbox` lists beside open votes: what servers may hold back, what vetoes took back whose place is
/// free, and what waits of the recovery key.
pub(crate) fn kept_back(desk: &Desk<'_>) -> Result<Vec<Signed>, Failure> {
    let mut all = locked(desk);
    all.extend(vetoed(desk)?.into_iter().filter(|dead| !dead.is_replaced(desk)));
    all.extend(desk.archive().recoveries().waiting().map(|at| Signed {
        statement: at.statement().clone(),
        id: at.id(),
        standing: Standing::Recovery,
    }));
    Ok(all)
}

/// What was signed and vetoed.
fn vetoed(desk: &Desk<'_>) -> Result<Vec<Signed>, Failure> {
    let dead = desk.archive().dead_statements()?.into_iter();
    Ok(dead.map(|(statement, id)| Signed { statement, id, standing: Standing::Vetoed }).collect())
}

/// Until when servers hold a statement back that heard of it when this folder did; none if they do no more.
///
/// The lock is the one that the policy named by it asks for, and a longer one that came since only where
/// servers had that policy in force before the first was over. Where that is not known, the earlier date is
/// told: who objects too early has lost nothing.
pub(crate) fn locked_until(desk: &Desk<'_>, signed: &VerifiedStatement) -> Option<UnixSeconds> {
    let (archive, statement) = (desk.archive(), signed.statement());
    let chain = archive.chain();
    let came = archive.stored_at(signed.envelope())?;
    let named = chain.policy_at(statement.policy?)?.class_of(statement).lock();
    let now = chain.class_for(statement, signed.id())?.lock();
    let until = match chain.head(Lane::Policy) {
        Some(head) if now > named && statement.lane != Lane::Policy => {
            let before = head.statement().policy.and_then(|seq| chain.policy_at(seq));
            let waits = before.map_or(0, |policy| policy.class(Lane::Policy).lock());
            let in_force = archive.stored_at(head.envelope())?.plus(waits);
            came.plus(if in_force < came.plus(named) { now } else { named })
        }
        Some(_) | None => came.plus(now),
    };
    (now > 0 && until > desk.context().now()).then_some(until)
}

/// The statements of its lane before this one, oldest first.
pub(crate) fn all_before<'d>(
    desk: &'d Desk<'_>,
    statement: &Statement,
) -> impl Iterator<Item = &'d VerifiedStatement> {
    let (lane, seq) = (statement.lane, statement.seq);
    desk.archive().chain().after(lane, Seq(0)).take_while(move |at| at.statement().seq < seq)
}

/// The statement of its lane that this one changes: the one that it follows, else the newest before it.
pub(crate) fn before<'d>(
    desk: &'d Desk<'_>,
    statement: &Statement,
) -> Option<&'d VerifiedStatement> {
    let followed = |at: &&VerifiedStatement| statement.prev == Some(at.id());
    let overruled = desk.archive().chain().overruled().find(followed);
    overruled.or_else(|| all_before(desk, statement).last())
}
