//! A recovery board beside a board that falls silent, or does not.
//!
//! ```text
//! the board lives ─▶ silence ─▶ the recovery key's policy is brought ─▶ too early │ held back │ ended │ applied
//! ```
//!
//! The keys of the recovery board and of the next board are dealt, so the policy needs no votes. Whoever is
//! left of a board that is silent works with a laptop that talks to no server, and may complete what
//! others voted on. Nodes hear what they hear; what must hold at each of them, `vigil.rs` counts.
//!
//! Splits that cannot be helped are counted: a board that lives again when some nodes have applied the
//! policy and others have not, or a policy of its own that crosses it on its way.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use borgios_policy::fixture::{Council, statement};
use borgios_policy::{
    Board, Chain, Freshness, Governor, KeyShare, Lane, Name, Policy, Recovery, Statement, change,
    merge_signatures,
};
use borgios_types::{Digest, KeyEpoch, Seq, Threshold, UnixSeconds};
use rand::Rng as _;
use rand::seq::SliceRandom as _;
use rand_chacha::ChaCha20Rng;

use super::node::Node;
use super::said::{Said, What};
use super::vigil::Vigil;
use super::world::{HOUR_S, World};

const DAY_S: u64 = 24 * HOUR_S;
const SILENCE_S: u64 = 30 * DAY_S;
const LOCK_S: u64 = 14 * DAY_S;
/// Longest that a world waits for a recovery.
const LONGEST_S: u64 = 240 * DAY_S;
/// How long a board that lives is watched: longer than silence and lock together.
const WATCHED_S: u64 = 50 * DAY_S;
/// Turns of a board that comes back too late.
const LATE_STEPS: usize = 100;

/// What becomes of the board.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It lives all the while: the recovery board errs, or its key is in wrong hands.
    Lives,
    /// Too few are left, and they say nothing.
    Gone,
    /// The same, but one of them gives a sign of life once or twice.
    Word,
    /// It comes back for good while its successor's policy is held back.
    Returns,
    /// It comes back for good once its successor is in force.
    Late,
}

impl Fate {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Lives => "lives",
            Self::Gone => "gone",
            Self::Word => "a word",
            Self::Returns => "returns",
            Self::Late => "late",
        }
    }
}

pub(crate) const FATES: [Fate; 5] =
    [Fate::Lives, Fate::Gone, Fate::Word, Fate::Returns, Fate::Late];

/// Who may speak for a board that is silent.
pub(crate) struct Rescue {
    council: Council,
    /// What its key signed, by the policy that it follows.
    signed: BTreeMap<Digest, Rc<Said>>,
}

/// What came of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Rescued {
    /// Nodes that took the next board.
    pub(crate) nodes: usize,
    /// How often its policy was refused, for the board had not been silent for long enough.
    pub(crate) early: usize,
    /// How often a sign of life ended a lock.
    pub(crate) ended: usize,
    /// Statements that the old board signed when another was in force everywhere.
    pub(crate) late: usize,
    /// Places that the policy closed.
    pub(crate) closed: usize,
    /// Why the nodes are not on one policy.
    pub(crate) split: Option<&'static str>,
}

impl Rescue {
    pub(crate) fn new(seed: u64) -> Self {
        Self { council: Council::new(3, 2, 1, seed), signed: BTreeMap::new() }
    }

    /// The rules under which its key counts.
    pub(crate) fn name_in(&self, rules: &mut Policy, honest: u16, rng: &mut ChaCha20Rng) {
        let beacons = rng.gen_range(1..=honest);
        rules.freshness = Some(Freshness { beacons, max_age_s: DAY_S });
        let group = self.council.board.group();
        rules.recovery = Some(Recovery { group, silence_s: SILENCE_S, lock_s: LOCK_S });
    }
}

/// A board of which nobody governed before.
pub(crate) fn newcomers(n: u16, t: u16, seed: u64) -> Council {
    let dealt = Council::new(n, t, 2, seed);
    let name = |at: usize| -> Name { format!("new-{at}").parse().unwrap() };
    let renamed = |(at, one): (usize, &Governor)| Governor { name: name(at), ..one.clone() };
    let governors = dealt.board.governors().iter().enumerate().map(renamed).collect();
    let board = Board::new(KeyEpoch(2), Threshold(t), dealt.board.group(), governors).unwrap();
    let shares = dealt.shares.values().enumerate().map(|(at, share)| {
        let share = KeyShare::from_scalar(&board, &name(at), &share.to_scalar());
        (name(at), share.unwrap())
    });
    let shares = shares.collect();
    let keys = dealt.keys.into_values().enumerate().map(|(at, key)| (name(at), key)).collect();
    let identities = dealt.identities.into_values().enumerate();
    let identities = identities.map(|(at, identity)| (name(at), identity)).collect();
    Council { board, keys, shares, identities }
}

impl World {
    /// Months pass, in steps of an hour or two.
    pub(crate) fn outlive(&mut self, fate: Fate) -> Rescued {
        let old: BTreeSet<Name> = self.councils[0].keys.keys().cloned().collect();
        let honest: Vec<usize> = self.honest();
        let honest: Vec<usize> =
            honest.into_iter().filter(|at| old.contains(&self.people[*at].tool.me)).collect();
        let mut left = honest.clone();
        if fate != Fate::Lives {
            self.mute.clone_from(&old);
            let t = usize::from(self.councils[0].board.threshold().0);
            let count = self.rng.gen_range(0..t.min(honest.len() + 1));
            left = honest.choose_multiple(&mut self.rng, count).copied().collect();
        }
        let (began, begins) = (self.now, self.now.plus(self.rng.gen_range(0..40) * DAY_S));
        let mut words = if fate == Fate::Word { self.rng.gen_range(1..3) } else { 0 };
        let mut returned: Option<UnixSeconds> = None;
        loop {
            let end = match (fate, returned) {
                (Fate::Lives, _) => began.plus(WATCHED_S),
                (_, Some(returned)) => returned.plus(WATCHED_S),
                (_, None) if self.recovered() == self.nodes.len() => self.now,
                (_, None) => began.plus(LONGEST_S),
            };
            if self.now >= end {
                break;
            }
            self.an_hour_passes(&left, fate == Fate::Lives || returned.is_some(), &honest);
            if self.now >= begins && self.rng.gen_bool(0.1) {
                self.bring();
            }
            let threatened = self.nodes.iter().any(|(node, _)| node.is_threatened());
            if words > 0 && threatened && self.rng.gen_bool(0.01) {
                words -= 1;
                self.give_sign_of_life(&honest);
            }
            if fate == Fate::Returns && returned.is_none() && threatened && self.rng.gen_bool(0.004)
            {
                returned = Some(self.now);
                self.mute.clear();
                left.clone_from(&honest);
            }
        }
        let mut late = 0;
        if fate == Fate::Late && self.recovered() == self.nodes.len() {
            late = self.come_back_late();
        }
        Rescued { late, ..self.rescued(fate, returned.is_some()) }
    }

    /// Time goes on; messages arrive, nodes compare, go down and come back; somebody does something.
    fn an_hour_passes(&mut self, left: &[usize], alive: bool, honest: &[usize]) {
        // Two looks: a gate that was not asked for more than an hour takes its node for one that was off.
        let seconds = self.rng.gen_range(HOUR_S..2 * HOUR_S);
        self.pass(self.now.plus(seconds / 2));
        self.pass(self.now.plus(seconds - seconds / 2));
        self.arrive();
        if self.rng.gen_bool(0.1) {
            self.compare();
        }
        let node = self.rng.gen_range(0..self.nodes.len());
        if self.rng.gen_bool(0.02) {
            self.nodes[node].0.restart();
        }
        if self.rng.gen_bool(0.005) {
            let hours = self.rng.gen_range(1..100);
            self.off.insert(node, self.now.plus(hours * HOUR_S));
        }
        if let Some(at) = left.choose(&mut self.rng).copied().filter(|_| self.rng.gen_bool(0.05)) {
            self.act(at);
        }
        for at in honest.iter().filter(|_| alive) {
            if self.rng.gen_bool(0.15) {
                self.send_beacon(*at);
            }
        }
        // Somebody of the next board asks a server what is in force there, and goes on from that.
        let at = self.newcomer() + self.rng.gen_range(0..self.councils[1].keys.len());
        if self.rng.gen_bool(0.1) && self.recovered() > 0 {
            self.ask(at, node);
            self.send_beacon(at);
            self.act(at);
        }
    }

    /// The first of the people of the next board.
    fn newcomer(&self) -> usize {
        let first = self.councils[1].keys.keys().next();
        self.people.iter().position(|person| Some(&person.tool.me) == first).unwrap()
    }

    /// Somebody asks a node what is in force there, and accepts it.
    fn ask(&mut self, at: usize, node: usize) {
        let signed: Vec<Rc<Said>> =
            self.rescue.iter().flat_map(|rescue| rescue.signed.values().cloned()).collect();
        for said in signed {
            let known = self.nodes[node].0.chain.known(&said.id).is_some();
            if known && !self.people[at].shelf.accepted.contains_key(&said.id) {
                self.accept(at, &said);
            }
        }
    }

    fn recovered(&self) -> usize {
        let next = |node: &&Node| node.vigil.recovered.is_some();
        self.nodes.iter().map(|(node, _)| node).filter(next).count()
    }

    /// The recovery board brings its policy to a node.
    fn bring(&mut self) {
        let node = self.rng.gen_range(0..self.nodes.len());
        let Some(said) = self.signed_by_rescue() else { return };
        if self.off.contains_key(&node) {
            return;
        }
        let (node, shelf) = &mut self.nodes[node];
        shelf.take(&said);
        node.hear(self.now, &said, shelf);
    }

    /// What the recovery key signed for the next place, or signs now: once for each predecessor.
    fn signed_by_rescue(&mut self) -> Option<Rc<Said>> {
        let at = self.newcomer();
        let desk = Rc::clone(&self.people[at].desk);
        let (chain, before) = (&desk.chain, desk.chain.policy()?);
        let prev = chain.tip(Lane::Policy)?.id;
        let signed = &self.rescue.as_ref()?.signed;
        if before.board.epoch() != KeyEpoch(1) {
            return signed.values().next_back().cloned();
        }
        if let Some(known) = signed.get(&prev) {
            return Some(Rc::clone(known));
        }
        let tip = |node: &Node| node.chain.tip(Lane::Policy).map(|tip| tip.id);
        if self.nodes.iter().any(|(node, _)| tip(node) != Some(prev)) {
            return None;
        }
        // As the tool does: what is voted on is closed.
        let release = chain.head_seq(Lane::Release).next();
        let outlook = self.outlook(at, KeyEpoch(1), Lane::Release, release);
        let open = outlook.documents.iter().any(|document| !document.dead);
        let rulings = change::closed(chain, open.then_some((Lane::Release, release)));
        let all = Rc::clone(&self.councils);
        let policy = change::next_policy(before, all[1].board.clone(), change::carried(chain));
        let body = Policy { rulings, ..policy }.to_body();
        let head = chain.head_seq(Lane::Policy);
        let network = Some(self.network);
        let draft = statement(Lane::Policy, head.next().0, network, Some(prev), Some(head.0), body);
        let draft = Statement { expires: self.expires, ..draft };
        let rescue = self.rescue.as_mut()?;
        let signed = merge_signatures(&rescue.council.sign(&draft), &all[1].sign(&draft)).unwrap();
        let said = Rc::new(Said::recovery(signed));
        rescue.signed.insert(prev, Rc::clone(&said));
        self.said.insert(said.id, Rc::clone(&said));
        Some(said)
    }

    /// One of the old board is heard of: by a beacon, or by a veto against what is held back.
    fn give_sign_of_life(&mut self, honest: &[usize]) {
        let board = &self.councils[0].board;
        let one_is_enough = board.threshold().0 == board.size();
        let at = honest[0];
        let me = self.people[at].tool.me.clone();
        self.mute.remove(&me);
        if !one_is_enough && self.rng.gen_bool(0.5) {
            let docs = self.nodes.iter().flat_map(|(node, _)| node.gate.docs());
            let held = docs.filter(|(_, doc)| doc.is_recovery());
            let held: Vec<(Digest, Statement)> =
                held.map(|(id, doc)| (*id, doc.statement().clone())).collect();
            let all = Rc::clone(&self.councils);
            for (id, statement) in held {
                self.object(at, &all[0], &statement, id, false);
            }
        } else {
            self.send_beacon(at);
        }
        self.mute.insert(me);
    }

    /// All of the old board, liars too, go on where they were, without a word of what happened. Returns
    /// how many statements they sign so, which nobody obeys who is on the next board.
    fn come_back_late(&mut self) -> usize {
        let (since, seq) = (self.now, self.recovery_seq());
        self.mute.clear();
        for _ in 0..LATE_STEPS {
            self.step();
        }
        let late = |said: &&Rc<Said>| match &said.what {
            What::Statement(one) => {
                one.policy.is_some_and(|named| named < seq) && self.since[&said.id] >= since
            }
            _ => false,
        };
        let late: Vec<Digest> = self.said.values().filter(late).map(|said| said.id).collect();
        for (node, _) in &self.nodes {
            let obeyed = late.iter().any(|id| node.has(id));
            assert!(!obeyed, "{}: a board that was replaced is obeyed", self.context);
        }
        late.len()
    }

    /// The end of it.
    fn rescued(&mut self, fate: Fate, returned: bool) -> Rescued {
        let (all, nodes) = (self.nodes.len(), self.recovered());
        let sum = |of: fn(&Vigil) -> usize| -> usize {
            self.nodes.iter().map(|(node, _)| of(&node.vigil)).sum()
        };
        let mut rescued = Rescued {
            nodes,
            early: sum(|vigil| vigil.early),
            ended: sum(|vigil| vigil.ended),
            ..Rescued::default()
        };
        let context = self.context.clone();
        assert!(fate != Fate::Lives || nodes == 0, "{context}: a board that lives is replaced");
        self.off.clear();
        self.mute.clear();
        if nodes == 0 {
            let none = self.rescue.as_ref().is_none_or(|rescue| rescue.signed.is_empty());
            assert!(fate == Fate::Lives || returned || none, "{context}: nobody recovers");
            // Nodes that are not on one policy before that: see `ending.rs`.
            rescued.split = (none && fate != Fate::Lives).then_some("policy");
        } else if nodes < all {
            rescued.split = Some(if returned { "returned" } else { self.crossing() });
        }
        if nodes > 0 {
            let seq = self.recovery_seq();
            let next = self.nodes.iter().filter(|(node, _)| node.vigil.recovered.is_some());
            let made: BTreeSet<_> =
                next.map(|(node, _)| node.chain.get(Lane::Policy, seq).map(|at| at.id())).collect();
            assert_eq!(made.len(), 1, "{context}: two successors");
        }
        if rescued.split.is_some() {
            return rescued;
        }
        self.hear_all();
        for at in 0..self.people.len() {
            self.ask(at, 0);
        }
        if nodes == all {
            let policy = self.nodes[0].0.chain.policy_at(self.recovery_seq());
            rescued.closed = policy.map_or(0, |policy| policy.rulings.len());
        }
        rescued
    }

    /// The place of the policy that made the next board at the first node that has one.
    fn recovery_seq(&self) -> Seq {
        let chains = self.nodes.iter().map(|(node, _)| &node.chain);
        let mut policies = chains.flat_map(|chain| chain.after(Lane::Policy, Seq(0)));
        let recovered = policies.find(|policy| policy.is_recovered());
        recovered.expect("a node that recovered").statement().seq
    }

    /// Why some nodes are on the next board and others never will be: the old one had signed a policy for
    /// the same place, and it came to some nodes before that of the recovery key was due, and to others
    /// after it.
    fn crossing(&self) -> &'static str {
        let seq = self.recovery_seq();
        let own = self.said.values().any(|said| {
            matches!(&said.what, What::Statement(one) if (one.lane, one.seq) == (Lane::Policy, seq))
        });
        assert!(own, "{}: some recover and others do not", self.context);
        "crossed"
    }

    /// Whether everybody's laptop is on the policies of the first node.
    pub(crate) fn all_follow(&self) -> bool {
        let tip = |chain: &Chain| chain.tip(Lane::Policy).map(|tip| tip.id);
        let first = tip(&self.nodes[0].0.chain);
        self.people.iter().all(|person| tip(&person.desk.chain) == first)
    }
}
