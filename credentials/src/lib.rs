//! The fleet's shared root credential: its schedule, its escrow, and how a node changes to the
//! next epoch.
//!
//! A core without IO: no clock, no files, no account tools; randomness is passed in (only `age`
//! draws its own). `README.md` says in which order to read it.

pub mod current;
pub mod dealing;
pub mod escrow;
pub mod opening;
pub mod password;
pub mod reveal;
pub mod rotation;
pub mod schedule;
pub mod sealed_share;
pub mod secret_share;
pub mod shadow;
pub mod verifier;

pub use current::{Current, Orders};
pub use dealing::{DealError, Term, deal};
pub use escrow::{Escrow, EscrowError};
pub use opening::{OpenError, OpenedShares};
pub use password::{Password, PasswordError};
pub use reveal::{ReconstructError, Reconstructed};
pub use rotation::{Mark, Rotation, Step};
pub use schedule::{CheckError, Schedule, ScheduleError};
pub use sealed_share::{SealError, SealedShare};
pub use secret_share::SecretShare;
pub use shadow::{RootField, Shadow, ShadowError};
pub use verifier::{Verifier, VerifierError};
