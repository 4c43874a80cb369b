//! A proof for outsiders: one file that shows, with nothing but the network's id, that the board
//! signed a statement, and who approved it.
//!
//! ```text
//! {"proof": "borgios-proof@v1", "network": "sha256:…", "statement": "sha256:…",
//!  "envelopes": [policy/1 … , the lane up to the statement … , ballots …, pools …]}
//! ```
//!
//! What it proves: that the statement has its place in the chain that begins with the network's
//! policy/1, and which ballots were cast on it. What no file can prove: that nothing was decided
//! later (a veto during a lock, a ruling, a recall), and that no other ballot exists. Nor that a policy
//! of a recovery key came into force, for that hangs on the silence that each server heard: whoever
//! verifies such a chain names the policy that they know to be in force, and is shown the rest.

use std::collections::{BTreeMap, BTreeSet};

use borgios_types::json::{self, JsonError};
use borgios_types::{Digest, Envelope, EnvelopeError, PublicKey, Seq};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::ballot::{Ballot, Choice};
use crate::board::Board;
use crate::cast::Cast;
use crate::chain::Chain;
use crate::lane::Lane;
use crate::name::Name;
use crate::object::Object as _;
use crate::pool::Pool;
use crate::refusal::Refusal;
use crate::session::{Session, SessionShare};
use crate::slot::Slot;
use crate::statement::VerifiedStatement;
use crate::submission::Submission;
use crate::tally::{State, tally};

/// Longest proof, in bytes: a lane of a thousand releases with the pools of a large board.
pub const PROOF_MAX: usize = 16 * 1024 * 1024;

/// Most envelopes of a proof.
pub const ENVELOPES_MAX: usize = 20_000;

/// What a proof calls itself.
pub const FORMAT: &str = "borgios-proof@v1";

/// A proof as it is stored. Holding one proves nothing: see [`ProofFile::verify`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProofFile {
    proof: String,
    /// The network it claims to be of.
    pub network: Digest,
    /// The statement it is about.
    pub statement: Digest,
    /// Statements in an order in which they verify, then ballots, then pools.
    pub envelopes: Vec<Envelope>,
}

/// What a proof proved.
#[derive(Clone, Debug)]
pub struct Proven {
    /// The statement.
    pub statement: VerifiedStatement,
    /// The board that signed it; of a recovery key's policy the one that it makes, which signed too.
    pub board: Board,
    /// How many approvals its class asked for, by the policy it names.
    pub needed: u16,
    /// The ballots on it that count, in order of name.
    pub voices: Vec<Voice>,
    /// Who contradicted themselves in its slot, with the ids of two ballots that prove it: they have
    /// cast none, whichever the file holds first.
    pub contradictions: BTreeMap<Name, (Digest, Digest)>,
    /// Whether the signature shares in the ballots, together with the pools in the file, make the
    /// group key's signature over it once more: then the approvals are those that signed.
    pub shares: bool,
    /// Every policy on the way, the oldest first; some may be a recovery key's:
    /// [`VerifiedStatement::is_recovered`].
    pub policies: Vec<VerifiedStatement>,
}

/// One governor's verified ballot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Voice {
    /// Who.
    pub name: Name,
    /// The key that signed the ballot.
    pub key: PublicKey,
    /// The ballot.
    pub ballot: Ballot,
}

/// Why a file proves nothing.
#[derive(Debug, Error)]
pub enum ProofFileError {
    /// Too long, or not strict JSON of that shape.
    #[error("not a proof")]
    Json(#[source] JsonError),
    /// Another format.
    #[error("a proof of format {0:?}, this version reads {FORMAT}")]
    Format(String),
    /// Too many envelopes.
    #[error("a proof of {0} envelopes, at most {ENVELOPES_MAX} are read")]
    Envelopes(usize),
    /// An envelope that would not be read alone.
    #[error("envelope {0} of the proof is refused")]
    Envelope(usize, #[source] EnvelopeError),
    /// Of another network than the one asked for.
    #[error("the proof is of network {found}, asked for is {expected}")]
    Network {
        /// What the file names.
        found: Digest,
        /// What was asked for.
        expected: Digest,
    },
    /// A statement in it does not verify.
    #[error("a statement on the way is refused")]
    Statement(#[source] Refusal),
    /// A ballot, pool, session or share in it does not verify.
    #[error("envelope {at} of the proof, a {kind}, is refused: {why}")]
    Object {
        /// Its place, from 0.
        at: usize,
        /// Its type.
        kind: String,
        /// Why.
        why: String,
    },
    /// The statement it is about is not in it.
    #[error("the proof does not hold the statement {0} that it is about")]
    Absent(Digest),
}

impl ProofFile {
    /// What `chain` knows of the statement with this id; `ballots` and `papers` (pools, and the
    /// sessions and shares of large boards) may hold others.
    /// `None` if the chain does not hold it.
    #[must_use]
    pub fn of(
        chain: &Chain,
        statement: &Digest,
        ballots: &[Envelope],
        papers: &[Envelope],
    ) -> Option<Self> {
        let network = chain.network()?;
        let (lane, _) = chain.known(statement)?;
        // 1. The policies and the statement's own lane, up to it, in the order they were applied.
        let mut statements = Vec::new();
        for verified in chain.history() {
            let of = verified.statement().lane;
            if of == Lane::Policy || of == lane {
                statements.push(verified.envelope().clone());
            }
            if verified.id() == *statement {
                break;
            }
        }
        // 2. The ballots that any of them needs, and 3. the pools that those of the last one name.
        let about: BTreeSet<Digest> = statements.iter().map(Envelope::id).collect();
        // Of boards on the way alone: a recovery board's own ballots are judged by its paper.
        let policies = chain.after(Lane::Policy, Seq(0)).filter_map(VerifiedStatement::policy);
        let groups: BTreeSet<PublicKey> = policies.map(|policy| policy.board.group()).collect();
        let mut named = BTreeSet::new();
        let mut envelopes = statements;
        for envelope in ballots {
            let Ok(ballot) = Ballot::parse(envelope) else { continue };
            if !about.contains(&ballot.statement) || !groups.contains(&ballot.group) {
                continue;
            }
            if let (true, Choice::Approve { pools, .. }) =
                (ballot.statement == *statement, &ballot.choice)
            {
                named.extend(pools.values().copied());
            }
            envelopes.push(envelope.clone());
        }
        // On a large board the sessions on it, and what was answered in them.
        let of_it = |envelope: &&Envelope| {
            Session::parse(envelope).is_ok_and(|session| session.statement == *statement)
        };
        named.extend(papers.iter().filter(of_it).map(Envelope::id));
        let answers = |envelope: &&Envelope| {
            SessionShare::parse(envelope).is_ok_and(|share| named.contains(&share.session))
        };
        let shares: Vec<Digest> = papers.iter().filter(answers).map(Envelope::id).collect();
        named.extend(shares);
        envelopes.extend(papers.iter().filter(|paper| named.contains(&paper.id())).cloned());
        Some(Self { proof: FORMAT.to_owned(), network, statement: *statement, envelopes })
    }

    /// Reads a proof; nothing of it is believed before [`ProofFile::verify`].
    ///
    /// # Errors
    /// `Json`, `Format`, `Envelopes` and `Envelope`.
    pub fn parse(text: &str) -> Result<Self, ProofFileError> {
        let file: Self = json::parse_strict(text, PROOF_MAX).map_err(ProofFileError::Json)?;
        if file.proof != FORMAT {
            return Err(ProofFileError::Format(file.proof.chars().take(40).collect()));
        }
        if file.envelopes.len() > ENVELOPES_MAX {
            return Err(ProofFileError::Envelopes(file.envelopes.len()));
        }
        for (at, envelope) in file.envelopes.iter().enumerate() {
            Envelope::parse(envelope.to_json().as_bytes())
                .map_err(|error| ProofFileError::Envelope(at, error))?;
        }
        Ok(file)
    }

    /// One line of JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("envelopes always serialise")
    }

    /// Follows the chain in the file from the policy/1 whose id is `network`, and checks every
    /// envelope in it. Expiry is not asked: the statement is proved to have been signed, not to be
    /// due today.
    ///
    /// # Errors
    /// The first envelope that is not what it should be: a proof with one bad part is no proof.
    /// [`Refusal::Recovery`] for a policy of a recovery key.
    pub fn verify(&self, network: Digest) -> Result<Proven, ProofFileError> {
        self.verify_through(network, &[])
    }

    /// The same, through policies of a recovery key: `in_force` are the ids of those of which whoever
    /// verifies knows that they came into force. The file cannot show it.
    ///
    /// # Errors
    /// As [`ProofFile::verify`]; [`Refusal::Recovery`] for one that is not named.
    pub fn verify_through(
        &self,
        network: Digest,
        in_force: &[Digest],
    ) -> Result<Proven, ProofFileError> {
        if self.network != network {
            let (found, expected) = (self.network, network);
            return Err(ProofFileError::Network { found, expected });
        }
        // 1. Statements, with the ballots that their classes may need.
        let statements =
            self.envelopes.iter().filter(|e| is_statement(e) || e.kind.as_str() == Ballot::KIND);
        let mut chain = Chain::new(Some(network));
        in_force.iter().for_each(|id| chain.ripen(*id));
        let chain = chain
            .restored(&Submission::sort(statements.cloned()))
            .map_err(ProofFileError::Statement)?;
        let absent = || ProofFileError::Absent(self.statement);
        let (lane, seq) = chain.known(&self.statement).ok_or_else(absent)?;
        let statement = chain.get(lane, seq).ok_or_else(absent)?.clone();
        // 2. Whatever else is there, by one of the boards on the way.
        let policies: Vec<VerifiedStatement> = chain.after(Lane::Policy, Seq(0)).cloned().collect();
        let boards: Vec<&Board> =
            policies.iter().filter_map(|p| Some(&p.policy()?.board)).collect();
        for (at, envelope) in self.envelopes.iter().enumerate() {
            if !is_statement(envelope) {
                check(&boards, at, envelope)?;
            }
        }
        // 3. Who voted on it, and whether their shares are its signature.
        let under = statement.statement().policy.unwrap_or(Seq(1));
        let policy = chain.policy_at(under).ok_or_else(absent)?;
        let (board, needed) = match statement.policy().filter(|_| statement.is_recovered()) {
            Some(made) => (made.board.clone(), made.board.threshold().0),
            None => (policy.board.clone(), policy.class_of(statement.statement()).approvals),
        };
        let of = statement.statement();
        let slot = Slot { epoch: board.epoch(), lane: of.lane, seq: of.seq, round: of.round };
        let ballots = of_kind(&self.envelopes, Ballot::KIND);
        // As the tally collects them: what the file names must not hang on the order of its parts.
        let Cast { ballots: cast, contradictions } = Cast::collect(&board, slot, &ballots);
        let voices = voices(&board, self.statement, cast);
        let shares = signs_again(&board, slot, &statement, &self.envelopes, &ballots);
        Ok(Proven { statement, board, needed, voices, contradictions, shares, policies })
    }
}

fn is_statement(envelope: &Envelope) -> bool {
    envelope.kind.as_str().parse::<Lane>().is_ok()
}

/// A ballot, pool, session or share of one of these boards, or no part of a proof.
fn check(boards: &[&Board], at: usize, envelope: &Envelope) -> Result<(), ProofFileError> {
    let mut why = "it is of a kind that no proof holds".to_owned();
    for board in boards.iter().rev() {
        let checked = match envelope.kind.as_str() {
            Ballot::KIND => Ballot::verify(board, envelope).map(drop),
            Pool::KIND => Pool::verify(board, envelope).map(drop),
            Session::KIND => Session::verify(board, envelope).map(drop),
            SessionShare::KIND => SessionShare::verify(board, envelope).map(drop),
            _ => break,
        };
        match checked {
            Ok(()) => return Ok(()),
            Err(error) => why = error.to_string(),
        }
    }
    Err(ProofFileError::Object { at, kind: envelope.kind.to_string(), why })
}

fn of_kind(envelopes: &[Envelope], kind: &str) -> Vec<Envelope> {
    envelopes.iter().filter(|envelope| envelope.kind.as_str() == kind).cloned().collect()
}

/// The ballots on a statement, of those that count in its slot.
fn voices(board: &Board, statement: Digest, cast: BTreeMap<Name, (Digest, Ballot)>) -> Vec<Voice> {
    let on_it = cast.into_iter().filter(|(_, (_, ballot))| ballot.statement == statement);
    let voices = on_it.filter_map(|(name, (_, ballot))| {
        let key = board.by_name(&name)?.key;
        Some(Voice { name, key, ballot })
    });
    voices.collect()
}

/// Whether ballots and pools make a signature over the statement once more.
fn signs_again(
    board: &Board,
    slot: Slot,
    statement: &VerifiedStatement,
    envelopes: &[Envelope],
    ballots: &[Envelope],
) -> bool {
    let text = statement.envelope().payload.clone();
    let kinds = [Pool::KIND, Session::KIND, SessionShare::KIND];
    let papers = kinds.map(|kind| of_kind(envelopes, kind)).concat();
    let tally = tally(board, slot, &[text], &papers, ballots);
    let standing = tally.documents.get(&statement.id());
    standing.is_some_and(|standing| matches!(standing.state, State::Signed(_)))
}
