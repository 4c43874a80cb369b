//! Several documents that are proposed for one place, and which of them a governor was shown.
//!
//! Anybody who ever sat on a board can propose, as often as they like. What counts here is what could be
//! signed, by who may speak now; and of one proposer one is enough to know that there is another. So
//! each member of a board can stand in the way of an approval once, and a look ends it.

use std::collections::BTreeSet;

use borgios_policy::tally::State;
use borgios_policy::{Name, RecoveryBoard};
use borgios_types::{Digest, UnixSeconds};

use crate::desk::{Desk, OpenVote};

/// One of several documents that are proposed for a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rival {
    /// Its id.
    pub(crate) statement: Digest,
    /// Who of the board that votes proposed it.
    pub(crate) by: Vec<Name>,
    /// Who approves it.
    pub(crate) approvals: Vec<Name>,
    /// When it came here.
    pub(crate) since: Option<UnixSeconds>,
}

/// What is proposed for the slot of a vote, could be signed and is not dead, whichever came here first at
/// the head.
pub(crate) fn rivals(desk: &Desk<'_>, vote: &OpenVote) -> Vec<Rival> {
    let archive = desk.archive();
    let recoverers = archive.recovery_board().map(RecoveryBoard::board);
    let board = if vote.recovery { recoverers } else { archive.board().ok() };
    let Some(board) = board else { return Vec::new() };
    let mut all: Vec<Rival> = Vec::new();
    for (id, document) in &vote.documents {
        let Some(standing) = vote.tally.documents.get(id) else { continue };
        let seated = document.proposals.iter().filter(|held| {
            board.by_name(&held.by).is_some_and(|seat| held.envelope.signed_by(&seat.key))
        });
        let by: Vec<Name> = seated.map(|held| held.by.clone()).collect();
        let obeyed =
            || archive.chain().review(desk.context().now(), &document.to_envelope()).is_ok();
        if by.is_empty() || standing.state == State::Dead || !obeyed() {
            continue;
        }
        let since = document.proposals.iter();
        let since = since.filter_map(|held| archive.stored_at(&held.envelope)).min();
        let approvals = standing.approvals.iter().cloned().collect();
        all.push(Rival { statement: *id, by, approvals, since });
    }
    all.sort_by_key(|rival| (rival.since.unwrap_or(UnixSeconds(u64::MAX)), rival.statement));
    all
}

/// Who proposed something else than `statement`: what a look at it shows.
pub(crate) fn proposers(all: &[Rival], statement: Digest) -> BTreeSet<Name> {
    let others = all.iter().filter(|rival| rival.statement != statement);
    others.flat_map(|rival| rival.by.iter().cloned()).collect()
}

/// The first of what else is proposed whose proposers were not all known when `statement` was looked at.
pub(crate) fn unshown<'a>(
    all: &'a [Rival],
    statement: Digest,
    shown: &BTreeSet<Name>,
) -> Option<&'a Rival> {
    let mut others = all.iter().filter(|rival| rival.statement != statement);
    others.find(|rival| rival.by.iter().any(|name| !shown.contains(name)))
}

#[cfg(test)]
mod tests {
    use borgios_policy::fixture::{Council, NOW, release_body, statement as draft};
    use borgios_policy::{Lane, Object as _, Proposal};
    use borgios_types::{Envelope, Round, SecretKey, Seq};

    use super::*;
    use crate::archive::Archive;
    use crate::context::Context;
    use crate::home::Home;
    use crate::passphrase::Source;
    use crate::printer::Printer;
    use crate::reviewed::Reviewed;

    /// What `key` proposes for release/1 at `now`; junk is out of date.
    fn proposal(
        network: Digest,
        (governor, key): (Name, &SecretKey),
        version: &str,
        (now, junk): (UnixSeconds, bool),
    ) -> (Digest, Envelope) {
        let mut one = draft(Lane::Release, 1, Some(network), None, Some(1), release_body(version));
        one.issued = UnixSeconds(now.0 - 100);
        one.expires = if junk { UnixSeconds(now.0 - 50) } else { now.plus(86_400) };
        let statement = one.to_envelope().payload;
        let proposal = Proposal { governor, statement, lane: Lane::Release, note: None };
        (proposal.statement_id(), proposal.to_envelope().sign(key))
    }

    /// A governor who proposes without end holds an approval up once; what no node would obey never does.
    #[test]
    fn each_proposer_stands_in_the_way_once_and_a_look_ends_it() {
        let council = Council::new(3, 2, 1, 1);
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(Some(folder.path().to_owned())).unwrap();
        let first = council.sign(&council.first_policy(2));
        let network = first.id();
        let context = Context {
            home: home.clone(),
            printer: Printer::new(true),
            passphrase: Source::Terminal,
            nodes: Vec::new(),
            exchange: None,
            socket: folder.path().join("none"),
        };
        let now = context.now();
        let mut archive = Archive::load(&home, network).unwrap();
        let key = |at: usize| (council.name(at), &council.keys[&council.name(at)]);
        let (mine, good) = proposal(network, key(0), "1", (now, false));
        assert_eq!(archive.admit(NOW, vec![first, good]).unwrap().refused, Vec::<String>::new());
        let text = format!(r#"{{"network":"{network}","name":"fleet"}}"#);
        crate::durable::folder(&home.root().join("governor")).unwrap();
        crate::durable::write(&home.governor("board.json"), text.as_bytes()).unwrap();
        let all = || {
            let desk = Desk::at_hand(&context).unwrap();
            rivals(&desk, &desk.vote(Lane::Release, Seq(1), Round(0)).unwrap())
        };
        let look = || {
            let shown = proposers(&all(), mine);
            Reviewed::load(&home).unwrap().note(&home, mine, now, shown).unwrap();
        };
        let in_the_way = || {
            let reviewed = Reviewed::load(&home).unwrap();
            unshown(&all(), mine, reviewed.shown_with(&mine).unwrap()).map(|one| one.statement)
        };
        look();
        assert_eq!(in_the_way(), None);
        let mut lay = |key: (Name, &SecretKey), version: &str, junk: bool| {
            let (id, envelope) = proposal(network, key, version, (now, junk));
            let admitted = archive.admit(now, vec![envelope]).unwrap();
            assert_eq!(admitted.refused, Vec::<String>::new());
            id
        };
        // What nobody could sign counts nothing.
        lay(key(2), "junk", true);
        assert_eq!(in_the_way(), None);
        // Something else stands in the way until it was looked at, and nothing more of that proposer's does.
        let two = lay(key(2), "2", false);
        assert_eq!(in_the_way(), Some(two));
        look();
        for version in ["3", "4", "5"] {
            lay(key(2), version, false);
            assert_eq!(in_the_way(), None);
        }
        assert_eq!(all().len(), 5);
        let six = lay(key(1), "6", false);
        assert_eq!(in_the_way(), Some(six));
        look();
        assert_eq!(in_the_way(), None);
    }
}
