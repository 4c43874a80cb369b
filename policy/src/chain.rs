//! The chain: every statement this holder obeys, lane by lane, and the only way into it.
//!
//! ```text
//! bytes ─▶ Envelope ─▶ Chain::verify ─▶ VerifiedStatement ─▶ (store it) ─▶ Chain::apply
//!                          │ steps 1–8
//!                          └▶ Refusal: the first step that failed
//! ```
//!
//! Invariants:
//!  1. within a lane `seq` counts from 1 without holes, and each `prev` is its predecessor's id, or the
//!     id of what a policy unites with that ([`Policy::unites`]);
//!  2. nothing that was applied is ever replaced by a rival, which is evidence and no more; only a
//!     policy's ruling takes something back: see [`crate::places`];
//!  3. policy/1 has the pinned id, and every later statement was signed under a policy before it;
//!  4. what a recovery key signed counts only once [`Chain::ripen`] named it, which the gate does.

use std::collections::BTreeSet;

use borgios_types::{Digest, Envelope, PublicKey, Seq, UnixSeconds};

use crate::ballot;
use crate::board::Board;
use crate::class::{Class, veto_least};
use crate::downgrade;
use crate::lane::Lane;
use crate::message;
use crate::orders;
use crate::places::{Places, Settled, Tip};
use crate::policy::{Policy, PolicyError};
use crate::rebuild;
use crate::refusal::Refusal;
use crate::statement::{Statement, VerifiedStatement};

/// How far ahead of the clock a draft may be dated, in seconds: as far as clocks that are kept right
/// differ, like a beacon's. What is applied moves the earliest that it can be at every holder, and what
/// ends by then, as a grant of access, is over there.
pub const AHEAD_MAX_S: u64 = 600;

/// The statements of one network, as far as this holder has followed it.
#[derive(Clone, Debug, Default)]
pub struct Chain {
    pin: Option<Digest>,
    places: Places,
    /// Policies signed by a recovery key whose silence and lock are over.
    ripe: BTreeSet<Digest>,
}

/// What becomes of a statement that was not refused.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// It follows the head of its lane: store it, then [`Chain::apply`] it.
    New(Box<VerifiedStatement>),
    /// It is the head of its lane already; nothing to do, nothing to report.
    AlreadyKnown(Digest),
}

/// Whether a statement must be in date.
#[derive(Clone, Copy)]
pub(crate) enum Clock {
    /// Now, by the system clock.
    Is(UnixSeconds),
    /// It was in date when it was applied, or is judged elsewhere.
    NotAsked,
}

/// Whether signatures and approvals must be there.
#[derive(Clone, Copy)]
enum Signed<'a> {
    /// A statement, with the ballots that travelled with it.
    With(&'a [Envelope]),
    /// A draft before its vote.
    NotYet,
}

impl Chain {
    /// An empty chain. `pin` is the network's id; without it the first policy/1 that verifies
    /// founds the chain, which only founding tools want.
    #[must_use]
    pub fn new(pin: Option<Digest>) -> Self {
        Self { pin, ..Self::default() }
    }

    /// Checks a statement offered by anyone. `ballots` are those that travelled with it; they are
    /// looked at only where the class asks for more approvals than the threshold.
    ///
    /// # Errors
    /// The first step that fails. Nothing changes, whatever is offered.
    pub fn verify(
        &self,
        now: UnixSeconds,
        envelope: &Envelope,
        ballots: &[Envelope],
    ) -> Result<Verdict, Refusal> {
        self.check(Clock::Is(now), envelope, Signed::With(ballots))
    }

    /// Checks a statement from this holder's own store: every step but expiry.
    ///
    /// # Errors
    /// As [`Chain::verify`].
    pub fn verify_stored(
        &self,
        envelope: &Envelope,
        ballots: &[Envelope],
    ) -> Result<Verdict, Refusal> {
        self.check(Clock::NotAsked, envelope, Signed::With(ballots))
    }

    /// Checks a draft before its vote: every step but the signatures and approvals, so that no
    /// governor signs what no node would obey. Nor one that is dated beyond [`AHEAD_MAX_S`]: once
    /// applied, no clock would be earlier than its date, and whatever expires before it dead. One of
    /// the date of the newest statement applied moves nothing, whatever this holder's clock says.
    ///
    /// # Errors
    /// As [`Chain::verify`], and `bad_body` for such a date.
    pub fn review(&self, now: UnixSeconds, draft: &Envelope) -> Result<Statement, Refusal> {
        self.check(Clock::Is(now), draft, Signed::NotYet)?;
        let statement = Statement::parse(draft)?;
        let Statement { lane, seq, issued, .. } = &statement;
        if *issued > now.plus(AHEAD_MAX_S).max(self.now_floor()) {
            let why =
                format!("issued at {issued}, and the clock here says {now}: one of them is wrong");
            return Err(Refusal::BadBody { lane: *lane, seq: *seq, why });
        }
        Ok(statement)
    }

    /// Appends a statement that [`Chain::verify`] of this very chain returned.
    ///
    /// # Panics
    /// If another statement was applied since and took its place, which is a bug of the caller.
    pub fn apply(&mut self, verified: VerifiedStatement) {
        let statement = verified.statement();
        let (lane, seq) = (statement.lane, statement.seq);
        let stands = statement.prev == self.tip(lane).map(|tip| tip.id);
        let fits = seq == self.head_seq(lane).next()
            && (stands || verified.policy().is_some_and(|made| self.is_united(made)));
        assert!(fits, "{lane}/{seq} was verified against an older state of this chain");
        self.places.put(verified);
    }

    /// Lets a policy count that only a recovery key signed: its silence and its lock are over.
    pub fn ripen(&mut self, id: Digest) {
        self.ripe.insert(id);
    }

    /// The policy in force.
    #[must_use]
    pub fn policy(&self) -> Option<&Policy> {
        self.head(Lane::Policy).and_then(VerifiedStatement::policy)
    }

    /// The policy that was made by policy/`seq`.
    #[must_use]
    pub fn policy_at(&self, seq: Seq) -> Option<&Policy> {
        self.get(Lane::Policy, seq).and_then(VerifiedStatement::policy)
    }

    /// The network's id: that of policy/1, or the one this chain is pinned to.
    #[must_use]
    pub fn network(&self) -> Option<Digest> {
        self.get(Lane::Policy, Seq(1)).map(VerifiedStatement::id).or(self.pin)
    }

    /// The newest statement of a lane; the lane may have gone on over closed places since: see
    /// [`Chain::tip`].
    #[must_use]
    pub fn head(&self, lane: Lane) -> Option<&VerifiedStatement> {
        self.places.last(lane)
    }

    /// The end of a lane, closed places included: what the next statement must follow.
    #[must_use]
    pub fn tip(&self, lane: Lane) -> Option<Tip> {
        self.places.tip(lane)
    }

    /// Number of the last place of a lane that is decided, 0 if none is.
    #[must_use]
    pub fn head_seq(&self, lane: Lane) -> Seq {
        self.tip(lane).map_or(Seq(0), |tip| tip.seq)
    }

    /// The statement at a place.
    #[must_use]
    pub fn get(&self, lane: Lane, seq: Seq) -> Option<&VerifiedStatement> {
        self.places.get(lane, seq)
    }

    /// The statements of a lane that follow `seq`, oldest first.
    pub fn after(&self, lane: Lane, seq: Seq) -> impl Iterator<Item = &VerifiedStatement> {
        self.places.after(lane, seq)
    }

    /// Where the statement with this id stands.
    #[must_use]
    pub fn known(&self, id: &Digest) -> Option<(Lane, Seq)> {
        self.places.known(id)
    }

    /// Every statement in an order in which an empty chain accepts them.
    pub fn history(&self) -> impl Iterator<Item = &VerifiedStatement> {
        self.places.history()
    }

    /// What a policy said of a place, if one did.
    #[must_use]
    pub fn settled(&self, lane: Lane, seq: Seq) -> Option<&Settled> {
        self.places.settled(lane, seq)
    }

    /// Every place that a policy settled, and how.
    pub fn all_settled(&self) -> impl Iterator<Item = (&(Lane, Seq), &Settled)> {
        self.places.all_settled()
    }

    /// The last place of a lane that a policy settled.
    #[must_use]
    pub fn last_ruled(&self, lane: Lane) -> Option<Seq> {
        self.places.last_ruled(lane)
    }

    /// Whether a policy settled any place of this lane, also if that became void.
    #[must_use]
    pub fn ruled_in(&self, lane: Lane) -> bool {
        self.places.ruled_in(lane)
    }

    /// How often policies have settled a place or made a ruling void, which only grows.
    #[must_use]
    pub fn rulings_count(&self) -> usize {
        self.places.rulings_count()
    }

    /// What was applied here and lost its effect by a ruling, in the order in which it did.
    pub fn overruled(&self) -> impl Iterator<Item = &VerifiedStatement> {
        self.places.overruled()
    }

    /// The earliest it can be: the newest `issued` of what was applied.
    #[must_use]
    pub fn now_floor(&self) -> UnixSeconds {
        self.places.floor()
    }

    /// What a statement made under policy `named` needs: what that policy asks for and no less than
    /// the one in force, or the threshold's holders could go on for ever under rules that were
    /// tightened. What was carried over, or won by a ruling, was judged by the board.
    #[must_use]
    pub fn class_for(&self, statement: &Statement, id: Digest) -> Option<Class> {
        let named = self.policy_at(statement.policy?)?;
        Some(self.needs(named, statement, id))
    }

    /// The boards whose vetoes kill a statement, each with how many of its governors that takes: the
    /// board in force, and, unless the board judged it after its vote, the one that signed it. What
    /// nobody carried over a change of the group key is no less dead after it. No board needs more
    /// vetoes than it has governors: what was carried over names the number of a larger one.
    #[must_use]
    pub fn veto_boards(&self, statement: &Statement, id: Digest) -> Vec<(&Board, u16)> {
        let needed = |class: Option<Class>, board: &Board| {
            let least = veto_least(board.threshold().0, board.size());
            class.and_then(|class| class.veto).unwrap_or(least).min(board.size())
        };
        let Some(now) = self.policy() else { return Vec::new() };
        let class = self.class_for(statement, id);
        let mut boards = vec![(&now.board, needed(class, &now.board))];
        if let Some(then) = statement.policy.and_then(|seq| self.policy_at(seq))
            && then.board.group() != now.board.group()
            && !self.is_judged(statement.lane, statement.seq, id)
        {
            boards.push((&then.board, needed(Some(then.class_of(statement)), &then.board)));
        }
        boards
    }

    /// The numbered steps of `docs/design/0001-spine.md`. Steps 1 and 2 are
    /// [`Statement::parse`]'s.
    fn check(
        &self,
        clock: Clock,
        envelope: &Envelope,
        signed: Signed<'_>,
    ) -> Result<Verdict, Refusal> {
        // 1. Bounds, strict JSON. 2. Kind = lane, shape, critical fields known.
        let statement = Statement::parse(envelope)?;
        let id = envelope.id();
        // 3. Network.
        self.check_network(&statement, id)?;
        // 4. The policy it names is in force; policy/1 alone stands under its own.
        let under = self
            .check_policy(&statement, id)
            .map_err(|refusal| self.or_closed(refusal, &statement, envelope))?;
        let (lane, seq) = (statement.lane, statement.seq);
        let bad_body =
            |error: PolicyError| Refusal::BadBody { lane, seq, why: shorten(&error.to_string()) };
        // 5. Group signatures: of the board it stands under, then of the board it makes, which is
        //    not read before: proving that its shares fit its key takes milliseconds.
        let mut recovered = false;
        if let (Some(policy), Signed::With(_)) = (under, signed) {
            let by_board = check_signature(&statement, envelope, policy.board.group());
            recovered = by_board.is_err() && is_recovery(&statement, envelope, policy);
            if !recovered {
                by_board?;
            }
        }
        let made = match lane {
            Lane::Policy => Some(Policy::parse(&statement.body).map_err(bad_body)?),
            Lane::Release | Lane::Credential | Lane::Member | Lane::Access => None,
        };
        if let (Some(policy), Signed::With(_)) = (&made, signed) {
            check_signature(&statement, envelope, policy.board.group())?;
        }
        if let Some(made) = &made {
            check_recovery(made, under.filter(|_| recovered)).map_err(bad_body)?;
        }
        // 6. Its place: right after the head.
        if let Some(known) = self.check_place(&statement, id, made.as_ref())? {
            return Ok(Verdict::AlreadyKnown(known));
        }
        // 7. Expiry, by a clock that is never earlier than the newest statement; in some lanes of
        //    drafts alone.
        if let Clock::Is(now) = clock
            && (lane.expires() || matches!(signed, Signed::NotYet))
        {
            check_expiry(&statement, now.max(self.now_floor()))?;
        }
        // 8. The rules of the body, and the approvals of its class.
        if let (Some(made), Some(before)) = (&made, under) {
            made.follows(before).map_err(bad_body)?;
            made.repeats_earlier(seq).map_err(bad_body)?;
        }
        let refuse = |why: String| Refusal::BadBody { lane, seq, why: shorten(&why) };
        if let Some(policy) = under {
            policy.knows_class_of(&statement).map_err(refuse)?;
        }
        match (under, signed) {
            (Some(policy), Signed::With(ballots)) if !recovered => {
                let needed = self.needs(policy, &statement, id);
                check_approvals(&statement, id, policy, needed, ballots)?;
            }
            (_, Signed::NotYet) => {
                orders::check(self, &statement).map_err(refuse)?;
                self.check_draft(&statement, made.as_ref()).map_err(refuse)?;
            }
            (_, Signed::With(_)) => {}
        }
        // Last, so that whoever is told this knows that nothing else is wrong with it.
        if recovered && !self.ripe.contains(&id) {
            return Err(Refusal::Recovery { seq, still_s: None });
        }
        let verified = VerifiedStatement::new(statement, envelope.clone(), made, recovered);
        Ok(Verdict::New(Box::new(verified)))
    }

    /// Step 3.
    fn check_network(&self, statement: &Statement, id: Digest) -> Result<(), Refusal> {
        let (lane, seq) = (statement.lane, statement.seq);
        let expected = self.network();
        // policy/1 names no network: its own id is one.
        let found = statement.network.unwrap_or(id);
        if expected.is_none() && statement.network.is_some() {
            return Err(Refusal::Gap { lane: Lane::Policy, seq: Seq(1), head: Seq(0) });
        }
        if expected.is_some_and(|expected| expected != found) {
            let expected = expected.map_or_else(|| "none".to_owned(), |id| id.to_string());
            return Err(Refusal::WrongNetwork { lane, seq, found: found.to_string(), expected });
        }
        Ok(())
    }

    /// Step 4: the policy whose board had to sign; none for policy/1.
    ///
    /// A policy stands under its predecessor even where that is no longer in force, so that a
    /// rival made with retired shares is told apart from a forgery. Anything else that was made
    /// by an earlier board counts only if it is known already, or carried over.
    fn check_policy(&self, statement: &Statement, id: Digest) -> Result<Option<&Policy>, Refusal> {
        let (lane, seq) = (statement.lane, statement.seq);
        let Some(named) = statement.policy else { return Ok(None) };
        let in_force = self.head_seq(Lane::Policy);
        let wrong = || Refusal::WrongPolicy { lane, seq, named, in_force };
        if named > in_force {
            let seq = if lane == Lane::Policy { seq } else { named };
            return Err(Refusal::Gap { lane: Lane::Policy, seq, head: in_force });
        }
        let stands = match lane {
            Lane::Policy => named.next() == seq,
            Lane::Release | Lane::Credential | Lane::Member | Lane::Access => {
                let carried = self.is_judged(lane, seq, id);
                // A vote and a change of the rules may cross on their way: where the board is
                // still the same, the order in which a node hears of them must not matter.
                let same_board = match (self.policy_at(named), self.policy()) {
                    (Some(then), Some(now)) => then.board.group() == now.board.group(),
                    (_, _) => false,
                };
                // Nor can it name rules older than its predecessor's: the chain would not verify
                // again in the order of its policies.
                let backwards = seq == self.head_seq(lane).next()
                    && self.tip(lane).is_some_and(|tip| {
                        // What does not follow it at all is a rival, and is named so in step 6.
                        tip.policy > Some(named) && statement.prev == Some(tip.id)
                    })
                    && !self.is_winner(lane, seq, id);
                (same_board || carried || self.known(&id) == Some((lane, seq))) && !backwards
            }
        };
        if !stands {
            return Err(wrong());
        }
        self.policy_at(named).map(Some).ok_or_else(wrong)
    }

    /// What an earlier board signed for a place that was closed since is refused for that: whoever hands
    /// it on need not have heard of the policy that closed it, and is not to blame.
    fn or_closed(&self, refusal: Refusal, statement: &Statement, envelope: &Envelope) -> Refusal {
        let Statement { lane, seq, .. } = *statement;
        let (Refusal::WrongPolicy { named, .. }, Some(Settled { winner: None, policy, .. })) =
            (&refusal, self.settled(lane, seq))
        else {
            return refusal;
        };
        let signed = self.is_signed_under(*named, envelope);
        if signed { Refusal::Closed { lane, seq, by: *policy } } else { refusal }
    }

    /// Whether the board of policy/`named` signed it, be that in force or not.
    pub(crate) fn is_signed_under(&self, named: Seq, envelope: &Envelope) -> bool {
        let then = self.policy_at(named);
        then.is_some_and(|then| message::signed_by(envelope, &then.board.group()))
    }

    /// Whether the board itself judged this statement after its vote: the policy in force carries
    /// it, or a policy named it as the winner of its place.
    fn is_judged(&self, lane: Lane, seq: Seq, id: Digest) -> bool {
        self.policy().is_some_and(|policy| policy.carried.contains(&id))
            || self.is_winner(lane, seq, id)
    }

    fn is_winner(&self, lane: Lane, seq: Seq, id: Digest) -> bool {
        self.settled(lane, seq).is_some_and(|settled| settled.winner == Some(id))
    }

    /// See [`Chain::class_for`].
    fn needs(&self, named: &Policy, statement: &Statement, id: Digest) -> Class {
        let Statement { lane, seq, .. } = *statement;
        let then = named.class_of(statement);
        match self.policy() {
            Some(now) if lane != Lane::Policy && !self.is_judged(lane, seq, id) => {
                let (threshold, governors) = (now.board.threshold().0, now.board.size());
                then.stricter(now.class_of(statement), threshold, governors)
            }
            Some(_) | None => then,
        }
    }

    /// What holds of a draft alone, for once it is signed a node must be able to go on with it.
    fn check_draft(&self, statement: &Statement, made: Option<&Policy>) -> Result<(), String> {
        if statement.lane == Lane::Release
            && let Some(head) = self.head(Lane::Release)
        {
            downgrade::check(head.statement(), statement)?;
        }
        made.map_or(Ok(()), |made| self.check_uniting(made))?;
        let rulings = made.map(|policy| policy.rulings.as_slice()).unwrap_or_default();
        for ruling in rulings {
            if let Some(before) = self.settled(ruling.lane, ruling.seq)
                && before.winner != ruling.winner
            {
                let (lane, seq, by) = (ruling.lane, ruling.seq, before.policy);
                return Err(format!("{lane}/{seq} was settled otherwise by policy/{by}"));
            }
        }
        Ok(())
    }

    /// Step 6: the id, if it is the head already.
    fn check_place(
        &self,
        statement: &Statement,
        id: Digest,
        made: Option<&Policy>,
    ) -> Result<Option<Digest>, Refusal> {
        let (lane, seq) = (statement.lane, statement.seq);
        let head = self.head_seq(lane);
        if let Some(taken) = self.get(lane, seq) {
            let known = taken.id();
            return if known != id {
                Err(Refusal::Rival { lane, seq, known, offered: id })
            } else if seq < head {
                Err(Refusal::Replayed { lane, seq, head })
            } else {
                Ok(Some(id))
            };
        }
        match self.settled(lane, seq) {
            Some(Settled { winner: None, policy, .. }) => {
                return Err(Refusal::Closed { lane, seq, by: *policy });
            }
            Some(Settled { winner: Some(known), .. }) if *known != id => {
                return Err(Refusal::Rival { lane, seq, known: *known, offered: id });
            }
            Some(Settled { winner: Some(_), .. }) | None => {}
        }
        if seq != head.next() {
            return Err(Refusal::Gap { lane, seq, head });
        }
        match self.tip(lane).map(|tip| tip.id) {
            Some(known)
                if statement.prev != Some(known)
                    && !made.is_some_and(|made| self.is_united(made)) =>
            {
                Err(Refusal::Rival { lane, seq, known, offered: id })
            }
            _ => Ok(None),
        }
    }
}

/// Whether the recovery key of `policy` signed the policy that would follow it.
fn is_recovery(statement: &Statement, envelope: &Envelope, policy: &Policy) -> bool {
    let by_key = |recovery: &crate::rules::Recovery| message::signed_by(envelope, &recovery.group);
    statement.lane == Lane::Policy && policy.recovery.as_ref().is_some_and(by_key)
}

/// A recovery board's paper makes no policy. And what a recovery key signed (`by_recovery`: under the
/// policy that names it) makes another board's key the group key: one signature must not stand for
/// two, nor a key that lay in a drawer for years govern.
fn check_recovery(made: &Policy, by_recovery: Option<&Policy>) -> Result<(), PolicyError> {
    if made.recovers.is_some() {
        return Err(PolicyError::Recovers);
    }
    let key = by_recovery.and_then(|policy| policy.recovery).map(|recovery| recovery.group);
    if key == Some(made.board.group()) {
        return Err(PolicyError::RecoversItself);
    }
    Ok(())
}

/// Step 5, for one key.
fn check_signature(
    statement: &Statement,
    envelope: &Envelope,
    key: PublicKey,
) -> Result<(), Refusal> {
    if message::signed_by(envelope, &key) {
        return Ok(());
    }
    Err(Refusal::BadSignature { lane: statement.lane, seq: statement.seq, key })
}

/// As much of a reason as a log line bears.
fn shorten(why: &str) -> String {
    why.chars().take(200).collect()
}

/// Step 7. `now` is already no earlier than the newest statement applied.
pub(crate) fn check_expiry(statement: &Statement, now: UnixSeconds) -> Result<(), Refusal> {
    let Statement { lane, seq, expires, .. } = *statement;
    if now < expires { Ok(()) } else { Err(Refusal::Expired { lane, seq, expires, now }) }
}

/// The second half of step 8: a class above the threshold counts governors, which the one group
/// signature cannot show, and rebuilds, which only the ballots name.
fn check_approvals(
    statement: &Statement,
    id: Digest,
    policy: &Policy,
    class: Class,
    ballots: &[Envelope],
) -> Result<(), Refusal> {
    let (lane, seq, board) = (statement.lane, statement.seq, &policy.board);
    if class.approvals > board.threshold().0 {
        let counted = ballot::approvers(board, statement, id, ballots).len();
        let needed = usize::from(class.approvals);
        if counted < needed {
            return Err(Refusal::TooFewApprovals { lane, seq, counted, needed });
        }
    }
    let needed = usize::from(class.rebuilds());
    if needed > 0 {
        let counted = rebuild::matching(board, statement, id, ballots).len();
        if counted < needed {
            return Err(Refusal::TooFewRebuilds { lane, seq, counted, needed });
        }
    }
    Ok(())
}
