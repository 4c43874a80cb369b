//! The data plane: pipes, frames, the core behind them, the log's files on disk.

use std::collections::{BTreeMap, VecDeque};
use std::io;

use borgios_stream::builder::Draft;
use borgios_stream::evidence::Evidence;
use borgios_stream::frame::{Fetch, HeadsDigest};
use borgios_stream::log::{Disk, Log as _, serve};
use borgios_stream::proof::Proof;
use borgios_stream::{
    Admission, Batch, BatchId, Config, Core, DiskLog, Durability, Frame, Head, Input, Kind, Limits,
    LinkId, MemoryLog, Now, Origin, Output, Position, Recovered, Relay, Role, Ticket,
};
use borgios_types::{Digest, SecretKey, Time, UnixSeconds};
use bytes::Bytes;

use crate::governance::word;

/// The epoch of the streams here, and the time.
const EPOCH: u64 = 1_790_000_000;
/// Most inputs and outputs that one step of a neighbour may lead to: beyond any honest cascade.
const CASCADE_MAX: usize = 20_000;

fn network() -> Digest {
    Digest::of(b"the network of the fuzzer")
}

/// The origin of all batches that are signed anew.
fn origin_key() -> SecretKey {
    SecretKey::from_seed([3; 32])
}

fn batch(first: u64, previous: BatchId, messages: &[&[u8]]) -> Option<Batch> {
    let draft = Draft {
        network: network(),
        first: Position::new(EPOCH, first),
        previous,
        kind: Kind::new("chat").ok()?,
        durability: Durability::Durable,
        issued: UnixSeconds(EPOCH),
        messages: messages.iter().map(|message| Bytes::copy_from_slice(message)).collect(),
    };
    Some(draft.sign(&origin_key()))
}

/// Three batches in a row.
fn batches() -> Vec<Batch> {
    let mut all: Vec<Batch> = Vec::new();
    for (first, messages) in [(1, &[&b"a"[..], b"bc"][..]), (3, &[b""]), (4, &[b"def", b"g", b"h"])]
    {
        let previous = all.last().map_or(BatchId::NONE, Batch::id);
        all.extend(batch(first, previous, messages));
    }
    all
}

/// A pipe: the first byte says in what pieces it comes.
pub fn pipe(bytes: &[u8]) -> String {
    let Some((size, rest)) = bytes.split_first() else { return "empty".to_owned() };
    match borgios_relay::fuzz::read(rest, usize::from(*size) * 7) {
        (frames, None) if frames > 0 => "ok".to_owned(),
        (_, None) => "nothing".to_owned(),
        (_, Some(why)) => why,
    }
}

/// Seeds of [`pipe`].
#[must_use]
pub fn pipe_seeds() -> Vec<Vec<u8>> {
    let frames: Vec<Vec<u8>> = frames().iter().map(|frame| frame.encode().to_vec()).collect();
    vec![[vec![9], frames.concat()].concat(), [vec![0], frames[0].clone()].concat()]
}

/// A proof of one message.
pub fn proof(bytes: &[u8]) -> String {
    let proof = Proof::from_bytes(Bytes::copy_from_slice(bytes));
    let armoured = proof.armoured();
    let checked = proof.check();
    assert!(checked.is_err() || armoured.is_some(), "a good proof has no armour");
    word(checked)
}

/// Seeds of [`proof`].
#[must_use]
pub fn proof_seeds() -> Vec<Vec<u8>> {
    let proofs = batches().iter().map(|batch| Proof::of(batch, 0)).collect::<Vec<_>>();
    proofs.iter().flatten().map(|proof| proof.bytes().to_vec()).collect()
}

/// Evidence that an origin signed two histories.
pub fn evidence(bytes: &[u8]) -> String {
    word(Evidence::decode(&Bytes::copy_from_slice(bytes)))
}

fn fork() -> Option<Evidence> {
    let [one, other] =
        [batch(1, BatchId::NONE, &[b"for you"])?, batch(1, BatchId::NONE, &[b"for them"])?];
    Evidence::of(one.envelope(), other.envelope()).ok()
}

/// Seeds of [`evidence`].
#[must_use]
pub fn evidence_seeds() -> Vec<Vec<u8>> {
    fork().iter().map(|evidence| evidence.encode().to_vec()).collect()
}

/// Honest frames of every kind that a neighbour sends unasked.
fn frames() -> Vec<Frame> {
    let origin = Origin::from(origin_key().public());
    let mut frames: Vec<Frame> = batches().into_iter().map(Frame::Batch).collect();
    frames.push(Frame::Digest(HeadsDigest { count: 1, xor: [7; 32] }));
    if let Some(last) = batches().last() {
        frames.push(Frame::Heads(vec![Head { origin, last: last.last(), id: last.id() }]));
    }
    frames.push(Frame::Fetch(Fetch { origin, after: Position::new(EPOCH, 1), window: 1_000 }));
    frames.extend(fork().map(Frame::Evidence));
    frames
}

/// Neighbours' frames to a node, one after the other: `op, length (2), bytes` each. An op says which
/// neighbour, and whether a batch is signed anew before it is sent; or that time passes.
pub fn core(bytes: &[u8]) -> String {
    let mut run = Run::new();
    let mut rest = bytes;
    let mut taken = 0;
    while let [op, high, low, tail @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(tail.len());
        let (body, next) = tail.split_at(length);
        rest = next;
        let link = LinkId(u64::from(op & 3));
        match op >> 2 & 7 {
            0 => run.input(Input::Tick),
            1 => run.input(Input::LinkFull(link)),
            2 => run.input(Input::LinkDrained(link)),
            3 => run.input(Input::RoleChanged { link, role: Role::Cross }),
            4 => {
                let (kind, body) = (Kind::new("chat").ok(), Bytes::copy_from_slice(body));
                let durability = Durability::Volatile;
                let ticket = Ticket(taken);
                let publish = |kind| Input::Publish { ticket, kind, durability, body };
                if let Some(publish) = kind.map(publish) {
                    run.input(publish);
                }
            }
            anew => match Frame::parse(Bytes::copy_from_slice(body)) {
                Ok(Frame::Batch(batch)) if anew != 5 => {
                    taken += 1;
                    run.input(Input::Frame { link, frame: Frame::Batch(signed_anew(&batch)) });
                }
                Ok(frame) => {
                    taken += 1;
                    run.input(Input::Frame { link, frame });
                }
                Err(error) => run.input(Input::Garbage { link, error }),
            },
        }
    }
    run.input(Input::Tick);
    match (taken, run.delivered, run.cut) {
        (0, ..) => "no frame".to_owned(),
        (_, 0, 0) => "ok, nothing new".to_owned(),
        (_, _, 0) => "ok".to_owned(),
        _ => "cut".to_owned(),
    }
}

/// The same batch of this network, signed by the origin whose key is here.
fn signed_anew(batch: &Batch) -> Batch {
    let draft = Draft {
        network: network(),
        first: batch.first(),
        previous: batch.previous(),
        kind: batch.kind(),
        durability: batch.durability(),
        issued: batch.issued(),
        messages: batch.messages().map(|message| message.body).collect(),
    };
    draft.sign(&origin_key())
}

/// A core with a log in memory and three neighbours, whose shell does at once what it is asked.
struct Run {
    core: Core,
    log: MemoryLog,
    now: u64,
    delivered: usize,
    cut: usize,
}

impl Run {
    fn new() -> Self {
        let me = SecretKey::from_seed([4; 32]);
        let config = Config { network: network(), me: me.public(), relay: Relay::Verified };
        let core = Core::new(config, Recovered::default());
        let log = MemoryLog::new(Limits { stream_messages: 5, ..Limits::default() });
        let mut run = Self { core, log, now: 1_000, delivered: 0, cut: 0 };
        for (link, role) in (0..).zip([Role::Tree, Role::Tree, Role::Cross]) {
            let peer = SecretKey::from_seed([10 + u8::try_from(link).unwrap_or(0); 32]).public();
            run.input(Input::LinkUp { link: LinkId(link), peer, role });
        }
        run
    }

    fn input(&mut self, input: Input) {
        let mut waiting = VecDeque::from([input]);
        let mut handled = 0;
        while let Some(input) = waiting.pop_front() {
            handled += 1;
            assert!(handled < CASCADE_MAX, "one frame is never done with");
            if matches!(input, Input::Tick) {
                self.now += 500;
            }
            let unix = UnixSeconds(EPOCH + self.now / 1_000);
            let mut out = Vec::new();
            self.core.handle(Now { time: Time(self.now), unix }, input, &mut out);
            let held = self.core.check();
            assert!(held.is_ok(), "{held:?}");
            for output in out {
                self.output(output, &mut waiting);
            }
        }
    }

    fn output(&mut self, output: Output, waiting: &mut VecDeque<Input>) {
        match output {
            Output::Admit(origin) => {
                waiting.push_back(Input::Admitted { origin, admission: Admission::Yes });
            }
            Output::Verify(job) => {
                waiting.push_back(Input::Verified { job: job.job, verdict: job.run() });
            }
            Output::Sign(job) => {
                waiting.push_back(Input::Signed(job.run(&SecretKey::from_seed([4; 32]))));
            }
            Output::Log(job) => {
                let mut answers = Vec::new();
                serve(&mut self.log, &mut vec![job], &mut answers);
                waiting.extend(answers);
            }
            Output::Deliver { origin, batch, after, .. } => {
                assert!(after < batch.last(), "delivered twice");
                self.delivered += batch.count();
                let upto = batch.last();
                let taken = self.log.taken(&origin, upto);
                assert!(taken.is_ok(), "{taken:?}");
                waiting.push_back(Input::Taken { origin, upto });
            }
            Output::Cut { .. } => self.cut += 1,
            Output::Send { frame, .. } => {
                assert!(Frame::parse(frame).is_ok(), "it sends what is no frame");
            }
            Output::Missed { .. }
            | Output::Published { .. }
            | Output::Refused { .. }
            | Output::Ahead { .. }
            | Output::Equivocated(_)
            | Output::Withheld { .. } => {}
        }
    }
}

/// Seeds of [`core()`].
#[must_use]
pub fn core_seeds() -> Vec<Vec<u8>> {
    let step = |op: u8, body: &[u8]| {
        let length = u16::try_from(body.len()).unwrap_or(0).to_be_bytes();
        [&[op], &length[..], body].concat()
    };
    let all: Vec<Vec<u8>> = frames().iter().map(|frame| step(5 << 2, &frame.encode())).collect();
    let mut seeds = vec![all.concat()];
    seeds.extend(frames().iter().map(|frame| step(6 << 2 | 1, &frame.encode())));
    seeds.push(
        [all[2].clone(), step(0, b""), all[0].clone(), step(0, b""), all[1].clone()].concat(),
    );
    seeds.push([step(4 << 2, b"own"), step(0, b""), step(1 << 2, b""), all[0].clone()].concat());
    seeds
}

/// A disk in memory.
#[derive(Clone, Debug, Default)]
struct Memory(BTreeMap<String, Vec<u8>>);

impl Disk for Memory {
    fn list(&mut self, folder: &str) -> io::Result<Vec<String>> {
        let inside = |path: &String| match folder {
            "" => path.split('/').next().map(str::to_owned),
            folder => path.strip_prefix(folder)?.strip_prefix('/').map(str::to_owned),
        };
        let mut names: Vec<String> = self.0.keys().filter_map(inside).collect();
        names.dedup();
        Ok(names)
    }

    fn make_folder(&mut self, _folder: &str) -> io::Result<()> {
        Ok(())
    }

    fn len(&mut self, path: &str) -> io::Result<u64> {
        self.0.get(path).map(|file| file.len() as u64).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn read(&mut self, path: &str, at: u64, length: usize) -> io::Result<Vec<u8>> {
        let file = self.0.get(path).ok_or(io::ErrorKind::NotFound)?;
        let from = usize::try_from(at).unwrap_or(usize::MAX).min(file.len());
        Ok(file[from..from.saturating_add(length).min(file.len())].to_vec())
    }

    fn write(&mut self, path: &str, at: u64, bytes: &[u8]) -> io::Result<()> {
        let file = self.0.entry(path.to_owned()).or_default();
        let from = usize::try_from(at).map_err(io::Error::other)?;
        file.resize(file.len().max(from + bytes.len()), 0);
        file[from..from + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn cut(&mut self, path: &str, length: u64) -> io::Result<()> {
        let length = usize::try_from(length).map_err(io::Error::other)?;
        self.0.get_mut(path).map(|file| file.truncate(length)).ok_or(io::ErrorKind::NotFound.into())
    }

    fn sync(&mut self, _path: &str) -> io::Result<()> {
        Ok(())
    }

    fn sync_folder(&mut self, _folder: &str) -> io::Result<()> {
        Ok(())
    }

    fn sync_all(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let file = self.0.remove(from).ok_or(io::ErrorKind::NotFound)?;
        self.0.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&mut self, path: &str) -> io::Result<()> {
        self.0.remove(path);
        Ok(())
    }

    fn remove_folder(&mut self, _folder: &str) -> io::Result<()> {
        Ok(())
    }
}

fn me() -> Origin {
    Origin::from(SecretKey::from_seed([4; 32]).public())
}

/// A disk with the log of one stream, of its origin or of somebody else.
fn disk_of(me: Origin) -> (Memory, Origin) {
    let origin = Origin::from(origin_key().public());
    let opened = DiskLog::open_on(Memory::default(), Limits::default(), me, UnixSeconds(EPOCH));
    let (mut log, _) = opened.expect("memory does not fail");
    let mut after = Position::START;
    for batch in batches() {
        let _ = log.append(&origin, &batch, batch.id(), after, origin == me);
        after = batch.last();
    }
    let _ = (log.taken(&origin, Position::new(EPOCH, 1)), log.sync());
    (log.into_disk(), origin)
}

/// One file of a log on disk. The first byte says which, and whose log it is; a record in a segment
/// gets its front written anew if it is a batch.
pub fn log(bytes: &[u8]) -> String {
    let Some((which, rest)) = bytes.split_first() else { return "empty".to_owned() };
    let owner = if which & 8 == 0 { me() } else { Origin::from(origin_key().public()) };
    let (mut disk, origin) = disk_of(owner);
    let segment = disk.0.keys().find(|name| name.ends_with(".seg")).cloned().unwrap_or_default();
    let path = match which & 7 {
        0 => "own".to_owned(),
        1 => format!("evidence-{origin}"),
        2 => format!("{origin}/head"),
        3 => format!("{origin}/taken"),
        4 => segment,
        5 => format!("{origin}/{:016x}-{:016x}.seg", EPOCH, 7),
        // A name that is none of the log's.
        6 => format!("{origin}/{}.seg", String::from_utf8_lossy(rest).replace('/', "-")),
        _ => String::from_utf8_lossy(rest).replace('/', "-"),
    };
    let file = match Batch::parse(Bytes::copy_from_slice(rest)) {
        Ok(batch) => record(&batch),
        Err(_) => rest.to_vec(),
    };
    disk.0.insert(path, file);
    let open = |disk: Memory| {
        DiskLog::open_on(disk, Limits::default(), owner, UnixSeconds(EPOCH + 9))
            .expect("memory does not fail")
    };
    let (mut log, found) = open(disk);
    for stream in &found.streams {
        let read = log.read_after(&stream.head.origin, Position::START, 1 << 20);
        assert!(read.is_ok(), "what was found cannot be read: {read:?}");
        assert!(stream.taken <= stream.head.last, "taken beyond the end");
    }
    let closed = log.sync();
    assert!(closed.is_ok(), "{closed:?}");
    // What a start put in order is in order.
    let (_, again) = open(log.into_disk());
    let heads = |found: &Recovered| {
        let heads: Vec<_> = found.streams.iter().map(|s| (s.head.origin, s.head.last)).collect();
        heads
    };
    assert_eq!(heads(&found), heads(&again), "a second start finds something else");
    if heads(&found).is_empty() { "nothing left".to_owned() } else { "ok".to_owned() }
}

/// A batch as a segment holds it.
fn record(batch: &Batch) -> Vec<u8> {
    let length = u32::try_from(batch.len()).unwrap_or(0).to_be_bytes();
    let check = Digest::of(&batch.envelope()).0;
    [&b"BGL1"[..], &length, &check[..8], batch.bytes()].concat()
}

/// Seeds of [`log`].
#[must_use]
pub fn log_seeds() -> Vec<Vec<u8>> {
    let (disk, origin) = disk_of(me());
    let named = |which: u8, end: &str| {
        let file = disk.0.iter().find(|(name, _)| name.ends_with(end));
        file.map(|(_, bytes)| [&[which], bytes.as_slice()].concat())
    };
    let mut seeds: Vec<Vec<u8>> = [
        named(2, "/head"),
        named(0, "/taken"),
        named(3, "/taken"),
        named(4, ".seg"),
        named(12, ".seg"),
    ]
    .into_iter()
    .flatten()
    .collect();
    seeds.extend(fork().map(|evidence| [&[1], &evidence.encode()[..]].concat()));
    seeds.extend(batches().iter().map(|batch| [&[5], &batch.bytes()[..]].concat()));
    seeds.push([&[6], &b"0000000000000000-0000000000000000"[..]].concat());
    seeds.push([&[7], origin.to_string().as_bytes()].concat());
    seeds
}
