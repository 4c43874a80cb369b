//! The one form in which a refusal stands in the system's journal, so that it can be searched:
//! `journalctl BORGIOS_EVENT=refused BORGIOS_REFUSAL=bad_signature`.

use borgios_policy::Statement;
use borgios_types::Envelope;
use tracing::warn;

/// Says that a statement was refused. Its lane and number are what it claims to be.
pub fn statement(envelope: &Envelope, code: &str, message: &str) {
    let claimed = Statement::parse(envelope).ok();
    let lane = claimed.as_ref().map_or("", |statement| statement.lane.as_str());
    let seq = claimed.as_ref().map_or(0, |statement| statement.seq.0);
    say(code, lane, seq, message);
}

/// Says that something about a release was refused.
pub fn release(seq: u64, code: &str, message: &str) {
    say(code, "release", seq, message);
}

/// Says that a line on the socket was refused before it was a statement.
pub fn line(code: &str, message: &str) {
    say(code, "", 0, message);
}

fn say(code: &str, lane: &str, seq: u64, message: &str) {
    warn!(
        BORGIOS_EVENT = "refused",
        BORGIOS_REFUSAL = code,
        BORGIOS_LANE = lane,
        BORGIOS_SEQ = seq,
        BORGIOS_MESSAGE = message,
        "refused ({code}): {message}"
    );
}
