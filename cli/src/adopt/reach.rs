//! The first half for one host: log in, show its key, copy what a plan needs, run the plan.

use std::path::PathBuf;
use std::time::Duration;

use borgios_types::Digest;

use super::advertise::Advertise;
use super::asked_node::{Standing, standing};
use super::host_key::{KEYS_MAX, Settings};
use super::keeping::Keeping;
use super::log::Log;
use super::pushed::Pushed;
use super::remote::{Remote, Unreached, Way};
use super::target::Target;
use super::verdict::{EX_MEMBER, Outcome, meaning};
use crate::failure::Failure;
use crate::printer::Printer;

/// How long a plan may take: it verifies the bundle and looks at the whole machine.
const PLAN_TIMEOUT: Duration = Duration::from_secs(300);

/// What every host of one run has in common.
pub(crate) struct Order {
    /// The user's alternative ssh settings.
    pub(crate) config: Option<PathBuf>,
    /// Whether new host keys may be taken.
    pub(crate) accept_new: bool,
    /// Where receipts and sealed backups are kept.
    pub(crate) keeping: Keeping,
    /// A private folder for ssh's control sockets.
    pub(crate) sockets: PathBuf,
    /// What a plan needs: script, public part of the invitation, bundle, owner's key.
    pub(crate) public: Vec<Pushed>,
    /// The whole invitation.
    pub(crate) secret: Pushed,
    /// Addresses for other members.
    pub(crate) advertise: Vec<Advertise>,
    /// Whether bootstrap.sh may go on in spite of warnings.
    pub(crate) yes: bool,
    /// The network that hosts shall be members of.
    pub(crate) network: Digest,
    /// What prints.
    pub(crate) printer: Printer,
}

/// The invitation's public part, on the host.
pub(crate) const PUBLIC_INVITE: &str = "plan.json";
/// The whole invitation, on the host.
pub(crate) const SECRET_INVITE: &str = "invite.json";
/// The bundle, on the host.
pub(crate) const BUNDLE: &str = "bundle.tar";
/// The owner's public key, on the host.
pub(crate) const OWNER_KEY: &str = "owner.pub";
/// The script, on the host.
pub(crate) const SCRIPT: &str = "bootstrap.sh";

/// One host of the run.
#[derive(Clone)]
pub(crate) struct Host {
    /// As it was typed.
    pub(crate) target: Target,
    /// How other members reach it, if they do.
    pub(crate) advertise: Option<String>,
}

impl Host {
    /// A host that was typed and not looked at yet.
    pub(crate) fn new(target: Target) -> Self {
        Self { target, advertise: None }
    }
}

/// A host whose plan was made.
pub(crate) struct Planned {
    /// Its place on the command line.
    pub(crate) host: Host,
    /// The name or address by which ssh dials it.
    pub(crate) hostname: String,
    /// The keys by which ssh knows it.
    pub(crate) keys: Vec<String>,
    /// The open connection.
    pub(crate) remote: Remote,
    /// What the plan said.
    pub(crate) plan: String,
}

impl Order {
    /// How to log in. A key that is new now was shown the first time; later none is.
    pub(crate) fn way(&self, first: bool) -> Way<'_> {
        let config = self.config.as_deref();
        Way { config, accept_new: self.accept_new && first, sockets: &self.sockets }
    }

    /// One line of progress.
    pub(crate) fn tell(&self, target: &Target, what: &str) {
        self.printer.say(&format!("{target}: {}", crate::printer::one_line(what)));
    }

    /// The options that plan and join share.
    pub(crate) fn options(&self, host: &Host, invite: &str) -> Vec<String> {
        let mut args = vec!["--invite", invite];
        if self.copies(BUNDLE) {
            args.extend(["--bundle", BUNDLE]);
        }
        if self.copies(OWNER_KEY) {
            args.extend(["--owner-key", OWNER_KEY]);
        }
        if let Some(address) = &host.advertise {
            args.extend(["--advertise", address]);
        }
        args.into_iter().map(str::to_owned).collect()
    }

    /// Whether a file of this name is among the copies.
    pub(crate) fn copies(&self, name: &str) -> bool {
        self.public.iter().any(|file| file.name == name)
    }
}

/// A word that no earlier command printed.
pub(crate) fn fresh_end() -> String {
    format!("borgios-adopt-end-{:016x}", rand::random::<u64>())
}

/// Why there is no plan of a host.
pub(crate) struct Unplanned {
    /// What became of it.
    pub(crate) outcome: Outcome,
    /// Where ssh reached it and was let in by nobody: if it is a member by now, its node can tell.
    pub(crate) refused_at: Option<String>,
}

impl From<Outcome> for Unplanned {
    fn from(outcome: Outcome) -> Self {
        Self { outcome, refused_at: None }
    }
}

/// Logs in to one host and runs the plan there. Nothing is changed on it but a folder in `/tmp`.
pub(crate) async fn plan(order: &Order, mut host: Host) -> Result<Planned, Unplanned> {
    let target = &host.target.clone();
    let failed = |stage: &str, failure: Failure| Outcome::failed(stage, with_hint(&failure));
    let settings = Settings::of(target, order.config.as_deref());
    let settings = settings.await.map_err(|failure| failed("connect", failure))?;
    host.advertise = Advertise::of(&order.advertise, target, &settings.hostname);
    let before = settings.known().await.map_err(|failure| failed("connect", failure))?;
    let remote = Remote::connect(target, order.way(true)).await;
    let remote = remote.map_err(|why| Unplanned {
        refused_at: matches!(why, Unreached::Shut(_)).then(|| settings.hostname.clone()),
        outcome: failed("connect", why.failure()),
    })?;
    // What ssh took just now stands in known_hosts now: this is the key that was really used.
    let keys = match settings.known().await {
        Ok(keys) => keys,
        Err(failure) => return Err(failed("connect", failure).into()),
    };
    if let Some(why) = unshown(order.accept_new, &before, &keys) {
        remote.close().await;
        return Err(Outcome::failed("connect", why).into());
    }
    let shown = told(&before, &keys);
    order.tell(target, &format!("connected, it is {}; host key {shown}", remote.name));

    let planned = look(order, &host, &remote).await;
    match planned {
        Ok(plan) => Ok(Planned { host, hostname: settings.hostname, keys, remote, plan }),
        Err(outcome) => {
            remote.close().await;
            Err(outcome.into())
        }
    }
}

/// Why a key that ssh accepted must not do: it was new, and nobody can be shown which it was.
fn unshown(accept_new: bool, before: &[String], after: &[String]) -> Option<&'static str> {
    (accept_new && before.is_empty() && after.is_empty()).then_some(
        "its host key was new, or an authority's word for it was taken, and no known_hosts of your ssh settings \
         has it to show; set UserKnownHostsFile to a file, or leave --accept-new out",
    )
}

/// The keys on record for a host, those that were not there `before` the login as such.
fn told(before: &[String], after: &[String]) -> String {
    let (known, new): (Vec<_>, Vec<_>) =
        after.iter().cloned().partition(|key| before.contains(key));
    let known: Vec<String> = known.into_iter().take(KEYS_MAX).collect();
    let mut told = Vec::new();
    if !new.is_empty() {
        told.push(format!("NEW, taken now: {}", new.join(", ")));
    }
    if !known.is_empty() {
        told.push(format!("known: {}", known.join(", ")));
    }
    if told.is_empty() { "known: by your ssh settings".to_owned() } else { told.join("; ") }
}

async fn look(order: &Order, host: &Host, remote: &Remote) -> Result<String, Outcome> {
    let target = &host.target;
    let bytes: u64 = order.public.iter().map(|file| file.size).sum();
    order.tell(target, &format!("copying {}", crate::blobs::size_text(bytes)));
    for file in &order.public {
        let pushed = remote.push(file).await;
        pushed.map_err(|failure| Outcome::failed("copy", failure.summary()))?;
    }
    order.tell(target, "plan");
    let end = fresh_end();
    let mut log = Log::new(end.clone());
    let mut args = vec!["plan".to_owned()];
    args.extend(order.options(host, PUBLIC_INVITE));
    let broken = remote.bootstrap(&args, &end, PLAN_TIMEOUT, &mut log, |_| {}).await;
    match (log.code(), broken) {
        (Some(0), _) => Ok(log.text()),
        (Some(EX_MEMBER), _) => match remote.status().await {
            Some(status) => match standing(&status, order.network) {
                Standing::Member => Err(Outcome::Already),
                // An earlier join stopped on the way: it goes on, with consent like any other.
                Standing::HalfWay(_) => Ok(log.text()),
                Standing::Foreign(id) => Err(foreign(&id)),
            },
            None => Ok(log.text()),
        },
        (Some(code), _) => {
            order.printer.say(&format!("\n{target}\n{}", log.text()));
            let said = log.complaint().unwrap_or("it did not say why");
            Err(Outcome::failed("plan", format!("{}: {said} (exit code {code})", meaning(code))))
        }
        (None, why) => Err(Outcome::failed("plan", why.unwrap_or_default())),
    }
}

/// The outcome for a member of another network.
pub(crate) fn foreign(id: &str) -> Outcome {
    Outcome::failed("plan", format!("it is a member of another network, {id}"))
}

/// A failure with its advice, in one line.
pub(crate) fn with_hint(failure: &Failure) -> String {
    match failure.advice() {
        Some(hint) => format!("{}; {hint}", failure.summary()),
        None => failure.summary(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_key_that_cannot_be_shown_is_not_taken() {
        let key = ["ED25519 SHA256:x".to_owned()];
        assert!(unshown(true, &[], &[]).is_some());
        assert!(unshown(true, &[], &key).is_none());
        assert!(unshown(true, &key, &key).is_none());
        // Without --accept-new ssh went by the user's own settings: a host CA, say.
        assert!(unshown(false, &[], &[]).is_none());
    }

    #[test]
    fn a_key_that_was_not_there_before_is_told_as_new_beside_others() {
        let [a, b] = ["ED25519 SHA256:a", "RSA SHA256:b"].map(str::to_owned);
        let after = [a.clone(), b];
        assert_eq!(told(&[], &[]), "known: by your ssh settings");
        assert_eq!(told(&after, &after), "known: ED25519 SHA256:a, RSA SHA256:b");
        let told = told(&[a], &after);
        assert_eq!(told, "NEW, taken now: RSA SHA256:b; known: ED25519 SHA256:a");
    }
}
