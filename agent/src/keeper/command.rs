//! Running another program with an end in sight: a deadline, and a bound on what it may say.

use std::io::{Read, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use thiserror::Error;

/// Most output that is kept, in bytes: enough for the last words of a program that failed.
const OUTPUT_MAX: usize = 16 * 1024;
/// Most input, in bytes: a pipe takes as much at once, whether or not it is read.
const INPUT_MAX: usize = 4096;
/// Pause between two looks at a running program.
const TICK: Duration = Duration::from_millis(20);
/// Longest wait for the output of a program that has ended: something it started may hold on.
const DRAIN: Duration = Duration::from_secs(1);

/// Why a program did not do its work.
#[derive(Debug, Error)]
pub enum CommandError {
    /// It was not started.
    #[error("it was not started: {0}")]
    Start(std::io::Error),
    /// It ended badly.
    #[error("{how}{}{said}", if said.is_empty() { "" } else { ": " })]
    Failed {
        /// Exit code or signal.
        how: String,
        /// Its last words.
        said: String,
    },
    /// It did not end.
    #[error("it was stopped after {0} s")]
    Slow(u64),
}

impl CommandError {
    /// Whether it says something about this moment on this machine and nothing about the program: no
    /// memory, no process or no file to be had, or too slow.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        use rustix::io::Errno;
        let passing = [Errno::AGAIN, Errno::NOMEM, Errno::MFILE, Errno::NFILE];
        match self {
            Self::Start(error) => error
                .raw_os_error()
                .is_some_and(|code| passing.iter().any(|errno| errno.raw_os_error() == code)),
            Self::Slow(_) => true,
            Self::Failed { .. } => false,
        }
    }
}

/// Runs a program to its end and returns what it wrote to standard output, shortened.
///
/// It gets no input, and a process group of its own, which is killed at the deadline.
///
/// # Errors
/// See [`CommandError`].
pub fn run(command: Command, max: Duration) -> Result<String, CommandError> {
    run_with_input(command, b"", max)
}

/// As [`run`], with something on its standard input, which no other user can see.
///
/// # Errors
/// See [`CommandError`].
pub fn run_with_input(
    mut command: Command,
    input: &[u8],
    max: Duration,
) -> Result<String, CommandError> {
    assert!(input.len() <= INPUT_MAX, "more input than a pipe holds would wait for a reader");
    let stdin = if input.is_empty() { Stdio::null() } else { Stdio::piped() };
    command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    // Only the keeper speaks to systemd for its unit.
    command.env_remove("NOTIFY_SOCKET").env_remove("WATCHDOG_USEC").env_remove("WATCHDOG_PID");
    let mut child = command.spawn().map_err(CommandError::Start)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that ends without reading says itself how it fared.
        let _ = stdin.write_all(input);
    }
    let (out, err) = (collect(child.stdout.take()), collect(child.stderr.take()));
    let Some(status) = wait(&mut child, max) else {
        kill(&mut child);
        return Err(CommandError::Slow(max.as_secs()));
    };
    let out = out.recv_timeout(DRAIN).unwrap_or_default();
    if status.success() {
        return Ok(out);
    }
    let said = err.recv_timeout(DRAIN).unwrap_or_default();
    let said = if said.trim().is_empty() { out } else { said };
    Err(CommandError::Failed { how: how(status), said: last_words(&said) })
}

fn wait(child: &mut Child, max: Duration) -> Option<ExitStatus> {
    let end = Instant::now() + max;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if Instant::now() < end => std::thread::sleep(TICK),
            Ok(None) | Err(_) => return None,
        }
    }
}

fn kill(child: &mut Child) {
    let pid = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
    if let Some(pid) = pid {
        // It may have ended meanwhile, which is as good.
        let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
    }
    let _ = child.wait();
}

/// Reads to the end, so that the program never waits for a reader, and keeps the last part.
fn collect(stream: Option<impl Read + Send + 'static>) -> mpsc::Receiver<String> {
    let (done, output) = mpsc::channel();
    if let Some(mut stream) = stream {
        std::thread::spawn(move || {
            let mut kept = Vec::new();
            let mut chunk = [0; 4096];
            while let Ok(read @ 1..) = stream.read(&mut chunk) {
                kept.extend_from_slice(&chunk[..read]);
                let extra = kept.len().saturating_sub(OUTPUT_MAX);
                kept.drain(..extra);
            }
            let _ = done.send(String::from_utf8_lossy(&kept).into_owned());
        });
    }
    output
}

fn how(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => "no exit code".to_owned(),
    }
}

/// The last line with anything on it, without control characters.
fn last_words(text: &str) -> String {
    let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    line.chars().filter(|c| !c.is_control()).take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_program_that_fails_is_quoted() {
        assert_eq!(run(sh("echo out"), Duration::from_secs(60)).unwrap(), "out\n");
        let error = run(sh("echo one >&2; echo two >&2; exit 3"), Duration::from_secs(60));
        assert_eq!(error.unwrap_err().to_string(), "exit code 3: two");
        let missing = Command::new("/nonexistent/program");
        assert!(matches!(run(missing, Duration::from_secs(1)), Err(CommandError::Start(_))));
    }

    #[test]
    fn input_is_read_or_ignored() {
        let patience = Duration::from_secs(60);
        assert_eq!(run_with_input(sh("cat"), b"word\n", patience).unwrap(), "word\n");
        assert_eq!(run_with_input(sh("exec true"), &[0; INPUT_MAX], patience).unwrap(), "");
        assert_eq!(run(sh("cat"), patience).unwrap(), "");
    }

    #[test]
    fn a_program_that_hangs_or_floods_does_not_hang_us() {
        let begun = Instant::now();
        let hangs = run(sh("sleep 100 & sleep 100"), Duration::from_millis(200));
        assert!(matches!(hangs, Err(CommandError::Slow(0))));
        let floods = run(sh("head -c 10000000 /dev/zero; exit 1"), Duration::from_secs(60));
        assert!(matches!(floods, Err(CommandError::Failed { .. })));
        // Something stays behind and holds the output open.
        run(sh("sleep 5 & exit 0"), Duration::from_secs(60)).unwrap();
        assert!(begun.elapsed() < Duration::from_secs(90));
    }
}
