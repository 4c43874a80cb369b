//! All hosts together: plans everywhere, one question, then the joins that were consented to.

use std::collections::BTreeMap;
use std::future::Future;
use std::io::{BufRead as _, IsTerminal as _};
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::advertise::Advertise;
use super::consent::{HandOver, ambiguous, typed};
use super::invitation::Checked;
use super::joining::{Ended, join};
use super::reach::{Host, OWNER_KEY, Order, Planned, Unplanned, plan};
use super::row::{Row, ToAsk};
use super::target::Target;
use super::verdict::Outcome;
use crate::failure::{Failure, OrFail as _};

/// Hosts that are worked on at the same time: a laptop's uplink carries one bundle to each.
const AT_ONCE: usize = 8;

/// Plans everywhere, asks once, joins what was consented to.
pub(crate) async fn work(
    targets: &[Target],
    hand_over: &[HandOver],
    order: &Arc<Order>,
    invitation: &Checked,
) -> Result<(Vec<Row>, Vec<ToAsk>), Failure> {
    let hosts: Vec<Host> = targets.iter().cloned().map(Host::new).collect();
    let plans = at_once(hosts.clone(), {
        let order = Arc::clone(order);
        move |host| {
            let order = Arc::clone(&order);
            async move { plan(&order, host).await }
        }
    })
    .await?;
    let (mut rows, mut planned, mut to_ask) = (Vec::new(), Vec::new(), Vec::new());
    for (mut host, plan) in hosts.into_iter().zip(plans) {
        match plan {
            Ok(one) => planned.push(one),
            Err(Unplanned { outcome, refused_at }) => {
                order.tell(&host.target, &format!("{}: {}", outcome.word(), outcome.detail()));
                match refused_at {
                    None => rows.push(Row::unreached(host, outcome)),
                    // So does a host that an earlier run has handed over.
                    Some(hostname) => {
                        host.advertise = Advertise::of(&order.advertise, &host.target, &hostname);
                        let row = Row::unreached(host, outcome);
                        let name = HandOver::of(hand_over, &row.host.target).map(str::to_owned);
                        to_ask.push(ToAsk { row, hostname, name, node: None });
                    }
                }
            }
        }
    }
    show(order, invitation, &planned);
    let uses = usize::try_from(invitation.invitation.uses).unwrap_or(usize::MAX);
    let refused = if planned.len() > uses {
        Some(
            Failure::new(format!(
                "{} hosts would join, the invitation is for {uses}",
                planned.len()
            ))
            .hint("name fewer hosts, or have a governor make another: `borgios invite --uses N`"),
        )
    } else {
        None
    };
    let (consented, others) = match refused.map_or_else(|| Ok(()), Err) {
        Ok(()) => match consent(hand_over, order, planned).await {
            Ok(split) => split,
            Err((failure, planned)) => {
                close_all(planned).await;
                return Err(failure);
            }
        },
        Err(failure) => {
            close_all(planned).await;
            return Err(failure);
        }
    };
    for (one, outcome) in others {
        rows.push(Row::of(&one, outcome));
        one.remote.close().await;
    }
    let begun: Vec<(Row, String)> = consented
        .iter()
        .map(|one| (Row::of(one, Outcome::LeftOut), one.hostname.clone()))
        .collect();
    let ended = at_once(consented, {
        let order = Arc::clone(order);
        move |one: Planned| {
            let order = Arc::clone(&order);
            async move {
                let target = one.host.target.clone();
                let (ended, kept) = join(&order, one).await;
                if let Ended::Decided(outcome) = &ended {
                    order.tell(&target, &format!("{}: {}", outcome.word(), outcome.detail()));
                }
                (ended, kept)
            }
        }
    })
    .await?;
    for ((mut row, hostname), (ended, left)) in begun.into_iter().zip(ended) {
        row.kept = left.lies();
        row.lacks = left.lacks(order.copies(OWNER_KEY));
        match ended {
            Ended::Decided(outcome) => {
                row.outcome = outcome;
                rows.push(row);
            }
            Ended::AskNode { stage, reason, node } => {
                row.outcome = Outcome::Unknown { stage, reason, look: String::new() };
                let name = row.name.clone();
                to_ask.push(ToAsk { row, hostname, name, node });
            }
        }
    }
    Ok((rows, to_ask))
}

/// Splits the hosts into those consented to and the others, with what becomes of these.
#[allow(
    clippy::type_complexity,
    reason = "hosts are handed back whatever happens: they must be closed"
)]
async fn consent(
    hand_over: &[HandOver],
    order: &Order,
    planned: Vec<Planned>,
) -> Result<(Vec<Planned>, Vec<(Planned, Outcome)>), (Failure, Vec<Planned>)> {
    if planned.is_empty() {
        return Ok((Vec::new(), Vec::new()));
    }
    if !hand_over.is_empty() {
        let (mut yes, mut no) = (Vec::new(), Vec::new());
        for one in planned {
            match HandOver::of(hand_over, &one.host.target) {
                Some(name) if name == one.remote.name => yes.push(one),
                Some(name) => {
                    let why = format!("it calls itself {}, not {name}", one.remote.name);
                    no.push((one, Outcome::failed("consent", why)));
                }
                None => no.push((one, Outcome::LeftOut)),
            }
        }
        return Ok((yes, no));
    }
    let names: Vec<String> = planned.iter().map(|one| one.remote.name.clone()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    if let Some(name) = ambiguous(&names).first() {
        let failure = Failure::new(format!("several of the hosts call themselves {name}"))
            .because("it would not be clear which of them is meant, or it is one host twice")
            .hint("give them names of their own with hostnamectl, or adopt them one by one");
        return Err((failure, planned));
    }
    if !std::io::stdin().is_terminal() {
        let failure = Failure::new("no terminal to ask on; nothing was changed").hint(
            "look at the plans above; `--hand-over HOST=NAME` for each host consents \
             without a terminal",
        );
        return Err((failure, planned));
    }
    order.printer.ask(&format!(
        "\nThis hands root on these machines to the network. No owner login will work on them \
         afterwards;\nthe only way back is to reinstall the operating system.\nType the names \
         of the machines to hand over ({}), all on one line;\nwhat is not named is left alone: ",
        names.join(" ")
    ));
    let line = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line).map(|_| line)
    })
    .await;
    let line = match line {
        Ok(Ok(line)) => line,
        _ => {
            return Err((Failure::new("could not read the answer; nothing was changed"), planned));
        }
    };
    match typed(&line, &names) {
        Err(word) => {
            let what = format!("{word:?} is none of these machines; nothing was changed");
            Err((Failure::new(what), planned))
        }
        Ok(typed) => {
            let (yes, no): (Vec<_>, Vec<_>) =
                planned.into_iter().partition(|one| typed.contains(one.remote.name.as_str()));
            Ok((yes, no.into_iter().map(|one| (one, Outcome::LeftOut)).collect()))
        }
    }
}

async fn close_all(planned: Vec<Planned>) {
    for one in planned {
        one.remote.close().await;
    }
}

/// Runs `act` on every item, [`AT_ONCE`] at a time; the results stand in the items' order.
async fn at_once<T, R, F>(items: Vec<T>, act: impl Fn(T) -> F) -> Result<Vec<R>, Failure>
where
    R: Send + 'static,
    F: Future<Output = R> + Send + 'static,
{
    let (gate, mut tasks) = (Arc::new(Semaphore::new(AT_ONCE)), JoinSet::new());
    for (at, item) in items.into_iter().enumerate() {
        let (gate, doing) = (Arc::clone(&gate), act(item));
        tasks.spawn(async move {
            let _place = gate.acquire_owned().await;
            (at, doing.await)
        });
    }
    let mut done = BTreeMap::new();
    while let Some(result) = tasks.join_next().await {
        let (at, result) = result.or_fail(|| "a task ended before its time")?;
        done.insert(at, result);
    }
    Ok(done.into_values().collect())
}

/// Every plan, under its host's name.
fn show(order: &Order, invitation: &Checked, planned: &[Planned]) {
    for one in planned {
        let head = format!("{} ({})", one.remote.name, one.host.target);
        order.printer.say(&format!("\n{head}\n{}\n{}", "-".repeat(head.len()), one.plan));
    }
    if !planned.is_empty() {
        order.printer.say(&format!(
            "\nnetwork {} {}\nboard   {}   (compare it with what a governor tells you in person)",
            invitation.file.name,
            invitation.network(),
            invitation.board
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn results_stand_in_the_order_of_their_hosts() {
        let done = at_once((0..20).collect(), |n: u64| async move {
            for _ in n..20 {
                tokio::task::yield_now().await;
            }
            n
        });
        assert_eq!(done.await.unwrap(), (0..20).collect::<Vec<_>>());
    }
}
