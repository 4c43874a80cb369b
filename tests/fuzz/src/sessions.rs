//! The sessions of a board that votes in two touches: one object more among those of an honest
//! session that is half done.

use std::sync::OnceLock;

use borgios_policy::fixture::{Council, release_body, statement};
use borgios_policy::session::{Bound, Session, Table};
use borgios_policy::vote::Intent;
use borgios_policy::{Ballot, Lane, Name, Object as _, OpenRound, Seed, SessionShare, Slot};
use borgios_types::{Digest, Envelope, Kind};

use crate::governance::{text, word};

/// What everybody has seen.
struct Half {
    council: Council,
    slot: Slot,
    text: String,
    ballots: Vec<Envelope>,
    session: Option<Envelope>,
    shares: Vec<Envelope>,
}

fn half() -> &'static Half {
    static HALF: OnceLock<Half> = OnceLock::new();
    HALF.get_or_init(|| {
        // The smallest board for which pools would be too large.
        let council = Council::new(14, 8, 1, 5);
        let network = council.sign(&council.first_policy(8)).id();
        let document =
            statement(Lane::Release, 1, Some(network), None, Some(1), release_body("1.0"));
        let (slot, text) = (council.slot(&document), document.to_payload());
        let mut ballots = Vec::new();
        for name in council.keys.keys() {
            ballots.extend(commit(&council, name, slot, &text, &ballots));
        }
        let session = Table::of(&council.board, slot, &text, &ballots, &[]).next(&council.name(0));
        let session =
            session.map(|session| session.to_envelope().sign(&council.keys[&council.name(0)]));
        let members = session.as_ref().and_then(|session| Session::parse(session).ok());
        let members = members.map(|session| session.members.into_keys().take(3));
        let shares = members.into_iter().flatten();
        let shares =
            shares.filter_map(|name| share(&council, &name, slot, &text, session.as_ref()?));
        let shares = shares.collect();
        Half { council, slot, text, ballots, session, shares }
    })
}

fn nonce(council: &Council, name: &Name, slot: Slot, number: u32) -> Seed {
    let text = format!("{name} {slot} {number} {}", council.board.group());
    Seed::from_bytes(Digest::of(text.as_bytes()).0)
}

fn commit(
    council: &Council,
    name: &Name,
    slot: Slot,
    text: &str,
    seen: &[Envelope],
) -> Option<Envelope> {
    let (board, key) = (&council.board, &council.shares[name]);
    let open = OpenRound::check(board, slot, seen).ok()?;
    let first = nonce(council, name, slot, 0);
    let intent = Intent::commit(board, key, &open, text, &first, None, 1).ok()?;
    let ballot = intent.ballot(board, key, Some(&first), &[]).ok()?;
    Some(ballot.to_envelope().sign(&council.keys[name]))
}

fn share(
    council: &Council,
    name: &Name,
    slot: Slot,
    text: &str,
    session: &Envelope,
) -> Option<Envelope> {
    let (board, key) = (&council.board, &council.shares[name]);
    let [own, next] = [0, 1].map(|number| nonce(council, name, slot, number));
    let bound = Bound::to(board, key, session, text, 0, &own, &next).ok()?;
    let share = bound.share(board, key, &own).ok()?;
    Some(share.to_envelope().sign(&council.keys[name]))
}

/// The first byte says who signs it and what it is: a session, a share or a ballot.
pub fn paper(bytes: &[u8]) -> String {
    let Half { council, slot, text: document, ballots, session, shares } = half();
    let Some((which, rest)) = bytes.split_first() else { return "empty".to_owned() };
    let Some(payload) = text(rest) else { return "not text".to_owned() };
    let author = council.name(usize::from(which >> 2) % council.keys.len());
    let kinds = [Session::KIND, SessionShare::KIND, Ballot::KIND, SessionShare::KIND];
    let Ok(kind) = Kind::new(kinds[usize::from(which & 3)]) else { return "no kind".to_owned() };
    let envelope = Envelope::unsigned(kind, payload);
    let Ok(envelope) = Envelope::parse(envelope.to_json().as_bytes()) else {
        return "no envelope".to_owned();
    };
    let envelope = envelope.sign(&council.keys[&author]);
    let board = &council.board;
    let said = match which & 3 {
        0 => word(Session::verify(board, &envelope)),
        2 => word(Ballot::verify(board, &envelope)),
        _ => word(SessionShare::verify(board, &envelope)),
    };
    let mut ballots = ballots.clone();
    let mut papers: Vec<Envelope> = session.iter().chain(shares).cloned().collect();
    if which & 3 == 2 {
        ballots.push(envelope)
    } else {
        papers.push(envelope)
    }
    let table = Table::of(board, *slot, document, &ballots, &papers);
    let culprits: Vec<Name> = table.culprits().map(|culprit| culprit.name).collect();
    assert!(
        culprits.iter().all(|name| *name == author),
        "who lied is {author}, named are {culprits:?}"
    );
    let _ = (table.next(&author), table.awaited(), table.signed(), table.due(&author));
    said
}

/// Seeds of [`paper`].
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let Half { council, ballots, session, shares, .. } = half();
    let place = |name: &Name| {
        let at = (0..14).find(|at| council.name(*at) == *name).unwrap_or(0);
        u8::try_from(at << 2).unwrap_or(0)
    };
    let with = |which: u8, envelope: &Envelope| [&[which], envelope.payload.as_bytes()].concat();
    let mut all: Vec<Vec<u8>> = session.iter().map(|session| with(0, session)).collect();
    for share in shares {
        if let Ok(read) = SessionShare::parse(share) {
            all.push(with(place(&read.governor) | 1, share));
        }
    }
    all.extend(
        ballots
            .iter()
            .take(2)
            .zip(0..)
            .map(|(ballot, at)| with(place(&council.name(at)) | 2, ballot)),
    );
    all
}
