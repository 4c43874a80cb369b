//! The policy: the body of a statement of the lane `policy`.
//!
//! ```text
//! {board: {epoch, threshold, group, governors: [{name, key, recipient, share}]},
//!  fanout, classes: {policy: class, release: class, …}, witnesses?, carried: [],
//!  freshness?, pause_s?, admission?, recovery?, rulings?, unites?, recovers?}
//! ```
//!
//! The classes are in [`crate::class`], the other rules in [`crate::rules`].

use std::collections::BTreeSet;

use borgios_types::{Digest, KeyEpoch, Seq};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

use crate::access::{AccessClass, AccessOrder};
use crate::board::Board;
use crate::class::ReleaseClass;
pub use crate::class::{Class, Classes};
use crate::lane::Lane;
use crate::name::Name;
use crate::rules::{self, Admission, Freshness, PAUSE_MAX_S, Recovery, Ruling};
use crate::statement::Statement;

/// Most statements a policy may carry over from its predecessor.
pub const CARRIED_MAX: usize = 64;

/// Most policies that one may unite with its predecessor: as many as a gate keeps for one place.
pub const UNITES_MAX: usize = 4;

/// Witnesses a grant needs where the policy says nothing: one alone could be in league with
/// whoever wants to act unseen.
pub const WITNESSES_DEFAULT: u16 = 2;

/// Most witnesses a policy may ask for: each is sent to the keeper with its proofs.
pub const WITNESSES_MAX: u16 = 16;

/// The rules in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Who governs.
    pub board: Board,
    /// Most children of a node in the tree, 2 to 256.
    pub fanout: u16,
    /// What each lane's statements need.
    pub classes: Classes,
    /// How many other members must have signed that they saw a grant before a node obeys it;
    /// absent means [`WITNESSES_DEFAULT`]. Grants of the class `offline` need none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub witnesses: Option<u16>,
    /// Ids of statements that were signed under an earlier policy and still count.
    #[serde(default)]
    pub carried: BTreeSet<Digest>,
    /// Governors a holder must have heard of lately before it installs anything; absent means none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub freshness: Option<Freshness>,
    /// Longest a pause holds, in seconds; absent means [`PAUSE_MAX_S`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause_s: Option<u64>,
    /// Who may invite servers; absent means every governor, without a bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admission: Option<Admission>,
    /// The key that may speak after a long silence; absent means none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery: Option<Recovery>,
    /// Places of other lanes that this policy settles.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rulings: Vec<Ruling>,
    /// Ids of policies that a holder may have in the place of this one's predecessor, and then follows
    /// this one all the same. A policy that was vetoed late is in force at some servers while its next
    /// round is at others; a policy says every rule anew, so the next one puts both under the same. What
    /// those settled is void from then on: see [`crate::rules::Ruling::by`].
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub unites: BTreeSet<Digest>,
    /// In the paper of a recovery board alone, the network it is for: see [`crate::recovery`]. A policy
    /// that says so is taken into no chain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovers: Option<Digest>,
}

/// Why a policy is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PolicyError {
    /// Not of a policy's shape, or its board breaks a rule.
    #[error("{0}")]
    Shape(String),
    /// A tree that cannot grow, or a node that must hold too many links.
    #[error("a fanout of {0}, expected 2 to 256")]
    Fanout(u16),
    /// Fewer approvals than signatures, or more than there are governors.
    #[error(
        "{class} statements ask for {approvals} approvals, expected {threshold} to {governors}"
    )]
    Approvals {
        /// The class: a lane's name, or `offline`.
        class: &'static str,
        /// Approvals asked for.
        approvals: u16,
        /// t.
        threshold: u16,
        /// n.
        governors: u16,
    },
    /// A number that is too low or too high.
    #[error("{rule} is {found}, expected {least} to {most}")]
    OutOfBounds {
        /// Which.
        rule: String,
        /// What it says.
        found: u64,
        /// The least it may say.
        least: u64,
        /// The most it may say.
        most: u64,
    },
    /// An inviter who is named twice or does not govern.
    #[error("the inviter {0} is not on the board, or named twice")]
    Inviter(Name),
    /// A recovery board that is the board itself.
    #[error("the recovery key is the group key; it must be another board's")]
    RecoveryKey,
    /// A recovery board's paper in the place of a policy.
    #[error("the paper of a recovery board is no policy")]
    Recovers,
    /// A recovery key that would make itself the group key.
    #[error("the recovery key names itself; it may only name another board's key")]
    RecoversItself,
    /// Silence can only be told where beacons are asked for.
    #[error("`recovery` needs `freshness`: without beacons no holder can tell silence")]
    RecoveryWithoutFreshness,
    /// A ruling on a place that no policy can settle, or twice on one.
    #[error("a ruling on {lane}/{seq}: a policy rules on other lanes alone, once on each place")]
    Ruling {
        /// The lane.
        lane: Lane,
        /// The place.
        seq: Seq,
    },
    /// A ruling of another policy, repeated where nobody needs it.
    #[error(
        "it repeats another policy's ruling on {lane}/{seq}: only one that `unites` does, of policies \
             before it"
    )]
    Repeats {
        /// The lane.
        lane: Lane,
        /// The place.
        seq: Seq,
    },
    /// More witnesses than anyone would collect.
    #[error("a grant with {0} witnesses, at most {WITNESSES_MAX} can be asked for")]
    Witnesses(u16),
    /// Too many carried statements.
    #[error("{0} carried statements, at most {CARRIED_MAX}")]
    Carried(usize),
    /// Too many policies to unite.
    #[error("it unites {0} policies, at most {UNITES_MAX}")]
    Unites(usize),
    /// The same group key with another board around it.
    #[error(
        "the board changed without a new group key; removing or adding anyone needs one, a new \
             identity the old one under `former`"
    )]
    BoardWithoutKey,
    /// A new group key whose board gives a governor former identity keys.
    #[error(
        "governor {0} has former keys under a new group key; a ceremony makes boards of cards, and none has any"
    )]
    FormerWithNewKey(Name),
    /// A new group key that does not open the next epoch.
    #[error("a new group key with key epoch {found}, expected {expected}")]
    Epoch {
        /// The epoch the policy names.
        found: KeyEpoch,
        /// The epoch that follows the board in force.
        expected: KeyEpoch,
    },
}

impl Policy {
    /// A policy of one board, with every other rule as it is without a word.
    #[must_use]
    pub fn new(board: Board, fanout: u16, classes: Classes) -> Self {
        Self {
            board,
            fanout,
            classes,
            witnesses: None,
            carried: BTreeSet::new(),
            freshness: None,
            pause_s: None,
            admission: None,
            recovery: None,
            rulings: Vec::new(),
            unites: BTreeSet::new(),
            recovers: None,
        }
    }

    /// Reads and checks the body of a policy statement.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn parse(body: &Value) -> Result<Self, PolicyError> {
        let policy: Self =
            Self::deserialize(body).map_err(|error| PolicyError::Shape(error.to_string()))?;
        policy.validate()?;
        Ok(policy)
    }

    /// The rules a policy must keep by itself; the board keeps its own.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn validate(&self) -> Result<(), PolicyError> {
        if !(2..=256).contains(&self.fanout) {
            return Err(PolicyError::Fanout(self.fanout));
        }
        let (threshold, governors) = (self.board.threshold().0, self.board.size());
        let lanes = Lane::ALL.into_iter().map(|lane| (lane.as_str(), self.class(lane)));
        let named = [("offline", Some(self.offline())), ("emergency", self.classes.emergency)];
        let named = named.into_iter().filter_map(|(name, class)| Some((name, class?)));
        for (name, class) in lanes.chain(named) {
            class.check(name, threshold, governors)?;
        }
        if self.witnesses() > WITNESSES_MAX {
            return Err(PolicyError::Witnesses(self.witnesses()));
        }
        if self.carried.len() > CARRIED_MAX {
            return Err(PolicyError::Carried(self.carried.len()));
        }
        if self.unites.len() > UNITES_MAX {
            return Err(PolicyError::Unites(self.unites.len()));
        }
        self.validate_rules()
    }

    fn validate_rules(&self) -> Result<(), PolicyError> {
        let Self { board, freshness, admission, recovery, rulings, .. } = self;
        if let Some(found) = self.pause_s.filter(|pause| *pause > PAUSE_MAX_S) {
            let (rule, least, most) = ("pause_s".to_owned(), 0, PAUSE_MAX_S);
            return Err(PolicyError::OutOfBounds { rule, found, least, most });
        }
        if recovery.is_some() && freshness.is_none() {
            return Err(PolicyError::RecoveryWithoutFreshness);
        }
        freshness.map_or(Ok(()), |rule| rule.check(board))?;
        admission.as_ref().map_or(Ok(()), |rule| rule.check(board))?;
        let fresh_s = freshness.map_or(0, |rule| rule.max_age_s);
        let unheard_s = self.classes.policy.lock() + fresh_s;
        recovery.map_or(Ok(()), |rule| rule.check(board, unheard_s))?;
        rules::check_rulings(rulings, self.unites.len())
    }

    /// The rules a policy must keep towards the one it follows.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn follows(&self, before: &Self) -> Result<(), PolicyError> {
        if self.board.group() == before.board.group() {
            let same = self.board == before.board || self.board.keeps_shares_of(&before.board);
            return if same { Ok(()) } else { Err(PolicyError::BoardWithoutKey) };
        }
        let (found, expected) =
            (self.board.epoch(), KeyEpoch(before.board.epoch().0.saturating_add(1)));
        if found != expected {
            return Err(PolicyError::Epoch { found, expected });
        }
        // A ceremony makes a board of cards, and a card names one key: a former one that somebody laid beside
        // it would cast ballots in that governor's name.
        match self.board.governors().iter().find(|governor| !governor.former.is_empty()) {
            Some(governor) => Err(PolicyError::FormerWithNewKey(governor.name.clone())),
            None => Ok(()),
        }
    }

    /// Whether each ruling that it repeats was one of a policy before it, as policy/`seq`.
    ///
    /// # Errors
    /// The first one that was not.
    pub(crate) fn repeats_earlier(&self, seq: Seq) -> Result<(), PolicyError> {
        let ahead = self.rulings.iter().find(|one| one.by.is_some_and(|by| by.policy >= seq));
        ahead.map_or(Ok(()), |one| Err(PolicyError::Repeats { lane: one.lane, seq: one.seq }))
    }

    /// The policies that the body of a policy unites with its predecessor, as far as it can be read:
    /// [`Policy::parse`] takes milliseconds.
    #[must_use]
    pub fn united_by(body: &Value) -> BTreeSet<Digest> {
        let unites = body.get("unites").cloned();
        let ids: Option<BTreeSet<Digest>> = unites.and_then(|ids| serde_json::from_value(ids).ok());
        ids.filter(|ids| ids.len() <= UNITES_MAX).unwrap_or_default()
    }

    /// What statements of `lane` need.
    #[must_use]
    pub fn class(&self, lane: Lane) -> Class {
        let threshold = Class::of(self.board.threshold().0);
        match lane {
            Lane::Policy => self.classes.policy,
            Lane::Release => self.classes.release,
            Lane::Credential => self.classes.credential.unwrap_or(threshold),
            Lane::Member => self.classes.member.unwrap_or(threshold),
            Lane::Access => self.classes.access.unwrap_or(threshold),
        }
    }

    /// What a grant needs that a node obeys though no other member saw it.
    #[must_use]
    pub fn offline(&self) -> Class {
        self.classes.offline.unwrap_or(Class::of(self.board.size()))
    }

    /// How many other members must have seen a grant.
    #[must_use]
    pub fn witnesses(&self) -> u16 {
        self.witnesses.unwrap_or(WITNESSES_DEFAULT)
    }

    /// Seconds a pause holds.
    #[must_use]
    pub fn pause(&self) -> u64 {
        self.pause_s.unwrap_or(PAUSE_MAX_S)
    }

    /// What `statement` needs: its lane's class, or one of its own. A release of a class that this
    /// policy does not have needs what others of its lane do; whether it may exist at all,
    /// [`Policy::knows_class_of`] says. What shuts a door waits for nothing: a revocation, and a reveal,
    /// whose password is known from its ballots on, so that only what ends it would be held up.
    #[must_use]
    pub fn class_of(&self, statement: &Statement) -> Class {
        let lane = self.class(statement.lane);
        if let (Ok(Some(ReleaseClass::Emergency)), Some(emergency)) =
            (ReleaseClass::of(statement), self.classes.emergency)
        {
            return emergency;
        }
        match AccessOrder::of(statement) {
            Ok(AccessOrder::Grant(grant)) if grant.class == AccessClass::Offline => {
                let offline = self.offline();
                Class { approvals: offline.approvals.max(lane.approvals), ..offline }
            }
            _ if AccessOrder::shuts(statement) => Class { lock_s: None, ..lane },
            Ok(_) | Err(_) => lane,
        }
    }

    /// Whether the class that a release names exists under this policy.
    ///
    /// # Errors
    /// The class, and what there is.
    pub fn knows_class_of(&self, statement: &Statement) -> Result<(), String> {
        match ReleaseClass::of(statement)? {
            Some(ReleaseClass::Emergency) if self.classes.emergency.is_none() => {
                Err("an emergency, and the policy has no `classes.emergency`".to_owned())
            }
            Some(ReleaseClass::Emergency | ReleaseClass::Normal) | None => Ok(()),
        }
    }

    /// As the body of a statement.
    #[must_use]
    pub fn to_body(&self) -> Value {
        serde_json::to_value(self).expect("a policy has string keys only")
    }
}
