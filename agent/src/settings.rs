//! What a server is told about itself: `/etc/borgios/agent.json`, and where everything lies.
//!
//! Every path hangs below one root folder, so that a test can run many agents on one machine.

use std::path::{Path, PathBuf};
use std::time::Duration;

use borgios_policy::Name;
use borgios_stream::Relay;
use borgios_types::PublicKey;
use borgios_types::limits::NAME_MAX;
use serde::Deserialize;
use thiserror::Error;

/// The port borgiosd listens on where nothing else is said.
pub const PORT: u16 = 7117;
/// Largest settings file that is read, in bytes: five short fields.
const FILE_MAX: u64 = 64 * 1024;

/// The file `/etc/borgios/agent.json`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    listen: Option<String>,
    advertise: Option<String>,
    name: Option<String>,
    owner: Option<String>,
    relay: Option<RelaySetting>,
}

/// When streams go on, as the file says it.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RelaySetting {
    /// After they were verified.
    Verified,
    /// On the link's authentication, verified beside it.
    Link,
}

impl From<RelaySetting> for Relay {
    fn from(setting: RelaySetting) -> Self {
        match setting {
            RelaySetting::Verified => Self::Verified,
            RelaySetting::Link => Self::Link,
        }
    }
}

/// Where one agent keeps things, where it listens, and how it is called.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Own folder of borgiosd: key, objects, blobs, known peers, invitation.
    pub state: PathBuf,
    /// borgiosd's socket for tools on this server.
    pub api_socket: PathBuf,
    /// The keeper's socket.
    pub keeper_socket: PathBuf,
    /// `host:port` to listen on.
    pub listen: String,
    /// `host:port` at which other servers can dial this one; `None` makes it a leaf.
    pub advertise: Option<String>,
    /// The server's name in the join record.
    pub name: Name,
    /// The key of the server's owner, who may take it out again. Only a first join record names it.
    pub owner: Option<PublicKey>,
    /// When batches of others' streams are forwarded: once verified, or on the link's authentication.
    pub relay: Relay,
    /// How often things are done; tests make it faster.
    pub pace: Pace,
}

/// How often things are done.
#[derive(Clone, Debug)]
pub struct Pace {
    /// Heartbeats of the tree.
    pub heartbeat: Duration,
    /// Silence after which a neighbour in the tree is dead; all servers of a fleet have the same.
    pub silence: Duration,
    /// Pause before the keeper is asked again after it could not be reached, and between two looks
    /// at an install that is under way.
    pub keeper: Duration,
    /// First pause before a blob that no source had is looked for again; it doubles.
    pub fetch: Duration,
    /// Pace of looking after the join record, the store and the depot.
    pub upkeep: Duration,
    /// How long a join record holds: a node may be away for a long weekend and stay a member.
    pub record_life: Duration,
    /// Age at which a join record is renewed.
    pub renew: Duration,
    /// How long a node that no longer renews its record is remembered.
    pub lapsed_kept: Duration,
    /// Least time between two reports on the credential that differ in the keeper's problem only.
    pub report: Duration,
    /// How long a node whose owner took it out waits for the others to hear of it.
    pub farewell: Duration,
}

/// A day, in seconds.
const DAY: u64 = 24 * 3600;

impl Default for Pace {
    fn default() -> Self {
        Self {
            heartbeat: borgios_peertree::bounds::HEARTBEAT,
            silence: borgios_peertree::bounds::SILENCE,
            keeper: Duration::from_secs(1),
            fetch: Duration::from_secs(1),
            upkeep: Duration::from_secs(600),
            record_life: Duration::from_secs(7 * DAY),
            renew: Duration::from_secs(DAY),
            lapsed_kept: Duration::from_secs(7 * DAY),
            report: Duration::from_secs(600),
            farewell: Duration::from_secs(60),
        }
    }
}

/// Why settings cannot be used.
#[derive(Debug, Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("cannot read {path}; write {{}} into it to use the defaults")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Larger than any settings file.
    #[error("{0} is larger than {FILE_MAX} bytes, it is not a settings file")]
    TooLarge(PathBuf),
    /// Not JSON of the right shape.
    #[error("{path} is not {{\"listen\",\"advertise\",\"name\",\"owner\",\"relay\"}}")]
    Json {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A name nobody could print.
    #[error(
        "{0:?} is not a server name: expected 1 to {NAME_MAX} letters, digits, `-`, `_` or `.`"
    )]
    Name(String),
    /// No key.
    #[error("owner {value:?} is no key; expected `ssh-ed25519 AAAA…`")]
    Owner {
        /// What it says.
        value: String,
        /// Why it is none.
        #[source]
        source: borgios_types::key::KeyError,
    },
    /// Not `host:port`.
    #[error("{field} {value:?} is not host:port")]
    Address {
        /// Which setting.
        field: &'static str,
        /// What it says.
        value: String,
    },
}

impl Settings {
    /// The settings of a real server: the paths of the design note, below `/`.
    ///
    /// A missing file means the defaults.
    ///
    /// # Errors
    /// See [`SettingsError`].
    pub fn of_server(file: &Path) -> Result<Self, SettingsError> {
        let mut settings = Self::below(Path::new("/"), host_name());
        settings.listen = format!("[::]:{PORT}");
        settings.read(file)?;
        Ok(settings)
    }

    /// The defaults with every path below `root`, listening on a free loopback port.
    #[must_use]
    pub fn below(root: &Path, name: Name) -> Self {
        Self {
            state: root.join("var/lib/borgios"),
            api_socket: root.join("run/borgios/api.sock"),
            keeper_socket: root.join("run/borgios/keeper.sock"),
            listen: "127.0.0.1:0".to_owned(),
            advertise: None,
            name,
            owner: None,
            relay: Relay::Verified,
            pace: Pace::default(),
        }
    }

    fn read(&mut self, path: &Path) -> Result<(), SettingsError> {
        let read = |source| SettingsError::Read { path: path.to_owned(), source };
        let file: File = match std::fs::metadata(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => File::default(),
            Err(error) => return Err(read(error)),
            Ok(meta) if meta.len() > FILE_MAX => {
                return Err(SettingsError::TooLarge(path.to_owned()));
            }
            Ok(_) => {
                let text = std::fs::read_to_string(path).map_err(read)?;
                serde_json::from_str(&text)
                    .map_err(|source| SettingsError::Json { path: path.to_owned(), source })?
            }
        };
        if let Some(listen) = file.listen {
            self.listen = address("listen", listen)?;
        }
        self.advertise = match file.advertise {
            Some(advertise) if advertise.is_empty() => None,
            Some(advertise) => Some(address("advertise", advertise)?),
            None => None,
        };
        if let Some(name) = file.name {
            let short = || name.chars().take(NAME_MAX).collect();
            self.name = name_of(&name).ok_or_else(|| SettingsError::Name(short()))?;
        }
        self.owner = match file.owner {
            Some(owner) => Some(owner.parse().map_err(|source| {
                let value = owner.chars().take(100).collect();
                SettingsError::Owner { value, source }
            })?),
            None => None,
        };
        if let Some(relay) = file.relay {
            self.relay = relay.into();
        }
        Ok(())
    }
}

fn address(field: &'static str, value: String) -> Result<String, SettingsError> {
    let ok = value.len() <= borgios_peertree::bounds::ADDRESS_MAX
        && value
            .rsplit_once(':')
            .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    if ok { Ok(value) } else { Err(SettingsError::Address { field, value }) }
}

/// A host's name as a name of the fleet: `Web_3.example` becomes `web-3-example`.
fn name_of(text: &str) -> Option<Name> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if !text.bytes().all(fits) {
        return None;
    }
    text.to_ascii_lowercase().replace(['_', '.'], "-").parse().ok()
}

fn host_name() -> Name {
    of_host(&sysinfo::System::host_name().unwrap_or_default())
}

/// The name that a host has in the fleet where nobody gave it one: there always is one.
pub(crate) fn of_host(host: &str) -> Name {
    let short: String = host.chars().take(NAME_MAX).collect();
    name_of(&short).unwrap_or_else(|| "server".parse().expect("six letters are a name"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Settings, SettingsError> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("agent.json");
        std::fs::write(&file, text).unwrap();
        Settings::of_server(&file)
    }

    #[test]
    fn every_host_has_a_name() {
        for (host, name) in [
            ("web_1", "web-1"),
            ("Web-3", "web-3"),
            ("_", "server"),
            ("", "server"),
            ("ü", "server"),
        ] {
            assert_eq!(of_host(host).as_str(), name, "{host}");
        }
        assert_eq!(of_host(&"x".repeat(300)).as_str().len(), NAME_MAX);
    }

    #[test]
    fn a_file_overrules_the_defaults() {
        let settings =
            parse(r#"{"listen":"0.0.0.0:9","advertise":"10.0.0.1:9","name":"Web_3"}"#).unwrap();
        assert_eq!(settings.listen, "0.0.0.0:9");
        assert_eq!(settings.advertise.as_deref(), Some("10.0.0.1:9"));
        assert_eq!(settings.name.as_str(), "web-3");
        assert_eq!(settings.state, Path::new("/var/lib/borgios"));
        assert_eq!(settings.owner, None);
        let owner = borgios_types::SecretKey::from_seed([1; 32]).public();
        let settings = parse(&format!(r#"{{"owner":"{owner} owner@example"}}"#)).unwrap();
        assert_eq!(settings.owner, Some(owner));
        assert_eq!(settings.relay, Relay::Verified);
        assert_eq!(parse(r#"{"relay":"link"}"#).unwrap().relay, Relay::Link);
        assert_eq!(parse(r#"{"relay":"verified"}"#).unwrap().relay, Relay::Verified);
    }

    #[test]
    fn a_missing_file_means_the_defaults() {
        let settings = Settings::of_server(Path::new("/nonexistent/agent.json")).unwrap();
        assert_eq!(settings.listen, "[::]:7117");
        assert_eq!(settings.advertise, None);
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        assert!(matches!(parse("{"), Err(SettingsError::Json { .. })));
        assert!(matches!(parse(r#"{"listn":"x:1"}"#), Err(SettingsError::Json { .. })));
        assert!(matches!(parse(r#"{"listen":"7117"}"#), Err(SettingsError::Address { .. })));
        assert!(matches!(parse(r#"{"relay":"unverified"}"#), Err(SettingsError::Json { .. })));
        assert!(matches!(parse(r#"{"name":"a b"}"#), Err(SettingsError::Name(_))));
        let long = format!(r#"{{"name":"{}"}}"#, "x".repeat(10_000));
        assert!(matches!(parse(&long), Err(SettingsError::Name(_))));
        assert!(matches!(parse(r#"{"owner":"ssh-rsa AAAA"}"#), Err(SettingsError::Owner { .. })));
        assert!(matches!(parse(&" ".repeat(70_000)), Err(SettingsError::TooLarge(_))));
    }
}
