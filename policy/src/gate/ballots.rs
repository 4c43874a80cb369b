//! Which ballots are kept with a statement that waits.
//!
//! Whoever brings a statement brings ballots with it, and what waits is stored. So only those are
//! kept that can count: approvals of this very statement that verify, one for each governor.

use std::collections::BTreeMap;

use borgios_types::{Digest, Envelope};

use crate::ballot::{BALLOTS_MAX, Ballot};
use crate::board::Board;
use crate::name::Name;
use crate::object::Object as _;
use crate::rebuild::components_digest;
use crate::statement::Statement;

/// The ballots of `all` that count for a statement signed under `board`, in order of the governors'
/// names. Of two by one governor that is kept which names the statement's own components, then that
/// of the lower id, so that the order in which they came does not matter.
pub(crate) fn counting<'a>(
    board: &Board,
    statement: &Statement,
    id: Digest,
    all: impl Iterator<Item = &'a Envelope>,
) -> Vec<Envelope> {
    let place = (statement.lane, statement.seq, statement.round);
    let components = components_digest(&statement.body);
    let mut kept: BTreeMap<Name, ((bool, Digest), &Envelope)> = BTreeMap::new();
    let mut forgeries = 0;
    for envelope in all {
        let Ok(ballot) = Ballot::parse(envelope) else { continue };
        let on_it = ballot.statement == id && (ballot.lane, ballot.seq, ballot.round) == place;
        let rebuilt = ballot.rebuild.as_ref().map(|rebuild| rebuild.digest);
        let rank = (rebuilt.is_none() || rebuilt != components, envelope.id());
        let better = kept.get(&ballot.governor).is_none_or(|(held, _)| rank < *held);
        if !ballot.approves() || !on_it || !better {
            continue;
        }
        // Only forgeries are counted: nobody who repeats himself crowds the others out.
        if Ballot::verify(board, envelope).is_ok() {
            kept.insert(ballot.governor, (rank, envelope));
        } else if forgeries == BALLOTS_MAX {
            break;
        } else {
            forgeries += 1;
        }
    }
    kept.into_values().map(|(_, envelope)| envelope.clone()).collect()
}
