//! `borgios credential status`: which epoch it is, what comes next, who is late, and whether the
//! passwords are escrowed to another board than the one in force.

use borgios_types::UnixSeconds;
use clap::Args;
use serde_json::{Value, json};

use crate::context::Context;
use crate::desk::Desk;
use crate::failure::Failure;
use crate::notices::{self, Notice};
use crate::printer::{one_line, table};
use crate::schedules::{self, Scheduled};
use crate::servers::{Servers, evicted};
use crate::span;

/// Most servers that are late told one by one.
const LATE_SHOWN: usize = 50;

/// Which epoch it is, what comes next, and who is late
#[derive(Debug, Args)]
pub(crate) struct Status {}

/// How the fleet follows.
#[derive(Debug, Default)]
pub(crate) struct Fleet {
    /// Servers whose keepers carry the epoch they should.
    pub(crate) in_step: usize,
    /// Members that have not said which epoch they carry.
    pub(crate) silent: usize,
    /// The others: name, epoch, how long due, in seconds, and what stands in the way.
    pub(crate) late: Vec<(String, u64, u64, Option<String>)>,
}

impl Status {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let mut desk = Desk::look(context)?;
        let scheduled = schedules::in_force(&mut desk)?;
        let servers = desk.servers()?;
        let Some(scheduled) = scheduled else {
            return context.printer.answer(
                &json!({"schedule": null}),
                "no schedule is in force: root's password is whatever each server has\n\
                 deal one with `borgios credential schedule --days 90`",
            );
        };
        let chain = desk.archive().chain();
        let now = context.now().max(chain.now_floor());
        let schedule = &scheduled.schedule;
        let epoch = schedules::epoch_at(schedule, chain, now);
        let last = epoch == schedule.last();
        let next = (!last).then(|| {
            let clock = schedules::begins(schedule, borgios_types::Epoch(epoch.0 + 1));
            let ending = chain.reveals().into_iter();
            let ending = ending.filter(|(revealed, until)| *revealed >= epoch && *until > now);
            ending.map(|(_, until)| until).chain([clock]).min().unwrap_or(clock)
        });
        let fleet = follow(&scheduled, &desk, &servers, now);
        let exhausted = now >= schedule.warns_from() || last;
        let escrow = notices::escrow(&desk);
        let answer = json!({
            "place": format!("credential/{}", scheduled.seq), "epoch": epoch, "next": next,
            "first": schedule.first(), "last": schedule.last(), "t0": schedule.t0(),
            "ends": schedule.ends(), "interval_s": schedule.interval_s(),
            "jitter_s": schedule.jitter_s(), "min_epoch": chain.min_epoch(),
            "exhausted": exhausted, "schedule": schedule.digest(), "fleet": fleet.to_json(),
            "notices": escrow.iter().map(Notice::to_json).collect::<Vec<_>>(),
        });
        let mut text = format!("epoch {epoch} of {} to {}\n", schedule.first(), schedule.last());
        match next {
            Some(next) => text.push_str(&format!(
                "  next      {next}, in {}; each server within {} of that\n",
                span::words(next.0.saturating_sub(now.0)),
                span::words(schedule.jitter_s())
            )),
            None => text
                .push_str("  next      none: this password stays until there is a new schedule\n"),
        }
        text.push_str(&format!(
            "  schedule  credential/{}, until {}, a new one every {}\n",
            scheduled.seq,
            schedule.ends(),
            span::words(schedule.interval_s())
        ));
        if exhausted {
            text.push_str(
                "  ALARM     it ends soon or has ended: `borgios credential schedule --days 90`\n",
            );
        }
        if let Some(notice) = &escrow {
            text.push_str(&format!("  ALARM     {}\n", notice.line()));
        }
        text.push_str(&fleet.to_text());
        context.printer.answer(&answer, &text)
    }
}

/// Compares what every member's keeper said last with what it should carry now.
fn follow(scheduled: &Scheduled, desk: &Desk<'_>, servers: &Servers, now: UnixSeconds) -> Fleet {
    let chain = desk.archive().chain();
    let (orders, out) = (schedules::orders(chain), evicted(chain));
    let mut fleet = Fleet::default();
    for (node, server) in servers.all() {
        if out(node) || server.departed().is_some() || server.join().expires <= now {
            continue;
        }
        let Some(report) = server.rotation() else {
            fleet.silent += 1;
            continue;
        };
        let wanted = scheduled.schedule.current(now, &orders, &report.keeper);
        if report.epoch == wanted.epoch && report.problem.is_none() {
            fleet.in_step += 1;
            continue;
        }
        let late = now.0.saturating_sub(wanted.due.0);
        let name = server.join().name.to_string();
        fleet.late.push((name, report.epoch.0, late, report.problem.clone()));
    }
    fleet.late.sort_by_key(|(name, _, late, _)| (core::cmp::Reverse(*late), name.clone()));
    fleet
}

impl Fleet {
    fn to_json(&self) -> Value {
        let late: Vec<Value> = self
            .late
            .iter()
            .map(|(name, epoch, late_s, problem)| {
                json!({"name": name, "epoch": epoch, "late_s": late_s, "problem": problem})
            })
            .collect();
        json!({"in_step": self.in_step, "late": late, "silent": self.silent})
    }

    fn to_text(&self) -> String {
        let mut text = format!(
            "  fleet     {} in step, {} late, {} never said\n",
            self.in_step,
            self.late.len(),
            self.silent
        );
        let rows: Vec<[String; 4]> = self
            .late
            .iter()
            .take(LATE_SHOWN)
            .map(|(name, epoch, late, problem)| {
                let problem: String =
                    problem.as_deref().unwrap_or_default().chars().take(60).collect();
                [name.clone(), epoch.to_string(), span::words(*late), one_line(&problem)]
            })
            .collect();
        if !rows.is_empty() {
            text.push('\n');
            text.push_str(&table(["late", "epoch", "by", "problem"], &rows));
        }
        if self.late.len() > LATE_SHOWN {
            text.push_str(&format!("… and {} more\n", self.late.len() - LATE_SHOWN));
        }
        text
    }
}
