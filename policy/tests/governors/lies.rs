//! What liars do: whatever honest tools refuse.

use std::rc::Rc;

use borgios_policy::fixture::Council;
use borgios_policy::{
    Ballot, Beacon, Bytes, Choice, Lane, Object as _, OpenRound, Pool, Seed, Slot,
};
use borgios_types::{Digest, Envelope, Round};
use rand::Rng as _;
use rand::seq::SliceRandom as _;

use super::outlook::{Document, Outlook};
use super::world::{HOUR_S, World};
use super::{Tool, garbage, nonce};

impl World {
    /// A liar does one of the things that honest tools refuse.
    pub(crate) fn lie(&mut self, at: usize) {
        let desk = Rc::clone(&self.people[at].desk);
        let epoch = desk.chain.policy().expect("a founded network").board.epoch();
        let all = self.council(epoch);
        let council = &all[epoch.0 as usize - 1];
        if !council.keys.contains_key(&self.people[at].tool.me) {
            return;
        }
        let lane = if self.rng.gen_bool(0.25) { Lane::Policy } else { Lane::Release };
        let outlook = self.outlook(at, epoch, lane, desk.chain.head_seq(lane).next());
        if self.rng.gen_bool(0.6) {
            self.publish_pool(at, council, outlook.slot);
        }
        if self.rng.gen_bool(0.1) {
            return self.disturb(at, council, &outlook.documents);
        }
        let Some(document) = outlook.documents.choose(&mut self.rng) else {
            if lane == Lane::Release {
                let body = self.next_release(&desk);
                self.propose(at, council, &desk, outlook.slot, body);
            }
            return;
        };
        let round = Round(self.rng.gen_range(0..=outlook.slot.round.0));
        let slot = Slot { round, ..outlook.slot };
        match self.rng.gen_range(0..6) {
            // A ballot for whatever, again and again in one slot, be it closed.
            0 | 1 => {
                let approve = self.rng.gen_bool(0.8);
                if let Some(ballot) =
                    self.false_ballot(at, council, outlook.open, document, approve)
                {
                    self.say(at, ballot);
                }
            }
            // The same with shares that are garbage.
            2 => {
                let ballot = self.false_ballot(at, council, outlook.open, document, true);
                if let Some(ballot) = ballot {
                    let mut ballot = Ballot::parse(&ballot).unwrap();
                    if let Choice::Approve { shares: Bytes(shares), .. } = &mut ballot.choice {
                        shares[0] ^= 1;
                    }
                    let key = &council.keys[&self.people[at].tool.me];
                    self.say(at, ballot.to_envelope().sign(key));
                }
            }
            // A second pool for the slot.
            3 if council.board.one_touch().is_ok() => {
                let me = &self.people[at].tool.me;
                let seed = Seed::from_bytes([self.rng.r#gen(); 32]);
                let pool = Pool::make(&council.board, &council.shares[me], &[(slot, seed)]);
                let pool = pool.unwrap().to_envelope().sign(&council.keys[me]);
                self.say(at, pool);
            }
            // Garbage in a session, or the same nonces in several.
            4 => self.false_share(at, council, &outlook, document),
            _ => {
                let mut twin = self.people[at].tool.clone();
                let (ballots, papers) = self.heard(at, outlook.slot);
                let seen = ballots.into_iter().chain(papers);
                let seen = seen.map(|envelope| (envelope.id(), envelope)).collect();
                for made in twin.touch_two(council, &document.statement, &seen) {
                    self.say(at, made);
                }
            }
        }
    }

    fn heard(&self, at: usize, slot: Slot) -> (Vec<Envelope>, Vec<Envelope>) {
        let shelf = &self.people[at].shelf;
        (shelf.ballots(slot), shelf.papers(slot))
    }

    fn false_ballot(
        &mut self,
        at: usize,
        council: &Council,
        open: OpenRound,
        document: &Document,
        approve: bool,
    ) -> Option<Envelope> {
        let mut twin = Tool::new(&self.people[at].tool.me);
        let (_, papers) = self.heard(at, open.slot());
        let without = self.without(at, council, open.slot());
        twin.ballot(council, &open, &document.text, approve, &papers, &without)
    }

    fn false_share(
        &mut self,
        at: usize,
        council: &Council,
        outlook: &Outlook,
        document: &Document,
    ) {
        let (me, slot) = (self.people[at].tool.me.clone(), outlook.slot);
        let Some(table) = outlook.table(council, document) else { return };
        let due = table.due(&me).map(|(session, _)| session.clone());
        if let Some(session) = due {
            let next = nonce(council, &me, slot, self.rng.gen_range(50..60));
            self.say(at, garbage(council, &me, &session, &next));
        }
    }

    /// Objects to everything, or sends a beacon that is dated ahead.
    fn disturb(&mut self, at: usize, council: &Council, documents: &[Document]) {
        let desk = Rc::clone(&self.people[at].desk);
        let governor = self.people[at].tool.me.clone();
        if self.rng.gen_bool(0.3) {
            self.beacons += 1;
            let beacon = Beacon {
                network: self.network,
                group: council.board.group(),
                governor: governor.clone(),
                time: self.now.plus(self.rng.gen_range(0..4) * HOUR_S),
                heads: std::collections::BTreeMap::new(),
                counter: self.beacons,
            };
            return self.say(at, beacon.to_envelope().sign(&council.keys[&governor]));
        }
        let pause = self.rng.gen_bool(0.3);
        let heads = [Lane::Policy, Lane::Release].into_iter().filter_map(|lane| {
            let head = desk.chain.head(lane)?;
            Some((head.statement().clone(), head.id()))
        });
        let thought = documents.iter().map(|one| (one.statement.clone(), one.id));
        let all: Vec<(_, Digest)> = heads.chain(thought).collect();
        if let Some((statement, id)) = all.choose(&mut self.rng) {
            self.object(at, council, statement, *id, pause);
        }
    }
}
