//! A member made by hand, and a line to a server that can be cut and that shows when the server closes it.

use std::time::Duration;

use borgios_agent::channel::russh_key;
use borgios_agent::ssh_client::{self, Dialled};
use borgios_agent::wire::{Frame, Hello, PROTOCOL};
use borgios_policy::{Join, Object as _};
use borgios_types::{Envelope, SecretKey};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::fleet::{Fleet, Server};

/// Longest wait for a server to close: well below the silence after which it would close any link.
const CLOSES: Duration = Duration::from_secs(60);

/// Whoever has an invitation: its key, and the objects that make it a member.
pub(crate) struct Newcomer {
    pub(crate) key: SecretKey,
    pub(crate) membership: Vec<Envelope>,
    hello: String,
}

impl Newcomer {
    pub(crate) fn new(fleet: &Fleet, seed: u8) -> Self {
        let key = SecretKey::from_seed([seed; 32]);
        let file = fleet.board.invite(Vec::new());
        let (network, now) = (fleet.board.network(), crate::board::now());
        let record = Join {
            network,
            node: key.public(),
            keeper: SecretKey::from_seed([seed + 1; 32]).public(),
            name: "newcomer".parse().unwrap(),
            address: None,
            owner: None,
            invitation: file.invitation.id(),
            issued: now,
            expires: now.plus(3_600),
        };
        let record = record.to_envelope().sign(&key).sign(&file.token_key().unwrap());
        let membership = vec![file.invitation.clone(), record];
        let hello = Hello { protocol: PROTOCOL, network, membership: membership.clone() };
        let hello = Frame::Hello(hello).to_line();
        Self { key, membership, hello }
    }

    /// Dials and greets.
    pub(crate) async fn greet(&self, server: &Server, line: &Line) -> Dialled {
        let dialled = line.dial(server, &self.key).await;
        dialled.writer.send(self.hello.clone()).await.unwrap();
        dialled
    }
}

/// A line for one connection.
pub(crate) struct Line {
    address: String,
    cut: CancellationToken,
    closed: CancellationToken,
}

impl Line {
    pub(crate) async fn to(server: &Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (cut, closed) = (CancellationToken::new(), CancellationToken::new());
        let (to, cutting, closing) = (server.address(), cut.clone(), closed.clone());
        tokio::spawn(async move {
            let (near, _) = listener.accept().await.unwrap();
            let (mut near_read, mut near_write) = near.into_split();
            let (mut far_read, mut far_write) = TcpStream::connect(to).await.unwrap().into_split();
            tokio::spawn(async move {
                tokio::select! {
                    _ = tokio::io::copy(&mut near_read, &mut far_write) => {}
                    () = cutting.cancelled() => {}
                }
                let _ = far_write.shutdown().await;
            });
            // What the server sends is read even if the other side does not: its end comes behind that.
            let (tell, mut told) = mpsc::unbounded_channel::<Vec<u8>>();
            tokio::spawn(async move {
                while let Some(bytes) = told.recv().await {
                    if near_write.write_all(&bytes).await.is_err() {
                        return;
                    }
                }
            });
            let mut some = vec![0; 64 * 1024];
            while let Ok(read @ 1..) = far_read.read(&mut some).await {
                let _ = tell.send(some[..read].to_vec());
            }
            closing.cancel();
        });
        Self { address, cut, closed }
    }

    pub(crate) async fn dial(&self, server: &Server, key: &SecretKey) -> Dialled {
        let (me, cut) = (server.me(), CancellationToken::new());
        ssh_client::dial(&self.address, me, russh_key(key), cut).await.unwrap()
    }

    /// Cuts it, and waits until the server has noticed and had the time for something else.
    pub(crate) async fn cut(&self, server: &Server) {
        self.cut.cancel();
        self.closes().await;
        let mut stream = TcpStream::connect(server.address()).await.unwrap();
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
        assert!(stream.read(&mut [0; 64]).await.unwrap() > 0);
    }

    /// Waits until the server has closed it.
    pub(crate) async fn closes(&self) {
        let closed = tokio::time::timeout(CLOSES, self.closed.cancelled()).await;
        assert!(closed.is_ok(), "the server kept the connection");
    }
}
