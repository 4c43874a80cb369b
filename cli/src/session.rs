//! A governor at work: the desk, the opened identity, the home's lock, and the slots kept filled.

use std::collections::BTreeSet;

use borgios_policy::burn::{self, Burn};
use borgios_policy::pool::{self, slots_per_pool};
use borgios_policy::{
    Board, KeyShare, Lane, Name, Object as _, Policy, Pool, RecoveryBoard, Seed, Slot,
};
use borgios_types::{Digest, Envelope, KeyEpoch, Seq};
use serde::Serialize;

use crate::context::Context;
use crate::desk::Desk;
use crate::durable;
use crate::failure::{Failure, OrFail as _};
use crate::hearing::held_back_s;
use crate::home::Lock;
use crate::identity::Identity;
use crate::next_key::{self, Adopted, NextKey};
use crate::notices;
use crate::slots::{SlotState, Slots};
use crate::touch_two;

/// Largest `generation`, in bytes.
const GENERATION_MAX: usize = 32;

/// An opened identity at its desk; nobody else writes in this folder meanwhile.
pub(crate) struct Session<'a> {
    pub(crate) desk: Desk<'a>,
    identity: Identity,
    _lock: Lock,
}

/// What was done besides the command itself.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Settled {
    /// Statements that turned out to be signed: `release/2`.
    pub(crate) signed: Vec<String>,
    /// Policies that the recovery board and the board that it makes have signed: `policy/2`.
    pub(crate) recoveries: Vec<String>,
    /// Slots for which a new pool was published.
    pub(crate) slots: usize,
    /// Shares given in sessions of a board that votes in two touches.
    pub(crate) shares: usize,
}

impl Settled {
    /// For people, one line each.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> =
            self.signed.iter().map(|place| format!("{place} is signed and published")).collect();
        for place in &self.recoveries {
            lines.push(format!(
                "{place} is signed by the recovery board and by the board that it makes; bring it to a \
                 server with `borgios sync --exchange DIR --node HOST:PORT`"
            ));
        }
        if self.shares > 0 {
            lines.push(format!("{} shares given for what you approved", self.shares));
        }
        if self.slots > 0 {
            lines.push(format!("nonces for {} further slots published", self.slots));
        }
        lines
    }
}

impl<'a> Session<'a> {
    /// Takes the lock, opens the identity, brings the archive up to date.
    pub(crate) fn open(context: &'a Context) -> Result<Self, Failure> {
        context.membership()?;
        let lock = context.lock()?;
        let identity = context.identity()?;
        Self::begin(context, lock, identity)
    }

    /// The same with an identity that is already open.
    pub(crate) fn with(context: &'a Context, identity: Identity) -> Result<Self, Failure> {
        let lock = context.lock()?;
        Self::begin(context, lock, identity)
    }

    /// The same, to say first that all earlier nonces are void: nothing is published before that. Who came
    /// from a backup does not know all that was published, and would publish it again in another form.
    pub(crate) fn anew(context: &'a Context, identity: Identity) -> Result<Self, Failure> {
        let lock = context.lock()?;
        Self::quietly(context, lock, identity)
    }

    /// Gives the lock back and keeps the identity open.
    pub(crate) fn into_identity(self) -> Identity {
        self.identity
    }

    fn quietly(context: &'a Context, lock: Lock, identity: Identity) -> Result<Self, Failure> {
        let desk = Desk::with(context, Some(&identity))?;
        let session = Self { desk, identity, _lock: lock };
        session.finish_erasing()?;
        session.take_office()?;
        session.end_founding()?;
        Ok(session)
    }

    fn begin(context: &'a Context, lock: Lock, identity: Identity) -> Result<Self, Failure> {
        let mut session = Self::quietly(context, lock, identity)?;
        // Whatever this governor came for, the others may be waiting for nonces to vote with.
        let burnt = session.finish_burn();
        let filled = match session.desk.is_offline() {
            true => burnt,
            false => burnt.and_then(|_| session.refill().map(|slots| slots as u64)),
        };
        if let Err(failure) = filled {
            session.desk.context().printer.warn(&failure.summary());
        }
        session.beacon_if_due();
        Ok(session)
    }

    /// The opened identity.
    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The slots of this governor.
    pub(crate) fn slots(&self) -> Slots<'a> {
        Slots::new(&self.desk.context().home)
    }

    /// The governor's place on the board in force.
    pub(crate) fn on_board(&self) -> Result<(&Board, &Name), Failure> {
        let (board, name) = (self.desk.archive().board()?, self.identity.name());
        let own = self.identity.ssh().public();
        match board.by_name(name) {
            Some(seat) if seat.key == own => Ok((board, name)),
            Some(seat) => Err(Failure::new(format!("the board in force has another key for {name}"))
                .because(format!("it has {}, this folder {}", seat.key.fingerprint(), own.fingerprint()))
                .hint(
                    "an identity in whose place there is another votes no more: use the folder with that \
                     one. A new one counts once the board has voted on its card",
                )),
            None => Err(Failure::new(format!("{name} is not on the board in force"))),
        }
    }

    /// The governor's place on the recovery board, in a folder that is its member's.
    pub(crate) fn recovering(&self) -> Result<(&Board, &Name), Failure> {
        let (desk, name) = (&self.desk, self.identity.name());
        let none = || Failure::new(format!("{name} is not on a recovery board"));
        let id = desk.membership().recovery.ok_or_else(none)?;
        let paper = desk.archive().recoveries().papers().find(|paper| paper.id() == id);
        let board = paper.ok_or_else(none)?.board();
        let key = self.identity.ssh().public();
        match board.by_name(name).filter(|me| me.key == key) {
            Some(_) => Ok((board, name)),
            None => Err(none()),
        }
    }

    /// The share of the group key.
    pub(crate) fn share(&self) -> Result<KeyShare, Failure> {
        let (board, name) = self.on_board()?;
        next_key::share(&self.desk.context().home, board, name, &self.identity)
    }

    /// Publishes what the ballots have signed, and pools where they run out.
    pub(crate) fn settle(&mut self) -> Result<Settled, Failure> {
        let shares = touch_two::run(self)?;
        let signed = self.desk.publish_signed()?;
        let recoveries = self.desk.publish_recoveries()?;
        self.take_office()?;
        // Whoever voted has checked the blobs: the fleet shall not wait for whoever dealt them.
        if signed.iter().any(|place| place.starts_with("credential/")) {
            self.desk.bring_blobs()?;
        }
        // Whoever cannot see what was published before must not publish it again in another form.
        // A machine without a network made all its pools itself.
        let slots = match self.desk.is_offline() && !self.is_air_gapped() {
            true => 0,
            false => match self.refill() {
                // Who has no share makes no nonces, as was said when the session began.
                Err(_) if self.on_board().is_ok() && self.share().is_err() => 0,
                done => done?,
            },
        };
        Ok(Settled { signed, recoveries, slots, shares })
    }

    /// The newest policy of another key than the one in force: by its rules the board was changed,
    /// and the rules may have been changed since.
    fn policy_of_another_key(&self) -> Option<&Policy> {
        let chain = self.desk.archive().chain();
        let group = chain.policy()?.board.group();
        let mut earlier = (1..chain.head_seq(Lane::Policy).0).rev().map(Seq);
        earlier.find_map(|seq| chain.policy_at(seq).filter(|was| was.board.group() != group))
    }

    /// The board that nodes obey, as far as this governor can tell, and the governor's place on it:
    /// while a change of the board is locked there, the one before.
    pub(crate) fn on_the_nodes_board(&self) -> Result<(&Board, &Name), Failure> {
        let before = self.policy_of_another_key().map(|before| &before.board);
        let me = (self.identity.name(), self.identity.ssh().public());
        let sits = |board: &&Board| board.by_name(me.0).is_some_and(|at| at.key == me.1);
        match before.filter(sits) {
            Some(board) if next_key::is_held_back(&self.desk.context().home) => Ok((board, me.0)),
            _ => self.on_board(),
        }
    }

    /// Takes a new key into use once its policy is in force here.
    fn take_office(&self) -> Result<(), Failure> {
        let context = self.desk.context();
        let chain = self.desk.archive().chain();
        let Some(policy) = chain.policy() else { return Ok(()) };
        let held_back_s = self.policy_of_another_key().map_or(0, held_back_s);
        let (home, now, board) = (&context.home, context.now(), &policy.board);
        let known = self.known_generation(board);
        let epoch = board.epoch();
        match next_key::adopt(home, (board, known), &self.identity, now, held_back_s)? {
            Adopted::Nothing => {}
            Adopted::Laid => {
                context
                    .printer
                    .say(&format!("the key of epoch {epoch} is in force, and yours is laid"));
                if let Some(notice) = notices::escrow(&self.desk) {
                    context.printer.warn(&notice.line());
                }
            }
            Adopted::Lost => context.printer.warn(&format!(
                "the key of epoch {epoch} is in force, and your share of it is gone or damaged: `borgios \
                 governor repair` asks the others for it"
            )),
        }
        Ok(())
    }

    /// Erases the state of a founding whose end was cut off: it holds the first share, and seeds of slots
    /// that are used since.
    fn end_founding(&self) -> Result<(), Failure> {
        let (home, archive) = (&self.desk.context().home, self.desk.archive());
        let seat = self.on_board().or_else(|_| self.recovering());
        let Ok((board, _)) = seat else { return Ok(()) };
        let papers = archive.recoveries().papers().map(RecoveryBoard::board);
        let boards: Vec<&Board> = archive.boards().chain(papers).collect();
        next_key::end_founding(home, board, &boards, &self.identity)
    }

    /// Erases the seeds of slots whose ballot is stored: the last vote may have been cut off
    /// between the two.
    fn finish_erasing(&self) -> Result<(), Failure> {
        for slot in self.slots().unerased()? {
            self.slots().erase(slot)?;
        }
        Ok(())
    }

    /// Keeps pools for eight places ahead in every lane, and for a further round that is open.
    fn refill(&mut self) -> Result<usize, Failure> {
        if self.is_restoring() {
            return Ok(0);
        }
        let ((board, me), recovery) = match (self.on_board(), self.recovering()) {
            (Ok(seat), _) => (seat, false),
            (Err(_), Ok(seat)) => (seat, true),
            (Err(_), Err(_)) => return Ok(0),
        };
        let (board, me) = (board.clone(), me.clone());
        let chain = self.desk.archive().chain();
        let mut further = Vec::new();
        // A recovery board votes on policies alone.
        let lanes = Lane::ALL.into_iter().filter(|lane| !recovery || *lane == Lane::Policy);
        for lane in lanes {
            let seq = chain.head_seq(lane).next();
            let round = match recovery {
                true => self.desk.recovery_round(seq),
                false => self.desk.open_round(lane, seq)?,
            };
            further.push(Slot { epoch: board.epoch(), lane, seq, round });
        }
        let generation = self.generation(&board)?;
        // Those of a former key are nobody's: the others take none of them for a new vote.
        let pools = self.desk.archive().pools().values().filter(|held| held.is_of(&board));
        let pools = pools.map(|held| held.value.clone());
        let existing: Vec<Pool> = pools.filter(|pool| pool.generation == generation).collect();
        let heads = |lane| chain.head_seq(lane);
        let mut wanted = pool::refill(&board, &me, &heads, &further, &existing);
        wanted.retain(|slot| !recovery || slot.lane == Lane::Policy);
        let mut seeds: Vec<(Slot, Seed)> = Vec::new();
        for slot in wanted {
            match self.slots().state_under(slot, &board)? {
                // Drawn and stored before, but never published.
                SlotState::Fresh => {
                    seeds.extend(self.slots().seed(slot, &self.identity)?.map(|seed| (slot, seed)));
                }
                SlotState::Absent => {
                    seeds.push((slot, self.slots().draw(slot, &self.identity)?));
                }
                // Used without a pool, by a rejection: it needs none any more.
                SlotState::Begun(_) | SlotState::Cast(_) => {}
            }
        }
        if seeds.is_empty() {
            return Ok(0);
        }
        let home = &self.desk.context().home;
        let share = next_key::share(home, &board, &me, &self.identity)?;
        for part in seeds.chunks(slots_per_pool(&board).max(1)) {
            let pool = Pool::make(&board, &share, part).or_fail(|| "could not make a pool")?;
            let pool = Pool { generation, offline: self.is_air_gapped(), ..pool };
            let envelope = pool.to_envelope().sign(self.identity.ssh());
            self.desk.publish(&envelope)?;
        }
        Ok(seeds.len())
    }

    /// Whether this folder lives on a machine without a network, as its governor said.
    pub(crate) fn is_air_gapped(&self) -> bool {
        self.desk.context().home.air_gap().exists()
    }

    /// Whether a backup or a repaired share was laid here, and what its governor published before is not
    /// void yet.
    pub(crate) fn is_restoring(&self) -> bool {
        self.desk.context().home.restoring().exists()
    }

    /// What was published before is void now: the folder is whole again.
    pub(crate) fn restored(&self) -> Result<(), Failure> {
        let mark = self.desk.context().home.restoring();
        if mark.exists() { durable::erase(&mark) } else { Ok(()) }
    }

    /// Which generation of this governor's pools this folder makes: the one that the last restore of
    /// it published a burn for, else the first.
    ///
    /// # Errors
    /// `E_CLONE` where a burn of a later generation is known: the seeds in this folder are void.
    pub(crate) fn generation(&self, board: &Board) -> Result<u64, Failure> {
        if self.is_restoring() {
            return Err(Failure::new(
                "this folder was laid from a backup, or repaired, and that is not done yet",
            )
            .code(Failure::CLONE)
            .because("the nonces that its governor published before are not void yet")
            .hint(
                "run the same `borgios governor restore` or `repair` again, with `--exchange DIR` or \
                     `--node HOST:PORT`, where the network's policies are",
            ));
        }
        let (own, known) = (self.own_generation(board.epoch())?, self.known_generation(board));
        if known == own {
            return Ok(own);
        }
        if known < own {
            return Err(Failure::new(format!(
                "the nonces of key epoch {} in this folder are void: a burn of them is written down and not \
                 said yet",
                board.epoch()
            ))
            .code(Failure::CLONE)
            .hint(
                "it is said by itself once that key is in force; where a warning above names a file, mend \
                 that and run this again",
            ));
        }
        Err(Failure::new("this folder is not the newest copy of this governor")
            .code(Failure::CLONE)
            .because(format!(
                "its nonces are void: a burn for generation {known} was published, this folder is of \
                 {own}"
            ))
            .hint("vote with the folder that was restored since"))
    }

    /// The generation that this folder was made for.
    fn own_generation(&self, epoch: KeyEpoch) -> Result<u64, Failure> {
        let path = self.desk.context().home.generation(epoch);
        match durable::read(&path, GENERATION_MAX)? {
            None => Ok(0),
            Some(bytes) => String::from_utf8_lossy(&bytes)
                .trim()
                .parse()
                .or_fail(|| format!("{} is damaged", path.display())),
        }
    }

    /// The generation of the newest burn that was published.
    fn known_generation(&self, board: &Board) -> u64 {
        let burns = self.desk.archive().burns();
        let known = burn::generations(board, &burns).get(self.identity.name()).copied();
        known.unwrap_or_default()
    }

    /// Publishes a burn that was written down and not said yet: what wrote it was cut off, or its key has
    /// come into force only now. Returns the generation that counts.
    pub(crate) fn finish_burn(&mut self) -> Result<u64, Failure> {
        // Who is not on the board in force has nothing to burn.
        let Ok((board, name)) = self.on_board() else { return Ok(0) };
        let (board, governor) = (board.clone(), name.clone());
        let generation = self.own_generation(board.epoch())?;
        if generation > self.known_generation(&board) {
            self.slots().burn(board.epoch())?;
            let (group, at) = (board.group(), self.desk.context().now());
            let burn = Burn { group, governor, generation, at };
            self.desk.publish(&burn.to_envelope().sign(self.identity.ssh()))?;
        }
        Ok(generation)
    }

    /// Takes over what another copy cast on boards that are only proposed. Aside: the place may be voted on
    /// under another attempt's key, and that ballot stands in no way of it.
    pub(crate) fn adopt_ahead(&self) -> Result<(), Failure> {
        let (archive, own) = (self.desk.archive(), self.identity.ssh().public());
        for held in archive.ballots().values().filter(|held| held.by == *self.identity.name()) {
            let made_under =
                archive.candidates().iter().find(|board| board.group() == held.value.group);
            if let Some(board) = made_under.filter(|_| held.envelope.signed_by(&own)) {
                self.slots().adopt_aside(held.value.slot(board), &held.envelope)?;
            }
        }
        Ok(())
    }

    /// Makes this folder the newest copy of its governor, before a burn is published: what is known to be
    /// cast counts as cast here, and whatever seeds lie here are destroyed, since other copies may hold
    /// them too. Those of another key as well, which may be in force later: its burn is written down,
    /// and said then.
    pub(crate) fn begin_anew(&self, board: &Board) -> Result<(), Failure> {
        let slots = self.slots();
        for held in self.desk.archive().ballots().values() {
            if held.by == *self.identity.name() && held.value.group == board.group() {
                slots.adopt(held.value.slot(board), &held.envelope)?;
            }
        }
        self.adopt_ahead()?;
        let mine: BTreeSet<Digest> = slots.shares()?.iter().map(Envelope::id).collect();
        for (id, held) in self.desk.archive().shares() {
            let of_this_key = held.value.group == board.group();
            if held.by == *self.identity.name() && of_this_key && !mine.contains(id) {
                slots.adopt_share(held.value.slot(board), &held.envelope)?;
            }
        }
        let home = &self.desk.context().home;
        let mut epochs = slots.epochs_with_seeds()?;
        // The state of a ceremony holds seeds too, and a key that it made has pools.
        if home.governor("change.age").exists() {
            epochs.insert(board.next_epoch());
        }
        epochs.extend(NextKey::load(home)?.map(|next| next.board.epoch()));
        epochs.remove(&board.epoch());
        // The key in force last: what is cut off before it is done again whole.
        for epoch in epochs.into_iter().chain([board.epoch()]) {
            let boards = self.desk.archive().boards().filter(|board| board.epoch() == epoch);
            let known = boards.map(|board| self.known_generation(board)).max().unwrap_or_default();
            let next = known.max(self.own_generation(epoch)?) + 1;
            durable::write(&home.generation(epoch), next.to_string().as_bytes())?;
            slots.burn(epoch)?;
        }
        Ok(())
    }

    /// The network's id.
    pub(crate) fn network(&self) -> Digest {
        self.desk.membership().network
    }
}
