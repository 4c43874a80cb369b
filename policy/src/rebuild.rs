//! Rebuilds: which approving ballots say that the voter's own build came to the same bytes.
//!
//! A ballot may carry `rebuild: {digest, env}`; `digest` is [`components_digest`] of what the voter
//! built, so that it equals that of the release if every component came out alike.

use std::collections::BTreeSet;

use borgios_types::{Digest, Envelope};
use serde::Deserialize;
use serde_json::Value;

use crate::ballot;
use crate::board::Board;
use crate::name::Name;
use crate::statement::Statement;

/// The one field that is looked at here.
#[derive(Deserialize)]
struct Rebuilt {
    rebuild: Rebuild,
}

#[derive(Deserialize)]
struct Rebuild {
    digest: Digest,
}

/// One digest for the components of a release's body, in their order: [`Digest::of_parts`] over the
/// 32 bytes of each. None for a body without a list of components.
#[must_use]
pub fn components_digest(body: &Value) -> Option<Digest> {
    let components = body.get("components")?.as_array()?;
    let digests: Option<Vec<Digest>> = components
        .iter()
        .map(|component| component.get("digest")?.as_str()?.parse().ok())
        .collect();
    let digests = digests?;
    let parts: Vec<&[u8]> = digests.iter().map(|digest| digest.0.as_slice()).collect();
    Some(Digest::of_parts(&parts))
}

/// The governors whose valid ballots approve exactly this statement and name its components.
#[must_use]
pub fn matching(
    board: &Board,
    statement: &Statement,
    id: Digest,
    ballots: &[Envelope],
) -> BTreeSet<Name> {
    let Some(expected) = components_digest(&statement.body) else { return BTreeSet::new() };
    let same = |envelope: &&Envelope| {
        serde_json::from_str::<Rebuilt>(&envelope.payload)
            .is_ok_and(|ballot| ballot.rebuild.digest == expected)
    };
    let same: Vec<Envelope> = ballots.iter().filter(same).cloned().collect();
    ballot::approvers(board, statement, id, &same)
}
