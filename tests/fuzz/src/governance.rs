//! Governors' objects, signed anew after they were changed: what is behind the signature.

use std::sync::OnceLock;

use borgios_policy::fixture::{Council, NOW};
use borgios_policy::{
    Ballot, Beacon, Burn, Card, Chain, Change, Departure, Drill, DrillAnswer, Handback, Handover,
    Invitation, InvitationFile, Join, Lane, Note, Object, Pause, Plan, Policy, Pool, ProofFile,
    Proposal, Report, RotationReport, Session, SessionShare, Statement, Verdict, Veto, Witness,
    tally,
};
use borgios_releases::Manifest;
use borgios_types::{Digest, Envelope, Kind, SecretKey};

use crate::seeds;

/// The board of the vectors, but for the recipients, and its chain.
pub struct World {
    /// All its secrets.
    pub council: Council,
    /// policy/1 of that board.
    pub chain: Chain,
    /// Its id.
    pub network: Digest,
}

/// Made once.
pub fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let council = Council::new(3, 2, 1, 42);
        let mut chain = Chain::new(None);
        let first = council.sign(&council.first_policy(2));
        if let Ok(Verdict::New(verified)) = chain.verify_stored(&first, &[]) {
            chain.apply(*verified);
        }
        World { council, chain, network: first.id() }
    })
}

pub(crate) fn text(bytes: &[u8]) -> Option<String> {
    String::from_utf8(bytes.to_vec()).ok()
}

/// `ok`, or why not.
pub fn word<T, E: std::fmt::Display>(result: Result<T, E>) -> String {
    match result {
        Ok(_) => "ok".to_owned(),
        Err(error) => error.to_string(),
    }
}

/// A payload of this kind, signed by the first governor.
fn signed(kind: &str, bytes: &[u8]) -> Result<Envelope, String> {
    let payload = text(bytes).ok_or("not text")?;
    let kind = Kind::new(kind).map_err(|error| error.to_string())?;
    let council = &world().council;
    let envelope = Envelope::unsigned(kind, payload);
    // An honest reader has parsed the envelope before.
    let envelope = Envelope::parse(envelope.to_json().as_bytes()).map_err(|error| {
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        cause.unwrap_or_else(|| error.to_string())
    })?;
    Ok(envelope.sign(&council.keys[&council.name(0)]))
}

/// A statement of a lane before its vote, against a chain.
pub fn draft(lane: Lane, bytes: &[u8]) -> String {
    let Some(payload) = text(bytes) else { return "not text".to_owned() };
    let envelope = Envelope::unsigned(lane.kind(), payload);
    let Ok(envelope) = Envelope::parse(envelope.to_json().as_bytes()) else {
        return "no envelope".to_owned();
    };
    let reviewed = world().chain.review(NOW, &envelope);
    if let Ok(statement) = Statement::parse(&envelope) {
        let _ = Manifest::parse(&statement);
        let _ = borgios_policy::message::signed_bytes(
            lane,
            &envelope.payload,
            &world().council.board.group(),
        );
    }
    match reviewed {
        Ok(_) => "ok".to_owned(),
        Err(refusal) => format!("{} {refusal}", refusal.code()),
    }
}

/// The body of a policy.
pub fn policy(bytes: &[u8]) -> String {
    match serde_json::from_slice::<serde_json::Value>(bytes) {
        Ok(body) => word(Policy::parse(&body)),
        Err(error) => error.to_string(),
    }
}

/// A pool.
pub fn pool(bytes: &[u8]) -> String {
    match signed(Pool::KIND, bytes) {
        Ok(envelope) => word(Pool::verify(&world().council.board, &envelope)),
        Err(why) => why,
    }
}

/// A ballot, alone and in a tally with honest ones.
pub fn ballot(bytes: &[u8]) -> String {
    let envelope = match signed(Ballot::KIND, bytes) {
        Ok(envelope) => envelope,
        Err(why) => return why,
    };
    let verified = Ballot::verify(&world().council.board, &envelope);
    if verified.is_ok() {
        let (slot, release, pools, ballots) = seeds::vote();
        let mut all = ballots.clone();
        all.push(envelope);
        let tally = tally(&world().council.board, *slot, &[release.to_payload()], pools, &all);
        let honest = world().council.name(1);
        assert!(
            tally.culprits.iter().all(|culprit| culprit.name != honest),
            "an honest governor was named: {:?}",
            tally.culprits
        );
    }
    word(verified)
}

/// A proposal.
pub fn proposal(bytes: &[u8]) -> String {
    match signed(Proposal::KIND, bytes) {
        Ok(envelope) => word(Proposal::verify(&world().council.board, &envelope)),
        Err(why) => why,
    }
}

/// A card.
pub fn card(bytes: &[u8]) -> String {
    match signed(Card::KIND, bytes) {
        Ok(envelope) => word(Card::verify(&envelope)),
        Err(why) => why,
    }
}

/// A plan of a founding.
pub fn plan(bytes: &[u8]) -> String {
    match signed(Plan::KIND, bytes) {
        Ok(envelope) => word(Plan::verify(&envelope)),
        Err(why) => why,
    }
}

/// What else travels: the first byte says which kind.
pub fn other(bytes: &[u8]) -> String {
    let Some((kind, bytes)) = bytes.split_first() else { return "empty".to_owned() };
    let World { council, network, .. } = world();
    let board = &council.board;
    let read = |kind: &str| signed(kind, bytes);
    let outcome = match kind % 18 {
        0 => read(Note::KIND).map(|e| word(Note::verify(board, *network, &e))),
        1 => read(Invitation::KIND).map(|e| word(Invitation::verify(board, *network, &e))),
        2 => read(Join::KIND).map(|e| word(Join::parse(&e))),
        3 => read(Report::KIND).map(|e| word(Report::parse(&e))),
        4 => read(Departure::KIND).map(|e| word(Departure::parse(&e))),
        5 => read(Handover::KIND).map(|e| word(Handover::parse(&e))),
        6 => read(Witness::KIND).map(|e| word(Witness::parse(&e))),
        7 => read(RotationReport::KIND).map(|e| word(RotationReport::parse(&e))),
        8 => read(Drill::KIND).map(|e| word(Drill::verify(board, *network, &e))),
        9 => read(DrillAnswer::KIND).map(|e| word(DrillAnswer::verify(board, *network, &e))),
        10 => read(Session::KIND).map(|e| word(Session::parse(&e))),
        11 => read(SessionShare::KIND).map(|e| word(SessionShare::parse(&e))),
        12 => read(Burn::KIND).map(|e| word(Burn::verify(board, &e))),
        13 => read(Handback::KIND).map(|e| word(Handback::parse(&e))),
        14 => read(Change::KIND).map(|e| word(Change::parse(&e))),
        15 => read(Veto::KIND).map(|e| word(Veto::verify(board, *network, &e))),
        16 => read(Pause::KIND).map(|e| word(Pause::verify(board, *network, &e))),
        _ => read(Beacon::KIND).map(|e| word(Beacon::verify(board, *network, &e))),
    };
    outcome.unwrap_or_else(|why| why)
}

/// A proof for outsiders.
pub fn proof(bytes: &[u8]) -> String {
    let Some(text) = text(bytes) else { return "not text".to_owned() };
    let chain = |error: &dyn std::error::Error| {
        error.source().map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
    };
    match ProofFile::parse(&text) {
        Ok(file) => match file.verify(file.network) {
            Ok(_) => "ok".to_owned(),
            Err(error) => chain(&error),
        },
        Err(error) => chain(&error),
    }
}

/// An invitation file.
pub fn invitation_file(bytes: &[u8]) -> String {
    let Some(text) = text(bytes) else { return "not text".to_owned() };
    match InvitationFile::parse(&text) {
        Ok(file) => word(file.verify(NOW)),
        Err(error) => error.to_string(),
    }
}

/// A good invitation file of the world, as a seed.
#[must_use]
pub fn good_invitation_file() -> Vec<u8> {
    let World { council, chain, network } = world();
    let governor = &council.keys[&council.name(0)];
    let token = SecretKey::from_seed([9; 32]);
    let (issued, expires) = (borgios_policy::fixture::ISSUED, borgios_policy::fixture::EXPIRES);
    let invitation =
        Invitation { network: *network, token: token.public(), uses: 3, issued, expires };
    let envelopes: Vec<&Envelope> = chain.history().map(|verified| verified.envelope()).collect();
    serde_json::json!({
        "invitation": invitation.to_envelope().sign(governor), "token": *token.to_openssh("token"),
        "network": network, "name": "lab", "members": [],
        "allowed_signers": council.board.group().allowed_signer("governors", &["borgios-policy@v1"]),
        "chain": envelopes, "policy": {"seq": 1, "id": network}, "urls": [],
    })
    .to_string()
    .into_bytes()
}
