//! What a packet costs in the kernel: the complete programs, the bare ciphers of the test-only object, a program that
//! does nothing, and `ring` in user space where it has the same, in turns.
//!
//! Every run in the kernel is one repetition of `BPF_PROG_TEST_RUN` on a fresh copy of its frame, because sealing makes a
//! frame longer and an opened packet is a replay the second time; the time is the kernel's own. A program that does
//! nothing costs what the measurement costs: its median is subtracted from the others. `ring` works on a batch of
//! messages that are made ready beforehand.

use crate::instance::{DataPath, Place, SPI, Shape, ether_type, packet};
use crate::reference::{Keys, with_trailer};
use crate::run;
use crate::scale::stay_on;
use crate::support::{Random, ring_seal};
use crate::test_object::{OK, Task, TestObject, program};
use crate::transforms::{self, Transform};
use anyhow::{Context, Result, ensure};
use ebpf_esp::crypto::transform::Direction;
use ring::aead::{AES_128_GCM, AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use sadb_maps::sa::encr;
use serde_json::{Value, json};
use std::path::Path;
use std::time::Instant;

/// Octets of the packet that is protected.
const SIZES: [usize; 3] = [64, 576, 1400];

/// What the programs return for a packet that they drop.
const DROP: u32 = 1;

/// Runs of one kind in one turn.
const RUNS: usize = 20;

/// Repetitions of the bare cipher in one call, for comparison: the same frame over and over, nothing in between.
const LOOP: u32 = 2000;

/// What the programs return for a packet that goes on.
pub(crate) const PASS: u32 = 2;

/// What `ring` has of the same.
fn ring_algorithm(transform: &Transform) -> Option<&'static Algorithm> {
    match (transform.encr, transform.key_len) {
        (encr::CHACHA20_POLY1305, _) => Some(&CHACHA20_POLY1305),
        (encr::AES_GCM_16, 16) => Some(&AES_128_GCM),
        (encr::AES_GCM_16, 32) => Some(&AES_256_GCM),
        _ => None,
    }
}

/// Measures and prints JSON.
pub(crate) fn run(object: &Path, programs: Option<&Path>, only: &[String], rounds: usize) -> Result<()> {
    stay_on(0)?;
    let mut object = TestObject::load(object)?;
    let mut path = DataPath::attach("bench", programs)?;
    let mut rows = vec![];
    for transform in transforms::ALL.iter().filter(|t| only.is_empty() || only.iter().any(|name| name == t.name)) {
        for size in SIZES {
            rows.push(row(&mut object, &mut path, transform, size, rounds).with_context(|| transform.name)?);
        }
    }
    let runs = rounds * RUNS;
    println!("{:#}", json!({ "unit": "ns", "runs": runs, "loop": LOOP, "rows": rows }));
    Ok(())
}

/// Times of one kind, in nanoseconds.
#[derive(Default)]
pub(crate) struct Times(pub(crate) Vec<f64>);

impl Times {
    fn least(&self) -> f64 {
        self.0.iter().copied().fold(f64::INFINITY, f64::min)
    }

    pub(crate) fn median(&mut self) -> f64 {
        self.0.sort_by(f64::total_cmp);
        self.0.get(self.0.len() / 2).copied().unwrap_or(f64::NAN)
    }
}

fn row(
    object: &mut TestObject,
    path: &mut DataPath,
    transform: &'static Transform,
    size: usize,
    rounds: usize,
) -> Result<Value> {
    let shape = Shape::Tunnel { outer_v6: false, inner_v6: false };
    let mut random = Random(size as u64);
    let keys = transform.keys(&mut random, SPI, false);
    let place = path.protect(shape, transform, &keys)?;
    path.remember_route(&[place])?;
    let inner = packet(shape, 253, size - 20, &mut random)?;
    let mut bench = Bench { object, path, place, keys, ring: ring_algorithm(transform), inner, count: 0 };
    let [
        mut empty,
        mut seal,
        mut open,
        mut bare_seal,
        mut bare_open,
        mut ring_seal,
        mut ring_open,
        mut looped,
        mut end,
        mut begin,
    ] = std::array::from_fn(|_| Times::default());
    for round in 0..rounds {
        bench.empty(&mut empty)?;
        bench.bare(&mut bare_seal, &mut bare_open)?;
        bench.complete(&mut seal, &mut open)?;
        bench.parts(&mut end, &mut begin)?;
        bench.ring(&mut ring_seal, &mut ring_open)?;
        if round % 10 == 0 {
            bench.looped(&mut looped)?;
        }
    }
    // On a busy machine these say more than medians do.
    let [seal_least, open_least, bare_seal_least, bare_open_least, end_least, begin_least] =
        [&seal, &open, &bare_seal, &bare_open, &end, &begin].map(|times| times.least() - empty.least());
    let nothing = empty.median();
    let less = |times: &mut Times| times.median() - nothing;
    let (seal, open, bare_seal, bare_open) =
        (less(&mut seal), less(&mut open), less(&mut bare_seal), less(&mut bare_open));
    let (end, begin) = (less(&mut end), less(&mut begin));
    Ok(json!({
        "algorithm": transform.name,
        "size": size,
        "empty": nothing,
        "least": { "seal": seal_least, "open": open_least, "bare_seal": bare_seal_least, "bare_open": bare_open_least,
                   "seal_end": end_least, "open_begin": begin_least },
        "seal": { "complete": seal, "bare": bare_seal, "ratio": seal / bare_seal, "ring": ring_seal.median(),
                  "bare_looped": looped.median(), "before": seal - bare_seal - end, "after": end },
        "open": { "complete": open, "bare": bare_open, "ratio": open / bare_open, "ring": ring_open.median(),
                  "before": begin, "after": open - bare_open - begin },
    }))
}

struct Bench<'a> {
    object: &'a mut TestObject,
    path: &'a DataPath,
    place: Place,
    keys: Keys,
    ring: Option<&'static Algorithm>,
    inner: Vec<u8>,
    /// Packets sealed so far: the next sequence number less one.
    count: u32,
}

impl Bench<'_> {
    fn plain(&self) -> Vec<u8> {
        with_trailer(&self.inner, self.keys.align(), 4)
    }

    /// An outer Ethernet and IPv4 header, ESP header and explicit IV: where the ciphertext begins in a tunnel.
    fn front(&self) -> usize {
        14 + 20 + 8 + self.keys.encryption.iv_len() as usize
    }

    /// A program that does nothing, on a frame like those of the others.
    fn empty(&self, times: &mut Times) -> Result<()> {
        let frame = [vec![0; self.front()], self.plain(), vec![0; self.keys.icv_len]].concat();
        let program = self.object.program(program::EMPTY)?;
        for _ in 0..RUNS {
            times.0.push(run::once(program, &frame, 0)?.time.as_nanos() as f64);
        }
        Ok(())
    }

    fn bare_task(&self) -> Result<(Task, Vec<u8>)> {
        let (front, icv) = (self.front(), self.keys.icv_len);
        let back = self.plain().len() - self.inner.len() + icv;
        let frame = [&vec![0; front + back][..], &self.inner].concat();
        let task = Task {
            src: (front + back).try_into()?,
            dst: front.try_into()?,
            len: self.inner.len().try_into()?,
            pad: (back - icv - 2).try_into()?,
            next_header: 4,
            ..Task::default()
        };
        Ok((task, frame))
    }

    /// The functions of the cipher alone, as the programs call them.
    fn bare(&mut self, seal: &mut Times, open: &mut Times) -> Result<()> {
        let (task, frame) = self.bare_task()?;
        let opening = Task { src: task.dst, len: task.len + task.pad + 2, ..task };
        let mut frames = vec![];
        self.object.set_sa(Direction::Encrypt, &self.keys)?;
        for _ in 0..RUNS {
            let sealed = self.object.run(program::ESP_SEAL, task, &frame)?;
            ensure!(sealed.value == OK, "sealing: status {:#x}", sealed.value);
            seal.0.push(sealed.time.as_nanos() as f64);
            frames.push(sealed.frame);
        }
        self.object.set_sa(Direction::Decrypt, &self.keys)?;
        for frame in &frames {
            let opened = self.object.run(program::ESP_OPEN, opening, frame)?;
            ensure!(opened.value == OK, "opening: status {:#x}", opened.value);
            open.0.push(opened.time.as_nanos() as f64);
        }
        Ok(())
    }

    /// The bare cipher over and over on one frame: it enciphers its own ciphertext, which takes as long as any other.
    fn looped(&mut self, seal: &mut Times) -> Result<()> {
        let (task, frame) = self.bare_task()?;
        self.object.set_sa(Direction::Encrypt, &self.keys)?;
        let sealed = self.object.run_repeated(program::ESP_SEAL, task, &frame, LOOP)?;
        ensure!(sealed.value == OK, "status {:#x}", sealed.value);
        seal.0.push(sealed.time.as_nanos() as f64);
        Ok(())
    }

    /// The real programs: a tagged frame as it comes out of `ipsec0`, and what became of it as it comes in.
    fn complete(&mut self, seal: &mut Times, open: &mut Times) -> Result<()> {
        let frame = [self.place.tag(true), ether_type(false).to_vec(), self.inner.clone()].concat();
        // As many in a row as for the bare cipher: a card hands over its packets in batches too.
        let mut frames = vec![];
        for _ in 0..RUNS {
            self.count += 1;
            let sealed = run::once(&self.path.seal, &frame, 0)?;
            ensure!(sealed.value == PASS, "packet {}: sealing returned {}", self.count, sealed.value);
            seal.0.push(sealed.time.as_nanos() as f64);
            frames.push(sealed.frame);
        }
        for frame in &frames {
            let opened = run::once(&self.path.open, frame, self.path.outer)?;
            ensure!(opened.value == PASS, "packet {}: opening returned {}", self.count, opened.value);
            open.0.push(opened.time.as_nanos() as f64);
        }
        Ok(())
    }

    /// What surrounds the cipher: the last program of sealing by itself, on the packet that was sealed last; and opening
    /// up to the first look at the replay window, which refuses that packet.
    fn parts(&mut self, end: &mut Times, begin: &mut Times) -> Result<()> {
        let frame = [self.place.tag(true), ether_type(false).to_vec(), self.inner.clone()].concat();
        self.count += 1;
        let sealed = run::once(&self.path.seal, &frame, 0)?;
        for _ in 0..RUNS {
            let ended = run::once(&self.path.seal_end, &sealed.frame, 0)?;
            ensure!(ended.value == PASS && ended.frame == sealed.frame, "seal_end returned {}", ended.value);
            end.0.push(ended.time.as_nanos() as f64);
        }
        let opened = run::once(&self.path.open, &sealed.frame, self.path.outer)?;
        ensure!(opened.value == PASS, "packet {}: opening returned {}", self.count, opened.value);
        for _ in 0..RUNS {
            let refused = run::once(&self.path.open, &sealed.frame, self.path.outer)?;
            ensure!(refused.value == DROP, "a replay: opening returned {}", refused.value);
            begin.0.push(refused.time.as_nanos() as f64);
        }
        Ok(())
    }

    fn ring(&self, seal: &mut Times, open: &mut Times) -> Result<()> {
        let Some(algorithm) = self.ring else { return Ok(()) };
        let key = UnboundKey::new(algorithm, &self.keys.key).map_err(|_| anyhow::anyhow!("key"))?;
        let key = LessSafeKey::new(key);
        let (plain, nonce, aad) = (self.plain(), [7; 12], [9; 8]);
        let mut batch = vec![plain.clone(); RUNS];
        let start = Instant::now();
        for message in &mut batch {
            let nonce = Nonce::assume_unique_for_key(nonce);
            let icv = key.seal_in_place_separate_tag(nonce, Aad::from(aad), message);
            let icv = icv.map_err(|_| anyhow::anyhow!("ring does not seal"))?;
            std::hint::black_box(icv.as_ref());
        }
        seal.0.push(start.elapsed().as_nanos() as f64 / RUNS as f64);
        let sealed = ring_seal(algorithm, &self.keys.key, &nonce, &aad, &plain);
        let mut batch = vec![sealed; RUNS];
        let start = Instant::now();
        for message in &mut batch {
            let nonce = Nonce::assume_unique_for_key(nonce);
            let text = key.open_in_place(nonce, Aad::from(aad), message);
            std::hint::black_box(text.map_err(|_| anyhow::anyhow!("ring does not open"))?);
        }
        open.0.push(start.elapsed().as_nanos() as f64 / RUNS as f64);
        Ok(())
    }
}
