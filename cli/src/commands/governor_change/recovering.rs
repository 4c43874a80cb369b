//! `borgios governor change --recovery` by a member of the recovery board, who plans the next board and
//! proposes its policy, and sits on neither board.
//!
//! ```text
//! recovery-change-E.json ─▶ the new board makes its key ─▶ proposal of policy/p+1 ─▶ vote
//!  a member of the recovery board writes it                a member of it, of the papers
//! ```

use std::path::Path;

use borgios_policy::change::{Standing, Watched, newest, watch};
use borgios_policy::{Board, Lane, RecoveryBoard};
use borgios_types::{Digest, Envelope};
use serde_json::json;

use super::{Look, Run, closing};
use crate::ceremony::{self, list};
use crate::commands::propose::{Terms, put_to_vote};
use crate::failure::{Failure, OrFail as _};
use crate::session::Session;
use crate::succession::successor;

impl Run {
    /// The recovery board, if it is its change that is meant.
    pub(super) fn recovery_board(
        &self,
        session: &Session<'_>,
    ) -> Result<Option<RecoveryBoard>, Failure> {
        if !self.change.common.recovery {
            return Ok(None);
        }
        let archive = session.desk.archive();
        let names = archive.chain().policy().is_some_and(|policy| policy.recovery.is_some());
        match archive.recovery_board() {
            Some(paper) => Ok(Some(paper.clone())),
            None if names => Err(Failure::new("who holds the recovery key is not known here")
                .hint("fetch its board's paper from the folder in which the policy was proposed")),
            None => Err(Failure::new("the policy in force names no recovery key")),
        }
    }

    /// One look at the folder by a member of the recovery board.
    pub(super) fn look_as_recoverer(
        &mut self,
        session: &mut Session<'_>,
        folder: &Path,
    ) -> Result<Look, Failure> {
        let Some(paper) = self.recovery_board(session)? else {
            return Err(Failure::new("this folder is a recovery board's: it changes no board")
                .hint("add `--recovery` to name the next board in the place of one that is gone"));
        };
        if session.recovering()?.0 != paper.board() {
            return Err(Failure::new("the policy in force names another recovery board"));
        }
        let mut files = ceremony::read_files(folder)?;
        let board = session.desk.archive().board()?.clone();
        let recovery = Some(paper.board());
        let standing = Standing { network: session.network(), board: &board, recovery };
        let found = newest(standing, &files).or_fail(|| "the plan in the folder is refused")?;
        if self.plans && (found.is_none() || self.change.common.anew) {
            let attempt = found.as_ref().map_or(0, |(plan, _, _)| plan.attempt + 1);
            self.plan(session, standing, attempt, folder, &mut files)?;
            // Who is new finds the whole chain where they look, and the paper.
            session.desk.push()?;
            (self.plans, self.change.common.anew) = (false, false);
        } else if let Some((plan, _, _)) = &found {
            self.same_wish(plan)?;
        }
        match watch(standing, &files).or_fail(|| "the change cannot go on")? {
            Watched::NoPlan => {
                let text = "no change is planned; `--remove`, `--add` and `--threshold` plan one";
                Ok(Look::Waiting { answer: json!({"status": "no_plan"}), text: text.to_owned() })
            }
            Watched::Waiting { plan, kind, missing } => {
                let roster = plan.roster();
                Ok(Look::Waiting {
                    answer: json!({
                        "status": "waiting", "for": missing, "what": kind, "roster": roster,
                    }),
                    text: format!(
                        "planned: {} of {} (roster {roster})\nwaiting for {} ({kind}): each runs \
                         `borgios governor change --recovery`; then run this again",
                        plan.threshold,
                        list(&plan.governors.iter().map(|c| c.name.clone()).collect::<Vec<_>>()),
                        list(&missing)
                    ),
                })
            }
            Watched::Made { board, pools, .. } => self.propose_recovery(session, &board, &pools),
        }
    }

    /// Proposes the policy of the new board, once, with its first nonces.
    fn propose_recovery(
        &self,
        session: &mut Session<'_>,
        board: &Board,
        pools: &[Envelope],
    ) -> Result<Look, Failure> {
        if proposed(session, board)?.is_none() {
            let carry = &self.change.common.carry;
            let policy = closing::policy_of(session, board.clone(), carry)?;
            let terms = Terms::usual(self.change.common.note.clone());
            put_to_vote(session, Lane::Policy, policy.to_body(), terms)?;
        }
        // Only now this archive can judge them.
        for pool in pools {
            session.desk.publish(pool)?;
        }
        session.desk.push()?;
        let (place, id, closes) = proposed(session, board)?
            .ok_or_else(|| Failure::new("the proposal that was made is not to be found"))?;
        // Nodes talk to neither of the two boards yet.
        let with = session.desk.context().with_exchange();
        let mut text = format!(
            "the new key is made and {place} is proposed ({})\nNext: every member of the recovery \
             board runs `borgios sync{with}`, so that the nonces of all are there; then they and the new \
             board run `borgios review {place}{with}` and `borgios vote {place} approve{with}`",
            id.short()
        );
        text.push_str(&closing::words(&closes));
        let answer = json!({
            "status": "proposed", "place": place, "closes": closes, "statement": id, "epoch": board.epoch(),
            "group": board.group(), "fingerprint": board.group().fingerprint(),
        });
        Ok(Look::Done { answer, text })
    }
}

/// The live proposal that makes this board, if there is one: its place, its id, and the places that it
/// closes.
fn proposed(
    session: &Session<'_>,
    board: &Board,
) -> Result<Option<(String, Digest, Vec<String>)>, Failure> {
    let in_force = session.desk.archive().board()?;
    for vote in session.desk.votes()?.into_iter().filter(|vote| vote.recovery) {
        for (id, document) in &vote.documents {
            let standing = vote.tally.documents.get(id);
            let dead = standing.is_some_and(|one| one.state == borgios_policy::State::Dead);
            let makes = successor(in_force, &document.text);
            if !dead && makes.is_some_and(|makes| makes.group() == board.group()) {
                let place = format!("{}/{}", vote.slot.lane, vote.slot.seq);
                return Ok(Some((place, *id, closing::closes(&document.statement))));
            }
        }
    }
    Ok(None)
}
