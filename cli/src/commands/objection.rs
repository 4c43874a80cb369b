//! `borgios veto` and `borgios pause`: what a governor may say against a statement that is signed.

use borgios_policy::class::veto_least;
use borgios_policy::{
    Chain, Lane, Object as _, Objection, Pause as PauseObject, Policy, Statement,
    Veto as VetoObject,
};
use clap::Args;
use serde_json::json;

use crate::context::Context;
use crate::failure::Failure;
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

/// The policy by which nodes hear objections to `statement`: while a change of the board is locked
/// its nodes obey the board before it, though laptops have no lock and are past it.
fn heard_by<'a>(chain: &'a Chain, statement: &Statement) -> Option<&'a Policy> {
    match statement.policy {
        Some(named) if statement.lane == Lane::Policy => chain.policy_at(named),
        _ => chain.policy(),
    }
}

impl Against {
    /// The objection of this session's governor, and the policy by which it counts.
    fn objection(
        self,
        kind: &str,
        session: &Session<'_>,
        context: &Context,
    ) -> Result<(Objection, Policy), Failure> {
        session.desk.need_a_place()?;
        let me = session.identity().name();
        let chain = session.desk.archive().chain();
        let waiting = session.desk.archive().recoveries().waiting();
        let named = chain.history().chain(waiting).filter(|at| {
            let (lane, seq) = (at.statement().lane, at.statement().seq);
            self.subject.names(lane, seq, &at.id())
        });
        let Some(signed) = named.last() else {
            let what = format!("{} is not signed, as far as is known here", self.subject);
            return Err(Failure::new(what).hint(
                "against a proposal vote with `borgios vote … reject`; `borgios log` shows what is \
                 signed",
            ));
        };
        let (statement, id) = (signed.statement(), signed.id());
        let policy = heard_by(chain, statement)
            .ok_or_else(|| Failure::new(format!("no policy is known by which {id} was signed")))?;
        let group = policy.board.group();
        if policy.board.by_name(me).is_none_or(|me| me.key != session.identity().ssh().public()) {
            let (lane, seq) = (statement.lane, statement.seq);
            let what = format!("{me} is not on the board that may object to {lane}/{seq}");
            return Err(Failure::new(what).because(format!(
                "nodes hear the board of key epoch {} about it",
                policy.board.epoch()
            )));
        }
        let said = session.desk.archive().objections().values().find(|held| {
            held.by == *me
                && (held.value.statement, held.value.group) == (id, group)
                && held.envelope.kind.as_str() == kind
        });
        if let Some(said) = said {
            let (lane, seq) = (statement.lane, statement.seq);
            let what = format!("you have asked for a {kind} of {lane}/{seq} before");
            return Err(Failure::new(what)
                .because(format!("at {}: {}", said.value.at, one_line(&said.value.reason)))
                .hint("one is all that counts; the other governors can add theirs"));
        }
        let objection = Objection {
            network: session.network(),
            group,
            governor: me.clone(),
            statement: id,
            lane: statement.lane,
            seq: statement.seq,
            reason: self.reason,
            at: context.now(),
        };
        Ok((objection, policy.clone()))
    }
}

impl Veto {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let mut session = Session::open(context)?;
        let (objection, policy) = self.against.objection(VetoObject::KIND, &session, context)?;
        let needed = veto_least(policy.board.threshold().0, policy.board.size());
        let (place, id) = (format!("{}/{}", objection.lane, objection.seq), objection.statement);
        let recovery =
            session.desk.archive().recoveries().waiting().any(|waiting| waiting.id() == id);
        let envelope = VetoObject(objection).to_envelope().sign(session.identity().ssh());
        session.desk.publish(&envelope)?;
        let answer = json!({
            "id": envelope.id(), "place": place, "statement": id,
            "published_to": session.desk.places(),
        });
        let text = format!("vetoed {place}: {}", id.short());
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
        let (objection, policy) = self.against.objection(PauseObject::KIND, &session, context)?;
        let holds = policy.pause();
        let (place, id) = (format!("{}/{}", objection.lane, objection.seq), objection.statement);
        let envelope = PauseObject(objection).to_envelope().sign(session.identity().ssh());
        session.desk.publish(&envelope)?;
        let answer = json!({
            "id": envelope.id(), "place": place, "statement": id, "pause_s": holds,
            "published_to": session.desk.places(),
        });
        let text = format!("paused {place}: {}", id.short());
        context.printer.answer(&answer, &text)?;
        context.printer.say(&format!(
            "Each server waits for {} from when it hears of this. It ends by itself, and there is \
             one for each governor.",
            span::words(holds)
        ));
        Ok(())
    }
}
