//! Policies that servers may have in force at a place where this folder has another one.
//!
//! ```text
//! policy/2 A, signed ── vetoes reach this folder ──▶ dead here ── next round ──▶ policy/2 B, signed
//!     └── applied at a server before the vetoes came: it takes no policy/2 any more
//! policy/3 upon B, which names A in `unites` ──▶ in force at both
//! ```

use borgios_policy::policy::UNITES_MAX;
use borgios_policy::{Lane, Policy, Statement};
use borgios_types::Digest;

use crate::desk::Desk;
use crate::failure::Failure;

/// Lets the next policy count where another one is in force than here, as far as this folder met it:
/// `policy` then names all of them. What would not take it all the same is left out.
///
/// # Errors
/// The home folder cannot be read.
pub(crate) fn unite(desk: &Desk<'_>, policy: &mut Policy) -> Result<(), Failure> {
    let takes = |(id, made): (Digest, Policy)| takes(desk, &made, policy).then_some(id);
    policy.unites = apart(desk)?.into_iter().filter_map(takes).take(UNITES_MAX).collect();
    Ok(())
}

/// Whether servers on which `made` is in force take `policy` as the next once it is signed here: it must
/// follow the rules there too, and the vote here ends with the approvals that are asked for here.
pub(crate) fn takes(desk: &Desk<'_>, made: &Policy, policy: &Policy) -> bool {
    let in_force = desk.archive().chain().policy();
    let needed = in_force.map_or(0, |in_force| in_force.classes.policy.approvals);
    policy.follows(made).is_ok() && made.classes.policy.approvals <= needed
}

/// Policies of the board that were signed for the place of the one in force here, by their ids, and
/// settle nothing.
///
/// # Errors
/// The home folder cannot be read.
pub(crate) fn apart(desk: &Desk<'_>) -> Result<Vec<(Digest, Policy)>, Failure> {
    let (archive, chain) = (desk.archive(), desk.archive().chain());
    let Some(in_force) = chain.policy().filter(|policy| policy.rulings.is_empty()) else {
        return Ok(Vec::new());
    };
    let seq = chain.head_seq(Lane::Policy);
    let made = |statement: &Statement| {
        let made = Policy::parse(&statement.body).ok();
        made.filter(|made| made.board.group() == in_force.board.group() && made.rulings.is_empty())
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
