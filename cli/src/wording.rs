//! What the statements of the lanes `credential`, `member` and `access` say, in words: nobody shall
//! sign hexadecimal digits that they cannot read.

use borgios_policy::{
    AccessClass, AccessOrder, Chain, Credential, Eviction, Grant, Lane, Reveal, Revoke, Statement,
};
use borgios_types::Seq;

use crate::printer::one_line;
use crate::servers::Servers;
use crate::span;

/// One line for the inbox and the log; none for the lanes that have words of their own there.
pub(crate) fn summary(servers: &Servers, statement: &Statement) -> Option<String> {
    let text = match statement.lane {
        Lane::Policy | Lane::Release => return None,
        Lane::Credential => match Credential::of(statement) {
            Ok(credential) => format!(
                "schedule {}, no epoch below {}{}",
                credential.schedule.digest.short(),
                credential.min_epoch,
                because(&credential.reason)
            ),
            Err(error) => format!("orders nothing: {error}"),
        },
        Lane::Member => match Eviction::of(statement) {
            Ok(eviction) => {
                let names: Vec<String> =
                    eviction.evict.iter().map(|node| servers.name_of(node)).collect();
                format!("evicts {}{}", names.join(" and "), because(&eviction.reason))
            }
            Err(error) => format!("orders nothing: {error}"),
        },
        Lane::Access => match AccessOrder::of(statement) {
            Ok(AccessOrder::Grant(grant)) => format!(
                "lets {} in as root of {} until {}{}",
                grant.key.fingerprint(),
                short_name(servers, &grant),
                grant.before,
                because(&grant.reason)
            ),
            Ok(AccessOrder::Revoke(order)) => {
                format!("revokes {}{}", serials(&order.serials), because(&order.reason))
            }
            Ok(AccessOrder::Reveal(order)) => format!(
                "reveals the password of epoch {} until {}{}",
                order.epoch,
                order.until,
                because(&order.reason)
            ),
            Err(error) => format!("orders nothing: {error}"),
        },
    };
    Some(one_line(&text))
}

/// Line by line for the review of an eviction.
pub(crate) fn eviction(servers: &Servers, statement: &Statement) -> Vec<String> {
    let body = match Eviction::of(statement) {
        Ok(body) => body,
        Err(error) => return vec![format!("nothing: {error}")],
    };
    let mut lines = Vec::new();
    for node in &body.evict {
        lines.push(format!("evicted   {}", one_line(&servers.name_of(node))));
        lines.push(format!("            {node}"));
        if let Some(server) = servers.get(node) {
            lines.push(format!(
                "            a member since {}, last heard of at {}",
                server.since(),
                server.last_heard()
            ));
            if let Some(at) = server.departed() {
                lines.push(format!("            its owner took it out at {at}"));
            }
        }
    }
    lines.push(format!("reason    {}", one_line(&body.reason)));
    lines
}

/// Line by line for the review of an order of the lane `access`.
pub(crate) fn access(servers: &Servers, statement: &Statement) -> Vec<String> {
    match AccessOrder::of(statement) {
        Err(error) => vec![format!("nothing: {error}")],
        Ok(AccessOrder::Grant(order)) => grant(servers, &order),
        Ok(AccessOrder::Revoke(order)) => vec![
            format!("revoked   {}: sshd refuses them from then on", serials(&order.serials)),
            format!("reason    {}", one_line(&order.reason)),
        ],
        Ok(AccessOrder::Reveal(order)) => reveal(&order),
    }
}

/// For the review of a revocation: what it names that is no certificate.
pub(crate) fn no_grants(chain: &Chain, statement: &Statement, order: &Revoke) -> Vec<String> {
    let is_one = |serial: u64| {
        // What waits for its lock is not in the chain yet, and may be one.
        let at = chain.get(Lane::Access, Seq(serial));
        at.is_none_or(|at| matches!(AccessOrder::of(at.statement()), Ok(AccessOrder::Grant(_))))
    };
    let reach: Vec<u64> = order.revoked(statement.seq).filter(|serial| is_one(*serial)).collect();
    let wrong = order.serials.iter().filter(|serial| !reach.contains(serial));
    wrong.map(|serial| format!("WRONG     no certificate has the serial {serial}")).collect()
}

fn grant(servers: &Servers, grant: &Grant) -> Vec<String> {
    let mut lines = vec![
        format!("root of   {}", one_line(&servers.name_of(&grant.node))),
        format!("            {}", grant.node),
        format!("for key   {}", grant.key.fingerprint()),
        format!("            {}", grant.key),
        format!(
            "from      {} to {} ({})",
            grant.after,
            grant.before,
            span::words(grant.before.0.saturating_sub(grant.after.0))
        ),
        match grant.sources.as_slice() {
            [] => "login     from any address".to_owned(),
            sources => format!("login     only from {}", one_line(&sources.join(", "))),
        },
    ];
    lines.push(match grant.class {
        AccessClass::Normal => {
            "class     normal: once other members have signed that they saw it".to_owned()
        }
        AccessClass::Offline => {
            "class     OFFLINE: the server obeys it even if nobody else ever sees it".to_owned()
        }
    });
    lines.push(format!("serial    {}", grant.serial));
    lines.push(format!("reason    {}", one_line(&grant.reason)));
    lines
}

fn reveal(order: &Reveal) -> Vec<String> {
    vec![
        format!(
            "revealed  the password that opens root of EVERY server in epoch {}",
            order.epoch
        ),
        format!("to        whoever holds {}", one_line(&order.to)),
        "            your approval carries your share, sealed to them; with enough shares they have \
         it"
            .to_owned(),
        format!("until     {}, once it is signed and a server has heard of it", order.until),
        format!("reason    {}", one_line(&order.reason)),
    ]
}

fn short_name(servers: &Servers, grant: &Grant) -> String {
    let server = servers.get(&grant.node);
    server.map_or_else(|| grant.node.fingerprint(), |server| server.join().name.to_string())
}

fn serials(serials: &[u64]) -> String {
    let list: Vec<String> = serials.iter().map(u64::to_string).collect();
    let word = if list.len() == 1 { "certificate" } else { "certificates" };
    format!("{word} {}", list.join(", "))
}

fn because(reason: &str) -> String {
    if reason.is_empty() { String::new() } else { format!(": {reason}") }
}
