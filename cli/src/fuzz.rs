//! Doors for the fuzzer: what this program reads from files, terminals and other programs, each as
//! a function of bytes or text. No command uses them.
//!
//! They answer `Ok`, or why what came was refused. What must hold of anything that was read is
//! asserted here, beside the readers.

use std::path::{Path, PathBuf};

use age::secrecy::ExposeSecret as _;
use borgios_policy::KeyShare;
use borgios_types::{Digest, Envelope};
use serde_json::{Value, json};

use crate::adopt::advertise::Advertise;
use crate::adopt::asked_node::standing;
use crate::adopt::consent::HandOver;
use crate::adopt::host_key::{Settings, fingerprint};
use crate::adopt::log::Log;
use crate::adopt::target::Target;
use crate::archive::Archive;
use crate::commands::governor_backup::{FORMAT, Kept};
use crate::commands::governor_restore::{scalar_of, words_of};
use crate::commands::{access_request, ask, invite, node, nodes, status, stream_tail, tree};
use crate::context::Membership;
use crate::failure::Failure;
use crate::home::Home;
use crate::known::{self, KnownNodes};
use crate::reviewed::Reviewed;
use crate::subject::Subject;
use crate::transport::folder::Folder;
use crate::transport::{KINDS, Transport as _, api, socket};
use crate::{carrier, ceremony, printer, slots, span, vault};

/// What became of an input: why it was refused, if it was.
pub type Said = Result<(), String>;

fn summary<T>(read: Result<T, Failure>) -> Said {
    read.map(drop).map_err(|failure| failure.summary())
}

/// How many kinds of words [`option`] knows.
pub const OPTIONS: u8 = 13;

/// A word of the command line, as one of the options takes it.
pub fn option(which: u8, text: &str) -> Said {
    match which % OPTIONS {
        0 => {
            let target: Target = text.parse()?;
            assert!(!target.host().starts_with('-'), "ssh would take it for an option");
            let user = target.user().unwrap_or_default();
            assert!(!user.starts_with('-'), "ssh would take it for an option");
            assert_eq!(target.to_string(), text);
            Ok(())
        }
        1 => text.parse::<Advertise>().map(drop),
        2 => text.parse::<HandOver>().map(drop),
        3 => {
            let subject: Subject = text.parse()?;
            assert!(subject.to_string().parse::<Subject>().is_ok(), "it does not read back");
            Ok(())
        }
        4 => span::seconds(text).map(|seconds| drop(span::words(seconds))),
        5 => span::date(text).map(|date| {
            assert!(text.bytes().all(|b| b.is_ascii_digit()) || date.to_string() == text);
        }),
        6 => summary(known::address(text)),
        7 => summary(stream_tail::position(text)),
        8 => slots::parse(text).map(drop).ok_or_else(|| "no slot".to_owned()),
        9 => invite::url(text).map(drop),
        10 => invite::member(text).map(drop),
        11 => ask::thousandths(text).map(drop),
        _ => fingerprint(text).map(drop).ok_or_else(|| "no fingerprint".to_owned()),
    }
}

/// The words of a share, as a governor types them.
pub fn words(text: &str) -> Said {
    let scalar = scalar_of(text).map_err(|failure| failure.summary())?;
    let words = words_of(&scalar).map_err(|failure| failure.summary())?;
    let again = scalar_of(words.expose_secret()).map_err(|failure| failure.summary())?;
    assert_eq!(again.expose(), scalar.expose(), "the words do not come back");
    Ok(())
}

/// Words for 32 bytes, as a seed.
///
/// # Errors
/// Another number of bytes.
pub fn words_for(scalar: &[u8]) -> Result<String, String> {
    let scalar = borgios_policy::SecretBytes::new(scalar.to_vec());
    let words = words_of(&scalar).map_err(|failure| failure.summary())?;
    Ok(words.expose_secret().to_owned())
}

/// A backup that was opened.
pub fn backup(plain: &[u8]) -> Said {
    let kept: Kept = serde_json::from_slice(plain).map_err(|error| error.to_string())?;
    if kept.format != FORMAT {
        return Err("another format".to_owned());
    }
    let name = kept.board.governors()[0].name.clone();
    KeyShare::from_secret(&kept.board, &name, &kept.share)
        .map(drop)
        .map_err(|error| error.to_string())
}

/// A backup of a governor's share, as a seed.
///
/// # Errors
/// What cannot be encoded.
pub fn backup_of(board: &borgios_policy::Board, share: &KeyShare) -> Result<Vec<u8>, String> {
    let kept = Kept {
        format: FORMAT.to_owned(),
        membership: Membership {
            network: Digest::of(b"network"),
            name: "demo".parse().map_err(|_| "no name")?,
            recovery: None,
        },
        board: board.clone(),
        identity: borgios_policy::Bytes(vec![1; 40]),
        share: share.to_secret(),
    };
    serde_json::to_vec(&kept).map_err(|error| error.to_string())
}

/// A file that is locked under a passphrase. The passphrase is `x`, and the work that the file asks
/// for must be bounded before any of it is done.
pub fn locked(cipher: &[u8]) -> Said {
    summary(vault::unlock("x".to_owned().into(), cipher, Path::new("fuzzed")))
}

/// How many kinds of files [`file()`] knows.
pub const FILES: u8 = 10;

/// One file of the governor's folder, of an exchange folder, or given by hand, holding `bytes`; it
/// lies below `root`, which is empty before. `first` is the network's first policy.
pub fn file(which: u8, bytes: &[u8], root: &Path, first: &Envelope) -> Said {
    let lay = |path: PathBuf| {
        let folder = path.parent().unwrap_or(root).to_owned();
        std::fs::create_dir_all(folder).and_then(|()| std::fs::write(&path, bytes)).map(|()| path)
    };
    let home = Home::at(Some(root.to_owned())).map_err(|failure| failure.summary())?;
    let no_disk = |_| "no disk".to_owned();
    match which % FILES {
        0 => summary(carrier::read(&lay(root.join("carrier.json")).map_err(no_disk)?)),
        1 => {
            lay(root.join("ann.dkg1.json")).map_err(no_disk)?;
            summary(ceremony::read_files(root))
        }
        2 => {
            lay(root.join("objects/x.json")).map_err(no_disk)?;
            let mut folder = Folder::at(root).map_err(|failure| failure.summary())?;
            let fetched = folder.fetch(&KINDS, &|_| false).map_err(|failure| failure.summary())?;
            if fetched.envelopes.is_empty() { Err("skipped".to_owned()) } else { Ok(()) }
        }
        3 => {
            lay(home.nodes()).map_err(no_disk)?;
            summary(KnownNodes::load(&home))
        }
        4 => {
            lay(home.reviewed()).map_err(no_disk)?;
            summary(Reviewed::load(&home))
        }
        5 => {
            lay(home.access()).map_err(no_disk)?;
            summary(access_request::requests(&home))
        }
        6 => {
            serde_json::from_slice::<Membership>(bytes).map(drop).map_err(|error| error.to_string())
        }
        7 => summary(access_request::read_key(&lay(root.join("key.pub")).map_err(no_disk)?)),
        _ => {
            // An object of the archive lies under its kind.
            let kind = Envelope::parse(bytes)
                .map_or_else(|_| "note".to_owned(), |envelope| envelope.kind.as_str().to_owned());
            lay(root.join("objects").join(kind).join("x.json")).map_err(no_disk)?;
            let id = first.id();
            let place = home.object(&first.kind, &id);
            let folder = place.parent().unwrap_or(root);
            std::fs::create_dir_all(folder)
                .and_then(|()| std::fs::write(&place, first.to_json()))
                .map_err(no_disk)?;
            summary(Archive::load(&home, id))
        }
    }
}

/// A whole answer of the agent on its socket.
pub fn answer(text: &str) -> Said {
    let body = socket::body(text)?;
    summary(api::read_answer("the node", &json!({"get": "status"}), body))
}

/// How many answers [`shown`] knows.
pub const SHOWN: u8 = 7;

/// What a node says, as it is shown to people: no answer may move their cursor.
pub fn shown(which: u8, value: &Value) -> Said {
    let said = |error: serde_json::Error| error.to_string();
    let text = match which % SHOWN {
        0 => status::describe(value),
        1 => node::describe(value, "the node"),
        2 => ask::describe(value).map_err(said)?,
        3 => tree::shown(value).map_err(said)?,
        4 => nodes::shown(value).map_err(said)?,
        5 => stream_tail::lines(value).map_err(said)?,
        _ => format!("{:?}", standing(value, Digest::of(b"network"))),
    };
    let hidden = |c: char| c.is_control() && c != '\n';
    assert!(!text.contains(hidden), "a control character is shown: {text:?}");
    Ok(())
}

/// What `ssh -G` says.
pub fn ssh_settings(text: &str) -> Said {
    let settings = Settings::read(text);
    if settings.hostname.is_empty() { Err("no host".to_owned()) } else { Ok(()) }
}

/// What `bootstrap.sh` says on a host that is adopted.
pub fn bootstrap_log(text: &str) -> Said {
    let mut log = Log::new("end-of-x".to_owned());
    for line in text.lines() {
        let _ = log.take(line);
    }
    let _ = (log.text(), log.receipt_text(), log.complaint(), log.stage());
    log.code().map(drop).ok_or_else(|| "no end".to_owned())
}

/// Text from outside as a part of one line.
pub fn one_line(text: &str) -> Said {
    let line = printer::one_line(text);
    assert!(!line.contains(char::is_control), "a control character is shown: {line:?}");
    Ok(())
}
