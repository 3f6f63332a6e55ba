//! Algorithms of policy actions and SAs (numbers of PF_KEY, spec section 4.8) as transforms of IKEv2 and back.
//!
//! Ciphers have the same numbers in both; integrity algorithms have not.

use sadb_maps::policy::Action;
use sadb_maps::sa::encr;

use crate::core::api::{ChildSuite, Protocol};
use crate::wire::transform::{Encr, EncrId, IntegId};

/// Integrity algorithms: the number of the AH table of PF_KEY and the transform of type 3.
const INTEGRITY: [(u8, IntegId); 6] = [
    (0, IntegId::NONE),
    (2, IntegId::HMAC_MD5_96),
    (3, IntegId::HMAC_SHA1_96),
    (5, IntegId::HMAC_SHA2_256_128),
    (6, IntegId::HMAC_SHA2_384_192),
    (7, IntegId::HMAC_SHA2_512_256),
];

/// The transform for an authentication algorithm of a policy or an SA; 0 is none.
pub(super) fn integrity(auth: u8) -> Option<IntegId> {
    INTEGRITY.iter().find(|(number, _)| *number == auth).map(|(_, id)| *id)
}

/// The authentication algorithm of an SA for a transform; `NONE` is 0.
pub(super) fn auth(integ: IntegId) -> Option<u8> {
    INTEGRITY.iter().find(|(_, id)| *id == integ).map(|(number, _)| *number)
}

/// The cipher of an SA for a transform; that of AH is 0.
pub(super) fn cipher(encr: Option<Encr>) -> Option<u8> {
    encr.map_or(Some(encr::NONE), |encr| u8::try_from(encr.id.0).ok())
}

/// The suites of one action, longest key first: of ESP, or of AH. One of AH around ESP has none, because a child SA has
/// one protocol (RFC 7296 section 3.3).
pub(super) fn suites(action: &Action) -> Vec<ChildSuite> {
    if action.ah != 0 {
        let integ = integrity(action.ah).filter(|_| action.encr == encr::NONE);
        return integ.map(|integ| ChildSuite { protocol: Protocol::Ah, encr: None, integ }).into_iter().collect();
    }
    let Some(integ) = integrity(action.esp_auth) else { return Vec::new() };
    let ciphers = ciphers(action.encr, action.encr_bits);
    // What nobody authenticates is never negotiated (ESP-FMT-14), nor is it authenticated twice.
    let whole = ciphers.into_iter().filter(|encr| encr.is_aead() == (integ == IntegId::NONE));
    whole.map(|encr| ChildSuite { protocol: Protocol::Esp, encr: Some(encr), integ }).collect()
}

/// A cipher of PF_KEY with each key length from `low` to `high` bits that is offered. Lengths are named where the cipher
/// has several (RFC 7296 section 3.3.5). Of Blowfish, which has 53, only both ends and the multiples of 64 are offered.
fn ciphers(id: u8, [low, high]: [u16; 2]) -> Vec<Encr> {
    let transform = EncrId(u16::from(id));
    let fixed = |bits: u16| {
        let fits = (low..=high).contains(&bits);
        fits.then_some(Encr { id: transform, key_bits: None }).into_iter().collect()
    };
    let named = |bits: u16| Encr { id: transform, key_bits: Some(bits) };
    match id {
        encr::DES_CBC => fixed(64),
        encr::TRIPLE_DES_CBC => fixed(192),
        encr::NULL => fixed(0),
        encr::CHACHA20_POLY1305 => fixed(256),
        encr::BLOWFISH_CBC => {
            let (low, high) = (low.max(32).next_multiple_of(8), high.min(448) / 8 * 8);
            let offered = |bits: &u16| *bits == low || *bits == high || bits.is_multiple_of(64);
            (low..=high).rev().step_by(8).filter(offered).map(named).collect()
        }
        encr::AES_CBC
        | encr::AES_CTR
        | encr::AES_CCM_8
        | encr::AES_CCM_12
        | encr::AES_CCM_16
        | encr::AES_GCM_8
        | encr::AES_GCM_12
        | encr::AES_GCM_16
        | encr::NULL_AES_GMAC => {
            [256, 192, 128].into_iter().filter(|bits| (low..=high).contains(bits)).map(named).collect()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::keys::child_shape;

    fn action(encr: u8, encr_bits: [u16; 2], esp_auth: u8) -> Action {
        Action { encr, encr_bits, esp_auth, ..Action::default() }
    }

    fn words(action: &Action) -> Vec<String> {
        suites(action).iter().map(ToString::to_string).collect()
    }

    /// The numbers of IANA's registry, transform type 3, beside those of spec section 4.8; both ways.
    #[test]
    fn integrity_algorithms_are_mapped_both_ways() {
        for (number, transform) in [(0, 0), (2, 1), (3, 2), (5, 12), (6, 13), (7, 14)] {
            assert_eq!(integrity(number), Some(IntegId(transform)));
            assert_eq!(auth(IntegId(transform)), Some(number));
        }
        // AES-XCBC-MAC and AES-CMAC have numbers in both, and no code.
        assert_eq!((integrity(9), auth(IntegId(5)), auth(IntegId(8))), (None, None, None));
    }

    /// The numbers of IANA's registry, transform type 1, are those of PF_KEY.
    #[test]
    fn ciphers_have_one_number() {
        for (number, transform) in [
            (2, EncrId::DES),
            (3, EncrId::TRIPLE_DES),
            (7, EncrId::BLOWFISH),
            (11, EncrId::NULL),
            (12, EncrId::AES_CBC),
            (13, EncrId::AES_CTR),
            (14, EncrId::AES_CCM_8),
            (15, EncrId::AES_CCM_12),
            (16, EncrId::AES_CCM_16),
            (18, EncrId::AES_GCM_8),
            (19, EncrId::AES_GCM_12),
            (20, EncrId::AES_GCM_16),
            (21, EncrId::NULL_AES_GMAC),
            (28, EncrId::CHACHA20_POLY1305),
        ] {
            assert_eq!(transform.0, u16::from(number));
            let found = ciphers(number, [0, u16::MAX]);
            assert!(!found.is_empty() && found.iter().all(|encr| encr.id == transform), "{transform}");
            assert_eq!(cipher(found.first().copied()), Some(number));
            let integ = if found[0].is_aead() { 0 } else { 5 };
            for suite in suites(&action(number, [0, u16::MAX], integ)) {
                let shape = child_shape(suite.encr, suite.integ).unwrap();
                let bits = suite.encr.and_then(|encr| encr.key_bits);
                assert!(bits.is_none_or(|bits| usize::from(bits) == shape.cipher * 8), "{suite}");
            }
        }
        assert_eq!(cipher(None), Some(0));
        assert!(ciphers(17, [0, u16::MAX]).is_empty() && ciphers(22, [0, u16::MAX]).is_empty());
    }

    /// V2-SA-09: lengths as attributes, none for ciphers with one length.
    #[test]
    fn key_lengths_follow_the_range_longest_first() {
        assert_eq!(
            words(&action(encr::AES_CBC, [128, 192], 5)),
            ["ESP AES-CBC(192) HMAC-SHA2-256-128", "ESP AES-CBC(128) HMAC-SHA2-256-128"]
        );
        assert_eq!(words(&action(encr::AES_CCM_12, [256, 256], 0)), ["ESP AES-CCM-12(256)"]);
        assert_eq!(words(&action(encr::NULL_AES_GMAC, [128, 128], 0)), ["ESP NULL-AES-GMAC(128)"]);
        assert_eq!(words(&action(encr::DES_CBC, [64, 64], 2)), ["ESP DES-CBC HMAC-MD5-96"]);
        assert_eq!(words(&action(encr::TRIPLE_DES_CBC, [192, 192], 3)), ["ESP 3DES-CBC HMAC-SHA1-96"]);
        assert_eq!(words(&action(encr::NULL, [0, 0], 7)), ["ESP NULL HMAC-SHA2-512-256"]);
        let bits = |low, high| -> Vec<u16> {
            ciphers(encr::BLOWFISH_CBC, [low, high]).iter().filter_map(|encr| encr.key_bits).collect()
        };
        assert_eq!(bits(128, 448), [448, 384, 320, 256, 192, 128]);
        assert_eq!((bits(40, 40), bits(129, 200)), (vec![40], vec![200, 192, 136]));
        assert_eq!(bits(129, 135), [0; 0]);
    }

    /// ESP-FMT-13, ESP-FMT-14.
    #[test]
    fn everything_is_authenticated_once() {
        for bad in [
            action(encr::AES_CBC, [128, 256], 0),
            action(encr::NULL, [0, 0], 0),
            action(encr::AES_GCM_16, [128, 256], 5),
            action(encr::AES_CBC, [128, 256], 9),
            action(99, [0, u16::MAX], 5),
            Action { ah: 5, ..action(encr::AES_GCM_16, [128, 256], 0) },
            Action { ah: 9, ..Action::default() },
        ] {
            assert_eq!(suites(&bad), [], "{bad:?}");
        }
    }

    /// AH alone: the integrity algorithms are those of ESP (RFC 7296 section 3.3.2).
    #[test]
    fn ah_has_integrity_alone() {
        for (number, word) in
            [(2, "HMAC-MD5-96"), (3, "HMAC-SHA1-96"), (5, "HMAC-SHA2-256-128"), (7, "HMAC-SHA2-512-256")]
        {
            assert_eq!(words(&Action { ah: number, ..Action::default() }), [format!("AH {word}")]);
        }
    }
}
