//! Random packets of every pair of transforms against the RustCrypto crates: what is sealed, what is opened, what is
//! refused.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking, and its numbers are its own"
)]

// Not a part of `support`, which others use that lack those crates.
#[path = "support/reference.rs"]
mod reference;
mod support;

use ebpf_esp::crypto::suite::{Error, Opened, authenticate};
use ebpf_esp::crypto::transform::{Authentication, Direction, Encryption};
use reference::Keys;
use support::Random;

use support::sa::Sa;

/// Packets that are compared for each encryption.
const PACKETS: usize = 10_000;

const AUTHENTICATIONS: [Authentication; 7] = [
    Authentication::HmacMd5,
    Authentication::HmacSha1,
    Authentication::HmacSha256,
    Authentication::HmacSha384,
    Authentication::HmacSha512,
    Authentication::AesXcbc,
    Authentication::AesCmac,
];

/// Keys, salt and ICV length of the `i`th SA.
fn keys(random: &mut Random, i: usize, encryption: Encryption) -> Keys {
    let key_len = match encryption {
        Encryption::Null => 0,
        Encryption::DesCbc => 8,
        Encryption::TripleDesCbc => 24,
        Encryption::BlowfishCbc => 4 + i % 53,
        Encryption::ChaCha20Poly1305 => 32,
        _ => [16, 24, 32][i % 3],
    };
    let mut authentication = AUTHENTICATIONS[i % 7];
    if encryption.is_aead() {
        authentication = Authentication::None;
    } else if encryption == Encryption::TripleDesCbc {
        authentication = AUTHENTICATIONS[i % 5];
    }
    let icv_len = match encryption {
        Encryption::AesGcm | Encryption::AesCcm => [8, 12, 16][i / 3 % 3],
        Encryption::AesGmac | Encryption::ChaCha20Poly1305 => 16,
        _ => authentication.icv_len() as usize,
    };
    Keys {
        encryption,
        authentication,
        key: random.bytes(key_len),
        salt: random.bytes(encryption.salt_len() as usize),
        auth_key: random.bytes(authentication.key_len()),
        icv_len,
        spi: random.next() as u32,
        esn: random.below(2) == 1,
    }
}

fn end(keys: &Keys, direction: Direction) -> Sa {
    let auth = (keys.authentication, &keys.auth_key[..]);
    Sa::new(direction, (keys.encryption, &keys.key), &keys.salt, auth)
        .with_spi(keys.spi, keys.esn)
        .with_icv_len(keys.icv_len as u32)
}

/// Every payload length 0..=1500 occurs, then random ones.
fn packets(encryption: Encryption) {
    let mut random = Random(encryption as u64 + 4303);
    for i in 0..PACKETS {
        let keys = keys(&mut random, i, encryption);
        let len = if i <= 1500 { i } else { random.below(1501) };
        let payload = random.bytes(len);
        let iv = random.bytes(encryption.iv_len() as usize);
        let (seq, next_header) = (random.next(), random.next() as u8);
        let seq_high = (seq >> 32) as u32;
        let (out, inbound) = (end(&keys, Direction::Encrypt), end(&keys, Direction::Decrypt));

        let number = random.next();
        assert_eq!(out.suite().iv(number).unwrap().as_ref(), keys.iv(number), "the IV of {number}");
        let sealed = out.seal(&payload, seq, &iv, next_header);
        let what = format!("packet {i}, {len} octets, {:?}, ICV {}", keys.authentication, keys.icv_len);
        assert_eq!(sealed, keys.seal(&payload, seq, &iv, next_header), "{what}");
        let mut packet = sealed.clone();
        let front = inbound.suite().front();
        let opened = inbound.suite().open(&mut packet, seq_high);
        assert_eq!(opened, Ok(Opened { payload: front..front + len, next_header }), "{what}");
        assert_eq!(packet[front..front + len], payload, "{what}");

        // One flipped bit behind the SPI, which the additional data of an AEAD takes from the SA.
        let mut forged = sealed.clone();
        let bit = 32 + random.below(8 * (sealed.len() - 4));
        forged[bit / 8] ^= 1 << (bit % 8);
        packet.clone_from(&forged);
        assert_eq!(inbound.suite().open(&mut packet, seq_high), Err(Error::Icv), "{what}, bit {bit}");
        assert_eq!(packet, forged, "{what}: a refused packet was changed");
        // The high half of the sequence number counts with ESN only.
        packet.clone_from(&sealed);
        let other = inbound.suite().open(&mut packet, seq_high ^ 1 << random.below(32));
        assert_eq!(other, if keys.esn { Err(Error::Icv) } else { opened }, "{what}");
    }
}

macro_rules! encryptions {
    ($($name:ident: $encryption:ident,)*) => {
        $(
            #[test]
            fn $name() {
                packets(Encryption::$encryption);
            }
        )*
    };
}

// ALG-26, ALG-27, ALG-28, ESP-FMT-06 and ESP-IN-10 are in each of those that authenticate separately.
encryptions! {
    null: Null,
    des_cbc: DesCbc,
    triple_des_cbc: TripleDesCbc,
    blowfish_cbc: BlowfishCbc,
    alg_20_aes_cbc: AesCbc,
    alg_21_aes_ctr: AesCtr,
    alg_22_aes_gcm: AesGcm,
    alg_23_aes_ccm: AesCcm,
    alg_24_aes_gmac: AesGmac,
    alg_25_chacha20_poly1305: ChaCha20Poly1305,
}

/// ESP-IN-10: every bit of one packet of each pair, also those of the SPI where they count.
#[test]
fn esp_in_10_every_flipped_bit_is_refused() {
    let mut random = Random(10);
    for (encryption, sas) in [
        (Encryption::Null, 7),
        (Encryption::AesCbc, 7),
        (Encryption::TripleDesCbc, 5),
        (Encryption::AesCtr, 7),
        (Encryption::AesGcm, 9),
        (Encryption::AesCcm, 9),
        (Encryption::AesGmac, 3),
        (Encryption::ChaCha20Poly1305, 1),
    ] {
        for i in 0..sas {
            let keys = keys(&mut random, i, encryption);
            let (out, inbound) = (end(&keys, Direction::Encrypt), end(&keys, Direction::Decrypt));
            let (payload, iv) = (random.bytes(61), random.bytes(encryption.iv_len() as usize));
            let sealed = out.seal(&payload, 7, &iv, 6);
            let from_sa = matches!(encryption, Encryption::AesGcm | Encryption::AesCcm | Encryption::ChaCha20Poly1305);
            for bit in if from_sa { 32 } else { 0 }..8 * sealed.len() {
                let mut forged = sealed.clone();
                forged[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(inbound.suite().open(&mut forged, 0), Err(Error::Icv), "{encryption:?}, bit {bit}");
            }
        }
    }
}

/// AH authenticates any number of octets, where ESP has multiples of four only: each length around the ends of blocks.
#[test]
fn ah_authenticators_of_every_length() {
    let mut random = Random(4302);
    for i in 0..AUTHENTICATIONS.len() {
        let keys = keys(&mut random, i, Encryption::Null);
        let sa = end(&keys, Direction::Encrypt);
        for len in 0..=300 {
            let message = random.bytes(len);
            let mac = authenticate(keys.authentication, sa.suite().keys, &[&message]);
            assert_eq!(mac[..keys.icv_len], keys.mac(&message), "{:?}, {len} octets", keys.authentication);
        }
    }
}

/// Packets with more than 256 blocks of key stream, which counter modes must count past.
#[test]
fn messages_of_9000_octets() {
    let mut random = Random(9000);
    for encryption in [
        Encryption::AesCbc,
        Encryption::AesCtr,
        Encryption::AesCcm,
        Encryption::AesGcm,
        Encryption::AesGmac,
        Encryption::ChaCha20Poly1305,
    ] {
        for i in 0..9 {
            let keys = keys(&mut random, i, encryption);
            let (payload, iv) = (random.bytes(9000), random.bytes(encryption.iv_len() as usize));
            let sealed = end(&keys, Direction::Encrypt).seal(&payload, 1, &iv, 6);
            assert_eq!(sealed, keys.seal(&payload, 1, &iv, 6), "{encryption:?}");
            let mut packet = sealed;
            let inbound = end(&keys, Direction::Decrypt);
            let opened = inbound.suite().open(&mut packet, 0).unwrap();
            assert_eq!(packet[opened.payload], payload);
        }
    }
}

/// A packet that does not fit is refused, and nothing behind it is touched.
#[test]
fn packets_stay_in_their_memory() {
    let mut random = Random(1);
    for encryption in
        [Encryption::Null, Encryption::AesCbc, Encryption::AesGcm, Encryption::AesCcm, Encryption::AesGmac]
    {
        let keys = keys(&mut random, 2, encryption);
        let out = end(&keys, Direction::Encrypt);
        let iv = random.bytes(encryption.iv_len() as usize);
        let total = out.suite().front() + 100 + out.suite().back(100);
        let mut packet = vec![0xa5; total + 50];
        assert_eq!(out.suite().seal(&mut packet, 100, 1, &iv, 6), Ok(total));
        assert!(packet[total..].iter().all(|octet| *octet == 0xa5));
        packet.truncate(total - 1);
        assert_eq!(out.suite().seal(&mut packet, 100, 1, &iv, 6), Err(Error::Bounds));
        assert_eq!(out.suite().seal(&mut packet, usize::MAX, 1, &iv, 6), Err(Error::Bounds));
        assert_eq!(out.suite().seal(&mut packet, 10, 1, &[0; 5], 6), Err(Error::Suite));
    }
}
