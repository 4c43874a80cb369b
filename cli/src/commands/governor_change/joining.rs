//! `borgios governor change` by who is on no board yet: the card is laid, and a plan that holds it says for
//! which network it is.

use std::path::Path;

use borgios_policy::change::{Standing, newest, plans};
use borgios_policy::{Card, Chain, Lane, RecoveryBoard, Submission};
use borgios_types::{Digest, Envelope, Seq, UnixSeconds};
use serde_json::json;

use super::{Look, Run};
use crate::archive::recoveries;
use crate::ceremony;
use crate::context::{Context, Membership};
use crate::durable;
use crate::failure::{Failure, OrFail as _};
use crate::identity::Identity;
use crate::transport::folder::Folder;
use crate::transport::{KINDS, Transport as _};

/// Newest policies upon which a plan is looked for: few can have been taken back in a row.
const POLICIES_MAX: usize = 16;

impl Run {
    /// Who governs nothing yet: lays the card, and learns from a plan which network it is for. What
    /// the folder says is believed only once the roster, which names the network, is confirmed.
    pub(super) fn look_as_newcomer(
        &self,
        context: &Context,
        folder: &Path,
        identity: &Identity,
        card: &Card,
        confirmed: Option<Digest>,
    ) -> Result<Look, Failure> {
        let _lock = context.lock()?;
        let files = ceremony::read_files(folder)?;
        let file = format!("{}.card.json", card.name);
        // That of an identity which was lost may lie there.
        let text = identity.card().to_json().into_bytes();
        if files.get(&file) != Some(&text) {
            durable::write_public(&folder.join(&file), &text)?;
        }
        let fetched = Folder::at(folder)?.fetch(&KINDS, &|_| false)?.envelopes;
        let recovery = self.change.common.recovery;
        let mut mine = plans(&files, recovery);
        mine.retain(|plan| plan.governors.contains(card));
        mine.sort_by_key(|plan| (plan.network, plan.epoch, plan.attempt));
        mine.dedup_by_key(|plan| plan.network);
        // The chain may have gone through a recovery key's policy. The plan names the key that it
        // replaces, and all compare the plan: so that is the chain that counts.
        let tries = mine.iter().flat_map(|plan| [(plan.network, false), (plan.network, true)]);
        let mut policies = Vec::new();
        for (network, recovered) in tries {
            let chain = chain_of(network, recovered, &fetched, context.now());
            let seqs = (1..=chain.head_seq(Lane::Policy).0).rev().map(Seq).take(POLICIES_MAX);
            policies.extend(
                seqs.filter_map(|seq| Some((chain.policy_at(seq)?.clone(), chain.clone()))),
            );
        }
        // Policies that vetoes took back are among them: the newest upon which somebody plans counts.
        for (policy, chain) in policies {
            let Some(network) = chain.network() else { continue };
            let paper = policy.recovery.filter(|_| recovery).and_then(|rule| {
                let mut papers =
                    fetched.iter().filter_map(|one| RecoveryBoard::verify(network, one).ok());
                papers.find(|paper| paper.board().group() == rule.group)
            });
            if recovery && paper.is_none() {
                continue;
            }
            let recovery = paper.as_ref().map(RecoveryBoard::board);
            let standing = Standing { network, board: &policy.board, recovery };
            let Ok(Some((plan, _, _))) = newest(standing, &files) else { continue };
            if !plan.governors.contains(card) {
                continue;
            }
            if confirmed != Some(plan.roster()) {
                return Ok(Look::Confirm(Box::new(plan)));
            }
            let through = chain.after(Lane::Policy, Seq(0)).filter(|one| one.is_recovered());
            recoveries::accept(&context.home, &through.map(|one| one.id()).collect::<Vec<_>>())?;
            // The roster names the network: from here on this folder belongs to it.
            let given = self.change.common.name.clone();
            let name = given.map_or_else(|| ceremony::short_name(network), Ok)?;
            let text = serde_json::to_vec_pretty(&Membership { network, name, recovery: None })
                .or_fail(|| "could not encode")?;
            durable::write(&context.home.governor("board.json"), &text)?;
            return Ok(Look::Again);
        }
        let text = format!(
            "your card is in the folder; a governor runs `borgios governor change --exchange DIR \
             --add {}`, then run this again",
            folder.join(&file).display()
        );
        Ok(Look::Waiting { answer: json!({"status": "no_plan", "card": file}), text })
    }
}

/// The chain of a network as it was fetched, through the policies of recovery keys or not.
fn chain_of(network: Digest, recovered: bool, fetched: &[Envelope], now: UnixSeconds) -> Chain {
    let mut chain = Chain::new(Some(network));
    let policies = fetched.iter().filter(|one| recovered && one.kind == Lane::Policy.kind());
    policies.for_each(|one| chain.ripen(one.id()));
    let submissions = Submission::sort(fetched.iter().cloned());
    for verified in chain.verify_run(now, &submissions).accepted {
        chain.apply(verified);
    }
    chain
}
