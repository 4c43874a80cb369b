//! The two processes on every server: borgiosd, which has all of the network and no rights, and the
//! [`keeper`], which has all rights and no network. Shells around the cores of the other crates:
//! sockets, timers, disk; no decisions.
//!
//! ```text
//!            SSH links ⇄ link ⇄ tree_shell ⇄ (peertree's core)
//!  port ─┬─ ssh_server ──┼─ follow ◀─ bus (what entered)
//!        │               │          ⇅ offers, publishes
//!        │               └─ session ─▶ api ◀─ local (Unix socket)
//!        └─ http ─▶ depot ◀─ fetch   ⇅
//!                     │         ▲   ledger = (policy's chain) + store, by admission's rules
//!                     ▼         │    ⇅
//!                  keeper ◀── keeper_watch, release_watch, credential_watch
//! ```
//!
//! | module | holds |
//! |---|---|
//! | [`agent`] | one whole borgiosd: opens, wires, runs, ends |
//! | [`settings`], [`identity`], [`membership`] | who this server is and how it stays a member |
//! | [`port`], [`gate`], [`stream`] | the one TCP port, its limits, SSH and HTTP told apart |
//! | [`ssh_server`], [`ssh_client`], [`channel`], [`frame`] | SSH connections and the lines on them |
//! | [`link`], [`link_end`], [`wire`], [`outbox`] | one tree link: hello, membership, frames, why it ended, bounded queue |
//! | [`bus`], [`follow`] | what enters, told to a governor who follows it with stock `ssh` |
//! | [`tree_shell`], [`tree_handle`], [`offers`], [`provide`] | the task that owns the tree's core, and its helpers |
//! | [`questions`] | questions to the fleet, node lookup, messages to one node |
//! | [`admission`], [`member_objects`], [`ledger`], [`ledger_handle`], [`entrance`], [`parking`], `unparking`, [`placeless`], [`store`], [`spent`] | what may enter, that the tree hears of it, and everything that did |
//! | [`roll`], [`cross_watch`] | who is a member, who lapsed, who is out; whom cross links go to |
//! | [`depot`], [`fetch`], [`http`], [`uploads`] | blobs: kept, fetched, served, sent in |
//! | [`neighbours`], [`pieces`] | the links in use, and blobs over them |
//! | [`keeper_watch`], [`keeper_client`], [`reporting`] | what the keeper is brought, and what it says |
//! | [`release_watch`], [`credential_watch`], [`blobs`] | from a signed statement to blobs in the depot, and a release to a running one |
//! | [`witnessing`], [`departing`] | grants that others saw; this node's own end |
//! | [`api`], [`fleet`], [`metrics`], [`session`], [`local`] | what tools can ask |
//! | [`streams`], [`stream_pipes`], [`stream_api`] | what servers say to all: the hub, its pipes, what tools say and read |
//! | [`clock`], [`disk`], [`logging`], [`supervision`] | the machine's edges |
//! | [`keeper`] | the process that holds root |

pub mod admission;
pub mod agent;
pub mod api;
pub mod blobs;
pub mod bus;
pub mod channel;
pub mod clock;
pub mod credential_watch;
pub mod cross_watch;
pub mod departing;
pub mod depot;
pub mod dials;
pub mod disk;
pub mod entrance;
pub mod fetch;
pub mod fleet;
pub mod follow;
pub mod frame;
pub mod gate;
pub mod gate_store;
pub mod gating;
pub mod handback;
pub mod http;
pub mod identity;
pub mod keeper;
pub mod keeper_client;
pub mod keeper_watch;
pub mod ledger;
pub mod ledger_handle;
pub mod link;
pub mod link_end;
pub mod local;
pub mod logging;
pub mod member_objects;
pub mod membership;
pub mod metrics;
pub mod neighbours;
mod object_api;
pub mod offers;
pub mod outbox;
pub mod parking;
pub mod pieces;
pub mod placeless;
pub mod port;
pub mod provide;
pub mod questions;
mod rate;
pub mod release_watch;
pub mod reporting;
pub mod roll;
pub mod session;
pub mod settings;
mod speakers;
pub mod spent;
pub mod ssh_client;
pub mod ssh_server;
pub mod store;
pub mod stream;
pub mod stream_api;
pub mod stream_pipes;
pub mod streams;
pub mod supervision;
pub mod tree_handle;
pub mod tree_shell;
mod unparking;
pub mod uploads;
pub mod wire;
pub mod witnessing;
