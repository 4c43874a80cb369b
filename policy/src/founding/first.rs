//! policy/1, which every governor works out alike, and how it gets its signature.

use borgios_types::{Digest, Envelope, KeyEpoch, Round, Seq};

use super::plan::Plan;
use super::{CeremonyError, Files, Founded, Me, POLICY_FILE, Status, large};
use crate::ballot::Ballot;
use crate::board::Board;
use crate::card::Card;
use crate::chain::Chain;
use crate::keygen::{Agreed, Ceremony, Made, Phase, Roster, envelope};
use crate::lane::Lane;
use crate::name::Name;
use crate::object::{Object as _, ObjectError};
use crate::policy::{Class, Classes, Policy};
use crate::pool::Pool;
use crate::recovery::RecoveryBoard;
use crate::round::OpenRound;
use crate::share::KeyShare;
use crate::slot::Slot;
use crate::statement::Statement;
use crate::tally::tally;
use crate::vote::Intent;

/// The exact text of policy/1.
pub(super) fn payload(plan: &Plan, board: &Board) -> String {
    let class = Class::of(plan.threshold.0);
    let mut policy = Policy::new(board.clone(), plan.fanout, Classes::of(class, class));
    policy.recovers = plan.recovers;
    // A version that does not know the field must not take it for a network's first policy.
    let critical = plan.recovers.map(|_| "recovers".to_owned()).into_iter().collect();
    let statement = Statement {
        network: None,
        lane: Lane::Policy,
        seq: Seq(1),
        round: Round(0),
        prev: None,
        policy: None,
        issued: plan.issued,
        expires: plan.expires,
        critical,
        body: policy.to_body(),
    };
    statement.to_payload()
}

/// The id of policy/1, which is the network's.
pub(super) fn network(plan: &Plan, board: &Board) -> Digest {
    Digest::of(payload(plan, board).as_bytes())
}

/// The slot of policy/1.
fn policy_slot() -> Slot {
    Slot { epoch: KeyEpoch(1), lane: Lane::Policy, seq: Seq(1), round: Round(0) }
}

/// This governor's part of the signature of policy/1, once: its nonces are erased with it.
pub(super) fn sign(
    ceremony: &mut Ceremony,
    me: &Me<'_>,
    plan: &Plan,
    roster: &Roster,
    agreed: &Agreed,
) -> Result<(), CeremonyError> {
    let Phase::Keyed { made } = &ceremony.phase else { return Ok(()) };
    let mut made = made.clone();
    ceremony.answer(me, roster, &agreed.done);
    if made.nonces.is_some() {
        large::sign(ceremony, me, plan, roster, &made, agreed)?;
        made.nonces = None;
    } else {
        let ballot = ballot(me, plan, &made, &agreed.pools.leading)?;
        ceremony.wrote.insert(roster.file(&me.card.name, Ballot::KIND), ballot.to_json());
        made.seeds.retain(|(of, _)| *of != policy_slot());
    }
    ceremony.phase = Phase::Voted { made };
    Ok(())
}

/// An approval of policy/1.
fn ballot(
    me: &Me<'_>,
    plan: &Plan,
    made: &Made,
    pools: &[Envelope],
) -> Result<Envelope, CeremonyError> {
    let (board, slot) = (&made.board, policy_slot());
    let failed = |error: &dyn core::fmt::Display| {
        CeremonyError::State(format!("voting on policy/1 failed: {error}"))
    };
    let name = &me.card.name;
    let key = KeyShare::from_secret(board, name, &made.key).map_err(|error| failed(&error))?;
    let open = OpenRound::check(board, slot, &[]).map_err(|error| failed(&error))?;
    let (text, nobody) = (payload(plan, board), [].into());
    let intent = Intent::approve(board, name, &open, &text, pools, &nobody, None, 1)
        .map_err(|error| failed(&error))?;
    let seed = made.seeds.iter().find(|(of, _)| *of == slot).map(|(_, seed)| seed);
    let ballot = intent.ballot(board, &key, seed, pools).map_err(|error| failed(&error))?;
    Ok(ballot.to_envelope().sign(me.key))
}

/// Takes policy/1 from the folder, or makes it as soon as there are enough parts of its signature.
pub(super) fn conclude(
    ceremony: &Ceremony,
    me: &Me<'_>,
    plan: &Plan,
    roster: &Roster,
    files: &Files,
    agreed: &Agreed,
) -> Result<Status, CeremonyError> {
    let Phase::Voted { made } = &ceremony.phase else {
        return Err(CeremonyError::State("the founding went back a step".to_owned()));
    };
    let board = &made.board;
    let (ballots, missing) = ballots(board, roster, files);
    let text = payload(plan, board);
    let network = Digest::of(text.as_bytes());
    let policy = match envelope(files, POLICY_FILE)? {
        Some(envelope) => {
            check_made(plan, network, &envelope)
                .map_err(|source| CeremonyError::File { file: POLICY_FILE.to_owned(), source })?;
            envelope
        }
        None if board.one_touch().is_ok() => {
            match tally(board, policy_slot(), &[text], &agreed.pools.leading, &ballots).signed() {
                Some(envelope) => envelope.clone(),
                None => return Ok(Status::Waiting { kind: Ballot::KIND, missing }),
            }
        }
        None => match large::signed(plan, roster, board, files, agreed)? {
            Ok(envelope) => envelope,
            Err(missing) => return Ok(Status::Waiting { kind: large::Part::KIND, missing }),
        },
    };
    founded(me, plan, made, policy, agreed.pools.all.clone(), ballots)
}

/// The end of a founding for whom papers of the others are kept from: policy/1, signed by the very key of
/// which this governor has a share, says that t governors saw those of all, this one's among them. `None` if
/// it is not there, or another one.
pub(super) fn ended(
    ceremony: &Ceremony,
    me: &Me<'_>,
    plan: &Plan,
    roster: &Roster,
    files: &Files,
) -> Result<Option<Status>, CeremonyError> {
    let (Phase::Keyed { made } | Phase::Voted { made }) = &ceremony.phase else { return Ok(None) };
    let id = network(plan, &made.board);
    let laid = envelope(files, POLICY_FILE).ok().flatten();
    let Some(policy) = laid.filter(|laid| check_made(plan, id, laid).is_ok()) else {
        return Ok(None);
    };
    let (ballots, _) = ballots(&made.board, roster, files);
    // The others' pools were not checked; where all objects lie they are found and judged.
    let own = ceremony.wrote.values().filter_map(|text| Envelope::parse(text.as_bytes()).ok());
    let pools = own.filter(|paper| paper.kind.as_str() == Pool::KIND).collect();
    founded(me, plan, made, policy, pools, ballots).map(Some)
}

/// The good ballots on policy/1, and whose are missing.
fn ballots(board: &Board, roster: &Roster, files: &Files) -> (Vec<Envelope>, Vec<Name>) {
    let (mut ballots, mut missing) = (Vec::new(), Vec::new());
    for Card { name, .. } in &roster.governors {
        // A ballot that is no good is one that is not there, and so is one that nobody can read.
        let ballot = envelope(files, &roster.file(name, Ballot::KIND)).ok().flatten();
        match ballot.filter(|ballot| Ballot::verify(board, ballot).is_ok()) {
            Some(ballot) => ballots.push(ballot),
            None => missing.push(name.clone()),
        }
    }
    (ballots, missing)
}

/// What is left to this governor. The seed of policy/1 is not among it, used or not: its place is taken.
fn founded(
    me: &Me<'_>,
    plan: &Plan,
    made: &Made,
    policy: Envelope,
    pools: Vec<Envelope>,
    ballots: Vec<Envelope>,
) -> Result<Status, CeremonyError> {
    let board = made.board.clone();
    let key = KeyShare::from_secret(&board, &me.card.name, &made.key)
        .map_err(|error| CeremonyError::State(error.to_string()))?;
    let mut seeds = made.seeds.clone();
    seeds.retain(|(of, _)| *of != policy_slot());
    let (network, recovers) = (network(plan, &board), plan.recovers);
    let founded = Founded { network, recovers, policy, board, key, seeds, pools, ballots };
    Ok(Status::Founded(Box::new(founded)))
}

/// Whether what lies in the folder is what everybody signed for.
fn check_made(plan: &Plan, network: Digest, envelope: &Envelope) -> Result<(), ObjectError> {
    let refused = |why: String| ObjectError::Refused { kind: "policy", why };
    match plan.recovers {
        None => Chain::new(Some(network))
            .verify_stored(envelope, &[])
            .map(drop)
            .map_err(|refusal| refused(refusal.to_string())),
        Some(_) if envelope.id() != network => Err(refused("it is another one".to_owned())),
        Some(recovers) => RecoveryBoard::verify(recovers, envelope).map(drop),
    }
}
