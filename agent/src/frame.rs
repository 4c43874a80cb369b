//! Lines of JSON out of a stream of bytes, bounded before anything is parsed.

use thiserror::Error;

/// Longest line on any channel or socket, in bytes, without the newline.
///
/// An envelope is at most half of it, and becomes no longer inside a frame.
pub const FRAME_MAX: usize = 1024 * 1024;

/// Why a stream of lines was cut off.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FrameError {
    /// No newline within the bound.
    #[error("a line longer than {FRAME_MAX} bytes")]
    TooLong,
    /// Not text.
    #[error("a line that is not UTF-8")]
    NotText,
}

impl FrameError {
    /// The stable name of the refusal.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooLong => "too_large",
            Self::NotText => "malformed",
        }
    }
}

/// Collects bytes until they make lines.
#[derive(Debug, Default)]
pub struct Lines {
    buffer: Vec<u8>,
    /// Where the first line not yet taken begins.
    start: usize,
    /// Bytes before this are known to hold no newline after `start`.
    searched: usize,
}

impl Lines {
    /// Nothing collected yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
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
        if end - self.start > FRAME_MAX {
            return Err(FrameError::TooLong);
        }
        if found.is_none() {
            self.buffer.drain(..self.start);
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
        assert_eq!(error, FrameError::TooLong);
        assert!(pushed <= FRAME_MAX + 4096);
    }

    #[test]
    fn bytes_that_are_not_text_are_refused() {
        let mut lines = Lines::new();
        lines.push(b"\xff\xfe\n");
        assert_eq!(lines.next_line(), Err(FrameError::NotText));
    }
}
