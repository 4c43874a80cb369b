//! What the sessions of one statement amount to, for anyone who holds the objects.

use std::collections::{BTreeMap, BTreeSet};

use borgios_types::{Digest, Envelope, Signature, SignedBy};
use frost_ed25519 as frost;

use super::{Member, Session, SessionShare};
use crate::ballot::{Ballot, Choice};
use crate::board::{Board, identifier};
use crate::cast::Cast;
use crate::message;
use crate::name::Name;
use crate::object::Object as _;
use crate::slot::Slot;
use crate::tally::{Culprit, Proof};
use crate::wire::Bytes;

/// Nonces, by whose they are and which object published them.
type Sources = BTreeMap<(Name, Digest), Bytes>;

/// The sessions of one statement in one slot.
#[derive(Debug)]
pub struct Table {
    group: borgios_types::PublicKey,
    slot: Slot,
    statement: Digest,
    needed: usize,
    /// Ballot and name of everyone who approves in two touches.
    approvers: BTreeMap<Name, Digest>,
    /// Those whose members' nonces are all genuine.
    sessions: BTreeMap<Digest, Held>,
    sources: Sources,
    /// Each nonce that was used: in which sessions, and by which shares.
    used: BTreeMap<(Name, Digest), BTreeMap<Digest, Digest>>,
    culprits: BTreeMap<Name, Proof>,
    signed: Option<Envelope>,
}

/// A session and the good shares in it.
#[derive(Debug)]
struct Held {
    session: Session,
    envelope: Envelope,
    by: Name,
    /// By member: the share's id and number.
    shares: BTreeMap<Name, (Digest, frost::round2::SignatureShare)>,
}

impl Table {
    /// Lays out what `papers` hold on the statement with this `text`. Order, duplicates, forgeries and
    /// what belongs elsewhere make no difference.
    #[must_use]
    pub fn of(
        board: &Board,
        slot: Slot,
        text: &str,
        ballots: &[Envelope],
        papers: &[Envelope],
    ) -> Self {
        Self::with(board, slot, text, &Cast::collect(board, slot, ballots), papers, ballots)
    }

    /// The same with the ballots sorted already.
    pub(crate) fn with(
        board: &Board,
        slot: Slot,
        text: &str,
        cast: &Cast,
        papers: &[Envelope],
        ballots: &[Envelope],
    ) -> Self {
        let statement = Digest::of(text.as_bytes());
        let mut table = Self {
            group: board.group(),
            slot,
            statement,
            needed: usize::from(board.threshold().0),
            approvers: BTreeMap::new(),
            sessions: BTreeMap::new(),
            sources: Sources::new(),
            used: BTreeMap::new(),
            culprits: BTreeMap::new(),
            signed: None,
        };
        if board.one_touch().is_ok() {
            return table;
        }
        // Nonces of a governor who contradicts himself stay nonces, or what honest members did in a
        // session with him would be lost with him.
        for envelope in ballots.iter().filter(|envelope| envelope.kind.as_str() == Ballot::KIND) {
            let Ok(ballot) = Ballot::verify(board, envelope) else { continue };
            if ballot.slot(board) == slot
                && ballot.statement == statement
                && let Choice::Commit { nonces } = ballot.choice
            {
                table.sources.insert((ballot.governor, envelope.id()), nonces);
            }
        }
        for (name, (id, ballot)) in &cast.ballots {
            if ballot.statement == statement && matches!(ballot.choice, Choice::Commit { .. }) {
                table.approvers.insert(name.clone(), *id);
            }
        }
        for (name, (one, other)) in &cast.contradictions {
            table.culprits.insert(name.clone(), Proof::TwoBallots(*one, *other));
        }
        let message = message::signed_bytes(slot.lane, text, &board.group());
        table.follow(board, &message, papers);
        table.blame_two_shares();
        table.signed = table.aggregate(board, text, &message);
        table
    }

    /// Takes sessions in as far as their nonces are genuine, then the shares in them, which bring
    /// nonces for further sessions, until nothing is left that fits.
    fn follow(&mut self, board: &Board, message: &[u8], papers: &[Envelope]) {
        let mut waiting: BTreeMap<Digest, Held> = BTreeMap::new();
        let mut shares: BTreeMap<Digest, BTreeMap<Digest, SessionShare>> = BTreeMap::new();
        for envelope in papers {
            if let Ok((session, by)) = Session::verify(board, envelope) {
                if session.slot(board) == self.slot && session.statement == self.statement {
                    let (envelope, id) = (envelope.clone(), envelope.id());
                    let held = Held { session, envelope, by, shares: BTreeMap::new() };
                    waiting.entry(id).or_insert(held);
                }
            } else if let Ok(share) = SessionShare::verify(board, envelope)
                && share.slot(board) == self.slot
            {
                shares.entry(share.session).or_default().insert(envelope.id(), share);
            }
        }
        let public = board.public_key_package();
        loop {
            let genuine = |held: &Held| {
                held.session.members.iter().all(|(name, Member { from, commitment })| {
                    self.sources.get(&(name.clone(), *from)) == Some(commitment)
                })
            };
            let ready: Vec<Digest> =
                waiting.iter().filter(|(_, held)| genuine(held)).map(|(id, _)| *id).collect();
            if ready.is_empty() {
                return;
            }
            for id in ready {
                let Some(mut held) = waiting.remove(&id) else { continue };
                let Ok(package) = held.session.package(board, message) else { continue };
                let given = shares.remove(&id).unwrap_or_default();
                let whole = self.is_whole(board, &public, &package, &given);
                for (share_id, share) in given {
                    let judge = (!whole).then_some((&public, &package));
                    self.take(board, judge, &mut held, id, (share_id, share));
                }
                self.sessions.insert(id, held);
            }
        }
    }

    /// Whether these are exactly one share of each member, and make a signature: then each of them is
    /// good. (Two liars whose errors cancel out approve by other means, and harm nobody.)
    fn is_whole(
        &self,
        board: &Board,
        public: &frost::keys::PublicKeyPackage,
        package: &frost::SigningPackage,
        given: &BTreeMap<Digest, SessionShare>,
    ) -> bool {
        if given.len() != self.needed {
            return false;
        }
        let shares: Option<BTreeMap<_, _>> = given
            .values()
            .map(|share| Some((identifier(board.index(&share.governor)?), share.scalar().ok()?)))
            .collect();
        let detection = frost::CheaterDetection::Disabled;
        shares.is_some_and(|shares| {
            frost::aggregate_custom(package, &shares, public, detection).is_ok()
        })
    }

    /// Judges one share of a session, unless it is known to be good.
    fn take(
        &mut self,
        board: &Board,
        judge: Option<(&frost::keys::PublicKeyPackage, &frost::SigningPackage)>,
        held: &mut Held,
        session: Digest,
        (id, share): (Digest, SessionShare),
    ) {
        let name = share.governor.clone();
        let (Some(member), Some(index)) = (held.session.members.get(&name), board.index(&name))
        else {
            return;
        };
        let Ok(number) = share.scalar() else { return };
        let key = identifier(index);
        let is_good = judge.is_none_or(|(public, package)| {
            public.verifying_shares().get(&key).is_some_and(|verifying| {
                let group = public.verifying_key();
                frost_core::verify_signature_share(key, verifying, &number, package, group).is_ok()
            })
        });
        if !is_good {
            self.culprits.entry(name).or_insert(Proof::BadShare(id));
            return;
        }
        self.used.entry((name.clone(), member.from)).or_default().entry(session).or_insert(id);
        self.sources.insert((name.clone(), id), share.next);
        held.shares.entry(name).or_insert((id, number));
    }

    /// Whoever used one nonce in two sessions gave the key share away, and signed the proof.
    fn blame_two_shares(&mut self) {
        for ((name, _), shares) in &self.used {
            let mut ids = shares.values();
            if let (Some(one), Some(other)) = (ids.next(), ids.next()) {
                let (one, other) = (*one.min(other), *one.max(other));
                self.culprits.entry(name.clone()).or_insert(Proof::TwoShares(one, other));
            }
        }
    }

    fn aggregate(&self, board: &Board, text: &str, message: &[u8]) -> Option<Envelope> {
        let public = board.public_key_package();
        let whole = |(id, held): &(&Digest, &Held)| {
            held.shares.len() == self.needed && !self.is_dead(**id, held)
        };
        self.sessions.iter().filter(whole).find_map(|(_, held)| {
            let package = held.session.package(board, message).ok()?;
            let shares = held
                .shares
                .iter()
                .filter_map(|(name, (_, share))| Some((identifier(board.index(name)?), *share)));
            let signature = frost::aggregate(&package, &shares.collect(), &public).ok()?;
            let sig = Signature(signature.serialize().ok()?.try_into().ok()?);
            let by = board.group();
            let mut envelope = Envelope::unsigned(self.slot.lane.kind(), text.to_owned());
            envelope.sigs.push(SignedBy { by, sig });
            message::signed_by(&envelope, &by).then_some(envelope)
        })
    }

    /// Whether a session can no longer end.
    fn is_dead(&self, id: Digest, held: &Held) -> bool {
        held.session.members.iter().any(|(name, member)| {
            let used = self.used.get(&(name.clone(), member.from));
            self.culprits.contains_key(name)
                || used.is_some_and(|sessions| sessions.keys().any(|other| *other != id))
        })
    }

    /// The sessions that can still end.
    fn alive(&self) -> impl Iterator<Item = (&Digest, &Held)> {
        self.sessions.iter().filter(|(id, held)| !self.is_dead(**id, held))
    }

    /// The nonces that a member would use next: those of the ballot, or of the newest share.
    fn current(&self, name: &Name) -> Option<Digest> {
        let mut source = *self.approvers.get(name)?;
        // Each step leads to another object of this member; a hash leads to no circle.
        while let Some(sessions) = self.used.get(&(name.clone(), source)) {
            source = *sessions.values().next()?;
        }
        Some(source)
    }

    /// The members whom a new session may count on; who kept others waiting before comes last.
    fn free(&self) -> Vec<&Name> {
        let owes = |held: &Held, name: &Name| {
            held.session.members.contains_key(name) && !held.shares.contains_key(name)
        };
        let mut free: Vec<(usize, &Name)> = self
            .approvers
            .keys()
            .filter(|name| !self.culprits.contains_key(*name))
            .filter(|name| !self.alive().any(|(_, held)| owes(held, name)))
            .map(|name| (self.sessions.values().filter(|held| owes(held, name)).count(), name))
            .collect();
        free.sort_unstable();
        free.into_iter().map(|(_, name)| name).collect()
    }

    /// The session that should be opened now, if enough members are free.
    #[must_use]
    pub fn next(&self) -> Option<Session> {
        if self.signed.is_some() {
            return None;
        }
        let free = self.free();
        let members = free.get(..self.needed)?.iter().map(|name| {
            let from = self.current(name)?;
            let commitment = self.sources.get(&((*name).clone(), from))?.clone();
            Some(((*name).clone(), Member { from, commitment }))
        });
        Some(Session {
            group: self.group,
            lane: self.slot.lane,
            seq: self.slot.seq,
            round: self.slot.round,
            statement: self.statement,
            number: u32::try_from(self.sessions.len()).unwrap_or(u32::MAX),
            members: members.collect::<Option<_>>()?,
        })
    }

    /// The session that `me` should answer now, and whose tool opened it: the one with the fewest
    /// members who keep others waiting. Those opened by the tools in `exhausted` are left out: see
    /// [`super::SESSIONS_MAX`].
    #[must_use]
    pub fn due(&self, me: &Name, exhausted: &BTreeSet<Name>) -> Option<(&Envelope, &Name)> {
        if self.signed.is_some() {
            return None;
        }
        let from = self.current(me)?;
        let waits = |held: &Held| {
            held.session.members.get(me).is_some_and(|member| member.from == from)
                && !held.shares.contains_key(me)
                && !exhausted.contains(&held.by)
        };
        let due = self.alive().filter(|(_, held)| waits(held));
        let key = |(id, held): &(&Digest, &Held)| {
            (self.debtors(**id, held, me), held.session.number, **id)
        };
        let (_, held) = due.min_by_key(key)?;
        Some((&held.envelope, &held.by))
    }

    /// How many others in a session keep one waiting that has begun: they may be silent for good.
    fn debtors(&self, id: Digest, held: &Held, me: &Name) -> usize {
        let others = held.session.members.keys().filter(|name| *name != me);
        let owes = |name: &&Name| {
            self.alive().any(|(other, begun)| {
                *other != id
                    && !begun.shares.is_empty()
                    && begun.session.members.contains_key(*name)
                    && !begun.shares.contains_key(*name)
            })
        };
        others.filter(owes).count()
    }

    /// The signed statement, if a session ended.
    #[must_use]
    pub fn signed(&self) -> Option<&Envelope> {
        self.signed.as_ref()
    }

    /// Who broke the rules, with the proof.
    pub fn culprits(&self) -> impl Iterator<Item = Culprit> + '_ {
        let all = self.culprits.iter();
        all.map(|(name, proof)| Culprit { name: name.clone(), proof: *proof })
    }

    /// Who is waited for, in sessions that can still end.
    #[must_use]
    pub fn awaited(&self) -> BTreeSet<Name> {
        let members = |held: &Held| -> Vec<Name> { held.session.members.keys().cloned().collect() };
        self.alive()
            .flat_map(|(_, held)| {
                members(held).into_iter().filter(|name| !held.shares.contains_key(name))
            })
            .collect()
    }
}
