//! What one kind of statement needs before it is applied: approvals, rebuilds, a lock, a veto.
//!
//! ```text
//! {approvals, lock_s?, veto?, rebuilds?, deadline_s?}
//! ```

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::lane::Lane;
use crate::policy::PolicyError;
use crate::statement::Statement;

/// Longest lock, in seconds: 90 days. What is locked longer is better proposed later.
pub const LOCK_MAX_S: u64 = 90 * 86_400;
/// Longest time a vote may be given, in seconds: a year.
pub const DEADLINE_MAX_S: u64 = 365 * 86_400;

/// What one kind of statement needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Class {
    /// Distinct governors that must approve, at least the threshold.
    pub approvals: u16,
    /// Seconds a holder keeps it back after having seen it; absent means none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock_s: Option<u64>,
    /// Distinct governors whose vetoes kill it in that time; absent means n−t+1, which is also the
    /// least: a minority that lost the vote has n−t voices and must not win by waiting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub veto: Option<u16>,
    /// Approving ballots that must name the digest of the voter's own build; releases only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rebuilds: Option<u16>,
    /// Seconds after which the tools remind of a vote. It decides nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_s: Option<u64>,
}

impl Class {
    /// A class that asks for approvals alone.
    #[must_use]
    pub fn of(approvals: u16) -> Self {
        Self { approvals, lock_s: None, veto: None, rebuilds: None, deadline_s: None }
    }

    /// Seconds a holder keeps a statement back.
    #[must_use]
    pub fn lock(&self) -> u64 {
        self.lock_s.unwrap_or(0)
    }

    /// Ballots that must carry a matching rebuild.
    #[must_use]
    pub fn rebuilds(&self) -> u16 {
        self.rebuilds.unwrap_or(0)
    }

    /// What a statement needs that must satisfy both: the stricter of each. Of two numbers of vetoes
    /// the lower is stricter; without a word it is n−t+1 of `governors` and `threshold`.
    #[must_use]
    pub fn stricter(self, other: Self, threshold: u16, governors: u16) -> Self {
        let veto = |class: Self| class.veto.unwrap_or(veto_least(threshold, governors));
        let least = |one: Option<u64>, two: Option<u64>| match (one, two) {
            (Some(one), Some(two)) => Some(one.min(two)),
            (one, two) => one.or(two),
        };
        Self {
            approvals: self.approvals.max(other.approvals),
            lock_s: self.lock_s.max(other.lock_s),
            veto: Some(veto(self).min(veto(other))),
            rebuilds: self.rebuilds.max(other.rebuilds),
            deadline_s: least(self.deadline_s, other.deadline_s),
        }
    }

    /// The bounds of `docs/design/0006-governance.md`.
    pub(crate) fn check(
        &self,
        class: &'static str,
        threshold: u16,
        governors: u16,
    ) -> Result<(), PolicyError> {
        let Self { approvals, lock_s, veto, rebuilds, deadline_s } = *self;
        if !(threshold..=governors).contains(&approvals) {
            return Err(PolicyError::Approvals { class, approvals, threshold, governors });
        }
        let out = |what, found: u64, least: u64, most: u64| {
            if (least..=most).contains(&found) {
                return Ok(());
            }
            Err(PolicyError::OutOfBounds { rule: format!("{class}.{what}"), found, least, most })
        };
        let may_rebuild = ["release", "emergency"].contains(&class);
        out("lock_s", lock_s.unwrap_or(0), 0, LOCK_MAX_S)?;
        let least = veto_least(threshold, governors);
        out("veto", veto.unwrap_or(least).into(), least.into(), governors.into())?;
        let most = if may_rebuild { approvals } else { 0 };
        out("rebuilds", rebuilds.unwrap_or(0).into(), 0, most.into())?;
        out("deadline_s", deadline_s.unwrap_or(1), 1, DEADLINE_MAX_S)
    }
}

/// n−t+1: with so many against it a statement has lost one who approved it.
#[must_use]
pub fn veto_least(threshold: u16, governors: u16) -> u16 {
    governors.saturating_sub(threshold).saturating_add(1)
}

/// What the statements of each lane need.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Classes {
    /// Lane `policy`.
    pub policy: Class,
    /// Lane `release`.
    pub release: Class,
    /// Lane `credential`; absent means the threshold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<Class>,
    /// Lane `member`; absent means the threshold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<Class>,
    /// Lane `access`; absent means the threshold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<Class>,
    /// Grants that a node obeys though no other member saw them; absent means all governors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offline: Option<Class>,
    /// Releases of the class `emergency`; absent means that there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub emergency: Option<Class>,
}

impl Classes {
    /// The two that every policy names; the others as they are without a word.
    #[must_use]
    pub fn of(policy: Class, release: Class) -> Self {
        let (credential, member, access, offline, emergency) = (None, None, None, None, None);
        Self { policy, release, credential, member, access, offline, emergency }
    }
}

/// Which class a release asks to be judged by: the field `class` of its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReleaseClass {
    /// `classes.release`; a release that says nothing is one.
    Normal,
    /// `classes.emergency`.
    Emergency,
}

impl ReleaseClass {
    /// What a statement asks for; none for what is no release.
    ///
    /// # Errors
    /// A class that does not exist.
    pub fn of(statement: &Statement) -> Result<Option<Self>, String> {
        if statement.lane != Lane::Release {
            return Ok(None);
        }
        match statement.body.get("class") {
            None => Ok(Some(Self::Normal)),
            Some(Value::String(class)) if class == "normal" => Ok(Some(Self::Normal)),
            Some(Value::String(class)) if class == "emergency" => Ok(Some(Self::Emergency)),
            Some(other) => {
                let other: String = other.to_string().chars().take(40).collect();
                Err(format!("the class {other}, expected \"normal\" or \"emergency\""))
            }
        }
    }
}
