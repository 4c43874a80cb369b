//! One server in the wrong hands: everything that its root can read, on the disk and in the memory
//! of our processes, is tried against every other server, and opens none.
//!
//! ```text
//!  server 1: files, memory ─▶ private keys, seeds ─────────▶ ssh, port 22 and 7117 of servers 2, 3
//!                                                 ─────────▶ whose they are; the subsystems of 7117
//!                          ─▶ verifiers, words like passwords ─▶ su, ssh, and their /etc/shadow
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use borgios_types::{PublicKey, SecretKey};

use crate::ballot_box::Place;
use crate::door::Door;
use crate::lab::Lab;
use crate::login::{KEYS_AT_ONCE, Key, SSHD};
use crate::member::PORT;
use crate::network::Network;
use crate::scenario::{Say, Scenario};
use crate::scenarios::secrets::{pull, walk};
use crate::schedule::{self, Schedule};
use crate::server::Server;
use crate::usage::UNITS;
use crate::wait::{self, SOON};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "loot",
    about: "what can be read on one server, disk and memory, opens no other",
    alone: false,
    run,
};

/// The folders that are searched: all that is written to on such a server.
const FOLDERS: [&str; 8] =
    ["/etc", "/opt", "/var/lib", "/var/log", "/run", "/root", "/tmp", "/home"];
/// Most keys and words there may be, for all are tried: a story with more has found something new to
/// think about, and fails.
const KEYS_MAX: usize = 2000;
const WORDS_MAX: usize = 6000;
/// A server's own keys: its node's, its keeper's, and its sshd's since the hand-over.
const OWN_KEYS: [&str; 3] = [
    "/var/lib/borgios/node.key",
    "/var/lib/borgios-keeper/keeper.key",
    "/etc/borgios/ssh/host_ed25519_key",
];
/// The subsystem of our own port that only a member or a governor gets.
const STREAM: &str = "peertree-stream";
/// What a governor may ask at that of governors, and a stranger not.
const STATUS: &[u8] = b"{\"get\":\"status\"}\n";
/// What is laid on server 1 for the search to find: the byte of a seed, as hex and one more as base64,
/// and a word like a password.
const PLANTED: [u8; 2] = [0xb5, 3];
const PLANTED_WORD: &str = "plantedplantedplanted234";
/// Words that are typed at `su`, which pauses after each; all are tried by what `su` computes.
const TYPED: usize = 4;
/// Largest file and region that is searched: nothing of ours but programs is larger.
const SEARCHED_MAX: u64 = 32 << 20;
const ARMOUR: (&str, &str) =
    ("-----BEGIN OPENSSH PRIVATE KEY-----", "-----END OPENSSH PRIVATE KEY-----");

/// What was found.
#[derive(Debug, Default)]
struct Loot {
    /// Private keys as text.
    armours: BTreeSet<String>,
    /// 32 bytes that may be the seed of one.
    seeds: BTreeSet<[u8; 32]>,
    /// Verifiers, `$y$…`.
    verifiers: BTreeSet<String>,
    /// Words of the shape of the fleet's passwords.
    words: BTreeSet<String>,
}

fn run(say: &Say) -> Result<()> {
    let lab = Lab::up(3)?;
    let network = Network::founded(&lab, "loot")?;
    network.join_all()?;
    network.wait_tree()?;
    let place = Place::Node(lab.server(1));
    let what = network.schedule(place, "1h", 12)?;
    let schedule = wait::until("the schedule is in the depot", SOON, || {
        Schedule::of(&network, &what, lab.server(1)).map(Some)
    })?;
    let now = schedule.at(schedule::now());
    for server in lab.servers() {
        wait::until_true(&format!("{}: the password of now", server.host()), SOON, || {
            Ok(schedule.epoch_of(&server.root_verifier()?) == Some(now))
        })?;
    }
    say("three servers with a schedule and the same password");
    plant(lab.server(1))?;
    let loot = gather(&network, lab.server(1), &schedule)?;
    lab.server(1).sh("rm /etc/systemd/planted /root/planted")?;
    say(&format!(
        "server 1 gives {} private keys, {} seeds, {} verifiers and {} words",
        loot.armours.len(),
        loot.seeds.len(),
        loot.verifiers.len(),
        loot.words.len()
    ));
    let others = [lab.server(2), lab.server(3)];
    let keys = try_keys(&network, &loot, &others)?;
    say(&format!(
        "{keys} keys tried at ssh and at our own port of two others: none opens, and none is \
         anybody's there but server 1's own"
    ));
    let words = try_words(&loot, &others, &schedule, now)?;
    say(&format!("{words} words and verifiers tried as passwords, now and for later: none fits"));
    lab.take_down()
}

/// Lays two seeds and a word where nothing of that kind may be, so that a search that does not find
/// them is known to find nothing.
fn plant(server: Server<'_>) -> Result<()> {
    let (hex, base64) = (format!("{:02x}", PLANTED[0]).repeat(32), "AwMD".repeat(10));
    server.sh(&format!("echo 'seed: {hex} {PLANTED_WORD}' >/etc/systemd/planted"))?;
    server.sh(&format!("echo '{{\"seed\":\"{base64}AwM=\"}}' >/root/planted")).map(drop)
}

/// Everything on the disk and in the memory of both processes.
fn gather(network: &Network<'_>, server: Server<'_>, schedule: &Schedule) -> Result<Loot> {
    let copy = network.file("loot");
    let mut loot = Loot::default();
    for folder in FOLDERS {
        let to = copy.join(folder.trim_start_matches('/'));
        std::fs::create_dir_all(&to)?;
        pull(server, folder, &to)?;
    }
    let memory = copy.join("memory");
    std::fs::create_dir_all(&memory)?;
    for unit in UNITS {
        dump(server, unit, &memory)?;
    }
    let mut files = Vec::new();
    walk(&copy, &mut files)?;
    let mut searched = 0;
    for file in &files {
        let dumped = file.starts_with(&memory);
        if !dumped && std::fs::metadata(file)?.len() > SEARCHED_MAX {
            continue;
        }
        let bytes = std::fs::read(file)?;
        if !dumped && bytes.starts_with(b"\x7fELF") {
            continue;
        }
        searched += 1;
        loot.search(&bytes);
    }
    // What is known to be there must have been found, or the search finds nothing at all.
    let own = ["var/lib/borgios/node.key", "var/lib/borgios-keeper/keeper.key"];
    for name in own {
        let text = std::fs::read_to_string(copy.join(name))?;
        let found = loot.armours.iter().any(|armour| text.contains(armour.as_str()));
        ensure!(found, "the search missed {name}");
    }
    let all = loot.verifiers.len();
    let now = schedule.verifier(schedule.at(schedule::now())).context("no epoch")?;
    ensure!(loot.verifiers.contains(now), "the search missed root's verifier among {all}");
    let planted = PLANTED.iter().all(|byte| loot.seeds.contains(&[*byte; 32]));
    ensure!(planted && loot.words.contains(PLANTED_WORD), "the search missed what was planted");
    ensure!(searched > 20, "only {searched} files were searched");
    let (seeds, words) = (loot.seeds.len(), loot.words.len());
    ensure!(seeds <= KEYS_MAX && words <= WORDS_MAX, "{seeds} seeds and {words} words to try");
    Ok(loot)
}

/// Copies out what a process has in its memory: every region that can be written and is no device's.
fn dump(server: Server<'_>, unit: &str, folder: &Path) -> Result<()> {
    let script = format!(
        r#"pid=$(systemctl show -p MainPID --value {unit}); exec perl -e '
            my ($pid) = @ARGV; open my $maps, "<", "/proc/$pid/maps" or die "maps: $!";
            open my $mem, "<:raw", "/proc/$pid/mem" or die "mem: $!";
            while (<$maps>) {{
                my ($from, $to, $mode) = /^([0-9a-f]+)-([0-9a-f]+) (\S+)/ or next;
                next unless $mode =~ /^rw/; next if /\[v/;
                my ($at, $end) = (hex $from, hex $to);
                while ($at < $end) {{
                    my $size = $end - $at < 65536 ? $end - $at : 65536;
                    sysseek $mem, $at, 0 or last;
                    my $got = sysread $mem, my $part, $size;
                    last unless $got; $at += $got;
                    print $part unless $part =~ /^\0*$/;
                }} }}' "$pid" >/srv/{unit}.mem"#
    );
    server.sh(&script)?;
    server.get(&format!("/srv/{unit}.mem"), &folder.join(unit))?;
    server.sh(&format!("rm /srv/{unit}.mem"))?;
    let size = std::fs::metadata(folder.join(unit))?.len();
    ensure!(size > 100_000, "{unit}: {size} bytes of memory are not all of it");
    Ok(())
}

impl Loot {
    fn search(&mut self, bytes: &[u8]) {
        // JSON writes line ends of a key as \n; both forms become one.
        let text = String::from_utf8_lossy(bytes);
        for part in text.split(ARMOUR.0).skip(1) {
            if let Some((body, _)) = part.split_once(ARMOUR.1) {
                let body = body.replace("\\n", "\n").replace('\r', "");
                let usual = body.len() < 4096 && body.is_ascii();
                if usual {
                    self.armours.insert(format!("{}{body}{}\n", ARMOUR.0, ARMOUR.1));
                }
            }
        }
        for word in text.split(|c: char| !c.is_ascii_alphanumeric() && !"+/=$.".contains(c)) {
            self.look_at(word);
        }
    }

    fn look_at(&mut self, word: &str) {
        if let Some(at) = word.find("$y$") {
            self.verifiers.insert(word[at..].to_owned());
            return;
        }
        if word.len() == 64 {
            self.seeds.extend(hex(word));
        }
        if (43..=44).contains(&word.len()) {
            self.seeds.extend(base64(word));
        }
        let base32 = |c: u8| c.is_ascii_lowercase() || (b'2'..=b'7').contains(&c);
        if (20..=32).contains(&word.len()) && word.bytes().all(base32) {
            self.words.insert(word.to_owned());
        }
    }
}

fn hex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

fn base64(text: &str) -> Option<[u8; 32]> {
    let mut bits = 0_u32;
    let mut have = 0;
    let mut bytes = Vec::new();
    for c in text.trim_end_matches('=').bytes() {
        let value = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6) | u32::from(value);
        have += 6;
        if have >= 8 {
            have -= 8;
            bytes.push(u8::try_from((bits >> have) & 0xff).ok()?);
        }
    }
    bytes.try_into().ok()
}

/// Offers every key to every other server; returns how many there were.
fn try_keys(network: &Network<'_>, loot: &Loot, others: &[Server<'_>]) -> Result<usize> {
    let folder = network.file("loot-keys");
    let mut keys = Vec::new();
    let mut secrets = Vec::new();
    for (number, armour) in loot.armours.iter().enumerate() {
        keys.push(Key::armoured(armour.as_bytes(), &folder.join(format!("armour-{number}")))?);
        // One that is locked, or of another kind, is nobody's at our own port.
        secrets.extend(SecretKey::from_openssh(armour).ok());
    }
    let armoured = secrets.len();
    for (number, seed) in loot.seeds.iter().enumerate() {
        let key = SecretKey::from_seed(*seed);
        keys.push(Key::of(&key, &folder.join(format!("seed-{number}")))?);
        secrets.push(key);
    }
    each(others, |_, other| {
        for port in [SSHD, PORT] {
            for some in keys.chunks(KEYS_AT_ONCE) {
                let some: Vec<&Key> = some.iter().collect();
                let files: Vec<_> = some.iter().map(|key| key.file().display()).collect();
                let what = format!("{} port {port}: one of {files:?}", other.host());
                other.login_at(port, &some, None).context(what.clone())?.must_not(&what)?;
            }
        }
        Ok(())
    })?;
    try_port(network, &secrets, armoured, others)?;
    Ok(keys.len())
}

/// At our own port every key may greet, and a shell is nobody's: what opens there is for the key of
/// somebody. So no key is anybody's but server 1's own, and each is told what a stranger is told.
fn try_port(
    network: &Network<'_>,
    secrets: &[SecretKey],
    armoured: usize,
    others: &[Server<'_>],
) -> Result<()> {
    let known = somebodies(network, others)?;
    for secret in secrets {
        let whose = known.get(&secret.public());
        ensure!(whose.is_none(), "server 1 holds the key of {}", whose.map_or("", String::as_str));
    }
    let own = public_key(network.lab().server(1), OWN_KEYS[0])?;
    let found = secrets.iter().take(armoured).any(|secret| secret.public() == own);
    ensure!(found, "the key of server 1's own node is not among those found");
    let folder = network.file("loot-doors");
    let ann = Door::with(&network.governor("ann").key()?, &folder.join("ann"))?;
    each(others, |number, other| {
        let host = other.host();
        // Somebody is told something else, so that what a stranger is told means something.
        let told = ann.send(other, STATUS)?;
        ensure!(told.contains("\"ok\""), "{host}: ann was told {told:?}");
        for (at, secret) in secrets.iter().enumerate() {
            // All have the same board and the same members: each of them is asked of a part of the
            // seeds, and of every key that was found as one.
            if at >= armoured && at % others.len() != number {
                continue;
            }
            let door = Door::with(secret, &folder.join(format!("{number}-{at}")))?;
            let what = format!("{host}: a stranger at our own port, {}", secret.public());
            if at < armoured {
                wait::until(&what, SOON, || {
                    let told = door.send(other, STATUS)?;
                    ensure!(told.contains("not_a_governor"), "it was told {told:?}");
                    Ok(Some(()))
                })?;
            }
            // A member gets this one, and server 1 is one.
            if secret.public() != own {
                let told = door.knock(other, STREAM).context(what.clone())?;
                let refused = told.code != 0 && told.all().contains("subsystem request failed");
                ensure!(refused, "{what}: {STREAM} ended with {}: {}", told.code, told.all());
            }
        }
        Ok(())
    })
}

/// Whose key would open something: the governors, whomever the rules in force name (the board's own
/// key, one that may recover it), and the other servers.
fn somebodies(network: &Network<'_>, others: &[Server<'_>]) -> Result<BTreeMap<PublicKey, String>> {
    let mut known = BTreeMap::new();
    for other in others {
        for file in OWN_KEYS {
            known.insert(public_key(*other, file)?, format!("{}: {file}", other.host()));
        }
    }
    for governor in network.governors() {
        known.insert(governor.key()?.public(), governor.name().to_owned());
    }
    let policy = network.statement("ann", "policy/1")?;
    let named: Vec<PublicKey> =
        policy.payload.split('"').filter_map(|word| word.parse().ok()).collect();
    ensure!(named.len() > network.governors().len(), "policy/1 names {} keys", named.len());
    for key in named {
        known.entry(key).or_insert_with(|| "somebody whom policy/1 names".to_owned());
    }
    Ok(known)
}

/// The public half of a private key that lies on a server.
fn public_key(server: Server<'_>, file: &str) -> Result<PublicKey> {
    let line = server.sh(&format!("ssh-keygen -y -f {file}"))?;
    line.parse::<PublicKey>()
        .with_context(|| format!("{}: {file} is the key of {line:?}", server.host()))
}

/// Does the same to all servers at once.
fn each(
    servers: &[Server<'_>],
    act: impl Fn(usize, Server<'_>) -> Result<()> + Sync,
) -> Result<()> {
    std::thread::scope(|scope| {
        let act = &act;
        let all = servers.iter().enumerate();
        let threads: Vec<_> =
            all.map(|(number, server)| scope.spawn(move || act(number, *server))).collect();
        threads.into_iter().try_for_each(|thread| {
            thread.join().unwrap_or_else(|_| Err(anyhow::anyhow!("an attempt panicked")))
        })
    })
}

/// Tries every word and every verifier as a password, for this epoch and those that come.
fn try_words(loot: &Loot, others: &[Server<'_>], schedule: &Schedule, now: u64) -> Result<usize> {
    let mut words: Vec<String> = loot.verifiers.iter().cloned().collect();
    words.push("original".into());
    words.extend(loot.words.iter().cloned());
    let later: Vec<&str> = (now..now + 2).filter_map(|epoch| schedule.verifier(epoch)).collect();
    each(others, |number, other| {
        let host = other.host();
        let held = other.root_verifier()?;
        ensure!(later.first() == Some(&held.as_str()), "{host} carries another epoch");
        // All carry the same field, so each of them takes a part of the words.
        let part: Vec<String> = words.iter().skip(number).step_by(others.len()).cloned().collect();
        let fits = other.passwords_that_fit(&later, &part)?;
        ensure!(fits.is_empty(), "{host}: {} of what server 1 holds fit", fits.len());
        // And really typed, the likeliest first.
        let current = std::iter::once(&held).chain(&words).take(TYPED);
        for word in current {
            other.su(word)?.must_not(&format!("{host}: {word:?} at su"))?;
            other.login_with_password(word)?.must_not(&format!("{host}: {word:?} at ssh"))?;
        }
        Ok(())
    })?;
    Ok(words.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_secret_is_found_in_the_middle_of_anything() {
        let key = SecretKey::from_seed([7; 32]);
        let armour = key.to_openssh("x").to_string();
        let mut bytes = vec![0xff, 0x00];
        bytes.extend(format!("{{\"key\":\"{}\"}}\0", armour.replace('\n', "\\n")).bytes());
        bytes.extend(format!("seed:{} ", "07".repeat(32)).bytes());
        bytes.extend(b"root:$y$j9T$abc./$def:1 aaaaaaaaaaaaaaaaaaaaaaaa77 AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM=");
        let mut loot = Loot::default();
        loot.search(&bytes);
        assert_eq!(loot.armours.into_iter().collect::<String>().trim(), armour.trim());
        assert!(loot.seeds.contains(&[7; 32]) && loot.seeds.contains(&[3; 32]), "{:?}", loot.seeds);
        assert!(loot.verifiers.contains("$y$j9T$abc./$def"), "{:?}", loot.verifiers);
        assert!(loot.words.contains("aaaaaaaaaaaaaaaaaaaaaaaa77"));
    }
}
