//! A policy that was vetoed late is in force at some holders while its next round is at others: the
//! policy after that unites them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may stop")]

mod holder;

use std::collections::BTreeSet;

use borgios_policy::fixture::{Council, NOW, statement};
use borgios_policy::gate::Standing;
use borgios_policy::policy::UNITES_MAX;
use borgios_policy::{Lane, Policy, PolicyError, Refusal, Ruling, SettledBy, Statement};
use borgios_types::{Digest, Envelope, Round, Seq, UnixSeconds};
use holder::{Holder, LOCK_S, board, next, release, run, veto};

/// When both holders below have a policy/2.
const APART: UnixSeconds = UnixSeconds(NOW.0 + 3 * LOCK_S);

/// Two holders after late vetoes of `bad`, whose next round is `good`.
struct Apart {
    council: Council,
    /// Applied `bad` before the vetoes came.
    late: Holder,
    /// Heard them in time, and then applied `good`.
    early: Holder,
    bad: Envelope,
    good: Envelope,
}

fn apart(bad: impl FnOnce(&mut Policy), good: impl FnOnce(&mut Policy)) -> Apart {
    let (council, first) = board(|policy| policy.classes.policy.lock_s = Some(LOCK_S));
    let (mut early, mut late) = (Holder::new(&first), Holder::new(&first));
    let mut rules = early.chain.policy().unwrap().clone();
    let mut again = rules.clone();
    rules.fanout = 9;
    bad(&mut rules);
    again.fanout = 10;
    good(&mut again);
    let bad = council.sign(&next(&early.chain, Lane::Policy, rules.to_body()));
    let good = next(&early.chain, Lane::Policy, again.to_body());
    let good = council.sign(&Statement { round: Round(1), ..good });
    early.offer(NOW, &bad).unwrap();
    late.offer(NOW, &bad).unwrap();
    for at in [0, 1] {
        let no = veto(&early, &council, at, &bad);
        assert!(early.gate.object(NOW, &early.chain, &no).unwrap());
    }
    run(&mut early, NOW, NOW.plus(LOCK_S));
    run(&mut late, NOW, NOW.plus(LOCK_S));
    early.offer(NOW.plus(LOCK_S), &good).unwrap();
    let refused = late.offer(NOW.plus(LOCK_S), &good);
    assert!(matches!(refused, Err(Refusal::Rival { .. })), "{refused:?}");
    run(&mut early, NOW.plus(LOCK_S), APART);
    run(&mut late, NOW.plus(LOCK_S), APART);
    assert_eq!(early.chain.head(Lane::Policy).unwrap().id(), good.id());
    assert_eq!(late.chain.head(Lane::Policy).unwrap().id(), bad.id());
    Apart { council, late, early, bad, good }
}

/// policy/3 upon `below`, which unites `with` that.
fn third(of: &Apart, below: &Envelope, with: &[Digest], fanout: u16) -> Statement {
    let mut rules = of.early.chain.policy().unwrap().clone();
    rules.rulings.clear();
    (rules.fanout, rules.unites) = (fanout, with.iter().copied().collect());
    let network = of.early.chain.network();
    statement(Lane::Policy, 3, network, Some(below.id()), Some(2), rules.to_body())
}

#[test]
fn the_policy_after_the_next_round_is_in_force_at_both() {
    let mut of = apart(|_| (), |_| ());
    let (bad, good) = (of.bad.clone(), of.good.clone());
    let united = of.council.sign(&third(&of, &good, &[bad.id()], 7));
    let over = APART.plus(LOCK_S);
    for holder in [&mut of.early, &mut of.late] {
        holder.offer(APART, &united).unwrap();
        holder.restart();
        // A lock of its own, here as there.
        run(holder, APART, UnixSeconds(over.0 - 1));
        assert_eq!(holder.head(Lane::Policy), 2);
        holder.tick(over);
        assert_eq!(holder.chain.head(Lane::Policy).unwrap().id(), united.id());
        assert_eq!(holder.chain.policy().unwrap().fanout, 7);
        // And from there on in the same way.
        let fourth = of.council.sign(&next(&holder.chain, Lane::Policy, of_fanout(holder, 8)));
        holder.offer(over, &fourth).unwrap();
        run(holder, over, over.plus(LOCK_S));
        assert_eq!(holder.chain.policy().unwrap().fanout, 8);
    }
    // What each applied verifies again in its order.
    for holder in [&of.early, &of.late] {
        let stored = holder.chain.history().map(|one| one.envelope().clone());
        let again = borgios_policy::Chain::restore(holder.chain.network(), stored).unwrap();
        assert_eq!(again.head_seq(Lane::Policy), Seq(4));
    }
}

fn of_fanout(holder: &Holder, fanout: u16) -> serde_json::Value {
    let mut rules = holder.chain.policy().unwrap().clone();
    rules.unites.clear();
    rules.fanout = fanout;
    rules.to_body()
}

#[test]
fn one_that_does_not_name_it_is_a_rival_there() {
    let mut of = apart(|_| (), |_| ());
    let (good, other) = (of.good.clone(), Digest::of(b"another"));
    for with in [&[][..], &[other][..]] {
        let third = of.council.sign(&third(&of, &good, with, 7));
        let refused = of.late.offer(APART, &third);
        assert!(matches!(refused, Err(Refusal::Rival { .. })), "{refused:?}");
    }
}

const PLACE: Seq = Seq(1);

fn closes(policy: &mut Policy) {
    policy.rulings = vec![Ruling::new(Lane::Release, PLACE, None)];
}

/// Signs the policy that unites both, with the rulings that tools give it, and lets both apply it.
fn unite(of: &mut Apart) -> Envelope {
    let bad = Policy::parse(&Statement::parse(&of.bad).unwrap().body).unwrap();
    let mut draft = third(of, &of.good, &[of.bad.id()], 7);
    let mut rules = Policy::parse(&draft.body).unwrap();
    rules.rulings = of.early.chain.uniting_rulings(Seq(2), [&bad]);
    draft.body = rules.to_body();
    let reviewed = Statement { issued: APART, expires: APART.plus(9 * LOCK_S), ..draft.clone() };
    of.early.chain.review(APART, &unsigned(&reviewed)).unwrap();
    let united = of.council.sign(&draft);
    for holder in [&mut of.early, &mut of.late] {
        holder.offer(APART, &united).unwrap();
        run(holder, APART, APART.plus(LOCK_S));
        assert_eq!(holder.chain.head(Lane::Policy).unwrap().id(), united.id());
    }
    united
}

/// Both hold the same at every place of the lane, go on in the same way, and verify again.
fn same(of: &mut Apart) {
    let now = APART.plus(LOCK_S);
    assert_eq!(of.early.chain.tip(Lane::Release), of.late.chain.tip(Lane::Release));
    let ids = |holder: &Holder| -> Vec<Digest> {
        holder.chain.after(Lane::Release, Seq(0)).map(|one| one.id()).collect()
    };
    assert_eq!(ids(&of.early), ids(&of.late));
    let next = release(&of.late, &of.council, "9.0");
    for holder in [&mut of.early, &mut of.late] {
        holder.offer(now, &next).unwrap();
        run(holder, now, now.plus(LOCK_S));
        assert_eq!(holder.chain.head(Lane::Release).unwrap().id(), next.id());
        let stored: Vec<Envelope> =
            holder.chain.history().map(|one| one.envelope().clone()).collect();
        let again = borgios_policy::Chain::restore(holder.chain.network(), stored).unwrap();
        assert_eq!(again.tip(Lane::Release), holder.chain.tip(Lane::Release));
        // As the store of an agent, in which also what lost its place lies.
        let all = holder.chain.history().chain(holder.chain.overruled());
        let all = all.map(|one| one.envelope().clone());
        let again = borgios_policy::Chain::restore(holder.chain.network(), all).unwrap();
        assert_eq!(again.tip(Lane::Release), holder.chain.tip(Lane::Release));
    }
    assert_eq!(ids(&of.early), ids(&of.late));
}

fn apply(holder: &mut Holder, now: UnixSeconds, one: &Envelope) {
    holder.offer(now, one).unwrap();
    run(holder, now, now.plus(LOCK_S));
    assert!(holder.chain.known(&one.id()).is_some());
}

/// Where the predecessor is in force, nothing that counts there changes.
#[test]
fn what_the_other_one_closed_is_open_again_for_what_stands_here() {
    let mut of = apart(closes, |_| ());
    let here = release(&of.early, &of.council, "1.0");
    let start = UnixSeconds(APART.0 - LOCK_S);
    apply(&mut of.early, start, &here);
    assert!(matches!(of.late.offer(start, &here), Err(Refusal::Closed { .. })));
    let there = release(&of.late, &of.council, "1.1");
    apply(&mut of.late, start, &there);
    unite(&mut of);
    let now = APART.plus(LOCK_S);
    assert_eq!(of.early.chain.get(Lane::Release, PLACE).unwrap().id(), here.id());
    assert_eq!(of.late.chain.head_seq(Lane::Release), Seq(0));
    assert_eq!(of.late.chain.overruled().map(|one| one.id()).collect::<Vec<_>>(), [there.id()]);
    apply(&mut of.late, now, &here);
    same(&mut of);
}

#[test]
fn what_the_predecessor_closed_is_closed_by_it_everywhere() {
    let mut of = apart(|_| (), closes);
    let there = release(&of.late, &of.council, "1.0");
    let start = UnixSeconds(APART.0 - LOCK_S);
    apply(&mut of.late, start, &there);
    let here = release(&of.early, &of.council, "1.1");
    apply(&mut of.early, start, &here);
    unite(&mut of);
    for holder in [&of.early, &of.late] {
        let settled = holder.chain.settled(Lane::Release, PLACE).unwrap();
        assert_eq!((settled.policy, settled.by), (Seq(2), of.good.id()));
    }
    // The lane goes on at the other holder as it went on here.
    apply(&mut of.late, APART.plus(LOCK_S), &here);
    same(&mut of);
}

#[test]
fn what_both_closed_is_closed_by_the_predecessor() {
    let mut of = apart(closes, closes);
    let start = UnixSeconds(APART.0 - LOCK_S);
    let (here, there) =
        (release(&of.early, &of.council, "1.0"), release(&of.late, &of.council, "1.1"));
    apply(&mut of.early, start, &here);
    apply(&mut of.late, start, &there);
    unite(&mut of);
    apply(&mut of.late, APART.plus(LOCK_S), &here);
    same(&mut of);
}

/// A release of before, and what was built upon it.
#[test]
fn what_a_void_ruling_took_back_has_its_place_again() {
    let (council, first) = board(|policy| policy.classes.policy.lock_s = Some(LOCK_S));
    let before = Holder::new(&first);
    let one = release(&before, &council, "0.1");
    let mut of = apart(closes, |_| ());
    let start = UnixSeconds(APART.0 - LOCK_S);
    // As if the late one had had it before the policy that closed its place.
    let mut late = Holder::new(&first);
    late.offer(NOW, &one).unwrap();
    run(&mut late, NOW, NOW.plus(LOCK_S));
    late.offer(NOW.plus(LOCK_S), &of.bad).unwrap();
    run(&mut late, NOW.plus(LOCK_S), start);
    assert_eq!(late.chain.overruled().map(|one| one.id()).collect::<Vec<_>>(), [one.id()]);
    of.late = late;
    apply(&mut of.early, start, &one);
    let count = of.late.chain.rulings_count();
    unite(&mut of);
    assert!(of.late.chain.rulings_count() > count, "whoever keeps files hears of it");
    assert_eq!(of.late.chain.overruled().count(), 0);
    assert_eq!(of.late.chain.get(Lane::Release, PLACE).unwrap().id(), one.id());
    same(&mut of);
}

/// What came in behind the place is judged at a start as it was when it came: later policies ask for more.
#[test]
fn a_start_takes_what_stands_behind_a_closed_place_before_later_policies() {
    let mut of = apart(|_| (), closes);
    let here = release(&of.early, &of.council, "1.1");
    apply(&mut of.early, UnixSeconds(APART.0 - LOCK_S), &here);
    unite(&mut of);
    let now = APART.plus(LOCK_S);
    apply(&mut of.late, now, &here);
    let mut rules = of.late.chain.policy().unwrap().clone();
    (rules.unites, rules.rulings) = (BTreeSet::new(), Vec::new());
    rules.classes.release.approvals = 3;
    let fourth = of.council.sign(&next(&of.late.chain, Lane::Policy, rules.to_body()));
    apply(&mut of.late, now.plus(LOCK_S), &fourth);
    let stored = of.late.chain.history().map(|one| one.envelope().clone());
    let again = borgios_policy::Chain::restore(of.late.chain.network(), stored).unwrap();
    assert_eq!(again.tip(Lane::Release), of.late.chain.tip(Lane::Release));
    assert_eq!(again.known(&here.id()), Some((Lane::Release, Seq(2))));
}

/// The other policy names a winner that follows what its place is closed before here.
#[test]
fn a_winner_that_could_never_follow_ends_no_lane() {
    let winner = Digest::of(b"a release upon release/1");
    let settles = |policy: &mut Policy| {
        policy.rulings = vec![Ruling::new(Lane::Release, Seq(2), Some(winner))];
    };
    let mut of = apart(settles, closes);
    unite(&mut of);
    assert_eq!(of.early.chain.settled(Lane::Release, Seq(2)).unwrap().winner, None);
    same(&mut of);
}

/// Two that unite in opposite directions, as after late vetoes of the first of them; the next one unites
/// those.
#[test]
fn what_a_united_policy_only_repeated_is_void_too() {
    let of = apart(closes, closes);
    let by = |policy: &Envelope| Some(SettledBy { policy: Seq(2), id: policy.id() });
    let third = |below: &Envelope, with: &Envelope, round, fanout| {
        let mut rules = of.early.chain.policy().unwrap().clone();
        (rules.fanout, rules.unites) = (fanout, [with.id()].into());
        rules.rulings = vec![Ruling { by: by(below), ..Ruling::new(Lane::Release, PLACE, None) }];
        let (network, below) = (of.early.chain.network(), Some(below.id()));
        let draft = statement(Lane::Policy, 3, network, below, Some(2), rules.to_body());
        of.council.sign(&Statement { round: Round(round), ..draft })
    };
    let (one, other) = (third(&of.good, &of.bad, 0, 7), third(&of.bad, &of.good, 1, 8));
    let (mut early, mut late) = (of.early, of.late);
    apply(&mut early, APART, &one);
    apply(&mut late, APART, &other);
    assert_ne!(early.chain.tip(Lane::Release), late.chain.tip(Lane::Release));
    let made = late.chain.policy().unwrap().clone();
    let mut rules = early.chain.policy().unwrap().clone();
    rules.unites = [other.id()].into();
    rules.rulings = early.chain.uniting_rulings(Seq(3), [&made]);
    let draft = next(&early.chain, Lane::Policy, rules.to_body());
    let now = APART.plus(LOCK_S);
    let reviewed = Statement { issued: now, expires: now.plus(9 * LOCK_S), ..draft.clone() };
    early.chain.review(now, &unsigned(&reviewed)).unwrap();
    let fourth = of.council.sign(&draft);
    for holder in [&mut early, &mut late] {
        apply(holder, now, &fourth);
        let settled = holder.chain.settled(Lane::Release, PLACE).unwrap();
        assert_eq!((settled.policy, settled.by), (Seq(2), of.good.id()));
    }
}

/// Both stand on a policy that closed a place. One of the next policies unites that with a twin, and so says
/// it again; the other one knows of no twin, and says nothing.
#[test]
fn what_both_had_settled_before_stays_settled_at_both() {
    let (council, first) = board(|_| ());
    let (mut early, mut late) = (Holder::new(&first), Holder::new(&first));
    let one = release(&early, &council, "0.1");
    let mut rules = early.chain.policy().unwrap().clone();
    closes(&mut rules);
    let closing = council.sign(&next(&early.chain, Lane::Policy, rules.to_body()));
    let at = |locks: u64| NOW.plus(locks * LOCK_S);
    for holder in [&mut early, &mut late] {
        apply(holder, at(0), &one);
        apply(holder, at(1), &closing);
    }
    let behind = release(&early, &council, "1.0");
    let by = Some(SettledBy { policy: Seq(2), id: closing.id() });
    rules.rulings.clear();
    let good = council.sign(&next(&early.chain, Lane::Policy, rules.to_body()));
    rules.unites = [Digest::of(b"a twin of the one that closed it")].into();
    rules.rulings = vec![Ruling { by, ..Ruling::new(Lane::Release, PLACE, None) }];
    let bad = council.sign(&next(&late.chain, Lane::Policy, rules.to_body()));
    for (holder, third) in [(&mut early, &good), (&mut late, &bad)] {
        apply(holder, at(2), &behind);
        apply(holder, at(3), third);
    }
    let made = late.chain.policy().unwrap().clone();
    let mut rules = early.chain.policy().unwrap().clone();
    rules.unites = [bad.id()].into();
    rules.rulings = early.chain.uniting_rulings(Seq(3), [&made]);
    let draft = next(&early.chain, Lane::Policy, rules.to_body());
    let reviewed = Statement { issued: at(4), expires: at(9), ..draft.clone() };
    early.chain.review(at(4), &unsigned(&reviewed)).unwrap();
    let fourth = council.sign(&draft);
    for holder in [&mut early, &mut late] {
        apply(holder, at(4), &fourth);
        let settled = holder.chain.settled(Lane::Release, PLACE).unwrap();
        assert_eq!((settled.winner, settled.by), (None, closing.id()));
        assert_eq!(holder.chain.head(Lane::Release).unwrap().id(), behind.id());
        assert_eq!(holder.chain.overruled().map(|one| one.id()).collect::<Vec<_>>(), [one.id()]);
    }
}

/// Whoever proposes by hand is told; what is signed all the same is taken, or a holder would be left.
#[test]
fn a_draft_says_again_what_stands() {
    let of = apart(|_| (), closes);
    let draft = third(&of, &of.good, &[of.bad.id()], 7);
    let why = |rulings: Vec<Ruling>| {
        let mut rules = Policy::parse(&draft.body).unwrap();
        rules.rulings = rulings;
        let (issued, expires) = (APART, APART.plus(9 * LOCK_S));
        let draft = Statement { issued, expires, body: rules.to_body(), ..draft.clone() };
        match of.early.chain.review(APART, &unsigned(&draft)) {
            Err(Refusal::BadBody { why, .. }) => why,
            other => panic!("{other:?}"),
        }
    };
    let by = |policy: u64, id: Digest| Some(SettledBy { policy: Seq(policy), id });
    let closed = Ruling::new(Lane::Release, PLACE, None);
    let elsewhere = Ruling { seq: Seq(2), by: by(2, of.good.id()), ..closed };
    let good = Ruling { by: by(2, of.good.id()), ..closed };
    for rulings in [vec![], vec![closed], vec![Ruling { by: by(1, of.good.id()), ..closed }]] {
        assert!(why(rulings).contains("does not repeat"));
    }
    assert!(why(vec![good, elsewhere]).contains("did not settle"));
    let mut itself = Policy::parse(&draft.body).unwrap();
    (itself.unites, itself.rulings) = ([of.good.id()].into(), vec![good]);
    let itself = Statement { issued: APART, body: itself.to_body(), ..draft.clone() };
    let refused = of.early.chain.review(APART, &unsigned(&itself));
    assert!(
        matches!(&refused, Err(Refusal::BadBody { why, .. }) if why.contains("itself")),
        "{refused:?}"
    );
    assert!(why(vec![Ruling { by: by(3, of.good.id()), ..closed }]).contains("repeats"));
    let mut alone = of.early.chain.policy().unwrap().clone();
    alone.rulings = vec![good];
    let repeats = PolicyError::Repeats { lane: Lane::Release, seq: PLACE };
    assert_eq!(alone.validate(), Err(repeats));
}

fn unsigned(draft: &Statement) -> Envelope {
    draft.to_envelope()
}

/// Its lock runs beside the other one's.
#[test]
fn a_holder_that_still_locks_the_vetoed_one_follows_it_too() {
    let of = apart(|_| (), |_| ());
    let first = of.early.chain.get(Lane::Policy, Seq(1)).unwrap().envelope().clone();
    let mut slow = Holder::new(&first);
    let united = of.council.sign(&third(&of, &of.good, &[of.bad.id()], 7));
    slow.offer(APART, &of.bad).unwrap();
    slow.offer(APART.plus(600), &united).unwrap();
    assert_eq!(slow.standing(APART.plus(600), &united), Some(Standing::Behind));
    run(&mut slow, APART, APART.plus(LOCK_S));
    assert_eq!(slow.chain.head(Lane::Policy).unwrap().id(), of.bad.id());
    let over = APART.plus(600 + LOCK_S);
    run(&mut slow, APART.plus(LOCK_S), UnixSeconds(over.0 - 1));
    let until = Some(Standing::Waiting { until: over });
    assert_eq!(slow.standing(UnixSeconds(over.0 - 1), &united), until);
    slow.tick(over);
    assert_eq!(slow.chain.head(Lane::Policy).unwrap().id(), united.id());
}

/// The board cannot go on from both.
#[test]
fn one_upon_each_of_them_freeze_each_other() {
    let mut of = apart(|_| (), |_| ());
    let united = of.council.sign(&third(&of, &of.good, &[of.bad.id()], 7));
    let upon = of.council.sign(&third(&of, &of.bad, &[], 8));
    for (one, other) in [(&united, &upon), (&upon, &united)] {
        of.late.offer(APART, one).unwrap();
        drop(of.late.offer(APART, other));
    }
    run(&mut of.late, APART, APART.plus(2 * LOCK_S));
    assert_eq!(of.late.head(Lane::Policy), 2);
    for (one, other) in [(&united, &upon), (&upon, &united)] {
        let rivals = vec![other.id()];
        let standing = of.late.standing(APART.plus(2 * LOCK_S), one);
        assert_eq!(standing, Some(Standing::Frozen { rivals }));
    }
    // Vetoes of the one let the other go on, here as elsewhere.
    for at in [0, 1] {
        let no = veto(&of.late, &of.council, at, &upon);
        of.late.gate.object(APART.plus(2 * LOCK_S), &of.late.chain, &no).unwrap();
    }
    of.late.tick(APART.plus(2 * LOCK_S));
    assert_eq!(of.late.chain.head(Lane::Policy).unwrap().id(), united.id());
}

/// Only the board in force where it counts can unite: another group key's word is none.
#[test]
fn another_board_unites_nobody() {
    let mut of = apart(|_| (), |_| ());
    let stranger = Council::new(3, 2, 1, 99);
    let forged = stranger.sign(&third(&of, &of.good, &[of.bad.id()], 7));
    let refused = of.late.offer(APART, &forged);
    assert!(matches!(refused, Err(Refusal::BadSignature { .. })), "{refused:?}");
}

#[test]
fn it_names_few() {
    let (council, first) = board(|_| ());
    let holder = Holder::new(&first);
    let mut rules = holder.chain.policy().unwrap().clone();
    let ids = |count: usize| (0..count).map(|at| Digest::of(&[u8::try_from(at).unwrap()]));
    rules.unites = ids(UNITES_MAX).collect();
    rules.validate().unwrap();
    rules.unites = ids(UNITES_MAX + 1).collect::<BTreeSet<_>>();
    assert_eq!(rules.validate(), Err(PolicyError::Unites(UNITES_MAX + 1)));
    let mut holder = holder;
    let refused =
        holder.offer(NOW, &council.sign(&next(&holder.chain, Lane::Policy, rules.to_body())));
    assert!(matches!(refused, Err(Refusal::BadBody { .. })), "{refused:?}");
}

/// All whom it hears have the vetoed one, and take no other for its place.
#[test]
fn a_holder_that_never_hears_of_the_next_round_goes_on_from_the_vetoed_one() {
    let of = apart(|_| (), |_| ());
    let first = of.early.chain.get(Lane::Policy, Seq(1)).unwrap().envelope().clone();
    let united = of.council.sign(&third(&of, &of.good, &[of.bad.id()], 7));
    for hears_of_it in [false, true] {
        let mut holder = Holder::new(&first);
        holder.offer(APART, &of.bad).unwrap();
        for at in [0, 1] {
            let no = veto(&holder, &of.council, at, &of.bad);
            assert!(holder.gate.object(APART, &holder.chain, &no).unwrap());
        }
        holder.offer(APART.plus(600), &united).unwrap();
        let over = APART.plus(600 + LOCK_S);
        let standing = holder.standing(APART.plus(600), &of.bad);
        let back = Some(over);
        assert!(
            matches!(&standing, Some(Standing::Vetoed { back: until, .. }) if *until == back),
            "{standing:?}"
        );
        if hears_of_it {
            holder.offer(APART.plus(700), &of.good).unwrap();
        }
        holder.restart();
        run(&mut holder, APART.plus(700), UnixSeconds(over.0 - 1));
        assert_eq!(holder.head(Lane::Policy), 1);
        run(&mut holder, over, over.plus(LOCK_S));
        assert_eq!(holder.chain.head(Lane::Policy).unwrap().id(), united.id());
        let second = holder.chain.get(Lane::Policy, Seq(2)).unwrap().id();
        assert_eq!(second, if hears_of_it { of.good.id() } else { of.bad.id() });
    }
}

/// It can be vetoed as well, and then brings nothing back.
#[test]
fn what_unites_and_is_vetoed_brings_nothing_back() {
    let of = apart(|_| (), |_| ());
    let first = of.early.chain.get(Lane::Policy, Seq(1)).unwrap().envelope().clone();
    let united = of.council.sign(&third(&of, &of.good, &[of.bad.id()], 7));
    let mut holder = Holder::new(&first);
    holder.offer(APART, &of.bad).unwrap();
    holder.offer(APART, &united).unwrap();
    for one in [&of.bad, &united] {
        for at in [0, 1] {
            let no = veto(&holder, &of.council, at, one);
            assert!(holder.gate.object(APART, &holder.chain, &no).unwrap());
        }
    }
    run(&mut holder, APART, APART.plus(3 * LOCK_S));
    assert_eq!(holder.head(Lane::Policy), 1);
}

/// What expired waits for what is in date upon it, united or not.
#[test]
fn what_expired_meanwhile_is_gone_on_from_too() {
    let of = apart(|_| (), |_| ());
    let first = of.early.chain.get(Lane::Policy, Seq(1)).unwrap().envelope().clone();
    let over = APART.plus(600 + LOCK_S);
    let bad = Statement::parse(&of.bad).unwrap();
    let bad = of.council.sign(&Statement { expires: UnixSeconds(over.0 - 1), ..bad });
    let mut united = third(&of, &of.good, &[bad.id()], 7);
    united.expires = over.plus(LOCK_S);
    let united = of.council.sign(&united);
    let mut holder = Holder::new(&first);
    holder.offer(APART, &bad).unwrap();
    for at in [0, 1] {
        let no = veto(&holder, &of.council, at, &bad);
        assert!(holder.gate.object(APART, &holder.chain, &no).unwrap());
    }
    holder.offer(APART.plus(600), &united).unwrap();
    run(&mut holder, APART.plus(600), over.plus(600));
    assert_eq!(holder.chain.head(Lane::Policy).unwrap().id(), united.id());
}

/// Of several that it unites with, one that was taken back does not come back beside one that was not.
#[test]
fn of_several_here_it_stands_upon_the_one_that_was_not_vetoed() {
    let of = apart(|_| (), |_| ());
    let first = of.early.chain.get(Lane::Policy, Seq(1)).unwrap().envelope().clone();
    for lower in [true, false] {
        let bad = Statement::parse(&of.bad).unwrap();
        let mut rules = Policy::parse(&bad.body).unwrap();
        let living = (20..90).find_map(|fanout| {
            rules.fanout = fanout;
            let one = Statement { body: rules.to_body(), round: Round(2), ..bad.clone() };
            Some(of.council.sign(&one)).filter(|one| (one.id() < of.bad.id()) == lower)
        });
        let living = living.unwrap();
        let united = of.council.sign(&third(&of, &of.good, &[of.bad.id(), living.id()], 7));
        let mut holder = Holder::new(&first);
        holder.offer(APART, &of.bad).unwrap();
        for at in [0, 1] {
            let no = veto(&holder, &of.council, at, &of.bad);
            assert!(holder.gate.object(APART, &holder.chain, &no).unwrap());
        }
        holder.offer(APART, &united).unwrap();
        holder.offer(APART.plus(100), &living).unwrap();
        run(&mut holder, APART, APART.plus(3 * LOCK_S));
        let second = holder.chain.get(Lane::Policy, Seq(2)).unwrap().id();
        assert_eq!((second, holder.head(Lane::Policy)), (living.id(), 3), "{lower}");
    }
}
