//! `borgios verify`: checks a proof offline, with nothing but the network's id.

use std::path::{Path, PathBuf};

use borgios_policy::proof_file::{PROOF_MAX, ProofFile, ProofFileError, Proven};
use borgios_policy::{AccessOrder, Choice, Lane, Refusal, Statement, VerifiedStatement};
use borgios_types::{Digest, Envelope, SignedBy, sshsig};
use clap::Args;
use serde_json::{Value, json};

use crate::commands::export::quoted;
use crate::context::Context;
use crate::durable;
use crate::failure::{Failure, OrFail as _};
use crate::printer::one_line;

/// Check a proof offline, with nothing but the network's id
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// The file that `borgios export --proof` wrote
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The network's id, sha256:…, from a source you trust
    #[arg(long, value_name = "ID")]
    network: Digest,
    /// A policy of a recovery key of which you know that it came into force; again for each
    #[arg(long = "recovery", value_name = "ID")]
    recoveries: Vec<Digest>,
    /// Lay every step out in this folder, so that stock ssh-keygen can check it without BorgIOS
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

impl Verify {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let what = || format!("{} proves nothing", self.file.display());
        let bytes = durable::read(&self.file, PROOF_MAX)
            .map_err(|failure| failure.code(Failure::PROOF))?
            .ok_or_else(|| Failure::new(format!("{} does not exist", self.file.display())))?;
        let text = String::from_utf8(bytes)
            .or_fail(what)
            .map_err(|failure| failure.code(Failure::PROOF))?;
        let file = ProofFile::parse(&text).or_fail(what);
        let file = file.map_err(|failure| failure.code(Failure::PROOF))?;
        let proven = file.verify_through(self.network, &self.recoveries);
        let recovery = matches!(proven, Err(ProofFileError::Statement(Refusal::Recovery { .. })));
        let proven = proven.or_fail(what).map_err(|failure| {
            let failure = failure.code(Failure::PROOF);
            if !recovery {
                return failure;
            }
            failure.hint(
                "whether a recovery key's policy came into force, no file can show: if you know it from \
                 people or servers that you trust, name it with `--recovery sha256:…`",
            )
        })?;
        let steps = match &self.out {
            Some(folder) => lay_out(folder, &file, &proven)?,
            None => Vec::new(),
        };
        let mut text = describe(&proven);
        if let Some(folder) = &self.out {
            let script = folder.join("check.sh");
            text.push_str(&format!(
                "\n{} steps for stock OpenSSH: sh {}\n",
                steps.len(),
                quoted(&script)
            ));
        }
        context.printer.answer(&answer(&proven, &steps), &text)
    }
}

fn answer(proven: &Proven, steps: &[String]) -> Value {
    let statement = proven.statement.statement();
    let voices: Vec<Value> = proven
        .voices
        .iter()
        .map(|voice| {
            let reason = match &voice.ballot.choice {
                Choice::Reject { reason } => Some(reason),
                Choice::Approve { .. } | Choice::Commit { .. } => None,
            };
            json!({
                "governor": voice.name, "key": voice.key,
                "choice": if voice.ballot.approves() { "approve" } else { "reject" },
                "reason": reason, "comment": voice.ballot.comment,
            })
        })
        .collect();
    let contradictions = proven.contradictions.iter();
    let contradictions: Vec<Value> = contradictions
        .map(|(name, (one, other))| json!({ "governor": name, "ballots": [one, other] }))
        .collect();
    json!({
        "verified": true, "place": format!("{}/{}", statement.lane, statement.seq),
        "round": statement.round, "id": proven.statement.id(), "issued": statement.issued,
        "expires": statement.expires, "policy": statement.policy, "body": statement.body,
        "group": proven.board.group(), "epoch": proven.board.epoch(),
        "threshold": proven.board.threshold(), "governors": proven.board.size(),
        "approvals_needed": proven.needed, "ballots": voices, "contradictions": contradictions,
        "shares_make_signature": proven.shares,
        "policies": proven.policies.iter().map(|policy| policy.id()).collect::<Vec<_>>(),
        "recoveries": recovered(proven).map(|policy| policy.id()).collect::<Vec<_>>(),
        "steps": steps,
    })
}

/// The policies on the way that a recovery key signed.
fn recovered(proven: &Proven) -> impl Iterator<Item = &VerifiedStatement> {
    proven.policies.iter().filter(|policy| policy.is_recovered())
}

fn describe(proven: &Proven) -> String {
    let statement = proven.statement.statement();
    let board = &proven.board;
    let mut text = format!(
        "verified  {}/{}  {}\n  issued {}, expires {}, under policy/{}\n  signed by the group key \
         of epoch {} ({} of {} governors)\n            {}\n",
        statement.lane,
        statement.seq,
        proven.statement.id(),
        statement.issued,
        statement.expires,
        statement.policy.map_or(1, |policy| policy.0),
        board.epoch(),
        board.threshold(),
        board.size(),
        board.group(),
    );
    let steps = proven.policies.len();
    let word = if steps == 1 { "policy" } else { "policies" };
    text.push_str(&format!("  {steps} {word} from the network's first one on\n"));
    for policy in recovered(proven) {
        text.push_str(&format!(
            "  policy/{} was signed by the recovery key of the policy before it, and by the board that it \
             makes; that it came into force is your word\n",
            policy.statement().seq
        ));
    }
    for voice in &proven.voices {
        let verb = if voice.ballot.approves() { "approved" } else { "rejected" };
        let reason = match &voice.ballot.choice {
            Choice::Reject { reason } => Some(reason.clone()),
            Choice::Approve { .. } | Choice::Commit { .. } => None,
        };
        let words = reason.into_iter().chain(voice.ballot.comment.clone());
        let words: String = words.map(|words| format!(": {}", one_line(&words))).collect();
        text.push_str(&format!("  {verb} by {}{words}\n", voice.name));
    }
    for name in proven.contradictions.keys() {
        text.push_str(&format!(
            "  {name} cast two ballots that contradict each other: neither counts\n"
        ));
    }
    text.push_str(match (proven.shares, proven.voices.is_empty()) {
        (true, _) => "  the shares in these ballots make the signature once more\n",
        (false, true) => {
            "  no ballots that count are in the file: it shows that the board signed, not who\n"
        }
        (false, false) => {
            "  the shares in these ballots were not tried out: pools are missing, or too few approve\n"
        }
    });
    text.push_str("  not shown: whether anything later (veto, ruling, recall) ended its effect\n");
    text
}

/// Writes every envelope of the proof with its signatures, and a script of `ssh-keygen` lines.
fn lay_out(folder: &Path, file: &ProofFile, proven: &Proven) -> Result<Vec<String>, Failure> {
    std::fs::create_dir_all(folder).or_fail(|| format!("could not create {}", folder.display()))?;
    let (mut steps, mut signers) = (Vec::new(), String::new());
    for (at, envelope) in file.envelopes.iter().enumerate() {
        let name = format!("{at:04}-{}", envelope.kind);
        let payload = format!("{name}.json");
        durable::write_public(&folder.join(&payload), envelope.payload.as_bytes())?;
        let id = envelope.id().hex();
        steps.push(format!("echo {id}  {payload} | sha256sum -c --quiet -"));
        let path = format!("{name}-cert.pub");
        if let Some((certificate, checks)) = certificate(envelope, proven, &payload, &path) {
            durable::write_public(&folder.join(&path), format!("{certificate}\n").as_bytes())?;
            steps.extend(checks);
            continue;
        }
        let namespace = envelope.kind.namespace();
        // Whoever relayed it can have added signatures that do not hold: they are no part of the proof.
        let holds =
            |sig: &&SignedBy| sig.by.verifies(&namespace, envelope.payload.as_bytes(), &sig.sig);
        let sigs: Vec<&SignedBy> = envelope.sigs.iter().filter(holds).collect();
        if sigs.is_empty() {
            steps.push(format!("echo {payload}: no signature holds >&2; exit 1"));
        }
        for (number, sig) in sigs.into_iter().enumerate() {
            let armour = format!("{name}.{number}.sig");
            let text = sshsig::armour(&sig.by, &namespace, &sig.sig);
            durable::write_public(&folder.join(&armour), text.as_bytes())?;
            // One principal for each signature: whose key it must be, the policies say.
            let principal = format!("{name}.{number}");
            signers.push_str(sig.by.allowed_signer(&principal, &[namespace.as_str()]).trim_end());
            signers.push('\n');
            steps.push(format!(
                "ssh-keygen -Y verify -q -f allowed_signers -I {principal} -n {namespace} \
                 -s {armour} <{payload}"
            ));
        }
    }
    durable::write_public(&folder.join("allowed_signers"), signers.as_bytes())?;
    let network = file.network.hex();
    let first = file.envelopes.iter().position(|envelope| envelope.id() == file.network);
    let first = first.unwrap_or_default();
    // The comparisons in it are silent: the trap says that one of them ended the script.
    let mut script = format!(
        "#!/bin/sh\n# Checks every signature of a BorgIOS proof with stock OpenSSH. Which keys had \
         to sign, each policy's\n# board says: docs/protocol/governance.md, Proofs. A grant of access \
         is signed as a certificate, which\n# `ssh-keygen -L` refuses unless its signature holds; its \
         Key ID names the SHA-256 of the grant.\nset -eu\n\
         trap 'test $? = 0 || echo \"a step does not hold; sh -x shows which\" >&2' EXIT\n\
         cd \"$(dirname \"$0\")\"\n\
         echo {network}  {first:04}-policy.json | sha256sum -c --quiet -   # the network's id\n"
    );
    for step in &steps {
        script.push_str(step);
        script.push('\n');
    }
    script.push_str("echo every step holds\n");
    durable::write_public(&folder.join("check.sh"), script.as_bytes())?;
    Ok(steps)
}

/// A grant of access in the form in which it is signed, an OpenSSH certificate, and the steps that check
/// it once it lies at `path`: its signature, whose that is, and that it is for the text in `payload`.
fn certificate(
    envelope: &Envelope,
    proven: &Proven,
    payload: &str,
    path: &str,
) -> Option<(String, [String; 3])> {
    if envelope.kind != Lane::Access.kind() {
        return None;
    }
    let statement = Statement::parse(envelope).ok()?;
    let Ok(AccessOrder::Grant(grant)) = AccessOrder::of(&statement) else { return None };
    // The board of the policy that it names: another one may govern by now. And not whichever signature
    // comes first: a stranger can add one that makes a good certificate of the stranger's own.
    let under = statement.policy?;
    let policy = proven.policies.iter().find(|policy| policy.statement().seq == under)?;
    let group = policy.policy()?.board.group();
    let id = envelope.id();
    let unsigned = grant.certificate(&statement, id, &group);
    let mut sigs = envelope.sigs.iter().filter(|sig| sig.by == group);
    let text = sigs.find_map(|sig| unsigned.with_signature(&sig.sig))?;
    let (authority, key_id) = (group.fingerprint(), unsigned.key_id.strip_suffix(&id.hex())?);
    let list = format!("ssh-keygen -L -f {path}");
    let checks = [
        // It verifies the signature as it reads, and fails if that does not hold.
        format!("{list} >/dev/null"),
        // The first such line is ssh-keygen's own: it stands before all that a signer can choose.
        format!(
            "test \"$({list} | sed -n 's/^ *Signing CA: \\([^ ]* [^ ]*\\).*/\\1/p' | head -n 1)\" \
             = 'ED25519 {authority}'"
        ),
        // The sum is taken anew: two sums in the script could differ unseen.
        format!(
            "test \"$({list} | sed -n 's/^ *Key ID: //p' | head -n 1)\" \
             = \"\\\"{key_id}$(sha256sum <{payload} | cut -c -64)\\\"\""
        ),
    ];
    Some((text, checks))
}
