//! A governor's tool in memory: the discipline of the program, without its disk.

#![allow(dead_code, reason = "each test program uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

mod desk;
mod ending;
mod governor;
mod lies;
pub(crate) mod node;
pub(crate) mod outlook;
pub(crate) mod rescue;
pub(crate) mod said;
mod vigil;
pub(crate) mod world;

use std::collections::{BTreeMap, BTreeSet};

use borgios_policy::fixture::Council;
use borgios_policy::session::{Bound, Session, Table};
use borgios_policy::vote::Intent;
use borgios_policy::{
    Ballot, Choice, Name, Object as _, OpenRound, Pool, Seed, SessionShare, Slot, Statement,
};
use borgios_types::{Digest, Envelope, KeyEpoch};

/// Objects by id; the first genuine one counts.
pub(crate) type Objects = BTreeMap<Digest, Envelope>;

/// The objects of one kind, or of several.
pub(crate) fn of_kind(objects: &Objects, kinds: &[&str]) -> Vec<Envelope> {
    let fits = objects.values().filter(|envelope| kinds.contains(&envelope.kind.as_str()));
    fits.cloned().collect()
}

/// Everything but ballots that a tally looks at.
pub(crate) const PAPERS: [&str; 4] = ["pool", "burn", "session", "share"];

/// One governor.
#[derive(Clone)]
pub(crate) struct Tool {
    pub(crate) me: Name,
    /// What was cast in each slot, for ever.
    pub(crate) cast: BTreeMap<Slot, Envelope>,
    /// What each nonce was bound to, for ever.
    pub(crate) bound: BTreeMap<(Slot, u32), Bound>,
    /// How often this governor began anew from a backup.
    pub(crate) generations: BTreeMap<KeyEpoch, u64>,
    /// Slots that a lost folder was used in: no share is given there any more.
    pub(crate) void: BTreeSet<Slot>,
    counter: u64,
}

/// The seed of the nonces `number` of a governor in a slot.
pub(crate) fn nonce(council: &Council, me: &Name, slot: Slot, number: u32) -> Seed {
    let group = council.board.group();
    Seed::from_bytes(Digest::of(format!("{me} {slot} {number} {group}").as_bytes()).0)
}

impl Tool {
    pub(crate) fn new(me: &Name) -> Self {
        Self {
            me: me.clone(),
            cast: BTreeMap::new(),
            bound: BTreeMap::new(),
            generations: BTreeMap::new(),
            void: BTreeSet::new(),
            counter: 0,
        }
    }

    /// Votes, once and for good; none where the slot is used up, closed, or pools are missing.
    pub(crate) fn vote(
        &mut self,
        council: &Council,
        document: &Statement,
        approve: bool,
        seen: &Objects,
        without: &BTreeSet<Name>,
    ) -> Option<Envelope> {
        let (board, slot, text) = (&council.board, council.slot(document), document.to_payload());
        if self.cast.contains_key(&slot) {
            return None;
        }
        let (ballots, papers) = (of_kind(seen, &[Ballot::KIND]), of_kind(seen, &PAPERS));
        let open = OpenRound::check(board, slot, &ballots).ok()?;
        self.ballot(council, &open, &text, approve, &papers, without)
    }

    /// How often it began anew under the key of a board.
    pub(crate) fn generation(&self, council: &Council) -> u64 {
        self.generations.get(&council.board.epoch()).copied().unwrap_or_default()
    }

    /// The seed of this tool's pool for a slot.
    pub(crate) fn pool_seed(&self, council: &Council, slot: Slot) -> Seed {
        let seed = council.seed(&self.me, slot);
        match self.generation(council) {
            0 => seed,
            later => {
                Seed::from_bytes(Digest::of_parts(&[&seed.expose()[..], &later.to_be_bytes()]).0)
            }
        }
    }

    /// The pool of one slot, of the newest generation.
    pub(crate) fn pool(&self, council: &Council, slot: Slot) -> Envelope {
        let seed = self.pool_seed(council, slot);
        let pool = Pool::make(&council.board, &council.shares[&self.me], &[(slot, seed)]).unwrap();
        let pool = Pool { generation: self.generation(council), ..pool };
        pool.to_envelope().sign(&council.keys[&self.me])
    }

    /// The one ballot in a slot that is open: none if the slot is used up, or a pool is missing.
    pub(crate) fn ballot(
        &mut self,
        council: &Council,
        open: &OpenRound,
        text: &str,
        approve: bool,
        papers: &[Envelope],
        without: &BTreeSet<Name>,
    ) -> Option<Envelope> {
        let (board, slot) = (&council.board, open.slot());
        if self.cast.contains_key(&slot) {
            return None;
        }
        let (key, counter) = (&council.shares[&self.me], self.counter + 1);
        let first = nonce(council, &self.me, slot, 0);
        let pool_seed = self.pool_seed(council, slot);
        let (intent, seed) = if !approve {
            let reason = "no".to_owned();
            (Intent::reject(board, &self.me, open, text, reason, None, counter), None)
        } else if board.one_touch().is_ok() {
            let made = Intent::approve(board, &self.me, open, text, papers, without, None, counter);
            (made, Some(&pool_seed))
        } else {
            (Intent::commit(board, key, open, text, &first, None, counter), Some(&first))
        };
        // A liar whose own pool is of another seed makes none.
        let ballot = intent.ok()?.ballot(board, key, seed, papers).ok()?;
        let envelope = ballot.to_envelope().sign(&council.keys[&self.me]);
        self.counter = counter;
        self.cast.insert(slot, envelope.clone());
        Some(envelope)
    }

    /// The second touch: what this tool opens and answers, given what it sees.
    pub(crate) fn touch_two(
        &mut self,
        council: &Council,
        document: &Statement,
        seen: &Objects,
    ) -> Vec<Envelope> {
        let (slot, text) = (council.slot(document), document.to_payload());
        let mut seen = seen.clone();
        let mut made = Vec::new();
        for _ in 0..4 {
            let table = table(council, slot, &text, &seen);
            let due = table.due(&self.me).map(|(session, _)| session.clone());
            let envelope = if let Some(session) = due.filter(|_| self.approved(slot, &text)) {
                self.answer(council, slot, &text, &session)
            } else if let Some(session) = table.next(&self.me) {
                session.to_envelope().sign(&council.keys[&self.me])
            } else {
                break;
            };
            seen.insert(envelope.id(), envelope.clone());
            made.push(envelope);
        }
        made
    }

    pub(crate) fn approved(&self, slot: Slot, text: &str) -> bool {
        !self.void.contains(&slot)
            && self.cast.get(&slot).is_some_and(|envelope| {
                let ballot = Ballot::parse(envelope).unwrap();
                let id = Digest::of(text.as_bytes());
                matches!(ballot.choice, Choice::Commit { .. }) && ballot.statement == id
            })
    }

    /// One share, with the nonces that wait.
    pub(crate) fn answer(
        &mut self,
        council: &Council,
        slot: Slot,
        text: &str,
        session: &Envelope,
    ) -> Envelope {
        let number = self.bound.keys().filter(|(of, _)| *of == slot).count();
        let number = u32::try_from(number).unwrap();
        let (seed, next) =
            (nonce(council, &self.me, slot, number), nonce(council, &self.me, slot, number + 1));
        let key = &council.shares[&self.me];
        let bound = Bound::to(&council.board, key, session, text, number, &seed, &next).unwrap();
        assert!(self.bound.insert((slot, number), bound.clone()).is_none(), "bound twice");
        let share = bound.share(&council.board, key, &seed).unwrap();
        share.to_envelope().sign(&council.keys[&self.me])
    }
}

/// What the sessions amount to.
pub(crate) fn table(council: &Council, slot: Slot, text: &str, seen: &Objects) -> Table {
    let (ballots, papers) = (of_kind(seen, &[Ballot::KIND]), of_kind(seen, &PAPERS));
    Table::of(&council.board, slot, text, &ballots, &papers)
}

/// A share that looks right and is not: the honest one with another number.
pub(crate) fn garbage(council: &Council, me: &Name, session: &Envelope, next: &Seed) -> Envelope {
    let read = Session::parse(session).unwrap();
    let mut share = vec![0; 32];
    share[..8].copy_from_slice(&next.expose()[..8]);
    let forged = SessionShare {
        group: council.board.group(),
        governor: me.clone(),
        lane: read.lane,
        seq: read.seq,
        round: read.round,
        session: session.id(),
        share: borgios_policy::Bytes(share),
        // Any two points will do: those of another member.
        next: read.members.values().last().unwrap().commitment.clone(),
    };
    forged.to_envelope().sign(&council.keys[me])
}
