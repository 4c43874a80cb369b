//! Who stands where in the tree: asked down the tree, each node answering for itself and its
//! children, within a deadline that shrinks on the way.
//!
//! Nobody keeps a map of the tree and nothing here is proved: a node may lie about its subtree, and
//! one that is too slow is listed as silent. For people and tools, never for decisions.

use std::time::Duration;

use borgios_types::NodeId;

use crate::ledger_handle::LedgerHandle;
use crate::tree_shell::TreeHandle;
use crate::wire::{Place, Places, Scope};

/// What each node keeps of the deadline for its own work and the way back.
const HOP: Duration = Duration::from_millis(150);
/// Longest deadline anyone may ask for.
const WITHIN_MAX: Duration = Duration::from_secs(10);
/// Nodes in one answer: about 250 bytes each must fit a frame.
const NODES_MAX: usize = 2_000;

/// Answers a question of `asker`, or of this node's own tools.
pub async fn answer(
    tree: &TreeHandle,
    ledger: &LedgerHandle,
    me: NodeId,
    scope: Scope,
    within: Duration,
    asker: Option<NodeId>,
) -> Places {
    let within = within.min(WITHIN_MAX).saturating_sub(HOP);
    let view = tree.view().borrow().clone();
    // Only a child may send a question up, or two nodes could send it in circles.
    let up = asker.is_none_or(|asker| view.children.contains(&asker));
    if scope == Scope::Fleet
        && up
        && let Some(parent) = view.parent
    {
        // The way down from the root takes as long as the way up again.
        if let Some(places) = tree.ask(parent, Scope::Fleet, within).await {
            return bounded(places);
        }
        let mut below = below(tree, ledger, me, within / 2).await;
        below.silent.push(parent);
        below.partial = true;
        return below;
    }
    below(tree, ledger, me, within).await
}

async fn below(tree: &TreeHandle, ledger: &LedgerHandle, me: NodeId, within: Duration) -> Places {
    let view = tree.view().borrow().clone();
    let join = ledger.run(move |l| l.join_of(&me)).await;
    let mut places = Places::default();
    places.nodes.push(Place {
        node: me,
        name: join.as_ref().map(|join| join.name.to_string()).unwrap_or_default(),
        address: join.and_then(|join| join.address),
        parent: view.parent,
        depth: view.path.len().saturating_sub(1) as u64,
    });
    if within.is_zero() {
        places.partial |= !view.children.is_empty();
        return places;
    }
    // All at once: the slowest child decides, not their sum.
    let asked: Vec<_> = view
        .children
        .into_iter()
        .map(|child| {
            let tree = tree.clone();
            let asking = async move { (child, tree.ask(child, Scope::Below, within).await) };
            tokio::spawn(asking)
        })
        .collect();
    for answer in asked {
        match answer.await {
            Ok((_, Some(answer))) => {
                places.partial |= answer.partial;
                places.silent.extend(answer.silent);
                places.nodes.extend(answer.nodes);
            }
            Ok((child, None)) => places.silent.push(child),
            Err(_) => places.partial = true,
        }
    }
    bounded(places)
}

/// Cuts what does not fit: neighbours are not believed about lengths either.
fn bounded(mut places: Places) -> Places {
    places.nodes.retain(|place| {
        let short = borgios_types::limits::NAME_MAX;
        let address = place.address.as_ref().map_or(0, String::len);
        place.name.len() <= short && address <= borgios_peertree::bounds::ADDRESS_MAX
    });
    places.partial |= places.nodes.len() > NODES_MAX || places.silent.len() > NODES_MAX;
    places.nodes.truncate(NODES_MAX);
    places.silent.truncate(NODES_MAX);
    places
}
