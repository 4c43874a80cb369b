//! `tests/run.sh bench tree`: what a broadcast costs, ours beside limits and peers.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use borgios_bench::carrier::{Ssh, SshTuning, Tcp, Tls};
use borgios_bench::raw_tree::{self, Load};
use rustls::crypto::CryptoProvider;

fn main() -> Result<()> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let args: Vec<String> = std::env::args().skip(1).collect();
    let row = args[0].clone();
    let load =
        Load { nodes: 64, fanout: 8, size: 1024, singles: 200, saturated: Duration::from_secs(2) };
    let row = runtime.block_on(async move {
        tokio::spawn(async move {
            let pick = |p: CryptoProvider, suite: &str| {
                let mut p = p;
                p.cipher_suites.retain(|s| format!("{:?}", s.suite()).contains(suite));
                Tls(Arc::new(p))
            };
            let mut parts = row.split('-');
            let (kind, suite, packet) =
                (parts.next().unwrap_or(""), parts.next().unwrap_or(""), parts.next());
            match kind {
                "tcp" => raw_tree::measure(&row, Tcp, &load, false).await,
                "ring" | "ringv" => {
                    let tls = pick(rustls::crypto::ring::default_provider(), suite);
                    raw_tree::measure(&row, tls, &load, kind == "ringv").await
                }
                #[cfg(feature = "aws-lc")]
                "aws" | "awsv" => {
                    let tls =
                        pick(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider(), suite);
                    raw_tree::measure(&row, tls, &load, kind == "awsv").await
                }
                "ssh" => {
                    let cipher = match suite {
                        "chacha" => russh::cipher::CHACHA20_POLY1305,
                        "gcm128" => russh::cipher::AES_128_GCM,
                        _ => russh::cipher::AES_256_GCM,
                    };
                    let packet = packet.map_or(65_535, |p| p.parse().unwrap_or(65_535));
                    let window = parts.next().map_or(4, |p| p.parse().unwrap_or(4)) * 1024 * 1024;
                    let tuning = SshTuning { cipher, window, packet, buffer: 16 };
                    raw_tree::measure(&row, Ssh(tuning), &load, false).await
                }
                _ => bail!("no row {row}"),
            }
        })
        .await?
    })?;
    println!("{}", serde_json::to_string(&row)?);
    Ok(())
}
