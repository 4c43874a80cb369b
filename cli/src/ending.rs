//! Commands that run until they are told to end: a signal ends them as if they were done.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use crate::failure::{Failure, OrFail as _};
use crate::printer;

/// Longest wait for a line that is being written to whoever does not read it.
const LAST_LINE: Duration = Duration::from_secs(1);

/// From now on SIGINT (ctrl-c) and SIGTERM end this program with exit status 0, between two lines.
///
/// # Errors
/// The system gives no thread or no signals.
pub(crate) fn on_a_signal() -> Result<(), Failure> {
    let what = || "cannot wait for signals";
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().or_fail(what)?;
    let (mut interrupted, mut terminated) = {
        let _inside = runtime.enter();
        (
            signal(SignalKind::interrupt()).or_fail(what)?,
            signal(SignalKind::terminate()).or_fail(what)?,
        )
    };
    let waiting = std::thread::Builder::new().name("signals".into()).spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupted.recv() => {}
                _ = terminated.recv() => {}
            }
        });
        std::thread::spawn(|| {
            std::thread::sleep(LAST_LINE);
            std::process::exit(0);
        });
        // Half a line is none.
        printer::between_lines(|| std::process::exit(0));
    });
    waiting.map(drop).or_fail(what)
}
