//! The keeper's one door: a Unix socket that asks the kernel who knocks.
//!
//! Every connection has a thread of its own, of which there are at most [`CONNECTIONS_MAX`]; every
//! line has a bound and a deadline. Whoever floods, drips or falls silent costs one of those
//! threads for at most [`LINE_DEADLINE`] or [`IDLE_MAX`], and nothing else.

use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use thiserror::Error;
use tracing::{debug, info, warn};

use super::again;
use super::protocol::{Answer, Request};
use super::refused;
use crate::frame::{FrameError, Lines};

/// Connections at a time: borgiosd holds one, an operator's tool another; the rest is room.
pub const CONNECTIONS_MAX: usize = 8;
/// Longest time between the first and the last byte of a line.
pub const LINE_DEADLINE: Duration = Duration::from_secs(10);
/// Longest silence on a connection; borgiosd simply connects again.
pub const IDLE_MAX: Duration = Duration::from_secs(300);
/// Longest wait for a peer to take an answer.
pub const WRITE_MAX: Duration = Duration::from_secs(10);
/// How often a waiting read looks at its deadlines.
const TICK: Duration = Duration::from_millis(500);

/// Why a connection ended before its peer closed it.
#[derive(Debug, Error)]
pub enum ConnectionError {
    /// Neither root nor the agent's user.
    #[error("uid {0} may not talk to the keeper; expected root or the agent's user")]
    Stranger(u32),
    /// A line that is too long or no text.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A line that did not end in time.
    #[error("a line that took longer than {} s", LINE_DEADLINE.as_secs())]
    Slow,
    /// The socket failed.
    #[error("the connection failed")]
    Io(#[from] io::Error),
}

/// Makes the socket: readable and writable by root and the group `gid`, by nobody else.
///
/// The folder belongs to the agent's group too. The socket takes the place of an earlier one in
/// one step, so that at no moment the name is free for somebody else's; what stands there in spite
/// of that, a folder for one, is moved aside and keeps no keeper from starting.
///
/// # Errors
/// Whatever the file system says.
pub fn bind(path: &Path, gid: Option<u32>) -> io::Result<UnixListener> {
    let fresh = path.with_file_name(format!(".keeper-{}", std::process::id()));
    clear(&fresh)?;
    let listener = UnixListener::bind(&fresh)?;
    chown(&fresh, None, gid)?;
    std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o660))?;
    if std::fs::rename(&fresh, path).is_err() {
        clear(path)?;
        std::fs::rename(&fresh, path)?;
    }
    Ok(listener)
}

/// What the `first` attempt to bind made, or else a later one: whoever has the agent's account can
/// fill the disk of the socket's folder, and shall thereby end nothing else that the keeper does.
pub(super) fn bound_at_last(
    first: io::Result<UnixListener>,
    bind: impl Fn() -> io::Result<UnixListener>,
    pause: impl FnMut(Duration),
) -> UnixListener {
    let (mut first, mut failed) = (Some(first), false);
    let listener = again::until_done(
        || first.take().unwrap_or_else(&bind),
        |error: &io::Error| {
            failed = true;
            warn!(
                BORGIOS_EVENT = "socket_failed",
                %error,
                "the socket cannot be made, nobody can ask, all else goes on: {error}"
            );
        },
        pause,
    );
    if failed {
        info!(BORGIOS_EVENT = "socket_made", "the socket is there now");
    }
    listener
}

/// Frees a name, whoever made what stands there.
fn clear(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // A folder, perhaps full; its maker may keep it.
        Err(_) => {
            use rand::RngCore as _;
            let aside = format!(".foreign-{:016x}", rand::rngs::OsRng.next_u64());
            warn!(BORGIOS_EVENT = "moved_aside", aside, "something stood at {}", path.display());
            std::fs::rename(path, path.with_file_name(aside))
        }
    }
}

/// Answers whoever connects, until the listener fails. `uids` may talk, nobody else.
///
/// # Errors
/// If no thread can be started for a first connection, or the listener is gone.
pub fn serve<F>(listener: &UnixListener, uids: &[u32], answer: F) -> io::Result<()>
where
    F: Fn(Request) -> Answer + Send + Sync + 'static,
{
    let answer = Arc::new(answer);
    let open = Arc::new(AtomicUsize::new(0));
    for stream in listener.incoming() {
        let stream = match stream {
            Ok(stream) => stream,
            Err(error) if passes(&error) => {
                warn!(BORGIOS_EVENT = "accept_failed", %error, "a connection was not accepted");
                continue;
            }
            Err(error) => return Err(error),
        };
        if open.fetch_add(1, Ordering::SeqCst) >= CONNECTIONS_MAX {
            open.fetch_sub(1, Ordering::SeqCst);
            warn!(BORGIOS_EVENT = "busy", "refused a connection: {CONNECTIONS_MAX} are open");
            continue;
        }
        let (held, answer, uids) = (Held(Arc::clone(&open)), Arc::clone(&answer), uids.to_vec());
        let thread = std::thread::Builder::new().name("connection".into());
        let started = thread.spawn(move || {
            let _held = held;
            match talk(&stream, &uids, &*answer) {
                Ok(()) => debug!("a connection was closed"),
                Err(error) => {
                    if let ConnectionError::Frame(frame) = &error {
                        let code = match frame {
                            FrameError::TooLong(_) => "too_large",
                            FrameError::NotText => "malformed",
                        };
                        refused::line(code, &error.to_string());
                    }
                    warn!(BORGIOS_EVENT = "connection_dropped", %error, "dropped a connection");
                }
            }
        });
        if let Err(error) = started {
            warn!(BORGIOS_EVENT = "busy", %error, "no thread for a connection");
        }
    }
    Ok(())
}

/// A connection's place among [`CONNECTIONS_MAX`], given back on drop.
struct Held(Arc<AtomicUsize>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Whether the next `accept` may succeed: the peer was gone, or descriptors are short for now.
fn passes(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted)
        || matches!(
            rustix::io::Errno::from_io_error(error),
            Some(rustix::io::Errno::MFILE | rustix::io::Errno::NFILE)
        )
}

fn talk(
    stream: &UnixStream,
    uids: &[u32],
    answer: &dyn Fn(Request) -> Answer,
) -> Result<(), ConnectionError> {
    let uid = rustix::net::sockopt::socket_peercred(stream).map_err(io::Error::from)?.uid.as_raw();
    if !uids.contains(&uid) {
        return Err(ConnectionError::Stranger(uid));
    }
    stream.set_read_timeout(Some(TICK))?;
    stream.set_write_timeout(Some(WRITE_MAX))?;
    let mut lines = Lines::new();
    let mut buffer = vec![0; 64 * 1024];
    // When the line that is under way began; none between lines.
    let mut begun: Option<Instant> = None;
    let mut last = Instant::now();
    loop {
        let got = match (&mut &*stream).read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(got) => got,
            Err(error) if waits(&error) => {
                if begun.is_some_and(|begun| begun.elapsed() > LINE_DEADLINE) {
                    return Err(ConnectionError::Slow);
                }
                if last.elapsed() > IDLE_MAX {
                    return Ok(());
                }
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        last = Instant::now();
        let since = *begun.get_or_insert(last);
        lines.push(&buffer[..got]);
        let mut whole = false;
        while let Some(line) = lines.next_line()? {
            whole = true;
            let mut out =
                serde_json::to_vec(&reply(&line, answer)).expect("answers have string keys only");
            out.push(b'\n');
            (&mut &*stream).write_all(&out)?;
        }
        // A dripping peer sends a byte now and then: the deadline counts from the first one.
        if whole {
            begun = if buffer[got - 1] == b'\n' { None } else { Some(last) };
        } else if since.elapsed() > LINE_DEADLINE {
            return Err(ConnectionError::Slow);
        }
    }
}

/// What a line asks for. One at a time: a hostile line takes many times its length of memory while it is
/// read, and there are as many of them as connections.
fn read_request(line: &str) -> Result<Request, serde_json::Error> {
    static READING: Mutex<()> = Mutex::new(());
    let _one = READING.lock().unwrap_or_else(PoisonError::into_inner);
    serde_json::from_str(line)
}

fn reply(line: &str, answer: &dyn Fn(Request) -> Answer) -> Answer {
    match read_request(line) {
        Ok(request) => answer(request),
        Err(error) => {
            refused::line("bad_request", &error.to_string());
            Answer::error("bad_request", error)
        }
    }
}

fn waits(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead as _, BufReader};

    fn door(uids: &[u32]) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keeper.sock");
        let listener = bind(&path, None).unwrap();
        let uids = uids.to_vec();
        std::thread::spawn(move || {
            serve(&listener, &uids, |request| Answer::ok(format!("{request:?}")))
        });
        (folder, path)
    }

    fn own_uid() -> u32 {
        rustix::process::geteuid().as_raw()
    }

    #[test]
    fn every_line_has_its_answer_and_nonsense_an_error() {
        let (_folder, path) = door(&[own_uid()]);
        let mut stream = UnixStream::connect(path).unwrap();
        stream.write_all(b"{\"verb\":\"status\"}\n{\"verb\":\"sh\"}\n\xc3\xa4\n").unwrap();
        let mut lines = BufReader::new(stream).lines();
        assert_eq!(lines.next().unwrap().unwrap(), r#"{"ok":"Status"}"#);
        for _ in 0..2 {
            assert!(lines.next().unwrap().unwrap().contains("bad_request"));
        }
    }

    #[test]
    fn whatever_stands_at_the_sockets_name_keeps_no_keeper_from_starting() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keeper.sock");
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("full"), "").unwrap();
        let first = bind(&path, None).unwrap();
        // A successor takes the name over; what the first one bound leads nowhere any more.
        let second = bind(&path, None).unwrap();
        drop(first);
        second.set_nonblocking(true).unwrap();
        UnixStream::connect(&path).unwrap();
        second.accept().unwrap();
        let victim = folder.path().join("victim");
        std::fs::write(&victim, "untouched").unwrap();
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(&victim, &path).unwrap();
        bind(&path, None).unwrap();
        assert_eq!(std::fs::read_to_string(&victim).unwrap(), "untouched");
        assert!(!std::fs::symlink_metadata(&path).unwrap().is_symlink());
    }

    /// A folder that is missing stands for a disk without room.
    #[test]
    fn a_socket_that_cannot_be_made_at_first_is_made_later() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("full/keeper.sock");
        let attempt = || bind(&path, None);
        let first = attempt();
        assert!(first.is_err());
        let mut pauses = 0;
        let listener = bound_at_last(first, attempt, |_| {
            pauses += 1;
            if pauses == 3 {
                std::fs::create_dir(folder.path().join("full")).unwrap();
            }
        });
        assert_eq!(pauses, 3);
        UnixStream::connect(&path).unwrap();
        listener.accept().unwrap();
        // One that is there is taken as it is.
        bound_at_last(Ok(listener), || unreachable!(), |_| unreachable!());
    }

    #[test]
    fn a_stranger_and_a_flood_are_dropped() {
        let (_folder, path) = door(&[own_uid() + 1]);
        let mut stream = UnixStream::connect(path).unwrap();
        let _ = stream.write_all(b"{\"verb\":\"status\"}\n");
        let mut got = Vec::new();
        let _ = stream.read_to_end(&mut got);
        assert_eq!(got, b"");

        let (_folder, path) = door(&[own_uid()]);
        let mut stream = UnixStream::connect(path).unwrap();
        let sent = (0..64).all(|_| stream.write_all(&[b'x'; 64 * 1024]).is_ok());
        assert!(!sent, "four megabytes without a newline were taken");
    }

    #[test]
    fn no_more_connections_than_the_bound_and_room_again_after() {
        let (_folder, path) = door(&[own_uid()]);
        let ask = |stream: &mut UnixStream| {
            stream.write_all(b"{\"verb\":\"status\"}\n")?;
            let mut line = String::new();
            BufReader::new(stream).read_line(&mut line)?;
            if line.is_empty() { Err(io::Error::other("dropped")) } else { Ok(()) }
        };
        let mut open: Vec<_> =
            (0..CONNECTIONS_MAX).map(|_| UnixStream::connect(&path).unwrap()).collect();
        open.iter_mut().for_each(|stream| ask(stream).unwrap());
        assert!(ask(&mut UnixStream::connect(&path).unwrap()).is_err());
        open.clear();
        let end = Instant::now() + Duration::from_secs(60);
        while ask(&mut UnixStream::connect(&path).unwrap()).is_err() {
            assert!(Instant::now() < end, "no place came free");
        }
    }
}
