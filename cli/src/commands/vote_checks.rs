//! What is looked at before a ballot is begun: the lane's own rules, the voter's own build, and whether
//! the place could still come to an end.

use std::collections::BTreeSet;
use std::path::PathBuf;

use borgios_policy::outcome::{Thought, is_stuck};
use borgios_policy::{AccessOrder, Bytes, Lane, Name, Rebuild, Slot, Statement};
use borgios_releases::Manifest;
use borgios_releases::plan::KEEPER;
use borgios_types::{Digest, Envelope};

use crate::changes::contents::Contents;
use crate::changes::installer::Compared;
use crate::desk::OpenVote;
use crate::escrowed;
use crate::failure::{Failure, OrFail as _};
use crate::rivalry;
use crate::session::Session;

/// What only a lane's own rules and blobs show; for a reveal, the own share on its way.
pub(crate) fn sealed_share(
    session: &mut Session<'_>,
    drafted: &Statement,
) -> Result<Option<Bytes>, Failure> {
    match drafted.lane {
        Lane::Policy | Lane::Member => Ok(None),
        Lane::Release => {
            Manifest::parse(drafted).or_fail(|| "its manifest breaks a rule")?;
            Ok(None)
        }
        Lane::Credential => escrowed::check(session, drafted).map(|()| None),
        Lane::Access => match AccessOrder::of(drafted).or_fail(|| "it orders nothing")? {
            AccessOrder::Grant(_) | AccessOrder::Revoke(_) => Ok(None),
            AccessOrder::Reveal(reveal) if session.desk.context().now() >= reveal.until => {
                Err(Failure::new(format!("it ended at {}", reveal.until))
                    .hint("reject it; whoever asked can ask again"))
            }
            AccessOrder::Reveal(reveal) => escrowed::share(session, &reveal).map(Some),
        },
    }
}

/// Warns of a ballot after which the place could neither pass a document nor open a further round,
/// and refuses it where only another board could help.
pub(crate) fn refuse_stuck(
    session: &Session<'_>,
    slot: Slot,
    ballots: &[Envelope],
    thought: Thought<'_>,
    gone: &BTreeSet<Name>,
    even_so: bool,
) -> Result<(), Failure> {
    let (board, _) = session.on_board()?;
    if is_stuck(board, slot, ballots, None, gone)
        || !is_stuck(board, slot, ballots, Some(thought), gone)
    {
        return Ok(());
    }
    let place = format!("{}/{}", slot.lane, slot.seq);
    let why = format!("with this ballot {place} can neither pass nor open a further round");
    if slot.lane != Lane::Policy || even_so {
        session.desk.context().printer.warn(&format!("{why}; a ruling would have to settle it"));
        return Ok(());
    }
    Err(Failure::new(format!("no ballot was made for {place}"))
        .code(Failure::UNDECIDABLE)
        .because(why)
        .because("no ruling settles a place of the lane policy; a recovery board could")
        .hint("agree with the others on one document first, or add --even-if-stuck"))
}

/// Refuses to approve a document where somebody proposes another one of whom the last look at it told
/// nothing. Another look is enough to go on; what it told is said once more.
pub(crate) fn refuse_new_rival(
    session: &Session<'_>,
    vote: &OpenVote,
    statement: Digest,
    shown: &BTreeSet<Name>,
) -> Result<(), Failure> {
    let place = format!("{}/{}", vote.slot.lane, vote.slot.seq);
    let all = rivalry::rivals(&session.desk, vote);
    if let Some(rival) = rivalry::unshown(&all, statement, shown) {
        let (short, other) = (statement.short(), rival.statement.short());
        return Err(Failure::new(format!("no ballot was made for {place}"))
            .code(Failure::RIVAL)
            .because(format!("{other} was proposed for the same place since you reviewed {short}"))
            .hint(format!(
                "`borgios review {short}` shows both, and who approves which; then vote again"
            )));
    }
    for rival in all.iter().filter(|rival| rival.statement != statement) {
        session.desk.context().printer.warn(&format!(
            "{place} has another proposal, {}: this ballot is your only one in this round",
            rival.statement.short()
        ));
    }
    Ok(())
}

/// Warns of what a rejection does beside what was asked for, where something else is proposed for the
/// place: whoever rejects is bound against every document of the round.
pub(crate) fn warn_of_rejection(
    session: &Session<'_>,
    slot: Slot,
    statement: Digest,
) -> Result<(), Failure> {
    let vote = session.desk.vote(slot.lane, slot.seq, slot.round)?;
    let all = rivalry::rivals(&session.desk, &vote);
    for rival in all.iter().filter(|rival| rival.statement != statement) {
        let other = rival.statement.short();
        session.desk.context().printer.warn(&format!(
            "{}/{} has another proposal, {other}: this rejection is your only ballot in this round, so it \
             counts against {other} too, and you cannot approve that one any more",
            slot.lane, slot.seq
        ));
    }
    Ok(())
}

/// What the voter's own build came to, if it came to what is proposed: every component, and the
/// installer, which is the keeper's program or a file of its own.
pub(crate) fn rebuild(
    rebuilt: &[PathBuf],
    env: Option<&str>,
    drafted: &Statement,
) -> Result<Option<Rebuild>, Failure> {
    if rebuilt.is_empty() {
        return Ok(None);
    }
    if drafted.lane != Lane::Release {
        return Err(Failure::usage("only a release has components to rebuild"));
    }
    let manifest = Manifest::parse(drafted).or_fail(|| "its manifest breaks a rule")?;
    let keeper = manifest.components.iter().find(|part| part.name == KEEPER);
    let (mut built, mut built_keeper) = (BTreeSet::new(), None);
    for path in rebuilt {
        let bytes = std::fs::read(path).or_fail(|| format!("no {}", path.display()))?;
        let digest = Digest::of(&bytes);
        built.insert(digest);
        if keeper.is_some_and(|part| part.digest == digest) {
            built_keeper = Some(bytes);
        }
    }
    if let Some(other) = manifest.components.iter().find(|part| !built.contains(&part.digest)) {
        return Err(Failure::new(format!("your build has no {} as proposed", other.name))
            .because(format!("{} is the digest of none of your files", other.digest.short()))
            .hint("find out why; `vote … reject --reason` tells the others meanwhile"));
    }
    let installer = manifest.installer;
    let of_the_keeper = match built_keeper {
        Some(bytes) => Compared::with(&installer, &Contents::of(&bytes)?) == Compared::Same,
        None => false,
    };
    if !of_the_keeper && !built.contains(&installer.digest) {
        return Err(Failure::new("your build has no installer as proposed")
            .because(format!(
                "{} is neither the program of your {KEEPER} nor one of your files",
                installer.digest.short()
            ))
            .hint(
                "give your own build of the installer, which fresh servers run as root, with one \
                 more `--rebuilt FILE`; if it differs, find out why",
            ));
    }
    let parts: Vec<&[u8]> =
        manifest.components.iter().map(|part| part.digest.0.as_slice()).collect();
    let env = env.unwrap_or_default().to_owned();
    Ok(Some(Rebuild { digest: Digest::of_parts(&parts), env }))
}
