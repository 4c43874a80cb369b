//! The real program, as governors and operators type it: one test program, so that what waits in one test
//! leaves the processor to another.
//!
//! `cargo test -p borgios-cli --test main votes::` runs the tests of one file.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

mod access;
mod adopt;
mod attempts;
mod board;
mod carriers;
mod changes;
mod credential;
mod credential_after_change;
mod deadlines;
mod fleet;
mod foundings;
mod installers;
mod interrupted_changes;
mod interrupted_founding;
mod interrupted_votes;
mod lying_node;
mod made_up;
mod recovery;
mod repairs;
mod review_and_proof;
mod rivals;
mod rulings;
mod servers;
mod stream_follow;
mod strike;
mod two_touch;
mod upkeep;
mod vetoes;
mod votes;
