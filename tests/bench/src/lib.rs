//! Measures the tree: ours beside the limits of this machine and beside others, in one run.

pub mod board;
pub mod carrier;
pub mod fleet;
pub mod governance;
pub mod machine;
pub mod overload;
pub mod part;
pub mod parted;
pub mod print;
pub mod raw_tree;
pub mod row;
pub mod rows;
pub mod session;
pub mod singles;
pub mod targets;
