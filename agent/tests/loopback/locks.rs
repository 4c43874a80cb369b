//! What is signed and not applied yet, on a whole fleet: locks, vetoes, pauses, beacons.

use borgios_policy::gate::Standing;
use borgios_policy::{Freshness, Lane};
use borgios_types::{Digest, Envelope, Seq, UnixSeconds};

use crate::board::now;
use crate::fleet::{Fleet, Server, body, until};

/// How long a pause holds, in seconds: longer than the lock, with time to look at it in between.
const PAUSE_S: u64 = 20;

async fn release(server: &Server) -> (Seq, Option<Digest>) {
    let head = |l: &mut borgios_agent::ledger::Ledger| {
        let head = l.chain().head(Lane::Release).map(|head| head.id());
        (l.chain().head_seq(Lane::Release), head)
    };
    server.agent().ledger.run(head).await
}

async fn standing(server: &Server, envelope: &Envelope) -> Option<Standing> {
    let id = envelope.id();
    server.agent().ledger.run(move |l| l.gate().standing(now(), l.chain(), &id)).await
}

async fn state(server: &Server, envelope: &Envelope) -> Option<&'static str> {
    standing(server, envelope).await.map(|standing| standing.as_str())
}

/// When the last pause of a statement ends, if it is paused.
async fn paused_until(server: &Server, envelope: &Envelope) -> Option<UnixSeconds> {
    match standing(server, envelope).await {
        Some(Standing::Paused { until, .. }) => Some(until),
        _ => None,
    }
}

/// A release is vetoed on one server and dead on all; the next round of its place is applied when
/// its own lock is over, and by then the first would long have been.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t52_a_release_that_is_vetoed_in_its_lock_is_applied_nowhere() {
    let mut fleet = Fleet::of(3, 2).await;
    let rules = fleet.board.rules(|policy| policy.classes.release.lock_s = Some(20));
    fleet.servers[0].put(&rules).await;
    fleet.all_have(&rules).await;
    let bad = fleet.board.statement(Lane::Release, body("1"));
    // One veto is there before the release is.
    let vetoes = [fleet.board.veto(0, &bad), fleet.board.veto(2, &bad)];
    assert_eq!(fleet.servers[2].put(&vetoes[0]).await["ok"]["new"], true);
    assert_eq!(fleet.servers[0].put(&bad).await["ok"]["new"], true);
    fleet.all_have(&bad).await;
    for server in &fleet.servers {
        assert_eq!(release(server).await, (Seq(0), None));
        until("it is locked", async || state(server, &bad).await == Some("waiting")).await;
    }
    fleet.servers[1].put(&vetoes[1]).await;
    for server in &fleet.servers {
        until("it is vetoed", async || state(server, &bad).await == Some("vetoed")).await;
        let keeper = || server.keeper.seen.lock().unwrap().objects.clone();
        until("its keeper knows why", async || {
            vetoes.iter().all(|veto| keeper().contains(&veto.id()))
        })
        .await;
    }
    // It survives a restart, and a lock cannot be over before that of what came later is.
    fleet.servers[1].kill().await;
    fleet.servers[1].start().await;
    fleet.board.again(Lane::Release, None);
    let good = fleet.board.statement(Lane::Release, body("2"));
    fleet.servers[0].put(&good).await;
    for server in &fleet.servers {
        until("the next round is applied", async || release(server).await.0 == Seq(1)).await;
        assert_eq!(release(server).await.1, Some(good.id()));
        assert_eq!(state(server, &bad).await, None, "and the dead one is forgotten");
    }
    fleet.servers[0].kill().await;
    fleet.servers[0].start().await;
    assert_eq!(release(&fleet.servers[0]).await.1, Some(good.id()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t53_a_pause_holds_a_release_back_and_ends_by_itself_everywhere() {
    let mut fleet = Fleet::of(2, 2).await;
    let rules = fleet.board.rules(|policy| {
        policy.classes.release.lock_s = Some(4);
        policy.pause_s = Some(PAUSE_S);
    });
    fleet.servers[0].put(&rules).await;
    fleet.all_have(&rules).await;
    let one = fleet.board.statement(Lane::Release, body("1"));
    let pause = fleet.board.pause(1, &one);
    fleet.servers[1].put(&pause).await;
    fleet.all_have(&pause).await;
    fleet.servers[0].put(&one).await;
    let mut ends = Vec::new();
    for server in &fleet.servers {
        until("it is paused", async || state(server, &one).await == Some("paused")).await;
        ends.push(paused_until(server, &one).await.unwrap());
    }
    // A second pause of the same governor, in other words, stays on record alone: it moves no end.
    let again = fleet.board.pause_because(1, &one, "let me look once more");
    assert_eq!(fleet.servers[1].put(&again).await["ok"]["new"], true);
    fleet.all_have(&again).await;
    for (server, end) in fleet.servers.iter().zip(&ends) {
        assert_eq!(paused_until(server, &one).await, Some(*end));
    }
    for (server, end) in fleet.servers.iter().zip(ends) {
        until("it is applied by itself", async || release(server).await.0 == Seq(1)).await;
        assert!(now() < end.plus(PAUSE_S), "the second pause held it once more");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t21_a_fleet_that_hears_too_few_governors_applies_no_release_until_it_does() {
    let mut fleet = Fleet::of(2, 2).await;
    let rules = fleet.board.rules(|policy| {
        policy.freshness = Some(Freshness { beacons: 2, max_age_s: 86_400 });
    });
    fleet.servers[0].put(&rules).await;
    fleet.all_have(&rules).await;
    let one = fleet.board.statement(Lane::Release, body("1"));
    fleet.servers[0].put(&one).await;
    for server in &fleet.servers {
        until("it is stale", async || state(server, &one).await == Some("stale")).await;
    }
    fleet.servers[1].put(&fleet.board.beacon(0)).await;
    // Policies go on meanwhile.
    let wider = fleet.board.policy(4);
    fleet.servers[1].put(&wider).await;
    fleet.all_have(&wider).await;
    assert_eq!(release(&fleet.servers[1]).await.0, Seq(0));
    fleet.servers[0].put(&fleet.board.beacon(2)).await;
    for server in &fleet.servers {
        until("it is applied", async || release(server).await.0 == Seq(1)).await;
    }
}

/// Two documents for one place meet before either is applied: none is, on any server, until a policy
/// names one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t12_a_fleet_that_hears_of_two_for_one_place_waits_for_the_ruling() {
    let mut fleet = Fleet::of(3, 2).await;
    let rules = fleet.board.rules(|policy| policy.classes.release.lock_s = Some(15));
    fleet.servers[0].put(&rules).await;
    fleet.all_have(&rules).await;
    let one = fleet.board.statement(Lane::Release, body("1"));
    fleet.board.again(Lane::Release, None);
    let two = fleet.board.statement(Lane::Release, body("2"));
    fleet.servers[0].put(&one).await;
    fleet.servers[2].put(&two).await;
    for server in &fleet.servers {
        for rival in [&one, &two] {
            until("it is frozen", async || state(server, rival).await == Some("frozen")).await;
        }
    }
    let (lane, seq, winner) = (Lane::Release, Seq(1), Some(one.id()));
    let ruling = fleet.board.rules(|policy| {
        policy.rulings = vec![borgios_policy::Ruling::new(lane, seq, winner)];
    });
    fleet.servers[1].put(&ruling).await;
    for server in &fleet.servers {
        until("the winner is applied", async || release(server).await.1 == Some(one.id())).await;
        assert_eq!(release(server).await.0, Seq(1));
    }
}

/// A veto is brought until it is taken: to a keeper whose disk is full, to one that is too old to
/// know of vetoes, and to one that began again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn locks_a_veto_is_brought_until_the_keeper_takes_it() {
    let mut fleet = Fleet::of(1, 2).await;
    let rules = fleet.board.rules(|policy| policy.classes.release.lock_s = Some(86_400));
    fleet.servers[0].put(&rules).await;
    let one = fleet.board.statement(Lane::Release, body("1"));
    fleet.servers[0].put(&one).await;
    let seen = fleet.servers[0].keeper.seen.clone();
    for (by, refuses) in [(0, ("disk", false)), (1, ("bad_request", true))] {
        seen.lock().unwrap().refuses = Some(refuses);
        let veto = fleet.board.veto(by, &one);
        let before = seen.lock().unwrap().refusals;
        fleet.servers[0].put(&veto).await;
        until("it was refused", async || seen.lock().unwrap().refusals > before).await;
        seen.lock().unwrap().refuses = None;
        until("it was taken", async || seen.lock().unwrap().objects.contains(&veto.id())).await;
    }
    {
        let mut seen = seen.lock().unwrap();
        seen.objects.clear();
        seen.status.started = seen.status.started.plus(1);
    }
    until("both were brought anew", async || seen.lock().unwrap().objects.len() == 2).await;
}

/// A newcomer could not join under rules that it holds back itself: its invitation vouches for them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newcomer_applies_at_once_what_its_invitation_brings_and_locks_what_comes_after() {
    let mut fleet = Fleet::of(1, 2).await;
    let rules = fleet.board.rules(|policy| policy.classes.policy.lock_s = Some(86_400));
    fleet.servers[0].put(&rules).await;
    fleet.all_have(&rules).await;
    let locked = fleet.board.policy(4);
    fleet.servers[0].put(&locked).await;
    let policy = |server: &Server| {
        let ledger = server.agent().ledger.clone();
        async move { ledger.run(|l| l.chain().head_seq(Lane::Policy)).await }
    };
    assert_eq!(policy(&fleet.servers[0]).await, Seq(2));
    fleet.join().await;
    fleet.whole().await;
    assert_eq!(policy(&fleet.servers[1]).await, Seq(3));
    assert_eq!(policy(&fleet.servers[0]).await, Seq(2));
    let next = fleet.board.policy(5);
    fleet.servers[1].put(&next).await;
    until("it is locked", async || state(&fleet.servers[1], &next).await == Some("waiting")).await;
    assert_eq!(policy(&fleet.servers[1]).await, Seq(3));
}

/// Whoever was not there when a release was signed hears of it while it still waits, and begins its own
/// lock then: it is no later for a veto there than anywhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn locks_who_joins_or_was_cut_off_in_a_lock_hears_of_what_waits() {
    let mut fleet = Fleet::of(3, 2).await;
    let rules = fleet.board.rules(|policy| policy.classes.release.lock_s = Some(86_400));
    fleet.servers[0].put(&rules).await;
    fleet.all_have(&rules).await;
    fleet.servers[2].remembers_peers().await;
    fleet.servers[2].kill().await;
    // Its invitation was written before, and vouches for nothing that waits.
    let mut newcomer = fleet.prepare(vec![fleet.servers[0].member()]);
    let one = fleet.board.statement(Lane::Release, body("1"));
    fleet.servers[0].put(&one).await;
    fleet.all_have(&one).await;
    // One that had it and begins anew lists it again.
    fleet.servers[1].kill().await;
    fleet.servers[1].start().await;
    fleet.servers[2].start().await;
    newcomer.start().await;
    until("the newcomer has a place", async || newcomer.attached()).await;
    fleet.servers.push(newcomer);
    fleet.whole().await;
    for server in &fleet.servers {
        until("it waits here too", async || state(server, &one).await == Some("waiting")).await;
        assert_eq!(release(server).await, (Seq(0), None));
    }
    // What is said against it reaches them as it does the others.
    for by in [0, 2] {
        fleet.servers[0].put(&fleet.board.veto(by, &one)).await;
    }
    for server in &fleet.servers {
        until("it is vetoed", async || state(server, &one).await == Some("vetoed")).await;
    }
}
