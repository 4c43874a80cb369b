//! What the lanes `credential`, `member` and `access` amount to, for whoever follows the chain.
//!
//! A signed statement whose body this version cannot use holds its place in its lane and orders
//! nothing, so that no signed mistake ends a lane; before a vote, `check` refuses it.

use std::collections::BTreeSet;

use borgios_types::{Digest, Epoch, NodeId, UnixSeconds};

use crate::access::{AccessOrder, Grant};
use crate::chain::Chain;
use crate::credential::{Credential, CredentialError};
use crate::eviction::Eviction;
use crate::lane::Lane;
use crate::statement::{Statement, VerifiedStatement};

/// A grant and the statement that makes it.
#[derive(Clone, Debug)]
pub struct Granted<'a> {
    /// What it grants.
    pub grant: Grant,
    /// The statement.
    pub statement: &'a VerifiedStatement,
}

impl Chain {
    /// The newest credential that can be used, and its statement.
    #[must_use]
    pub fn credential(&self) -> Option<(Credential, &VerifiedStatement)> {
        let newest = self.after(Lane::Credential, borgios_types::Seq(0));
        newest.filter_map(|at| Some((Credential::of(at.statement()).ok()?, at))).last()
    }

    /// The lowest epoch that may be current: the highest that any statement asked for, so that no later one
    /// turns it back. A ruling that closes a place does: what was signed there orders nothing any more.
    #[must_use]
    pub fn min_epoch(&self) -> Epoch {
        let all = self.after(Lane::Credential, borgios_types::Seq(0));
        let asked = all.filter_map(|at| Some(Credential::of(at.statement()).ok()?.min_epoch));
        asked.max().unwrap_or_default()
    }

    /// Epochs that were revealed, and when each reveal ends.
    #[must_use]
    pub fn reveals(&self) -> Vec<(Epoch, UnixSeconds)> {
        let orders = self.access_orders().filter_map(|(order, _)| match order {
            AccessOrder::Reveal(reveal) => Some((reveal.epoch, reveal.until)),
            AccessOrder::Grant(_) | AccessOrder::Revoke(_) => None,
        });
        orders.collect()
    }

    /// Every grant that was ever signed, oldest first.
    #[must_use]
    pub fn grants(&self) -> Vec<Granted<'_>> {
        let orders = self.access_orders().filter_map(|(order, statement)| match order {
            AccessOrder::Grant(grant) => Some(Granted { grant, statement }),
            AccessOrder::Revoke(_) | AccessOrder::Reveal(_) => None,
        });
        orders.collect()
    }

    /// The grant that a statement with this id makes.
    #[must_use]
    pub fn grant(&self, id: &Digest) -> Option<Granted<'_>> {
        let (lane, seq) = self.known(id)?;
        let statement = self.get(lane, seq)?;
        match AccessOrder::of(statement.statement()).ok()? {
            AccessOrder::Grant(grant) => Some(Granted { grant, statement }),
            AccessOrder::Revoke(_) | AccessOrder::Reveal(_) => None,
        }
    }

    /// Serials of certificates that were revoked. What a signed revocation names besides, the serial 0 or
    /// one that no grant before it has, it does not revoke; all the others it does.
    #[must_use]
    pub fn revoked(&self) -> BTreeSet<u64> {
        let orders = self.access_orders().filter_map(|(order, at)| match order {
            AccessOrder::Revoke(revoke) => {
                Some(revoke.revoked(at.statement().seq).collect::<Vec<_>>())
            }
            AccessOrder::Grant(_) | AccessOrder::Reveal(_) => None,
        });
        orders.flatten().collect()
    }

    /// Nodes that are out for good.
    #[must_use]
    pub fn evicted(&self) -> BTreeSet<NodeId> {
        let all = self.after(Lane::Member, borgios_types::Seq(0));
        let bodies = all.filter_map(|at| Eviction::of(at.statement()).ok());
        bodies.flat_map(|eviction| eviction.evict).collect()
    }

    fn access_orders(&self) -> impl Iterator<Item = (AccessOrder, &VerifiedStatement)> {
        let all = self.after(Lane::Access, borgios_types::Seq(0));
        all.filter_map(|at| Some((AccessOrder::of(at.statement()).ok()?, at)))
    }
}

/// The rules of a draft's body, for governors' tools before a vote. Releases have rules of their
/// own, policies were checked when they were read.
pub(crate) fn check(chain: &Chain, statement: &Statement) -> Result<(), String> {
    match statement.lane {
        Lane::Policy | Lane::Release => Ok(()),
        Lane::Member => Eviction::of(statement).map(drop).map_err(|error| error.to_string()),
        Lane::Access => {
            let order = AccessOrder::of(statement).map_err(|error| error.to_string())?;
            let AccessOrder::Revoke(revoke) = order else { return Ok(()) };
            // Not a rule of the body: a signed order with one wrong serial still revokes the others.
            revoke.check_draft(statement.seq).map_err(|error| error.to_string())
        }
        Lane::Credential => {
            let offered = Credential::of(statement).map_err(|error| error.to_string())?.min_epoch;
            let reached = chain.min_epoch();
            if offered < reached {
                return Err(CredentialError::Lower { offered, reached }.to_string());
            }
            Ok(())
        }
    }
}
