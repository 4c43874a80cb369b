//! Blobs of the lane `credential`: kept in the governor's folder by digest, fetched from whoever
//! has them. Their digest proves them; the bound on their size is the statement's.
//!
//! ```text
//! of what the board signed             kept for good: any epoch may be revealed. Of the newest: brought
//! of what the board in force proposed  brought: two documents of each proposer, 256 MiB in all
//! what was dealt or reviewed here      kept until the place behind its own is decided too
//! anything else                        fetched when `review` or `vote` needs it, let go of by `sync`
//! ```
//!
//! Anybody on a board proposes as often as they like, and every laptop would keep what they name and give
//! it to every node. So it counts who proposes, as in [`crate::rivalry`].

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;

use borgios_credentials::escrow::ESCROW_MAX;
use borgios_policy::tally::State;
use borgios_policy::{Blob, Credential, Lane, Statement, credential};
use borgios_types::{Digest, PublicKey, Round, Seq, UnixSeconds};

use crate::archive::Archive;
use crate::desk::OpenVote;
use crate::durable;
use crate::exchange::Exchange;
use crate::failure::{Failure, OrFail as _};
use crate::home::Home;
use crate::reviewed::Reviewed;

/// Most documents of one proposer whose blobs are brought unasked: the one that is voted on, and one that
/// was given up for it.
const DOCUMENTS_EACH: usize = 2;

/// Most bytes of blobs brought unasked for what is voted on: of nine governors two documents each of the
/// largest that any tool reads. Usual ones are a hundred times smaller.
const UNASKED_MAX: u64 = 256 * 1024 * 1024;

/// Most ids told of documents that are too many.
const LEFT_OUT_SHOWN: usize = 3;

/// A blob that lies in the governor's folder.
pub(crate) fn held(home: &Home, blob: &Blob) -> Result<Option<Vec<u8>>, Failure> {
    let path = home.blob(&blob.digest);
    // What has another length is another blob, and no reason to stop: a proposal may name a true digest
    // and a wrong size.
    let may_be = |length: u64| length == blob.size && length <= credential::ESCROW_MAX;
    if !path.metadata().is_ok_and(|metadata| metadata.is_file() && may_be(metadata.len())) {
        return Ok(None);
    }
    let max = usize::try_from(blob.size).unwrap_or(usize::MAX);
    let bytes = durable::read(&path, max)?;
    Ok(bytes.filter(|bytes| is(blob, bytes)))
}

/// A blob from the governor's folder, else from the places this run talks to; it is kept.
pub(crate) fn fetched(
    home: &Home,
    exchange: &mut Exchange,
    blob: &Blob,
) -> Result<Option<Vec<u8>>, Failure> {
    if let Some(bytes) = held(home, blob)? {
        return Ok(Some(bytes));
    }
    if blob.size > credential::ESCROW_MAX {
        return Ok(None);
    }
    let Some(bytes) = exchange.blob(blob, |bytes| is(blob, bytes)) else { return Ok(None) };
    keep(home, &bytes)?;
    Ok(Some(bytes))
}

/// Keeps a blob in the governor's folder.
pub(crate) fn keep(home: &Home, bytes: &[u8]) -> Result<Blob, Failure> {
    let blob = Blob { digest: Digest::of(bytes), size: bytes.len() as u64 };
    let path = home.blob(&blob.digest);
    if let Some(folder) = path.parent() {
        durable::folder(folder)?;
    }
    durable::write(&path, bytes)?;
    Ok(blob)
}

/// Removes blobs that nothing needs any more, and what dead writes left beside them.
pub(crate) fn clear(home: &Home, spare: &BTreeSet<Digest>) -> Result<(), Failure> {
    for digest in spare {
        let path = home.blob(digest);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).or_fail(|| format!("could not remove {}", path.display()));
            }
            _ => {}
        }
    }
    durable::sweep_dead(&home.root().join("blobs"))
}

fn is(blob: &Blob, bytes: &[u8]) -> bool {
    bytes.len() as u64 == blob.size && Digest::of(bytes) == blob.digest
}

/// Which blobs a folder needs, and for what.
#[derive(Debug, Default)]
pub(crate) struct Needs {
    /// Brought everywhere, and fetched first where they are not at hand.
    pub(crate) wanted: Vec<Blob>,
    /// Brought everywhere as far as they are at hand.
    pub(crate) at_hand: Vec<Blob>,
    /// What proposals name and nothing needs.
    pub(crate) spare: BTreeSet<Digest>,
    /// Documents that could be signed and whose blobs are too many to be brought unasked.
    left_out: Vec<Digest>,
}

/// A document that could be signed, as far as its blobs go.
#[derive(Clone, Debug)]
struct Offer {
    id: Digest,
    /// Who of the board proposed it.
    by: BTreeSet<PublicKey>,
    blobs: Vec<Blob>,
    /// Approvals, round and date: of one proposer the greatest counts.
    rank: (usize, Round, UnixSeconds),
    /// Bytes of those blobs that nothing signed names.
    cost: u64,
}

impl Needs {
    /// What is needed by the archive of a governor with the key `own`, where these votes are open.
    pub(crate) fn of(
        archive: &Archive,
        votes: &[OpenVote],
        own: Option<&PublicKey>,
        reviewed: &Reviewed,
    ) -> Result<Self, Failure> {
        let (board, chain, signed) = (archive.board()?, archive.chain(), signed(archive)?);
        let offers = offers(archive, votes, &signed)?;
        let chosen = choose(&offers);
        let mut needs = Self::default();
        let in_force = chain.credential().map(|(newest, _)| vec![newest.schedule, newest.escrow]);
        let of_offers = chosen.iter().flat_map(|offer| offer.blobs.iter().copied());
        for blob in in_force.into_iter().flatten().chain(of_offers) {
            if !needs.wanted.contains(&blob) {
                needs.wanted.push(blob);
            }
        }
        let mut keep: BTreeSet<Digest> = signed.keys().copied().collect();
        keep.extend(needs.wanted.iter().map(|blob| blob.digest));
        let chosen: BTreeSet<Digest> = chosen.iter().map(|offer| offer.id).collect();
        let head = chain.head_seq(Lane::Credential);
        let mut minded = BTreeSet::new();
        for held in archive.proposals().values() {
            let (id, proposal) = (held.value.statement_id(), &held.value);
            let Some(statement) = proposal.parse_statement().ok().filter(is_of_lane) else {
                continue;
            };
            let blobs = blobs(&statement);
            let is_by = |key: &PublicKey| held.envelope.signed_by(key);
            // Of who is not on the board nothing is fetched unasked. It may be somebody whose key was
            // replaced since, and this the only copy.
            if statement.seq <= head || board.by_name(&held.by).is_some_and(|seat| is_by(&seat.key))
            {
                needs.spare.extend(blobs.iter().map(|blob| blob.digest));
            }
            // Who dealt may have the only copy. A veto or a ruling may turn on what was decided last.
            let is_minded = || reviewed.contains(&id) || own.is_some_and(is_by);
            if statement.seq < head || !is_minded() {
                continue;
            }
            keep.extend(blobs.iter().map(|blob| blob.digest));
            if statement.seq > head {
                minded.insert(id);
                needs.at_hand.extend(blobs);
            }
        }
        let mut seen: Vec<Blob> = needs.wanted.clone();
        needs.at_hand.retain(|blob| {
            let is_new = !seen.contains(blob);
            seen.push(*blob);
            is_new
        });
        needs.spare.retain(|digest| !keep.contains(digest));
        let left_out = offers.iter().map(|offer| offer.id);
        needs.left_out =
            left_out.filter(|id| !chosen.contains(id) && !minded.contains(id)).collect();
        Ok(needs)
    }

    /// What to do about documents whose blobs were left where they are; none if there are none.
    pub(crate) fn left_out_line(&self) -> Option<String> {
        let first: Vec<String> =
            self.left_out.iter().take(LEFT_OUT_SHOWN).map(Digest::short).collect();
        let one = first.first()?;
        let more = if self.left_out.len() > first.len() { ", …" } else { "" };
        Some(format!(
            "the blobs of {} proposals of the lane credential are not brought unasked, for they are too \
             many or too large ({}{more}): `borgios review {one}` with a node or folder fetches those of one",
            self.left_out.len(),
            first.join(", ")
        ))
    }
}

fn is_of_lane(statement: &Statement) -> bool {
    statement.lane == Lane::Credential
}

/// The blobs that a statement names; none if it is of another lane, or of no use.
fn blobs(statement: &Statement) -> Vec<Blob> {
    let credential = Credential::of(statement);
    credential.map_or_else(|_| Vec::new(), |one| vec![one.schedule, one.escrow])
}

/// The blobs of everything that the board ever signed, vetoed or overruled or not, with their sizes.
fn signed(archive: &Archive) -> Result<BTreeMap<Digest, u64>, Failure> {
    let mut signed = BTreeMap::new();
    let mut note = |statement: &Statement| {
        signed.extend(blobs(statement).into_iter().map(|blob| (blob.digest, blob.size)));
    };
    let chain = archive.chain();
    let ruled = chain.history().chain(chain.overruled());
    ruled.chain(chain.after(Lane::Credential, Seq(0))).for_each(|at| note(at.statement()));
    archive.rivals().all().for_each(|(_, statement)| note(statement));
    archive.dead_statements()?.iter().for_each(|(statement, _)| note(statement));
    Ok(signed)
}

/// What somebody of the board in force proposes and could be signed.
fn offers(
    archive: &Archive,
    votes: &[OpenVote],
    signed: &BTreeMap<Digest, u64>,
) -> Result<Vec<Offer>, Failure> {
    let board = archive.board()?;
    let mut offers = Vec::new();
    for vote in votes.iter().filter(|vote| vote.slot.lane == Lane::Credential) {
        for (id, document) in &vote.documents {
            let standing = vote.tally.documents.get(id);
            let Some(standing) = standing.filter(|one| one.state != State::Dead) else { continue };
            let seats = document.proposals.iter().filter_map(|held| {
                let seat = board.by_name(&held.by)?;
                held.envelope.signed_by(&seat.key).then_some(seat.key)
            });
            let by: BTreeSet<PublicKey> = seats.collect();
            let mut blobs = blobs(&document.statement);
            // Of what is signed the size is known.
            let known = |blob: &Blob| signed.get(&blob.digest).copied();
            blobs.retain(|blob| known(blob).is_none_or(|size| size == blob.size));
            let costs = blobs.iter().map(|blob| known(blob).map_or(blob.size, |_| 0));
            let cost = costs.fold(0, u64::saturating_add);
            let rank = (standing.approvals.len(), vote.slot.round, document.statement.issued);
            if !by.is_empty() && !blobs.is_empty() {
                offers.push(Offer { id: *id, by, blobs, rank, cost });
            }
        }
    }
    Ok(offers)
}

/// Whose blobs are brought unasked: of each proposer the first before anybody's second, and the smallest
/// first, so that who names the largest finds no room and takes none from others.
fn choose(offers: &[Offer]) -> Vec<&Offer> {
    let mut of_each: BTreeMap<PublicKey, Vec<&Offer>> = BTreeMap::new();
    // No tool reads a larger escrow.
    let is_read = |offer: &&Offer| offer.blobs.iter().all(|blob| blob.size <= ESCROW_MAX as u64);
    for offer in offers.iter().filter(is_read) {
        for by in &offer.by {
            of_each.entry(*by).or_default().push(offer);
        }
    }
    for all in of_each.values_mut() {
        all.sort_by_key(|offer| Reverse((offer.rank, offer.id)));
    }
    let (mut chosen, mut taken): (Vec<&Offer>, u64) = (Vec::new(), 0);
    for turn in 0..DOCUMENTS_EACH {
        let mut row: Vec<&Offer> =
            of_each.values().filter_map(|all| all.get(turn).copied()).collect();
        row.sort_by_key(|offer| (offer.cost, offer.id));
        for offer in row {
            let is_new = chosen.iter().all(|one| one.id != offer.id);
            if is_new && taken.saturating_add(offer.cost) <= UNASKED_MAX {
                taken = taken.saturating_add(offer.cost);
                chosen.push(offer);
            }
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use borgios_policy::fixture::{Council, ISSUED, NOW, statement as draft};
    use borgios_policy::{Name, Object as _, Proposal};
    use borgios_types::{Envelope, Epoch};

    use super::*;
    use crate::context::Context;
    use crate::desk::Desk;
    use crate::passphrase::Source;
    use crate::printer::Printer;

    /// A laptop of a board of three.
    struct Laptop {
        _folder: tempfile::TempDir,
        council: Council,
        context: Context,
        network: Digest,
    }

    impl Laptop {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let home = Home::at(Some(folder.path().to_owned())).unwrap();
            let council = Council::new(3, 2, 1, 1);
            let first = council.sign(&council.first_policy(2));
            let network = first.id();
            let text = format!(r#"{{"network":"{network}","name":"fleet"}}"#);
            durable::folder(&home.root().join("governor")).unwrap();
            durable::write(&home.governor("board.json"), text.as_bytes()).unwrap();
            let context = Context {
                home,
                printer: Printer::new(true),
                passphrase: Source::Terminal,
                nodes: Vec::new(),
                exchange: None,
                socket: folder.path().join("none"),
            };
            let laptop = Self { _folder: folder, council, context, network };
            laptop.lay(vec![first]);
            laptop
        }

        fn home(&self) -> &Home {
            &self.context.home
        }

        fn lay(&self, envelopes: Vec<Envelope>) {
            let mut archive = Archive::load(self.home(), self.network).unwrap();
            let admitted = archive.admit(NOW, envelopes).unwrap();
            assert_eq!(admitted.refused, Vec::<String>::new());
        }

        /// A schedule for credential/1, dated `at` seconds after the first, that names these blobs.
        fn draft(&self, at: u64, schedule: Blob, escrow: Blob) -> Statement {
            let body = Credential { schedule, escrow, min_epoch: Epoch(1), reason: String::new() };
            let mut one =
                draft(Lane::Credential, 1, Some(self.network), None, Some(1), body.to_body());
            one.issued = ISSUED.plus(at);
            one
        }

        /// The governor at this place of the board proposes it; its id.
        fn propose(&self, by: usize, statement: &Statement) -> Digest {
            let envelope = statement.to_envelope();
            let proposal = Proposal {
                governor: self.name(by),
                statement: envelope.payload.clone(),
                lane: Lane::Credential,
                note: None,
            };
            self.lay(vec![proposal.to_envelope().sign(&self.council.keys[&self.name(by)])]);
            envelope.id()
        }

        fn name(&self, at: usize) -> Name {
            self.council.name(at)
        }

        fn key(&self, at: usize) -> PublicKey {
            self.council.keys[&self.name(at)].public()
        }

        fn needs(&self, own: Option<usize>) -> Needs {
            let desk = Desk::at_hand(&self.context).unwrap();
            let own = own.map(|at| self.key(at));
            let reviewed = Reviewed::load(self.home()).unwrap();
            Needs::of(desk.archive(), &desk.votes().unwrap(), own.as_ref(), &reviewed).unwrap()
        }

        fn has(&self, blob: &Blob) -> bool {
            held(self.home(), blob).unwrap().is_some()
        }
    }

    /// Blobs that exist nowhere.
    fn named(what: &str, size: u64) -> Blob {
        Blob { digest: Digest::of(what.as_bytes()), size }
    }

    #[test]
    fn one_governor_fills_no_disk() {
        let laptop = Laptop::new();
        let blob = |what: &str, at: u64, size| named(&format!("{what} {at}"), size);
        let honest = laptop.draft(0, blob("schedule", 99, 1_000), blob("escrow", 99, 2_000));
        let honest = (laptop.propose(0, &honest), honest);
        let mut junk = Vec::new();
        for at in 0..20 {
            let largest = ESCROW_MAX as u64;
            let one = laptop.draft(at, blob("schedule", at, 1_000), blob("escrow", at, largest));
            junk.push(laptop.propose(2, &one));
        }
        let needs = laptop.needs(None);
        let wanted: Vec<u64> = needs.wanted.iter().map(|blob| blob.size).collect();
        let largest = ESCROW_MAX as u64;
        assert_eq!(wanted, [1_000, 2_000, 1_000, largest, 1_000, largest]);
        // The newest two of that one's.
        for at in [18, 19] {
            assert!(needs.wanted.contains(&blob("escrow", at, largest)), "{at}");
        }
        assert_eq!(needs.spare.len(), 36);
        assert_eq!(needs.left_out.len(), 18);
        let line = needs.left_out_line().unwrap();
        assert!(line.contains("18 proposals") && line.contains("`borgios review "), "{line}");
        assert!(!needs.left_out.contains(&honest.0));

        // Who looked at one of them, or dealt it, keeps it and passes it on; it is not fetched again.
        let mut reviewed = Reviewed::load(laptop.home()).unwrap();
        reviewed.note(laptop.home(), junk[3], NOW, BTreeSet::new()).unwrap();
        let needs = laptop.needs(None);
        assert_eq!(needs.at_hand, [blob("schedule", 3, 1_000), blob("escrow", 3, largest)]);
        assert_eq!((needs.wanted.len(), needs.spare.len(), needs.left_out.len()), (6, 34, 17));
        let needs = laptop.needs(Some(2));
        assert_eq!((needs.wanted.len(), needs.at_hand.len()), (6, 36));
        assert!(needs.spare.is_empty() && needs.left_out_line().is_none());
    }

    #[test]
    fn nobody_names_more_than_there_is_room_for_and_all_have_a_turn() {
        let offer = |by: u8, at: u64, cost: u64| Offer {
            id: Digest::of(&[by, u8::try_from(at).unwrap()]),
            by: BTreeSet::from([borgios_types::SecretKey::from_seed([by; 32]).public()]),
            blobs: vec![named("one", 1)],
            rank: (0, Round(0), UnixSeconds(at)),
            cost,
        };
        let large = UNASKED_MAX / 8;
        // Twenty colluders with three large ones each, and one with a usual schedule.
        let mut offers: Vec<Offer> = (1..=20_u8)
            .flat_map(|by| (0..3).map(move |at| (by, at)))
            .map(|(by, at)| offer(by, at, large))
            .collect();
        offers.push(offer(21, 0, 50_000));
        let chosen = choose(&offers);
        assert!(chosen.iter().any(|one| one.id == offers[60].id));
        assert!(chosen.iter().map(|one| one.cost).sum::<u64>() <= UNASKED_MAX);
        assert_eq!(chosen.len(), 8);
        // What is approved counts before what is newer.
        let mut approved = offer(1, 0, 5);
        approved.rank.0 = 1;
        let offers = [approved, offer(1, 1, 5), offer(1, 2, 5), offer(1, 3, 5)];
        let chosen: Vec<Digest> = choose(&offers).iter().map(|one| one.id).collect();
        assert_eq!(chosen, [offers[0].id, offers[3].id]);
        // What no tool reads is nobody's.
        let huge = Offer { blobs: vec![named("huge", ESCROW_MAX as u64 + 1)], ..offer(1, 9, 5) };
        assert!(choose(&[huge]).is_empty());
    }

    #[test]
    fn what_nothing_needs_goes_and_what_is_signed_stays() {
        let laptop = Laptop::new();
        let put = |text: &str| keep(laptop.home(), text.as_bytes()).unwrap();
        let bring = || Desk::at_hand(&laptop.context).unwrap().bring_blobs().unwrap();
        let pairs: Vec<[Blob; 2]> = (0..4)
            .map(|at| [put(&format!("schedule {at}")), put(&format!("escrow {at}"))])
            .collect();
        let stranger = put("named by nobody");
        let drafts: Vec<Statement> = pairs
            .iter()
            .zip(0..)
            .map(|(pair, at)| {
                let one = laptop.draft(at, pair[0], pair[1]);
                laptop.propose(2, &one);
                one
            })
            .collect();
        let whole = |pair: &[Blob; 2]| pair.iter().all(|blob| laptop.has(blob));
        let has = || pairs.iter().map(whole).collect::<Vec<bool>>();
        // Who names a true digest with a wrong size stops nobody, and takes nothing away.
        let lie = laptop.draft(9, Blob { size: 3, ..pairs[3][0] }, named("escrow", 9));
        laptop.propose(1, &lie);
        assert_eq!(bring(), 4);
        assert_eq!(has(), [false, false, true, true]);
        // What is decided needs the winner's alone, for good: also once another one is in force.
        laptop.lay(vec![laptop.council.sign(&drafts[2])]);
        assert_eq!(bring(), 2);
        assert_eq!(has(), [false, false, true, false]);
        let prev = drafts[2].to_envelope().id();
        let (schedule, escrow) = (put("schedule 5"), put("escrow 5"));
        let mut next = laptop.draft(5, schedule, escrow);
        (next.seq, next.prev) = (Seq(2), Some(prev));
        laptop.lay(vec![laptop.council.sign(&next)]);
        assert_eq!(bring(), 2);
        assert_eq!(has(), [false, false, true, false]);
        assert!(laptop.has(&schedule) && laptop.has(&escrow) && laptop.has(&stranger));
    }

    /// What was dealt or reviewed here outlasts the decision of its place by one, and no longer.
    #[test]
    fn what_was_reviewed_stays_while_a_ruling_may_turn_on_it() {
        let laptop = Laptop::new();
        let put = |text: &str| keep(laptop.home(), text.as_bytes()).unwrap();
        let (schedule, escrow) = (put("schedule"), put("escrow"));
        let lost = laptop.draft(1, schedule, escrow);
        let id = laptop.propose(1, &lost);
        Reviewed::load(laptop.home())
            .unwrap()
            .note(laptop.home(), id, NOW, BTreeSet::new())
            .unwrap();
        let won = laptop.draft(2, put("other schedule"), put("other escrow"));
        laptop.lay(vec![laptop.council.sign(&won)]);
        let bring = || Desk::at_hand(&laptop.context).unwrap().bring_blobs().unwrap();
        bring();
        assert!(laptop.has(&schedule) && laptop.has(&escrow));
        let mut next = laptop.draft(3, put("third schedule"), put("third escrow"));
        (next.seq, next.prev) = (Seq(2), Some(won.to_envelope().id()));
        laptop.lay(vec![laptop.council.sign(&next)]);
        bring();
        assert!(!laptop.has(&schedule) && !laptop.has(&escrow));
    }
}
