//! The shell of the data plane: it carries streams between tree neighbours as fast as links allow.

pub mod pipe;
pub mod ssh_pipe;
pub mod tls;
