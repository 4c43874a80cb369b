//! Objects that wait for others: statements for their predecessors or ballots, join records for
//! their invitation, what a node or its keeper says for the join record.

use std::collections::BTreeMap;

use borgios_policy::{Lane, Statement};
use borgios_types::{Digest, Envelope, Seq};

/// Objects that wait.
const PARKED_MAX: usize = 256;
/// Of these, those that are no statements. Nothing of them is verified yet, so anyone can bring as
/// many as they like: they must neither crowd out statements nor cost much to try again.
const OTHERS_MAX: usize = 64;
/// Longest payload of such a one, in bytes: records have a few hundred. What is longer comes again.
const OTHERS_BYTES: usize = 4 * 1024;

/// Where an object waits; `None` is for what is no statement, and comes first.
type Place = (Option<Lane>, Seq, Digest);

/// The waiting objects, by lane and number.
#[derive(Debug, Default)]
pub struct Parking(BTreeMap<Place, Envelope>);

impl Parking {
    /// Lets an object wait, if there is room for one of its kind.
    pub fn park(&mut self, envelope: Envelope) {
        let place = match Statement::parse(&envelope) {
            Ok(statement) => (Some(statement.lane), statement.seq, envelope.id()),
            Err(_) => {
                let others = self.0.keys().filter(|(lane, ..)| lane.is_none()).count();
                if envelope.payload.len() > OTHERS_BYTES {
                    return;
                }
                if others >= OTHERS_MAX {
                    // Junk that nobody signed must not keep an honest record out for good.
                    self.0.pop_first();
                }
                (None, Seq(0), envelope.id())
            }
        };
        self.0.insert(place, envelope);
        if self.0.len() > PARKED_MAX {
            // What lies furthest ahead is needed last. Whatever is dropped here comes again.
            self.0.pop_last();
        }
    }

    /// The waiting statements, each lane in order.
    pub fn statements(&self) -> impl Iterator<Item = &Envelope> {
        self.0.iter().filter(|((lane, ..), _)| lane.is_some()).map(|(_, envelope)| envelope)
    }

    /// It waits no longer.
    pub fn remove(&mut self, lane: Lane, seq: Seq, id: Digest) {
        self.0.remove(&(Some(lane), seq, id));
    }

    /// Empties the place; what still has to wait is parked again.
    pub fn take(&mut self) -> Vec<Envelope> {
        std::mem::take(&mut self.0).into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use borgios_types::Kind;

    #[test]
    fn what_is_no_statement_has_room_of_its_own_and_no_more() {
        let mut parking = Parking::default();
        let note = |text: String| Envelope::unsigned(Kind::new("report").unwrap(), text);
        for n in 0..2 * OTHERS_MAX {
            parking.park(note(n.to_string()));
        }
        parking.park(note("x".repeat(OTHERS_BYTES + 1)));
        assert_eq!(parking.statements().count(), 0);
        assert_eq!(parking.take().len(), OTHERS_MAX);
        assert_eq!(parking.take().len(), 0);
    }
}
