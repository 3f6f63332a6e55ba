//! The test-only object: the ciphers of the data path, told by maps what to do.

use crate::reference::Keys;
use crate::run::{self, Outcome};
use anyhow::{Context, Result, bail};
use aya::maps::{Array, MapData};
use aya::programs::Xdp;
use aya::{Ebpf, EbpfLoader};
use bytemuck::Zeroable;
use ebpf_esp::crypto::material::{Apart, KeyArea, apart};
use ebpf_esp::crypto::transform::{Authentication, Direction, Encryption};
use ebpf_esp::crypto::{aead, blowfish, ccm, ghash};
use sadb_maps::abi;
use sadb_maps::sa::{BlowfishState, GhashTable, SaStatic, family, flag, mac};
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

pub(crate) struct TestObject {
    ebpf: Ebpf,
    sa: Array<MapData, Plain<SaStatic>>,
    ghash: Array<MapData, Plain<GhashTable>>,
    blowfish: Array<MapData, Plain<BlowfishState>>,
    task: Array<MapData, Plain<Task>>,
}

impl TestObject {
    /// Loads every program of the object; needs root.
    pub(crate) fn load(path: &Path) -> Result<Self> {
        let object =
            std::fs::read(path).with_context(|| format!("{}: run `cargo xtask build-ebpf`", path.display()))?;
        let mut loader = EbpfLoader::new();
        // The maps of the data path come along with its modules; nothing here uses them.
        for unused in [
            abi::map::SA_IN,
            abi::map::SA_NAMES,
            abi::map::SA_OUT,
            abi::map::SA_STATIC,
            abi::map::SA_KEYS,
            abi::map::SA_STATE,
            abi::map::SA_WINDOW,
        ] {
            loader.map_max_entries(unused, 1);
        }
        let mut ebpf = loader.load(&object).context("loading the test-only object")?;
        for name in [
            program::ESP_SEAL,
            program::ESP_OPEN,
            program::ESP_MAC,
            program::ANY_SEAL,
            program::ANY_OPEN,
            program::EMPTY,
        ] {
            let program: &mut Xdp = ebpf.program_mut(name).with_context(|| format!("no program {name}"))?.try_into()?;
            program.load().with_context(|| format!("loading program {name}"))?;
        }
        let mut map = |name: &str| ebpf.take_map(name).with_context(|| format!("no map {name}"));
        let sa = Array::try_from(map(task::map::SA)?)?;
        let ghash = Array::try_from(map(task::map::GHASH)?)?;
        let blowfish = Array::try_from(map(task::map::BLOWFISH)?)?;
        let task = Array::try_from(map(task::map::TASK)?)?;
        Ok(Self { ebpf, sa, ghash, blowfish, task })
    }

    /// The program of that name.
    pub(crate) fn program(&self, name: &str) -> Result<&Xdp> {
        Ok(self.ebpf.program(name).with_context(|| format!("no program {name}"))?.try_into()?)
    }

    /// Installs an SA of this direction. One without authenticator enciphers all the same.
    pub(crate) fn set_sa(&mut self, direction: Direction, keys: &Keys) -> Result<()> {
        let wrong = |what| move || format!("{what} of {:?} with {:?}", keys.encryption, keys.authentication);
        let mut record = SaStatic::zeroed();
        record.flags = if keys.esn { flag::ESN } else { 0 };
        record.iv_len = keys.encryption.iv_len() as u8;
        record.icv_len = keys.icv_len as u8;
        record.auth_bits = 8 * keys.authentication.key_len() as u16;
        record.align = keys.encryption.align() as u8;
        record.salt = match keys.salt[..] {
            [] => 0,
            [a, b, c] => ccm::salt_word([a, b, c]),
            [a, b, c, d] => u32::from_ne_bytes([a, b, c, d]),
            _ => bail!("a salt of {} octets", keys.salt.len()),
        };
        record.family = match keys.encryption {
            Encryption::ChaCha20Poly1305 => family::CHACHA20_POLY1305,
            Encryption::AesGcm => family::AES_GCM,
            Encryption::AesGmac => family::AES_GMAC,
            Encryption::AesCcm => family::AES_CCM,
            Encryption::Null => family::NULL,
            Encryption::AesCbc => family::AES_CBC,
            Encryption::AesCtr => family::AES_CTR,
            Encryption::DesCbc => family::DES_CBC,
            Encryption::TripleDesCbc => family::TRIPLE_DES_CBC,
            Encryption::BlowfishCbc => family::BLOWFISH_CBC,
        };
        record.mac = match keys.authentication {
            Authentication::None => mac::NONE,
            Authentication::HmacMd5 => mac::HMAC_MD5,
            Authentication::HmacSha1 => mac::HMAC_SHA1,
            Authentication::HmacSha256 => mac::HMAC_SHA256,
            Authentication::HmacSha384 | Authentication::HmacSha512 => mac::HMAC_SHA512,
            other => bail!("the data path does not have {other:?}"),
        };
        let mut area = KeyArea::ZERO;
        area.install(direction, (keys.encryption, &keys.key), (keys.authentication, &keys.auth_key))
            .map_err(|error| anyhow::anyhow!("{error:?}"))
            .with_context(wrong("keys"))?;
        record.key = area.0;
        match apart(keys.encryption) {
            Apart::Nothing => {}
            Apart::Ghash => {
                let (schedule, rounds) = area.aes();
                let mut table = GhashTable::zeroed();
                ghash::fill_table(&mut table.0, &aead::hash_key(schedule, rounds));
                self.ghash.set(0, Plain(table), 0)?;
            }
            Apart::Blowfish => {
                let mut state = BlowfishState::zeroed();
                blowfish::expand_key(&keys.key, direction, &mut state.0).with_context(wrong("length of the key"))?;
                self.blowfish.set(0, Plain(state), 0)?;
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
