//! Known answers of the RFCs and of the GCM specification for whole messages.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking, and its numbers are its own"
)]

mod support;

use ebpf_esp::crypto::aead::{Aad, nonce};
use support::{ChaCha, Gcm, Suite, hex, open, seal, seal_shifted};

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

const GCM_KEY: &str = "feffe9928665731c6d6a8f9467308308";
const GCM_PLAIN: &str = "
    d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72
    1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255";
const GCM_AAD: &str = "feedfacedeadbeeffeedfacedeadbeefabaddad2";
const GCM_NONCE: &str = "cafebabefacedbaddecaf888";

/// One length of key of the GCM specification's appendix B: nothing, a zero block, four blocks, and those cut to 60
/// octets with additional data.
fn gcm_specification(key_len: usize, tags: [&str; 4], zero_block: &str, blocks: &str) {
    let zero = Gcm::sa(&vec![0; key_len]);
    let key = Gcm::sa(&[hex(GCM_KEY), hex(GCM_KEY)].concat()[..key_len]);
    let (plain, nonce, aad) = (hex(GCM_PLAIN), hex(GCM_NONCE), hex(GCM_AAD));
    let empty: &[u8] = &[];
    let cases = [
        (&zero, &[0; 12][..], empty, empty, vec![]),
        (&zero, &[0; 12], empty, &[0; 16], hex(zero_block)),
        (&key, &nonce, empty, &plain, hex(blocks)),
        (&key, &nonce, &aad, &plain[..60], hex(blocks)[..60].to_vec()),
    ];
    for ((sa, nonce, aad, plain, cipher), tag) in cases.into_iter().zip(tags) {
        let expected = [cipher, hex(tag)].concat();
        assert_eq!(seal::<Gcm>(sa, nonce, aad, plain), expected);
        assert_eq!(open::<Gcm>(sa, nonce, aad, &expected, 0).unwrap(), plain);
    }
}

#[test]
fn aes_128_gcm_specification_cases_1_to_4() {
    gcm_specification(
        16,
        [
            "58e2fccefa7e3061367f1d57a4e7455a",
            "ab6e47d42cec13bdf53a67b21257bddf",
            "4d5c2af327cd64a62cf35abd2ba6fab4",
            "5bc94fbc3221a5db94fae95ae7121a47",
        ],
        "0388dace60b6a392f328c2b971b2fe78",
        "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e
         21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091473f5985",
    );
}

#[test]
fn aes_192_gcm_specification_cases_7_to_10() {
    gcm_specification(
        24,
        [
            "cd33b28ac773f74ba00ed1f312572435",
            "2ff58d80033927ab8ef4d4587514f0fb",
            "9924a7c8587336bfb118024db8674a14",
            "2519498e80f1478f37ba55bd6d27618c",
        ],
        "98e7247c07f0fe411c267e4384b0f600",
        "3980ca0b3c00e841eb06fac4872a2757859e1ceaa6efd984628593b40ca1e19c
         7d773d00c144c525ac619d18c84a3f4718e2448b2fe324d9ccda2710acade256",
    );
}

#[test]
fn aes_256_gcm_specification_cases_13_to_16() {
    gcm_specification(
        32,
        [
            "530f8afbc74536b9a963b4f1c4cb738b",
            "d0d1c8a799996bf0265b98b5d48ab919",
            "b094dac5d93471bdec1a502270e3cc6c",
            "76fc6ece0f4e1768cddf8853bb2d551b",
        ],
        "cea7403d4d606b6e074ec5d3baf39d18",
        "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa
         8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662898015ad",
    );
}

/// ALG-22, ESP-FMT-06: an ESP packet with extended sequence number of draft-mcgrew-gcm-test-01.
#[test]
fn alg_22_esp_packet_with_esn_of_draft_mcgrew_gcm_test() {
    let sa = Gcm::sa(&hex("4c80cdefbb5d10da906ac73c3613a634"));
    let salt_and_iv = hex("2e443b68 4956ed7e3b244cfe");
    let aad = hex("000043218765432100000000");
    let inner = hex("
        45000048699a000080114db7c0a80102c0a801010a9bf15638d3010000010000
        00000000045f736970045f756470037369700963796265726369747902646b00
        0021000101020201");
    let expected = hex("
        fecf537e729d5b07dc30df528dd22b768d1b98736696a6fd348509fa13ceac34
        cfa2436f14a3f3cf65925bf1f4a13c5d15b21e1884f5ff6247aeabb786b93bce
        61bc17d768fd9732459018148f6cbe722fd04796562dfdb4");
    let esp_aad = Aad::new(0x0000_4321, 0x8765_4321_0000_0000, true);
    assert_eq!(esp_aad.block.0.map(u32::to_ne_bytes).concat()[..12], aad);
    assert_eq!(seal::<Gcm>(&sa, &salt_and_iv, &aad, &inner), expected);
    assert_eq!(open::<Gcm>(&sa, &salt_and_iv, &aad, &expected, 0).unwrap(), inner);
}
