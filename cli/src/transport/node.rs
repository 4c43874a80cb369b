//! A node's `borgios` subsystem over SSH: one JSON request per line, one answer per line.
//!
//! The governor's identity opens the connection; the node's key is the one it showed the first
//! time, and a changed one is refused.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use borgios_policy::{Blob, Name};
use borgios_types::limits::ENVELOPE_MAX;
use borgios_types::{Digest, Envelope, NodeId, PublicKey};
use russh::client;
use russh::keys::{PrivateKey, PrivateKeyWithHashAlg, PublicKeyOrCertificate};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::runtime::Runtime;

use super::api::{ANSWER_MAX, Door, read_answer};
use super::download::Blobs;
use super::patience::{self, BRINGING_MAX, FETCHING_MAX, Patience};
use super::{Fetched, Transport, fetching, upload};
use crate::failure::{Failure, OrFail as _};
use crate::identity::Identity;

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long closing may take.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(1);

/// How long one answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

type Stream = russh::ChannelStream<client::Msg>;

/// An open connection to one node.
pub(crate) struct Node {
    address: String,
    key: PublicKey,
    runtime: Runtime,
    /// Taken when the connection is closed.
    open: Option<Open>,
    blobs: Blobs,
    /// How much longer this run waits for what it tells of its objects.
    fetching: Patience,
    /// And for all else that is exchanged with it.
    bringing: Patience,
}

/// The parts of a connection that live on the runtime.
struct Open {
    stream: BufReader<Stream>,
    session: client::Handle<HostKey>,
}

/// Checks the node's key, or notes it where none is known yet.
struct HostKey {
    expected: Option<PublicKey>,
    shown: Arc<Mutex<Option<PublicKey>>>,
}

impl client::Handler for HostKey {
    type Error = russh::Error;

    async fn check_server_key(
        &mut self,
        offered: &PublicKeyOrCertificate,
    ) -> Result<bool, Self::Error> {
        let PublicKeyOrCertificate::PublicKey { key, .. } = offered else { return Ok(false) };
        let key = key.key_data().ed25519().and_then(|key| PublicKey::from_bytes(key.0).ok());
        if let Ok(mut shown) = self.shown.lock() {
            *shown = key;
        }
        Ok(key.is_some() && (self.expected.is_none() || self.expected == key))
    }
}

impl Node {
    /// Connects to `address` (`host:port`) with the governor's identity. `expected` is the key it
    /// showed before, if it was ever talked to.
    pub(crate) fn connect(
        address: &str,
        expected: Option<PublicKey>,
        identity: &Identity,
    ) -> Result<Self, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .or_fail(|| "could not start the network runtime")?;
        let shown = Arc::new(Mutex::new(None));
        let handler = HostKey { expected, shown: Arc::clone(&shown) };
        let opened = runtime.block_on(async {
            tokio::time::timeout(CONNECT_TIMEOUT, open(address, handler, identity)).await
        });
        let shown = shown.lock().ok().and_then(|shown| *shown);
        let what = || format!("could not talk to the node at {address}");
        let failed = match (opened, shown) {
            (Ok(Ok((session, stream))), Some(key)) => {
                let open = Some(Open { stream: BufReader::new(stream), session });
                return Ok(Self {
                    address: address.to_owned(),
                    key,
                    runtime,
                    open,
                    blobs: Blobs::of(address),
                    fetching: Patience::of(FETCHING_MAX),
                    bringing: Patience::of(BRINGING_MAX),
                });
            }
            (_, Some(key)) if expected.is_some_and(|expected| expected != key) => Failure::new(
                what(),
            )
            .because(format!("it showed the key {}", key.fingerprint()))
            .because(format!(
                "it showed {} before",
                expected.map(|key| key.fingerprint()).unwrap_or_default()
            ))
            .hint(format!(
                "if the server was reinstalled, `borgios connect {address} --forget` accepts \
                     its new key; if not, something stands between you and it"
            )),
            (Ok(Err(failure)), _) => failure.within(what()),
            (Ok(Ok(_)), None) => Failure::new(what()).because("it showed no Ed25519 key"),
            (Err(_), _) => Failure::new(what())
                .because(format!("no connection within {} seconds", CONNECT_TIMEOUT.as_secs())),
        };
        Err(failed)
    }

    /// The key it showed.
    pub(crate) fn key(&self) -> PublicKey {
        self.key
    }

    /// Sends one line and reads one.
    fn line(&mut self, request: &Value) -> Result<String, Failure> {
        let address = self.address.clone();
        let what = || format!("the connection to {address} broke off");
        let Some(Open { stream, .. }) = &mut self.open else {
            return Err(Failure::new(what()));
        };
        let exchange = async {
            // A node that lets nobody in says so and closes: its word counts more than the fact
            // that this request found no reader.
            let sent = stream.write_all(format!("{request}\n").as_bytes()).await;
            let mut line = Vec::new();
            stream.take(ANSWER_MAX as u64).read_until(b'\n', &mut line).await?;
            if line.is_empty() {
                sent?;
            }
            Ok::<_, std::io::Error>(line)
        };
        let answer =
            self.runtime.block_on(async { tokio::time::timeout(ANSWER_TIMEOUT, exchange).await });
        if answer.is_err() {
            // An answer that comes after all must not be read as that to another request.
            self.close();
        }
        let answer = answer.or_fail(what)?.or_fail(what)?;
        if answer.last() != Some(&b'\n') {
            return Err(Failure::new(what()).because(if answer.is_empty() {
                "it closed without an answer; is this identity on the board in force?".to_owned()
            } else {
                format!("an answer longer than {ANSWER_MAX} bytes, or cut off")
            }));
        }
        String::from_utf8(answer).or_fail(what)
    }

    /// Does what is no fetching of objects, for as long as this run has time for it.
    fn in_time<T>(
        &mut self,
        at_most: Duration,
        work: impl FnOnce(&mut Self, Instant) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut patience = self.bringing;
        if patience.is_over() {
            let minutes = BRINGING_MAX.as_secs() / 60;
            return Err(Failure::new(format!("{} has no more time in this run", self.address))
                .because(format!("it was waited for {minutes} minutes"))
                .because("run the same command again, which goes on, or name another node"));
        }
        let done = patience.during(at_most, |until| work(self, until));
        self.bringing = patience;
        done
    }

    /// Says goodbye within a second. What is dropped must be dropped on the runtime, which the
    /// SSH library needs to close a channel.
    fn close(&mut self) {
        let Some(Open { stream, session }) = self.open.take() else { return };
        self.runtime.block_on(async {
            drop(stream);
            let goodbye = session.disconnect(russh::Disconnect::ByApplication, "", "");
            // Whether it arrives makes no difference: every answer has been read.
            let _ = tokio::time::timeout(GOODBYE_TIMEOUT, goodbye).await;
        });
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.close();
    }
}

async fn open(
    address: &str,
    handler: HostKey,
    identity: &Identity,
) -> Result<(client::Handle<HostKey>, Stream), Failure> {
    let config = Arc::new(client::Config { nodelay: true, ..client::Config::default() });
    let mut session =
        client::connect(config, address, handler).await.or_fail(|| "the SSH connection failed")?;
    let key = PrivateKey::from_openssh(identity.ssh().to_openssh("").as_str())
        .or_fail(|| "the identity is no SSH key")?;
    let key = PrivateKeyWithHashAlg::new(Arc::new(key), None);
    let accepted = session
        .authenticate_publickey(identity.name().as_str(), key)
        .await
        .or_fail(|| "the SSH authentication failed")?;
    if !accepted.success() {
        return Err(Failure::new(format!("it does not accept the key of {}", identity.name()))
            .because("only governors of the board in force are let in"));
    }
    let channel = session.channel_open_session().await.or_fail(|| "it opens no SSH channel")?;
    channel.request_subsystem(false, "borgios").await.or_fail(|| "it has no borgios subsystem")?;
    Ok((session, channel.into_stream()))
}

impl Door for Node {
    fn name(&self) -> String {
        self.address.clone()
    }

    fn ask(&mut self, request: &Value) -> Result<Value, Failure> {
        let line = self.line(request)?;
        read_answer(&self.address, request, &line)
    }
}

impl Transport for Node {
    fn name(&self) -> String {
        self.address.clone()
    }

    fn fetch(
        &mut self,
        kinds: &[&str],
        held: &dyn Fn(&Digest) -> bool,
    ) -> Result<Fetched, Failure> {
        let mut patience = self.fetching;
        if patience.is_over() {
            // It was said when it ran out.
            return Ok(Fetched { more: true, ..Fetched::default() });
        }
        let fetched =
            patience.during(FETCHING_MAX, |until| fetching::fetch(self, kinds, held, until));
        self.fetching = patience;
        fetched
    }

    fn put(&mut self, envelope: &Envelope) -> Result<(), Failure> {
        let request = json!({"put": "envelope", "envelope": envelope});
        self.in_time(ANSWER_TIMEOUT, |node, _| node.ask(&request)).map(drop)
    }

    fn wants_servers(&self) -> bool {
        false
    }

    fn handback(
        &mut self,
        governor: &Name,
        challenge: Digest,
    ) -> Result<Option<(NodeId, Envelope)>, Failure> {
        let question = json!({"get": "handback", "governor": governor, "challenge": challenge});
        let answer = self.in_time(ANSWER_TIMEOUT, |node, _| node.ask(&question))?.to_string();
        let what = || format!("{} sent no handback", self.address);
        if answer.len() > ENVELOPE_MAX {
            return Err(Failure::new(what()).because(format!("{} bytes", answer.len())));
        }
        Ok(Some((self.key, Envelope::parse(answer.as_bytes()).or_fail(what)?)))
    }

    fn blob(&mut self, blob: &Blob) -> Result<Option<Vec<u8>>, Failure> {
        let time = patience::of_blob(blob.size);
        self.in_time(time, |node, until| node.blobs.get(blob, until))
    }

    fn put_blob(&mut self, digest: Digest, bytes: &[u8]) -> Result<(), Failure> {
        let time = patience::of_blob(upload::in_base64(bytes.len()));
        self.in_time(time, |node, until| upload::send_until(node, digest, bytes, until))
    }
}
