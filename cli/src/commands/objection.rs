//! `borgios veto` and `borgios pause`: what a governor may say against a statement that is signed.

use borgios_policy::class::veto_least;
use borgios_policy::{Object, Objection, Pause as PauseObject, Policy, Veto as VetoObject};
use clap::Args;
use serde_json::{Value, json};

use crate::context::Context;
use crate::failure::Failure;
use crate::hearing::hearing;
use crate::printer::one_line;
use crate::session::Session;
use crate::span;
use crate::subject::Subject;

/// What both take.
#[derive(Debug, Args)]
struct Against {
    /// The statement: release/2, or the first digits of its id
    subject: Subject,
    /// Why; everybody reads it
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

/// Take a signed statement back before it is applied
///
/// Enough vetoes kill it wherever its lock is not over. Where it was applied they change nothing.
#[derive(Debug, Args)]
pub(crate) struct Veto {
    #[command(flatten)]
    against: Against,
}

/// Ask every server to wait with a signed statement; ends by itself
#[derive(Debug, Args)]
pub(crate) struct Pause {
    #[command(flatten)]
    against: Against,
}

/// An objection on each board that may hear it.
struct Said {
    /// One for each of the governor's boards that lacks it, in the order in which nodes have them in
    /// force; never none.
    objections: Vec<Objection>,
    /// The policy by which nodes hear the first.
    policy: Policy,
    /// Whether a locked change of the board makes two of it.
    both: bool,
}

impl Against {
    /// The objections of this session's governor, and the policy by which they count.
    fn objections(
        self,
        kind: &str,
        session: &Session<'_>,
        context: &Context,
    ) -> Result<Said, Failure> {
        session.desk.need_a_place()?;
        let archive = session.desk.archive();
        let signed = archive.chain().history().chain(archive.recoveries().waiting());
        // What is dead here may live where another board is in force, and needs more voices there.
        let dead = archive.dead_statements()?;
        let all = signed.map(|at| (at.statement(), at.id()));
        let all = dead.iter().map(|(statement, id)| (statement, *id)).chain(all);
        let named = all.filter(|(at, id)| self.subject.names(at.lane, at.seq, id));
        let Some((statement, id)) = named.last() else {
            let what = format!("{} is not signed, as far as is known here", self.subject);
            return Err(Failure::new(what).hint(
                "against a proposal vote with `borgios vote … reject`; `borgios log` shows what is \
                 signed",
            ));
        };
        let place = format!("{}/{}", statement.lane, statement.seq);
        let hearing = hearing(&session.desk, statement);
        let newest = hearing.last().copied();
        let policy = newest
            .ok_or_else(|| Failure::new(format!("no policy is known by which {id} was signed")))?;
        let (me, key) = (session.identity().name(), session.identity().ssh().public());
        let sits = |policy: &&Policy| policy.board.by_name(me).is_some_and(|me| me.key == key);
        let mine: Vec<&Policy> = hearing.into_iter().filter(sits).collect();
        let Some(first) = mine.first().copied() else {
            let what = format!("{me} is not on the board that may object to {place}");
            return Err(Failure::new(what)
                .because(format!(
                    "nodes hear the board of key epoch {} about it",
                    policy.board.epoch()
                ))
                .hint("`borgios log policy` shows who is on that board: ask them to object"));
        };
        let both = mine.len() > 1;
        let before = |policy: &&Policy| {
            session.desk.archive().objections().values().find(|held| {
                held.by == *me
                    && (held.value.statement, held.value.group) == (id, policy.board.group())
                    && held.envelope.kind.as_str() == kind
            })
        };
        if let Some(said) = before(&first)
            && mine.iter().all(|policy| before(policy).is_some())
        {
            let what = format!("you have asked for a {kind} of {place} before");
            return Err(Failure::new(what)
                .because(format!("at {}: {}", said.value.at, one_line(&said.value.reason)))
                .hint("one is all that counts; the other governors can add theirs"));
        }
        let lacking = mine.into_iter().filter(|policy| before(policy).is_none());
        let objections = lacking.map(|policy| Objection {
            network: session.network(),
            group: policy.board.group(),
            governor: me.clone(),
            statement: id,
            lane: statement.lane,
            seq: statement.seq,
            reason: self.reason.clone(),
            at: context.now(),
        });
        Ok(Said { objections: objections.collect(), policy: first.clone(), both })
    }
}

impl Said {
    /// Signs and publishes them; for `--json`, and the text.
    fn publish<O: Object>(
        &self,
        session: &mut Session<'_>,
        past: &str,
        object: impl Fn(Objection) -> O,
    ) -> Result<(Value, String), Failure> {
        let mut ids = Vec::new();
        for objection in &self.objections {
            let envelope = object(objection.clone()).to_envelope().sign(session.identity().ssh());
            session.desk.publish(&envelope)?;
            ids.push(envelope.id());
        }
        let of = self.objections.first();
        let place = of.map_or_else(String::new, |one| format!("{}/{}", one.lane, one.seq));
        let statement = of.map(|one| one.statement);
        let answer = json!({
            "id": ids.first(), "ids": ids, "place": place, "statement": statement,
            "both_boards": self.both, "published_to": session.desk.places(),
        });
        let mut text =
            format!("{past} {place}: {}", statement.map_or_else(String::new, |id| id.short()));
        if self.both {
            text.push_str(
                "\nsaid on both boards: nodes may still hold the change of the board back, and count it by \
                 the board they have in force",
            );
        }
        Ok((answer, text))
    }
}

impl Veto {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let mut session = Session::open(context)?;
        let said = self.against.objections(VetoObject::KIND, &session, context)?;
        let board = &said.policy.board;
        let needed = veto_least(board.threshold().0, board.size());
        let of_it = |id| said.objections.iter().any(|said| said.statement == id);
        let recovery =
            session.desk.archive().recoveries().waiting().any(|waiting| of_it(waiting.id()));
        let (answer, text) = said.publish(&mut session, "vetoed", VetoObject)?;
        context.printer.answer(&answer, &text)?;
        if recovery {
            context.printer.say(
                "The recovery key signed it, and not the board: this one veto ends it wherever its lock is \
                 not over.",
            );
            return Ok(());
        }
        context.printer.say(&format!(
            "Unless its class says otherwise, {needed} governors' vetoes kill it wherever its lock \
             is not over."
        ));
        Ok(())
    }
}

impl Pause {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let mut session = Session::open(context)?;
        let said = self.against.objections(PauseObject::KIND, &session, context)?;
        let holds = said.policy.pause();
        let (mut answer, text) = said.publish(&mut session, "paused", PauseObject)?;
        answer["pause_s"] = json!(holds);
        context.printer.answer(&answer, &text)?;
        context.printer.say(&format!(
            "Each server waits for {} from when it hears of this. It ends by itself, and there is \
             one for each governor.",
            span::words(holds)
        ));
        Ok(())
    }
}
