//! What two agents say on a `peertree` channel, one JSON object per line.
//!
//! ```text
//! {"hello":{…}}   first frame each way: protocol, network, proof of membership
//! {"bye":{…}}     why this side ends the link; the last frame
//! {"ask":{…}}     a question to the fleet on its way, {"answer":{…}} its answer
//! {"direct":{…}}  a message to one node on its way, {"returned":{…}} what became of it
//! {"blob":{…}}    asks for a piece of a blob, {"piece":{…}} brings it, {"have":{…}}: a blob is here now
//! {"join":{…}} …  everything else is a message of the tree's core
//! ```

use borgios_peertree::Message;
use borgios_peertree::direct::{Direct, Returned};
use borgios_peertree::question::{Answer, Ask};
use borgios_types::{Digest, Envelope};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::roll::PROOFS_MAX;

/// Version of this protocol.
pub const PROTOCOL: u32 = 1;
/// Envelopes in one hello: an invitation, a first record, a renewal, and one to spare.
pub const MEMBERSHIP_MAX: usize = 4;

/// The first frame.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Hello {
    /// [`PROTOCOL`].
    pub protocol: u32,
    /// The sender's fleet.
    pub network: Digest,
    /// The sender's invitation and join records.
    pub membership: Vec<Envelope>,
}

/// The last frame.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Bye {
    /// Stable name of the reason.
    pub code: String,
    /// The reason for people.
    pub message: String,
    /// What proves it to a node that is out, at most [`PROOFS_MAX`]: it need not believe a word.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub because: Vec<Envelope>,
}

/// Longest piece of a blob, in bytes: its frame has less than 64 KiB, so that nothing urgent waits
/// behind more than that.
pub const PIECE_MAX: u32 = 45 * 1024;

/// Asks for a piece of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobAsk {
    /// Chosen by the asker, unique on its link.
    pub id: u64,
    /// Which blob.
    pub digest: Digest,
    /// Where the piece begins, in bytes.
    pub offset: u64,
    /// Bytes asked for, at most [`PIECE_MAX`].
    pub length: u32,
}

/// A piece of a blob: from the asked offset on, as many bytes as were asked for or there are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    /// Of the question.
    pub id: u64,
    /// Bytes of the whole blob; `None` where it is not.
    pub size: Option<u64>,
    /// Base64.
    pub bytes: String,
}

/// A blob came into the sender's depot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Have {
    /// Which.
    pub digest: Digest,
}

/// One line.
#[derive(Clone, Debug)]
pub enum Frame {
    /// First.
    Hello(Hello),
    /// Last.
    Bye(Bye),
    /// A question.
    Ask(Ask),
    /// An answer.
    Answer(Answer),
    /// A question for a piece of a blob.
    Blob(BlobAsk),
    /// The piece.
    Piece(Piece),
    /// News of a blob.
    Have(Have),
    /// A message to one node.
    Direct(Direct),
    /// What became of one.
    Returned(Returned),
    /// A message of the core, its lists within their bounds.
    Tree(Message),
}

/// Why a line is no frame.
#[derive(Debug, Error)]
pub enum WireError {
    /// Not JSON, or of no known shape.
    #[error("a frame that cannot be read: {0}")]
    Shape(#[from] serde_json::Error),
    /// A list beyond its bound.
    #[error("a {0} frame with more in it than it may have")]
    Unbounded(&'static str),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Own {
    Hello(Hello),
    Bye(Bye),
    Ask(Ask),
    Answer(Answer),
    Blob(BlobAsk),
    Piece(Piece),
    Have(Have),
    Direct(Direct),
    Returned(Returned),
}

/// How the frames begin that are not the core's.
const OWN: [&str; 9] = [
    "{\"hello\"",
    "{\"bye\"",
    "{\"ask\"",
    "{\"answer\"",
    "{\"direct\"",
    "{\"returned\"",
    "{\"blob\"",
    "{\"piece\"",
    "{\"have\"",
];

impl Frame {
    /// Reads one line, whose length has been bounded.
    ///
    /// # Errors
    /// See [`WireError`].
    pub fn parse(line: &str) -> Result<Self, WireError> {
        // The core's messages hold raw JSON, which serde cannot buffer to try one shape after the
        // other; so the first key decides, and it stands where every writer of ours puts it.
        if !OWN.iter().any(|start| line.starts_with(start)) {
            let message: Message = serde_json::from_str(line)?;
            let name = message.name();
            return if message.bounded() {
                Ok(Self::Tree(message))
            } else {
                Err(WireError::Unbounded(name))
            };
        }
        match serde_json::from_str(line)? {
            Own::Hello(hello) if hello.membership.len() > MEMBERSHIP_MAX => {
                Err(WireError::Unbounded("hello"))
            }
            Own::Bye(bye) if bye.because.len() > PROOFS_MAX => Err(WireError::Unbounded("bye")),
            Own::Blob(ask) if ask.length > PIECE_MAX => Err(WireError::Unbounded("blob")),
            Own::Piece(piece) if piece.bytes.len() > PIECE_MAX as usize / 3 * 4 => {
                Err(WireError::Unbounded("piece"))
            }
            Own::Blob(ask) => Ok(Self::Blob(ask)),
            Own::Piece(piece) => Ok(Self::Piece(piece)),
            Own::Have(have) => Ok(Self::Have(have)),
            Own::Ask(ask) if !ask.question.bounded() => Err(WireError::Unbounded("ask")),
            Own::Answer(answer) if !answer.bounded() => Err(WireError::Unbounded("answer")),
            Own::Hello(hello) => Ok(Self::Hello(hello)),
            Own::Bye(bye) => Ok(Self::Bye(bye)),
            Own::Ask(ask) => Ok(Self::Ask(ask)),
            Own::Answer(answer) => Ok(Self::Answer(answer)),
            // A body that is too long is said to be so, by the switch; a line bounds it.
            Own::Direct(direct) => Ok(Self::Direct(direct)),
            Own::Returned(returned) => Ok(Self::Returned(returned)),
        }
    }

    /// One line, without its newline.
    #[must_use]
    pub fn to_line(&self) -> String {
        let line = match self {
            // A beat is the shortest line there is.
            Self::Tree(Message::Alive) => return String::new(),
            Self::Tree(message) => serde_json::to_string(message),
            Self::Hello(hello) => serde_json::to_string(&Own::Hello(hello.clone())),
            Self::Bye(bye) => serde_json::to_string(&Own::Bye(bye.clone())),
            Self::Ask(ask) => serde_json::to_string(&Own::Ask(ask.clone())),
            Self::Answer(answer) => serde_json::to_string(&Own::Answer(answer.clone())),
            Self::Blob(ask) => serde_json::to_string(&Own::Blob(*ask)),
            Self::Piece(piece) => serde_json::to_string(&Own::Piece(piece.clone())),
            Self::Have(have) => serde_json::to_string(&Own::Have(*have)),
            Self::Direct(direct) => serde_json::to_string(&Own::Direct(direct.clone())),
            Self::Returned(returned) => serde_json::to_string(&Own::Returned(*returned)),
        };
        line.expect("frames have string keys only")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use borgios_peertree::Body;
    use borgios_peertree::direct::Undelivered;
    use borgios_peertree::question::bounds::{ROLL_MAX, SILENT_MAX};
    use borgios_peertree::question::{Exception, Place, Places, Question, Roll, Scope, Tally};
    use borgios_types::SecretKey;

    use crate::frame::FRAME_MAX;

    #[test]
    fn frames_read_back() {
        let id = Digest::of(b"x");
        let body = Body::from_text("{\"a\": 1}").unwrap();
        let object = Message::Object { id, kind: "note".into(), body };
        for frame in [
            Frame::Hello(Hello { protocol: 1, network: id, membership: Vec::new() }),
            Frame::Ask(Ask {
                id: 7,
                nonce: 9,
                scope: Scope::Fleet,
                question: Question::Load { above: 1 },
                within_ms: 3,
            }),
            Frame::Answer(Answer { id: 7, tally: None, tree: Some(Places::default()) }),
            Frame::Answer(Answer { id: 7, tally: Some(Tally::default()), tree: None }),
            Frame::Direct(Direct {
                id: 1,
                to: SecretKey::from_seed([1; 32]).public(),
                hops_left: 3,
                body: "\"".into(),
            }),
            Frame::Returned(Returned { id: 1, hops: 2, error: Some(Undelivered::Busy) }),
            Frame::Bye(Bye { code: "x".into(), message: "y".into(), because: Vec::new() }),
            Frame::Blob(BlobAsk { id: 1, digest: id, offset: 2, length: PIECE_MAX }),
            Frame::Piece(Piece { id: 1, size: None, bytes: String::new() }),
            Frame::Have(Have { digest: id }),
            Frame::Tree(Message::Leave),
            Frame::Tree(object),
        ] {
            let line = frame.to_line();
            assert_eq!(Frame::parse(&line).unwrap().to_line(), line);
        }
    }

    #[test]
    fn nonsense_is_an_error() {
        let deep = "[".repeat(100_000);
        for line in ["", "{}", "null", "{\"hello\":1}", "{\"nothing\":{}}", deep.as_str()] {
            assert!(Frame::parse(line).is_err());
        }
        let ids = vec![Digest::of(b"x"); 10_000];
        let line = serde_json::to_string(&Message::Want { ids }).unwrap();
        assert!(matches!(Frame::parse(&line), Err(WireError::Unbounded("want"))));
        let bytes = "x".repeat(PIECE_MAX as usize / 3 * 4);
        let piece =
            |bytes: String| Frame::Piece(Piece { id: u64::MAX, size: Some(u64::MAX), bytes });
        let longest = piece(bytes.clone()).to_line();
        assert!(longest.len() < 64 * 1024, "{}", longest.len());
        assert!(Frame::parse(&longest).is_ok());
        let line = piece(bytes + "xxxx").to_line();
        assert!(matches!(Frame::parse(&line), Err(WireError::Unbounded("piece"))));
    }

    #[test]
    fn the_longest_answer_fits_a_frame() {
        let node = |n: u8| SecretKey::from_seed([n; 32]).public();
        let widest = "\u{fffd}".repeat(21);
        let label = |n: usize| format!("{n:02}{}", &widest[..60]);
        let digits = "f".repeat(16 * ROLL_MAX);
        let roll: Roll = serde_json::from_value(serde_json::json!(digits)).unwrap();
        let tally = Tally {
            answered: u64::MAX,
            labels: (0..32).map(|n| (label(n), u64::MAX)).collect(),
            exceptions: (0..32)
                .map(|n| Exception { node: node(n), weight: u64::MAX, what: label(1) })
                .collect(),
            silent: (0..SILENT_MAX as u8).map(node).collect(),
            roll,
            ..Tally::default()
        };
        assert!(tally.bounded());
        let place = Place {
            node: node(1),
            name: "\u{1}".repeat(borgios_types::limits::NAME_MAX),
            address: Some("\u{1}".repeat(borgios_peertree::bounds::ADDRESS_MAX)),
            parent: Some(node(2)),
            depth: u64::MAX,
            hops: None,
            detail: None,
        };
        let mut places = Places::default();
        places.merge(Places { nodes: vec![place; 3_000], silent: vec![], partial: false });
        assert!(places.partial);
        let rolled = 16 * ROLL_MAX;
        let line = Frame::Answer(Answer { id: u64::MAX, tally: Some(tally), tree: Some(places) });
        // The roll above is one tag many times over, so it is written short.
        assert!(line.to_line().len() + rolled <= FRAME_MAX, "{}", line.to_line().len() + rolled);
    }

    #[test]
    fn lists_of_neighbours_are_bounded_before_they_are_looked_at() {
        let labels: serde_json::Map<_, _> = (0..40).map(|n| (n.to_string(), 1.into())).collect();
        let line = serde_json::json!({"answer": {"id": 1, "tally": {"labels": labels}}});
        assert!(matches!(Frame::parse(&line.to_string()), Err(WireError::Unbounded("answer"))));
        let usual = "x".repeat(65);
        let question = serde_json::json!({"about": "versions", "usual": usual});
        let line = format!(
            "{{\"ask\":{{\"id\":1,\"tree\":\"below\",\"within_ms\":1,\"question\":{question}}}}}"
        );
        assert!(matches!(Frame::parse(&line), Err(WireError::Unbounded("ask"))));
    }
}
