//! Consent to the take-over of several machines at once: by their own names.
//!
//! What has to be typed is what each machine calls itself, as its plan shows it, not the address on
//! the command line and not a number: a number tells no mistaken host from the right one, and the
//! address was typed already. A machine whose name is not typed is left alone; a name that no
//! machine here has stops everything.

use std::collections::BTreeSet;
use std::str::FromStr;

use super::target::Target;

/// Longest name of a machine: what bootstrap.sh takes.
const NAME_MAX: usize = 63;

/// Consent given on the command line: `HOST=NAME`.
#[derive(Clone, Debug)]
pub(crate) struct HandOver {
    host: String,
    name: String,
}

impl FromStr for HandOver {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || {
            format!(
                "{text:?} is no consent: write HOST=NAME, NAME being what `uname -n` says there"
            )
        };
        let (host, name) = text.split_once('=').ok_or_else(bad)?;
        if host.is_empty() || !is_machine_name(name) {
            return Err(bad());
        }
        Ok(Self { host: host.to_owned(), name: name.to_owned() })
    }
}

impl HandOver {
    /// The name that was consented to for this host.
    pub(crate) fn of<'a>(all: &'a [Self], target: &Target) -> Option<&'a str> {
        all.iter().find(|one| target.is_called(&one.host)).map(|one| one.name.as_str())
    }

    /// The first that means none of these hosts, or more than one.
    pub(crate) fn astray<'a>(all: &'a [Self], targets: &[Target]) -> Option<&'a str> {
        let meant = |one: &Self| targets.iter().filter(|t| t.is_called(&one.host)).count();
        all.iter().find(|one| meant(one) != 1).map(|one| one.host.as_str())
    }
}

/// Whether bootstrap.sh takes this as a machine's name.
pub(crate) fn is_machine_name(name: &str) -> bool {
    name.len() <= NAME_MAX
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
}

/// The names that stand among `names` more than once; nobody can consent to one of them.
pub(crate) fn ambiguous<'a>(names: &[&'a str]) -> BTreeSet<&'a str> {
    let mut seen = BTreeSet::new();
    names.iter().copied().filter(|name| !seen.insert(*name)).collect()
}

/// The machines that a typed line consents to.
///
/// # Errors
/// The first word that is none of `names`.
pub(crate) fn typed<'a>(line: &'a str, names: &[&str]) -> Result<BTreeSet<&'a str>, &'a str> {
    let words = line.split([' ', '\t', ',', '\n', '\r']).filter(|word| !word.is_empty());
    words.map(|word| if names.contains(&word) { Ok(word) } else { Err(word) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_typed_is_handed_over() {
        let names = ["web-1", "web-2", "db"];
        assert_eq!(typed("web-2, db\n", &names).unwrap(), BTreeSet::from(["web-2", "db"]));
        assert!(typed("\n", &names).unwrap().is_empty());
        assert!(typed("", &names).unwrap().is_empty());
    }

    #[test]
    fn a_wrong_word_hands_nothing_over() {
        let names = ["web-1", "web-2"];
        for (line, word) in [("web-1 web-3", "web-3"), ("y", "y"), ("2", "2"), ("WEB-1", "WEB-1")] {
            assert_eq!(typed(line, &names).unwrap_err(), word);
        }
    }

    #[test]
    fn machines_of_one_name_cannot_be_told_apart() {
        assert_eq!(ambiguous(&["debian", "web", "debian"]), BTreeSet::from(["debian"]));
        assert!(ambiguous(&["a", "b"]).is_empty());
    }

    #[test]
    fn consent_by_option_means_one_host_and_one_name() {
        let targets = ["root@web-1", "root@10.0.0.2:2222"].map(|t| t.parse::<Target>().unwrap());
        let all = ["web-1=vps-01", "10.0.0.2=vps-02"].map(|t| t.parse::<HandOver>().unwrap());
        assert_eq!(HandOver::of(&all, &targets[0]), Some("vps-01"));
        assert_eq!(HandOver::of(&all, &targets[1]), Some("vps-02"));
        assert_eq!(HandOver::astray(&all, &targets), None);
        assert_eq!(HandOver::astray(&all, &targets[..1]), Some("10.0.0.2"));
        let twins = ["a@web-1", "b@web-1"].map(|t| t.parse::<Target>().unwrap());
        assert_eq!(HandOver::astray(&all[..1], &twins), Some("web-1"));
        for bad in ["web-1", "=x", "web-1=", "web-1=-x", "web-1=a b", "web-1=$(x)"] {
            assert!(bad.parse::<HandOver>().is_err(), "{bad:?}");
        }
    }
}
