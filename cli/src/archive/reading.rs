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
use crate::home::Home;
use crate::objections;

impl Archive {
    /// [`Archive::load`] for whoever does not hold [`Home::admitting`]: what another command is storing is
    /// read whole or not at all, never a statement without what it stands on.
    pub(crate) fn open(home: &Home, network: Digest) -> Result<Self, Failure> {
        // Into a folder that takes no lock nobody stores either.
        let _lock = home.admitting().ok();
        Self::load(home, network)
    }

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

    /// What was taken back at the open places, with its ballots, and what was said against it and
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
        all.extend(self.said_lately(carried)?);
        Ok(all)
    }

    /// What was said against the last `carried` statements of each lane, and against what lies beside them or
    /// after them: each governor's first veto of each and first pause of each. More of one does not count,
    /// and what names no signed statement at its own place counts nowhere: neither has an end, and a carrier
    /// has.
    fn said_lately(&self, carried: u64) -> Result<Vec<Envelope>, Failure> {
        let boards: Vec<&Board> = self.boards().collect();
        let mut places: BTreeMap<(Lane, Digest), Option<Seq>> = BTreeMap::new();
        let mut first: BTreeMap<_, &Held<Objection>> = BTreeMap::new();
        for held in self.objections.values() {
            let said = &held.value;
            if said.seq.0.saturating_add(carried) <= self.chain.head_seq(said.lane).0 {
                continue;
            }
            let of = (said.lane, said.statement);
            let place = match places.get(&of) {
                Some(place) => *place,
                None => {
                    let place = self.place_of(said.lane, &said.statement)?;
                    places.insert(of, place);
                    place
                }
            };
            if place != Some(said.seq) {
                continue;
            }
            let heard = boards.iter().find(|board| objections::is_of(board, held));
            let Some(seat) = heard.and_then(|board| board.by_name(&held.by)) else { continue };
            let voice = (held.envelope.kind.as_str(), seat.key, said.group, said.statement);
            let earliest = first.entry(voice).or_insert(held);
            if said.at < earliest.value.at {
                *earliest = held;
            }
        }
        Ok(first.into_values().map(|held| held.envelope.clone()).collect())
    }

    /// The place in a lane of a statement that is signed, as far as is known here: in the chain, dead, upon
    /// something that died, a rival, or waiting for a recovery.
    fn place_of(&self, lane: Lane, id: &Digest) -> Result<Option<Seq>, Failure> {
        if let Some((of, seq)) = self.chain.known(id) {
            return Ok((of == lane).then_some(seq));
        }
        let rivals = self.rivals.all().map(|(rival, statement)| (*rival, statement));
        let waiting = self.recoveries.waiting().map(|at| (at.id(), at.statement()));
        let apart = rivals.chain(waiting).find(|(other, at)| other == id && at.lane == lane);
        if let Some((_, statement)) = apart {
            return Ok(Some(statement.seq));
        }
        let path = self.home.object(&lane.kind(), id);
        if !self.lie.contains(&path) {
            return Ok(None);
        }
        let bytes = durable::read(&path, ENVELOPE_MAX)?.unwrap_or_default();
        let envelope = Envelope::parse(&bytes).ok().filter(|found| found.id() == *id);
        Ok(envelope.and_then(|envelope| Statement::parse(&envelope).ok()).map(|at| at.seq))
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

#[cfg(test)]
mod tests {
    use borgios_policy::fixture::{Council, NOW, release_body, statement as draft};
    use borgios_policy::{Object as _, Veto};

    use super::*;

    /// A carrier's file takes so much and no more, and objections never go.
    #[test]
    fn a_carrier_brings_vetoes_on_what_is_signed_and_of_each_governor_one() {
        let council = Council::new(3, 2, 1, 1);
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(Some(folder.path().to_owned())).unwrap();
        let first = council.sign(&council.first_policy(2));
        let network = first.id();
        let body = release_body("1");
        let release = council.sign(&draft(Lane::Release, 1, Some(network), None, Some(1), body));
        let veto = |by: usize, statement: Digest, seq: u64, at: u64| {
            let veto = Veto(Objection {
                network,
                group: council.board.group(),
                governor: council.name(by),
                statement,
                lane: Lane::Release,
                seq: Seq(seq),
                reason: "it deletes /etc".to_owned(),
                at: NOW.plus(at),
            });
            veto.to_envelope().sign(&council.keys[&council.name(by)])
        };
        let mut archive = Archive::load(&home, network).unwrap();
        archive.admit(NOW, vec![first, release.clone()]).unwrap();
        let far = 1 << 52;
        let own = veto(0, release.id(), 1, 0);
        let mut said = vec![
            own.clone(),
            veto(0, release.id(), 1, 1),
            veto(1, release.id(), far, 0),
            veto(1, Digest::of(b"made up"), 1, 0),
        ];
        said.extend((0..20).map(|at| veto(1, Digest::of(b"made up"), far + at, at)));
        let admitted = archive.admit(NOW, said).unwrap();
        assert_eq!((admitted.new.len(), admitted.refused), (24, Vec::new()));
        assert_eq!(archive.taken_back(8).unwrap(), [own]);
        // What was said on another machine after the first word is the same voice.
        let other = veto(1, release.id(), 1, 5);
        archive.admit(NOW, vec![other.clone()]).unwrap();
        let carried = archive.taken_back(8).unwrap();
        assert!(carried.len() == 2 && carried.contains(&other), "{}", carried.len());
    }

    /// Ballots are stored before what stands on them, and one lane after the other.
    #[test]
    fn what_another_command_is_storing_is_not_read_half() {
        let council = Council::new(3, 2, 1, 1);
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(Some(folder.path().to_owned())).unwrap();
        let first = council.sign(&council.first_policy(2));
        let network = first.id();
        let body = release_body("1");
        let release = council.sign(&draft(Lane::Release, 1, Some(network), None, Some(1), body));
        let lay = |envelope: &Envelope| {
            let path = home.object(&envelope.kind, &envelope.id());
            durable::folder(path.parent().unwrap()).unwrap();
            durable::write(&path, envelope.to_json().as_bytes()).unwrap();
        };
        let lock = home.admitting().unwrap();
        // As whoever lists the lanes sees it while another one stores.
        lay(&release);
        assert!(Archive::load(&home, network).is_err());
        let (begun, begins) = std::sync::mpsc::channel();
        let look = {
            let home = home.clone();
            std::thread::spawn(move || {
                begun.send(()).unwrap();
                Archive::open(&home, network).map(|archive| archive.chain().history().count())
            })
        };
        begins.recv().unwrap();
        lay(&first);
        drop(lock);
        assert_eq!(look.join().unwrap().unwrap(), 2);
    }
}
