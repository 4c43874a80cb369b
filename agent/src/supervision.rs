//! What systemd is told: ready, still alive, stopping. Without systemd all of it does nothing.

use std::time::Duration;

use systemd::daemon;

/// The service answers now.
pub fn ready() {
    notify(&[(daemon::STATE_READY, "1")]);
}

/// The service is still at work.
pub fn alive() {
    notify(&[(daemon::STATE_WATCHDOG, "1")]);
}

/// The service ends in good order.
pub fn stopping() {
    notify(&[(daemon::STATE_STOPPING, "1")]);
}

/// A line for `systemctl status`.
pub fn status(text: &str) {
    notify(&[(daemon::STATE_STATUS, text)]);
}

/// How often [`alive`] is to be said: half of `WatchdogSec`, if the unit has one.
#[must_use]
pub fn watchdog() -> Option<Duration> {
    match daemon::watchdog_enabled() {
        Ok(micros) if micros > 0 => Some(Duration::from_micros(micros / 2)),
        _ => None,
    }
}

fn notify(state: &[(&str, &str)]) {
    // Nobody listens when the program was started by hand.
    let _ = daemon::notify(state.iter());
}
