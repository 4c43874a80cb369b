//! Whether an object is what it says, by the rules of its kind and one board.

use borgios_policy::{
    Ballot, Beacon, Board, Burn, Drill, DrillAnswer, Note, Object as _, Objection, Pause, Pool,
    Proposal, Session, SessionShare, Veto,
};
use borgios_types::{Digest, Envelope, PublicKey};

use super::Held;

/// A verified object that is no statement.
pub(super) enum Object {
    Proposal(Held<Proposal>),
    Pool(Held<Pool>),
    Burn(Held<Burn>),
    Session(Held<Session>),
    Share(Held<SessionShare>),
    Ballot(Held<Ballot>),
    Note(Held<Note>),
    Drill(Held<Drill>),
    DrillAnswer(Held<DrillAnswer>),
    Objection(Held<Objection>),
    /// With the identity key that signed it.
    Beacon(Held<Beacon>, PublicKey),
}

/// Whether an objection is a veto and no pause.
pub(crate) fn is_veto(held: &Held<Objection>) -> bool {
    held.envelope.kind.as_str() == Veto::KIND
}

/// Where an object lay.
#[derive(Clone, Copy, Debug)]
pub(super) enum Lay {
    /// With somebody else.
    Elsewhere,
    /// In this archive's own folder, where only what was verified comes.
    Here,
}

/// Judges one object by one board.
pub(super) fn verify_by(
    board: &Board,
    network: Digest,
    envelope: &Envelope,
    lay: Lay,
) -> Result<Object, String> {
    let text = |error: borgios_policy::ObjectError| error.to_string();
    let envelope = envelope.clone();
    match envelope.kind.as_str() {
        Proposal::KIND => {
            let (value, by) = Proposal::verify(board, &envelope).map_err(text)?;
            Ok(Object::Proposal(Held { value, by, envelope }))
        }
        Pool::KIND => {
            let value = match lay {
                Lay::Elsewhere => Pool::verify(board, &envelope),
                // A board of 13 has a million points. Votes and tallies ask of those they use.
                Lay::Here => Pool::verify_stored(board, &envelope),
            };
            let value = value.map_err(text)?;
            Ok(Object::Pool(Held { by: value.governor.clone(), value, envelope }))
        }
        Burn::KIND => {
            let value = Burn::verify(board, &envelope).map_err(text)?;
            Ok(Object::Burn(Held { by: value.governor.clone(), value, envelope }))
        }
        Session::KIND => {
            let (value, by) = Session::verify(board, &envelope).map_err(text)?;
            Ok(Object::Session(Held { value, by, envelope }))
        }
        SessionShare::KIND => {
            let value = SessionShare::verify(board, &envelope).map_err(text)?;
            Ok(Object::Share(Held { by: value.governor.clone(), value, envelope }))
        }
        Ballot::KIND => {
            let value = Ballot::verify(board, &envelope).map_err(text)?;
            Ok(Object::Ballot(Held { by: value.governor.clone(), value, envelope }))
        }
        Note::KIND => {
            let (value, by) = Note::verify(board, network, &envelope).map_err(text)?;
            Ok(Object::Note(Held { value, by, envelope }))
        }
        Veto::KIND => {
            let value = Veto::verify(board, network, &envelope).map_err(text)?.0;
            Ok(Object::Objection(Held { by: value.governor.clone(), value, envelope }))
        }
        Pause::KIND => {
            let value = Pause::verify(board, network, &envelope).map_err(text)?.0;
            Ok(Object::Objection(Held { by: value.governor.clone(), value, envelope }))
        }
        Beacon::KIND => {
            let value = Beacon::verify(board, network, &envelope).map_err(text)?;
            let seat = board.by_name(&value.governor).ok_or("its sender is on no board")?;
            let by = value.governor.clone();
            Ok(Object::Beacon(Held { by, value, envelope }, seat.key))
        }
        Drill::KIND => {
            let value = Drill::verify(board, network, &envelope).map_err(text)?;
            Ok(Object::Drill(Held { by: value.governor.clone(), value, envelope }))
        }
        DrillAnswer::KIND => {
            let value = DrillAnswer::verify(board, network, &envelope).map_err(text)?;
            Ok(Object::DrillAnswer(Held { by: value.governor.clone(), value, envelope }))
        }
        other => Err(format!("objects of kind {other} are not kept here")),
    }
}
