//! Ballots that a node need not keep, because their place is decided.
//!
//! A ballot is needed while any of this holds, and *spent* when none does:
//!
//!  1. its place is not decided here: what waits in a lock is not, for vetoes may open its next round;
//!  2. the statement it votes on stands in the chain, or stood there before a ruling: it is the audit
//!     trail, what proofs for outsiders are made of, and what a class above the threshold counts;
//!  3. it approves what t governors approve: that is signed or can be, and a ruling may name it;
//!  4. it contradicts another ballot of its governor in its slot: the two are a proof;
//!  5. it is among the [`NEWEST`] of its governor, by counter: by them a clone of a laptop is found.
//!
//! What is spent goes, and does not come in again from a neighbour that still has it.

use std::collections::{BTreeMap, BTreeSet};

use borgios_types::{Digest, PublicKey, Round, Seq};

use crate::ballot::Ballot;
use crate::board::Board;
use crate::chain::Chain;
use crate::handback::BALLOTS_MAX;
use crate::lane::Lane;
use crate::name::Name;
use crate::statement::{Statement, VerifiedStatement};

/// Ballots of one governor that are kept whatever they say: as many as a handback names.
pub const NEWEST: usize = BALLOTS_MAX;

/// A place of a lane.
type Place = (Lane, Seq);

/// A ballot's counter and its id: the order of one governor's ballots.
type Count = (u64, Digest);

/// What the ballots of a store say, without their shares: some 200 bytes each.
#[derive(Debug, Default)]
pub struct Casts {
    places: BTreeMap<Place, BTreeMap<Digest, Cast>>,
    /// Counters and ids of each governor's, and where they are.
    counters: BTreeMap<Name, BTreeMap<Count, Place>>,
}

/// One ballot in short.
#[derive(Clone, Debug)]
struct Cast {
    group: PublicKey,
    governor: Name,
    round: Round,
    statement: Digest,
    approves: bool,
    counter: u64,
}

impl Cast {
    fn of(ballot: &Ballot) -> Self {
        Self {
            group: ballot.group,
            governor: ballot.governor.clone(),
            round: ballot.round,
            statement: ballot.statement,
            approves: ballot.approves(),
            counter: ballot.counter,
        }
    }

    /// Whether one governor cannot honestly have cast both.
    fn contradicts(&self, other: &Self) -> bool {
        (&self.governor, self.group, self.round) == (&other.governor, other.group, other.round)
            && (self.statement, self.approves) != (other.statement, other.approves)
    }
}

impl Casts {
    /// Notes a ballot that is stored.
    pub fn insert(&mut self, id: Digest, ballot: &Ballot) {
        let at = (ballot.lane, ballot.seq);
        self.places.entry(at).or_default().insert(id, Cast::of(ballot));
        let counters = self.counters.entry(ballot.governor.clone()).or_default();
        counters.insert((ballot.counter, id), at);
    }

    /// Notes that one is stored no more.
    pub fn remove(&mut self, id: Digest, ballot: &Ballot) {
        let at = (ballot.lane, ballot.seq);
        if let Some(place) = self.places.get_mut(&at) {
            place.remove(&id);
            if place.is_empty() {
                self.places.remove(&at);
            }
        }
        if let Some(counters) = self.counters.get_mut(&ballot.governor) {
            counters.remove(&(ballot.counter, id));
            if counters.is_empty() {
                self.counters.remove(&ballot.governor);
            }
        }
    }

    /// The ballots on one statement, which is for this place.
    pub fn on(&self, lane: Lane, seq: Seq, statement: Digest) -> impl Iterator<Item = Digest> {
        let here = self.places.get(&(lane, seq)).into_iter().flatten();
        here.filter(move |(_, cast)| cast.statement == statement).map(|(id, _)| *id)
    }

    /// Up to `most` ballots that are spent.
    #[must_use]
    pub fn spent(&self, chain: &Chain, most: usize) -> Vec<Digest> {
        let decided = self.places.iter().filter(|((lane, seq), _)| *seq <= chain.head_seq(*lane));
        let all = decided.flat_map(|(_, place)| place.iter().map(move |one| (place, one)));
        all.filter(|(place, (id, cast))| !self.is_needed_at(chain, place, **id, cast))
            .map(|(_, (id, _))| *id)
            .take(most)
            .collect()
    }

    /// Whether a ballot that is not stored is worth it.
    #[must_use]
    pub fn is_needed(&self, chain: &Chain, id: Digest, ballot: &Ballot) -> bool {
        if ballot.seq > chain.head_seq(ballot.lane) {
            return true;
        }
        let mut place = self.places.get(&(ballot.lane, ballot.seq)).cloned().unwrap_or_default();
        let cast = Cast::of(ballot);
        place.insert(id, cast.clone());
        self.is_needed_at(chain, &place, id, &cast)
    }

    /// The oldest ballot of a governor who has too many that can make room for a newer one: of a place that
    /// is decided, no proof against its governor, and not what its statement stands on. Its counter and
    /// its id. Laptops keep all of them, and prove from there what is older. Only ballots that `counts`
    /// accepts are looked at: a name has had several keys, and one makes no room for another.
    #[must_use]
    pub fn oldest(
        &self,
        chain: &Chain,
        governor: &Name,
        counts: impl Fn(&Digest) -> bool,
    ) -> Option<(u64, Digest)> {
        let all = self.counters.get(governor)?.iter();
        let all: Vec<_> = all.filter(|((_, id), _)| counts(id)).collect();
        let old = all.iter().copied().take(all.len().saturating_sub(NEWEST));
        let mut free = old.filter(|((_, id), (lane, seq))| {
            let place = self.places.get(&(*lane, *seq));
            let cast = place.and_then(|place| Some((place, place.get(id)?)));
            *seq <= chain.head_seq(*lane)
                && cast.is_some_and(|(place, cast)| {
                    !place.values().any(|other| other.contradicts(cast))
                        && !stands_on_ballots(chain, &cast.statement)
                })
        });
        free.next().map(|(one, _)| *one)
    }

    /// Rules 2 to 5, at a place that is decided.
    fn is_needed_at(
        &self,
        chain: &Chain,
        place: &BTreeMap<Digest, Cast>,
        id: Digest,
        cast: &Cast,
    ) -> bool {
        let stands = || statement(chain, &cast.statement).is_some();
        let signable = || {
            let same = |other: &&Cast| {
                other.approves && (other.statement, other.group) == (cast.statement, cast.group)
            };
            let by: BTreeSet<&Name> =
                place.values().filter(same).map(|other| &other.governor).collect();
            let board = board(chain, cast.group);
            // Of a board that is not known nothing is known to be too few.
            cast.approves && board.is_none_or(|b| by.len() >= usize::from(b.threshold().0))
        };
        stands()
            || signable()
            || place.values().any(|other| other.contradicts(cast))
            || self.is_new(id, cast)
    }

    fn is_new(&self, id: Digest, cast: &Cast) -> bool {
        let Some(all) = self.counters.get(&cast.governor) else { return true };
        let newer = all.keys().rev().take(NEWEST).filter(|one| **one > (cast.counter, id));
        newer.count() < NEWEST
    }
}

/// What stands under this id, or stood there before a ruling.
fn statement<'a>(chain: &'a Chain, id: &Digest) -> Option<&'a VerifiedStatement> {
    let stands = chain.known(id).and_then(|(lane, seq)| chain.get(lane, seq));
    stands.or_else(|| chain.overruled().find(|verified| verified.id() == *id))
}

/// Whether a statement does not verify again without its ballots.
fn stands_on_ballots(chain: &Chain, id: &Digest) -> bool {
    let Some(verified) = statement(chain, id) else { return false };
    let statement: &Statement = verified.statement();
    let under = statement.policy.and_then(|seq| chain.policy_at(seq));
    let class = chain.class_for(statement, *id);
    let (Some(under), Some(class)) = (under, class) else { return true };
    // The rules it was applied under may have been those of its own time alone.
    let then = under.class_of(statement);
    let more = |approvals: u16| approvals > under.board.threshold().0;
    more(class.approvals) || more(then.approvals) || class.rebuilds() > 0 || then.rebuilds() > 0
}

fn board(chain: &Chain, group: PublicKey) -> Option<&Board> {
    let policies = chain.after(Lane::Policy, Seq(0)).filter_map(VerifiedStatement::policy);
    policies.map(|policy| &policy.board).find(|board| board.group() == group)
}

#[cfg(test)]
mod tests {
    use borgios_types::Envelope;

    use super::*;
    use crate::ballot::Choice;
    use crate::chain::Verdict;
    use crate::fixture::{Council, NOW, release_body, statement as draft};
    use crate::object::Object as _;
    use crate::wire::Bytes;

    /// A board of 2 of 3, the release that stands at release/1, and one that lost.
    fn fleet() -> (Council, Envelope, Statement, Statement) {
        let council = Council::new(3, 2, 1, 1);
        let first = council.sign(&council.first_policy(2));
        let network = Some(first.id());
        let release =
            |version| draft(Lane::Release, 1, network, None, Some(1), release_body(version));
        (council, first, release("1"), release("2"))
    }

    fn ballot_of(
        council: &Council,
        by: usize,
        on: &Statement,
        approves: bool,
        counter: u64,
    ) -> Ballot {
        let rejection = council.reject(&council.name(by), on);
        let read = Ballot::parse(&rejection).unwrap();
        let nonces = Bytes(vec![0; 64]);
        let choice = if approves { Choice::Commit { nonces } } else { read.choice.clone() };
        Ballot { choice, counter, ..read }
    }

    #[test]
    fn what_is_spent_goes_and_nothing_else() {
        let (council, first, one, two) = fleet();
        let mut chain = Chain::new(Some(first.id()));
        let apply = |chain: &mut Chain, envelope: &Envelope| {
            let Ok(Verdict::New(verified)) = chain.verify(NOW, envelope, &[]) else { panic!() };
            chain.apply(*verified);
        };
        apply(&mut chain, &first);
        let mut casts = Casts::default();
        let mut put = |name: &str, round: u32, ballot: Ballot| {
            let ballot = Ballot { round: Round(round), ..ballot };
            casts.insert(Digest::of(name.as_bytes()), &ballot);
        };
        let ballot = |by, on: &Statement, approves| ballot_of(&council, by, on, approves, 1);
        put("the trail", 0, ballot(0, &one, true));
        put("a rejection of what stands", 0, ballot(2, &one, false));
        put("an approval that lost", 1, ballot(2, &two, true));
        put("a rejection of what lost", 1, ballot(1, &two, false));
        put("one of a pair", 2, ballot(2, &two, true));
        put("the other one", 2, ballot(2, &two, false));
        let mut third = two.clone();
        third.body = release_body("3");
        put("of t who approve", 3, ballot(0, &third, true));
        put("and the other", 3, ballot(1, &third, true));
        // Each governor went on voting, at places that are open.
        let mut later = one.clone();
        (later.seq, later.prev) = (Seq(2), Some(one.to_envelope().id()));
        for by in 0..3 {
            for counter in 2..NEWEST as u64 + 2 {
                let newer = ballot_of(&council, by, &later, false, counter);
                casts.insert(Digest::of(format!("{by} {counter}").as_bytes()), &newer);
            }
        }
        assert_eq!(casts.spent(&chain, usize::MAX), [], "nothing is decided");
        apply(&mut chain, &council.sign(&one));
        let mut lost = [&b"an approval that lost"[..], b"a rejection of what lost"].map(Digest::of);
        lost.sort();
        let mut spent = casts.spent(&chain, usize::MAX);
        spent.sort();
        assert_eq!(spent, lost);
        assert_eq!(casts.spent(&chain, 1).len(), 1);

        // A late one is judged in the same way, unless it is new or makes a pair.
        let late = Digest::of(b"late");
        let offered = |ballot: Ballot, round: u32| Ballot { round: Round(round), ..ballot };
        let needed = |casts: &Casts, ballot: &Ballot| casts.is_needed(&chain, late, ballot);
        assert!(!needed(&casts, &offered(ballot(0, &two, false), 1)));
        assert!(needed(&casts, &offered(ballot(2, &two, false), 1)), "it contradicts the approval");
        let newest = ballot_of(&council, 0, &two, false, 1_000);
        assert!(needed(&casts, &offered(newest, 1)), "a clone may have cast it");
        casts.remove(Digest::of(b"an approval that lost"), &ballot(2, &two, true));
        casts.remove(Digest::of(b"a rejection of what lost"), &ballot(1, &two, false));
        assert_eq!(casts.spent(&chain, usize::MAX), []);
    }
}
