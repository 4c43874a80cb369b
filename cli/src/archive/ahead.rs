//! Boards that the proposals for the next policy would make: they vote on it too.
//!
//! Anyone can make up a board, and to check one costs milliseconds. So it counts who proposes: each member
//! of a board that may speak now has a few places here, which nobody else can take.

use std::collections::BTreeMap;

use borgios_policy::{Board, Chain, Lane, Policy, Proposal, RecoveryBoard, VerifiedStatement};
use borgios_types::PublicKey;
use serde_json::Value;

use super::{Archive, Held};

/// Most boards looked at of one proposer: the one that is voted on, and one that was given up for it. With
/// the board in force and a recovery board that makes no more than 84.
const BOARDS_EACH: usize = 2;

impl Archive {
    /// Finds the boards that the proposals for the next policy would make. Costs a check of each, so it
    /// is done once for many objects.
    pub(super) fn look_ahead(&mut self) {
        let recovery = self.recovery_board().map(RecoveryBoard::board);
        let speak = [self.chain.policy().map(|policy| &policy.board), recovery];
        let speak: Vec<&Board> = speak.into_iter().flatten().collect();
        self.candidates = candidates(&self.chain, &speak, self.proposals.values());
    }
}

/// The key by which somebody on one of these boards signed a proposal.
fn proposer(speak: &[&Board], held: &Held<Proposal>) -> Option<PublicKey> {
    let mut seats = speak.iter().filter_map(|board| board.by_name(&held.by));
    seats.find(|seat| held.envelope.signed_by(&seat.key)).map(|seat| seat.key)
}

/// The boards that members of `speak` propose to follow the board in force.
fn candidates<'a>(
    chain: &Chain,
    speak: &[&Board],
    proposals: impl Iterator<Item = &'a Held<Proposal>>,
) -> Vec<Board> {
    let Some(before) = chain.policy() else { return Vec::new() };
    let head = chain.head(Lane::Policy).map(VerifiedStatement::id);
    let in_force = serde_json::json!(before.board.group());
    let mut of_each: BTreeMap<PublicKey, Vec<_>> = BTreeMap::new();
    for held in proposals.filter(|held| held.value.lane == Lane::Policy) {
        let Some(by) = proposer(speak, held) else { continue };
        let Ok(statement) = held.value.parse_statement() else { continue };
        // Only what looks like another board takes a place.
        let is_new = group(&statement.body).is_some_and(|group| *group != in_force);
        if is_new && statement.prev == head {
            of_each.entry(by).or_default().push((statement, held.value.statement_id()));
        }
    }
    let mut found: Vec<Board> = Vec::new();
    for mut proposed in of_each.into_values() {
        // Whoever proposes another one means that.
        proposed.sort_by_key(|(one, id)| core::cmp::Reverse((one.round, one.issued, *id)));
        let mut looked_at: Vec<&Value> = Vec::new();
        for (statement, _) in &proposed {
            let board = &statement.body["board"];
            if looked_at.contains(&board) {
                continue;
            }
            if looked_at.len() == BOARDS_EACH {
                break;
            }
            looked_at.push(board);
            #[cfg(test)]
            tests::CHECKED.with(|checked| checked.set(checked.get() + 1));
            let Ok(policy) = Policy::parse(&statement.body) else { continue };
            let is_new = policy.board.group() != before.board.group();
            if is_new && policy.follows(before).is_ok() && !found.contains(&policy.board) {
                found.push(policy.board);
            }
        }
    }
    found
}

/// The key of the board in a policy's body, unchecked.
fn group(body: &Value) -> Option<&Value> {
    body.get("board")?.get("group")
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use borgios_policy::fixture::{Council, ISSUED, NOW, statement as draft};
    use borgios_policy::{Name, Object as _, Pool, Seed, Slot};
    use borgios_types::{Digest, Envelope, KeyEpoch, Round, Seq};

    use super::*;
    use crate::home::Home;

    thread_local! {
        /// Boards whose shares were checked in this thread.
        pub(super) static CHECKED: Cell<usize> = const { Cell::new(0) };
    }

    /// A proposal of `by` that `made` follows the board of `council`, by its date.
    fn proposal(
        council: &Council,
        by: &Name,
        made: &Council,
        network: Digest,
        at: u64,
    ) -> Envelope {
        let body = made.policy(2).to_body();
        let first = Some(network);
        let mut one = draft(Lane::Policy, 2, first, first, Some(1), body);
        one.issued = ISSUED.plus(at);
        let statement = one.to_envelope().payload;
        let (governor, lane) = (by.clone(), Lane::Policy);
        let proposal = Proposal { governor, statement, lane, note: None };
        proposal.to_envelope().sign(&council.keys[by])
    }

    /// A laptop of that board.
    fn laptop(council: &Council) -> (tempfile::TempDir, Home, Archive, Digest) {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(Some(folder.path().to_owned())).unwrap();
        let first = council.sign(&council.first_policy(2));
        let network = first.id();
        let mut archive = Archive::load(&home, network).unwrap();
        assert_eq!(archive.admit(NOW, vec![first]).unwrap().refused, Vec::<String>::new());
        (folder, home, archive, network)
    }

    /// A governor who is to go makes boards up by the dozen: the one that removes them is still one of
    /// the boards that vote, and its nonces are taken.
    #[test]
    fn one_governor_cannot_crowd_out_the_boards_of_the_others() {
        let council = Council::new(3, 2, 1, 1);
        let (_folder, home, mut archive, network) = laptop(&council);
        let (honest, hostile) = (council.name(0), council.name(2));
        let next = Council::new(2, 2, 2, 99);
        let mut offered: Vec<Envelope> = (0..24)
            .map(|seed| {
                let made_up = Council::new(3, 2, 2, 100 + seed);
                proposal(&council, &hostile, &made_up, network, seed)
            })
            .collect();
        let good = proposal(&council, &honest, &next, network, 0);
        // Whoever is on a made-up board under an honest name takes none of that one's places.
        let made_up = Council::new(3, 2, 2, 123);
        offered.push(proposal(&made_up, &honest, &Council::new(2, 2, 2, 98), network, 9));
        offered.push(proposal(&made_up, &honest, &Council::new(2, 2, 2, 97), network, 9));
        offered.push(good);
        let by = next.name(0);
        let slot = Slot { epoch: KeyEpoch(2), lane: Lane::Release, seq: Seq(1), round: Round(0) };
        let part = [(slot, Seed::from_bytes([7; 32]))];
        let pool = Pool::make(&next.board, &next.shares[&by], &part).unwrap();
        let pool = pool.to_envelope().sign(&next.keys[&by]);
        offered.push(pool.clone());
        let admitted = archive.admit(NOW, offered).unwrap();
        assert_eq!(admitted.refused, Vec::<String>::new());
        for archive in [&archive, &Archive::load(&home, network).unwrap()] {
            assert!(archive.candidates().contains(&next.board));
            assert!(archive.candidates().len() <= 2 * BOARDS_EACH);
            assert!(archive.pools().contains_key(&pool.id()));
        }
    }

    /// Of one proposer the newest counts: what was given up before does not stand in its way.
    #[test]
    fn a_proposer_means_the_newest_board() {
        let council = Council::new(3, 2, 1, 1);
        let (_folder, _home, mut archive, network) = laptop(&council);
        let by = council.name(0);
        let boards: Vec<Council> = (0..5).map(|seed| Council::new(2, 2, 2, 50 + seed)).collect();
        let all =
            boards.iter().zip(0..).map(|(made, at)| proposal(&council, &by, made, network, at));
        archive.admit(NOW, all.collect()).unwrap();
        assert!(archive.candidates().contains(&boards[4].board));
        assert_eq!(archive.candidates().len(), BOARDS_EACH);
    }

    /// Each board of junk is looked at no more than once for many objects, and few of one proposer.
    #[test]
    fn junk_boards_cost_a_few_checks() {
        let council = Council::new(3, 2, 1, 1);
        let (_folder, home, mut archive, network) = laptop(&council);
        let by = council.name(2);
        let junk =
            |seed| proposal(&council, &by, &Council::new(3, 2, 2, 100 + seed), network, seed);
        let checked = || CHECKED.with(Cell::get);
        let before = checked();
        archive.admit(NOW, (0..256).map(junk).collect()).unwrap();
        assert_eq!(archive.proposals().len(), 256);
        let admitted = checked() - before;
        Archive::load(&home, network).unwrap();
        assert_eq!((admitted, checked() - before), (BOARDS_EACH, 2 * BOARDS_EACH));
    }
}
