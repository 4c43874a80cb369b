//! What a ruling would settle, as far as this folder can see.
//!
//! A ruling is for good: the first one on a place stands. On a place at which nothing is undecided it
//! settles nothing and burns the place, or takes back what every server obeys.
//!
//! | the place | something is undecided there if |
//! |---|---|
//! | the next one of its lane | something was proposed for it |
//! | one that is signed | a governor vetoed what is signed there, or another one was signed for it |
//! | settled by a policy, or further on | never |

use borgios_policy::{Policy, Ruling};
use borgios_types::{Digest, Seq};

use crate::archive::is_veto;
use crate::desk::Desk;
use crate::failure::Failure;

/// Why a ruling would settle nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Moot {
    /// A policy settled the place; the first ruling stands.
    Settled {
        /// Its number.
        by: Seq,
    },
    /// It is signed, and nobody is known to object.
    Decided(Digest),
    /// Nothing can be voted on there yet.
    Beyond {
        /// The next place of the lane.
        next: Seq,
    },
    /// It is the next place, and nobody proposed anything for it.
    Empty,
    /// The winner was neither proposed nor signed for the place, and nothing else could ever count there.
    Unknown(Digest),
}

impl Moot {
    /// Why, for people.
    fn words(&self, ruling: &Ruling) -> String {
        let Ruling { lane, seq, .. } = ruling;
        match self {
            Self::Settled { by } => {
                format!("policy/{by} settled {lane}/{seq}, and the first ruling on a place stands")
            }
            Self::Decided(id) => format!(
                "{lane}/{seq} is decided: {} is signed, and nobody is known to have vetoed it",
                id.short()
            ),
            Self::Beyond { next } => {
                format!("{lane}/{seq} is not open: the next one is {lane}/{next}")
            }
            Self::Empty => format!("nothing is proposed for {lane}/{seq}"),
            Self::Unknown(id) => format!(
                "{id} was neither proposed nor signed for {lane}/{seq}, and nothing else could ever count \
                 there"
            ),
        }
    }
}

/// Why `ruling` would settle nothing here; none if something is undecided at its place.
pub(crate) fn moot(desk: &Desk<'_>, ruling: &Ruling) -> Result<Option<Moot>, Failure> {
    let (archive, chain) = (desk.archive(), desk.archive().chain());
    let Ruling { lane, seq, winner, .. } = *ruling;
    if let Some(settled) = chain.settled(lane, seq) {
        return Ok(Some(Moot::Settled { by: settled.policy }));
    }
    let next = chain.head_seq(lane).next();
    if seq > next {
        return Ok(Some(Moot::Beyond { next }));
    }
    let dead = archive.dead_statements()?.into_iter();
    let others = dead.filter(|(one, _)| (one.lane, one.seq) == (lane, seq)).map(|(_, id)| id);
    let others: Vec<Digest> = others.chain(archive.rivals().at(lane, seq).copied()).collect();
    let signed = chain.get(lane, seq);
    if let Some(signed) = signed.filter(|_| others.is_empty()) {
        let id = signed.id();
        let mut objections = archive.objections().values();
        if !objections.any(|held| is_veto(held) && held.value.statement == id) {
            return Ok(Some(Moot::Decided(id)));
        }
    } else if others.is_empty()
        && !desk.votes()?.iter().any(|vote| (vote.slot.lane, vote.slot.seq) == (lane, seq))
    {
        return Ok(Some(Moot::Empty));
    }
    let proposed = archive.proposals().values().filter_map(|held| {
        let statement = held.value.parse_statement().ok()?;
        ((statement.lane, statement.seq) == (lane, seq)).then(|| held.value.statement_id())
    });
    let known: Vec<Digest> = proposed.chain(signed.map(|at| at.id())).chain(others).collect();
    Ok(winner.filter(|winner| !known.contains(winner)).map(Moot::Unknown))
}

/// Refuses to propose rulings that would settle nothing, unless the governor knows better: only a server
/// shows whether a place is frozen there.
pub(crate) fn refuse_moot(
    desk: &Desk<'_>,
    rulings: &[Ruling],
    even_so: bool,
) -> Result<(), Failure> {
    for ruling in rulings {
        let Some(moot) = moot(desk, ruling)? else { continue };
        let why = moot.words(ruling);
        // A node would refuse it, or it would have no effect at all.
        if even_so && !matches!(moot, Moot::Settled { .. }) {
            desk.context().printer.warn(&format!("{why}; you said to rule on it even so"));
            continue;
        }
        let (lane, seq) = (ruling.lane, ruling.seq);
        let refusal = Failure::new(format!("no ruling on {lane}/{seq} was proposed"))
            .code(Failure::NOTHING_UNDECIDED)
            .because(why);
        return Err(match moot {
            Moot::Settled { .. } => refusal.hint(format!(
                "`borgios log {lane}` shows where the lane goes on; a new statement takes the next place"
            )),
            Moot::Decided(_) => refusal.hint(format!(
                "a new statement of the lane {lane} changes what is signed; where `borgios status` of a \
                 server shows the place as frozen or vetoed, add --even-if-decided"
            )),
            Moot::Beyond { .. } | Moot::Empty => refusal.hint(
                "`borgios sync` brings what others proposed, `borgios inbox` lists it; a place that \
                 nobody voted on needs no ruling",
            ),
            Moot::Unknown(_) => refusal.hint(format!(
                "`borgios sync` brings what others proposed; compare the whole id with `borgios log \
                 {lane}`, and with `borgios status` of a server that shows the place as frozen"
            )),
        });
    }
    Ok(())
}

/// What a policy that is voted on would burn, as far as is known here, one line each: whoever proposed it
/// may know more, and whoever votes on it should ask.
pub(crate) fn burns(desk: &Desk<'_>, policy: &Policy) -> Result<Vec<String>, Failure> {
    let mut lines = Vec::new();
    for ruling in &policy.rulings {
        match moot(desk, ruling)? {
            Some(moot @ (Moot::Beyond { .. } | Moot::Empty | Moot::Unknown(_))) => {
                lines.push(format!("BURNS     {}, as far as is known here", moot.words(ruling)));
            }
            // What it takes back has a line of its own, and what is settled stays so.
            Some(Moot::Decided(_) | Moot::Settled { .. }) | None => {}
        }
    }
    Ok(lines)
}
