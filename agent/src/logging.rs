//! Logs: to journald with fields `BORGIOS_*`, or to stderr where the program was started by hand.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Begins to log; `RUST_LOG` overrules the level `info`.
///
/// Field names are written as journald wants them and get no prefix: an event's `BORGIOS_REFUSAL`
/// is the journal's `BORGIOS_REFUSAL`.
pub fn begin(identifier: &str) {
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new("info,russh=error,hyper=warn,reqwest=warn"));
    let registry = tracing_subscriber::registry().with(filter);
    // systemd sets JOURNAL_STREAM for services whose output goes to the journal.
    let by_systemd = std::env::var_os("JOURNAL_STREAM").is_some();
    if by_systemd && let Ok(journald) = tracing_journald::layer() {
        let layer = journald.with_field_prefix(None).with_syslog_identifier(identifier.to_owned());
        // Twice in one process is a mistake of a test, and harmless.
        let _ = registry.with(layer).try_init();
        return;
    }
    // Without colour, on a terminal too: the library is built without it and ends a debug build that asks.
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false);
    let _ = registry.with(layer).try_init();
}
