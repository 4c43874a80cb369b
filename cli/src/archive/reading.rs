//! What an archive holds, for whoever asks.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::UNIX_EPOCH;

use borgios_policy::spent::Casts;
use borgios_policy::{
    Ballot, Board, Chain, Drill, DrillAnswer, Lane, Note, Objection, Pool, Proposal, Refusal,
    SessionShare, Slot, Statement, Verdict,
};
use borgios_types::limits::ENVELOPE_MAX;
use borgios_types::{Digest, Envelope, Seq, UnixSeconds};

use super::judging::Lay;
use super::{Archive, Held};
use crate::durable;
use crate::failure::Failure;
use crate::objections;

impl Archive {
    /// The statements.
    pub(crate) fn chain(&self) -> &Chain {
        &self.chain
    }

    /// The boards there were, the newest first.
    pub(crate) fn boards(&self) -> impl Iterator<Item = &Board> {
        let mut boards: Vec<&Board> = Vec::new();
        for verified in self.chain.after(Lane::Policy, Seq(0)) {
            let board = verified.policy().map(|policy| &policy.board);
            boards.extend(board.filter(|board| boards.last() != Some(board)));
        }
        boards.into_iter().rev()
    }

    /// The board in force.
    pub(crate) fn board(&self) -> Result<&Board, Failure> {
        self.chain.policy().map(|policy| &policy.board).ok_or_else(|| {
            Failure::new("no policy is known here yet").hint(
                "end the founding with `borgios governor found --exchange DIR`, or fetch with \
                 `borgios sync`",
            )
        })
    }

    /// Every proposal.
    pub(crate) fn proposals(&self) -> &BTreeMap<Digest, Held<Proposal>> {
        &self.proposals
    }

    /// Every pool.
    pub(crate) fn pools(&self) -> &BTreeMap<Digest, Held<Pool>> {
        &self.pools
    }

    /// Every ballot.
    pub(crate) fn ballots(&self) -> &BTreeMap<Digest, Held<Ballot>> {
        &self.ballots
    }

    /// Every share given in a session.
    pub(crate) fn shares(&self) -> &BTreeMap<Digest, Held<SessionShare>> {
        &self.shares
    }

    /// Every note.
    pub(crate) fn notes(&self) -> &BTreeMap<Digest, Held<Note>> {
        &self.notes
    }

    /// Every veto and pause.
    pub(crate) fn objections(&self) -> &BTreeMap<Digest, Held<Objection>> {
        &self.objections
    }

    /// Every signed statement that enough governors took back: the next round of its place is open.
    pub(crate) fn dead(&self) -> &BTreeSet<Digest> {
        &self.dead
    }

    /// Whether enough governors took this signed statement back.
    pub(crate) fn is_dead(&self, id: &Digest) -> bool {
        self.dead.contains(id)
    }

    /// The same as statements with their ids: they have no place in the chain, and their files are here.
    pub(crate) fn dead_statements(&self) -> Result<Vec<(Statement, Digest)>, Failure> {
        let all = self.dead_envelopes()?.into_iter();
        Ok(all.map(|(statement, envelope)| (statement, envelope.id())).collect())
    }

    /// The same with their envelopes.
    fn dead_envelopes(&self) -> Result<Vec<(Statement, Envelope)>, Failure> {
        let mut all = Vec::new();
        for id in &self.dead {
            for lane in Lane::ALL {
                let path = self.home.object(&lane.kind(), id);
                let Some(bytes) = durable::read(&path, ENVELOPE_MAX)? else { continue };
                let envelope = Envelope::parse(&bytes).ok().filter(|found| found.id() == *id);
                all.extend(
                    envelope
                        .and_then(|envelope| Some((Statement::parse(&envelope).ok()?, envelope))),
                );
            }
        }
        Ok(all)
    }

    /// What was taken back at the open places, with its ballots, and all that was said against it and
    /// against the last `carried` statements of each lane. Without it those ballots would make a signed
    /// statement again where they are brought, and no later round would be open there.
    pub(crate) fn taken_back(&self, carried: u64) -> Result<Vec<Envelope>, Failure> {
        let mut all = Vec::new();
        for (Statement { lane, seq, .. }, envelope) in self.dead_envelopes()? {
            if seq == self.chain.head_seq(lane).next() {
                all.push(envelope);
                all.extend(self.ballots_at(lane, seq));
            }
        }
        let is_recent = |said: &Objection| {
            said.seq.0.saturating_add(carried) > self.chain.head_seq(said.lane).0
        };
        let said = self.objections.values().filter(|held| is_recent(&held.value));
        let heard = said.filter(|held| objections::is_heard(self, held));
        all.extend(heard.map(|held| held.envelope.clone()));
        Ok(all)
    }

    /// Every drill.
    pub(crate) fn drills(&self) -> &BTreeMap<Digest, Held<Drill>> {
        &self.drills
    }

    /// Every answer to a drill.
    pub(crate) fn answers(&self) -> &BTreeMap<Digest, Held<DrillAnswer>> {
        &self.answers
    }

    /// Ballots of decided places that no node keeps.
    pub(crate) fn spent(&self) -> BTreeSet<Digest> {
        let mut casts = Casts::default();
        self.ballots.iter().for_each(|(id, held)| casts.insert(*id, &held.value));
        casts.spent(&self.chain, usize::MAX).into_iter().collect()
    }

    /// The envelopes of all ballots.
    pub(crate) fn ballot_envelopes(&self) -> Vec<Envelope> {
        self.ballots.values().map(|held| held.envelope.clone()).collect()
    }

    /// The ballots on one place, all rounds: what its tally and its rounds follow from.
    pub(crate) fn ballots_at(&self, lane: Lane, seq: Seq) -> Vec<Envelope> {
        let at = self.ballots.values().filter(|b| (b.value.lane, b.value.seq) == (lane, seq));
        at.map(|held| held.envelope.clone()).collect()
    }

    /// All that a vote and a tally of one slot are made with besides ballots: the pools that cover it,
    /// the burns, and the sessions and shares of boards that vote in two touches.
    pub(crate) fn papers_for(&self, board: &Board, slot: Slot) -> Vec<Envelope> {
        let covering = self.pools.values().filter(|held| held.value.covers(board, slot));
        let sessions = self.sessions.values().filter(|held| held.value.slot(board) == slot);
        let shares = self.shares.values().filter(|held| held.value.slot(board) == slot);
        let burns = self.burns.values().map(|held| &held.envelope);
        covering
            .map(|held| &held.envelope)
            .chain(burns)
            .chain(sessions.map(|held| &held.envelope))
            .chain(shares.map(|held| &held.envelope))
            .cloned()
            .collect()
    }

    /// The envelopes of all burns.
    pub(crate) fn burns(&self) -> Vec<Envelope> {
        self.burns.values().map(|held| held.envelope.clone()).collect()
    }

    /// Everything, statements first and in an order in which they verify.
    pub(crate) fn envelopes(&self) -> impl Iterator<Item = &Envelope> {
        let statements = self.chain.history().map(|verified| verified.envelope());
        statements
            .chain(self.pools.values().map(|held| &held.envelope))
            .chain(self.proposals.values().map(|held| &held.envelope))
            .chain(self.burns.values().map(|held| &held.envelope))
            .chain(self.ballots.values().map(|held| &held.envelope))
            .chain(self.sessions.values().map(|held| &held.envelope))
            .chain(self.shares.values().map(|held| &held.envelope))
            .chain(self.notes.values().map(|held| &held.envelope))
            .chain(self.objections.values().map(|held| &held.envelope))
            .chain(self.beacons.values().map(|held| &held.envelope))
            .chain(self.drills.values().map(|held| &held.envelope))
            .chain(self.answers.values().map(|held| &held.envelope))
    }

    /// The envelope of that id.
    pub(crate) fn find(&self, id: &Digest) -> Option<&Envelope> {
        let statement = self.chain.known(id).and_then(|(lane, seq)| self.chain.get(lane, seq));
        statement
            .map(|verified| verified.envelope())
            .or_else(|| self.proposals.get(id).map(|held| &held.envelope))
            .or_else(|| self.pools.get(id).map(|held| &held.envelope))
            .or_else(|| self.burns.get(id).map(|held| &held.envelope))
            .or_else(|| self.sessions.get(id).map(|held| &held.envelope))
            .or_else(|| self.shares.get(id).map(|held| &held.envelope))
            .or_else(|| self.ballots.get(id).map(|held| &held.envelope))
            .or_else(|| self.notes.get(id).map(|held| &held.envelope))
            .or_else(|| self.objections.get(id).map(|held| &held.envelope))
            .or_else(|| {
                let beacons = self.beacons.values().map(|held| &held.envelope);
                beacons.into_iter().find(|envelope| envelope.id() == *id)
            })
            .or_else(|| self.recoveries.envelopes().find(|envelope| envelope.id() == *id))
            .or_else(|| self.drills.get(id).map(|held| &held.envelope))
            .or_else(|| self.answers.get(id).map(|held| &held.envelope))
    }

    /// When this folder stored an object, by the date of its file. A copy of the folder may have later
    /// dates: it is for people and for what waits a little longer, and decides nothing.
    pub(crate) fn stored_at(&self, envelope: &Envelope) -> Option<UnixSeconds> {
        date_of(&self.home.object(&envelope.kind, &envelope.id()))
    }

    /// Whether this archive holds `envelope`, be it with other, equally valid signatures. A
    /// forgery under the id of a true object is not held.
    pub(crate) fn holds(&self, envelope: &Envelope) -> bool {
        match self.find(&envelope.id()) {
            None => false,
            Some(known) if known == envelope => true,
            Some(_) if envelope.kind.as_str().parse::<Lane>().is_ok() => matches!(
                self.chain.verify_stored(envelope, &[]),
                Ok(Verdict::AlreadyKnown(_)) | Err(Refusal::Replayed { .. })
            ),
            Some(_) => self.verify(envelope, Lay::Elsewhere).is_ok(),
        }
    }
}

/// When a file was last written.
pub(super) fn date_of(path: &Path) -> Option<UnixSeconds> {
    let changed = std::fs::metadata(path).and_then(|file| file.modified()).ok()?;
    changed.duration_since(UNIX_EPOCH).ok().map(|since| UnixSeconds(since.as_secs()))
}
