//! A governor's laptop: what it takes for signed, and what for dead.
//!
//! It keeps no lock. It goes by what is signed, and by vetoes: what enough governors took back, and
//! nothing signed builds upon, is dead there. That is the rule of the program, `cli/src/objections.rs`.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use borgios_policy::policy::UNITES_MAX;
use borgios_policy::{
    Board, Chain, Lane, Name, Objection, Policy, Ruling, Statement, Submission, Verdict,
};
use borgios_types::Digest;

use super::said::{Said, Shelf, Stack, What};

/// One state of a laptop.
pub(crate) struct Desk {
    pub(crate) chain: Chain,
    pub(crate) dead: BTreeSet<Digest>,
    /// Statements that it keeps.
    pub(crate) stored: Stack,
    /// Tells states apart.
    pub(crate) number: usize,
}

impl Desk {
    /// Lets a policy unite with the one in force here what else may be in its place: see `unite` of
    /// `cli/src/unity.rs`.
    pub(crate) fn unite(&self, policy: &mut Policy) {
        let Some(in_force) = self.chain.policy() else { return };
        let seq = self.chain.head_seq(Lane::Policy);
        let takes = |id: &Digest| {
            let one = self.stored.get(id).and_then(|said| read(said))?;
            let made = Policy::parse(&one.body).ok()?;
            let here = (one.lane, one.seq) == (Lane::Policy, seq);
            (here && made.board.group() == in_force.board.group()).then_some((*id, made))
        };
        let apart: BTreeMap<Digest, Policy> =
            self.dead.iter().filter_map(takes).take(UNITES_MAX).collect();
        policy.unites = apart.keys().copied().collect();
        if !apart.is_empty() {
            let own = std::mem::take(&mut policy.rulings);
            policy.rulings = self.chain.uniting_rulings(seq, apart.values());
            let new = own.into_iter().filter(|one| {
                policy.rulings.iter().all(|other| (other.lane, other.seq) != (one.lane, one.seq))
            });
            let new: Vec<Ruling> = new.collect();
            policy.rulings.extend(new);
        }
    }
}

type Key = (Vec<Digest>, Vec<Digest>);

/// The states that were worked out before: each follows from the statements kept and the vetoes.
#[derive(Default)]
pub(crate) struct Desks(BTreeMap<Key, Rc<Desk>>);

impl Desks {
    /// The state after founding.
    pub(crate) fn first(&mut self, network: Digest, policy: &Rc<Said>) -> Rc<Desk> {
        self.state(network, Stack::from([(policy.id, Rc::clone(policy))]), &Shelf::default(), None)
    }

    /// The state in which a laptop with this shelf is after `before`.
    pub(crate) fn next(&mut self, network: Digest, shelf: &Shelf, before: &Rc<Desk>) -> Rc<Desk> {
        let mut desk = self.state(network, before.stored.clone(), shelf, Some(before));
        loop {
            let fits = |said: &&Rc<Said>| {
                let Some(Statement { lane, seq, prev, body, .. }) = read(said) else {
                    return false;
                };
                let next = *seq == desk.chain.head_seq(*lane).next();
                let tip = desk.chain.tip(*lane).map(|tip| tip.id);
                let united = match lane {
                    Lane::Policy => Policy::united_by(body),
                    _ => BTreeSet::new(),
                };
                let follows =
                    next && (*prev == tip || tip.is_some_and(|tip| united.contains(&tip)));
                follows || prev.iter().chain(&united).any(|below| desk.dead.contains(below))
            };
            let all = shelf.statements.values().chain(shelf.accepted.values());
            let new = all.filter(|said| !desk.stored.contains_key(&said.id));
            let candidates: Vec<Rc<Said>> = new.filter(fits).cloned().collect();
            let taken = candidates.into_iter().find_map(|said| {
                let verdict = through(&desk.chain, &said).verify_stored(&said.envelope, &[]);
                let mut stored = desk.stored.clone();
                stored.insert(said.id, Rc::clone(&said));
                if matches!(verdict, Ok(Verdict::New(_))) {
                    return Some(self.state(network, stored, shelf, Some(&desk)));
                }
                // What is signed on top of what is dead brings it back.
                let What::Statement(Statement { prev: Some(prev), lane, body, .. }) = &said.what
                else {
                    return None;
                };
                let mut below = BTreeSet::from([*prev]);
                if *lane == Lane::Policy {
                    below.extend(Policy::united_by(body));
                }
                if below.is_disjoint(&desk.dead) {
                    return None;
                }
                let revived = self.state(network, stored, shelf, None);
                revived.chain.known(&said.id).is_some().then_some(revived)
            });
            match taken {
                Some(next) => desk = next,
                None => return desk,
            }
        }
    }

    fn state(
        &mut self,
        network: Digest,
        stored: Stack,
        shelf: &Shelf,
        before: Option<&Rc<Desk>>,
    ) -> Rc<Desk> {
        let mut ids = Vec::new();
        let mut vetoes = Vec::new();
        for (id, said) in &shelf.vetoes {
            if let What::Veto(veto) = &said.what
                && stored.contains_key(&veto.statement)
            {
                ids.push(*id);
                vetoes.push(veto);
            }
        }
        let key = (stored.keys().copied().collect(), ids);
        if let Some(known) = self.0.get(&key) {
            return Rc::clone(known);
        }
        let number = self.0.len();
        let (chain, dead) = match before.filter(|_| vetoes.is_empty()) {
            Some(before) if before.dead.is_empty() => {
                let mut chain = before.chain.clone();
                ripen(&mut chain, &stored);
                let new = stored.iter().filter(|(id, _)| !before.stored.contains_key(*id));
                let new: Vec<Submission> = new.map(|(_, said)| submission(said)).collect();
                drop(chain.follow(&new));
                (chain, BTreeSet::new())
            }
            Some(_) | None => restore(network, &stored, &vetoes),
        };
        let desk = Rc::new(Desk { chain, dead, stored, number });
        self.0.insert(key, Rc::clone(&desk));
        desk
    }
}

/// What a chain can be made of.
fn read(said: &Said) -> Option<&Statement> {
    match &said.what {
        What::Statement(statement) | What::Recovery(statement) => Some(statement),
        _ => None,
    }
}

/// Lets the policies of the recovery key count that a laptop keeps: its owner accepted them.
fn ripen(chain: &mut Chain, stored: &Stack) {
    let accepted = stored.values().filter(|said| matches!(said.what, What::Recovery(_)));
    accepted.for_each(|said| chain.ripen(said.id));
}

/// The chain as it judges this one.
fn through<'a>(chain: &'a Chain, said: &Said) -> Cow<'a, Chain> {
    let mut chain = Cow::Borrowed(chain);
    if matches!(said.what, What::Recovery(_)) {
        chain.to_mut().ripen(said.id);
    }
    chain
}

fn submission(said: &Rc<Said>) -> Submission {
    Submission { statement: said.envelope.clone(), ballots: Vec::new() }
}

/// See `restore` of the program.
fn restore(network: Digest, stored: &Stack, vetoes: &[&Objection]) -> (Chain, BTreeSet<Digest>) {
    let submissions = Submission::sort(stored.values().map(|said| said.envelope.clone()));
    let (mut left, mut dead) = (submissions, BTreeSet::new());
    let follow = |left: &[Submission]| {
        let mut chain = Chain::new(Some(network));
        ripen(&mut chain, stored);
        drop(chain.follow(left));
        chain
    };
    let mut chain = follow(&left);
    for policies in [true, false] {
        while !vetoes.is_empty() {
            let more = taken_back(&chain, stored, vetoes, policies);
            if more.is_subset(&dead) {
                break;
            }
            dead.extend(more);
            left.retain(|one| !dead.contains(&one.statement.id()));
            chain = follow(&left);
        }
    }
    (chain, dead)
}

fn taken_back(
    chain: &Chain,
    stored: &Stack,
    vetoes: &[&Objection],
    policies: bool,
) -> BTreeSet<Digest> {
    let statements = || stored.iter().filter_map(|(id, said)| Some((*id, read(said)?)));
    let is_killed = |id: Digest, statement: &Statement| {
        let killed = |(board, needed): (&Board, u16)| {
            let on_it = vetoes.iter().filter(|veto| {
                (veto.statement, veto.lane, veto.seq, veto.group)
                    == (id, statement.lane, statement.seq, board.group())
            });
            let by: BTreeSet<&Name> = on_it.map(|veto| &veto.governor).collect();
            by.len() >= usize::from(needed)
        };
        // A ruling overrules vetoes.
        let ruled = chain.settled(statement.lane, statement.seq);
        let wins = ruled.is_some_and(|ruled| ruled.winner == Some(id));
        chain.class_for(statement, id).is_some_and(|class| class.lock() > 0)
            && !wins
            && chain.veto_boards(statement, id).into_iter().any(killed)
    };
    let lives = |id: &Digest| {
        let one = stored.get(id).and_then(|said| read(said));
        one.is_some_and(|one| !is_killed(*id, one))
    };
    // What it follows or unites with that, as far as it is here; of several the one that lives.
    let below = |one: &Statement| {
        let united = match one.lane {
            Lane::Policy => Policy::united_by(&one.body),
            _ => BTreeSet::new(),
        };
        let here = one.prev.into_iter().chain(united).filter(|id| stored.contains_key(id));
        let here: Vec<Digest> = here.collect();
        here.iter().find(|id| here.len() == 1 || lives(id)).or(here.first()).copied()
    };
    let built_upon: BTreeSet<Digest> = statements().filter_map(|(_, one)| below(one)).collect();
    let open = statements()
        .filter(|(id, one)| (one.lane == Lane::Policy) == policies && !built_upon.contains(id));
    let dead = open.filter(|(id, statement)| is_killed(*id, statement));
    dead.map(|(id, _)| id).collect()
}
