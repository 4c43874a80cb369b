//! Small texts that many readers take: keys, names, digests, places in an archive, unit files; and
//! what one governor seals to another.

use borgios_credentials::{Password, SealedShare, SecretShare, Verifier};
use borgios_policy::{Gate, Lane, Name, Submission};
use borgios_releases::{EntryPath, Powers};
use borgios_types::{Digest, Kind, PublicKey, SecretKey, UnixSeconds};

use crate::governance::{text, word, world};
use crate::{seeds, servers};

/// An OpenSSH private key file.
pub fn openssh_key(bytes: &[u8]) -> String {
    let Some(text) = text(bytes) else { return "not text".to_owned() };
    let read = SecretKey::from_openssh(&text);
    if let Ok(key) = &read {
        let again = SecretKey::from_openssh(&key.to_openssh("again"));
        assert!(
            again.is_ok_and(|again| again.public() == key.public()),
            "it reads back as another"
        );
    }
    word(read)
}

/// Seeds of [`openssh_key`].
#[must_use]
pub fn openssh_seeds() -> Vec<Vec<u8>> {
    vec![SecretKey::from_seed([3; 32]).to_openssh("node").as_bytes().to_vec()]
}

/// How many kinds of words [`small`] knows.
const SMALL: u8 = 11;

/// A word; the first byte says of which kind.
pub fn small(bytes: &[u8]) -> String {
    let Some((which, rest)) = bytes.split_first() else { return "empty".to_owned() };
    let Some(text) = text(rest) else { return "not text".to_owned() };
    match which % SMALL {
        0 => {
            let read: Result<PublicKey, _> = text.parse();
            if let Ok(key) = &read {
                assert_eq!(key.to_string().parse::<PublicKey>().ok(), Some(*key));
                let _ = (key.fingerprint(), key.short(), key.allowed_signer("x", &["y"]));
            }
            word(read)
        }
        1 => word(text.parse::<Digest>()),
        2 => {
            let read = text.parse::<Name>();
            let plain = |name: &Name| !name.as_str().contains(['/', '\n', ' ', '.']);
            assert!(read.as_ref().map_or(true, plain), "a name that is none: {read:?}");
            word(read)
        }
        3 => word(text.parse::<Lane>()),
        4 => word(Kind::new(&text)),
        5 => word(borgios_stream::Kind::new(&text)),
        6 => {
            let read = text.parse::<Verifier>();
            let plain = |verifier: &Verifier| !verifier.as_str().contains([':', '\n']);
            assert!(read.as_ref().map_or(true, plain), "it would end a field of shadow");
            word(read)
        }
        7 => word(text.parse::<Password>()),
        8 => {
            let read = EntryPath::parse(&text);
            let inside = |path: &EntryPath| {
                let names = || path.as_str().split('/');
                names().all(|name| !["", ".", ".."].contains(&name))
            };
            assert!(read.as_ref().map_or(true, inside), "a path that leads out: {text:?}");
            word(read)
        }
        9 => word(Digest::from_hex(&text)),
        _ => word(serde_json::from_str::<borgios_types::Signature>(&text)),
    }
}

/// Seeds of [`small`].
#[must_use]
pub fn small_seeds() -> Vec<Vec<u8>> {
    let key = SecretKey::from_seed([3; 32]);
    let digest = Digest::of(b"x");
    let verifier = format!("$y$j9T${}${}", "a".repeat(22), "b".repeat(43));
    let password = "mzxw6ytboimzxw6ytboimzxw6y".to_owned();
    let signature = serde_json::to_string(&key.sign_bytes(b"x")).unwrap_or_default();
    let words = [
        key.public().to_string(),
        digest.to_string(),
        "web-1".to_owned(),
        "release".to_owned(),
        "drill-answer".to_owned(),
        "chat".to_owned(),
        verifier,
        password,
        "files/bin/hello".to_owned(),
        digest.hex(),
        signature,
    ];
    (0..).zip(words).map(|(at, word)| [&[at], word.as_bytes()].concat()).collect()
}

/// A component's text files: a path in the first line, the file below it; [`servers`] has the line
/// between two files.
pub fn powers(bytes: &[u8]) -> String {
    let Some(text) = text(bytes) else { return "not text".to_owned() };
    let files = text.split("\n===\n").filter_map(|file| file.split_once('\n'));
    let powers = Powers::of(files);
    let differences = Powers::diff(&Powers::default(), &powers);
    assert_eq!(Powers::diff(&powers, &powers), [], "it differs from itself");
    if differences.is_empty() { "nothing".to_owned() } else { "ok".to_owned() }
}

/// Seeds of [`powers`].
#[must_use]
pub fn powers_seeds() -> Vec<Vec<u8>> {
    let unit = "units/hello.service\n[Unit]\nAfter=network.target\n[Service]\nUser=hello\n\
        ExecStart=/bin/true \\\n  --x\nCapabilityBoundingSet=~CAP_SYS_ADMIN\nPrivateNetwork=yes\n\
        ReadWritePaths=/var/lib/hello\nDynamicUser=yes\nMemoryMax=1G\n";
    let socket = "units/hello.socket\n[Socket]\nListenStream=8080\n";
    let files = "sysusers.d/hello.conf\nu hello\n\n===\ntmpfiles.d/hello.conf\nd /run/hello 4755\n";
    vec![unit.into(), socket.into(), files.into(), [unit, socket].join("\n===\n").into()]
}

/// A share that was sealed to an asker: the age file as JSON has it, or, where the first byte is 0,
/// what stands in it.
pub fn sealed_share(bytes: &[u8]) -> String {
    let council = &world().council;
    let identity = &council.identities[&council.name(0)];
    let Ok(identity) = identity.parse::<age::x25519::Identity>() else { return "no key".into() };
    let sealed = match bytes.split_first() {
        Some((0, plain)) => match age::encrypt(&identity.to_public(), plain) {
            Ok(file) => SealedShare::from_bytes(file).map_err(|error| error.to_string()),
            Err(error) => return error.to_string(),
        },
        Some((1, file)) => {
            SealedShare::from_bytes(file.to_vec()).map_err(|error| error.to_string())
        }
        _ => serde_json::from_slice(bytes).map_err(|error| error.to_string()),
    };
    match sealed {
        Ok(sealed) => word(sealed.open(&identity)),
        Err(why) => why,
    }
}

/// Seeds of [`sealed_share`].
#[must_use]
pub fn sealed_seeds() -> Vec<Vec<u8>> {
    let council = &world().council;
    let identity = council.identities[&council.name(0)].parse::<age::x25519::Identity>();
    let mut seeds = vec![[&[0][..], &[5; 32]].concat()];
    let share = SecretShare::from_bytes([5; 32]);
    let sealed =
        identity.ok().and_then(|identity| SealedShare::seal(&share, &identity.to_public()).ok());
    seeds.extend(sealed.iter().map(|sealed| [&[1], sealed.as_bytes()].concat()));
    seeds.extend(sealed.iter().filter_map(|sealed| serde_json::to_vec(sealed).ok()));
    seeds
}

/// A gate as it is stored, and a few looks at the clock with it.
pub fn gate(bytes: &[u8]) -> String {
    let mut gate: Gate = match serde_json::from_slice(bytes) {
        Ok(gate) => gate,
        Err(error) => return error.to_string(),
    };
    let stored = serde_json::to_vec(&gate).expect("a gate has string keys only");
    let again = serde_json::from_slice::<Gate>(&stored);
    assert!(again.is_ok_and(|again| again == gate), "it does not read what it writes");
    let mut chain = world().chain.clone();
    let (mut applied, mut now) = (0, borgios_policy::fixture::NOW.0);
    for _ in 0..20 {
        let tick = gate.tick(UnixSeconds(now), &chain);
        let _ = (gate.report(UnixSeconds(now), &chain), gate.behind(&chain));
        let ids: Vec<Digest> = gate.docs().map(|(id, _)| *id).collect();
        for id in ids {
            let _ = gate.standing(UnixSeconds(now), &chain, &id);
        }
        match tick.apply {
            Some(verified) => {
                applied += 1;
                chain.apply(*verified);
            }
            None if tick.changed => {}
            None => now = now.saturating_add(100_000),
        }
    }
    if applied == 0 { "ok, and waits".to_owned() } else { "ok".to_owned() }
}

/// Seeds of [`gate`].
#[must_use]
pub fn gate_seeds() -> Vec<Vec<u8>> {
    vec![servers::gate().to_string().into_bytes(), b"{}".to_vec()]
}

/// Submissions from a disk or a neighbour, in any order.
pub fn submissions(bytes: &[u8]) -> String {
    let offered: Vec<Submission> = match serde_json::from_slice(bytes) {
        Ok(offered) => offered,
        Err(error) => return error.to_string(),
    };
    let run = world().chain.verify_run(borgios_policy::fixture::NOW, &offered);
    let envelopes = offered
        .into_iter()
        .flat_map(|offered| std::iter::once(offered.statement).chain(offered.ballots));
    let mut chain = world().chain.clone();
    let refused = chain.follow(&Submission::sort(envelopes));
    match (run.refused.first(), refused.first()) {
        (None, None) => "ok".to_owned(),
        (Some((_, refusal)), _) | (None, Some((_, refusal))) => refusal.code().to_owned(),
    }
}

/// Seeds of [`submissions`].
#[must_use]
pub fn submission_seeds() -> Vec<Vec<u8>> {
    let (_, release, _, ballots) = seeds::vote();
    let statement = world().council.sign(release);
    let one = Submission { statement, ballots: ballots.clone() };
    let bare = Submission { ballots: Vec::new(), ..one.clone() };
    [vec![one.clone()], vec![bare, one]]
        .iter()
        .filter_map(|all| serde_json::to_vec(all).ok())
        .collect()
}
