//! `borgios access list`: what was granted, revoked and revealed, and what still opens a door.

use borgios_policy::{AccessClass, AccessOrder, Grant, VerifiedStatement};
use borgios_types::UnixSeconds;
use clap::Args;
use serde_json::{Value, json};

use crate::commands::access::orders;
use crate::context::Context;
use crate::desk::Desk;
use crate::failure::Failure;
use crate::printer::{one_line, table};
use crate::servers::Servers;

/// What was granted, revoked and revealed
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only what opens a door now
    #[arg(long)]
    open: bool,
}

impl List {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let mut desk = Desk::look(context)?;
        let servers = desk.servers()?;
        let chain = desk.archive().chain();
        let (now, revoked) = (context.now().max(chain.now_floor()), chain.revoked());
        let wanted = chain.policy().map_or(0, borgios_policy::Policy::witnesses);
        let (mut rows, mut answer) = (Vec::new(), Vec::<Value>::new());
        for (order, at) in orders(desk.archive()) {
            let place = format!("access/{}", at.statement().seq);
            let (state, cells, value) = match order {
                AccessOrder::Grant(grant) => {
                    let seen = servers.witnesses(&at.id());
                    let state = if revoked.contains(&grant.serial) {
                        "revoked".to_owned()
                    } else {
                        state(&grant, now, seen, usize::from(wanted))
                    };
                    granted(&servers, at, &grant, state)
                }
                AccessOrder::Revoke(order) => {
                    let serials: Vec<String> = order.serials.iter().map(u64::to_string).collect();
                    let text = format!("revokes {}", serials.join(", "));
                    let value = json!({"order": "revoke", "serials": order.serials, "reason": order.reason});
                    ("done".to_owned(), [text, String::new(), order.reason], value)
                }
                AccessOrder::Reveal(order) => {
                    let state = if now < order.until { "open" } else { "ended" };
                    let text = format!("password of epoch {}", order.epoch);
                    let until = format!("until {}", order.until);
                    let value = json!({"order": "reveal", "epoch": order.epoch, "to": order.to,
                        "until": order.until, "reason": order.reason});
                    (state.to_owned(), [text, until, order.reason], value)
                }
            };
            if self.open && !state.starts_with("open") {
                continue;
            }
            let mut value = value;
            value["place"] = json!(place);
            value["id"] = json!(at.id());
            value["state"] = json!(state.split(':').next());
            answer.push(value);
            let [what, until, reason] = cells;
            rows.push([place, state, what, until, reason].map(|cell| one_line(&cell)));
        }
        let mut text = table(["place", "state", "what", "when", "reason"], &rows);
        if rows.is_empty() {
            text = "nothing was granted or revealed\n".to_owned();
        }
        context.printer.answer(&json!({"orders": answer, "witnesses": wanted}), &text)
    }
}

fn granted(
    servers: &Servers,
    at: &VerifiedStatement,
    grant: &Grant,
    state: String,
) -> (String, [String; 3], Value) {
    let name = servers
        .get(&grant.node)
        .map_or_else(|| grant.node.short(), |server| server.join().name.to_string());
    let value = json!({
        "order": "grant", "serial": grant.serial, "node": grant.node, "name": name,
        "key": grant.key.fingerprint(), "after": grant.after, "before": grant.before,
        "class": grant.class, "sources": grant.sources, "reason": grant.reason,
        "witnesses": servers.witnesses(&at.id()),
    });
    let what = format!("root of {name} for {}", grant.key.short());
    (state, [what, format!("until {}", grant.before), grant.reason.clone()], value)
}

fn state(grant: &Grant, now: UnixSeconds, seen: usize, wanted: usize) -> String {
    if now >= grant.before {
        "ended".to_owned()
    } else if now < grant.after {
        "to come".to_owned()
    } else if grant.class == AccessClass::Normal && seen < wanted {
        format!("open: {seen} of {wanted} witnesses known here")
    } else {
        "open".to_owned()
    }
}
