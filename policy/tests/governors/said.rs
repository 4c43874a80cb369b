//! An object as it travels in the simulation: read and verified once, whoever hears it how often.
//!
//! Whether bytes are genuine depends on the bytes alone, so who hears them later need not verify them
//! again. Gates and chains verify all the same what they obey.

use std::collections::BTreeMap;
use std::rc::Rc;

use borgios_policy::fixture::Council;
use borgios_policy::{
    Ballot, Beacon, Burn, Lane, Object as _, Objection, Pause, Pool, Proposal, Session,
    SessionShare, Slot, Statement, Veto, message,
};
use borgios_types::{Digest, Envelope, KeyEpoch, Seq};

/// One object.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) id: Digest,
    pub(crate) envelope: Envelope,
    pub(crate) what: What,
}

/// What it says, if somebody who may say so did.
#[derive(Debug)]
pub(crate) enum What {
    Statement(Statement),
    /// A policy that the recovery key signed in the place of the board.
    Recovery(Statement),
    Proposal(Statement, String),
    Ballot(Slot, Ballot),
    Pool(Slot, Pool),
    /// A session or a share.
    Paper(Slot),
    Burn(KeyEpoch, Burn),
    Veto(Objection),
    Pause,
    Beacon,
    /// Nobody's word, whatever it says.
    Forged,
}

impl Said {
    pub(crate) fn new(councils: &[Council], network: Digest, envelope: Envelope) -> Self {
        let what = if envelope.kind.as_str().parse::<Lane>().is_ok() {
            statement(councils, &envelope)
        } else {
            councils.iter().find_map(|council| object(council, network, &envelope))
        };
        Self { id: envelope.id(), envelope, what: what.unwrap_or(What::Forged) }
    }

    /// A policy by the recovery key and the board that it makes; who dealt these keys made it.
    pub(crate) fn recovery(envelope: Envelope) -> Self {
        let statement = Statement::parse(&envelope).expect("a whole statement");
        Self { id: envelope.id(), envelope, what: What::Recovery(statement) }
    }

    pub(crate) fn is_forged(&self) -> bool {
        matches!(self.what, What::Forged)
    }
}

/// A statement whose every signature is some board's.
fn statement(councils: &[Council], envelope: &Envelope) -> Option<What> {
    let genuine = envelope.sigs.iter().all(|sig| {
        councils.iter().any(|council| council.board.group() == sig.by)
            && message::signed_by(envelope, &sig.by)
    });
    let read = Statement::parse(envelope).ok()?;
    (genuine && !envelope.sigs.is_empty()).then_some(What::Statement(read))
}

fn object(council: &Council, network: Digest, envelope: &Envelope) -> Option<What> {
    let board = &council.board;
    Some(match envelope.kind.as_str() {
        Proposal::KIND => {
            let (proposal, _) = Proposal::verify(board, envelope).ok()?;
            What::Proposal(proposal.parse_statement().ok()?, proposal.statement)
        }
        Ballot::KIND => {
            let ballot = Ballot::verify(board, envelope).ok()?;
            What::Ballot(ballot.slot(board), ballot)
        }
        Pool::KIND => {
            let pool = Pool::verify(board, envelope).ok()?;
            What::Pool(pool.slots.first()?.of(board), pool)
        }
        Session::KIND => What::Paper(Session::verify(board, envelope).ok()?.0.slot(board)),
        SessionShare::KIND => What::Paper(SessionShare::verify(board, envelope).ok()?.slot(board)),
        Burn::KIND => What::Burn(board.epoch(), Burn::verify(board, envelope).ok()?),
        Veto::KIND => What::Veto(Veto::verify(board, network, envelope).ok()?.0),
        Pause::KIND => Pause::verify(board, network, envelope).map(|_| What::Pause).ok()?,
        Beacon::KIND => Beacon::verify(board, network, envelope).map(|_| What::Beacon).ok()?,
        _ => return None,
    })
}

/// Objects by their id, the same for everybody who has the same.
pub(crate) type Stack = BTreeMap<Digest, Rc<Said>>;

/// What one participant has heard.
#[derive(Clone, Default)]
pub(crate) struct Shelf {
    pub(crate) all: Stack,
    /// Ballots, pools, sessions and shares.
    pub(crate) papers: BTreeMap<Slot, Stack>,
    pub(crate) proposals: BTreeMap<(Lane, Seq), Stack>,
    pub(crate) burns: Stack,
    pub(crate) statements: Stack,
    pub(crate) vetoes: Stack,
    /// Policies of the recovery key of which a laptop's owner knows that they are in force.
    pub(crate) accepted: Stack,
}

impl Shelf {
    /// Takes what is genuine and new; returns whether it was.
    pub(crate) fn take(&mut self, said: &Rc<Said>) -> bool {
        if said.is_forged() || self.all.contains_key(&said.id) {
            return false;
        }
        let sorted = match &said.what {
            What::Statement(_) => Some(&mut self.statements),
            What::Proposal(statement, _) => {
                Some(self.proposals.entry((statement.lane, statement.seq)).or_default())
            }
            What::Ballot(slot, _) | What::Pool(slot, _) | What::Paper(slot) => {
                Some(self.papers.entry(*slot).or_default())
            }
            What::Burn(..) => Some(&mut self.burns),
            What::Veto(_) => Some(&mut self.vetoes),
            What::Recovery(_) | What::Pause | What::Beacon | What::Forged => None,
        };
        if let Some(stack) = sorted {
            stack.insert(said.id, Rc::clone(said));
        }
        self.all.insert(said.id, Rc::clone(said));
        true
    }

    /// The ballots of a slot.
    pub(crate) fn ballots(&self, slot: Slot) -> Vec<Envelope> {
        let here = self.papers.get(&slot).into_iter().flat_map(BTreeMap::values);
        let ballots = here.filter(|said| matches!(said.what, What::Ballot(..)));
        ballots.map(|said| said.envelope.clone()).collect()
    }

    /// The pools, burns, sessions and shares of a slot.
    pub(crate) fn papers(&self, slot: Slot) -> Vec<Envelope> {
        let here = self.papers.get(&slot).into_iter().flat_map(BTreeMap::values);
        let papers = here.filter(|said| !matches!(said.what, What::Ballot(..)));
        let papers = papers.chain(self.burns.values());
        papers.map(|said| said.envelope.clone()).collect()
    }
}
