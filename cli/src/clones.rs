//! Two copies of one governor's folder must not both vote: each would use the same nonces, and two
//! ballots made with them give the key share away.
//!
//! What this folder did not make itself, a copy of it did. Ballots are looked for among all objects at
//! hand, and in what up to three nodes sign on a fresh challenge: a place may withhold objects, but a
//! node that signs a false answer can be shown to have lied. Who asks nobody learns nothing: for a
//! machine without a network the promise that it is the only one is its governor's.

use std::collections::BTreeSet;

use borgios_policy::{Ballot, Handback, Object as _};

use crate::failure::{Failure, OrFail as _};
use crate::session::Session;

/// Refuses to vote where another copy of this folder voted, or its nonces were made void.
///
/// # Errors
/// `E_CLONE`.
pub(crate) fn refuse(session: &mut Session<'_>) -> Result<(), Failure> {
    let (mut mine, mut counter) = (BTreeSet::new(), 0);
    for envelope in session.slots().ballots()? {
        let ballot = Ballot::parse(&envelope).or_fail(|| "a stored ballot is damaged")?;
        counter = counter.max(ballot.counter);
        mine.insert(envelope.id());
    }
    let name = session.identity().name().clone();
    let ballots = session.desk.archive().ballots();
    let foreign = ballots.iter().find(|(id, held)| held.by == name && !mine.contains(id));
    if let Some((id, held)) = foreign {
        let Ballot { lane, seq, .. } = held.value;
        let place = format!("{lane}/{seq}");
        let why = format!("ballot {} of {name} for {place} was not made here", id.short());
        return Err(clone(why));
    }
    if let Ok((board, _)) = session.on_board() {
        session.generation(board)?;
    }
    for Handback { node, counter: seen, ballots, .. } in session.desk.handbacks(&name) {
        let by = node.short();
        if seen > counter {
            let why = format!("{by} has seen ballot {seen} of {name}, this folder made {counter}");
            return Err(clone(why));
        }
        if let Some(id) = ballots.iter().find(|id| !mine.contains(id)) {
            let id = id.short();
            return Err(clone(format!("{by} has seen ballot {id} of {name}, not made here")));
        }
    }
    Ok(())
}

fn clone(why: String) -> Failure {
    Failure::new("this folder is not the newest copy of this governor")
        .code(Failure::CLONE)
        .because(why)
        .hint("vote with the folder that made it. Two copies that vote can give the key share away")
}
