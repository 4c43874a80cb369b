//! A disk that fails while the hub runs, and an agent that listens late.

#![allow(clippy::unwrap_used, reason = "what a test makes itself is as it was made")]

use std::time::{Duration, Instant};

use borgios_relay::hub::Refusal;
use borgios_relay::pipe::StreamPipe;
use borgios_relay::{Event, HubConfig, HubHandle, Item, PublishError};
use borgios_stream::{
    Admission, BatchId, Durability, Frame, Head, Kind, Limits, Origin, Position, Relay, Role,
};
use borgios_types::{Digest, SecretKey};
use bytes::Bytes;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::mpsc;

/// Nothing here takes this long unless it is broken.
const PATIENCE: Duration = Duration::from_secs(30);

async fn hub(log: Option<std::path::PathBuf>) -> (HubHandle, mpsc::Receiver<Event>) {
    hub_of(1, log, Limits::default()).await
}

async fn hub_of(
    number: u8,
    log: Option<std::path::PathBuf>,
    limits: Limits,
) -> (HubHandle, mpsc::Receiver<Event>) {
    let config = HubConfig {
        network: Digest([7; 32]),
        key: SecretKey::from_seed([number; 32]),
        relay: Relay::Verified,
        verifiers: None,
        log,
        limits,
        on_arrival: None,
    };
    HubHandle::start(config).await.unwrap()
}

async fn say(hub: &HubHandle, durability: Durability) -> Result<u64, PublishError> {
    let kind = Kind::new("test").unwrap();
    let said = hub.publish(kind, durability, Bytes::from_static(b"x")).await;
    said.map(|receipt| receipt.number)
}

#[tokio::test]
async fn a_log_whose_disk_failed_is_opened_again_and_refuses_until_then() {
    let folder = tempfile::tempdir().unwrap();
    let (log, away) = (folder.path().join("log"), folder.path().join("away"));
    let (hub, mut events) = hub(Some(log.clone())).await;
    assert_eq!(say(&hub, Durability::Volatile).await, Ok(1));
    // The next sync cannot find the folder.
    std::fs::rename(&log, &away).unwrap();
    let refused = Err(PublishError::Refused(Refusal::NotStored));
    assert_eq!(say(&hub, Durability::Durable).await, refused);
    assert!(matches!(events.recv().await, Some(Event::LogFailed(_))));
    assert_eq!(say(&hub, Durability::Volatile).await, refused, "nothing is taken by a broken log");
    std::fs::rename(&away, &log).unwrap();
    let begun = Instant::now();
    loop {
        let event = tokio::time::timeout(PATIENCE, events.recv()).await.expect("in time");
        if matches!(event, Some(Event::LogReopened)) {
            break;
        }
    }
    assert!(begun.elapsed() < PATIENCE);
    // In a new epoch: nobody knows which of the old one were sent.
    assert_eq!(say(&hub, Durability::Durable).await, Ok(1));
    // All that was acknowledged is there after a start too.
    let me = hub.origin();
    let begun = Instant::now();
    let mut heads = hub.heads().await.unwrap();
    // The reader is given from the log what the log turned out to hold.
    while heads[0].last.number != 1 {
        assert!(begun.elapsed() < PATIENCE, "{heads:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
        heads = hub.heads().await.unwrap();
    }
    hub.stop().await;
    let (again, _events) = self::hub(Some(log)).await;
    assert_eq!(again.heads().await.unwrap(), heads);
    assert_eq!(heads.iter().map(|head| head.origin).collect::<Vec<_>>(), [me]);
    again.stop().await;
}

#[tokio::test]
async fn an_agent_that_listens_late_is_asked_about_every_origin() {
    const ORIGINS: usize = 3_000;
    let (hub, mut events) = hub(None).await;
    let (near, mut far) = tokio::io::duplex(64 * 1024);
    hub.link_up(SecretKey::from_seed([2; 32]).public(), Role::Tree, StreamPipe(near)).await;
    let heads: Vec<Head> = (0..ORIGINS)
        .map(|n| {
            let mut origin = [7; 32];
            origin[..8].copy_from_slice(&(n as u64).to_be_bytes());
            let last = Position::new(1, 1);
            Head { origin: Origin(origin), last, id: BatchId([1; 32]) }
        })
        .collect();
    for page in heads.chunks(1_000) {
        far.write_all(&Frame::Heads(page.to_vec()).encode()).await.unwrap();
    }
    // It has taken all of it in before anybody listens: the hub answers in order.
    let begun = Instant::now();
    let mut asked = std::collections::BTreeSet::new();
    while asked.len() < ORIGINS {
        assert!(begun.elapsed() < PATIENCE);
        if asked.is_empty() {
            hub.heads().await.unwrap();
        }
        match tokio::time::timeout(PATIENCE, events.recv()).await.expect("in time") {
            Some(Event::Admit(origin)) => assert!(asked.insert(origin)),
            other => panic!("{other:?}"),
        }
    }
    hub.stop().await;
}

#[tokio::test]
async fn a_hole_that_nobody_fills_is_told_to_who_reads_along() {
    let few = Limits { stream_messages: 4, ..Limits::default() };
    let (speaker, mut ends) = hub_of(1, None, few).await;
    let (listener, mut events) = hub_of(2, None, few).await;
    let admitting = listener.clone();
    tokio::spawn(async move {
        while let Some(event) = events.recv().await {
            if let Event::Admit(origin) = event {
                admitting.admit(origin, Admission::Yes).await;
            }
        }
    });
    let link = async || {
        let (upper, lower) = tokio::io::duplex(64 * 1024);
        let keys = [1, 2].map(|number| SecretKey::from_seed([number; 32]).public());
        let near = speaker.link_up(keys[1], Role::Tree, StreamPipe(upper)).await;
        listener.link_up(keys[0], Role::Tree, StreamPipe(lower)).await;
        near
    };
    let mut reader = listener.subscribe(Default::default()).await.unwrap();
    let near = link().await;
    assert_eq!(say(&speaker, Durability::Volatile).await, Ok(1));
    let next = async |reader: &mut borgios_relay::Subscription| {
        tokio::time::timeout(PATIENCE, reader.next()).await.expect("in time").unwrap()
    };
    assert!(matches!(next(&mut reader).await, Item::Messages(new) if new.last().number == 1));
    speaker.link_down(near).await;
    while !matches!(ends.recv().await, Some(Event::LinkEnded { .. })) {}
    for number in 2..=20 {
        assert_eq!(say(&speaker, Durability::Volatile).await, Ok(number));
    }
    link().await;
    // Four messages are kept: what was between is said before they are given.
    let Item::Missed { after, next: begins, .. } = next(&mut reader).await else {
        panic!("passed over in silence")
    };
    assert_eq!((after.number, begins.number), (1, 17));
    let Item::Messages(new) = next(&mut reader).await else { panic!("nothing follows") };
    assert_eq!(new.messages().next().unwrap().position, begins);
}

/// Whoever is told that the hub has ended may say it again: it was not stored.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_stop_has_stored_is_answered() {
    let folder = tempfile::tempdir().unwrap();
    let mut said = 0;
    for round in 0..40 {
        let (running, _events) = hub(Some(folder.path().join("log"))).await;
        let me = running.origin();
        let held = running.heads().await.unwrap();
        let stored = held.iter().find(|head| head.origin == me).map_or(0, |head| head.last.number);
        assert_eq!(stored, said, "after round {round}");
        let speaker = running.clone();
        let saying = tokio::spawn(async move {
            let body = Bytes::from_static(b"once");
            speaker.publish(Kind::new("test").unwrap(), Durability::Durable, body).await
        });
        // So that it is met at this stage or that.
        for _ in 0..round {
            tokio::task::yield_now().await;
        }
        running.stop().await;
        match saying.await.unwrap() {
            Ok(receipt) => said = receipt.number,
            Err(why) => assert_eq!(why, PublishError::Ended),
        }
    }
}
