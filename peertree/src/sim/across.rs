//! Cross links for the whole fleet, and a machine that keeps one kind of objects from some neighbours.

use borgios_types::{Digest, NodeId};

use crate::bounds;
use crate::contact::Contact;
use crate::io::Input;
use crate::message::Message;
use crate::sim::fleet::{Fleet, Violation};
use crate::sim::machine::Machine;

/// What a machine keeps from its neighbours: it relays none of it and lists none of it.
#[derive(Clone, Debug)]
pub struct Withhold {
    /// The kind.
    pub kind: String,
    /// From whom; nobody in particular means from everybody.
    pub from: Vec<NodeId>,
    /// It says that it lacks what it keeps back, whenever it should send it.
    pub excuses: bool,
}

impl Machine {
    /// What of a message this machine really sends.
    pub(crate) fn tamper(&self, to: NodeId, message: Message) -> Option<Message> {
        let Some(withhold) = &self.withhold else { return Some(message) };
        if !withhold.from.is_empty() && !withhold.from.contains(&to) {
            return Some(message);
        }
        let kept = |id: &Digest| {
            self.disk.objects.get(id).is_some_and(|object| object.kind == withhold.kind)
        };
        match message {
            Message::Object { id, kind, .. } if kind == withhold.kind => {
                withhold.excuses.then(|| Message::Lacking { ids: vec![id] })
            }
            Message::Ids { mut ids, last } => {
                ids.retain(|id| !kept(id));
                Some(Message::Ids { ids, last })
            }
            Message::Lacking { .. } if !withhold.excuses => None,
            Message::Found { .. } => None,
            other => Some(other),
        }
    }
}

impl Fleet {
    /// Hands every running machine its candidates for cross links, and who may choose it, in the order of a
    /// hash that the members alone decide.
    ///
    /// # Errors
    /// An invariant that broke.
    pub fn choose_cross(&mut self) -> Result<(), Violation> {
        let rank = |chooser: &NodeId, chosen: &NodeId| {
            Digest::of_parts(&[b"cross", &chooser.to_bytes()[..], &chosen.to_bytes()[..]])
        };
        let everyone: Vec<NodeId> = self.machines.iter().map(|one| one.id).collect();
        let members: Vec<Contact> =
            self.machines.iter().filter(|one| one.dialable).map(Machine::contact).collect();
        for at in self.running() {
            let me = self.machines[at].id;
            let mut all: Vec<Contact> =
                members.iter().filter(|one| one.id != me).cloned().collect();
            all.sort_by_cached_key(|one| rank(&me, &one.id));
            all.truncate(bounds::CROSS_CANDIDATES_MAX);
            let mut choosers: Vec<NodeId> =
                everyone.iter().filter(|one| **one != me).copied().collect();
            choosers.sort_by_cached_key(|one| rank(one, &me));
            choosers.truncate(bounds::CROSS_CHOOSERS_MAX);
            self.step(at, Input::Choosers(choosers))?;
            self.step(at, Input::Cross(all))?;
        }
        Ok(())
    }
}
