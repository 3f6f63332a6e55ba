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
use ebpf_esp::crypto::transform::{Direction, Encryption};
use support::hex;
use support::sa::{block, known_answer};

fn counting(from: u8, len: u8) -> Vec<u8> {
    (from..from + len).collect()
}

/// ALG-20: RFC 3602 section 4, cases 1 to 4.
#[test]
fn alg_20_aes_cbc_of_rfc3602_4() {
    for (key, iv, plain, cipher) in [
        (
            "06a9214036b8a15b512e03d534120006",
            "3dafba429d9eb430b422da802c9fac41",
            b"Single block msg".to_vec(),
            "e353779c1079aeb82708942dbe77181a",
        ),
        (
            "c286696d887c9aa0611bbb3e2025a45a",
            "562e17996d093d28ddb3ba695a2e6f58",
            counting(0, 32),
            "d296cd94c2cccf8a3a863028b5e1dc0a7586602d253cfff91b8266bea6d61ab1",
        ),
        (
            "6c3ea0477630ce21a2ce334aa746c2cd",
            "c782dc4c098c66cbd9cd27d825682c81",
            b"This is a 48-byte message (exactly 3 AES blocks)".to_vec(),
            "d0a02b3836451753d493665d33f0e8862dea54cdb293abc7506939276772f8d5
             021c19216bad525c8579695d83ba2684",
        ),
        (
            "56e47a38c5598974bc46903dba290349",
            "8ce82eefbea0da3c44699ed7db51b7d9",
            counting(0xa0, 64),
            "c30e32ffedc0774e6aff6af0869f71aa0f3af07a9a31a9c684db207eb0ef8e4e
             35907aa632c3ffdf868bb7b29d3d46ad83ce9f9a102ee99d49a53e87f4c3da55",
        ),
    ] {
        known_answer((Encryption::AesCbc, &hex(key)), &[], &hex(iv), &plain, &hex(cipher));
    }
}

/// ALG-20: SP 800-38A appendix F.2, all three lengths of key.
#[test]
fn alg_20_aes_cbc_of_sp800_38a() {
    let plain = hex("6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51
        30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710");
    for (key, cipher) in [
        (
            "2b7e151628aed2a6abf7158809cf4f3c",
            "7649abac8119b246cee98e9b12e9197d5086cb9b507219ee95db113a917678b2
             73bed6b8e3c1743b7116e69e222295163ff1caa1681fac09120eca307586e1a7",
        ),
        (
            "8e73b0f7da0e6452c810f32b809079e562f8ead2522c6b7b",
            "4f021db243bc633d7178183a9fa071e8b4d9ada9ad7dedf4e5e738763f69145a
             571b242012fb7ae07fa9baac3df102e008b0e27988598881d920a9e64f5615cd",
        ),
        (
            "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4",
            "f58c4c04d6e5f1ba779eabfb5f7bfbd69cfc4e967edb808d679f777bc6702c7d
             39f23369a9d9bacfa530e26304231461b2eb05e2c39be9fcda6c19078c6a9d1b",
        ),
    ] {
        known_answer((Encryption::AesCbc, &hex(key)), &[], &counting(0, 16), &plain, &hex(cipher));
    }
}

/// ALG-21: RFC 3686 section 6, all nine vectors: key, nonce, IV, ciphertext.
#[test]
fn alg_21_aes_ctr_of_rfc3686_6() {
    let plains = [b"Single block msg".to_vec(), counting(0, 32), counting(0, 36)];
    for (i, (key, nonce, iv, cipher)) in [
        ("ae6852f8121067cc4bf7a5765577f39e", "00000030", "0000000000000000", "e4095d4fb7a7b3792d6175a3261311b8"),
        (
            "7e24067817fae0d743d6ce1f32539163",
            "006cb6db",
            "c0543b59da48d90b",
            "5104a106168a72d9790d41ee8edad388eb2e1efc46da57c8fce630df9141be28",
        ),
        (
            "7691be035e5020a8ac6e618529f9a0dc",
            "00e0017b",
            "27777f3f4a1786f0",
            "c1cf48a89f2ffdd9cf4652e9efdb72d74540a42bde6d7836d59a5ceaaef3105325b2072f",
        ),
        (
            "16af5b145fc9f579c175f93e3bfb0eed863d06ccfdb78515",
            "00000048",
            "36733c147d6d93cb",
            "4b55384fe259c9c84e7935a003cbe928",
        ),
        (
            "7c5cb2401b3dc33c19e7340819e0f69c678c3db8e6f6a91a",
            "0096b03b",
            "020c6eadc2cb500d",
            "453243fc609b23327edfaafa7131cd9f8490701c5ad4a79cfc1fe0ff42f4fb00",
        ),
        (
            "02bf391ee8ecb159b959617b0965279bf59b60a786d3e0fe",
            "0007bdfd",
            "5cbd60278dcc0912",
            "96893fc55e5c722f540b7dd1ddf7e758d288bc95c69165884536c811662f2188abee0935",
        ),
        (
            "776beff2851db06f4c8a0542c8696f6c6a81af1eec96b4d37fc1d689e6c1c104",
            "00000060",
            "db5672c97aa8f0b2",
            "145ad01dbf824ec7560863dc71e3e0c0",
        ),
        (
            "f6d66d6bd52d59bb0796365879eff886c66dd51a5b6a99744b50590c87a23884",
            "00faac24",
            "c1585ef15a43d875",
            "f05e231b3894612c49ee000b804eb2a9b8306b508f839d6a5530831d9344af1c",
        ),
        (
            "ff7a617ce69148e4f1726e2f43581de2aa62d9f805532edff1eed687fb54153d",
            "001cc5b7",
            "51a51d70a1c11148",
            "eb6c52821d0bbbf7ce7594462aca4faab407df866569fd07f48cc0b583d6071f1ec0e6b8",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        known_answer((Encryption::AesCtr, &hex(key)), &hex(nonce), &hex(iv), &plains[i % 3], &hex(cipher));
    }
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

/// The S-box test of SP 800-17 table 4, which meets every entry of every S-box.
#[test]
fn des_of_sp800_17_table_4() {
    des_blocks(&[
        ["7ca110454a1a6e57", "01a1d6d039776742", "690f5b0d9a26939b"],
        ["0131d9619dc1376e", "5cd54ca83def57da", "7a389d10354bd271"],
        ["07a1133e4a0b2686", "0248d43806f67172", "868ebb51cab4599a"],
        ["3849674c2602319e", "51454b582ddf440a", "7178876e01f19b2a"],
        ["04b915ba43feb5b6", "42fd443059577fa2", "af37fb421f8c4095"],
        ["0113b970fd34f2ce", "059b5e0851cf143a", "86a560f10ec6d85b"],
        ["0170f175468fb5e6", "0756d8e0774761d2", "0cd3da020021dc09"],
        ["43297fad38e373fe", "762514b829bf486a", "ea676b2cb7db2b7a"],
        ["07a7137045da2a16", "3bdd119049372802", "dfd64a815caf1a0f"],
        ["04689104c2fd3b2f", "26955f6835af609a", "5c513c9c4886c088"],
        ["37d06bb516cb7546", "164d5e404f275232", "0a2aeeae3ff4ab77"],
        ["1f08260d1ac2465e", "6b056e18759f5cca", "ef1bf03e5dfa575a"],
        ["584023641aba6176", "004bd6ef09176062", "88bf0db6d70dee56"],
        ["025816164629b007", "480d39006ee762f2", "a1f9915541020b56"],
        ["49793ebc79b3258f", "437540c8698f3cfa", "6fbf1cafcffd0556"],
        ["4fb05e1515ab73a7", "072d43a077075292", "2f22e49bab7ca1ac"],
        ["49e95d6d4ca229bf", "02fe55778117f12a", "5a6b612cc26cce4a"],
        ["018310dc409b26d6", "1d9d5c5018f728c2", "5f4c038ed12b2e41"],
        ["1c587f1c13924fef", "305532286d6f295a", "63fac0d034d9f793"],
        ["133457799bbcdff1", "0123456789abcdef", "85e813540f0ab405"],
    ]);
}

/// ALG-33: the parity bits of a key have no influence.
#[test]
fn alg_33_des_parity_is_ignored() {
    des_blocks(&[["7da011444b1b6f56", "01a1d6d039776742", "690f5b0d9a26939b"]]);
}

/// SP 800-67 appendix B: three blocks, each alone (as CBC does with an IV of zeros for the first).
#[test]
fn triple_des_of_sp800_67_appendix_b() {
    let key = hex("0123456789abcdef 23456789abcdef01 456789abcdef0123");
    let cipher = hex("a826fd8ce53b855f cce21c8112256fe6 68d5c05dd9b6b900");
    for (plain, cipher) in b"The qufck brown fox jump".chunks(8).zip(cipher.chunks(8)) {
        known_answer((Encryption::TripleDesCbc, &key), &[], &[0; 8], plain, cipher);
    }
}

fn blowfish_block(direction: Direction, key: &[u8], text: &[u8]) -> Vec<u8> {
    let mut state = [0; blowfish::STATE_WORDS];
    blowfish::expand_key(key, direction, &mut state).unwrap();
    // SAFETY: a live local.
    block(&unsafe { Blowfish::new(&state) }, text)
}

/// Eric Young's set: single blocks under keys of 64 bits.
#[test]
fn blowfish_of_eric_young_blocks() {
    for [key, plain, cipher] in [
        ["0000000000000000", "0000000000000000", "4ef997456198dd78"],
        ["ffffffffffffffff", "ffffffffffffffff", "51866fd5b85ecb8a"],
        ["3000000000000000", "1000000000000001", "7d856f9a613063f2"],
        ["1111111111111111", "1111111111111111", "2466dd878b963c9d"],
        ["0123456789abcdef", "1111111111111111", "61f9c3802281b096"],
        ["1111111111111111", "0123456789abcdef", "7d0cc630afda1ec7"],
        ["fedcba9876543210", "0123456789abcdef", "0aceab0fc6a0a28d"],
        ["7ca110454a1a6e57", "01a1d6d039776742", "59c68245eb05282b"],
        ["0131d9619dc1376e", "5cd54ca83def57da", "b1b8cc0b250f09a0"],
        ["07a1133e4a0b2686", "0248d43806f67172", "1730e5778bea1da4"],
        ["3849674c2602319e", "51454b582ddf440a", "a25e7856cf2651eb"],
        ["04b915ba43feb5b6", "42fd443059577fa2", "353882b109ce8f1a"],
        ["0113b970fd34f2ce", "059b5e0851cf143a", "48f4d0884c379918"],
        ["0170f175468fb5e6", "0756d8e0774761d2", "432193b78951fc98"],
        ["43297fad38e373fe", "762514b829bf486a", "13f04154d69d1ae5"],
        ["07a7137045da2a16", "3bdd119049372802", "2eedda93ffd39c79"],
        ["04689104c2fd3b2f", "26955f6835af609a", "d887e0393c2da6e3"],
        ["37d06bb516cb7546", "164d5e404f275232", "5f99d04f5b163969"],
        ["1f08260d1ac2465e", "6b056e18759f5cca", "4a057a3b24d3977b"],
        ["584023641aba6176", "004bd6ef09176062", "452031c1e4fada8e"],
        ["025816164629b007", "480d39006ee762f2", "7555ae39f59b87bd"],
        ["49793ebc79b3258f", "437540c8698f3cfa", "53c55f9cb49fc019"],
        ["4fb05e1515ab73a7", "072d43a077075292", "7a8e7bfa937e89a3"],
        ["49e95d6d4ca229bf", "02fe55778117f12a", "cf9c5d7a4986adb5"],
        ["018310dc409b26d6", "1d9d5c5018f728c2", "d1abb290658bc778"],
        ["1c587f1c13924fef", "305532286d6f295a", "55cb3774d13ef201"],
        ["0101010101010101", "0123456789abcdef", "fa34ec4847b268b2"],
        ["1f1f1f1f0e0e0e0e", "0123456789abcdef", "a790795108ea3cae"],
        ["e0fee0fef1fef1fe", "0123456789abcdef", "c39e072d9fac631d"],
        ["0000000000000000", "ffffffffffffffff", "014933e0cdaff6e4"],
        ["ffffffffffffffff", "0000000000000000", "f21e9a77b71c49bc"],
        ["0123456789abcdef", "0000000000000000", "245946885754369a"],
        ["fedcba9876543210", "ffffffffffffffff", "6b5c5a9c5d9e0a5a"],
    ] {
        assert_eq!(blowfish_block(Direction::Encrypt, &hex(key), &hex(plain)), hex(cipher), "key {key}");
        assert_eq!(blowfish_block(Direction::Decrypt, &hex(key), &hex(cipher)), hex(plain), "key {key}");
    }
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

/// Eric Young's set: the message in CBC, zeros behind its end.
#[test]
fn blowfish_of_eric_young_cbc() {
    known_answer(
        (Encryption::BlowfishCbc, &hex("0123456789abcdeff0e1d2c3b4a59687")),
        &[],
        &hex("fedcba9876543210"),
        b"7654321 Now is the time for \0\0\0\0",
        &hex("6b77b4d63006dee605b156e27403979358deb9e7154616d959f1652bd5ff92cc"),
    );
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
