//! Broadcast: every object goes to every tree link but the one it came from, once.
//!
//! An object is offered to the shell once; only what the shell has verified and stored is relayed,
//! so a forgery ends at the first hop and its sender pays.

use std::collections::BTreeSet;

use borgios_types::{Digest, NodeId, Time};

use crate::bounds;
use crate::io::{Output, Verdict};
use crate::message::{Body, Message};
use crate::node::Node;
use crate::store::Pending;

impl Node {
    /// An object handed in here.
    pub(crate) fn on_publish(&mut self, id: Digest, kind: &str, body: Body) {
        let live = !self.config.lanes.contains(kind);
        if self.store.insert(id, live) {
            self.relay(id, kind, &body, None);
        }
    }

    /// An object from a neighbour.
    pub(crate) fn on_object(
        &mut self,
        now: Time,
        from: NodeId,
        id: Digest,
        kind: String,
        body: Body,
    ) {
        if !self.is_neighbour(from) {
            return;
        }
        if self.links.get(&from).is_some_and(|link| link.refused.contains(&id)) {
            return self.penalise(now, from, 1);
        }
        let pending =
            Pending { from, kind: kind.clone(), body: body.clone(), others: BTreeSet::new() };
        if self.store.begin(id, pending) {
            self.out.push(Output::Offer { from, id, kind, body });
        }
    }

    /// The shell's verdict on an object.
    pub(crate) fn on_judged(&mut self, now: Time, id: Digest, from: NodeId, verdict: Verdict) {
        let Some(pending) = self.store.end(&id, from) else { return };
        let live = !self.config.lanes.contains(&pending.kind);
        match verdict {
            Verdict::Admitted => {
                if self.store.insert(id, live) {
                    self.relay(id, &pending.kind, &pending.body, Some(from));
                }
            }
            Verdict::Known => {
                self.store.insert(id, false);
            }
            Verdict::Deferred => {
                if !live {
                    // It is ahead, whatever its last summary said.
                    if let Some(link) = self.links.get_mut(&from) {
                        link.heads.remove(&pending.kind);
                    }
                    self.follow(now, from, &pending.kind);
                }
            }
            Verdict::Refused => {
                if let Some(link) = self.links.get_mut(&from) {
                    if link.refused.len() >= bounds::REFUSED_MAX {
                        link.refused.pop_first();
                    }
                    link.refused.insert(id);
                }
                self.penalise(now, from, 1);
                let other = pending.others.into_iter().find(|other| self.is_neighbour(*other));
                if let Some(other) = other {
                    let ids = self.store.want(now, other, &[id]);
                    self.out.push(Output::Send(other, Message::Want { ids }));
                }
            }
        }
    }

    fn relay(&mut self, id: Digest, kind: &str, body: &Body, except: Option<NodeId>) {
        let parent = self.parent();
        for to in parent.iter().chain(self.children.keys()).filter(|to| Some(**to) != except) {
            let (kind, body) = (kind.to_owned(), body.clone());
            self.out.push(Output::Send(*to, Message::Object { id, kind, body }));
        }
    }
}
