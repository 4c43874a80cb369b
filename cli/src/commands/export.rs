//! `borgios export`: writes a statement so that stock `ssh-keygen` checks it, without BorgIOS; or,
//! with `--proof`, one file that proves it from policy/1 on.

use std::path::{Path, PathBuf};

use borgios_policy::{Ballot, Grant, Lane, Object as _, ProofFile, VerifiedStatement};
use borgios_types::{Digest, Envelope, PublicKey, Seq, sshsig};
use clap::Args;
use serde_json::json;

use crate::archive::{Archive, slot_of};
use crate::context::Context;
use crate::durable;
use crate::failure::{Failure, OrFail as _};
use crate::subject::Subject;

/// Write a statement for stock ssh-keygen to check
#[derive(Debug, Args)]
pub(crate) struct Export {
    /// Which one: release/2, or the first digits of its id
    #[arg(value_name = "ID")]
    subject: Subject,
    /// Where to: the payload, its .sig and an allowed_signers file
    #[arg(long, value_name = "DIR", required_unless_present = "proof")]
    out: Option<PathBuf>,
    /// One file that proves it offline, from policy/1 on: for `borgios verify`
    #[arg(long, conflicts_with = "out", requires = "file")]
    proof: bool,
    /// The proof's file
    #[arg(value_name = "FILE", requires = "proof")]
    file: Option<PathBuf>,
}

/// Who an exported statement is by, as `ssh-keygen -I` wants it.
pub(crate) const PRINCIPAL: &str = "governors";

impl Export {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let archive = context.archive()?;
        let verified = find(&archive, &self.subject)?;
        if let Some(path) = &self.file {
            return proof(context, &archive, verified, path);
        }
        let Some(out) = &self.out else { return Err(Failure::usage("give `--out DIR`")) };
        let statement = verified.statement();
        let under = statement.policy.unwrap_or(Seq(1));
        let board = archive.chain().policy_at(under).map(|policy| &policy.board);
        let board = board.ok_or_else(|| Failure::new(format!("policy/{under} is not known")))?;
        let (envelope, key) = (verified.envelope(), board.group());
        let sig = envelope.sigs.iter().find(|sig| sig.by == key);
        let sig = sig.ok_or_else(|| Failure::new("the statement has no signature of its board"))?;
        if let Some(text) = Grant::openssh(statement, envelope, &key) {
            return grant(context, verified, &key, &text, out);
        }
        let namespace = statement.lane.namespace();

        std::fs::create_dir_all(out).or_fail(|| format!("could not create {}", out.display()))?;
        let name = format!("{}-{}.json", statement.lane, statement.seq);
        let payload = out.join(&name);
        let armour = out.join(format!("{name}.sig"));
        let signers = out.join("allowed_signers");
        durable::write_public(&payload, envelope.payload.as_bytes())?;
        durable::write_public(&armour, sshsig::armour(&key, &namespace, &sig.sig).as_bytes())?;
        let lanes = Lane::ALL.map(|lane| lane.namespace().as_str().to_owned());
        let lanes: Vec<&str> = lanes.iter().map(String::as_str).collect();
        durable::write_public(&signers, key.allowed_signer(PRINCIPAL, &lanes).as_bytes())?;

        let verify = format!(
            "ssh-keygen -Y verify -f {} -I {PRINCIPAL} -n {namespace} -s {} < {}",
            quoted(&signers),
            quoted(&armour),
            quoted(&payload)
        );
        let answer = json!({
            "id": verified.id(), "payload": payload, "signature": armour,
            "allowed_signers": signers, "verify": verify,
        });
        context.printer.answer(&answer, &verify)?;
        context.printer.say(&format!(
            "\nThat line checks {} with stock OpenSSH. It is worth as much as allowed_signers: \
             compare the group key\n{} with what the governors publish.",
            payload.display(),
            key.fingerprint()
        ));
        Ok(())
    }
}

/// Writes the one file that proves a statement offline.
fn proof(
    context: &Context,
    archive: &Archive,
    verified: &VerifiedStatement,
    path: &Path,
) -> Result<(), Failure> {
    let statement = verified.statement();
    // Of a recovery key's policy those of the board that it makes: that of the other is not on the way.
    let made = verified.policy().filter(|_| verified.is_recovered());
    let board = made.or(archive.chain().policy_at(statement.policy.unwrap_or(Seq(1))));
    let board = board.map(|policy| &policy.board);
    let papers = board.map(|board| archive.papers_for(board, slot_of(board, statement)));
    let (ballots, papers) = (archive.ballot_envelopes(), papers.unwrap_or_default());
    let absent = || Failure::new("the chain does not hold it");
    let with = |ballots: &[Envelope]| {
        ProofFile::of(archive.chain(), &verified.id(), ballots, &papers).ok_or_else(absent)
    };
    // What others would refuse is not written.
    let recovered = archive.chain().after(Lane::Policy, Seq(0)).filter(|one| one.is_recovered());
    let recovered: Vec<Digest> = recovered.map(VerifiedStatement::id).collect();
    // Who voted on what is on the way is shown nowhere, and on a large board fills the file: the ballots
    // go along only where a class asks for more of them than the signature shows.
    let on_it =
        |one: &&Envelope| Ballot::parse(one).is_ok_and(|ballot| ballot.statement == verified.id());
    let lean = with(&ballots.iter().filter(on_it).cloned().collect::<Vec<_>>())?;
    let (proof, proven) = match lean.verify_through(lean.network, &recovered) {
        Ok(proven) => (lean, proven),
        Err(_) => {
            let whole = with(&ballots)?;
            let proven = whole.verify_through(whole.network, &recovered);
            let proven = proven.or_fail(|| "this program made a proof it refuses")?;
            (whole, proven)
        }
    };
    let text = proof.to_json();
    // Its bounds too are asked where it is read.
    ProofFile::parse(&text).map_err(|error| {
        Failure::new(format!("{} was not written", path.display()))
            .because(format!("no `borgios verify` would read {} bytes of it", text.len()))
            .cause(error)
            .hint("`borgios export --out DIR` writes the statement alone, for stock ssh-keygen")
    })?;
    durable::write_public(path, text.as_bytes())?;
    let mut verify = format!("borgios verify {} --network {}", quoted(path), proof.network);
    for policy in proven.policies.iter().filter(|one| one.is_recovered()) {
        verify.push_str(&format!(" --recovery {}", policy.id()));
    }
    let answer = json!({
        "id": verified.id(), "proof": path, "bytes": text.len(), "network": proof.network,
        "envelopes": proof.envelopes.len(), "ballots": proven.voices.len(),
        "shares_make_signature": proven.shares, "verify": verify,
    });
    context.printer.answer(&answer, &verify)?;
    context.printer.say(
        "\nThat line checks the file anywhere, offline. It is worth as much as the network's id: \
         whoever checks it\ntakes the id from the governors, not from the file.",
    );
    Ok(())
}

/// A grant is signed as the certificate that follows from it, which stock OpenSSH checks as it
/// reads it.
fn grant(
    context: &Context,
    verified: &VerifiedStatement,
    key: &PublicKey,
    text: &str,
    out: &Path,
) -> Result<(), Failure> {
    let statement = verified.statement();
    std::fs::create_dir_all(out).or_fail(|| format!("could not create {}", out.display()))?;
    let name = format!("{}-{}", statement.lane, statement.seq);
    let payload = out.join(format!("{name}.json"));
    let certificate = out.join(format!("{name}-cert.pub"));
    durable::write_public(&payload, verified.envelope().payload.as_bytes())?;
    durable::write_public(&certificate, format!("{text}\n").as_bytes())?;
    let verify = format!("ssh-keygen -L -f {}", quoted(&certificate));
    let answer = json!({
        "id": verified.id(), "payload": payload, "certificate": certificate, "verify": verify,
    });
    context.printer.answer(&answer, &verify)?;
    context.printer.say(&format!(
        "\nA grant is signed as a certificate: that line checks its signature with stock OpenSSH \
         and shows it.\nSigning CA must be {}, as the governors publish it; the end of Key ID is \
         the\nSHA-256 of {}.",
        key.fingerprint(),
        payload.display()
    ));
    Ok(())
}

/// The signed statement that was named.
pub(crate) fn find<'a>(
    archive: &'a Archive,
    subject: &Subject,
) -> Result<&'a VerifiedStatement, Failure> {
    let mut found = archive.chain().history().filter(|verified| {
        let statement = verified.statement();
        subject.names(statement.lane, statement.seq, &verified.id())
    });
    match (found.next(), found.next()) {
        (Some(one), None) => Ok(one),
        (Some(_), Some(_)) => Err(Failure::new(format!("{subject} names several statements"))
            .hint("give more digits of the id")),
        (None, _) => {
            let dead = archive.dead_statements()?.into_iter();
            let dead = dead.filter(|(at, id)| subject.names(at.lane, at.seq, id));
            let dead = dead.max_by_key(|(at, _)| (at.round, at.issued));
            let unknown = Failure::new(format!("no signed statement {subject} is known here"));
            Err(match dead {
                Some((at, id)) => Failure::new(format!("{subject} was taken back"))
                    .because(format!(
                        "{}/{} {} was signed, and enough governors vetoed it: it proves nothing",
                        at.lane,
                        at.seq,
                        id.short()
                    ))
                    .hint(format!("`borgios review {}` shows who and why", id.short())),
                None => unknown.hint("`borgios log` lists what is known; `borgios sync` fetches"),
            })
        }
    }
}

/// A path as one word of a shell command.
pub(crate) fn quoted(path: &std::path::Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}
