//! What bootstrap.sh said on a host, line by line: its stage, its receipt, its end.
//!
//! A host is no friend: lines are bounded, and what it says counts only in the form in which
//! bootstrap.sh says it, and as that host's own word about itself.

use std::collections::VecDeque;

use borgios_types::{Digest, PublicKey};

/// Longest line kept, in characters.
pub(crate) const LINE_MAX: usize = 400;

/// Last lines kept for the reason of a failure.
const TAIL_MAX: usize = 12;

/// Most lines kept of a plan; more than any machine has findings a person would read.
const KEPT_MAX: usize = 2_000;

/// Most lines kept of a receipt; it has about thirty.
const RECEIPT_MAX: usize = 200;

/// The running record of one command on one host.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    /// What the line with the command's exit code begins with; drawn for this one command, so that
    /// nothing which the command prints by chance or in malice from an earlier run is taken for it.
    end: String,
    stage: Option<String>,
    receipt: Option<Receipt>,
    receipt_text: Vec<String>,
    code: Option<u8>,
    tail: VecDeque<String>,
    kept: Vec<String>,
    left_out: usize,
}

/// What a receipt says, as far as it matters here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Receipt {
    /// The network that root was handed over to.
    pub(crate) network: Option<Digest>,
    /// The node's key.
    pub(crate) node: Option<PublicKey>,
}

/// What one line changed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Change<'a> {
    /// A new stage began.
    Stage(&'a str),
    /// The command ended.
    Ended,
    /// An ordinary line.
    Nothing,
}

impl Log {
    /// An empty log of a command that ends with the line `<end> <code>`.
    pub(crate) fn new(end: String) -> Self {
        let (tail, kept) = (VecDeque::new(), Vec::new());
        let (receipt, receipt_text) = (None, Vec::new());
        Self { end, stage: None, receipt, receipt_text, code: None, tail, kept, left_out: 0 }
    }

    /// Takes one line, without its newline.
    pub(crate) fn take(&mut self, line: &str) -> Change<'_> {
        let whole = line.trim_end_matches('\r');
        let line: String = whole.chars().take(LINE_MAX).collect();
        if let Some(code) = line.strip_prefix(&self.end) {
            self.code = code.trim().parse().ok();
            return Change::Ended;
        }
        if !line.is_empty() {
            if self.tail.len() == TAIL_MAX {
                self.tail.pop_front();
            }
            self.tail.push_back(line.clone());
        }
        if self.kept.len() < KEPT_MAX {
            self.kept.push(line.clone());
        } else {
            self.left_out += 1;
        }
        if let Some(stage) = line.strip_prefix("== ") {
            self.stage = Some(stage.split([',', ':']).next().unwrap_or(stage).trim().to_owned());
            return Change::Stage(self.stage.as_deref().unwrap_or_default());
        }
        self.read_receipt(&line);
        // Whole: what was signed is of use only to the last character.
        let more = self.receipt.is_some() && self.stage.as_deref() == Some("receipt");
        if more && self.receipt_text.len() < RECEIPT_MAX {
            self.receipt_text.push(whole.to_owned());
        }
        Change::Nothing
    }

    /// A receipt stands under its own heading, which comes last but for the end of the logins.
    fn read_receipt(&mut self, line: &str) {
        if self.stage.as_deref() != Some("receipt") {
            return;
        }
        let value = |name: &str| {
            let rest = line.strip_prefix("  ")?.strip_prefix(name)?;
            rest.starts_with(' ').then(|| rest.trim())
        };
        match &mut self.receipt {
            None => {
                if line.starts_with("RECEIPT of ") && line.ends_with(" was handed over") {
                    self.receipt = Some(Receipt::default());
                }
            }
            // The first of each: below them stands what others wrote, such as signed payloads.
            Some(receipt) => {
                let network = value("network").and_then(|text| text.split(' ').next_back());
                let network = network.and_then(|text| text.parse().ok());
                receipt.network = receipt.network.or(network);
                receipt.node = receipt.node.or(value("node").and_then(|text| text.parse().ok()));
            }
        }
    }

    /// The last stage that began.
    pub(crate) fn stage(&self) -> Option<&str> {
        self.stage.as_deref()
    }

    /// The receipt, once it was seen.
    pub(crate) fn receipt(&self) -> Option<Receipt> {
        self.receipt
    }

    /// The receipt as it was shown; empty if none was.
    pub(crate) fn receipt_text(&self) -> String {
        self.receipt_text.iter().map(|line| format!("{line}\n")).collect()
    }

    /// The node's key, as the receipt names it.
    pub(crate) fn node(&self) -> Option<PublicKey> {
        self.receipt.and_then(|receipt| receipt.node)
    }

    /// The command's exit code, once it ended.
    pub(crate) fn code(&self) -> Option<u8> {
        self.code
    }

    /// The complaint of bootstrap.sh, else the last line.
    pub(crate) fn complaint(&self) -> Option<&str> {
        let said = self.tail.iter().rev().find_map(|line| line.strip_prefix("bootstrap.sh: "));
        said.or_else(|| self.tail.back().map(String::as_str))
    }

    /// All that was said, as far as it was kept.
    pub(crate) fn text(&self) -> String {
        let mut text = self.kept.join("\n");
        if self.left_out > 0 {
            text.push_str(&format!("\n(and {} lines more, left out)", self.left_out));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(lines: &[&str]) -> Log {
        let mut log = Log::new("end-7".to_owned());
        for line in lines {
            log.take(line);
        }
        log
    }

    const RECEIPT: &str = "RECEIPT of 2026-11-26 18:00:00 UTC: root on web-1 was handed over";

    #[test]
    fn stages_and_the_receipt_are_seen() {
        let key = borgios_types::SecretKey::from_seed([3; 32]).public();
        let node = format!("  node        {key}");
        let id = Digest::of(b"network");
        let network = format!("  network     lab, {id}");
        let log = log(&[
            "",
            "== install: running the verified installer",
            "  ok",
            "== receipt",
            RECEIPT,
            "",
            &network,
            "  network     lab, sha256:0",
            &node,
            "  node-x      1",
            "== logins that are still open, this one too, end in a moment",
            "end-7 0",
        ]);
        assert_eq!(log.stage(), Some("logins that are still open"));
        assert_eq!(log.receipt(), Some(Receipt { network: Some(id), node: Some(key) }));
        assert_eq!(log.code(), Some(0));
        assert_eq!(log.receipt_text().lines().count(), 6);
    }

    #[test]
    fn what_was_signed_is_kept_to_the_last_character() {
        let payload = format!("{{\"taken\":\"{}\"}}", "x".repeat(3_000));
        let mut log = log(&["== receipt", RECEIPT, &payload, "== sessions"]);
        assert!(log.receipt_text().contains(&payload));
        for _ in 0..10_000 {
            log.take("{}");
        }
        assert_eq!(log.receipt_text().lines().count(), 2);
    }

    #[test]
    fn only_bootstraps_own_receipt_under_its_own_heading_counts() {
        for lines in [
            &[RECEIPT][..],
            &["== plan", RECEIPT],
            &["== receipt", &format!(" {RECEIPT}"), &format!("x {RECEIPT}")],
            &[&format!("== receipt: {RECEIPT}")],
            &["== receipt", "RECEIPT of 2026-11-26 18:00:00 UTC"],
            &["== receipt", "  node        x", "== sessions", RECEIPT],
        ] {
            assert_eq!(log(lines).receipt(), None, "{lines:?}");
        }
    }

    #[test]
    fn another_commands_end_is_not_this_ones() {
        assert_eq!(log(&["end-6 0", " end-7 0"]).code(), None);
        assert_eq!(log(&["end-7 x"]).code(), None);
        assert_eq!(log(&["end-7 999"]).code(), None);
        assert_eq!(log(&["end-7 10"]).code(), Some(10));
    }

    #[test]
    fn the_complaint_is_bootstraps_even_when_more_follows() {
        let log = log(&["a", "bootstrap.sh: no disk", "b"]);
        assert_eq!(log.complaint(), Some("no disk"));
    }

    #[test]
    fn a_host_that_never_stops_talking_fills_no_memory() {
        let mut log = Log::new("end".to_owned());
        for _ in 0..KEPT_MAX + 7 {
            log.take(&"x".repeat(10_000));
        }
        assert_eq!((log.kept.len(), log.left_out, log.tail.len()), (KEPT_MAX, 7, TAIL_MAX));
        assert!(log.text().len() < KEPT_MAX * (LINE_MAX + 1) + 100);
    }
}
