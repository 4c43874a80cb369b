//! The shell of the simulation: does what a core asks for, on the simulated network and disk.

use std::time::Duration;

use borgios_types::{Digest, NodeId};
use rand::Rng as _;

use crate::bounds;
use crate::io::Output;
use crate::message::Message;
use crate::sim::fleet::{Event, Fleet, Violation};
use crate::sim::machine::{LANE, Object};
use crate::sim::wire::Index;

/// How long a shell takes to verify and store an object.
const JUDGING_MS: std::ops::RangeInclusive<u64> = 0..=20;
impl Fleet {
    pub(crate) fn perform(&mut self, at: Index, output: Output) -> Result<(), Violation> {
        let life = self.machines[at].life;
        match output {
            Output::Dial(contact) => {
                self.after_delay(Event::DialArrives { from: at, life, to: contact.id });
            }
            Output::Send(peer, message) => self.send(at, peer, message),
            Output::Close(peer) => self.close(at, self.index[&peer]),
            Output::SetTimer(timer, after) => {
                let number = self.next_number;
                self.machines[at].timers.insert(timer, number);
                let due = self.now + after;
                self.schedule(due, Event::Timer { at, life, timer, number });
            }
            Output::CancelTimer(timer) => {
                self.machines[at].timers.remove(&timer);
            }
            Output::Offer { from, id, kind, body } => {
                let machine = &mut self.machines[at];
                let object = Object { kind, body };
                // Of statements the core knows heads only, of an earlier life no ids.
                let inherited = object.kind == LANE && machine.inherited.contains(&id);
                if machine.disk.objects.contains_key(&id) && !inherited {
                    return Err(self.violation(format!("n{at} was offered {id}, which it has")));
                }
                if machine.judging.insert(id, object).is_some() {
                    return Err(self.violation(format!("n{at} was offered {id} while judging it")));
                }
                let judged = self.now + Duration::from_millis(self.rng.gen_range(JUDGING_MS));
                // One at a time, in order.
                let due = judged.max(self.machines[at].judged_by);
                self.machines[at].judged_by = due;
                self.schedule(due, Event::Judge { at, life, id, from });
            }
            Output::Provide { to, ids } => {
                for id in ids {
                    self.provide(at, to, id);
                }
            }
            Output::ProvideLane { to, after, .. } => {
                let page = after + 1..=after + bounds::LANE_PAGE;
                let ids: Vec<Digest> =
                    self.machines[at].disk.lane.range(page).map(|(_, id)| *id).collect();
                for id in ids {
                    self.provide(at, to, id);
                }
            }
            Output::Changed(state) => {
                self.note("state", at, &[], || format!("{state:?}"));
            }
            Output::Withheld(evidence) => {
                let object = evidence.object;
                self.note("withheld", at, &[], || format!("{} {evidence:?}", object.short()));
            }
            Output::Remember(contacts) => self.machines[at].disk.remembered = contacts,
        }
        Ok(())
    }

    fn provide(&mut self, at: Index, to: NodeId, id: Digest) {
        if let Some(object) = self.machines[at].disk.objects.get(&id).cloned() {
            let Object { kind, body } = object;
            self.send(at, to, Message::Object { id, kind, body });
        }
    }

    fn send(&mut self, at: Index, peer: NodeId, message: Message) {
        let to = self.index[&peer];
        let Some(message) = self.machines[at].tamper(peer, message) else { return };
        for message in self.corrupt(at, to, message) {
            self.put(at, to, message);
        }
    }

    /// Hands a message to the network.
    fn put(&mut self, at: Index, to: Index, message: Message) {
        if let Some(bytes) = &mut self.bytes {
            // A line of JSON and its end; what a link adds is not counted.
            *bytes += serde_json::to_vec(&message).map_or(0, |line| line.len() as u64 + 1);
        }
        if !message.is_control() && self.rng.gen_bool(self.object_loss) {
            return self.note("drop", at, &[to as u64], || format!("object for n{to}"));
        }
        let delay = self.delay(Some((at, to)));
        let Some(link) = self.network.between(at, to) else { return };
        let Some(wire) = self.network.wire(link) else { return };
        let (mine, other) = (wire.end_of(at), wire.end_of(to));
        if !wire.open[mine] || wire.cut {
            return;
        }
        let due = (self.now + delay).max(wire.last[other]);
        wire.last[other] = due;
        self.schedule(due, Event::Deliver { link, to, message });
    }

    /// One end closes: what it sent before still arrives, then the other end hears of it.
    fn close(&mut self, at: Index, other: Index) {
        let longest = self.longest_delay();
        let Some(link) = self.network.between(at, other) else { return };
        let Some(wire) = self.network.wire(link) else { return };
        let (mine, theirs) = (wire.end_of(at), wire.end_of(other));
        wire.open[mine] = false;
        let due = (self.now + longest).max(wire.last[theirs]);
        if !wire.cut {
            self.schedule(due, Event::Down { link, to: other });
        }
    }
}
