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
/// `policy` then names all of them. What would not follow it all the same is left out: a policy that
/// makes another board, or settles places.
///
/// # Errors
/// The home folder cannot be read.
pub(crate) fn unite(desk: &Desk<'_>, policy: &mut Policy) -> Result<(), Failure> {
    policy.unites = apart(desk)?.into_iter().take(UNITES_MAX).collect();
    Ok(())
}

/// Ids of such policies.
///
/// # Errors
/// The home folder cannot be read.
pub(crate) fn apart(desk: &Desk<'_>) -> Result<Vec<Digest>, Failure> {
    let (archive, chain) = (desk.archive(), desk.archive().chain());
    let Some(in_force) = chain.policy().filter(|policy| policy.rulings.is_empty()) else {
        return Ok(Vec::new());
    };
    let seq = chain.head_seq(Lane::Policy);
    let follows = |statement: &Statement| {
        let made = Policy::parse(&statement.body);
        made.is_ok_and(|made| {
            made.board.group() == in_force.board.group() && made.rulings.is_empty()
        })
    };
    let dead = archive.dead_statements()?;
    let dead = dead.iter().map(|(statement, id)| (id, statement));
    let all = dead.chain(archive.rivals().all()).filter(|(_, statement)| {
        (statement.lane, statement.seq) == (Lane::Policy, seq) && follows(statement)
    });
    Ok(all.map(|(id, _)| *id).collect())
}
