//! Policies that go on where another one is in force than the one they follow: [`Policy::unites`].
//!
//! ```text
//! policy/2 A, with rulings a ──┐ void at whoever has A
//!                              ├──▶ policy/3 upon B, unites {A}, rulings b (`by` B), and what becomes of a
//! policy/2 B, with rulings b ──┘ they stand at whoever has B
//! ```
//!
//! Nothing that counts where the predecessor is in force changes there; the others come to the same.

use borgios_types::{Digest, Seq};

use crate::chain::Chain;
use crate::lane::Lane;
use crate::places::Settled;
use crate::policy::Policy;
use crate::rules::{Ruling, SettledBy};
use crate::statement::VerifiedStatement;

impl Chain {
    /// Whether `made`, as the next policy, follows the one in force here, though its board stands on
    /// another one of that place.
    pub(crate) fn is_united(&self, made: &Policy) -> bool {
        self.head(Lane::Policy).is_some_and(|head| made.unites.contains(&head.id()))
    }

    /// Whether a policy applied here would have followed this one as well.
    pub(crate) fn is_united_with(&self, other: &Digest) -> bool {
        self.after(Lane::Policy, Seq(0)).any(|verified| {
            let named = verified.statement().prev == Some(*other);
            named || verified.policy().is_some_and(|policy| policy.unites.contains(other))
        })
    }

    /// The rulings of a policy that unites `others` with the one in force here. What that one settled or
    /// repeated is repeated, and so is what any policy settled here of which those say something: where they
    /// are in force that is void too if they only repeated it. Of what those settled beside that stands what
    /// stands here, and a place at which nothing does is closed: a winner of theirs may follow what never
    /// comes here, and would end its lane. `from` is the lowest place of the lane `policy` at which there are
    /// several.
    #[must_use]
    pub fn uniting_rulings<'a>(
        &self,
        from: Seq,
        others: impl IntoIterator<Item = &'a Policy>,
    ) -> Vec<Ruling> {
        let here =
            self.all_settled().filter(|(at, settled)| settled.policy >= from || self.head_says(at));
        let mut rulings: Vec<Ruling> =
            here.map(|((lane, seq), settled)| repeated(*lane, *seq, settled)).collect();
        for Ruling { lane, seq, .. } in others.into_iter().flat_map(|policy| &policy.rulings) {
            let said = rulings.iter().any(|one| (one.lane, one.seq) == (*lane, *seq));
            if !said {
                let stands = || self.get(*lane, *seq).map(VerifiedStatement::id);
                rulings.push(match self.settled(*lane, *seq) {
                    Some(settled) => repeated(*lane, *seq, settled),
                    None => Ruling::new(*lane, *seq, stands()),
                });
            }
        }
        rulings
    }

    /// Whether the policy in force says something of this place.
    fn head_says(&self, (lane, seq): &(Lane, Seq)) -> bool {
        let mut rulings = self.policy().into_iter().flat_map(|policy| &policy.rulings);
        rulings.any(|one| (one.lane, one.seq) == (*lane, *seq))
    }

    /// What holds of a draft of the next policy that unites others: what the one before it says of places
    /// holds everywhere once it is signed.
    pub(crate) fn check_uniting(&self, made: &Policy) -> Result<(), String> {
        if made.unites.is_empty() {
            return Ok(());
        }
        if let Some(id) = made.unites.iter().find(|id| self.known(id).is_some()) {
            return Err(format!("it unites {} with itself: that is in force here", id.short()));
        }
        let said = |lane: Lane, seq: Seq| {
            made.rulings.iter().find(|ruling| (ruling.lane, ruling.seq) == (lane, seq))
        };
        for ((lane, seq), settled) in self.all_settled() {
            let here = SettledBy { policy: settled.policy, id: settled.by };
            match said(*lane, *seq) {
                Some(ruling) if ruling.by == Some(here) => {}
                None if !self.head_says(&(*lane, *seq)) => {}
                Some(_) | None => {
                    let policy = settled.policy;
                    return Err(format!(
                        "it unites policies, and does not repeat what policy/{policy} said of {lane}/{seq}"
                    ));
                }
            }
        }
        for Ruling { lane, seq, by, .. } in &made.rulings {
            if let Some(SettledBy { policy, .. }) = by
                && self.settled(*lane, *seq).is_none()
            {
                return Err(format!("policy/{policy} did not settle {lane}/{seq}, as it says"));
            }
        }
        Ok(())
    }
}

/// A ruling that says again how a place was settled.
fn repeated(lane: Lane, seq: Seq, settled: &Settled) -> Ruling {
    let Settled { winner, policy, by } = *settled;
    Ruling { lane, seq, winner, by: Some(SettledBy { policy, id: by }) }
}
