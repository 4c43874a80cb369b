//! A ballot: one governor's signed vote in one slot.
//!
//! ```text
//! {group, governor, lane, seq, round, statement,
//!  choice: "approve", pools: {name: pool id}, shares: "<base64>",   | choice: "reject", reason,
//!  comment, reveal, counter}
//! shares = for each signing set that contains the voter and whose members are all named in
//!          `pools`, in order: 32 bytes
//! ```
//!
//! How one is made: [`crate::vote`].

use std::collections::{BTreeMap, BTreeSet};

use borgios_types::{Digest, Envelope, PublicKey, Round, Seq};
use serde::{Deserialize, Serialize};

use crate::board::Board;
use crate::lane::Lane;
use crate::name::Name;
use crate::object::{Object, ObjectError, signed_by, text_fits};
use crate::slot::Slot;
use crate::statement::Statement;
use crate::wire::Bytes;

/// Most ballots that do not verify looked at for one statement; three for each governor of the
/// largest board.
pub const BALLOTS_MAX: usize = 64;

/// Longest sealed share of a reveal, in bytes: an age file of 32 bytes has about 230.
pub const REVEAL_BYTES_MAX: usize = 2 * 1024;

/// One vote. Holding one proves nothing: see [`Ballot::verify`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ballot {
    /// The group key whose slot this uses up.
    pub group: PublicKey,
    /// Who votes.
    pub governor: Name,
    /// The slot's lane.
    pub lane: Lane,
    /// The slot's place.
    pub seq: Seq,
    /// The slot's round.
    pub round: Round,
    /// Id of the statement voted on.
    pub statement: Digest,
    /// For it, with signature shares, or against it, with a reason.
    #[serde(flatten)]
    pub choice: Choice,
    /// A word to the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// For a reveal: the voter's escrowed share, sealed to the asker. Only the asker can tell
    /// whether it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reveal: Option<Bytes>,
    /// Counts this governor's ballots, so that a restored backup can be told.
    pub counter: u64,
}

/// What a ballot says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "choice", rename_all = "lowercase")]
pub enum Choice {
    /// Signs, in every signing set of the named governors that contains the voter.
    Approve {
        /// The pool taken for each governor taken into account, the voter included.
        pools: BTreeMap<Name, Digest>,
        /// 32 bytes for each signing set, in order.
        shares: Bytes,
    },
    /// Gives up the slot without signing.
    Reject {
        /// Why.
        reason: String,
    },
}

impl Object for Ballot {
    const KIND: &'static str = "ballot";
    const FIELDS: &'static [&'static str] = &[
        "group",
        "governor",
        "lane",
        "seq",
        "round",
        "statement",
        "choice",
        "pools",
        "shares",
        "reason",
        "comment",
        "reveal",
        "counter",
    ];

    fn check(&self) -> Result<(), ObjectError> {
        let reason = match &self.choice {
            Choice::Reject { reason } => Some(reason),
            Choice::Approve { .. } => None,
        };
        if let Some(Bytes(reveal)) = &self.reveal
            && reveal.len() > REVEAL_BYTES_MAX
        {
            let why = format!("{} bytes of reveal, at most {REVEAL_BYTES_MAX}", reveal.len());
            return Err(ObjectError::Refused { kind: Self::KIND, why });
        }
        text_fits(Self::KIND, "reason", reason)?;
        text_fits(Self::KIND, "comment", self.comment.as_ref())
    }
}

impl Ballot {
    /// Reads a ballot and checks group key, governor, signature and the number of shares. Whether
    /// the shares are good, only [`crate::tally()`] can say.
    ///
    /// # Errors
    /// As [`Object::parse`], `wrong_policy`, `bad_signature`, and a wrong number of shares.
    pub fn verify(board: &Board, envelope: &Envelope) -> Result<Self, ObjectError> {
        let ballot = Self::parse(envelope)?;
        let (kind, expected) = (Self::KIND, board.group());
        if ballot.group != expected {
            return Err(ObjectError::WrongGroup { kind, found: ballot.group, expected });
        }
        let refused = |why: String| ObjectError::Refused { kind, why };
        let governor = board
            .by_name(&ballot.governor)
            .ok_or_else(|| refused(format!("{} is not on the board", ballot.governor)))?;
        // The signature first: only its maker may make anyone count signing sets.
        if !governor.signed_ballot(envelope) {
            signed_by(&governor.key, kind, envelope)?;
        }
        if let Choice::Approve { pools, shares } = &ballot.choice {
            if let Some(stranger) = pools.keys().find(|name| board.index(name).is_none()) {
                return Err(refused(format!("it names a pool of {stranger}, not on the board")));
            }
            let sets = signing_sets(board, &ballot.governor, pools).len();
            if sets == 0 || shares.0.len() != 32 * sets {
                let found = shares.0.len();
                return Err(refused(format!("{found} bytes of shares for {sets} signing sets")));
            }
        }
        Ok(ballot)
    }

    /// The slot it uses up.
    #[must_use]
    pub fn slot(&self, board: &Board) -> Slot {
        Slot { epoch: board.epoch(), lane: self.lane, seq: self.seq, round: self.round }
    }

    /// Whether it is for its statement.
    #[must_use]
    pub fn approves(&self) -> bool {
        matches!(self.choice, Choice::Approve { .. })
    }
}

/// The signing sets that contain `voter` and whose members are all named in `pools`, in order;
/// none if the board is too large for one-touch votes.
pub(crate) fn signing_sets(
    board: &Board,
    voter: &Name,
    pools: &BTreeMap<Name, Digest>,
) -> Vec<Vec<u16>> {
    let (Some(voter), Ok(mut sets)) = (board.index(voter), board.subsets()) else {
        return Vec::new();
    };
    let named: BTreeSet<u16> = pools.keys().filter_map(|name| board.index(name)).collect();
    sets.retain(|set| set.contains(&voter) && set.iter().all(|member| named.contains(member)));
    sets
}

/// The governors whose valid ballots approve exactly this statement.
pub(crate) fn approvers(
    board: &Board,
    statement: &Statement,
    id: Digest,
    ballots: &[Envelope],
) -> BTreeSet<Name> {
    let place = (statement.lane, statement.seq, statement.round);
    let counts = |ballot: &Ballot| {
        ballot.approves()
            && ballot.statement == id
            && (ballot.lane, ballot.seq, ballot.round) == place
    };
    // Only what could add a name is verified, and only forgeries are counted: neither the ballots
    // on other statements nor a governor who repeats himself may crowd the others out.
    let (mut names, mut forgeries) = (BTreeSet::new(), 0);
    for envelope in ballots {
        let Ok(read) = Ballot::parse(envelope) else { continue };
        if !counts(&read) || names.contains(&read.governor) {
            continue;
        }
        match Ballot::verify(board, envelope) {
            Ok(ballot) => {
                names.insert(ballot.governor);
            }
            Err(_) if forgeries == BALLOTS_MAX => break,
            Err(_) => forgeries += 1,
        }
    }
    names
}
