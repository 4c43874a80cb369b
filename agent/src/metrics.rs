//! The numbers that monitoring asks for, in the text format of Prometheus.

use crate::api::Api;
use crate::clock::unix_now;
use crate::fleet;
use crate::keeper::protocol::AccessState;

/// What this node knows, as numbers.
pub async fn text(api: &Api) -> String {
    let parts = api.parts();
    let view = parts.tree.view().borrow().clone();
    let heads = parts.ledger.heads().borrow().clone();
    let schedule = parts.schedule.borrow().clone();
    let (objects, members, late) = parts
        .ledger
        .run(move |ledger| {
            let now = unix_now();
            let late = fleet::lateness(ledger, now, schedule.as_deref()).late_nodes;
            (ledger.store().all().count(), ledger.members(now).len(), late)
        })
        .await;
    let keeper = parts.keeper.borrow().clone();
    let mut text = String::new();
    let mut gauge = |name: &str, labels: &str, value: u64| {
        text.push_str(&format!("borgios_{name}{labels} {value}\n"));
    };
    gauge("up", "", 1);
    gauge("uptime_seconds", "", parts.started.elapsed().as_secs());
    gauge("tree_attached", "", u64::from(view.attached()));
    gauge("tree_depth", "", view.path.len().saturating_sub(1) as u64);
    gauge("tree_children", "", view.children.len() as u64);
    gauge("tree_size", "", view.tree_size.into());
    gauge("links", "", view.links as u64);
    gauge("tree_cross_links", "", view.cross.len() as u64);
    gauge("tree_gaps_total", "", view.gaps);
    gauge("tree_neighbours_left_total", "", view.left);
    gauge("objects", "", objects as u64);
    gauge("members", "", members as u64);
    gauge("keeper_reachable", "", u64::from(keeper.is_some()));
    gauge("credential_late_nodes", "", late as u64);
    if let Some(keeper) = keeper {
        gauge("handed_over", "", u64::from(keeper.handed_over));
        let open = keeper.access.iter().filter(|access| access.state == AccessState::Open).count();
        gauge("access_open", "", open as u64);
        if let Some(credential) = keeper.credential {
            gauge("credential_epoch", "", credential.epoch.0);
        }
    }
    for (lane, head) in heads {
        gauge("head", &format!("{{lane=\"{lane}\"}}"), head.seq);
    }
    text
}
