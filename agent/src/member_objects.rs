//! What may enter of that which nodes, keepers and owners sign.
//!
//! | kind | must be signed by | kept for each node |
//! |---|---|---|
//! | `join` | node and invitation's token; renewals by the node alone | the first and the newest |
//! | `report`, `rotation`, `handover` | the keeper that the node's join record names | the newest |
//! | `witness` | the node, of a grant in its time | one for each grant, at most [`WITNESSES_KEPT`] |
//! | `departure` | the owner that the node's first join record names | one |
//!
//! Nothing enters of a node that was evicted, nor what a departed one says after its departure. All
//! of it is forgotten once the node has lapsed for good, a witness once its grant's time is over:
//! [`crate::roll`].

use std::collections::BTreeSet;

use borgios_policy::{
    Departure, Handover, Invitation, Join, Object as _, ObjectError, Report, RotationReport,
    Witness,
};
use borgios_types::{Digest, Envelope, NodeId, PublicKey, UnixSeconds};

use crate::admission::{AHEAD_MAX, Denied, Judge, Passed};
use crate::store::{Store, Stored};

/// Witnesses kept of one node: as many grants as a board of people has open at a time.
pub const WITNESSES_KEPT: usize = 64;
/// Every kind that this file judges.
pub const KINDS: [&str; 6] = [
    Join::KIND,
    Report::KIND,
    RotationReport::KIND,
    Handover::KIND,
    Witness::KIND,
    Departure::KIND,
];

impl Judge<'_> {
    pub(crate) fn join(&self, network: Digest, envelope: &Envelope) -> Result<Passed, Denied> {
        let Self { store, now, fresh, .. } = *self;
        let join = Join::parse(envelope)?;
        self.not_ahead(Join::KIND, join.issued)?;
        let Some(invitation) = invitation(store, join.invitation) else {
            let why = format!("the invitation {} is not known here", join.invitation);
            return Err(Denied::later("unknown_invitation", why));
        };
        let owner = join.node.to_string();
        let held: Vec<_> = store.owned(Join::KIND, &owner).cloned().collect();
        // The first record carries the token's signature; it proves what a renewal only goes on with.
        let first = envelope.signed_by(&invitation.token);
        let at = if first { join.issued } else { now };
        if first {
            Join::verify(network, at, envelope, (&invitation, join.invitation))?;
            self.not_evicted(&join.node)?;
            let admitted = invitation.admits(&joined_with(store, join.invitation, join.node));
            if !admitted.contains(&join.node) {
                let why = format!("{} nodes joined with this invitation already", invitation.uses);
                return Err(Denied::wrong("used_up", why));
            }
            // Each record that the token signed is a join: a second one after the invitation's end
            // would displace the first, which alone proves the membership to a keeper. One that has lapsed
            // passed this in its time.
            if fresh {
                invitation.open(join.issued).map_err(Denied::from)?;
            }
        } else {
            self.renewal(network, envelope, &join)?;
            self.not_out(Join::KIND, &join.node, join.issued)?;
            if !held.iter().any(|stored| is_first(store, &stored.envelope)) {
                let why = "a renewal without the record it renews";
                return Err(Denied::later("unknown_member", why));
            }
        }
        if let Some(known) = first_join(store, &join.node).filter(|known| known.owner != join.owner)
        {
            let name = |owner: Option<PublicKey>| owner.map_or("nobody".to_owned(), |o| o.short());
            let (was, is) = (name(known.owner), name(join.owner));
            let why = format!("its owner was {was} and would be {is}; an owner does not change");
            return Err(Denied::wrong("owner_changed", why));
        }
        // Kept: the first record, whose date may be past, and the newest.
        let (firsts, renewals): (Vec<_>, Vec<_>) =
            held.iter().partition(|stored| is_first(store, &stored.envelope));
        let rivals = if first { firsts } else { renewals }.into_iter();
        self.newest_of(rivals, join.node, join.issued)
    }

    /// A record without the token's signature: the node's own, for this network. One that lapsed a
    /// while ago still says who the node was, until it is forgotten everywhere.
    fn renewal(&self, network: Digest, envelope: &Envelope, join: &Join) -> Result<(), Denied> {
        let (kind, node, now) = (Join::KIND, join.node, self.now);
        if join.network != network {
            return Err(
                ObjectError::WrongNetwork { kind, found: join.network, expected: network }.into()
            );
        }
        if join.expires <= join.issued {
            let why = format!("it expires at {}, issued at {}", join.expires, join.issued);
            return Err(ObjectError::Refused { kind, why }.into());
        }
        if !envelope.signed_by(&node) {
            return Err(ObjectError::BadSignature { kind, signer: node.short() }.into());
        }
        if self.fresh && now >= join.expires.plus(self.lapsed_kept) {
            let why = format!("a record that lapsed at {}, it is {now}", join.expires);
            return Err(Denied::wrong("lapsed", why));
        }
        Ok(())
    }

    pub(crate) fn report(&self, network: Digest, envelope: &Envelope) -> Result<Passed, Denied> {
        let Report { node, keeper, at, .. } = Report::verify(network, envelope)?;
        self.keepers(Report::KIND, node, keeper, at)
    }

    pub(crate) fn rotation(&self, network: Digest, envelope: &Envelope) -> Result<Passed, Denied> {
        let RotationReport { node, keeper, at, .. } = RotationReport::verify(network, envelope)?;
        self.keepers(RotationReport::KIND, node, keeper, at)
    }

    pub(crate) fn handover(&self, network: Digest, envelope: &Envelope) -> Result<Passed, Denied> {
        let Handover { node, keeper, at, .. } = Handover::verify(network, envelope)?;
        self.keepers(Handover::KIND, node, keeper, at)
    }

    /// What a keeper signed, and its signature was checked: is it that node's keeper, and is it news?
    fn keepers(
        &self,
        kind: &'static str,
        node: NodeId,
        keeper: PublicKey,
        at: UnixSeconds,
    ) -> Result<Passed, Denied> {
        self.not_ahead(kind, at)?;
        self.not_out(kind, &node, at)?;
        let owner = node.to_string();
        let keeper_is_named = self
            .store
            .owned(Join::KIND, &owner)
            .filter_map(|stored| Join::parse(&stored.envelope).ok())
            .any(|join| join.keeper == keeper);
        if !keeper_is_named {
            let why = "the join record of this node names another keeper, or there is none";
            return Err(Denied::later("unknown_member", why));
        }
        self.newest_of(self.store.owned(kind, &owner), node, at)
    }

    /// Replaces the older of `rivals`; known if there is no older one. One of this node's own that is dated
    /// ahead was made by a clock that was wrong, and is no newer than what is said now that it is right. One of
    /// another node's may be what it said last, and this clock behind: a copy of what it said before must not
    /// replace that. While this clock is known to be behind, [`Judge::judge`] tells no node from another.
    fn newest_of<'a>(
        &self,
        rivals: impl Iterator<Item = &'a std::sync::Arc<Stored>>,
        node: NodeId,
        date: UnixSeconds,
    ) -> Result<Passed, Denied> {
        let latest = self.now.plus(AHEAD_MAX).0;
        let mut replaces = Vec::new();
        for rival in rivals {
            let is_wrong = self.me == Some(node) && rival.date > latest;
            if rival.date >= date.0 && !is_wrong {
                return Err(Denied::Known);
            }
            replaces.push(rival.id);
        }
        Ok(Passed { owner: node.to_string(), date: date.0, replaces })
    }

    pub(crate) fn witness(&self, network: Digest, envelope: &Envelope) -> Result<Passed, Denied> {
        let Self { store, chain, now, .. } = *self;
        let kind = Witness::KIND;
        let Witness { node, statement, at, .. } = Witness::verify(network, envelope)?;
        self.not_ahead(kind, at)?;
        self.not_out(kind, &node, at)?;
        if first_join(store, &node).is_none() {
            return Err(Denied::later("unknown_member", "a witness without a join record"));
        }
        let Some(granted) = chain.grant(&statement) else {
            return Err(match chain.known(&statement) {
                None => {
                    Denied::later("unknown_statement", format!("{statement} is not known here"))
                }
                Some((lane, seq)) => Denied::wrong("bad_body", format!("{lane}/{seq} is no grant")),
            });
        };
        if granted.grant.node == node {
            return Err(Denied::wrong("bad_body", "a node is no witness of its own grant"));
        }
        let over = granted.grant.before;
        if now >= over {
            return Err(Denied::wrong("over", format!("a grant until {over}, it is {now}")));
        }
        let owner = node.to_string();
        let held: Vec<_> = store.owned(kind, &owner).collect();
        let says_so = |stored: &&std::sync::Arc<Stored>| {
            Witness::parse(&stored.envelope).is_ok_and(|held| held.statement == statement)
        };
        if held.iter().any(says_so) {
            return Err(Denied::Known);
        }
        let replaces = match held.first() {
            Some(oldest) if held.len() >= WITNESSES_KEPT && oldest.date < at.0 => vec![oldest.id],
            Some(_) if held.len() >= WITNESSES_KEPT => return Err(Denied::Known),
            Some(_) | None => Vec::new(),
        };
        Ok(Passed { owner, date: at.0, replaces })
    }

    pub(crate) fn departure(&self, network: Digest, envelope: &Envelope) -> Result<Passed, Denied> {
        let Self { store, .. } = *self;
        let kind = Departure::KIND;
        let Departure { node, at, .. } = Departure::parse(envelope)?;
        self.not_ahead(kind, at)?;
        self.not_evicted(&node)?;
        let Some(join) = first_join(store, &node) else {
            return Err(Denied::later("unknown_member", "a departure without a join record"));
        };
        let Some(by) = join.owner else {
            let why = format!("the join record of {} names no owner", node.short());
            return Err(Denied::wrong("no_owner", why));
        };
        Departure::verify(network, &by, envelope)?;
        let owner = node.to_string();
        if store.owned(kind, &owner).next().is_some() {
            return Err(Denied::Known);
        }
        // What others no longer take after it must not stay here either.
        let later = KINDS.iter().flat_map(|kind| store.owned(kind, &owner));
        let later = later.filter(|one| one.date > at.0 && !is_first(store, &one.envelope));
        let replaces = later.map(|one| one.id).collect();
        Ok(Passed { owner, date: at.0, replaces })
    }

    fn not_evicted(&self, node: &NodeId) -> Result<(), Denied> {
        if self.evicted.contains(node) {
            return Err(Denied::wrong("evicted", format!("{} was evicted", node.short())));
        }
        Ok(())
    }

    /// Whether a node could say this on that day: it was neither evicted, nor gone by then.
    fn not_out(&self, kind: &str, node: &NodeId, date: UnixSeconds) -> Result<(), Denied> {
        self.not_evicted(node)?;
        match departed(self.store, node) {
            Some(at) if date > at => {
                let why = format!("a {kind} of {date}; {} departed at {at}", node.short());
                Err(Denied::wrong("departed", why))
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// The invitation with this id, verified when it entered.
pub fn invitation(store: &Store, id: Digest) -> Option<Invitation> {
    Invitation::parse(&store.get(&id)?.envelope).ok()
}

/// Whether a join record carries its invitation's token signature.
pub fn is_first(store: &Store, envelope: &Envelope) -> bool {
    Join::parse(envelope)
        .ok()
        .and_then(|join| invitation(store, join.invitation))
        .is_some_and(|invitation| envelope.signed_by(&invitation.token))
}

/// A node's first join record: the one that names its owner.
pub fn first_join(store: &Store, node: &NodeId) -> Option<Join> {
    let owner = node.to_string();
    let first = store.owned(Join::KIND, &owner).find(|stored| is_first(store, &stored.envelope))?;
    Join::parse(&first.envelope).ok()
}

/// When a node's owner took it out.
pub fn departed(store: &Store, node: &NodeId) -> Option<UnixSeconds> {
    let owner = node.to_string();
    let departure = store.owned(Departure::KIND, &owner).next()?;
    Some(UnixSeconds(departure.date))
}

/// The nodes that joined with an invitation, and `newcomer`.
fn joined_with(store: &Store, id: Digest, newcomer: NodeId) -> BTreeSet<NodeId> {
    store
        .list(Join::KIND, None)
        .filter_map(|stored| Join::parse(&stored.envelope).ok())
        .filter(|join| join.invitation == id)
        .map(|join| join.node)
        .chain([newcomer])
        .collect()
}
