//! Governors, their threshold key, one-touch votes, statements and their verification.
//!
//! A core without IO: no clock, no sockets, no files; randomness is passed in. `README.md` says
//! in which order to read it.

pub mod access;
pub mod ballot;
pub mod board;
pub mod card;
mod cast;
pub mod chain;
pub mod credential;
pub mod departure;
pub mod eviction;
#[cfg(any(test, feature = "fixture"))]
pub mod fixture;
pub mod founding;
pub mod handover;
pub mod invitation;
pub mod invite_file;
pub mod join;
pub mod keygen;
pub mod lane;
pub mod message;
pub mod name;
pub mod note;
pub mod object;
pub mod orders;
pub mod policy;
pub mod pool;
pub mod proposal;
pub mod refusal;
pub mod report;
pub mod rotation_report;
pub mod round;
pub mod share;
pub mod slot;
pub mod statement;
pub mod submission;
pub mod tally;
pub mod vote;
pub mod wire;
pub mod witness;

pub use access::{AccessClass, AccessOrder, Grant, Reveal, Revoke};
pub use ballot::{Ballot, Choice};
pub use board::{Board, BoardError, Governor, Share};
pub use card::Card;
pub use chain::{Chain, Verdict};
pub use credential::{Blob, Credential};
pub use departure::Departure;
pub use eviction::Eviction;
pub use founding::{Founded, Plan};
pub use handover::Handover;
pub use invitation::Invitation;
pub use invite_file::{InvitationFile, InviteError, Member, PolicyPin};
pub use join::Join;
pub use keygen::{Ceremony, CeremonyError};
pub use lane::Lane;
pub use name::Name;
pub use note::Note;
pub use object::{Object, ObjectError};
pub use orders::Granted;
pub use policy::{Class, Classes, Policy, PolicyError};
pub use pool::{Pool, PoolSlot};
pub use proposal::Proposal;
pub use refusal::Refusal;
pub use report::{Outcome, Report};
pub use rotation_report::RotationReport;
pub use round::{OpenRound, RoundError};
pub use share::{KeyShare, Seed};
pub use slot::Slot;
pub use statement::{Statement, VerifiedStatement, merge_signatures};
pub use submission::{Run, Submission};
pub use tally::{Culprit, Proof, Standing, State, Tally, tally};
pub use vote::{Intent, Vote, VoteError};
pub use wire::{Bytes, SecretBytes, SecretText};
pub use witness::{Witness, WitnessProof};
