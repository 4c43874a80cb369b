//! `borgios propose policy`: new rules for the same board. A change of the board needs a new
//! group key and comes with a later issue.

use borgios_policy::{Class, Lane, Policy as Rules};
use clap::Args;

use crate::commands::policy_rules;
use crate::commands::propose::{Terms, propose};
use crate::context::Context;
use crate::failure::{Failure, OrFail as _};
use crate::rulings;
use crate::session::Session;
use crate::unity;

/// New rules for the same board
#[derive(Debug, Args)]
pub(crate) struct Policy {
    /// Most children of a node in the tree
    #[arg(long, value_name = "K")]
    fanout: Option<u16>,
    /// Approvals that policies and releases need; the threshold at least
    #[arg(long, value_name = "N")]
    approvals: Option<u16>,
    /// Approvals that policies need
    #[arg(long, value_name = "N", conflicts_with = "approvals")]
    policy_approvals: Option<u16>,
    /// Approvals that releases need
    #[arg(long, value_name = "N", conflicts_with = "approvals")]
    release_approvals: Option<u16>,
    /// Approvals that schedules of the shared root credential need
    #[arg(long, value_name = "N")]
    credential_approvals: Option<u16>,
    /// Approvals that evictions need
    #[arg(long, value_name = "N")]
    member_approvals: Option<u16>,
    /// Approvals that grants, revocations and reveals need
    #[arg(long, value_name = "N")]
    access_approvals: Option<u16>,
    /// Approvals that a grant needs which a node obeys though no other member saw it
    #[arg(long, value_name = "N")]
    offline_approvals: Option<u16>,
    /// How many other members must have seen a grant before its node obeys it
    #[arg(long, value_name = "N")]
    witnesses: Option<u16>,
    /// The same rules with a new date, where nothing else is to change
    #[arg(long)]
    renew: bool,
    #[command(flatten)]
    rules: policy_rules::Rules,
    #[command(flatten)]
    terms: Terms,
}

impl Policy {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let mut session = Session::open(context)?;
        let in_force = session.desk.archive().chain().policy().cloned();
        let mut rules: Rules = in_force.ok_or_else(|| Failure::new("no policy is known here"))?;
        // What the policy in force settled or united is done, and not a rule.
        rules.rulings.clear();
        rules.unites.clear();
        let before = rules.clone();
        if let Some(fanout) = self.fanout {
            rules.fanout = fanout;
        }
        if let Some(approvals) = self.policy_approvals.or(self.approvals) {
            rules.classes.policy.approvals = approvals;
        }
        if let Some(approvals) = self.release_approvals.or(self.approvals) {
            rules.classes.release.approvals = approvals;
        }
        let classes = &mut rules.classes;
        for (class, approvals) in [
            (&mut classes.credential, self.credential_approvals),
            (&mut classes.member, self.member_approvals),
            (&mut classes.access, self.access_approvals),
            (&mut classes.offline, self.offline_approvals),
        ] {
            if let Some(approvals) = approvals {
                *class = Some(Class { approvals, ..class.unwrap_or(Class::of(approvals)) });
            }
        }
        if self.witnesses.is_some() {
            rules.witnesses = self.witnesses;
        }
        let paper = self.rules.paper(session.network())?;
        self.rules.apply(paper.as_ref(), &mut rules)?;
        let own = rules.rulings.clone();
        unity::unite(&session.desk, &mut rules)?;
        if rules == before && !self.renew {
            return Err(Failure::usage("this policy would change nothing").hint(
                "give a new value, such as `--fanout K` or `--lock release=48h`; `--renew` proposes the \
                 same rules with a new date",
            ));
        }
        rules.validate().or_fail(|| "these rules cannot be proposed")?;
        rulings::refuse_moot(&session.desk, &own, self.rules.even_if_decided)?;
        if let Some(paper) = paper {
            // Who reviews it finds who holds the key.
            session.desk.publish_paper(paper)?;
        }
        propose(context, &mut session, Lane::Policy, rules.to_body(), self.terms)
    }
}
