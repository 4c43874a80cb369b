//! What recovery boards leave in an archive: their papers, their policies that wait, and which of those
//! came into force.
//!
//! ```text
//! objects/recovery/<hex>.json   papers, and policies that a recovery key and the new board signed
//! governor/recoveries.json      ids of those of which this governor said: servers are past its lock
//! ```
//!
//! A laptop hears no silence, so it cannot tell whether a recovery key's policy counts. It keeps such
//! a policy apart, and takes it into its chain once its governor says so.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use borgios_policy::{
    Chain, Lane, Policy, RecoveryBoard, Refusal, Statement, Verdict, VerifiedStatement,
};
use borgios_types::limits::ENVELOPE_MAX;
use borgios_types::{Digest, Envelope, PublicKey, Seq};

use super::Archive;
use crate::durable;
use crate::failure::{Failure, OrFail as _};
use crate::home::Home;

/// Most papers kept: one for each recovery key that a policy ever named.
const PAPERS_MAX: usize = 16;
/// Most policies of recovery keys that wait: each bears a threshold's signature, so two are an alarm.
const WAITING_MAX: usize = 4;
/// Largest `recoveries.json`, in bytes.
const ACCEPTED_MAX: usize = 64 * 1024;

/// Papers and what waits.
#[derive(Debug, Default)]
pub(crate) struct Recoveries {
    papers: BTreeMap<PublicKey, RecoveryBoard>,
    waiting: BTreeMap<Digest, VerifiedStatement>,
}

impl Recoveries {
    /// What is `kept` on the disk, as far as it holds.
    pub(super) fn of(network: Digest, chain: &Chain, kept: &[Envelope]) -> Self {
        let mut all = Self::default();
        for envelope in kept {
            if let Ok(paper) = RecoveryBoard::verify(network, envelope) {
                all.papers.insert(paper.board().group(), paper);
            } else if let Some(verified) = waits(chain, envelope) {
                all.waiting.insert(verified.id(), verified);
            }
        }
        all
    }

    /// Every paper.
    pub(crate) fn papers(&self) -> impl Iterator<Item = &RecoveryBoard> {
        self.papers.values()
    }

    /// Every policy of a recovery key that waits.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = &VerifiedStatement> {
        self.waiting.values()
    }

    /// All of it, for other folders.
    pub(crate) fn envelopes(&self) -> impl Iterator<Item = &Envelope> {
        let papers = self.papers().map(RecoveryBoard::envelope);
        papers.chain(self.waiting().map(VerifiedStatement::envelope))
    }
}

/// The policy in `envelope`, if it follows the chain and lacks nothing but the silence of the board.
fn waits(chain: &Chain, envelope: &Envelope) -> Option<VerifiedStatement> {
    let Err(Refusal::Recovery { .. }) = chain.verify_stored(envelope, &[]) else { return None };
    let mut ripe = chain.clone();
    ripe.ripen(envelope.id());
    match ripe.verify_stored(envelope, &[]) {
        Ok(Verdict::New(verified)) => Some(*verified),
        Ok(Verdict::AlreadyKnown(_)) | Err(_) => None,
    }
}

fn folder(home: &Home) -> PathBuf {
    home.root().join("objects").join("recovery")
}

/// What was kept, not verified.
pub(super) fn read(home: &Home) -> Result<Vec<Envelope>, Failure> {
    let mut envelopes = Vec::new();
    for path in durable::list(&folder(home))? {
        if path.extension().is_some_and(|extension| extension == "json") {
            let bytes = durable::read(&path, ENVELOPE_MAX)?.unwrap_or_default();
            envelopes.extend(Envelope::parse(&bytes).ok());
        }
    }
    Ok(envelopes)
}

/// Keeps a paper, or a policy that waits.
pub(crate) fn store(home: &Home, envelope: &Envelope) -> Result<(), Failure> {
    durable::folder(&folder(home))?;
    let path = folder(home).join(format!("{}.json", envelope.id().hex()));
    durable::write(&path, envelope.to_json().as_bytes())
}

/// The policies of recovery keys that came into force, as this governor said.
pub(crate) fn accepted(home: &Home) -> Result<BTreeSet<Digest>, Failure> {
    let path = home.governor("recoveries.json");
    let Some(bytes) = durable::read(&path, ACCEPTED_MAX)? else { return Ok(BTreeSet::new()) };
    serde_json::from_slice(&bytes).or_fail(|| format!("{} is damaged", path.display()))
}

/// Notes that these came into force.
pub(crate) fn accept(home: &Home, ids: &[Digest]) -> Result<(), Failure> {
    let mut all = accepted(home)?;
    let before = all.len();
    all.extend(ids);
    if all.len() == before {
        return Ok(());
    }
    let text = serde_json::to_vec(&all).or_fail(|| "could not encode what came into force")?;
    durable::write(&home.governor("recoveries.json"), &text)
}

impl Archive {
    /// Papers, and policies that wait.
    pub(crate) fn recoveries(&self) -> &Recoveries {
        &self.recoveries
    }

    /// The recovery board whose key the policy in force names, if its paper is here.
    pub(crate) fn recovery_board(&self) -> Option<&RecoveryBoard> {
        self.recoveries.papers.get(&self.chain.policy()?.recovery?.group)
    }

    /// Takes an own paper, or that of a board which is about to be named.
    pub(crate) fn keep_paper(&mut self, paper: RecoveryBoard) -> Result<(), Failure> {
        store(&self.home, paper.envelope())?;
        self.recoveries.papers.insert(paper.board().group(), paper);
        Ok(())
    }

    /// Keeps those of `papers` whose keys a policy names, or is to name.
    pub(super) fn keep_named(
        &mut self,
        papers: &[RecoveryBoard],
        new: &mut Vec<Digest>,
    ) -> Result<(), Failure> {
        for paper in papers {
            let group = paper.board().group();
            if self.recoveries.papers.contains_key(&group) || !self.is_named(group) {
                continue;
            }
            if self.recoveries.papers.len() >= PAPERS_MAX {
                // What only a proposal names makes room for what a policy does.
                let in_chain = self.recovery_keys();
                let mut others =
                    self.recoveries.papers.keys().filter(|key| !in_chain.contains(key));
                let Some(other) = others.next().copied().filter(|_| in_chain.contains(&group))
                else {
                    continue;
                };
                if let Some(gone) = self.recoveries.papers.remove(&other) {
                    let path = folder(&self.home).join(format!("{}.json", gone.id().hex()));
                    durable::erase(&path)?;
                }
            }
            self.keep_paper(paper.clone())?;
            new.push(paper.id());
        }
        Ok(())
    }

    /// The recovery keys that policies of the chain name.
    pub(super) fn recovery_keys(&self) -> BTreeSet<PublicKey> {
        let policies = self.chain.after(Lane::Policy, Seq(0)).filter_map(VerifiedStatement::policy);
        policies.filter_map(|policy| Some(policy.recovery?.group)).collect()
    }

    fn is_named(&self, group: PublicKey) -> bool {
        let names = |policy: &Policy| policy.recovery.is_some_and(|rule| rule.group == group);
        let mut policies =
            self.chain.after(Lane::Policy, Seq(0)).filter_map(VerifiedStatement::policy);
        let proposed = || {
            let of_policies =
                self.proposals.values().filter(|held| held.value.lane == Lane::Policy);
            let bodies = of_policies.filter_map(|held| held.value.parse_statement().ok());
            // To check a policy costs a check of its board: not of each that names another key.
            let key = serde_json::json!(group);
            let mut bodies = bodies.filter(|one| one.body["recovery"]["group"] == key);
            bodies.any(|one| Policy::parse(&one.body).is_ok_and(|policy| names(&policy)))
        };
        policies.any(names) || proposed()
    }

    /// Keeps a policy of a recovery key that lacks nothing but the silence; whether it is one, and new.
    pub(super) fn keep_waiting(&mut self, envelope: &Envelope) -> Result<Option<bool>, Failure> {
        let Some(verified) = waits(&self.chain, envelope) else { return Ok(None) };
        if self.recoveries.waiting.contains_key(&verified.id()) {
            return Ok(Some(false));
        }
        if self.recoveries.waiting.len() >= WAITING_MAX {
            return Ok(None);
        }
        store(&self.home, envelope)?;
        self.recoveries.waiting.insert(verified.id(), verified);
        Ok(Some(true))
    }

    /// Takes a policy of a recovery key into the chain: its governor knows that it came into force.
    pub(crate) fn accept_recovery(&mut self, id: Digest) -> Result<(), Failure> {
        // Whoever judges at the same time goes on with the old board, or has stored before this reads.
        let _lock = self.home.admitting()?;
        self.read_anew_if_changed()?;
        let network = self.chain.network().ok_or_else(|| Failure::new("no network is known"))?;
        if self.in_force.contains(&id) {
            return Ok(());
        }
        if !self.recoveries.waiting.contains_key(&id) {
            return Err(Failure::new(format!("no policy of a recovery key waits here as {id}"))
                .hint(
                    "give the whole id, as `borgios status` of a server shows it, and a folder or \
                     node that has it",
                ));
        }
        accept(&self.home, &[id])?;
        *self = Self::load(&self.home.clone(), network)?;
        Ok(())
    }
}

/// The papers of recovery boards among what was offered as statements, and the rest.
///
/// Anybody can found a board for this network, and a paper takes no signature but its own. So those whose
/// keys policies of the network name come first, whatever else lies in a folder.
pub(super) fn papers(
    network: Option<Digest>,
    named: &BTreeSet<PublicKey>,
    statements: Vec<Envelope>,
) -> (Vec<RecoveryBoard>, Vec<Envelope>) {
    let Some(network) = network else { return (Vec::new(), statements) };
    let (mut firsts, mut rest) = (Vec::new(), Vec::new());
    for envelope in statements {
        // Checking a board costs something: only what is no policy of this network is tried.
        let first = Statement::parse(&envelope)
            .ok()
            .filter(|one| (one.lane, one.seq) == (Lane::Policy, Seq(1)))
            .filter(|_| envelope.id() != network);
        match first.map(|one| serde_json::from_value(one.body["board"]["group"].clone())) {
            Some(group) => {
                let known = group.is_ok_and(|group: PublicKey| named.contains(&group));
                firsts.push((!known, envelope));
            }
            None => rest.push(envelope),
        }
    }
    firsts.sort_by_key(|(unknown, _)| *unknown);
    let mut papers = Vec::new();
    for (_, envelope) in firsts {
        match RecoveryBoard::verify(network, &envelope) {
            Ok(paper) if papers.len() < PAPERS_MAX => papers.push(paper),
            Ok(_) => {}
            Err(_) => rest.push(envelope),
        }
    }
    (papers, rest)
}

#[cfg(test)]
mod tests {
    use borgios_policy::fixture::{Council, NOW};

    use super::*;

    /// It goes on with the board that is in force then, and stores nothing of the one before.
    #[test]
    fn what_came_into_force_meanwhile_counts_for_a_command_that_only_looks() {
        let council = Council::new(3, 2, 1, 1);
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(Some(folder.path().to_owned())).unwrap();
        let first = council.sign(&council.first_policy(2));
        let mut looks = Archive::load(&home, first.id()).unwrap();
        looks.admit(NOW, vec![first]).unwrap();
        durable::folder(&home.governor("")).unwrap();
        let id = Digest::of(b"a recovery key's policy");
        accept(&home, &[id]).unwrap();
        assert!(looks.in_force.is_empty());
        looks.admit(NOW, Vec::new()).unwrap();
        assert_eq!(looks.in_force, BTreeSet::from([id]));
    }
}
