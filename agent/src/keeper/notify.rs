//! Telling systemd that this process is ready and alive: the protocol of sd_notify(3).

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// Where systemd listens for this process, if it started it.
#[derive(Debug)]
pub struct Notifier {
    socket: UnixDatagram,
    to: SocketAddr,
}

impl Notifier {
    /// Reads `NOTIFY_SOCKET`; `None` where nobody waits for word.
    ///
    /// # Errors
    /// An address that cannot be used.
    pub fn from_environment() -> io::Result<Option<Self>> {
        let Some(address) = std::env::var_os("NOTIFY_SOCKET") else { return Ok(None) };
        let to = match address.as_bytes().strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(&address)?,
        };
        Ok(Some(Self { socket: UnixDatagram::unbound()?, to }))
    }

    /// Says one thing, such as `READY=1`.
    ///
    /// # Errors
    /// Whatever the socket says.
    pub fn say(&self, what: &str) -> io::Result<()> {
        self.socket.send_to_addr(what.as_bytes(), &self.to).map(drop)
    }
}

/// How often systemd wants a sign of life: a third of its patience. `None` without a watchdog.
#[must_use]
pub fn watchdog_pace() -> Option<Duration> {
    let patience = std::env::var("WATCHDOG_USEC").ok()?.parse().ok().map(Duration::from_micros)?;
    let for_us = std::env::var("WATCHDOG_PID").map_or(Ok(std::process::id()), |pid| pid.parse());
    (for_us == Ok(std::process::id())).then_some(patience / 3)
}
