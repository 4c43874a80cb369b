//! What carries a link: TCP, TLS 1.3 or an SSH channel, as connected pairs over loopback.

use std::future::Future;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use borgios_relay::pipe::{Pipe, StreamPipe};
use borgios_relay::tls::{EphemeralKey, client_config, server_config};
use rustls::crypto::CryptoProvider;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

/// Makes connected pairs.
pub trait Carrier: Clone + Send + Sync + 'static {
    /// One end of a link.
    type Pipe: Pipe;

    /// A new link: the parent's end and the child's.
    fn pair(&self) -> impl Future<Output = Result<(Self::Pipe, Self::Pipe)>> + Send;
}

/// A TCP connection over loopback, without Nagle's delay.
///
/// # Errors
/// Loopback is down.
pub async fn tcp_pair() -> Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let (dialled, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
    let (dialled, accepted) = (dialled?, accepted?.0);
    dialled.set_nodelay(true)?;
    accepted.set_nodelay(true)?;
    Ok((accepted, dialled))
}

/// Plain TCP.
#[derive(Clone, Copy, Debug)]
pub struct Tcp;

impl Carrier for Tcp {
    type Pipe = StreamPipe<TcpStream>;

    async fn pair(&self) -> Result<(Self::Pipe, Self::Pipe)> {
        let (parent, child) = tcp_pair().await?;
        Ok((StreamPipe(parent), StreamPipe(child)))
    }
}

/// TLS 1.3 with raw public keys, as it comes out of the box.
#[derive(Clone, Debug)]
pub struct Tls(pub Arc<CryptoProvider>);

impl Carrier for Tls {
    type Pipe = StreamPipe<TlsStream<TcpStream>>;

    async fn pair(&self) -> Result<(Self::Pipe, Self::Pipe)> {
        let (parent, child) = tcp_pair().await?;
        let (parent, child) = tokio::join!(tls_parent(&self.0, parent), tls_child(&self.0, child));
        Ok((parent?, child?))
    }
}

/// The parent's end of a TLS link whose other end another process makes with [`tls_child`].
///
/// # Errors
/// The handshake failed.
pub async fn tls_parent(
    provider: &Arc<CryptoProvider>,
    stream: TcpStream,
) -> Result<StreamPipe<TlsStream<TcpStream>>> {
    let (ours, theirs) = (EphemeralKey::from_seed([1; 32]), EphemeralKey::from_seed([2; 32]));
    let server = server_config(provider.clone(), &ours, theirs.public())?;
    let accepted = TlsAcceptor::from(Arc::new(server)).accept(stream).await?;
    Ok(StreamPipe(accepted.into()))
}

/// The child's end.
///
/// # Errors
/// The handshake failed.
pub async fn tls_child(
    provider: &Arc<CryptoProvider>,
    stream: TcpStream,
) -> Result<StreamPipe<TlsStream<TcpStream>>> {
    let (theirs, ours) = (EphemeralKey::from_seed([1; 32]), EphemeralKey::from_seed([2; 32]));
    let client = client_config(provider.clone(), &ours, theirs.public())?;
    let name = "node".try_into().context("a server name")?;
    let dialled = TlsConnector::from(Arc::new(client)).connect(name, stream).await?;
    Ok(StreamPipe(dialled.into()))
}

pub use ssh::{Ssh, SshTuning};

/// SSH pairs need a little server and a little client.
mod ssh {
    use std::borrow::Cow;
    use std::sync::{Arc, Mutex, PoisonError};

    use anyhow::{Context as _, Result, bail};
    use borgios_relay::ssh_pipe::SshPipe;
    use borgios_types::SecretKey;
    use russh::keys::{PrivateKey, PrivateKeyWithHashAlg, PublicKeyOrCertificate};
    use russh::server::{Auth, ChannelOpenHandle, Msg, Session, VerifiedPublicKey};
    use russh::{Channel, ChannelId, ChannelMsg, Preferred, cipher, client, server};
    use tokio::sync::oneshot;

    use super::{Carrier, tcp_pair};

    /// What of SSH is tried.
    #[derive(Clone, Debug)]
    pub struct SshTuning {
        /// The cipher offered.
        pub cipher: cipher::Name,
        /// Window of a channel, bytes.
        pub window: u32,
        /// Largest packet, bytes.
        pub packet: u32,
        /// Packets that wait to be read.
        pub buffer: usize,
    }

    /// SSH connections with one channel each.
    #[derive(Clone, Debug)]
    pub struct Ssh(pub SshTuning);

    type Waiting = Arc<Mutex<Option<oneshot::Sender<SshPipe>>>>;

    struct Guest {
        channel: Option<Channel<Msg>>,
        waiting: Waiting,
    }

    impl server::Handler for Guest {
        type Error = russh::Error;

        async fn auth_publickey(
            &mut self,
            _user: &str,
            _key: VerifiedPublicKey<'_>,
        ) -> Result<Auth, Self::Error> {
            Ok(Auth::Accept)
        }

        async fn channel_open_session(
            &mut self,
            channel: Channel<Msg>,
            reply: ChannelOpenHandle,
            _session: &mut Session,
        ) -> Result<(), Self::Error> {
            self.channel = Some(channel);
            reply.accept().await;
            Ok(())
        }

        async fn subsystem_request(
            &mut self,
            id: ChannelId,
            _name: &str,
            session: &mut Session,
        ) -> Result<(), Self::Error> {
            session.channel_success(id)?;
            let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let (Some(channel), Some(waiting)) = (self.channel.take(), waiting) {
                let (read, write) = channel.split();
                // The measurement may have been given up.
                let _ = waiting.send(SshPipe::accepted(read, write));
            }
            Ok(())
        }
    }

    struct AnyHost;

    impl client::Handler for AnyHost {
        type Error = russh::Error;

        async fn check_server_key(
            &mut self,
            _key: &PublicKeyOrCertificate,
        ) -> Result<bool, Self::Error> {
            Ok(true)
        }
    }

    fn key(seed: u8) -> Result<PrivateKey> {
        let key = SecretKey::from_seed([seed; 32]);
        Ok(PrivateKey::from_openssh(key.to_openssh("").as_bytes())?)
    }

    impl Carrier for Ssh {
        type Pipe = SshPipe;

        async fn pair(&self) -> Result<(SshPipe, SshPipe)> {
            let (parent, child) = tcp_pair().await?;
            let preferred =
                Preferred { cipher: Cow::Owned(vec![self.0.cipher]), ..Preferred::default() };
            let server = server::Config {
                keys: vec![key(1)?],
                window_size: self.0.window,
                maximum_packet_size: self.0.packet,
                channel_buffer_size: self.0.buffer,
                preferred: preferred.clone(),
                inactivity_timeout: None,
                nodelay: true,
                ..server::Config::default()
            };
            let client = client::Config {
                window_size: self.0.window,
                maximum_packet_size: self.0.packet,
                channel_buffer_size: self.0.buffer,
                preferred,
                ..client::Config::default()
            };
            let (done, accepted) = oneshot::channel();
            let guest = Guest { channel: None, waiting: Arc::new(Mutex::new(Some(done))) };
            let serving = tokio::spawn(async move {
                if let Ok(running) = server::run_stream(Arc::new(server), parent, guest).await {
                    // Ends with the measurement.
                    let _ = running.await;
                }
            });
            let mut session = client::connect_stream(Arc::new(client), child, AnyHost).await?;
            let key = PrivateKeyWithHashAlg::new(Arc::new(key(2)?), None);
            if !session.authenticate_publickey("node", key).await?.success() {
                bail!("SSH let nobody in");
            }
            let (mut read, write) = session.channel_open_session().await?.split();
            write.request_subsystem(true, "peertree-stream").await?;
            while !matches!(read.wait().await.context("no channel")?, ChannelMsg::Success) {}
            let accepted = accepted.await.context("no channel on the other side")?;
            // Both sides live as long as the measurement.
            drop(serving);
            std::mem::forget(session);
            Ok((accepted, SshPipe::dialled(read, write)))
        }
    }
}
