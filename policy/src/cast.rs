//! The ballots cast in one slot: one for each governor, contradictions set aside.
//!
//! A pure function of the set of ballots: order, duplicates and forgeries do not matter.

use std::collections::BTreeMap;

use borgios_types::{Digest, Envelope};

use crate::ballot::Ballot;
use crate::board::Board;
use crate::name::Name;
use crate::slot::Slot;

/// What was cast in one slot.
#[derive(Debug, Default)]
pub(crate) struct Cast {
    /// The ballot that counts, and its id, of each governor who did not contradict himself.
    pub(crate) ballots: BTreeMap<Name, (Digest, Ballot)>,
    /// Ids of two ballots that contradict each other; neither counts.
    pub(crate) contradictions: BTreeMap<Name, (Digest, Digest)>,
}

impl Cast {
    /// Sorts what is there; what does not verify, or is for another slot, is left out.
    pub(crate) fn collect(board: &Board, slot: Slot, envelopes: &[Envelope]) -> Self {
        // By id, so that the outcome does not depend on the order of arrival. One payload may
        // come with a good and with a forged signature: it is there if one of them is good.
        let mut by_id: BTreeMap<Digest, Ballot> = BTreeMap::new();
        for envelope in envelopes {
            let id = envelope.id();
            if !by_id.contains_key(&id)
                && let Ok(ballot) = Ballot::verify(board, envelope)
                && ballot.slot(board) == slot
            {
                by_id.insert(id, ballot);
            }
        }
        let mut cast = Self::default();
        for (id, ballot) in by_id {
            let name = ballot.governor.clone();
            match cast.ballots.get(&name) {
                None => {
                    cast.ballots.insert(name, (id, ballot));
                }
                Some((first, before)) if contradict(before, &ballot) => {
                    cast.contradictions.entry(name).or_insert((*first, id));
                }
                // The same vote twice, perhaps with another comment: the first by id counts.
                Some(_) => {}
            }
        }
        for name in cast.contradictions.keys() {
            cast.ballots.remove(name);
        }
        cast
    }

    /// How many governors have bound themselves not to approve `document`: each used up the slot
    /// by rejecting, or by approving another.
    pub(crate) fn bound_against(&self, document: &Digest) -> usize {
        let ballots = self.ballots.values().map(|(_, ballot)| ballot);
        ballots.filter(|ballot| !ballot.approves() || ballot.statement != *document).count()
    }
}

/// Whether one governor cannot honestly have cast both.
fn contradict(one: &Ballot, other: &Ballot) -> bool {
    (one.statement, one.approves()) != (other.statement, other.approves())
}
