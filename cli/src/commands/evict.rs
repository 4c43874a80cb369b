//! `borgios evict`: asks the board to put servers out for good.

use borgios_policy::{Eviction, Lane};
use clap::Args;
use serde_json::{Value, json};

use crate::commands::propose::{Terms, put_to_vote};
use crate::context::Context;
use crate::failure::Failure;
use crate::printer::one_line;
use crate::servers::evicted;
use crate::session::Session;

/// Ask the board to put servers out for good
#[derive(Debug, Args)]
pub(crate) struct Evict {
    /// Names, or the first digits of their keys' fingerprints
    #[arg(value_name = "SERVER", required = true)]
    servers: Vec<String>,
    /// Why
    #[arg(long, value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    terms: Terms,
}

impl Evict {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let mut session = Session::open(context)?;
        let servers = session.desk.servers()?;
        let out = evicted(session.desk.archive().chain());
        let (mut evict, mut text, mut answer) = (Vec::new(), String::new(), Vec::<Value>::new());
        for word in &self.servers {
            let server = servers.find(word, context.now(), &out)?;
            let join = server.join();
            if out(&join.node) {
                return Err(Failure::new(format!("{} is evicted already", server.describe())));
            }
            if evict.contains(&join.node) {
                continue;
            }
            evict.push(join.node);
            text.push_str(&format!(
                "  {}\n    a member since {}, last heard of at {}\n",
                server.describe(),
                server.since(),
                server.last_heard()
            ));
            answer.push(json!({
                "node": join.node, "name": join.name, "address": join.address,
                "since": server.since(), "last_heard": server.last_heard(),
            }));
        }
        let count = evict.len();
        let body = Eviction { evict, reason: self.reason }.to_body();
        let mut proposed = put_to_vote(&mut session, Lane::Member, body, self.terms)?;
        proposed.answer.insert("evict".into(), answer.into());
        let text: String = text.lines().map(|line| one_line(line) + "\n").collect();
        let text = format!("proposed {}: {}\n{text}", proposed.place(), proposed.statement);
        context.printer.answer(&proposed.answer, &text)?;
        proposed.talk(context);
        let them = if count == 1 { "it" } else { "them" };
        context.printer.say(&format!(
            "Once it is signed every member cuts its links to {them}, for good: the way back is to \
             reinstall and join anew."
        ));
        Ok(())
    }
}
