//! Peers that say anything at any time: whatever comes in, a node keeps its rules and its bounds.

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

    fn contact(&mut self) -> Contact {
        let address = match self.rng.gen_range(0..8) {
            0 => String::new(),
            1 => "x".repeat(10_000),
            _ => format!("h{}:1", self.rng.gen_range(0..9)),
        };
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
        ["policy", "release", "", "nonsense"][self.rng.gen_range(0..4)].to_owned()
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
                address: self.rng.gen_bool(0.7).then(|| "h:1".into()),
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
        [Verdict::Admitted, Verdict::Known, Verdict::Deferred, Verdict::Refused]
            [self.rng.gen_range(0..4)]
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
            16 => Input::Forget(self.ids()),
            17 => Input::Contacts(self.contacts()),
            19 => Input::Expel(peer),
            20 => Input::Heard(peer),
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
