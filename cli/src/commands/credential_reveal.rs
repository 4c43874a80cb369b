//! `borgios credential reveal`: the fleet's root password of one epoch, by ballots, to the asker
//! alone.
//!
//! ```text
//! run once    identity made, stored ─▶ proposal {epoch, to, until}
//! votes       each approval carries that governor's share, sealed to `to`
//! run again   signed? ─▶ open t shares ─▶ check the verifier ─▶ print once ─▶ erase the identity
//! ```
//!
//! The password is never stored; from `until` on no server carries it any more.

use std::io::IsTerminal as _;
use std::time::Duration;

use borgios_credentials::{Password, ReconstructError, SealedShare, SecretShare};
use borgios_policy::{
    AccessOrder, Ballot, Lane, Name, Object as _, Reveal as Order, VerifiedStatement,
};
use borgios_types::{Digest, Epoch, Seq};
use clap::Args;
use serde_json::json;

use crate::asker;
use crate::commands::access::orders;
use crate::commands::propose::{Terms, date, put_to_vote};
use crate::context::Context;
use crate::failure::{Failure, OrFail as _};
use crate::identity::Identity;
use crate::schedules;
use crate::session::Session;
use crate::span;

/// How often `--wait` looks again.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Ask the board for the password of one epoch; run it again to read it
#[derive(Debug, Args)]
pub(crate) struct Reveal {
    /// Which epoch [default: the one of now]
    #[arg(long, value_name = "N")]
    epoch: Option<u64>,
    /// Why
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// How long it shall open root, from now on: 15m, 8h; at most 24h
    #[arg(long = "for", value_name = "TIME", default_value = "15m", value_parser = span::seconds)]
    valid: u64,
    /// Wait for the votes
    #[arg(long)]
    wait: bool,
    /// A word to the other governors
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
}

/// A reveal that this governor asked for.
struct Asked {
    seq: Seq,
    statement: Digest,
    order: Order,
    signed: bool,
}

impl Reveal {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        if !context.printer.is_json() && !std::io::stdout().is_terminal() {
            return Err(Failure::usage("a password is shown on a terminal, or with --json")
                .hint("leave stdout alone, or add `--json` where a program is to read it"));
        }
        let mut session = Session::open(context)?;
        session.settle()?;
        sweep(&session)?;
        let epoch = self.epoch(&mut session)?;
        let asked = match asked(&session, epoch)? {
            Some(asked) => asked,
            None => {
                let place = self.propose(context, &mut session, epoch)?;
                if !self.wait {
                    return Ok(());
                }
                asked(&session, epoch)?.ok_or_else(|| {
                    Failure::new(format!("{place} was proposed and is not found again"))
                })?
            }
        };
        let place = format!("access/{}", asked.seq);
        if !asked.signed && self.wait {
            context.printer.say(&format!("Waiting for the votes on {place} …"));
            return wait(context, session.into_identity(), &asked);
        }
        if !asked.signed {
            let answer = json!({
                "status": "waiting", "place": place, "statement": asked.statement,
                "epoch": epoch, "until": asked.order.until,
            });
            return context.printer.answer(
                &answer,
                &format!(
                    "{place} is not signed yet; `borgios inbox` shows who voted. Run this again, \
                     or with --wait"
                ),
            );
        }
        print(context, &mut session, &asked)
    }

    fn epoch(&self, session: &mut Session<'_>) -> Result<Epoch, Failure> {
        if let Some(epoch) = self.epoch {
            return Ok(Epoch(epoch));
        }
        let now = date(session);
        let scheduled = schedules::in_force(&mut session.desk)?.ok_or_else(|| {
            Failure::new("no schedule is in force, so there is no password to reveal")
        })?;
        Ok(schedules::epoch_at(&scheduled.schedule, session.desk.archive().chain(), now))
    }

    fn propose(
        &self,
        context: &Context,
        session: &mut Session<'_>,
        epoch: Epoch,
    ) -> Result<String, Failure> {
        let reason = self.reason.clone().ok_or_else(|| {
            Failure::new(format!("no reveal of epoch {epoch} is under way"))
                .hint("to ask for one, say why with `--reason TEXT`")
        })?;
        session.desk.need_a_place()?;
        let scheduled = schedules::holding(&mut session.desk, epoch)?;
        schedules::leaves(&mut session.desk, epoch)?;
        // Whoever could not check the password in the end shall not let it out.
        scheduled.escrow(&mut session.desk)?;
        let until = date(session).plus(self.valid);
        let recipient = asker::create(&context.home, session.identity())?;
        let order = Order { epoch, to: recipient.to_string(), until, reason };
        let body = AccessOrder::Reveal(order).to_body();
        let terms = Terms::usual(self.note.clone());
        let mut proposed = put_to_vote(session, Lane::Access, body, terms)?;
        let fields = json!({
            "status": "proposed", "epoch": epoch, "to": recipient.to_string(), "until": until,
        });
        proposed.answer.extend(fields.as_object().cloned().unwrap_or_default());
        let place = proposed.place();
        if !(self.wait && context.printer.is_json()) {
            let text = format!(
                "proposed {place}: {}\n  the password of epoch {epoch}, until {until}",
                proposed.statement
            );
            context.printer.answer(&proposed.answer, &text)?;
        }
        proposed.talk(context);
        context.printer.say(&format!(
            "Your own vote counts as any other's. When it is signed, \
             `borgios credential reveal --epoch {epoch}` shows the password."
        ));
        Ok(place)
    }
}

/// Looks again until it is signed or too late. The home is not locked meanwhile: this governor
/// votes too.
fn wait(context: &Context, mut identity: Identity, first: &Asked) -> Result<(), Failure> {
    let Order { epoch, until, .. } = first.order;
    loop {
        if context.now() >= until {
            return Err(Failure::new(format!("access/{} ended at {until}", first.seq))
                .hint("ask again, with a longer --for"));
        }
        std::thread::sleep(LOOK_EVERY);
        let mut session = Session::with(context, identity)?;
        session.settle()?;
        if let Some(asked) = asked(&session, epoch)?.filter(|asked| asked.signed) {
            return print(context, &mut session, &asked);
        }
        identity = session.into_identity();
    }
}

/// The reveal of this epoch that this governor can open: the newest that is signed, else one that
/// this governor proposed. Others can propose a copy of the same request at any time, with `to` and
/// all, so theirs must not stand before what is signed.
fn asked(session: &Session<'_>, epoch: Epoch) -> Result<Option<Asked>, Failure> {
    let (archive, now) = (session.desk.archive(), session.desk.context().now());
    let stored = asker::stored(&session.desk.context().home)?;
    let own =
        |order: &Order| order.epoch == epoch && order.until > now && stored.contains(&order.to);
    let mut newest = None;
    for (order, at) in orders(archive) {
        if let AccessOrder::Reveal(order) = order
            && own(&order)
        {
            let (seq, statement) = (at.statement().seq, at.id());
            newest = Some(Asked { seq, statement, order, signed: true });
        }
    }
    if newest.is_some() {
        return Ok(newest);
    }
    let me = session.identity().name();
    for vote in session.desk.votes()? {
        for (id, document) in &vote.documents {
            let dead = vote
                .tally
                .documents
                .get(id)
                .is_some_and(|standing| standing.state == borgios_policy::State::Dead);
            let mine = document.proposals.iter().any(|held| held.by == *me);
            if let Ok(AccessOrder::Reveal(order)) = AccessOrder::of(&document.statement)
                && own(&order)
                && mine
                && !dead
            {
                let seq = document.statement.seq;
                return Ok(Some(Asked { seq, statement: *id, order, signed: false }));
            }
        }
    }
    Ok(None)
}

/// Erases the identities of reveals that ended, or that nobody was ever asked for.
fn sweep(session: &Session<'_>) -> Result<(), Failure> {
    let context = session.desk.context();
    let archive = session.desk.archive();
    let proposed =
        archive.proposals().values().filter_map(|held| held.value.parse_statement().ok());
    let all = proposed.filter_map(|statement| match AccessOrder::of(&statement) {
        Ok(AccessOrder::Reveal(order)) => Some(order),
        Ok(_) | Err(_) => None,
    });
    let alive: Vec<String> =
        all.filter(|order| order.until > context.now()).map(|order| order.to).collect();
    for recipient in asker::stored(&context.home)? {
        if !alive.contains(&recipient) {
            asker::forget(&context.home, &recipient)?;
        }
    }
    Ok(())
}

/// Opens the shares of a signed reveal, checks what comes of them, prints it once.
fn print(context: &Context, session: &mut Session<'_>, asked: &Asked) -> Result<(), Failure> {
    let (place, order) = (format!("access/{}", asked.seq), &asked.order);
    let what = || format!("{place} does not give the password of epoch {}", order.epoch);
    let opener = asker::find(&context.home, session.identity(), &order.to)?;
    let opener =
        opener.ok_or_else(|| Failure::new(what()).because("it was asked for elsewhere"))?;
    let scheduled = schedules::holding(&mut session.desk, order.epoch)?;
    let escrow = scheduled.escrow(&mut session.desk)?;
    let (mut shares, mut useless): (Vec<(Name, SecretShare)>, Vec<String>) = Default::default();
    for envelope in session.desk.archive().ballots_at(Lane::Access, asked.seq) {
        let ballot = Ballot::parse(&envelope).or_fail(|| "a stored ballot is damaged")?;
        if ballot.statement != asked.statement || !ballot.approves() {
            continue;
        }
        let name = ballot.governor.clone();
        let Some(sealed) = ballot.reveal else {
            useless.push(format!("{name} approved without a share"));
            continue;
        };
        match SealedShare::from_bytes(sealed.0).and_then(|sealed| sealed.open(&opener)) {
            Ok(share) => shares.push((name, share)),
            Err(error) => useless.push(format!("the share of {name}: {error}")),
        }
    }
    let again = |names: &[Name]| {
        let without: Vec<String> = names.iter().map(|name| format!(" --without {name}")).collect();
        format!("ask again, and let others approve it{}", without.concat())
    };
    let came = escrow.reconstruct(order.epoch, &shares).map_err(|error| {
        let wrong = match &error {
            ReconstructError::TooFew { wrong, .. } => wrong.clone(),
            ReconstructError::NoEpoch(_) => Vec::new(),
        };
        let failure = wrong_shares(Failure::new(what()).cause(error), &wrong);
        useless
            .iter()
            .fold(failure, |failure, why| failure.because(why.clone()))
            .hint(again(&wrong))
    })?;
    for name in &came.wrong {
        context.printer.warn(&format!(
            "the share of {name} is wrong: {name} broke the rules, or uses a damaged copy"
        ));
    }
    scheduled.schedule.check(order.epoch, &came.password).map_err(|error| {
        let dealer = dealer(session, &scheduled);
        Failure::new(what())
            .cause(error)
            .because(format!("credential/{} was dealt by {dealer}", scheduled.dealt))
            .hint("deal a new schedule on a computer that you trust")
    })?;
    let left = order.until.0.saturating_sub(context.now().0);
    context.printer.say(&format!(
        "The password of epoch {} follows, once. Clear the scrollback when you are done.",
        order.epoch
    ));
    show(context, asked, &came.password)?;
    context.printer.say(&format!(
        "It opens root on consoles and by su, never over SSH, until {} ({}). Then every server \
         moves on by itself;\n`borgios credential advance --reason …` moves them at once.",
        order.until,
        span::words(left)
    ));
    // Printed: nobody opens these shares again.
    asker::forget(&context.home, &order.to)
}

fn wrong_shares(failure: Failure, wrong: &[Name]) -> Failure {
    wrong.iter().fold(failure, |failure, name| {
        failure.because(format!("the share of {name} is wrong: it does not fit the escrow"))
    })
}

/// Who proposed the schedule when it was dealt, as far as it is known here; whoever proposed an advance
/// dealt nothing.
fn dealer(session: &Session<'_>, scheduled: &schedules::Scheduled) -> String {
    let archive = session.desk.archive();
    let signed = archive.chain().get(Lane::Credential, scheduled.dealt);
    let id = signed.map(VerifiedStatement::id);
    let mut by = archive.proposals().values().filter(|held| Some(held.value.statement_id()) == id);
    by.next().map_or_else(|| "somebody unknown here".to_owned(), |held| held.by.to_string())
}

fn show(context: &Context, asked: &Asked, password: &Password) -> Result<(), Failure> {
    let fields = json!({
        "status": "revealed", "place": format!("access/{}", asked.seq),
        "epoch": asked.order.epoch, "until": asked.order.until,
    });
    context.printer.secret(&fields, "password", password.expose())
}
