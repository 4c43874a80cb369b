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
use borgios_policy::rules::RULINGS_MAX;
use borgios_policy::{Lane, Policy, Ruling, Statement};
use borgios_types::Digest;

use crate::desk::Desk;
use crate::failure::Failure;

/// Lets the next policy count where another one is in force than here, as far as this folder met it:
/// `policy` then names all of them, and says what becomes of the places that any of them settled. What
/// would not take it all the same is left out.
///
/// # Errors
/// The home folder cannot be read, or there are more rulings than one policy may have.
pub(crate) fn unite(desk: &Desk<'_>, policy: &mut Policy) -> Result<(), Failure> {
    let mut others = apart(desk)?;
    others.retain(|(_, made)| takes(desk, made, policy));
    others.truncate(UNITES_MAX);
    policy.unites = others.iter().map(|(id, _)| *id).collect();
    if others.is_empty() {
        return Ok(());
    }
    let chain = desk.archive().chain();
    let own = std::mem::take(&mut policy.rulings);
    let made = others.iter().map(|(_, made)| made);
    policy.rulings = chain.uniting_rulings(chain.head_seq(Lane::Policy), made);
    for ruling in own {
        let place = |other: &Ruling| (other.lane, other.seq) == (ruling.lane, ruling.seq);
        match policy.rulings.iter_mut().find(|other| place(other)) {
            // What no policy here settled is for whoever proposes to say.
            Some(other) if other.by.is_none() => *other = ruling,
            Some(_) => {}
            None => policy.rulings.push(ruling),
        }
    }
    if policy.rulings.len() > RULINGS_MAX {
        return Err(Failure::new(format!(
            "policies that settled {} places are to be united, and one policy settles {RULINGS_MAX}",
            policy.rulings.len()
        ))
        .hint("leave out `--close` and `--settle` here, and settle those places with the policy after it"));
    }
    Ok(())
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
