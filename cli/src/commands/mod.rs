//! One file per command: what it takes, what it does, what it answers.

pub(crate) mod adopt;
pub(crate) mod blob;
pub(crate) mod broadcast;
pub(crate) mod bundle;
pub(crate) mod connect;
pub(crate) mod doctor;
pub(crate) mod export;
pub(crate) mod governor;
pub(crate) mod governor_card;
pub(crate) mod governor_found;
pub(crate) mod governor_init;
pub(crate) mod inbox;
pub(crate) mod invite;
pub(crate) mod log;
pub(crate) mod nodes;
pub(crate) mod propose;
pub(crate) mod propose_policy;
pub(crate) mod propose_release;
pub(crate) mod release;
pub(crate) mod release_build;
pub(crate) mod release_show;
pub(crate) mod review;
pub(crate) mod status;
pub(crate) mod sync;
pub(crate) mod tree;
pub(crate) mod vote;
