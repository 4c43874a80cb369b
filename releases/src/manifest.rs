//! The manifest: the body of a release statement, the complete set of software by digest.
//!
//! ```text
//! {version, components: [{name, digest, size}], installer: {digest, size}, urls, floor, notes}
//! ```

use borgios_policy::{Lane, Name, Refusal, Statement, VerifiedStatement};
use borgios_types::limits::COMPONENT_MAX;
use borgios_types::{Digest, Seq};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

/// Most components of a release: what fits into a statement with room to spare.
pub const COMPONENTS_MAX: usize = 256;
/// Most places a release may be fetched from.
pub const URLS_MAX: usize = 16;
/// Longest such place, in bytes.
pub const URL_MAX: usize = 1024;
/// Longest release notes, in bytes.
pub const NOTES_MAX: usize = 8 * 1024;
/// Longest version text, in bytes.
pub const VERSION_MAX: usize = 63;

/// What a release installs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// For people; the order of releases is their `seq`.
    pub version: String,
    /// The complete set, in strict order of name.
    pub components: Vec<Component>,
    /// The raw keeper executable, so that a fresh server can check it with `sha256sum` alone.
    pub installer: Installer,
    /// Where blobs can be had besides other nodes: `<url>/<hex>`.
    #[serde(default)]
    pub urls: Vec<String>,
    /// The lowest release a node may ever go back to.
    pub floor: Seq,
    /// For people.
    #[serde(default)]
    pub notes: String,
}

/// One component of a release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Component {
    /// Its name, also in its own `component.json`.
    pub name: Name,
    /// Of its `tar.zst`.
    pub digest: Digest,
    /// Of its `tar.zst`, in bytes.
    pub size: u64,
}

/// The raw keeper executable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Installer {
    /// Of the file as it is executed.
    pub digest: Digest,
    /// In bytes.
    pub size: u64,
}

/// Why the body of a release is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ManifestError {
    /// A statement of another lane.
    #[error("a statement of lane {0} holds no release")]
    Lane(Lane),
    /// Not of a manifest's shape.
    #[error("{0}")]
    Shape(String),
    /// No components, or too many.
    #[error("{0} components, expected 1 to {COMPONENTS_MAX}")]
    Components(usize),
    /// Names not in strict order, which a name given twice breaks too.
    #[error("component {0} is out of order: names are sorted and unique")]
    Order(Name),
    /// A blob of a size that nobody may install.
    #[error("{what} of {size} bytes, expected 1 to {COMPONENT_MAX}")]
    Size {
        /// Which blob.
        what: String,
        /// Its size.
        size: u64,
    },
    /// A version that cannot be printed on one line.
    #[error("version {0:?}: expected 1 to {VERSION_MAX} letters, digits and . _ + -")]
    Version(String),
    /// A place that is no HTTP address.
    #[error(
        "url {0:?}: expected at most {URLS_MAX}, each http:// or https:// and at most {URL_MAX} bytes"
    )]
    Url(String),
    /// A floor above the release itself.
    #[error("floor {floor} of release/{seq}: expected 1 to {seq}")]
    Floor {
        /// The floor.
        floor: Seq,
        /// The release.
        seq: Seq,
    },
    /// Notes that are too long.
    #[error("{0} bytes of notes, at most {NOTES_MAX}")]
    Notes(usize),
}

impl Manifest {
    /// Reads the manifest of a statement, verified or still a draft.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn parse(statement: &Statement) -> Result<Self, ManifestError> {
        if statement.lane != Lane::Release {
            return Err(ManifestError::Lane(statement.lane));
        }
        Self::from_body(&statement.body, statement.seq)
    }

    /// Reads the manifest of a verified release, with the refusal that everyone names alike: the
    /// last of the numbered steps of verification (the rules of the body).
    ///
    /// # Errors
    /// `bad_body`.
    pub fn of(verified: &VerifiedStatement) -> Result<Self, Refusal> {
        let statement = verified.statement();
        Self::parse(statement).map_err(|error| Refusal::BadBody {
            lane: statement.lane,
            seq: statement.seq,
            why: error.to_string(),
        })
    }

    /// Reads the body of what is or will be release/`seq`.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn from_body(body: &Value, seq: Seq) -> Result<Self, ManifestError> {
        let manifest = Self::deserialize(body).map_err(|e| ManifestError::Shape(e.to_string()))?;
        manifest.validate(seq)?;
        Ok(manifest)
    }

    /// The rules of a manifest of release/`seq`.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn validate(&self, seq: Seq) -> Result<(), ManifestError> {
        if !is_version(&self.version) {
            return Err(ManifestError::Version(self.version.chars().take(VERSION_MAX).collect()));
        }
        if !(1..=COMPONENTS_MAX).contains(&self.components.len()) {
            return Err(ManifestError::Components(self.components.len()));
        }
        if let Some(pair) = self.components.windows(2).find(|pair| pair[0].name >= pair[1].name) {
            return Err(ManifestError::Order(pair[1].name.clone()));
        }
        let blobs = self.components.iter().map(|c| (c.name.as_str(), c.size));
        let blobs = blobs.chain([("the installer", self.installer.size)]);
        for (what, size) in blobs {
            if !(1..=COMPONENT_MAX).contains(&size) {
                return Err(ManifestError::Size { what: what.to_owned(), size });
            }
        }
        if let Some(url) = self.urls.iter().enumerate().find_map(|(at, url)| bad_url(at, url)) {
            return Err(ManifestError::Url(url));
        }
        if !(Seq(1)..=seq).contains(&self.floor) {
            return Err(ManifestError::Floor { floor: self.floor, seq });
        }
        if self.notes.len() > NOTES_MAX {
            return Err(ManifestError::Notes(self.notes.len()));
        }
        Ok(())
    }

    /// As the body of a statement.
    #[must_use]
    pub fn to_body(&self) -> Value {
        serde_json::to_value(self).expect("a manifest has string keys only")
    }
}

/// A version can stand in a log line, a file name and a terminal.
pub(crate) fn is_version(text: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'+' | b'-');
    (1..=VERSION_MAX).contains(&text.len()) && text.bytes().all(fits)
}

/// The url, shortened, if it cannot be one.
fn bad_url(at: usize, url: &str) -> Option<String> {
    let scheme = url.starts_with("http://") || url.starts_with("https://");
    let good = at < URLS_MAX
        && scheme
        && url.len() <= URL_MAX
        && url.bytes().all(|b| b.is_ascii_graphic());
    (!good).then(|| url.chars().take(80).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn body() -> Value {
        let digest = Digest::of(b"blob");
        json!({
            "version": "1.2.0",
            "components": [
                {"name": "borgios-agent", "digest": digest, "size": 10},
                {"name": "hello", "digest": digest, "size": 4, "later": 1},
            ],
            "installer": {"digest": digest, "size": 4},
            "urls": ["https://example.org/blobs"],
            "floor": 1,
            "notes": "first",
        })
    }

    #[test]
    fn reads_what_it_writes() {
        let manifest = Manifest::from_body(&body(), Seq(3)).unwrap();
        assert_eq!(Manifest::from_body(&manifest.to_body(), Seq(3)).unwrap(), manifest);
    }

    #[test]
    fn t34_every_broken_rule_of_a_manifest_is_named() {
        let digest = Digest::of(b"blob");
        let one = |name: &str, size: u64| json!({"name": name, "digest": digest, "size": size});
        let many: Vec<_> = (0..257).map(|n| one(&format!("c{n:04}"), 1)).collect();
        type Check = fn(&ManifestError) -> bool;
        let cases: Vec<(&str, Value, Check)> = vec![
            ("version", json!("1\n2"), |e| matches!(e, ManifestError::Version(_))),
            ("version", json!(""), |e| matches!(e, ManifestError::Version(_))),
            ("components", json!([]), |e| matches!(e, ManifestError::Components(0))),
            ("components", json!(many), |e| matches!(e, ManifestError::Components(257))),
            ("components", json!([one("b", 1), one("a", 1)]), |e| {
                matches!(e, ManifestError::Order(_))
            }),
            ("components", json!([one("a", 1), one("a", 1)]), |e| {
                matches!(e, ManifestError::Order(_))
            }),
            ("components", json!([one("a", 0)]), |e| matches!(e, ManifestError::Size { .. })),
            ("components", json!([one("a", 1 << 40)]), |e| matches!(e, ManifestError::Size { .. })),
            ("components", json!([one("../a", 1)]), |e| matches!(e, ManifestError::Shape(_))),
            ("installer", json!({"digest": digest, "size": 0}), |e| {
                matches!(e, ManifestError::Size { .. })
            }),
            ("urls", json!(["ftp://x"]), |e| matches!(e, ManifestError::Url(_))),
            ("urls", json!(vec!["http://x"; 17]), |e| matches!(e, ManifestError::Url(_))),
            ("floor", json!(0), |e| matches!(e, ManifestError::Floor { .. })),
            ("floor", json!(4), |e| matches!(e, ManifestError::Floor { .. })),
            ("notes", json!("x".repeat(9000)), |e| matches!(e, ManifestError::Notes(9000))),
            ("installer", json!(null), |e| matches!(e, ManifestError::Shape(_))),
        ];
        for (field, value, expected) in cases {
            let mut bad = body();
            bad[field] = value;
            let error = Manifest::from_body(&bad, Seq(3)).unwrap_err();
            assert!(expected(&error), "{field}: {error}");
        }
    }
}
