//! `component.json`: what a component says about itself.
//!
//! ```text
//! {name, version, arch, health: {command, deadline_s, stable_s} | absent, restart: [units]}
//! ```

use core::time::Duration;

use borgios_policy::Name;
use borgios_types::json;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::entry::is_unit;
use crate::manifest::is_version;

/// Longest `component.json`, in bytes.
pub const INFO_MAX: usize = 64 * 1024;
/// Most units a component restarts.
pub const UNITS_MAX: usize = 64;
/// Longest probation, in seconds: a fleet must not hang on one bad number.
pub const DEADLINE_MAX: u32 = 1800;
/// Most words of a health command.
const WORDS_MAX: usize = 64;
/// Longest word of a health command, in bytes.
const WORD_MAX: usize = 4096;
/// The architecture of components without machine code.
pub const ANY_ARCH: &str = "any";

/// What a component says about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComponentInfo {
    /// The name under which manifests list it.
    pub name: Name,
    /// For people.
    pub version: String,
    /// `x86_64`, `aarch64`, … as the kernel names it, or `any`.
    pub arch: String,
    /// How one sees that it works; absent where starting its units is proof enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// The units that are restarted when the component changes.
    #[serde(default)]
    pub restart: Vec<String>,
}

/// How one sees that a component works.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// A program by absolute path and its arguments; exit code 0 means well.
    pub command: Vec<String>,
    /// Seconds from the restart within which it must be well.
    pub deadline_s: u32,
    /// Seconds it must then stay well.
    #[serde(default)]
    pub stable_s: u32,
}

/// Why a `component.json` is refused.
#[derive(Debug, Error)]
pub enum InfoError {
    /// Not UTF-8.
    #[error("component.json is not UTF-8")]
    Text(#[source] core::str::Utf8Error),
    /// Not strict JSON of the right shape.
    #[error("component.json is no description of a component: {0}")]
    Json(json::JsonError),
    /// A field with a value it cannot have.
    #[error("component.json: {field} {value:?}: expected {expected}")]
    Field {
        /// Which field.
        field: &'static str,
        /// What it says.
        value: String,
        /// What it may say.
        expected: &'static str,
    },
}

impl ComponentInfo {
    /// Reads a `component.json`.
    ///
    /// # Errors
    /// See [`InfoError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, InfoError> {
        let text = core::str::from_utf8(bytes).map_err(InfoError::Text)?;
        let info: Self = json::parse_strict(text, INFO_MAX).map_err(InfoError::Json)?;
        info.validate()?;
        Ok(info)
    }

    /// Whether it runs on a machine of this architecture.
    #[must_use]
    pub fn fits(&self, arch: &str) -> bool {
        self.arch == ANY_ARCH || self.arch == arch
    }

    fn validate(&self) -> Result<(), InfoError> {
        let bad = |field, value: &str, expected| {
            let value = value.chars().take(80).collect();
            Err(InfoError::Field { field, value, expected })
        };
        if !is_version(&self.version) {
            return bad("version", &self.version, "up to 63 letters, digits and . _ + -");
        }
        let arch = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        if self.arch.is_empty() || self.arch.len() > 32 || !self.arch.bytes().all(arch) {
            return bad("arch", &self.arch, "x86_64, aarch64, … or any");
        }
        if self.restart.len() > UNITS_MAX {
            return bad("restart", &self.restart.len().to_string(), "at most 64 units");
        }
        if let Some(unit) = self.restart.iter().find(|unit| !is_unit(unit)) {
            return bad("restart", unit, "names of .service, .socket or .timer units");
        }
        self.health.as_ref().map_or(Ok(()), Health::validate)
    }
}

impl Health {
    /// The deadline.
    #[must_use]
    pub fn deadline(&self) -> Duration {
        Duration::from_secs(self.deadline_s.into())
    }

    /// How long it must stay well.
    #[must_use]
    pub fn stable(&self) -> Duration {
        Duration::from_secs(self.stable_s.into())
    }

    fn validate(&self) -> Result<(), InfoError> {
        let bad = |field, value: String, expected| {
            let value = value.chars().take(80).collect();
            Err(InfoError::Field { field, value, expected })
        };
        let word = |word: &String| word.len() <= WORD_MAX && !word.contains('\0');
        let program = self.command.first().map_or("", String::as_str);
        if !program.starts_with('/')
            || self.command.len() > WORDS_MAX
            || !self.command.iter().all(word)
        {
            return bad(
                "health.command",
                program.to_owned(),
                "an absolute path and up to 63 arguments",
            );
        }
        if !(1..=DEADLINE_MAX).contains(&self.deadline_s) {
            return bad("health.deadline_s", self.deadline_s.to_string(), "1 to 1800");
        }
        if self.stable_s > self.deadline_s {
            return bad("health.stable_s", self.stable_s.to_string(), "at most deadline_s");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes_and_refuses_the_rest() {
        let good = r#"{"name":"hello","version":"1","arch":"any","restart":["hello.service"],
            "health":{"command":["/bin/true"],"deadline_s":5,"stable_s":1}}"#;
        let info = ComponentInfo::parse(good.as_bytes()).unwrap();
        let again = serde_json::to_string(&info).unwrap();
        assert_eq!(ComponentInfo::parse(again.as_bytes()).unwrap(), info);
        assert!(info.fits("x86_64"));
        for (from, to) in [
            (r#""hello","#, r#""../hello","#),
            (r#""version":"1""#, r#""version":"1 2""#),
            (r#""any""#, r#""""#),
            ("hello.service", "hello.mount"),
            ("hello.service", "../x.service"),
            (r#"["/bin/true"]"#, "[]"),
            ("/bin/true", "true"),
            (r#""deadline_s":5"#, r#""deadline_s":0"#),
            (r#""deadline_s":5"#, r#""deadline_s":100000"#),
            (r#""stable_s":1"#, r#""stable_s":6"#),
            (r#""arch""#, r#""name":"x","arch""#),
        ] {
            let bad = good.replace(from, to);
            assert_ne!(bad, good);
            assert!(ComponentInfo::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
