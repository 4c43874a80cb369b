//! The language of scenario files; `peertree/README.md` lists its words.
//!
//! One statement a line, words between blanks, `#` begins a comment. Settings stand before the
//! first act. A mistake names its line, the word, and what was expected there.

use std::time::Duration;

use crate::sim::latency::Latency;
use crate::sim::vice::{VICES, Vice};

/// Longest scenario file, in bytes.
pub const SCRIPT_MAX: usize = 64 * 1024;
/// Most machines of one scenario.
pub const NODES_MAX: u64 = 5_000;

/// A scenario as it was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Script {
    /// Machines.
    pub nodes: usize,
    /// Most children of a node.
    pub fanout: u16,
    /// Share of the machines that nobody can dial; the first three always can be.
    pub undialable: f64,
    /// How long messages take.
    pub latency: Latency,
    /// Share of slow machines, and by how many milliseconds.
    pub slow: (f64, u64),
    /// Shares of hostile machines.
    pub hostile: Vec<(Vice, f64)>,
    /// What happens.
    pub acts: Vec<Line>,
    /// Whether some assertion is about bytes.
    pub counts_bytes: bool,
}

/// One act and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// From 1.
    pub number: usize,
    /// The line without its comment.
    pub text: String,
    /// What it says.
    pub act: Act,
}

/// A time between these, both included.
pub type Span = (Duration, Duration);

/// How many machines.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Count {
    /// So many.
    Some(usize),
    /// This share of all machines of the scenario.
    Share(f64),
    /// All that there are.
    All,
}

/// Which machine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Who {
    /// The root.
    Root,
    /// The root and its first heir.
    RootAndHeir,
    /// Random ones.
    Any(Count),
}

/// What a line makes happen.
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    /// Machines start for the first time, one after the other.
    Join(Count, Span),
    /// Time passes.
    Wait(Span),
    /// Objects are broadcast from random honest machines.
    Broadcast(usize),
    /// The lane's next statement is broadcast.
    Statement,
    /// From now on this share of objects is lost.
    Loss(f64),
    /// `kill -9`; silent takes the machine along. With `either` it is decided by chance.
    Kill(Who, bool),
    /// Dead machines start again.
    Return(Count),
    /// A random machine's program is restarted within half a second.
    Restart,
    /// A dead machine comes back with an empty disk.
    Reinstall,
    /// Random machines leave in good order.
    Leave(Count),
    /// A random link breaks.
    Break,
    /// A share of the machines is cut off from the others.
    Split(f64, f64),
    /// The network is one again.
    Heal,
    /// The policy's fan-out changes.
    Fanout(u16, u16),
    /// Machines get their candidates for cross links.
    Cross,
    /// The lines up to `end`, so many times.
    Repeat(u32, Vec<Line>),
    /// The act happens with this probability.
    Chance(f64, Box<Line>),
    /// One whole tree in which everyone has everything, within this time.
    ExpectTree(Duration),
    /// Everyone who is honest has everything, within this time.
    ExpectEverything(Duration),
    /// So large a share of the honest machines has a place and everything, within this time.
    ExpectHonest(f64, Duration),
    /// No node is deeper: steps, or steps more than a full tree has.
    ExpectDepth(usize, bool),
    /// So many bytes a second of one node at most, since the last `wait` began.
    ExpectBytes(u64),
    /// From now on: no honest node lacks for longer what an honest neighbour of it has.
    Watch(Duration),
}

/// A mistake in a scenario file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, {word}: expected {expected}")]
pub struct ScriptError {
    /// From 1.
    pub line: usize,
    /// The word in question, in quotes, or where the line ends.
    pub word: String,
    /// What should have stood there.
    pub expected: String,
}

impl Script {
    /// Reads a scenario.
    ///
    /// # Errors
    /// The first mistake.
    pub fn parse(text: &str) -> Result<Self, ScriptError> {
        let mut script = Self {
            nodes: 100,
            fanout: 4,
            undialable: 0.0,
            latency: Latency::Uniform(1, 80),
            slow: (0.0, 0),
            hostile: Vec::new(),
            acts: Vec::new(),
            counts_bytes: false,
        };
        // One list of acts for each `repeat` that is open, with its line and its count.
        let mut open: Vec<(Words<'_>, u32, Vec<Line>)> = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let mut words = Words::new(index + 1, line);
            let Some(first) = words.peek() else { continue };
            if script.acts.is_empty() && open.is_empty() && script.setting(&mut words, first)? {
                words.end()?;
                continue;
            }
            match first {
                "repeat" => {
                    words.next("a statement")?;
                    let times = words.number("a number of times from 1 to 10000", 1, 10_000)?;
                    words.end()?;
                    open.push((words, times as u32, Vec::new()));
                }
                "end" => {
                    words.next("end")?;
                    words.end()?;
                    let Some((begun, times, acts)) = open.pop() else {
                        return Err(words.wrong("no `end`, for no `repeat` is open"));
                    };
                    let act = Act::Repeat(times, acts);
                    let line = Line { number: begun.line, text: begun.text(), act };
                    open.last_mut().map_or(&mut script.acts, |(_, _, acts)| acts).push(line);
                }
                _ => {
                    let act = act(&mut words)?;
                    words.end()?;
                    script.counts_bytes |= matches!(act, Act::ExpectBytes(_));
                    let line = Line { number: words.line, text: words.text(), act };
                    open.last_mut().map_or(&mut script.acts, |(_, _, acts)| acts).push(line);
                }
            }
        }
        match open.pop() {
            Some((begun, ..)) => Err(begun.wrong("an `end` for this `repeat`")),
            None => Ok(script),
        }
    }

    /// A line before the first act; false if it is none.
    fn setting(&mut self, words: &mut Words<'_>, first: &str) -> Result<bool, ScriptError> {
        if !["nodes", "fan-out", "undialable", "latency", "slow", "hostile"].contains(&first) {
            return Ok(false);
        }
        words.next("a setting")?;
        match first {
            "nodes" => {
                let expected = "a number of machines from 5 to 5000";
                self.nodes = words.number(expected, 5, NODES_MAX)? as usize;
            }
            "fan-out" => self.fanout = words.number("a fan-out from 2 to 256", 2, 256)? as u16,
            "undialable" => self.undialable = words.share()?,
            "slow" => self.slow = (words.share()?, ms(words.duration()?)),
            "latency" => self.latency = latency(words)?,
            _ => {
                let names = VICES.map(|(name, _)| name).join(", ");
                let word = words.next(&format!("one of {names}"))?;
                let vice = VICES.iter().find(|(name, _)| *name == word);
                let Some((_, vice)) = vice else {
                    return Err(words.wrong(&format!("one of {names}")));
                };
                self.hostile.push((*vice, words.share()?));
            }
        }
        Ok(true)
    }
}

fn latency(words: &mut Words<'_>) -> Result<Latency, ScriptError> {
    let kinds = "constant, uniform, lognormal or regions";
    Ok(match words.next(kinds)? {
        "constant" => {
            let time = ms(words.duration()?);
            Latency::Uniform(time, time)
        }
        "uniform" => {
            let least = ms(words.duration()?);
            let most = ms(words.duration()?);
            if most < least {
                return Err(words.wrong("no less than the time before it"));
            }
            Latency::Uniform(least, most)
        }
        "lognormal" => {
            let median = ms(words.duration()?);
            let expected = "the deviation of the logarithm, from 0 to 3";
            let sigma = words.next(expected)?.parse::<f64>().ok();
            let sigma = sigma.filter(|sigma| (0.0..=3.0).contains(sigma));
            Latency::LogNormal(median, sigma.ok_or_else(|| words.wrong(expected))?)
        }
        "regions" => {
            let count = words.number("a number of regions from 1 to 100", 1, 100)?;
            Latency::Regions(count, ms(words.duration()?), ms(words.duration()?))
        }
        _ => return Err(words.wrong(kinds)),
    })
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

const ACTS: &str = "a statement: join, wait, broadcast, statement, loss, kill, return, restart, \
                    reinstall, leave, break, split, heal, set, cross, repeat, end, chance, expect or watch";

fn act(words: &mut Words<'_>) -> Result<Act, ScriptError> {
    Ok(match words.next(ACTS)? {
        "join" => {
            let count = words.count()?;
            words.exactly("every")?;
            Act::Join(count, words.span()?)
        }
        "wait" => Act::Wait(words.span()?),
        "broadcast" => {
            Act::Broadcast(words.number("a number of objects from 1 to 1000", 1, 1_000)? as usize)
        }
        "statement" => Act::Statement,
        "loss" => Act::Loss(words.share()?),
        "kill" => {
            let who = match words.peek() {
                Some("root") => Who::Root,
                Some("root-and-heir") => Who::RootAndHeir,
                _ => Who::Any(words.count()?),
            };
            if !matches!(who, Who::Any(_)) {
                words.next("root")?;
            }
            let silent = words.peek() == Some("silent");
            if silent {
                words.next("silent")?;
            }
            Act::Kill(who, silent)
        }
        "return" => Act::Return(words.count()?),
        "restart" => Act::Restart,
        "reinstall" => Act::Reinstall,
        "leave" => Act::Leave(words.count()?),
        "break" => {
            words.exactly("link")?;
            Act::Break
        }
        "split" => {
            let (least, most) = words.shares()?;
            Act::Split(least, most)
        }
        "heal" => Act::Heal,
        "set" => {
            words.exactly("fan-out")?;
            let least = words.number("a fan-out from 2 to 256", 2, 256)?;
            let most = words.number("a fan-out no less than the one before it", least, 256)?;
            Act::Fanout(least as u16, most as u16)
        }
        "cross" => {
            words.exactly("links")?;
            Act::Cross
        }
        "chance" => {
            let share = words.share()?;
            let act = act(words)?;
            Act::Chance(share, Box::new(Line { number: words.line, text: words.text(), act }))
        }
        "watch" => {
            words.exactly("withheld")?;
            words.exactly("within")?;
            Act::Watch(words.duration()?)
        }
        "expect" => expect(words)?,
        _ => return Err(words.wrong(ACTS)),
    })
}

fn expect(words: &mut Words<'_>) -> Result<Act, ScriptError> {
    let kinds = "tree, everything, honest, depth or bytes";
    Ok(match words.next(kinds)? {
        "tree" => {
            words.exactly("within")?;
            Act::ExpectTree(words.duration()?)
        }
        "everything" => {
            words.exactly("within")?;
            Act::ExpectEverything(words.duration()?)
        }
        "honest" => {
            let share = words.share()?;
            words.exactly("within")?;
            Act::ExpectHonest(share, words.duration()?)
        }
        "depth" => {
            let above = words.peek() == Some("least");
            if above {
                words.next("least")?;
                words.exactly("plus")?;
            }
            Act::ExpectDepth(words.number("a number of steps up to 64", 0, 64)? as usize, above)
        }
        "bytes" => Act::ExpectBytes(words.number("bytes a second and node", 1, u64::MAX)?),
        _ => return Err(words.wrong(kinds)),
    })
}

/// The words of one line.
#[derive(Clone, Debug)]
struct Words<'a> {
    line: usize,
    all: Vec<&'a str>,
    at: usize,
}

impl<'a> Words<'a> {
    fn new(line: usize, text: &'a str) -> Self {
        let text = text.split('#').next().unwrap_or_default();
        Self { line, all: text.split_whitespace().collect(), at: 0 }
    }

    fn text(&self) -> String {
        self.all.join(" ")
    }

    fn peek(&self) -> Option<&'a str> {
        self.all.get(self.at).copied()
    }

    fn next(&mut self, expected: &str) -> Result<&'a str, ScriptError> {
        let word = self.peek();
        self.at += 1;
        word.ok_or_else(|| self.wrong(expected))
    }

    /// The word taken last is not what it should be.
    fn wrong(&self, expected: &str) -> ScriptError {
        let word = self.at.checked_sub(1).and_then(|at| self.all.get(at));
        let word = word.map_or("the end of the line".to_owned(), |word| {
            format!("{:?}", word.chars().take(40).collect::<String>())
        });
        ScriptError { line: self.line, word, expected: expected.to_owned() }
    }

    fn exactly(&mut self, expected: &str) -> Result<(), ScriptError> {
        let words = format!("`{expected}`");
        if self.next(&words)? == expected { Ok(()) } else { Err(self.wrong(&words)) }
    }

    fn end(&mut self) -> Result<(), ScriptError> {
        match self.peek() {
            None => Ok(()),
            Some(_) => {
                self.at += 1;
                Err(self.wrong("the end of the line"))
            }
        }
    }

    fn number(&mut self, expected: &str, least: u64, most: u64) -> Result<u64, ScriptError> {
        let number = self.next(expected)?.parse::<u64>().ok();
        number.filter(|n| (least..=most).contains(n)).ok_or_else(|| self.wrong(expected))
    }

    fn share(&mut self) -> Result<f64, ScriptError> {
        let expected = "a share from 0% to 100%";
        share(self.next(expected)?).ok_or_else(|| self.wrong(expected))
    }

    fn shares(&mut self) -> Result<(f64, f64), ScriptError> {
        let expected = "a share such as 30%, or two such as 10%..60%";
        let word = self.next(expected)?;
        let (least, most) = word.split_once("..").unwrap_or((word, word));
        let both = share(least).zip(share(most)).filter(|(least, most)| least <= most);
        both.ok_or_else(|| self.wrong(expected))
    }

    fn duration(&mut self) -> Result<Duration, ScriptError> {
        let expected = "a time such as 300ms, 5s or 2m";
        duration(self.next(expected)?).ok_or_else(|| self.wrong(expected))
    }

    fn span(&mut self) -> Result<Span, ScriptError> {
        let expected = "a time such as 5s, or two such as 0ms..300ms";
        let word = self.next(expected)?;
        let (least, most) = word.split_once("..").unwrap_or((word, word));
        let both = duration(least).zip(duration(most)).filter(|(least, most)| least <= most);
        both.ok_or_else(|| self.wrong(expected))
    }

    fn count(&mut self) -> Result<Count, ScriptError> {
        let expected = "`all`, a number of machines, or a share such as 10%";
        let word = self.next(expected)?;
        let count = match word {
            "all" => Some(Count::All),
            "one" => Some(Count::Some(1)),
            _ => share(word).map(Count::Share).or_else(|| {
                let number = word.parse::<u64>().ok().filter(|n| *n <= NODES_MAX);
                number.map(|number| Count::Some(number as usize))
            }),
        };
        count.ok_or_else(|| self.wrong(expected))
    }
}

fn share(word: &str) -> Option<f64> {
    let share = word.strip_suffix('%')?.parse::<f64>().ok()? / 100.0;
    (0.0..=1.0).contains(&share).then_some(share)
}

/// At most a day, so that no sum of them overflows.
fn duration(word: &str) -> Option<Duration> {
    let unit = word.find(|c: char| !c.is_ascii_digit())?;
    let number = word[..unit].parse::<u64>().ok()?;
    let ms = match &word[unit..] {
        "ms" => Some(number),
        "s" => number.checked_mul(1_000),
        "m" => number.checked_mul(60_000),
        _ => None,
    }?;
    (ms <= 86_400_000).then(|| Duration::from_millis(ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scenario_reads_as_it_says() {
        let text = "nodes 20 # machines\nlatency lognormal 20ms 0.5\nhostile claim 5%\n\n\
                    join all every 0ms..300ms\nrepeat 3\n  chance 50% kill one silent\n  wait 2s\nend\n\
                    expect depth least plus 2\nexpect honest 90% within 2m\n";
        let script = Script::parse(text).unwrap();
        assert_eq!((script.nodes, script.hostile.clone()), (20, vec![(Vice::Claim, 0.05)]));
        assert_eq!(script.latency, Latency::LogNormal(20, 0.5));
        let Act::Repeat(3, inner) = &script.acts[1].act else { panic!("{script:?}") };
        assert_eq!((inner.len(), inner[1].number), (2, 8));
        assert_eq!(script.acts[2].act, Act::ExpectDepth(2, true));
        assert_eq!(script.acts[3].act, Act::ExpectHonest(0.9, Duration::from_secs(120)));
    }

    #[test]
    fn a_mistake_names_line_word_and_what_was_expected() {
        for (text, words) in [
            ("nodes many", "line 1, \"many\": expected a number of machines"),
            ("\n\nwait", "line 3, the end of the line: expected a time such as"),
            ("wait 3 s", "line 1, \"3\": expected a time such as"),
            ("wait 3s now", "line 1, \"now\": expected the end of the line"),
            ("hostile rude 5%", "line 1, \"rude\": expected one of withhold"),
            ("dance", "line 1, \"dance\": expected a statement: join"),
            ("heal\nnodes 7", "line 2, \"nodes\": expected a statement"),
            ("repeat 3\nheal", "line 1, \"3\": expected an `end` for this `repeat`"),
            ("end", "line 1, \"end\": expected no `end`"),
            ("kill 101%", "line 1, \"101%\": expected `all`, a number"),
        ] {
            let error = Script::parse(text).unwrap_err().to_string();
            assert!(error.starts_with(words), "{text:?}: {error}");
        }
    }
}
