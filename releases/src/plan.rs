//! The install of one release, as a journal of states without IO.
//!
//! ```text
//!          staged           begun             switched             healthy             tidied
//!   Idle ─────────▶ Staged ───────▶ Switched ──────────▶ Probation ─────────▶ Committed ──────▶ Idle
//!    ▲                │ superseded      │ failed              │ failed                        (new)
//!    │◀───────────────┘                 └────────┬────────────┘
//!    │                 restored                  ▼
//!    └───────────────────────────────────── RolledBack
//!  (old)
//! ```
//!
//! Whoever drives it writes and syncs each state *before* it does that state's [`Step`], and does
//! the step so that doing it again changes nothing. Then, wherever it is cut off, the state on disk
//! says what to do, and the end is the old set or the new one, never a mixture.
//!
//! Invariants:
//!  1. every state but `Idle` has exactly one step, and every step leads on;
//!  2. a release that failed is marked before the old set counts as restored;
//!  3. the keeper's own component is never dropped: somebody must be left to go on;
//!  4. a node never goes back below the floor of the release it came from.

use std::collections::{BTreeMap, BTreeSet};

use borgios_policy::Name;
pub use borgios_policy::Outcome;
use borgios_types::{Digest, Seq, UnixSeconds};
use serde::{Deserialize, Serialize};

/// The component that the keeper itself is.
pub const KEEPER: &str = "borgios-keeper";

/// How often an unfinished switch or probation is gone on with after the keeper or the server
/// was restarted. A release that takes the server down with it must not do so for ever; ten
/// leaves room for accidents that are not its fault.
pub const STARTS_MAX: u32 = 10;

/// A complete set of software, as a release named it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Installed {
    /// The release's number.
    pub seq: Seq,
    /// The release's id.
    pub id: Digest,
    /// For people.
    pub version: String,
    /// The lowest release one may go back to from here.
    pub floor: Seq,
    /// What it consists of.
    pub components: BTreeMap<Name, Digest>,
}

/// How the last install ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// The release's number.
    pub seq: Seq,
    /// The release's id.
    pub id: Digest,
    /// How.
    pub outcome: Outcome,
    /// Why, where it did not end well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When.
    pub at: UnixSeconds,
}

/// Where an install stands. This very value is what `journal.json` holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Journal {
    /// Nothing under way.
    Idle {
        /// What runs; none before the first install.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        installed: Option<Installed>,
        /// How it came to that.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        last: Option<Ended>,
    },
    /// Every component of `to` lies in the store, checked; what runs is still `from`.
    Staged {
        /// What runs.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<Installed>,
        /// What is to run.
        to: Installed,
    },
    /// Links are being moved and units restarted; any of them may be old or new.
    Switched {
        /// What ran.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<Installed>,
        /// What is to run.
        to: Installed,
        /// How often this was gone on with.
        starts: u32,
    },
    /// All of `to` was started; its health decides.
    Probation {
        /// What ran.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<Installed>,
        /// What runs.
        to: Installed,
        /// How often this was gone on with.
        starts: u32,
    },
    /// `to` stays; what nobody needs any more is to be removed.
    Committed {
        /// What ran.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<Installed>,
        /// What runs.
        to: Installed,
        /// Why it is not well, where only the floor kept it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        unwell: Option<String>,
    },
    /// `from` is being put back; any link may be old or new.
    RolledBack {
        /// What is to run again.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<Installed>,
        /// What failed.
        to: Installed,
        /// Why.
        reason: String,
    },
}

/// What to do in a state. Doing it twice must be as good as doing it once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Wait for a release.
    Nothing,
    /// See whether this release is still the newest: [`Event::Begun`] or [`Event::Superseded`].
    Begin,
    /// Move links and restart units: [`Event::Switched`] or [`Event::Failed`].
    Switch(Move),
    /// Run the health commands of these components: [`Event::Healthy`] or [`Event::Failed`].
    Probe(BTreeMap<Name, Digest>),
    /// Remove from the store what is not named here: [`Event::Tidied`].
    Tidy(BTreeSet<Digest>),
    /// Mark the release as never to be tried again, then put the old set back:
    /// [`Event::Restored`].
    Restore {
        /// The release to mark.
        mark: Digest,
        /// How to go back.
        back: Move,
    },
}

/// From one set to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// Every component of the set to reach.
    pub link: BTreeMap<Name, Digest>,
    /// Components to stop and unlink: the set to reach does not name them.
    pub drop: BTreeSet<Name>,
    /// Of `link`, those that are new or other than before, whose units are restarted.
    pub changed: BTreeSet<Name>,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Every component of this release lies in the store, checked.
    Staged(Installed),
    /// A component of this release is not what it must be; nothing was changed. The release was
    /// marked as never to be tried again.
    Refused {
        /// The release.
        release: Installed,
        /// Why.
        reason: String,
        /// When.
        at: UnixSeconds,
    },
    /// The staged release is still the newest.
    Begun,
    /// A newer release is there; this one is left.
    Superseded,
    /// Links and units are those of the new set.
    Switched,
    /// Every health command passed for as long as it must.
    Healthy,
    /// A unit did not start, or a health command did not pass in time.
    Failed(String),
    /// What nobody needs is gone.
    Tidied(UnixSeconds),
    /// The old set runs again.
    Restored(UnixSeconds),
    /// The keeper starts and finds this journal.
    Resumed,
}

impl Default for Journal {
    fn default() -> Self {
        Self::Idle { installed: None, last: None }
    }
}

impl Journal {
    /// What to do now.
    #[must_use]
    pub fn step(&self) -> Step {
        match self {
            Self::Idle { .. } => Step::Nothing,
            Self::Staged { .. } => Step::Begin,
            Self::Switched { from, to, .. } => Step::Switch(Move::between(from.as_ref(), Some(to))),
            Self::Probation { to, .. } => Step::Probe(to.components.clone()),
            Self::Committed { from, to, .. } => {
                // The set before stays too, until the next one is staged: a person may want to look.
                let sets = from.iter().chain([to]);
                Step::Tidy(sets.flat_map(|set| set.components.values().copied()).collect())
            }
            Self::RolledBack { from, to, .. } => {
                Step::Restore { mark: to.id, back: Move::between(Some(to), from.as_ref()) }
            }
        }
    }

    /// The state after `event`.
    ///
    /// # Panics
    /// For an event that the present state cannot have; whoever drives this made a mistake.
    #[must_use]
    pub fn after(self, event: Event) -> Self {
        match (self, event) {
            (Self::Idle { installed: from, .. }, Event::Staged(to)) => Self::Staged { from, to },
            (Self::Idle { installed, .. }, Event::Refused { release, reason, at }) => {
                let last = Ended::new(&release, Outcome::Refused, Some(reason), at);
                Self::Idle { installed, last: Some(last) }
            }
            (Self::Staged { from, to }, Event::Begun) => Self::Switched { from, to, starts: 0 },
            (Self::Staged { from, .. }, Event::Superseded) => {
                Self::Idle { installed: from, last: None }
            }
            (Self::Switched { from, to, .. }, Event::Switched) => {
                Self::Probation { from, to, starts: 0 }
            }
            (Self::Switched { from, to, .. }, Event::Failed(reason))
            | (Self::Probation { from, to, .. }, Event::Failed(reason)) => {
                Self::failed(from, to, reason)
            }
            (Self::Probation { from, to, .. }, Event::Healthy) => {
                Self::Committed { from, to, unwell: None }
            }
            (Self::Committed { to, unwell, .. }, Event::Tidied(at)) => {
                let last = Ended::new(&to, Outcome::Committed, unwell, at);
                Self::Idle { installed: Some(to), last: Some(last) }
            }
            (Self::RolledBack { from, to, reason }, Event::Restored(at)) => {
                let last = Ended::new(&to, Outcome::RolledBack, Some(reason), at);
                Self::Idle { installed: from, last: Some(last) }
            }
            (state, Event::Resumed) => state.resumed(),
            (state, event) => panic!("{event:?} cannot happen in {state:?}"),
        }
    }

    /// What runs, or ran before what is under way.
    #[must_use]
    pub fn installed(&self) -> Option<&Installed> {
        match self {
            Self::Idle { installed, .. } => installed.as_ref(),
            Self::Committed { to, .. } => Some(to),
            Self::Staged { from, .. }
            | Self::Switched { from, .. }
            | Self::Probation { from, .. }
            | Self::RolledBack { from, .. } => from.as_ref(),
        }
    }

    /// What is under way.
    #[must_use]
    pub fn under_way(&self) -> Option<&Installed> {
        match self {
            Self::Idle { .. } => None,
            Self::Staged { to, .. }
            | Self::Switched { to, .. }
            | Self::Probation { to, .. }
            | Self::Committed { to, .. }
            | Self::RolledBack { to, .. } => Some(to),
        }
    }

    /// The components of what is under way that are new or other than before.
    #[must_use]
    pub fn changed(&self) -> BTreeSet<Name> {
        match self {
            Self::Idle { .. } => BTreeSet::new(),
            Self::Staged { from, to }
            | Self::Switched { from, to, .. }
            | Self::Probation { from, to, .. }
            | Self::Committed { from, to, .. }
            | Self::RolledBack { from, to, .. } => Move::between(from.as_ref(), Some(to)).changed,
        }
    }

    /// The state's name, as in `journal.json`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Idle { .. } => "idle",
            Self::Staged { .. } => "staged",
            Self::Switched { .. } => "switched",
            Self::Probation { .. } => "probation",
            Self::Committed { .. } => "committed",
            Self::RolledBack { .. } => "rolled_back",
        }
    }

    /// Back to the old set, or, where the floor forbids that, on with the new one as it is.
    fn failed(from: Option<Installed>, to: Installed, reason: String) -> Self {
        match &from {
            Some(old) if old.seq < to.floor => {
                let why = format!("{reason}; floor {} forbids release/{}", to.floor, old.seq);
                Self::Committed { unwell: Some(why), from, to }
            }
            Some(_) | None => Self::RolledBack { from, to, reason },
        }
    }

    fn resumed(self) -> Self {
        let too_often = || format!("cut off {STARTS_MAX} times before it was done");
        match self {
            Self::Switched { from, to, starts } | Self::Probation { from, to, starts }
                if starts >= STARTS_MAX =>
            {
                Self::failed(from, to, too_often())
            }
            Self::Switched { from, to, starts } => Self::Switched { from, to, starts: starts + 1 },
            Self::Probation { from, to, starts } => {
                Self::Probation { from, to, starts: starts + 1 }
            }
            Self::Idle { .. }
            | Self::Staged { .. }
            | Self::Committed { .. }
            | Self::RolledBack { .. } => self,
        }
    }
}

impl Move {
    fn between(from: Option<&Installed>, to: Option<&Installed>) -> Self {
        let none = BTreeMap::new();
        let before = from.map_or(&none, |set| &set.components);
        let after = to.map_or(&none, |set| &set.components);
        let drop = before.keys().filter(|name| !after.contains_key(*name) && **name != KEEPER);
        let changed = after.iter().filter(|(name, digest)| before.get(*name) != Some(*digest));
        Self {
            link: after.clone(),
            drop: drop.cloned().collect(),
            changed: changed.map(|(name, _)| name.clone()).collect(),
        }
    }
}

impl Ended {
    fn new(set: &Installed, outcome: Outcome, reason: Option<String>, at: UnixSeconds) -> Self {
        Self { seq: set.seq, id: set.id, outcome, reason, at }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(seq: u64, floor: u64, components: &[(&str, &str)]) -> Installed {
        let components =
            components.iter().map(|(n, text)| (n.parse().unwrap(), Digest::of(text.as_bytes())));
        Installed {
            seq: Seq(seq),
            id: Digest::of(&seq.to_be_bytes()),
            version: seq.to_string(),
            floor: Seq(floor),
            components: components.collect(),
        }
    }

    fn old() -> Installed {
        set(1, 1, &[("agent", "a1"), (KEEPER, "k1"), ("only-old", "o1")])
    }

    fn new() -> Installed {
        set(2, 1, &[("agent", "a2"), (KEEPER, "k1"), ("only-new", "n1")])
    }

    /// A server that can be cut off before any of its writes.
    #[derive(Clone, Default)]
    struct Server {
        journal: Journal,
        links: BTreeMap<Name, Digest>,
        running: BTreeMap<Name, Digest>,
        attempted: BTreeSet<Digest>,
        healthy: bool,
        /// Writes until the power goes; `None` never.
        left: Option<usize>,
        writes: usize,
    }

    /// The power went.
    struct Cut;

    impl Server {
        fn running(set: &Installed) -> Self {
            let links = set.components.clone();
            let journal = Journal::Idle { installed: Some(set.clone()), last: None };
            Self { journal, running: links.clone(), links, ..Self::default() }
        }

        fn write(&mut self, change: impl FnOnce(&mut Self)) -> Result<(), Cut> {
            if self.left == Some(0) {
                return Err(Cut);
            }
            self.left = self.left.map(|left| left - 1);
            self.writes += 1;
            change(self);
            Ok(())
        }

        fn on(&mut self, event: Event) -> Result<(), Cut> {
            let next = self.journal.clone().after(event);
            self.write(|server| server.journal = next)
        }

        fn moves(&mut self, to: &Move) -> Result<(), Cut> {
            for (name, digest) in &to.link {
                self.write(|s| {
                    s.links.insert(name.clone(), *digest);
                })?;
            }
            for name in &to.drop {
                self.write(|s| {
                    s.running.remove(name);
                })?;
                self.write(|s| {
                    s.links.remove(name);
                })?;
            }
            for name in &to.changed {
                self.write(|s| {
                    s.running.insert(name.clone(), s.links[name]);
                })?;
            }
            Ok(())
        }

        fn run(&mut self) -> Result<(), Cut> {
            loop {
                match self.journal.step() {
                    Step::Nothing => return Ok(()),
                    Step::Begin => self.on(Event::Begun)?,
                    Step::Switch(to) => {
                        self.moves(&to)?;
                        self.on(Event::Switched)?;
                    }
                    Step::Probe(_) if self.healthy => self.on(Event::Healthy)?,
                    Step::Probe(_) => self.on(Event::Failed("sick".into()))?,
                    Step::Tidy(keep) => {
                        assert!(self.links.values().all(|digest| keep.contains(digest)));
                        self.on(Event::Tidied(UnixSeconds(1)))?;
                    }
                    Step::Restore { mark, back } => {
                        self.write(|s| {
                            s.attempted.insert(mark);
                        })?;
                        self.moves(&back)?;
                        self.on(Event::Restored(UnixSeconds(1)))?;
                    }
                }
            }
        }

        fn install(&mut self, to: Installed) -> Result<(), Cut> {
            self.on(Event::Staged(to))?;
            self.run()
        }

        fn restart(&mut self, left: Option<usize>) -> Result<(), Cut> {
            self.left = left;
            if self.journal.clone().after(Event::Resumed) != self.journal {
                self.on(Event::Resumed)?;
            }
            self.run()
        }

        fn runs(&self, set: &Installed) -> bool {
            self.links == set.components
                && self.running == set.components
                && self.journal.installed() == Some(set)
        }
    }

    #[test]
    fn cut_off_twice_anywhere_it_ends_in_the_old_set_or_the_new_one() {
        for healthy in [true, false] {
            let (old, new) = (old(), new());
            let whole = {
                let mut server = Server { healthy, ..Server::running(&old) };
                assert!(server.install(new.clone()).is_ok());
                server.writes
            };
            for first in 0..=whole {
                for second in 0..=whole {
                    let mut server = Server { healthy, left: Some(first), ..Server::running(&old) };
                    let cut = server.install(new.clone()).is_err();
                    assert_eq!(cut, first < whole);
                    let begun = !matches!(server.journal, Journal::Idle { last: None, .. });
                    let _ = server.restart(Some(second));
                    assert!(server.restart(None).is_ok());
                    let ends = if begun && healthy { &new } else { &old };
                    assert!(server.runs(ends), "healthy {healthy}, cut at {first}, {second}");
                    let marked = server.attempted.contains(&new.id);
                    assert_eq!(marked, begun && !healthy, "cut at {first}, {second}");
                }
            }
        }
    }

    #[test]
    fn a_first_install_that_fails_leaves_nothing_but_the_keeper() {
        let mut server = Server::default();
        assert!(server.install(new()).is_ok());
        assert_eq!(server.links.keys().map(Name::as_str).collect::<Vec<_>>(), [KEEPER]);
        assert_eq!(server.journal.installed(), None);
    }

    #[test]
    fn a_release_that_takes_the_server_down_is_given_up() {
        let mut server = Server { healthy: true, ..Server::running(&old()) };
        // Staged, begun, three links, two drops of two writes, then cut before the restarts.
        server.left = Some(4);
        assert!(server.install(new()).is_err());
        for _ in 0..STARTS_MAX {
            assert!(server.restart(Some(2)).is_err());
        }
        assert!(server.restart(None).is_ok());
        assert!(server.runs(&old()));
        assert!(server.attempted.contains(&new().id));
    }

    #[test]
    fn t18_nobody_goes_back_below_the_floor() {
        let mut server = Server { healthy: false, ..Server::running(&old()) };
        let new = Installed { floor: Seq(2), ..new() };
        assert!(server.install(new.clone()).is_ok());
        assert!(server.runs(&new));
        let Journal::Idle { last: Some(last), .. } = server.journal else { panic!("not idle") };
        assert!(last.reason.unwrap().contains("floor 2"));
    }

    #[test]
    fn a_staged_release_gives_way_to_a_newer_one() {
        let from = Some(old());
        let staged = Journal::Staged { from: from.clone(), to: new() };
        assert_eq!(staged.after(Event::Superseded), Journal::Idle { installed: from, last: None });
    }

    #[test]
    fn what_changed_is_what_is_new_or_other_than_before() {
        assert!(Journal::default().changed().is_empty());
        let under_way = Journal::Switched { from: Some(old()), to: new(), starts: 0 };
        let changed = under_way.changed();
        assert_eq!(changed.iter().map(Name::as_str).collect::<Vec<_>>(), ["agent", "only-new"]);
    }

    #[test]
    fn the_journal_reads_back() {
        for state in [
            Journal::default(),
            Journal::Staged { from: None, to: new() },
            Journal::Switched { from: Some(old()), to: new(), starts: 1 },
            Journal::Probation { from: Some(old()), to: new(), starts: 0 },
            Journal::Committed { from: None, to: new(), unwell: None },
            Journal::RolledBack { from: Some(old()), to: new(), reason: "sick".into() },
        ] {
            let text = serde_json::to_string(&state).unwrap();
            assert!(text.contains(&format!("\"state\":\"{}\"", state.name())), "{text}");
            assert_eq!(serde_json::from_str::<Journal>(&text).unwrap(), state);
        }
    }
}
