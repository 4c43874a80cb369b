//! Units and configuration as text that systemd and a reviewer read alike.
//!
//! systemd ends a line at a carriage return and at NUL as well as at a newline, and takes no other
//! blanks than space and tab; editors, terminals and most libraries do otherwise. Where the two part, a
//! line can be a comment for whoever reads it and a command for the server. So such characters have no
//! place in a component: neither is one built with them, nor unpacked.

use core::str::Utf8Error;

use thiserror::Error;

/// Largest unit, sysusers.d or tmpfiles.d file, in bytes: systemd reads them whole.
pub const TEXT_MAX: u64 = 64 * 1024;

/// Why a unit or a configuration file is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TextError {
    /// Not UTF-8.
    #[error("it is not UTF-8")]
    Utf8(#[source] Utf8Error),
    /// A character that is no letter to one reader and a blank or an end of line to another.
    #[error(
        "line {line} holds U+{code:04X}: no control characters but newline and tab, no blanks but space"
    )]
    Character {
        /// The line, counted from 1 by newlines.
        line: usize,
        /// The character.
        code: u32,
    },
    /// Too long.
    #[error("it has more than {TEXT_MAX} bytes")]
    Size,
}

/// Takes a unit or a configuration file, if it is text that can be read in one way only.
///
/// # Errors
/// See [`TextError`].
pub fn check(bytes: &[u8]) -> Result<&str, TextError> {
    if bytes.len() as u64 > TEXT_MAX {
        return Err(TextError::Size);
    }
    let text = core::str::from_utf8(bytes).map_err(TextError::Utf8)?;
    match text.char_indices().find(|(_, c)| !fits(*c)) {
        None => Ok(text),
        Some((at, c)) => {
            let line = text[..at].matches('\n').count() + 1;
            Err(TextError::Character { line, code: u32::from(c) })
        }
    }
}

/// Letters of every script may stand in a comment or a description.
fn fits(c: char) -> bool {
    match c {
        ' ' | '\t' | '\n' => true,
        // A byte order mark: systemd drops one at the start of a file.
        '\u{feff}' => false,
        c => !c.is_control() && !c.is_whitespace(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_of_every_script_pass() {
        let text =
            "# gr\u{fc}\u{df}e, \u{4f60}\u{597d}\n[Service]\n\tExecStart=/bin/true \\\n  --x\n";
        assert_eq!(check(text.as_bytes()), Ok(text));
        assert_eq!(check(b""), Ok(""));
    }

    #[test]
    fn what_two_readers_read_in_two_ways_is_refused_by_its_line() {
        for c in [
            '\0', '\u{1}', '\u{b}', '\u{c}', '\r', '\u{1b}', '\u{7f}', '\u{80}', '\u{85}',
            '\u{9f}', '\u{a0}', '\u{1680}', '\u{2003}', '\u{2028}', '\u{2029}', '\u{202f}',
            '\u{3000}', '\u{feff}',
        ] {
            let text = format!("[Service]\n# harmless{c}ExecStart=+/bin/evil\n");
            let refused = TextError::Character { line: 2, code: u32::from(c) };
            assert_eq!(check(text.as_bytes()), Err(refused), "{c:?}");
        }
        assert!(matches!(check(b"[Service]\n# \xff\n"), Err(TextError::Utf8(_))));
        let long = vec![b'#'; usize::try_from(TEXT_MAX).unwrap()];
        assert!(check(&long).is_ok());
        assert_eq!(check(&[long.as_slice(), b"#"].concat()), Err(TextError::Size));
    }
}
