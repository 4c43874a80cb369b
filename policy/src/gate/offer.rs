//! A statement is brought: verified against what is applied and what waits before it.

use std::borrow::Cow;
use std::collections::BTreeSet;

use borgios_types::{Digest, Envelope, Seq, UnixSeconds};

use super::ballots;
use super::doc::{self, Doc};
use super::standing::{Judged, Standing};
use super::{Gate, RIVALS_MAX, Silence};
use crate::chain::{Chain, Verdict};
use crate::lane::Lane;
use crate::refusal::Refusal;
use crate::statement::{Statement, VerifiedStatement};
use crate::submission::{Submission, follow};

/// Whether a statement must be in date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dated {
    /// It came by itself.
    Asked,
    /// It was judged as part of a run in which something in date builds upon it, or comes from the
    /// holder's own disk.
    Judged,
}

/// What became of an offered statement.
#[derive(Debug)]
pub enum Offered {
    /// It is applied, or waits, already.
    Known,
    /// Nothing is in its way: to be stored in the chain's place and applied. The gate is as before.
    Apply(Box<VerifiedStatement>),
    /// It is kept back: the gate must be stored before that is acknowledged.
    Held(Standing),
}

impl Gate {
    /// Takes a statement that anyone brought.
    ///
    /// # Errors
    /// As [`Chain::verify`]; `rival` beyond what is kept for one place, `held_back` while too much
    /// waits, `recovery` where the board has not been silent for long enough. Nothing changes then.
    pub fn offer(
        &mut self,
        now: UnixSeconds,
        chain: &Chain,
        submission: &Submission,
        dated: Dated,
    ) -> Result<Offered, Refusal> {
        self.look(now);
        let Submission { statement: envelope, ballots } = submission;
        let id = envelope.id();
        if self.docs.contains_key(&id) {
            // Rules that came meanwhile may need more ballots than came first.
            let more = self.add_ballots(chain, id, ballots);
            if more && let Some(doc) = self.docs.get(&id) {
                let Statement { lane, seq, .. } = doc.statement;
                self.keep_to_room(now, chain, id, lane, seq)?;
            }
            return Ok(if more {
                Offered::Held(self.stand(now, chain, id))
            } else {
                Offered::Known
            });
        }
        let statement = Statement::parse(envelope)?;
        let base = self.ancestry(chain, &statement);
        let verdict = match dated {
            Dated::Asked => base.verify(now, envelope, ballots),
            Dated::Judged => base.verify_stored(envelope, ballots),
        };
        let recovery = match verdict {
            Ok(Verdict::New(_)) => false,
            Ok(Verdict::AlreadyKnown(_)) => return Ok(Offered::Known),
            Err(Refusal::Recovery { seq, .. }) => {
                let still_s = self.silence(chain).map(Silence::still);
                if still_s != Some(0) {
                    return Err(Refusal::Recovery { seq, still_s });
                }
                true
            }
            Err(refusal) => return Err(refusal),
        };
        let (lane, seq) = (statement.lane, statement.seq);
        // What is dead is no rival, or a few vetoed rounds would end a lane; nor is a word of the board
        // one of the recovery key.
        let rivals = self.docs.iter().filter(|(other, doc)| {
            (doc.statement.lane, doc.statement.seq, doc.recovery) == (lane, seq, recovery)
                && self.dead(now, chain, **other, doc).is_none()
        });
        let rivals: Vec<Digest> = rivals.map(|(other, _)| *other).collect();
        if rivals.len() >= RIVALS_MAX
            && chain.settled(lane, seq).is_none_or(|settled| settled.winner != Some(id))
            && let Some(known) = rivals.first().copied()
        {
            return Err(Refusal::Rival { lane, seq, known, offered: id });
        }
        let under = statement.policy.and_then(|seq| base.policy_at(seq));
        let ballots = under.map_or_else(Vec::new, |policy| {
            ballots::counting(&policy.board, &statement, id, ballots.iter())
        });
        let submission = Submission { statement: envelope.clone(), ballots };
        let mut doc = Doc::new(submission, statement, now, recovery);
        doc.dated = doc::dated_ahead(now, chain);
        self.docs.insert(id, doc);
        match self.docs.get(&id).map(|doc| self.judge(now, chain, id, doc)) {
            Some(Judged::Ready(verified)) if !recovery => {
                self.docs.remove(&id);
                Ok(Offered::Apply(verified))
            }
            Some(Judged::Over(why)) => {
                self.docs.remove(&id);
                why.map_or(Ok(Offered::Known), Err)
            }
            Some(Judged::Held(standing)) => {
                self.keep_to_room(now, chain, id, lane, seq)?;
                Ok(Offered::Held(standing))
            }
            Some(Judged::Ready(_)) | None => {
                self.keep_to_room(now, chain, id, lane, seq)?;
                Ok(Offered::Held(Standing::Due))
            }
        }
    }

    /// Makes room where too much waits, with what was brought last.
    ///
    /// # Errors
    /// What was brought last is what had to go.
    fn keep_to_room(
        &mut self,
        now: UnixSeconds,
        chain: &Chain,
        id: Digest,
        lane: Lane,
        seq: Seq,
    ) -> Result<(), Refusal> {
        let waiting = self.docs.len() - 1;
        while self.make_room(now, chain) {}
        if self.docs.contains_key(&id) {
            Ok(())
        } else {
            Err(Refusal::HeldBack { lane, seq, waiting })
        }
    }

    /// Adds to what waits the ballots that count; returns whether there are any.
    fn add_ballots(&mut self, chain: &Chain, id: Digest, offered: &[Envelope]) -> bool {
        let Some(doc) = self.docs.get(&id) else { return false };
        let held = &doc.submission.ballots;
        if offered.iter().all(|ballot| held.contains(ballot)) {
            return false;
        }
        let base = self.ancestry(chain, &doc.statement);
        let policy = doc.statement.policy.and_then(|seq| base.policy_at(seq));
        let Some(policy) = policy else { return false };
        let all = held.iter().chain(offered);
        let ballots = ballots::counting(&policy.board, &doc.statement, id, all);
        let Some(doc) = self.docs.get_mut(&id) else { return false };
        let more = ballots != doc.submission.ballots;
        doc.submission.ballots = ballots;
        more
    }

    fn stand(&self, now: UnixSeconds, chain: &Chain, id: Digest) -> Standing {
        self.standing(now, chain, &id).unwrap_or(Standing::Due)
    }

    /// The chain as it will be when a statement's turn comes: with the documents it builds upon, by
    /// their ids, and with the policies that wait up to the one it names. A document that is frozen
    /// or vetoed is among them; whether it is ever applied is another question.
    pub(super) fn ancestry<'a>(&self, chain: &'a Chain, statement: &Statement) -> Cow<'a, Chain> {
        let mut found = BTreeSet::new();
        self.gather(chain, statement, &mut found);
        if found.is_empty() {
            return Cow::Borrowed(chain);
        }
        let mut ahead = chain.clone();
        let mut order: Vec<_> =
            found.iter().filter_map(|id| Some((self.docs.get(id)?.order(*id), id))).collect();
        order.sort_unstable();
        let docs = order.into_iter().filter_map(|(_, id)| self.docs.get(id));
        let submissions: Vec<Submission> = docs
            .map(|doc| {
                if doc.recovery {
                    ahead.ripen(doc.submission.statement.id());
                }
                doc.submission.clone()
            })
            .collect();
        // What does not verify there leaves a gap, which is then the statement's own refusal.
        follow(&mut ahead, &submissions, |_, _| ());
        Cow::Owned(ahead)
    }

    fn gather(&self, chain: &Chain, statement: &Statement, found: &mut BTreeSet<Digest>) {
        let mut left = vec![(self.below(chain, statement), statement.policy)];
        while let Some((prev, policy)) = left.pop() {
            let mut add = |id: Digest| {
                if let Some(doc) = self.docs.get(&id)
                    && found.insert(id)
                {
                    left.push((self.below(chain, &doc.statement), doc.statement.policy));
                }
            };
            prev.into_iter().for_each(&mut add);
            let named = policy.unwrap_or_default();
            if named > chain.head_seq(Lane::Policy) {
                self.policies_at(named).into_iter().for_each(add);
            }
        }
    }

    /// The one document that waits as this policy; none if there are rivals.
    pub(super) fn policies_at(&self, seq: Seq) -> Option<Digest> {
        let here = |doc: &Doc| (doc.statement.lane, doc.statement.seq) == (Lane::Policy, seq);
        let mut all = self.docs.iter().filter(|(_, doc)| here(doc)).map(|(id, _)| *id);
        let first = all.next();
        first.filter(|_| all.next().is_none())
    }
}
