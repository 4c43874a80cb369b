//! Governors and nodes who exchange objects over a network that drops, repeats, reorders and forges.
//!
//! Everything follows from one seed. An event is a random governor who acts, some random messages that
//! arrive, two who meet and compare, a clock that goes on, a node that crashes. Governors have laptops,
//! which keep no locks; nodes have gates, each with a clock of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use borgios_policy::fixture::{Council, EXPIRES, NOW, statement};
use borgios_policy::{Board, Class, Freshness, Lane, Name, Policy, Statement};
use borgios_types::{Digest, Envelope, KeyEpoch, Seq, UnixSeconds};
use rand::Rng as _;
use rand::seq::SliceRandom as _;
use rand_chacha::ChaCha20Rng;

use super::Tool;
use super::desk::{Desk, Desks};
use super::node::Node;
use super::outlook::{Key, Outlook, Scene};
use super::rescue::Rescue;
use super::said::{Said, Shelf};

/// Nodes of a world.
const NODES: usize = 3;
/// Most that two clocks differ, in seconds: honest clocks differ by less than ten minutes.
const SKEW_S: u64 = 300;
pub(crate) const HOUR_S: u64 = 3_600;

/// A governor, present or future.
pub(crate) struct Person {
    pub(crate) tool: Tool,
    pub(crate) shelf: Shelf,
    pub(crate) desk: Rc<Desk>,
}

/// What came of a world.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) decided: u64,
    pub(crate) policies: u64,
    pub(crate) named: usize,
    pub(crate) rounds: BTreeMap<u32, u64>,
    pub(crate) closed: usize,
    pub(crate) vetoed: usize,
    pub(crate) paused: usize,
    pub(crate) burnt: usize,
    pub(crate) boards: u64,
    pub(crate) splits: BTreeMap<&'static str, usize>,
    pub(crate) emergencies: usize,
}

/// Everyone and everything.
pub(crate) struct World {
    /// The board of each key epoch, from 1.
    pub(crate) councils: Rc<Vec<Council>>,
    pub(crate) network: Digest,
    pub(crate) rng: ChaCha20Rng,
    pub(crate) people: Vec<Person>,
    pub(crate) nodes: Vec<(Node, Shelf)>,
    pub(crate) liars: BTreeSet<Name>,
    pub(crate) now: UnixSeconds,
    /// Messages under way: to whom, people first, and what.
    wire: Vec<(usize, Rc<Said>)>,
    /// All that was ever said, be it to one alone.
    pub(crate) said: BTreeMap<Digest, Rc<Said>>,
    /// When each statement was first said.
    pub(crate) since: BTreeMap<Digest, UnixSeconds>,
    /// What each nonce of an honest governor was used for.
    pub(crate) nonces: BTreeMap<Vec<u8>, Digest>,
    desks: Desks,
    outlooks: BTreeMap<Key, Rc<Outlook>>,
    reviews: BTreeMap<(Digest, usize), bool>,
    pub(crate) versions: u32,
    pub(crate) beacons: u64,
    /// Nothing is lost any more.
    pub(crate) calm: bool,
    /// When what is proposed expires.
    pub(crate) expires: UnixSeconds,
    /// Who talks to no server: no beacons, no objections.
    pub(crate) mute: BTreeSet<Name>,
    /// Nodes that are off, and until when.
    pub(crate) off: BTreeMap<usize, UnixSeconds>,
    /// Who may speak for a board that is silent.
    pub(crate) rescue: Option<Rescue>,
    /// Places of the lane `policy` at which holders differ, and a later policy united them.
    pub(crate) united: BTreeSet<Seq>,
    pub(crate) counts: Counts,
    pub(crate) context: String,
}

impl World {
    /// A world of `councils`, of which the first is in force; `liars` of its governors lie.
    pub(crate) fn new(
        councils: Vec<Council>,
        liars: usize,
        rng: ChaCha20Rng,
        context: String,
    ) -> Self {
        Self::with_rescue(councils, liars, None, rng, context)
    }

    /// The same, with a recovery board that the policy names.
    pub(crate) fn with_rescue(
        councils: Vec<Council>,
        liars: usize,
        rescue: Option<Rescue>,
        mut rng: ChaCha20Rng,
        context: String,
    ) -> Self {
        let council = &councils[0];
        let own: Vec<Name> = council.keys.keys().cloned().collect();
        let mut liars: BTreeSet<Name> = own.choose_multiple(&mut rng, liars).cloned().collect();
        // On no board more than it survives.
        let lie = |liars: &BTreeSet<Name>, council: &Council| {
            liars.iter().filter(|name| council.keys.contains_key(*name)).count()
        };
        let survives = |liars: &BTreeSet<Name>, council: &Council| {
            let (n, t) = (council.board.size(), council.board.threshold().0);
            lie(liars, council) < usize::from(2 * t - n)
        };
        while !councils.iter().all(|council| survives(&liars, council)) {
            liars.pop_first();
        }
        let honest = councils.iter().map(|one| one.keys.len() - lie(&liars, one)).min();
        let honest = u16::try_from(honest.unwrap_or(1)).unwrap();
        let mut rules = first_policy(council, honest, &mut rng);
        if let Some(rescue) = &rescue {
            rescue.name_in(&mut rules, honest, &mut rng);
        }
        let first = statement(Lane::Policy, 1, None, None, None, rules.to_body());
        let first = council.sign(&first);
        let network = first.id();
        let mut desks = Desks::default();
        let policy = Rc::new(Said::new(&councils, network, first.clone()));
        let desk = desks.first(network, &policy);
        let mut shelf = Shelf::default();
        shelf.take(&policy);
        let names: BTreeSet<Name> =
            councils.iter().flat_map(|council| council.keys.keys().cloned()).collect();
        let people = names.iter().map(|name| Person {
            tool: Tool::new(name),
            shelf: shelf.clone(),
            desk: Rc::clone(&desk),
        });
        let people = people.collect();
        let nodes = (0..NODES)
            .map(|at| {
                let context = format!("{context}, node {at}");
                let node = Node::new(&first, NOW, rng.gen_range(0..=SKEW_S), &context);
                (node, shelf.clone())
            })
            .collect();
        Self {
            councils: Rc::new(councils),
            network,
            rng,
            people,
            nodes,
            liars,
            now: NOW,
            wire: Vec::new(),
            said: BTreeMap::from([(policy.id, policy)]),
            since: BTreeMap::new(),
            nonces: BTreeMap::new(),
            desks,
            outlooks: BTreeMap::new(),
            reviews: BTreeMap::new(),
            versions: 0,
            beacons: 0,
            calm: false,
            // A world with a recovery board lasts for months.
            expires: if rescue.is_some() { EXPIRES.plus(1_000 * 24 * HOUR_S) } else { EXPIRES },
            mute: BTreeSet::new(),
            off: BTreeMap::new(),
            rescue,
            united: BTreeSet::new(),
            counts: Counts::default(),
            context,
        }
    }

    /// The board of a key epoch.
    pub(crate) fn council(&self, epoch: KeyEpoch) -> Rc<Vec<Council>> {
        assert!(usize::try_from(epoch.0).is_ok_and(|at| (1..=self.councils.len()).contains(&at)));
        Rc::clone(&self.councils)
    }

    /// Says something to everybody, over a network that is not to be relied on.
    pub(crate) fn say(&mut self, from: usize, envelope: Envelope) {
        let said = match self.said.get(&envelope.id()) {
            Some(said) => Rc::clone(said),
            None => Rc::new(Said::new(&self.councils, self.network, envelope)),
        };
        if !said.is_forged() {
            self.said.entry(said.id).or_insert_with(|| Rc::clone(&said));
            self.since.entry(said.id).or_insert(self.now);
        }
        self.deliver(from, &said);
        for to in 0..self.people.len() + self.nodes.len() {
            let copies = match self.rng.gen_range(0..10) {
                _ if self.calm => 0,
                0 | 1 => 0,
                2 => 2,
                _ => 1,
            };
            for _ in 0..copies {
                self.wire.push((to, Rc::clone(&said)));
            }
            if !self.calm && self.rng.gen_bool(0.03) {
                let forged = self.forge(&said.envelope);
                let forged = Said::new(&self.councils, self.network, forged);
                self.wire.push((to, Rc::new(forged)));
            }
        }
    }

    /// The same object with a changed payload, or somebody else's signature.
    fn forge(&mut self, envelope: &Envelope) -> Envelope {
        let mut forged = envelope.clone();
        if self.rng.gen_bool(0.5) {
            let at = self.rng.gen_range(0..forged.payload.len());
            let digit = char::from(b'0' + self.rng.gen_range(0..10));
            if forged.payload.is_char_boundary(at) && forged.payload.is_char_boundary(at + 1) {
                forged.payload.replace_range(at..=at, &digit.to_string());
            }
        } else if let Some(sig) = forged.sigs.first_mut() {
            sig.sig.0[0] ^= 1;
        }
        forged
    }

    /// Somebody hears something.
    pub(crate) fn deliver(&mut self, to: usize, said: &Rc<Said>) {
        let Some(node) = to.checked_sub(self.people.len()) else {
            let person = &mut self.people[to];
            let chain = person.shelf.statements.len() + person.shelf.vetoes.len();
            person.shelf.take(said);
            if person.shelf.statements.len() + person.shelf.vetoes.len() != chain {
                person.desk = self.desks.next(self.network, &person.shelf, &person.desk);
            }
            return;
        };
        if self.off.contains_key(&node) {
            return;
        }
        let (node, shelf) = &mut self.nodes[node];
        // What a gate hears again changes nothing; a few times is enough to see that.
        if shelf.take(said) || self.rng.gen_bool(0.1) {
            node.hear(self.now, said, shelf);
        }
    }

    /// Lets some messages arrive, in any order, and one governor act.
    pub(crate) fn step(&mut self) {
        let seconds = self.rng.gen_range(0..2 * SKEW_S);
        self.pass(self.now.plus(seconds));
        if self.rng.gen_bool(0.3) {
            self.compare();
        }
        self.arrive();
        if self.rng.gen_bool(0.05) {
            let at = self.rng.gen_range(0..self.nodes.len());
            self.nodes[at].0.restart();
        }
        let at = self.rng.gen_range(0..self.people.len());
        if self.liars.contains(&self.people[at].tool.me) {
            self.lie(at);
        } else {
            self.act(at);
        }
    }

    /// Some of what is under way arrives.
    pub(crate) fn arrive(&mut self) {
        // What is under way does not pile up for ever.
        let all = self.people.len() + self.nodes.len();
        for _ in 0..self.rng.gen_range(0..(3 * all).max(self.wire.len() / 2)) {
            if self.wire.is_empty() {
                break;
            }
            let at = self.rng.gen_range(0..self.wire.len());
            let (to, said) = self.wire.swap_remove(at);
            self.deliver(to, &said);
        }
    }

    /// What is under way is lost.
    pub(crate) fn drop_messages(&mut self) {
        self.wire.clear();
    }

    /// Time goes on.
    pub(crate) fn pass(&mut self, until: UnixSeconds) {
        self.now = until;
        self.off.retain(|_, off| until < *off);
        let on = self.nodes.iter_mut().enumerate().filter(|(at, _)| !self.off.contains_key(at));
        for (_, (node, shelf)) in on {
            node.tick(until);
            node.bring(until, shelf);
        }
    }

    /// Two who meet, as neighbours in the tree do: each takes what the other has.
    pub(crate) fn compare(&mut self) {
        let all: Vec<usize> = (0..self.people.len() + self.nodes.len()).collect();
        let pair: Vec<usize> = all.choose_multiple(&mut self.rng, 2).copied().collect();
        for (from, to) in [(pair[0], pair[1]), (pair[1], pair[0])] {
            let (has, lacks) = (self.shelf(from), self.shelf(to));
            let new = has.all.values().filter(|said| !lacks.all.contains_key(&said.id));
            for said in new.cloned().collect::<Vec<_>>() {
                self.deliver(to, &said);
            }
        }
    }

    pub(crate) fn shelf(&self, of: usize) -> &Shelf {
        match of.checked_sub(self.people.len()) {
            None => &self.people[of].shelf,
            Some(node) => &self.nodes[node].1,
        }
    }

    /// Somebody knows that a policy of the recovery key is in force.
    pub(crate) fn accept(&mut self, at: usize, said: &Rc<Said>) {
        let person = &mut self.people[at];
        person.shelf.accepted.insert(said.id, Rc::clone(said));
        person.desk = self.desks.next(self.network, &person.shelf, &person.desk);
    }

    /// How a place looks to somebody, under the board of a key epoch.
    pub(crate) fn outlook(
        &mut self,
        of: usize,
        epoch: KeyEpoch,
        lane: Lane,
        seq: Seq,
    ) -> Rc<Outlook> {
        let (council, desk) = (&self.councils[epoch.0 as usize - 1], &self.people[of].desk);
        let shelf = &self.people[of].shelf;
        let scene = Scene { council, shelf, dead: &desk.dead, lane, seq };
        let group = council.board.group();
        let fits = |draft: &Statement| {
            let under = draft.policy.and_then(|policy| desk.chain.policy_at(policy));
            // The board that a policy makes signs it too.
            lane == Lane::Policy || under.is_some_and(|policy| policy.board.group() == group)
        };
        let texts = scene.texts(&fits);
        let key = scene.key(&texts);
        let outlook = self.outlooks.entry(key).or_insert_with(|| Rc::new(scene.look(texts)));
        Rc::clone(outlook)
    }

    /// Whether a node would obey a document, as a laptop sees it.
    pub(crate) fn is_reviewed(&mut self, of: usize, id: Digest, draft: &Statement) -> bool {
        let (desk, now) = (&self.people[of].desk, self.now);
        let review = || desk.chain.review(now, &draft.to_envelope()).is_ok();
        *self.reviews.entry((id, desk.number)).or_insert_with(review)
    }

    /// The honest governors of a board.
    pub(crate) fn honest(&self) -> Vec<usize> {
        let all = 0..self.people.len();
        all.filter(|at| !self.liars.contains(&self.people[*at].tool.me)).collect()
    }
}

/// Rules of all sorts: locks or none, beacons or none.
fn first_policy(council: &Council, honest: u16, rng: &mut ChaCha20Rng) -> Policy {
    let board: &Board = &council.board;
    let mut policy: Policy = council.policy(board.threshold().0);
    let lock = |hours: u64| (hours > 0).then_some(hours * HOUR_S);
    policy.classes.release.lock_s = lock([0, 2, 4][rng.gen_range(0..3)]);
    policy.classes.policy.lock_s = lock([0, 0, 2][rng.gen_range(0..3)]);
    policy.pause_s = Some(HOUR_S);
    if rng.gen_bool(0.4) {
        let beacons = rng.gen_range(1..=honest.min(2));
        policy.freshness = Some(Freshness { beacons, max_age_s: 4 * HOUR_S });
    }
    // Drawn apart, so that the worlds without emergencies stay as they were.
    let mut rng = rng.clone();
    if rng.gen_bool(0.5) {
        let emergency = Class::of(board.threshold().0);
        let lock_s = lock(rng.gen_range(0..2));
        policy.classes.emergency = Some(Class { lock_s, ..emergency });
    }
    policy
}
