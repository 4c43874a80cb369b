//! Two copies of one governor's folder must not both vote: each would use the same nonces, and two
//! ballots made with them give the key share away.
//!
//! What this folder did not make itself, a copy of it did: ballots, and the shares of second touches.
//! Who had the same name before, and another identity, was somebody else. Both are looked for among all
//! objects at hand, and in what up to three nodes sign on a fresh challenge: a place may withhold objects, but a
//! node that signs a false answer can be shown to have lied. Who asks nobody learns nothing: for a
//! machine without a network the promise that it is the only one is its governor's.
//!
//! ```text
//! the object is at hand, or handed over by its id ──▶ proof: only this governor's key makes one
//! a node signs that it knows of one, and has none ──▶ its word: refused too, and said whose word it is
//! ```
//!
//! One node that lies must not stop a governor's votes for good, nor lead to a burn that is of no use:
//! no copy made what it names, so no repair can account for it. Asking other nodes can.

use std::collections::BTreeSet;

use borgios_policy::{Ballot, Handback, Name, Object as _};
use borgios_types::limits::ENVELOPE_MAX;
use borgios_types::{Digest, Envelope, NodeId, PublicKey};
use serde_json::{Value, json};

use crate::archive::Archive;
use crate::context::Context;
use crate::failure::{Failure, OrFail as _};
use crate::known::KnownNodes;
use crate::session::Session;
use crate::transport::api::Door;

/// Refuses to vote, or to answer a session, where another copy of this folder did, or may have, or where
/// its nonces were made void.
///
/// # Errors
/// `E_CLONE`.
pub(crate) fn refuse(session: &mut Session<'_>) -> Result<(), Failure> {
    let context = session.desk.context();
    let mut own = Own::of(session)?;
    own.account(session.desk.archive()).map_err(|why| clone(context, why))?;
    if let Ok((board, _)) = session.on_board() {
        session.generation(board)?;
    }
    let told = session.desk.handbacks(&own.name);
    let (mut claims, others): (Vec<&Handback>, Vec<&Handback>) =
        told.iter().partition(|handback| own.beyond(handback).is_some());
    if claims.is_empty() {
        return Ok(());
    }
    let known = KnownNodes::load(&context.home)?;
    for claim in &claims {
        let handed = ask_for(session, &known, &claim.node, &own.unknown(claim));
        if !handed.is_empty() {
            // Kept like everything that verifies: the next run finds it here, and a repair takes it over.
            let mut archive = context.archive()?;
            archive.admit(context.now(), handed)?;
            own.account(&archive).map_err(|why| clone(context, why))?;
        }
    }
    // What was handed over may have been somebody else's, who had the name before.
    claims.retain(|claim| own.beyond(claim).is_some());
    if claims.is_empty() {
        return Ok(());
    }
    Err(word_alone(context, &own, &known, &claims, &others))
}

/// What this folder accounts for of its governor.
struct Own {
    name: Name,
    /// The identity keys, former ones too: what another key signed, somebody else of this name said.
    keys: BTreeSet<PublicKey>,
    /// Ballots and shares.
    made: BTreeSet<Digest>,
    /// The count of the last ballot.
    counter: u64,
}

impl Own {
    fn of(session: &Session<'_>) -> Result<Self, Failure> {
        let (mut made, mut counter) = (BTreeSet::new(), 0);
        for envelope in session.slots().ballots()? {
            let ballot = Ballot::parse(&envelope).or_fail(|| "a stored ballot is damaged")?;
            counter = counter.max(ballot.counter);
            made.insert(envelope.id());
        }
        made.extend(session.slots().shares()?.iter().map(Envelope::id));
        let name = session.identity().name().clone();
        let keys = keys(session, &name);
        Ok(Self { name, keys, made, counter })
    }

    /// Takes into account what others of this name made; names what this governor made elsewhere.
    fn account(&mut self, archive: &Archive) -> Result<(), String> {
        let Self { name, keys, made, counter } = self;
        let name = &*name;
        let by_me = |envelope: &Envelope| keys.iter().any(|key| envelope.signed_by(key));
        for (id, held) in archive.ballots().iter().filter(|(_, held)| held.by == *name) {
            if !by_me(&held.envelope) {
                if archive.boards().any(|board| board.group() == held.value.group) {
                    *counter = (*counter).max(held.value.counter);
                }
                made.insert(*id);
            } else if !made.contains(id) {
                let Ballot { lane, seq, .. } = held.value;
                let place = format!("{lane}/{seq}");
                return Err(format!(
                    "ballot {} of {name} for {place} was not made here",
                    id.short()
                ));
            }
        }
        for (id, held) in archive.shares().iter().filter(|(_, held)| held.by == *name) {
            if !by_me(&held.envelope) {
                made.insert(*id);
            } else if !made.contains(id) {
                let place = format!("{}/{}", held.value.lane, held.value.seq);
                return Err(format!(
                    "share {} of {name} for {place} was not made here",
                    id.short()
                ));
            }
        }
        Ok(())
    }

    /// What a node signed that it has seen of this governor beyond what this folder accounts for, if
    /// anything. It may know less; of what it knows nothing may be new here, also where the place keeps
    /// the object itself back.
    fn beyond(&self, handback: &Handback) -> Option<String> {
        let Self { name, counter, .. } = self;
        if let Some(id) = self.unknown(handback).first() {
            let id = id.short();
            return Some(format!("has seen the ballot or share {id} of {name}, not made here"));
        }
        let seen = handback.counter;
        (seen > *counter)
            .then(|| format!("has seen ballot {seen} of {name}, this folder made {counter}"))
    }

    /// What it names that this folder does not account for.
    fn unknown(&self, handback: &Handback) -> BTreeSet<Digest> {
        handback.ballots.iter().filter(|id| !self.made.contains(id)).copied().collect()
    }
}

/// The identity keys of this governor, former ones too, by all boards of the chain that know the present
/// one. A board that is only proposed is one governor's word.
pub(crate) fn keys(session: &Session<'_>, name: &Name) -> BTreeSet<PublicKey> {
    let present = session.identity().ssh().public();
    let archive = session.desk.archive();
    let entries = archive.boards().filter_map(|board| board.by_name(name));
    let former = entries.filter(|me| me.key == present).flat_map(|me| me.former.iter().copied());
    former.chain([present]).collect()
}

/// Where a node was talked to, the newest place last.
fn addresses<'a>(known: &'a KnownNodes, node: &NodeId) -> Vec<&'a str> {
    let places = known.nodes().iter().filter(|place| place.key == *node);
    places.map(|place| place.address.as_str()).collect()
}

/// What a node hands over of these objects, which it signed that it knows.
fn ask_for(
    session: &Session<'_>,
    known: &KnownNodes,
    node: &NodeId,
    ids: &BTreeSet<Digest>,
) -> Vec<Envelope> {
    let context = session.desk.context();
    // A count alone names nothing to ask for.
    let places = if ids.is_empty() { Vec::new() } else { addresses(known, node) };
    for address in places {
        let asked = context.connect(address, session.identity());
        match asked.and_then(|mut door| hand_over(&mut door, ids)) {
            Ok(handed) => return handed,
            Err(failure) => context.printer.warn(&failure.summary()),
        }
    }
    Vec::new()
}

/// Asks for objects by their ids. One page is enough: one of them is proof.
fn hand_over(door: &mut dyn Door, ids: &BTreeSet<Digest>) -> Result<Vec<Envelope>, Failure> {
    let answer = door.ask(&json!({"get": "objects", "ids": ids}))?;
    let objects = answer.get("objects").and_then(Value::as_array).into_iter().flatten();
    let texts = objects.take(ids.len()).map(Value::to_string);
    let texts = texts.filter(|text| text.len() <= ENVELOPE_MAX);
    let envelopes = texts.filter_map(|text| Envelope::parse(text.as_bytes()).ok());
    Ok(envelopes.filter(|envelope| ids.contains(&envelope.id())).collect())
}

fn clone(context: &Context, why: String) -> Failure {
    Failure::new("this folder is not the newest copy of this governor")
        .code(Failure::CLONE)
        .because(why)
        .hint(format!(
            "vote with the folder that made it: two copies that vote can give the key share away. If \
             that one is lost, `{}` makes this one the newest",
            repair(context)
        ))
}

/// The command that makes this folder the newest copy, with the folder of this run in it.
fn repair(context: &Context) -> String {
    let folder = context.exchange.as_ref().map(|folder| folder.display().to_string());
    let folder = folder.unwrap_or_else(|| "DIR".to_owned());
    format!("borgios governor repair --anew --exchange {folder}")
}

/// Nothing at hand shows that a copy voted, and some nodes say so: it may be true, or they lie.
fn word_alone(
    context: &Context,
    own: &Own,
    known: &KnownNodes,
    claims: &[&Handback],
    others: &[&Handback],
) -> Failure {
    let what = "this folder may not be the newest copy of this governor";
    let said = claims.iter().map(|claim| {
        let (at, says) = (addresses(known, &claim.node).join(", "), own.beyond(claim));
        format!("the server at {at}, {}, says that it {}", claim.node, says.unwrap_or_default())
    });
    let (whose, that) = match claims.len() {
        1 => ("that server's word alone: it", "that one"),
        _ => ("those servers' word alone: they", "those"),
    };
    let name = &own.name;
    let alone =
        format!("this is {whose} handed nothing over that {name} signed and that is not here");
    let agreeing = match others.len() {
        0 => "no other server answered".to_owned(),
        1 => "1 other server was asked and does not say so".to_owned(),
        count => format!("{count} other servers were asked and do not say so"),
    };
    // Where a node has several addresses, the newest is most likely its own still.
    let asked = others.iter().filter_map(|other| addresses(known, &other.node).pop());
    let asked: Vec<String> = asked.map(|address| format!("--node {address}")).collect();
    let asked = if asked.is_empty() { "--node HOST:PORT".to_owned() } else { asked.join(" ") };
    said.chain([alone, agreeing])
        .fold(Failure::new(what).code(Failure::CLONE), Failure::because)
        .hint(format!(
            "a server that lies can stop you like this, and nothing else. The same command with \
             `{asked}` asks other servers and not {that}. Where a copy of this folder may exist, first \
             run `{}`: it voids what such a copy could vote with",
            repair(context)
        ))
}

#[cfg(test)]
mod tests {
    use borgios_types::{Kind, SecretKey, UnixSeconds};

    use super::*;

    fn own() -> Own {
        let made = [Digest::of(b"one"), Digest::of(b"two")].into();
        Own { name: "ben".parse().unwrap(), keys: BTreeSet::new(), made, counter: 2 }
    }

    fn handback(counter: u64, ballots: &[&[u8]]) -> Handback {
        Handback {
            network: Digest::of(b"network"),
            node: SecretKey::from_seed([1; 32]).public(),
            governor: "ben".parse().unwrap(),
            challenge: Digest::of(b"challenge"),
            counter,
            ballots: ballots.iter().map(|ballot| Digest::of(ballot)).collect(),
            at: UnixSeconds(1),
        }
    }

    #[test]
    fn a_node_that_saw_more_than_this_folder_made_is_heard() {
        for (counter, ballots) in [(0, &[][..]), (1, &[&b"one"[..]]), (2, &[b"one", b"two"])] {
            assert_eq!(own().beyond(&handback(counter, ballots)), None, "{counter}");
        }
        for (counter, ballots) in [(3, &[][..]), (2, &[&b"three"[..]]), (1, &[b"one", b"three"])] {
            let says = own().beyond(&handback(counter, ballots)).unwrap();
            assert!(says.contains("has seen") && says.contains("ben"), "{counter}: {says}");
        }
        let unknown = own().unknown(&handback(9, &[b"one", b"three"]));
        assert_eq!(unknown, BTreeSet::from([Digest::of(b"three")]));
    }

    /// Answers every question with these objects.
    struct Node(Value);

    impl Door for Node {
        fn name(&self) -> String {
            "node".into()
        }

        fn ask(&mut self, request: &Value) -> Result<Value, Failure> {
            assert_eq!(request["get"], "objects");
            Ok(json!({"objects": self.0}))
        }
    }

    #[test]
    fn only_what_was_asked_for_is_taken_and_no_more_of_it() {
        let note =
            |n: u32| Envelope::unsigned(Kind::new("note").unwrap(), format!("{{\"n\":{n}}}"));
        let ids = BTreeSet::from([note(1).id(), note(2).id()]);
        let handed = |objects: Value| hand_over(&mut Node(objects), &ids).unwrap();
        assert_eq!(handed(json!([note(1), note(2)])).len(), 2);
        assert_eq!(handed(json!([note(3), note(2)])), [note(2)]);
        assert_eq!(handed(json!([note(1), note(1), note(1)])).len(), 2);
        let long = "x".repeat(ENVELOPE_MAX);
        for nothing in [json!([]), json!(7), json!(["junk", {"payload": long}]), Value::Null] {
            assert!(handed(nothing).is_empty());
        }
    }
}
