//! Who stands where in the tree: asked down the tree, each node answering for itself and its
//! children, within a deadline that shrinks on the way.
//!
//! Nobody keeps a map of the tree and nothing here is proved: a node may lie about its subtree, and
//! one that is too slow is listed as silent. For people and tools, never for decisions.

use std::time::Duration;

use borgios_types::NodeId;

use crate::frame::FRAME_MAX;
use crate::ledger_handle::LedgerHandle;
use crate::tree_handle::TreeHandle;
use crate::wire::{Place, Places, Scope};

/// What each node keeps of the deadline for its own work and the way back.
const HOP: Duration = Duration::from_millis(150);
/// Longest deadline anyone may ask for.
const WITHIN_MAX: Duration = Duration::from_secs(10);
/// Nodes in one answer: about 250 bytes each must fit a frame.
const NODES_MAX: usize = 2_000;
/// Bytes of JSON in one answer. A subtree with the longest names and addresses must not make a frame
/// that ends this node's own link.
const BYTES_MAX: usize = FRAME_MAX / 4 * 3;

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
    let mut left = BYTES_MAX;
    let nodes = fitting(&places.nodes, &mut left);
    let silent = fitting(&places.silent, &mut left);
    places.partial |= nodes < places.nodes.len() || silent < places.silent.len();
    places.nodes.truncate(nodes);
    places.silent.truncate(silent);
    places
}

/// How many of `all` fit into the `left` bytes of JSON, which are used up.
fn fitting<T: serde::Serialize>(all: &[T], left: &mut usize) -> usize {
    let fits = |one: &&T| {
        let length = serde_json::to_string(one).map_or(usize::MAX, |text| text.len() + 1);
        let fits = length <= *left;
        *left = left.saturating_sub(length);
        fits
    };
    all.iter().take_while(fits).count()
}

#[cfg(test)]
mod tests {
    use borgios_types::SecretKey;

    use super::*;
    use crate::wire::{Answer, Frame};

    #[test]
    fn whatever_the_children_say_the_answer_fits_a_frame() {
        let node = SecretKey::from_seed([1; 32]).public();
        // As long as they may be, and of characters that JSON writes as six.
        let place = Place {
            node,
            name: "\u{1}".repeat(borgios_types::limits::NAME_MAX),
            address: Some("\u{1}".repeat(borgios_peertree::bounds::ADDRESS_MAX)),
            parent: Some(node),
            depth: u64::MAX,
        };
        let said =
            Places { nodes: vec![place.clone(); 3_000], silent: vec![node; 3_000], partial: false };
        let kept = bounded(said);
        assert!(kept.partial && !kept.nodes.is_empty());
        let frame = Frame::Answer(Answer { id: u64::MAX, tree: kept }).to_line();
        assert!(frame.len() <= FRAME_MAX, "{}", frame.len());
        let short = Place { name: "web-1".into(), address: Some("web-1:7117".into()), ..place };
        let said = Places { nodes: vec![short; NODES_MAX], silent: Vec::new(), partial: false };
        assert_eq!(bounded(said.clone()), said, "an honest fleet's answer is whole");
    }
}
