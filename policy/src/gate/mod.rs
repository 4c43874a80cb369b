//! The gate: when a statement that is signed is applied, and when it is not.
//!
//! ```text
//!            verified                     lock over, not paused, not stale
//! (unknown) ─────────▶ Waiting(until) ──────────────────────────────────▶ Applied
//!                        │   │ a second signed document for the place
//!            veto voices │   └──────────────▶ Frozen ── a ruling names the winner ──▶ Waiting
//!                        ▼                       │ a ruling without a winner
//!                      Vetoed                     └──▶ Closed
//!                        └── the same board signs the next one upon it, which is through its lock ──▶ Waiting
//! ```
//!
//! A core without IO beside one [`Chain`], which holds what was applied. The holder brings it
//! statements, vetoes, pauses, beacons and the time, and does what it says:
//!
//! 1. what [`Gate::offer`], [`Gate::object`] and [`Gate::beacon`] changed is stored ([`Gate`] as a
//!    whole, in one write) before it is acknowledged;
//! 2. a statement to apply is stored in the chain's own place, applied to the chain, and only then
//!    is the gate without it stored: after a crash in between it is dropped as known;
//! 3. what a policy's application changes, the next [`Gate::tick`] finds.
//!
//! What is kept follows from the *set* of what was brought, so its order does not matter before a
//! lock is over. Everything is bounded: see [`DOCS_MAX`], [`RIVALS_MAX`], [`OPEN_MAX`].

pub(crate) mod ballots;
mod doc;
mod offer;
mod pulse;
mod room;
mod standing;
mod vetoed;
mod voices;

use std::collections::{BTreeMap, BTreeSet};

use borgios_types::{Digest, Envelope, PublicKey, Seq, UnixSeconds};
use serde::{Deserialize, Serialize};

pub use doc::Doc;
pub use offer::{Dated, Offered};
pub use pulse::Pulse;
pub use standing::{Held, Standing};
pub use voices::{OPEN_MAX, Voice, Voices};

use crate::beacon::{AHEAD_MAX_S, Beacon};
use crate::board::Board;
use crate::chain::Chain;
use crate::lane::Lane;
use crate::object::{Object as _, ObjectError};
use crate::refusal::Refusal;
use crate::statement::VerifiedStatement;
use crate::submission::Submission;
use crate::veto::{Objection, Pause, Veto};
use standing::Judged;

/// Most statements that wait at once: a lane that decides every day for half a year of locks. Beyond
/// that the lane of which most wait gives up its last, so that no lane shuts another.
pub const DOCS_MAX: usize = 256;
/// Most bytes that what waits may take in the holder's file, ballots included. The rest of what the file
/// may have is for vetoes and pauses: whoever holds t shares must not be able to fill it before them.
pub const DOCS_BYTES: usize = 24 * 1024 * 1024;
/// Most documents kept for one place, but for what is vetoed. Two are an alarm; more change nothing
/// until a ruling, after which its winner is taken whenever it is brought again.
pub const RIVALS_MAX: usize = 4;
/// Seconds between two looks at the clock after which the holder was away, or its clock was set.
const JUMP_S: u64 = 3_600;
/// Seconds for which a holder that was away still waits, at most its lock: a veto that was published
/// meanwhile must have time to reach it.
pub const SETTLE_S: u64 = 600;

/// What waits, and what was said against it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gate {
    #[serde(default)]
    docs: BTreeMap<Digest, Doc>,
    #[serde(default)]
    vetoes: Voices,
    #[serde(default)]
    pauses: Voices,
    #[serde(default)]
    pulse: Pulse,
    /// Policies of a recovery key whose silence and lock are over.
    #[serde(default)]
    ripe: BTreeSet<Digest>,
    /// Since when this process has looked at the clock without a break, and when it last did.
    #[serde(skip)]
    awake: Option<(UnixSeconds, UnixSeconds)>,
}

/// How long the board in force has been silent where a recovery key may speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Silence {
    /// Seconds without enough fresh beacons, as far as this holder was there to hear them.
    pub silent_s: u64,
    /// Seconds after which a policy of the recovery key is kept and its lock begins.
    pub needed_s: u64,
}

impl Silence {
    /// Seconds that are missing.
    #[must_use]
    pub fn still(self) -> u64 {
        self.needed_s.saturating_sub(self.silent_s)
    }
}

/// What a tick came to.
#[derive(Debug, Default)]
pub struct Tick {
    /// To be stored and applied now; after that, tick again.
    pub apply: Option<Box<VerifiedStatement>>,
    /// The submission of what is to be applied, with its ballots.
    pub submission: Option<Submission>,
    /// What can never be applied here any more, and why. Rivals among it are evidence.
    pub dropped: Vec<(Submission, Refusal)>,
    /// Whether the gate must be stored although nothing is applied; tick again after that.
    pub changed: bool,
}

impl Gate {
    /// Looks at the clock: what is to be applied now, and what can be forgotten.
    ///
    /// Locks, pauses and silence run by the holder's own clock alone: whoever holds t shares can date what
    /// has no lock as far ahead as they like, and must not end a lock by that.
    ///
    /// A clock that was set back starts the locks anew from where it is, so that no date in the
    /// future shuts a statement out for years.
    pub fn tick(&mut self, now: UnixSeconds, chain: &Chain) -> Tick {
        self.look(now);
        let mut tick = Tick { changed: self.anchor(now), ..Tick::default() };
        let awake = self.awake.map_or(now, |(since, _)| since);
        tick.changed |= self.pulse.tick(now, awake, chain.policy());
        self.prune(chain, &mut tick);
        let mut order: Vec<(Seq, Lane, Seq, Digest)> =
            self.docs.iter().map(|(id, doc)| doc.order(*id)).collect();
        order.sort_unstable();
        for (.., id) in order {
            let Some(doc) = self.docs.get(&id) else { continue };
            match self.judge(now, chain, id, doc) {
                // A policy of the board that only waits has the place first.
                Judged::Ready(_) if doc.recovery && self.has_word_of_board(now, chain, doc) => {}
                // The mark is stored before it is acted on.
                Judged::Ready(_) if doc.recovery && !self.ripe.contains(&id) => {
                    self.ripe.insert(id);
                    tick.changed = true;
                    return tick;
                }
                Judged::Ready(verified) => {
                    tick.submission = self.docs.remove(&id).map(|doc| doc.submission);
                    tick.apply = Some(verified);
                    tick.changed = true;
                    return tick;
                }
                Judged::Over(_) | Judged::Held(_) => {}
            }
        }
        tick
    }

    /// Takes a veto or a pause. Returns whether the gate changed and must be stored.
    ///
    /// A veto of the board in force is a sign of life, which ends what a recovery key signed, if its
    /// governor said it since that is known here, or it was on its way then: anybody can bring again
    /// what was said before.
    ///
    /// # Errors
    /// What is wrong with it; `wrong_policy` where its board is not known here yet.
    pub fn object(
        &mut self,
        now: UnixSeconds,
        chain: &Chain,
        envelope: &Envelope,
    ) -> Result<bool, ObjectError> {
        self.look(now);
        let objection = self.verify_objection(chain, envelope)?;
        let Objection { at, group, statement, .. } = objection;
        let veto = envelope.kind.as_str() == Veto::KIND;
        let added = self.add_voice(now, chain, envelope, objection);
        let Some(policy) = chain.policy().filter(|policy| veto && policy.board.group() == group)
        else {
            return added;
        };
        let first_heard = matches!(added, Ok(true));
        let age = policy.freshness.map_or(0, |rule| rule.max_age_s);
        let ended = self.end_recoveries(|id, doc| {
            let about_it = first_heard && *id == statement;
            let fresh = at > doc.seen || (first_heard && now <= at.plus(age));
            about_it || (fresh && at <= now.plus(AHEAD_MAX_S))
        });
        // A second voice on a statement is refused, and shows that its governor lives all the same.
        if ended { Ok(true) } else { added }
    }

    fn add_voice(
        &mut self,
        now: UnixSeconds,
        chain: &Chain,
        envelope: &Envelope,
        objection: Objection,
    ) -> Result<bool, ObjectError> {
        if objection.seq <= chain.head_seq(objection.lane) {
            // Too late: it is shown from the holder's objects and changes nothing.
            return Ok(false);
        }
        let Self { docs, vetoes, pauses, .. } = self;
        let voices = if envelope.kind.as_str() == Veto::KIND { vetoes } else { pauses };
        let dated = doc::dated_ahead(now, chain);
        let envelope = envelope.clone();
        let voice = Voice { objection, seen: now, was: None, dated, envelope };
        voices.add(voice, &groups(chain), |id, lane, seq| {
            let waits = |doc: &Doc| (doc.statement.lane, doc.statement.seq) == (lane, seq);
            docs.get(id).is_some_and(waits)
        })
    }

    /// Checks a veto or a pause by the board in force, by that which signed a statement that waits,
    /// or by that of a policy that waits.
    ///
    /// # Errors
    /// As [`Gate::object`].
    pub fn verify_objection(
        &self,
        chain: &Chain,
        envelope: &Envelope,
    ) -> Result<Objection, ObjectError> {
        let pause = envelope.kind.as_str() == Pause::KIND;
        self.by_any_board(chain, |board, network| {
            if pause {
                Pause::verify(board, network, envelope).map(|pause| pause.0)
            } else {
                Veto::verify(board, network, envelope).map(|veto| veto.0)
            }
        })
    }

    /// Takes a beacon. Returns whether the gate changed and must be stored.
    ///
    /// # Errors
    /// What is wrong with it; `wrong_policy` where its board is not known here yet, `bad_body` where
    /// it is dated further ahead than clocks differ.
    pub fn beacon(
        &mut self,
        now: UnixSeconds,
        chain: &Chain,
        envelope: &Envelope,
    ) -> Result<bool, ObjectError> {
        self.look(now);
        let beacon =
            self.by_any_board(chain, |board, network| Beacon::verify(board, network, envelope))?;
        let policy = chain.policy();
        let in_force = policy.is_some_and(|policy| policy.board.group() == beacon.group);
        let age = policy.and_then(|policy| policy.freshness).map(|rule| rule.max_age_s);
        let lives = in_force && age.is_some_and(|age| beacon.is_fresh(now, age));
        let mut changed = self.pulse.hear(now, beacon, policy)?;
        if changed && lives {
            changed |= self.end_recoveries(|_, _| true);
        }
        Ok(changed)
    }

    /// What waits, in the order of the lanes, and how each stands.
    #[must_use]
    pub fn report(&self, now: UnixSeconds, chain: &Chain) -> Vec<Held> {
        let mut held: Vec<Held> = self
            .docs
            .iter()
            .filter_map(|(id, doc)| match self.judge(now, chain, *id, doc) {
                Judged::Held(standing) => Some(Held::of(now, *id, doc, standing)),
                // Its turn comes with the next tick.
                Judged::Ready(_) => Some(Held::of(now, *id, doc, Standing::Due)),
                Judged::Over(_) => None,
            })
            .collect();
        held.sort_by_key(|held| (held.lane, held.seq, held.id));
        held
    }

    /// How a statement stands here, if it waits.
    #[must_use]
    pub fn standing(&self, now: UnixSeconds, chain: &Chain, id: &Digest) -> Option<Standing> {
        self.report(now, chain).into_iter().find(|held| held.id == *id).map(|held| held.standing)
    }

    /// Distinct governors heard of lately, and how many the policy asks for; none if it asks for
    /// none.
    #[must_use]
    pub fn freshness(&self, now: UnixSeconds, chain: &Chain) -> Option<(usize, usize)> {
        self.pulse.fresh(now, chain.policy()?)
    }

    /// How long the board has been silent here; none where the policy names no recovery key.
    #[must_use]
    pub fn silence(&self, chain: &Chain) -> Option<Silence> {
        let policy = chain.policy()?;
        let needed_s = policy.recovery?.silence_s;
        Some(Silence { silent_s: self.pulse.silent(policy.board.group()), needed_s })
    }

    /// Lanes in which a governor knows of more than this holder applied: a reason to fetch.
    #[must_use]
    pub fn behind(&self, chain: &Chain) -> BTreeMap<Lane, Seq> {
        self.pulse.behind(chain)
    }

    /// The board with this group key that a policy which waits would make.
    #[must_use]
    pub fn board_to_come(&self, group: &PublicKey) -> Option<Board> {
        let mut boards = self.docs.values().filter_map(|doc| Some(&doc.policy.as_ref()?.board));
        boards.find(|board| board.group() == *group).cloned()
    }

    /// The statement that waits under this id.
    #[must_use]
    pub fn waiting(&self, id: &Digest) -> Option<&Submission> {
        self.docs.get(id).map(|doc| &doc.submission)
    }

    /// Every statement that waits, by its id.
    pub fn docs(&self) -> impl Iterator<Item = (&Digest, &Doc)> {
        self.docs.iter()
    }

    /// Policies of a recovery key that count: the chain must know of them before it is restored.
    pub fn ripe(&self) -> impl Iterator<Item = Digest> {
        self.ripe.iter().copied()
    }

    /// Lets a policy of a recovery key count here at once: the invitation of this very server led
    /// to it. Whether the gate changed and must be stored.
    pub fn vouch(&mut self, id: Digest) -> bool {
        self.ripe.insert(id)
    }

    /// The vetoes that were said of a statement here.
    pub fn vetoes_on<'a>(&'a self, id: &'a Digest) -> impl Iterator<Item = &'a Voice> {
        self.vetoes.on(id)
    }

    /// The pauses that were asked for a statement here.
    pub fn pauses_on<'a>(&'a self, id: &'a Digest) -> impl Iterator<Item = &'a Voice> {
        self.pauses.on(id)
    }

    /// Notes a break of the clock, which is more than the small steps by which clocks are kept right.
    fn look(&mut self, now: UnixSeconds) {
        self.awake = Some(match self.awake {
            Some((since, last)) if last <= now.plus(JUMP_S) && now <= last.plus(JUMP_S) => {
                (since.min(now), now)
            }
            Some(_) | None => (now, now),
        });
    }

    fn anchor(&mut self, now: UnixSeconds) -> bool {
        let mut changed = self.vetoes.anchor(now) | self.pauses.anchor(now);
        for doc in self.docs.values_mut() {
            changed |= doc::anchor(now, &mut doc.seen, &mut doc.was);
        }
        changed
    }

    /// Forgets what can have no effect any more.
    fn prune(&mut self, chain: &Chain, tick: &mut Tick) {
        let over: Vec<(Digest, Option<Refusal>)> = self
            .docs
            .iter()
            .filter_map(|(id, doc)| Some((*id, standing::over(chain, *id, doc)?)))
            .collect();
        for (id, why) in over {
            tick.changed = true;
            if let (Some(doc), Some(why)) = (self.docs.remove(&id), why) {
                tick.dropped.push((doc.submission, why));
            }
        }
        // A board that is gone has a word on what it signed and waits, and on nothing else.
        let mut gone = groups(chain);
        for board in
            chain.policy().map(|policy| &policy.board).into_iter().chain(self.signed(chain))
        {
            gone.remove(&board.group());
        }
        let open = |objection: &Objection| {
            objection.seq > chain.head_seq(objection.lane) && !gone.contains(&objection.group)
        };
        tick.changed |= self.vetoes.retain(open) | self.pauses.retain(open);
    }

    /// Whether the board signed a policy for the place of a recovery key's, and only time is in its way.
    fn has_word_of_board(&self, now: UnixSeconds, chain: &Chain, recovery: &Doc) -> bool {
        let place = (recovery.statement.lane, recovery.statement.seq);
        let here = |doc: &Doc| !doc.recovery && (doc.statement.lane, doc.statement.seq) == place;
        self.docs.iter().filter(|(_, doc)| here(doc)).any(|(id, doc)| {
            let judged = self.judge(now, chain, *id, doc);
            matches!(
                judged,
                Judged::Ready(_) | Judged::Held(Standing::Waiting { .. } | Standing::Paused { .. })
            )
        })
    }

    /// The board is alive: what a recovery key signed does not count, where that is news to it.
    fn end_recoveries(&mut self, is_news: impl Fn(&Digest, &Doc) -> bool) -> bool {
        let before = self.docs.len();
        self.docs.retain(|id, doc| !doc.recovery || self.ripe.contains(id) || !is_news(id, doc));
        self.docs.len() != before
    }

    /// The boards of the policies applied that what waits was signed under.
    fn signed<'a>(&self, chain: &'a Chain) -> impl Iterator<Item = &'a Board> {
        let named: BTreeSet<Seq> =
            self.docs.values().filter_map(|doc| doc.statement.policy).collect();
        named.into_iter().filter_map(|seq| Some(&chain.policy_at(seq)?.board))
    }

    fn by_any_board<T>(
        &self,
        chain: &Chain,
        verify: impl Fn(&Board, Digest) -> Result<T, ObjectError>,
    ) -> Result<T, ObjectError> {
        let (Some(policy), Some(network)) = (chain.policy(), chain.network()) else {
            let why = "this holder has no policy yet".to_owned();
            return Err(ObjectError::Refused { kind: "objection", why });
        };
        let error = match verify(&policy.board, network) {
            Err(error @ ObjectError::WrongGroup { .. }) => error,
            other => return other,
        };
        for board in self.signed(chain) {
            match verify(board, network) {
                Err(ObjectError::WrongGroup { .. }) => {}
                other => return other,
            }
        }
        let ObjectError::WrongGroup { found, .. } = &error else { return Err(error) };
        match self.board_to_come(found) {
            Some(board) => verify(&board, network),
            None => Err(error),
        }
    }
}

/// The group keys of every board that is or was in force.
fn groups(chain: &Chain) -> BTreeSet<PublicKey> {
    let policies = chain.after(Lane::Policy, Seq(0)).filter_map(VerifiedStatement::policy);
    policies.map(|policy| policy.board.group()).collect()
}
