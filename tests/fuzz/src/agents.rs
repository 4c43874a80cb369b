//! One whole borgiosd, on loopback: what its API and its SSH port are asked by governors and by
//! strangers. It runs as long as the process, and remembers what it was told.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use borgios_agent::agent::Agent;
use borgios_agent::api::Caller;
use borgios_agent::channel;
use borgios_agent::settings::Settings;
use borgios_types::SecretKey;
use russh::ChannelMsg;
use russh::client;
use russh::keys::{PrivateKeyWithHashAlg, PublicKeyOrCertificate};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

use crate::governance::{text, world};
use crate::seeds;
use crate::servers::{first, lay};
use crate::targets::folder;

/// Longest wait for an answer: some requests wait for news that never comes.
const PATIENCE: Duration = Duration::from_millis(200);
/// Longest time of a connection.
const CONNECTION: Duration = Duration::from_secs(5);

/// The agent, and what it runs on.
struct Running {
    runtime: Runtime,
    agent: Option<Agent>,
    _folder: TempDir,
}

static RUNNING: Mutex<Option<Running>> = Mutex::new(None);

fn running() -> MutexGuard<'static, Option<Running>> {
    let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    if running.is_none() {
        *running = start();
    }
    running
}

fn start() -> Option<Running> {
    let folder = folder()?;
    let settings = Settings::below(folder.path(), "web-1".parse().ok()?);
    let first = first()?;
    let policy = format!("objects/policy/{}.json", first.id().hex());
    lay(settings.state.join(policy), first.to_json().as_bytes());
    lay(settings.state.join("network"), world().network.to_string().as_bytes());
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(1).enable_all().build().ok()?;
    let agent = runtime.block_on(Agent::start(settings)).ok();
    Some(Running { runtime, agent, _folder: folder })
}

/// Ends the agent, if one runs, and removes its folder.
pub fn end() {
    let running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(Running { runtime, agent, _folder }) = running {
        if let Some(agent) = agent {
            runtime.block_on(agent.kill());
        }
        runtime.shutdown_timeout(Duration::from_secs(5));
    }
}

/// A request to the API; the first byte says who asks.
pub fn api(bytes: &[u8]) -> String {
    let Some((who, rest)) = bytes.split_first() else { return "empty".to_owned() };
    let Some(line) = text(rest) else { return "not text".to_owned() };
    let caller = match who & 3 {
        0 => Caller::Local,
        1 => Caller::Key(SecretKey::from_seed([77; 32]).public()),
        _ => Caller::Key(world().council.keys[&world().council.name(0)].public()),
    };
    let running = running();
    let Some(Running { runtime, agent: Some(agent), .. }) = running.as_ref() else {
        return "no agent".to_owned();
    };
    let asked = async { tokio::time::timeout(PATIENCE, agent.api.request(&caller, &line)).await };
    match runtime.block_on(asked) {
        Ok(answer) if answer.get("ok").is_some() => "ok".to_owned(),
        Ok(answer) => answer["error"]["code"].as_str().unwrap_or("odd").to_owned(),
        Err(_) => "it waits".to_owned(),
    }
}

/// Seeds of [`api`].
#[must_use]
pub fn api_seeds() -> Vec<Vec<u8>> {
    let (_, release, pools, ballots) = seeds::vote();
    let mut requests = seeds::of("api-request");
    let signed = world().council.sign(release);
    for envelope in pools.iter().chain(ballots).chain([&signed]) {
        let put = serde_json::json!({"put": "envelope", "envelope": envelope});
        requests.push(put.to_string().into_bytes());
    }
    for written in [
        r#"{"get":"tree"}"#,
        r#"{"get":"nodes"}"#,
        r#"{"get":"heads"}"#,
        r#"{"get":"reports"}"#,
        r#"{"get":"streams"}"#,
        r#"{"get":"streams","news":9,"within_ms":1}"#,
        r#"{"get":"node","word":"web-1","within_ms":1}"#,
        r#"{"get":"ask","question":{"about":"load","above":1},"within_ms":1}"#,
        r#"{"put":"message","kind":"chat","bytes":"aGVsbG8=","volatile":true}"#,
    ] {
        requests.push(written.as_bytes().to_vec());
    }
    let by = |who: u8| requests.iter().map(move |request| [&[who], request.as_slice()].concat());
    by(0).chain(by(2).take(3)).chain(by(1).take(1)).collect()
}

/// Takes any host key: it is the agent of this process.
struct Client;

impl client::Handler for Client {
    type Error = russh::Error;

    async fn check_server_key(&mut self, _: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        Ok(true)
    }
}

/// An SSH connection: the first byte says whose key, the first line what is asked for (`s` a
/// subsystem, `x` a command, `e` a variable, `t` a terminal, `h` a shell, with its name behind it), and
/// the rest is what is said then.
pub fn ssh(bytes: &[u8]) -> String {
    let Some((who, rest)) = bytes.split_first() else { return "empty".to_owned() };
    let end = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
    let (request, said) = (String::from_utf8_lossy(&rest[..end]), rest.get(end + 1..));
    let running = running();
    let Some(Running { runtime, agent: Some(agent), .. }) = running.as_ref() else {
        return "no agent".to_owned();
    };
    let key = match who & 1 {
        0 => world().council.keys[&world().council.name(0)].clone(),
        _ => SecretKey::from_seed([77; 32]),
    };
    let talk = talk(agent.port, &key, &request, said.unwrap_or_default());
    let talked = async { tokio::time::timeout(CONNECTION, talk).await };
    match runtime.block_on(talked) {
        Ok(Ok(word)) => word.to_owned(),
        Ok(Err(_)) => "the connection ended".to_owned(),
        Err(_) => "it waits".to_owned(),
    }
}

async fn talk(
    port: std::net::SocketAddr,
    key: &SecretKey,
    request: &str,
    said: &[u8],
) -> Result<&'static str, russh::Error> {
    let config = client::Config { preferred: channel::preferred(), ..client::Config::default() };
    let stream = TcpStream::connect(port).await?;
    stream.set_nodelay(true)?;
    let mut session = client::connect_stream(Arc::new(config), stream, Client).await?;
    let key = PrivateKeyWithHashAlg::new(channel::russh_key(key), None);
    if !session.authenticate_publickey("anyone", key).await?.success() {
        return Ok("not let in");
    }
    let mut channel = session.channel_open_session().await?;
    let mut letters = request.chars();
    let what = letters.next().unwrap_or('s');
    let name = letters.as_str();
    match what {
        'x' => channel.exec(true, name).await?,
        'e' => channel.set_env(true, name, name).await?,
        't' => channel.request_pty(true, name, 80, 25, 0, 0, &[]).await?,
        'h' => channel.request_shell(true).await?,
        _ => channel.request_subsystem(true, name).await?,
    }
    let mut granted = false;
    while let Some(message) = channel.wait().await {
        match message {
            ChannelMsg::Success => granted = true,
            ChannelMsg::Failure => {}
            _ => continue,
        }
        break;
    }
    if !granted {
        return Ok("refused");
    }
    assert!(!"xeth".contains(what), "{request:?} was granted, and only subsystems are");
    channel.data(said).await?;
    channel.eof().await?;
    let answered = async {
        while let Some(message) = channel.wait().await {
            if matches!(message, ChannelMsg::Data { .. }) {
                return true;
            }
        }
        false
    };
    let answered = tokio::time::timeout(PATIENCE, answered).await;
    Ok(if answered == Ok(true) { "ok" } else { "no answer" })
}

/// Seeds of [`ssh`].
#[must_use]
pub fn ssh_seeds() -> Vec<Vec<u8>> {
    let hello = r#"{"hello":{"protocol":1,"network":"NETWORK","membership":[]}}"#;
    let hello = hello.replace("NETWORK", &world().network.to_string());
    [
        "\0sborgios\n{\"get\":\"status\"}\n".to_owned(),
        "\x01sborgios\n{\"get\":\"status\"}\n".to_owned(),
        "\0speertree\n".to_owned(),
        format!("\x01speertree\n{hello}\n"),
        "\x01speertree-stream\nBGSd".to_owned(),
        "\0xls\n".to_owned(),
        "\0eLD_PRELOAD\n".to_owned(),
        "\0tvt100\n".to_owned(),
        "\0h\n".to_owned(),
    ]
    .map(String::into_bytes)
    .into()
}
