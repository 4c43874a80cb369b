//! Two copies of one governor's folder must not both vote: each would use the same nonces, and two
//! ballots made with them give the key share away.
//!
//! What this folder did not make itself, a copy of it did: ballots, and the shares of second touches.
//! Who had the same name before, and another identity, was somebody else. Both are looked for among all
//! objects at hand, and in what up to three nodes sign on a fresh challenge: a place may withhold objects, but a
//! node that signs a false answer can be shown to have lied. Who asks nobody learns nothing: for a
//! machine without a network the promise that it is the only one is its governor's.

use std::collections::BTreeSet;

use borgios_policy::{Ballot, Handback, Name, Object as _};
use borgios_types::{Digest, Envelope, PublicKey};

use crate::failure::{Failure, OrFail as _};
use crate::session::Session;

/// Refuses to vote, or to answer a session, where another copy of this folder did, or where its nonces
/// were made void.
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
    mine.extend(session.slots().shares()?.iter().map(Envelope::id));
    let name = session.identity().name().clone();
    let keys = keys(session, &name);
    let made_by_me = |envelope: &Envelope| keys.iter().any(|key| envelope.signed_by(key));
    let archive = session.desk.archive();
    for (id, held) in archive.ballots().iter().filter(|(_, held)| held.by == name) {
        if !made_by_me(&held.envelope) {
            counter = counter.max(held.value.counter);
            mine.insert(*id);
        } else if !mine.contains(id) {
            let Ballot { lane, seq, .. } = held.value;
            let place = format!("{lane}/{seq}");
            let why = format!("ballot {} of {name} for {place} was not made here", id.short());
            return Err(clone(why));
        }
    }
    for (id, held) in archive.shares().iter().filter(|(_, held)| held.by == name) {
        if !made_by_me(&held.envelope) {
            mine.insert(*id);
        } else if !mine.contains(id) {
            let place = format!("{}/{}", held.value.lane, held.value.seq);
            let why = format!("share {} of {name} for {place} was not made here", id.short());
            return Err(clone(why));
        }
    }
    if let Ok((board, _)) = session.on_board() {
        session.generation(board)?;
    }
    let told = session.desk.handbacks(&name);
    told.iter().try_for_each(|handback| compare(&mine, counter, handback))
}

/// What a node signed that it has seen of this governor, against what this folder accounts for: ballots
/// and shares, and the count of its last ballot. It may know less; of what it knows nothing may be new
/// here, also where the place keeps the object itself back.
fn compare(mine: &BTreeSet<Digest>, counter: u64, handback: &Handback) -> Result<(), Failure> {
    let Handback { node, governor: name, counter: seen, ballots, .. } = handback;
    let by = node.short();
    if *seen > counter {
        let why = format!("{by} has seen ballot {seen} of {name}, this folder made {counter}");
        return Err(clone(why));
    }
    match ballots.iter().find(|id| !mine.contains(id)) {
        Some(id) => {
            let id = id.short();
            Err(clone(format!("{by} has seen the ballot or share {id} of {name}, not made here")))
        }
        None => Ok(()),
    }
}

/// The identity keys of this governor, former ones too, by all boards that know the present one.
fn keys(session: &Session<'_>, name: &Name) -> BTreeSet<PublicKey> {
    let present = session.identity().ssh().public();
    let archive = session.desk.archive();
    let boards = archive.boards().chain(archive.candidates());
    let entries = boards.filter_map(|board| board.by_name(name));
    let former = entries.filter(|me| me.key == present).flat_map(|me| me.former.iter().copied());
    former.chain([present]).collect()
}

fn clone(why: String) -> Failure {
    Failure::new("this folder is not the newest copy of this governor")
        .code(Failure::CLONE)
        .because(why)
        .hint(
            "vote with the folder that made it: two copies that vote can give the key share away. If \
             that one is lost, `borgios governor repair --anew` makes this one the newest",
        )
}

#[cfg(test)]
mod tests {
    use borgios_types::{SecretKey, UnixSeconds};

    use super::*;

    #[test]
    fn a_node_that_saw_more_than_this_folder_made_stops_the_vote() {
        let handback = |counter, ballots: &[&[u8]]| Handback {
            network: Digest::of(b"network"),
            node: SecretKey::from_seed([1; 32]).public(),
            governor: "ben".parse().unwrap(),
            challenge: Digest::of(b"challenge"),
            counter,
            ballots: ballots.iter().map(|ballot| Digest::of(ballot)).collect(),
            at: UnixSeconds(1),
        };
        let mine = [Digest::of(b"one"), Digest::of(b"two")].into();
        for (counter, ballots) in [(0, &[][..]), (1, &[&b"one"[..]]), (2, &[b"one", b"two"])] {
            assert!(compare(&mine, 2, &handback(counter, ballots)).is_ok(), "{counter}");
        }
        for (counter, ballots) in [(3, &[][..]), (2, &[&b"three"[..]]), (1, &[b"one", b"three"])] {
            let refused = compare(&mine, 2, &handback(counter, ballots)).unwrap_err();
            assert!(refused.is(Failure::CLONE), "{counter}: {}", refused.summary());
        }
    }
}
