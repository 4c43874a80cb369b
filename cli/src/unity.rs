//! Policies that servers may have in force at a place where this folder has another one.
//!
//! ```text
//! policy/2 A, signed ── vetoes reach this folder ──▶ dead here ── next round ──▶ policy/2 B, signed
//!     └── applied at a server before the vetoes came: it takes no policy/2 any more
//! policy/3 upon B, which names A in `unites` ──▶ in force at both
//! ```
//!
//! What A settled is void then, and what B settled is settled by B everywhere: policy/3 says again each
//! ruling of B, and what becomes of each place that A ruled on.

use borgios_policy::policy::UNITES_MAX;
use borgios_policy::rules::rulings_max;
use borgios_policy::{Chain, Lane, Policy, Ruling, Statement};
use borgios_types::Digest;

use crate::changes::board::and;
use crate::desk::Desk;
use crate::failure::Failure;

/// Lets the next policy count where another one is in force than here, as far as this folder met it:
/// `policy` then names all of them, and says what becomes of the places that any of them settled. What
/// would not take it all the same is left out, and so, with a warning, is what one policy has no room for.
///
/// # Errors
/// The home folder cannot be read.
pub(crate) fn unite(desk: &Desk<'_>, policy: &mut Policy) -> Result<(), Failure> {
    let mut others = apart(desk)?;
    others.retain(|(_, made)| takes(desk, made, policy));
    let left_out = unite_as_many(desk.archive().chain(), others, policy);
    if !left_out.is_empty() {
        let ids: Vec<String> = left_out.iter().map(Digest::short).collect();
        desk.context().printer.warn(&format!(
            "this policy has no room to unite {}: it names at most {UNITES_MAX} others, and rules on \
             so many places only; servers that have one of those in force will not take it",
            and(&ids)
        ));
    }
    Ok(())
}

/// Lets `policy` unite as many of `others` as it has room for; returns the ids of the rest.
fn unite_as_many(
    chain: &Chain,
    mut others: Vec<(Digest, Policy)>,
    policy: &mut Policy,
) -> Vec<Digest> {
    let mut left_out: Vec<Digest> =
        others.split_off(UNITES_MAX.min(others.len())).into_iter().map(|(id, _)| id).collect();
    policy.unites.clear();
    while !others.is_empty() {
        let rulings = with_theirs(chain, &others, &policy.rulings);
        if rulings.len() <= rulings_max(others.len()) {
            policy.unites = others.iter().map(|(id, _)| *id).collect();
            policy.rulings = rulings;
            break;
        }
        left_out.extend(others.pop().map(|(id, _)| id));
    }
    left_out
}

/// The rulings that unite `others` with the policy in force here, and those of the proposer.
fn with_theirs(chain: &Chain, others: &[(Digest, Policy)], own: &[Ruling]) -> Vec<Ruling> {
    let made = others.iter().map(|(_, made)| made);
    let mut rulings = chain.uniting_rulings(chain.head_seq(Lane::Policy), made);
    for ruling in own {
        let place = |other: &Ruling| (other.lane, other.seq) == (ruling.lane, ruling.seq);
        match rulings.iter_mut().find(|other| place(other)) {
            // What no policy here settled is for whoever proposes to say.
            Some(other) if other.by.is_none() => *other = *ruling,
            Some(_) => {}
            None => rulings.push(*ruling),
        }
    }
    rulings
}

/// Whether servers on which `made` is in force take `policy` as the next once it is signed here: it must
/// follow the rules there too, and the vote here ends with the approvals that are asked for here.
pub(crate) fn takes(desk: &Desk<'_>, made: &Policy, policy: &Policy) -> bool {
    let in_force = desk.archive().chain().policy();
    let needed = in_force.map_or(0, |in_force| in_force.classes.policy.approvals);
    policy.follows(made).is_ok() && made.classes.policy.approvals <= needed
}

/// Policies of the board that were signed for the place of the one in force here, by their ids.
///
/// # Errors
/// The home folder cannot be read.
pub(crate) fn apart(desk: &Desk<'_>) -> Result<Vec<(Digest, Policy)>, Failure> {
    let (archive, chain) = (desk.archive(), desk.archive().chain());
    let Some(in_force) = chain.policy() else { return Ok(Vec::new()) };
    let seq = chain.head_seq(Lane::Policy);
    let made = |statement: &Statement| {
        let made = Policy::parse(&statement.body).ok();
        made.filter(|made| made.board.group() == in_force.board.group())
    };
    let dead = archive.dead_statements()?;
    let dead = dead.iter().map(|(statement, id)| (id, statement));
    let all = dead
        .chain(archive.rivals().all())
        .filter(|(_, statement)| (statement.lane, statement.seq) == (Lane::Policy, seq));
    Ok(all.filter_map(|(id, statement)| Some((*id, made(statement)?))).collect())
}

#[cfg(test)]
mod tests;
