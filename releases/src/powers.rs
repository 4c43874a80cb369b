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
//! such. Source: systemd.exec(5), systemd.service(5), systemd.socket(5), systemd.resource-control(5).
//! This is a reading aid: what a unit really gets, systemd alone decides.

use std::collections::{BTreeMap, BTreeSet};

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
    /// What it was, in words; none if the file is new.
    pub was: Option<String>,
    /// What it would be; none if the file goes.
    pub is: Option<String>,
}

/// Longest value said in words, in characters.
const WORDS_MAX: usize = 300;

impl Powers {
    /// The powers of a component, from its small text files by path.
    #[must_use]
    pub fn of<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut powers = Self::default();
        for (path, text) in files {
            if let Some(unit) = path.strip_prefix("units/") {
                powers.unit(path, unit, text);
            } else if path.starts_with("sysusers.d/") {
                powers.lines(path, "accounts", text);
            } else if path.starts_with("tmpfiles.d/") {
                powers.lines(path, "files made", text);
                let special = special_modes(text);
                if !special.is_empty() {
                    powers.set(path, "SETUID, SETGID OR STICKY", special);
                }
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
        let words = words.chars().take(WORDS_MAX).collect();
        self.0.insert((place.to_owned(), what), words);
    }

    fn lines(&mut self, place: &str, what: &'static str, text: &str) {
        let lines =
            text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let lines: Vec<String> = lines.map(one_blank).collect();
        self.set(place, what, lines.join("; "));
    }

    fn unit(&mut self, place: &str, name: &str, text: &str) {
        let unit = Unit::parse(text);
        match name.rsplit('.').next() {
            Some("socket") => {
                let listens = unit.all_that(|key| key.starts_with("Listen"));
                self.set(place, "listens", or(&listens, "nowhere"));
                let owner = unit.all_that(|key| key.starts_with("Socket"));
                self.set(place, "who may connect", or(&owner, "every user of the server"));
                self.starts(place, &unit);
            }
            Some("timer") => {
                let when = unit.all_that(|key| key.starts_with("On"));
                self.set(place, "starts by itself", or(&when, "never"));
            }
            _ => self.service(place, &unit),
        }
    }

    fn service(&mut self, place: &str, unit: &Unit) {
        let dynamic = unit.yes("DynamicUser");
        let user = match unit.last("User") {
            Some(user) => user.to_owned(),
            None if dynamic => "an account of its own that systemd makes".to_owned(),
            None => "ROOT".to_owned(),
        };
        let groups: Vec<String> = ["Group", "SupplementaryGroups"]
            .into_iter()
            .filter_map(|key| Some(format!("{key} {}", unit.list(key)?)))
            .collect();
        let groups =
            if groups.is_empty() { String::new() } else { format!(", {}", groups.join(", ")) };
        self.set(place, "runs as", format!("{user}{groups}"));
        let kept = match unit.list("CapabilityBoundingSet") {
            None => "all that its user can have".to_owned(),
            Some(list) if list.is_empty() => "none".to_owned(),
            Some(list) => list,
        };
        let ambient = unit.list("AmbientCapabilities").filter(|list| !list.is_empty());
        let ambient = ambient.map(|list| format!(", and given {list}")).unwrap_or_default();
        self.set(place, "capabilities", format!("{kept}{ambient}"));
        let gain = if unit.yes("NoNewPrivileges") { "no" } else { "yes, by setuid programs" };
        self.set(place, "can gain rights", gain.to_owned());
        self.set(place, "network", network(unit));
        self.set(place, "writes", writes(unit));
        let devices = match (unit.yes("PrivateDevices"), unit.list("DeviceAllow")) {
            (true, None) => "none".to_owned(),
            (_, Some(list)) => list,
            (false, None) => "all that its user may open".to_owned(),
        };
        self.set(place, "devices", devices);
        let calls = or(&unit.all_that(|key| key == "SystemCallFilter"), "all");
        self.set(place, "system calls", calls);
        self.starts(place, unit);
        // A prefix that sheds the limits above must not hide in a long line.
        let full = unit.exec().into_iter().filter(|line| {
            line.split_once('=').is_some_and(|(_, command)| {
                let prefix = command.chars().take_while(|c| "@-:+!|".contains(*c));
                prefix.into_iter().any(|c| c == '+' || c == '!')
            })
        });
        let full: Vec<String> = full.collect();
        if !full.is_empty() {
            self.set(place, "RUNS AS ROOT IN SPITE OF ALL THAT", full.join("; "));
        }
        // What changes what the lines above mean.
        let other = unit.all_that(|key| {
            matches!(
                key,
                "RootDirectory"
                    | "RootImage"
                    | "Delegate"
                    | "EnvironmentFile"
                    | "LoadCredential"
                    | "PAMName"
                    | "BindPaths"
                    | "ExtensionImages"
                    | "JoinsNamespaceOf"
                    | "PermissionsStartOnly"
                    | "KeyringMode"
            )
        });
        if !other.is_empty() {
            self.set(place, "also", other.join("; "));
        }
    }

    fn starts(&mut self, place: &str, unit: &Unit) {
        let exec = unit.exec();
        if !exec.is_empty() {
            self.set(place, "starts", exec.join("; "));
        }
    }
}

fn network(unit: &Unit) -> String {
    if unit.yes("PrivateNetwork") {
        return "none".to_owned();
    }
    let families = match unit.list("RestrictAddressFamilies") {
        None => "any".to_owned(),
        Some(list) if list.is_empty() || list == "none" => "none".to_owned(),
        Some(list) => list,
    };
    let mut words = families;
    for (key, verb) in [("IPAddressAllow", "allowed"), ("IPAddressDeny", "denied")] {
        if let Some(list) = unit.list(key) {
            words.push_str(&format!(", {verb} {list}"));
        }
    }
    if let Some(list) = unit.list("SocketBindAllow") {
        words.push_str(&format!(", may listen on {list}"));
    } else if words.contains("INET") || words.starts_with("any") {
        words.push_str(", may listen on any free port its user can take");
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
    .filter_map(|key| Some((key, unit.list(key)?)))
    .map(|(key, list)| if key == "ReadWritePaths" { list } else { format!("{key} {list}") })
    .collect();
    let rest = match unit.last("ProtectSystem") {
        Some("strict") => "nothing else".to_owned(),
        Some("full") => "all its user may, but /usr, /boot and /etc".to_owned(),
        Some("yes" | "true" | "on" | "1") => "all its user may, but /usr and /boot".to_owned(),
        _ if unit.yes("DynamicUser") => "nothing else".to_owned(),
        _ => "ALL ITS USER MAY".to_owned(),
    };
    let home = match unit.last("ProtectHome") {
        Some("yes" | "true" | "on" | "1") => "",
        Some("read-only") => "; reads homes",
        Some("tmpfs") => "",
        _ => "; sees homes",
    };
    let own = if own.is_empty() { String::new() } else { format!("{}; ", own.join(", ")) };
    format!("{own}{rest}{home}")
}

/// Lines of tmpfiles.d with a mode beyond the permission bits.
fn special_modes(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    let special = lines.filter(|line| {
        let mode = line.split_ascii_whitespace().nth(2).unwrap_or("-");
        let octal = mode.trim_start_matches(['~', ':']);
        u32::from_str_radix(octal, 8).is_ok_and(|mode| mode & 0o7000 != 0)
    });
    special.map(one_blank).collect::<Vec<_>>().join("; ")
}

fn one_blank(line: &str) -> String {
    line.split_ascii_whitespace().collect::<Vec<_>>().join(" ")
}

fn or(lines: &[String], none: &str) -> String {
    if lines.is_empty() { none.to_owned() } else { lines.join("; ") }
}

/// A unit's assignments in order, whatever their section.
struct Unit(Vec<(String, String)>);

impl Unit {
    /// Reads a unit file as systemd does: comments, continued lines, `Key=value`.
    fn parse(text: &str) -> Self {
        let mut assignments = Vec::new();
        let mut pending = String::new();
        for line in text.lines() {
            let line = line.trim();
            // Inside a continued line a comment is left out, and the line goes on after it.
            if line.starts_with(['#', ';']) || (pending.is_empty() && line.is_empty()) {
                continue;
            }
            pending.push_str(line);
            if let Some(open) = pending.strip_suffix('\\') {
                pending = format!("{} ", open.trim_end());
                continue;
            }
            if let Some((key, value)) = pending.split_once('=') {
                assignments.push((key.trim().to_owned(), one_blank(value)));
            }
            pending.clear();
        }
        if let Some((key, value)) = pending.split_once('=') {
            assignments.push((key.trim().to_owned(), one_blank(value)));
        }
        Self(assignments)
    }

    /// The last value of a setting that has one; an empty one takes it back.
    fn last(&self, key: &str) -> Option<&str> {
        let value = self.0.iter().rev().find(|(name, _)| name == key)?.1.as_str();
        (!value.is_empty()).then_some(value)
    }

    fn yes(&self, key: &str) -> bool {
        self.last(key).is_some_and(|value| matches!(value, "yes" | "true" | "on" | "1"))
    }

    /// A setting that lists: several lines add up, an empty one begins anew. `Some("")` where the
    /// list was emptied and nothing added since, `None` where it is not there.
    fn list(&self, key: &str) -> Option<String> {
        let values: Vec<&str> = self
            .0
            .iter()
            .filter(|(name, _)| name == key)
            .map(|(_, value)| value.as_str())
            .collect();
        if values.is_empty() {
            return None;
        }
        let from = values.iter().rposition(|value| value.is_empty()).map_or(0, |at| at + 1);
        Some(values[from..].join(" "))
    }

    /// `Key=value` of every setting that fits; an empty value takes back what came before.
    fn all_that(&self, fits: impl Fn(&str) -> bool) -> Vec<String> {
        let mut lines: Vec<(String, String)> = Vec::new();
        for (key, value) in self.0.iter().filter(|(key, _)| fits(key)) {
            if value.is_empty() {
                lines.retain(|(name, _)| name != key);
            } else {
                lines.push((key.clone(), value.clone()));
            }
        }
        lines.into_iter().map(|(key, value)| format!("{key}={value}")).collect()
    }

    fn exec(&self) -> Vec<String> {
        self.all_that(|key| key.starts_with("Exec") && key != "ExecPaths")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(powers: &Powers, what: &str) -> String {
        let mut found = powers.0.iter().filter(|((_, kind), _)| *kind == what);
        found.next().map(|(_, words)| words.clone()).unwrap_or_default()
    }

    #[test]
    fn a_bare_service_has_every_power() {
        let powers = Powers::of([("units/a.service", "[Service]\nExecStart=/bin/a\n")]);
        for (what, words) in [
            ("runs as", "ROOT"),
            ("capabilities", "all that its user can have"),
            ("can gain rights", "yes, by setuid programs"),
            ("network", "any, may listen on any free port its user can take"),
            ("writes", "ALL ITS USER MAY; sees homes"),
            ("devices", "all that its user may open"),
            ("system calls", "all"),
            ("starts", "ExecStart=/bin/a"),
        ] {
            assert_eq!(said(&powers, what), words, "{what}");
        }
    }

    #[test]
    fn what_is_given_up_is_said() {
        let text = "[Service]\nUser=hello\nCapabilityBoundingSet=CAP_CHOWN\n\
                    CapabilityBoundingSet=\nNoNewPrivileges=yes\nPrivateNetwork=yes\n\
                    ProtectSystem=strict\nProtectHome=yes\nReadWritePaths=/var/lib/a \\\n\
                    # a comment in between\n  /run/a\nPrivateDevices=yes\nExecStart=+/bin/b\n";
        let powers = Powers::of([("units/a.service", text)]);
        for (what, words) in [
            ("runs as", "hello"),
            ("capabilities", "none"),
            ("can gain rights", "no"),
            ("network", "none"),
            ("writes", "/var/lib/a /run/a; nothing else"),
            ("devices", "none"),
            ("RUNS AS ROOT IN SPITE OF ALL THAT", "ExecStart=+/bin/b"),
        ] {
            assert_eq!(said(&powers, what), words, "{what}");
        }
    }

    #[test]
    fn sockets_timers_accounts_and_modes_are_powers() {
        let powers = Powers::of([
            ("units/a.socket", "[Socket]\nListenStream=0.0.0.0:80\nSocketMode=0660\n"),
            ("units/a.timer", "[Timer]\nOnCalendar=daily\n"),
            ("sysusers.d/a.conf", "# who\nu a - \"A\"\n"),
            ("tmpfiles.d/a.conf", "f /run/a 4755 root root\nd /run/b 0755 root root\n"),
        ]);
        assert_eq!(said(&powers, "listens"), "ListenStream=0.0.0.0:80");
        assert_eq!(said(&powers, "who may connect"), "SocketMode=0660");
        assert_eq!(said(&powers, "starts by itself"), "OnCalendar=daily");
        assert_eq!(said(&powers, "accounts"), "u a - \"A\"");
        assert_eq!(said(&powers, "SETUID, SETGID OR STICKY"), "f /run/a 4755 root root");
    }

    #[test]
    fn only_differences_are_told() {
        let old = Powers::of([("units/a.service", "[Service]\nUser=a\nExecStart=/bin/a\n")]);
        let new = Powers::of([("units/a.service", "[Service]\nExecStart=/bin/a\n")]);
        let diff = Powers::diff(&old, &new);
        assert_eq!(diff.len(), 1);
        assert_eq!((diff[0].what, diff[0].was.as_deref()), ("runs as", Some("a")));
        assert_eq!(diff[0].is.as_deref(), Some("ROOT"));
        assert!(Powers::diff(&new, &new).is_empty());
    }
}
