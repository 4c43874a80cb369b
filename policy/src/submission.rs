//! Statements together with the ballots that travel with them, and whole runs of them: a chain
//! from disk, from a bundle, or for a node that was long away.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use borgios_types::{Digest, Envelope, Seq, SignedBy, UnixSeconds};
use serde::{Deserialize, Serialize};

use crate::ballot::Ballot;
use crate::chain::{Chain, Verdict, check_expiry};
use crate::gate::ballots::counting;
use crate::lane::Lane;
use crate::object::Object as _;
use crate::refusal::Refusal;
use crate::statement::{Statement, VerifiedStatement};
use crate::turn::{Rulings, Turn};

/// A statement and its ballots, as the keeper takes them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submission {
    /// The statement.
    pub statement: Envelope,
    /// Ballots on it; needed only where its class asks for more approvals than the threshold.
    #[serde(default)]
    pub ballots: Vec<Envelope>,
}

/// What a run of submissions amounts to.
#[derive(Debug, Default)]
pub struct Run {
    /// To be stored and applied, in this order.
    pub accepted: Vec<VerifiedStatement>,
    /// Which of the offered submissions were refused, and why.
    pub refused: Vec<(usize, Refusal)>,
}

/// Most envelopes looked at for one statement.
const TWINS_MAX: usize = 4;

/// What statements are sorted by: policy, lane, number, turn among several for that place (first whether it
/// came by dead policies alone), id, signatures.
type Place = (Seq, Lane, Seq, (bool, Turn), Digest, Vec<SignedBy>);

impl Submission {
    /// Sorts a mixed list of statements and ballots, such as the `chain` of an invitation file,
    /// into submissions, in an order in which a chain can follow them: each release after the
    /// policy it names and before the next one, and of several for one place first what lost it to
    /// another: a chain that is followed again takes back and gives back what it did before. What is
    /// neither is left out.
    #[must_use]
    pub fn sort(envelopes: impl IntoIterator<Item = Envelope>) -> Vec<Self> {
        Self::sort_beside(envelopes, &BTreeSet::new())
    }

    /// The same of a store in which these policies lie that are `dead` by now, however they once ruled:
    /// what came into a place by them alone comes after all others for that. They are in what it returns.
    #[must_use]
    pub fn sort_beside(
        envelopes: impl IntoIterator<Item = Envelope>,
        dead: &BTreeSet<Digest>,
    ) -> Vec<Self> {
        let mut ballots: BTreeMap<Digest, Vec<Envelope>> = BTreeMap::new();
        // A policy p sorts as (p, first), a release under p as (p, later), each by its number.
        // Twins with other signatures stay apart: a forged one must not replace the true one.
        let mut statements: BTreeMap<Place, Envelope> = BTreeMap::new();
        let (mut parsed, mut rulings) = (Vec::new(), Rulings::default());
        for envelope in envelopes {
            if envelope.kind.as_str() == Ballot::KIND {
                if let Ok(ballot) = Ballot::parse(&envelope) {
                    ballots.entry(ballot.statement).or_default().push(envelope);
                }
            } else if let Ok(statement) = Statement::parse(&envelope) {
                if statement.lane == Lane::Policy {
                    rulings.note(envelope.id(), &statement);
                }
                let Statement { lane, seq, policy, .. } = statement;
                let under = if lane == Lane::Policy { seq } else { policy.unwrap_or_default() };
                parsed.push((under, lane, seq, envelope));
            }
        }
        let turns = rulings.turns(dead);
        for (under, lane, seq, envelope) in parsed {
            let (id, sigs) = (envelope.id(), envelope.sigs.clone());
            let turn = turns.get(&id).copied().unwrap_or((false, Turn::Before));
            statements.insert((under, lane, seq, turn, id, sigs), envelope);
        }
        let (mut sorted, mut twins, mut before) = (Vec::new(), 0, None);
        for ((.., id, _), statement) in statements {
            twins = if before == Some(id) { twins + 1 } else { 1 };
            before = Some(id);
            // Each takes the ballots along, so that there must not be many.
            if twins <= TWINS_MAX {
                let ballots = ballots.get(&id).cloned().unwrap_or_default();
                sorted.push(Self { statement, ballots });
            }
        }
        sorted
    }
}

impl Chain {
    /// Checks a run of submissions, each against this chain and those before it.
    ///
    /// Expiry is asked only of what would become the newest: a statement that a later one in
    /// date builds upon was in its time, so a node that was away for a year can follow.
    #[must_use]
    pub fn verify_run(&self, now: UnixSeconds, offered: &[Submission]) -> Run {
        let mut expired: BTreeMap<usize, Refusal> = BTreeMap::new();
        // What is expired goes, and so does all that it did: a ruling among it took something out
        // and let something in. So the rest is followed once more, until all of it is kept.
        loop {
            let (mut scratch, mut run, mut places) = (self.clone(), Run::default(), Vec::new());
            let left = (0..offered.len()).filter(|at| !expired.contains_key(at)).collect();
            run.refused = follow_some(&mut scratch, offered, left, |at, verified| {
                run.accepted.push(verified.clone());
                places.push(at);
            });
            let now = now.max(scratch.now_floor());
            let upheld = upheld(&run.accepted, now);
            let before = expired.len();
            for (verified, at) in run.accepted.iter().zip(places) {
                let statement = verified.statement();
                let keep = upheld.get(&statement.lane).is_some_and(|last| statement.seq <= *last);
                if !keep && let Err(refusal) = check_expiry(statement, now) {
                    expired.insert(at, refusal);
                }
            }
            if expired.len() == before {
                run.refused.extend(expired);
                return run;
            }
        }
    }

    /// A submission with those of its ballots alone that can count for it here: approvals of this very
    /// statement by governors of the board that it stands under, one each. Whoever brings a statement may
    /// lay anything beside it, another statement or a twin with forged signatures too.
    #[must_use]
    pub fn counting(&self, submission: &Submission) -> Submission {
        let Submission { statement, ballots } = submission;
        let parsed = Statement::parse(statement).ok();
        let kept = parsed.and_then(|one| {
            let board = &self.policy_at(one.policy?)?.board;
            Some(counting(board, &one, statement.id(), ballots.iter()))
        });
        Submission { statement: statement.clone(), ballots: kept.unwrap_or_default() }
    }

    /// Applies what verifies of this holder's own store; returns what does not, by its place.
    #[must_use]
    pub fn follow(&mut self, stored: &[Submission]) -> Vec<(usize, Refusal)> {
        follow(self, stored, |_, _| ())
    }

    /// A chain from this holder's own store, in whatever order the files were read.
    ///
    /// # Errors
    /// The first statement that does not verify; the store was damaged or tampered with.
    pub fn restore(
        pin: Option<Digest>,
        stored: impl IntoIterator<Item = Envelope>,
    ) -> Result<Self, Refusal> {
        Self::new(pin).restored(&Submission::sort(stored))
    }

    /// As [`Chain::restore`], onto this chain, which may know of ripe recoveries.
    ///
    /// # Errors
    /// As [`Chain::restore`].
    pub fn restored(mut self, stored: &[Submission]) -> Result<Self, Refusal> {
        let refused = follow(&mut self, stored, |_, _| ());
        // What lost its place by a ruling may still lie there, and what was built on it.
        let lost = |at: usize, refusal: &Refusal| match refusal {
            Refusal::Rival { lane: Lane::Policy, offered, .. } => self.is_united_with(offered),
            Refusal::Rival { lane, .. } | Refusal::Gap { lane, .. } => self.ruled_in(*lane),
            // An earlier board signed it, so that nobody even asks for its place any more.
            Refusal::WrongPolicy { lane, named, .. } => {
                let by_board = |one: &Submission| self.is_signed_under(*named, &one.statement);
                self.ruled_in(*lane) && stored.get(at).is_some_and(by_board)
            }
            Refusal::Closed { .. } => true,
            _ => false,
        };
        match refused.into_iter().find(|(at, refusal)| !lost(*at, refusal)) {
            Some((_, refusal)) => Err(refusal),
            None => Ok(self),
        }
    }
}

/// Verifies and applies one submission after the other, and those that were refused again after
/// each policy that settled places: a ruling makes room for its winner and what builds on it, in
/// whatever order they came, and before later policies ask for more. Returns what was refused to the
/// end, by its place.
pub(crate) fn follow(
    chain: &mut Chain,
    offered: &[Submission],
    accepted: impl FnMut(usize, &VerifiedStatement),
) -> Vec<(usize, Refusal)> {
    follow_some(chain, offered, (0..offered.len()).collect(), accepted)
}

/// The same of those of `offered` that stand at the places `left`.
fn follow_some(
    chain: &mut Chain,
    offered: &[Submission],
    left: Vec<usize>,
    mut accepted: impl FnMut(usize, &VerifiedStatement),
) -> Vec<(usize, Refusal)> {
    let (mut left, mut refused, mut never) = (VecDeque::from(left), Vec::new(), Vec::new());
    while let Some(at) = left.pop_front() {
        let Submission { statement, ballots } = &offered[at];
        match chain.verify_stored(statement, ballots) {
            Ok(Verdict::New(verified)) => {
                let rulings = chain.rulings_count();
                accepted(at, &verified);
                chain.apply(*verified);
                if chain.rulings_count() > rulings {
                    refused.drain(..).rev().for_each(|(at, _)| left.push_front(at));
                }
            }
            Ok(Verdict::AlreadyKnown(_)) | Err(Refusal::Replayed { .. }) => {}
            Err(refusal) if is_final(chain, &refusal, statement) => never.push((at, refusal)),
            Err(refusal) => refused.push((at, refusal)),
        }
    }
    refused.extend(never);
    refused.sort_by_key(|(at, _)| *at);
    refused
}

/// Whether nothing that policies settle makes room for what was refused so: it is not looked at again, for
/// anybody can send any number of forged ones, and a signature takes long to check.
fn is_final(chain: &Chain, refusal: &Refusal, envelope: &Envelope) -> bool {
    match refusal {
        Refusal::TooLarge(_)
        | Refusal::Malformed(_)
        | Refusal::WrongKind { .. }
        | Refusal::UnknownCritical { .. }
        | Refusal::WrongNetwork { .. }
        | Refusal::BadSignature { .. } => true,
        // Its signature was not asked for yet. A policy that is not here may come with what is looked at again.
        Refusal::WrongPolicy { named, .. } => {
            chain.policy_at(*named).is_some() && !chain.is_signed_under(*named, envelope)
        }
        Refusal::Replayed { .. }
        | Refusal::Rival { .. }
        | Refusal::Gap { .. }
        | Refusal::Closed { .. }
        | Refusal::Expired { .. }
        | Refusal::BadBody { .. }
        | Refusal::TooFewApprovals { .. }
        | Refusal::TooFewRebuilds { .. }
        | Refusal::HeldBack { .. }
        | Refusal::Recovery { .. } => false,
    }
}

/// The highest number in each lane that is in date, or that something in date builds upon.
fn upheld(accepted: &[VerifiedStatement], now: UnixSeconds) -> BTreeMap<Lane, Seq> {
    let mut last: BTreeMap<Lane, Seq> = BTreeMap::new();
    let in_date = |statement: &&Statement| now < statement.expires || !statement.lane.expires();
    let in_date = accepted.iter().map(VerifiedStatement::statement).filter(in_date);
    for statement in in_date {
        let own = (statement.lane, statement.seq);
        let under = statement.policy.map(|policy| (Lane::Policy, policy));
        for (lane, seq) in [Some(own), under].into_iter().flatten() {
            let highest = last.entry(lane).or_default();
            *highest = seq.max(*highest);
        }
    }
    last
}
