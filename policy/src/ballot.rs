//! A ballot: one governor's signed vote in one slot.
//!
//! ```text
//! {group, governor, lane, seq, round, statement,
//!  choice: "approve", pools: {name: pool id}, shares: "<base64>" | "approve", nonces: "<base64>"
//!        | "reject", reason,
//!  comment, reveal, rebuild: {digest, env}, counter}
//! shares = for each signing set that contains the voter and whose members are all named in
//!          `pools`, in order: 32 bytes
//! nonces = on boards too large for that: hiding (32 bytes) · binding (32 bytes), for the first
//!          session the voter will be in
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
use crate::session;
use crate::slot::Slot;
use crate::statement::Statement;
use crate::wire::Bytes;

/// Most ballots that do not verify looked at for one statement; three for each governor of the
/// largest board.
pub const BALLOTS_MAX: usize = 64;

/// Longest sealed share of a reveal, in bytes: an age file of 32 bytes has about 230.
pub const REVEAL_BYTES_MAX: usize = 2 * 1024;

/// Longest description of where a voter built a release, in bytes.
pub const ENV_BYTES_MAX: usize = 256;

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
    /// For a release: what the voter's own build came to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rebuild: Option<Rebuild>,
    /// Counts this governor's ballots, so that a restored backup can be told.
    pub counter: u64,
}

/// What a voter's own build came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rebuild {
    /// [`Digest::of_parts`] over the components' digests, in the release's order.
    pub digest: Digest,
    /// The compiler and system it was built with, for people.
    pub env: String,
}

/// What a ballot says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub enum Choice {
    /// Signs, in every signing set of the named governors that contains the voter.
    Approve {
        /// The pool taken for each governor taken into account, the voter included.
        pools: BTreeMap<Name, Digest>,
        /// 32 bytes for each signing set, in order.
        shares: Bytes,
    },
    /// Will sign, in the next session that the voter is in: the first of two touches.
    Commit {
        /// The commitment to the nonces that the first session uses.
        nonces: Bytes,
    },
    /// Gives up the slot without signing.
    Reject {
        /// Why.
        reason: String,
    },
}

/// A choice as it is written.
#[derive(Clone, Serialize, Deserialize)]
struct Written {
    choice: Word,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pools: Option<BTreeMap<Name, Digest>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    shares: Option<Bytes>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nonces: Option<Bytes>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Word {
    Approve,
    Reject,
}

impl TryFrom<Written> for Choice {
    type Error = &'static str;

    fn try_from(written: Written) -> Result<Self, Self::Error> {
        let Written { choice, pools, shares, nonces, reason } = written;
        match (choice, pools, shares, nonces, reason) {
            (Word::Approve, Some(pools), Some(shares), None, None) => {
                Ok(Self::Approve { pools, shares })
            }
            (Word::Approve, None, None, Some(nonces), None) => Ok(Self::Commit { nonces }),
            (Word::Reject, None, None, None, Some(reason)) => Ok(Self::Reject { reason }),
            (Word::Approve, ..) => Err("an approval has either pools and shares or nonces"),
            (Word::Reject, ..) => Err("a rejection has a reason, and nothing to sign with"),
        }
    }
}

impl From<Choice> for Written {
    fn from(choice: Choice) -> Self {
        let mut written =
            Self { choice: Word::Approve, pools: None, shares: None, nonces: None, reason: None };
        match choice {
            Choice::Approve { pools, shares } => {
                (written.pools, written.shares) = (Some(pools), Some(shares));
            }
            Choice::Commit { nonces } => written.nonces = Some(nonces),
            Choice::Reject { reason } => {
                (written.choice, written.reason) = (Word::Reject, Some(reason));
            }
        }
        written
    }
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
        "nonces",
        "reason",
        "comment",
        "reveal",
        "rebuild",
        "counter",
    ];

    fn check(&self) -> Result<(), ObjectError> {
        let reason = match &self.choice {
            Choice::Reject { reason } => Some(reason),
            Choice::Approve { .. } | Choice::Commit { .. } => None,
        };
        if let Some(Rebuild { env, .. }) = &self.rebuild
            && env.len() > ENV_BYTES_MAX
        {
            let why = format!("an env of {} bytes, at most {ENV_BYTES_MAX}", env.len());
            return Err(ObjectError::Refused { kind: Self::KIND, why });
        }
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
        if let Choice::Commit { nonces } = &ballot.choice {
            if board.one_touch().is_ok() {
                return Err(refused("nonces, on a board that votes with shares".to_owned()));
            }
            session::commitment(nonces).map_err(refused)?;
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
        match self.choice {
            Choice::Approve { .. } | Choice::Commit { .. } => true,
            Choice::Reject { .. } => false,
        }
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
