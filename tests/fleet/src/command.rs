//! Running a program with a bound on its time, and what it said.

use std::io::{Read, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// Longest any single command of a scenario may take, unless it names its own bound.
pub const COMMAND_BOUND: Duration = Duration::from_secs(300);
/// How often a running command is looked at.
const POLL: Duration = Duration::from_millis(5);
/// How much of an output an error message shows, from its end.
const SHOWN: usize = 2000;

/// What a finished program said.
#[derive(Clone, Debug)]
pub struct Output {
    /// The command line, for messages.
    pub command: String,
    /// Exit code; a program that a signal ended has 128 plus the signal's number.
    pub code: i32,
    /// Standard output, with anything that is not UTF-8 replaced.
    pub stdout: String,
    /// Standard error, with anything that is not UTF-8 replaced.
    pub stderr: String,
}

impl Output {
    /// The output of a program that must succeed.
    ///
    /// # Errors
    /// An exit code other than 0, with the end of what the program said.
    pub fn ok(self) -> Result<Self> {
        self.expect_code(0)
    }

    /// The output of a program that must end with `code`: refusals are tested as hard as successes.
    ///
    /// # Errors
    /// Any other exit code, with the end of what the program said.
    pub fn expect_code(self, code: i32) -> Result<Self> {
        if self.code == code {
            return Ok(self);
        }
        bail!(
            "`{}` ended with code {}, expected {code}\n{}{}",
            self.command,
            self.code,
            tail(&self.stdout),
            tail(&self.stderr)
        )
    }

    /// Standard output without white space at its ends.
    #[must_use]
    pub fn text(&self) -> &str {
        self.stdout.trim()
    }

    /// Standard output and error in one, to look for a word in.
    #[must_use]
    pub fn all(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    /// Standard output as one JSON document.
    ///
    /// # Errors
    /// Output that is not JSON.
    pub fn json(&self) -> Result<serde_json::Value> {
        serde_json::from_str(&self.stdout)
            .with_context(|| format!("`{}` printed no JSON: {}", self.command, tail(&self.stdout)))
    }
}

/// Runs a program to its end, with `input` on its standard input.
///
/// The program gets a process group of its own, which is ended as a whole when `bound` passes.
///
/// # Errors
/// A program that cannot be started, or that does not end in time. Any exit code is an [`Output`].
pub fn run(mut command: Command, input: &[u8], bound: Duration) -> Result<Output> {
    let line = line(&command);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child = command.spawn().with_context(|| format!("cannot start `{line}`"))?;
    let stdout = drain(child.stdout.take());
    let stderr = drain(child.stderr.take());
    let mut stdin = child.stdin.take().context("a child without standard input")?;
    let input = input.to_vec();
    // A program that reads nothing closes the pipe; that is its right.
    let feeder = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let Some(code) = wait(&mut child, bound)? else {
        end_group(&child);
        child.wait().with_context(|| format!("cannot end `{line}`"))?;
        let said = format!("{}{}", join(stdout), join(stderr));
        bail!("`{line}` did not end within {} s\n{}", bound.as_secs(), tail(&said));
    };
    let output = Output { command: line, code, stdout: join(stdout), stderr: join(stderr) };
    drop(feeder.join());
    Ok(output)
}

/// A program that runs on, with nothing on its standard input. Dropped, it is ended with its children.
#[derive(Debug)]
pub struct Running(Child);

/// Starts a program in a process group of its own and leaves it running.
///
/// # Errors
/// It cannot be started.
pub fn start(mut command: Command) -> Result<Running> {
    let line = line(&command);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    Ok(Running(command.spawn().with_context(|| format!("cannot start `{line}`"))?))
}

impl Running {
    /// Whether it still runs.
    ///
    /// # Errors
    /// The system does not know it.
    pub fn runs(&mut self) -> Result<bool> {
        Ok(self.0.try_wait()?.is_none())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        end_group(&self.0);
        drop(self.0.wait());
    }
}

/// The exit code, or nothing when `bound` passed first.
fn wait(child: &mut Child, bound: Duration) -> Result<Option<i32>> {
    use std::os::unix::process::ExitStatusExt as _;
    let end = Instant::now() + bound;
    loop {
        if let Some(status) = child.try_wait()? {
            let signal = || status.signal().map_or(255, |signal| 128 + signal);
            return Ok(Some(status.code().unwrap_or_else(signal)));
        }
        if Instant::now() >= end {
            return Ok(None);
        }
        std::thread::sleep(POLL);
    }
}

fn end_group(child: &Child) {
    // `kill` takes a process group as a negative pid; no unsafe code is needed for it here.
    let group = format!("-{}", child.id());
    drop(Command::new("kill").args(["-KILL", "--", &group]).status());
}

fn drain(pipe: Option<impl Read + Send + 'static>) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            drop(pipe.read_to_end(&mut bytes));
        }
        bytes
    })
}

fn join(reader: JoinHandle<Vec<u8>>) -> String {
    String::from_utf8_lossy(&reader.join().unwrap_or_default()).into_owned()
}

fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let line: Vec<_> = words.map(|word| word.to_string_lossy().into_owned()).collect();
    line.join(" ").chars().take(300).collect()
}

/// The end of `text`, indented, for an error message.
pub(crate) fn tail(text: &str) -> String {
    let skip = text.chars().count().saturating_sub(SHOWN);
    let end: String = text.chars().skip(skip).collect();
    end.lines().map(|line| format!("    {line}\n")).collect()
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
    fn output_and_code_come_back() {
        let output = run(sh("cat; echo warn >&2; exit 3"), b"hello", COMMAND_BOUND).unwrap();
        assert_eq!((output.code, output.stdout.as_str()), (3, "hello"));
        assert_eq!(output.stderr, "warn\n");
        assert!(output.clone().ok().is_err());
        assert!(output.expect_code(3).is_ok());
    }

    #[test]
    fn a_program_that_hangs_is_ended_with_its_children() {
        let began = Instant::now();
        let error = run(sh("sleep 600 & sleep 600"), b"", Duration::from_millis(50)).unwrap_err();
        assert!(error.to_string().contains("did not end"), "{error}");
        assert!(began.elapsed() < Duration::from_secs(300));
    }

    #[test]
    fn what_runs_on_ends_when_it_is_dropped() {
        let mut running = start(sh("sleep 600 & sleep 600")).unwrap();
        let group = format!("-{}", running.0.id());
        assert!(running.runs().unwrap());
        drop(running);
        let mut kill = Command::new("kill");
        kill.args(["-0", "--", &group]).stderr(Stdio::null());
        crate::wait::until_true("its children are gone", COMMAND_BOUND, || {
            Ok(!kill.status()?.success())
        })
        .unwrap();
    }

    #[test]
    fn input_nobody_reads_is_no_error() {
        let output = run(sh("exit 0"), &[0; 1 << 20], COMMAND_BOUND).unwrap();
        assert_eq!(output.code, 0);
    }
}
