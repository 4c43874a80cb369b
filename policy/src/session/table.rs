//! What the sessions of one statement amount to, for anyone who holds the objects.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use borgios_types::{Digest, Envelope, Signature, SignedBy};
use frost_ed25519 as frost;

use super::{Member, SESSIONS_MAX, Session, SessionShare};
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

impl Held {
    /// The members who have given no share in it.
    fn owing(&self) -> impl Iterator<Item = &Name> {
        self.session.members.keys().filter(|name| !self.shares.contains_key(*name))
    }
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
                    // Two members may have opened the same one: whose it is must not hang on the order.
                    let (envelope, id) = (envelope.clone(), envelope.id());
                    if waiting.get(&id).is_none_or(|known| by < known.by) {
                        let held = Held { session, envelope, by, shares: BTreeMap::new() };
                        waiting.insert(id, held);
                    }
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

    /// Whether a session can still end. Nonces that are not its owner's newest are never used.
    fn can_end(&self, id: Digest, held: &Held) -> bool {
        let members = &held.session.members;
        !self.is_dead(id, held)
            && held.owing().all(|name| self.current(name) == members.get(name).map(|it| it.from))
    }

    /// Those who opened more sessions than an honest tool ever does: see [`SESSIONS_MAX`]. All that is
    /// counted names its opener and bears the opener's signature, so nobody makes another one spent.
    fn spent(&self) -> BTreeSet<&Name> {
        let mut opened: BTreeMap<&Name, usize> = BTreeMap::new();
        for held in self.sessions.values() {
            *opened.entry(&held.by).or_default() += 1;
        }
        opened.into_iter().filter(|(_, count)| *count > SESSIONS_MAX).map(|(by, _)| by).collect()
    }

    /// The sessions that members answer and wait for. Nobody owes a share in two of them: where two
    /// would have a debtor in common, the one stands that has more shares, so that what honest members
    /// began is neither given up for a session that nobody answered, nor held up by a debtor's next one.
    fn standing(&self) -> Vec<&Held> {
        let spent = self.spent();
        let mut all: Vec<(&Digest, &Held)> = self
            .sessions
            .iter()
            .filter(|(id, held)| !spent.contains(&held.by) && self.can_end(**id, held))
            .collect();
        all.sort_unstable_by_key(|(id, held)| {
            (Reverse(held.shares.len()), held.session.number, **id)
        });
        let mut owing: BTreeSet<&Name> = BTreeSet::new();
        let mut standing = Vec::new();
        for (_, held) in all {
            if held.owing().all(|name| !owing.contains(name)) {
                owing.extend(held.owing());
                standing.push(held);
            }
        }
        standing
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
        let spent = self.spent();
        let owing: BTreeSet<&Name> = self.standing().into_iter().flat_map(Held::owing).collect();
        // What nobody answered, or a flood opened, kept nobody waiting.
        let kept_waiting = |name: &Name| {
            let begun = self
                .sessions
                .values()
                .filter(|held| !held.shares.is_empty() && !spent.contains(&held.by));
            begun.filter(|held| held.owing().any(|other| other == name)).count()
        };
        let mut free: Vec<(bool, usize, &Name)> = self
            .approvers
            .keys()
            .filter(|name| !self.culprits.contains_key(*name) && !owing.contains(*name))
            .map(|name| (spent.contains(name), kept_waiting(name), name))
            .collect();
        free.sort_unstable();
        free.into_iter().map(|(_, _, name)| name).collect()
    }

    /// The session that `me` should open now: the next one, if enough members are free and `me` is one
    /// of those it takes. All of them would open the same.
    #[must_use]
    pub fn next(&self, me: &Name) -> Option<Session> {
        if self.signed.is_some() || self.spent().contains(me) {
            return None;
        }
        let free = self.free();
        let members = free.get(..self.needed)?.iter().map(|name| {
            let from = self.current(name)?;
            let commitment = self.sources.get(&((*name).clone(), from))?.clone();
            Some(((*name).clone(), Member { from, commitment }))
        });
        let members = members.collect::<Option<BTreeMap<Name, Member>>>()?;
        members.contains_key(me).then(|| Session {
            group: self.group,
            lane: self.slot.lane,
            seq: self.slot.seq,
            round: self.slot.round,
            statement: self.statement,
            number: u32::try_from(self.sessions.len()).unwrap_or(u32::MAX),
            members,
        })
    }

    /// The session that `me` should answer now, and whose tool opened it. There is never more than one.
    #[must_use]
    pub fn due(&self, me: &Name) -> Option<(&Envelope, &Name)> {
        if self.signed.is_some() {
            return None;
        }
        let mut standing = self.standing().into_iter();
        let held = standing.find(|held| held.owing().any(|name| name == me))?;
        Some((&held.envelope, &held.by))
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

    /// Who is waited for.
    #[must_use]
    pub fn awaited(&self) -> BTreeSet<Name> {
        self.standing().into_iter().flat_map(Held::owing).cloned().collect()
    }
}
