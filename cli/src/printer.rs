//! The one place that prints: data to stdout, talk to stderr, JSON where it was asked for.
//!
//! Nothing else in this crate may touch stdout or stderr (clippy's `print_stdout` and
//! `print_stderr` hold that). Colour is never used, so `NO_COLOR` holds by itself.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the crate's one printer")]

use std::io::{IsTerminal as _, Write as _};

use serde::Serialize;
use serde_json::Value;
use zeroize::Zeroizing;

use crate::failure::Failure;

/// Does something while no line is half written to stdout.
pub(crate) fn between_lines(what: impl FnOnce()) {
    let _line = std::io::stdout().lock();
    what();
}

/// Writes answers for people or for machines.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Printer {
    json: bool,
}

impl Printer {
    /// A printer that answers in JSON if `json`.
    pub(crate) fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether answers are for programs, so that talk is not seen.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Prints the answer of a command to stdout: one JSON document on one line, or the text.
    ///
    /// # Errors
    /// When stdout is closed or full; an answer nobody received is not an answer.
    pub(crate) fn answer<T: Serialize>(&self, value: &T, text: &str) -> Result<(), Failure> {
        // Whoever closed the pipe has read enough: `borgios log | head`.
        self.deliver(value, text).map(drop)
    }

    /// The same; whether somebody still reads.
    ///
    /// # Errors
    /// When stdout is full.
    pub(crate) fn deliver<T: Serialize>(&self, value: &T, text: &str) -> Result<bool, Failure> {
        let line =
            if self.json {
                let line = serde_json::to_string(value);
                tame_json(&line.map_err(|error| {
                    Failure::new("could not write the answer as JSON").cause(error)
                })?)
            } else {
                tame(text.trim_end_matches('\n'))
            };
        if line.is_empty() {
            return Ok(true);
        }
        let mut stdout = std::io::stdout().lock();
        let written = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
        written.map(|()| true).or_else(|error| match error.kind() {
            std::io::ErrorKind::BrokenPipe => Ok(false),
            _ => Err(Failure::new("could not write the answer to stdout").cause(error)),
        })
    }

    /// Prints several answers: one JSON document on a line for each, or the one text for all.
    ///
    /// # Errors
    /// As [`Printer::answer`].
    pub(crate) fn answers<T: Serialize>(
        &self,
        values: impl IntoIterator<Item = T>,
        text: &str,
    ) -> Result<(), Failure> {
        if self.json {
            values.into_iter().try_for_each(|value| self.answer(&value, ""))
        } else {
            self.answer(&(), text)
        }
    }

    /// Prints the answer that has a secret in it: the secret alone, or as one more field. The
    /// line is erased from memory afterwards.
    pub(crate) fn secret(&self, fields: &Value, name: &str, secret: &str) -> Result<(), Failure> {
        let mut line = Zeroizing::new(String::with_capacity(1024));
        if self.json {
            let open = fields.to_string();
            line.push_str(open.trim_end_matches('}'));
            line.push_str(",\"");
            line.push_str(name);
            line.push_str("\":\"");
            line.push_str(secret);
            line.push_str("\"}\n");
        } else {
            line.push_str(secret);
            line.push('\n');
        }
        let mut stdout = std::io::stdout().lock();
        let written = stdout.write_all(line.as_bytes()).and_then(|()| stdout.flush());
        written.map_err(|error| {
            Failure::new("could not write the secret to stdout; nothing was erased").cause(error)
        })
    }

    /// Says how far a long step is, on one line of the terminal that is written over.
    pub(crate) fn progress(&self, what: &str, done: usize, of: usize) {
        let mut stderr = std::io::stderr().lock();
        if self.json || !stderr.is_terminal() {
            return;
        }
        let end = if done == of { "\n" } else { "" };
        let _ = write!(stderr, "\r{what} {done} of {of}{end}");
        let _ = stderr.flush();
    }

    /// Shows a count that climbs: on a terminal one line that is written over until
    /// [`Printer::climbed`], elsewhere a line for each call. Silent under `--json`.
    pub(crate) fn climbing(&self, text: &str) {
        let mut stderr = std::io::stderr().lock();
        let text = one_line(text);
        // Lost without harm if nobody looks.
        let _ = match (self.json, stderr.is_terminal()) {
            (true, _) => Ok(()),
            // What was there may have been longer: it is erased.
            (false, true) => write!(stderr, "\r\x1b[K{text}"),
            (false, false) => writeln!(stderr, "{text}"),
        };
        let _ = stderr.flush();
    }

    /// The count climbs no more: what comes next stands on a line of its own.
    pub(crate) fn climbed(&self) {
        let mut stderr = std::io::stderr().lock();
        if !self.json && stderr.is_terminal() {
            let _ = writeln!(stderr);
        }
    }

    /// Talks to the person at the terminal, on stderr. Silent under `--json`.
    pub(crate) fn say(&self, text: &str) {
        if !self.json {
            // Talk is lost without harm if nobody listens.
            let _ = writeln!(std::io::stderr().lock(), "{}", tame(text));
        }
    }

    /// A warning on stderr, under `--json` too: it must not be lost.
    pub(crate) fn warn(&self, text: &str) {
        let _ = writeln!(std::io::stderr().lock(), "warning: {}", one_line(text));
    }

    /// Asks on stderr, without a newline; the answer is read elsewhere.
    pub(crate) fn ask(&self, text: &str) {
        let mut stderr = std::io::stderr().lock();
        let _ = write!(stderr, "{text}");
        let _ = stderr.flush();
    }

    /// Prints why a command was refused, on stderr.
    pub(crate) fn failure(&self, failure: &Failure) {
        let text = if self.json { tame_json(&failure.to_json()) } else { tame(&failure.to_text()) };
        let _ = writeln!(std::io::stderr().lock(), "{}", text.trim_end_matches('\n'));
    }
}

/// A table for people: columns padded to their widest cell, two blanks between them.
pub(crate) fn table<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> String {
    let mut widths = head.map(|cell| cell.chars().count());
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    let head = head.map(str::to_owned);
    for row in std::iter::once(&head).chain(rows) {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(row) {
            let pad = width - cell.chars().count();
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', pad + 2));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Text from outside as a part of one line: it must not be able to forge the lines around it.
pub(crate) fn one_line(text: &str) -> String {
    tame(text).replace('\n', "\\n")
}

/// Text from outside made fit for a terminal: control characters, which could move the cursor or
/// hide what follows, become `\u{..}` escapes; newlines stay.
fn tame(text: &str) -> String {
    text.chars()
        .flat_map(|c| if hidden(c) { c.escape_unicode().collect::<Vec<_>>() } else { vec![c] })
        .collect()
}

/// The same for JSON, in its own escapes: it stays the same document. Such characters can stand
/// in its strings only.
fn tame_json(text: &str) -> String {
    let mut tamed = String::with_capacity(text.len());
    for c in text.chars() {
        if hidden(c) {
            let units = c.encode_utf16(&mut [0; 2]).to_vec();
            tamed.extend(units.iter().map(|unit| format!("\\u{unit:04x}")));
        } else {
            tamed.push(c);
        }
    }
    tamed
}

/// Whether a character is not seen, or changes how others are.
fn hidden(c: char) -> bool {
    (c.is_control() && c != '\n')
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(c, '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [["ann".into(), "1".into()], ["berta".into(), "22".into()]];
        assert_eq!(table(["name", "n"], &rows), "name   n\nann    1\nberta  22\n");
    }

    #[test]
    fn no_control_character_reaches_the_terminal() {
        assert_eq!(tame("a\x1b[2Jb\nc\u{202e}"), "a\\u{1b}[2Jb\nc\\u{202e}");
        assert_eq!(one_line("fine\n  approved by cleo"), "fine\\n  approved by cleo");
        for hidden in
            ['\u{9b}', '\u{7f}', '\u{61c}', '\u{2028}', '\u{2060}', '\u{feff}', '\u{e0041}']
        {
            assert!(!tame(&format!("a{hidden}b")).contains(hidden), "{hidden:?}");
        }
    }

    #[test]
    fn json_for_a_terminal_stays_json() {
        let value = serde_json::json!({"a": "\u{9b}2J\u{202e}\u{e0041}\n\"ü"});
        let text = tame_json(&value.to_string());
        assert_eq!(text, r#"{"a":"\u009b2J\u202e\udb40\udc41\n\"ü"}"#);
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    }
}
