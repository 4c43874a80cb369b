//! A key generation seen from outside: the board that the papers make, and its first pools.

use std::collections::BTreeMap;

use borgios_types::{Digest, Envelope};
use frost_ed25519 as frost;
use frost_ed25519::keys::dkg;

use super::papers::{self, All, Dkg1, Dkg2, Done, Round};
use super::pools::{Points, first_pools};
use super::roster::Roster;
use super::{CeremonyError, Files, cheat};
use crate::board::{Board, identifier};
use crate::name::Name;
use crate::object::Object as _;
use crate::pool::Pool;

/// What can be seen.
pub(crate) enum Seen {
    /// Not all papers are there.
    Waiting { kind: &'static str, missing: Vec<Name> },
    /// Everyone signed the same.
    Made { board: Box<Board>, pools: Vec<Envelope> },
}

/// Works out what the papers make.
pub(crate) fn seen(roster: &Roster, files: &Files) -> Result<Seen, CeremonyError> {
    let waiting = |kind, missing| Ok(Seen::Waiting { kind, missing });
    let first: Round<Dkg1> = papers::round(files, roster)?;
    let first: All<Dkg1> = match first {
        Ok(all) => all,
        Err(missing) => return waiting(Dkg1::KIND, missing),
    };
    let second: All<Dkg2> = match papers::round(files, roster)? {
        Ok(all) => all,
        Err(missing) => return waiting(Dkg2::KIND, missing),
    };
    let done: All<Done> = match papers::round(files, roster)? {
        Ok(all) => all,
        Err(missing) => return waiting(Done::KIND, missing),
    };
    // 1. The key and every share follow from the commitments.
    let mut packages = BTreeMap::new();
    for (name, (_, paper)) in &first {
        let package = dkg::round1::Package::deserialize(&paper.package.0)
            .map_err(|error| cheat(name, Dkg1::KIND, &error))?;
        packages.insert(identifier(roster.index_of(name)?), package);
    }
    let commitments = packages.iter().map(|(id, package)| (*id, package.commitment())).collect();
    let failed =
        |error: frost::Error| CeremonyError::State(format!("the papers make no key: {error}"));
    let public =
        frost::keys::PublicKeyPackage::from_dkg_commitments(&commitments).map_err(failed)?;
    let board = roster.board(&public)?;
    // 2. Everyone signed for that key, and for these very papers.
    let transcript =
        Digest::of_parts(&[&roster.id.0, &papers::digest(&first).0, &papers::digest(&second).0]);
    let differs = |paper: &Done| (paper.transcript, paper.group) != (transcript, board.group());
    if let Some((name, _)) = done.iter().find(|(_, (_, paper))| differs(paper)) {
        return Err(CeremonyError::Disagrees { name: name.clone(), what: Dkg2::KIND });
    }
    // 3. Their first pools.
    Ok(match first_pools(&board, roster, files, &done, Points::Unasked)? {
        Ok(pools) => Seen::Made { board: Box::new(board), pools: pools.all },
        Err(missing) => Seen::Waiting { kind: Pool::KIND, missing },
    })
}
