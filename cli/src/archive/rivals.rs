//! Statements that the board signed for a place at which another one stands here.
//!
//! A laptop keeps the first of two, as it came. The other changes nothing here, and it is no forgery:
//! servers that met both before they applied one hold their lane back until a policy names a winner. So
//! it is kept apart (`objects/rival/`), verified at every start, and shown.

use std::collections::BTreeMap;
use std::path::PathBuf;

use borgios_policy::{Chain, Lane, Refusal, Statement};
use borgios_types::limits::ENVELOPE_MAX;
use borgios_types::{Digest, Envelope, Seq, UnixSeconds};

use super::{Archive, reading};
use crate::durable;
use crate::failure::Failure;
use crate::home::Home;

/// Most rivals kept: each takes a signature of the board, and two are an alarm.
const RIVALS_MAX: usize = 16;

/// Signed statements whose places are taken here by others, by their ids.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rivals(BTreeMap<Digest, Statement>);

impl Rivals {
    /// What was kept and is still a rival of what stands.
    pub(super) fn load(home: &Home, chain: &Chain) -> Result<Self, Failure> {
        let mut rivals = Self::default();
        for path in durable::list(&folder(home))? {
            if path.extension().is_some_and(|extension| extension == "json") {
                let bytes = durable::read(&path, ENVELOPE_MAX)?.unwrap_or_default();
                let found = Envelope::parse(&bytes).ok();
                let rival = found.and_then(|found| Some((found.id(), rival(chain, &found)?)));
                rivals.0.extend(rival);
            }
        }
        Ok(rivals)
    }

    /// Each with its id.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&Digest, &Statement)> {
        self.0.iter()
    }

    /// Those at one place.
    pub(crate) fn at(&self, lane: Lane, seq: Seq) -> impl Iterator<Item = &Digest> {
        let at = move |one: &Statement| (one.lane, one.seq) == (lane, seq);
        self.0.iter().filter(move |(_, statement)| at(statement)).map(|(id, _)| id)
    }
}

/// The statement in `envelope`, if the board signed it and its place is taken by another one that no
/// policy settled on.
fn rival(chain: &Chain, envelope: &Envelope) -> Option<Statement> {
    let Err(Refusal::Rival { lane, seq, .. }) = chain.verify_stored(envelope, &[]) else {
        return None;
    };
    let open = chain.settled(lane, seq).is_none() && chain.get(lane, seq).is_some();
    Statement::parse(envelope).ok().filter(|_| open)
}

fn folder(home: &Home) -> PathBuf {
    home.root().join("objects").join("rival")
}

fn file(home: &Home, id: &Digest) -> PathBuf {
    folder(home).join(format!("{}.json", id.hex()))
}

impl Archive {
    /// Signed statements whose places are taken.
    pub(crate) fn rivals(&self) -> &Rivals {
        &self.rivals
    }

    /// When a rival came here.
    pub(crate) fn rival_since(&self, id: &Digest) -> Option<UnixSeconds> {
        reading::date_of(&file(&self.home, id))
    }

    /// Keeps a rival, if it is one; whether it is kept already.
    pub(super) fn keep_rival(&mut self, envelope: &Envelope) -> Result<bool, Failure> {
        let id = envelope.id();
        if self.rivals.0.contains_key(&id) {
            return Ok(true);
        }
        if let Some(statement) = rival(&self.chain, envelope)
            && self.rivals.0.len() < RIVALS_MAX
        {
            durable::folder(&folder(&self.home))?;
            durable::write(&file(&self.home, &id), envelope.to_json().as_bytes())?;
            self.rivals.0.insert(id, statement);
        }
        Ok(false)
    }
}
