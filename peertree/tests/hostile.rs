//! Peers that say anything at any time: whatever comes in, a node keeps its rules and its bounds.
#![allow(clippy::print_stdout, reason = "the figures are for whoever measures")]

use std::collections::BTreeMap;
use std::time::Duration;

use borgios_peertree::{
    Body, Config, Contact, Down, Head, Input, Join, Message, Node, Output, Spot, Summary, Timer,
    Up, Verdict, bounds,
};
use borgios_types::{Digest, NodeId, SecretKey, Time};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

fn body() -> Body {
    Body::from_text("{}").expect("an empty object is JSON")
}

/// Dice that throw messages.
struct Liar {
    rng: ChaCha8Rng,
    keys: Vec<NodeId>,
}

impl Liar {
    fn new(seed: u64) -> Self {
        let keys = (0..40).map(|n| SecretKey::from_seed([n; 32]).public()).collect();
        Self { rng: ChaCha8Rng::seed_from_u64(seed), keys }
    }

    /// Any key; number 0 is the node under attack.
    fn key(&mut self) -> NodeId {
        self.keys[self.rng.gen_range(0..self.keys.len())]
    }

    fn number(&mut self) -> u32 {
        match self.rng.gen_range(0..4) {
            0 => 0,
            1 => u32::MAX,
            _ => self.rng.gen_range(0..10),
        }
    }

    fn address(&mut self) -> String {
        match self.rng.gen_range(0..8) {
            0 => ["", "a b", "a\n"][self.rng.gen_range(0..3)].to_owned(),
            1 => "x".repeat(10_000),
            _ => format!("h{}:1", self.rng.gen_range(0..9)),
        }
    }

    fn contact(&mut self) -> Contact {
        let address = self.address();
        Contact::new(self.key(), address)
    }

    fn contacts(&mut self) -> Vec<Contact> {
        let most = if self.rng.gen_bool(0.02) { 200 } else { 5 };
        let count = self.rng.gen_range(0..most);
        // Mostly usable ones, or nothing would get past the first check.
        let mut list: Vec<Contact> = (0..count).map(|_| self.contact()).collect();
        if self.rng.gen_bool(0.9) {
            list.retain(Contact::plausible);
        }
        list
    }

    fn spot(&mut self) -> Option<Spot> {
        let spot = Spot { depth: self.number(), at: Contact::new(self.key(), "h:1") };
        self.rng.gen_bool(0.7).then_some(spot)
    }

    fn id(&mut self) -> Digest {
        Digest::of(&self.rng.gen_range(0_u16..1_000).to_le_bytes())
    }

    fn ids(&mut self) -> Vec<Digest> {
        let most = if self.rng.gen_bool(0.02) { 2_000 } else { 8 };
        let count = self.rng.gen_range(0..most);
        let mut ids: Vec<Digest> = (0..count).map(|_| self.id()).collect();
        if self.rng.gen_bool(0.7) {
            ids.sort();
        }
        ids
    }

    fn lane(&mut self) -> String {
        ["policy", "release", "access", "", "nonsense"][self.rng.gen_range(0..5)].to_owned()
    }

    fn down(&mut self, from: NodeId) -> Down {
        let mut path = self.contacts();
        if self.rng.gen_bool(0.8) {
            path.push(Contact::new(from, "h:1"));
        }
        let (siblings, uncles, free) = (self.contacts(), self.contacts(), self.spot());
        Down {
            path: path.into(),
            siblings: siblings.into(),
            uncles: uncles.into(),
            free,
            tree_size: self.number(),
        }
    }

    /// Keys that end in the sender's, mostly; the node under attack may be among them.
    fn path(&mut self, from: NodeId) -> Vec<NodeId> {
        let mut path: Vec<NodeId> = (0..self.rng.gen_range(0..4)).map(|_| self.key()).collect();
        if self.rng.gen_bool(0.9) {
            path.push(from);
        }
        path
    }

    fn message(&mut self, from: NodeId) -> Message {
        match self.rng.gen_range(0..32) {
            0 | 1 => {
                let unreachable = (0..self.rng.gen_range(0..10)).map(|_| self.key()).collect();
                Message::Join(Join { hops: self.number(), size: self.number(), unreachable })
            }
            2 => Message::Redirect { to: self.contacts() },
            3 => Message::Accept(self.down(from)),
            4 => Message::Heartbeat(self.down(from)),
            5 => Message::Report(Up { size: self.number(), free: self.spot() }),
            6 => Message::Leave,
            7 => Message::Compare {
                root: self.key(),
                address: self.rng.gen_bool(0.7).then(|| self.address().into()),
                asks: self.rng.r#gen(),
            },
            8 => Message::Rival { root: self.contact(), via: self.contact() },
            9 => {
                let heads = (0..self.rng.gen_range(0..4)).map(|_| {
                    (self.lane(), Head { seq: u64::from(self.number()) << 32, id: self.id() })
                });
                let heads: BTreeMap<String, Head> = heads.collect();
                Message::Summary(Summary { heads, count: u64::MAX, xor: self.id() })
            }
            10 => Message::Page { after: self.rng.r#gen::<bool>().then(|| self.id()) },
            11 => Message::Ids { ids: self.ids(), last: self.rng.r#gen() },
            12 => Message::Want { ids: self.ids() },
            13 => Message::Follow { lane: self.lane(), after: u64::from(self.number()) },
            14 => Message::Alive,
            15 => Message::Same(u64::from(self.number())),
            16 | 17 => Message::Cross { path: self.path(from) },
            18 => {
                let path = self.path(from);
                let mut ids = self.ids();
                ids.truncate(70);
                Message::Missing { ids, path }
            }
            19 => Message::Lacking { ids: self.ids() },
            20 => Message::Found { ids: self.ids() },
            _ => Message::Object { id: self.id(), kind: self.lane(), body: body() },
        }
    }

    fn verdict(&mut self) -> Verdict {
        [Verdict::Admitted, Verdict::Known, Verdict::Deferred, Verdict::Later, Verdict::Refused]
            [self.rng.gen_range(0..5)]
    }

    /// Anything, from anyone; half of the time from a neighbour, who is listened to.
    fn input(&mut self, neighbours: &[NodeId]) -> Input {
        let near = !neighbours.is_empty() && self.rng.r#gen();
        let peer =
            if near { neighbours[self.rng.gen_range(0..neighbours.len())] } else { self.key() };
        match self.rng.gen_range(0..44) {
            0..=5 => Input::LinkUp {
                peer,
                dialled: self.rng.r#gen(),
                address: self.rng.gen_bool(0.8).then(|| "h:1".into()),
            },
            6 | 7 => Input::LinkDown(peer),
            8 => Input::DialFailed(peer),
            9..=12 => Input::TimerFired(
                [Timer::Heartbeat, Timer::Attempt, Timer::Retry, Timer::Probe, Timer::AntiEntropy]
                    [self.rng.gen_range(0..5)],
            ),
            13 => Input::Publish { id: self.id(), kind: self.lane(), body: body() },
            14 => Input::Judged { id: self.id(), from: peer, verdict: self.verdict() },
            15 => Input::Head { lane: self.lane(), head: Head { seq: 3, id: self.id() } },
            16 if self.rng.r#gen() => Input::Waiting(self.ids().into_iter().collect()),
            16 if self.rng.gen_bool(0.5) => Input::Forget(self.ids()),
            16 => Input::Reopen(self.ids().into_iter().collect()),
            17 => Input::Contacts(self.contacts()),
            19 => Input::Expel(peer),
            20 => Input::Heard(peer),
            21 if self.rng.r#gen() => {
                Input::Choosers(self.contacts().iter().map(|one| one.id).collect())
            }
            21 => Input::Cross(self.contacts()),
            18 if self.rng.gen_bool(0.2) => Input::SetFanout(self.rng.r#gen()),
            _ => Input::Received(peer, self.message(peer)),
        }
    }
}

/// What the shell may rely on, whatever the peers say.
fn outputs_are_sane(me: NodeId, outputs: &[Output]) {
    for output in outputs {
        match output {
            Output::Send(to, message) => {
                assert_ne!(*to, me, "a message to itself");
                assert!(message.bounded(), "an unbounded {}", message.name());
            }
            Output::Dial(contact) => {
                assert_ne!(contact.id, me, "dials itself");
                assert!(contact.plausible(), "dials a text of {} bytes", contact.address.len());
            }
            Output::SetTimer(_, after) => assert!(*after <= Duration::from_secs(600)),
            Output::Provide { ids, .. } => assert!(ids.len() <= bounds::WANT_IDS_MAX),
            Output::Remember(contacts) => assert!(contacts.len() <= bounds::REMEMBERED_MAX),
            Output::Withheld(evidence) => assert!(evidence.kind.len() <= bounds::KIND_MAX),
            Output::Close(_)
            | Output::CancelTimer(_)
            | Output::Offer { .. }
            | Output::ProvideLane { .. }
            | Output::Changed(_) => {}
        }
    }
}

#[test]
fn no_message_in_any_state_panics_or_breaks_a_rule() {
    let (mut offered, mut attached, mut roots) = (0, 0, 0);
    for seed in 0..60 {
        let mut liar = Liar::new(seed);
        let me = liar.keys[0];
        let address = liar.rng.gen_bool(0.8).then(|| "me:1".into());
        let fanout = liar.rng.gen_range(2..6);
        let mut node = Node::new(me, Config { fanout, address, ..Config::default() }, seed);
        let mut now = Time(0);
        let seeds = if liar.rng.gen_bool(0.7) { liar.contacts() } else { Vec::new() };
        let remembered = liar.contacts();
        let (live, heads) = (liar.ids(), BTreeMap::new());
        let mut queue = vec![Input::Start { seeds, remembered, live, heads }];
        for _ in 0..3_000 {
            now = now + Duration::from_millis(liar.rng.gen_range(0..800));
            let input = queue.pop().unwrap_or_else(|| liar.input(&node.neighbours()));
            let words = format!("{input:?}");
            let outputs = node.handle(now, input);
            if let Err(rule) = node.check() {
                panic!("seed {seed}: {rule} after {words:.300}");
            }
            outputs_are_sane(me, &outputs);
            for output in outputs {
                match output {
                    Output::Offer { id, from, .. } => {
                        offered += 1;
                        queue.push(Input::Judged { id, from, verdict: liar.verdict() });
                    }
                    Output::Dial(contact) if liar.rng.gen_bool(0.7) => {
                        let address = Some(contact.address);
                        queue.push(Input::LinkUp { peer: contact.id, dialled: true, address });
                    }
                    Output::Send(peer, Message::Join(_)) if liar.rng.gen_bool(0.7) => {
                        // Sometimes they keep to the rules for a moment.
                        let path = vec![Contact::new(peer, "h:1")];
                        let down = Down { path: path.into(), ..liar.down(peer) };
                        queue.push(Input::Received(peer, Message::Accept(down)));
                    }
                    _ => {}
                }
            }
            attached += u32::from(node.parent().is_some());
            roots += u32::from(node.state() == borgios_peertree::State::Root);
        }
        assert!(matches!(node.handle(now, Input::Stop).last(), Some(Output::Changed(_))));
        assert_eq!(node.neighbours(), []);
    }
    // The dice did reach the states that matter.
    assert!(offered > 500 && attached > 500 && roots > 500, "{offered} {attached} {roots}");
}

/// A node with a parent, two honest children, a cross link, and a third child that floods.
struct Flooded {
    node: Node,
    flooder: NodeId,
    now: Time,
}

fn key(n: u8) -> NodeId {
    SecretKey::from_seed([n; 32]).public()
}

fn contact(n: u8) -> Contact {
    Contact::new(key(n), format!("n{n}:1"))
}

impl Flooded {
    fn new() -> Self {
        let config = Config { fanout: 3, address: Some("me:1".into()), ..Config::default() };
        let mut all =
            Self { node: Node::new(key(0), config, 1), flooder: key(5), now: Time(10_000) };
        let (live, heads) = ((0..2_000).map(id).collect(), BTreeMap::new());
        let seeds = vec![contact(1)];
        all.step(Input::Start { seeds, remembered: Vec::new(), live, heads });
        all.step(Input::TimerFired(Timer::Retry));
        all.up(1);
        let down = Down {
            path: vec![contact(2), contact(1)].into(),
            siblings: Vec::new().into(),
            uncles: Vec::new().into(),
            free: None,
            tree_size: 9,
        };
        all.step(Input::Received(key(1), Message::Accept(down)));
        for n in 3..=5 {
            all.up(n);
            let join = Join { hops: 1, size: 1, unreachable: Vec::new() };
            all.step(Input::Received(key(n), Message::Join(join)));
        }
        all.up(6);
        let path = vec![key(2), key(6)];
        all.step(Input::Received(key(6), Message::Cross { path }));
        all.now = all.now + Duration::from_secs(20);
        assert_eq!(all.node.children(), [key(3), key(4), key(5)]);
        assert_eq!(all.node.cross(), [key(6)]);
        all
    }

    fn up(&mut self, n: u8) {
        let address = Some(contact(n).address);
        self.step(Input::LinkUp { peer: key(n), dialled: n == 1, address });
    }

    fn step(&mut self, input: Input) -> Vec<Output> {
        let out = self.node.handle(self.now, input);
        self.node.check().expect("its own rules hold");
        out
    }
}

fn id(n: u32) -> Digest {
    Digest::of(&n.to_le_bytes())
}

/// Whatever one child says fifty thousand times in a second: the others hear next to nothing of it,
/// its own questions are answered so often and no more, and it is cut off.
#[test]
fn t40_a_flood_of_any_message_ends_at_the_first_hop() {
    type Make = fn(u32) -> Message;
    let kinds: [(&str, Make); 18] = [
        ("join", |n| Message::Join(Join { hops: n % 3, size: n, unreachable: Vec::new() })),
        ("redirect", |_| Message::Redirect { to: vec![contact(9)] }),
        ("report", |n| {
            let free = Some(Spot { depth: n % 2, at: contact(5) });
            Message::Report(Up { size: n, free })
        }),
        ("alive", |_| Message::Alive),
        ("same", |n| Message::Same(n.into())),
        ("summary", |n| {
            let heads = BTreeMap::from([("release".to_owned(), Head { seq: n.into(), id: id(n) })]);
            Message::Summary(Summary { heads, count: n.into(), xor: id(n) })
        }),
        ("compare", |_| Message::Compare { root: key(8), address: Some("h:1".into()), asks: true }),
        ("rival", |n| Message::Rival { root: contact((n % 200) as u8 + 10), via: contact(5) }),
        ("cross", |_| Message::Cross { path: vec![key(2), key(5)] }),
        ("missing", |n| Message::Missing { ids: vec![id(n + 10_000)], path: vec![key(2), key(7)] }),
        ("lacking", |n| Message::Lacking { ids: vec![id(n)] }),
        ("found", |n| Message::Found { ids: vec![id(n)] }),
        ("page", |_| Message::Page { after: None }),
        ("ids", |n| Message::Ids { ids: vec![id(n)], last: false }),
        ("want", |n| Message::Want { ids: (0..512).map(|at| id((n + at) % 2_000)).collect() }),
        ("follow", |n| Message::Follow { lane: "release".into(), after: n.into() }),
        ("known object", |_| Message::Object { id: id(1), kind: "note".into(), body: body() }),
        ("new object", |n| Message::Object {
            id: id(n + 9_000),
            kind: "note".into(),
            body: body(),
        }),
    ];
    for (name, make) in kinds {
        let mut all = Flooded::new();
        let (mut own, mut others, mut offered) = (0, 0, 0);
        for n in 0..50_000 {
            if n % 50 == 0 {
                all.now = all.now + Duration::from_millis(1);
            }
            let mut queue = vec![Input::Received(all.flooder, make(n))];
            while let Some(input) = queue.pop() {
                for output in all.step(input) {
                    match output {
                        Output::Send(to, _) if to == all.flooder => own += 1,
                        Output::Send(..) => others += 1,
                        Output::Provide { .. } | Output::ProvideLane { .. } => own += 1,
                        Output::Offer { id, from, .. } => {
                            offered += 1;
                            queue.push(Input::Judged { id, from, verdict: Verdict::Refused });
                        }
                        _ => {}
                    }
                }
            }
        }
        // A join is answered with two messages.
        let served = bounds::SERVED_MAX + 2 * bounds::CHATTER_MAX;
        println!("{name}: {own} to itself, {others} to others, {offered} offered");
        assert!(own <= served, "{name}: {own} answers");
        assert!(others <= 100, "{name}: {others} messages to others");
        assert!(offered <= bounds::PENALTY_MAX, "{name}: {offered} objects to verify");
        assert!(!all.node.children().contains(&all.flooder), "{name}: still a child");
        assert_eq!(all.node.children(), [key(3), key(4)], "{name}");
        assert_eq!(all.node.parent(), Some(key(1)), "{name}");
    }
}

/// Members without end that ask for a place and never leave: links and answers are bounded, and the
/// children that were there stay.
#[test]
fn a_crowd_of_sybils_finds_bounded_room() {
    let mut all = Flooded::new();
    let mut closed = 0;
    for n in 0..5_000_u32 {
        let mut seed = [7; 32];
        seed[..4].copy_from_slice(&n.to_le_bytes());
        let peer = SecretKey::from_seed(seed).public();
        let address = Some("sybil:1".into());
        let out = all.step(Input::LinkUp { peer, dialled: false, address });
        closed += u32::from(out.contains(&Output::Close(peer)));
        let join = Join { hops: n % 2, size: u32::MAX, unreachable: vec![key(3), key(4), key(5)] };
        let out = all.step(Input::Received(peer, Message::Join(join)));
        assert!(out.len() <= 10, "{out:?}");
        let path = vec![key(2), peer];
        all.step(Input::Received(peer, Message::Cross { path }));
    }
    assert!(closed as usize >= 5_000 - bounds::LOOSE_LINKS_MAX - bounds::CROSS_ACCEPTED_MAX - 8);
    assert_eq!(all.node.cross().len(), bounds::CROSS_ACCEPTED_MAX);
    assert_eq!(all.node.parent(), Some(key(1)));
    assert!(all.node.children().len() <= 3);
}
