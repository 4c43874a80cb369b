//! `borgios propose …`: puts the exact text of a statement to the vote.

use borgios_policy::{Lane, Object as _, Policy, Proposal, Statement};
use borgios_types::{Digest, PublicKey, Seq, UnixSeconds};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::commands::{propose_policy, propose_release};
use crate::context::Context;
use crate::desk::OpenVote;
use crate::failure::{Failure, OrFail as _};
use crate::session::Session;
use crate::succession::UnderWay;

/// How long a statement may be applied after it was written, unless it says otherwise: half a
/// year, so that a forgotten one dies and a fleet can still be installed from it.
const EXPIRES_DAYS: u64 = 180;

/// Put a release or a policy to the vote
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// A complete set of software
    Release(propose_release::Release),
    /// New rules for the same board
    Policy(propose_policy::Policy),
}

/// What every proposal takes.
#[derive(Debug, Args)]
pub(crate) struct Terms {
    /// A word to the other governors
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    /// Days until nobody may apply it any more
    #[arg(long, value_name = "DAYS", default_value_t = EXPIRES_DAYS,
          value_parser = clap::value_parser!(u64).range(1..=3650))]
    expires_days: u64,
}

impl Command {
    /// Does it.
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::Release(command) => command.run(context),
            Self::Policy(command) => command.run(context),
        }
    }
}

impl Terms {
    /// Those of a proposal that nobody gave any.
    pub(crate) fn usual(note: Option<String>) -> Self {
        Self { note, expires_days: EXPIRES_DAYS }
    }
}

/// What was put to the vote.
#[derive(Clone, Debug)]
pub(crate) struct Proposed {
    lane: Lane,
    seq: Seq,
    /// Its id.
    pub(crate) statement: Digest,
    /// For `--json`.
    pub(crate) answer: serde_json::Map<String, Value>,
    rivals: Vec<Digest>,
    /// What a change of the board that is voted on beside it makes of it.
    change: Option<String>,
}

impl Proposed {
    /// `access/3`.
    pub(crate) fn place(&self) -> String {
        format!("{}/{}", self.lane, self.seq)
    }

    /// What everybody should know, on stderr.
    pub(crate) fn talk(&self, context: &Context) {
        let (place, with) = (self.place(), context.with_exchange());
        for rival in &self.rivals {
            context.printer.warn(&format!(
                "{place} has another proposal, {}: each governor can approve one of them",
                rival.short()
            ));
        }
        if let Some(warning) = &self.change {
            context.printer.warn(warning);
        }
        context.printer.say(&format!(
            "Next: every governor runs `borgios review {place}{with}` and `borgios vote {place} \
             approve{with}`."
        ));
    }
}

/// Puts the next statement of `lane` with this body to the vote, and answers.
pub(crate) fn propose(
    context: &Context,
    session: &mut Session<'_>,
    lane: Lane,
    body: Value,
    terms: Terms,
) -> Result<(), Failure> {
    let proposed = put_to_vote(session, lane, body, terms)?;
    let text = format!("proposed {}: {}", proposed.place(), proposed.statement);
    context.printer.answer(&proposed.answer, &text)?;
    proposed.talk(context);
    Ok(())
}

/// The earliest date of what is proposed now: never earlier than what it builds upon, since a
/// laptop's clock may lag.
pub(crate) fn date(session: &Session<'_>) -> UnixSeconds {
    session.desk.context().now().max(session.desk.archive().chain().now_floor())
}

/// Makes the next statement of `lane` with this body, checks it as every node will, and publishes
/// the proposal.
pub(crate) fn put_to_vote(
    session: &mut Session<'_>,
    lane: Lane,
    body: Value,
    terms: Terms,
) -> Result<Proposed, Failure> {
    let (now, issued) = (session.desk.context().now(), date(session));
    let chain = session.desk.archive().chain();
    let seq = chain.head_seq(lane).next();
    let recovers = session.desk.membership().recovery.is_some();
    let makes_a_board = |group: PublicKey| {
        let made = Policy::parse(&body).ok().filter(|_| lane == Lane::Policy);
        made.is_some_and(|policy| policy.board.group() != group)
    };
    if recovers && !makes_a_board(session.desk.archive().board()?.group()) {
        return Err(Failure::new("a recovery board proposes nothing but the next board")
            .hint("`borgios governor change --recovery` does, once its key is made"));
    }
    let round = match recovers {
        true => session.desk.recovery_round(seq),
        false => session.desk.open_round(lane, seq)?,
    };
    let statement = Statement {
        network: Some(session.network()),
        lane,
        seq,
        round,
        prev: chain.tip(lane).map(|tip| tip.id),
        policy: Some(chain.head_seq(Lane::Policy)),
        issued,
        expires: issued.plus(terms.expires_days * 86_400),
        critical: Vec::new(),
        body,
    };
    let draft = statement.to_envelope();
    let what = || format!("{lane}/{seq} cannot be proposed: no node would obey it");
    session.desk.archive().chain().review(now, &draft).or_fail(what)?;
    let votes = session.desk.votes()?.into_iter();
    let at = |vote: &OpenVote| (vote.slot.lane, vote.slot.seq, vote.slot.round, vote.recovery);
    let here = votes.filter(|vote| at(vote) == (lane, seq, round, recovers));
    let rivals: Vec<Digest> = here.flat_map(|vote| vote.documents.into_keys()).collect();

    let (governor, statement) = (session.identity().name().clone(), draft.payload.clone());
    let proposal = Proposal { governor, statement, lane, note: terms.note };
    let envelope = proposal.to_envelope().sign(session.identity().ssh());
    session.desk.publish(&envelope)?;

    let id = draft.id();
    let answer = json!({
        "place": format!("{lane}/{seq}"), "round": round, "statement": id,
        "proposal": envelope.id(), "published_to": session.desk.places(),
    });
    let answer = answer.as_object().cloned().unwrap_or_default();
    let rivals = rivals.into_iter().filter(|rival| *rival != id).collect();
    let beside = if lane == Lane::Policy { None } else { UnderWay::of(&session.desk)? };
    let change = beside.map(|change| change.warning(lane, seq));
    Ok(Proposed { lane, seq, statement: id, answer, rivals, change })
}
