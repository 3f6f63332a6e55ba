//! What the cipher tests share: both AEADs behind one trait, next to `ring`, and whole messages over byte vectors.

#![allow(dead_code, unreachable_pub, reason = "a module of several test binaries, of which each uses its part")]

pub mod known;
pub mod sa;
pub mod vectors;

use ebpf_esp::crypto::aead::{self, Aad, Buffer, Cipher, Error, Seal, Tail};
use ebpf_esp::crypto::{Block16, trailer};

/// A small seeded generator (SplitMix64): the same packets on every run.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        // One in eight is all ones or all zeros: carries and reductions at their limits.
        match self.below(16) {
            0 => vec![0xff; len],
            1 => vec![0; len],
            _ => (0..len).map(|_| self.next() as u8).collect(),
        }
    }
}

/// Bytes of a hexadecimal text; white space is skipped.
pub fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    assert_eq!(digits.len() % 2, 0);
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// Words in memory order.
pub fn words<const N: usize>(bytes: &[u8]) -> [u32; N] {
    assert_eq!(bytes.len(), 4 * N);
    std::array::from_fn(|i| u32::from_ne_bytes(bytes[4 * i..4 * i + 4].try_into().unwrap()))
}

/// An AEAD under test.
pub trait Suite {
    /// What an SA keeps.
    type Sa;
    /// The computation of one packet.
    type Cipher<'a>: Cipher;
    /// `ring`'s name for it.
    fn ring(key_len: usize) -> Option<&'static ring::aead::Algorithm>;
    /// Key lengths in octets.
    fn key_lens() -> &'static [usize];
    /// Prepares an SA.
    fn sa(key: &[u8]) -> Self::Sa;
    /// Starts a packet.
    fn start<'a>(sa: &'a Self::Sa, nonce: &[u8]) -> Self::Cipher<'a>;
}

pub struct ChaCha;

impl Suite for ChaCha {
    type Sa = [u32; 8];
    type Cipher<'a> = aead::ChaCha20Poly1305;

    fn ring(_: usize) -> Option<&'static ring::aead::Algorithm> {
        Some(&ring::aead::CHACHA20_POLY1305)
    }

    fn key_lens() -> &'static [usize] {
        &[32]
    }

    fn sa(key: &[u8]) -> [u32; 8] {
        words(key)
    }

    fn start(sa: &[u32; 8], nonce: &[u8]) -> aead::ChaCha20Poly1305 {
        let [salt, iv @ ..] = words::<3>(nonce);
        aead::ChaCha20Poly1305::new(sa, aead::nonce(salt, iv))
    }
}

pub struct Gcm;

impl Suite for Gcm {
    type Sa = aead::AesGcmKey;
    type Cipher<'a> = aead::AesGcm<'a>;

    fn ring(key_len: usize) -> Option<&'static ring::aead::Algorithm> {
        match key_len {
            16 => Some(&ring::aead::AES_128_GCM),
            32 => Some(&ring::aead::AES_256_GCM),
            _ => None,
        }
    }

    fn key_lens() -> &'static [usize] {
        &[16, 24, 32]
    }

    fn sa(key: &[u8]) -> aead::AesGcmKey {
        aead::AesGcmKey::new(key).unwrap()
    }

    fn start<'a>(sa: &'a aead::AesGcmKey, nonce: &[u8]) -> aead::AesGcm<'a> {
        let [salt, iv @ ..] = words::<3>(nonce);
        aead::AesGcm::new(sa, aead::nonce(salt, iv))
    }
}

/// Additional data of any length: blocks before the last go to the cipher directly, the last is left for the driver.
pub fn absorb<C: Cipher>(cipher: &mut C, octets: &[u8]) -> Aad {
    let mut block = [0u8; 16];
    let mut chunks = octets.chunks(16).peekable();
    while let Some(chunk) = chunks.next() {
        block = [0; 16];
        block[..chunk.len()].copy_from_slice(chunk);
        if chunks.peek().is_some() {
            // SAFETY: 16 octets of a local.
            unsafe { cipher.mac16(block.as_ptr().cast()) };
        }
    }
    Aad { block: Block16(words(&block)), len: octets.len() as u32 }
}

/// `shift` octets between destination and source, `head` octets before the destination.
pub fn seal_shifted<S: Suite>(
    sa: &S::Sa,
    nonce: &[u8],
    aad: &[u8],
    plain: &[u8],
    trailer: Option<u8>,
    head: usize,
    shift: usize,
) -> Result<Vec<u8>, Error> {
    const GUARD: u8 = 0xa5;
    let trailer_len = trailer.map_or(0, |_| trailer::trailer_len(plain.len() as u32, aead::ALIGN) as usize);
    let end = head + plain.len() + shift.max(trailer_len + 16);
    let mut packet = vec![GUARD; end];
    packet[head + shift..head + shift + plain.len()].copy_from_slice(plain);
    let mut cipher = S::start(sa, nonce);
    let aad = absorb(&mut cipher, aad);
    let message = Seal { src: (head + shift) as u32, dst: head as u32, len: plain.len() as u32, trailer, icv_len: 16 };
    // Left-overs of an earlier packet must not matter.
    let mut tail = Tail([0xdead_beef; 32]);
    let len = aead::seal(&mut cipher, &mut Buffer::new(&mut packet), &mut tail, &aad, &message)? as usize;
    assert_eq!(len, plain.len() + trailer_len);
    assert!(packet[..head].iter().all(|&b| b == GUARD), "wrote before the destination");
    let written = head + len + 16;
    let source_end = head + shift + plain.len();
    assert!(packet[written.max(source_end)..].iter().all(|&b| b == GUARD), "wrote behind the ICV");
    Ok(packet[head..written].to_vec())
}

/// Ciphertext and ICV of `plain`.
pub fn seal<S: Suite>(sa: &S::Sa, nonce: &[u8], aad: &[u8], plain: &[u8]) -> Vec<u8> {
    seal_shifted::<S>(sa, nonce, aad, plain, None, 0, 0).unwrap()
}

/// Opens `sealed` (with its ICV) at offset `head` of a packet. A refused packet is checked to be as it was.
pub fn open<S: Suite>(sa: &S::Sa, nonce: &[u8], aad: &[u8], sealed: &[u8], head: usize) -> Result<Vec<u8>, Error> {
    let mut packet = vec![0x5a; head];
    packet.extend_from_slice(sealed);
    let before = packet.clone();
    let len = sealed.len() - 16;
    let mut cipher = S::start(sa, nonce);
    let aad = absorb(&mut cipher, aad);
    let mut tail = Tail([0xdead_beef; 32]);
    let result = aead::open(&mut cipher, &mut Buffer::new(&mut packet), &mut tail, &aad, head as u32, len as u32, 16);
    match result {
        Ok(()) => {
            assert_eq!(packet[..head], before[..head]);
            assert_eq!(packet[head + len..], before[head + len..]);
            Ok(packet[head..head + len].to_vec())
        }
        Err(error) => {
            assert_eq!(packet, before, "a refused packet was changed");
            Err(error)
        }
    }
}

/// What `ring` makes of it.
pub fn ring_seal(
    algorithm: &'static ring::aead::Algorithm,
    key: &[u8],
    nonce: &[u8],
    aad: &[u8],
    plain: &[u8],
) -> Vec<u8> {
    use ring::aead::{Aad, LessSafeKey, Nonce, UnboundKey};
    let key = LessSafeKey::new(UnboundKey::new(algorithm, key).unwrap());
    let mut sealed = plain.to_vec();
    let nonce = Nonce::try_assume_unique_for_key(nonce).unwrap();
    key.seal_in_place_append_tag(nonce, Aad::from(aad), &mut sealed).unwrap();
    sealed
}

/// Payload with the ESP trailer as RFC 4303 section 2.4 says, written here a second time.
pub fn with_trailer(plain: &[u8], next_header: u8) -> Vec<u8> {
    let mut padded = plain.to_vec();
    let pad = (4 - (plain.len() + 2) % 4) % 4;
    padded.extend(1..=pad as u8);
    padded.extend([pad as u8, next_header]);
    padded
}
