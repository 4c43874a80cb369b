//! Sending a neighbour what it lacks: objects it named, or the statements after its head.

use std::collections::BTreeMap;
use std::sync::Arc;

use borgios_peertree::{Head, Message};
use borgios_policy::Lane;
use borgios_types::{Digest, Seq};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::ledger_handle::LedgerHandle;
use crate::outbox::Outbox;
use crate::wire::Frame;

/// What a neighbour wants from the store.
pub enum Request {
    /// These objects.
    Objects(Vec<Digest>),
    /// The statements of a lane.
    Lane {
        /// Which.
        lane: String,
        /// Those after this number.
        after: u64,
        /// Where the neighbour is in each lane.
        has: BTreeMap<String, Head>,
    },
}

/// Sends a neighbour what it asked for, at the pace at which it reads.
pub async fn provide_objects(
    mut wanted: mpsc::Receiver<Request>,
    ledger: LedgerHandle,
    outbox: Arc<Outbox>,
    cut: CancellationToken,
) {
    let providing = async {
        while let Some(request) = wanted.recv().await {
            let objects = match request {
                Request::Objects(ids) => {
                    ledger
                        .run(move |l| {
                            ids.iter().filter_map(|id| l.store().get(id).cloned()).collect()
                        })
                        .await
                }
                Request::Lane { lane, after, has } => match lane.parse::<Lane>() {
                    Ok(lane) => {
                        let most =
                            usize::try_from(borgios_peertree::bounds::LANE_PAGE).unwrap_or(64);
                        let has = has.into_iter();
                        let has = has.filter_map(|(lane, head)| Some((lane.parse().ok()?, head)));
                        let has: BTreeMap<Lane, Head> = has.collect();
                        ledger.run(move |l| l.follow(lane, Seq(after), most, &has)).await
                    }
                    Err(_) => Vec::new(),
                },
            };
            for object in objects {
                outbox.room().await;
                let frame = Frame::Tree(Message::Object {
                    id: object.id,
                    kind: object.kind().to_owned(),
                    body: object.body.clone(),
                });
                if outbox.push_object(frame.to_line()).is_err() {
                    // A link over which nothing is provided any more would look like a withholding one.
                    cut.cancel();
                    return;
                }
            }
        }
    };
    tokio::select! {
        () = providing => {}
        () = cut.cancelled() => {}
    }
}
