//! What became of one host, judged by what was seen, and by nothing that was hoped.
//!
//! ```text
//!  exit 0 or cut off, with the network's receipt  ─▶ Member
//!  exit 0 or cut off, without                     ─▶ Undecided: log in again, or ask the node
//!  exit 10                                        ─▶ Already: of which network, the agent says
//!  exit 3, another run is at work                 ─▶ Busy: look again
//!  any other exit                                 ─▶ Failed
//! ```

use borgios_types::{Digest, PublicKey};
use serde::Serialize;

use super::log::Log;

/// bootstrap.sh's exit code for a machine that is a member already.
pub(crate) const EX_MEMBER: u8 = 10;

/// What became of one host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// It joined now; the node's key, if it was said.
    Member {
        /// As the receipt or the node itself said.
        #[serde(skip_serializing_if = "Option::is_none")]
        node: Option<PublicKey>,
        /// By what it is known.
        by: &'static str,
    },
    /// It was a member before.
    Already,
    /// Nobody consented to it; nothing was changed there.
    LeftOut,
    /// It is not a member.
    Failed {
        /// Where it stopped.
        stage: String,
        /// Why.
        reason: String,
    },
    /// It may be a member; nobody here can tell.
    Unknown {
        /// Where it was last seen.
        stage: String,
        /// Why nobody can tell.
        reason: String,
        /// How to look.
        look: String,
    },
}

impl Outcome {
    /// A failure before bootstrap.sh ran.
    pub(crate) fn failed(stage: &str, reason: impl Into<String>) -> Self {
        Self::Failed { stage: stage.to_owned(), reason: reason.into() }
    }

    /// Whether the host is a member, beyond doubt.
    pub(crate) fn is_member(&self) -> bool {
        match self {
            Self::Member { .. } | Self::Already => true,
            Self::LeftOut | Self::Failed { .. } | Self::Unknown { .. } => false,
        }
    }

    /// One word, for the table.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::Member { .. } => "member",
            Self::Already => "member before",
            Self::LeftOut => "left out",
            Self::Failed { .. } => "FAILED",
            Self::Unknown { .. } => "UNKNOWN",
        }
    }

    /// The rest, for the table.
    pub(crate) fn detail(&self) -> String {
        match self {
            Self::Member { node, by } => match node {
                Some(node) => format!("node {}, by {by}", node.short()),
                None => format!("by {by}"),
            },
            Self::Already => "nothing was changed".to_owned(),
            Self::LeftOut => "no consent was given; nothing was changed".to_owned(),
            Self::Failed { stage, reason } => format!("{stage}: {reason}"),
            // Its node was to be asked, and was not.
            Self::Unknown { stage, reason, look } if look.is_empty() => {
                format!("{stage}: {reason}")
            }
            Self::Unknown { stage, reason, look } => format!("{stage}: {reason}; {look}"),
        }
    }
}

/// What bootstrap.sh's log says about its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// That decides it.
    Decided(Outcome),
    /// It says that it is a member already; of which network, its agent must say.
    Already,
    /// An earlier run of bootstrap.sh is still at work there, and not in its unit yet.
    Busy,
    /// The log broke off without a receipt, for this reason.
    Undecided(String),
}

/// Judges a join to `network` by its log. `broken` says why the stream ended, where it ended before
/// the command did.
pub(crate) fn judge(log: &Log, network: Digest, broken: Option<&str>) -> Verdict {
    let undecided = |why: &str| Verdict::Undecided(why.to_owned());
    match (log.code(), log.receipt()) {
        (Some(0) | None, Some(receipt)) => match receipt.network {
            Some(found) if found == network => {
                Verdict::Decided(Outcome::Member { node: receipt.node, by: "its receipt" })
            }
            Some(found) => {
                let reason = format!("it was handed over to another network, {found}");
                Verdict::Decided(Outcome::failed("receipt", reason))
            }
            None => undecided("its receipt broke off"),
        },
        (Some(0), None) => undecided("it ended well, but showed no receipt"),
        (Some(EX_MEMBER), _) => Verdict::Already,
        (Some(code), _) => {
            let said = log.complaint().unwrap_or("it did not say why");
            if said.starts_with("another bootstrap.sh is running") {
                return Verdict::Busy;
            }
            let reason = format!("{}: {said} (exit code {code})", meaning(code));
            let stage = log.stage().unwrap_or("start").to_owned();
            Verdict::Decided(Outcome::Failed { stage, reason })
        }
        (None, None) => undecided(broken.unwrap_or("the log broke off")),
    }
}

/// What bootstrap.sh's exit codes say.
pub(crate) fn meaning(code: u8) -> &'static str {
    match code {
        2 => "it did not understand the order",
        3 => "refused before anything changed",
        4 => "the release did not verify",
        5 => "the join failed",
        6 => "rolled back, the old ways in work",
        127 => "the host lacks a program",
        _ => "it failed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(lines: &[&str]) -> Log {
        let mut log = Log::new("end".to_owned());
        for line in lines {
            log.take(line);
        }
        log
    }

    fn network() -> Digest {
        Digest::of(b"network")
    }

    fn receipt(network: Digest) -> Vec<String> {
        let head = "RECEIPT of 2026-11-26 18:00:00 UTC: root on web-1 was handed over";
        vec!["== receipt".to_owned(), head.to_owned(), format!("  network     lab, {network}")]
    }

    fn with(lines: &[String], last: &[&str]) -> Verdict {
        let lines: Vec<&str> =
            lines.iter().map(String::as_str).chain(last.iter().copied()).collect();
        judge(&ended(&lines), network(), None)
    }

    #[test]
    fn only_the_networks_receipt_makes_a_member() {
        let member = Verdict::Decided(Outcome::Member { node: None, by: "its receipt" });
        let ours = receipt(network());
        assert_eq!(with(&ours, &["end 0"]), member);
        assert_eq!(with(&ours, &[]), member, "cut off after the receipt");
        assert!(matches!(with(&ours[..2], &[]), Verdict::Undecided(_)), "cut off within it");
        for lines in [&["end 0"][..], &[], &["== receipt", "end 0"], &["== purge"]] {
            let verdict = with(&[], lines);
            assert!(matches!(verdict, Verdict::Undecided(_)), "{lines:?}: {verdict:?}");
        }
        let Verdict::Decided(outcome) = with(&receipt(Digest::of(b"other")), &["end 0"]) else {
            panic!()
        };
        assert!(!outcome.is_member());
    }

    #[test]
    fn a_failing_code_is_a_failure_whatever_was_said_before() {
        for code in [1, 2, 3, 4, 5, 6, 127, 130, 143, 255] {
            let verdict = with(&receipt(network()), &[&format!("end {code}")]);
            let Verdict::Decided(outcome) = verdict else { panic!("{code}: {verdict:?}") };
            assert!(matches!(outcome, Outcome::Failed { .. }) && !outcome.is_member(), "{code}");
        }
    }

    #[test]
    fn a_member_already_is_asked_of_which_network() {
        assert_eq!(with(&[], &["end 10"]), Verdict::Already);
        assert_eq!(with(&receipt(network()), &["end 10"]), Verdict::Already);
    }

    #[test]
    fn a_run_that_is_still_at_work_is_waited_for() {
        let said = "bootstrap.sh: another bootstrap.sh is running on this machine";
        assert_eq!(with(&[], &[said, "end 3"]), Verdict::Busy);
    }

    #[test]
    fn a_failure_names_stage_reason_and_code() {
        let log = ended(&["== verify, with tools", "bootstrap.sh: NOT signed", "end 4"]);
        let Verdict::Decided(outcome) = judge(&log, network(), None) else { panic!() };
        assert_eq!(
            outcome.detail(),
            "verify: the release did not verify: NOT signed (exit code 4)"
        );
    }
}
