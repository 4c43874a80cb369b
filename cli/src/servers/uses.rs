//! Who joined with an invitation, and whether one more may: what nodes would say of it.
//!
//! A node counts those that it holds. It forgets who was evicted at once, and who lapsed after a week; from
//! then on their use is free again. Here they stay known, so the count leaves them out.

use std::collections::BTreeSet;

use borgios_policy::{Invitation, Join};
use borgios_types::{Digest, NodeId, UnixSeconds};

/// How long nodes hold who lapsed, in seconds: also the steps in which it is asked here who is held.
const LAPSED_KEPT_S: u64 = 7 * 86_400;
/// For how long an invitation has steps of its own, in seconds: as long as any can be asked for.
const LIFE_MAX_S: u64 = 3_660 * 86_400;
/// Most servers beyond an invitation's uses: of those that join past them each node takes whoever comes
/// first by hash, and keeps who was there.
pub(super) const OVERTAKEN_MAX: usize = 8;
/// How many times so many are let in whose first record had lapsed for good when it came. Whoever lives on has
/// such a record too, and folders hand over no renewal that would show it; so it is more than once.
const BYGONE_TIMES: usize = 8;

/// A node behind its place by hash.
type Ranked = (Digest, NodeId);

/// When a server's records lapse.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lapses {
    /// Its first record.
    pub(super) first: UnixSeconds,
    /// The last of those that count.
    pub(super) newest: UnixSeconds,
}

/// Whether nodes forgot a record by then that lapses at `expires`.
pub(super) fn is_bygone(expires: UnixSeconds, now: UnixSeconds) -> bool {
    expires.plus(LAPSED_KEPT_S) < now
}

/// The servers that joined with one invitation.
#[derive(Debug, Default)]
pub(super) struct Joined {
    /// In the order in which nodes count them.
    all: BTreeSet<Ranked>,
    /// Those of them that nodes hold to the end of a step, in the same order: newcomers come by their dates,
    /// so each step is looked at once, and one that is refused costs a hash and no more.
    held: Option<(u64, Vec<Ranked>)>,
    /// The clock, and how many of them have a first record that had lapsed for good by it.
    bygone: Option<(UnixSeconds, usize)>,
}

impl Joined {
    /// One more joined, with this first record.
    pub(super) fn insert(&mut self, invitation: &Invitation, first: &Join) {
        let one = ranked(invitation, first.node);
        if let Some((_, held)) = &mut self.held
            && let Err(place) = held.binary_search(&one)
        {
            held.insert(place, one);
        }
        let is_new = self.all.insert(one);
        if let Some((now, count)) = &mut self.bygone
            && is_new
            && is_bygone(first.expires, *now)
        {
            *count = count.saturating_add(1);
        }
    }

    /// These are no longer known here.
    pub(super) fn remove(&mut self, gone: &BTreeSet<NodeId>) {
        self.all.retain(|(_, node)| !gone.contains(node));
        self.look_anew();
    }

    /// Whether nobody did.
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Asks anew who is held: somebody may have been evicted.
    pub(super) fn look_anew(&mut self) {
        self.held = None;
        self.bygone = None;
    }

    /// Whether so many joined that nodes would refuse `newcomer` too, which is as yet unknown here.
    /// `lapses` says when the records of a node lapse; of one that was evicted, nothing.
    ///
    /// Nodes ask at the newcomer's date. Here it is the end of that date's week, so that nobody is refused
    /// whom they took; and who joined in a week counts to its end, whatever dates they gave themselves, so
    /// that no more than `uses` and a few come in with each. An invitation may be good for hundreds of weeks,
    /// and records of all of them can be made in a moment: so of those that by the clock `now` had lapsed for
    /// good, some times as many come in, whatever weeks they are of.
    pub(super) fn is_used_up(
        &mut self,
        invitation: &Invitation,
        newcomer: &Join,
        now: UnixSeconds,
        lapses: impl Fn(&NodeId) -> Option<Lapses>,
    ) -> bool {
        let uses = usize::try_from(invitation.uses).unwrap_or(usize::MAX);
        if self.all.len() < uses {
            return false;
        }
        let most = uses.saturating_add(OVERTAKEN_MAX);
        if is_bygone(newcomer.expires, now)
            && self.bygone(now, &lapses) >= most.saturating_mul(BYGONE_TIMES)
        {
            return true;
        }
        let step = newcomer.issued.min(invitation.issued.plus(LIFE_MAX_S)).0 / LAPSED_KEPT_S;
        if self.held.as_ref().is_none_or(|(of, _)| *of != step) {
            let end = UnixSeconds(step.saturating_add(1).saturating_mul(LAPSED_KEPT_S));
            let is_held =
                |node: &NodeId| lapses(node).is_some_and(|lapses| !is_bygone(lapses.newest, end));
            let held = self.all.iter().filter(|(_, node)| is_held(node)).copied().collect();
            self.held = Some((step, held));
        }
        let Some((_, held)) = &self.held else { return false };
        if held.len() < uses {
            return false;
        }
        let newcomer = ranked(invitation, newcomer.node);
        let before = held.partition_point(|one| *one < newcomer);
        held.len() >= most || before >= uses
    }

    /// How many of them have a first record that had lapsed for good by `now`. A renewal changes nothing in
    /// that, or room could be made with it.
    fn bygone(&mut self, now: UnixSeconds, lapses: &impl Fn(&NodeId) -> Option<Lapses>) -> usize {
        if let Some((at, count)) = self.bygone
            && at == now
        {
            return count;
        }
        let is_old =
            |node: &NodeId| lapses(node).is_some_and(|lapses| is_bygone(lapses.first, now));
        let count = self.all.iter().filter(|(_, node)| is_old(node)).count();
        self.bygone = Some((now, count));
        count
    }
}

/// A node's place among those that joined with an invitation: as [`Invitation::admits`] takes them.
fn ranked(invitation: &Invitation, node: NodeId) -> Ranked {
    (Digest::of_parts(&[&invitation.token.to_bytes(), &node.to_bytes()]), node)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use borgios_types::SecretKey;

    use super::*;

    const WEEK: u64 = LAPSED_KEPT_S;

    fn node(number: u64) -> NodeId {
        let mut seed = [3; 32];
        seed[..8].copy_from_slice(&number.to_le_bytes());
        SecretKey::from_seed(seed).public()
    }

    fn invitation(uses: u32) -> Invitation {
        let [issued, expires] = [UnixSeconds(0), UnixSeconds(60 * WEEK)];
        Invitation { network: Digest::of(b"lab"), token: node(0), uses, issued, expires }
    }

    fn join(number: u64, issued: u64) -> Join {
        Join {
            network: Digest::of(b"lab"),
            node: node(number),
            keeper: node(number + 1_000_000),
            name: "web-9".parse().unwrap(),
            address: None,
            owner: None,
            invitation: Digest::of(b"invitation"),
            issued: UnixSeconds(issued),
            expires: UnixSeconds(issued + 1),
        }
    }

    fn until(expires: UnixSeconds) -> Lapses {
        Lapses { first: expires, newest: expires }
    }

    #[test]
    fn the_order_is_that_of_the_nodes() {
        let (invitation, all) = (invitation(3), (1..=7).map(node));
        let all: BTreeSet<NodeId> = all.collect();
        let mut ranks: Vec<Ranked> = all.iter().map(|node| ranked(&invitation, *node)).collect();
        ranks.sort_unstable();
        let first: BTreeSet<NodeId> = ranks.iter().take(3).map(|(_, node)| *node).collect();
        assert_eq!(first, invitation.admits(&all));
    }

    /// Whoever holds one may sign records by the thousand.
    #[test]
    fn a_refused_newcomer_costs_no_look_at_the_others() {
        let (invitation, mut joined) = (invitation(20), Joined::default());
        (1..=28).for_each(|number| joined.insert(&invitation, &join(number, WEEK)));
        let looks = Cell::new(0);
        for number in 100..1_100 {
            let lapses = |_: &NodeId| {
                looks.set(looks.get() + 1);
                Some(until(UnixSeconds(3 * WEEK)))
            };
            let newcomer = join(number, WEEK + number);
            assert!(joined.is_used_up(&invitation, &newcomer, UnixSeconds(2 * WEEK), lapses));
        }
        assert_eq!(looks.get(), 28);
    }

    /// Dates are theirs to choose: none makes room for more within a week.
    #[test]
    fn short_records_let_in_a_few_each_week() {
        let (invitation, mut joined) = (invitation(1), Joined::default());
        let mut taken = std::collections::BTreeMap::new();
        for number in 0..400 {
            let newcomer = join(number, number * WEEK / 100);
            let lapses = |node: &NodeId| taken.get(node).copied();
            if !joined.is_used_up(&invitation, &newcomer, newcomer.issued, lapses) {
                joined.insert(&invitation, &newcomer);
                taken.insert(newcomer.node, until(newcomer.expires));
            }
        }
        let most = 4 * (1 + OVERTAKEN_MAX);
        assert!((1..=most).contains(&taken.len()), "{}", taken.len());
    }

    /// All at once, of each week that an invitation is good for; and looking again makes no room for more.
    #[test]
    fn weeks_that_are_gone_let_in_no_more_each() {
        let (invitation, mut joined) = (invitation(1), Joined::default());
        let now = UnixSeconds(60 * WEEK);
        let mut taken = std::collections::BTreeMap::<NodeId, Lapses>::new();
        for number in 0..6_000 {
            if number % 500 == 0 {
                joined.look_anew();
            }
            let newcomer = join(number, number * WEEK / 100);
            let lapses = |node: &NodeId| taken.get(node).copied();
            if is_bygone(newcomer.expires, now)
                && !joined.is_used_up(&invitation, &newcomer, now, lapses)
            {
                joined.insert(&invitation, &newcomer);
                taken.insert(newcomer.node, until(newcomer.expires));
            }
        }
        let most = BYGONE_TIMES * (1 + OVERTAKEN_MAX);
        assert!((1..=most).contains(&taken.len()), "{}", taken.len());
        // Who comes now is not kept out by any of those that lapsed.
        let lapses = |node: &NodeId| taken.get(node).copied();
        let later = join(9_000, 62 * WEEK);
        assert!(!joined.is_used_up(&invitation, &later, later.issued, lapses));
    }
}
