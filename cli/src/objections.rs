//! Which signed statements governors took back, as far as this archive knows.
//!
//! A laptop is not always there when a lock runs, so it cannot keep one itself. It goes by what was
//! said: a statement of a class with a lock that enough governors vetoed, and that nothing signed
//! builds upon, is dead, and the next round of its place is open. Servers that applied it before the
//! vetoes came stay with it, and `borgios status` shows them; a policy's ruling brings them back.

use std::collections::{BTreeMap, BTreeSet};

use borgios_policy::class::veto_least;
use borgios_policy::{Chain, Name, Refusal, Statement, Submission, Veto};
use borgios_types::{Digest, Envelope};

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
    vetoes: &[Envelope],
) -> Result<(Chain, BTreeSet<Digest>), Refusal> {
    let submissions = Submission::sort(stored);
    let (mut left, mut dead) = (submissions.clone(), BTreeSet::new());
    while !vetoes.is_empty() {
        let mut chain = Chain::new(Some(network));
        // What does not verify is named below.
        drop(chain.follow(&left));
        // Who was to judge may be another board, now that a policy is dead.
        let more = taken_back(&chain, &submissions, vetoes);
        if more.is_subset(&dead) {
            if dead.is_empty() {
                break;
            }
            return Ok((chain, dead));
        }
        dead.extend(more);
        left.retain(|one| !dead.contains(&one.statement.id()));
    }
    Ok((Chain::new(Some(network)).restored(&left)?, dead))
}

/// Which of `submissions` are dead.
fn taken_back(chain: &Chain, submissions: &[Submission], vetoes: &[Envelope]) -> BTreeSet<Digest> {
    let statements: BTreeMap<Digest, Statement> = submissions
        .iter()
        .filter_map(|one| Some((one.statement.id(), Statement::parse(&one.statement).ok()?)))
        .collect();
    let built_upon: BTreeSet<Digest> = statements.values().filter_map(|one| one.prev).collect();
    let open = statements.iter().filter(|(id, _)| !built_upon.contains(*id));
    let dead = open.filter(|(id, statement)| {
        let policy = statement.policy.and_then(|seq| chain.policy_at(seq));
        let (Some(policy), Some(network)) = (policy, chain.network()) else { return false };
        let class = policy.class_of(statement);
        let board = &policy.board;
        let needed = class.veto.unwrap_or(veto_least(board.threshold().0, board.size()));
        let mut by: BTreeSet<Name> = BTreeSet::new();
        for envelope in vetoes {
            if let Ok(Veto(veto)) = Veto::verify(board, network, envelope)
                && (veto.statement, veto.lane, veto.seq) == (**id, statement.lane, statement.seq)
            {
                by.insert(veto.governor);
            }
        }
        class.lock() > 0 && by.len() >= usize::from(needed)
    });
    dead.map(|(id, _)| *id).collect()
}
