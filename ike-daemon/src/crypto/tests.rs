//! Known answers, computed with Python's hmac and hashlib and with pyca/cryptography 43 from the formulas of RFC 7296 (its
//! text gives no vectors), and the key exchange vectors of RFC 7748.

use super::auth::SignedOctets;
use super::keys::{DirectionKeys, Freshness, IkeKeys, child_keys, child_shape};
use super::*;
use crate::wire::nonce::Nonce;
use crate::wire::transform::{Encr, EncrId, GroupId, IntegId, PrfId};

fn hex(text: &str) -> Vec<u8> {
    text.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn nonces() -> (Nonce, Nonce) {
    (Nonce::new((0..32).collect()).unwrap(), Nonce::new((100..132).collect()).unwrap())
}

struct Vector {
    prf: PrfId,
    integ: IntegId,
    skd: &'static str,
    skpr: &'static str,
    gcm_er: &'static str,
    child_second: &'static str,
    child_pfs: &'static str,
    rekey_skd: &'static str,
    rekey_ei: &'static str,
    auth: &'static str,
}

const VECTORS: [Vector; 3] = [
    Vector {
        prf: PrfId::HMAC_SHA2_256,
        integ: IntegId::HMAC_SHA2_256_128,
        skd: "7150a45ae06ee78ca293d48ea616d83f",
        skpr: "01f29c414605c9f5de12b42584c5d43a",
        gcm_er: "c268ef6ace4f32bfe31ff7ec6aa31abef6691ad5",
        child_second: "e5dc38d183ce0e7fa44d67421ebdb132a4b3567cc56852af401c95ab07da5a489fda2506",
        child_pfs: "a21a3129a3f6f96a2468386658451e6eee95a23bcb4e10342cf2db0420bbd61898f8a42d",
        rekey_skd: "99e888c7d93a60b39a58e0fd40a107b0",
        rekey_ei: "5b0de1ddc187398a5448d5b31700fb82cb3e2f6c65b0449b48b61fb7392780b06aad807b",
        auth: "078ad775ad194a4803646f665f232388e2e01927059c7a46c6c4da5c0df80cb9",
    },
    Vector {
        prf: PrfId::HMAC_SHA2_384,
        integ: IntegId::HMAC_SHA2_384_192,
        skd: "8d7e49279ed6d252d2c579cbe1a75e1e",
        skpr: "dc83ce5903743706f604ec6bc977dfde",
        gcm_er: "a4f75146579e32ba7627458f13929646f96b6069",
        child_second: "8395eae39df3630325671907c43c0a2f11d028dd2d85d43432c03f4f04c864f685c17900",
        child_pfs: "af449b22064df7153bb632b2319d2ae91ec533659b49a054eb74020a334f438e092a8772",
        rekey_skd: "d3742ab2634d2a7ab3e5d22948886de5",
        rekey_ei: "a1e996ec2c3267340bac1ed73ed020940bec3de30971c496f193ddb4501bfe03c445f6a3",
        auth: "27c6a88ec862d1cb49d478239192a3b8118a16898215d175b66c8bbcd02400f3f25caa15cf7d6d53143f5efbbc7eae4c",
    },
    Vector {
        prf: PrfId::HMAC_SHA2_512,
        integ: IntegId::HMAC_SHA2_512_256,
        skd: "1657d0e4862a5256b1625901136e6cf9",
        skpr: "6d6b0b75da2c964ba62b2885c4177802",
        gcm_er: "14b3dde24ca7a0b2c032beff5f156cff02159b0f",
        child_second: "b23a2b705b1eb4f3b3986e235b8cb122d44d9cb814b434096fcae212e3ee66bbf7fd8c9a",
        child_pfs: "8f79981d99e68d9570b3530cee99c57896273af321a397c565d3cb680c32ad35ddf44414",
        rekey_skd: "c923f8b5d3567a6a7745564eb8910b00",
        rekey_ei: "fb797ae01897fe8feff3ad6032fb40cf38ecf891021d9af695691167e6a1c9a83c5aed51",
        auth: "5076a8dfb5b887bb3f1bf08b08b11b465180b984bf195a2db96c0821a34970502ad31fe83292d2344efcca274c8eb5aefaf8a046beddf25e95bb265e6e18e0e9",
    },
];

/// V2-KEY-03, V2-KEY-04, V2-KEY-07, V2-KEY-08, V2-KEY-09, V2-AUTH-02: the whole schedule for every PRF.
#[test]
fn v2_key_03_04_07_08_09_auth_02_known_answers() {
    let provider = Standard;
    let (ni, nr) = nonces();
    let shared = Secret::new((50..82).collect());
    let fresh = Freshness {
        nonce_initiator: &ni,
        nonce_responder: &nr,
        spi_initiator: *b"initiatr",
        spi_responder: *b"respondr",
    };
    for vector in &VECTORS {
        let prf = provider.prf(vector.prf).unwrap();
        let suite =
            IkeSuite { encr: Encr::aes_cbc(256), integ: vector.integ, prf: vector.prf, group: GroupId::CURVE25519 };
        let keys = IkeKeys::initial(&provider, &suite, &shared, &fresh).unwrap();
        assert!(keys.sk_d.expose().starts_with(&hex(vector.skd)));
        assert!(keys.sk_pr.expose().starts_with(&hex(vector.skpr)));

        let gcm = IkeSuite { encr: Encr::aes_gcm_16(128), integ: IntegId::NONE, ..suite };
        let aead = IkeKeys::initial(&provider, &gcm, &shared, &fresh).unwrap();
        assert_eq!(aead.sk_er.expose(), hex(vector.gcm_er));
        assert!(aead.sk_ai.is_empty());

        let shape = child_shape(Some(Encr::CHACHA20_POLY1305), IntegId::NONE).unwrap();
        let join = |keys: &DirectionKeys| [keys.cipher.expose(), keys.salt.expose()].concat();
        let (_, second) = child_keys(prf, &keys.sk_d, None, (&ni, &nr), shape).unwrap();
        assert_eq!(join(&second), hex(vector.child_second));
        let (first, _) = child_keys(prf, &keys.sk_d, Some(&shared), (&ni, &nr), shape).unwrap();
        assert_eq!(join(&first), hex(vector.child_pfs));

        let next = IkeSuite {
            encr: Encr::CHACHA20_POLY1305,
            integ: IntegId::NONE,
            prf: PrfId::HMAC_SHA2_512,
            group: GroupId::ECP_256,
        };
        let rekeyed = keys.rekeyed(&provider, prf, &next, &shared, &fresh).unwrap();
        assert!(rekeyed.sk_d.expose().starts_with(&hex(vector.rekey_skd)));
        assert_eq!(rekeyed.sk_ei.expose(), hex(vector.rekey_ei));

        let signed =
            SignedOctets { message: b"message", peer_nonce: &nr, sk_p: &keys.sk_pi, id_body: b"\x02\0\0\0a.example" };
        assert_eq!(signed.with_psk(prf, &Secret::copy_of(b"secret")).expose(), hex(vector.auth));
    }
}

/// V2-KEY-02: 255 rounds and no more.
#[test]
fn v2_key_02_prf_plus_ends() {
    let prf = Standard.prf(PrfId::HMAC_SHA2_256).unwrap();
    assert_eq!(prf.expand(b"key", &[b"seed"], 255 * 32).unwrap().len(), 255 * 32);
    assert_eq!(prf.expand(b"key", &[b"seed"], 255 * 32 + 1), Err(CryptoError::Exhausted));
}

/// V2-NAT-01.
#[test]
fn v2_nat_01_detection_hash() {
    let hash = nat_detection_hash(*b"initiatr", [0; 8], "192.0.2.1:500".parse().unwrap());
    assert_eq!(hash.to_vec(), hex("9b545d22c8432106dddbb630c669e22de1b5013a"));
}

/// V2-ENC-06, V2-ENC-07 and the CBC form of section 3.14, against another library.
#[test]
fn v2_enc_06_07_known_answers() {
    let cases = [
        (Encr::aes_gcm_16(128), 16, "db6b77fc385f2195e277ae7c220ca9c97e922cd0214cbe0ef9133de15e5a7c"),
        (Encr::CHACHA20_POLY1305, 32, "35a9584d630530bdfef2bddbc02ef2fee9312247c46375145a332533fbe81e"),
    ];
    let iv = 1u64.to_be_bytes();
    for (encr, length, expected) in cases {
        let key = Secret::new((0..length).chain([0xca, 0xfe, 0xba, 0xbe]).collect());
        let protector = Standard.protector(encr, IntegId::NONE, &key, &Secret::default()).unwrap();
        let body = protector.seal(&iv, b"header", b"inner payloads").unwrap();
        assert_eq!(body[..8], iv);
        assert_eq!(body[8..], hex(expected));
        assert_eq!(body.len(), protector.body_len(14));
        assert_eq!(protector.open(b"header", &body).unwrap().as_slice(), b"inner payloads");
    }
    let (key, integ) = (Secret::new((0..16).collect()), Secret::new((0..32).collect()));
    let cbc = Standard.protector(Encr::aes_cbc(128), IntegId::HMAC_SHA2_256_128, &key, &integ).unwrap();
    let iv: Vec<u8> = (0..16).collect();
    let body = cbc.seal(&iv, b"header", b"inner payloads").unwrap();
    assert_eq!(body[16..], hex("3acde975ffb7d105c01794e6ded91de72dfa1e8843efc893157f3b6d227ee466"));
    assert_eq!(cbc.open(b"header", &body).unwrap().as_slice(), b"inner payloads");
}

fn all_protectors() -> Vec<Box<dyn Protector>> {
    let key = |length: usize| Secret::new(vec![7; length]);
    let aeads = [(Encr::aes_gcm_16(128), 20), (Encr::aes_gcm_16(256), 36), (Encr::CHACHA20_POLY1305, 36)];
    let integs = [(IntegId::HMAC_SHA2_256_128, 32), (IntegId::HMAC_SHA2_384_192, 48), (IntegId::HMAC_SHA2_512_256, 64)];
    let mut all: Vec<_> =
        aeads.iter().map(|(e, n)| Standard.protector(*e, IntegId::NONE, &key(*n), &key(0)).unwrap()).collect();
    for bits in [128u16, 192, 256] {
        for (integ, length) in integs {
            all.push(
                Standard.protector(Encr::aes_cbc(bits), integ, &key(usize::from(bits / 8)), &key(length)).unwrap(),
            );
        }
    }
    all
}

/// V2-ENC-01, V2-ENC-05, V2-ENC-08: round trips of every length, every flipped bit and every truncation refused.
#[test]
fn v2_enc_01_05_08_round_trip_and_damage() {
    for protector in all_protectors() {
        let octets = match protector.iv() {
            IvKind::Counter => 8,
            IvKind::Random(octets) => octets,
        };
        let iv = vec![1; octets];
        for length in 0..40 {
            let plain = vec![3; length];
            let body = protector.seal(&iv, b"aad", &plain).unwrap();
            assert_eq!(body.len(), protector.body_len(length));
            assert_eq!(protector.open(b"aad", &body).unwrap().as_slice(), plain);
            assert_eq!(protector.open(b"aae", &body), Err(CryptoError::Integrity));
        }
        let body = protector.seal(&iv, b"aad", b"payload").unwrap();
        for bit in 0..body.len() * 8 {
            let mut bad = body.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(protector.open(b"aad", &bad), Err(CryptoError::Integrity));
        }
        for cut in 0..body.len() {
            assert_eq!(protector.open(b"aad", &body[..cut]), Err(CryptoError::Integrity));
        }
    }
}

/// V2-ENC-04: any padding length that fits is accepted, whatever is in it; one that does not fit is refused.
#[test]
fn v2_enc_04_padding() {
    let key = Secret::new(vec![7; 20]);
    let raw = ring::aead::LessSafeKey::new(ring::aead::UnboundKey::new(&ring::aead::AES_128_GCM, &[7; 16]).unwrap());
    let protector = Standard.protector(Encr::aes_gcm_16(128), IntegId::NONE, &key, &Secret::default()).unwrap();
    let seal = |padded: &[u8]| {
        let nonce = ring::aead::Nonce::assume_unique_for_key([7, 7, 7, 7, 0, 0, 0, 0, 0, 0, 0, 1]);
        let mut body = padded.to_vec();
        raw.seal_in_place_append_tag(nonce, ring::aead::Aad::from(b"aad"), &mut body).unwrap();
        [&[0, 0, 0, 0, 0, 0, 0, 1][..], &body].concat()
    };
    for padding in [0u8, 1, 7, 255] {
        let padded = [&b"inner"[..], &vec![0xa5; usize::from(padding)], &[padding]].concat();
        assert_eq!(protector.open(b"aad", &seal(&padded)).unwrap().as_slice(), b"inner");
    }
    assert_eq!(protector.open(b"aad", &seal(&[1, 2, 3])), Err(CryptoError::Padding));
    assert_eq!(protector.open(b"aad", &seal(&[])), Err(CryptoError::Padding));
}

/// V2-KE-04, V2-KE-05, V2-KE-07, V2-KEY-05: both ends agree, lengths are exact, bad points and the zero result are refused.
#[test]
fn v2_ke_04_05_07_key_exchange() {
    for (group, length, secret) in [
        (GroupId::CURVE25519, 32, 32),
        (GroupId::ECP_256, 64, 32),
        (GroupId::ECP_384, 96, 48),
        (GroupId::ECP_521, 132, 66),
        (GroupId::ECP_192, 48, 24),
        (GroupId::ECP_224, 56, 28),
        (GroupId::BRAINPOOL_P256, 64, 32),
        (GroupId::BRAINPOOL_P384, 96, 48),
        (GroupId::MODP_1024, 128, 128),
        (GroupId::MODP_1536, 192, 192),
        (GroupId::MODP_2048, 256, 256),
        (GroupId::MODP_3072, 384, 384),
        (GroupId::MODP_4096, 512, 512),
        (GroupId::MODP_6144, 768, 768),
        (GroupId::MODP_8192, 1024, 1024),
        (GroupId::MODP_1024_160, 128, 128),
        (GroupId::MODP_2048_224, 256, 256),
        (GroupId::MODP_2048_256, 256, 256),
    ] {
        assert_eq!(Standard.public_len(group), Some(length));
        let (a, b) = (Standard.key_exchange(group).unwrap(), Standard.key_exchange(group).unwrap());
        let (pa, pb) = (a.public().to_vec(), b.public().to_vec());
        assert_eq!(pa.len(), length);
        assert_ne!(pa, pb);
        let (sa, sb) = (a.complete(&pb).unwrap(), b.complete(&pa).unwrap());
        assert_eq!(sa, sb);
        assert_eq!(sa.len(), secret);
        let fresh = || Standard.key_exchange(group).unwrap();
        assert_eq!(fresh().complete(&pa[1..]), Err(CryptoError::Length));
        assert_eq!(fresh().complete(&[&pa[..], &[0]].concat()), Err(CryptoError::Length));
        assert_eq!(fresh().complete(&vec![0; length]), Err(CryptoError::PublicValue));
        let is_modp = length == secret && group != GroupId::CURVE25519;
        let in_subgroup = matches!(group, GroupId::MODP_1024_160 | GroupId::MODP_2048_224 | GroupId::MODP_2048_256);
        let is_point = !is_modp && group != GroupId::CURVE25519;
        if is_point || in_subgroup {
            // Not on the curve; not in the subgroup (RFC 6989 sections 2.2 and 2.3).
            assert_eq!(fresh().complete(&vec![1; length]), Err(CryptoError::PublicValue), "{group}");
        }
        if is_modp {
            // RFC 6989 section 2.1: neither 1 nor prime less 1, nor what is not below the prime.
            let mut one = vec![0; length];
            one[length - 1] = 1;
            assert_eq!(fresh().complete(&one), Err(CryptoError::PublicValue));
            assert_eq!(fresh().complete(&vec![0xff; length]), Err(CryptoError::PublicValue));
            if !in_subgroup {
                one[length - 1] = 2;
                assert!(fresh().complete(&one).is_ok(), "{group}");
            }
        }
    }
    assert_eq!(Standard.key_exchange(GroupId::MODP_768).err(), Some(CryptoError::Unavailable));
}

/// V2-KE-05: prime less 1, of order 2 (RFC 6989 section 2.1).
#[test]
fn v2_ke_05_prime_less_one_is_refused() {
    let prime = hex(exchange::primes::MODP_2048);
    let mut last = prime.clone();
    *last.last_mut().unwrap() -= 1;
    for bad in [prime, last] {
        let half = Standard.key_exchange(GroupId::MODP_2048).unwrap();
        assert_eq!(half.complete(&bad), Err(CryptoError::PublicValue));
    }
}

/// ALG-01, V2-SA-07: no encryption without integrity, no AEAD with a second one.
#[test]
fn alg_01_v2_sa_07_combinations() {
    let cbc = Encr::aes_cbc(128);
    assert!(Standard.protection(cbc, IntegId::NONE).is_none());
    assert!(Standard.protection(cbc, IntegId::HMAC_SHA2_256_128).is_some());
    assert!(Standard.protection(Encr::aes_gcm_16(128), IntegId::HMAC_SHA2_256_128).is_none());
    assert!(Standard.protection(Encr { id: EncrId::AES_GCM_16, key_bits: None }, IntegId::NONE).is_none());
    assert!(child_shape(Some(cbc), IntegId::NONE).is_none());
    assert!(child_shape(Some(Encr { id: EncrId::NULL, key_bits: None }), IntegId::NONE).is_none());
    assert!(child_shape(None, IntegId::NONE).is_none());
    assert!(child_shape(Some(Encr::CHACHA20_POLY1305), IntegId::HMAC_SHA2_256_128).is_none());
    let chacha_with_length = Encr { id: EncrId::CHACHA20_POLY1305, key_bits: Some(256) };
    assert!(child_shape(Some(chacha_with_length), IntegId::NONE).is_none());
    for (id, key_bits) in [
        (EncrId::DES, Some(64)),
        (EncrId::TRIPLE_DES, Some(192)),
        (EncrId::BLOWFISH, Some(129)),
        (EncrId::BLOWFISH, Some(456)),
        (EncrId::NULL, Some(0)),
        (EncrId::AES_CBC, None),
        (EncrId::AES_CTR, Some(160)),
        (EncrId(1), None),
        (EncrId(17), Some(128)),
    ] {
        let encr = Encr { id, key_bits };
        assert!(child_shape(Some(encr), IntegId::HMAC_SHA2_256_128).is_none(), "{encr}");
    }
    for id in [EncrId::DES, EncrId::TRIPLE_DES, EncrId::BLOWFISH, EncrId::NULL] {
        assert!(child_shape(Some(Encr { id, key_bits: None }), IntegId::NONE).is_none(), "{id}");
    }
}

/// Every transform of a child takes its keys in this order (RFC 7296 section 2.17): of the direction from initiator to
/// responder first, in each the key of the cipher, its salt, the key of the integrity algorithm. V2-KEY-07.
#[test]
fn v2_key_07_keymat_of_every_transform() {
    let prf = Standard.prf(PrfId::HMAC_SHA2_256).unwrap();
    let (ni, nr) = nonces();
    let sk_d = Secret::new(vec![7; 32]);
    let encr = |id, key_bits| Some(Encr { id, key_bits });
    let (sha1, md5) = (IntegId::HMAC_SHA1_96, IntegId::HMAC_MD5_96);
    for (encr, integ, lengths) in [
        (encr(EncrId::DES, None), md5, [8, 0, 16]),
        (encr(EncrId::TRIPLE_DES, None), sha1, [24, 0, 20]),
        (encr(EncrId::BLOWFISH, None), sha1, [16, 0, 20]),
        (encr(EncrId::BLOWFISH, Some(448)), sha1, [56, 0, 20]),
        (encr(EncrId::NULL, None), IntegId::HMAC_SHA2_256_128, [0, 0, 32]),
        (encr(EncrId::AES_CBC, Some(192)), IntegId::HMAC_SHA2_384_192, [24, 0, 48]),
        (encr(EncrId::AES_CTR, Some(256)), IntegId::HMAC_SHA2_512_256, [32, 4, 64]),
        (encr(EncrId::AES_CCM_8, Some(128)), IntegId::NONE, [16, 3, 0]),
        (encr(EncrId::AES_CCM_12, Some(192)), IntegId::NONE, [24, 3, 0]),
        (encr(EncrId::AES_CCM_16, Some(256)), IntegId::NONE, [32, 3, 0]),
        (encr(EncrId::AES_GCM_8, Some(128)), IntegId::NONE, [16, 4, 0]),
        (encr(EncrId::AES_GCM_12, Some(192)), IntegId::NONE, [24, 4, 0]),
        (encr(EncrId::NULL_AES_GMAC, Some(256)), IntegId::NONE, [32, 4, 0]),
        (encr(EncrId::CHACHA20_POLY1305, None), IntegId::NONE, [32, 4, 0]),
        (None, sha1, [0, 0, 20]),
    ] {
        let shape = child_shape(encr, integ).unwrap();
        assert_eq!([shape.cipher, shape.salt, shape.integ], lengths, "{encr:?} {integ}");
        let (first, second) = child_keys(prf, &sk_d, None, (&ni, &nr), shape).unwrap();
        let parts: Vec<&[u8]> = [&first, &second]
            .into_iter()
            .flat_map(|keys| [keys.cipher.expose(), keys.salt.expose(), keys.integ.expose()])
            .collect();
        assert!(parts.iter().map(|part| part.len()).eq(lengths.into_iter().chain(lengths)));
        let stream = prf.expand(sk_d.expose(), &[ni.octets(), nr.octets()], 2 * lengths.iter().sum::<usize>()).unwrap();
        assert_eq!(parts.concat(), stream.expose(), "{encr:?} {integ}");
    }
}
