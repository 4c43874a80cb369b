//! What servers say of themselves, verified and kept: who is a member, who handed over its root,
//! which epoch it carries, who saw a grant, who left.
//!
//! ```text
//! invitation (a governor) ─▶ first join record (token) ─▶ renewals (node key)
//!                                 └─ names keeper and owner ─▶ hand-over, rotation │ departure
//! ```
//!
//! At most kept: the first and the newest record of each server, one receipt, one rotation report,
//! one departure; of each grant so many witnesses as are asked; the invitations with which a server
//! joined, and of each governor the newest others. Nobody can fill the tables for the others, neither one
//! governor nor who holds one invitation: where there is more than is kept, who has most gives way; and
//! whoever comes then takes the place of few who are known and not out. Invariant: as the archive's, whatever
//! is returned was verified by this very process.

mod room;
mod uses;

use std::collections::{BTreeMap, BTreeSet};

use borgios_policy::witness::WITNESSES_ASKED;
use borgios_policy::{
    Chain, Departure, Handover, Invitation, Join, Object as _, RotationReport, Witness,
};
use borgios_types::{Digest, Envelope, NodeId, PublicKey, UnixSeconds};

use self::room::{INVITATIONS_EACH, INVITATIONS_MAX};
use self::uses::{Joined, Lapses};
use crate::archive::{Admitted, Archive, read_kind};
use crate::durable;
use crate::failure::Failure;
use crate::home::Home;
use crate::transport::SERVER_KINDS;

/// Most servers kept: a laptop verifies so many at a start within seconds.
const SERVERS_MAX: usize = 20_000;
/// Seconds a record's date may lie ahead of the clock: nodes take none beyond either.
const AHEAD_MAX_S: u64 = 600;

/// Everything known of the servers.
#[derive(Debug)]
pub(crate) struct Servers {
    home: Home,
    network: Digest,
    /// Most servers that are kept.
    most: usize,
    /// Who is out by a statement, as the archive had it when something was last judged.
    evicted: BTreeSet<NodeId>,
    /// The clock when something was last judged.
    now: UnixSeconds,
    /// Who was not known here before that.
    newcomers: BTreeSet<NodeId>,
    /// What lies here is being read: how much of it there may be was asked when it came.
    reading: bool,
    /// With the key of the governor who made it.
    invitations: BTreeMap<Digest, (PublicKey, Held<Invitation>)>,
    servers: BTreeMap<NodeId, Server>,
    /// Which joined with an invitation.
    joined: BTreeMap<Digest, Joined>,
    /// By the grant's statement.
    witnesses: BTreeMap<Digest, BTreeMap<NodeId, Envelope>>,
}

/// A verified object and the envelope it came in.
#[derive(Clone, Debug)]
struct Held<T> {
    value: T,
    envelope: Envelope,
}

/// One server, by what it and its keeper signed.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    first: Held<Join>,
    renewal: Option<Held<Join>>,
    handover: Option<Held<Handover>>,
    rotation: Option<Held<RotationReport>>,
    departure: Option<Held<Departure>>,
}

/// Whether an object has a place here.
enum Placed {
    /// It was put there; what it replaces is of no use any more.
    New(Option<Envelope>),
    /// It, or something newer, is there.
    Known,
}

impl Server {
    /// Its newest record.
    pub(crate) fn join(&self) -> &Join {
        self.renewal.as_ref().map_or(&self.first.value, |renewal| &renewal.value)
    }

    /// Since when it is a member.
    pub(crate) fn since(&self) -> UnixSeconds {
        self.first.value.issued
    }

    /// When its records lapse. Nodes take no renewal that is younger than its departure.
    fn lapses(&self) -> Lapses {
        let first = self.first.value.expires;
        let renewal = self.renewal.as_ref().map(|held| &held.value);
        let counts = |renewal: &&Join| self.departed().is_none_or(|at| renewal.issued <= at);
        let newest = renewal.filter(counts).map_or(first, |renewal| renewal.expires.max(first));
        Lapses { first, newest }
    }

    /// The receipt for its root.
    pub(crate) fn handover(&self) -> Option<&Handover> {
        self.handover.as_ref().map(|held| &held.value)
    }

    /// The receipt for its root as its keeper signed it.
    pub(crate) fn receipt(&self) -> Option<&Envelope> {
        self.handover.as_ref().map(|held| &held.envelope)
    }

    /// Which epoch it carries, as its keeper said last.
    pub(crate) fn rotation(&self) -> Option<&RotationReport> {
        self.rotation.as_ref().map(|held| &held.value)
    }

    /// When its owner took it out.
    pub(crate) fn departed(&self) -> Option<UnixSeconds> {
        self.departure.as_ref().map(|held| held.value.at)
    }

    /// The newest word of it or its keeper that was signed.
    pub(crate) fn last_heard(&self) -> UnixSeconds {
        let rotation = self.rotation().map(|report| report.at);
        let handover = self.handover().map(|handover| handover.at);
        self.join().issued.max(rotation.max(handover).unwrap_or_default())
    }

    /// `web-3 (10.0.0.3:7117, SHA256:…)`.
    pub(crate) fn describe(&self) -> String {
        let Join { name, address, node, .. } = self.join();
        let address = address.as_deref().unwrap_or("cannot be dialled");
        format!("{name} ({address}, {})", node.fingerprint())
    }

    fn keepers(&self) -> impl Iterator<Item = PublicKey> {
        let renewal = self.renewal.as_ref().map(|held| held.value.keeper);
        [self.first.value.keeper].into_iter().chain(renewal)
    }

    /// The owner's key: as the first record names it, else the receipt of that record's keeper. What the
    /// node alone signed since, such as a renewal or the keeper named in one, makes nobody its owner.
    pub(crate) fn owners(&self) -> Vec<PublicKey> {
        let first = &self.first.value;
        let receipt = self.handover().filter(|handover| handover.keeper == first.keeper);
        first.owner.or(receipt.and_then(|handover| handover.owner)).into_iter().collect()
    }

    /// All that is held of it. The first record, without which none of the rest holds, is the last.
    fn into_envelopes(self) -> impl Iterator<Item = Envelope> {
        let Self { first, renewal, handover, rotation, departure } = self;
        let said = [
            handover.map(|held| held.envelope),
            rotation.map(|held| held.envelope),
            departure.map(|held| held.envelope),
            renewal.map(|held| held.envelope),
        ];
        said.into_iter().flatten().chain([first.envelope])
    }
}

impl Servers {
    /// Reads what is kept. What does not verify is left out; it can be fetched again.
    /// `now` is the clock: where there are too many, those go first that lapsed long before it.
    pub(crate) fn load(
        home: &Home,
        archive: &Archive,
        network: Digest,
        now: UnixSeconds,
    ) -> Result<Self, Failure> {
        let mut servers = Self {
            home: home.clone(),
            network,
            most: SERVERS_MAX,
            evicted: archive.chain().evicted(),
            now,
            newcomers: BTreeSet::new(),
            reading: true,
            invitations: BTreeMap::new(),
            servers: BTreeMap::new(),
            joined: BTreeMap::new(),
            witnesses: BTreeMap::new(),
        };
        let mut stored = Vec::new();
        for kind in SERVER_KINDS {
            stored.extend(read_kind(home, kind)?);
        }
        for envelope in in_order(stored) {
            // Best effort, as said above.
            let _ = servers.place(archive, &envelope);
        }
        servers.reading = false;
        // Two commands that store at once may leave more than either let in.
        servers.drop_surplus();
        Ok(servers)
    }

    /// Verifies offered objects, stores those that are new, and says what became of them. `now` is the
    /// clock: a record from beyond it is refused, as nodes do.
    pub(crate) fn admit(
        &mut self,
        archive: &Archive,
        now: UnixSeconds,
        offered: Vec<Envelope>,
    ) -> Result<Admitted, Failure> {
        self.evicted = archive.chain().evicted();
        self.now = now;
        self.newcomers.clear();
        self.joined.values_mut().for_each(Joined::look_anew);
        let mut admitted = Admitted::default();
        let mut placed = Vec::new();
        for envelope in in_order(offered) {
            let id = envelope.id();
            match self.place(archive, &envelope) {
                Ok(Placed::Known) => {}
                Ok(Placed::New(replaced)) => placed.push((id, envelope, replaced)),
                Err(why) => {
                    admitted.refused.push(format!("{} {}: {why}", envelope.kind, id.short()));
                }
            }
        }
        // Before any is written; and of invitations once it is known which of them a server joined with.
        let (mut dropped, surplus) = self.drop_surplus();
        if surplus > 0 {
            let most = self.most;
            admitted.refused.push(format!(
                "{surplus} servers: {most} are kept, first who was known and is not out; of the others those \
                 go by whose invitations most joined"
            ));
        }
        let (unused, lost) = self.drop_crowd();
        dropped.extend(unused);
        if lost > 0 {
            admitted.refused.push(format!(
                "{lost} invitations with which no server joined: the newest {INVITATIONS_EACH} of a \
                 governor are kept, {INVITATIONS_MAX} in all"
            ));
        }
        for (id, envelope, replaced) in placed {
            if !dropped.contains(&id) {
                durable::folder(&self.home.kind(&envelope.kind))?;
                let path = self.home.object(&envelope.kind, &id);
                durable::write(&path, envelope.to_json().as_bytes())?;
                admitted.new.push(id);
            }
            if let Some(old) = replaced {
                // What stays by accident is left out at the next start.
                let _ = std::fs::remove_file(self.home.object(&old.kind, &old.id()));
            }
        }
        Ok(admitted)
    }

    fn place(&mut self, archive: &Archive, envelope: &Envelope) -> Result<Placed, String> {
        let text = |error: borgios_policy::ObjectError| error.to_string();
        let network = self.network;
        match envelope.kind.as_str() {
            Invitation::KIND => self.invitation(archive, envelope),
            Join::KIND => self.join(envelope),
            Handover::KIND => {
                let value = Handover::verify(network, envelope).map_err(text)?;
                let server = self.by_keeper(value.node, value.keeper)?;
                if server.first.value.keeper != value.keeper {
                    // Whoever has the node's key alone names a keeper in a renewal. Such a receipt proves
                    // neither owner nor host keys, and would take the place of the true one.
                    return Err("the first join record of its node names another keeper".into());
                }
                let at = |held: &Held<Handover>| held.value.at;
                replace(&mut server.handover, Held { value, envelope: envelope.clone() }, at)
            }
            RotationReport::KIND => {
                let value = RotationReport::verify(network, envelope).map_err(text)?;
                let server = self.by_keeper(value.node, value.keeper)?;
                let at = |held: &Held<RotationReport>| held.value.at;
                replace(&mut server.rotation, Held { value, envelope: envelope.clone() }, at)
            }
            Departure::KIND => {
                let value = Departure::parse(envelope).map_err(text)?;
                let server = self.servers.get_mut(&value.node).ok_or("of no known server")?;
                let mut owners = server.owners().into_iter();
                if !owners.any(|owner| Departure::verify(network, &owner, envelope).is_ok()) {
                    return Err("its owner did not sign it".into());
                }
                let first = |_: &Held<Departure>| UnixSeconds(0);
                replace(&mut server.departure, Held { value, envelope: envelope.clone() }, first)
            }
            Witness::KIND => self.witness(archive.chain(), envelope),
            other => Err(format!("objects of kind {other} are not kept here")),
        }
    }

    fn invitation(&mut self, archive: &Archive, envelope: &Envelope) -> Result<Placed, String> {
        if self.invitations.contains_key(&envelope.id()) {
            return Ok(Placed::Known);
        }
        let mut why = "no board is known yet".to_owned();
        for board in archive.boards() {
            match Invitation::verify(board, self.network, envelope) {
                Ok((value, name)) => {
                    let by = board.by_name(&name).ok_or("its governor has no seat")?.key;
                    let held = Held { value, envelope: envelope.clone() };
                    self.invitations.insert(envelope.id(), (by, held));
                    return Ok(Placed::New(None));
                }
                Err(error) => why = error.to_string(),
            }
        }
        Err(why)
    }

    /// A first record carries the token's signature; a renewal goes on with it.
    fn join(&mut self, envelope: &Envelope) -> Result<Placed, String> {
        let text = |error: borgios_policy::ObjectError| error.to_string();
        let value = Join::parse(envelope).map_err(text)?;
        if !self.reading && value.issued > self.now.plus(AHEAD_MAX_S) {
            // It would count in weeks to come, where there is nobody yet to count beside it.
            return Err(format!("it is dated {}, and here it is {}", value.issued, self.now));
        }
        let held = Held { value: value.clone(), envelope: envelope.clone() };
        let id = value.invitation;
        let named = |server: &Server| server.first.value.owner;
        if self.servers.get(&value.node).is_some_and(|server| named(server) != value.owner) {
            // Or whoever holds the node's key alone could take it out of the network.
            return Err(
                "it names another owner than the first record; an owner does not change".into()
            );
        }
        let invitation = self.invitations.get(&id).map(|(_, held)| &held.value);
        let first = invitation.filter(|invitation| envelope.signed_by(&invitation.token));
        if let Some(invitation) = first {
            // It proved itself at its date; it may have lapsed since.
            Join::verify(self.network, value.issued, envelope, (invitation, id)).map_err(text)?;
            invitation.open(value.issued).map_err(text)?;
            if let Some(server) = self.servers.get_mut(&value.node) {
                let known = server.first.envelope.id() == envelope.id();
                let older = server.first.value.issued >= value.issued;
                if known || older {
                    return Ok(Placed::Known);
                }
                self.joined.entry(id).or_default().insert(invitation, &value);
                let old = std::mem::replace(&mut server.first, held);
                return Ok(Placed::New(Some(old.envelope)));
            }
            let (servers, evicted) = (&self.servers, &self.evicted);
            let lapses = |node: &NodeId| {
                servers.get(node).filter(|_| !evicted.contains(node)).map(Server::lapses)
            };
            let joined = self.joined.entry(id).or_default();
            if !self.reading && joined.is_used_up(invitation, &value, self.now, lapses) {
                return Err("more nodes than it is for joined with its invitation".into());
            }
            joined.insert(invitation, &value);
            let (node, none) = (value.node, None);
            let server = Server {
                first: held,
                renewal: none,
                handover: None,
                rotation: None,
                departure: None,
            };
            self.servers.insert(node, server);
            if !self.reading {
                self.newcomers.insert(node);
            }
            return Ok(Placed::New(None));
        }
        if value.network != self.network || !envelope.signed_by(&value.node) {
            return Err("its own node did not sign it for this network".into());
        }
        let server = self.servers.get_mut(&value.node).ok_or("it renews no record known here")?;
        if server.first.value.issued >= value.issued {
            return Ok(Placed::Known);
        }
        replace(&mut server.renewal, held, |held: &Held<Join>| held.value.issued)
    }

    fn witness(&mut self, chain: &Chain, envelope: &Envelope) -> Result<Placed, String> {
        let witness = Witness::verify(self.network, envelope).map_err(|error| error.to_string())?;
        if chain.grant(&witness.statement).is_none() {
            return Err("it saw no grant known here".into());
        }
        if !self.servers.contains_key(&witness.node) {
            return Err("of no known server".into());
        }
        let seen = self.witnesses.entry(witness.statement).or_default();
        if seen.contains_key(&witness.node) || seen.len() >= 2 * WITNESSES_ASKED {
            return Ok(Placed::Known);
        }
        seen.insert(witness.node, envelope.clone());
        Ok(Placed::New(None))
    }

    fn by_keeper(&mut self, node: NodeId, keeper: PublicKey) -> Result<&mut Server, String> {
        let server = self.servers.get_mut(&node).ok_or("of no known server")?;
        if server.keepers().any(|named| named == keeper) {
            return Ok(server);
        }
        Err("the join record of its node names another keeper".into())
    }

    /// Every server, by its key.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&NodeId, &Server)> {
        self.servers.iter()
    }

    /// The server with this key.
    pub(crate) fn get(&self, node: &NodeId) -> Option<&Server> {
        self.servers.get(node)
    }

    /// How many servers signed that they saw a grant.
    pub(crate) fn witnesses(&self, statement: &Digest) -> usize {
        self.witnesses.get(statement).map_or(0, BTreeMap::len)
    }

    /// A server as a person may call it: by its key, or as `Servers::describe` finds it.
    pub(crate) fn name_of(&self, node: &NodeId) -> String {
        self.get(node).map_or_else(
            || format!("a server not known here ({})", node.fingerprint()),
            Server::describe,
        )
    }

    /// The one server that was named: by its name, or by the first digits of its key's
    /// fingerprint. Those that `out` names, that left or whose record lapsed are passed over where
    /// a name has several: a reinstalled host is a new server of the same name.
    ///
    /// # Errors
    /// None, or several, which are then listed.
    pub(crate) fn find(
        &self,
        word: &str,
        now: UnixSeconds,
        out: impl Fn(&NodeId) -> bool,
    ) -> Result<&Server, Failure> {
        let digits = word.strip_prefix("SHA256:").unwrap_or(word);
        let print = |node: &NodeId| node.fingerprint()["SHA256:".len()..].to_owned();
        let named = |server: &Server| server.join().name == *word;
        let key = |node: &NodeId| {
            digits.len() >= 6 && print(node).starts_with(digits) || node.to_string() == word
        };
        let mut found: Vec<(&NodeId, &Server)> =
            self.servers.iter().filter(|(node, server)| named(server) || key(node)).collect();
        if found.len() > 1 {
            let here: Vec<_> = found
                .iter()
                .filter(|(node, server)| {
                    !out(node) && server.departed().is_none() && server.join().expires > now
                })
                .copied()
                .collect();
            if !here.is_empty() {
                found = here;
            }
        }
        match found.as_slice() {
            [(_, server)] => Ok(server),
            [] => Err(Failure::new(format!("no server {word:?} is known here")).hint(
                "`borgios nodes` lists names and keys; give a name or 6 digits of a fingerprint, \
                 and fetch first with `borgios sync`",
            )),
            several => {
                let mut failure = Failure::new(format!("{word:?} names {} servers", several.len()))
                    .hint("give the first digits of its fingerprint instead");
                for (_, server) in several {
                    let (since, heard) = (server.since(), server.last_heard());
                    failure = failure.because(format!(
                        "{}, a member since {since}, last heard of at {heard}",
                        server.describe()
                    ));
                }
                Err(failure)
            }
        }
    }

    /// What is of lasting use to others who hear from no node: invitations, first records,
    /// receipts, departures.
    pub(crate) fn lasting(&self) -> impl Iterator<Item = &Envelope> {
        let invitations = self.invitations.values().map(|(_, held)| &held.envelope);
        let servers = self.servers.values().flat_map(|server| {
            [
                Some(&server.first.envelope),
                server.handover.as_ref().map(|held| &held.envelope),
                server.departure.as_ref().map(|held| &held.envelope),
            ]
        });
        invitations.chain(servers.flatten())
    }
}

/// Puts the newer of two into a place.
fn replace<T>(
    place: &mut Option<Held<T>>,
    new: Held<T>,
    date: impl Fn(&Held<T>) -> UnixSeconds,
) -> Result<Placed, String> {
    if place.as_ref().is_some_and(|old| date(old) >= date(&new)) {
        return Ok(Placed::Known);
    }
    Ok(Placed::New(place.replace(new).map(|old| old.envelope)))
}

/// Each object after what proves it: invitations, first records, receipts with the owner's key, the
/// rest.
fn in_order(mut envelopes: Vec<Envelope>) -> Vec<Envelope> {
    envelopes.sort_by_cached_key(|envelope| {
        let rank = SERVER_KINDS.iter().position(|kind| *kind == envelope.kind.as_str());
        // A first record is older than what renews it.
        let issued = Join::parse(envelope).map_or(UnixSeconds(0), |join| join.issued);
        (rank, issued)
    });
    envelopes
}

/// Who is out by a statement.
pub(crate) fn evicted(chain: &Chain) -> impl Fn(&NodeId) -> bool + use<> {
    let evicted = chain.evicted();
    move |node| evicted.contains(node)
}

#[cfg(test)]
mod tests;
