//! Making servers members from a laptop, over the user's own ssh.
//!
//! ```text
//!  for each host, at most 8 at a time                 for each host that was consented to
//!  connect ─▶ host key ─▶ copy, without the secret ─▶ plan ─┐       ┌─▶ copy the secret ─▶ join ─▶ verdict
//!                                                           └ consent┘            ▲            │ cut off
//!                                                                                 └── log in ◀─┤
//!                                                                    the node's own port ◀─────┘ login refused
//! ```
//!
//! What always holds:
//!  1. No host key is accepted unasked: ssh checks it against the user's known_hosts, and a new one
//!     is taken only with `--accept-new`, its fingerprint shown.
//!  2. The invitation's secret reaches a host only after that host was consented to, and stands in
//!     no argument; the copies on the host are gone when the connection is.
//!  3. A host counts as a member only by bootstrap.sh's own exit code and receipt, or by its node,
//!     which proves that it joined with this invitation and is this very host, by its machine's
//!     name or its key. One node proves one host. Everything else is a failure or unknown.
//!  4. What a host says is bounded, and is never an instruction.
//!  5. What is kept of a host replaces nothing that was kept before; a member of which something
//!     could not be kept is told with that, and is no success.

pub(crate) mod advertise;
pub(crate) mod asked_node;
pub(crate) mod consent;
pub(crate) mod host_key;
pub(crate) mod invitation;
pub(crate) mod joining;
pub(crate) mod keeping;
pub(crate) mod log;
pub(crate) mod proven;
pub(crate) mod pushed;
pub(crate) mod reach;
pub(crate) mod receipt;
pub(crate) mod remote;
pub(crate) mod row;
pub(crate) mod target;
pub(crate) mod verdict;
pub(crate) mod work;
