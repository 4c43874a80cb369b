//! The SSH side of the port: who is let in, and which subsystem they get.
//!
//! Any Ed25519 key may authenticate, for a stranger with an invitation has no other standing yet.
//! What a key may do is decided behind the subsystem: `peertree` asks for a join record in the first
//! frame, or shows a governor of the board what enters; `peertree-stream` is for neighbours in the
//! tree; `borgios` asks for a governor. Shells, commands, forwarding and agents do not exist here.
//!
//! When the node ends, every connection is cut, but one that a governor follows on only after it
//! was told.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use borgios_relay::SshPipe;
use borgios_types::PublicKey;
use russh::keys::PrivateKey;
use russh::server::{
    Auth, ChannelOpenHandle, Config, Handler, Msg, PublicKeyOffer, Session, VerifiedPublicKey,
};
use russh::{Channel, ChannelId, ChannelOpenFailure, MethodKind, MethodSet, Pty};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::api::{Api, Caller};
use crate::channel::{self, FrameReader, FrameWriter, our_key};
use crate::follow::{CLOSE_GRACE, Follower};
use crate::gate::Place;
use crate::link::LinkHub;
use crate::port::Visitor;
use crate::session::{self, Ended};
use crate::ssh_client::STREAM;

/// Longest time from the first packet to the first subsystem.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Open channels of one connection, with or without a subsystem, for each holds buffers: a
/// governor's tool with a shared connection runs a few at once.
pub const CHANNELS_MAX: usize = 8;
/// The same for a key that is neither a member's nor a governor's: it has one hello to say.
pub const STRANGER_CHANNELS_MAX: usize = 2;
/// Keys one connection may try: an agent of a person offers several.
const AUTH_ATTEMPTS: usize = 8;

/// Everything a connection may lead to.
#[derive(Clone)]
pub struct SshServer {
    config: Arc<Config>,
    links: LinkHub,
    api: Api,
    stop: CancellationToken,
}

impl SshServer {
    /// A server whose host key is the node's key, until `stop`.
    #[must_use]
    pub fn new(key: &Arc<PrivateKey>, links: LinkHub, api: Api, stop: CancellationToken) -> Self {
        let mut methods = MethodSet::empty();
        methods.push(MethodKind::PublicKey);
        let config = Config {
            server_id: channel::greeting(),
            methods,
            // Whoever is refused was never near a secret: there is no time to hide.
            auth_rejection_time: Duration::ZERO,
            auth_rejection_time_initial: Some(Duration::ZERO),
            keys: vec![(**key).clone()],
            window_size: channel::WINDOW,
            maximum_packet_size: channel::PACKET,
            channel_buffer_size: channel::CHANNEL_BUFFER,
            preferred: channel::preferred(),
            max_auth_attempts: AUTH_ATTEMPTS,
            inactivity_timeout: Some(channel::INACTIVITY),
            // One who follows may have nothing to say, nor to be told, for long.
            keepalive_interval: Some(channel::INACTIVITY / 4),
            nodelay: true,
            ..Config::default()
        };
        Self { config: Arc::new(config), links, api, stop }
    }

    /// Serves one connection to its end, or until a moment after `stop`.
    pub async fn serve(&self, visitor: Visitor) {
        let (following, mut followers) = mpsc::channel::<()>(1);
        let (cut, weak) = (visitor.cut.clone(), following.downgrade());
        let farewell = async move {
            self.stop.cancelled().await;
            drop(following);
            // Ends when nobody who follows holds the other end any more.
            let _ = tokio::time::timeout(2 * CLOSE_GRACE, followers.recv()).await;
        };
        tokio::select! {
            () = self.converse(visitor, weak) => {}
            () = farewell => cut.cancel(),
        }
    }

    async fn converse(&self, visitor: Visitor, following: mpsc::WeakSender<()>) {
        let (begun, mut has_begun) = watch::channel(false);
        let from = visitor.from;
        let guest = Guest {
            server: self.clone(),
            from,
            cut: visitor.cut.clone(),
            place: visitor.place.clone(),
            key: None,
            belongs: false,
            waiting: BTreeMap::new(),
            open: BTreeSet::new(),
            pipe: None,
            begun,
            following,
        };
        let deadline = tokio::time::Instant::now() + HANDSHAKE;
        let greeted = russh::server::run_stream(self.config.clone(), visitor.stream, guest);
        let running = match tokio::time::timeout_at(deadline, greeted).await {
            Ok(Ok(running)) => running,
            Ok(Err(error)) => return debug!(%from, "not SSH: {error}"),
            Err(_) => return debug!(%from, "no SSH greeting in time"),
        };
        tokio::pin!(running);
        let in_time = tokio::time::timeout_at(deadline, has_begun.wait_for(|begun| *begun));
        let ended = tokio::select! {
            ended = &mut running => Some(ended),
            begun = in_time => {
                if !matches!(begun, Ok(Ok(_))) {
                    debug!(%from, "no subsystem in time");
                    visitor.cut.cancel();
                }
                None
            }
        };
        let ended = match ended {
            Some(ended) => ended,
            None => running.await,
        };
        if let Err(error) = ended {
            debug!(%from, "SSH connection ended: {error}");
        }
    }
}

/// One connection's state on the server's side.
struct Guest {
    server: SshServer,
    from: SocketAddr,
    cut: CancellationToken,
    place: Arc<Place>,
    key: Option<PublicKey>,
    /// The key is a member's or a governor's.
    belongs: bool,
    /// Channels that have no subsystem yet.
    waiting: BTreeMap<u32, Channel<Msg>>,
    /// Channels that neither side has closed.
    open: BTreeSet<u32>,
    /// The channel that is a pipe for streams.
    pipe: Option<ChannelId>,
    begun: watch::Sender<bool>,
    /// Held by each who follows the bus.
    following: mpsc::WeakSender<()>,
}

impl Handler for Guest {
    type Error = russh::Error;

    async fn auth_publickey_offered(
        &mut self,
        _user: &str,
        offer: PublicKeyOffer<'_>,
    ) -> Result<Auth, Self::Error> {
        Ok(if our_key(offer.public_key).is_some() { Auth::Accept } else { Auth::reject() })
    }

    async fn auth_publickey(
        &mut self,
        _user: &str,
        key: VerifiedPublicKey<'_>,
    ) -> Result<Auth, Self::Error> {
        self.key = our_key(key.public_key);
        if let Some(key) = self.key
            && self.server.links.belongs(key).await
        {
            self.belongs = true;
            self.place.is_member(key);
        }
        Ok(if self.key.is_some() { Auth::Accept } else { Auth::reject() })
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        if self.open.len() >= if self.belongs { CHANNELS_MAX } else { STRANGER_CHANNELS_MAX } {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
        } else {
            self.open.insert(channel.id().into());
            self.waiting.insert(channel.id().into(), channel);
            reply.accept().await;
        }
        Ok(())
    }

    fn adjust_window(&mut self, channel: ChannelId, current: u32) -> u32 {
        if self.pipe == Some(channel) { channel::STREAM_WINDOW } else { current }
    }

    async fn channel_close(
        &mut self,
        id: ChannelId,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.open.remove(&id.into());
        self.waiting.remove(&id.into());
        Ok(())
    }

    async fn subsystem_request(
        &mut self,
        id: ChannelId,
        name: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let Some(key) = self.key else { return session.channel_failure(id) };
        // Of pipes one connection carries one, and nothing beside it.
        let allowed = match name {
            "peertree" | "borgios" => self.pipe.is_none(),
            STREAM => self.belongs && self.open.len() == 1,
            _ => false,
        };
        if !allowed {
            return session.channel_failure(id);
        }
        let Some(channel) = self.waiting.remove(&id.into()) else {
            return session.channel_failure(id);
        };
        session.channel_success(id)?;
        // A receiver that is gone means that the connection is ending anyway.
        let _ = self.begun.send(true);
        let (read, write) = channel.split();
        if name == STREAM {
            self.pipe = Some(id);
            let (pipe, cut) = (SshPipe::accepted(read, write), self.cut.clone());
            let links = self.server.links.clone();
            tokio::spawn(async move { links.pipes().accepted(key, pipe, cut).await });
            return Ok(());
        }
        let reader = FrameReader::new(read);
        let writer = FrameWriter::Accepted(write);
        let cut = self.cut.clone();
        if name == "peertree" {
            let SshServer { links, api, stop, .. } = self.server.clone();
            let (from, place) = (self.from, self.place.clone());
            let following = self.following.upgrade();
            tokio::spawn(async move {
                let parts = api.parts();
                match Follower::admit(&parts.ledger, parts.me, key).await {
                    Some(follower) => follower.run(reader, writer, stop).await,
                    None => links.accepted(key, from, &place, reader, writer, cut).await,
                }
                drop(following);
            });
        } else {
            let api = self.server.api.clone();
            tokio::spawn(async move {
                let ended = tokio::select! {
                    ended = session::run(api, Caller::Key(key), reader, writer) => ended,
                    () = cut.cancelled() => return,
                };
                if ended == Ended::Refused {
                    cut.cancel();
                }
            });
        }
        Ok(())
    }

    async fn shell_request(
        &mut self,
        id: ChannelId,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        session.channel_failure(id)
    }

    async fn exec_request(
        &mut self,
        id: ChannelId,
        _command: &[u8],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        session.channel_failure(id)
    }

    #[allow(clippy::too_many_arguments, reason = "the trait's signature")]
    async fn pty_request(
        &mut self,
        id: ChannelId,
        _term: &str,
        _columns: u32,
        _rows: u32,
        _width: u32,
        _height: u32,
        _modes: &[(Pty, u32)],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        session.channel_failure(id)
    }

    async fn env_request(
        &mut self,
        id: ChannelId,
        _name: &str,
        _value: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        session.channel_failure(id)
    }
}
