//! Dials under way: one for a peer, each under a number of its own.
//!
//! A dial that was replaced or cancelled still comes to its end; what it says then is about itself, and
//! must not be taken for the end of the one that took its place.

use std::collections::BTreeMap;

use borgios_types::NodeId;
use tokio_util::sync::CancellationToken;

/// Names a dial. Never reused in one life of an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DialId(u64);

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Dials {
    under_way: BTreeMap<NodeId, (DialId, CancellationToken)>,
    next: u64,
}

impl Dials {
    /// Begins one, and cancels the one to this peer that there was.
    pub(crate) fn begin(&mut self, peer: NodeId) -> (DialId, CancellationToken) {
        let (id, cut) = (DialId(self.next), CancellationToken::new());
        self.next += 1;
        if let Some((_, old)) = self.under_way.insert(peer, (id, cut.clone())) {
            old.cancel();
        }
        (id, cut)
    }

    /// Cancels the one to this peer.
    pub(crate) fn cancel(&mut self, peer: &NodeId) {
        if let Some((_, cut)) = self.under_way.remove(peer) {
            cut.cancel();
        }
    }

    /// There is a link: none is under way any more.
    pub(crate) fn linked(&mut self, peer: &NodeId) {
        self.under_way.remove(peer);
    }

    /// One came to its end; whether that was the one under way.
    pub(crate) fn failed(&mut self, peer: &NodeId, id: DialId) -> bool {
        let current = self.under_way.get(peer).is_some_and(|(current, _)| *current == id);
        if current {
            self.under_way.remove(peer);
        }
        current
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use borgios_types::SecretKey;

    #[test]
    fn only_the_dial_under_way_can_fail() {
        let peer = SecretKey::from_seed([1; 32]).public();
        let mut dials = Dials::default();
        let (first, cut) = dials.begin(peer);
        let (second, _) = dials.begin(peer);
        assert!(cut.is_cancelled());
        assert!(!dials.failed(&peer, first), "it was replaced");
        assert!(dials.failed(&peer, second));
        assert!(!dials.failed(&peer, second), "once");
        let (third, cut) = dials.begin(peer);
        dials.cancel(&peer);
        assert!(cut.is_cancelled() && !dials.failed(&peer, third));
        // A link that the other side dialled came first, then another dial began.
        let (fourth, _) = dials.begin(peer);
        dials.linked(&peer);
        let (fifth, cut) = dials.begin(peer);
        assert!(!dials.failed(&peer, fourth) && !cut.is_cancelled());
        assert!(dials.failed(&peer, fifth));
    }
}
