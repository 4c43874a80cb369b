//! What a component may do on a server, read from its units and configuration, for people who
//! must judge a release.
//!
//! ```text
//! units/*.service|socket|timer ─┐
//! sysusers.d/*.conf            ─┼─▶ Powers: (where, what) ─▶ words;  Powers::diff(old, new)
//! tmpfiles.d/*.conf            ─┘
//! ```
//!
//! systemd grants what a unit does not give up, so an absent line is the widest power and is said as
//! such. What these words do not put into a sentence is quoted as it stands: a directive is left out only
//! if it is on the short list of harmless ones (`settings.rs`). Nothing is shortened here.
//! Source: systemd.exec(5), systemd.service(5), systemd.socket(5), systemd.resource-control(5).
//! This is a reading aid: what a unit really gets, systemd alone decides.

mod configuration;
mod settings;
mod unit_file;

use std::collections::{BTreeMap, BTreeSet};

use unit_file::Unit;

/// What may be done, by place (a file of the component) and kind of power.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Powers(BTreeMap<(String, &'static str), String>);

/// One difference between two sets of powers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Difference {
    /// The file: `units/hello.service`.
    pub place: String,
    /// What kind of power.
    pub what: &'static str,
    /// What it was, in words or in lines of the file; none if the file is new.
    pub was: Option<String>,
    /// What it would be; none if the file goes.
    pub is: Option<String>,
}

impl Difference {
    /// Whether it quotes the lines of the file, one on a line: they are shown whole, for what stands at
    /// the end of a line is obeyed like the rest of it.
    #[must_use]
    pub fn is_quoted(&self) -> bool {
        QUOTED.contains(&self.what)
    }
}

const ACCOUNTS: &str = "accounts";
const FILES_MADE: &str = "files made";
const SPECIAL: &str = "SETUID, SETGID OR STICKY";
const CALLS: &str = "system calls";
const STARTS: &str = "starts";
const UNLIMITED: &str = "RUNS AS ROOT IN SPITE OF ALL THAT";
const LISTENS: &str = "listens";
const WHO_CONNECTS: &str = "who may connect";
const BY_ITSELF: &str = "starts by itself";
const ALSO: &str = "also";
const UNREAD: &str = "NOT READ BY SYSTEMD";

/// The kinds that are lines of the file.
const QUOTED: [&str; 11] = [
    ACCOUNTS,
    FILES_MADE,
    SPECIAL,
    CALLS,
    STARTS,
    UNLIMITED,
    LISTENS,
    WHO_CONNECTS,
    BY_ITSELF,
    ALSO,
    UNREAD,
];

impl Powers {
    /// The powers of a component, from its small text files by path.
    #[must_use]
    pub fn of<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut powers = Self::default();
        for (path, text) in files {
            if let Some(unit) = path.strip_prefix("units/") {
                powers.unit(path, unit, text);
            } else if path.starts_with("sysusers.d/") {
                powers.quote(path, ACCOUNTS, &configuration::lines(text));
            } else if path.starts_with("tmpfiles.d/") {
                powers.quote(path, FILES_MADE, &configuration::lines(text));
                powers.quote(path, SPECIAL, &configuration::special_modes(text));
            }
        }
        powers
    }

    /// Whether there is nothing to say.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What differs, in order of place.
    #[must_use]
    pub fn diff(old: &Self, new: &Self) -> Vec<Difference> {
        let keys: BTreeSet<_> = old.0.keys().chain(new.0.keys()).collect();
        let differs = keys.into_iter().filter(|key| old.0.get(*key) != new.0.get(*key));
        differs
            .map(|key| Difference {
                place: key.0.clone(),
                what: key.1,
                was: old.0.get(key).cloned(),
                is: new.0.get(key).cloned(),
            })
            .collect()
    }

    fn set(&mut self, place: &str, what: &'static str, words: String) {
        self.0.insert((place.to_owned(), what), words);
    }

    /// Lines of the file, if there are any; none of them has an end of line in it.
    fn quote(&mut self, place: &str, what: &'static str, lines: &[String]) {
        if !lines.is_empty() {
            self.set(place, what, lines.join("\n"));
        }
    }

    fn unit(&mut self, place: &str, name: &str, text: &str) {
        let own = match name.rsplit('.').next() {
            Some("socket") => "Socket",
            Some("timer") => "Timer",
            _ => "Service",
        };
        let unit = Unit::parse(own, text);
        match own {
            "Socket" => self.socket(place, &unit),
            "Timer" => {
                let when = unit.quote(settings::is_time);
                self.set(place, BY_ITSELF, or(&when, "never"));
            }
            _ => self.service(place, &unit),
        }
        self.quote(place, STARTS, &unit.commands());
        // A prefix that sheds the limits of the unit must not hide in a long line.
        self.quote(place, UNLIMITED, &unit.unlimited());
        self.quote(place, ALSO, &settings::untold(&unit));
        self.quote(place, UNREAD, &unit.unread);
    }

    fn socket(&mut self, place: &str, unit: &Unit) {
        let listens = unit.quote(|key| key.starts_with("Listen"));
        self.set(place, LISTENS, or(&listens, "nowhere"));
        let owner = unit.quote(|key| key.starts_with("Socket"));
        self.set(place, WHO_CONNECTS, or(&owner, "every user of the server"));
        if !unit.commands().is_empty() {
            self.set(place, "runs as", account(unit));
        }
    }

    fn service(&mut self, place: &str, unit: &Unit) {
        self.set(place, "runs as", account(unit));
        self.set(place, "capabilities", capabilities(unit));
        let gain = if unit.yes("NoNewPrivileges") { "no" } else { "yes, by setuid programs" };
        self.set(place, "can gain rights", gain.to_owned());
        self.set(place, "network", network(unit));
        self.set(place, "writes", writes(unit));
        let allowed = unit.list("DeviceAllow").filter(|list| !list.is_empty());
        let devices = match (unit.yes("PrivateDevices"), allowed) {
            (true, None) => "none".to_owned(),
            (_, Some(list)) => list,
            (false, None) => "all that its user may open".to_owned(),
        };
        self.set(place, "devices", devices);
        let calls = unit.quote(|key| key == "SystemCallFilter");
        self.set(place, CALLS, or(&calls, "all"));
    }
}

fn account(unit: &Unit) -> String {
    let user = match unit.last("User") {
        Some("root" | "0") => "ROOT".to_owned(),
        Some(user) => user.to_owned(),
        None if unit.yes("DynamicUser") => "an account of its own that systemd makes".to_owned(),
        None => "ROOT".to_owned(),
    };
    let groups = ["Group", "SupplementaryGroups"].into_iter().filter_map(|key| {
        let list = unit.list(key).filter(|list| !list.is_empty())?;
        Some(format!(", {key} {list}"))
    });
    format!("{user}{}", groups.collect::<String>())
}

fn capabilities(unit: &Unit) -> String {
    let kept = match unit.list("CapabilityBoundingSet") {
        None => "all that its user can have".to_owned(),
        Some(list) if list.is_empty() => "none".to_owned(),
        Some(list) => list,
    };
    let ambient = unit.list("AmbientCapabilities").filter(|list| !list.is_empty());
    let ambient = ambient.map(|list| format!(", and given {list}")).unwrap_or_default();
    format!("{kept}{ambient}")
}

fn network(unit: &Unit) -> String {
    if let Some(path) = unit.last("NetworkNamespacePath") {
        return format!("that of {path}");
    }
    if unit.yes("PrivateNetwork") {
        let joins = |a: &unit_file::Assignment| a.key == "JoinsNamespaceOf" && !a.value.is_empty();
        let joins = unit.assignments.iter().any(joins);
        let words = if joins { "that of the units it joins" } else { "none" };
        return words.to_owned();
    }
    // An empty list takes the limit back.
    let families = unit.list("RestrictAddressFamilies").filter(|list| !list.is_empty());
    let families = match families {
        None => "any".to_owned(),
        Some(list) if list == "none" => "none".to_owned(),
        Some(list) => list,
    };
    let listens = families == "any" || families.contains("INET") || families.contains('~');
    let mut words = families;
    for (key, verb) in [("IPAddressAllow", "allowed"), ("IPAddressDeny", "denied")] {
        if let Some(list) = unit.list(key).filter(|list| !list.is_empty()) {
            words.push_str(&format!(", {verb} {list}"));
        }
    }
    // What is allowed limits nothing unless the rest is denied.
    let denied = unit.list("SocketBindDeny").filter(|list| !list.is_empty());
    match (denied.as_deref(), unit.list("SocketBindAllow")) {
        (Some("any"), allowed) => {
            let list = allowed.filter(|list| !list.is_empty());
            words.push_str(&format!(", may listen on {}", list.as_deref().unwrap_or("nothing")));
        }
        (Some(_) | None, _) if listens => {
            words.push_str(", may listen on any free port its user can take");
        }
        (Some(_) | None, _) => {}
    }
    words
}

fn writes(unit: &Unit) -> String {
    let own: Vec<String> = [
        "ReadWritePaths",
        "StateDirectory",
        "RuntimeDirectory",
        "CacheDirectory",
        "LogsDirectory",
        "ConfigurationDirectory",
    ]
    .into_iter()
    .filter_map(|key| Some((key, unit.list(key).filter(|list| !list.is_empty())?)))
    .map(|(key, list)| if key == "ReadWritePaths" { list } else { format!("{key} {list}") })
    .collect();
    let rest = match unit.last("ProtectSystem") {
        Some("strict") => "nothing else".to_owned(),
        Some("full") => "all its user may, but /usr, /boot and /etc".to_owned(),
        Some(value) if unit_file::is_yes(value) => {
            "all its user may, but /usr and /boot".to_owned()
        }
        _ if unit.yes("DynamicUser") => "nothing else".to_owned(),
        _ => "ALL ITS USER MAY".to_owned(),
    };
    let home = match unit.last("ProtectHome") {
        Some(value) if unit_file::is_yes(value) => "",
        Some("read-only") => "; reads homes",
        Some("tmpfs") => "",
        _ => "; sees homes",
    };
    let own = if own.is_empty() { String::new() } else { format!("{}; ", own.join(", ")) };
    format!("{own}{rest}{home}")
}

fn or(lines: &[String], none: &str) -> String {
    if lines.is_empty() { none.to_owned() } else { lines.join("\n") }
}

#[cfg(test)]
mod tests;
