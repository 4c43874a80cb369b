//! The schedule in force, computed here anew from the design note and from nothing of the product,
//! so that a mistake in the product's own arithmetic does not hide itself.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use borgios_types::Digest;
use serde::Deserialize;
use serde_json::Value;

use crate::network::Network;
use crate::server::Server;

/// A schedule as every node computes with it.
#[derive(Clone, Debug, Deserialize)]
pub struct Schedule {
    first: u64,
    t0: u64,
    interval_s: u64,
    jitter_s: u64,
    verifiers: Vec<String>,
}

/// Seconds since 1970, with their fractions.
#[must_use]
pub fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

impl Schedule {
    /// The schedule of a signed statement, from a server's depot.
    ///
    /// # Errors
    /// The statement is not known, or the blob is not there or not the one that is named.
    pub fn of(network: &Network<'_>, what: &str, server: Server<'_>) -> Result<Self> {
        let statement = network.statement("ann", what)?;
        let payload: Value = serde_json::from_str(&statement.payload)?;
        let named = &payload["body"]["schedule"]["digest"];
        let digest: Digest = serde_json::from_value(named.clone())
            .with_context(|| format!("{what} names no schedule: {payload}"))?;
        let path = format!("/var/lib/borgios/blobs/{}", digest.hex());
        let blob = server.try_sh(&format!("cat {path}"))?.ok()?.stdout;
        ensure!(Digest::of(blob.as_bytes()) == digest, "{path} is another blob");
        let schedule: Self = serde_json::from_str(&blob)?;
        ensure!(schedule.interval_s > 0 && !schedule.verifiers.is_empty(), "an empty schedule");
        let all: BTreeMap<&str, u64> = schedule.by_verifier();
        ensure!(all.len() == schedule.verifiers.len(), "two epochs share a verifier");
        Ok(schedule)
    }

    /// The epoch at a time, by the clock alone.
    #[must_use]
    pub fn at(&self, seconds: f64) -> u64 {
        let since = (seconds - self.t0 as f64).max(0.0);
        let steps = (since / self.interval_s as f64) as u64;
        self.first + steps.min(self.verifiers.len() as u64 - 1)
    }

    /// When an epoch begins, by the clock alone.
    #[must_use]
    pub fn begins(&self, epoch: u64) -> f64 {
        (self.t0 + epoch.saturating_sub(self.first) * self.interval_s) as f64
    }

    /// Longest time after a boundary at which a node may change, in seconds.
    #[must_use]
    pub fn jitter(&self) -> f64 {
        self.jitter_s as f64
    }

    /// The last epoch.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.first + self.verifiers.len() as u64 - 1
    }

    /// The verifier of an epoch.
    #[must_use]
    pub fn verifier(&self, epoch: u64) -> Option<&str> {
        let index = usize::try_from(epoch.checked_sub(self.first)?).ok()?;
        self.verifiers.get(index).map(String::as_str)
    }

    /// Which epoch's verifier it is.
    #[must_use]
    pub fn epoch_of(&self, verifier: &str) -> Option<u64> {
        let index = self.verifiers.iter().position(|one| one == verifier)?;
        Some(self.first + index as u64)
    }

    fn by_verifier(&self) -> BTreeMap<&str, u64> {
        self.verifiers.iter().map(String::as_str).zip(self.first..).collect()
    }
}

/// Root's field in the text of a shadow file; none where it has no line, or more than one.
#[must_use]
pub fn root_field(shadow: &str) -> Option<&str> {
    let mut lines = shadow.lines().filter_map(|line| line.strip_prefix("root:"));
    let line = lines.next()?;
    let one = lines.next().is_none();
    one.then(|| line.split(':').next().unwrap_or_default())
}

impl Server<'_> {
    /// Root's field in `/etc/shadow`, read on the console.
    ///
    /// # Errors
    /// The server is off, or root has no line or two.
    pub fn root_verifier(self) -> Result<String> {
        let shadow = self.try_sh("cat /etc/shadow")?.ok()?.stdout;
        let field = root_field(&shadow);
        field.map(str::to_owned).with_context(|| format!("{}: no root in {shadow}", self.host()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three() -> Schedule {
        let verifiers = ["a", "b", "c"].map(str::to_owned).to_vec();
        Schedule { first: 7, t0: 100, interval_s: 10, jitter_s: 2, verifiers }
    }

    #[test]
    fn epochs_follow_the_clock_between_the_first_and_the_last() {
        let schedule = three();
        let told = [0.0, 100.0, 109.9, 110.0, 129.9, 1e9].map(|at| schedule.at(at));
        assert_eq!(told, [7, 7, 7, 8, 9, 9]);
        assert_eq!((schedule.begins(8), schedule.last()), (110.0, 9));
        assert_eq!((schedule.verifier(9), schedule.verifier(10)), (Some("c"), None));
        assert_eq!((schedule.verifier(6), schedule.epoch_of("b")), (None, Some(8)));
        assert_eq!(schedule.epoch_of("*"), None);
    }

    #[test]
    fn a_shadow_file_has_one_root() {
        assert_eq!(root_field("daemon:*:1::\nroot:$y$x:2::\n"), Some("$y$x"));
        assert_eq!(root_field("toor:x:1\n"), None);
        assert_eq!(root_field("root:a:1\nroot:b:1\n"), None);
    }
}
