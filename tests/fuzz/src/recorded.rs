//! Courses of papers that were recorded once and lie in `recorded/`.
//!
//! What is sealed with age is sealed anew, at random, each time; and every paper names the digests of
//! those before it. So an input that was kept means something only beside the very papers it was made
//! with. `borgios-fuzz --record` makes them anew where a format has changed; the kept inputs of
//! these targets are worth little after that.

use std::collections::{BTreeMap, BTreeSet};

use borgios_policy::keygen::Files;
use serde::{Deserialize, Serialize};

/// A whole course.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Course {
    /// Every file that was laid into the folder; none ever changed.
    files: BTreeMap<String, String>,
    /// The moments at which one is replaced.
    pub moments: Vec<Moment>,
}

/// The folder at one moment, and the governor's state who acts next.
#[derive(Debug, Serialize, Deserialize)]
pub struct Moment {
    present: BTreeSet<String>,
    /// What that governor had stored.
    pub state: Option<String>,
    /// Which file is the newest there.
    pub file: String,
}

impl Course {
    /// Reads a recorded one; an empty one if it is of another format.
    #[must_use]
    pub fn of(text: &str) -> Self {
        serde_json::from_str(text).unwrap_or_default()
    }

    /// Notes a moment.
    pub fn note(&mut self, files: &Files, state: Option<String>, file: &str) {
        for (name, bytes) in files {
            self.files.insert(name.clone(), String::from_utf8_lossy(bytes).into_owned());
        }
        let present = files.keys().cloned().collect();
        self.moments.push(Moment { present, state, file: file.to_owned() });
    }

    /// The folder at a moment.
    #[must_use]
    pub fn at(&self, moment: &Moment) -> Files {
        let present = self.files.iter().filter(|(name, _)| moment.present.contains(*name));
        present.map(|(name, text)| (name.clone(), text.clone().into_bytes())).collect()
    }

    /// As a file has it.
    #[must_use]
    pub fn to_text(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }
}
