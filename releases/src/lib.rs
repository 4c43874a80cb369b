//! What a release is made of, and how a server goes from one to the next.
//!
//! ```text
//! folder ── component::build ──▶ tar.zst ── bundle ──▶ server ── unpack ──▶ store/<digest>/
//!                                   │                                            │
//! release statement ── Manifest ────┘ names every component by digest      plan::Journal
//! ```
//!
//! | module | holds |
//! |---|---|
//! | [`manifest`] | [`Manifest`], the body of a release statement |
//! | [`info`] | [`ComponentInfo`], a component's `component.json` |
//! | [`entry`] | the only paths a component may hold |
//! | [`text`] | which text a unit or a configuration file may be |
//! | [`component`] | building a component from a folder, byte for byte the same everywhere |
//! | [`mod@measure`] | how much of a disk one takes, without unpacking it |
//! | [`mod@unpack`] | unpacking one, trusting nothing in it |
//! | [`bundle`] | everything a fresh server needs, in one tar |
//! | [`powers`] | what a component's units may do, in words, old against new |
//! | [`plan`] | the install as a journal of states, without IO |

pub mod bundle;
pub mod component;
pub mod entry;
pub mod info;
pub mod manifest;
pub mod measure;
pub mod plan;
pub mod powers;
pub mod text;
pub mod unpack;

pub use bundle::{Bundle, BundleError, Parts};
pub use component::{BuildError, Built, build};
pub use entry::{EntryPath, PathError};
pub use info::{ComponentInfo, Health, InfoError};
pub use manifest::{Component, Installer, Manifest, ManifestError};
pub use measure::{Footprint, measure};
pub use plan::{Ended, Event, Installed, Journal, Move, Outcome, Step};
pub use powers::{Difference, Powers};
pub use text::TextError;
pub use unpack::{Expected, UnpackError, unpack};
