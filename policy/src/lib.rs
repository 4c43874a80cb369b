//! Governors, their threshold key, one-touch votes, statements and their verification.
//!
//! A core without IO: no clock, no sockets, no files; randomness is passed in. `README.md` says
//! in which order to read it.

pub mod ballot;
pub mod board;
pub mod card;
mod cast;
pub mod chain;
#[cfg(any(test, feature = "fixture"))]
pub mod fixture;
pub mod founding;
pub mod invitation;
pub mod invite_file;
pub mod join;
pub mod lane;
pub mod name;
pub mod note;
pub mod object;
pub mod policy;
pub mod pool;
pub mod proposal;
pub mod refusal;
pub mod report;
pub mod round;
pub mod share;
pub mod slot;
pub mod statement;
pub mod submission;
pub mod tally;
pub mod vote;
pub mod wire;

pub use ballot::{Ballot, Choice};
pub use board::{Board, BoardError, Governor, Share};
pub use card::Card;
pub use chain::{Chain, Verdict};
pub use founding::{Ceremony, Founded, FoundingError, Plan};
pub use invitation::Invitation;
pub use invite_file::{InvitationFile, InviteError, Member, PolicyPin};
pub use join::Join;
pub use lane::Lane;
pub use name::Name;
pub use note::Note;
pub use object::{Object, ObjectError};
pub use policy::{Class, Classes, Policy, PolicyError};
pub use pool::{Pool, PoolSlot};
pub use proposal::Proposal;
pub use refusal::Refusal;
pub use report::{Outcome, Report};
pub use round::{OpenRound, RoundError};
pub use share::{KeyShare, Seed};
pub use slot::Slot;
pub use statement::{Statement, VerifiedStatement, merge_signatures};
pub use submission::{Run, Submission};
pub use tally::{Culprit, Proof, Standing, State, Tally, tally};
pub use vote::{Intent, Vote, VoteError};
pub use wire::{Bytes, SecretBytes, SecretText};
