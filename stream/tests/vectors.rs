//! The bytes on the wire do not change: fixed batches, frames, proofs and evidence.
//!
//! `tests/vectors/stream-*.txt` hold a name and hexadecimal bytes a line. A change to one is a change
//! of protocol; `STREAM_RECORD=1 cargo test -p borgios-stream --test vectors` records them anew.

#![allow(clippy::unwrap_used, reason = "what a test makes itself is as it was made")]

use std::fmt::Write as _;
use std::path::PathBuf;

use borgios_stream::builder::Draft;
use borgios_stream::frame::{Disown, Fetch, Gone, HeadsDigest, Served};
use borgios_stream::jobs::verify;
use borgios_stream::proof::Proof;
use borgios_stream::{
    Batch, BatchId, Durability, Evidence, Frame, Head, Kind, Origin, Position, Verdict,
};
use borgios_types::{Digest, SecretKey, UnixSeconds};
use bytes::Bytes;

const EPOCH: u64 = 1_790_000_000;

/// The origin's key is of the seed of 32 bytes 0x03, the network the SHA-256 of `borgios vectors`.
fn batch(first: u64, previous: BatchId, kind: &str, messages: &[&[u8]]) -> Batch {
    Draft {
        network: Digest::of(b"borgios vectors"),
        first: Position::new(EPOCH, first),
        previous,
        kind: Kind::new(kind).unwrap(),
        durability: if kind.is_empty() { Durability::Volatile } else { Durability::Durable },
        issued: UnixSeconds(EPOCH + 60),
        messages: messages.iter().map(|message| Bytes::copy_from_slice(message)).collect(),
    }
    .sign(&SecretKey::from_seed([3; 32]))
}

/// Compares with the file, or writes it.
fn check(name: &str, lines: &[(&str, Bytes)]) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors").join(name);
    let mut text = String::new();
    for (name, bytes) in lines {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        writeln!(text, "{name} {hex}").unwrap();
    }
    if std::env::var_os("STREAM_RECORD").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text, "{}", path.display());
}

#[test]
fn batches_proofs_and_evidence() {
    let first = batch(1, BatchId::NONE, "chat", &[b"one", b"", b"three"]);
    let second = batch(4, first.id(), "", &[b"four"]);
    let other = batch(4, first.id(), "chat", &[b"another four"]);
    for batch in [&first, &second, &other] {
        assert_eq!(verify(batch), Verdict::Good(batch.id()));
    }
    let proof = Proof::of(&first, 2).unwrap();
    assert_eq!(proof.check().unwrap().message, &b"three"[..]);
    let evidence = Evidence::of(second.envelope(), other.envelope()).unwrap();
    check(
        "stream-batches.txt",
        &[
            ("first", first.bytes().clone()),
            ("first-id", Bytes::copy_from_slice(&first.id().0)),
            ("second", second.bytes().clone()),
            ("second-id", Bytes::copy_from_slice(&second.id().0)),
            ("proof-of-message-3", proof.bytes().clone()),
            ("evidence", evidence.encode()),
        ],
    );
}

/// What a digest says of these heads, as `docs/protocol/stream.md` has it.
fn xor_of(heads: &[Head]) -> [u8; 32] {
    let mut xor = [0; 32];
    for Head { origin, last, id } in heads {
        let (epoch, number) = (last.epoch.to_be_bytes(), last.number.to_be_bytes());
        let hash = Digest::of(&[&origin.0[..], &epoch, &number, &id.0].concat()).0;
        xor.iter_mut().zip(hash).for_each(|(byte, other)| *byte ^= other);
    }
    xor
}

#[test]
fn frames() {
    let origin = Origin::from(SecretKey::from_seed([3; 32]).public());
    let at = Position::new(EPOCH, 9);
    let id = BatchId(Digest::of(b"a batch").0);
    let heads = vec![Head { origin, last: at, id }, Head { origin: Origin([5; 32]), last: at, id }];
    let digest = HeadsDigest { count: 2, xor: xor_of(&heads) };
    let one = batch(1, BatchId::NONE, "chat", &[b"for you"]);
    let other = batch(1, BatchId::NONE, "chat", &[b"for them"]);
    let evidence = Evidence::of(one.envelope(), other.envelope()).unwrap();
    let frames = [
        ("digest", Frame::Digest(digest)),
        ("heads", Frame::Heads(heads)),
        ("fetch", Frame::Fetch(Fetch { origin, after: at, window: 65_536 })),
        ("served", Frame::Served(Served { origin, head: at, count: 3 })),
        ("gone", Frame::Gone(Gone { origin, next: at })),
        ("disown", Frame::Disown(Disown { origin, first: at, id })),
        ("evidence", Frame::Evidence(evidence)),
    ];
    let lines: Vec<(&str, Bytes)> =
        frames.iter().map(|(name, frame)| (*name, frame.encode())).collect();
    for ((_, frame), (_, bytes)) in frames.iter().zip(&lines) {
        assert_eq!(Frame::parse(bytes.clone()).as_ref(), Ok(frame));
    }
    check("stream-frames.txt", &lines);
}
