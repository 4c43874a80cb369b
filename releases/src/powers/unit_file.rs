//! A unit file, read as systemd reads it.
//!
//! ```text
//! text ─▶ lines, at \n, \r and NUL ─▶ continued by one open backslash ─▶ [section], key=value
//! ```
//!
//! Source: systemd's `config_parse` and `config_parse_exec`, systemd.syntax(7). A reviewer who is told
//! of another file than the one that root obeys is told nothing, so a doubt is decided for the wider
//! power. What systemd passes over is kept apart, to be shown as such.

/// One assignment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Assignment {
    pub(super) section: String,
    pub(super) key: String,
    pub(super) value: String,
}

/// A unit's assignments in order.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unit {
    /// The section of its own kind: `Service`, `Socket` or `Timer`.
    pub(super) own: &'static str,
    pub(super) assignments: Vec<Assignment>,
    /// Lines that systemd does not obey: in no section that it knows here, or not of its form.
    pub(super) unread: Vec<String>,
}

impl Unit {
    /// Reads a unit file whose own section is `own`.
    pub(super) fn parse(own: &'static str, text: &str) -> Self {
        let mut unit = Self { own, assignments: Vec::new(), unread: Vec::new() };
        let mut section = None;
        let mut pending = String::new();
        for line in lines(text.strip_prefix('\u{feff}').unwrap_or(text)) {
            // Inside a continued line a comment is left out, and the line goes on after it.
            if line.trim_start_matches(BLANKS).starts_with(['#', ';']) {
                continue;
            }
            pending.push_str(line);
            if is_open(&pending) {
                pending.pop();
                pending.push(' ');
                continue;
            }
            unit.line(&mut section, &pending);
            pending.clear();
        }
        unit.line(&mut section, &pending);
        unit
    }

    fn line(&mut self, section: &mut Option<String>, line: &str) {
        let line = line.trim_matches(BLANKS);
        if line.is_empty() {
            return;
        }
        if line.starts_with('[') {
            let name = line.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
            *section = name.filter(|name| self.knows(name)).map(str::to_owned);
            if section.is_none() {
                self.unread.push(line.to_owned());
            }
            return;
        }
        match (section, line.split_once('=')) {
            (Some(section), Some((key, value))) => self.assignments.push(Assignment {
                section: section.clone(),
                key: key.trim_matches(BLANKS).to_owned(),
                value: value.trim_matches(BLANKS).to_owned(),
            }),
            _ => self.unread.push(line.to_owned()),
        }
    }

    fn knows(&self, section: &str) -> bool {
        section == "Unit" || section == "Install" || section == self.own
    }

    /// The values of a setting of its own section, in order.
    fn values<'a>(&'a self, key: &str) -> impl DoubleEndedIterator<Item = &'a str> {
        let mine = self.assignments.iter().filter(move |a| a.section == self.own && a.key == key);
        mine.map(|a| a.value.as_str())
    }

    /// The last value of a setting that has one; an empty one takes it back.
    pub(super) fn last(&self, key: &str) -> Option<&str> {
        let value = self.values(key).next_back()?;
        (!value.is_empty()).then_some(value)
    }

    pub(super) fn yes(&self, key: &str) -> bool {
        self.last(key).is_some_and(is_yes)
    }

    /// A setting that lists: several lines add up, an empty one begins anew. `Some("")` where the
    /// list was emptied and nothing added since, `None` where it is not there.
    pub(super) fn list(&self, key: &str) -> Option<String> {
        let values: Vec<&str> = self.values(key).collect();
        if values.is_empty() {
            return None;
        }
        let from = values.iter().rposition(|value| value.is_empty()).map_or(0, |at| at + 1);
        Some(one_blank(&values[from..].join(" ")))
    }

    /// `Key=value` of every setting of its own section that fits, one on a line, empty ones too.
    pub(super) fn quote(&self, fits: impl Fn(&str) -> bool) -> Vec<String> {
        let mine = self.assignments.iter().filter(|a| a.section == self.own && fits(&a.key));
        mine.map(|a| format!("{}={}", a.key, a.value)).collect()
    }

    /// The commands it runs.
    pub(super) fn commands(&self) -> Vec<String> {
        self.quote(is_command)
    }

    /// Those of them that shed the limits of the unit.
    pub(super) fn unlimited(&self) -> Vec<String> {
        let mine = self.assignments.iter().filter(|a| a.section == self.own && is_command(&a.key));
        let full = mine.filter(|a| sheds_limits(&a.value));
        full.map(|a| format!("{}={}", a.key, a.value)).collect()
    }
}

/// The only blanks there are for systemd besides the ends of lines.
const BLANKS: [char; 2] = [' ', '\t'];

/// Whether a key names commands; `ExecPaths` and `ExecSearchPath` do not.
pub(super) fn is_command(key: &str) -> bool {
    key.starts_with("Exec") && key != "ExecPaths" && key != "ExecSearchPath"
}

pub(super) fn is_yes(value: &str) -> bool {
    matches!(value.to_ascii_lowercase().as_str(), "1" | "yes" | "y" | "true" | "t" | "on")
}

/// The lines of a text as systemd cuts it: different ends in a row, `\r\n`, are one.
fn lines(text: &str) -> Vec<&str> {
    let is_end = |c: char| matches!(c, '\n' | '\r' | '\0');
    let mut lines = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (line, ends) = rest.split_at(rest.find(is_end).unwrap_or(rest.len()));
        lines.push(line);
        let mut seen = String::new();
        for c in ends.chars().take_while(|c| is_end(*c)) {
            if seen.contains(c) || seen.contains('\0') {
                break;
            }
            seen.push(c);
        }
        rest = &ends[seen.len()..];
    }
    lines
}

/// Whether the line goes on in the next one: its last backslash is at its very end and escapes nothing
/// else. Of two at the end the first escapes the second.
fn is_open(line: &str) -> bool {
    let backslashes = line.len() - line.trim_end_matches('\\').len();
    backslashes % 2 == 1
}

/// Whether one of the commands in an `Exec…=` line has a prefix by which it runs as root whatever the
/// unit says. There are several where a lone `;` stands between them, and the prefix may stand in quotes
/// or behind an escape; an escape before the path counts as one.
fn sheds_limits(line: &str) -> bool {
    let mut first = true;
    for word in words(line) {
        if word.raw == ";" || (first && word.text == ";") {
            first = true;
            continue;
        }
        let mut prefix = word.text.chars().take_while(|c| "@-:|+!\\".contains(*c));
        if first && prefix.any(|c| "+!\\".contains(c)) {
            return true;
        }
        first = false;
    }
    false
}

/// A word of a line: as it stands there, and without its quotes. Escapes stay as they are.
pub(super) struct Word {
    pub(super) raw: String,
    pub(super) text: String,
}

/// The words of a line, between blanks that stand in no quotes.
pub(super) fn words(line: &str) -> Vec<Word> {
    let mut words = Vec::new();
    let mut word: Option<Word> = None;
    let mut quote = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        if quote.is_none() && BLANKS.contains(&c) {
            words.extend(word.take());
            continue;
        }
        let word = word.get_or_insert_with(|| Word { raw: String::new(), text: String::new() });
        word.raw.push(c);
        match c {
            '\\' => {
                let escaped = chars.next();
                word.raw.extend(escaped);
                word.text.push(c);
                word.text.extend(escaped);
            }
            c if quote == Some(c) => quote = None,
            '"' | '\'' if quote.is_none() => quote = Some(c),
            c => word.text.push(c),
        }
    }
    words.extend(word);
    words
}

/// The text with one space between its words.
pub(super) fn one_blank(text: &str) -> String {
    let words = text.split(BLANKS).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<(String, String, String)> {
        let unit = Unit::parse("Service", text);
        unit.assignments.into_iter().map(|a| (a.section, a.key, a.value)).collect()
    }

    fn one(section: &str, key: &str, value: &str) -> (String, String, String) {
        (section.to_owned(), key.to_owned(), value.to_owned())
    }

    #[test]
    fn lines_end_where_systemd_ends_them() {
        assert_eq!(lines("a\nb\rc\0d"), ["a", "b", "c", "d"]);
        assert_eq!(lines("a\r\nb\n\rc"), ["a", "b", "c"]);
        assert_eq!(lines("a\n\nb\r\rc\0\nd"), ["a", "", "b", "", "c", "", "d"]);
        let hidden = "[Service]\n# harmless\rExecStart=+/bin/evil\n";
        assert_eq!(read(hidden), [one("Service", "ExecStart", "+/bin/evil")]);
    }

    #[test]
    fn only_an_odd_backslash_at_the_very_end_goes_on() {
        for (text, user) in [
            ("Description=a \\\nUser=x\n", false),
            ("Description=a \\\\\nUser=x\n", true),
            ("Description=a \\\\\\\nUser=x\n", false),
            ("SyslogIdentifier=x \\ \nUser=x\n", true),
            ("SyslogIdentifier=x \\\t\nUser=x\n", true),
            // An empty line ends what goes on; a comment does not.
            ("Description=a \\\n\nUser=x\n", true),
            ("Description=a \\\n# b\nUser=x\n", false),
            ("Description=a \\\r\nUser=x\n", false),
        ] {
            let unit = Unit::parse("Service", &format!("[Service]\n{text}"));
            assert_eq!(unit.last("User").is_some(), user, "{text:?}");
        }
        let open = read("[Service]\nExecStart=/bin/a \\\n  --b \\");
        assert_eq!(open, [one("Service", "ExecStart", "/bin/a    --b")]);
    }

    #[test]
    fn a_key_counts_in_its_own_section_only() {
        let text =
            "User=a\n[Unit]\nUser=b\n[Socket]\nUser=c\n[service]\nUser=d\n[Service]\nuser=e\n";
        let unit = Unit::parse("Service", text);
        assert_eq!(unit.last("User"), None);
        assert_eq!(unit.unread, ["User=a", "[Socket]", "User=c", "[service]", "User=d"]);
        assert_eq!(unit.assignments.len(), 2, "those systemd at least looks at");
        let unit =
            Unit::parse("Service", "[Service]\nUser=a\n[Install]\nUser=b\n[Service]\nUser=c\n");
        assert_eq!(unit.last("User"), Some("c"));
        let unit = Unit::parse("Service", "[Service]\nUser=a\n[Service\nUser=b\n[X-a]\nnothing\n");
        assert_eq!(unit.last("User"), Some("a"));
        assert_eq!(unit.unread, ["[Service", "User=b", "[X-a]", "nothing"]);
    }

    #[test]
    fn only_space_and_tab_are_blanks() {
        assert_eq!(read("[Service]\n \tUser\t= a\t\n"), [one("Service", "User", "a")]);
        let unit = Unit::parse("Service", "[Service]\n\u{a0}User=hello\nUser\u{2003}=hello\n");
        assert_eq!(unit.last("User"), None);
    }

    #[test]
    fn no_prefix_hides_behind_another_command_quotes_or_escapes() {
        for line in [
            "+/bin/x",
            "-+/bin/x",
            "@!/bin/x x",
            "!!/bin/x",
            "|+/bin/x",
            "/bin/true ; +/bin/sh -c x",
            "/bin/true a\t;\t-+/bin/sh",
            "\"+/bin/x\" a",
            "'+'/bin/x",
            "\"\"+/bin/x",
            "/bin/true ; '+/bin/x'",
            "\\x2b/bin/x",
            "-\\053/bin/x",
            "\";\" +/bin/x",
            "/bin/true \"a\" ; +/bin/x",
        ] {
            assert!(sheds_limits(line), "{line}");
        }
        for line in [
            "/bin/x",
            "-/bin/x +y",
            "@/bin/x !y",
            "/bin/sh -c \"a ; +b\"",
            "/bin/sh -c 'a ; +b'",
            "/bin/x \\; +y",
            "/bin/x a; +y",
            "/bin/x ';' +y",
            "",
        ] {
            assert!(!sheds_limits(line), "{line}");
        }
    }
}
