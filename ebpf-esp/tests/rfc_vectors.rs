//! Known answers of the RFCs and of the GCM specification for whole messages; they are in `support/vectors.rs`.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking, and its numbers are its own"
)]

mod support;

use ebpf_esp::crypto::aead::{Aad, nonce};
use support::vectors::{self, Aead, Vector};
use support::{ChaCha, Gcm, Suite, open, seal, seal_shifted};

fn seals_and_opens<S: Suite>(vector: &Vector) {
    let Vector { name, key, nonce, aad, plain, sealed, .. } = vector;
    let sa = S::sa(key);
    assert_eq!(seal::<S>(&sa, nonce, aad, plain), *sealed, "{name}");
    assert_eq!(open::<S>(&sa, nonce, aad, sealed, 0).unwrap(), *plain, "{name}");
    if let Some(len) = vector.payload {
        let next_header = plain.last().copied();
        for shift in [0, 16, 20, 36] {
            let made = seal_shifted::<S>(&sa, nonce, aad, &plain[..len], next_header, 16, shift).unwrap();
            assert_eq!(made, *sealed, "{name}, shift {shift}");
        }
    }
}

#[test]
fn every_vector() {
    let all = vectors::all();
    assert_eq!(all.len(), 15);
    for vector in all {
        match vector.aead {
            Aead::ChaCha20Poly1305 => seals_and_opens::<ChaCha>(&vector),
            Aead::AesGcm => seals_and_opens::<Gcm>(&vector),
        }
    }
}

/// ALG-25, ESP-FMT-01: the additional data and the nonce of RFC 7634 appendix A, as the data path makes them.
#[test]
fn alg_25_esp_packet_of_rfc7634_appendix_a() {
    let vector = vectors::rfc7634_appendix_a();
    let aad = Aad::new(0x0102_0304, 5, false);
    assert_eq!(aad.block.0.map(u32::to_ne_bytes).concat()[..8], vector.aad);
    let [salt, iv @ ..] = support::words::<3>(&vector.nonce);
    assert_eq!(nonce(salt, iv).map(u32::to_ne_bytes).concat(), vector.nonce);
    seals_and_opens::<ChaCha>(&vector);
}

/// ALG-22, ESP-FMT-06: the additional data of an ESP packet with extended sequence number.
#[test]
fn alg_22_esp_packet_with_esn_of_draft_mcgrew_gcm_test() {
    let vector = vectors::draft_mcgrew_gcm_test();
    let aad = Aad::new(0x0000_4321, 0x8765_4321_0000_0000, true);
    assert_eq!(aad.block.0.map(u32::to_ne_bytes).concat()[..12], vector.aad);
    seals_and_opens::<Gcm>(&vector);
}
