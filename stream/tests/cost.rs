//! Temporary: what one hop of one batch costs.
use borgios_stream::builder::Draft;
use borgios_stream::log::{LogJob, Recovered, serve};
use borgios_stream::*;
use borgios_types::{Digest, SecretKey, Time, UnixSeconds};
use std::time::Instant;
#[test]
#[allow(clippy::all)]
fn cost() {
    let network = Digest::of(b"n");
    let key = SecretKey::from_seed([1; 32]);
    for (count, size) in [(64usize, 1024usize), (1, 1024)] {
        let n = if count == 64 { 300u64 } else { 2000 };
        let mut previous = BatchId::NONE;
        let t = Instant::now();
        let batches: Vec<Batch> = (0..n)
            .map(|i| {
                let b = Draft {
                    network,
                    first: Position::new(1_790_000_000, 1 + i * count as u64),
                    previous,
                    kind: Kind::new("k").unwrap(),
                    durability: Durability::Durable,
                    issued: UnixSeconds(1),
                    messages: (0..count).map(|_| vec![7u8; size].into()).collect(),
                }
                .sign(&key);
                previous = b.id();
                b
            })
            .collect();
        println!("{count}x{size}: sign {:?}/batch", t.elapsed() / n as u32);
        let t = Instant::now();
        for b in &batches {
            assert!(matches!(jobs::verify(b), Verdict::Good(_)));
        }
        println!("  verify {:?}/batch", t.elapsed() / n as u32);
        let t = Instant::now();
        for b in &batches {
            let f = Frame::parse(b.bytes().clone()).unwrap();
            std::hint::black_box(f);
        }
        println!("  parse {:?}/batch", t.elapsed() / n as u32);
        let dir = tempfile::tempdir_in("/var/tmp").unwrap();
        let me = Origin([9; 32]);
        let (mut disk, _) =
            DiskLog::open(dir.path(), Limits::default(), me, UnixSeconds(1)).unwrap();
        let t = Instant::now();
        let mut after = Position::START;
        let ids: Vec<BatchId> = batches.iter().map(|b| b.id()).collect();
        for (b, id) in batches.iter().zip(&ids) {
            disk.append(&b.origin(), b, *id, after, false).unwrap();
            after = b.last();
        }
        println!("  disk append {:?}/batch", t.elapsed() / n as u32);
        let t = Instant::now();
        disk.sync().unwrap();
        println!("  sync {:?}", t.elapsed());
        for relay in [Relay::Verified, Relay::Link] {
            let mut core = Core::new(
                Config { network, me: SecretKey::from_seed([2; 32]).public(), relay },
                Recovered::default(),
            );
            let mut log = MemoryLog::new(Limits::default());
            let now = Now { time: Time(1), unix: UnixSeconds(1_790_000_000) };
            let mut out = Vec::new();
            for l in 0..9 {
                core.handle(
                    now,
                    Input::LinkUp {
                        link: LinkId(l),
                        peer: SecretKey::from_seed([3 + l as u8; 32]).public(),
                        role: Role::Tree,
                    },
                    &mut out,
                );
            }
            core.handle(
                now,
                Input::Admitted { origin: batches[0].origin(), admission: Admission::Yes },
                &mut out,
            );
            out.clear();
            let (mut inputs, mut jobs, mut sent) = (Vec::new(), Vec::new(), 0);
            let t = Instant::now();
            for (b, id) in batches.iter().zip(&ids) {
                let mut input =
                    Some(Input::Frame { link: LinkId(0), frame: Frame::Batch(b.clone()) });
                while let Some(i) = input.take().or_else(|| inputs.pop()) {
                    core.handle(now, i, &mut out);
                    for o in out.drain(..) {
                        match o {
                            Output::Send { .. } => sent += 1,
                            Output::Verify(job) => inputs.push(Input::Verified {
                                job: job.job,
                                verdict: Verdict::Good(*id),
                            }),
                            Output::Log(job) => {
                                jobs.push(job);
                                serve(&mut log, &mut jobs, &mut inputs);
                            }
                            Output::Deliver { origin, batch, .. } => {
                                inputs.push(Input::Taken { origin, upto: batch.last() })
                            }
                            _ => {}
                        }
                    }
                }
            }
            println!(
                "  core+memory log {relay:?} {:?}/batch, {sent} sends",
                t.elapsed() / n as u32
            );
        }
        let _: Option<LogJob> = None;
    }
}
