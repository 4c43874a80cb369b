//! Sources that are honest, slow, broken or lie.

use super::*;
use crate::http;
use tokio::net::TcpListener;

async fn server(blobs: &[&[u8]]) -> (tempfile::TempDir, Depot, Source) {
    let folder = tempfile::tempdir().unwrap();
    let depot = Depot::open(folder.path()).unwrap();
    for bytes in blobs {
        let mut receiving = depot.receive(Digest::of(bytes), bytes.len() as u64).unwrap();
        receiving.write(bytes).unwrap();
        receiving.finish().unwrap();
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = Source::Url(format!("http://{}/blobs", listener.local_addr().unwrap()));
    let router = http::router(depot.clone());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(http::serve(stream, router.clone()));
        }
    });
    (folder, depot, base)
}

#[tokio::test]
async fn a_blob_is_fetched_whole_or_from_where_it_was_cut_off() {
    let blob = vec![7; 300_000];
    let (_theirs, _, base) = server(&[&blob]).await;
    let (_ours, depot, _) = server(&[]).await;
    let digest = Digest::of(&blob);
    let mut begun = depot.receive(digest, 300_000).unwrap();
    begun.write(&blob[..100_000]).unwrap();
    drop(begun);
    let fetcher = Fetcher::new(depot.clone(), Neighbours::new()).unwrap();
    let nobody = Source::Url("http://127.0.0.1:1/blobs".to_owned());
    assert!(fetcher.get(digest, 300_000, &[nobody, base]).await);
    assert_eq!(std::fs::read(depot.path(&digest)).unwrap(), blob);
}

#[tokio::test]
async fn a_tampered_blob_is_refused_and_the_next_source_is_asked() {
    let good = vec![7; 1000];
    let bad = vec![8; 1000];
    let digest = Digest::of(&good);
    let (_lying, liar, lying) = server(&[&bad]).await;
    // The liar keeps other bytes under the name that is asked for.
    std::fs::rename(liar.path(&Digest::of(&bad)), liar.path(&digest)).unwrap();
    let (_honest, _, honest) = server(&[&good]).await;
    let (_ours, depot, _) = server(&[]).await;
    let fetcher = Fetcher::new(depot.clone(), Neighbours::new()).unwrap();
    assert!(!fetcher.get(digest, 1000, std::slice::from_ref(&lying)).await);
    assert_eq!(depot.size(&digest), None);
    assert!(fetcher.get(digest, 1000, &[lying, honest]).await);
    assert_eq!(std::fs::read(depot.path(&digest)).unwrap(), good);
}

#[tokio::test]
async fn t31_a_source_that_trickles_is_left_for_the_next_one() {
    use tokio::io::AsyncWriteExt as _;
    let blob = vec![7; 1000];
    let digest = Digest::of(&blob);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let trickle = Source::Url(format!("http://{}/blobs", listener.local_addr().unwrap()));
    let trickling = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let head = b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n";
        stream.write_all(head).await.unwrap();
        stream.write_all(&[7; 10]).await.unwrap();
        // And nothing more, for as long as anybody waits.
        let mut rest = [0; 1024];
        while matches!(stream.try_read(&mut rest), Ok(1..) | Err(_)) {
            if stream.readable().await.is_err() {
                break;
            }
        }
    });
    let (_honest, _, honest) = server(&[&blob]).await;
    let (_ours, depot, _) = server(&[]).await;
    let mut fetcher = Fetcher::new(depot.clone(), Neighbours::new()).unwrap();
    fetcher.patience = |_| Duration::from_millis(300);
    assert!(!fetcher.get(digest, 1000, std::slice::from_ref(&trickle)).await);
    fetcher.patience = |_| Duration::from_secs(60);
    assert!(fetcher.get(digest, 1000, &[honest]).await);
    assert_eq!(std::fs::read(depot.path(&digest)).unwrap(), blob);
    tokio::time::timeout(Duration::from_secs(60), trickling).await.unwrap().unwrap();
}

/// A server that gives `bytes` of a blob each 50 ms, from the beginning, to whoever asks.
async fn drips(blob: &[u8], bytes: usize) -> Source {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = Source::Node(format!("http://{}/blobs", listener.local_addr().unwrap()));
    let blob = blob.to_vec();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let blob = blob.clone();
            tokio::spawn(async move {
                let mut head = [0; 4096];
                assert!(stream.read(&mut head).await.unwrap() > 0);
                let length = blob.len();
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
                stream.write_all(head.as_bytes()).await.unwrap();
                for some in blob.chunks(bytes) {
                    if stream.write_all(some).await.is_err() {
                        return;
                    }
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            });
        }
    });
    base
}

#[tokio::test]
async fn a_source_that_trickles_is_left_long_before_an_honest_slow_one_would_be_done() {
    let blob = vec![7; 1_000_000];
    let digest = Digest::of(&blob);
    let trickle = drips(&blob, 1).await;
    let (_honest, _, honest) = server(&[&blob]).await;
    let (_ours, depot, _) = server(&[]).await;
    let mut fetcher = Fetcher::new(depot.clone(), Neighbours::new()).unwrap();
    // As for a blob of 50 MiB.
    fetcher.patience = |_| patience(50 * 1024 * 1024);
    fetcher.window = Duration::from_millis(300);
    let sources = [trickle, honest];
    let getting = fetcher.get(digest, 1_000_000, &sources);
    let got = tokio::time::timeout(Duration::from_secs(30), getting).await;
    assert_eq!(got, Ok(true));
    assert_eq!(std::fs::read(depot.path(&digest)).unwrap(), blob);
}

#[tokio::test]
async fn where_all_are_slow_the_fastest_is_asked_again_and_the_last_is_waited_for() {
    let blob = vec![7; 8_000];
    let digest = Digest::of(&blob);
    let (trickle, slow) = (drips(&blob, 1).await, drips(&blob, 200).await);
    for sources in [vec![slow.clone()], vec![trickle, slow]] {
        let (_ours, depot, _) = server(&[]).await;
        let mut fetcher = Fetcher::new(depot.clone(), Neighbours::new()).unwrap();
        fetcher.window = Duration::from_millis(500);
        let getting = fetcher.get(digest, 8_000, &sources);
        let got = tokio::time::timeout(Duration::from_secs(30), getting).await;
        assert_eq!(got, Ok(true), "{} sources", sources.len());
        assert_eq!(std::fs::read(depot.path(&digest)).unwrap(), blob);
    }
}

/// Whoever holds a blob with pieces that bring nothing keeps it from nobody who can get it elsewhere.
#[tokio::test]
async fn an_upload_holds_up_no_source_and_no_source_disturbs_it() {
    use crate::uploads::{Progress, Uploads};
    let blob = vec![7; 1000];
    let digest = Digest::of(&blob);
    let (_theirs, theirs, honest) = server(&[&blob]).await;
    let (_else, _, without) = server(&[]).await;
    for by_link in [false, true] {
        let (_ours, depot, _) = server(&[]).await;
        let neighbours = Neighbours::new();
        let (link, _linked) = neighbour(&theirs, &neighbours, |_| ());
        let fetcher = Fetcher::new(depot.clone(), neighbours).unwrap();
        let uploads = Uploads::new(depot.clone());
        let put = |offset, bytes: &[u8]| uploads.put(digest, 1000, offset, &BASE64.encode(bytes));
        assert_eq!(put(0, &blob[..10]).unwrap(), Progress::At(10));
        assert!(!fetcher.get(digest, 1000, std::slice::from_ref(&without)).await);
        assert_eq!(put(10, &blob[..10]).unwrap(), Progress::At(20), "it was not disturbed");
        assert_eq!(put(20, b"").unwrap(), Progress::At(20));
        let source = if by_link { link } else { honest.clone() };
        assert!(fetcher.get(digest, 1000, &[source]).await, "by link: {by_link}");
        assert_eq!(std::fs::read(depot.path(&digest)).unwrap(), blob);
        assert_eq!(put(20, &blob[..10]).unwrap(), Progress::Whole);
    }
}

/// A member's record names an address, and whoever answers there sends the others elsewhere.
#[tokio::test]
async fn only_what_a_statement_names_may_lead_elsewhere() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let blob = vec![7; 1000];
    let digest = Digest::of(&blob);
    let (_theirs, _, elsewhere) = server(&[&blob]).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}/blobs", listener.local_addr().unwrap());
    let to = format!("{elsewhere}/{}", digest.hex());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = [0; 4096];
            assert!(stream.read(&mut head).await.unwrap() > 0);
            let answer = format!(
                "HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            );
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    let (_ours, depot, _) = server(&[]).await;
    let fetcher = Fetcher::new(depot.clone(), Neighbours::new()).unwrap();
    assert!(!fetcher.get(digest, 1000, &[Source::Node(base.clone())]).await, "it was followed");
    assert_eq!(depot.size(&digest), None);
    assert!(fetcher.get(digest, 1000, &[Source::Url(base)]).await);
}

#[tokio::test]
async fn a_blob_of_another_size_is_not_even_begun() {
    let blob = vec![7; 1000];
    let (_theirs, _, base) = server(&[&blob]).await;
    let (_ours, depot, _) = server(&[]).await;
    let fetcher = Fetcher::new(depot.clone(), Neighbours::new()).unwrap();
    assert!(!fetcher.get(Digest::of(&blob), 999, &[base]).await);
    assert_eq!(depot.size(&Digest::of(&blob)), None);
}

/// A link whose other end gives pieces of what lies in its depot, as `lie` changes them.
fn neighbour(
    theirs: &Depot,
    neighbours: &Neighbours,
    lie: impl Fn(&mut crate::wire::Piece) + Send + 'static,
) -> (Source, crate::neighbours::Linked) {
    use crate::outbox::Outbox;
    use crate::wire::Frame;
    use std::sync::Arc;
    let peer = borgios_types::SecretKey::from_seed([1; 32]).public();
    let (link, asks) = (LinkId(1), Arc::new(Outbox::new()));
    let linked = neighbours.add(link, peer, asks.clone());
    let (tell, asked) = tokio::sync::mpsc::channel(crate::pieces::QUEUE);
    let answers = Arc::new(Outbox::new());
    let cut = tokio_util::sync::CancellationToken::new();
    tokio::spawn(crate::pieces::give(asked, theirs.clone(), answers.clone(), cut));
    tokio::spawn(async move {
        while let Some(line) = asks.next().await {
            let Frame::Blob(ask) = Frame::parse(&line).unwrap() else { panic!("{line}") };
            tell.send(ask).await.unwrap();
        }
    });
    let back = neighbours.clone();
    tokio::spawn(async move {
        while let Some(line) = answers.next().await {
            let Frame::Piece(mut piece) = Frame::parse(&line).unwrap() else { panic!("{line}") };
            lie(&mut piece);
            back.answered(link, piece);
        }
    });
    (Source::Link(link, peer), linked)
}

#[tokio::test]
async fn a_blob_comes_over_a_link_whole_or_from_where_it_was_cut_off() {
    let blob: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();
    let digest = Digest::of(&blob);
    let (_theirs, theirs, _) = server(&[&blob]).await;
    for have in [0, 1, 100_000, 1_000_000] {
        let (_ours, depot, _) = server(&[]).await;
        let neighbours = Neighbours::new();
        let (source, _linked) = neighbour(&theirs, &neighbours, |_| ());
        let fetcher = Fetcher::new(depot.clone(), neighbours).unwrap();
        let mut begun = depot.receive(digest, 1_000_000).unwrap();
        begun.write(&blob[..have]).unwrap();
        drop(begun);
        assert!(!fetcher.get(Digest::of(b"x"), 1, std::slice::from_ref(&source)).await);
        assert!(fetcher.get(digest, 1_000_000, &[source]).await, "from {have} on");
        assert_eq!(std::fs::read(depot.path(&digest)).unwrap(), blob);
    }
}

#[tokio::test]
async fn t33_a_neighbour_that_lies_is_refused_and_its_beginning_poisons_nobody_elses_end() {
    let blob = vec![7; 200_000];
    let digest = Digest::of(&blob);
    let (_theirs, theirs, honest) = server(&[&blob]).await;
    let (_ours, depot, _) = server(&[]).await;
    for lie in [
        (|piece| piece.bytes = "AAAA".into()) as fn(&mut crate::wire::Piece),
        |piece| piece.bytes = "not base64".into(),
        |piece| piece.size = Some(7),
        |piece| piece.bytes = BASE64.encode(vec![8; BASE64.decode(&piece.bytes).unwrap().len()]),
    ] {
        let neighbours = Neighbours::new();
        let (source, _linked) = neighbour(&theirs, &neighbours, lie);
        let fetcher = Fetcher::new(depot.clone(), neighbours).unwrap();
        assert!(!fetcher.get(digest, 200_000, &[source]).await);
        assert_eq!(depot.size(&digest), None);
    }
    // It gave a wrong beginning and broke off; the next one is asked for the end, and that
    // does not fit.
    let mut begun = depot.receive(digest, 200_000).unwrap();
    begun.write(&[8; 100_000]).unwrap();
    drop(begun);
    let fetcher = Fetcher::new(depot.clone(), Neighbours::new()).unwrap();
    assert!(fetcher.get(digest, 200_000, &[honest]).await);
    assert_eq!(std::fs::read(depot.path(&digest)).unwrap(), blob);
}
