//! Measures the tree: ours beside the limits of this machine and beside others, in one run.

pub mod board;
pub mod carrier;
pub mod machine;
pub mod raw_tree;
pub mod row;
