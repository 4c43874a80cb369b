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
    /// The line after that on the same one.
    Further(u32),
    /// From `/dev/tty`, without echo.
    Terminal,
}

impl Source {
    /// Where another passphrase is read after this one: on the descriptor `given`, else on the same one.
    pub(crate) fn then(self, given: Option<u32>) -> Self {
        match (self, given) {
            (Self::Descriptor(number), None) => Self::Further(number),
            (Self::Descriptor(number), Some(given)) if given == number => Self::Further(number),
            (_, Some(given)) => Self::Descriptor(given),
            (other, None) => other,
        }
    }

    /// This one, where another was read from `before`: the line after that if it is the same descriptor.
    pub(crate) fn behind(self, before: Self) -> Self {
        match self {
            Self::Descriptor(number) => before.then(Some(number)),
            other => other,
        }
    }

    /// Asks for the passphrase of an existing identity.
    pub(crate) fn existing(self, name: &str) -> Result<SecretString, Failure> {
        match self {
            Self::Descriptor(number) => from_descriptor(number, false),
            Self::Further(number) => from_descriptor(number, true),
            Self::Terminal => prompt(&format!("Passphrase of governor {name}: ")),
        }
    }

    /// Asks for the passphrase of a file with one of its own: an SSH key, a backup.
    pub(crate) fn of_file(self, path: &std::path::Path) -> Result<SecretString, Failure> {
        match self {
            Self::Descriptor(number) => from_descriptor(number, false),
            Self::Further(number) => from_descriptor(number, true),
            Self::Terminal => prompt(&format!("Passphrase of {}: ", path.display())),
        }
    }

    /// Asks for a new passphrase, twice at a prompt.
    pub(crate) fn new_one(self, printer: &Printer) -> Result<SecretString, Failure> {
        let passphrase = match self {
            Self::Descriptor(number) => from_descriptor(number, false)?,
            Self::Further(number) => from_descriptor(number, true)?,
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

/// One line of a descriptor; `further` if one of it was read before.
fn from_descriptor(number: u32, further: bool) -> Result<SecretString, Failure> {
    let what = || format!("could not read the passphrase from file descriptor {number}");
    // Standard input is at hand. Any other one is opened anew through /proc, so that no descriptor
    // has to be taken over blindly.
    if number == 0 {
        return line(&mut std::io::stdin(), what);
    }
    let mut input = File::open(format!("/proc/self/fd/{number}")).or_fail(what)?;
    // What goes on where it was left is a pipe; a file begins again.
    if further && input.metadata().or_fail(what)?.is_file() {
        line(&mut input, what)?;
    }
    line(&mut input, what)
}

/// What comes up to the first newline or the end, byte by byte: nothing behind it is taken.
fn line(input: &mut impl Read, what: impl Fn() -> String) -> Result<SecretString, Failure> {
    let mut line = Zeroizing::new(Vec::with_capacity(PASSPHRASE_MAX));
    let mut byte = Zeroizing::new([0]);
    while input.read(byte.as_mut()).or_fail(&what)? == 1 && byte[0] != b'\n' {
        if line.len() == PASSPHRASE_MAX {
            let limit = format!("it is longer than {PASSPHRASE_MAX} bytes");
            return Err(Failure::new(what()).because(limit));
        }
        line.push(byte[0]);
    }
    let text = core::str::from_utf8(&line).or_fail(what)?;
    Ok(SecretString::from(text))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::fd::{AsFd, AsRawFd as _};

    use super::*;

    fn both(input: &impl AsFd) -> [String; 2] {
        let number = u32::try_from(input.as_fd().as_raw_fd()).unwrap();
        let old = Source::Descriptor(number);
        let first = old.existing("ann").unwrap();
        let second = old.then(None).new_one(&Printer::new(true)).unwrap();
        [first, second].map(|one| one.expose_secret().to_owned())
    }

    /// A pipe goes on where it was left, and a file that is opened anew begins again.
    #[test]
    fn a_descriptor_gives_the_old_one_and_then_the_new_one() {
        let text = b"the old passphrase\nthe new passphrase\n";
        let words = ["the old passphrase", "the new passphrase"];
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        assert_eq!(both(&File::open(file.path()).unwrap()), words);
        let (reader, mut writer) = std::io::pipe().unwrap();
        writer.write_all(text).unwrap();
        drop(writer);
        assert_eq!(both(&reader), words);
        // What was read first was another's: a backup's, say.
        let input = File::open(file.path()).unwrap();
        let own = Source::Descriptor(u32::try_from(input.as_raw_fd()).unwrap());
        for (before, word) in [(own, words[1]), (Source::Terminal, words[0])] {
            assert_eq!(own.behind(before).existing("ann").unwrap().expose_secret(), word);
        }
        // One line is no new passphrase.
        std::fs::write(file.path(), "the old passphrase\n").unwrap();
        let input = File::open(file.path()).unwrap();
        let number = u32::try_from(input.as_raw_fd()).unwrap();
        let new = Source::Descriptor(number).then(Some(number));
        assert!(new.new_one(&Printer::new(true)).is_err());
    }
}
