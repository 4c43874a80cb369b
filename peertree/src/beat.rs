//! Heartbeats: hearing the parent, speaking to both sides, and finding the links that went silent.

use borgios_types::{NodeId, Time};

use crate::bounds;
use crate::io::{Output, Timer};
use crate::message::{Down, Message};
use crate::node::{Node, Phase};
use crate::seek::Seek;

impl Node {
    /// A parent's heartbeat. One whose path leads through this node tells of a loop: this node
    /// leaves it, and so does every other that sees itself.
    pub(crate) fn on_heartbeat(&mut self, from: NodeId, down: Down) {
        if self.parent() != Some(from) {
            // It believes to be the parent and is none.
            self.out.push(Output::Send(from, Message::Leave));
            return;
        }
        if !self.usable(from, &down) {
            self.out.push(Output::Send(from, Message::Leave));
            self.close(from);
            return self.seek(Seek::out_of_loop());
        }
        let Phase::Attached { down: known, .. } = &mut self.phase else { return };
        let moved = known.path != down.path;
        *known = down;
        if moved {
            let Phase::Attached { down, .. } = &self.phase else { return };
            let down = down.clone();
            self.learn_relatives(&down);
            self.out.push(Output::Changed(self.state()));
            self.tell_children();
        }
    }

    /// Time to speak and to look round.
    pub(crate) fn on_heartbeat_due(&mut self, now: Time) {
        self.set_timer(Timer::Heartbeat, self.config.heartbeat);
        let silence = self.config.heartbeat * bounds::SILENT_BEATS;
        let asking = self.asking();
        let over: Vec<NodeId> = self
            .links
            .iter()
            .filter(|(id, link)| {
                if self.is_neighbour(**id) {
                    now.since(link.heard) >= silence
                } else {
                    Some(**id) != asking && now.since(link.since) >= bounds::LOOSE_TIMEOUT
                }
            })
            .map(|(id, _)| *id)
            .collect();
        for peer in over {
            self.out.push(Output::Close(peer));
            self.on_link_down(peer);
        }
        self.tell_children();
        self.report();
        self.remember();
    }

    /// Relatives are worth remembering, and so are places with room.
    pub(crate) fn learn_relatives(&mut self, down: &Down) {
        self.learn(&down.path);
        self.learn(&down.siblings);
        self.learn(&down.uncles);
    }

    /// Hands changed contacts to the shell to be stored.
    pub(crate) fn remember(&mut self) {
        if let Some(contacts) = self.memory.take_changes() {
            self.out.push(Output::Remember(contacts));
        }
    }
}
