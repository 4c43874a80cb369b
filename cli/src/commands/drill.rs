//! `borgios drill`: a harmless round through the board, and who of it can still vote.
//!
//! Whoever runs it first calls the drill; whoever runs it afterwards answers. An answer opens the
//! identity (passphrase), signs with the share of the group key, and tries the seed of every
//! published pool ahead of each lane; no slot is used up. See `policy/src/drill.rs`.

use std::collections::BTreeMap;

use borgios_policy::{
    Board, Choice, Drill as Call, DrillAnswer, Lane, Name, Object as _, Pool, PoolSlot, Slot,
};
use borgios_types::{Digest, Round, Seq, UnixSeconds};
use clap::Args;
use rand::rngs::OsRng;
use serde_json::{Value, json};

use crate::archive::Archive;
use crate::context::Context;
use crate::desk::Desk;
use crate::failure::{Failure, OrFail as _};
use crate::printer::one_line;
use crate::session::Session;
use crate::span;

/// A harmless round through the board: who can still vote
#[derive(Debug, Args)]
pub(crate) struct Drill {
    /// Call a new drill though one is running
    #[arg(long)]
    new: bool,
    /// Why, for the others
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    /// How long a new drill waits for answers
    #[arg(long = "for", value_name = "TIME", default_value = "7d", value_parser = span::seconds)]
    seconds: u64,
    /// Only look: call nothing, answer nothing, ask for no passphrase
    #[arg(long, conflicts_with_all = ["new", "note"])]
    look: bool,
}

/// What is known of one governor.
struct Seen {
    answered: Option<UnixSeconds>,
    pools: BTreeMap<Lane, u16>,
    last: Option<(UnixSeconds, &'static str)>,
}

impl Drill {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        if self.look {
            let desk = Desk::look(context)?;
            let running = running(desk.archive(), context.now());
            return report(context, desk.archive(), running, false);
        }
        let mut session = Session::open(context)?;
        // Pools that ran out are refilled first: the drill shall show what a vote would find.
        session.settle()?;
        let now = context.now();
        let running = if self.new { None } else { running(session.desk.archive(), now) };
        let (drill, called) = match running {
            Some(id) => (id, false),
            None => (self.call(&mut session, now)?, true),
        };
        answer(&mut session, drill, now)?;
        report(context, session.desk.archive(), Some(drill), called)
    }

    /// Calls a drill; returns its id.
    fn call(&self, session: &mut Session<'_>, now: UnixSeconds) -> Result<Digest, Failure> {
        let (board, me) = session.on_board()?;
        let call = Call {
            network: session.network(),
            group: board.group(),
            governor: me.clone(),
            note: self.note.clone(),
            at: now,
            until: now.plus(self.seconds),
        };
        call.check().or_fail(|| "this drill cannot be called")?;
        let envelope = call.to_envelope().sign(session.identity().ssh());
        session.desk.publish(&envelope)?;
        Ok(envelope.id())
    }
}

/// The newest drill of the board in force that still waits for answers.
fn running(archive: &Archive, now: UnixSeconds) -> Option<Digest> {
    let board = archive.board().ok()?;
    let open = archive.drills().iter().filter(|(_, held)| {
        held.value.group == board.group()
            && held.is_of(board)
            && held.value.at <= now.plus(600)
            && now < held.value.until
    });
    open.max_by_key(|(id, held)| (held.value.at, **id)).map(|(id, _)| *id)
}

/// Answers a drill, once.
fn answer(session: &mut Session<'_>, drill: Digest, now: UnixSeconds) -> Result<(), Failure> {
    let (board, me) = session.on_board()?;
    let mut answers = session.desk.archive().answers().values();
    if answers.any(|held| held.by == *me && held.is_of(board) && held.value.drill == drill) {
        return Ok(());
    }
    let share = session.share()?;
    let answer = DrillAnswer {
        network: session.network(),
        group: board.group(),
        governor: me.clone(),
        drill,
        pools: tried(session)?,
        at: now,
    };
    let proved = answer.prove(&share, &mut OsRng).or_fail(|| "the share does not sign")?;
    let envelope = proved.sign(session.identity().ssh());
    session.desk.publish(&envelope)
}

/// In how many places ahead of each lane's head the seed on the disk makes the published pool.
fn tried(session: &Session<'_>) -> Result<BTreeMap<Lane, u16>, Failure> {
    let (board, me) = session.on_board()?;
    let (archive, share) = (session.desk.archive(), session.share()?);
    // Those of a key that died, or of before a burn, cover the same places and are of no use.
    let generation = session.generation(board)?;
    let mut good = BTreeMap::new();
    for lane in Lane::ALL {
        let head = archive.chain().head_seq(lane);
        let mut count = 0;
        for step in 1..=borgios_policy::pool::SLOTS_AHEAD {
            let seq = Seq(head.0.saturating_add(step));
            let slot = Slot { epoch: board.epoch(), lane, seq, round: Round(0) };
            let mut mine = archive.pools().values().filter(|held| {
                let counts =
                    (held.value.group, held.value.generation) == (board.group(), generation);
                held.by == *me && counts && held.value.covers(board, slot)
            });
            let Some(held) = mine.next() else { continue };
            let Some(seed) = session.slots().seed(slot, session.identity())? else { continue };
            let made = Pool::make(board, &share, &[(slot, seed)]);
            if made.is_ok_and(|made| covers_alike(board, &made, &held.value, slot)) {
                count += 1;
            }
        }
        good.insert(lane, count);
    }
    Ok(good)
}

/// Whether two pools hold the same commitments for a slot.
fn covers_alike(board: &Board, made: &Pool, published: &Pool, slot: Slot) -> bool {
    let at = published.slots.iter().position(|covered| *covered == PoolSlot::from(slot));
    let size = made.commitments.0.len();
    let theirs = at.and_then(|at| published.commitments.0.chunks_exact(size).nth(at));
    made.group == board.group() && theirs == Some(made.commitments.0.as_slice())
}

/// What is known of each governor of the board in force.
fn seen(archive: &Archive, drill: Option<Digest>) -> Result<BTreeMap<Name, Seen>, Failure> {
    let board = archive.board()?;
    let mut all = BTreeMap::new();
    for governor in board.governors() {
        let name = &governor.name;
        let answers =
            || archive.answers().values().filter(|held| held.by == *name && held.is_of(board));
        let now = answers().find(|held| Some(held.value.drill) == drill);
        let said = answers().map(|held| (held.value.at, "a drill"));
        let notes = archive.notes().values().filter(|held| held.by == *name && held.is_of(board));
        let said = said.chain(notes.map(|held| (held.value.at, "a note")));
        let called = archive.drills().values().filter(|held| held.by == *name && held.is_of(board));
        let said = said.chain(called.map(|held| (held.value.at, "a drill called")));
        let said =
            said.chain(archive.beacon_of(board, name).map(|held| (held.value.time, "a beacon")));
        // A ballot bears no date: it is not older than what it votes on.
        let cast = archive.ballots().values();
        let cast = cast.filter(|held| held.by == *name && governor.signed_ballot(&held.envelope));
        let voted = cast.filter_map(|held| {
            let id = held.value.statement;
            let (lane, seq) = archive.chain().known(&id)?;
            let issued = archive.chain().get(lane, seq)?.statement().issued;
            let word = match held.value.choice {
                Choice::Approve { .. } | Choice::Commit { .. } => "an approval",
                Choice::Reject { .. } => "a rejection",
            };
            Some((issued, word))
        });
        let last = said.chain(voted).max_by_key(|(at, _)| *at);
        all.insert(
            name.clone(),
            Seen {
                answered: now.map(|held| held.value.at),
                pools: now.map(|held| held.value.pools.clone()).unwrap_or_default(),
                last,
            },
        );
    }
    Ok(all)
}

fn report(
    context: &Context,
    archive: &Archive,
    drill: Option<Digest>,
    called: bool,
) -> Result<(), Failure> {
    let board = archive.board()?;
    let seen = seen(archive, drill)?;
    let threshold = usize::from(board.threshold().0);
    let able = seen.values().filter(|seen| seen.answered.is_some()).count();
    let mut text = String::new();
    let call = drill.and_then(|id| archive.drills().get(&id));
    match call {
        None => text.push_str("no drill is running; `borgios drill` calls one\n"),
        Some(held) => {
            let note = held.value.note.as_deref().map(|note| format!(": {}", one_line(note)));
            text.push_str(&format!(
                "drill {} {} {} at {}, open until {}{}\n",
                drill.map(|id| id.short()).unwrap_or_default(),
                if called { "called by" } else { "of" },
                held.by,
                held.value.at,
                held.value.until,
                note.unwrap_or_default()
            ));
        }
    }
    let mut rows: Vec<Value> = Vec::new();
    for (name, Seen { answered, pools, last }) in &seen {
        let lean: Vec<String> = pools
            .iter()
            .filter(|(_, count)| u64::from(**count) < borgios_policy::pool::SLOTS_AHEAD)
            .map(|(lane, count)| format!("{lane} {count}"))
            .collect();
        let last_seen = last.map(|(at, what)| format!("last heard of at {at} by {what}"));
        text.push_str(&match answered {
            Some(at) if lean.is_empty() => format!("  {name} can vote: answered at {at}\n"),
            Some(at) => format!(
                "  {name} can vote: answered at {at}; few pools left: {}\n",
                lean.join(", ")
            ),
            None => format!(
                "  {name} has not answered: {}\n",
                last_seen.unwrap_or_else(|| "never heard of here".to_owned())
            ),
        });
        rows.push(json!({
            "governor": name, "can_vote": answered.is_some(), "answered": answered, "pools": pools,
            "last_heard": last.map(|(at, what)| json!({"at": at, "by": what})),
        }));
    }
    text.push_str(&if able >= threshold {
        format!("{able} of {} can vote, {threshold} are needed\n", seen.len())
    } else {
        format!(
            "{able} of {} have shown that they can vote, {threshold} are needed: ask the others to \
             run `borgios drill`\n",
            seen.len()
        )
    });
    let answer = json!({
        "drill": drill, "called": called, "until": call.map(|held| held.value.until),
        "able": able, "threshold": threshold, "enough": able >= threshold, "governors": rows,
    });
    context.printer.answer(&answer, &text)
}
