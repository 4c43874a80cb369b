//! Checks the tree's rules at small size.
//!
//! | module | what is checked |
//! |---|---|
//! | [`rules`] | an abstract model: every state of 3 to 5 nodes |
//! | [`real`] | the real core, 2 to 4 nodes: every order of events to a bounded depth |

pub mod real;
pub mod rules;
