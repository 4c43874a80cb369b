//! Connections that end at the wrong moment: what is stored is told to all, whoever brought it and is gone;
//! and whoever does not read what it is told last is cut off all the same.

use std::pin::pin;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use borgios_agent::api::Caller;
use borgios_agent::bus::Entry;
use borgios_agent::ssh_client::Dialled;
use borgios_agent::wire::{Bye, Frame};
use borgios_peertree::{Join as JoinMessage, Message};
use borgios_types::Digest;
use serde_json::json;
use tokio::sync::{broadcast, oneshot};

use crate::evictions::eviction;
use crate::fleet::{Fleet, PATIENCE, Server, until};
use crate::lines::{Line, Newcomer};

/// Wakes nobody: the thread that tells of an object stands still until `released` closes.
struct Hold {
    woken: Sender<()>,
    released: Mutex<Receiver<()>>,
}

impl Wake for Hold {
    fn wake(self: Arc<Self>) {
        let _ = self.woken.send(());
        let _ = self.released.lock().unwrap().recv_timeout(PATIENCE);
    }
}

/// A ledger that stands still as it tells of an object, which it has stored by then, until this is dropped.
struct Stopped {
    reached: oneshot::Receiver<()>,
    _go: Sender<()>,
}

impl Stopped {
    async fn at(server: &Server, id: Digest) -> Self {
        let entries = server.agent().ledger.run(|ledger| ledger.listen()).await;
        let (ready, is_ready) = oneshot::channel();
        let (reach, reached) = oneshot::channel();
        let (go, going) = mpsc::channel();
        std::thread::spawn(move || stop_at(entries, id, ready, reach, &going));
        is_ready.await.unwrap();
        Self { reached, _go: go }
    }

    async fn reached(&mut self) {
        tokio::time::timeout(PATIENCE, &mut self.reached).await.unwrap().unwrap();
    }
}

/// The ledger goes on from one object to the next only when this listens again, so none is missed.
fn stop_at(
    mut entries: broadcast::Receiver<Entry>,
    id: Digest,
    ready: oneshot::Sender<()>,
    reach: oneshot::Sender<()>,
    going: &Receiver<()>,
) {
    let (mut ready, mut before) = (Some(ready), None);
    loop {
        let (woken, is_woken) = mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        let hold = Hold { woken, released: Mutex::new(released) };
        let waker = Waker::from(Arc::new(hold));
        {
            let mut next = pin!(entries.recv());
            match next.as_mut().poll(&mut Context::from_waker(&waker)) {
                Poll::Ready(Ok(entry)) => {
                    assert_ne!(entry.object.id, id, "it came before it was waited for");
                    continue;
                }
                Poll::Ready(Err(error)) => panic!("{error}"),
                Poll::Pending => {}
            }
            // Lets the ledger go on that was stopped at another object.
            drop(before.take());
            if let Some(ready) = ready.take() {
                ready.send(()).unwrap();
            }
            is_woken.recv_timeout(PATIENCE).expect("the object never entered");
        }
        while let Ok(entry) = entries.try_recv() {
            if entry.object.id == id {
                reach.send(()).unwrap();
                let _ = going.recv();
                return;
            }
        }
        before = Some(release);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_tool_brought_that_went_away_meanwhile_reaches_all() {
    let fleet = Fleet::of(3, 2).await;
    let note = fleet.board.note("brought by a tool that went away");
    let server = &fleet.servers[1];
    let mut stopped = Stopped::at(server, note.id()).await;
    let api = server.agent().api.clone();
    let request = json!({"put": "envelope", "envelope": &note}).to_string();
    let asking = tokio::spawn(async move { api.request(&Caller::Local, &request).await });
    stopped.reached().await;
    asking.abort();
    assert!(asking.await.unwrap_err().is_cancelled());
    drop(stopped);
    fleet.all_have(&note).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_governor_brought_whose_connection_broke_meanwhile_reaches_all() {
    let fleet = Fleet::of(3, 2).await;
    let note = fleet.board.note("brought over a line that broke");
    let server = &fleet.servers[0];
    let line = Line::to(server).await;
    let Dialled { mut reader, writer, session, .. } =
        line.dial(server, fleet.board.governor(1)).await;
    // What enters is told it meanwhile, and must not fill the connection.
    tokio::spawn(async move { while let Ok(Some(_)) = reader.next().await {} });
    let channel = session.channel_open_session().await.unwrap();
    channel.request_subsystem(true, "borgios").await.unwrap();
    let mut stopped = Stopped::at(server, note.id()).await;
    let request = format!("{}\n", json!({"put": "envelope", "envelope": &note}));
    channel.data_bytes(request.into_bytes()).await.unwrap();
    stopped.reached().await;
    line.cut(server).await;
    drop((stopped, channel, writer, session));
    fleet.all_have(&note).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_greeting_showed_that_was_cut_short_reaches_all() {
    let fleet = Fleet::of(3, 2).await;
    let newcomer = Newcomer::new(&fleet, 110);
    let (server, invitation) = (&fleet.servers[0], &newcomer.membership[0]);
    let line = Line::to(server).await;
    let mut stopped = Stopped::at(server, invitation.id()).await;
    let dialled = newcomer.greet(server, &line).await;
    stopped.reached().await;
    line.cut(server).await;
    drop((stopped, dialled));
    fleet.all_have(invitation).await;
}

/// A member that brings a true eviction and is gone before it is told must not keep it from the others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_eviction_in_a_last_word_that_was_cut_short_is_obeyed_by_all() {
    let mut fleet = Fleet::of(3, 2).await;
    let out = fleet.servers[2].me();
    let statement = eviction(&mut fleet, out);
    let newcomer = Newcomer::new(&fleet, 112);
    let server = &fleet.servers[0];
    let line = Line::to(server).await;
    let mut stopped = Stopped::at(server, statement.id()).await;
    let dialled = newcomer.greet(server, &line).await;
    let because = vec![statement.clone()];
    let bye = Bye { code: "evicted".into(), message: String::new(), because };
    dialled.writer.send(Frame::Bye(bye).to_line()).await.unwrap();
    stopped.reached().await;
    line.cut(server).await;
    drop((stopped, dialled));
    for server in &fleet.servers[..2] {
        until("the others have it", async || server.has(&statement).await).await;
        until("the others are two", async || server.status().await["tree"]["size"] == 2).await;
    }
    let evicted = &fleet.servers[2];
    until("it stands alone", async || {
        let status = evicted.status().await;
        status["evicted"] == true && status["tree"]["links"] == 0
    })
    .await;
}

/// A link that this side closes ends, also when the other side never reads what is written to it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_does_not_read_is_cut_off_when_its_link_is_replaced_or_it_is_evicted() {
    let mut fleet = Fleet::of(2, 2).await;
    let newcomer = Newcomer::new(&fleet, 114);
    let node = newcomer.key.public();
    let statement = eviction(&mut fleet, node);
    let root = fleet.servers[0].root();
    let server = fleet.servers.iter().find(|server| server.me() == root).unwrap();
    let tree = server.agent().tree.clone();
    // More than the connection itself takes, less than a link may have waiting.
    let stuff = async || {
        for _ in 0..16 {
            tree.line(node, "x".repeat(256 * 1024), false).await;
        }
    };
    let first = Line::to(server).await;
    let one = newcomer.greet(server, &first).await;
    let join = JoinMessage { hops: 0, size: 1, unreachable: Vec::new() };
    one.writer.send(Frame::Tree(Message::Join(join)).to_line()).await.unwrap();
    until("it has a place", async || tree.view().borrow().children.contains(&node)).await;
    stuff().await;
    let second = Line::to(server).await;
    let two = newcomer.greet(server, &second).await;
    first.closes().await;
    stuff().await;
    assert_eq!(server.put(&statement).await["ok"]["new"], true);
    second.closes().await;
    until("no link is left to it", async || tree.view().borrow().links == 1).await;
    drop((one, two));
}
