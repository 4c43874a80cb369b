//! The tree: what neighbours say to a node, its questions and its messages, and the simulator's
//! scenario files.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use borgios_agent::wire::Frame;
use borgios_peertree::question::{self, Desk, Own, Place, Question, Scope};
use borgios_peertree::sim::Script;
use borgios_peertree::{
    Address, Body, Config, Contact, Contacts, Down, Head, Input, Join, Message, Node, Output,
    Summary, Timer, Up, Verdict, direct,
};
use borgios_types::{Digest, NodeId, SecretKey, Time};

use crate::governance::word;

/// Most inputs that one line may lead to.
const CASCADE_MAX: usize = 20_000;

fn key(number: u8) -> NodeId {
    SecretKey::from_seed([number; 32]).public()
}

fn contact(number: u8) -> Contact {
    Contact::new(key(number), Address::from(format!("10.0.0.{number}:7117")))
}

/// A scenario of the simulator. Running it is another matter.
pub fn script(bytes: &[u8]) -> String {
    match core::str::from_utf8(bytes) {
        Ok(text) => word(Script::parse(text)),
        Err(_) => "not text".to_owned(),
    }
}

/// Lines that neighbours say to a node. Before each stands a byte: which neighbour says it; or,
/// without a line, what happens: a timer, a link that goes, one that comes.
pub fn node(bytes: &[u8]) -> String {
    let mut run = Run::new();
    let mut heard = 0;
    for line in bytes.split(|byte| *byte == b'\n') {
        let Some((op, rest)) = line.split_first() else { continue };
        let peer = 1 + op % 4;
        match core::str::from_utf8(rest).map(str::trim) {
            Ok("") => run.happen(*op),
            Ok(text) => match Frame::parse(text) {
                Ok(frame) => {
                    heard += 1;
                    run.hear(key(peer), frame);
                }
                // A neighbour that says what is no frame is gone.
                Err(_) => run.input(Input::LinkDown(key(peer))),
            },
            Err(_) => run.input(Input::LinkDown(key(peer))),
        }
    }
    if heard == 0 { "no frame".to_owned() } else { "ok".to_owned() }
}

/// A node with four neighbours, its desk and its switch. The shell does at once what it is asked.
struct Run {
    node: Node,
    desk: Desk,
    switch: direct::Switch,
    timers: BTreeSet<Timer>,
    links: BTreeSet<NodeId>,
    now: u64,
}

impl Run {
    fn new() -> Self {
        let me = key(0);
        let config = Config {
            fanout: 2,
            address: Some(Address::from("10.0.0.0:7117".to_owned())),
            ..Config::default()
        };
        let mut run = Self {
            node: Node::new(me, config, 1),
            desk: Desk::new(me),
            switch: direct::Switch::new(me),
            timers: BTreeSet::new(),
            links: BTreeSet::new(),
            now: 1_000,
        };
        let (seeds, remembered, live) = (vec![contact(1)], Vec::new(), vec![Digest::of(b"live")]);
        let heads = BTreeMap::from([("policy".to_owned(), Head { seq: 1, id: Digest::of(b"1") })]);
        run.input(Input::Start { seeds, remembered, live, heads });
        for number in 1..5 {
            run.link(number);
        }
        let (up, down) = (Some(key(1)), vec![key(2), key(3)]);
        run.ask(question::Input::Place { up, down: down.clone() });
        run.ask(question::Input::Members(5));
        run.carry(direct::Input::Place { up, down });
        run
    }

    fn link(&mut self, number: u8) {
        if self.links.insert(key(number)) {
            let address = Some(Address::from(format!("10.0.0.{number}:7117")));
            self.input(Input::LinkUp {
                peer: key(number),
                dialled: number.is_multiple_of(2),
                address,
            });
        }
    }

    /// What happens without anybody saying anything.
    fn happen(&mut self, op: u8) {
        self.now += 400;
        match op >> 2 & 7 {
            0 => self.link(1 + op % 4),
            1 => {
                self.links.remove(&key(1 + op % 4));
                self.input(Input::LinkDown(key(1 + op % 4)));
            }
            2 => {
                let within = std::time::Duration::from_secs(5);
                let question = Question::Load { above: 1 };
                let nonce = 1 + u64::from(op);
                self.ask(question::Input::Open { key: nonce, nonce, question, within });
                let body = "{}".to_owned();
                self.carry(direct::Input::Send { key: nonce, to: key(9), body });
            }
            3 => {
                self.now += 10_000;
                self.ask(question::Input::Tick);
                self.carry(direct::Input::Tick);
            }
            _ => {
                let at = usize::from(op >> 5) % self.timers.len().max(1);
                if let Some(timer) = self.timers.iter().nth(at).copied() {
                    self.timers.remove(&timer);
                    self.input(Input::TimerFired(timer));
                }
            }
        }
    }

    fn hear(&mut self, from: NodeId, frame: Frame) {
        self.now += 1;
        match frame {
            Frame::Tree(message) if self.links.contains(&from) => {
                self.input(Input::Received(from, message));
            }
            Frame::Ask(ask) => self.ask(question::Input::Asked(from, ask)),
            Frame::Answer(answer) => self.ask(question::Input::Answered(from, answer)),
            Frame::Direct(message) => self.carry(direct::Input::Arrived(from, message)),
            Frame::Returned(message) => self.carry(direct::Input::Returned(from, message)),
            _ => {}
        }
    }

    fn input(&mut self, input: Input) {
        let mut waiting = VecDeque::from([input]);
        let mut handled = 0;
        while let Some(input) = waiting.pop_front() {
            handled += 1;
            assert!(handled < CASCADE_MAX, "one line is never done with");
            let out = self.node.handle(Time(self.now), input);
            let held = self.node.check();
            assert!(held.is_ok(), "{held:?}");
            for output in out {
                self.output(output, &mut waiting);
            }
        }
    }

    fn output(&mut self, output: Output, waiting: &mut VecDeque<Input>) {
        match output {
            Output::Send(_, message) => {
                assert!(message.bounded(), "it says more than may be said: {message:?}");
            }
            Output::Dial(contact) => {
                let known = (1..5).find(|number| key(*number) == contact.id);
                match known
                    .filter(|number| number.is_multiple_of(2) && self.links.insert(key(*number)))
                {
                    Some(number) => waiting.push_back(Input::LinkUp {
                        peer: key(number),
                        dialled: true,
                        address: Some(contact.address),
                    }),
                    None => waiting.push_back(Input::DialFailed(contact.id)),
                }
            }
            Output::Close(peer) => drop(self.links.remove(&peer)),
            Output::SetTimer(timer, _) => drop(self.timers.insert(timer)),
            Output::CancelTimer(timer) => drop(self.timers.remove(&timer)),
            Output::Offer { from, id, .. } => {
                let verdicts =
                    [Verdict::Admitted, Verdict::Known, Verdict::Deferred, Verdict::Refused];
                let verdict = verdicts[usize::from(id.0[0] & 3)];
                waiting.push_back(Input::Judged { id, from, verdict });
            }
            _ => {}
        }
    }

    fn ask(&mut self, input: question::Input) {
        let mut waiting = VecDeque::from([input]);
        while let Some(input) = waiting.pop_front() {
            let out = self.desk.handle(Time(self.now), input);
            let held = self.desk.check();
            assert!(held.is_ok(), "{held:?}");
            for output in out {
                match output {
                    question::Output::Observe { inquiry, .. } => {
                        let measures = vec![("load", 3)];
                        let label = Some("0.1.0".to_owned());
                        let place: Option<Place> = None;
                        let own = Some(Own { label, measures, exception: None, place });
                        waiting.push_back(question::Input::Observed { inquiry, own });
                    }
                    question::Output::Learned { node, via } => {
                        self.carry(direct::Input::Learned { node, via });
                    }
                    question::Output::Answer(_, answer) => {
                        assert!(answer.bounded(), "it answers more than may be answered");
                    }
                    question::Output::Ask(..) | question::Output::Done { .. } => {}
                }
            }
        }
    }

    fn carry(&mut self, input: direct::Input) {
        let mut waiting = VecDeque::from([input]);
        while let Some(input) = waiting.pop_front() {
            let out = self.switch.handle(Time(self.now), input);
            let held = self.switch.check();
            assert!(held.is_ok(), "{held:?}");
            for output in out {
                if let direct::Output::Deliver { ticket, .. } = output {
                    waiting.push_back(direct::Input::Taken { ticket, refused: None });
                }
            }
        }
    }
}

/// Everything that a node says to another, a line each.
fn lines() -> Vec<String> {
    let path = |numbers: &[u8]| numbers.iter().map(|number| contact(*number)).collect::<Contacts>();
    let down = Down {
        path: path(&[7, 1]),
        siblings: path(&[2]),
        uncles: path(&[8]),
        free: None,
        tree_size: 9,
    };
    let id = Digest::of(b"x");
    let heads = BTreeMap::from([("policy".to_owned(), Head { seq: 2, id })]);
    let body = Body::from_text(r#"{"type":"note","payload":"{}","sigs":[]}"#);
    let mut messages = vec![
        Message::Join(Join { hops: 0, size: 1, unreachable: vec![key(8)] }),
        Message::Redirect { to: vec![contact(2), contact(3)] },
        Message::Accept(down.clone()),
        Message::Heartbeat(down),
        Message::Report(Up { size: 3, free: None }),
        Message::Leave,
        Message::Compare { root: key(7), address: None, asks: true },
        Message::Rival { root: contact(6), via: contact(2) },
        Message::Cross { path: vec![key(7), key(3)] },
        Message::Same(7),
        Message::Summary(Summary { heads, count: 3, xor: id }),
        Message::Missing { ids: vec![id], path: vec![key(7)] },
        Message::Lacking { ids: vec![id] },
        Message::Found { ids: vec![id] },
        Message::Page { after: None },
        Message::Ids { ids: vec![id], last: true },
        Message::Want { ids: vec![id] },
        Message::Follow { lane: "policy".to_owned(), after: 1 },
    ];
    messages.extend(body.map(|body| Message::Object { id, kind: "note".to_owned(), body }));
    let mut lines: Vec<String> =
        messages.into_iter().map(|message| Frame::Tree(message).to_line()).collect();
    let question = Question::Load { above: 1 };
    let ask = question::Ask { id: 7, nonce: 9, scope: Scope::Fleet, question, within_ms: 3_000 };
    lines.push(Frame::Ask(ask).to_line());
    lines.push(r#"{"answer":{"id":1,"tally":{"answered":1,"measures":{"load":{"count":1,"sum":3,"min":3,"max":3}}}}}"#.to_owned());
    lines.push(format!(r#"{{"direct":{{"id":1,"to":"{}","hops_left":3,"body":"x"}}}}"#, key(0)));
    lines.push(r#"{"returned":{"id":1,"hops":2}}"#.to_owned());
    lines
}

/// Seeds of [`node`]: one of each line, and whole courses.
#[must_use]
pub fn node_seeds() -> Vec<Vec<u8>> {
    let say = |op: u8, line: &str| [&[op], line.as_bytes(), b"\n"].concat();
    let lines = lines();
    let mut seeds: Vec<Vec<u8>> = lines.iter().map(|line| say(1, line)).collect();
    // Attached to the first neighbour, then everything from everyone.
    let accept = say(0, &lines[2]);
    let all: Vec<u8> = (0..).zip(&lines).flat_map(|(at, line)| say(at % 4, line)).collect();
    seeds.push([accept.as_slice(), &all, b"\x10\n\x0c\n"].concat());
    let joins = [1, 2, 3].map(|peer| say(peer, &lines[0])).concat();
    seeds.push([accept.as_slice(), &joins, b"\x04\n\x10\n\x30\n\x50\n\x08\n"].concat());
    seeds
}

/// The scenarios of the simulator.
#[must_use]
pub fn script_seeds() -> Vec<Vec<u8>> {
    [
        include_str!("../../../peertree/scenarios/spine.sim"),
        include_str!("../../../peertree/scenarios/churn.sim"),
        include_str!("../../../peertree/scenarios/hostile.sim"),
        include_str!("../../../peertree/scenarios/partition.sim"),
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .collect()
}
