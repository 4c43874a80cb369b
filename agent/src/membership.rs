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
        let (now, newest, held, first, network, out) = self
            .ledger
            .run(move |l| {
                let now = unix_now().max(l.chain().now_floor());
                let held = l.timely_join_of(&me, now);
                (now, l.join_of(&me), held, l.first_join(&me), l.chain().network(), l.out(&me))
            })
            .await;
        if out.is_some() {
            return Ok(Vec::new());
        }
        // What is dated later was made by a clock that was ahead: nobody else takes it before its time, and
        // another one replaces it at once. None replaces a first record.
        let latest = now.plus(AHEAD_MAX);
        let ahead =
            newest.is_some_and(|join| join.issued > latest && first.as_ref() != Some(&join));
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
        let envelope = self.sign(&join, held.is_none());
        match self.ledger.run(move |ledger| ledger.admit(envelope, "this node")).await {
            Admission::Admitted(all) => {
                info!(
                    BORGIOS_EVENT = "join_record",
                    BORGIOS_NODE = %me,
                    first = held.is_none(),
                    "made a join record"
                );
                Ok(all)
            }
            Admission::Known => Ok(Vec::new()),
            // The one in hand does until the next look; the tree must not wait for a better one.
            Admission::Deferred { why, .. } | Admission::Refused { why, .. } if good => {
                warn!(BORGIOS_EVENT = "join_failed", "keeps its join record: {why}");
                Ok(Vec::new())
            }
            Admission::Deferred { why, .. } | Admission::Refused { why, .. } => Err(why),
            Admission::Disk(why) => Err(why),
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
        // From here on only renewals are made: the token is not needed any more.
        self.invitation = None;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pace) => {}
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
mod tests {
    use borgios_policy::fixture::{Council, statement as draft};
    use borgios_policy::{Invitation, Lane, Ruling, Statement};
    use borgios_types::{Seq, UnixSeconds};
    use serde_json::json;

    use super::*;
    use crate::ledger::Ledger;

    /// An invitation file of the network that begins with `first`.
    fn file(council: &Council, first: &Envelope, chain: &[&Envelope]) -> serde_json::Value {
        let token = SecretKey::from_seed([9; 32]);
        let invitation = Invitation {
            network: first.id(),
            token: token.public(),
            uses: 1,
            issued: unix_now(),
            expires: unix_now().plus(3_600),
        };
        json!({
            "invitation": invitation.to_envelope().sign(&council.keys[&council.name(0)]),
            "token": token.to_openssh("token").as_str(),
            "network": first.id(),
            "name": "test",
            "members": [],
            "allowed_signers": "",
            "chain": chain,
            "policy": {"seq": 1, "id": first.id()},
        })
    }

    /// The clock was a month ahead for a moment, as before a server hears of the time. Once it is right the
    /// record of then keeps no other one out.
    #[tokio::test]
    async fn a_record_of_a_clock_that_was_ahead_is_replaced_once_it_is_right() {
        let council = Council::new(3, 2, 1, 1);
        let body = council.policy(2).to_body();
        let draft = draft(Lane::Policy, 1, None, None, None, body);
        let first = council.sign(&Statement {
            issued: unix_now(),
            expires: unix_now().plus(86_400),
            ..draft
        });
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("invite.json");
        std::fs::write(&path, file(&council, &first, &[&first]).to_string()).unwrap();
        let ledger = Ledger::open(&folder.path().join("state"), 0).unwrap();
        let ledger = LedgerHandle::spawn(ledger).unwrap();
        let invited = accept(&path, &ledger).await.unwrap().unwrap();
        let settings = Settings::below(folder.path(), "web-1".parse().unwrap());
        let (key, keeper) = (SecretKey::from_seed([70; 32]), SecretKey::from_seed([71; 32]));
        let (me, keeper) = (key.public(), keeper.public());
        let view = tokio::sync::watch::channel(None).1;
        let membership =
            Membership::new(key.clone(), &settings, Some(&invited), ledger.clone(), view).unwrap();
        assert_eq!(membership.renew_if_due(keeper).await.unwrap().len(), 1);
        assert_eq!(membership.renew_if_due(keeper).await.unwrap().len(), 0, "not due");

        let held = ledger.run(move |l| l.join_of(&me)).await.unwrap();
        let then = unix_now().plus(30 * 86_400);
        let join = Join { issued: then, expires: then.plus(membership.life), ..held };
        let ahead = join.to_envelope().sign(&key);
        let copy = ahead.clone();
        let refused = ledger.run(move |l| l.admit(copy, "this node")).await;
        assert!(matches!(refused, Admission::Refused { code: "bad_date", .. }), "{refused:?}");
        // As it entered by the clock of then.
        let id = ahead.id();
        ledger.run(move |l| l.store.put(ahead, me.to_string(), then.0)).await.unwrap();
        let made = membership.renew_if_due(keeper).await.unwrap();
        assert_eq!(made.len(), 1, "due, though the record of then is none that lapses soon");
        assert_eq!(made[0].forgotten, [id]);
        let now = ledger.run(move |l| l.join_of(&me)).await.unwrap();
        assert!(now.issued <= unix_now().plus(AHEAD_MAX));
        assert_eq!(membership.renew_if_due(keeper).await.unwrap().len(), 0, "not due");
    }

    /// The file of a newcomer that starts again holds what a ruling since has taken its place from.
    #[tokio::test]
    async fn an_invitation_is_followed_again_after_a_ruling() {
        let council = Council::new(3, 2, 1, 1);
        let dated = |statement: Statement| {
            let dated =
                Statement { issued: unix_now(), expires: unix_now().plus(86_400), ..statement };
            council.sign(&dated)
        };
        let body = council.policy(2).to_body();
        let first = dated(draft(Lane::Policy, 1, None, None, None, body));
        let network = Some(first.id());
        let component = json!({"name": "app", "digest": Digest::of(b"app"), "size": 3});
        let installer = json!({"digest": Digest::of(b"app"), "size": 3});
        let release = json!({
            "version": "1", "components": [component], "installer": installer, "floor": 1,
        });
        let overruled = dated(draft(Lane::Release, 1, network, None, Some(1), release));
        let mut rules = council.policy(2);
        rules.rulings = vec![Ruling::new(Lane::Release, Seq(1), None)];
        let ruling = dated(draft(Lane::Policy, 2, network, network, Some(1), rules.to_body()));
        let file = file(&council, &first, &[&first, &overruled]);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("invite.json");
        std::fs::write(&path, file.to_string()).unwrap();
        let ledger = Ledger::open(&folder.path().join("state"), 0).unwrap();
        let ledger = LedgerHandle::spawn(ledger).unwrap();
        assert!(accept(&path, &ledger).await.unwrap().is_some());
        let applied = ledger.run(move |ledger| ledger.admit(ruling, "a neighbour")).await;
        assert!(matches!(applied, Admission::Admitted(_)), "{applied:?}");
        assert!(accept(&path, &ledger).await.unwrap().is_some());
        assert_eq!(ledger.run(|l| l.chain().head_seq(Lane::Policy)).await, Seq(2));
    }

    const DAY: u64 = 86_400;

    /// A server that joined two days ago, below `folder`; its board, its key, and its first record.
    fn joined(folder: &Path) -> (Council, Ledger, SecretKey, Join) {
        let council = Council::new(3, 2, 1, 1);
        let body = council.policy(2).to_body();
        let first = draft(Lane::Policy, 1, None, None, None, body);
        let now = unix_now();
        let begun = UnixSeconds(now.0 - 2 * DAY);
        let first = council.sign(&Statement { issued: begun, expires: now.plus(DAY), ..first });
        let [key, keeper, token] = [7, 8, 9].map(|seed| SecretKey::from_seed([seed; 32]));
        let invitation = Invitation {
            network: first.id(),
            token: token.public(),
            uses: 1,
            issued: begun,
            expires: now.plus(DAY),
        };
        let invitation = invitation.to_envelope().sign(&council.keys[&council.name(0)]);
        let join = Join {
            network: first.id(),
            node: key.public(),
            keeper: keeper.public(),
            name: "web-1".parse().unwrap(),
            address: None,
            owner: None,
            invitation: invitation.id(),
            issued: begun,
            expires: begun.plus(7 * DAY),
        };
        let mut ledger = Ledger::open(folder, 7 * DAY).unwrap();
        ledger.pin(first.id()).unwrap();
        let record = join.to_envelope().sign(&key).sign(&token);
        for envelope in [first, invitation, record] {
            let admitted = ledger.admit(envelope, "a test");
            assert!(matches!(admitted, Admission::Admitted(_)), "{admitted:?}");
        }
        (council, ledger, key, join)
    }

    /// A renewal of `first` of another time.
    fn renewal(first: &Join, issued: UnixSeconds) -> Join {
        Join { issued, expires: issued.plus(7 * DAY), ..first.clone() }
    }

    /// The membership of a server that [`joined`].
    fn member(ledger: Ledger, key: SecretKey, renew_after: u64) -> Membership {
        Membership {
            key,
            name: "web-1".parse().unwrap(),
            address: None,
            owner: None,
            life: 7 * DAY,
            renew_after,
            invitation: None,
            ledger: LedgerHandle::spawn(ledger).unwrap(),
            keeper: tokio::sync::watch::channel(None).1,
        }
    }

    /// A clock that was ahead for a while, as at a boot, made a renewal that nobody else takes.
    #[tokio::test]
    async fn a_record_of_a_clock_that_was_ahead_gives_way_once_it_is_right() {
        let folder = tempfile::tempdir().unwrap();
        let (_, mut ledger, key, first) = joined(folder.path());
        let (me, now) = (key.public(), unix_now());
        // As if the clock had let it in.
        let ahead = now.plus(40 * DAY);
        let record = renewal(&first, ahead).to_envelope().sign(&key);
        ledger.store.put(record, me.to_string(), ahead.0).unwrap();
        assert_eq!(ledger.join_of(&me).unwrap().issued, ahead);
        let membership = member(ledger, key, DAY);
        let gone = membership.ledger.run(move |l| l.set_aside_ahead(&me, unix_now())).await;
        assert_eq!(gone.len(), 1);
        assert_eq!(membership.renew_if_due(first.keeper).await.unwrap().len(), 1);
        let held = membership.ledger.run(move |l| l.join_of(&me)).await.unwrap();
        assert!(held.issued < now.plus(DAY), "{}", held.issued);
        // The first record stays, whatever its date, and what is in date too.
        let again = membership.ledger.run(move |l| l.set_aside_ahead(&me, UnixSeconds(0))).await;
        assert_eq!(again.len(), 1, "the renewal; the newest statement is older");
        assert!(membership.ledger.run(move |l| l.first_join(&me)).await.is_some());
    }

    /// A clock that is weeks behind the newest statement, as before it was set, makes no record of its own
    /// time, which would have lapsed: the server would try for ever, and come into no tree.
    #[tokio::test]
    async fn a_clock_that_is_behind_the_newest_statement_makes_no_record_of_the_past() {
        let folder = tempfile::tempdir().unwrap();
        let (council, mut ledger, key, first) = joined(folder.path());
        let (me, newest) = (key.public(), unix_now().plus(20 * DAY));
        let network = Some(first.network);
        let body = council.policy(2).to_body();
        let next = draft(Lane::Policy, 2, network, network, Some(1), body);
        let next = Statement { issued: newest, expires: newest.plus(DAY), ..next };
        let record = renewal(&first, UnixSeconds(newest.0 - 3_600));
        let envelopes = [council.sign(&next), record.to_envelope().sign(&key)];
        for envelope in envelopes {
            let admitted = ledger.admit(envelope, "a test");
            assert!(matches!(admitted, Admission::Admitted(_)), "{admitted:?}");
        }
        let membership = member(ledger, key, DAY);
        assert_eq!(membership.renew_if_due(first.keeper).await.unwrap().len(), 0, "not due");
        // Where one is due, it is of the time of that statement.
        let membership = Membership { renew_after: 60, ..membership };
        assert_eq!(membership.renew_if_due(first.keeper).await.unwrap().len(), 1);
        let held = membership.ledger.run(move |l| l.join_of(&me)).await.unwrap();
        assert_eq!(held.issued, newest);
    }

    /// A record that another one was to replace only for its date does where that one is not taken.
    #[tokio::test]
    async fn a_good_record_does_where_none_can_be_made_in_the_place_of_one_ahead() {
        let folder = tempfile::tempdir().unwrap();
        let (_, mut ledger, key, first) = joined(folder.path());
        let ahead = unix_now().plus(40 * DAY);
        let record = renewal(&first, ahead).to_envelope().sign(&key);
        ledger.store.put(record, key.public().to_string(), ahead.0).unwrap();
        ledger.remove(&[first.invitation]);
        let (keeper, other) = (first.keeper, first.node);
        let membership = member(ledger, key, 3 * DAY);
        assert_eq!(membership.renew_if_due(keeper).await.unwrap().len(), 0);
        assert!(membership.renew_if_due(other).await.is_err(), "it names another keeper");
    }
}
