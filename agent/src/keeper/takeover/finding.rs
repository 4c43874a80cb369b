//! One way in that somebody has, as `plan` shows it and the journal keeps it.

use std::path::Path;

use borgios_types::Digest;
use serde::{Deserialize, Serialize};

/// Longest text of a finding, in characters: a person reads it on a line or two.
const TEXT_MAX: usize = 300;

/// One way in. It never holds the content of a secret, only a digest of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Finding {
    /// The name of its kind.
    pub(super) kind: String,
    /// The file or unit it lies in.
    pub(super) path: String,
    /// What it is, in words.
    pub(super) what: String,
    /// `sha256:…` of what is there now; empty where there is nothing to digest.
    pub(super) before: String,
    /// What the take-over makes of it.
    pub(super) action: String,
    /// Whether `abort` brings it back.
    pub(super) reversible: bool,
}

impl Finding {
    /// A finding in a file or line that `abort` brings back.
    pub(super) fn new(
        kind: &str,
        path: impl AsRef<Path>,
        what: impl AsRef<str>,
        before: &[u8],
        action: impl AsRef<str>,
    ) -> Self {
        Self {
            kind: kind.to_owned(),
            path: plain(&path.as_ref().to_string_lossy()),
            what: plain(what.as_ref()),
            before: Digest::of(before).to_string(),
            action: plain(action.as_ref()),
            reversible: true,
        }
    }
}

/// One line of plain text: names in it come from files that anybody may have written.
pub(super) fn plain(text: &str) -> String {
    let clean = |c: char| if c.is_control() || c == '\u{2028}' { ' ' } else { c };
    text.chars().map(clean).take(TEXT_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_write_on_the_screen_of_whoever_reads_it() {
        let finding = Finding::new("sudo", "/etc/sudoers.d/\u{1b}[2J", "a\nb", b"", "");
        assert_eq!((finding.path.as_str(), finding.what.as_str()), ("/etc/sudoers.d/ [2J", "a b"));
        assert!(Finding::new("sudo", "x".repeat(9_999), "", b"", "").path.len() <= TEXT_MAX);
    }
}
