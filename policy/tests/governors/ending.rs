//! The end of a world: nothing is lost any more, everybody goes on, and then everything must agree.
//!
//! ```text
//! losses ─▶ calm: all hear all, and honest governors act ─▶ all is published ─▶ locks are over ─▶ check
//! ```
//!
//! What "the same state" means: every laptop and every node has the same statement, or the same closing
//! policy, at every place, once everybody heard everything and every lock and pause is over. There are
//! two exceptions: vetoes that came to some before the lock was over and to others after it, and what a
//! former board signed that some applied before the change of the board. Both end with a ruling, and in the
//! lane `policy` with a policy upon what was vetoed or, where the next round was signed meanwhile, with one
//! upon that which unites both: who had the one or the other has the same from there on. A change of the
//! board that was vetoed late is signed once more, as the next round, by both boards; then both sides have
//! the same board, which unites them. Nothing ends a split where the sides have different boards, where one
//! was built upon on either side, and where some hold several of which none is dead.

use std::collections::{BTreeMap, BTreeSet};

use borgios_policy::fixture::{release_body, statement};
use borgios_policy::gate::Standing;
use borgios_policy::rules::RULINGS_MAX;
use borgios_policy::{
    Chain, Lane, Name, Policy, Ruling, Slot, Statement, VerifiedStatement, tally,
};
use borgios_types::{Digest, Envelope, KeyEpoch, Round, Seq, SignedBy};

use super::node::{State, is_vetoed, state};
use super::outlook::ROUNDS;
use super::said::What;
use super::world::{HOUR_S, World};

/// Most rulings that the end takes.
const RULINGS: usize = 8;

/// The policies that some have in force.
type Side = Vec<(Seq, Digest)>;

/// What is signed for one place of the lane `policy`.
enum Policies {
    /// This alone, and it was vetoed.
    One(Digest),
    /// All that was signed is dead on the laptops: the next round is open there. Some have this one, which
    /// makes another board.
    Change(Digest),
    /// Several, and laptops hold all of them dead: the next round is open there.
    NoneHere,
    /// Some have these, and the laptops another.
    Apart(BTreeSet<Digest>),
}

impl World {
    /// The network is whole again: everybody hears everything, and each honest governor goes on.
    pub(crate) fn calm(&mut self, turns: usize) {
        self.calm = true;
        for _ in 0..turns {
            self.hear_all();
            for at in self.honest() {
                self.act(at);
            }
            self.pass(self.now.plus(HOUR_S / 4));
        }
        self.publish_all();
        self.wait();
    }

    /// Everybody hears everything.
    pub(super) fn hear_all(&mut self) {
        self.drop_messages();
        let said: Vec<_> = self.said.values().cloned().collect();
        for to in 0..self.people.len() + self.nodes.len() {
            for one in &said {
                if !self.shelf(to).all.contains_key(&one.id) {
                    self.deliver(to, one);
                }
            }
        }
        self.pass(self.now);
    }

    /// Whatever is signed by now is published, until there is nothing more.
    fn publish_all(&mut self) {
        loop {
            self.hear_all();
            let before = self.said.len();
            for at in self.honest() {
                self.publish_signed(at);
            }
            if self.said.len() == before {
                return;
            }
        }
    }

    /// Every lock and every pause is over, and governors are alive meanwhile.
    pub(super) fn wait(&mut self) {
        for half_hours in 0..20 {
            if half_hours % 6 == 0 {
                for at in self.honest() {
                    self.send_beacon(at);
                }
                self.hear_all();
            }
            self.pass(self.now.plus(HOUR_S / 2));
        }
    }

    fn states(&self) -> Vec<(String, State)> {
        let people = self.people.iter();
        // From the policy on that united them all have the same.
        let state = |chain| {
            let mut state = state(chain);
            state.retain(|(lane, seq), _| *lane != Lane::Policy || !self.united.contains(seq));
            state
        };
        let people =
            people.map(|one| (format!("{}'s laptop", one.tool.me), state(&one.desk.chain)));
        let nodes = self.nodes.iter().enumerate();
        people
            .chain(nodes.map(|(at, (node, _))| (format!("node {at}"), state(&node.chain))))
            .collect()
    }

    /// Invariants of the end.
    pub(crate) fn check(&mut self) {
        self.check_signatures();
        self.check_culprits();
        for _ in 0..RULINGS {
            match self.split() {
                None => break,
                Some((Lane::Policy, seq, why)) => match self.policies(seq) {
                    Ok(Policies::One(vetoed)) => {
                        *self.counts.splits.entry(why).or_default() += 1;
                        self.build_upon(seq, vetoed);
                    }
                    // All that were signed are vetoed, and some have one of them.
                    Ok(Policies::NoneHere) => self.sign_again(seq),
                    Ok(Policies::Change(vetoed)) => {
                        *self.counts.splits.entry("late vetoes of a change").or_default() += 1;
                        self.change_again(seq, vetoed);
                    }
                    Ok(Policies::Apart(others)) => {
                        *self.counts.splits.entry("policies united").or_default() += 1;
                        self.unite(seq, others);
                    }
                    // Nothing ends it: see the head of this file.
                    Err(why) => {
                        *self.counts.splits.entry(why).or_default() += 1;
                        self.check_sides();
                        self.count();
                        return;
                    }
                },
                Some((lane, seq, why)) => {
                    *self.counts.splits.entry(why).or_default() += 1;
                    self.rule(lane, seq);
                }
            }
        }
        assert!(self.split().is_none(), "{}: rulings do not end it", self.context);
        self.former_boards_stay_former();
        self.count();
    }

    /// The first place at which two hold different things, and why they may.
    fn split(&self) -> Option<(Lane, Seq, &'static str)> {
        self.first_split(&self.states())
    }

    fn first_split(&self, states: &[(String, State)]) -> Option<(Lane, Seq, &'static str)> {
        let places: BTreeSet<(Lane, Seq)> =
            states.iter().flat_map(|(_, state)| state.keys().copied()).collect();
        let place = places.into_iter().find(|place| {
            let held: BTreeSet<_> = states.iter().map(|(_, state)| state.get(place)).collect();
            held.len() > 1
        })?;
        let (lane, seq) = place;
        let held = || states.iter().map(|(who, state)| format!("{who} {:?}", state.get(&place)));
        let all: Vec<Digest> = self
            .said
            .values()
            .filter(
                |said| matches!(&said.what, What::Statement(one) if (one.lane, one.seq) == place),
            )
            .map(|said| said.id)
            .collect();
        // Somebody holds what others heard the vetoes of before its lock was over.
        let held_ids: BTreeSet<Digest> =
            states.iter().filter_map(|(_, state)| state.get(&place).copied()).collect();
        // Or the next of the lane was signed upon it before its signers heard of them: then it lives again,
        // beside the next round of its place.
        let upon = |id: &&Digest| {
            self.said
                .values()
                .any(|said| matches!(&said.what, What::Statement(one) if one.prev == Some(**id)))
        };
        let upon = all.iter().filter(upon);
        if held_ids.iter().chain(upon).any(|id| self.is_vetoed(*id)) {
            return Some((
                lane,
                seq,
                if lane == Lane::Policy { "late vetoes of a policy" } else { "vetoes" },
            ));
        }
        let under = |said: &std::rc::Rc<super::said::Said>| match &said.what {
            What::Statement(one) => one.policy.is_some_and(|policy| self.united.contains(&policy)),
            _ => false,
        };
        if all.iter().filter_map(|id| self.said.get(id)).any(under) {
            return Some((lane, seq, "judged by one of two policies"));
        }
        // Two that were signed for one place, neither of them dead there: only vetoes let one go on.
        let is_frozen = |node: &super::node::Node| {
            node.gate.docs().any(|(id, doc)| {
                let standing = node.gate.standing(self.now, &node.chain, id);
                (doc.statement().lane, doc.statement().seq) == place
                    && matches!(standing, Some(Standing::Frozen { .. }))
            })
        };
        if lane == Lane::Policy && self.nodes.iter().any(|(node, _)| is_frozen(node)) {
            return Some((lane, seq, "a frozen policy"));
        }
        let crossed = |id: &Digest| lane != Lane::Policy && self.is_of_former_board(*id);
        if all.iter().any(crossed) {
            return Some((lane, seq, "former board"));
        }
        let held: Vec<String> = held().collect();
        panic!("{}: {lane}/{seq} is not the same everywhere: {held:#?}", self.context)
    }

    pub(crate) fn is_vetoed(&self, id: Digest) -> bool {
        let vetoes = self.said.values().filter_map(|said| match &said.what {
            What::Veto(veto) => Some(veto),
            _ => None,
        });
        is_vetoed(self.councils.iter().map(|council| &council.board), vetoes, id)
    }

    /// Whether a board signed it that is no longer in force, and the one in force did not take it over.
    fn is_of_former_board(&self, id: Digest) -> bool {
        let Some(What::Statement(one)) = self.said.get(&id).map(|said| &said.what) else {
            return false;
        };
        let chain = &self.people[0].desk.chain;
        let (Some(now), Some(named)) = (chain.policy(), one.policy) else { return false };
        let then = chain.policy_at(named);
        then.is_some_and(|then| then.board.group() != now.board.group())
            && !now.carried.contains(&id)
    }

    /// What is signed for a place of the lane `policy` on which holders differ, or why nothing ends that.
    fn policies(&self, seq: Seq) -> Result<Policies, &'static str> {
        let here = self.said.values().filter_map(|said| match &said.what {
            What::Statement(one) if (one.lane, one.seq) == (Lane::Policy, seq) => {
                Some((said.id, one))
            }
            _ => None,
        });
        let all: Vec<(Digest, &Statement)> = here.collect();
        let laptop = &self.people[self.honest()[0]].desk.chain;
        if laptop.get(Lane::Policy, seq).is_some() {
            return self.apart(seq).map(Policies::Apart);
        }
        let before = laptop.policy().expect("a founded network");
        let held = self.chains().filter_map(|chain| chain.get(Lane::Policy, seq));
        let change = held.into_iter().find(|held| {
            held.policy().is_some_and(|made| made.board.group() != before.board.group())
        });
        Ok(match (change, &all[..]) {
            (Some(change), _) => Policies::Change(change.id()),
            (None, [(id, _)]) => Policies::One(*id),
            (None, _) => Policies::NoneHere,
        })
    }

    /// Whoever has the same policies has the same in every other lane, but for what a ruling would end.
    fn check_sides(&mut self) {
        let mut sides: BTreeMap<Side, Vec<(String, State)>> = BTreeMap::new();
        for (who, state) in self.states() {
            let policies = state.iter().filter(|((lane, _), _)| *lane == Lane::Policy);
            let policies = policies.map(|((_, seq), id)| (*seq, *id)).collect();
            sides.entry(policies).or_default().push((who, state));
        }
        for states in sides.into_values() {
            if let Some((_, _, why)) = self.first_split(&states) {
                *self.counts.splits.entry(why).or_default() += 1;
            }
        }
    }

    fn chains(&self) -> impl Iterator<Item = &Chain> {
        let people = self.people.iter().map(|one| &one.desk.chain);
        people.chain(self.nodes.iter().map(|(node, _)| &node.chain))
    }

    /// The policies that others have where the board's laptops have one of their own.
    fn apart(&self, seq: Seq) -> Result<BTreeSet<Digest>, &'static str> {
        let chain = &self.people[self.honest()[0]].desk.chain;
        let own = chain.get(Lane::Policy, seq).map(VerifiedStatement::id);
        let policy = chain.policy_at(seq).expect("it was found to be there");
        let mut others = BTreeSet::new();
        for chain in self.chains() {
            let Some(here) = chain.get(Lane::Policy, seq) else {
                return Err("policy, not ended: some have none of several");
            };
            let made = here.policy().expect("a policy");
            if made.board.group() != policy.board.group() {
                return Err("policy, not ended: another board");
            }
            if chain.head_seq(Lane::Policy) != seq {
                return Err("policy, not ended: built upon");
            }
            if Some(here.id()) != own {
                others.insert(here.id());
            }
        }
        Ok(others)
    }

    /// The board signs the next round of a place.
    fn sign_again(&mut self, seq: Seq) {
        let desk = &self.people[self.honest()[0]].desk;
        let before = desk.chain.policy().expect("a founded network").clone();
        let council = &self.councils[before.board.epoch().0 as usize - 1];
        let mut policy = Policy { rulings: Vec::new(), unites: BTreeSet::new(), ..before };
        desk.unite(&mut policy);
        let (head, prev) = (desk.chain.head_seq(Lane::Policy), desk.chain.tip(Lane::Policy));
        assert_eq!(head.next(), seq, "{}: laptops are not that far", self.context);
        let (network, prev) = (Some(self.network), prev.map(|tip| tip.id));
        let draft = statement(Lane::Policy, seq.0, network, prev, Some(head.0), policy.to_body());
        let expires = self.expires;
        let signed = council.sign(&Statement { round: Round(ROUNDS), expires, ..draft });
        self.say(0, signed);
        self.hear_all();
        self.wait();
        self.wait();
    }

    /// Both boards sign a change once more that was vetoed after some had applied it.
    fn change_again(&mut self, seq: Seq, vetoed: Digest) {
        let Some(What::Statement(change)) = self.said.get(&vetoed).map(|said| &said.what) else {
            panic!("{}: policy/{seq} was never said", self.context)
        };
        let made = Policy::parse(&change.body).expect("a policy");
        let again = Statement {
            round: Round(ROUNDS),
            expires: self.expires,
            body: Policy { unites: BTreeSet::new(), ..made.clone() }.to_body(),
            ..change.clone()
        };
        let next = &self.councils[made.board.epoch().0 as usize - 1];
        let old = &self.councils[made.board.epoch().0 as usize - 2];
        let mut signed = old.sign(&again);
        let sig = next.group_signature(Lane::Policy, &signed.payload);
        signed.sigs.push(SignedBy { by: next.board.group(), sig });
        self.say(0, signed);
        self.hear_all();
        self.wait();
        self.wait();
        let here = self.people[self.honest()[0]].desk.chain.get(Lane::Policy, seq);
        assert!(here.is_some(), "{}: policy/{seq} is not taken again", self.context);
    }

    /// The board signs the next policy for all who have another one than its laptops.
    fn unite(&mut self, seq: Seq, others: BTreeSet<Digest>) {
        let chain = &self.people[self.honest()[0]].desk.chain;
        let before = chain.policy_at(seq).expect("it was found to be there").clone();
        let prev = chain.get(Lane::Policy, seq).map(VerifiedStatement::id);
        let council = &self.councils[before.board.epoch().0 as usize - 1];
        let made = others.iter().filter_map(|id| match &self.said.get(id)?.what {
            What::Statement(one) => Policy::parse(&one.body).ok(),
            _ => None,
        });
        let made: Vec<Policy> = made.collect();
        let rulings = chain.uniting_rulings(seq, &made);
        let policy = Policy { rulings, unites: others, ..before };
        let (network, next) = (Some(self.network), seq.next());
        let draft = statement(Lane::Policy, next.0, network, prev, Some(seq.0), policy.to_body());
        let expires = self.expires;
        let signed = council.sign(&Statement { round: Round(ROUNDS), expires, ..draft });
        let id = signed.id();
        self.say(0, signed);
        self.hear_all();
        self.wait();
        self.wait();
        for chain in self.chains() {
            let here = chain.get(Lane::Policy, next).map(VerifiedStatement::id);
            assert_eq!(here, Some(id), "{}: policy/{next} unites nobody", self.context);
        }
        self.united.insert(seq);
    }

    /// The board goes on from a policy that it vetoed, for some have it.
    fn build_upon(&mut self, seq: Seq, vetoed: Digest) {
        let Some(What::Statement(below)) = self.said.get(&vetoed).map(|said| &said.what) else {
            panic!("{}: policy/{seq} was never said", self.context)
        };
        let policy = Policy::parse(&below.body).expect("a policy");
        let council = &self.councils[policy.board.epoch().0 as usize - 1];
        let (network, next) = (Some(self.network), seq.next().0);
        let draft =
            statement(Lane::Policy, next, network, Some(vetoed), Some(seq.0), policy.to_body());
        let signed = council.sign(&Statement { round: Round(ROUNDS), ..draft });
        self.say(0, signed);
        self.hear_all();
        self.wait();
        for (node, _) in &self.nodes {
            let known = node.chain.known(&vetoed).is_some();
            assert!(known, "{}: policy/{seq} does not come back", self.context);
        }
    }

    /// The board settles a place: what the laptops hold there wins, or it is closed; and so what they hold
    /// behind it, for each of those was signed by who signed the first.
    fn rule(&mut self, lane: Lane, seq: Seq) {
        let chain = &self.people[self.honest()[0]].desk.chain;
        let before = chain.policy().expect("a founded network");
        let winner = |seq| chain.get(lane, seq).map(VerifiedStatement::id);
        let behind = chain.after(lane, seq).map(|held| held.statement().seq);
        let behind = behind.filter(|seq| chain.settled(lane, *seq).is_none());
        let places = std::iter::once(seq).chain(behind).take(RULINGS_MAX);
        let rulings = places.map(|seq| Ruling::new(lane, seq, winner(seq))).collect();
        let policy = Policy { rulings, ..before.clone() };
        let council = &self.councils[before.board.epoch().0 as usize - 1];
        let prev = chain.tip(Lane::Policy).map(|tip| tip.id);
        let head = chain.head_seq(Lane::Policy);
        let draft = statement(
            Lane::Policy,
            head.0 + 1,
            Some(self.network),
            prev,
            Some(head.0),
            policy.to_body(),
        );
        let expires = self.expires;
        let signed = council.sign(&Statement { round: Round(ROUNDS), expires, ..draft });
        self.say(0, signed);
        self.hear_all();
        // A node that went back hears of what comes after the winner once that is applied, and locks it then.
        self.wait();
        self.wait();
    }

    /// No slot has two signatures, and no number but for what was vetoed, of which the next round is open.
    pub(super) fn check_signatures(&self) {
        let mut found: BTreeMap<(KeyEpoch, Lane, Seq), BTreeSet<Digest>> = BTreeMap::new();
        let mut slots: BTreeMap<Slot, BTreeSet<Digest>> = BTreeMap::new();
        for said in self.said.values() {
            let What::Proposal(draft, text) = &said.what else { continue };
            let id = Digest::of(text.as_bytes());
            // A change of the board takes two signatures. The board that it is made under keeps the
            // rounds apart, and what the next one alone has signed is worth nothing.
            let under = draft.policy.and_then(|seq| self.people[0].desk.chain.policy_at(seq));
            let council_of =
                |group| self.councils.iter().filter(move |one| one.board.group() == group);
            for council in under.into_iter().flat_map(|policy| council_of(policy.board.group())) {
                let slot = council.slot(draft);
                let (ballots, papers) = self.held(slot, id);
                let t = usize::from(council.board.threshold().0);
                if ballots.len() < t {
                    continue;
                }
                let texts = [text.clone()];
                let signed = tally(&council.board, slot, &texts, &papers, &ballots);
                if signed.signed().is_none() {
                    continue;
                }
                slots.entry(slot).or_default().insert(id);
                if !self.is_vetoed(id) {
                    found.entry((slot.epoch, slot.lane, slot.seq)).or_default().insert(id);
                }
            }
        }
        for (slot, ids) in slots {
            assert!(ids.len() <= 1, "{}: two signatures for {slot:?}", self.context);
        }
        for ((_, lane, seq), ids) in found {
            assert!(ids.len() <= 1, "{}: two signatures for {lane}/{seq}", self.context);
        }
    }

    /// The ballots that approve a document, all that was ever said, and the papers of its slot: a
    /// liar's other ballots are left aside, as a liar would.
    fn held(&self, slot: Slot, id: Digest) -> (Vec<Envelope>, Vec<Envelope>) {
        let (mut ballots, mut papers) = (Vec::new(), Vec::new());
        for said in self.nodes[0].1.papers.get(&slot).into_iter().flat_map(BTreeMap::values) {
            match &said.what {
                What::Ballot(_, ballot) if ballot.statement == id && ballot.approves() => {
                    ballots.push(said.envelope.clone());
                }
                What::Ballot(..) => {}
                _ => papers.push(said.envelope.clone()),
            }
        }
        (ballots, papers)
    }

    /// Everybody heard the same, so everybody names the same: liars alone.
    pub(super) fn check_culprits(&mut self) {
        let all: Vec<&Digest> = self.said.keys().collect();
        for to in 0..self.people.len() + self.nodes.len() {
            let here: Vec<&Digest> = self.shelf(to).all.keys().collect();
            assert_eq!(here, all, "{}: {to} heard something else", self.context);
        }
        let shelf = &self.nodes[0].1;
        let slots: BTreeSet<Slot> = shelf.papers.keys().copied().collect();
        let mut named = BTreeSet::new();
        for slot in slots {
            let council = &self.councils[slot.epoch.0 as usize - 1];
            let proposals = shelf.proposals.get(&(slot.lane, slot.seq));
            let texts = proposals.into_iter().flat_map(BTreeMap::values);
            let texts: BTreeSet<String> = texts
                .filter_map(|said| match &said.what {
                    What::Proposal(draft, text) if draft.round == slot.round => Some(text.clone()),
                    _ => None,
                })
                .collect();
            let texts: Vec<String> = texts.into_iter().collect();
            let tally =
                tally(&council.board, slot, &texts, &shelf.papers(slot), &shelf.ballots(slot));
            named.extend(tally.culprits.into_iter().map(|culprit| culprit.name));
        }
        let liars: &BTreeSet<Name> = &self.liars;
        assert!(named.is_subset(liars), "{}: {named:?} named, liars {liars:?}", self.context);
        self.counts.named = named.len();
    }

    /// All of a board that is over sign together, and nobody cares.
    fn former_boards_stay_former(&mut self) {
        let chain = &self.people[0].desk.chain;
        let in_force = chain.policy().expect("a founded network").board.epoch();
        let Some(old) = self.councils.iter().find(|council| council.board.epoch() < in_force)
        else {
            return;
        };
        let (head, prev) =
            (chain.head_seq(Lane::Release), chain.tip(Lane::Release).map(|tip| tip.id));
        let body = release_body("9.9");
        let late = statement(Lane::Release, head.0 + 1, Some(self.network), prev, Some(1), body);
        let late = old.sign(&Statement { expires: self.expires, ..late });
        let id = late.id();
        self.say(0, late);
        self.hear_all();
        self.wait();
        for (node, _) in &self.nodes {
            assert!(!node.has(&id), "{}: a former board is obeyed", self.context);
        }
        let obeyed = |one: &super::world::Person| one.desk.chain.known(&id).is_some();
        assert!(!self.people.iter().any(obeyed), "{}: a former board is obeyed", self.context);
    }

    fn count(&mut self) {
        let (node, shelf) = &self.nodes[0];
        let chain = &node.chain;
        let decided: Vec<_> = chain.after(Lane::Release, Seq(0)).collect();
        for one in &decided {
            *self.counts.rounds.entry(one.statement().round.0).or_default() += 1;
        }
        self.counts.decided = decided.len() as u64;
        let emergency = |one: &&&VerifiedStatement| one.statement().body.get("class").is_some();
        self.counts.emergencies = decided.iter().filter(emergency).count();
        self.counts.policies = chain.head_seq(Lane::Policy).0 - 1;
        self.counts.closed = (1..=chain.head_seq(Lane::Release).0)
            .filter(|seq| chain.settled(Lane::Release, Seq(*seq)).is_some())
            .count();
        self.counts.vetoed = shelf.statements.keys().filter(|id| self.is_vetoed(**id)).count();
        let epoch = chain.policy().expect("a founded network").board.epoch();
        self.counts.boards = u64::from(epoch.0) - 1;
    }
}
