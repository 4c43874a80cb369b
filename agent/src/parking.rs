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

/// Bytes of the statements that wait: tried again together, they must not hold the ledger up.
const BYTES_MAX: usize = 4 * 1024 * 1024;
/// Envelopes of one document that wait, each with other signatures. What waits is not verified yet: a
/// forged one must not take the place of the true one.
const TWINS_MAX: usize = 4;

/// Where an object waits; `None` is for what is no statement, and comes first. The last is the digest of
/// the whole envelope.
type Place = (Option<Lane>, Seq, Digest, Digest);

/// The waiting objects, by lane and number.
#[derive(Debug, Default)]
pub struct Parking(BTreeMap<Place, Envelope>);

impl Parking {
    /// Lets an object wait, if there is room for one of its kind.
    pub fn park(&mut self, envelope: Envelope) {
        let whole = Digest::of(envelope.to_json().as_bytes());
        let place = match Statement::parse(&envelope) {
            Ok(statement) => (Some(statement.lane), statement.seq, envelope.id(), whole),
            Err(_) => {
                let others = self.0.keys().filter(|(lane, ..)| lane.is_none()).count();
                if envelope.payload.len() > OTHERS_BYTES {
                    return;
                }
                if others >= OTHERS_MAX {
                    // Junk that nobody signed must not keep an honest record out for good.
                    self.0.pop_first();
                }
                (None, Seq(0), envelope.id(), whole)
            }
        };
        let (lane, seq, id, _) = place;
        let (least, most) = (Digest([0; 32]), Digest([u8::MAX; 32]));
        if self.0.range((lane, seq, id, least)..=(lane, seq, id, most)).count() >= TWINS_MAX {
            return;
        }
        self.0.insert(place, envelope);
        while self.make_room() {}
    }

    /// Drops one of the lane of which most waits where too much does: junk of one lane pushes nothing of
    /// the others out. What lies furthest ahead is needed last. Whatever is dropped here comes again.
    fn make_room(&mut self) -> bool {
        let bytes = |envelope: &Envelope| envelope.payload.len() + 256 * envelope.sigs.len();
        let many = self.0.len() > PARKED_MAX;
        if !many && self.0.values().map(bytes).sum::<usize>() <= BYTES_MAX {
            return false;
        }
        let mut weights: BTreeMap<Option<Lane>, usize> = BTreeMap::new();
        for ((lane, ..), envelope) in &self.0 {
            *weights.entry(*lane).or_default() += if many { 1 } else { bytes(envelope) };
        }
        let full = weights.into_iter().max_by_key(|(lane, weight)| (*weight, *lane));
        let last =
            full.and_then(|(full, _)| self.0.keys().rfind(|(lane, ..)| *lane == full).copied());
        last.is_some_and(|last| self.0.remove(&last).is_some())
    }

    /// The waiting statements, each lane in order.
    pub fn statements(&self) -> impl Iterator<Item = &Envelope> {
        self.0.iter().filter(|((lane, ..), _)| lane.is_some()).map(|(_, envelope)| envelope)
    }

    /// It waits no longer.
    pub fn remove(&mut self, lane: Lane, seq: Seq, id: Digest) {
        self.0.retain(|(at, number, known, _), _| (*at, *number, *known) != (Some(lane), seq, id));
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

    fn statement(lane: Lane, seq: u64, text: &str) -> Envelope {
        use borgios_policy::fixture::statement;
        let body = serde_json::json!({ "text": text });
        let (network, prev) = (Digest::of(b"network"), Digest::of(b"before"));
        let draft = statement(lane, seq, Some(network), Some(prev), Some(1), body);
        Envelope::unsigned(lane.kind(), draft.to_payload())
    }

    #[test]
    fn a_forged_twin_takes_no_true_ones_place_and_many_fill_nothing() {
        let one = statement(Lane::Release, 7, "one");
        let twin = |seed: u8| one.clone().sign(&borgios_types::SecretKey::from_seed([seed; 32]));
        let mut parking = Parking::default();
        parking.park(one.clone());
        for seed in 0..20 {
            parking.park(twin(seed));
        }
        let waiting: Vec<_> = parking.statements().cloned().collect();
        assert!(waiting.contains(&one) && waiting.len() == TWINS_MAX, "{}", waiting.len());
        parking.remove(Lane::Release, Seq(7), one.id());
        assert_eq!(parking.statements().count(), 0);
    }

    #[test]
    fn junk_of_one_lane_pushes_nothing_of_another_out() {
        let mut parking = Parking::default();
        let honest = statement(Lane::Release, 9, "honest");
        parking.park(honest.clone());
        let long = "x".repeat(50_000);
        for (count, text) in [(2 * PARKED_MAX as u64, "junk"), (120, &*long)] {
            for seq in 0..count {
                parking.park(statement(Lane::Policy, 1_000 + seq, text));
            }
            let bytes: usize = parking.statements().map(|one| one.payload.len()).sum();
            assert!(bytes <= BYTES_MAX && parking.statements().count() <= PARKED_MAX);
            assert!(parking.statements().any(|one| *one == honest), "it was pushed out");
        }
    }

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
