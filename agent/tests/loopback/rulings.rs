//! Servers that applied different documents for one place, and the ruling that ends it.

use borgios_policy::{Lane, Ruling};
use borgios_types::{Digest, Envelope, Seq};

use crate::fleet::{Fleet, Server, body, until};

async fn head(server: &Server) -> (Seq, Option<Digest>) {
    let head = |l: &mut borgios_agent::ledger::Ledger| {
        let tip = l.chain().tip(Lane::Release);
        (l.chain().head_seq(Lane::Release), tip.map(|tip| tip.id))
    };
    server.agent().ledger.run(head).await
}

/// Whether a server met a statement and kept it as a proof, for its place was taken.
fn met(server: &Server, rival: &Envelope) -> bool {
    server.state().join("evidence").join(format!("{}.json", rival.id().hex())).exists()
}

/// One server applied one document, the other one another, and one more upon that, which the first one hears
/// of and refuses. Nobody offers it anything anew; once the board rules, it ends with the winner and with
/// what came after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t12_a_server_that_applied_the_loser_gets_the_winner_that_it_had_refused() {
    for closes in [false, true] {
        let mut fleet = Fleet::of(2, 2).await;
        fleet.servers[1].remembers_peers().await;
        fleet.servers[1].kill().await;
        let one = fleet.board.statement(Lane::Release, body("1"));
        fleet.servers[0].put(&one).await;
        assert_eq!(head(&fleet.servers[0]).await, (Seq(1), Some(one.id())));
        fleet.servers[0].kill().await;

        fleet.servers[1].start().await;
        fleet.board.again(Lane::Release, None);
        let two = fleet.board.statement(Lane::Release, body("2"));
        let three = fleet.board.statement(Lane::Release, body("3"));
        for release in [&two, &three] {
            fleet.servers[1].put(release).await;
        }
        assert_eq!(head(&fleet.servers[1]).await, (Seq(2), Some(three.id())));
        fleet.servers[0].start().await;
        fleet.whole().await;
        until("it met what builds upon it", async || met(&fleet.servers[0], &three)).await;

        let winner = (!closes).then(|| two.id());
        let (lane, seq) = (Lane::Release, Seq(1));
        let ruling =
            fleet.board.rules(|policy| policy.rulings = vec![Ruling::new(lane, seq, winner)]);
        fleet.servers[1].put(&ruling).await;
        fleet.all_have(&ruling).await;
        if closes {
            let after = Some(ruling.id());
            fleet.board.again(Lane::Release, after);
            let next = fleet.board.statement(Lane::Release, body("4"));
            fleet.servers[1].put(&next).await;
            for server in &fleet.servers {
                let end = (Seq(2), Some(next.id()));
                until("the lane goes on", async || head(server).await == end).await;
            }
        } else {
            for server in &fleet.servers {
                let end = (Seq(2), Some(three.id()));
                until("the winner is applied", async || head(server).await == end).await;
            }
        }
    }
}
