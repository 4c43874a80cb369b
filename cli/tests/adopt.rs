//! `borgios adopt` against stand-ins: an `ssh` that runs commands on this computer in the place of
//! a host, and a bootstrap.sh that says what the real one says. What is cut off, refused or forged
//! here is so at will; real servers are adopted by the fleet's tests.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use crate::board::{BORGIOS, Board, stderr};
use serde_json::Value;
use tempfile::TempDir;

/// Stands in for the user's ssh. Each host is a file of that name in the folder `hosts`.
const SSH: &str = r#"#!/bin/sh
mode=command strict='' errors=/dev/null host='' control=''
while [ $# -gt 0 ]; do
    case $1 in
        -G) mode=settings; shift ;;
        -M) mode=master; shift ;;
        -O) mode=control; shift 2 ;;
        -S) control=$2; shift 2 ;;
        -E) errors=$2; shift 2 ;;
        -o) case $2 in StrictHostKeyChecking=*) strict=${2#*=} ;; esac; shift 2 ;;
        -p | -l | -F) shift 2 ;;
        --) shift; break ;;
        -*) shift ;;
        *) host=$1; shift ;;
    esac
done
case $mode in
    settings) printf 'user root\nhostname %s\nport 22\nuserknownhostsfile %s\n' "$1" "$STAND/known_hosts" ;;
    control) exit 0 ;;
    master)
        echo "$host" >>"$STAND/logins"
        [ -e "$STAND/hosts/$host" ] || { echo "ssh: connect to host $host port 22: Connection refused" >"$errors"; exit 255; }
        if ! grep -q "^$host " "$STAND/known_hosts"; then
            [ "$strict" = accept-new ] || { echo 'Host key verification failed.' >"$errors"; exit 255; }
            echo "$host $(cat "$STAND/host_key")" >>"$STAND/known_hosts"
        fi
        [ ! -e "$STAND/refuses/$host" ] || { echo "root@$host: Permission denied (publickey,password)." >"$errors"; exit 255; }
        echo "$host" >"$control" ;;
    command)
        read -r STAND_HOST <"$control"
        export STAND_HOST
        PATH=$STAND/remote:$PATH exec sh -c "$*" ;;
esac
"#;

/// What the real script's plan and a join say, around what a test puts in the place of `@`.
const SCRIPT: &str = r#"
{ say() { printf '%s\n' "$*"; }
  receipt() { say '== receipt'; say "RECEIPT of 2026-11-26 18:00:00 UTC: root on $STAND_HOST was handed over"
              say "  network     lab, $STAND_NETWORK"; say "  node        $STAND_KEY"
              say '== logins end'; }
  cut() { kill -9 $PPID; exit 1; }
  command=$1; echo "$STAND_HOST $*" >>"$STAND/orders"; pwd >>"$STAND/folders"
  case $command in
    plan) ls >"$STAND/plan-files"; grep -l 'PRIV[A]TE KEY' ./* >"$STAND/plan-secrets"
          say '== what join would take'; say '  /etc/shadow  root has a password'; printf 'an \033[31mescape\n' ;;
    join) say '== verify'; @
          ;;
  esac
  exit 0
}"#;

struct Stage {
    folder: TempDir,
}

/// One invitation for three servers; every test may read it.
fn invitation() -> &'static str {
    static TEXT: OnceLock<String> = OnceLock::new();
    TEXT.get_or_init(|| {
        let board = Board::founded(&["ann", "ben"], 2);
        let path = board.path("invite.json");
        let (member, out) = (format!("web-9:7117={KEY}"), path.to_str().unwrap());
        board.ok("ann", &["invite", "--uses", "3", "--member", &member, "--out", out]);
        std::fs::read_to_string(path).unwrap()
    })
}

/// Whoever's key it is.
const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBPKC95Su+07Ln2k1YXhoKS0OGVXC8smj3YprTo/6oFu";

impl Stage {
    /// Hosts that can be logged in to, of which `known` stand in known_hosts.
    fn new(hosts: &[&str], known: &[&str], join: &str) -> Self {
        let stage = Self { folder: tempfile::tempdir().unwrap() };
        for folder in ["bin", "remote", "hosts", "refuses"] {
            std::fs::create_dir_all(stage.path(folder)).unwrap();
        }
        stage.program("bin/ssh", SSH);
        stage.program("remote/uname", "#!/bin/sh\necho \"vm-$STAND_HOST\"\n");
        stage.program("remote/id", "#!/bin/sh\necho 0\n");
        std::fs::write(stage.path("host_key"), KEY).unwrap();
        let lines: String = known.iter().map(|host| format!("{host} {KEY}\n")).collect();
        std::fs::write(stage.path("known_hosts"), lines).unwrap();
        for host in hosts {
            std::fs::write(stage.path("hosts").join(host), "").unwrap();
        }
        std::fs::write(stage.path("script"), SCRIPT.replace('@', join)).unwrap();
        std::fs::write(stage.path("bundle.tar"), "a bundle").unwrap();
        std::fs::write(stage.path("invite.json"), invitation()).unwrap();
        stage
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn program(&self, name: &str, text: &str) {
        // Through a program of its own: a file that this one has open for writing is open in each child that
        // another test is just making, and cannot be run as long ("text file busy").
        let mut install = Command::new("install");
        install.args(["-m", "755", "/dev/stdin"]).arg(self.path(name)).stdin(Stdio::piped());
        let mut install = install.spawn().unwrap();
        install.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        assert!(install.wait().unwrap().success(), "{name}");
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// Runs `borgios adopt` as somebody who is no governor.
    fn adopt(&self, args: &[&str]) -> Output {
        let path = format!("{}:{}", self.path("bin").display(), std::env::var("PATH").unwrap());
        let mut command = Command::new(BORGIOS);
        command.arg("adopt").args(args).env("PATH", path).env("STAND", self.path(""));
        let invite: Value = serde_json::from_str(invitation()).unwrap();
        command.env("STAND_KEY", KEY).stdin(std::process::Stdio::null());
        command.env("STAND_NETWORK", invite["network"].as_str().unwrap());
        for (option, file) in
            [("--invite", "invite.json"), ("--bundle", "bundle.tar"), ("--bootstrap", "script")]
        {
            command.arg(option).arg(self.path(file));
        }
        let output = command.arg("--home").arg(self.path("nobody")).output().unwrap();
        // Whatever happened, no copy is left on a host.
        for folder in self.text("folders").lines() {
            assert!(gone(folder), "{folder} is still there: {}", stderr(&output));
        }
        output
    }

    fn rows(&self, args: &[&str]) -> (Option<i32>, Vec<Value>) {
        let output = self.adopt(&[args, &["--json"]].concat());
        let text = String::from_utf8(output.stdout).unwrap();
        let rows = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        (output.status.code(), rows)
    }
}

/// Whether a folder goes within a minute: a host whose connection was cut does it on its own.
fn gone(folder: &str) -> bool {
    let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while std::path::Path::new(folder).exists() {
        if std::time::Instant::now() > end {
            return false;
        }
        std::thread::yield_now();
    }
    true
}

#[test]
fn several_hosts_join_and_nobody_is_asked_for_the_secret_too_early() {
    let stage =
        Stage::new(&["a", "b", "c"], &["a", "b", "c"], "ls >\"$STAND/join-files\"; receipt");
    let consent = ["--hand-over", "a=vm-a", "--hand-over", "root@b=vm-b", "--hand-over", "c=vm-c"];
    let output = stage.adopt(&[&["root@a", "root@b", "root@c"][..], &consent].concat());
    let (said, text) = (stderr(&output), String::from_utf8_lossy(&output.stdout).into_owned());
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert_eq!(text.matches("member").count(), 3, "{text}");
    assert!(said.contains("vm-a (root@a)") && said.contains("root has a password"), "{said}");
    assert!(said.contains("host key known: ED25519 SHA256:"), "{said}");
    assert!(said.contains("an \\u{1b}[31mescape") && !said.contains('\x1b'), "{said}");
    assert_eq!(stage.text("plan-files"), "bootstrap.sh\nbundle.tar\nplan.json\n");
    assert_eq!(stage.text("plan-secrets"), "", "a plan is made without the invitation's secret");
    assert!(stage.text("join-files").contains("invite.json"));
    let orders = stage.text("orders");
    let line = "a join --invite invite.json --bundle bundle.tar --hand-over vm-a\n";
    assert!(orders.contains(line) && !orders.contains("--yes"), "{orders}");
    assert!(!orders.contains("PRIVATE KEY"));
    for host in ["a", "b", "c"] {
        let receipt = stage.text(&format!("nobody/adopted/vm-{host}.receipt.txt"));
        assert!(receipt.starts_with("RECEIPT of ") && receipt.contains(KEY), "{receipt}");
        // Unsigned as it is, it is kept for people only.
        assert_eq!(stage.text(&format!("nobody/adopted/vm-{host}.handover.json")), "");
    }
}

#[test]
fn nothing_is_handed_over_without_consent_to_that_very_machine() {
    let stage = Stage::new(&["a", "b", "c"], &["a", "b", "c"], "receipt");
    let output = stage.adopt(&["root@a"]);
    let said = stderr(&output);
    assert!(said.contains("no terminal to ask on") && output.status.code() == Some(1), "{said}");
    let unseen = stage.adopt(&["root@a", "--json"]);
    assert_eq!(unseen.status.code(), Some(2), "nobody consents to a plan that is not shown");
    let consent = ["--hand-over", "b=vm-b", "--hand-over", "c=other"];
    let (code, rows) = stage.rows(&[&["root@a", "root@b", "root@c"][..], &consent].concat());
    assert_eq!(code, Some(1));
    let outcomes: Vec<&str> = rows.iter().map(|row| row["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["left_out", "member", "failed"]);
    assert!(rows[1]["plan"].as_str().unwrap().contains("root has a password"), "{rows:?}");
    assert!(rows[2]["reason"].as_str().unwrap().contains("calls itself vm-c, not other"));
    assert_eq!(stage.text("orders").matches(" join ").count(), 1);
    for bad in
        [&["root@a", "--hand-over", "d=vm-d"][..], &["root@a", "root@a"], &["-oProxyCommand=x"]]
    {
        assert_eq!(stage.adopt(bad).status.code(), Some(2), "{bad:?}");
    }
}

#[test]
fn a_host_key_is_taken_only_when_asked_to_and_shown_then() {
    let stage = Stage::new(&["a"], &[], "receipt");
    let args = ["root@a", "--hand-over", "a=vm-a"];
    let output = stage.adopt(&args);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.code() == Some(1) && text.contains("--accept-new"), "{text}");
    assert_eq!((stage.text("orders"), stage.text("known_hosts")), (String::new(), String::new()));
    let output = stage.adopt(&[&args[..], &["--accept-new"]].concat());
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("host key NEW, taken now: ED25519 SHA256:"), "{said}");
}

/// ssh compares a host's own key with neither, and takes it as a new one.
#[test]
fn a_key_beside_an_authoritys_is_told_as_new() {
    let stage = Stage::new(&["a"], &[], "receipt");
    std::fs::write(stage.path("known_hosts"), format!("@cert-authority * {KEY}\n")).unwrap();
    let output = stage.adopt(&["root@a", "--hand-over", "a=vm-a", "--accept-new"]);
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("host key NEW, taken now: ED25519 SHA256:"), "{said}");
}

#[test]
fn a_cut_after_the_receipt_is_a_member_and_one_before_it_is_looked_into() {
    let after = Stage::new(&["a"], &["a"], "receipt; cut");
    let (code, rows) = after.rows(&["root@a", "--hand-over", "a=vm-a"]);
    assert_eq!((code, &rows[0]["outcome"]), (Some(0), &"member".into()), "{rows:?}");
    // Cut in the middle, but the way in still works: the same join again attaches to the unit.
    let before = Stage::new(
        &["a"],
        &["a"],
        "[ -e \"$STAND/once\" ] || { : >\"$STAND/once\"; say '== trial'; cut; }; receipt",
    );
    let (code, rows) = before.rows(&["root@a", "--hand-over", "a=vm-a"]);
    assert_eq!((code, &rows[0]["outcome"]), (Some(0), &"member".into()), "{rows:?}");
    assert_eq!(before.text("orders").matches(" join ").count(), 2);
}

#[test]
fn what_nobody_can_tell_is_never_a_success() {
    // The old way in is shut, and no receipt was seen.
    let join = "say '== purge'; : >\"$STAND/refuses/$STAND_HOST\"; cut";
    let stage = Stage::new(&["a"], &["a"], join);
    let (code, rows) = stage.rows(&["root@a", "--hand-over", "a=vm-a"]);
    assert_eq!((code, &rows[0]["outcome"]), (Some(1), &"unknown".into()), "{rows:?}");
    assert_eq!((&rows[0]["stage"], &rows[0]["member"]), (&"purge".into(), &false.into()));
    assert!(rows[0]["look"].as_str().unwrap().contains("borgios connect a:7117"), "{rows:?}");
    // A good exit code alone, and a word about membership without an agent that confirms it.
    for join in ["exit 0", "exit 10", "say '== purge'; receipt | tail -n 3; exit 0"] {
        let stage = Stage::new(&["a"], &["a"], join);
        let (code, rows) = stage.rows(&["root@a", "--hand-over", "a=vm-a"]);
        assert_eq!((code, &rows[0]["outcome"]), (Some(1), &"unknown".into()), "{join}: {rows:?}");
    }
}

#[test]
fn the_sealed_backup_is_fetched_while_the_login_works() {
    let join =
        "say '== install: x'; while [ ! -e \"$STAND/fetched\" ]; do sleep 0.05; done; receipt";
    let stage = Stage::new(&["a"], &["a"], join);
    let cat = "#!/bin/sh\n[ \"$2\" != /var/lib/borgios-bootstrap/owner-backup.age ] || { echo sealed; \
               : >\"$STAND/fetched\"; exit; }\nexec /bin/cat \"$@\"\n";
    stage.program("remote/cat", cat);
    std::fs::write(stage.path("owner.pub"), format!("{KEY} me@laptop\n")).unwrap();
    let owner = stage.path("owner.pub");
    let args = ["root@a", "--hand-over", "a=vm-a", "--owner-key", owner.to_str().unwrap()];
    let (code, rows) = stage.rows(&args);
    assert_eq!(code, Some(0), "{rows:?}");
    assert_eq!(stage.text("nobody/adopted/vm-a.owner-backup.age"), "sealed\n");
    assert!(stage.text("orders").contains(" --owner-key owner.pub"));
    let plan = stage.text("orders").lines().next().unwrap().to_owned();
    assert!(plan.contains(" plan ") && plan.contains("--owner-key owner.pub"), "{plan}");
}

/// Every fresh image calls itself alike, and after the take-over nobody fetches a backup again.
#[test]
fn two_machines_of_one_name_keep_both_of_theirs() {
    let join = "say '== install: x'; while [ ! -e \"$STAND/fetched-$STAND_HOST\" ]; do sleep 0.05; done; receipt";
    let stage = Stage::new(&["a", "b", "c"], &["a", "b", "c"], join);
    stage.program("remote/uname", "#!/bin/sh\necho debian\n");
    let cat = "#!/bin/sh\n[ \"$2\" != /var/lib/borgios-bootstrap/owner-backup.age ] || { echo \"sealed \
               $STAND_HOST\"; : >\"$STAND/fetched-$STAND_HOST\"; exit; }\nexec /bin/cat \"$@\"\n";
    stage.program("remote/cat", cat);
    std::fs::write(stage.path("owner.pub"), format!("{KEY} me@laptop\n")).unwrap();
    let owner = stage.path("owner.pub");
    let with_key = ["--owner-key", owner.to_str().unwrap()];
    let both = ["root@a", "root@b", "--hand-over", "a=debian", "--hand-over", "b=debian"];
    let (code, rows) = stage.rows(&[&both[..], &with_key].concat());
    assert_eq!(code, Some(0), "{rows:?}");
    let third = ["root@c", "--hand-over", "c=debian"];
    let (code, rows) = stage.rows(&[&third[..], &with_key].concat());
    assert_eq!((code, rows[0]["kept"].as_array().unwrap().len()), (Some(0), 2), "{rows:?}");
    let (mut backups, mut receipts) = (Vec::new(), 0);
    for entry in std::fs::read_dir(stage.path("nobody/adopted")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "age") {
            backups.push(std::fs::read_to_string(path).unwrap());
        } else {
            receipts += 1;
        }
    }
    backups.sort();
    assert_eq!(backups, ["sealed a\n", "sealed b\n", "sealed c\n"]);
    assert_eq!(receipts, 3);
}

#[test]
fn what_could_not_be_kept_is_no_success() {
    // A folder that cannot be made is found before any host is dialled.
    let stage = Stage::new(&["a"], &["a"], "receipt");
    std::fs::write(stage.path("file"), "").unwrap();
    let below = stage.path("file/below");
    let consent = ["root@a", "--hand-over", "a=vm-a"];
    let output = stage.adopt(&[&consent[..], &["--keep", below.to_str().unwrap()]].concat());
    let said = stderr(&output);
    assert!(output.status.code() == Some(1) && said.contains("could not be kept"), "{said}");
    assert_eq!((stage.text("orders"), stage.text("logins")), (String::new(), String::new()));
    // One that goes in between costs the receipt: it is a member, and no success.
    let gone = "rm -r \"$STAND/nobody/adopted\"; : >\"$STAND/nobody/adopted\"; receipt";
    let stage = Stage::new(&["a"], &["a"], gone);
    let (code, rows) = stage.rows(&consent);
    assert_eq!((code, &rows[0]["outcome"]), (Some(1), &"member".into()), "{rows:?}");
    let lacks = rows[0]["not_kept"][0].as_str().unwrap();
    assert!(lacks.starts_with("receipt.txt: "), "{rows:?}");
    assert_eq!(rows[0]["kept"].as_array().unwrap().len(), 0);
}

#[test]
fn a_host_of_another_network_is_no_member_of_this_one() {
    let join = "STAND_NETWORK=sha256:$(printf '%064d' 7); receipt";
    let stage = Stage::new(&["a"], &["a"], join);
    let (code, rows) = stage.rows(&["root@a", "--hand-over", "a=vm-a"]);
    assert_eq!((code, &rows[0]["outcome"]), (Some(1), &"failed".into()), "{rows:?}");
    assert!(rows[0]["reason"].as_str().unwrap().contains("another network"), "{rows:?}");
}

#[test]
fn each_failure_is_told_with_its_stage_and_its_way_out() {
    let join = "echo 'bootstrap.sh: NOT signed by the board' >&2; exit 4";
    let stage = Stage::new(&["a", "b"], &["a", "b"], join);
    std::fs::write(stage.path("refuses/b"), "").unwrap();
    let args = ["root@a", "root@b", "nowhere", "--hand-over", "a=vm-a"];
    let (code, rows) = stage.rows(&args);
    assert_eq!(code, Some(1));
    let reason = |at: usize| rows[at]["reason"].as_str().unwrap();
    assert_eq!(rows[0]["stage"], "verify");
    assert!(reason(0).contains("NOT signed by the board (exit code 4)"), "{rows:?}");
    assert!(
        reason(1).contains("Permission denied") && reason(1).contains("ssh-copy-id"),
        "{rows:?}"
    );
    assert_eq!(rows[2]["stage"], "connect");
    assert!(rows.iter().all(|row| row["outcome"] == "failed"), "{rows:?}");
}

#[test]
fn an_invitation_is_for_so_many_hosts() {
    let hosts = ["a", "b", "c", "d"];
    let stage = Stage::new(&hosts, &hosts, "receipt");
    let output = stage.adopt(&hosts);
    let said = stderr(&output);
    assert!(said.contains("4 hosts would join, the invitation is for 3"), "{said}");
    assert!(!stage.text("orders").contains(" join "));
}
