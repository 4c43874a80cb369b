//! How a server becomes and stays a member: invitation, first join record, renewals.
//!
//! ```text
//! invite.json ─▶ pin the network, follow its chain ─▶ keeper's key known ─▶ first record
//!    │                                                 (signed by node key and token)
//!    └── shredded once this node has a place in the tree      │
//!                                         every day a renewal, signed by the node key alone
//! ```

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use borgios_peertree::Contact;
use borgios_policy::{InvitationFile, Join, Name, Object as _};
use borgios_types::limits::ENVELOPE_MAX;
use borgios_types::{Digest, Envelope, PublicKey, SecretKey};
use thiserror::Error;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::admission::AHEAD_MAX;
use crate::clock::unix_now;
use crate::disk;
use crate::keeper_watch::KeeperView;
use crate::ledger::{Admission, Admitted};
use crate::ledger_handle::LedgerHandle;
use crate::roll::Forgotten;
use crate::settings::Settings;
use crate::tree_handle::TreeHandle;

/// Longest invitation file, in bytes: a few envelopes and a chain of about a thousand statements.
const FILE_MAX: usize = 32 * ENVELOPE_MAX;
/// Why an invitation file is of no use.
#[derive(Debug, Error)]
pub enum InviteError {
    /// It cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Not an invitation file.
    #[error("{path} is no invitation file")]
    Shape {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// Another fleet than this server's, or the disk.
    #[error("the invitation cannot be followed")]
    Pin(#[source] io::Error),
    /// What it holds does not verify.
    #[error("the invitation's {what} is refused: {code}: {why}")]
    Refused {
        /// Which part.
        what: String,
        /// The rule.
        code: &'static str,
        /// The values.
        why: String,
    },
    /// It pins a policy that its chain does not lead to.
    #[error("the invitation pins policy/{seq} {id}, which its chain does not hold")]
    Policy {
        /// The number.
        seq: u64,
        /// The id.
        id: Digest,
    },
}

/// Reads an invitation file, if there is one, and follows its chain.
///
/// # Errors
/// See [`InviteError`].
pub async fn accept(
    path: &Path,
    ledger: &LedgerHandle,
) -> Result<Option<InvitationFile>, InviteError> {
    let bytes = match disk::read_bounded(path, FILE_MAX) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(InviteError::Read { path: path.to_owned(), source }),
    };
    let file: InvitationFile = serde_json::from_slice(&bytes)
        .map_err(|source| InviteError::Shape { path: path.to_owned(), source })?;
    let network = file.network;
    ledger.run(move |ledger| ledger.pin(network)).await.map_err(InviteError::Pin)?;
    // Who invites vouches for what the file brings: a newcomer has nothing yet that a lock could
    // protect, and could not join under rules that it holds back.
    let vouched: BTreeSet<Digest> = file.chain.iter().map(Envelope::id).collect();
    ledger.run(move |ledger| ledger.vouch(vouched)).await;
    for envelope in file.chain.iter().chain([&file.invitation]).cloned() {
        let what = format!("{} {}", envelope.kind, envelope.id().short());
        match ledger.run(move |ledger| ledger.admit(envelope, "the invitation")).await {
            Admission::Admitted(_)
            | Admission::Known
            | Admission::Deferred { .. }
            // After a restart the chain may be further than the file, and a ruling may have given
            // its places to others. Where it leads is asked below.
            | Admission::Refused { code: "replayed" | "closed" | "rival", .. } => {}
            Admission::Refused { code, why } => return Err(InviteError::Refused { what, code, why }),
            Admission::Disk(why) => return Err(InviteError::Pin(io::Error::other(why))),
        }
    }
    ledger.run(|ledger| ledger.vouch(BTreeSet::new())).await;
    let pinned = file.policy;
    let holds = ledger
        .run(move |ledger| {
            let at = ledger.chain().get(borgios_policy::Lane::Policy, pinned.seq);
            at.is_some_and(|verified| verified.id() == pinned.id)
        })
        .await;
    if holds {
        Ok(Some(file))
    } else {
        Err(InviteError::Policy { seq: pinned.seq.0, id: pinned.id })
    }
}

/// The members an invitation names, to be dialled first.
#[must_use]
pub fn seeds(file: Option<&InvitationFile>) -> Vec<Contact> {
    let members = file.into_iter().flat_map(|file| &file.members);
    members
        .map(|member| Contact::new(member.key, member.address.clone()))
        .filter(Contact::plausible)
        .collect()
}

/// What a node's join record says of it.
pub struct Membership {
    key: SecretKey,
    name: Name,
    address: Option<String>,
    owner: Option<PublicKey>,
    life: u64,
    renew_after: u64,
    invitation: Option<(Digest, SecretKey)>,
    ledger: LedgerHandle,
    keeper: KeeperView,
}

impl Membership {
    /// The membership of the node with `key`. `file` is needed for the first record only.
    ///
    /// # Errors
    /// The file's token is no key.
    pub fn new(
        key: SecretKey,
        settings: &Settings,
        file: Option<&InvitationFile>,
        ledger: LedgerHandle,
        keeper: KeeperView,
    ) -> Result<Self, borgios_types::key::KeyError> {
        let invitation = match file {
            Some(file) => Some((file.invitation.id(), file.token_key()?)),
            None => None,
        };
        Ok(Self {
            key,
            name: settings.name.clone(),
            address: settings.advertise.clone(),
            owner: settings.owner,
            life: settings.pace.record_life.as_secs(),
            renew_after: settings.pace.renew.as_secs(),
            invitation,
            ledger,
            keeper,
        })
    }

    /// Waits for the keeper's key and makes a record if a new one is due; returns what there is to
    /// publish. Ends without a record only when `stop` does, or when this node is out.
    pub async fn ensure(&mut self, stop: &CancellationToken) -> Vec<Admitted> {
        loop {
            let known = self.keeper.wait_for(Option::is_some);
            let keeper = tokio::select! {
                () = stop.cancelled() => return Vec::new(),
                status = known => match status {
                    Ok(status) => status.as_ref().map(|status| status.keeper),
                    Err(_) => return Vec::new(),
                },
            };
            let Some(keeper) = keeper else { continue };
            match self.renew_if_due(keeper).await {
                Ok(admitted) => return admitted,
                Err(why) => warn!(BORGIOS_EVENT = "join_failed", "no join record: {why}"),
            }
            tokio::select! {
                () = stop.cancelled() => return Vec::new(),
                () = tokio::time::sleep(Duration::from_secs(5)) => {}
            }
        }
    }

    async fn renew_if_due(&self, keeper: PublicKey) -> Result<Vec<Admitted>, String> {
        let me = self.key.public();
        // By the time that records are judged by: one of a clock that is behind the newest statement would
        // have lapsed before it is made.
        let (now, is_behind, newest, first, network, out) = self
            .ledger
            .run(move |l| {
                let (clock, floor) = (unix_now(), l.chain().now_floor());
                let (newest, first) = (l.join_of(&me), l.first_join(&me));
                (clock.max(floor), clock < floor, newest, first, l.chain().network(), l.out(&me))
            })
            .await;
        // A clock that is behind the newest statement is known to be wrong, and says nothing of dates.
        let held = match is_behind {
            true => newest.clone(),
            false => self.ledger.run(move |l| l.timely_join_of(&me, now)).await,
        };
        if out.is_some() {
            return Ok(Vec::new());
        }
        // What is dated later was made by a clock that was ahead: nobody else takes it before its time, and
        // another one replaces it at once; a first record only one that the token signs as well.
        let latest = now.plus(AHEAD_MAX);
        let is_ahead = |join: &Join| !is_behind && join.issued > latest;
        let anew = self.invitation.is_some() && first.as_ref().is_some_and(is_ahead);
        let ahead =
            anew || newest.is_some_and(|join| is_ahead(&join) && first.as_ref() != Some(&join));
        let good = held.as_ref().is_some_and(|join| {
            let same =
                join.keeper == keeper && join.name == self.name && join.address == self.address;
            same && now.0 < join.issued.0.saturating_add(self.renew_after)
        });
        if good && !ahead {
            return Ok(Vec::new());
        }
        let network = network.ok_or("this server has no invitation; put one into invite.json")?;
        let invitation = match (&held, &self.invitation) {
            (_, Some((id, _))) if anew => *id,
            (Some(join), _) => join.invitation,
            (None, Some((id, _))) => *id,
            (None, None) => return Err("this server has no invitation".to_owned()),
        };
        // Two records of one second could not be told apart by date.
        let timely = held.as_ref().filter(|join| join.issued <= latest);
        let issued = timely.map_or(now, |join| now.max(join.issued.plus(1)));
        // The owner is whom the first record names.
        let owner = first.map_or(self.owner, |first| first.owner);
        let join = Join {
            network,
            node: me,
            keeper,
            name: self.name.clone(),
            address: self.address.clone(),
            owner,
            invitation,
            issued,
            expires: issued.plus(self.life),
        };
        let is_first = anew || held.is_none();
        let envelope = self.sign(&join, is_first);
        match self.ledger.run(move |ledger| ledger.admit(envelope, "this node")).await {
            Admission::Admitted(all) => {
                info!(
                    BORGIOS_EVENT = "join_record",
                    BORGIOS_NODE = %me,
                    first = is_first,
                    "made a join record"
                );
                Ok(all)
            }
            Admission::Known => Ok(Vec::new()),
            // The one in hand does until the next look; the tree must not wait for a better one.
            Admission::Deferred { why, .. }
            | Admission::Refused { why, .. }
            | Admission::Disk(why)
                if good =>
            {
                warn!(BORGIOS_EVENT = "join_failed", "keeps its join record: {why}");
                Ok(Vec::new())
            }
            Admission::Deferred { why, .. }
            | Admission::Refused { why, .. }
            | Admission::Disk(why) => Err(why),
        }
    }

    fn sign(&self, join: &Join, first: bool) -> Envelope {
        let signed = join.to_envelope().sign(&self.key);
        match &self.invitation {
            Some((_, token)) if first => signed.sign(token),
            _ => signed,
        }
    }

    /// Renews and forgets at `pace`, until `stop`. A record that a clock made which was ahead for a while
    /// goes first: it would not be due for as long, and no other node holds it.
    pub async fn keep(mut self, tree: TreeHandle, pace: Duration, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pace) => {}
            }
            // Whoever has a place was let in, and makes only renewals from here on. Until then the first record
            // may prove to be one of a clock that was ahead.
            if tree.view().borrow().attached() {
                self.invitation = None;
            }
            let now = unix_now();
            let me = self.key.public();
            let ahead = self.ledger.run(move |ledger| ledger.set_aside_ahead(&me, now)).await;
            tree.forget(ahead).await;
            let made = self.ensure(&stop).await;
            tree.publish(made).await;
            let now = unix_now();
            let Forgotten { ids, nodes } =
                self.ledger.run(move |ledger| ledger.forget_lapsed(now)).await;
            tree.forget(ids).await;
            tree.lapsed(nodes).await;
        }
    }
}

/// Shreds the invitation's secret once this node has a place in the tree, and so a neighbour that
/// accepted its record (or, as the first server, nobody to ask).
pub async fn shred_when_placed(path: PathBuf, tree: TreeHandle, stop: CancellationToken) {
    let mut view = tree.view();
    tokio::select! {
        () = stop.cancelled() => return,
        placed = view.wait_for(crate::tree_handle::View::attached) => {
            if placed.is_err() {
                return;
            }
        }
    }
    match disk::shred(&path) {
        Ok(()) => info!(BORGIOS_EVENT = "invitation_shredded", "shredded the invitation's secret"),
        Err(error) => warn!(
            BORGIOS_EVENT = "disk_failed",
            path = %path.display(),
            "cannot shred the invitation, remove it by hand: {error}"
        ),
    }
}

#[cfg(test)]
mod tests;
