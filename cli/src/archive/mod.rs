//! Every object this governor has seen: verified once when it arrives, kept as one file each, read
//! and verified again at every start.
//!
//! ```text
//! transports ──▶ admit ──▶ verified against the chain's boards ──▶ objects/<kind>/<hex>.json
//!                  └─────▶ refused, with its reason, and not kept
//! ```
//!
//! Invariant: whatever an accessor returns was verified by this very process; the points of pools are
//! asked when they come, and again by each vote and tally that uses them. What servers say of themselves is
//! kept by the same rules in [`crate::servers`].

mod ahead;
mod beacons;
mod judging;
mod reading;
pub(crate) mod recoveries;
mod rivals;
mod upheld;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use borgios_policy::{
    Ballot, Beacon, Board, Burn, Chain, Drill, DrillAnswer, Lane, Name, Note, Object as _,
    Objection, Pause, Pool, Proposal, RecoveryBoard, Refusal, Session, SessionShare, Slot,
    Statement, Submission, VerifiedStatement, Veto,
};
use borgios_types::limits::ENVELOPE_MAX;
use borgios_types::{Digest, Envelope, Kind, UnixSeconds};

use self::judging::{Lay, Object, verify_by};
use self::recoveries::Recoveries;
use self::rivals::Rivals;
use crate::durable;
use crate::failure::{Failure, OrFail as _};
use crate::home::Home;
use crate::{objections, revived};

pub(crate) use self::judging::is_veto;

/// A verified object, who made it, and the envelope it came in.
#[derive(Clone, Debug)]
pub(crate) struct Held<T> {
    /// What it says.
    pub(crate) value: T,
    /// The governor who signed it.
    pub(crate) by: Name,
    /// The envelope.
    pub(crate) envelope: Envelope,
}

impl<T> Held<T> {
    /// Whether who made it has a seat on this board, under the key that signed it. The archive also holds
    /// what members of boards made that are only proposed, and such a board may have others under honest
    /// names.
    pub(crate) fn is_of(&self, board: &Board) -> bool {
        board.by_name(&self.by).is_some_and(|seat| self.envelope.signed_by(&seat.key))
    }
}

/// What became of a batch of offered objects.
#[derive(Debug, Default)]
pub(crate) struct Admitted {
    /// Ids that are new here.
    pub(crate) new: Vec<Digest>,
    /// What was refused, one line each.
    pub(crate) refused: Vec<String>,
    /// How many could not be judged, for no board is known here yet. They are not kept, and no worse for
    /// it when they are offered again.
    pub(crate) unjudged: usize,
}

/// All verified objects of one network.
#[derive(Debug)]
pub(crate) struct Archive {
    home: Home,
    chain: Chain,
    /// Boards that a proposed next policy would make: they vote on it too.
    candidates: Vec<Board>,
    proposals: BTreeMap<Digest, Held<Proposal>>,
    pools: BTreeMap<Digest, Held<Pool>>,
    burns: BTreeMap<Digest, Held<Burn>>,
    sessions: BTreeMap<Digest, Held<Session>>,
    shares: BTreeMap<Digest, Held<SessionShare>>,
    ballots: BTreeMap<Digest, Held<Ballot>>,
    notes: BTreeMap<Digest, Held<Note>>,
    /// Vetoes and pauses; which of the two, the envelope says.
    objections: BTreeMap<Digest, Held<Objection>>,
    /// The newest of each key, with its beacons on one board.
    beacons: BTreeMap<beacons::Sender, Held<Beacon>>,
    /// Signed statements that enough governors took back.
    dead: BTreeSet<Digest>,
    /// Those from which this governor goes on all the same.
    upheld: BTreeSet<Digest>,
    drills: BTreeMap<Digest, Held<Drill>>,
    answers: BTreeMap<Digest, Held<DrillAnswer>>,
    recoveries: Recoveries,
    /// Policies of recovery keys that came into force, as this governor had said when this was read.
    in_force: BTreeSet<Digest>,
    rivals: Rivals,
    /// The files of statements that were there when they were read, and those stored since.
    lie: BTreeSet<PathBuf>,
}

impl Archive {
    /// Reads the archive of the network with this id.
    ///
    /// # Errors
    /// A stored statement that does not verify: the folder was damaged or tampered with. Other
    /// objects that do not verify are left out; they can be fetched again.
    pub(crate) fn load(home: &Home, network: Digest) -> Result<Self, Failure> {
        // First: what another command lays meanwhile is then seen as new.
        let lie = statement_files(home)?;
        let ballots = read_kind(home, Ballot::KIND)?;
        let mut stored = ballots.clone();
        for lane in Lane::ALL {
            stored.extend(read_kind(home, lane.as_str())?);
        }
        let vetoes = read_kind(home, Veto::KIND)?;
        let (kept, in_force) = (recoveries::read(home)?, recoveries::accepted(home)?);
        stored.extend(kept.iter().filter(|one| in_force.contains(&one.id())).cloned());
        let upheld = upheld::read(home)?;
        let said = objections::Said { vetoes: &vetoes, recovered: &in_force, upheld: &upheld };
        let (chain, dead) = objections::restore(network, stored, &said)
            .or_fail(|| format!("a statement stored in {} is refused", home.root().display()))
            .map_err(|failure| {
                failure.hint(format!(
                    "move {} away and run `borgios sync`: every statement is fetched anew",
                    home.root().join("objects").display()
                ))
            })?;
        let recoveries = Recoveries::of(network, &chain, &kept);
        let rivals = Rivals::load(home, &chain)?;
        let mut archive = Self {
            home: home.clone(),
            chain,
            recoveries,
            rivals,
            candidates: Vec::new(),
            proposals: BTreeMap::new(),
            pools: BTreeMap::new(),
            burns: BTreeMap::new(),
            sessions: BTreeMap::new(),
            shares: BTreeMap::new(),
            ballots: BTreeMap::new(),
            notes: BTreeMap::new(),
            drills: BTreeMap::new(),
            answers: BTreeMap::new(),
            objections: BTreeMap::new(),
            beacons: BTreeMap::new(),
            dead,
            upheld,
            in_force,
            lie,
        };
        let voting = [Proposal::KIND, Pool::KIND, Burn::KIND, Session::KIND, SessionShare::KIND];
        let words = [Note::KIND, Drill::KIND, DrillAnswer::KIND];
        let gates = [Veto::KIND, Pause::KIND, Beacon::KIND];
        for kind in voting.into_iter().chain(words).chain(gates) {
            for envelope in read_kind(home, kind)? {
                archive.hold(&envelope);
            }
            if kind == Proposal::KIND {
                archive.look_ahead();
                if !archive.candidates.is_empty() {
                    // Whoever is to sit there may have proposed something too.
                    archive.hold_stored(kind)?;
                }
            }
        }
        for envelope in ballots {
            archive.hold(&envelope);
        }
        Ok(archive)
    }

    /// Verifies offered objects, stores those that are new, and says what became of them.
    pub(crate) fn admit(
        &mut self,
        now: UnixSeconds,
        offered: Vec<Envelope>,
    ) -> Result<Admitted, Failure> {
        // Judging may take minutes, and two that do it at once would each store a rival of the other's.
        let _lock = self.home.admitting()?;
        self.admit_locked(now, offered)
    }

    fn admit_locked(
        &mut self,
        now: UnixSeconds,
        offered: Vec<Envelope>,
    ) -> Result<Admitted, Failure> {
        self.read_anew_if_changed()?;
        let upheld = self.upheld.clone();
        let admitted = self.admit_all(now, offered);
        // What fell for something that did not last, or before the disk was full, is upheld again.
        self.uphold_again(&upheld)?;
        admitted
    }

    /// Reads everything anew where another command of this folder has stored a statement meanwhile, or
    /// noted what is upheld or came into force. Commands that only look hold no lock, and a node may keep one of them waiting
    /// for minutes: what it knew then must neither bring a rival into a place that is taken, nor undo
    /// what the person said since. So that this stays true until all is stored, [`Home::admitting`] is held.
    fn read_anew_if_changed(&mut self) -> Result<(), Failure> {
        let is_as_read = upheld::read(&self.home)? == self.upheld
            && recoveries::accepted(&self.home)? == self.in_force
            && statement_files(&self.home)? == self.lie;
        if !is_as_read && let Some(network) = self.chain.network() {
            *self = Self::load(&self.home, network)?;
        }
        Ok(())
    }

    fn admit_all(&mut self, now: UnixSeconds, offered: Vec<Envelope>) -> Result<Admitted, Failure> {
        let mut admitted = Admitted::default();
        // 1. Statements first: they bring the boards by which the rest is judged. Ballots already
        //    held may be what a statement of a stricter class needs.
        let (statements, others): (Vec<_>, Vec<_>) =
            offered.into_iter().partition(|e| e.kind.as_str().parse::<Lane>().is_ok());
        let statements = statements.into_iter().filter(|e| !self.dead.contains(&e.id()));
        let (network, named) = (self.chain.network(), self.recovery_keys());
        let (papers, statements) = recoveries::papers(network, &named, statements.collect());
        let with = statements.into_iter().chain(self.ballot_envelopes());
        let with = with.chain(others.iter().filter(|e| e.kind.as_str() == Ballot::KIND).cloned());
        let submissions = Submission::sort(with);
        let run = self.chain.verify_run(now, &submissions);
        let mut accepted = run.accepted;
        let (mut chain, ballots) = (self.chain.clone(), self.ballot_envelopes());
        accepted.iter().for_each(|verified| chain.apply(verified.clone()));
        let dead = &self.dead;
        let revived = revived::built_upon(&self.home, chain, now, dead, &ballots, &submissions)?;
        let reload = !revived.is_empty();
        accepted.extend(revived);
        let taken: BTreeSet<Digest> = accepted.iter().map(VerifiedStatement::id).collect();
        // What a recovery key signed is kept apart, once the chain is as far as it goes.
        let (mut left, mut rivals) = (Vec::new(), Vec::new());
        let mut stand = Vec::new();
        let blind = accepted.is_empty() && !self.knows_a_board();
        for (at, refusal) in run.refused {
            let Some(submission) = submissions.get(at) else { continue };
            if blind && matches!(refusal, Refusal::Gap { .. }) {
                admitted.unjudged += 1;
                continue;
            }
            if matches!(refusal, Refusal::Replayed { .. } | Refusal::Closed { .. })
                || taken.contains(&submission.statement.id())
            {
                continue;
            }
            if matches!(refusal, Refusal::Recovery { .. }) {
                left.push(submission.statement.clone());
                continue;
            }
            if let Refusal::Rival { lane, known, .. } = refusal {
                stand.push((lane, known));
                rivals.push((submission.statement.clone(), refusal));
                continue;
            }
            let kind = &submission.statement.kind;
            admitted
                .refused
                .push(format!("{kind} {}: {refusal}", submission.statement.id().short()));
        }
        for verified in accepted {
            // The ballots it stood on are stored before it, or it would not verify again.
            let id = verified.id();
            for submission in submissions.iter().filter(|s| s.statement.id() == id) {
                for ballot in &submission.ballots {
                    self.keep(ballot, &mut admitted)?;
                }
            }
            self.store(verified.envelope())?;
            self.lie.insert(self.home.object(&verified.envelope().kind, &id));
            if !reload {
                self.chain.apply(verified);
            }
            admitted.new.push(id);
        }
        if reload && let Some(network) = self.chain.network() {
            // What is built upon is dead no more.
            *self = Self::load(&self.home, network)?;
        }
        let upheld = self.upheld.clone();
        if self.yield_to(&stand)? {
            // Their places are free for what was signed there.
            let signed: Vec<Envelope> =
                rivals.iter().map(|(envelope, _)| envelope.clone()).collect();
            let ballots = others.iter().filter(|e| e.kind.as_str() == Ballot::KIND).cloned();
            let more = self.admit_locked(now, signed.iter().cloned().chain(ballots).collect())?;
            let taken = |id: &Digest| more.new.contains(id);
            if signed.iter().any(|one| taken(&one.id())) {
                rivals.clear();
                admitted.refused.extend(more.refused);
            } else {
                // Nothing of it counts, for it is out of date or lacks approvals.
                self.note_upheld(&upheld)?;
            }
            admitted.new.extend(more.new);
        }
        for envelope in left {
            match self.keep_waiting(&envelope)? {
                Some(true) => admitted.new.push(envelope.id()),
                Some(false) => {}
                None => {
                    let what = envelope.id().short();
                    admitted.refused.push(format!("policy {what}: no place for it here"));
                }
            }
        }
        for (envelope, refusal) in rivals {
            // Each is said once, and shown from then on.
            if !self.keep_rival(&envelope)? {
                let (kind, id) = (&envelope.kind, envelope.id().short());
                admitted.refused.push(format!("{kind} {id}: {refusal}"));
            }
        }
        self.keep_named(&papers, &mut admitted.new)?;
        // 2. The rest; proposals first, which may bring the boards of pools and ballots.
        let (proposals, others): (Vec<_>, Vec<_>) =
            others.into_iter().partition(|e| e.kind.as_str() == Proposal::KIND);
        let before = self.candidates.clone();
        let mut judged = Admitted::default();
        for envelope in &proposals {
            self.keep(envelope, &mut judged)?;
        }
        self.keep_named(&papers, &mut admitted.new)?;
        self.look_ahead();
        if self.candidates != before {
            // Whoever is to sit there may propose something too.
            judged.refused.clear();
            for envelope in &proposals {
                self.keep(envelope, &mut judged)?;
            }
            // A change of the board laid its pools here before its proposal was known.
            self.hold_stored(Pool::KIND)?;
        }
        admitted.new.extend(judged.new);
        admitted.refused.extend(judged.refused);
        admitted.unjudged += judged.unjudged;
        for envelope in others {
            self.keep(&envelope, &mut admitted)?;
        }
        // 3. What governors took back loses its place, whichever of the two came first.
        let vetoed: BTreeSet<Digest> = self
            .objections
            .values()
            .filter(|held| is_veto(held))
            .map(|held| held.value.statement)
            .collect();
        let veto = |id: &Digest| self.objections.get(id).is_some_and(is_veto);
        if admitted.new.iter().any(|id| veto(id) || vetoed.contains(id))
            && let Some(network) = self.chain.network()
        {
            *self = Self::load(&self.home, network)?;
        }
        Ok(admitted)
    }

    /// Holds and stores one object that is no statement.
    fn keep(&mut self, envelope: &Envelope, admitted: &mut Admitted) -> Result<(), Failure> {
        let id = envelope.id();
        if self.find(&id).is_some() || self.is_outdated(envelope) {
            return Ok(());
        }
        match self.verify(envelope, Lay::Elsewhere) {
            Ok(object) => {
                self.store(envelope)?;
                self.insert(id, object);
                admitted.new.push(id);
            }
            Err(_) if !self.knows_a_board() => admitted.unjudged += 1,
            Err(why) => {
                admitted.refused.push(format!("{} {}: {why}", envelope.kind, id.short()));
            }
        }
        Ok(())
    }

    /// Whether there is a board to judge objects by.
    fn knows_a_board(&self) -> bool {
        self.boards().next().is_some()
    }

    /// Holds one object from this archive's own folder, if it verifies.
    fn hold(&mut self, envelope: &Envelope) {
        if let Ok(object) = self.verify(envelope, Lay::Here) {
            self.insert(envelope.id(), object);
        }
    }

    /// Holds the stored objects of a kind that could not be judged when they were laid.
    fn hold_stored(&mut self, kind: &str) -> Result<(), Failure> {
        for envelope in read_kind(&self.home, kind)? {
            if self.find(&envelope.id()).is_none() {
                self.hold(&envelope);
            }
        }
        Ok(())
    }

    fn insert(&mut self, id: Digest, object: Object) {
        match object {
            Object::Proposal(held) => drop(self.proposals.insert(id, held)),
            Object::Pool(held) => drop(self.pools.insert(id, held)),
            Object::Burn(held) => drop(self.burns.insert(id, held)),
            Object::Session(held) => drop(self.sessions.insert(id, held)),
            Object::Share(held) => drop(self.shares.insert(id, held)),
            Object::Ballot(held) => drop(self.ballots.insert(id, held)),
            Object::Note(held) => drop(self.notes.insert(id, held)),
            Object::Objection(held) => drop(self.objections.insert(id, held)),
            Object::Beacon(held, key) => self.insert_beacon(held, key),
            Object::Drill(held) => drop(self.drills.insert(id, held)),
            Object::DrillAnswer(held) => drop(self.answers.insert(id, held)),
        }
    }

    /// Judges an object by the boards of the chain, the newest first: what an earlier board said
    /// in its time stays on record.
    fn verify(&self, envelope: &Envelope, lay: Lay) -> Result<Object, String> {
        let network = self.chain.network().ok_or("no network is known yet")?;
        let mut why = "no board is known yet".to_owned();
        for board in self.boards().chain(&self.candidates) {
            match verify_by(board, network, envelope, lay) {
                Ok(object) => return Ok(object),
                Err(error) => why = error,
            }
        }
        // A recovery board votes, and says nothing else that counts.
        if [Proposal::KIND, Pool::KIND, Burn::KIND, Ballot::KIND].contains(&envelope.kind.as_str())
        {
            for paper in self.recoveries.papers() {
                match verify_by(paper.board(), network, envelope, lay) {
                    Ok(object) => return Ok(object),
                    Err(error) => why = error,
                }
            }
        }
        Err(why)
    }

    /// Whether somebody made it who sits on a board that is in force or was, or on the recovery board.
    pub(crate) fn is_seated<T>(&self, held: &Held<T>) -> bool {
        let recoverers = self.recovery_board().map(RecoveryBoard::board);
        self.boards().chain(recoverers).any(|board| held.is_of(board))
    }

    /// Who made it, for people.
    pub(crate) fn made_by<T>(&self, held: &Held<T>) -> String {
        let whose = if self.is_seated(held) { "" } else { " of a board that is only proposed" };
        format!("{}{whose}", held.by)
    }

    /// The boards that the proposals for the next policy would make.
    pub(crate) fn candidates(&self) -> &[Board] {
        &self.candidates
    }

    /// Writes an object of any kind to its file.
    fn store(&self, envelope: &Envelope) -> Result<(), Failure> {
        durable::folder(&self.home.kind(&envelope.kind))?;
        let path = self.home.object(&envelope.kind, &envelope.id());
        durable::write(&path, envelope.to_json().as_bytes())
    }
}

/// The files of all statements in the home folder.
fn statement_files(home: &Home) -> Result<BTreeSet<PathBuf>, Failure> {
    let mut all = BTreeSet::new();
    for lane in Lane::ALL {
        let files = durable::list(&home.kind(&lane.kind()))?.into_iter();
        all.extend(files.filter(|path| path.extension().is_some_and(|end| end == "json")));
    }
    Ok(all)
}

/// The well-formed envelopes of one kind in the home folder.
pub(crate) fn read_kind(home: &Home, kind: &str) -> Result<Vec<Envelope>, Failure> {
    let kind = Kind::new(kind).or_fail(|| "not a kind")?;
    let mut envelopes = Vec::new();
    durable::sweep_dead(&home.kind(&kind))?;
    for path in durable::list(&home.kind(&kind))? {
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let Some(bytes) = durable::read(&path, ENVELOPE_MAX)? else { continue };
        envelopes.extend(Envelope::parse(&bytes).ok().filter(|envelope| envelope.kind == kind));
    }
    Ok(envelopes)
}

/// The slot in which a statement of the board in force is voted on.
pub(crate) fn slot_of(board: &Board, statement: &Statement) -> Slot {
    let Statement { lane, seq, round, .. } = *statement;
    Slot { epoch: board.epoch(), lane, seq, round }
}

#[cfg(test)]
mod tests {
    use borgios_policy::fixture::{Council, NOW, release_body, statement as draft};

    use super::*;

    /// A command that only looks holds no lock, and may wait for a node while another one works.
    #[test]
    fn what_another_command_stored_or_noted_meanwhile_counts() {
        let council = Council::new(3, 2, 1, 1);
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(Some(folder.path().to_owned())).unwrap();
        let first = council.sign(&council.first_policy(2));
        let network = first.id();
        let mut one = Archive::load(&home, network).unwrap();
        one.admit(NOW, vec![first]).unwrap();
        let noted = home.governor("upheld.json");
        durable::folder(noted.parent().unwrap()).unwrap();
        let id = Digest::of(b"vetoed, and gone on from");
        durable::write(&noted, &serde_json::to_vec(&[id]).unwrap()).unwrap();
        let mut other = Archive::load(&home, network).unwrap();
        assert!(other.upheld().contains(&id));
        // The one lets it fall, and takes one of two that are signed for a place; the other hears of the
        // second one.
        durable::write(&noted, b"[]").unwrap();
        let [x, y] = ["1", "2"].map(|version| {
            let body = release_body(version);
            council.sign(&draft(Lane::Release, 1, Some(network), None, Some(1), body))
        });
        assert_eq!(one.admit(NOW, vec![x.clone()]).unwrap().new, [x.id()]);
        other.admit(NOW, vec![y.clone()]).unwrap();
        assert!(other.upheld().is_empty());
        let again = Archive::load(&home, network).unwrap();
        assert!(again.chain().known(&x.id()).is_some() && again.chain().known(&y.id()).is_none());
        assert_eq!(again.rivals().all().count(), 1);
    }

    /// The second of two that judge at once looks when the first has stored what it took.
    #[test]
    fn two_commands_that_judge_rivals_at_once_store_one() {
        let council = Council::new(3, 2, 1, 1);
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(Some(folder.path().to_owned())).unwrap();
        let first = council.sign(&council.first_policy(2));
        let network = first.id();
        let mut one = Archive::load(&home, network).unwrap();
        one.admit(NOW, vec![first]).unwrap();
        let mut other = Archive::load(&home, network).unwrap();
        let [x, y] = ["1", "2"].map(|version| {
            let body = release_body(version);
            council.sign(&draft(Lane::Release, 1, Some(network), None, Some(1), body))
        });
        let lock = home.admitting().unwrap();
        let (begun, begins) = std::sync::mpsc::channel();
        let second = std::thread::spawn(move || {
            begun.send(()).unwrap();
            other.admit(NOW, vec![y]).map(drop)
        });
        begins.recv().unwrap();
        one.admit_locked(NOW, vec![x.clone()]).unwrap();
        drop(lock);
        second.join().unwrap().unwrap();
        let again = Archive::load(&home, network).unwrap();
        assert!(again.chain().known(&x.id()).is_some() && again.rivals().all().count() == 1);
    }

    /// Whoever is new to a folder may find there what a board said before the board itself.
    #[test]
    fn what_comes_before_its_board_is_not_refused_and_is_taken_when_it_comes_again() {
        let council = Council::new(3, 2, 1, 1);
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(Some(folder.path().to_owned())).unwrap();
        let first = council.sign(&council.first_policy(2));
        let network = first.id();
        let of = |network| draft(Lane::Release, 1, Some(network), None, Some(1), release_body("1"));
        let release = of(network);
        let statement = release.to_envelope().payload;
        let (governor, lane) = (council.name(0), Lane::Release);
        let key = &council.keys[&governor];
        let proposal = Proposal { governor, statement, lane, note: None }.to_envelope().sign(key);
        let mut archive = Archive::load(&home, network).unwrap();
        let mut offered = vec![council.sign(&release), proposal];
        let early = archive.admit(NOW, offered.clone()).unwrap();
        assert_eq!((early.unjudged, early.new, early.refused), (2, Vec::new(), Vec::new()));
        // What is another network's will never be good, and is said at once.
        let foreign = council.sign(&of(Digest::of(b"another network")));
        let refused = archive.admit(NOW, vec![foreign]).unwrap();
        assert_eq!((refused.unjudged, refused.refused.len()), (0, 1));
        offered.push(first);
        let taken = archive.admit(NOW, offered).unwrap();
        assert_eq!((taken.unjudged, taken.new.len(), taken.refused), (0, 3, Vec::new()));
    }
}
