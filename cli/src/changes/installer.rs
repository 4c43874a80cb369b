//! The installer of a release against the program of its keeper.
//!
//! A fresh server runs the installer as root before it runs anything else, so it deserves the eye that
//! the components get. It has no unit to be read, but it is to be a file that is reviewed and rebuilt
//! already: the program in the component of the keeper, byte for byte.

use borgios_releases::manifest::Installer;
use borgios_releases::plan::KEEPER;
use borgios_types::Digest;

use super::contents::Contents;
use crate::blobs::size_text;
use crate::printer::one_line;

/// Where the keeper's component has its program.
const PROGRAM: &str = "files/bin/borgios-keeper";

/// What the installer is beside the keeper's component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Compared {
    /// The keeper's program, byte for byte.
    Same,
    /// Another file than the program, which is this one; none if the component has no program.
    Other(Option<Digest>),
    /// Nobody looked, and why.
    Not(String),
}

impl Compared {
    /// Compares the installer with the program in the keeper's component.
    pub(crate) fn with(installer: &Installer, keeper: &Contents) -> Self {
        match keeper.digest_of(PROGRAM) {
            Some(digest) if digest == installer.digest => Self::Same,
            program => Self::Other(program),
        }
    }

    /// For people; `fresh` if the release before had another one.
    pub(crate) fn lines(&self, installer: &Installer, fresh: bool) -> Vec<String> {
        let what = if fresh {
            format!("{}: the executable that fresh servers run first", size_text(installer.size))
        } else {
            "the same as before".to_owned()
        };
        let digest = installer.digest;
        let line = |words: &str| format!("installer {what}{words}\n            {digest}");
        match self {
            Self::Same => vec![line(&format!("; it is the program of {KEEPER}, byte for byte"))],
            Self::Not(why) => vec![line(&format!(
                "; NOT COMPARED with the program of {KEEPER}: {}",
                one_line(why)
            ))],
            Self::Other(program) => {
                let program = match program {
                    Some(digest) => format!("\n            {PROGRAM} is {digest}"),
                    None => format!(", and the component has no {PROGRAM}"),
                };
                vec![
                    line(""),
                    format!(
                        "INSTALLER is not the keeper's program: what fresh servers run first, as \
                         root, is in no component{program}"
                    ),
                ]
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_file_is_told_aloud_and_what_was_not_compared_is_said() {
        let installer = Installer { digest: Digest::of(b"keeper"), size: 6 };
        let same = Compared::Same.lines(&installer, true).concat();
        assert!(
            same.starts_with("installer 6 B: the executable that fresh servers run first; it is")
        );
        assert!(same.ends_with(&installer.digest.to_string()) && !same.contains("INSTALLER"));
        let other = Compared::Other(Some(Digest::of(b"other"))).lines(&installer, false);
        assert!(other[0].starts_with("installer the same as before\n"), "{other:?}");
        assert!(other[1].starts_with("INSTALLER is not the keeper's program: "), "{other:?}");
        assert!(other[1].contains(&Digest::of(b"other").to_string()), "{other:?}");
        let none = Compared::Other(None).lines(&installer, true).concat();
        assert!(none.contains("INSTALLER is not") && none.contains("has no files/bin/"), "{none}");
        let not = Compared::Not("it is not\nat hand".to_owned()).lines(&installer, true).concat();
        assert!(not.contains("NOT COMPARED with the program of borgios-keeper: it is not\\nat"));
    }
}
