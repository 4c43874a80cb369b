//! A trap that is laid on a server before a join begins, and springs when the join comes to a place.
//!
//! ```text
//!  lay: what the file says now ─▶ forks, returns ─▶ (the join begins)
//!                                   └─▶ every millisecond: other words, and the wanted ones?
//!                                         ─▶ the join frozen ─▶ the act ─▶ thawed ─▶ "sprung"
//! ```
//!
//! Whoever began to watch beside the join would miss a place that it has already come to, and on a
//! busy computer did. Everything the trap writes lies in `/run`, which no comparison of disks looks
//! at; it ends by itself, sprung or not.

use anyhow::{Context as _, Result, ensure};

use crate::command::COMMAND_BOUND;
use crate::handover::{FOLDER, scope};
use crate::member::JOIN_BOUND;
use crate::server::Server;
use crate::wait::{self, SOON};

/// What a join comes to, in this order, once it runs in a unit of its own.
const STAGES: [&str; 8] =
    ["install", "join", "trial", "purge", "rotate", "verify", "receipt", "sessions"];
/// Everything of a join dies at once.
pub const KILL: &str = "echo 1 >$SCOPE/cgroup.kill";

/// The watcher: what it began with is stale, however well it fits. Prints where it will tell.
///
/// A thousand looks a second cost a hundredth of a core; the shortest stage takes some twenty
/// milliseconds, and the watcher goes before everything else.
const WATCHER: &str = r#"
use strict; use warnings; use POSIX ();
my ($file, $wanted, $scope, $act, $seconds) = @ARGV;
sub words { open my $f, "<", $file or return ""; local $/; my $all = <$f>; defined $all ? $all : "" }
sub put { my ($to, $what) = @_; open my $f, ">", $to or return; print $f $what; close $f }
my $stale = words();
my $told = "/run/borgios-trap.$$";
my $child = fork; die "fork: $!" unless defined $child;
if ($child) { print "$told\n"; exit 0 }
POSIX::setsid();
open STDIN, "<", "/dev/null"; open STDOUT, ">", "/dev/null"; open STDERR, ">", "/dev/null";
alarm $seconds;
setpriority 0, 0, -20;
my $now;
until (($now = words()) ne $stale and $now =~ /^$wanted/) { select undef, undef, undef, 0.001 }
put("$scope/cgroup.freeze", "1\n");
$ENV{SCOPE} = $scope;
my $code = system "/bin/sh", "-c", $act;
put("$scope/cgroup.freeze", "0\n") if -e $scope;
put("$told.new", "$code $now");
rename "$told.new", $told;
"#;

/// A trap that is laid.
#[derive(Debug)]
pub struct Trap<'a> {
    server: Server<'a>,
    what: String,
    told: String,
}

impl<'a> Server<'a> {
    /// Lays a trap for the next join: once it comes to `stage`, or was so quick that it is past it,
    /// it stands still while `act` runs, a shell script.
    ///
    /// # Errors
    /// No such stage; the server is off.
    pub fn trap_at(self, stage: &str, act: &str) -> Result<Trap<'a>> {
        let from = STAGES.iter().position(|known| *known == stage);
        let from = from.with_context(|| format!("there is no stage {stage}"))?;
        self.trap("stage", &format!("(?:{}) ", STAGES[from..].join("|")), act)
    }

    /// As [`Server::trap_at`], in the middle of the purge, as the keeper's journal has it.
    ///
    /// # Errors
    /// The server is off.
    pub fn trap_purging(self, act: &str) -> Result<Trap<'a>> {
        self.trap("takeover/journal.json", r#"\{"state":"purging""#, act)
    }

    /// `wanted` is the beginning of the file, as a regular expression.
    fn trap(self, file: &str, wanted: &str, act: &str) -> Result<Trap<'a>> {
        let (scope, seconds) = (scope(), JOIN_BOUND.as_secs());
        let line = format!("exec perl - {FOLDER}/{file} '{wanted}' {scope} '{act}' {seconds}");
        let laid = self.feed(&line, WATCHER.as_bytes(), COMMAND_BOUND)?.ok()?;
        let what = format!("{}: the trap at {file} =~ {wanted}", self.host());
        Ok(Trap { server: self, what, told: laid.text().to_owned() })
    }
}

impl Trap<'_> {
    /// Checks that it sprang, after the join has ended.
    ///
    /// # Errors
    /// It did not, or what it did failed.
    pub fn sprung(self) -> Result<()> {
        let told = wait::until(&format!("{} springs", self.what), SOON, || {
            self.server.sh(&format!("cat {0} && rm {0}", self.told)).map(Some)
        })?;
        ensure!(told.starts_with("0 "), "{}: its act ended badly: {told}", self.what);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// What the watcher does on this computer with a file of ours, as it does on a server.
    fn lay(file: &std::path::Path, act: &str) -> std::path::PathBuf {
        let mut perl = Command::new("perl");
        perl.arg("-e").arg(WATCHER.replace("/run/", "/tmp/")).arg(file);
        perl.args(["(?:trial|purge) ", "/nonexistent", act, "60"]);
        let laid = crate::command::run(perl, b"", COMMAND_BOUND).unwrap().ok().unwrap();
        laid.text().into()
    }

    #[test]
    fn what_was_there_before_is_stale_and_a_later_stage_springs_it_too() {
        let folder = std::env::temp_dir().join(format!("borgios-trap-test.{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        for next in ["trial new", "purge new"] {
            let file = folder.join("stage");
            std::fs::write(&file, "trial old").unwrap();
            let told = lay(&file, "exit 0");
            assert!(!told.exists(), "it sprang at what it began with");
            // As bootstrap.sh writes it: whole, or not at all.
            std::fs::write(folder.join("new"), next).unwrap();
            std::fs::rename(folder.join("new"), &file).unwrap();
            wait::until_true("sprung", SOON, || Ok(told.exists())).unwrap();
            assert_eq!(std::fs::read_to_string(&told).unwrap(), format!("0 {next}"));
            std::fs::remove_file(told).unwrap();
        }
        std::fs::remove_dir_all(folder).unwrap();
    }
}
