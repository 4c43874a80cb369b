//! How a statement that waits stands: a function of what the gate holds, the chain and the clock.

use borgios_types::{Digest, Seq, UnixSeconds};
use serde::{Deserialize, Serialize};

use super::doc::{Doc, since};
use super::vetoed::Dead;
use super::{Gate, SETTLE_S};
use crate::chain::{Chain, Verdict, check_expiry};
use crate::lane::Lane;
use crate::name::Name;
use crate::places::Settled;
use crate::refusal::Refusal;
use crate::statement::VerifiedStatement;

/// Why a statement is not applied yet, or never will be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Standing {
    /// Its lock is not over.
    Waiting {
        /// When it is.
        until: UnixSeconds,
    },
    /// A governor asked to wait.
    Paused {
        /// When the last pause ends.
        until: UnixSeconds,
        /// Who asked.
        by: Vec<Name>,
    },
    /// The board signed another document for the place as well: a policy's ruling settles it.
    Frozen {
        /// Ids of the others.
        rivals: Vec<Digest>,
    },
    /// Enough governors took it back: dead here, and the place's next round is open, unless the same
    /// board signs the next one upon it.
    Vetoed {
        /// Who.
        by: Vec<Name>,
        /// When what the board signed upon it is through its own lock and brings it back.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        back: Option<UnixSeconds>,
    },
    /// Too few governors were heard of lately to install anything.
    Stale {
        /// Governors heard of.
        fresh: usize,
        /// Governors asked for.
        needed: usize,
    },
    /// Its predecessor, or its policy, is not applied yet.
    Behind,
    /// Its date passed while it waited. It still counts once something in date builds upon it.
    Expired {
        /// When.
        since: UnixSeconds,
    },
    /// It no longer verifies, under rules that came while it waited; a policy may still carry it.
    Refused {
        /// The refusal's stable code.
        code: String,
        /// The refusal, for people.
        why: String,
    },
    /// Nothing is in its way: the next tick applies it.
    Due,
}

impl Standing {
    /// One word for it, the same as in JSON.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Waiting { .. } => "waiting",
            Self::Paused { .. } => "paused",
            Self::Frozen { .. } => "frozen",
            Self::Vetoed { .. } => "vetoed",
            Self::Stale { .. } => "stale",
            Self::Behind => "behind",
            Self::Expired { .. } => "expired",
            Self::Refused { .. } => "refused",
            Self::Due => "due",
        }
    }
}

/// One statement that waits, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Its lane.
    pub lane: Lane,
    /// Its place.
    pub seq: Seq,
    /// Its id.
    pub id: Digest,
    /// When this holder first saw it verified.
    pub seen: UnixSeconds,
    /// A recovery key signed it, and not the board: any sign of life of the board in force ends it.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub recovery: bool,
    /// How it stands.
    #[serde(flatten)]
    pub standing: Standing,
}

impl Held {
    pub(super) fn of(now: UnixSeconds, id: Digest, doc: &Doc, standing: Standing) -> Self {
        let (lane, seq) = (doc.statement.lane, doc.statement.seq);
        let seen = since(now, doc.seen, doc.was, doc.dated);
        Self { lane, seq, id, seen, recovery: doc.recovery, standing }
    }
}

/// What a judgement comes to.
pub(super) enum Judged {
    /// To be applied now.
    Ready(Box<VerifiedStatement>),
    /// To be kept.
    Held(Standing),
    /// To be forgotten: applied, or beyond it, with the reason.
    Over(Option<Refusal>),
}

/// Whether a document can have no effect any more: applied already (no refusal), or its place went
/// to something else.
pub(super) fn over(chain: &Chain, id: Digest, doc: &Doc) -> Option<Option<Refusal>> {
    let (lane, seq) = (doc.statement.lane, doc.statement.seq);
    if chain.known(&id).is_some() {
        return Some(None);
    }
    let rival = |known| Some(Some(Refusal::Rival { lane, seq, known, offered: id }));
    match chain.settled(lane, seq) {
        Some(Settled { winner: None, policy, .. }) => {
            return Some(Some(Refusal::Closed { lane, seq, by: *policy }));
        }
        Some(Settled { winner: Some(known), .. }) if *known != id => return rival(*known),
        Some(Settled { winner: Some(_), .. }) | None => {}
    }
    if let Some(taken) = chain.get(lane, seq) {
        return rival(taken.id());
    }
    match chain.tip(lane) {
        Some(tip) if seq == tip.seq.next() && stands_on(chain, doc) != Some(tip.id) => {
            rival(tip.id)
        }
        Some(_) | None => None,
    }
}

/// What a document follows here: its predecessor, or the policy in force that it unites with that.
fn stands_on(chain: &Chain, doc: &Doc) -> Option<Digest> {
    let tip = chain.tip(Lane::Policy).filter(|tip| doc.statement.seq == tip.seq.next());
    let made = doc.policy.as_deref().filter(|made| chain.is_united(made));
    made.and(tip).map(|tip| tip.id).or(doc.statement.prev)
}

impl Gate {
    /// How `doc` stands. The order of the questions is that of their weight: a ruling before vetoes,
    /// a veto before a rival, and only then time.
    pub(super) fn judge(&self, now: UnixSeconds, chain: &Chain, id: Digest, doc: &Doc) -> Judged {
        if let Some(why) = over(chain, id, doc) {
            return Judged::Over(why);
        }
        let (lane, seq) = (doc.statement.lane, doc.statement.seq);
        // 1. What the board decided of this place holds everywhere, whatever was vetoed where.
        let ruled = chain.settled(lane, seq).is_some();
        if !ruled {
            // 2. Vetoes.
            if let Some(Dead { by, back }) = self.dead(now, chain, id, doc) {
                return Judged::Held(Standing::Vetoed { by, back });
            }
            // 3. Rivals that are not dead themselves.
            let rivals = self.rivals(now, chain, id, doc);
            if !rivals.is_empty() {
                return Judged::Held(Standing::Frozen { rivals });
            }
        }
        // 4. The lock, by the rules of its policy and of the one in force.
        let first = doc.statement.policy.is_none();
        let class = chain.class_for(&doc.statement, id);
        let lock = match (class, doc.recovery) {
            (Some(_), true) => {
                let recovery = chain.policy().and_then(|policy| policy.recovery);
                let Some(recovery) = recovery else { return Judged::Held(Standing::Behind) };
                recovery.lock_s
            }
            (Some(class), false) => class.lock(),
            (None, _) if first => 0,
            (None, _) => return Judged::Held(Standing::Behind),
        };
        let until = self.until(now, since(now, doc.seen, doc.was, doc.dated), lock);
        if now < until {
            return Judged::Held(Standing::Waiting { until });
        }
        // 5. Pauses: of software, of rules, and of what a lock holds up anyway. What the board wants at once,
        // as that a door be shut or a password renewed, no single governor holds up.
        let pausable = lock > 0 || matches!(lane, Lane::Release | Lane::Policy);
        if pausable && let Some(paused) = self.paused(now, chain, id, doc) {
            return Judged::Held(paused);
        }
        // 6. Staleness stops releases and nothing else.
        if lane == Lane::Release
            && let Some(policy) = chain.policy()
            && let Some((fresh, needed)) = self.pulse.fresh(now, policy)
            && fresh < needed
        {
            return Judged::Held(Standing::Stale { fresh, needed });
        }
        // 7. Its place, and everything else once more.
        if seq != chain.head_seq(lane).next() {
            return Judged::Held(Standing::Behind);
        }
        self.verify(now, chain, id, doc)
    }

    fn verify(&self, now: UnixSeconds, chain: &Chain, id: Digest, doc: &Doc) -> Judged {
        let submission = &doc.submission;
        let verdict = if doc.recovery {
            let mut ripe = chain.clone();
            ripe.ripen(id);
            ripe.verify_stored(&submission.statement, &submission.ballots)
        } else {
            chain.verify_stored(&submission.statement, &submission.ballots)
        };
        let verified = match verdict {
            Ok(Verdict::New(verified)) => verified,
            Ok(Verdict::AlreadyKnown(_)) => return Judged::Over(None),
            Err(refusal) => {
                let (code, why) = (refusal.code().to_owned(), refusal.to_string());
                return Judged::Held(Standing::Refused { code, why });
            }
        };
        // It is never earlier than the newest statement applied.
        let now = now.max(chain.now_floor());
        let dated = doc.statement.lane.expires() && check_expiry(&doc.statement, now).is_err();
        if dated && !self.is_built_upon(now, chain, id) {
            return Judged::Held(Standing::Expired { since: doc.statement.expires });
        }
        Judged::Ready(verified)
    }

    /// When a lock is over. Who was away meanwhile waits a little even so, for what was said against
    /// it must have time to arrive.
    pub(super) fn until(&self, now: UnixSeconds, seen: UnixSeconds, lock: u64) -> UnixSeconds {
        let since = self.awake.map_or(now, |(since, _)| since);
        seen.plus(lock).max(since.plus(lock.min(SETTLE_S)))
    }

    /// The documents that follow the same predecessor and are not dead.
    fn rivals(&self, now: UnixSeconds, chain: &Chain, id: Digest, doc: &Doc) -> Vec<Digest> {
        let place = |doc: &Doc| (doc.statement.lane, doc.statement.seq, stands_on(chain, doc));
        self.docs
            .iter()
            .filter(|(other, rival)| **other != id && place(rival) == place(doc))
            // What a recovery key signed is no word of the board.
            .filter(|(_, rival)| rival.recovery == doc.recovery)
            .filter(|(other, rival)| self.dead(now, chain, **other, rival).is_none())
            .map(|(other, _)| *other)
            .collect()
    }

    pub(super) fn paused(
        &self,
        now: UnixSeconds,
        chain: &Chain,
        id: Digest,
        doc: &Doc,
    ) -> Option<Standing> {
        let policy = chain.policy()?;
        let place = (doc.statement.lane, doc.statement.seq);
        let mut until = UnixSeconds::default();
        let mut by = Vec::new();
        for voice in self.pauses.of_board(&id, policy.board.group(), place) {
            let end = since(now, voice.seen, voice.was, voice.dated).plus(policy.pause());
            if now < end {
                until = until.max(end);
                by.push(voice.objection.governor.clone());
            }
        }
        (!by.is_empty()).then_some(Standing::Paused { until, by })
    }

    /// Whether something in date that waits here builds upon it.
    fn is_built_upon(&self, now: UnixSeconds, chain: &Chain, id: Digest) -> bool {
        self.docs.values().any(|doc| {
            self.below(chain, &doc.statement) == Some(id)
                && (now < doc.statement.expires
                    || self.is_built_upon(now, chain, doc.submission.statement.id()))
        })
    }
}
