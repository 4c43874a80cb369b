//! Hostile machines: an honest core whose shell sends something else.

use borgios_types::Digest;
use rand::Rng as _;

use crate::contact::{Contact, Spot};
use crate::message::{Body, Message};
use crate::sim::fleet::Fleet;
use crate::sim::machine::LANE;
use crate::sim::wire::Index;

/// The text of a body that does not verify: signatures are stubbed, this stands for a bad one.
pub const FORGED: &str = "\"forged\"";
/// Objects a flooder adds to each small message it sends.
const FLOOD: usize = 20;

/// What a hostile machine does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Vice {
    /// Relays nothing to its children, and lists nothing for them.
    Withhold,
    /// Withholds the statements of the lane, and nothing else.
    WithholdKind,
    /// Withholds everything from its first child, and from nobody else.
    WithholdSubtree,
    /// Says that it has everything, and hands out nothing.
    Claim,
    /// Says no word on its own: no sign of life, no news.
    Mute,
    /// Names another root than its own.
    LiePath,
    /// Says that half the world hangs below it, and that it has room.
    LieSize,
    /// Sends joiners to itself and to others at random.
    Circle,
    /// Sends many objects that do not verify.
    FloodGarbage,
    /// Sends many new objects that do verify.
    FloodValid,
    /// Sends the same objects again and again.
    FloodCopies,
    /// Tells each neighbour another content of one object.
    Equivocate,
    /// Joins with all its kind under one parent, and takes no children.
    Sybil,
}

/// Every vice by its name in a scenario.
pub const VICES: [(&str, Vice); 13] = [
    ("withhold", Vice::Withhold),
    ("withhold-kind", Vice::WithholdKind),
    ("withhold-subtree", Vice::WithholdSubtree),
    ("claim", Vice::Claim),
    ("mute", Vice::Mute),
    ("lie-path", Vice::LiePath),
    ("lie-size", Vice::LieSize),
    ("circle", Vice::Circle),
    ("flood-garbage", Vice::FloodGarbage),
    ("flood-valid", Vice::FloodValid),
    ("flood-copies", Vice::FloodCopies),
    ("equivocate", Vice::Equivocate),
    ("sybil", Vice::Sybil),
];

impl Fleet {
    /// What a machine really sends when its core wants to send this.
    pub(crate) fn corrupt(&mut self, at: Index, to: Index, message: Message) -> Vec<Message> {
        let Some(vice) = self.machines[at].vice else { return vec![message] };
        let victim = self.machines[to].id;
        let children =
            self.machines[at].node.as_ref().map(crate::Node::children).unwrap_or_default();
        match vice {
            Vice::Withhold if children.contains(&victim) => self.keep_back(at, message, None),
            Vice::WithholdSubtree if children.first() == Some(&victim) => {
                self.keep_back(at, message, None)
            }
            Vice::WithholdKind => self.keep_back(at, message, Some(LANE)),
            Vice::Withhold | Vice::WithholdSubtree | Vice::Sybil => vec![message],
            Vice::Claim if !message.is_control() => Vec::new(),
            Vice::Mute => match message {
                Message::Alive | Message::Same(_) | Message::Heartbeat(_) | Message::Report(_) => {
                    Vec::new()
                }
                other => vec![other],
            },
            Vice::LiePath => {
                let other = self.anyone();
                vec![match message {
                    Message::Accept(mut down) if down.path.len() > 1 => {
                        down.path = with_root(&down.path, other);
                        Message::Accept(down)
                    }
                    Message::Heartbeat(mut down) if down.path.len() > 1 => {
                        down.path = with_root(&down.path, other);
                        Message::Heartbeat(down)
                    }
                    other => other,
                }]
            }
            Vice::LieSize => vec![match message {
                Message::Report(mut up) => {
                    up.size = u32::MAX / 2;
                    up.free = Some(Spot { depth: 0, at: self.machines[at].contact() });
                    Message::Report(up)
                }
                other => other,
            }],
            Vice::Circle => match message {
                Message::Redirect { .. } | Message::Accept(_) => {
                    let to = vec![self.machines[at].contact(), self.anyone()];
                    vec![Message::Redirect { to }]
                }
                other => vec![other],
            },
            Vice::FloodGarbage | Vice::FloodValid | Vice::FloodCopies => {
                self.flood(at, vice, message)
            }
            Vice::Equivocate => match message {
                Message::Object { id, kind, body } => {
                    let body = if self.rng.gen_bool(0.5) { forged().unwrap_or(body) } else { body };
                    vec![Message::Object { id, kind, body }]
                }
                other => vec![other],
            },
            Vice::Claim => vec![message],
        }
    }

    /// Of a message, what does not speak of objects of this kind; of any kind if none is named.
    fn keep_back(&self, at: Index, message: Message, kind: Option<&str>) -> Vec<Message> {
        let kept = |of: &str| kind.is_none_or(|kind| kind == of);
        let objects = &self.machines[at].disk.objects;
        match message {
            Message::Object { kind, .. } if kept(&kind) => Vec::new(),
            Message::Ids { mut ids, last } => {
                ids.retain(|id| !objects.get(id).is_some_and(|object| kept(&object.kind)));
                vec![Message::Ids { ids, last }]
            }
            Message::Lacking { .. } | Message::Found { .. } => Vec::new(),
            other => vec![other],
        }
    }

    /// A message, and many objects behind it.
    fn flood(&mut self, at: Index, vice: Vice, message: Message) -> Vec<Message> {
        if !message.is_control() {
            return vec![message];
        }
        let mut all = vec![message];
        match vice {
            Vice::FloodCopies => {
                let objects = &self.machines[at].disk.objects;
                if let Some((id, object)) = objects.first_key_value() {
                    let (id, kind, body) = (*id, object.kind.clone(), object.body.clone());
                    all.extend(vec![Message::Object { id, kind, body }; FLOOD]);
                }
            }
            Vice::FloodGarbage => {
                for _ in 0..FLOOD {
                    let id = Digest(self.rng.r#gen());
                    let body = forged();
                    all.extend(body.map(|body| Message::Object { id, kind: "note".into(), body }));
                }
            }
            // What verifies is relayed to everyone: a few of these go a long way.
            _ if self.rng.gen_bool(0.1) => {
                let id = Digest(self.rng.r#gen());
                let body = Body::from_text("{}").ok();
                all.extend(body.map(|body| Message::Object { id, kind: "note".into(), body }));
            }
            _ => {}
        }
        all
    }

    /// A random machine, running or not.
    fn anyone(&mut self) -> Contact {
        let at = self.rng.gen_range(0..self.machines.len());
        self.machines[at].contact()
    }

    /// An honest machine that lacks an object which an honest neighbour of it has, with both of
    /// their numbers.
    #[must_use]
    pub fn withheld(&self, id: &Digest) -> Vec<(Index, Index)> {
        let holds = |at: Index| self.machines[at].disk.objects.contains_key(id);
        let around = |at: Index| {
            let node = self.machines[at].node.as_ref();
            node.map(|node| [node.neighbours(), node.cross()].concat()).unwrap_or_default()
        };
        let mut lacking = Vec::new();
        for (at, _) in self.nodes().filter(|(at, _)| self.machines[*at].vice.is_none()) {
            if holds(at) {
                continue;
            }
            let me = self.machines[at].id;
            let friend = around(at).iter().filter_map(|peer| self.position(peer)).find(|peer| {
                let honest = self.machines[*peer].vice.is_none();
                honest && holds(*peer) && around(*peer).contains(&me)
            });
            lacking.extend(friend.map(|friend| (at, friend)));
        }
        lacking
    }
}

fn forged() -> Option<Body> {
    Body::from_text(FORGED).ok()
}

fn with_root(path: &[Contact], root: Contact) -> crate::contact::Contacts {
    std::iter::once(root).chain(path.iter().skip(1).cloned()).collect()
}
