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

use borgios_policy::{Object as _, Objection, Statement, VerifiedStatement, Veto};
use borgios_types::{Digest, Seq, UnixSeconds};
use serde_json::{Value, json};

use crate::archive::Held;
use crate::desk::Desk;
use crate::failure::Failure;
use crate::printer::one_line;
use crate::subject::Subject;

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

    /// Vetoes and pauses, in the order of time.
    pub(crate) fn objections<'d>(&self, desk: &'d Desk<'_>) -> Vec<&'d Held<Objection>> {
        let all = desk.archive().objections().values();
        let mut all: Vec<_> = all.filter(|held| held.value.statement == self.id).collect();
        all.sort_by(|one, other| (one.value.at, &one.by).cmp(&(other.value.at, &other.by)));
        // A governor of two boards says it on both.
        all.dedup_by(|one, other| {
            (&one.by, &one.envelope.kind, &one.value.reason)
                == (&other.by, &other.envelope.kind, &other.value.reason)
        });
        all
    }

    /// How far each board whose vetoes kill it has come.
    pub(crate) fn vetoes(&self, desk: &Desk<'_>) -> Vec<Vetoes> {
        let boards = desk.archive().chain().veto_boards(&self.statement, self.id).into_iter();
        let said = desk.archive().objections().values();
        let said: Vec<_> = said
            .filter(|held| held.envelope.kind.as_str() == Veto::KIND)
            .filter(|held| held.value.statement == self.id)
            .collect();
        let each = boards.map(|(board, needed)| {
            let by = said.iter().filter(|held| held.value.group == board.group());
            let by: std::collections::BTreeSet<_> = by.map(|held| &held.by).collect();
            Vetoes { epoch: board.epoch().0, said: by.len(), needed }
        });
        each.collect()
    }

    /// Where it stands and what can be done, line by line.
    pub(crate) fn words(&self, desk: &Desk<'_>) -> Vec<String> {
        let place = self.place();
        let mut lines = match self.standing {
            Standing::Locked(until) => vec![
                format!("SIGNED, and servers that saw it when this folder did hold it back until {until}"),
                format!(
                    "`borgios veto {place} --reason TEXT` takes it back with enough others; \
                     `borgios pause {place} --reason TEXT` asks servers to wait"
                ),
            ],
            Standing::InForce => {
                vec!["signed: servers obey it as soon as they hear of it; only a later statement changes that"
                    .to_owned()]
            }
            Standing::Vetoed => vec![
                "signed, and taken back by vetoes: it is dead wherever it was not applied before they came"
                    .to_owned(),
                format!(
                    "where servers have it (`borgios status`), the board can go on from it: \
                     `borgios sync --uphold {}`",
                    self.id
                ),
            ],
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

/// The signed statement that was named. A place means the one that has it; what was taken back there has
/// only its id.
pub(crate) fn named(desk: &Desk<'_>, subject: &Subject) -> Result<Option<Signed>, Failure> {
    let archive = desk.archive();
    let names =
        |statement: &Statement, id: &Digest| subject.names(statement.lane, statement.seq, id);
    let in_chain = archive.chain().history().find(|at| names(at.statement(), &at.id()));
    if let Some(found) = in_chain {
        return Ok(Some(Signed::of(desk, found)));
    }
    let waiting = archive.recoveries().waiting().map(|at| (at, Standing::Recovery));
    let overruled = archive.chain().overruled().map(|at| (at, Standing::Overruled));
    let mut others = waiting.chain(overruled);
    if let Some((at, standing)) = others.find(|(at, _)| names(at.statement(), &at.id())) {
        return Ok(Some(Signed { statement: at.statement().clone(), id: at.id(), standing }));
    }
    if let Some((id, statement)) = archive.rivals().all().find(|(id, at)| names(at, id)) {
        let standing = Standing::Rival;
        return Ok(Some(Signed { statement: statement.clone(), id: *id, standing }));
    }
    let dead = vetoed(desk)?;
    Ok(dead.into_iter().find(|dead| names(&dead.statement, &dead.id)))
}

/// What servers may still hold back, in the order of lanes and places.
pub(crate) fn locked(desk: &Desk<'_>) -> Vec<Signed> {
    let history = desk.archive().chain().history();
    let mut all: Vec<Signed> = history
        .filter(|verified| locked_until(desk, verified).is_some())
        .map(|verified| Signed::of(desk, verified))
        .collect();
    all.sort_by_key(|signed| (signed.statement.lane, signed.statement.seq));
    all
}

/// What was signed and vetoed.
pub(crate) fn vetoed(desk: &Desk<'_>) -> Result<Vec<Signed>, Failure> {
    let dead = desk.archive().dead_statements()?.into_iter();
    Ok(dead.map(|(statement, id)| Signed { statement, id, standing: Standing::Vetoed }).collect())
}

/// Until when servers hold a statement back that heard of it when this folder did; none if they do no more.
pub(crate) fn locked_until(desk: &Desk<'_>, signed: &VerifiedStatement) -> Option<UnixSeconds> {
    let archive = desk.archive();
    let lock_s = archive.chain().class_for(signed.statement(), signed.id())?.lock();
    let until = archive.stored_at(signed.envelope())?.plus(lock_s);
    (lock_s > 0 && until > desk.context().now()).then_some(until)
}

/// The statements of its lane before this one, oldest first.
pub(crate) fn all_before<'d>(
    desk: &'d Desk<'_>,
    statement: &Statement,
) -> impl Iterator<Item = &'d VerifiedStatement> {
    let (lane, seq) = (statement.lane, statement.seq);
    desk.archive().chain().after(lane, Seq(0)).take_while(move |at| at.statement().seq < seq)
}

/// The newest statement of its lane before this one: what it changes.
pub(crate) fn before<'d>(
    desk: &'d Desk<'_>,
    statement: &Statement,
) -> Option<&'d VerifiedStatement> {
    all_before(desk, statement).last()
}
