//! How a place looks to whoever holds certain objects: what is signed, what is open, who broke the rules.
//!
//! A function of the set of objects, so it is worked out once for each set.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use borgios_policy::fixture::Council;
use borgios_policy::outcome::is_stuck;
use borgios_policy::session::Table;
use borgios_policy::{Ballot, Lane, Name, Object as _, OpenRound, Slot, Statement, tally};
use borgios_types::{Digest, Envelope, Round, Seq};

use super::said::{Shelf, What};

/// Rounds anyone looks at in the simulation.
pub(crate) const ROUNDS: u32 = 5;

/// One place under one board.
pub(crate) struct Outlook {
    /// The newest open round.
    pub(crate) slot: Slot,
    pub(crate) open: OpenRound,
    /// What was proposed for it, by id.
    pub(crate) documents: Vec<Document>,
    /// What the ballots of all rounds have signed.
    pub(crate) signed: Vec<Envelope>,
    /// No ballot that can still be cast ends the round.
    pub(crate) stuck: bool,
    /// Of the open round: ballots, and what goes with them.
    ballots: Vec<Envelope>,
    papers: Vec<Envelope>,
    tables: RefCell<BTreeMap<Digest, Rc<Table>>>,
}

pub(crate) struct Document {
    pub(crate) id: Digest,
    pub(crate) statement: Statement,
    pub(crate) text: String,
    pub(crate) approvals: usize,
    pub(crate) dead: bool,
}

impl Outlook {
    /// What the sessions on a document amount to; none on boards that vote in one touch.
    pub(crate) fn table(&self, council: &Council, document: &Document) -> Option<Rc<Table>> {
        let board = &council.board;
        if board.one_touch().is_ok() {
            return None;
        }
        let mut tables = self.tables.borrow_mut();
        let made = || Table::of(board, self.slot, &document.text, &self.ballots, &self.papers);
        Some(Rc::clone(tables.entry(document.id).or_insert_with(|| Rc::new(made()))))
    }

    /// Whether nothing ends the round if those who have not voted never do.
    pub(crate) fn is_stalled(&self, council: &Council) -> bool {
        let voted: BTreeSet<Name> = self
            .ballots
            .iter()
            .filter_map(|ballot| Ballot::parse(ballot).ok())
            .map(|ballot| ballot.governor)
            .collect();
        let gone = council.keys.keys().filter(|name| !voted.contains(*name)).cloned().collect();
        !voted.is_empty() && is_stuck(&council.board, self.slot, &self.ballots, None, &gone)
    }
}

/// What an outlook follows from, in ids.
pub(crate) type Key = (Slot, Vec<Digest>);

pub(crate) struct Scene<'a> {
    pub(crate) council: &'a Council,
    pub(crate) shelf: &'a Shelf,
    /// Signed statements that enough governors took back.
    pub(crate) dead: &'a BTreeSet<Digest>,
    pub(crate) lane: Lane,
    pub(crate) seq: Seq,
}

impl Scene<'_> {
    fn slot(&self, round: u32) -> Slot {
        let (epoch, lane, seq) = (self.council.board.epoch(), self.lane, self.seq);
        Slot { epoch, lane, seq, round: Round(round) }
    }

    /// The documents proposed for this place; `fits` says which are this board's to sign.
    pub(crate) fn texts(&self, fits: &dyn Fn(&Statement) -> bool) -> Vec<(Statement, String)> {
        let here = self.shelf.proposals.get(&(self.lane, self.seq));
        let mut texts = BTreeMap::new();
        for said in here.into_iter().flat_map(BTreeMap::values) {
            if let What::Proposal(statement, text) = &said.what
                && fits(statement)
            {
                texts.insert(text.clone(), statement.clone());
            }
        }
        texts.into_iter().map(|(text, statement)| (statement, text)).collect()
    }

    pub(crate) fn key(&self, texts: &[(Statement, String)]) -> Key {
        let mut ids: Vec<Digest> =
            texts.iter().map(|(_, text)| Digest::of(text.as_bytes())).collect();
        for round in 0..ROUNDS {
            let here = self.shelf.papers.get(&self.slot(round));
            ids.extend(here.into_iter().flat_map(BTreeMap::keys));
        }
        let named: BTreeSet<Digest> =
            texts.iter().map(|(_, text)| Digest::of(text.as_bytes())).collect();
        ids.extend(self.dead.intersection(&named));
        (self.slot(0), ids)
    }

    pub(crate) fn look(&self, texts: Vec<(Statement, String)>) -> Outlook {
        let board = &self.council.board;
        let rounds: Vec<(Vec<Envelope>, Vec<Envelope>)> = (0..ROUNDS)
            .map(|round| {
                let slot = self.slot(round);
                (self.shelf.ballots(slot), self.shelf.papers(slot))
            })
            .collect();
        let every: Vec<Envelope> =
            rounds.iter().flat_map(|(ballots, _)| ballots.iter().cloned()).collect();
        let t = usize::from(board.threshold().0);
        let check = |round: u32| {
            // Too few ballots open no further round; that needs no look at them.
            let before = round.checked_sub(1).map(|before| rounds[before as usize].0.len());
            before.is_none_or(|before| before >= t).then_some(())?;
            OpenRound::check_vetoed(board, self.slot(round), &every, self.dead).ok()
        };
        let open = (0..ROUNDS).map_while(check).last().expect("the first round is open");
        let slot = open.slot();
        let (ballots, papers) = rounds[slot.round.0 as usize].clone();
        let mut outlook = Outlook {
            slot,
            open,
            documents: Vec::new(),
            signed: Vec::new(),
            stuck: false,
            ballots,
            papers,
            tables: RefCell::default(),
        };
        for (round, (ballots, papers)) in (0..).map(Round).zip(&rounds) {
            let at = Slot { round, ..slot };
            let of_round: Vec<&(Statement, String)> =
                texts.iter().filter(|(statement, _)| statement.round == round).collect();
            if of_round.is_empty() {
                continue;
            }
            let plain: Vec<String> = of_round.iter().map(|(_, text)| text.clone()).collect();
            // Without ballots there is nothing to count; in two touches the tables below do.
            let tally = (!ballots.is_empty() && board.one_touch().is_ok())
                .then(|| tally(board, at, &plain, papers, ballots));
            outlook.signed.extend(tally.as_ref().and_then(|tally| tally.signed().cloned()));
            if round != slot.round {
                continue;
            }
            for (statement, text) in of_round {
                let id = Digest::of(text.as_bytes());
                let (approvals, against) = self.count(at, id);
                let dead = against >= t;
                let (statement, text) = (statement.clone(), text.clone());
                let document = Document { id, statement, text, approvals, dead };
                if approvals >= t
                    && let Some(table) = outlook.table(self.council, &document)
                {
                    outlook.signed.extend(table.signed().cloned());
                }
                outlook.documents.push(document);
            }
            // Few ballots leave every way open.
            outlook.stuck = 2 * ballots.len() >= usize::from(board.size())
                && is_stuck(board, at, ballots, None, &BTreeSet::new());
        }
        // Nobody looks at a further round: only a ruling goes on from there.
        let dead = |document: &Document| document.dead;
        let last = slot.round.0 + 1 == ROUNDS && !outlook.documents.is_empty();
        outlook.stuck |= last && outlook.documents.iter().all(dead);
        outlook
    }

    /// Governors who approve a document, and those who are bound against it.
    fn count(&self, slot: Slot, id: Digest) -> (usize, usize) {
        let mut said: BTreeMap<&Name, BTreeSet<(Digest, bool)>> = BTreeMap::new();
        for held in self.shelf.papers.get(&slot).into_iter().flat_map(BTreeMap::values) {
            if let What::Ballot(_, ballot) = &held.what {
                let choice = (ballot.statement, ballot.approves());
                said.entry(&ballot.governor).or_default().insert(choice);
            }
        }
        // Who contradicts himself says nothing.
        let clear = said.values().filter(|said| said.len() == 1).flatten();
        let approve = clear.clone().filter(|choice| **choice == (id, true)).count();
        (approve, clear.count() - approve)
    }
}
