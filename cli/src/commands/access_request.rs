//! `borgios access request`: asks the board to let one key into one server as root.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use borgios_policy::access::GRANT_MAX_S;
use borgios_policy::{AccessClass, AccessOrder, Chain, Grant, Lane};
use borgios_types::{Digest, PublicKey, UnixSeconds};
use clap::Args;
use serde_json::json;

use crate::commands::propose::{Terms, date, put_to_vote};
use crate::context::Context;
use crate::durable;
use crate::failure::{Failure, OrFail as _};
use crate::home::Home;
use crate::printer::one_line;
use crate::servers::{Server, Servers, evicted};
use crate::session::Session;
use crate::span;

/// How much earlier than now a certificate is valid, in seconds: servers' clocks lag.
const SKEW_S: u64 = 60;

/// Largest key file, in bytes.
const KEY_MAX: usize = 16 * 1024;

/// Most requests remembered with their key files.
const REMEMBERED_MAX: usize = 256;

/// Ask the board to let a key in
#[derive(Debug, Args)]
pub(crate) struct Request {
    /// The server: its name, or the first digits of its key's fingerprint
    // The same id as the global option, which it stands for here: see `elsewhere`.
    #[arg(id = "nodes", long = "node", value_name = "SERVER", required = true, num_args = 1)]
    node: Vec<String>,
    /// A node to talk to [default: the nodes talked to last]
    #[arg(long, value_name = "HOST:PORT")]
    via: Vec<String>,
    /// How long it lets in, from now on: 15m, 8h; at most 24h, less a minute for clocks that lag
    #[arg(long = "for", value_name = "TIME", value_parser = span::seconds)]
    valid: u64,
    /// The ssh-ed25519 key, or its .pub file
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Why
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Only from this address or range; again for each
    #[arg(long = "source", value_name = "CIDR")]
    sources: Vec<String>,
    /// Let the server obey it though no other member can have seen it; needs more approvals
    #[arg(long)]
    offline: bool,
    /// A word to the other governors
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
}

/// The context of a command whose `--node` names a server that it is about: it talks to the nodes
/// of `--via` instead.
pub(crate) fn elsewhere(context: &Context, via: &[String]) -> Context {
    Context { nodes: via.to_vec(), ..context.clone() }
}

impl Request {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let context = &elsewhere(context, &self.via);
        let [word] = self.node.as_slice() else {
            return Err(Failure::usage("a certificate is for one server")
                .hint("give `--node` once; ask once for each server"));
        };
        let (key, comment) = read_key(&self.key)?;
        let mut session = Session::open(context)?;
        let servers = session.desk.servers()?;
        let chain = session.desk.archive().chain();
        let out = evicted(chain);
        let server = servers.find(word, context.now(), &out)?;
        let node = server.join().node;
        if out(&node) || server.departed().is_some() {
            return Err(Failure::new(format!("{} is out of the network", server.describe())));
        }
        let now = date(&session);
        let after = UnixSeconds(now.0.saturating_sub(SKEW_S));
        // A whole day may be asked for; what clocks lag is taken from its end.
        let before = now.plus(self.valid).min(after.plus(GRANT_MAX_S));
        if self.valid > GRANT_MAX_S {
            let most = span::words(GRANT_MAX_S - SKEW_S);
            let asked = span::words(self.valid);
            return Err(Failure::usage(format!(
                "--for {asked}: a certificate lasts at most {most}"
            ))
            .hint("ask again when it ends"));
        }
        if server.handover().is_none() {
            context.printer.warn(&format!(
                "{} has given no receipt for its root: it may not obey the board yet",
                server.join().name
            ));
        }
        let serial = chain.head_seq(Lane::Access).next().0;
        let class = if self.offline { AccessClass::Offline } else { AccessClass::Normal };
        let heard = Heard::of(&servers, chain, server, context.now(), class);
        if let Some(line) = heard.too_few(chain, server) {
            context.printer.warn(&line);
        }
        let grant = Grant {
            node,
            serial,
            key,
            after,
            before,
            class,
            sources: self.sources,
            reason: self.reason,
        };
        let described = server.describe();
        let comment = comment.map(|comment| format!(", {comment:?}")).unwrap_or_default();
        let note = format!("for the key {}{comment}", key.fingerprint());
        let terms = Terms::usual(Some(self.note.unwrap_or(note)));
        let body = AccessOrder::Grant(grant).to_body();
        let mut proposed = put_to_vote(&mut session, Lane::Access, body, terms)?;
        remember(&context.home, proposed.statement, &self.key)?;
        let fields = json!({
            "serial": serial, "node": node, "name": server.join().name,
            "key": key.fingerprint(), "after": after, "before": before,
            "witnesses_needed": heard.needed, "other_members": heard.others,
        });
        proposed.answer.extend(fields.as_object().cloned().unwrap_or_default());
        let text = format!(
            "proposed {}: {}\n  root of {described}\n  for the key {}{}\n  until {before}, whenever \
             the votes are there",
            proposed.place(),
            proposed.statement,
            key.fingerprint(),
            one_line(&comment)
        );
        context.printer.answer(&proposed.answer, &text)?;
        proposed.talk(context);
        context.printer.say(&format!(
            "Then: `borgios access cert {}{}` writes the certificate.",
            proposed.place(),
            context.with_exchange()
        ));
        Ok(())
    }
}

/// How many other members must say that they saw a grant before its server obeys it, and how many there
/// are as far as is known here.
struct Heard {
    needed: u16,
    others: usize,
}

impl Heard {
    fn of(
        servers: &Servers,
        chain: &Chain,
        server: &Server,
        now: UnixSeconds,
        class: AccessClass,
    ) -> Self {
        let needed = match class {
            AccessClass::Normal => chain.policy().map_or(0, borgios_policy::Policy::witnesses),
            AccessClass::Offline => 0,
        };
        let (me, out) = (server.join().node, evicted(chain));
        let others = servers.all().filter(|(node, other)| {
            let here = other.departed().is_none() && other.join().expires > now;
            **node != me && !out(node) && here
        });
        Self { needed, others: others.count() }
    }

    /// What to know before the others are asked, if the server could never hear enough of them.
    fn too_few(&self, chain: &Chain, server: &Server) -> Option<String> {
        let Self { needed, others } = *self;
        if others >= usize::from(needed) {
            return None;
        }
        let name = &server.join().name;
        let members = if others == 1 { "member is" } else { "members are" };
        let all = chain.policy().map_or(0, |policy| {
            policy.offline().approvals.max(policy.class(Lane::Access).approvals)
        });
        Some(format!(
            "only {others} other {members} known here, and {name} obeys no such grant before {needed} have \
             signed that they saw it: ask with `--offline`, which takes {all} approvals, or wait until more \
             servers have joined (`borgios sync` fetches what is known of them)"
        ))
    }
}

/// The public key of a key file, and its comment. A private key's `.pub` file lies beside it.
pub(crate) fn read_key(path: &Path) -> Result<(PublicKey, Option<String>), Failure> {
    let what = || format!("{} is no key that a certificate can be made for", path.display());
    let public = if path.extension().is_some_and(|extension| extension == "pub") {
        path.to_owned()
    } else {
        with_suffix(path, ".pub")
    };
    let bytes = durable::read(&public, KEY_MAX)?.ok_or_else(|| {
        Failure::new(format!("{} does not exist", public.display())).hint(
            "give the key that `ssh -i` will use: `ssh-keygen -t ed25519 -f FILE` makes one with \
             its .pub file",
        )
    })?;
    let text = String::from_utf8(bytes).or_fail(what)?;
    let kind = text.split_ascii_whitespace().next().unwrap_or_default();
    if kind != "ssh-ed25519" {
        return Err(Failure::new(what())
            .because(format!("it is of type {:?}", kind.chars().take(60).collect::<String>()))
            .because("only ssh-ed25519 keys are certified")
            .hint("make one with `ssh-keygen -t ed25519 -f FILE`"));
    }
    let key = text.parse().or_fail(what)?;
    let comment: Vec<&str> = text.split_ascii_whitespace().skip(2).collect();
    let comment: String = comment.join(" ").chars().take(100).collect();
    Ok((key, Some(comment).filter(|comment| !comment.is_empty())))
}

/// `path` with something behind its whole name.
pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Notes with which key file a certificate was asked for, so that it is found again.
fn remember(home: &Home, statement: Digest, key: &Path) -> Result<(), Failure> {
    let mut asked = requests(home)?;
    while asked.len() >= REMEMBERED_MAX {
        asked.pop_first();
    }
    let key = std::path::absolute(key).or_fail(|| format!("{} has no path", key.display()))?;
    asked.insert(statement, key);
    let text = serde_json::to_vec(&asked).or_fail(|| "could not encode the requests")?;
    durable::write(&home.access(), &text)
}

/// The key files that certificates were asked for with here, by statement.
pub(crate) fn requests(home: &Home) -> Result<BTreeMap<Digest, PathBuf>, Failure> {
    let path = home.access();
    let Some(bytes) = durable::read(&path, 1024 * 1024)? else { return Ok(BTreeMap::new()) };
    serde_json::from_slice(&bytes).or_fail(|| format!("{} is damaged; remove it", path.display()))
}
