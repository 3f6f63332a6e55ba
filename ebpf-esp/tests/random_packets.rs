//! Random packets against `ring`: what is sealed, what is opened, and what must be refused.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking, and its numbers are its own"
)]

mod support;

use ebpf_esp::crypto::aead::{ALIGN, Error};
use ebpf_esp::crypto::trailer::trailer_len;
use support::{ChaCha, Gcm, Random, Suite, open, ring_seal, seal_shifted, with_trailer};

/// Packets that are compared with `ring`.
const PACKETS: usize = 10_000;

/// Every payload length 0..=1500 occurs with every length of key, and every shift 0..=64; then random ones. `ring` has
/// no AES-192: those packets are only opened again, the vectors cover that length.
fn packets<S: Suite>(seed: u64) {
    let mut random = Random(seed);
    let mut compared = 0;
    for i in 0.. {
        if compared == PACKETS {
            break;
        }
        let len = if i < 3 * 1501 { i % 1501 } else { random.below(1501) };
        let shift = i % 65;
        let head = random.below(64);
        let key_lens = S::key_lens();
        let key = random.bytes(key_lens[i % key_lens.len()]);
        let nonce = random.bytes(12);
        let aad_len = [8, 12][random.below(2)];
        let aad = random.bytes(aad_len);
        let plain = random.bytes(len);
        let next_header = random.next() as u8;
        let trailer = (i % 4 != 3).then_some(next_header);
        let message = if trailer.is_some() { with_trailer(&plain, next_header) } else { plain.clone() };

        let sa = S::sa(&key);
        let sealed = seal_shifted::<S>(&sa, &nonce, &aad, &plain, trailer, head, shift).unwrap();
        if trailer.is_some() {
            assert_eq!(sealed.len() as u32, len as u32 + trailer_len(len as u32, ALIGN) + 16);
        }
        if let Some(algorithm) = S::ring(key.len()) {
            assert_eq!(sealed, ring_seal(algorithm, &key, &nonce, &aad, &message), "packet {i}, {len} octets");
            compared += 1;
        }
        assert_eq!(open::<S>(&sa, &nonce, &aad, &sealed, head).as_ref(), Ok(&message), "packet {i}, {len} octets");

        // One flipped bit in each region; `open` itself asserts that a refused packet is untouched.
        let flip = |bytes: &[u8], bit: usize| {
            let mut forged = bytes.to_vec();
            forged[bit / 8] ^= 1 << (bit % 8);
            forged
        };
        if !message.is_empty() {
            let forged = flip(&sealed, random.below(8 * message.len()));
            assert_eq!(open::<S>(&sa, &nonce, &aad, &forged, head), Err(Error::Icv), "packet {i}: ciphertext");
        }
        let forged = flip(&sealed, 8 * message.len() + random.below(128));
        assert_eq!(open::<S>(&sa, &nonce, &aad, &forged, head), Err(Error::Icv), "packet {i}: ICV");
        let forged = flip(&aad, random.below(8 * aad.len()));
        assert_eq!(open::<S>(&sa, &nonce, &forged, &sealed, head), Err(Error::Icv), "packet {i}: AAD");
        let forged = flip(&nonce, random.below(96));
        assert_eq!(open::<S>(&sa, &forged, &aad, &sealed, head), Err(Error::Icv), "packet {i}: nonce");
        let forged = S::sa(&flip(&key, random.below(8 * key.len())));
        assert_eq!(open::<S>(&forged, &nonce, &aad, &sealed, head), Err(Error::Icv), "packet {i}: key");
    }
}

/// Every bit of one packet: ESP-IN-10.
fn every_bit<S: Suite>(key_len: usize) {
    let mut random = Random(7);
    let sa = S::sa(&random.bytes(key_len));
    let (nonce, aad, plain) = (random.bytes(12), random.bytes(8), random.bytes(131));
    let sealed = seal_shifted::<S>(&sa, &nonce, &aad, &plain, Some(6), 0, 20).unwrap();
    for bit in 0..8 * sealed.len() {
        let mut forged = sealed.clone();
        forged[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(open::<S>(&sa, &nonce, &aad, &forged, 8), Err(Error::Icv), "bit {bit}");
    }
}

/// A packet without room for the ICV, a payload that does not lie in the packet, and a destination behind the source
/// are refused.
fn bounds<S: Suite>(key_len: usize) {
    use ebpf_esp::crypto::aead::{Aad, Buffer, Seal, Tail, open, seal};
    let sa = S::sa(&vec![1; key_len]);
    let aad = Aad::new(1, 1, false);
    let mut tail = Tail::ZERO;
    let mut packet = [0u8; 200];
    let mut try_seal = |src, dst, len| {
        let message = Seal { src, dst, len, trailer: Some(4), icv_len: 16 };
        seal(&mut S::start(&sa, &[2; 12]), &mut Buffer::new(&mut packet), &mut tail, &aad, &message)
    };
    assert_eq!(try_seal(0, 0, 182), Ok(184));
    assert_eq!(try_seal(0, 0, 183), Err(Error::Bounds));
    assert_eq!(try_seal(20, 0, 180), Ok(184));
    assert_eq!(try_seal(20, 0, 181), Err(Error::Bounds));
    assert_eq!(try_seal(0, 1, 64), Err(Error::Bounds));
    assert_eq!(try_seal(0, 0, 70_000), Err(Error::Bounds));
    let mut packet = [0u8; 200];
    let mut try_open = |offset, len| {
        open(&mut S::start(&sa, &[2; 12]), &mut Buffer::new(&mut packet), &mut tail, &aad, offset, len, 16)
    };
    assert_eq!(try_open(0, 184), Err(Error::Icv));
    assert_eq!(try_open(0, 185), Err(Error::Bounds));
    assert_eq!(try_open(1, 184), Err(Error::Bounds));
    assert_eq!(try_open(0, 70_000), Err(Error::TooLong));
    assert_eq!(packet, [0; 200]);
}

#[test]
fn alg_25_chacha20_poly1305_equals_ring_and_refuses_forgeries() {
    packets::<ChaCha>(25);
}

#[test]
fn esp_in_10_chacha20_poly1305_refuses_every_flipped_bit() {
    every_bit::<ChaCha>(32);
}

#[test]
fn chacha20_poly1305_stays_in_the_packet() {
    bounds::<ChaCha>(32);
}

#[test]
fn alg_22_aes_gcm_equals_ring_and_refuses_forgeries() {
    packets::<Gcm>(22);
}

#[test]
fn esp_in_10_aes_gcm_refuses_every_flipped_bit() {
    every_bit::<Gcm>(16);
    every_bit::<Gcm>(24);
    every_bit::<Gcm>(32);
}

#[test]
fn aes_gcm_stays_in_the_packet() {
    bounds::<Gcm>(16);
}

/// More than 256 counter blocks: the part of the counter that a packet never reaches.
#[test]
fn alg_22_aes_gcm_of_a_message_of_9000_octets() {
    let mut random = Random(9000);
    for key_len in [16, 32] {
        let key = random.bytes(key_len);
        let (nonce, aad, plain) = (random.bytes(12), random.bytes(12), random.bytes(9000));
        let sa = Gcm::sa(&key);
        let sealed = seal_shifted::<Gcm>(&sa, &nonce, &aad, &plain, None, 0, 0).unwrap();
        assert_eq!(sealed, ring_seal(Gcm::ring(key_len).unwrap(), &key, &nonce, &aad, &plain));
        assert_eq!(open::<Gcm>(&sa, &nonce, &aad, &sealed, 0), Ok(plain));
    }
}
