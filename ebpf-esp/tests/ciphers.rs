//! Known answers of ciphers and their modes, through the functions that packets go through.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking, and its numbers are its own"
)]

mod support;

use ebpf_esp::crypto::blowfish::{self, Blowfish};
use ebpf_esp::crypto::des::{self, Des};
use ebpf_esp::crypto::transform::Direction;
use support::hex;
use support::known::{self, Message};
use support::sa::{block, known_answer};

fn known_answers(messages: &[Message], count: usize) {
    assert_eq!(messages.len(), count);
    for known in messages {
        known_answer((known.encryption, &known.key), &known.salt, &known.iv, &known.plain, &known.cipher);
    }
}

#[test]
fn alg_20_aes_cbc() {
    known_answers(&known::aes_cbc_of_rfc3602_4(), 4);
    known_answers(&known::aes_cbc_of_sp800_38a(), 3);
}

#[test]
fn alg_21_aes_ctr() {
    known_answers(&known::aes_ctr_of_rfc3686_6(), 9);
}

#[test]
fn des_and_triple_des() {
    known_answers(&known::des_of_sp800_17_table_4(), 20);
    known_answers(&known::triple_des_of_sp800_67_appendix_b(), 3);
}

#[test]
fn blowfish_of_eric_young() {
    known_answers(&known::blowfish_of_eric_young(), 34);
}

/// Key, plaintext and ciphertext of single blocks.
type Blocks<'a> = &'a [[&'a str; 3]];

fn des_blocks(vectors: Blocks<'_>) {
    for [key, plain, cipher] in vectors {
        let run = |direction, text: &str| {
            let mut schedule = [0; des::SCHEDULE_WORDS];
            des::schedule::expand_key(&hex(key).try_into().unwrap(), direction, &mut schedule);
            // SAFETY: a live local and the static tables.
            block(&unsafe { Des::new(&des::TABLES, &schedule) }, &hex(text))
        };
        assert_eq!(run(Direction::Encrypt, plain), hex(cipher), "key {key}");
        assert_eq!(run(Direction::Decrypt, cipher), hex(plain), "key {key}");
    }
}

/// ALG-33: the parity bits of a key have no influence.
#[test]
fn alg_33_des_parity_is_ignored() {
    des_blocks(&[["7da011444b1b6f56", "01a1d6d039776742", "690f5b0d9a26939b"]]);
}

fn blowfish_block(direction: Direction, key: &[u8], text: &[u8]) -> Vec<u8> {
    let mut state = [0; blowfish::STATE_WORDS];
    blowfish::expand_key(key, direction, &mut state).unwrap();
    // SAFETY: a live local.
    block(&unsafe { Blowfish::new(&state) }, text)
}

/// Eric Young's set: keys of 4 to 24 octets, and other lengths refused.
#[test]
fn blowfish_of_eric_young_key_lengths() {
    let key = hex("f0e1d2c3b4a5968778695a4b3c2d1e0f0011223344556677");
    let ciphers = hex("
        be1e639408640f05 b39e44481bdb1e6e 9457aa83b1928c0d 8bb77032f960629d e87a244e2cc85e82 15750e7a4f4ec577
        122ba70b3ab64ae0 3a833c9affc537f6 9409da87a90f6bf2 884f80625060b8b4 1f85031c19e11968 79d9373a714ca34f
        93142887ee3be15c 03429e838ce2d14b a4299e27469ff67b afd5aed1c1bc96a8 10851c0e3858da9f e6f51ed79b9db21f
        64a6e14afd36b46f 80c7d7d45a5479ad 05044b62fa52d080");
    for (len, cipher) in (4..=24).zip(ciphers.chunks(8)) {
        let plain = hex("fedcba9876543210");
        assert_eq!(blowfish_block(Direction::Encrypt, &key[..len], &plain), cipher, "key of {len}");
        assert_eq!(blowfish_block(Direction::Decrypt, &key[..len], cipher), plain, "key of {len}");
    }
    for len in (0..80).filter(|len| !(4..=56).contains(len)) {
        let mut state = [0; blowfish::STATE_WORDS];
        assert_eq!(blowfish::expand_key(&vec![1; len], Direction::Encrypt, &mut state), None);
        assert_eq!(blowfish::is_weak(&vec![1; len]), None);
    }
}

/// About one key in 33,000 makes an S-box with two equal entries. The first such numbers, as keys of 64 bits.
#[test]
fn alg_33_weak_blowfish_keys_are_found() {
    for number in [8222u64, 11919, 40982, 94535] {
        let key = number.to_be_bytes();
        assert_eq!(blowfish::is_weak(&key), Some(true), "{number}");
        let mut state = [0; blowfish::STATE_WORDS];
        blowfish::expand_key(&key, Direction::Encrypt, &mut state).unwrap();
        let distinct = |s: &[u32]| s.iter().collect::<std::collections::HashSet<_>>().len();
        assert!(state[18..].chunks(256).any(|s| distinct(s) < 256), "{number}");
        assert_eq!(blowfish::is_weak(&(number - 1).to_be_bytes()), Some(false));
    }
}
