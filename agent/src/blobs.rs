//! Which blobs this node keeps, and where it looks for those it lacks.

use std::collections::BTreeSet;
use std::time::Duration;

use borgios_policy::{Credential, Lane, Object as _, Proposal, Statement};
use borgios_releases::Manifest;
use borgios_types::{Digest, NodeId, Seq};
use rand::seq::SliceRandom as _;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::clock::unix_now;
use crate::depot::Depot;
use crate::disk;
use crate::fetch::Source;
use crate::ledger::Ledger;
use crate::ledger_handle::LedgerHandle;
use crate::neighbours::Neighbours;
use crate::tree_handle::TreeHandle;

/// Other members asked for a blob after parent and children. Whom, changes with each attempt.
const MEMBERS_ASKED: usize = 8;
/// Age below which no blob is swept: a governor's tool brings blobs before it proposes them.
const YOUNG: Duration = Duration::from_secs(24 * 3600);

/// Every blob of a release with its size.
pub fn of_release(manifest: &Manifest) -> impl Iterator<Item = (Digest, u64)> {
    let installer = (manifest.installer.digest, manifest.installer.size);
    manifest.components.iter().map(|one| (one.digest, one.size)).chain([installer])
}

/// Schedule and escrow with their sizes.
pub fn of_credential(credential: &Credential) -> [(Digest, u64); 2] {
    [credential.schedule, credential.escrow].map(|blob| (blob.digest, blob.size))
}

/// The blobs that a statement names.
fn of_statement(statement: &Statement) -> Vec<(Digest, u64)> {
    match statement.lane {
        Lane::Release => {
            let manifest = Manifest::parse(statement);
            manifest.map_or(Vec::new(), |manifest| of_release(&manifest).collect())
        }
        Lane::Credential => {
            let credential = Credential::of(statement);
            credential.map_or(Vec::new(), |credential| of_credential(&credential).to_vec())
        }
        Lane::Policy | Lane::Member | Lane::Access => Vec::new(),
    }
}

/// What must stay: the blobs of the newest release and the one before it, of the credential in
/// force, and of whatever is put to the vote.
fn wanted(ledger: &Ledger) -> BTreeSet<Digest> {
    let chain = ledger.chain();
    let newest = chain.head_seq(Lane::Release);
    let releases = [newest, Seq(newest.0.saturating_sub(1))];
    let releases = releases.into_iter().filter_map(|seq| chain.get(Lane::Release, seq));
    let credential = chain.credential().map(|(_, statement)| statement);
    let in_force = releases.chain(credential).flat_map(|at| of_statement(at.statement()));
    let proposed = ledger
        .store()
        .list(Proposal::KIND, None)
        .filter_map(|stored| Proposal::parse(&stored.envelope).ok()?.parse_statement().ok())
        .filter(|statement| statement.seq > chain.head_seq(statement.lane))
        .flat_map(|statement| of_statement(&statement));
    in_force.chain(proposed).map(|(digest, _)| digest).collect()
}

/// Drops blobs that are of no use any more.
pub async fn sweep(ledger: &LedgerHandle, depot: &Depot) {
    let keep = ledger.run(|ledger| wanted(ledger)).await;
    match disk::in_place(|| depot.sweep(&keep, YOUNG)) {
        Ok(0) => {}
        Ok(removed) => debug!(removed, "removed old blobs"),
        Err(error) => warn!(BORGIOS_EVENT = "disk_failed", "cannot sweep the depot: {error}"),
    }
}

/// Where to look: the parent, the children, neighbours over their links, some other members. A
/// download of its own disturbs no link; but some neighbours cannot be dialled.
pub async fn sources(
    ledger: &LedgerHandle,
    tree: &TreeHandle,
    neighbours: &Neighbours,
    me: NodeId,
) -> Vec<Source> {
    let view = tree.view().borrow().clone();
    let linked = neighbours.all().into_iter().map(|(link, peer)| Source::Link(link, peer));
    let (near, far) = ledger
        .run(move |ledger| {
            let mut members = ledger.members(unix_now());
            members.remove(&me);
            let mut address = |node: &NodeId| members.remove(node)?.address;
            let near: Vec<_> =
                view.parent.iter().chain(&view.children).filter_map(&mut address).collect();
            let others: Vec<_> = members.into_values().filter_map(|join| join.address).collect();
            let far = others.choose_multiple(&mut rand::rngs::OsRng, MEMBERS_ASKED).cloned();
            (near, far.collect::<Vec<_>>())
        })
        .await;
    let node = |address: String| Source::Node(format!("http://{address}/blobs"));
    near.into_iter().map(node).chain(linked).chain(far.into_iter().map(node)).collect()
}

/// Tells the neighbours of each blob that becomes whole here, until `stop`.
pub async fn tell_neighbours(depot: Depot, neighbours: Neighbours, stop: CancellationToken) {
    let mut news = depot.news();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            digest = news.recv() => match digest {
                Ok(digest) => neighbours.tell(digest),
                // They look for it again by themselves.
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return stop.cancelled().await,
            },
        }
    }
}
