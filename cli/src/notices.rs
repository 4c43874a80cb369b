//! What a governor should know before a vote, each with a stable name and the next step.
//!
//! | name | it says |
//! |---|---|
//! | `BUSY` | another command works in this folder: what is shown may change under one's hands |
//! | `RIVAL` | something else is proposed for the place, and which of the two was here first |
//! | `FROZEN` | two documents are signed for one place: servers that met both hold the lane back |
//! | `VETOED` | what was signed for the place before was vetoed, and some servers may have applied it, or a policy of the recovery key was that is taken all the same |
//! | `APART` | servers may have another policy in force than this folder, and nothing is proposed that unites them |
//! | `UPON` | something is proposed upon what is vetoed here |
//! | `LOCKED` | what this builds upon is signed, and servers still hold it back |
//! | `ESCROW` | an earlier board still can bring back the passwords of the schedule in force |
//!
//! None of them refuses anything. "Here" is this folder: when something came is the date of its file.

use std::collections::BTreeSet;

use borgios_policy::{Lane, Name, Policy, Statement, VerifiedStatement};
use borgios_types::{Digest, Seq, UnixSeconds};
use serde_json::{Value, json};

use crate::archive::is_veto;
use crate::desk::{Desk, OpenVote};
use crate::failure::Failure;
use crate::objections;
use crate::printer::one_line;
use crate::rivalry::{self, Rival};
use crate::schedules;
use crate::signed;
use crate::unity;

/// Statements of a lane looked at for a lock that still runs, the newest first.
const LOCKS_LOOKED_AT: usize = 8;

/// One notice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Notice {
    code: &'static str,
    text: String,
    next: String,
}

impl Notice {
    /// For people, on one line.
    pub(crate) fn line(&self) -> String {
        format!("[{}] {}; {}", self.code, self.text, self.next)
    }

    /// For `--json`.
    pub(crate) fn to_json(&self) -> Value {
        json!({"code": self.code, "message": self.text, "next": self.next})
    }
}

/// What to know before a vote on `id`.
pub(crate) fn before(
    desk: &Desk<'_>,
    vote: &OpenVote,
    id: &Digest,
) -> Result<Vec<Notice>, Failure> {
    let mut all: Vec<Notice> = busy(desk)?.into_iter().collect();
    all.extend(rivalry(desk, vote, id));
    all.extend(frozen(desk));
    all.extend(vetoed(desk, vote)?);
    let chain = desk.archive().chain();
    for lane in [vote.slot.lane, Lane::Policy] {
        let newest = chain.after(lane, Seq(0)).collect::<Vec<_>>();
        let newest = newest.into_iter().rev().take(LOCKS_LOOKED_AT);
        all.extend(newest.filter_map(|signed| locked(desk, signed)));
        if vote.slot.lane == Lane::Policy {
            break;
        }
    }
    Ok(all)
}

fn rivalry(desk: &Desk<'_>, vote: &OpenVote, id: &Digest) -> Vec<Notice> {
    let all = rivalry::rivals(desk, vote);
    let place = format!("{}/{}", vote.slot.lane, vote.slot.seq);
    let first = all.first().map(|rival| rival.statement);
    let own = all.iter().find(|rival| rival.statement == *id).and_then(|rival| rival.since);
    let others = all.iter().filter(|rival| rival.statement != *id);
    let notice = |rival: &Rival| {
        let short = rival.statement.short();
        let when = match (first == Some(rival.statement), rival.since == own) {
            // Both within one second: who can tell.
            (_, true) => "here as long as this one".to_owned(),
            (true, false) => format!("here FIRST, {}", since(rival.since)),
            (false, false) => format!("here later than this one, {}", since(rival.since)),
        };
        let approved = match rival.approvals.is_empty() {
            true => "nobody approves it yet".to_owned(),
            false => format!("approved by {}", list(&rival.approvals)),
        };
        Notice {
            code: "RIVAL",
            text: format!(
                "{place} has another proposal, {short} by {}: {when}; {approved}. Each governor can \
                 approve one of them",
                list(&rival.by)
            ),
            next: format!("`borgios review {short}` shows it; agree on one before you vote"),
        }
    };
    others.map(notice).collect()
}

/// Places for which two documents are signed, as far as this folder met both.
pub(crate) fn frozen(desk: &Desk<'_>) -> Vec<Notice> {
    frozen_where(desk, |_, _| true)
}

/// The same of one place.
pub(crate) fn frozen_at(desk: &Desk<'_>, lane: Lane, seq: Seq) -> Vec<Notice> {
    frozen_where(desk, |at, number| (at, number) == (lane, seq))
}

fn frozen_where(desk: &Desk<'_>, is_meant: impl Fn(Lane, Seq) -> bool) -> Vec<Notice> {
    let archive = desk.archive();
    let notice = |(id, statement): (&Digest, &Statement)| {
        let (lane, seq) = (statement.lane, statement.seq);
        // A ruling may have come in this very run.
        let chain = archive.chain();
        let stands = chain.get(lane, seq).filter(|_| chain.settled(lane, seq).is_none())?;
        let next = match lane {
            Lane::Policy => {
                "no ruling settles a place of the lane policy: find out by voice what each \
                             server has (`borgios status`), and what to do"
                    .to_owned()
            }
            Lane::Release | Lane::Credential | Lane::Member | Lane::Access => format!(
                "`borgios propose policy --settle {lane}/{seq}=ID` names the one that counts everywhere"
            ),
        };
        Some(Notice {
            code: "FROZEN",
            text: format!(
                "two documents are signed for {lane}/{seq}: {} (here {}), which stands here, and {id} \
                 (here {}). Servers that met both before they applied one hold the lane back",
                stands.id(),
                since(archive.stored_at(stands.envelope())),
                since(archive.rival_since(id)),
            ),
            next,
        })
    };
    let all = archive.rivals().all().filter(|(_, at)| is_meant(at.lane, at.seq));
    all.filter_map(notice).collect()
}

/// What was signed for the place of a vote and vetoed: a server that applied it in time never takes another.
fn vetoed(desk: &Desk<'_>, vote: &OpenVote) -> Result<Vec<Notice>, Failure> {
    let (lane, seq) = (vote.slot.lane, vote.slot.seq);
    let dead = desk.archive().dead_statements()?.into_iter();
    let here = dead.filter(|(statement, _)| (statement.lane, statement.seq) == (lane, seq));
    let notice = |(_, id): (Statement, Digest)| Notice {
        code: "VETOED",
        text: format!(
            "{lane}/{seq} {} was signed and vetoed: a server that applied it before the vetoes came takes \
             nothing else for the place",
            id.short()
        ),
        next: format!(
            "`borgios status` of each server shows which it has; where any has it, the board can go on from \
             it: `borgios sync --uphold {id}`, then a proposal upon it{}",
            if lane == Lane::Policy {
                "; or, once another is signed for the place, `borgios propose policy` unites both"
            } else {
                ""
            }
        ),
    };
    Ok(here.map(notice).collect())
}

/// Policies that servers may have in force where this folder has another one, unless something that is
/// proposed unites them.
pub(crate) fn apart(desk: &Desk<'_>) -> Result<Vec<Notice>, Failure> {
    let archive = desk.archive();
    let Some(stands) = archive.chain().head(Lane::Policy) else { return Ok(Vec::new()) };
    let proposed = archive.proposals().values().filter_map(|held| {
        let statement = held.value.parse_statement().ok()?;
        let upon = statement.lane == Lane::Policy && statement.prev == Some(stands.id());
        upon.then(|| Policy::parse(&statement.body).ok()).flatten()
    });
    let united: BTreeSet<Digest> = proposed.flat_map(|policy| policy.unites).collect();
    let left = unity::apart(desk)?.into_iter().filter(|(id, _)| !united.contains(id));
    let unchanged = stands.policy().cloned();
    let notice = |(id, made): (Digest, Policy)| {
        let helps = unchanged.as_ref().is_some_and(|next| unity::takes(desk, &made, next));
        let what = if helps {
            "`borgios propose policy`, without a word more where no rule is to change, proposes a policy \
             that all of them follow"
        } else {
            "it asks for other identities or for more approvals than the one here, so no policy unites the \
             two, and the fewer servers are reinstalled"
        };
        Notice {
            code: "APART",
            text: format!(
                "policy/{} is {} here, and {id} was signed for that place too: servers that applied it \
                 before they heard more do not take what is in force here",
                stands.statement().seq,
                stands.id().short()
            ),
            next: format!("`borgios status` of each server shows which it has; {what}"),
        }
    };
    Ok(left.map(notice).collect())
}

/// Vetoes of a policy of the recovery key that its governor takes all the same.
pub(crate) fn vetoed_recovery(desk: &Desk<'_>, id: Digest) -> Option<Notice> {
    let of_it = objections::to(desk.archive(), id).into_iter();
    let of_it: Vec<_> = of_it.filter(|held| is_veto(held)).collect();
    let seq = of_it.first()?.value.seq;
    let by: Vec<String> = of_it
        .iter()
        .map(|held| format!("{} at {} ({})", held.by, held.value.at, one_line(&held.value.reason)))
        .collect();
    Some(Notice {
        code: "VETOED",
        text: format!(
            "policy/{seq} of the recovery key was vetoed by {}: a server that heard of it while it waited \
             does not take this policy",
            by.join(", ")
        ),
        next: "compare `borgios status` of several servers; where none has it in force, `borgios governor \
               restore` from a backup into an empty folder goes on without it"
            .to_owned(),
    })
}

/// What is proposed upon something that is vetoed here, and is not voted on here therefore.
pub(crate) fn upon_vetoed(desk: &Desk<'_>) -> Result<Vec<Notice>, Failure> {
    let dead = desk.archive().dead_statements()?;
    let mut all = Vec::new();
    for held in desk.archive().proposals().values() {
        let Ok(proposed) = held.value.parse_statement() else { continue };
        let below = dead.iter().find(|(_, id)| proposed.prev == Some(*id));
        let Some((below, id)) = below else { continue };
        let (lane, seq) = (proposed.lane, proposed.seq);
        let notice = Notice {
            code: "UPON",
            text: format!(
                "{lane}/{seq} {} by {} is proposed upon {lane}/{} {}, which is vetoed here",
                held.value.statement_id().short(),
                held.by,
                below.seq,
                id.short()
            ),
            next: format!(
                "if servers have applied that (`borgios status`), `borgios sync --uphold {id}` lets you \
                 review and vote on it"
            ),
        };
        if !all.contains(&notice) {
            all.push(notice);
        }
    }
    Ok(all)
}

/// A schedule that outlived the board among which it was dealt. A new group key changes nothing about
/// the shares of its passwords: they are sealed to governors, and stay where they are.
pub(crate) fn escrow(desk: &Desk<'_>) -> Option<Notice> {
    let chain = desk.archive().chain();
    let (before, now) = (schedules::board_before(chain)?, &chain.policy()?.board);
    Some(Notice {
        code: "ESCROW",
        text: format!(
            "the schedule in force is escrowed to the board before: any {} of its {} governors can bring \
             back its passwords, {} of them are on the board in force, and nobody else on it can help with \
             a reveal",
            before.threshold(),
            before.size(),
            schedules::still_on(before, now)
        ),
        next: "deal a new one with `borgios credential schedule --days 90`".to_owned(),
    })
}

/// Whether servers still hold a signed statement back, reckoned from when it came here.
pub(crate) fn locked(desk: &Desk<'_>, signed: &VerifiedStatement) -> Option<Notice> {
    let statement = signed.statement();
    let until = signed::locked_until(desk, signed)?;
    let place = format!("{}/{}", statement.lane, statement.seq);
    Some(Notice {
        code: "LOCKED",
        text: format!(
            "{place} is signed, and servers that saw it when this folder did hold it back until {until}: \
             vetoes can take it back until then, and what builds upon it with it"
        ),
        next: format!(
            "`borgios status` of a server shows its own lock; `borgios veto {place} --reason TEXT` objects"
        ),
    })
}

fn busy(desk: &Desk<'_>) -> Result<Option<Notice>, Failure> {
    let Some(other) = desk.context().home.busy()? else { return Ok(None) };
    Ok(Some(Notice {
        code: "BUSY",
        text: format!(
            "another command works in this folder ({other}): what is shown here may change"
        ),
        next: "look again when it is done; a vote waits for it".to_owned(),
    }))
}

fn since(at: Option<UnixSeconds>) -> String {
    at.map_or_else(|| "since nobody knows when".to_owned(), |at| format!("since {at}"))
}

fn list(names: &[Name]) -> String {
    names.iter().map(Name::as_str).collect::<Vec<_>>().join(", ")
}
