//! What a founding makes first: policy/1, which every governor works out alike, and the pools for
//! the votes that follow.

use borgios_types::{Envelope, KeyEpoch, PublicKey, Round, Seq};
use frost_ed25519 as frost;

use super::papers::{self, All, Done, file_name};
use super::plan::Plan;
use super::{Files, FoundingError, cheat};
use crate::board::{Board, Governor, Share, identifier};
use crate::card::Card;
use crate::lane::Lane;
use crate::name::Name;
use crate::object::Object as _;
use crate::policy::{Class, Classes, Policy};
use crate::pool::{Pool, SLOTS_AHEAD, slots_per_pool};
use crate::slot::Slot;
use crate::statement::Statement;

/// The policy that follows from plan and key; every governor works out the same.
pub(super) fn first_policy(
    plan: &Plan,
    public: &frost::keys::PublicKeyPackage,
) -> Result<Policy, FoundingError> {
    let group = public
        .verifying_key()
        .serialize()
        .map_err(|error| FoundingError::State(error.to_string()))?;
    let group: [u8; 32] = group.try_into().map_err(|_| FoundingError::State("no key".into()))?;
    let group =
        PublicKey::from_bytes(group).map_err(|error| FoundingError::State(error.to_string()))?;
    let mut governors = Vec::new();
    for (index, Card { name, key, recipient }) in (1..).zip(&plan.governors) {
        let share = public.verifying_shares().get(&identifier(index));
        let share = share.and_then(|share| share.serialize().ok()?.try_into().ok());
        let share =
            Share(share.ok_or_else(|| FoundingError::State(format!("no share for {name}")))?);
        governors.push(Governor {
            name: name.clone(),
            key: *key,
            recipient: recipient.clone(),
            share,
        });
    }
    let board = Board::new(KeyEpoch(1), plan.threshold, group, governors)
        .map_err(|error| FoundingError::State(error.to_string()))?;
    let class = Class::of(plan.threshold.0);
    let classes = Classes::of(class, class);
    Ok(Policy::new(board, plan.fanout, classes))
}

/// policy/1 itself.
pub(super) fn first_statement(plan: &Plan, policy: &Policy) -> Statement {
    Statement {
        network: None,
        lane: Lane::Policy,
        seq: Seq(1),
        round: Round(0),
        prev: None,
        policy: None,
        issued: plan.issued,
        expires: plan.expires,
        critical: Vec::new(),
        body: policy.to_body(),
    }
}

/// The slots of the first pools: places 1 to 8 of each lane, in round 0.
pub(super) fn first_slots(board: &Board) -> Vec<Slot> {
    let (epoch, round) = (board.epoch(), Round(0));
    let places = move |lane| (1..=SLOTS_AHEAD).map(move |seq| (lane, Seq(seq)));
    let all = Lane::ALL.into_iter().flat_map(places);
    all.map(|(lane, seq)| Slot { epoch, lane, seq, round }).collect()
}

/// The slot of policy/1.
pub(super) fn policy_slot(board: &Board) -> Slot {
    Slot { epoch: board.epoch(), lane: Lane::Policy, seq: Seq(1), round: Round(0) }
}

/// Everyone's first pools: exactly those that were signed for with `done`.
pub(super) fn first_pools(
    board: &Board,
    plan: &Plan,
    files: &Files,
    done: &All<Done>,
) -> Result<Result<Vec<Envelope>, Vec<Name>>, FoundingError> {
    let slots = first_slots(board);
    let (mut pools, mut missing) = (Vec::new(), Vec::new());
    for (name, (_, paper)) in done {
        let expected = slots.len().div_ceil(slots_per_pool(board).max(1));
        if paper.pools.len() != expected {
            let why = format!("{} pools, expected {expected}", paper.pools.len());
            return Err(cheat(name, Done::KIND, &why));
        }
        let mut covered = Vec::new();
        for (number, id) in (1..).zip(&paper.pools) {
            let file = pool_file(name, number);
            let Some(envelope) = papers::envelope(files, &file)? else {
                missing.push(name.clone());
                continue;
            };
            if envelope.id() != *id {
                let found = envelope.id();
                return Err(FoundingError::Changed { file, answered: *id, found });
            }
            let pool = Pool::verify(board, &envelope)
                .map_err(|source| FoundingError::File { file: file.clone(), source })?;
            if pool.governor != *name {
                return Err(cheat(name, Pool::KIND, &format!("it is {}'s", pool.governor)));
            }
            covered.extend(pool.slots.iter().map(|slot| slot.of(board)));
            pools.push(envelope);
        }
        if !missing.contains(name) && covered != slots {
            return Err(cheat(name, Pool::KIND, &"not the slots of a founding"));
        }
    }
    debug_assert_eq!(done.len(), plan.governors.len());
    missing.dedup();
    Ok(if missing.is_empty() { Ok(pools) } else { Err(missing) })
}

/// `ann.pool1.json`: a large board's first pools do not fit one file.
pub(super) fn pool_file(name: &Name, number: usize) -> String {
    file_name(name, &format!("{}{number}", Pool::KIND))
}
