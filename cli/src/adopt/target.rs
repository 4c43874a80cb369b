//! A host as it was typed: `root@HOST`, `root@HOST:PORT`, `root@[IPV6]:PORT`, or an alias of
//! `ssh_config`.

use std::fmt;
use std::str::FromStr;

/// Longest host that can be typed, in bytes: a DNS name, a user and a port.
const TYPED_MAX: usize = 320;

/// Where ssh shall go. What is not given here is for the user's ssh settings to say.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Target {
    /// As it was typed, which is how it is called in messages.
    typed: String,
    user: Option<String>,
    host: String,
    port: Option<u16>,
}

impl Target {
    /// The account to log in to, if one was named.
    pub(crate) fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// Name, address or alias, without brackets. Never begins with `-`, so ssh takes it for no
    /// option.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// The port, if one was named.
    pub(crate) fn port(&self) -> Option<u16> {
        self.port
    }

    /// Whether someone who writes `text` means this host: as it was typed, or without its user.
    pub(crate) fn is_called(&self, text: &str) -> bool {
        let bare = self.typed.rsplit_once('@').map_or(self.typed.as_str(), |(_, host)| host);
        text == self.typed || text == bare || text == self.host
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.typed)
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(typed: &str) -> Result<Self, String> {
        let bad = |why: &str| {
            let shown: String = typed.chars().take(80).collect();
            format!("{shown:?} is no host ({why}): write root@HOST, root@HOST:PORT or an alias")
        };
        if typed.len() > TYPED_MAX {
            return Err(bad("it is too long"));
        }
        let (user, place) = match typed.rsplit_once('@') {
            Some((user, place)) => (Some(user), place),
            None => (None, typed),
        };
        if user.is_some_and(|user| !is_word(user, "._-")) {
            return Err(bad("its user"));
        }
        let (host, port, of) = if let Some(rest) = place.strip_prefix('[') {
            let (host, after) = rest.split_once(']').ok_or_else(|| bad("no closing bracket"))?;
            let port = match after {
                "" => None,
                _ => Some(after.strip_prefix(':').ok_or_else(|| bad("what follows the bracket"))?),
            };
            (host, port, ":.%")
        } else {
            match place.split_once(':') {
                Some((_, port)) if port.contains(':') => return Err(bad("IPv6 needs brackets")),
                Some((host, port)) => (host, Some(port), "._-"),
                None => (place, None, "._-"),
            }
        };
        if !is_word(host, of) {
            return Err(bad("its name"));
        }
        let port = match port.map(str::parse::<u16>) {
            None => None,
            Some(Ok(port)) if port > 0 => Some(port),
            Some(_) => return Err(bad("its port")),
        };
        let user = user.map(str::to_owned);
        Ok(Self { typed: typed.to_owned(), user, host: host.to_owned(), port })
    }
}

/// Letters, digits and some of `also`; not empty, and nothing a program takes for an option.
fn is_word(text: &str, also: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || also.contains(c);
    !text.is_empty() && !text.starts_with('-') && text.chars().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_ports_addresses_and_aliases_are_read() {
        let read = |text: &str| {
            let target: Target = text.parse().unwrap();
            (target.user.clone(), target.host.clone(), target.port)
        };
        let root = Some("root".to_owned());
        assert_eq!(read("root@web-1"), (root.clone(), "web-1".into(), None));
        assert_eq!(read("root@10.0.0.1:2222"), (root.clone(), "10.0.0.1".into(), Some(2222)));
        assert_eq!(read("root@[2001:db8::1]:22"), (root, "2001:db8::1".into(), Some(22)));
        assert_eq!(read("[fe80::1%eth0]"), (None, "fe80::1%eth0".into(), None));
        assert_eq!(read("shop_alias"), (None, "shop_alias".into(), None));
    }

    #[test]
    fn nothing_that_ssh_could_take_for_an_option_or_a_command_is_a_host() {
        for bad in [
            "",
            "@",
            "root@",
            "@web",
            "-oProxyCommand=x",
            "root@-oProxyCommand=x",
            "-l@web",
            "root@a b",
            "root@a;b",
            "root@$(x)",
            "a@b@c d",
            "web:0",
            "web:99999",
            "web:x",
            "fe80::1",
            "[fe80::1",
            "[fe80::1]22",
            "root@web\n",
            "ssh://root@web",
            "web:",
        ] {
            assert!(bad.parse::<Target>().is_err(), "{bad:?}");
        }
        assert!("a".repeat(400).parse::<Target>().is_err());
    }

    #[test]
    fn a_host_is_called_with_or_without_its_user() {
        let target: Target = "root@web-1:2222".parse().unwrap();
        for name in ["root@web-1:2222", "web-1:2222", "web-1"] {
            assert!(target.is_called(name), "{name}");
        }
        assert!(!target.is_called("web") && !target.is_called("root@web-1"));
    }
}
