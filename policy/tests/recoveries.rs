//! A recovery board: its paper, its policies at a holder, what stops them, and what a proof makes of
//! them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may stop")]

mod holder;

use borgios_policy::change::{Change, ChangeError, Standing, Status, Watched, step, watch};
use borgios_policy::fixture::{Council, NOW, release_body, statement};
use borgios_policy::founding::PlanError;
use borgios_policy::gate::{Silence, Standing as Stands};
use borgios_policy::keygen::{Ceremony, Files, Me};
use borgios_policy::proof_file::{ProofFile, ProofFileError};
use borgios_policy::recovery::policies_to;
use borgios_policy::{
    Board, Chain, Freshness, Lane, Name, Object as _, ObjectError, Objection, Offered, Plan,
    Policy, Recovery, RecoveryBoard, Refusal, Submission, Verdict, Veto, merge_signatures,
};
use borgios_types::{Digest, Envelope, KeyEpoch, Seq, Threshold, UnixSeconds};
use holder::{DAY_S, Holder, beacon, board, next, objection, release, veto};
use rand::SeedableRng as _;
use rand_chacha::ChaCha20Rng;

const SILENCE_S: u64 = 30 * DAY_S;
const RECOVERY_LOCK_S: u64 = 14 * DAY_S;

/// The recovery board.
fn rescue() -> Council {
    Council::new(3, 2, 1, 77)
}

fn recoverable(policy: &mut Policy) {
    policy.freshness = Some(Freshness { beacons: 2, max_age_s: DAY_S });
    let group = rescue().board.group();
    policy.recovery = Some(Recovery { group, silence_s: SILENCE_S, lock_s: RECOVERY_LOCK_S });
}

/// The next policy, by the recovery key and by the board that it makes.
fn recovered(holder: &Holder, new: &Council, change: impl FnOnce(&mut Policy)) -> Envelope {
    let mut policy = new.policy(2);
    change(&mut policy);
    let mut draft = next(&holder.chain, Lane::Policy, policy.to_body());
    draft.expires = NOW.plus(1_000 * DAY_S);
    merge_signatures(&rescue().sign(&draft), &new.sign(&draft)).unwrap()
}

/// Lets the time pass at a holder that is on.
fn pass(holder: &mut Holder, now: &mut UnixSeconds, seconds: u64) {
    let end = now.plus(seconds);
    while *now < end {
        *now = end.min(now.plus(3_600));
        holder.tick(*now);
    }
}

/// A holder that has heard nothing for long enough.
fn silent() -> (Council, Holder, UnixSeconds) {
    let (old, first) = board(recoverable);
    let (mut holder, mut now) = (Holder::new(&first), NOW);
    pass(&mut holder, &mut now, SILENCE_S + DAY_S);
    (old, holder, now)
}

fn paper(council: &Council, network: Digest) -> Envelope {
    let mut policy = council.policy(2);
    policy.recovers = Some(network);
    let mut draft = statement(Lane::Policy, 1, None, None, None, policy.to_body());
    draft.critical = vec!["recovers".to_owned()];
    council.sign(&draft)
}

#[test]
fn how_long_the_silence_must_still_last_is_said_and_shown() {
    let (old, first) = board(recoverable);
    let (mut holder, mut now) = (Holder::new(&first), NOW);
    let new = Council::new(3, 2, 2, 5);
    let policy = recovered(&holder, &new, |_| ());
    pass(&mut holder, &mut now, 3 * DAY_S);
    let Silence { silent_s, needed_s } = holder.gate.silence(&holder.chain).unwrap();
    assert_eq!(needed_s, SILENCE_S);
    assert!((2 * DAY_S..=3 * DAY_S).contains(&silent_s), "{silent_s}");
    let refused = holder.offer(now, &policy).unwrap_err();
    assert!(
        matches!(refused, Refusal::Recovery { still_s: Some(still), .. }
            if still == needed_s - silent_s),
        "{refused:?}"
    );
    assert!(refused.to_string().contains("must still be silent for 27 d"), "{refused}");
    // A sign of life begins it anew.
    for at in 0..2 {
        holder.gate.beacon(now, &holder.chain, &beacon(&holder, &old, at, now)).unwrap();
    }
    assert_eq!(holder.gate.silence(&holder.chain).map(|silence| silence.silent_s), Some(0));
    // Once it is over the policy waits, and says what it is.
    pass(&mut holder, &mut now, SILENCE_S + 2 * DAY_S);
    assert!(matches!(holder.offer(now, &policy), Ok(Offered::Held(Stands::Waiting { .. }))));
    let held = &holder.gate.report(now, &holder.chain)[0];
    assert!(held.recovery && held.seen == now);
    assert!(serde_json::to_string(held).unwrap().contains("\"recovery\":true"));
}

/// Whoever stole the recovery key cannot make it the group key with one signature that stands for two.
#[test]
fn a_recovery_key_that_names_itself_is_refused() {
    let (_, mut holder, now) = silent();
    let itself = Council::new(3, 2, 2, 77);
    assert_eq!(itself.board.group(), rescue().board.group());
    let policy = recovered(&holder, &itself, |policy| policy.recovery = None);
    assert_eq!(holder.offer(now, &policy).unwrap_err().code(), "bad_body");
    // Nor with the rule that names it kept.
    let policy = recovered(&holder, &itself, recoverable);
    assert_eq!(holder.offer(now, &policy).unwrap_err().code(), "bad_body");
}

#[test]
fn two_rival_policies_of_a_recovery_key_stop_each_other_and_never_the_board() {
    let (old, mut holder, mut now) = silent();
    let (one, other) = (Council::new(3, 2, 2, 5), Council::new(3, 2, 2, 6));
    let rivals = [recovered(&holder, &one, |_| ()), recovered(&holder, &other, |_| ())];
    for rival in &rivals {
        holder.offer(now, rival).unwrap();
    }
    pass(&mut holder, &mut now, RECOVERY_LOCK_S + DAY_S);
    for rival in &rivals {
        assert!(matches!(holder.standing(now, rival), Some(Stands::Frozen { .. })));
    }
    // The board in force decides meanwhile as ever.
    let mut rules = old.policy(2);
    recoverable(&mut rules);
    rules.fanout = 9;
    let mut draft = next(&holder.chain, Lane::Policy, rules.to_body());
    draft.expires = NOW.plus(1_000 * DAY_S);
    holder.offer(now, &old.sign(&draft)).unwrap();
    assert_eq!(holder.head(Lane::Policy), 2);
    assert_eq!(holder.chain.policy().unwrap().fanout, 9);
    holder.tick(now);
    assert_eq!(holder.gate.report(now, &holder.chain), []);
    // And what the recovery key signed for a place that is taken never counts again.
    for rival in &rivals {
        assert!(holder.offer(now, rival).is_err());
    }
}

/// A forgery, a replay after the board spoke, and a policy that only one of the two keys signed.
#[test]
fn what_a_recovery_key_did_not_sign_or_the_board_objected_to_does_not_count() {
    let (old, mut holder, mut now) = silent();
    let new = Council::new(3, 2, 2, 5);
    let policy = recovered(&holder, &new, |_| ());
    for at in 0..2 {
        let mut forged = policy.clone();
        forged.sigs[at].sig.0[7] ^= 1;
        assert_eq!(holder.offer(now, &forged).unwrap_err().code(), "bad_signature");
    }
    let stranger = Council::new(3, 2, 1, 78);
    let draft = next(&holder.chain, Lane::Policy, new.policy(2).to_body());
    let by_other = merge_signatures(&stranger.sign(&draft), &new.sign(&draft)).unwrap();
    assert_eq!(holder.offer(now, &by_other).unwrap_err().code(), "bad_signature");
    // A veto ends it two hours before its time, and the replay begins a whole lock anew.
    holder.offer(now, &policy).unwrap();
    pass(&mut holder, &mut now, RECOVERY_LOCK_S - 7_200);
    let heard = veto(&holder, &old, 0, &policy);
    holder.gate.object(now, &holder.chain, &heard).unwrap();
    holder.offer(now, &policy).unwrap();
    pass(&mut holder, &mut now, RECOVERY_LOCK_S - 7_200);
    assert_eq!(holder.head(Lane::Policy), 1);
    // The same veto, brought again as at each start of a server, is no sign of life …
    holder.restart();
    holder.gate.object(now, &holder.chain, &heard).unwrap();
    assert!(holder.standing(now, &policy).is_some());
    // … and one that is said now is, though a governor has one voice on a statement.
    let voice = Veto(Objection { at: now.plus(1), ..objection(&holder, &old, 0, &policy) });
    let voice = voice.to_envelope().sign(&old.keys[&old.name(0)]);
    let later = now.plus(1);
    assert!(holder.gate.object(later, &holder.chain, &voice).unwrap());
    assert_eq!(holder.standing(later, &policy), None);
    // A new board's vetoes and beacons are no sign of life of the old one.
    holder.offer(now, &policy).unwrap();
    let life = beacon(&holder, &new, 0, now);
    holder.gate.beacon(now, &holder.chain, &life).unwrap();
    assert!(holder.standing(now, &policy).is_some());
}

/// A server that starts again is brought every veto on its disk, and anybody may bring a copy of one.
#[test]
fn a_veto_of_before_is_no_sign_of_life_and_one_of_today_is() {
    let (old, mut holder, mut now) = silent();
    let policy = recovered(&holder, &Council::new(3, 2, 2, 5), |_| ());
    holder.offer(now, &policy).unwrap();
    pass(&mut holder, &mut now, DAY_S);
    let against = release(&holder, &old, "1");
    let said = |at: UnixSeconds| {
        let objection = Objection { at, ..objection(&holder, &old, 0, &against) };
        Veto(objection).to_envelope().sign(&old.keys[&old.name(0)])
    };
    let [before, ahead, today] = [NOW, now.plus(DAY_S), now.plus(300)].map(said);
    for copy in [&before, &ahead] {
        let _ = holder.gate.object(now, &holder.chain, copy);
        assert!(matches!(holder.standing(now, &policy), Some(Stands::Waiting { .. })));
    }
    // It is the third of one governor against one statement, and must be stored for what it ends.
    assert!(holder.gate.object(now, &holder.chain, &today).unwrap());
    assert_eq!(holder.standing(now, &policy), None);
}

/// What the board before it did not say is no silence of the board that a recovery makes.
#[test]
fn the_next_board_must_be_silent_for_a_time_of_its_own() {
    let (_, mut holder, mut now) = silent();
    let (new, other) = (Council::new(3, 2, 2, 5), Council::new(3, 2, 3, 6));
    let policy = recovered(&holder, &new, recoverable);
    holder.offer(now, &policy).unwrap();
    pass(&mut holder, &mut now, RECOVERY_LOCK_S + 7_200);
    assert_eq!(holder.head(Lane::Policy), 2);
    let again = recovered(&holder, &other, recoverable);
    let refused = holder.offer(now, &again).unwrap_err();
    assert!(
        matches!(refused, Refusal::Recovery { still_s: Some(still), .. } if still > SILENCE_S - DAY_S),
        "{refused:?}"
    );
    pass(&mut holder, &mut now, SILENCE_S + 7_200);
    assert!(matches!(holder.offer(now, &again), Ok(Offered::Held(Stands::Waiting { .. }))));
}

/// The board's own policy came in time, and its lock ends after that of the recovery key's.
#[test]
fn a_policy_of_the_board_that_waits_has_the_place_before_one_of_the_recovery_key() {
    let (old, first) = board(|policy| {
        recoverable(policy);
        policy.classes.policy.lock_s = Some(2 * DAY_S);
    });
    let (mut holder, mut now) = (Holder::new(&first), NOW);
    pass(&mut holder, &mut now, SILENCE_S + DAY_S);
    let policy = recovered(&holder, &Council::new(3, 2, 2, 5), |_| ());
    holder.offer(now, &policy).unwrap();
    pass(&mut holder, &mut now, RECOVERY_LOCK_S - DAY_S);
    let mut rules = old.policy(2);
    recoverable(&mut rules);
    rules.fanout = 9;
    let mut draft = next(&holder.chain, Lane::Policy, rules.to_body());
    draft.expires = NOW.plus(1_000 * DAY_S);
    holder.offer(now, &old.sign(&draft)).unwrap();
    pass(&mut holder, &mut now, DAY_S + 7_200);
    assert_eq!((holder.head(Lane::Policy), holder.standing(now, &policy)), (1, Some(Stands::Due)));
    pass(&mut holder, &mut now, DAY_S);
    assert_eq!(holder.chain.policy().unwrap().fanout, 9);
    assert_eq!(holder.gate.report(now, &holder.chain), []);
}

/// Anybody can hand on what a governor said of something else long ago; who lives says something new.
#[test]
fn a_veto_ends_a_recovery_if_it_is_fresh_and_not_if_it_was_said_before() {
    let (old, mut holder, now) = silent();
    let new = Council::new(3, 2, 2, 5);
    let policy = recovered(&holder, &new, |_| ());
    let one = release(&holder, &old, "1");
    let said = |holder: &Holder, seq: u64, at: UnixSeconds| {
        let said = Objection { seq: Seq(seq), at, ..objection(holder, &old, 0, &one) };
        Veto(said).to_envelope().sign(&old.keys[&old.name(0)])
    };
    let heard = said(&holder, 1, now);
    holder.gate.object(now, &holder.chain, &heard).unwrap();
    holder.offer(now, &policy).unwrap();
    // Heard before; older than beacons count; dated further ahead than clocks differ.
    let (old_one, ahead) = (said(&holder, 2, NOW), said(&holder, 3, now.plus(DAY_S)));
    for voice in [&heard, &old_one, &ahead, &old_one] {
        holder.gate.object(now.plus(60), &holder.chain, voice).unwrap();
        assert!(holder.standing(now.plus(60), &policy).is_some());
    }
    // One that was on its way when the policy came, and one that was said since.
    for (seq, at, later) in [(4, UnixSeconds(now.0 - 60), 120), (5, now.plus(180), 180)] {
        let (voice, later) = (said(&holder, seq, at), now.plus(later));
        assert!(holder.gate.object(later, &holder.chain, &voice).unwrap());
        assert_eq!(holder.standing(later, &policy), None);
        // It comes again, and so does the policy, whose lock begins anew.
        holder.offer(later.plus(1), &policy).unwrap();
        assert!(!holder.gate.object(later.plus(2), &holder.chain, &voice).unwrap());
        assert!(holder.standing(later.plus(2), &policy).is_some());
    }
}

/// The place of the recovery key's policies is their own: whoever holds shares of the board does not
/// keep them out by signing much, nor the other way round.
#[test]
fn policies_of_the_board_and_of_a_recovery_key_keep_no_others_out() {
    let (old, first) = board(|policy| {
        recoverable(policy);
        policy.classes.policy.lock_s = Some(DAY_S);
    });
    let (mut holder, mut now) = (Holder::new(&first), NOW);
    pass(&mut holder, &mut now, SILENCE_S + DAY_S);
    let mut rules = holder.chain.policy().unwrap().clone();
    for fanout in 0..4 {
        rules.fanout = 5 + fanout;
        let mut draft = next(&holder.chain, Lane::Policy, rules.to_body());
        draft.expires = NOW.plus(1_000 * DAY_S);
        holder.offer(now, &old.sign(&draft)).unwrap();
    }
    let new = Council::new(3, 2, 2, 5);
    assert!(holder.offer(now, &recovered(&holder, &new, |_| ())).is_ok());
}

/// Who is started every few hours, or whose clock is set forward, learns of no silence meanwhile.
#[test]
fn a_holder_that_is_off_and_a_clock_that_is_set_forward_make_no_silence() {
    for restarted in [true, false] {
        let (_, first) = board(recoverable);
        let (mut holder, mut now) = (Holder::new(&first), NOW);
        pass(&mut holder, &mut now, DAY_S);
        let silence = |holder: &Holder| holder.gate.silence(&holder.chain).unwrap().silent_s;
        let before = silence(&holder);
        assert!(before > 0);
        for _ in 0..50 {
            now = now.plus(2 * 3_600);
            if restarted {
                holder.restart();
            }
            holder.tick(now);
            holder.tick(now.plus(60));
        }
        assert_eq!(silence(&holder), before);
        // What passes while it is on counts again.
        pass(&mut holder, &mut now, 10 * 3_600);
        assert!((9 * 3_600..=10 * 3_600).contains(&(silence(&holder) - before)));
    }
}

/// Who comes to a server after a recovery is led through it by the invitation, and by nothing else.
#[test]
fn a_newcomer_is_led_through_a_recovery_by_the_policy_it_was_told_of() {
    let (_, mut holder, mut now) = silent();
    let new = Council::new(3, 2, 2, 5);
    let policy = recovered(&holder, &new, |_| ());
    holder.offer(now, &policy).unwrap();
    pass(&mut holder, &mut now, RECOVERY_LOCK_S + DAY_S);
    assert_eq!(holder.head(Lane::Policy), 2);
    assert!(holder.chain.head(Lane::Policy).unwrap().is_recovered());
    let all: Vec<Envelope> = holder.chain.history().map(|one| one.envelope().clone()).collect();
    let network = holder.chain.network().unwrap();
    assert_eq!(policies_to(&all, policy.id()), [policy.id(), network]);
    assert_eq!(policies_to(&all, network), [network]);
    assert_eq!(policies_to(&all, Digest::of(b"x")), []);
    let mut newcomer = Chain::new(Some(network));
    policies_to(&all, policy.id()).into_iter().for_each(|id| newcomer.ripen(id));
    let newcomer = newcomer.restored(&Submission::sort(all.clone())).unwrap();
    assert_eq!(newcomer.head_seq(Lane::Policy), Seq(2));
    let alone = Chain::restore(Some(network), all).unwrap_err();
    assert!(matches!(alone, Refusal::Recovery { still_s: None, .. }), "{alone:?}");
}

#[test]
fn a_proof_goes_through_a_recovery_that_its_reader_knows_of() {
    let (_, mut holder, mut now) = silent();
    let new = Council::new(3, 2, 2, 5);
    let policy = recovered(&holder, &new, |_| ());
    holder.offer(now, &policy).unwrap();
    pass(&mut holder, &mut now, RECOVERY_LOCK_S + DAY_S);
    let mut one = next(&holder.chain, Lane::Release, release_body("1"));
    one.expires = NOW.plus(1_000 * DAY_S);
    let one = new.sign(&one);
    holder.offer(now, &one).unwrap();
    let network = holder.chain.network().unwrap();
    // The recovery board's own ballots are judged by its paper, and stay out of the file.
    let draft = borgios_policy::Statement::parse(&policy).unwrap();
    let (by_rescue, by_new) = (rescue(), &new);
    let slot = borgios_policy::Slot { epoch: KeyEpoch(1), ..by_new.slot(&draft) };
    let ballot = by_rescue.approve(&by_rescue.name(0), &draft, &by_rescue.pools(slot));
    let pools = by_new.pools(by_new.slot(&draft));
    let voted: Vec<Envelope> =
        (0..2).map(|at| by_new.approve(&by_new.name(at), &draft, &pools)).chain([ballot]).collect();
    let release = ProofFile::of(&holder.chain, &one.id(), &voted, &[]).unwrap();
    let of_policy = ProofFile::of(&holder.chain, &policy.id(), &voted, &pools).unwrap();
    for (proof, id) in [(&release, one.id()), (&of_policy, policy.id())] {
        let refused = proof.verify(network).unwrap_err();
        assert!(matches!(refused, ProofFileError::Statement(Refusal::Recovery { .. })));
        let other = proof.verify_through(network, &[Digest::of(b"another"), network]);
        assert!(matches!(other, Err(ProofFileError::Statement(Refusal::Recovery { .. }))));
        let proven = proof.verify_through(network, &[policy.id()]).unwrap();
        assert_eq!(proven.statement.id(), id);
        assert!(proven.policies[1].is_recovered() && !proven.policies[0].is_recovered());
    }
    // It is shown as signed by the board that it makes, with that board's ballots.
    let proven = of_policy.verify_through(network, &[policy.id()]).unwrap();
    assert_eq!((proven.board, proven.voices.len()), (new.board.clone(), 2));
    assert!(proven.shares, "the new board's ballots make its signature again");
    // Forged in either signature, it is no proof, whatever its reader was told.
    for at in 0..2 {
        let mut forged = release.clone();
        let at_policy = forged.envelopes.iter_mut().find(|one| one.id() == policy.id()).unwrap();
        at_policy.sigs[at].sig.0[3] ^= 1;
        let refused = forged.verify_through(network, &[policy.id()]).unwrap_err();
        assert!(
            matches!(refused, ProofFileError::Statement(Refusal::BadSignature { .. })),
            "{refused:?}"
        );
    }
}

#[test]
fn the_paper_of_a_recovery_board_speaks_for_one_network_and_makes_no_policy() {
    let (rescue, network) = (rescue(), Digest::of(b"a network"));
    let good = paper(&rescue, network);
    let read = RecoveryBoard::verify(network, &good).unwrap();
    assert_eq!((read.board(), read.id()), (&rescue.board, good.id()));
    // No chain takes it, neither as a network's first policy …
    let refused = Chain::new(None).verify(NOW, &good, &[]).unwrap_err();
    assert_eq!(refused.code(), "bad_body");
    assert_eq!(Chain::new(Some(good.id())).verify(NOW, &good, &[]).unwrap_err().code(), "bad_body");
    // … nor later.
    let (old, first) = board(recoverable);
    let holder = Holder::new(&first);
    let mut rules = old.policy(2);
    rules.recovers = Some(first.id());
    let second = old.sign(&next(&holder.chain, Lane::Policy, rules.to_body()));
    assert_eq!(holder.chain.verify(NOW, &second, &[]).unwrap_err().code(), "bad_body");
    // Of another network, of none, with another member, by another key.
    let other = RecoveryBoard::verify(Digest::of(b"another"), &good).unwrap_err();
    assert!(matches!(other, ObjectError::WrongNetwork { .. }));
    let founding = rescue.sign(&rescue.first_policy(2));
    assert!(RecoveryBoard::verify(network, &founding).is_err());
    let mut swapped = good.clone();
    let (ann, zoe) = (rescue.board.governors()[0].key, Council::new(3, 2, 1, 9).board);
    swapped.payload =
        swapped.payload.replace(&ann.to_string(), &zoe.governors()[0].key.to_string());
    let refused = RecoveryBoard::verify(network, &swapped).unwrap_err();
    assert!(matches!(refused, ObjectError::BadSignature { .. }), "{refused}");
    let mut unsigned = good;
    unsigned.sigs.clear();
    assert!(RecoveryBoard::verify(network, &unsigned).is_err());
}

#[test]
fn a_recovery_board_is_small_enough_to_vote_in_one_touch() {
    let cards = |n: u16| {
        let council = Council::new(n, n / 2 + 1, 1, 3);
        council.keys.keys().map(|name| council.card(name)).collect::<Vec<_>>()
    };
    let plan = |n: u16| {
        Plan::new(cards(n), Threshold(n / 2 + 1), 4, NOW, NOW.plus(1))
            .and_then(|plan| plan.recovering(Digest::of(b"a network")))
    };
    assert_eq!(plan(3).unwrap().recovers, Some(Digest::of(b"a network")));
    assert!(matches!(plan(15), Err(PlanError::Large(_))));
}

/// One run of one newcomer's tool.
fn run(
    town: &Council,
    who: &Name,
    standing: Standing<'_>,
    (state, folder): (Option<Ceremony>, &mut Files),
    confirmed: Digest,
) -> (Option<Ceremony>, Status) {
    let (card, key) = (town.card(who), &town.keys[who]);
    let me = Me { card: &card, key, identity: &town.identities[who] };
    let mut rng = ChaCha20Rng::seed_from_u64(u64::from(who.as_str().len() as u32));
    let agreed = (Some(confirmed), false);
    let done = step(&me, standing, state, folder, agreed, &mut rng).unwrap();
    folder.extend(done.write);
    (done.state, done.status)
}

/// Its members plan the next board, in files of their own, and work its key out from the papers.
#[test]
fn a_recovery_board_plans_a_board_without_anybody_of_the_old_one_and_sees_its_key() {
    let (old, first) = board(recoverable);
    let (network, rescue) = (first.id(), rescue());
    let normal = Standing { network, board: &old.board, recovery: None };
    let standing = Standing { recovery: Some(&rescue.board), ..normal };
    let newcomers = Council::new(3, 2, 1, 90);
    let cards: Vec<_> = newcomers.keys.keys().map(|name| newcomers.card(name)).collect();
    let all: Vec<Name> = old.keys.keys().cloned().collect();
    let heads = [(Lane::Policy, Seq(1))].into();
    let who = (&all[..], &cards[..]);
    let plan = |standing| Change::new(standing, 0, who, Threshold(2), Clone::clone(&heads));
    assert_eq!(plan(normal).unwrap_err(), ChangeError::NobodyStays);
    let plan = plan(standing).unwrap();
    let file = plan.file(true);
    assert_eq!(file, "recovery-change-2.json");
    let mut folder = Files::new();
    // A governor of the board in force, or a stranger, plans nothing in its name …
    for key in [&old.keys[&old.name(0)], &newcomers.keys[&newcomers.name(0)]] {
        folder.insert(file.clone(), plan.to_envelope().sign(key).to_json().into_bytes());
        assert!(watch(standing, &folder).is_err());
    }
    let signed = plan.to_envelope().sign(&rescue.keys[&rescue.name(0)]).to_json().into_bytes();
    // … and its plan is none of the board in force.
    folder.clear();
    folder.insert("change-2.json".to_owned(), signed.clone());
    assert!(matches!(watch(standing, &folder), Ok(Watched::NoPlan)));
    assert!(watch(normal, &folder).is_err());
    folder.clear();
    folder.insert(file, signed);
    assert!(matches!(watch(standing, &folder), Ok(Watched::Waiting { kind: "dkg1", .. })));
    assert!(matches!(watch(normal, &folder), Ok(Watched::NoPlan)));

    let mut states: Vec<Option<Ceremony>> = vec![None, None, None];
    let mut made: Vec<Board> = Vec::new();
    for _ in 0..5 {
        made.clear();
        for (at, state) in states.iter_mut().enumerate() {
            let who = newcomers.name(at);
            let (next, status) =
                run(&newcomers, &who, standing, (state.take(), &mut folder), plan.roster());
            *state = next;
            if let Status::Made(changed) = status {
                made.push(changed.board);
            }
        }
    }
    assert_eq!(made.len(), 3);
    let Watched::Made { board, pools, roster, .. } = watch(standing, &folder).unwrap() else {
        panic!("the papers are all there")
    };
    assert_eq!((&*board, roster, pools.len()), (&made[0], plan.roster(), 3));
    assert_eq!((board.epoch(), board.group()), (KeyEpoch(2), made[1].group()));
    // Another paper, though well signed, is not what everybody signed for.
    let (one, two) = (newcomers.name(0), newcomers.name(1));
    let other = format!("recovery-2.{one}.dkg1.json");
    let mut rng = ChaCha20Rng::seed_from_u64(7);
    let card = newcomers.card(&one);
    let me = Me { card: &card, key: &newcomers.keys[&one], identity: &newcomers.identities[&one] };
    let mut plan_only = Files::new();
    plan_only.insert(plan.file(true), folder[&plan.file(true)].clone());
    let agreed = (Some(plan.roster()), false);
    let again = step(&me, standing, None, &plan_only, agreed, &mut rng).unwrap();
    folder.insert(other.clone(), again.write[&other].clone());
    assert!(watch(standing, &folder).is_err());
    folder.remove(&format!("recovery-2.{two}.done.json"));
    assert!(matches!(watch(standing, &folder), Ok(Watched::Waiting { kind: "done", .. })));
}

/// A chain with a recovery on the way takes what is signed afterwards as any other.
#[test]
fn a_recovered_board_goes_on_and_the_old_one_is_over() {
    let (old, mut holder, mut now) = silent();
    let new = Council::new(3, 2, 2, 5);
    let policy = recovered(&holder, &new, |_| ());
    holder.offer(now, &policy).unwrap();
    pass(&mut holder, &mut now, RECOVERY_LOCK_S + DAY_S);
    let late = release(&holder, &old, "1");
    assert_eq!(holder.offer(now, &late).unwrap_err().code(), "bad_signature");
    let mut one = next(&holder.chain, Lane::Release, release_body("1"));
    one.expires = NOW.plus(1_000 * DAY_S);
    let signed = new.sign(&one);
    let Ok(Verdict::New(verified)) = holder.chain.verify(now, &signed, &[]) else {
        panic!("refused")
    };
    assert!(!verified.is_recovered());
}
