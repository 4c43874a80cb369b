//! A governor who follows the bus: `ssh -p 7117 -i KEY -s NODE peertree`, and nothing but reading.
//!
//! ```text
//!  ◀── {"follow":{"network","node","protocol"}}    first, what this is
//!  ◀── {"kind","id",…,"envelope"}                  one line for each object that enters from now on
//!  ◀── {"gap":n}                                   so many were dropped: the reader was too slow
//!  ──▶ end of input, or the node ends              exit status 0, closed
//!  ──▶ a line                                      {"error":…}, exit status 1, closed
//! ```
//!
//! Whoever follows is no neighbour: nothing they say reaches the tree, and nothing waits for them.
//! Who loses the governor's office by what they read is shown that, and no more.

use std::time::Duration;

use borgios_policy::Lane;
use borgios_types::{Digest, NodeId, PublicKey};
use serde_json::{Value, json};
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::api::error;
use crate::bus::Entry;
use crate::channel::{FrameReader, FrameWriter};
use crate::ledger_handle::LedgerHandle;
use crate::wire::PROTOCOL;

/// Longest wait, once the node ends, for a reader to take the line that is being written, and for
/// its client to close; it is a part of the time in which an agent ends.
pub const CLOSE_GRACE: Duration = Duration::from_millis(1500);

/// One who follows.
pub struct Follower {
    key: PublicKey,
    node: NodeId,
    network: Digest,
    ledger: LedgerHandle,
    entries: Receiver<Entry>,
}

/// Why it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
enum End {
    /// Its input ended, or the node does.
    Done,
    /// It said something, or may no longer follow: the code and the words.
    Refused(&'static str, String),
    /// The connection is gone, or it does not read at all.
    Gone,
}

impl Follower {
    /// Listens for `key` from this moment on, if it is a governor's of the board in force and no
    /// node's: a node brings a hello and gets a link.
    pub async fn admit(ledger: &LedgerHandle, node: NodeId, key: PublicKey) -> Option<Self> {
        let admitted = ledger.run(move |ledger| {
            ledger.governor(&key)?;
            let is_node = ledger.join_of(&key).is_some() || ledger.out(&key).is_some();
            let network = ledger.chain().network().filter(|_| !is_node)?;
            Some((network, ledger.listen()))
        });
        let (network, entries) = admitted.await?;
        Some(Self { key, node, network, ledger: ledger.clone(), entries })
    }

    /// Writes what enters until the reader is done or the node ends.
    pub async fn run(
        mut self,
        mut reader: FrameReader,
        writer: FrameWriter,
        stop: CancellationToken,
    ) {
        let end = self.follow(&mut reader, &writer, &stop).await;
        debug!(follower = %self.key.short(), ?end, "a follower is done");
        let status = match end {
            End::Done => 0,
            End::Refused(code, why) => {
                let _ = self.say(&writer, &stop, error(code, &why).to_string()).await;
                1
            }
            End::Gone => return,
        };
        // The other side closes once it has read all of it.
        let close = async {
            writer.finish(status).await;
            reader.drain().await;
        };
        let _ = tokio::time::timeout(CLOSE_GRACE, close).await;
    }

    async fn follow(
        &mut self,
        reader: &mut FrameReader,
        writer: &FrameWriter,
        stop: &CancellationToken,
    ) -> End {
        if let Err(end) = self.say(writer, stop, self.head().to_string()).await {
            return end;
        }
        loop {
            let told = tokio::select! {
                () = stop.cancelled() => return End::Done,
                heard = reader.next() => return match heard {
                    Ok(None) => End::Done,
                    Ok(Some(_)) => End::Refused("read_only", "who follows the bus says nothing".into()),
                    Err(bad) => End::Refused(bad.code(), bad.to_string()),
                },
                told = self.entries.recv() => told,
            };
            let (line, changes_board) = match told {
                Ok(entry) => (entry.to_line(), matches!(entry.place, Some((Lane::Policy, _)))),
                Err(RecvError::Lagged(count)) => (json!({"gap": count}).to_string(), true),
                // The ledger ends with the agent.
                Err(RecvError::Closed) => return End::Done,
            };
            if let Err(end) = self.say(writer, stop, line).await {
                return end;
            }
            let key = self.key;
            if changes_board && self.ledger.run(move |l| l.governor(&key).is_none()).await {
                let why = "this key is no governor's of the board in force any more";
                return End::Refused("not_a_governor", why.into());
            }
        }
    }

    /// What this is.
    fn head(&self) -> Value {
        json!({"follow": {"network": self.network, "node": self.node, "protocol": PROTOCOL}})
    }

    /// Writes one line, however slowly it is read; at the node's end for a moment only.
    async fn say(
        &self,
        writer: &FrameWriter,
        stop: &CancellationToken,
        line: String,
    ) -> Result<(), End> {
        let patience = async {
            stop.cancelled().await;
            tokio::time::sleep(CLOSE_GRACE).await;
        };
        tokio::select! {
            sent = writer.send(line) => sent.map_err(|_| End::Gone),
            () = patience => Err(End::Gone),
        }
    }
}
