//! A statement that a laptop holds to be dead, and that the board built upon after all.
//!
//! Servers that applied it before the vetoes came go on with it, and so does the board if it signs
//! the next one on top. What is signed on top of it is the board's later word: it brings it back.

use std::collections::BTreeSet;

use borgios_policy::{Chain, Lane, Policy, Statement, Submission, VerifiedStatement};
use borgios_types::{Digest, Envelope, UnixSeconds};

use crate::archive::read_kind;
use crate::failure::Failure;
use crate::home::Home;

/// What of `offered` counts once those of the `dead` are back that it builds upon, in order; their
/// files are in `home`, and `ballots` are those that are here. `chain` is as before.
///
/// The dead whose place went to another one stay so: only a ruling can settle that.
///
/// # Errors
/// The home folder cannot be read.
pub(crate) fn built_upon(
    home: &Home,
    mut chain: Chain,
    now: UnixSeconds,
    dead: &BTreeSet<Digest>,
    ballots: &[Envelope],
    offered: &[Submission],
) -> Result<Vec<VerifiedStatement>, Failure> {
    let statements = offered.iter().filter_map(|one| Statement::parse(&one.statement).ok());
    let named: BTreeSet<_> = statements
        .flat_map(|one| below(&one).into_iter().map(move |below| (one.lane, below)))
        .filter(|(_, below)| dead.contains(below))
        .collect();
    let mut accepted = Vec::new();
    for (lane, prev) in named {
        let stored = read_kind(home, lane.as_str())?;
        let back = stored.into_iter().filter(|one| one.id() == prev);
        let back = Submission::sort(back.chain(ballots.iter().cloned()));
        // One at a time: what a forger names must not stand in the place of what is built upon.
        let mut revived = chain.clone();
        drop(revived.follow(&back));
        let run = revived.verify_run(now, offered);
        if !run.accepted.iter().any(|one| below(one.statement()).contains(&prev)) {
            continue;
        }
        for verified in run.accepted {
            revived.apply(verified.clone());
            accepted.push(verified);
        }
        chain = revived;
    }
    Ok(accepted)
}

/// What a statement builds upon: its predecessor, or what it unites with that.
fn below(statement: &Statement) -> BTreeSet<Digest> {
    let mut below = BTreeSet::from_iter(statement.prev);
    if statement.lane == Lane::Policy {
        below.extend(Policy::united_by(&statement.body));
    }
    below
}

#[cfg(test)]
mod tests {
    use borgios_policy::fixture::{Council, NOW, release_body, statement as draft};
    use borgios_policy::{Lane, Object as _, Objection, Veto};
    use borgios_types::Seq;

    use super::*;
    use crate::archive::Archive;

    /// Whatever the order in which a laptop hears of a release, the vetoes on it and its successor,
    /// it comes to the same chain.
    #[test]
    fn the_board_builds_upon_what_a_laptop_holds_dead() {
        let council = Council::new(3, 2, 1, 1);
        let mut policy = council.policy(2);
        policy.classes.release.lock_s = Some(600);
        let first = council.sign(&draft(Lane::Policy, 1, None, None, None, policy.to_body()));
        let network = first.id();
        let release = |seq: u64, prev: Option<Digest>| {
            let body = release_body("1");
            council.sign(&draft(Lane::Release, seq, Some(network), prev, Some(1), body))
        };
        let one = release(1, None);
        let two = release(2, Some(one.id()));
        let veto = |by: usize| {
            let governor = council.name(by);
            let key = &council.keys[&governor];
            let (statement, group) = (one.id(), council.board.group());
            let (lane, seq, reason) = (Lane::Release, Seq(1), "no".to_owned());
            let said =
                Objection { network, group, governor, statement, lane, seq, reason, at: NOW };
            Veto(said).to_envelope().sign(key)
        };
        let vetoes = vec![veto(0), veto(1)];
        let (one, two, first) = (vec![one], vec![two], vec![first]);
        // The vetoes may come before what they are said of.
        for order in [[&first, &one, &vetoes], [&first, &vetoes, &one]] {
            let folder = tempfile::tempdir().unwrap();
            let home = Home::at(Some(folder.path().to_owned())).unwrap();
            let mut archive = Archive::load(&home, network).unwrap();
            for batch in order {
                let admitted = archive.admit(NOW, batch.clone()).unwrap();
                assert_eq!(admitted.refused, Vec::<String>::new());
            }
            assert!(archive.is_dead(&one[0].id()));
            assert_eq!(archive.chain().head_seq(Lane::Release), Seq(0));
            // A forged successor brings nothing back.
            let mut forged = two[0].clone();
            forged.sigs[0].sig.0[7] ^= 1;
            assert_eq!(archive.admit(NOW, vec![forged]).unwrap().refused.len(), 1);
            assert!(archive.is_dead(&one[0].id()));
            let admitted = archive.admit(NOW, two.clone()).unwrap();
            assert_eq!((admitted.new, admitted.refused), (vec![two[0].id()], Vec::new()));
            for archive in [&archive, &Archive::load(&home, network).unwrap()] {
                assert!(!archive.is_dead(&one[0].id()));
                assert_eq!(archive.chain().head_seq(Lane::Release), Seq(2));
            }
        }
    }
}
