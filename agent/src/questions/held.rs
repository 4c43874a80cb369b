//! How far the streams are that this node holds: what a receipt for a message is answered from.

use borgios_types::NodeId;

/// Answers from the heads of the stored streams; asked on any thread, it must not block.
pub trait Held: Send + Sync + 'static {
    /// The number of the last message that is stored here of this origin's generation, with all
    /// before it; `None` if nothing of it is.
    fn last(&self, origin: &NodeId, epoch: u64) -> Option<u64>;
}

/// A node without streams.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoStreams;

impl Held for NoStreams {
    fn last(&self, _: &NodeId, _: u64) -> Option<u64> {
        None
    }
}
