//! Whose room a governor's objects take. A key that another one has replaced under the same name, since it
//! may be stolen, must not fill the room of whoever has the name now.
//!
//! ```text
//! the key of the name in force, or a former one that its policy lists ─▶ NAME
//! a key that the name had on an earlier board ────────────────────────▶ NAME@former
//! ```
//!
//! Who owns what follows from the policy in force alone: it is looked at again when that changes, and at
//! each start.

use borgios_policy::{
    Ballot, Board, Burn, Chain, Drill, DrillAnswer, Name, Object as _, Pool, Proposal, Session,
    SessionShare,
};
use borgios_types::PublicKey;

use crate::ledger::Ledger;

/// The kinds that are owned so; all others have a date or a board of their own.
const KINDS: [&str; 8] = [
    Proposal::KIND,
    Pool::KIND,
    Ballot::KIND,
    Burn::KIND,
    Session::KIND,
    SessionShare::KIND,
    Drill::KIND,
    DrillAnswer::KIND,
];

/// Who said something under `board`, as the owner of it.
pub(crate) fn speaker(chain: &Chain, board: &Board, name: &Name) -> String {
    let key = board.by_name(name).map(|member| member.key);
    key.map_or_else(|| name.to_string(), |key| with_key(chain, name, key))
}

/// Who said something with a key that the name has, or had.
fn with_key(chain: &Chain, name: &Name, key: PublicKey) -> String {
    match chain.policy().and_then(|policy| policy.board.by_name(name)) {
        Some(now) if now.key != key && !now.former.contains(&key) => format!("{name}@former"),
        _ => name.to_string(),
    }
}

impl Ledger {
    /// After a new policy: what was said with a key that it replaced takes its successor's room no more.
    pub(crate) fn look_at_speakers(&mut self) {
        let Self { chain, store, .. } = self;
        store.reown(&KINDS, |stored| {
            let name: Name = stored.by().parse().ok()?;
            // It was verified when it came: its one signature is the speaker's.
            Some(with_key(chain, &name, stored.envelope.sigs.first()?.by))
        });
    }
}
