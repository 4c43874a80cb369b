//! Where the passphrase comes from: a file descriptor, or a prompt on the terminal.

use std::fs::File;
use std::io::Read;

use age::secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroizing;

use crate::failure::{Failure, OrFail as _};
use crate::printer::Printer;

/// Longest passphrase read, in bytes.
const PASSPHRASE_MAX: usize = 1024;

/// A passphrase shorter than this gets a warning: scrypt slows a guesser down, it does not stop
/// one who has the file and a short list.
const PASSPHRASE_SHORT: usize = 12;

/// How to ask for it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Source {
    /// From this file descriptor, up to the first newline or the end.
    Descriptor(u32),
    /// From `/dev/tty`, without echo.
    Terminal,
}

impl Source {
    /// Asks for the passphrase of an existing identity.
    pub(crate) fn existing(self, name: &str) -> Result<SecretString, Failure> {
        match self {
            Self::Descriptor(number) => from_descriptor(number),
            Self::Terminal => prompt(&format!("Passphrase of governor {name}: ")),
        }
    }

    /// Asks for the passphrase of a file with one of its own: an SSH key, a backup.
    pub(crate) fn of_file(self, path: &std::path::Path) -> Result<SecretString, Failure> {
        match self {
            Self::Descriptor(number) => from_descriptor(number),
            Self::Terminal => prompt(&format!("Passphrase of {}: ", path.display())),
        }
    }

    /// Asks for a new passphrase, twice at a prompt.
    pub(crate) fn new_one(self, printer: &Printer) -> Result<SecretString, Failure> {
        let passphrase = match self {
            Self::Descriptor(number) => from_descriptor(number)?,
            Self::Terminal => {
                let once = prompt("New passphrase: ")?;
                let again = prompt("The same again: ")?;
                if once.expose_secret() != again.expose_secret() {
                    return Err(Failure::new("the two passphrases differ; nothing was written")
                        .hint("run the command again"));
                }
                once
            }
        };
        let length = passphrase.expose_secret().chars().count();
        if length == 0 {
            return Err(Failure::new("an empty passphrase protects nothing")
                .hint("five or more random words are easy to keep and hard to guess"));
        }
        if length < PASSPHRASE_SHORT {
            printer.warn(&format!(
                "a passphrase of {length} characters is short; five or more random words are \
                 better"
            ));
        }
        Ok(passphrase)
    }
}

fn prompt(text: &str) -> Result<SecretString, Failure> {
    rpassword::prompt_password(text).map(SecretString::from).map_err(|error| {
        Failure::new("could not ask for the passphrase")
            .cause(error)
            .hint("without a terminal, give it on a file descriptor: `--passphrase-fd 3 3<FILE`")
    })
}

fn from_descriptor(number: u32) -> Result<SecretString, Failure> {
    let what = || format!("could not read the passphrase from file descriptor {number}");
    // Standard input is at hand. Any other one is opened anew through /proc, so that no descriptor
    // has to be taken over blindly.
    let mut input: Box<dyn Read> = if number == 0 {
        Box::new(std::io::stdin())
    } else {
        Box::new(File::open(format!("/proc/self/fd/{number}")).or_fail(what)?)
    };
    let mut line = Zeroizing::new(Vec::with_capacity(PASSPHRASE_MAX));
    let mut byte = Zeroizing::new([0]);
    while input.read(byte.as_mut()).or_fail(what)? == 1 && byte[0] != b'\n' {
        if line.len() == PASSPHRASE_MAX {
            let limit = format!("it is longer than {PASSPHRASE_MAX} bytes");
            return Err(Failure::new(what()).because(limit));
        }
        line.push(byte[0]);
    }
    let text = core::str::from_utf8(&line).or_fail(what)?;
    Ok(SecretString::from(text))
}
