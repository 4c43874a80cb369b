//! Vetoed statements from which this governor goes on all the same.
//!
//! ```text
//! governor/upheld.json   their ids
//! ```
//!
//! A veto that came to some servers too late leaves them with what others hold dead, and none of them ever
//! gives up what it applied. What brings them together is the next statement of the lane, signed upon the
//! vetoed one. To vote on that, a laptop must have the vetoed one in its chain. Whether any server has it
//! no laptop can tell, so its governor does.

use std::collections::BTreeSet;

use borgios_policy::{Lane, Policy, Statement};
use borgios_types::Digest;

use super::Archive;
use crate::durable;
use crate::failure::{Failure, OrFail as _};
use crate::home::Home;

/// Largest `upheld.json`, in bytes.
const UPHELD_MAX: usize = 64 * 1024;

/// The ids that are noted.
pub(super) fn read(home: &Home) -> Result<BTreeSet<Digest>, Failure> {
    let path = home.governor("upheld.json");
    let Some(bytes) = durable::read(&path, UPHELD_MAX)? else { return Ok(BTreeSet::new()) };
    let read = serde_json::from_slice(&bytes).or_fail(|| format!("{} is damaged", path.display()));
    read.map_err(|failure| {
        failure.hint("move it away; `borgios sync --uphold ID` notes again what you go on from")
    })
}

fn write(home: &Home, all: &BTreeSet<Digest>) -> Result<(), Failure> {
    let text = serde_json::to_vec(all).or_fail(|| "could not encode what is upheld")?;
    durable::write(&home.governor("upheld.json"), &text)
}

impl Archive {
    /// Vetoed statements from which this governor goes on.
    pub(crate) fn upheld(&self) -> &BTreeSet<Digest> {
        &self.upheld
    }

    /// The statement that is dead here under this id.
    ///
    /// # Errors
    /// It is not: unknown, not vetoed by enough, or upheld already.
    pub(crate) fn dead_statement(&self, id: Digest) -> Result<Statement, Failure> {
        let dead = self.dead_statements()?.into_iter().find(|(_, dead)| *dead == id);
        dead.map(|(statement, _)| statement).ok_or_else(|| {
            Failure::new(format!("nothing that enough governors vetoed is here as {id}")).hint(
                "give the whole id, as `borgios log` shows it beside the vetoes, or `borgios status` of a \
                 server",
            )
        })
    }

    /// Goes on from a statement that is dead here. The caller knows that its governor is not bound
    /// to something else at its place, and whether the governor `sits` on the board that it makes.
    ///
    /// # Errors
    /// It is not dead, its place went to another one, or it makes another board of which this governor
    /// has no share: servers that hold it dead follow no word of a board that they never had. Who has
    /// one may know that the servers took the policy before the vetoes came, weeks later perhaps, from
    /// governors who are on the board no more.
    pub(crate) fn uphold(&mut self, id: Digest, sits: bool) -> Result<(), Failure> {
        let _lock = self.home.admitting()?;
        self.read_anew_if_changed()?;
        if self.upheld.contains(&id) {
            return Ok(());
        }
        let statement = self.dead_statement(id)?;
        let (lane, seq) = (statement.lane, statement.seq);
        let not = || Failure::new(format!("{lane}/{seq} {} cannot be upheld", id.short()));
        if let Some(other) = self.chain.get(lane, seq) {
            return Err(not()
                .code(Failure::RIVAL)
                .because(format!("the board has signed {} for its place since", other.id()))
                .hint(
                    "servers that have the vetoed one stay with it: a ruling names the winner; in the lane \
                     policy the next one unites both (`borgios propose policy`), where `borgios sync` says \
                     APART",
                ));
        }
        let makes_a_board = || {
            let made = Policy::parse(&statement.body).ok()?.board.group();
            Some(self.chain.policy()?.board.group() != made)
        };
        if lane == Lane::Policy && !sits && makes_a_board().unwrap_or(true) {
            return Err(not()
                .because(
                    "it makes another board, whose word counts at no server that holds it dead",
                )
                .hint(
                    "where `borgios status` of the servers shows it applied, those with a share of its \
                     board go on from it with `--uphold`, and you have none here; servers that went the \
                     other way are reinstalled",
                ));
        }
        let mut all = self.upheld.clone();
        all.insert(id);
        self.note_upheld(&all)
    }

    /// Holds it dead again.
    ///
    /// # Errors
    /// It is not upheld.
    pub(crate) fn let_fall(&mut self, id: Digest) -> Result<(), Failure> {
        let _lock = self.home.admitting()?;
        self.read_anew_if_changed()?;
        let mut all = self.upheld.clone();
        if !all.remove(&id) {
            return Err(Failure::new(format!("{id} is not upheld here"))
                .hint("`borgios sync --json` lists what is, under `upheld`"));
        }
        self.note_upheld(&all)
    }

    /// Of those at whose place something else is signed, what nothing builds upon falls.
    pub(super) fn yield_to(&mut self, rivals: &[(Lane, Digest)]) -> Result<bool, Failure> {
        let tip = |lane| self.chain.tip(lane).map(|tip| tip.id);
        let falls = rivals
            .iter()
            .filter(|(lane, known)| self.upheld.contains(known) && tip(*lane) == Some(*known));
        let falls: BTreeSet<Digest> = falls.map(|(_, known)| *known).collect();
        if falls.is_empty() {
            return Ok(false);
        }
        let all = self.upheld.difference(&falls).copied().collect();
        self.note_upheld(&all)?;
        Ok(true)
    }

    /// Of those that were upheld, what fell and has its place free is upheld again.
    pub(super) fn uphold_again(&mut self, before: &BTreeSet<Digest>) -> Result<(), Failure> {
        if before.is_subset(&self.upheld) {
            return Ok(());
        }
        let fallen = self.dead_statements()?.into_iter();
        let free = fallen.filter(|(statement, id)| {
            before.contains(id) && self.chain.get(statement.lane, statement.seq).is_none()
        });
        let again: BTreeSet<Digest> = free.map(|(_, id)| id).collect();
        if again.is_empty() {
            return Ok(());
        }
        let all = self.upheld.union(&again).copied().collect();
        self.note_upheld(&all)
    }

    /// Notes it, where [`Home::admitting`] is held: else who judges at the same time would undo it.
    pub(super) fn note_upheld(&mut self, all: &BTreeSet<Digest>) -> Result<(), Failure> {
        let network = self.chain.network().ok_or_else(|| Failure::new("no network is known"))?;
        write(&self.home, all)?;
        *self = Self::load(&self.home.clone(), network)?;
        Ok(())
    }
}
