//! Keys of origins, ready to verify: an origin that speaks once mostly speaks again.

use std::collections::BTreeMap;

use borgios_stream::{Forgery, Input, Origin, Verdict, VerifyJob};
use borgios_types::key::ReadyKey;

/// Keys that are kept: at 200 bytes each, less than one batch; more origins than speak at a time.
const KEYS_MAX: usize = 512;

/// The keys of the origins that were heard last.
#[derive(Debug, Default)]
pub(crate) struct ReadyKeys {
    keys: BTreeMap<Origin, ReadyKey>,
}

impl ReadyKeys {
    /// Does a job.
    pub(crate) fn judge(&mut self, job: &VerifyJob) -> Input {
        let origin = job.batch.origin();
        if !self.keys.contains_key(&origin) {
            if self.keys.len() >= KEYS_MAX {
                // To make one ready costs a fifth of one verification: no list of ages is worth it.
                self.keys.clear();
            }
            if let Some(key) = origin.key() {
                self.keys.insert(origin, key.ready());
            }
        }
        let verdict = match self.keys.get(&origin) {
            Some(key) => job.run_with(origin, key),
            None => Verdict::Bad(Forgery::Key),
        };
        Input::Verified { job: job.job, verdict }
    }
}
