//! The test-only object: the ciphers of the data path, told by maps what to do.

use crate::run::{self, Outcome};
use anyhow::{Context, Result, ensure};
use aya::maps::{Array, MapData};
use aya::programs::Xdp;
use aya::{Ebpf, EbpfLoader};
use bytemuck::Zeroable;
use ebpf_esp::crypto::{aead, aes, ghash};
use sadb_maps::abi;
use sadb_maps::sa::{AES_ROUNDS_WORD, GhashTable, SaStatic, encr, flag};
use std::path::Path;

#[path = "../../bpf/src/task.rs"]
#[allow(unreachable_pub, reason = "shared with the object")]
mod task;

pub(crate) use task::{Task, program};

/// Status of a program that went well, and of one that refused a forgery.
pub(crate) const OK: u32 = task::RAN;
/// See [`OK`].
pub(crate) const FORGED: u32 = task::RAN | 2;

/// A record of a map.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub(crate) struct Plain<T>(pub(crate) T);

// SAFETY: only made of records that are plain words without padding.
unsafe impl<T: Copy + 'static> aya::Pod for Plain<T> {}

/// An AEAD by the name that the data path has for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Aead {
    ChaCha20Poly1305,
    AesGcm,
}

pub(crate) struct TestObject {
    ebpf: Ebpf,
    sa: Array<MapData, Plain<SaStatic>>,
    ghash: Array<MapData, Plain<GhashTable>>,
    task: Array<MapData, Plain<Task>>,
}

impl TestObject {
    /// Loads every program of the object; needs root.
    pub(crate) fn load(path: &Path) -> Result<Self> {
        let object =
            std::fs::read(path).with_context(|| format!("{}: run `cargo xtask build-ebpf`", path.display()))?;
        let mut loader = EbpfLoader::new();
        // The maps of the data path come along with its modules; nothing here uses them.
        for unused in [abi::map::SA_IN, abi::map::SA_OUT, abi::map::SA_STATIC, abi::map::SA_STATE, abi::map::SA_WINDOW]
        {
            loader.map_max_entries(unused, 1);
        }
        let mut ebpf = loader.load(&object).context("loading the test-only object")?;
        for name in [program::ESP_SEAL, program::ESP_OPEN, program::ANY_SEAL, program::ANY_OPEN, program::EMPTY] {
            let program: &mut Xdp = ebpf.program_mut(name).with_context(|| format!("no program {name}"))?.try_into()?;
            program.load().with_context(|| format!("loading program {name}"))?;
        }
        let mut map = |name: &str| ebpf.take_map(name).with_context(|| format!("no map {name}"));
        let sa = Array::try_from(map(task::map::SA)?)?;
        let ghash = Array::try_from(map(task::map::GHASH)?)?;
        let task = Array::try_from(map(task::map::TASK)?)?;
        Ok(Self { ebpf, sa, ghash, task })
    }

    /// The program of that name.
    pub(crate) fn program(&self, name: &str) -> Result<&Xdp> {
        Ok(self.ebpf.program(name).with_context(|| format!("no program {name}"))?.try_into()?)
    }

    /// Installs key and salt, and whether sequence numbers are extended.
    pub(crate) fn set_sa(&mut self, aead: Aead, key: &[u8], salt: [u8; 4], esn: bool) -> Result<()> {
        let mut record = SaStatic::zeroed();
        record.salt = u32::from_ne_bytes(salt);
        record.flags = if esn { flag::ESN } else { 0 };
        (record.iv_len, record.icv_len, record.align) = (8, 16, 4);
        match aead {
            Aead::ChaCha20Poly1305 => {
                ensure!(key.len() == 32, "a key of {} octets", key.len());
                record.encr = encr::CHACHA20_POLY1305;
                let words = record.key.iter_mut().zip(key.as_chunks::<4>().0);
                words.for_each(|(word, octets)| *word = u32::from_ne_bytes(*octets));
            }
            Aead::AesGcm => {
                record.encr = encr::AES_GCM_16;
                let mut schedule = [0; aes::SCHEDULE_WORDS];
                let rounds = aes::expand_key(key, &mut schedule).context("length of the key")?;
                record.key.iter_mut().zip(schedule).for_each(|(word, expanded)| *word = expanded);
                *record.key.get_mut(AES_ROUNDS_WORD).context("rounds")? = rounds;
                let mut table = GhashTable::zeroed();
                ghash::fill_table(&mut table.0, &aead::hash_key(&schedule, rounds));
                self.ghash.set(0, Plain(table), 0)?;
            }
        }
        Ok(self.sa.set(0, Plain(record), 0)?)
    }

    /// Runs a program on a frame.
    pub(crate) fn run(&mut self, name: &str, task: Task, frame: &[u8]) -> Result<Outcome> {
        self.run_repeated(name, task, frame, 1)
    }

    /// Runs a program several times on the same frame.
    pub(crate) fn run_repeated(&mut self, name: &str, task: Task, frame: &[u8], times: u32) -> Result<Outcome> {
        self.task.set(0, Plain(task), 0)?;
        run::repeated(self.program(name)?, frame, 0, times)
    }
}
