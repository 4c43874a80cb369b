//! What this node says for itself when it is asked.
//!
//! Nothing here is secret: it is what `status` shows, and what its join record and reports say.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use borgios_peertree::question::{Detail, Item, Own, Place, Question};
use borgios_types::NodeId;

use super::held::Held;
use crate::clock::unix_now;
use crate::credential_watch::ScheduleView;
use crate::fleet;
use crate::keeper_watch::KeeperView;
use crate::ledger_handle::LedgerHandle;
use crate::tree_handle::TreeHandle;

/// How grave it is that a keeper does not answer: more than any lateness.
const KEEPER_SILENT: u64 = 1_000_000;

/// Looks at this node.
#[derive(Clone)]
pub struct Observer {
    /// This node.
    pub me: NodeId,
    /// Its objects.
    pub ledger: LedgerHandle,
    /// Its place.
    pub tree: TreeHandle,
    /// What its keeper says.
    pub keeper: KeeperView,
    /// The schedule in force.
    pub schedule: ScheduleView,
    /// The folder whose disk counts.
    pub state: PathBuf,
    /// When its agent began.
    pub started: Instant,
    /// Its streams.
    pub held: Arc<dyn Held>,
}

impl Observer {
    /// What this node has to say, `None` if it does not know the question or cannot tell.
    /// `attached` is since when it has its place.
    pub async fn observe(&self, question: &Question, attached: Instant) -> Option<Own> {
        match question {
            Question::Tree => Some(Own { place: Some(self.place().await), ..Own::default() }),
            Question::Versions { usual } => Some(self.versions(usual.as_deref())),
            Question::Epochs => Some(self.epochs().await),
            Question::Load { above } => load(*above),
            Question::Disk { below } => self.disk(*below).await,
            Question::Received { item } => Some(self.received(item).await),
            Question::Find { node } if *node == self.me => {
                let mut place = self.place().await;
                place.detail = Some(self.detail(attached));
                Some(Own { place: Some(place), ..Own::default() })
            }
            Question::Find { .. } => Some(Own::default()),
            Question::Unknown => None,
        }
    }

    async fn place(&self) -> Place {
        let view = self.tree.view().borrow().clone();
        let me = self.me;
        let join = self.ledger.run(move |ledger| ledger.join_of(&me)).await;
        Place {
            node: me,
            name: join.as_ref().map(|join| join.name.to_string()).unwrap_or_default(),
            address: join.and_then(|join| join.address),
            parent: view.parent,
            depth: view.path.len().saturating_sub(1) as u64,
            hops: None,
            detail: None,
        }
    }

    fn detail(&self, attached: Instant) -> Detail {
        let view = self.tree.view().borrow().clone();
        let keeper = self.keeper.borrow().clone();
        let credential = keeper.as_ref().and_then(|keeper| keeper.credential.as_ref());
        Detail {
            path: view.path,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            release: keeper.as_ref().map(|keeper| keeper.installed.0),
            epoch: credential.map(|credential| credential.epoch.0),
            attached_s: attached.elapsed().as_secs(),
            children: view.children.len() as u64,
            uptime_s: self.started.elapsed().as_secs(),
        }
    }

    fn versions(&self, usual: Option<&str>) -> Own {
        let label = self.version();
        let keeper_silent = self.keeper.borrow().is_none();
        let exception = if keeper_silent {
            Some((KEEPER_SILENT, label.clone()))
        } else {
            usual.is_some_and(|usual| usual != label).then(|| (0, label.clone()))
        };
        Own { label: Some(label), exception, ..Own::default() }
    }

    /// What runs here: the release, and the versions of both processes.
    #[must_use]
    pub fn version(&self) -> String {
        let agent = env!("CARGO_PKG_VERSION");
        match self.keeper.borrow().as_ref() {
            None => format!("agent {agent}, keeper does not answer"),
            Some(keeper) => {
                let release = match keeper.installed.0 {
                    0 => "no release".to_owned(),
                    number => format!("release/{number}"),
                };
                // The two come with one release; apart only in the middle of an install.
                let other =
                    (keeper.version != agent).then(|| format!(", keeper {}", keeper.version));
                format!("{release}, agent {agent}{}", other.unwrap_or_default())
            }
        }
    }

    async fn epochs(&self) -> Own {
        let Some(keeper) = self.keeper.borrow().clone() else {
            let label = "keeper does not answer".to_owned();
            let exception = Some((KEEPER_SILENT, label.clone()));
            return Own { label: Some(label), exception, ..Own::default() };
        };
        let Some(carried) = keeper.credential else {
            return Own { label: Some("no credential".to_owned()), ..Own::default() };
        };
        let schedule = self.schedule.borrow().clone();
        let wanted = match schedule {
            None => None,
            Some(schedule) => {
                let key = keeper.keeper;
                let due = move |ledger: &mut crate::ledger::Ledger| {
                    fleet::due(ledger, unix_now(), &schedule, &key)
                };
                Some(self.ledger.run(due).await)
            }
        };
        let behind = wanted.map_or(0, |(epoch, _)| epoch.0.saturating_sub(carried.epoch.0));
        let since = wanted.map_or(0, |(_, due)| unix_now().0.saturating_sub(due.0));
        let late = |behind: u64| {
            let epochs = if behind == 1 { "epoch" } else { "epochs" };
            let why = carried.problem.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
            format!("{behind} {epochs} behind, due {since} s ago{why}")
        };
        Own {
            label: Some(format!("epoch {}", carried.epoch)),
            measures: vec![("epoch", carried.epoch.0), ("behind", behind)],
            exception: (behind > 0).then(|| (behind, late(behind))),
            place: None,
        }
    }

    async fn disk(&self, below: u64) -> Option<Own> {
        let state = self.state.clone();
        let looking = move || rustix::fs::statvfs(&state);
        let disk = tokio::task::spawn_blocking(looking).await.ok()?.ok()?;
        let free = thousandths(disk.f_bavail, disk.f_blocks)?;
        let exception = (free < below).then(|| (1_000 - free, percent(free, "free")));
        let label =
            bucket(free, &[50, 100, 200, 400, 600, 800], |share| format!("{:02} %", share / 10));
        Some(Own { label: Some(label), measures: vec![("free", free)], exception, place: None })
    }

    async fn received(&self, item: &Item) -> Own {
        let (has, what) = match item {
            Item::Object(id) => {
                let id = *id;
                let has = self.ledger.run(move |ledger| ledger.store().get(&id).is_some()).await;
                (has, "has it not".to_owned())
            }
            Item::Message { origin, epoch, number } => {
                let last = self.held.last(origin, *epoch);
                let what = last.map_or("has none of it".to_owned(), |last| format!("is at {last}"));
                (last.is_some_and(|last| last >= *number), what)
            }
        };
        let label = if has { "yes" } else { "no" };
        let exception = (!has).then_some((0, what));
        Own { label: Some(label.to_owned()), exception, ..Own::default() }
    }
}

/// The load of the last minute per core, and how much of the memory is in use.
fn load(above: u64) -> Option<Own> {
    let one = sysinfo::System::load_average().ok()?.one;
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    // Loads are small numbers with two decimals; what is none at all counts as none.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped before")]
    let load = (one.clamp(0.0, 1e6) * 1_000.0) as u64 / cores as u64;
    let mut measures = vec![("load", load)];
    if let Ok(mut system) = sysinfo::System::new() {
        system.refresh_memory();
        let (total, free) = (system.total_memory(), system.available_memory());
        measures
            .extend(thousandths(total.saturating_sub(free), total).map(|used| ("memory", used)));
    }
    let exception = (load > above).then(|| (load, format!("load {} per core", per_core(load))));
    let label = bucket(load, &[250, 500, 750, 1_000, 1_500, 2_000, 4_000], per_core);
    Some(Own { label: Some(label), measures, exception, place: None })
}

/// A load in thousandths with two decimals.
fn per_core(load: u64) -> String {
    format!("{}.{:02}", load / 1_000, load % 1_000 / 10)
}

/// `part` of `whole` in thousandths; none of nothing.
fn thousandths(part: u64, whole: u64) -> Option<u64> {
    let share = u128::from(part) * 1_000 / u128::from(std::num::NonZero::new(whole)?.get());
    Some(u64::try_from(share).unwrap_or(u64::MAX).min(1_000))
}

fn percent(share: u64, what: &str) -> String {
    format!("{}.{} % {what}", share / 10, share % 10)
}

/// The bucket of a number between borders, each written by `text`: `0.25 to 0.50`. The alphabet
/// sorts labels as their numbers, for `text` writes all with as many digits.
fn bucket(value: u64, borders: &[u64], text: impl Fn(u64) -> String) -> String {
    let at = borders.partition_point(|border| *border <= value);
    match (at.checked_sub(1).map(|at| borders[at]), borders.get(at)) {
        (from, Some(to)) => format!("{} to {}", text(from.unwrap_or(0)), text(*to)),
        (from, None) => format!("{} and more", text(from.unwrap_or(0))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_thousandths_and_fall_into_buckets() {
        assert_eq!(thousandths(1, 3), Some(333));
        assert_eq!(thousandths(u64::MAX, 1), Some(1_000));
        assert_eq!(thousandths(1, 0), None);
        assert_eq!(percent(43, "free"), "4.3 % free");
        let borders = [250, 1_000];
        let of = |value| bucket(value, &borders, per_core);
        assert_eq!([of(0), of(249), of(250)], ["0.00 to 0.25", "0.00 to 0.25", "0.25 to 1.00"]);
        assert_eq!(of(1_000), "1.00 and more");
    }

    #[test]
    fn this_machine_has_a_load() {
        let own = load(u64::MAX).unwrap();
        assert!(own.exception.is_none() && own.label.is_some());
        let names: Vec<_> = own.measures.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["load", "memory"]);
        assert!(own.measures[1].1 <= 1_000);
    }
}
