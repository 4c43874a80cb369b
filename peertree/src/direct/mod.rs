//! Messages to one node, along the tree: routed from neighbour to neighbour, delivered to at most
//! one node, and answered with a receipt or with why not. A state machine without IO.
//!
//! ```text
//!  Send ──▶ ┌─────────────────────────────────────────────┐ ──▶ Deliver: this node is meant
//!           │ for me? ─ a child it was found behind? ─ up? │ ──▶ Forward: to exactly one neighbour
//!  Arrived ▶└─────────────────────────────────────────────┘ ──▶ Return: unknown, unreachable, …
//!                 │ what was forwarded waits here for its receipt, which goes back
//!                 ▼ the way it came; link lost or too late: unreachable
//! ```
//!
//! The way to a node is learned by looking for it
//! ([`Question::Find`](crate::question::Question::Find)): on the way back of the answer each node
//! remembers behind which child the node is. A message goes up until such a node knows the way
//! down. Alternatives that were rejected: every node telling its ancestors what is below it costs
//! the root 33 bytes for each node of the fleet and a flood of them whenever a large subtree moves,
//! all for nodes that nobody asks about; a filter of them (10 bits a node) errs, cannot forget and
//! moves as much. Learned ways cost nothing while nobody asks, a bounded table, and one question to
//! the fleet for a node not talked to lately.
//!
//! A message has no authority: what it asks for, its body must prove by a signature of its own.
//! Every node on the way can read it, drop it, or claim the receiver for itself; it cannot do worse.
//!
//! What always holds:
//!  1. a message is passed on to at most one neighbour, and never again;
//!  2. a message handed in is answered exactly once;
//!  3. every table keeps its bound, whatever a neighbour says.

pub mod bounds;
pub mod message;
pub mod routes;
pub mod switch;

pub use message::{Direct, Returned, Undelivered};
pub use switch::{Input, Output, Switch};
