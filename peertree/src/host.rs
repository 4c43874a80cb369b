//! Being a parent: taking children, sending joiners to where there is room, letting children go.
//!
//! ```text
//!  join ─▶ seeking itself? ── heir: held until it knows ── else: "not now"
//!            │ an ancestor? "not now"
//!            ▼
//!          room here? ── a shallower place is free: there, or here
//!            │ no      └ accepted
//!            ▼
//!          room below? ── redirected: the child with the shallowest place, least crowded first
//!            │ no
//!            ▼
//!          a leaf nobody can dial blocks the place? ── it makes room for one that can be dialled
//!            └ no: redirected upwards
//! ```
//!
//! Whoever hangs too deep moves up by itself ([`crate::climb`]), so a redirect need not be perfect.

use borgios_types::NodeId;

use crate::bounds;
use crate::contact::{Contact, Spot};
use crate::io::Output;
use crate::link::Child;
use crate::message::{Down, Join, Message, Up};
use crate::node::{Node, Phase};

impl Node {
    /// "Take me as your child."
    pub(crate) fn on_join(&mut self, from: NodeId, join: &Join) {
        if self.children.contains_key(&from) {
            return self.accept(from, join.size);
        }
        if self.climb.asking == Some(from) {
            // Two that wait for each other's answer would become each other's parent.
            return self.redirect(from, Vec::new());
        }
        if self.hold(from, join) {
            return;
        }
        let ancestor = self.path().contains(&from);
        if ancestor || !self.is_in_tree() {
            // An ancestor would close a loop; a node that seeks a place itself has none to give.
            return self.redirect(from, Vec::new());
        }
        let deep = self.depth() + 1 >= bounds::PATH_MAX;
        if deep || self.config.address.is_none() {
            return self.redirect(from, self.upward(from, join));
        }
        if self.children.len() < usize::from(self.config.fanout) {
            match self.better_spot() {
                Some(spot) if join.hops == 0 && spot.id != from => {
                    let me = self.contact();
                    self.redirect(from, [spot].into_iter().chain(me).collect());
                }
                _ => self.accept(from, join.size),
            }
            return;
        }
        let below = self.downward(from, join);
        if !below.is_empty() {
            return self.redirect(from, below);
        }
        match self.displaceable(from, join) {
            Some((leaf, joiner)) => {
                self.children.remove(&leaf);
                self.redirect(leaf, vec![joiner]);
                self.close(leaf);
                self.accept(from, join.size);
            }
            None => self.redirect(from, self.upward(from, join)),
        }
    }

    fn is_in_tree(&self) -> bool {
        match self.phase {
            Phase::Attached { .. } | Phase::Root => true,
            Phase::Idle | Phase::Seeking(_) => false,
        }
    }

    fn accept(&mut self, from: NodeId, size: u32) {
        let address = self.links.get(&from).and_then(|link| link.address.clone());
        let contact = address.as_ref().map(|address| Contact::new(from, address.clone()));
        // Until its first report, a child that can be dialled is taken to have room.
        let free = contact.map(|at| Spot { depth: 0, at });
        let (order, unreachable_by) = (self.next_order, Vec::new());
        let child = Child { order, address, size, free, redirected: 0, unreachable_by };
        let order = self.children.get(&from).map(|known| known.order);
        self.next_order += u64::from(order.is_none());
        self.children.insert(from, Child { order: order.unwrap_or(child.order), ..child });
        self.end_cross(from);
        self.note_due(&from);
        let down = self.down();
        let key = self.key(&down);
        self.told.accepted(key, self.children.len(), self.now);
        self.out.push(Output::Send(from, Message::Accept(down)));
        self.send_summary(from);
        self.on_children_changed();
    }

    fn redirect(&mut self, to: NodeId, mut contacts: Vec<Contact>) {
        contacts.truncate(bounds::REDIRECT_MAX);
        self.out.push(Output::Send(to, Message::Redirect { to: contacts }));
    }

    /// The tree's shallowest free place, if it is shallower than this node.
    fn better_spot(&self) -> Option<Contact> {
        let Phase::Attached { down, .. } = &self.phase else { return None };
        let spot = down.free.as_ref()?;
        ((spot.depth as usize) < self.depth() && spot.at.id != self.me).then(|| spot.at.clone())
    }

    /// Children with room below them, the shallowest and least crowded first, and the very node
    /// that has it.
    fn downward(&mut self, from: NodeId, join: &Join) -> Vec<Contact> {
        let usable = |id: &NodeId| *id != from && !join.unreachable.contains(id);
        let mut below: Vec<(u32, u32, NodeId)> = self
            .children
            .iter()
            .filter(|(id, child)| child.address.is_some() && usable(id))
            .filter_map(|(id, child)| Some((child.free.as_ref()?.depth, child.redirected, *id)))
            .collect();
        // Of a hundred children the first few are named.
        if below.len() >= bounds::REDIRECT_MAX {
            below.select_nth_unstable(bounds::REDIRECT_MAX - 2);
            below.truncate(bounds::REDIRECT_MAX - 1);
        }
        below.sort_unstable();
        if let Some((_, _, best)) = below.first()
            && let Some(child) = self.children.get_mut(best)
        {
            child.redirected = child.redirected.saturating_add(1);
        }
        let spot = self.free().map(|spot| spot.at).filter(|at| usable(&at.id));
        let mut list: Vec<Contact> = below
            .into_iter()
            .filter_map(|(_, _, id)| {
                let address = self.children.get(&id)?.address.clone()?;
                Some(Contact::new(id, address))
            })
            .take(bounds::REDIRECT_MAX - 1)
            .collect();
        list.extend(spot.filter(|spot| list.iter().all(|contact| contact.id != spot.id)));
        list
    }

    /// The parent, then the root: for a joiner that cannot be helped here.
    fn upward(&self, from: NodeId, join: &Join) -> Vec<Contact> {
        let Phase::Attached { down, .. } = &self.phase else { return Vec::new() };
        let mut list: Vec<Contact> =
            down.path.last().into_iter().chain(&down.free_at()).cloned().collect();
        list.extend(down.path.first().cloned());
        list.retain(|contact| contact.id != from && !join.unreachable.contains(&contact.id));
        list.dedup();
        list
    }

    /// A child that blocks the tree, and the joiner that will take its place and take it in.
    ///
    /// Only where every child is a leaf that cannot be dialled (or several joiners could not), and
    /// the joiner can: else `fanout` such leaves at the root would end the tree's growth. One joiner's
    /// word drives nobody out.
    fn displaceable(&mut self, from: NodeId, join: &Join) -> Option<(NodeId, Contact)> {
        let address = self.links.get(&from)?.address.clone()?;
        for id in &join.unreachable {
            if let Some(child) = self.children.get_mut(id)
                && !child.unreachable_by.contains(&from)
                && child.unreachable_by.len() < bounds::UNREACHABLE_CLAIMS
            {
                child.unreachable_by.push(from);
            }
        }
        let leaf = self.children.iter().find(|(_, child)| {
            let claimed = child.unreachable_by.len() >= bounds::UNREACHABLE_CLAIMS;
            child.size == 1 && (child.address.is_none() || claimed)
        })?;
        Some((*leaf.0, Contact::new(from, address)))
    }

    /// A child's heartbeat.
    pub(crate) fn on_report(&mut self, from: NodeId, up: Up) {
        let Some(child) = self.children.get_mut(&from) else {
            // It believes to be a child and is none.
            self.out.push(Output::Send(from, Message::Leave));
            return;
        };
        child.size = up.size.max(1);
        // A child that cannot be dialled has no children, whatever it says.
        child.free = up.free.filter(|_| child.address.is_some());
        child.redirected = 0;
        self.on_children_changed();
    }

    /// A child came, went, or has news.
    pub(crate) fn on_children_changed(&mut self) {
        self.report_if_changed();
        self.tell_children();
    }

    /// The policy allows another number of children: the newest ones too many must go.
    pub(crate) fn on_fanout(&mut self, fanout: u16) {
        self.config.fanout = fanout.clamp(bounds::FANOUT_MIN, bounds::FANOUT_MAX);
        let children = self.children();
        let (stay, leave) = children.split_at(children.len().min(self.config.fanout.into()));
        let stay: Vec<Contact> = stay.iter().filter_map(|id| self.child_contact(*id)).collect();
        for (index, id) in leave.iter().enumerate() {
            self.children.remove(id);
            // Each starts with another of those that stay.
            let turn = index % stay.len().max(1);
            let to = stay.iter().cycle().skip(turn).take(stay.len()).cloned().collect();
            self.redirect(*id, to);
            self.close(*id);
        }
        self.on_children_changed();
    }
}

impl Down {
    /// The node with the tree's shallowest free place.
    fn free_at(&self) -> Option<Contact> {
        self.free.as_ref().map(|spot| spot.at.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::Input;
    use crate::stage::{self, Stage, accepted, key, redirected};

    #[test]
    fn takes_children_up_to_the_fanout_then_names_them() {
        let mut root = Stage::root(2);
        assert!(accepted(&root.joins(1, true)) && accepted(&root.joins(2, true)));
        let to = redirected(&root.joins(3, true)).unwrap();
        let ids: Vec<NodeId> = to.iter().map(|contact| contact.id).collect();
        assert!(ids.contains(&key(1)) && ids.contains(&key(2)), "{ids:?}");
        assert_eq!(root.node.children(), [key(1), key(2)]);
    }

    #[test]
    fn what_cannot_be_dialled_is_never_named() {
        let mut root = Stage::root(2);
        root.joins(1, false);
        root.joins(2, true);
        let to = redirected(&root.joins(3, true)).unwrap();
        assert!(to.iter().all(|contact| contact.id == key(2)), "{to:?}");
        let down = root.node.down();
        assert!(down.siblings.iter().all(|sibling| sibling.id == key(2)));
    }

    #[test]
    fn leaves_that_block_the_tree_make_room_for_one_that_can_be_dialled() {
        let mut root = Stage::root(2);
        root.joins(1, false);
        root.joins(2, false);
        let out = root.joins(3, true);
        assert!(accepted(&out), "{out:?}");
        let moved = out.iter().find_map(|output| match output {
            Output::Send(to, Message::Redirect { to: list }) if *to != key(3) => Some(list.clone()),
            _ => None,
        });
        assert_eq!(moved.unwrap()[0].id, key(3));
        assert_eq!(root.node.children().len(), 2);
        assert_eq!(redirected(&root.joins(4, false)).unwrap()[0].id, key(3));
    }

    #[test]
    fn one_joiners_word_that_a_child_cannot_be_reached_drives_it_out_of_nothing() {
        let mut root = Stage::root(2);
        root.joins(1, true);
        root.joins(2, true);
        let cannot = || {
            let unreachable = vec![key(1), key(2)];
            Message::Join(Join { hops: 1, size: 1, unreachable })
        };
        for n in 10..10 + bounds::UNREACHABLE_CLAIMS as u8 - 1 {
            root.link(n, true);
            for _ in 0..5 {
                assert!(!accepted(&root.says(n, cannot())), "n{n}");
            }
        }
        root.link(30, true);
        assert!(accepted(&root.says(30, cannot())), "several could not");
    }

    #[test]
    fn an_ancestor_is_not_taken_as_a_child() {
        let mut node = Stage::attached(4, &[8, 9]);
        node.link(8, true);
        let out = node.says(8, stage::join(0));
        assert_eq!(redirected(&out).unwrap(), []);
        assert!(node.node.children().is_empty());
    }

    #[test]
    fn a_child_whose_link_died_frees_its_place() {
        let mut root = Stage::root(2);
        root.joins(1, true);
        root.joins(2, true);
        root.step(Input::LinkDown(key(1)));
        assert!(accepted(&root.joins(3, true)));
    }

    #[test]
    fn a_smaller_fanout_sends_the_newest_children_to_the_oldest() {
        let mut root = Stage::root(4);
        (1..=4).for_each(|n| assert!(accepted(&root.joins(n, true))));
        let out = root.step(Input::SetFanout(2));
        assert_eq!(root.node.children(), [key(1), key(2)]);
        let moved = |who| {
            out.iter().find_map(|output| match output {
                Output::Send(to, Message::Redirect { to: list }) if *to == who => Some(list[0].id),
                _ => None,
            })
        };
        assert_eq!((moved(key(3)), moved(key(4))), (Some(key(1)), Some(key(2))));
    }
}
