//! Questions to the fleet and messages to one node: the shell around their cores.
//!
//! ```text
//!  link ── ask, answer, direct, returned ──────▶ shell: Desk and Switch (peertree) ──▶ tree_shell ─▶ link
//!  api ─── report, lookup ──────────────────────▶   │  ▲
//!                                                   ▼  │ what this node says itself
//!                                                 observe: keeper, ledger, machine
//! ```
//!
//! | module | holds |
//! |---|---|
//! | [`shell`] | the task that owns both cores, and the way to it |
//! | [`observe`] | what this node says for itself, one function a question |
//! | [`held`] | how far the streams are that this node holds, as receipts need it |
//! | [`report`] | what a tool is told: n of m answered, who is missing, in JSON |
//! | [`lookup`] | where one node stands: `get node` |

pub mod held;
pub mod lookup;
pub mod observe;
pub mod report;
pub mod shell;

pub use held::{Held, NoStreams};
pub use observe::Observer;
pub use shell::{QuestionHandle, QuestionShell, Said};
