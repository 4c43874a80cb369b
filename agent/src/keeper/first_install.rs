//! A fresh server's first minute: everything between the verified installer and the first release.
//!
//! `bootstrap.sh` has checked this very program, and the components, with stock tools against the
//! key in the invitation. Here the whole chain is checked, from policy/1 on, before anything is
//! written outside the spool:
//!
//! ```text
//! invitation + bundle ─▶ 1 read ─▶ 2 chain ─▶ 3 release ─▶ 4 blobs ─▶ 5 invitation ─▶ Verified
//!                                                                                       │
//!                   pin, chain, settings, invitation, depot  ◀── Verified::write ───────┘
//! ```
//!
//! Every step can be run again: what is there already is left, or replaced by the same.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use borgios_policy::recovery::policies_to;
use borgios_policy::{
    Chain, Invitation, InvitationFile, Lane, ObjectError, Refusal, Submission, VerifiedStatement,
};
use borgios_releases::bundle::{Bundle, BundleError};
use borgios_releases::{Manifest, ManifestError};
use borgios_types::json::{self, JsonError};
use borgios_types::{Digest, PublicKey, Seq, UnixSeconds};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use super::account::Account;
use super::chain_store::{ChainStore, OpenError, SubmitError};
use super::planting;
use crate::disk;

/// Longest invitation file, in bytes: a chain of about a thousand statements.
const INVITATION_MAX: usize = 16 * 1024 * 1024;

/// What the owner's command line says.
#[derive(Clone, Debug)]
pub struct Arguments {
    /// The bundle's tar.
    pub bundle: PathBuf,
    /// The invitation file.
    pub invite: PathBuf,
    /// The server's name.
    pub name: String,
    /// `host:port` to listen on, if not the default.
    pub listen: Option<String>,
    /// `host:port` at which others can dial this server, if they can.
    pub advertise: Option<String>,
    /// The key of the server's owner, who may take it out again; the first join record names it.
    pub owner: Option<PublicKey>,
}

/// Where things go; below `/` on a real server.
#[derive(Clone, Debug)]
pub struct Folders {
    /// The keeper's own.
    pub keeper: PathBuf,
    /// borgiosd's own.
    pub agent: PathBuf,
    /// `/etc/borgios`.
    pub settings: PathBuf,
}

impl Folders {
    /// The places of the design note, below `root`.
    #[must_use]
    pub fn below(root: &Path) -> Self {
        Self {
            keeper: root.join("var/lib/borgios-keeper"),
            agent: root.join("var/lib/borgios"),
            settings: root.join("etc/borgios"),
        }
    }
}

/// Why a server did not become a member. Up to [`Verified`], nothing was changed.
#[derive(Debug, Error)]
pub enum FirstInstallError {
    /// A file cannot be read or written.
    #[error("cannot read or write {path}")]
    Disk {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The invitation file is not one.
    #[error("{path} is no invitation file; ask a governor for a new one")]
    Invitation {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: JsonError,
    },
    /// The invitation is of another network, out of date, or not signed by a governor.
    #[error("the invitation does not hold; ask a governor for a new one")]
    NotInvited(#[source] ObjectError),
    /// The token in the file is not the one the invitation names.
    #[error("the invitation's token is not the one that was signed; ask a governor for a new one")]
    Token,
    /// The bundle is not one.
    #[error("the bundle cannot be used")]
    Bundle(#[from] BundleError),
    /// The chain does not verify.
    #[error("the chain of statements does not hold")]
    Chain(#[source] Refusal),
    /// The chain does not pass through the policy that the invitation pins.
    #[error("the chain does not pass through policy/{seq} {id}, which the invitation pins")]
    Unpinned {
        /// Number of the pinned policy.
        seq: Seq,
        /// Its id.
        id: Digest,
    },
    /// The chain holds no release, or the bundle another than the chain's newest.
    #[error("the bundle's release.json is not the newest release of its chain")]
    NotTheHead,
    /// The release's body.
    #[error("the release cannot be read")]
    Manifest(#[from] ManifestError),
    /// A part that is not what the release says.
    #[error("{what} is not what the release names: expected {expected}, found {found}")]
    Artifact {
        /// Which part.
        what: String,
        /// What the release says.
        expected: String,
        /// What is there.
        found: String,
    },
    /// The keeper's store.
    #[error("the keeper's store cannot be made")]
    Store(#[from] OpenError),
    /// A statement that verified a moment ago was not taken.
    #[error("the keeper's store did not take a statement")]
    Submit(#[from] SubmitError),
}

/// A bundle and an invitation that hold, and what they say.
#[derive(Debug)]
pub struct Verified {
    invite: InvitationFile,
    submissions: Vec<Submission>,
    blobs: BTreeMap<Digest, (PathBuf, u64)>,
    release: VerifiedStatement,
    manifest: Manifest,
}

impl Verified {
    /// Reads and checks everything; blobs are spooled to `spool`, a folder of root's own.
    ///
    /// `installer` is the program that runs, whose digest the release must name too.
    ///
    /// # Errors
    /// The first check that fails.
    pub fn read(
        now: UnixSeconds,
        arguments: &Arguments,
        installer: &Path,
        spool: &Path,
    ) -> Result<Self, FirstInstallError> {
        // 1. Read, within bounds.
        let invite = read_invitation(&arguments.invite)?;
        let open = |path: &Path| {
            File::open(path)
                .map_err(|source| FirstInstallError::Disk { path: path.to_owned(), source })
        };
        let bundle = Bundle::read(io::BufReader::new(open(&arguments.bundle)?), spool)?;
        // 2. The chain, from policy/1 to the newest, through the pinned policy.
        let offered = Submission::sort(invite.chain.iter().chain(&bundle.chain).cloned());
        let mut chain = Chain::new(Some(invite.network));
        // The invitation names the policy in force, and with it every one on the way.
        let on_the_way = policies_to(invite.chain.iter().chain(&bundle.chain), invite.policy.id);
        on_the_way.into_iter().for_each(|id| chain.ripen(id));
        let run = chain.verify_run(now, &offered);
        if let Some((_, refusal)) = run.refused.into_iter().next() {
            return Err(FirstInstallError::Chain(refusal));
        }
        run.accepted.into_iter().for_each(|verified| chain.apply(verified));
        let pin = invite.policy;
        if chain.get(Lane::Policy, pin.seq).map(VerifiedStatement::id) != Some(pin.id) {
            return Err(FirstInstallError::Unpinned { seq: pin.seq, id: pin.id });
        }
        // 3. The release: the chain's newest, and the very text that stock tools have checked.
        let release = chain.head(Lane::Release).ok_or(FirstInstallError::NotTheHead)?.clone();
        if release.envelope().payload != bundle.release {
            return Err(FirstInstallError::NotTheHead);
        }
        let manifest = Manifest::parse(release.statement())?;
        // 4. Every part is what the release names, this program included.
        let own = digest_of(open(installer)?)
            .map_err(|source| FirstInstallError::Disk { path: installer.to_owned(), source })?;
        same("the running installer", manifest.installer.digest, own)?;
        same("the bundle's installer", manifest.installer.digest, bundle.installer.digest)?;
        for component in &manifest.components {
            let what = format!("component {}", component.name);
            let Some((_, size)) = bundle.blobs.get(&component.digest) else {
                return Err(FirstInstallError::Artifact {
                    what,
                    expected: component.digest.to_string(),
                    found: "nothing".to_owned(),
                });
            };
            same(&what, format!("{} bytes", component.size), format!("{size} bytes"))?;
        }
        // 5. The invitation itself, under the policy in force.
        check_invitation(now, &invite, &chain)?;
        let submissions = offered;
        Ok(Self { invite, submissions, blobs: bundle.blobs, release, manifest })
    }

    /// The release to install.
    #[must_use]
    pub fn release(&self) -> &VerifiedStatement {
        &self.release
    }

    /// What it installs.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The network's id and name.
    #[must_use]
    pub fn network(&self) -> (Digest, &str) {
        (self.invite.network, self.invite.name.as_str())
    }

    /// Writes what the two processes will find at their first start, the pin last of the
    /// keeper's things that decide, so that a run that was cut off is simply run again.
    ///
    /// # Errors
    /// Whatever the disk says; run it again.
    pub fn write(
        &self,
        arguments: &Arguments,
        folders: &Folders,
        account: Option<Account>,
    ) -> Result<(), FirstInstallError> {
        make_folder(&folders.keeper, 0o700)?;
        ChainStore::pin(&folders.keeper, self.invite.network)
            .map_err(at(folders.keeper.join("pin")))?;
        let mut store = ChainStore::open(&folders.keeper)?;
        for submission in &self.submissions {
            // All of it was verified as one run, of which only the newest must be in date; and a server
            // that has nothing yet could not join under rules that it holds back itself.
            match store.submit_history(submission) {
                // Known, and known to be older than what is known: both are there already.
                Ok(_) | Err(SubmitError::Refused(Refusal::Replayed { .. })) => {}
                // It verified as one of those on the way to the policy that the invitation names.
                Err(SubmitError::Refused(Refusal::Recovery { .. })) => {
                    let id = submission.statement.id();
                    store.vouch(id).map_err(at(folders.keeper.join("gate.json")))?;
                    store.submit_history(submission)?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        make_folder(&folders.settings, 0o755)?;
        let settings = serde_json::json!({
            "listen": arguments.listen, "advertise": arguments.advertise, "name": arguments.name,
            "owner": arguments.owner,
        });
        let path = folders.settings.join("agent.json");
        disk::write_durable(&path, settings.to_string().as_bytes(), 0o644).map_err(at(path))?;
        // From here on the folder is another user's, who may have made it before.
        let agent =
            planting::Folder::make(&folders.agent, account).map_err(at(folders.agent.clone()))?;
        let invite = fs::read(&arguments.invite).map_err(at(arguments.invite.clone()))?;
        agent
            .put("invite.json", &mut invite.as_slice())
            .map_err(at(folders.agent.join("invite.json")))?;
        let depot = agent.folder("blobs").map_err(at(folders.agent.join("blobs")))?;
        for (digest, (spooled, _)) in &self.blobs {
            let mut blob = File::open(spooled).map_err(at(spooled.clone()))?;
            let path = folders.agent.join("blobs").join(digest.hex());
            depot.put(&digest.hex(), &mut blob).map_err(at(path))?;
        }
        Ok(())
    }
}

fn at(path: PathBuf) -> impl FnOnce(io::Error) -> FirstInstallError {
    move |source| FirstInstallError::Disk { path, source }
}

fn read_invitation(path: &Path) -> Result<InvitationFile, FirstInstallError> {
    let bytes = disk::read_bounded(path, INVITATION_MAX).map_err(at(path.to_owned()))?;
    let text = String::from_utf8_lossy(&bytes);
    json::parse_strict(&text, INVITATION_MAX)
        .map_err(|source| FirstInstallError::Invitation { path: path.to_owned(), source })
}

fn check_invitation(
    now: UnixSeconds,
    invite: &InvitationFile,
    chain: &Chain,
) -> Result<(), FirstInstallError> {
    let policy = chain.policy().ok_or(FirstInstallError::NotTheHead)?;
    let (invitation, _governor) =
        Invitation::verify(&policy.board, invite.network, &invite.invitation)
            .map_err(FirstInstallError::NotInvited)?;
    invitation.open(now).map_err(FirstInstallError::NotInvited)?;
    match invite.token_key() {
        Ok(key) if key.public() == invitation.token => Ok(()),
        Ok(_) | Err(_) => Err(FirstInstallError::Token),
    }
}

fn same<T: PartialEq + ToString>(
    what: &str,
    expected: T,
    found: T,
) -> Result<(), FirstInstallError> {
    if expected == found {
        return Ok(());
    }
    Err(FirstInstallError::Artifact {
        what: what.to_owned(),
        expected: expected.to_string(),
        found: found.to_string(),
    })
}

fn digest_of(mut file: File) -> io::Result<Digest> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(Digest(hash.finalize().into())),
            got => hash.update(&buffer[..got]),
        }
    }
}

fn make_folder(path: &Path, mode: u32) -> Result<(), FirstInstallError> {
    let made = fs::DirBuilder::new().recursive(true).mode(mode).create(path);
    made.map_err(at(path.to_owned()))
}
