//! The second half for one host: hand over the invitation, run the join, and find out how it ended.
//!
//! The take-over ends every login, ours too, so the connection is cut in the best case. bootstrap.sh
//! runs in a unit of its own and goes on without us; logging in again and running the same join
//! attaches to it. Once the login is refused, the old ways in are shut and only the node can tell.

use std::time::Duration;

use borgios_types::PublicKey;
use tokio::sync::Notify;

use super::asked_node::{Standing, standing};
use super::keeping::{HANDOVER, Kept, OWNER_BACKUP, RECEIPT};
use super::log::Log;
use super::reach::{Host, OWNER_KEY, Order, Planned, SECRET_INVITE, foreign, fresh_end, with_hint};
use super::receipt::signed;
use super::remote::{Folder, Remote, Unreached};
use super::verdict::{Outcome, Verdict, judge};
use crate::failure::Failure;

/// How long a join may take: the take-over's own deadline of 15 minutes, and the wait for the tree.
const JOIN_TIMEOUT: Duration = Duration::from_secs(25 * 60);

/// How often a join whose log broke off is looked for again.
const ATTEMPTS_MAX: u32 = 4;

/// How long to wait before logging in again: sshd may be about to restart.
const RETRY_AFTER: Duration = Duration::from_secs(3);

/// The copy of what will be taken, sealed to the owner's key, on the host.
const BACKUP: &str = "/var/lib/borgios-bootstrap/owner-backup.age";

/// Stages at which it is made, and the login still works.
const AFTER_BACKUP: [&str; 3] = ["install", "join", "trial"];

/// How a join ended, as far as ssh can tell.
pub(crate) enum Ended {
    /// That decides it.
    Decided(Outcome),
    /// Only the node itself can tell now.
    AskNode {
        /// Where it was last seen.
        stage: String,
        /// Why ssh cannot tell.
        reason: String,
        /// The node's key, if the log named it.
        node: Option<PublicKey>,
    },
}

/// Joins one host that was consented to; how that ended, and what stays here of it.
pub(crate) async fn join(order: &Order, planned: Planned) -> (Ended, Kept) {
    let mut kept = Kept::new(order.keeping.name_for(&planned.remote.name));
    let ended = to_the_end(order, planned, &mut kept).await;
    (ended, kept)
}

async fn to_the_end(order: &Order, planned: Planned, kept: &mut Kept) -> Ended {
    let Planned { host, remote, .. } = planned;
    let name = remote.name.clone();
    let mut stage = "start".to_owned();
    let mut earlier = remote.folder();
    let mut open = Some(remote);
    let mut reason = String::new();
    for _ in 0..ATTEMPTS_MAX {
        let remote = match open.take() {
            Some(remote) => remote,
            None => match again(order, &host, &name, &earlier).await {
                Ok(remote) => remote,
                Err(Unreached::Shut(failure)) => {
                    let reason = format!("{reason}; then {}", failure.summary());
                    return Ended::AskNode { stage, reason, node: None };
                }
                Err(Unreached::Other(failure)) => {
                    order.tell(&host.target, &format!("not reached: {}", with_hint(&failure)));
                    continue;
                }
            },
        };
        earlier = remote.folder();
        let (log, broken) = match run(order, &host, &remote, kept).await {
            Ok(run) => run,
            Err(failure) => {
                remote.close().await;
                return Ended::Decided(Outcome::failed("copy", failure.summary()));
            }
        };
        if let Some(last) = log.stage() {
            stage = last.to_owned();
        }
        let verdict = judge(&log, order.network, broken.as_deref());
        let status = match verdict {
            Verdict::Already => remote.status().await,
            Verdict::Decided(_) | Verdict::Busy | Verdict::Undecided(_) => None,
        };
        remote.close().await;
        match verdict {
            Verdict::Decided(outcome) => return Ended::Decided(outcome),
            Verdict::Already => match status.map(|status| standing(&status, order.network)) {
                Some(Standing::Member) => return Ended::Decided(Outcome::Already),
                Some(Standing::Foreign(id)) => return Ended::Decided(foreign(&id)),
                Some(Standing::HalfWay(why)) => {
                    let reason = format!("it says that it is a member, but {why}");
                    return Ended::AskNode { stage, reason, node: log.node() };
                }
                None => {
                    let reason = "it says that it is a member, but no agent answers".to_owned();
                    return Ended::AskNode { stage, reason, node: log.node() };
                }
            },
            Verdict::Busy => {
                reason = "another bootstrap.sh is at work there".to_owned();
                order.tell(&host.target, &format!("{reason}; looking again"));
            }
            Verdict::Undecided(why) if log.code().is_some() => {
                return Ended::AskNode { stage, reason: why, node: log.node() };
            }
            Verdict::Undecided(why) => {
                order.tell(&host.target, &format!("{stage}: {why}; looking again"));
                reason = why;
            }
        }
    }
    Ended::AskNode { stage, reason, node: None }
}

/// Logs in again, to the same machine, with everything copied anew.
async fn again(
    order: &Order,
    host: &Host,
    name: &str,
    earlier: &Folder,
) -> Result<Remote, Unreached> {
    tokio::time::sleep(RETRY_AFTER).await;
    let remote = Remote::connect(&host.target, order.way(false)).await?;
    if remote.name != name {
        let now = remote.name.clone();
        remote.close().await;
        return Err(Unreached::Other(Failure::new(format!("it calls itself {now}, not {name}"))));
    }
    let copied = async {
        remote.remove(earlier).await?;
        for file in &order.public {
            remote.push(file).await?;
        }
        Ok(())
    };
    match copied.await {
        Ok(()) => Ok(remote),
        Err(failure) => {
            remote.close().await;
            Err(Unreached::Other(failure))
        }
    }
}

/// One run of `bootstrap.sh join` there: its log, and why that broke off.
async fn run(
    order: &Order,
    host: &Host,
    remote: &Remote,
    kept: &mut Kept,
) -> Result<(Log, Option<String>), Failure> {
    remote.push(&order.secret).await?;
    let mut args = vec!["join".to_owned()];
    args.extend(order.options(host, SECRET_INVITE));
    args.extend(["--hand-over".to_owned(), remote.name.clone()]);
    if order.yes {
        args.push("--yes".to_owned());
    }
    let end = fresh_end();
    let mut log = Log::new(end.clone());
    let (made, ended) = (Notify::new(), Notify::new());
    let tell = |stage: &str| {
        order.tell(&host.target, stage);
        if AFTER_BACKUP.contains(&stage) {
            made.notify_one();
        }
    };
    let reading = async {
        let broken = remote.bootstrap(&args, &end, JOIN_TIMEOUT, &mut log, tell).await;
        ended.notify_one();
        broken
    };
    // While the login still works: afterwards nobody can fetch it any more.
    let fetching = async {
        let made = async {
            tokio::select! {
                biased;
                () = made.notified() => true,
                () = ended.notified() => false,
            }
        };
        if order.copies(OWNER_KEY) && made.await {
            let fetched = remote.fetch(BACKUP).await;
            keep(order, host, kept, OWNER_BACKUP, fetched);
        }
    };
    let (broken, ()) = tokio::join!(reading, fetching);
    if log.receipt().is_some() {
        let text = log.receipt_text();
        let envelope = signed(&text, order.network).map(|signed| signed.to_json().into_bytes());
        keep(order, host, kept, RECEIPT, Ok(text.into_bytes()));
        keep(order, host, kept, HANDOVER, envelope);
    }
    Ok((log, broken))
}

/// Keeps a file of this host here, and says so.
fn keep(
    order: &Order,
    host: &Host,
    kept: &mut Kept,
    file: &'static str,
    bytes: Result<Vec<u8>, Failure>,
) {
    match kept.keep(&order.keeping, file, bytes) {
        Ok(path) => order.tell(&host.target, &format!("kept {}", path.display())),
        Err(failure) => order.printer.warn(&format!("{}: {}", host.target, failure.summary())),
    }
}
