//! `borgios connect`: talks to a node and remembers it for the commands that follow.

use clap::Args;
use serde_json::json;

use crate::context::Context;
use crate::failure::Failure;
use crate::known::{KnownNode, KnownNodes, address};
use crate::transport::api::Door as _;
use crate::transport::node::Node;

/// Talk to a node and remember it
#[derive(Debug, Args)]
pub(crate) struct Connect {
    /// Its address
    #[arg(value_name = "HOST:PORT")]
    address: String,
    /// Its key or fingerprint, if you know it from elsewhere: nothing else is accepted then
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Accept a new key: the server was reinstalled
    #[arg(long)]
    forget: bool,
}

impl Connect {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let address = address(&self.address)?;
        let identity = context.identity()?;
        let _lock = context.home.lock()?;
        let mut known = KnownNodes::load(&context.home)?;
        let before = if self.forget { None } else { known.key(&address) };
        let mut node = Node::connect(&address, before, &identity)?;
        let key = node.key();
        if let Some(expected) = &self.key {
            let shown = [key.to_string(), key.fingerprint()];
            let expected = expected.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
            if !shown.contains(&expected) {
                return Err(Failure::new(format!("the node at {address} is another one"))
                    .because(format!("it shows {}", key.fingerprint()))
                    .because(format!("expected {expected}")));
            }
        }
        // A node answers only the governors of its board: better to know that now.
        node.ask(&json!({"get": "heads"}))?;
        let met = KnownNode { address: address.clone(), key };
        if self.forget || self.key.is_some() {
            known.remember(&context.home, met)?;
        } else {
            known.remember_first(&context.home, met)?;
        }
        let answer = json!({"address": address, "key": key, "fingerprint": key.fingerprint()});
        context.printer.answer(&answer, &format!("{address} is {}", key.fingerprint()))
    }
}
