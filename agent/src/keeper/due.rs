//! Whether the newest release is to be installed over what runs.

use borgios_policy::Lane;
use borgios_releases::Installed;
use borgios_types::{Digest, Seq};

use super::chain_store::ChainStore;

/// Whether a release, the newest of its lane, is to be installed over what runs.
///
/// Where a ruling took back what runs, that stays until the board signed another for the place that
/// was ruled on, or behind it: nobody voted on going back. What is signed then may have a lower
/// number than what runs.
pub(super) fn is_due(
    store: &ChainStore,
    installed: Option<&Installed>,
    seq: Seq,
    id: &Digest,
) -> bool {
    let Some(installed) = installed else { return true };
    if installed.id == *id {
        return false;
    }
    let ruled = store.chain().last_ruled(Lane::Release);
    installed.seq <= seq
        || (ruled.is_some_and(|ruled| ruled <= seq)
            && store.is_overruled(Lane::Release, installed.seq, &installed.id))
}
