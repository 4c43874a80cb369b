//! All streams of one node, as a state machine without IO.

use borgios_types::{Digest, PublicKey};

use crate::io::{Input, Now, Output};
use crate::log::Recovered;

/// When a node forwards what came from a tree neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relay {
    /// After it has verified it: a forgery goes no further than one node.
    Verified,
    /// Before, on the link's authentication: one verification less of latency per hop.
    Link,
}

/// What a core must know about itself.
#[derive(Clone, Debug)]
pub struct Config {
    /// The network.
    pub network: Digest,
    /// This node, an origin itself.
    pub me: PublicKey,
    /// When it forwards.
    pub relay: Relay,
}

/// All streams of one node.
#[derive(Debug)]
pub struct Core {
    config: Config,
}

impl Core {
    /// A core that goes on from what the log held.
    #[must_use]
    pub fn new(config: Config, recovered: Recovered) -> Self {
        drop(recovered);
        Self { config }
    }

    /// Applies one input and pushes what the shell must do, in order, to `out`.
    ///
    /// Never blocks and never fails.
    pub fn handle(&mut self, now: Now, input: Input, out: &mut Vec<Output>) {
        let _ = (now, input, out, &self.config);
    }
}
