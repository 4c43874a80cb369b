//! Which signed statements governors took back, as far as this archive knows.
//!
//! A laptop is not always there when a lock runs, so it cannot keep one itself. It goes by what was
//! said: a statement of a class with a lock that enough governors vetoed, and that nothing signed
//! builds upon, is dead, and the next round of its place is open. Servers that applied it before the
//! vetoes came stay with it, and `borgios status` shows them; a policy's ruling brings them back.

use std::collections::{BTreeMap, BTreeSet};

use borgios_policy::{
    Board, Chain, Lane, Name, Object as _, Objection, Policy, Refusal, Statement, Submission,
    VerifiedStatement, Veto,
};
use borgios_types::{Digest, Envelope, Seq};

use crate::archive::{Archive, Held};

/// The vetoes and pauses of a statement that a board said which is in force or was, in the order of time.
///
/// The archive also holds those of boards that somebody only proposed, for they vote too; such a board may
/// give honest names to keys of its own, and nobody hears its objections.
pub(crate) fn to(archive: &Archive, id: Digest) -> Vec<&Held<Objection>> {
    let all = archive.objections().values().filter(|held| held.value.statement == id);
    let mut all: Vec<_> = all.filter(|held| is_heard(archive, held)).collect();
    all.sort_by(|one, other| (one.value.at, &one.by).cmp(&(other.value.at, &other.by)));
    all
}

/// Whether a board said it that is in force or was.
pub(crate) fn is_heard(archive: &Archive, held: &Held<Objection>) -> bool {
    archive.boards().any(|board| is_of(board, held))
}

/// Whether it is an objection of this board, by a key that the governor has on it.
pub(crate) fn is_of(board: &Board, held: &Held<Objection>) -> bool {
    held.value.group == board.group() && held.is_of(board)
}

/// What was said of signed statements.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Said<'a> {
    /// Every veto.
    pub(crate) vetoes: &'a [Envelope],
    /// The policies of recovery keys that came into force.
    pub(crate) recovered: &'a BTreeSet<Digest>,
    /// What this governor goes on from, whatever was vetoed.
    pub(crate) upheld: &'a BTreeSet<Digest>,
}

/// The chain of a network without what governors took back, and what that is.
///
/// What was signed upon something that died, as a grant under the rules of a vetoed policy, has no
/// place in the chain either. It stays on the disk, for it may get one.
///
/// # Errors
/// A stored statement that does not verify, where nothing was taken back.
pub(crate) fn restore(
    network: Digest,
    stored: Vec<Envelope>,
    said: &Said<'_>,
) -> Result<(Chain, BTreeSet<Digest>), Refusal> {
    let Said { vetoes, recovered, upheld } = *said;
    let begin = || {
        let mut chain = Chain::new(Some(network));
        recovered.iter().for_each(|id| chain.ripen(*id));
        chain
    };
    let mut left = Submission::sort(stored.iter().cloned());
    let mut dead = BTreeSet::new();
    let mut chain = begin();
    // Policies first: a board that is taken back takes nothing back itself. Then again, since who was
    // to judge may be another board, now that a policy is dead.
    for policies in [true, false] {
        while !vetoes.is_empty() {
            chain = begin();
            // What does not verify is named below.
            drop(chain.follow(&left));
            let mut more = taken_back(&chain, &stored, vetoes, upheld, policies);
            more.retain(|id| !upheld.contains(id));
            if more.is_subset(&dead) {
                break;
            }
            dead.extend(more);
            // Nor did what came into a place by a dead policy have it before what stands there now.
            if policies {
                left = Submission::sort_beside(stored.iter().cloned(), &dead);
            }
            left.retain(|one| !dead.contains(&one.statement.id()));
        }
    }
    if dead.is_empty() {
        chain = begin().restored(&left)?;
    }
    // What was signed upon what died has no place now; it stays on the disk.
    Ok((chain, dead))
}

/// Which statements of `stored`, among the `policies` or among the others, are dead.
fn taken_back(
    chain: &Chain,
    stored: &[Envelope],
    vetoes: &[Envelope],
    upheld: &BTreeSet<Digest>,
    policies: bool,
) -> BTreeSet<Digest> {
    // Ballots lie among them.
    let all = stored.iter().filter(|one| one.kind.as_str().parse::<Lane>().is_ok());
    let parsed = all.filter_map(|one| Some((one.id(), Statement::parse(one).ok()?)));
    let statements: BTreeMap<Digest, Statement> = parsed.collect();
    // A veto stays one when its governor gets another identity.
    let made = chain.after(Lane::Policy, Seq(0)).filter_map(VerifiedStatement::policy);
    let seats: Vec<&Board> = made.map(|policy| &policy.board).collect();
    let is_killed = |id: &Digest, statement: &Statement| {
        // As at a server: what the policy named asks for, and no less than the one in force.
        let class = chain.class_for(statement, *id);
        let (Some(class), Some(network)) = (class, chain.network()) else { return false };
        let on_it =
            |envelope: &&Envelope| Veto::parse(envelope).is_ok_and(|veto| veto.0.statement == *id);
        let killed = |(board, needed): (&Board, u16)| {
            let mut by: BTreeSet<Name> = BTreeSet::new();
            for envelope in vetoes.iter().filter(on_it) {
                let of_key = seats.iter().copied().filter(|seat| seat.group() == board.group());
                let said = of_key
                    .chain([board])
                    .find_map(|seat| Veto::verify(seat, network, envelope).ok());
                if let Some(Veto(veto)) = said
                    && (veto.lane, veto.seq) == (statement.lane, statement.seq)
                {
                    by.insert(veto.governor);
                }
            }
            by.len() >= usize::from(needed)
        };
        // A ruling overrules vetoes.
        let ruled = chain.settled(statement.lane, statement.seq);
        let wins = ruled.is_some_and(|ruled| ruled.winner == Some(*id));
        class.lock() > 0 && !wins && chain.veto_boards(statement, *id).into_iter().any(killed)
    };
    let lives = |id: &Digest| {
        upheld.contains(id) || statements.get(id).is_some_and(|one| !is_killed(id, one))
    };
    // What a policy stands upon is what it follows or unites with that, as far as it is here; of several
    // the one that was not taken back.
    let below = |one: &Statement| {
        let united = match one.lane {
            Lane::Policy => Policy::united_by(&one.body),
            _ => BTreeSet::new(),
        };
        let mut here = one.prev.into_iter().chain(united).filter(|id| statements.contains_key(id));
        let first = here.next()?;
        let others: Vec<Digest> = here.collect();
        if others.is_empty() || lives(&first) {
            return Some(first);
        }
        Some(others.into_iter().find(lives).unwrap_or(first))
    };
    let built_upon: BTreeSet<Digest> = statements.values().filter_map(below).collect();
    let open = statements.iter().filter(|(id, statement)| {
        (statement.lane == Lane::Policy) == policies && !built_upon.contains(*id)
    });
    let dead = open.filter(|(id, statement)| is_killed(id, statement));
    dead.map(|(id, _)| *id).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on may stop")]

    use borgios_policy::fixture::{Council, NOW, release_body, statement};
    use borgios_policy::{Object as _, Objection};
    use borgios_types::Seq;

    use super::*;

    /// A board that is only proposed may name honest governors with keys of its own.
    #[test]
    fn nobody_objects_in_the_name_of_another() {
        let (council, imposters) = (Council::new(3, 2, 1, 1), Council::new(3, 2, 1, 9));
        let name = council.name(0);
        assert_eq!(name, imposters.name(0));
        let held = |by: &Council, group: &Board| {
            let value = Objection {
                network: Digest::of(b"network"),
                group: group.group(),
                governor: name.clone(),
                statement: Digest::of(b"release"),
                lane: Lane::Release,
                seq: Seq(1),
                reason: "it deletes /etc".to_owned(),
                at: NOW,
            };
            let envelope = Veto(value.clone()).to_envelope().sign(&by.keys[&name]);
            Held { value, by: name.clone(), envelope }
        };
        let (board, other) = (&council.board, &imposters.board);
        assert!(is_of(board, &held(&council, board)));
        for forged in [held(&imposters, board), held(&imposters, other), held(&council, other)] {
            assert!(!is_of(board, &forged));
        }
        assert!(is_of(other, &held(&imposters, other)), "there it counts");
    }

    #[test]
    fn a_lock_that_came_after_the_vote_counts_here_as_at_a_server() {
        for locked in [false, true] {
            let council = Council::new(3, 2, 1, 1);
            let first = council.sign(&council.first_policy(2));
            let network = first.id();
            let mut rules = council.policy(2);
            rules.fanout = 9;
            rules.classes.release.lock_s = locked.then_some(3_600);
            let (this, prev) = (Some(network), Some(network));
            let second = statement(Lane::Policy, 2, this, prev, Some(1), rules.to_body());
            let second = council.sign(&second);
            let release =
                council.sign(&statement(Lane::Release, 1, this, None, Some(1), release_body("1")));
            let veto = |at: usize| {
                let veto = Veto(Objection {
                    network,
                    group: council.board.group(),
                    governor: council.name(at),
                    statement: release.id(),
                    lane: Lane::Release,
                    seq: Seq(1),
                    reason: "it deletes /etc".to_owned(),
                    at: NOW,
                });
                veto.to_envelope().sign(&council.keys[&council.name(at)])
            };
            let none = BTreeSet::new();
            let stored = || vec![first.clone(), second.clone(), release.clone()];
            let said = |vetoes: &[Envelope], upheld: &BTreeSet<Digest>| {
                restore(network, stored(), &Said { vetoes, recovered: &none, upheld }).unwrap()
            };
            let (chain, dead) = said(&[veto(0)], &none);
            assert!(dead.is_empty() && chain.head(Lane::Release).is_some());
            let (chain, dead) = said(&[veto(0), veto(1)], &none);
            assert_eq!(dead.contains(&release.id()), locked);
            assert_eq!(chain.head(Lane::Release).is_none(), locked);
            assert_eq!(chain.head_seq(Lane::Policy), Seq(2));
            // Nor does a ruling that names it leave it dead.
            let mut ruling = rules.clone();
            let (lane, seq, winner) = (Lane::Release, Seq(1), Some(release.id()));
            ruling.rulings = vec![borgios_policy::Ruling::new(lane, seq, winner)];
            let prev = Some(second.id());
            let third = statement(Lane::Policy, 3, this, prev, Some(2), ruling.to_body());
            let all = stored().into_iter().chain([council.sign(&third)]).collect();
            let vetoes = [veto(0), veto(1)];
            let said = Said { vetoes: &vetoes, recovered: &none, upheld: &none };
            let (chain, dead) = restore(network, all, &said).unwrap();
            assert!(dead.is_empty() && chain.head(Lane::Release).is_some());
            // Whoever goes on from it has it.
            let vetoes = [veto(0), veto(1)];
            let upheld = BTreeSet::from([release.id()]);
            let said = Said { vetoes: &vetoes, recovered: &none, upheld: &upheld };
            let (chain, dead) = restore(network, stored(), &said).unwrap();
            assert!(dead.is_empty() && chain.head(Lane::Release).is_some());
        }
    }
}
