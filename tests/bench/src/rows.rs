//! Which rows there are, and how each is made.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use borgios_relay::ssh_pipe::CIPHERS;
use borgios_stream::{Durability, Relay};
use rustls::crypto::CryptoProvider;

use crate::carrier::{Ssh, SshTuning, Tcp, Tls};
use crate::fleet::{self, Pace, Setting};
use crate::overload;
use crate::parted;
use crate::raw_tree::{self, Load};

/// Every row of the table, in its order.
pub const ROWS: &[&str] = &[
    "tcp-tree",
    "tls-tree",
    "tls-verify-tree",
    "ssh-tree",
    "ssh-tree-chacha",
    "ours-tls",
    "ours-ssh",
    "ours-tls-single",
    "ours-tls-link",
    "ours-tls-parted",
    "ours-tls-1000",
    "overload",
];

/// Rows that take long and that no other row is compared with: measured in the first round only.
pub const ONCE: &[&str] =
    &["ours-tls-parted", "ours-tls-1000", "overload", "iroh-gossip", "gossipsub", "nats", "serf"];

/// Programs of peers, which print a row each.
pub const PEERS: &[&str] = &["iroh-gossip", "gossipsub", "nats", "serf"];

/// The program of others that a peer's program starts.
#[must_use]
pub fn needs(peer: &str) -> Option<&'static str> {
    match peer {
        "nats" => Some("nats-server"),
        "serf" => Some("serf"),
        _ => None,
    }
}

/// Ring, which the project uses for TLS and SSH.
#[must_use]
pub fn ring() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The faster provider for limits, where it was built in.
#[must_use]
pub fn fastest() -> Arc<CryptoProvider> {
    #[cfg(feature = "aws-lc")]
    return Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    #[cfg(not(feature = "aws-lc"))]
    ring()
}

/// The settings of the agent's SSH connections for streams (`agent/src/channel.rs`).
#[must_use]
pub fn ssh() -> Ssh {
    Ssh(SshTuning { cipher: CIPHERS[0], window: 4 * 1024 * 1024, packet: 32 * 1024, buffer: 16 })
}

/// Measures one row and returns its JSON.
///
/// # Errors
/// The row does not exist, or could not be measured.
pub async fn measure(name: &str, load: &Load, logs: &Path, idle: Duration) -> Result<String> {
    let folder = tempfile::tempdir_in(logs)?;
    let verified = Setting {
        relay: Relay::Verified,
        logs: Some(folder.path().to_owned()),
        durability: Durability::Volatile,
    };
    let row = match name {
        "tcp-tree" => raw_tree::measure(name, Tcp, load, false).await?,
        "tls-tree" => raw_tree::measure(name, Tls(fastest()), load, false).await?,
        "tls-tree-ring" => raw_tree::measure(name, Tls(ring()), load, false).await?,
        "tls-verify-tree" => raw_tree::measure(name, Tls(fastest()), load, true).await?,
        "ssh-tree" => raw_tree::measure(name, ssh(), load, false).await?,
        "ssh-tree-chacha" => {
            let cipher = russh::cipher::CHACHA20_POLY1305;
            raw_tree::measure(name, Ssh(SshTuning { cipher, ..ssh().0 }), load, false).await?
        }
        "ours-tls" => {
            fleet::measure(name, Tls(ring()), load, &verified, Pace::Saturated, idle).await?
        }
        "ours-ssh" => fleet::measure(name, ssh(), load, &verified, Pace::Saturated, idle).await?,
        "ours-tls-1000" => {
            let load = Load { nodes: 1000, singles: load.singles.min(50), ..load.clone() };
            let none = Duration::ZERO;
            fleet::measure(name, Tls(ring()), &load, &verified, Pace::Saturated, none).await?
        }
        "ours-tls-parted" => parted::measure(name, load, folder.path()).await?,
        "ours-tls-durable" => {
            let setting = Setting { durability: Durability::Durable, ..verified };
            let none = Duration::ZERO;
            fleet::measure(name, Tls(ring()), load, &setting, Pace::Saturated, none).await?
        }
        "ours-tls-memory" => {
            let setting = Setting { logs: None, ..verified };
            fleet::measure(name, Tls(ring()), load, &setting, Pace::Saturated, idle).await?
        }
        "ours-tls-single" => {
            let none = Duration::ZERO;
            fleet::measure(name, Tls(ring()), load, &verified, Pace::OneByOne, none).await?
        }
        "ours-tls-link" => {
            let setting = Setting { relay: Relay::Link, ..verified };
            let none = Duration::ZERO;
            fleet::measure(name, Tls(ring()), load, &setting, Pace::Saturated, none).await?
        }
        "overload" => {
            let result = overload::measure(Tls(ring()), load, &verified).await?;
            return Ok(serde_json::to_string(&result)?);
        }
        _ => bail!("there is no row {name}"),
    };
    Ok(serde_json::to_string(&row)?)
}
