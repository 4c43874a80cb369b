//! What leaves the store: all that neither runs nor is about to.
//!
//! Once when a release stays, and once before the next one is staged: what was taken back, overtaken,
//! refused or cut off in between must not hold the room that the next one needs.

use std::collections::BTreeSet;
use std::fs;

use borgios_releases::{Installed, Journal, Manifest};
use borgios_types::Digest;
use tracing::warn;

use super::Installer;
use crate::disk;
use crate::keeper::paths::Paths;
use crate::keeper::staging;

/// How what is being removed from the store is called.
const REMOVED: &str = ".removed-";

/// Makes room for a release that is to be staged: only what it names stays, what runs, and what the
/// journal may still go on to or back to. Call it with the journal's lock.
pub(in crate::keeper) fn make_room(paths: &Paths, journal: &Journal, manifest: &Manifest) {
    let sets = [journal.installed(), journal.under_way()];
    let digests = |set: &Installed| set.components.values().copied().collect::<Vec<_>>();
    let mut keep: BTreeSet<Digest> = sets.into_iter().flatten().flat_map(digests).collect();
    keep.extend(manifest.components.iter().map(|component| component.digest));
    tidy(paths, &keep);
}

/// Removes from the store what nobody needs. What cannot be removed is only in the way, so this
/// never fails.
pub(super) fn tidy(paths: &Paths, keep: &BTreeSet<Digest>) {
    // What runs stays whatever the sets say; where that cannot be read, nothing goes.
    let seen = staging::files(&paths.store)
        .and_then(|names| Installer::running(paths).map(|running| (names, running)));
    let (names, running) = match seen {
        Ok(seen) => seen,
        Err(error) => {
            warn!(%error, "cannot tidy the store");
            return;
        }
    };
    for name in names {
        let kept = Digest::from_hex(&name)
            .is_ok_and(|digest| keep.contains(&digest) || running.values().any(|d| *d == digest));
        let path = paths.store.join(&name);
        // Under another name first: half of a component must not pass for one.
        let removed = || {
            if name.starts_with(REMOVED) {
                return fs::remove_dir_all(&path);
            }
            let gone = paths.store.join(format!("{REMOVED}{name}"));
            fs::rename(&path, &gone)?;
            disk::sync_folder(&paths.store)?;
            fs::remove_dir_all(&gone)
        };
        if !kept && let Err(error) = removed() {
            warn!(%error, "cannot remove {}", path.display());
        }
    }
    // There is none before the first release.
    if paths.store.is_dir()
        && let Err(error) = disk::sync_folder(&paths.store)
    {
        warn!(%error, "cannot sync the store");
    }
}
