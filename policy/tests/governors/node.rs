//! A node: a chain and its gate, driven as keeper and agent drive them, and what must hold at each step.
//!
//! Its clock is its own. What it refuses it hears again once its chain or gate has changed, as a fleet
//! brings it again.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use borgios_policy::gate::Standing;
use borgios_policy::{
    Beacon, Board, Chain, Dated, Gate, Lane, Name, Object as _, Offered, Refusal, Submission,
    VerifiedStatement,
};
use borgios_types::{Digest, Envelope, PublicKey, Seq, UnixSeconds};

use super::said::{Said, Shelf, What};
use super::vigil::Vigil;

pub(crate) struct Node {
    pub(crate) chain: Chain,
    pub(crate) gate: Gate,
    /// Seconds that its clock is ahead of the slowest one.
    ahead: u64,
    /// Signed statements for a place that has another: evidence.
    pub(crate) rivals: BTreeSet<Digest>,
    /// Vetoes that counted when they came, by what they are against.
    vetoes: BTreeMap<Digest, BTreeSet<(PublicKey, Name)>>,
    /// When each statement was first brought.
    brought: BTreeMap<Digest, UnixSeconds>,
    /// What governors said that could not be judged yet.
    refused: BTreeMap<Digest, Rc<Said>>,
    pub(crate) vigil: Vigil,
    changed: bool,
    context: String,
}

impl Node {
    pub(crate) fn new(first: &Envelope, now: UnixSeconds, ahead: u64, context: &str) -> Self {
        let mut node = Self {
            chain: Chain::new(Some(first.id())),
            gate: Gate::default(),
            ahead,
            rivals: BTreeSet::new(),
            vetoes: BTreeMap::new(),
            brought: BTreeMap::new(),
            refused: BTreeMap::new(),
            vigil: Vigil::default(),
            changed: false,
            context: context.to_owned(),
        };
        node.offer(now, first);
        node
    }

    /// Hears something; what it heard before is on `shelf`.
    pub(crate) fn hear(&mut self, now: UnixSeconds, said: &Rc<Said>, shelf: &Shelf) {
        if said.envelope.kind.as_str().parse::<Lane>().is_ok() {
            if !said.is_forged() {
                self.brought.entry(said.id).or_insert(now.plus(self.ahead));
            }
            self.offer(now, &said.envelope);
        } else if ["veto", "pause", "beacon"].contains(&said.envelope.kind.as_str()) {
            self.object(now, said);
        }
        self.tick(now);
        self.bring(now, shelf);
    }

    fn offer(&mut self, now: UnixSeconds, envelope: &Envelope) {
        let now = now.plus(self.ahead);
        let submission = Submission { statement: envelope.clone(), ballots: Vec::new() };
        let id = envelope.id();
        match self.gate.offer(now, &self.chain, &submission, Dated::Asked) {
            Ok(Offered::Known) => {}
            Ok(Offered::Held(_)) => {
                self.changed = true;
                let recovers = self.gate.docs().any(|(of, doc)| *of == id && doc.is_recovery());
                if let Some(policy) = self.chain.policy().filter(|_| recovers) {
                    self.vigil.hold(now, policy, id, &self.context);
                }
            }
            Err(Refusal::Recovery { still_s, .. }) => {
                assert!(still_s.is_some_and(|still| still > 0), "{}: why, then?", self.context);
                let policy = self.chain.policy().expect("a network");
                self.vigil.refuse(policy, &self.context);
            }
            Ok(Offered::Apply(verified)) => self.apply(now, *verified),
            Err(Refusal::Rival { offered, .. }) => drop(self.rivals.insert(offered)),
            Err(_) => {}
        }
    }

    fn object(&mut self, now: UnixSeconds, said: &Rc<Said>) {
        let now = now.plus(self.ahead);
        let heard = if said.envelope.kind.as_str() == Beacon::KIND {
            self.gate.beacon(now, &self.chain, &said.envelope)
        } else {
            self.gate.object(now, &self.chain, &said.envelope)
        };
        match (&heard, &said.what) {
            (Ok(_), What::Beacon) => {
                let beacon = Beacon::parse(&said.envelope).expect("a genuine beacon");
                self.vigil.beacon(now, self.chain.policy(), &beacon);
            }
            (Ok(_), What::Veto(veto)) => self.vigil.veto(now, self.chain.policy(), veto),
            (_, _) => {}
        }
        match (heard, &said.what) {
            (Ok(_), What::Forged) => panic!("{}: a gate took a forgery", self.context),
            (Ok(_), What::Veto(veto)) => {
                let by = (veto.group, veto.governor.clone());
                self.vetoes.entry(veto.statement).or_default().insert(by);
            }
            (Ok(_), _) | (Err(_), What::Forged) => {}
            (Err(_), _) => drop(self.refused.insert(said.id, Rc::clone(said))),
        }
    }

    /// Looks at the clock, as a node does once a second.
    pub(crate) fn tick(&mut self, now: UnixSeconds) {
        let now = now.plus(self.ahead);
        loop {
            self.vigil.look(now, self.chain.policy());
            let tick = self.gate.tick(now, &self.chain);
            for (_, refusal) in tick.dropped {
                if let Refusal::Rival { offered, .. } = refusal {
                    self.rivals.insert(offered);
                }
            }
            self.changed |= tick.changed;
            if let Some(verified) = tick.apply {
                self.apply(now, *verified);
            } else if !tick.changed {
                return;
            }
        }
    }

    /// Brings what was refused once more, as long as that leads on.
    pub(crate) fn bring(&mut self, now: UnixSeconds, shelf: &Shelf) {
        while std::mem::take(&mut self.changed) {
            for said in shelf.statements.values() {
                let What::Statement(statement) = &said.what else { continue };
                let decided = statement.seq <= self.chain.head_seq(statement.lane);
                if !decided && self.gate.waiting(&said.id).is_none() {
                    self.offer(now, &said.envelope);
                }
            }
            for (_, said) in std::mem::take(&mut self.refused) {
                self.object(now, &said);
            }
            self.tick(now);
        }
    }

    /// As after a crash: from what was stored.
    pub(crate) fn restart(&mut self) {
        let text = serde_json::to_string(&self.gate).unwrap();
        self.gate = serde_json::from_str(&text).unwrap();
        // What lost its place lies in an agent's store, too.
        let stored = self.chain.history().chain(self.chain.overruled());
        let stored = Submission::sort(stored.map(|at| at.envelope().clone()));
        let mut chain = Chain::new(self.chain.network());
        self.gate.ripe().for_each(|id| chain.ripen(id));
        drop(chain.follow(&stored));
        let same = places(&chain) == places(&self.chain);
        assert!(same, "{}: another chain after a restart", self.context);
        self.chain = chain;
        self.vigil.restart();
    }

    fn apply(&mut self, now: UnixSeconds, verified: VerifiedStatement) {
        let (statement, id) = (verified.statement().clone(), verified.id());
        let (lane, seq) = (statement.lane, statement.seq);
        let context = format!("{}: {lane}/{seq} {}", self.context, id.short());
        // 1. Nothing but a ruling takes a place again, or brings back what was vetoed; or what the board
        //    signed upon it.
        let ruled = self.chain.settled(lane, seq).is_some_and(|ruled| ruled.winner == Some(id));
        if !ruled && self.chain.policy().is_some() && !self.is_built_upon(now, id) {
            let said = self.vetoes.get(&id).cloned().unwrap_or_default();
            for (board, needed) in self.chain.veto_boards(&statement, id) {
                let by = said.iter().filter(|(group, _)| *group == board.group()).count();
                assert!(by < usize::from(needed), "{context} is applied against {by} vetoes");
            }
        }
        // 2. Not before its lock is over, counted from when anybody first brought it.
        let lock = self.chain.class_for(&statement, id).map_or(0, |class| class.lock());
        let since = self.brought.get(&id).copied().unwrap_or(now);
        assert!(now >= since.plus(lock), "{context} is applied within its lock");
        if verified.is_recovered() {
            let policy = self.chain.policy().expect("a network");
            self.vigil.apply(now, policy, id, &context);
            let waits = self.gate.report(now, &self.chain).into_iter().any(|held| {
                let in_time = matches!(
                    held.standing,
                    Standing::Waiting { .. } | Standing::Paused { .. } | Standing::Due
                );
                !held.recovery && (held.lane, held.seq) == (lane, seq) && in_time
            });
            assert!(!waits, "{context} is applied before the board's own");
            self.chain.ripen(id);
        }
        // 3. What was applied stays, but for what a ruling takes back, and what was built upon that; and
        //    nothing comes back but what was here before.
        let (before, gone) = (places(&self.chain), self.overruled());
        assert!(!before.contains_key(&(lane, seq)), "{context} takes a place that is taken");
        self.chain.apply(verified);
        self.changed = true;
        let now = places(&self.chain);
        for lane in Lane::ALL {
            let changed = |(place, held): &(&(Lane, Seq), &Held)| {
                place.0 == lane && now.get(place) != Some(held)
            };
            let Some((place, was)) = before.iter().find(changed) else { continue };
            let settled = self.chain.settled(place.0, place.1).map(|settled| settled.winner);
            let ruled = match was {
                Held::Statement(was) => settled.is_some_and(|winner| winner != Some(*was)),
                Held::Closed(_) => true,
            };
            assert!(ruled, "{context}: {}/{} was replaced", place.0, place.1);
        }
        for (place, held) in now.iter().filter(|(place, held)| before.get(place) != Some(held)) {
            if let Held::Statement(here) = held {
                let known = *here == id || gone.contains(here);
                assert!(known, "{context}: {}/{} comes from nowhere", place.0, place.1);
            }
        }
    }

    fn overruled(&self) -> BTreeSet<Digest> {
        self.chain.overruled().map(VerifiedStatement::id).collect()
    }

    /// Whether something that builds upon it waits, and has waited for as long as the rules in force
    /// ask for.
    fn is_built_upon(&self, now: UnixSeconds, id: Digest) -> bool {
        let Some(policy) = self.chain.policy() else { return false };
        self.gate.docs().any(|(next, doc)| {
            let since = self.brought.get(next).copied().unwrap_or(now);
            let lock = policy.class_of(doc.statement()).lock();
            doc.statement().prev == Some(id) && now >= since.plus(lock)
        })
    }

    /// Whether a policy of the recovery key waits here.
    pub(crate) fn is_threatened(&self) -> bool {
        self.gate.docs().any(|(_, doc)| doc.is_recovery())
    }

    /// Whether this node applied it, or lets it wait.
    pub(crate) fn has(&self, id: &Digest) -> bool {
        self.chain.known(id).is_some() || self.gate.waiting(id).is_some()
    }
}

/// What a place is decided by.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Held {
    Statement(Digest),
    Closed(Digest),
}

/// Every place of every lane that is decided.
fn places(chain: &Chain) -> BTreeMap<(Lane, Seq), Held> {
    let mut places = BTreeMap::new();
    for lane in Lane::ALL {
        for seq in (1..=chain.head_seq(lane).0).map(Seq) {
            let statement = chain.get(lane, seq).map(|at| Held::Statement(at.id()));
            let closed = chain.settled(lane, seq).map(|settled| Held::Closed(settled.by));
            places.insert((lane, seq), statement.or(closed).expect("a place that is decided"));
        }
    }
    places
}

/// What has effect in a chain, lane by lane.
pub(crate) type State = BTreeMap<(Lane, Seq), Digest>;

/// Every place that is decided: by a statement, or by the policy that closed it.
pub(crate) fn state(chain: &Chain) -> State {
    let mut state = State::new();
    for lane in [Lane::Policy, Lane::Release] {
        for seq in (1..=chain.head_seq(lane).0).map(Seq) {
            let statement = chain.get(lane, seq).map(VerifiedStatement::id);
            let closed = chain.settled(lane, seq).map(|settled| settled.by);
            state.insert((lane, seq), statement.or(closed).expect("a place that is decided"));
        }
    }
    state
}

/// Whether enough governors of one of these boards vetoed a statement, all vetoes together.
pub(crate) fn is_vetoed<'a>(
    boards: impl Iterator<Item = &'a Board>,
    vetoes: impl Iterator<Item = &'a borgios_policy::Objection> + Clone,
    id: Digest,
) -> bool {
    let mut boards = boards;
    boards.any(|board| {
        let on_it = vetoes.clone().filter(|veto| veto.statement == id);
        let by: BTreeSet<&Name> =
            on_it.filter(|veto| veto.group == board.group()).map(|veto| &veto.governor).collect();
        let needed = borgios_policy::class::veto_least(board.threshold().0, board.size());
        by.len() >= usize::from(needed)
    })
}
