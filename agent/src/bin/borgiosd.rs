//! borgiosd: reads the settings, runs one agent, tells systemd how it is.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use borgios_agent::agent::{self, Agent};
use borgios_agent::settings::Settings;
use borgios_agent::{local, logging, supervision};
use tokio::signal::unix::{SignalKind, signal};

/// Where the settings of a server stand.
const SETTINGS: &str = "/etc/borgios/agent.json";
/// How often the agent looks after itself where systemd does not ask for it.
const LOOK: Duration = Duration::from_secs(10);

const USAGE: &str = "\
borgiosd: the unprivileged half of a BorgIOS server

usage: borgiosd run [--settings FILE]   run until told to stop (default FILE: /etc/borgios/agent.json)
       borgiosd --health                whether the borgiosd that runs here is well
       borgiosd --selftest              whether this program works on this machine
       borgiosd --version
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["run"] => run(SETTINGS.into()),
        ["run", "--settings", file] => run(file.into()),
        ["--selftest"] => match agent::selftest() {
            Ok(()) => say("borgiosd works on this machine"),
            Err(error) => complain(&format!("{error:#}")),
        },
        ["--health"] => health(SETTINGS.into()),
        ["--health", "--settings", file] => health(file.into()),
        ["--version"] => say(&format!("borgiosd {}", env!("CARGO_PKG_VERSION"))),
        _ => {
            let _ = std::io::Write::write_all(&mut std::io::stderr(), USAGE.as_bytes());
            ExitCode::from(2)
        }
    }
}

fn run(settings: PathBuf) -> ExitCode {
    logging::begin("borgiosd");
    // One worker: two wake each other for every timer of an idle server. The ledger and slow disks have threads
    // of their own; links and, unless `relay` is `link`, signatures of streams share this one. At 4 us a message
    // of 1 KiB (`ours-ssh` in tests/bench/README.md) that is 2 Gbit/s.
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let result = runtime
        .context("cannot start the runtime")
        .and_then(|runtime| runtime.block_on(serve(settings)));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(BORGIOS_EVENT = "failed", "borgiosd ends: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn health(settings: PathBuf) -> ExitCode {
    let asked = Settings::of_server(&settings)
        .map_err(anyhow::Error::from)
        .and_then(|settings| Ok(local::ask_health(&settings.api_socket)?));
    match asked {
        Ok(()) => say("ok"),
        Err(error) => complain(&format!("{error:#}")),
    }
}

async fn serve(settings: PathBuf) -> anyhow::Result<()> {
    let settings = Settings::of_server(&settings).context("the settings cannot be used")?;
    let mut terminated = signal(SignalKind::terminate()).context("cannot watch for SIGTERM")?;
    let mut interrupted = signal(SignalKind::interrupt()).context("cannot watch for SIGINT")?;
    // Dropping an agent half-way through its start loses nothing that was acknowledged.
    let mut agent = Agent::start(settings).await.context("the agent cannot start")?;
    supervision::ready();
    let look = supervision::watchdog().unwrap_or(LOOK);
    loop {
        tokio::select! {
            _ = terminated.recv() => break,
            _ = interrupted.recv() => break,
            () = agent.departed() => break,
            () = tokio::time::sleep(look) => {
                anyhow::ensure!(agent.alive().await, "a part of the agent has stopped");
                supervision::alive();
                let place = if agent.api.ready() { "in the tree" } else { "looking for the tree" };
                supervision::status(place);
            }
        }
    }
    supervision::stopping();
    agent.end().await;
    Ok(())
}

fn say(text: &str) -> ExitCode {
    let mut out = std::io::stdout();
    match std::io::Write::write_all(&mut out, format!("{text}\n").as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn complain(text: &str) -> ExitCode {
    let _ =
        std::io::Write::write_all(&mut std::io::stderr(), format!("error: {text}\n").as_bytes());
    ExitCode::FAILURE
}
