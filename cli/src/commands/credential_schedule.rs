//! `borgios credential schedule`: deals the passwords of the time to come, and puts the schedule
//! to the vote.
//!
//! Passwords and secrets live in this process only, epoch by epoch, and are zeroised; what leaves
//! it are hashes, commitments, and shares sealed to each governor.

use borgios_credentials::{Term, deal};
use borgios_policy::{Credential, Lane};
use borgios_types::{Epoch, UnixSeconds};
use clap::Args;
use serde_json::json;

use crate::commands::propose::{Terms, date, put_to_vote};
use crate::context::Context;
use crate::failure::{Failure, OrFail as _};
use crate::schedules::{self, Scheduled};
use crate::session::Session;
use crate::span;

/// Jitter where nothing is said: long enough for no thundering herd, if the interval bears it.
const JITTER_S: u64 = 600;

/// Deal passwords for the time to come, and put their schedule to the vote
#[derive(Debug, Args)]
pub(crate) struct Schedule {
    /// For how many days
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u64).range(1..=3650),
          required_unless_present = "epochs", conflicts_with = "epochs")]
    days: Option<u64>,
    /// How many passwords, instead of days
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=4096))]
    epochs: Option<u64>,
    /// How long each holds: 20s, 12h, 1d
    #[arg(long, value_name = "TIME", default_value = "1d", value_parser = span::seconds)]
    every: u64,
    /// Each server changes within so much of its time [default: 10m, or a quarter of --every]
    #[arg(long, value_name = "TIME", value_parser = jitter)]
    jitter: Option<u64>,
    /// When the first one begins [default: now]
    #[arg(long, value_name = "DATE", value_parser = span::date)]
    first_at: Option<UnixSeconds>,
    /// Why
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    #[command(flatten)]
    terms: Terms,
}

/// A time, or none at all.
fn jitter(text: &str) -> Result<u64, String> {
    if text == "0" || text == "0s" { Ok(0) } else { span::seconds(text) }
}

impl Schedule {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let mut session = Session::open(context)?;
        let (board, _) = session.on_board()?;
        let board = board.clone();
        let old = schedules::in_force(&mut session.desk)?;
        let now = date(&session);
        let count = match (self.epochs, self.days) {
            (Some(epochs), _) => epochs,
            (None, days) => (days.unwrap_or_default() * 86_400).div_ceil(self.every),
        };
        let jitter_s = self.jitter.unwrap_or(JITTER_S.min(self.every / 4));
        let term = Term {
            network: session.network(),
            first: first(old.as_ref(), &session, now),
            t0: self.first_at.unwrap_or(now),
            interval_s: self.every,
            jitter_s,
            count: usize::try_from(count).unwrap_or(usize::MAX),
        };
        if term.t0.plus(count.saturating_mul(self.every)) <= now {
            return Err(Failure::usage(format!(
                "a schedule from {} for {} would have ended already",
                term.t0,
                span::words(count.saturating_mul(self.every))
            )));
        }
        context.printer.say(&format!(
            "Dealing {count} passwords among {} governors, {} of whom bring one back …",
            board.size(),
            board.threshold()
        ));
        let printer = context.printer;
        let mut progress = |done: usize| printer.progress("dealt", done, term.count);
        let (schedule, escrow) = deal(&term, &board, &mut rand::rngs::OsRng, &mut progress)
            .or_fail(|| format!("{count} epochs of {} cannot be dealt", span::words(self.every)))?;
        let (first, last, ends) = (schedule.first(), schedule.last(), schedule.ends());
        let what = || "the blobs of the schedule are nowhere yet, and nothing was proposed";
        let schedule = session.desk.publish_blob(&schedule.to_bytes());
        let schedule = schedule.map_err(|failure| failure.within(what()))?;
        let escrow = session.desk.publish_blob(&escrow.to_bytes());
        let escrow = escrow.map_err(|failure| failure.within(what()))?;
        let credential = Credential { schedule, escrow, min_epoch: first, reason: self.reason };
        let body = credential.to_body();
        let mut proposed = put_to_vote(&mut session, Lane::Credential, body, self.terms)?;
        let fields = json!({
            "first": first, "last": last, "t0": term.t0, "ends": ends, "interval_s": self.every,
            "jitter_s": jitter_s, "epochs": count, "schedule": schedule, "escrow": escrow,
        });
        proposed.answer.extend(fields.as_object().cloned().unwrap_or_default());
        let text = format!(
            "proposed {}: {}\n  epochs {first} to {last}, {} to {ends}, a new one every {}",
            proposed.place(),
            proposed.statement,
            term.t0,
            span::words(self.every)
        );
        context.printer.answer(&proposed.answer, &text)?;
        context.printer.say(
            "This computer knew every one of these passwords while it dealt them. This program wrote \
             none of them down\nand erased them from its memory; if the computer is not to be \
             trusted, neither are they: deal on another one.",
        );
        proposed.talk(context);
        Ok(())
    }
}

/// The first epoch: later than every one that may be current anywhere, so that no number ever means
/// two passwords.
fn first(old: Option<&Scheduled>, session: &Session<'_>, now: UnixSeconds) -> Epoch {
    let chain = session.desk.archive().chain();
    let next = |epoch: Epoch| Epoch(epoch.0.saturating_add(1));
    let clock = old.map(|old| schedules::epoch_at(&old.schedule, chain, now));
    // A reveal that has not ended yet will have, by the time this is signed.
    let revealed = chain.reveals().into_iter().map(|(epoch, _)| next(epoch)).max();
    next(clock.max(revealed).unwrap_or_default().max(chain.min_epoch()))
}
