//! What a neighbour is sent that follows a lane.

use std::collections::BTreeMap;
use std::sync::Arc;

use borgios_peertree::Head;
use borgios_policy::{Lane, VerifiedStatement};
use borgios_types::Seq;

use super::Ledger;
use crate::store::Stored;

/// Most statements of all lanes in one answer to who follows the policies.
const FOLLOW_MAX: usize = 1_024;

impl Ledger {
    /// Statements to send to a neighbour whose head of `lane` is `after`, in the order in which they were
    /// applied: at most `most` of that lane. `has` is where it is in each lane, as it said last.
    ///
    /// Of the policies with all that was applied in between and that it lacks, so that each release comes
    /// before the policy that ended its time. Of another lane nothing else, however much of others lies
    /// before it, and none of behind the next policy that it lacks: that one is followed by itself.
    #[must_use]
    pub fn follow(
        &self,
        lane: Lane,
        after: Seq,
        most: usize,
        has: &BTreeMap<Lane, Head>,
    ) -> Vec<Arc<Stored>> {
        if self.chain.head_seq(lane) <= after {
            return Vec::new();
        }
        // Of a place that was closed, what closed it.
        let closed = self.chain.settled(lane, after).filter(|settled| settled.winner.is_none());
        let (at_lane, at) = closed.map_or((lane, after), |settled| (Lane::Policy, settled.policy));
        let known = self.chain.history().position(|verified| {
            let statement = verified.statement();
            statement.lane == at_lane && statement.seq == at
        });
        let first = known.map_or(0, |at| at + 1);
        if lane != Lane::Policy {
            let policies = has.get(&Lane::Policy).map_or(0, |head| head.seq);
            let follows = |verified: &&VerifiedStatement| {
                let statement = verified.statement();
                statement.lane == lane && statement.seq > after
            };
            let from = self.chain.history().skip(first);
            return from
                .skip_while(|verified| !follows(verified))
                .take_while(|verified| {
                    let statement = verified.statement();
                    statement.lane != Lane::Policy || statement.seq <= Seq(policies)
                })
                .filter(follows)
                .take(most)
                .filter_map(|verified| self.store.get(&verified.id()).cloned())
                .collect();
        }
        let mut left = most;
        self.between_policies(first, has)
            .into_iter()
            .take_while(|verified| {
                let of_lane = verified.statement().lane == lane;
                let wanted = left > 0;
                left -= usize::from(of_lane && wanted);
                wanted
            })
            .filter_map(|verified| self.store.get(&verified.id()).cloned())
            .collect()
    }

    /// Of the history from its statement number `first` on all policies, and what a neighbour that is at
    /// `has` lacks of the other lanes: at most [`FOLLOW_MAX`].
    fn between_policies(
        &self,
        first: usize,
        has: &BTreeMap<Lane, Head>,
    ) -> Vec<&VerifiedStatement> {
        let mut shared: BTreeMap<Lane, Seq> =
            has.iter().map(|(lane, head)| (*lane, Seq(head.seq))).collect();
        let mut without_branches = shared.clone();
        let ruled = self.first_ruled(first);
        for (lane, head) in has {
            // It may be on another branch: a policy that it lacks says which one counts from there on.
            if let Some(place) = ruled.get(lane)
                && !self.leads_to(*lane, head)
            {
                let before = Seq(place.0.saturating_sub(1));
                shared.insert(*lane, before.min(Seq(head.seq)));
                without_branches.insert(*lane, Seq(u64::MAX));
            }
        }
        let is_policy = |verified: &&VerifiedStatement| verified.statement().lane == Lane::Policy;
        let page = self.lacking(first, &shared);
        if page.len() < FOLLOW_MAX || page.iter().any(is_policy) {
            return page;
        }
        // On another branch nothing is taken in before the policy: the same page would go there for ever.
        let mut page = self.lacking(first, &without_branches);
        if let Some(next) = page.iter().position(is_policy) {
            page.truncate(next + 1);
        }
        page
    }

    /// Of the history from its statement number `first` on all policies, and what is behind `shared` in the
    /// other lanes: at most [`FOLLOW_MAX`].
    fn lacking(&self, first: usize, shared: &BTreeMap<Lane, Seq>) -> Vec<&VerifiedStatement> {
        let lacks = |verified: &&VerifiedStatement| {
            let statement = verified.statement();
            let is_behind = |last: &Seq| statement.seq > *last;
            statement.lane == Lane::Policy || shared.get(&statement.lane).is_none_or(is_behind)
        };
        self.chain.history().skip(first).filter(lacks).take(FOLLOW_MAX).collect()
    }

    /// The first place of each lane on which a policy rules that stands in the history from its statement
    /// number `first` on: what lies before it is the same for all who go on from there.
    fn first_ruled(&self, first: usize) -> BTreeMap<Lane, Seq> {
        let policies = self.chain.history().skip(first).filter_map(VerifiedStatement::policy);
        let mut ruled: BTreeMap<Lane, Seq> = BTreeMap::new();
        for ruling in policies.flat_map(|policy| &policy.rulings) {
            let place = ruled.entry(ruling.lane).or_insert(ruling.seq);
            *place = ruling.seq.min(*place);
        }
        ruled
    }

    /// Whether whoever has this end of a lane has what stands here up to its number. It may be that of
    /// another branch, which has the numbers and not the statements.
    fn leads_to(&self, lane: Lane, head: &Head) -> bool {
        let at = Seq(head.seq);
        let closed = self.chain.settled(lane, at).filter(|settled| settled.winner.is_none());
        self.chain.known(&head.id) == Some((lane, at))
            || closed.is_some_and(|settled| settled.by == head.id)
    }
}
