//! Known answers of the authenticators, from the states and schedules that an SA keeps.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking, and its numbers are its own"
)]

mod support;

use ebpf_esp::crypto::hash::{Hash, Md5, Sha1, Sha256, Sha384, Sha512};
use ebpf_esp::crypto::hmac::{Mac, expand_key};
use ebpf_esp::crypto::material::KeyArea;
use ebpf_esp::crypto::suite::authenticate;
use ebpf_esp::crypto::transform::{Authentication, Direction, Encryption};
use support::{hex, known};

fn hmac<H: Hash>(key: &[u8], message: &[u8]) -> Vec<u8> {
    let key = expand_key::<H>(key);
    let mut mac = Mac::new(&key);
    mac.update(message);
    mac.finish(&key)[..4 * H::DIGEST_WORDS as usize].to_vec()
}

/// What an SA with this authenticator puts into a packet.
fn icv(authentication: Authentication, key: &[u8], message: &[u8]) -> Vec<u8> {
    let mut keys = KeyArea::ZERO;
    keys.install(Direction::Encrypt, (Encryption::Null, &[]), (authentication, key)).unwrap();
    authenticate(authentication, &keys, &[message])[..authentication.icv_len() as usize].to_vec()
}

const LONG_KEY: &[u8] = b"Test Using Larger Than Block-Size Key - Hash Key First";

/// RFC 2202, all cases.
#[test]
fn alg_26_hmac_md5_and_sha1_of_rfc2202() {
    for known in known::digests_of_rfc2202() {
        let found = match known.authentication {
            Authentication::HmacMd5 => hmac::<Md5>(&known.key, &known.message),
            _ => hmac::<Sha1>(&known.key, &known.message),
        };
        assert_eq!(found, known.digest, "{:?}", known.authentication);
    }
    // The truncation of RFC 2403 and RFC 2404, which RFC 2202 gives for case 5.
    let truncated = |authentication, key: &[u8]| icv(authentication, key, b"Test With Truncation");
    assert_eq!(truncated(Authentication::HmacMd5, &[0x0c; 16]), hex("56461ef2342edc00f9bab995"));
    assert_eq!(truncated(Authentication::HmacSha1, &[0x0c; 20]), hex("4c1a03424b55e07fe7f27be1"));
}

/// RFC 4231 sections 4.2, 4.3, 4.7 and 4.8: short keys, and keys longer than a block.
#[test]
fn alg_27_hmac_sha2_of_rfc4231() {
    let nothing = &b"what do ya want for nothing?"[..];
    for (key, message, sha256, sha384, sha512) in [
        (
            &[0x0b; 20][..],
            &b"Hi There"[..],
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
            "afd03944d84895626b0825f4ab46907f15f9dadbe4101ec682aa034c7cebc59c
             faea9ea9076ede7f4af152e8b2fa9cb6",
            "87aa7cdea5ef619d4ff0b4241a1d6cb02379f4e2ce4ec2787ad0b30545e17cde
             daa833b7d6b8a702038b274eaea3f4e4be9d914eeb61f1702e696c203a126854",
        ),
        (
            b"Jefe",
            nothing,
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
            "af45d2e376484031617f78d2b58a6b1b9c7ef464f5a01b47e42ec3736322445e
             8e2240ca5e69e2c78b3239ecfab21649",
            "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea250554
             9758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737",
        ),
        (
            &[0xaa; 131],
            LONG_KEY,
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
            "4ece084485813e9088d2c63a041bc5b44f9ef1012a2b588f3cd11f05033ac4c6
             0c2ef6ab4030fe8296248df163f44952",
            "80b24263c7c1a3ebb71493c1dd7be8b49b46d1f41b4aeec1121b013783f8f352
             6b56d037e05f2598bd0fd2215d6a1e5295e64f73f63f0aec8b915a985d786598",
        ),
    ] {
        assert_eq!(hmac::<Sha256>(key, message), hex(sha256));
        assert_eq!(hmac::<Sha384>(key, message), hex(sha384));
        assert_eq!(hmac::<Sha512>(key, message), hex(sha512));
    }
}

/// RFC 4868 section 2.7.2: keys as long as the digest, ICVs of half of it.
#[test]
fn alg_27_hmac_sha2_of_rfc4868_2_7_2() {
    for known in known::icvs_of_rfc4868_2_7_2() {
        assert_eq!(icv(known.authentication, &known.key, &known.message), known.digest, "{:?}", known.authentication);
    }
}

/// RFC 3566 section 4, cut to 12 octets as an ICV is.
#[test]
fn alg_28_aes_xcbc_of_rfc3566_4() {
    let key: Vec<u8> = (0..16).collect();
    let counting: Vec<u8> = (0..34).collect();
    for (message, expected) in [
        (&counting[..0], "75f0251d528ac01c4573dfd584d79f29"),
        (&counting[..3], "5b376580ae2f19afe7219ceef172756f"),
        (&counting[..16], "d2a246fa349b68a79998a4394ff7a263"),
        (&counting[..20], "47f51b4564966215b8985c63055ed308"),
        (&counting[..32], "f54f0ec8d2b9f3d36807734bd5283fd4"),
        (&counting[..34], "becbb3bccdb518a30677d5481fb6b4d8"),
        (&[0; 1000], "f0dafee895db30253761103b5d84528f"),
    ] {
        assert_eq!(icv(Authentication::AesXcbc, &key, message), hex(expected)[..12]);
    }
}

/// RFC 4494 section 4 (SP 800-38B appendix D.1), cut to 12 octets as an ICV is.
#[test]
fn alg_28_aes_cmac_of_rfc4494_4() {
    let key = hex("2b7e151628aed2a6abf7158809cf4f3c");
    let message = hex("6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51
        30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710");
    for (len, expected) in [
        (0, "bb1d6929e95937287fa37d129b756746"),
        (16, "070a16b46b4d4144f79bdd9dd04a287c"),
        (40, "dfa66747de9ae63030ca32611497c827"),
        (64, "51f0bebf7e3b9d92fc49741779363cfe"),
    ] {
        assert_eq!(icv(Authentication::AesCmac, &key, &message[..len]), hex(expected)[..12]);
    }
}

/// What is authenticated may come in any pieces.
#[test]
fn pieces_do_not_matter() {
    let message: Vec<u8> = (0..300u16).map(|i| i as u8).collect();
    for authentication in [
        Authentication::HmacMd5,
        Authentication::HmacSha1,
        Authentication::HmacSha256,
        Authentication::HmacSha384,
        Authentication::HmacSha512,
        Authentication::AesXcbc,
        Authentication::AesCmac,
    ] {
        let mut keys = KeyArea::ZERO;
        let key = vec![7; authentication.key_len()];
        keys.install(Direction::Encrypt, (Encryption::Null, &[]), (authentication, &key)).unwrap();
        let whole = authenticate(authentication, &keys, &[&message]);
        for at in 0..message.len() {
            let (a, b) = message.split_at(at);
            assert_eq!(authenticate(authentication, &keys, &[a, &[], b]), whole, "{authentication:?}, {at}");
        }
    }
}
