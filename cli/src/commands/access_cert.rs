//! `borgios access cert`: a signed grant as the files and the line that stock `ssh` wants.

use std::path::{Path, PathBuf};

use borgios_policy::{AccessClass, Grant};
use clap::Args;
use serde_json::json;

use crate::commands::access_request::{requests, with_suffix};
use crate::commands::export::{find, quoted};
use crate::context::Context;
use crate::desk::Desk;
use crate::durable;
use crate::failure::{Failure, OrFail as _};
use crate::servers::{Server, evicted};
use crate::subject::Subject;

/// Write the certificate of a signed grant, for stock ssh
#[derive(Debug, Args)]
pub(crate) struct Cert {
    /// Which grant: access/3
    #[arg(value_name = "ID")]
    subject: Subject,
    /// Where to: id-cert.pub and known_hosts [default: beside the key]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// The private key [default: the one it was asked for with]
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Where its sshd is reached [default: the host of its address in the network]
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// The port of its sshd
    #[arg(long, value_name = "PORT", default_value_t = 22)]
    port: u16,
}

impl Cert {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let mut desk = Desk::look(context)?;
        for place in desk.publish_signed()? {
            context.printer.say(&format!("{place} is signed"));
        }
        let servers = desk.servers()?;
        let archive = desk.archive();
        let verified = find(archive, &self.subject)?;
        let granted = archive.chain().grant(&verified.id());
        let (statement, envelope) = (verified.statement(), verified.envelope());
        let under = statement.policy.and_then(|seq| archive.chain().policy_at(seq));
        let text =
            under.and_then(|policy| Grant::openssh(statement, envelope, &policy.board.group()));
        let (Some(granted), Some(text)) = (granted, text) else {
            return Err(Failure::new(format!("{} grants no access", self.subject))
                .hint("`borgios access list` shows what does"));
        };
        let grant = granted.grant;
        let server = servers.get(&grant.node);
        let key = match self.key.clone() {
            Some(key) => Some(key),
            None => requests(&context.home)?.remove(&verified.id()),
        };
        let key = key.map(private);
        self.warn(context, &grant, archive.chain(), server);

        let place = format!("access-{}", statement.seq);
        let (certificate, hosts) = match (&self.out, &key) {
            (Some(out), _) => {
                std::fs::create_dir_all(out)
                    .or_fail(|| format!("could not create {}", out.display()))?;
                (out.join("id-cert.pub"), out.join("known_hosts"))
            }
            (None, Some(key)) => (
                with_suffix(key, &format!("-{place}-cert.pub")),
                with_suffix(key, &format!("-{place}-known_hosts")),
            ),
            (None, None) => {
                return Err(Failure::usage("it was not asked for from this folder")
                    .hint("say where to with `--out DIR` or `--key FILE`"));
            }
        };
        durable::write_public(&certificate, format!("{text}\n").as_bytes())?;
        let host = self.host(server);
        let known = self.known_hosts(&host, server);
        if let Some(known) = &known {
            durable::write_public(&hosts, known.as_bytes())?;
        }
        let key = key.unwrap_or_else(|| PathBuf::from("KEY"));
        let line = self.line(&key, &certificate, known.is_some().then_some(&hosts), &host);
        let answer = json!({
            "place": format!("access/{}", statement.seq), "id": verified.id(),
            "certificate": certificate, "known_hosts": known.is_some().then_some(&hosts),
            "key": key, "host": host, "port": self.port, "ssh": line, "serial": grant.serial,
            "principal": grant.principal(verified.id()), "after": grant.after, "before": grant.before,
        });
        context.printer.answer(&answer, &line)?;
        context.printer.say(&format!(
            "\nThat line opens root of {} until {}. `ssh-keygen -L -f {}` shows what was granted.",
            server.map_or_else(|| grant.node.short(), |server| server.join().name.to_string()),
            grant.before,
            quoted(&certificate)
        ));
        Ok(())
    }

    /// What would keep the door shut.
    fn warn(
        &self,
        context: &Context,
        grant: &Grant,
        chain: &borgios_policy::Chain,
        server: Option<&Server>,
    ) {
        let printer = context.printer;
        let now = context.now();
        if now >= grant.before {
            printer.warn(&format!("it ended at {}; sshd refuses it", grant.before));
        }
        if chain.revoked().contains(&grant.serial) {
            printer.warn(&format!("serial {} was revoked; sshd refuses it", grant.serial));
        }
        if evicted(chain)(&grant.node) {
            printer.warn("its server was evicted and hears from the network no more");
        }
        let wanted = chain.policy().map_or(0, borgios_policy::Policy::witnesses);
        if grant.class == AccessClass::Normal && wanted > 0 && now < grant.before {
            printer.say(&format!(
                "the server opens once it has heard {wanted} other members say that they saw it"
            ));
        }
        if server.and_then(Server::handover).is_none_or(|handover| handover.host_keys.is_empty()) {
            printer.warn(
                "no receipt with this server's host keys is known here: ssh will ask you whether \
                 its key is right, and nothing here can answer",
            );
        }
    }

    fn host(&self, server: Option<&Server>) -> String {
        let address = server.and_then(|server| server.join().address.as_deref());
        let host = address.and_then(|address| address.rsplit_once(':')).map(|(host, _)| host);
        let host = host.map(|host| host.trim_start_matches('[').trim_end_matches(']').to_owned());
        let name = || server.map_or_else(|| "HOST".to_owned(), |s| s.join().name.to_string());
        self.host.clone().or(host).unwrap_or_else(name)
    }

    /// The host keys that the server's keeper signed, as lines of a known_hosts file.
    fn known_hosts(&self, host: &str, server: Option<&Server>) -> Option<String> {
        let keys = &server?.handover()?.host_keys;
        let name =
            if self.port == 22 { host.to_owned() } else { format!("[{host}]:{}", self.port) };
        let lines: String = keys.iter().map(|key| format!("{name} {key}\n")).collect();
        Some(lines).filter(|lines| !lines.is_empty())
    }

    fn line(&self, key: &Path, certificate: &Path, hosts: Option<&PathBuf>, host: &str) -> String {
        // The keys of an agent would use up sshd's patience before this one is tried.
        let mut line = format!(
            "ssh -i {} -o CertificateFile={} -o IdentitiesOnly=yes",
            quoted(key),
            quoted(certificate)
        );
        if let Some(hosts) = hosts {
            line.push_str(&format!(
                " -o UserKnownHostsFile={} -o StrictHostKeyChecking=yes",
                quoted(hosts)
            ));
        }
        if self.port != 22 {
            line.push_str(&format!(" -p {}", self.port));
        }
        line.push_str(&format!(" root@{host}"));
        line
    }
}

/// The private key of a pair, whichever half was named.
fn private(key: PathBuf) -> PathBuf {
    if key.extension().is_some_and(|extension| extension == "pub") {
        key.with_extension("")
    } else {
        key
    }
}
