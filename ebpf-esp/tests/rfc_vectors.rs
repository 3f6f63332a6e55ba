//! Known answers of the RFCs and of the GCM specification for whole messages.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking, and its numbers are its own"
)]

mod support;

use ebpf_esp::crypto::aead::{Aad, nonce};
use support::{ChaCha, Suite, hex, open, seal, seal_shifted};

#[test]
fn chacha20_poly1305_of_rfc8439_2_8_2() {
    let key = hex("808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f");
    let nonce = hex("070000004041424344454647");
    let aad = hex("50515253c0c1c2c3c4c5c6c7");
    let plain =
        b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen \
        would be it.";
    let expected = hex("
        d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d63dbea45e8ca9671282fafb69da92728b1a71de0a9e060b29
        05d6a5b67ecd3b3692ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc3ff4def08e4b7a9de576d26586cec64b
        6116 1ae10b594f09e26a7e902ecbd0600691");
    let sa = ChaCha::sa(&key);
    assert_eq!(seal::<ChaCha>(&sa, &nonce, &aad, plain), expected);
    assert_eq!(open::<ChaCha>(&sa, &nonce, &aad, &expected, 0).unwrap(), plain);
}

/// ALG-25, ESP-FMT-01: the whole ESP packet of RFC 7634 appendix A, through the functions the data path uses.
#[test]
fn alg_25_esp_packet_of_rfc7634_appendix_a() {
    let key = hex("808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f");
    let salt_and_iv = hex("a0a1a2a3 1011121314151617");
    let inner = hex("
        45000054a6f200004001e778c6336405c000020508005b7a3a080000553bec10
        0007362708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20212223
        2425262728292a2b2c2d2e2f3031323334353637");
    let expected = hex("
        24039428b97f417e3c13753a4f05087b67c352e6a7fab1b982d466ef407ae5c6
        14ee8099d52844eb61aa95dfab4c02f72aa71e7c4c4f64c9befe2facc638e8f3
        cbec163fac469b502773f6fb94e664da9165b82829f641e0
        76aaa8266b7fb0f7b11b369907e1ad43");
    let aad = hex("01020304 00000005");
    let esp_aad = Aad::new(0x0102_0304, 5, false);
    assert_eq!(esp_aad.block.0.map(u32::to_ne_bytes).concat()[..8], aad);
    let [salt, iv @ ..] = support::words::<3>(&salt_and_iv);
    assert_eq!(nonce(salt, iv).map(u32::to_ne_bytes).concat(), salt_and_iv);

    let sa = ChaCha::sa(&key);
    for shift in [0, 16, 20, 36] {
        let sealed = seal_shifted::<ChaCha>(&sa, &salt_and_iv, &aad, &inner, Some(4), 16, shift).unwrap();
        assert_eq!(sealed, expected, "shift {shift}");
    }
    let opened = open::<ChaCha>(&sa, &salt_and_iv, &aad, &expected, 16).unwrap();
    assert_eq!(opened[..84], inner);
    assert_eq!(opened[84..], [1, 2, 2, 4]);
}
