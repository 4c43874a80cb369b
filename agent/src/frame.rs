//! Lines of JSON out of a stream of bytes, bounded before anything is parsed.

use thiserror::Error;

/// Longest line on any channel or socket, in bytes, without the newline.
///
/// An envelope is at most half of it, and becomes no longer inside a frame.
pub const FRAME_MAX: usize = 1024 * 1024;

/// Room that an empty buffer keeps, in bytes: two SSH packets.
const KEPT: usize = 128 * 1024;

/// Why a stream of lines was cut off.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FrameError {
    /// No newline within the bound.
    #[error("a line longer than {0} bytes")]
    TooLong(usize),
    /// Not text.
    #[error("a line that is not UTF-8")]
    NotText,
}

impl FrameError {
    /// The stable name of the refusal.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooLong(_) => "too_large",
            Self::NotText => "malformed",
        }
    }
}

/// Collects bytes until they make lines.
#[derive(Debug)]
pub struct Lines {
    buffer: Vec<u8>,
    /// Longest line taken.
    max: usize,
    /// Where the first line not yet taken begins.
    start: usize,
    /// Bytes before this are known to hold no newline after `start`.
    searched: usize,
}

impl Default for Lines {
    fn default() -> Self {
        Self::new()
    }
}

impl Lines {
    /// Nothing collected yet, lines of at most [`FRAME_MAX`] bytes.
    #[must_use]
    pub fn new() -> Self {
        Self { buffer: Vec::new(), max: FRAME_MAX, start: 0, searched: 0 }
    }

    /// From here on lines have at most `max` bytes.
    pub fn limit(&mut self, max: usize) {
        self.max = max;
    }

    /// Adds bytes that arrived. Call [`Lines::next_line`] until it returns `None` before the next.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Takes the next whole line, without its newline; `None` when more bytes are needed.
    ///
    /// # Errors
    /// See [`FrameError`]; the stream is of no use after one.
    pub fn next_line(&mut self) -> Result<Option<String>, FrameError> {
        let found = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n');
        let end = found.map_or(self.buffer.len(), |at| self.searched + at);
        if end - self.start > self.max {
            return Err(FrameError::TooLong(self.max));
        }
        if found.is_none() {
            self.buffer.drain(..self.start);
            // A long line is rare; its room is not kept for the link's whole life.
            if self.buffer.is_empty() && self.buffer.capacity() > KEPT {
                self.buffer = Vec::new();
            }
            self.start = 0;
            self.searched = self.buffer.len();
            return Ok(None);
        }
        let line = &self.buffer[self.start..end];
        let line = line.strip_suffix(b"\r").unwrap_or(line).to_vec();
        self.start = end + 1;
        self.searched = self.start;
        String::from_utf8(line).map(Some).map_err(|_| FrameError::NotText)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_out_however_they_went_in() {
        let mut lines = Lines::new();
        for byte in b"{}\r\n\n[1]\nrest" {
            lines.push(&[*byte]);
        }
        let mut out = Vec::new();
        while let Some(line) = lines.next_line().unwrap() {
            out.push(line);
        }
        assert_eq!(out, ["{}", "", "[1]"]);
        lines.push(b"\n");
        assert_eq!(lines.next_line().unwrap().as_deref(), Some("rest"));
    }

    #[test]
    fn a_line_without_end_is_cut_off() {
        let mut lines = Lines::new();
        let mut pushed = 0;
        let error = loop {
            lines.push(&[b'x'; 4096]);
            pushed += 4096;
            if let Err(error) = lines.next_line() {
                break error;
            }
        };
        assert_eq!(error, FrameError::TooLong(FRAME_MAX));
        assert!(pushed <= FRAME_MAX + 4096);
        let mut lines = Lines::new();
        lines.limit(4);
        lines.push(b"four\nfives\n");
        assert_eq!(lines.next_line().unwrap().as_deref(), Some("four"));
        assert_eq!(lines.next_line(), Err(FrameError::TooLong(4)));
    }

    #[test]
    fn bytes_that_are_not_text_are_refused() {
        let mut lines = Lines::new();
        lines.push(b"\xff\xfe\n");
        assert_eq!(lines.next_line(), Err(FrameError::NotText));
    }
}
