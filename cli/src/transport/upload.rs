//! A blob sent to a node in pieces over an open door.

use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use borgios_types::Digest;
use serde::Deserialize;
use serde_json::{Value, json};

use super::api::Door;
use super::patience;
use crate::failure::{Failure, OrFail as _};

/// Bytes in one piece: base64 makes a third more of it, and a line holds at most 1 MiB.
const PIECE: usize = 256 * 1024;

/// What to do after an upload that stopped half-way.
const AGAIN: &str =
    "run the same command again, which goes on where it stopped, or name another node";

/// Where an upload stands.
#[derive(Deserialize)]
struct Progress {
    /// Bytes the node has; all of them when it is whole.
    have: u64,
    #[serde(default)]
    whole: bool,
}

/// How many bytes so many are on the line.
pub(super) fn in_base64(bytes: usize) -> u64 {
    (bytes as u64).div_ceil(3) * 4
}

/// Sends a blob from where the node wants it; one that it has is not sent. The node has as long for it
/// as its size asks for.
pub(crate) fn send(door: &mut dyn Door, digest: Digest, bytes: &[u8]) -> Result<(), Failure> {
    let until = Instant::now() + patience::of_blob(in_base64(bytes.len()));
    send_until(door, digest, bytes, until)
}

/// The same, until it is too late.
///
/// The first answer says where an earlier upload was cut off. From then on every piece counts whole, or
/// a node could have a piece sent for each byte. It may count for more: another laptop brings the same blob.
pub(super) fn send_until(
    door: &mut dyn Door,
    digest: Digest,
    bytes: &[u8],
    until: Instant,
) -> Result<(), Failure> {
    let (mut offset, mut least) = (0, 0);
    loop {
        if patience::is_past(until) {
            return Err(Failure::new(format!("{} takes a blob too slowly", door.name()))
                .because(format!("it took {offset} of {} bytes in the time it had", bytes.len()))
                .because(AGAIN));
        }
        let piece = &bytes[offset..bytes.len().min(offset + PIECE)];
        let request: Value = json!({
            "put": "blob", "digest": digest, "size": bytes.len(), "offset": offset,
            "bytes": BASE64.encode(piece),
        });
        let progress = door.ask(&request)?;
        let progress: Progress = serde_json::from_value(progress)
            .or_fail(|| format!("{} did not say how far it is", door.name()))?;
        if progress.whole {
            return Ok(());
        }
        let next = usize::try_from(progress.have).unwrap_or(usize::MAX);
        // With every byte it would be whole, or refused.
        if next < least || next >= bytes.len() {
            return Err(Failure::new(format!("{} does not take a blob as it comes", door.name()))
                .because(format!("it asks for byte {next} of {} after {offset}", bytes.len()))
                .because(AGAIN));
        }
        offset = next;
        least = bytes.len().min(offset + PIECE);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// What a node says it has, from how often it was asked.
    type Lie = fn(usize) -> usize;

    /// A node that takes what comes at the right place, as a true one does; or answers as it likes.
    #[derive(Default)]
    struct Node {
        has: Vec<u8>,
        size: usize,
        lie: Option<Lie>,
        /// After which request another laptop brings seven bytes.
        other: usize,
        slow: Duration,
        asked: usize,
    }

    impl Door for Node {
        fn name(&self) -> String {
            "node".into()
        }

        fn ask(&mut self, request: &Value) -> Result<Value, Failure> {
            self.asked += 1;
            std::thread::sleep(self.slow);
            let piece = BASE64.decode(request["bytes"].as_str().unwrap()).unwrap();
            assert_eq!(request["size"], self.size);
            if self.has.len() < self.size && request["offset"] == self.has.len() {
                self.has.extend(piece);
            }
            if self.asked == self.other {
                let at = self.has.len();
                self.has.extend(&blob()[at..at + 7]);
            }
            let have = self.lie.map_or(self.has.len(), |lie| lie(self.asked));
            Ok(json!({"have": have, "whole": self.lie.is_none() && have == self.size}))
        }
    }

    fn blob() -> Vec<u8> {
        (0_u8..=250).cycle().take(3 * PIECE + 5).collect()
    }

    fn sent(node: &mut Node) -> Result<(), Failure> {
        let bytes = blob();
        node.size = bytes.len();
        send(node, Digest::of(&bytes), &bytes)
    }

    #[test]
    fn an_upload_goes_on_where_an_earlier_one_stopped() {
        for (has, requests) in [(0, 4), (1, 5), (PIECE, 4), (3 * PIECE, 2), (3 * PIECE + 5, 1)] {
            let mut node = Node { has: blob()[..has].to_vec(), ..Node::default() };
            sent(&mut node).unwrap();
            assert!(node.has == blob(), "{has}");
            assert_eq!(node.asked, requests, "{has}");
        }
        let mut node = Node::default();
        send(&mut node, Digest::of(b""), b"").unwrap();
        assert_eq!(node.asked, 1);
    }

    #[test]
    fn two_laptops_may_bring_one_blob_at_the_same_time() {
        for other in [1, 2] {
            let mut node = Node { other, ..Node::default() };
            sent(&mut node).unwrap();
            assert!(node.has == blob(), "{other}");
        }
    }

    #[test]
    fn a_node_that_has_more_sent_than_the_blob_is_left() {
        let lies: [(Lie, usize); 5] = [
            // One byte further each time, a piece for each.
            (|asked| asked, 2),
            (|asked| PIECE * asked - asked, 2),
            (|_| 0, 2),
            // More than there is, and everything without being whole.
            (|_| 4 * PIECE, 1),
            (|_| 3 * PIECE + 5, 1),
        ];
        for (at, (lie, requests)) in lies.into_iter().enumerate() {
            let mut node = Node { lie: Some(lie), ..Node::default() };
            let said = sent(&mut node).unwrap_err().summary();
            assert!(said.contains("it asks for byte") && said.contains("again"), "{at}: {said}");
            assert_eq!(node.asked, requests, "{at}");
        }
    }

    #[test]
    fn a_node_that_takes_its_time_is_left() {
        let bytes = blob();
        let slow = Duration::from_millis(60);
        let mut node = Node { size: bytes.len(), slow, ..Node::default() };
        let until = Instant::now() + Duration::from_millis(100);
        let said = send_until(&mut node, Digest::of(&bytes), &bytes, until).unwrap_err().summary();
        assert!(said.contains("in the time it had"), "{said}");
        assert!(node.asked < 4, "{}", node.asked);
        // What it took is not sent again.
        node.slow = Duration::ZERO;
        sent(&mut node).unwrap();
        assert!(node.has == bytes);
    }
}
