//! The shell of the data plane: it carries streams between tree neighbours as fast as links allow.
//!
//! ```text
//!  pipe ─▶ reader ─▶┐  frames          ┌─▶ outbox ─▶ writer ─▶ pipe      one of each per link
//!                   ▼                  │
//!  publish ───────▶ hub (owns the core) ─▶ subscriptions
//!                   ▲                  │
//!                   └── log worker ◀───┘   a group of jobs, one sync
//! ```
//!
//! | module | holds |
//! |---|---|
//! | [`hub`] | [`HubHandle`]: what the agent calls; [`Event`]: what it hears |
//! | [`subscription`] | what an application reads: in order, each message once |
//! | [`pipe`] | what carries bytes; [`ssh_pipe`], [`tls`]: the two kinds |
//! | [`offers`] | how two neighbours agree on a TLS connection |
//!
//! What is decided about streams is decided in `borgios-stream`; here are the bounds of queues and
//! the pace. The format on the wire is `docs/protocol/stream.md`.

mod bell;
mod fetches;
#[cfg(feature = "fuzz")]
pub mod fuzz;
pub mod hub;
mod links;
mod log_worker;
pub mod offers;
mod outbox;
pub mod pipe;
mod reader;
mod ready_keys;
mod shell;
pub mod ssh_pipe;
pub mod subscription;
pub mod tls;
mod told;
mod verifiers;

pub use hub::{Event, HubConfig, HubHandle, PublishError, Receipt, StartError};
pub use pipe::Pipe;
pub use ssh_pipe::SshPipe;
pub use subscription::{Delivery, Item, Subscription};
