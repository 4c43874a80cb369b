//! What `/etc/shadow` says of root, as a pure function over its bytes.

use thiserror::Error;

use crate::verifier::Verifier;

/// Longest `/etc/shadow` that is read, in bytes; a server with 5,000 accounts has 600 KiB.
pub const SHADOW_MAX: usize = 1024 * 1024;
/// Longest password field, in bytes: twice the longest hash that crypt(5) makes.
pub const FIELD_MAX: usize = 768;
/// Fields of a line, shadow(5).
const FIELDS: usize = 9;

/// The file, as far as it concerns root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shadow {
    root: RootField,
}

/// Root's password field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RootField {
    /// One that this fleet could have written.
    Verifier(Verifier),
    /// `*`, `!` or either before anything: no password opens it.
    Locked,
    /// Nothing at all: root without a password.
    Empty,
    /// A hash of another kind, which is not kept.
    Other,
}

/// Why the file cannot be trusted to say what root's field is.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ShadowError {
    /// Not read any further.
    #[error("/etc/shadow has {0} bytes, at most {SHADOW_MAX} are read")]
    TooLarge(usize),
    /// Cut off, or not a text at all.
    #[error("/etc/shadow is damaged: {0}")]
    Damaged(&'static str),
    /// No line of root's.
    #[error("/etc/shadow has no line for root")]
    NoRoot,
    /// The first counts for some programs, the last for others.
    #[error("/etc/shadow has {0} lines for root")]
    Repeated(usize),
    /// Not of shadow(5)'s form.
    #[error("root's line in /etc/shadow has {0} fields, expected {FIELDS}")]
    Fields(usize),
    /// A field that no hash needs.
    #[error("root's password field in /etc/shadow has {0} bytes, at most {FIELD_MAX} are read")]
    FieldTooLong(usize),
}

impl Shadow {
    /// Reads the bytes of `/etc/shadow`. Lines of others are not judged.
    ///
    /// # Errors
    /// A file in which root's field is not one single thing.
    pub fn parse(bytes: &[u8]) -> Result<Self, ShadowError> {
        if bytes.len() > SHADOW_MAX {
            return Err(ShadowError::TooLarge(bytes.len()));
        }
        if bytes.contains(&0) {
            return Err(ShadowError::Damaged("it holds a zero byte"));
        }
        let Some(text) = bytes.strip_suffix(b"\n") else {
            return Err(ShadowError::Damaged("its last line does not end"));
        };
        let mut lines = text.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"root:"));
        let line = lines.next().ok_or(ShadowError::NoRoot)?;
        let others = lines.count();
        if others > 0 {
            return Err(ShadowError::Repeated(others + 1));
        }
        let fields: Vec<&[u8]> = line.split(|byte| *byte == b':').collect();
        if fields.len() != FIELDS {
            return Err(ShadowError::Fields(fields.len()));
        }
        if fields[1].len() > FIELD_MAX {
            return Err(ShadowError::FieldTooLong(fields[1].len()));
        }
        Ok(Self { root: RootField::of(fields[1]) })
    }

    /// Root's password field.
    #[must_use]
    pub fn root(&self) -> &RootField {
        &self.root
    }
}

impl RootField {
    fn of(field: &[u8]) -> Self {
        let verifier = core::str::from_utf8(field).ok().and_then(|text| text.parse().ok());
        match (field.first(), verifier) {
            (_, Some(verifier)) => Self::Verifier(verifier),
            (None, None) => Self::Empty,
            (Some(b'*' | b'!'), None) => Self::Locked,
            (Some(_), None) => Self::Other,
        }
    }

    /// The verifier, if it is one.
    #[must_use]
    pub fn verifier(&self) -> Option<&Verifier> {
        match self {
            Self::Verifier(verifier) => Some(verifier),
            Self::Locked | Self::Empty | Self::Other => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngCore as _, SeedableRng as _};
    use rand_chacha::ChaCha20Rng;

    use super::*;

    fn verifier() -> String {
        format!("$y$j9T${}${}", "a".repeat(22), "b".repeat(43))
    }

    fn file(field: &str) -> String {
        format!("daemon:*:19000:0:99999:7:::\nroot:{field}:19000:0:99999:7:::\nrooty:x:1::::::\n")
    }

    fn root(text: &str) -> Result<RootField, ShadowError> {
        Shadow::parse(text.as_bytes()).map(|shadow| shadow.root().clone())
    }

    #[test]
    fn roots_field_is_told_from_everyone_elses() {
        let wanted = verifier().parse().unwrap();
        assert_eq!(root(&file(&verifier())), Ok(RootField::Verifier(wanted)));
        for locked in ["*", "!", "!*", "!!", &format!("!{}", verifier())] {
            assert_eq!(root(&file(locked)), Ok(RootField::Locked), "{locked}");
        }
        assert_eq!(root(&file("")), Ok(RootField::Empty));
        for other in ["x", "$6$salt$hash", &format!("{}b", verifier()), "$y$jFT$a$b", "ä"] {
            assert_eq!(root(&file(other)), Ok(RootField::Other), "{other}");
        }
    }

    #[test]
    fn a_damaged_file_is_never_read_as_something_else() {
        let good = file(&verifier());
        assert_eq!(root(good.trim_end()), Err(ShadowError::Damaged("its last line does not end")));
        let zero = root(&good.replace("1900", "\0"));
        assert_eq!(zero, Err(ShadowError::Damaged("it holds a zero byte")));
        assert_eq!(root(&good.replace("\nroot:", "\nboot:")), Err(ShadowError::NoRoot));
        assert_eq!(root(&good.replace("daemon", "root")), Err(ShadowError::Repeated(2)));
        assert_eq!(root(&file("*:*")), Err(ShadowError::Fields(10)));
        assert_eq!(root(&file("*\n")), Err(ShadowError::Fields(2)));
        assert_eq!(root(&file(&"a".repeat(769))), Err(ShadowError::FieldTooLong(769)));
        assert_eq!(root(&"a".repeat(SHADOW_MAX + 1)), Err(ShadowError::TooLarge(SHADOW_MAX + 1)));
        assert_eq!(root(""), Err(ShadowError::Damaged("its last line does not end")));
        assert_eq!(root("\n"), Err(ShadowError::NoRoot));
    }

    #[test]
    fn no_garbage_panics_and_no_cut_makes_a_verifier_of_another() {
        let good = file(&verifier()).into_bytes();
        for cut in 0..good.len() {
            if let Ok(shadow) = Shadow::parse(&good[..cut]) {
                assert_eq!(shadow.root().verifier().unwrap().as_str(), verifier());
            }
        }
        for seed in 0..2_000 {
            let mut rng = ChaCha20Rng::seed_from_u64(seed);
            let mut bytes = good.clone();
            for _ in 0..=seed % 4 {
                let at = rng.next_u32() as usize % bytes.len();
                bytes[at] = rng.next_u32() as u8;
            }
            let _ = Shadow::parse(&bytes);
        }
    }
}
