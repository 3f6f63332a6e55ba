//! How the complete programs do with many SAs, and on two processors at once.
//!
//! Runs are those of [`crate::bench`]: one repetition on a fresh copy of each frame, the time is the kernel's own, and that
//! of a program that does nothing is subtracted.

use crate::bench::{PASS, Times};
use crate::instance::{DataPath, Place, Shape, ether_type, packet};
use crate::run;
use crate::support::Random;
use crate::test_object::{TestObject, program};
use crate::transforms;
use anyhow::{Context, Result, ensure};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Barrier;
use std::time::Instant;

/// Pairs of SAs that are there: 100,000 SAs.
const PAIRS: u32 = 50_000;

/// Pairs that packets are drawn from, each as likely as any other.
const DRAWN: [u32; 6] = [1, 10, 100, 1000, 10_000, PAIRS];

/// Runs of each kind in one turn.
const RUNS: usize = 200;

/// Turns.
const ROUNDS: usize = 15;

/// Octets of the packets: a small one, where what is not cryptography shows most, and a large one.
const SIZES: [usize; 2] = [64, 1400];

const SHAPE: Shape = Shape::Tunnel { outer_v6: false, inner_v6: false };

/// Packets that one processor seals and opens in a turn of [`cores`]; fewer than the replay window of 1024, so that none is
/// too late when the other was faster.
const BURST: usize = 400;

/// Measures and prints JSON.
pub(crate) fn run(object: &Path) -> Result<()> {
    let object = TestObject::load(object)?;
    let transform = transforms::ALL.first().context("no transform")?;
    let all = processors()?;
    stay_on(*all.first().context("no processor")?)?;
    let mut path = DataPath::attach_with_room("scale", None, 2 * PAIRS)?;
    let mut random = Random(1);
    let start = Instant::now();
    let places = path.protect_with_pairs(SHAPE, transform, PAIRS, &mut random)?;
    let adding = start.elapsed();
    path.remember_route(&places)?;
    let lookups = lookups(&object, &path, &places)?;
    let cores = cores(&path, &places, &all)?;
    println!(
        "{:#}",
        json!({
            "unit": "ns", "algorithm": transform.name, "pairs": PAIRS, "adding_s": adding.as_secs_f64(),
            "runs": ROUNDS * RUNS, "lookups": lookups, "cores": cores,
        })
    );
    Ok(())
}

/// Sealing and opening with SAs that are drawn at random from the first so many.
fn lookups(object: &TestObject, path: &DataPath, places: &[Place]) -> Result<Vec<Value>> {
    let mut random = Random(2);
    let empty = object.program(program::EMPTY)?;
    let mut rows = vec![];
    for size in SIZES {
        let inner = packet(SHAPE, 253, size - 20, &mut random)?;
        let mut nothing = Times::default();
        let mut times: Vec<[Times; 2]> = DRAWN.iter().map(|_| <[Times; 2]>::default()).collect();
        for _ in 0..ROUNDS {
            for _ in 0..RUNS {
                nothing.0.push(run::once(empty, &frame(places, 0, &inner)?, 0)?.time.as_nanos() as f64);
            }
            for (count, [seal, open]) in DRAWN.iter().zip(&mut times) {
                for _ in 0..RUNS {
                    let frame = frame(places, random.below(*count as usize), &inner)?;
                    let [sealed, opened] = pass(path, &frame)?;
                    seal.0.push(sealed);
                    open.0.push(opened);
                }
            }
        }
        let nothing = nothing.median();
        for (count, [seal, open]) in DRAWN.iter().zip(&mut times) {
            let (seal, open) = (seal.median() - nothing, open.median() - nothing);
            rows.push(json!({ "size": size, "drawn_from": count, "seal": seal, "open": open }));
        }
    }
    Ok(rows)
}

/// The same work on one processor, then on two at once: with one pair of SAs for both, and with one for each.
fn cores(path: &DataPath, places: &[Place], all: &[usize]) -> Result<Value> {
    let [first, second, ..] = *all else { return Ok(Value::Null) };
    let inner = packet(SHAPE, 253, 1400 - 20, &mut Random(3))?;
    let shared = frame(places, 0, &inner)?;
    let own = frame(places, 1, &inner)?;
    let mut alone = Work::default();
    let mut one_pair = [Work::default(), Work::default()];
    let mut two_pairs = [Work::default(), Work::default()];
    for _ in 0..ROUNDS {
        alone.burst(path, &shared)?;
        at_once(path, [first, second], [&shared, &shared], &mut one_pair)?;
        at_once(path, [first, second], [&shared, &own], &mut two_pairs)?;
    }
    Ok(json!({
        "size": 1400,
        "packets": ROUNDS * BURST,
        "one_processor": { "seal": alone.seal.median(), "open": alone.open.median() },
        "two_with_one_pair": both(&mut one_pair, &mut alone),
        "two_with_two_pairs": both(&mut two_pairs, &mut alone),
    }))
}

/// What came of some bursts on one processor.
#[derive(Default)]
struct Work {
    seal: Times,
    open: Times,
}

impl Work {
    fn burst(&mut self, path: &DataPath, frame: &[u8]) -> Result<()> {
        let mut sealed = Vec::with_capacity(BURST);
        for _ in 0..BURST {
            let outcome = run::once(&path.seal, frame, 0)?;
            ensure!(outcome.value == PASS, "sealing returned {}", outcome.value);
            self.seal.0.push(outcome.time.as_nanos() as f64);
            sealed.push(outcome.frame);
        }
        for frame in sealed {
            let outcome = run::once(&path.open, &frame, path.outer)?;
            ensure!(outcome.value == PASS, "opening returned {}", outcome.value);
            self.open.0.push(outcome.time.as_nanos() as f64);
        }
        Ok(())
    }
}

/// The medians of two processors, and how many times the packets of one they pass in the same time of the programs.
fn both([first, second]: &mut [Work; 2], alone: &mut Work) -> Value {
    let scaling = |one: f64, two: f64, alone: f64| alone / one + alone / two;
    let seal = scaling(first.seal.median(), second.seal.median(), alone.seal.median());
    let open = scaling(first.open.median(), second.open.median(), alone.open.median());
    json!({
        "seal": [first.seal.median(), second.seal.median()],
        "open": [first.open.median(), second.open.median()],
        "seal_scaling": seal,
        "open_scaling": open,
    })
}

/// One burst on each processor, begun together.
fn at_once(path: &DataPath, on: [usize; 2], frames: [&[u8]; 2], work: &mut [Work; 2]) -> Result<()> {
    let together = Barrier::new(2);
    std::thread::scope(|scope| {
        let threads = on.into_iter().zip(frames).zip(work).map(|((processor, frame), work)| {
            let together = &together;
            scope.spawn(move || {
                let there = stay_on(processor);
                together.wait();
                there.and_then(|()| work.burst(path, frame))
            })
        });
        let threads: Vec<_> = threads.collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

/// Seals a packet and opens what came of it; gives the nanoseconds of both.
fn pass(path: &DataPath, frame: &[u8]) -> Result<[f64; 2]> {
    let sealed = run::once(&path.seal, frame, 0)?;
    let opened = run::once(&path.open, &sealed.frame, path.outer)?;
    ensure!(
        sealed.value == PASS && opened.value == PASS,
        "the programs returned {} and {}",
        sealed.value,
        opened.value
    );
    Ok([sealed, opened].map(|outcome| outcome.time.as_nanos() as f64))
}

/// The frame that TC has tagged with the SA at that place.
fn frame(places: &[Place], which: usize, inner: &[u8]) -> Result<Vec<u8>> {
    let place = places.get(which).context("no such SA")?;
    Ok([place.tag(true), ether_type(false).to_vec(), inner.to_vec()].concat())
}

/// The processors that this process may use.
fn processors() -> Result<Vec<usize>> {
    let allowed = sched_getaffinity(Pid::from_raw(0))?;
    Ok((0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu).unwrap_or(false)).collect())
}

/// What is running alone on one processor finds there what it left in its scratch.
pub(crate) fn stay_on(processor: usize) -> Result<()> {
    let mut only = CpuSet::new();
    only.set(processor)?;
    sched_setaffinity(Pid::from_raw(0), &only).context("staying on one processor")
}
