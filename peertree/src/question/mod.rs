//! Questions to the fleet: asked along the tree, answered by every node for itself, aggregated on
//! the way back. A state machine without IO beside the tree's own.
//!
//! ```text
//!        Open, Asked                  one question at one node
//!  ───────────────────▶ ┌───────────────────────────────────────────────┐
//!   Ask to every tree   │ own part pending, some neighbours pending      │
//!   neighbour but the ◀─┤      │ Observed, Answered: merged              │
//!   one that asked      │      ▼                                        │
//!                       │ nobody pending ── or the deadline, or (Find)   │
//!                       │ the node was found ───▶ Answer / Done, closed   │
//!                       └───────────────────────────────────────────────┘
//! ```
//!
//! The asker is the root of its own question: it asks parent and children, each of them asks its
//! other neighbours, and so on, so a question crosses every link of the tree once and hangs on no
//! single node. Each level has 10 % and 50 ms less time than the one that asked it, so a partial
//! answer is on its way before the asker gives up; a silent neighbour costs what is behind it.
//!
//! What always holds:
//!  1. a merged answer is as bounded as its parts, and merging is associative and commutative
//!     ([`tally`]); where lists do not fit, each neighbour has its share of the room (`share.rs`);
//!  2. a question is answered at most once, and no later than its deadline;
//!  3. a node takes part once in a question, whatever way it comes (by the question's nonce);
//!  4. every list and table keeps its bound, whatever a neighbour says.
//!
//! Nothing here is signed: counts are claims of those who counted. For people and tools, never for
//! decisions.

pub mod ask;
pub mod bounds;
pub mod desk;
pub mod pace;
pub mod places;
pub mod roll;
mod share;
pub mod tally;

pub use ask::{Answer, Ask, Findings, Item, Question, Scope};
pub use desk::{Desk, Input, Output, Own};
pub use places::{Detail, Place, Places};
pub use roll::{Roll, Tag};
pub use tally::{Exception, Measure, Tally};
