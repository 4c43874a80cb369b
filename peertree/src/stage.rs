//! A node on a stage: a test plays its neighbours by hand.

use std::collections::BTreeMap;

use borgios_types::{Digest, NodeId, SecretKey, Time};

use crate::config::Config;
use crate::contact::Contact;
use crate::io::{Input, Output, Timer, Verdict};
use crate::message::{Down, Join, Message};
use crate::node::Node;

/// One node, its clock, and no network.
pub(crate) struct Stage {
    pub(crate) node: Node,
    pub(crate) now: Time,
}

/// The key of neighbour `n`.
pub(crate) fn key(n: u8) -> NodeId {
    SecretKey::from_seed([n; 32]).public()
}

/// The key of the node on stage.
pub(crate) fn me() -> NodeId {
    key(200)
}

pub(crate) fn contact(n: u8) -> Contact {
    Contact::new(key(n), format!("n{n}:7117"))
}

pub(crate) fn join(hops: u32) -> Message {
    Message::Join(Join { hops, size: 1, unreachable: Vec::new() })
}

pub(crate) fn dialled(out: &[Output]) -> Vec<NodeId> {
    out.iter()
        .filter_map(|output| match output {
            Output::Dial(contact) => Some(contact.id),
            _ => None,
        })
        .collect()
}

pub(crate) fn accepted(out: &[Output]) -> bool {
    out.iter().any(|output| matches!(output, Output::Send(_, Message::Accept(_))))
}

pub(crate) fn redirected(out: &[Output]) -> Option<Vec<Contact>> {
    out.iter().find_map(|output| match output {
        Output::Send(_, Message::Redirect { to }) => Some(to.clone()),
        _ => None,
    })
}

impl Stage {
    pub(crate) fn new(fanout: u16, dialable: bool) -> Self {
        let address = dialable.then(|| contact(200).address);
        let config = Config { fanout, address, ..Config::default() };
        Self { node: Node::new(me(), config, 1), now: Time(1_000) }
    }

    /// A root without children.
    pub(crate) fn root(fanout: u16) -> Self {
        Self::founder(Self::new(fanout, true))
    }

    pub(crate) fn undialable_root() -> Self {
        Self::founder(Self::new(4, false))
    }

    fn founder(mut stage: Self) -> Self {
        stage.start(Vec::new(), Vec::new());
        stage.step(Input::TimerFired(Timer::Retry));
        stage
    }

    /// A node whose path is `path`, ending in its parent.
    pub(crate) fn attached(fanout: u16, path: &[u8]) -> Self {
        let parent = *path.last().unwrap();
        let mut stage = Self::new(fanout, true);
        stage.start(vec![contact(parent)], Vec::new());
        stage.step(Input::TimerFired(Timer::Retry));
        stage.link(parent, true);
        let down = stage.parent_down(path, Vec::new(), Vec::new());
        stage.says(parent, Message::Accept(down));
        assert_eq!(stage.node.parent(), Some(key(parent)));
        stage
    }

    pub(crate) fn start(&mut self, seeds: Vec<Contact>, remembered: Vec<Contact>) {
        let (live, heads) = (Vec::new(), BTreeMap::new());
        self.step(Input::Start { seeds, remembered, live, heads });
    }

    /// One input; what always holds is checked after it.
    pub(crate) fn step(&mut self, input: Input) -> Vec<Output> {
        let out = self.node.handle(self.now, input);
        assert_eq!(self.node.check(), Ok(()));
        out
    }

    pub(crate) fn link(&mut self, n: u8, dialable: bool) -> Vec<Output> {
        let address = dialable.then(|| contact(n).address);
        self.step(Input::LinkUp { peer: key(n), dialled: false, address })
    }

    pub(crate) fn says(&mut self, n: u8, message: Message) -> Vec<Output> {
        self.step(Input::Received(key(n), message))
    }

    pub(crate) fn joins(&mut self, n: u8, dialable: bool) -> Vec<Output> {
        self.link(n, dialable);
        self.says(n, join(0))
    }

    pub(crate) fn judged(&mut self, n: u8, id: Digest, verdict: Verdict) -> Vec<Output> {
        self.step(Input::Judged { id, from: key(n), verdict })
    }

    pub(crate) fn parent_down(
        &self,
        path: &[u8],
        siblings: Vec<Contact>,
        uncles: Vec<Contact>,
    ) -> Down {
        let path = path.iter().map(|n| contact(*n)).collect();
        Down { path, siblings: siblings.into(), uncles: uncles.into(), free: None, tree_size: 9 }
    }

    pub(crate) fn parent_says(
        &mut self,
        path: &[u8],
        siblings: Vec<Contact>,
        uncles: Vec<Contact>,
    ) {
        let down = self.parent_down(path, siblings, uncles);
        self.says(*path.last().unwrap(), Message::Heartbeat(down));
    }

    /// Lets each dial fail until no more are made; returns whom it dialled.
    pub(crate) fn fail_all_dials(&mut self, out: Vec<Output>) -> Vec<NodeId> {
        let mut order = dialled(&out);
        let mut next = order.clone();
        while let Some(peer) = next.pop() {
            let out = self.step(Input::DialFailed(peer));
            next = dialled(&out);
            order.extend(&next);
        }
        order
    }
}
