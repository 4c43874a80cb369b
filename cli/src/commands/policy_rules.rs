//! The rules of `borgios propose policy` beside fan-out and approvals: locks, vetoes, freshness,
//! admission, recovery, and what is settled.

use std::path::PathBuf;
use std::str::FromStr;

use borgios_policy::class::LOCK_MAX_S;
use borgios_policy::{
    Admission, Class, Freshness, Lane, Name, Policy, Recovery, RecoveryBoard, Ruling,
};
use borgios_types::limits::ENVELOPE_MAX;
use borgios_types::{Digest, Envelope, PublicKey, Seq};
use clap::Args;

use crate::durable;
use crate::failure::{Failure, OrFail as _};
use crate::span;

/// Rules that hold a signed statement back, and rulings.
#[derive(Debug, Args)]
pub(crate) struct Rules {
    /// How long statements of a class are locked: release=48h, emergency=none
    #[arg(long = "lock", value_name = "CLASS=TIME", value_parser = of_class::<Time>)]
    locks: Vec<(ClassName, Time)>,
    /// How many vetoes kill a locked statement of a class; n-t+1 at least
    #[arg(long = "veto", value_name = "CLASS=N", value_parser = of_class::<u16>)]
    vetoes: Vec<(ClassName, u16)>,
    /// How many approvals must name the digest of the voter's own build: release=2
    #[arg(long = "rebuilds", value_name = "CLASS=N", value_parser = of_class::<u16>)]
    rebuilds: Vec<(ClassName, u16)>,
    /// When the tools remind of a vote: release=7d
    #[arg(long = "deadline", value_name = "CLASS=TIME", value_parser = of_class::<Time>)]
    deadlines: Vec<(ClassName, Time)>,
    /// Approvals that releases of the class emergency need; there are none without it
    #[arg(long, value_name = "N")]
    emergency_approvals: Option<u16>,
    /// How many governors a server must have heard of, and how lately: 2/24h; none for no such rule
    #[arg(long, value_name = "N/TIME", value_parser = freshness)]
    freshness: Option<Fresh>,
    /// How long a pause holds, at most a day; none for no pauses
    #[arg(long, value_name = "TIME")]
    pause: Option<Time>,
    /// A governor whose invitations count; again for each. all: every governor's
    #[arg(long = "inviter", value_name = "NAME|all")]
    inviters: Vec<Name>,
    /// Most servers one invitation may admit; none for no such bound
    #[arg(long, value_name = "N")]
    invite_uses: Option<Uses>,
    /// Longest validity of an invitation; none for no such bound
    #[arg(long, value_name = "TIME")]
    invite_lifetime: Option<Time>,
    /// The group key of a second board, which may name the next one after a long silence
    #[arg(long, value_name = "KEY", requires_all = ["recovery_silence", "recovery_lock"])]
    recovery_key: Option<PublicKey>,
    /// The same by the paper of a recovery board, as its founding wrote it: policy-1.json
    #[arg(long, value_name = "FILE", conflicts_with = "recovery_key",
          requires_all = ["recovery_silence", "recovery_lock"])]
    recovery_board: Option<PathBuf>,
    /// How long too few governors must have been silent: 60d
    #[arg(long, value_name = "TIME", value_parser = span::seconds, requires = "recovery_lock")]
    recovery_silence: Option<u64>,
    /// How long its policy is then held back: 30d
    #[arg(long, value_name = "TIME", value_parser = span::seconds, requires = "recovery_silence")]
    recovery_lock: Option<u64>,
    /// No recovery board from now on
    #[arg(long, conflicts_with_all = ["recovery_key", "recovery_board", "recovery_lock"])]
    no_recovery: bool,
    /// Close a place of another lane: nothing signed for it counts
    #[arg(long = "close", value_name = "LANE/SEQ", value_parser = place)]
    closed: Vec<(Lane, Seq)>,
    /// Name the one statement that counts at a place of another lane
    #[arg(long = "settle", value_name = "LANE/SEQ=ID", value_parser = settled)]
    settled: Vec<(Lane, Seq, Digest)>,
    /// Rule on a place even if nothing there is undecided as far as is known here
    #[arg(long)]
    pub(crate) even_if_decided: bool,
}

/// `none`, or a length of time in seconds.
#[derive(Clone, Copy, Debug)]
struct Time(Option<u64>);

impl FromStr for Time {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" { Ok(Self(None)) } else { span::seconds(text).map(|s| Self(Some(s))) }
    }
}

/// `none`, or how many servers.
#[derive(Clone, Copy, Debug)]
struct Uses(Option<u32>);

impl FromStr for Uses {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self(None));
        }
        let uses = text.parse().map_err(|_| format!("{text:?}: write a number, or none"))?;
        Ok(Self(Some(uses)))
    }
}

/// What [`Rules::inviters`] says for every governor, those who come later too.
const EVERYONE: &str = "all";

/// `none`, or a rule.
#[derive(Clone, Copy, Debug)]
struct Fresh(Option<Freshness>);

/// A class that a policy has.
#[derive(Clone, Copy, Debug)]
enum ClassName {
    Of(Lane),
    Offline,
    Emergency,
}

impl FromStr for ClassName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "offline" => Ok(Self::Offline),
            "emergency" => Ok(Self::Emergency),
            lane => lane.parse().map(Self::Of).map_err(|_| {
                let lanes = Lane::ALL.map(Lane::as_str).join(", ");
                format!("{lane:?} is no class: {lanes}, offline or emergency")
            }),
        }
    }
}

fn of_class<T>(text: &str) -> Result<(ClassName, T), String>
where
    T: FromStr,
    T::Err: ToString,
{
    let (class, value) =
        text.split_once('=').ok_or_else(|| format!("{text:?}: write CLASS=VALUE"))?;
    Ok((class.parse()?, value.parse().map_err(|error: T::Err| error.to_string())?))
}

fn freshness(text: &str) -> Result<Fresh, String> {
    if text == "none" {
        return Ok(Fresh(None));
    }
    let bad = || format!("{text:?}: write how many governors and how lately, as 2/24h");
    let (beacons, age) = text.split_once('/').ok_or_else(bad)?;
    let (beacons, max_age_s) = (beacons.parse().map_err(|_| bad())?, span::seconds(age)?);
    Ok(Fresh(Some(Freshness { beacons, max_age_s })))
}

fn place(text: &str) -> Result<(Lane, Seq), String> {
    let bad = || format!("{text:?} is no place: write release/7");
    let (lane, seq) = text.split_once('/').ok_or_else(bad)?;
    let lane = lane.parse::<Lane>().map_err(|error| error.to_string())?;
    Ok((lane, Seq(seq.parse().map_err(|_| bad())?)))
}

fn settled(text: &str) -> Result<(Lane, Seq, Digest), String> {
    let bad = || format!("{text:?}: write release/7=sha256:…, the whole id");
    let (at, id) = text.split_once('=').ok_or_else(bad)?;
    let (lane, seq) = place(at)?;
    Ok((lane, seq, id.parse().map_err(|_| bad())?))
}

impl Rules {
    /// Puts what was given into `policy`. Rulings are acts and not rules: those of the policy in
    /// force are not said again.
    ///
    /// `recovery_board` is what [`Rules::paper`] read.
    pub(crate) fn apply(
        &self,
        recovery_board: Option<&RecoveryBoard>,
        policy: &mut Policy,
    ) -> Result<(), Failure> {
        if let Some(approvals) = self.emergency_approvals {
            let class = policy.classes.emergency.unwrap_or(Class::of(approvals));
            policy.classes.emergency = Some(Class { approvals, ..class });
        }
        for (name, Time(lock_s)) in &self.locks {
            if lock_s.is_some_and(|lock_s| lock_s > LOCK_MAX_S) {
                return Err(Failure::usage("a lock of more than 90 days"));
            }
            class(policy, *name)?.lock_s = *lock_s;
        }
        for (name, veto) in &self.vetoes {
            class(policy, *name)?.veto = Some(*veto);
        }
        for (name, rebuilds) in &self.rebuilds {
            class(policy, *name)?.rebuilds = Some(*rebuilds).filter(|rebuilds| *rebuilds > 0);
        }
        for (name, Time(deadline_s)) in &self.deadlines {
            class(policy, *name)?.deadline_s = *deadline_s;
        }
        if let Some(Fresh(rule)) = self.freshness {
            policy.freshness = rule;
        }
        if let Some(Time(pause_s)) = self.pause {
            policy.pause_s = Some(pause_s.unwrap_or(0));
        }
        self.admit(policy)?;
        self.recover(recovery_board, policy)?;
        let closed = self.closed.iter().map(|(lane, seq)| (*lane, *seq, None));
        let settled = self.settled.iter().map(|(lane, seq, id)| (*lane, *seq, Some(*id)));
        policy.rulings = closed
            .chain(settled)
            .map(|(lane, seq, winner)| Ruling::new(lane, seq, winner))
            .collect();
        Ok(())
    }

    /// The paper of the recovery board that is to be named, for this network.
    pub(crate) fn paper(&self, network: Digest) -> Result<Option<RecoveryBoard>, Failure> {
        let Some(path) = &self.recovery_board else { return Ok(None) };
        let what = || format!("{} is no paper of a recovery board", path.display());
        let bytes = durable::read(path, ENVELOPE_MAX)?;
        let bytes = bytes.ok_or_else(|| Failure::new(what()).because("there is no such file"))?;
        let envelope = Envelope::parse(&bytes).or_fail(what)?;
        RecoveryBoard::verify(network, &envelope).or_fail(what).map(Some)
    }

    fn recover(&self, paper: Option<&RecoveryBoard>, policy: &mut Policy) -> Result<(), Failure> {
        if self.no_recovery {
            policy.recovery = None;
        }
        let before = policy.recovery.map(|rule| rule.group);
        let named = paper.map(|paper| paper.board().group()).or(self.recovery_key);
        let (Some(silence_s), Some(lock_s)) = (self.recovery_silence, self.recovery_lock) else {
            return Ok(());
        };
        let group = named.or(before).ok_or_else(|| {
            Failure::usage("which recovery key? the policy in force names none")
                .hint("`--recovery-board FILE` names one by its board's paper")
        })?;
        policy.recovery = Some(Recovery { group, silence_s, lock_s });
        Ok(())
    }

    fn admit(&self, policy: &mut Policy) -> Result<(), Failure> {
        let Self { inviters, invite_uses, invite_lifetime, .. } = self;
        if inviters.is_empty() && invite_uses.is_none() && invite_lifetime.is_none() {
            return Ok(());
        }
        let mut rules = policy.admission.clone().unwrap_or_default();
        if inviters.iter().any(|name| *name == *EVERYONE) {
            if inviters.len() > 1 || policy.board.governors().iter().any(|g| g.name == *EVERYONE) {
                return Err(Failure::usage(
                    "`--inviter all` beside another, or where a governor has that name",
                )
                .hint("name each governor, or give `--inviter all` alone"));
            }
            rules.inviters = None;
        } else if !inviters.is_empty() {
            rules.inviters = Some(inviters.clone());
        }
        if let Some(Uses(uses)) = invite_uses {
            rules.uses_max = *uses;
        }
        if let Some(Time(lifetime)) = invite_lifetime {
            rules.lifetime_s = *lifetime;
        }
        // A rule that bounds nothing is none.
        policy.admission = Some(rules).filter(|rules| *rules != Admission::default());
        Ok(())
    }
}

/// The class of that name, as it is without a word if the policy has none yet.
fn class(policy: &mut Policy, name: ClassName) -> Result<&mut Class, Failure> {
    let threshold = Class::of(policy.board.threshold().0);
    let offline = policy.offline();
    let classes = &mut policy.classes;
    Ok(match name {
        ClassName::Of(Lane::Policy) => &mut classes.policy,
        ClassName::Of(Lane::Release) => &mut classes.release,
        ClassName::Of(Lane::Credential) => classes.credential.get_or_insert(threshold),
        ClassName::Of(Lane::Member) => classes.member.get_or_insert(threshold),
        ClassName::Of(Lane::Access) => classes.access.get_or_insert(threshold),
        ClassName::Offline => classes.offline.get_or_insert(offline),
        ClassName::Emergency => match &mut classes.emergency {
            Some(class) => class,
            None => {
                return Err(Failure::usage("there is no class for emergencies yet")
                    .hint("make one with `--emergency-approvals N`"));
            }
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_times_and_places_are_read() {
        let (name, Time(time)) = of_class::<Time>("release=48h").unwrap();
        assert!(matches!(name, ClassName::Of(Lane::Release)) && time == Some(172_800));
        assert!(matches!(
            of_class::<Time>("emergency=none"),
            Ok((ClassName::Emergency, Time(None)))
        ));
        for bad in ["release", "box=1h", "release=1", "release=soon"] {
            assert!(of_class::<Time>(bad).is_err(), "{bad}");
        }
        assert!(matches!(freshness("2/24h"), Ok(Fresh(Some(Freshness { beacons: 2, .. })))));
        for bad in ["2", "x/1h", "2/1"] {
            assert!(freshness(bad).is_err(), "{bad}");
        }
        let id = Digest::of(b"x");
        assert_eq!(settled(&format!("release/7={id}")), Ok((Lane::Release, Seq(7), id)));
        for bad in ["release/7", "release=x", "release/7=abc", "release/x=1"] {
            assert!(settled(bad).is_err(), "{bad}");
        }
    }
}
