//! One node proves one host: several hosts can be behind one address, and one of them answers there.

use borgios_types::PublicKey;

use super::row::Row;
use super::verdict::Outcome;

/// A host whose node was asked.
pub(crate) struct Proven {
    /// What became of it.
    pub(crate) row: Row,
    /// The node's key, if the log named it: then no other host's node was taken for it.
    pub(crate) logged: Option<PublicKey>,
}

/// The outcome where a member answers, but nothing tells whether it is this host.
pub(crate) fn nobodys(before: Outcome, address: &str, key: PublicKey) -> Outcome {
    let (stage, reason) = match before {
        Outcome::Failed { stage, reason } | Outcome::Unknown { stage, reason, .. } => {
            (stage, reason)
        }
        Outcome::Member { .. } | Outcome::Already | Outcome::LeftOut => {
            ("connect".to_owned(), "nobody was let in".to_owned())
        }
    };
    Outcome::Unknown {
        stage,
        reason: format!(
            "{reason}; at {address} the node {} is a member, but whether it is this host nobody \
             can tell without the machine's name",
            key.short()
        ),
        look: "say it with `--hand-over HOST=NAME`, or look with `borgios nodes`".to_owned(),
    }
}

/// Takes back what a node proved of a host where it stands for another one as well: one that showed
/// its receipt, one whose log named the node, or one of which no more is known than of this.
pub(crate) fn once(decided: &[Row], asked: Vec<Proven>) -> Vec<Row> {
    let receipts: Vec<PublicKey> = decided.iter().filter_map(key).collect();
    let claims: Vec<Option<(PublicKey, bool)>> =
        asked.iter().map(|one| key(&one.row).map(|node| (node, one.logged.is_some()))).collect();
    let taken = |at: usize| {
        let (node, logged) = claims.get(at).copied().flatten()?;
        let mut others = claims.iter().enumerate().filter(|(other, _)| *other != at);
        let rival = others.any(|(_, claim)| {
            claim.is_some_and(|(other, by_log)| other == node && (by_log || !logged))
        });
        (rival || receipts.contains(&node)).then_some(node)
    };
    let taken: Vec<Option<PublicKey>> = (0..asked.len()).map(taken).collect();
    let mut rows = Vec::new();
    for (Proven { mut row, .. }, taken) in asked.into_iter().zip(taken) {
        if let Some(node) = taken {
            row.outcome = Outcome::Unknown {
                stage: "proof".to_owned(),
                reason: format!(
                    "the node {} stands for another host of this run too",
                    node.short()
                ),
                look: "look with `borgios nodes`, or on its console: /var/lib/borgios-bootstrap"
                    .to_owned(),
            };
        }
        rows.push(row);
    }
    rows
}

/// The node that makes this host a member.
fn key(row: &Row) -> Option<PublicKey> {
    match &row.outcome {
        Outcome::Member { node, .. } => *node,
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use borgios_types::SecretKey;

    use super::*;
    use crate::adopt::reach::Host;

    fn node(seed: u8) -> PublicKey {
        SecretKey::from_seed([seed; 32]).public()
    }

    fn member(host: &str, seed: u8) -> Row {
        let outcome = Outcome::Member { node: Some(node(seed)), by: "its node's proof and word" };
        Row::unreached(Host::new(host.parse().unwrap()), outcome)
    }

    fn asked(host: &str, seed: u8, logged: bool) -> Proven {
        Proven { row: member(host, seed), logged: logged.then(|| node(seed)) }
    }

    fn members(decided: &[Row], asked: Vec<Proven>) -> Vec<bool> {
        once(decided, asked).iter().map(|row| row.outcome.is_member()).collect()
    }

    #[test]
    fn a_node_of_its_own_makes_each_host_a_member() {
        let two = vec![asked("root@a", 1, false), asked("root@b", 2, true)];
        assert_eq!(members(&[member("root@c", 3)], two), [true, true]);
    }

    #[test]
    fn one_node_behind_two_ports_makes_neither_a_member() {
        let two = || vec![asked("root@a:22", 1, false), asked("root@a:23", 1, false)];
        assert_eq!(members(&[], two()), [false, false]);
        let logged = vec![asked("root@a:22", 1, true), asked("root@a:23", 1, true)];
        assert_eq!(members(&[], logged), [false, false]);
        let other = |row: &Row| matches!(row.outcome, Outcome::Unknown { .. });
        assert!(once(&[], two()).iter().all(other));
    }

    #[test]
    fn a_receipt_or_a_log_tells_whose_node_it_is() {
        let two = vec![asked("root@a:22", 1, false), asked("root@a:23", 1, true)];
        assert_eq!(members(&[], two), [false, true]);
        let receipt = [member("root@a:24", 1)];
        let two = vec![asked("root@a:22", 1, false), asked("root@a:23", 1, true)];
        assert_eq!(members(&receipt, two), [false, false]);
    }

    #[test]
    fn a_member_that_cannot_be_told_apart_leaves_it_unknown() {
        let failed = Outcome::failed("connect", "Permission denied");
        let outcome = nobodys(failed, "a:7117", node(1));
        let Outcome::Unknown { stage, reason, look } = outcome else { panic!("{outcome:?}") };
        assert_eq!(stage, "connect");
        assert!(reason.starts_with("Permission denied; at a:7117"), "{reason}");
        assert!(look.contains("--hand-over HOST=NAME"), "{look}");
    }
}
