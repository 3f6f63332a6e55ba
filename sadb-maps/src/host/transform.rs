//! Keys as the programs want them: schedules, states and tables by [`esp_crypto::crypto::material`], and as they were given.

use super::diagnostic::Diagnostic;
use super::error::SadbError;
use super::maps::Wiped;
use super::secret::SecretKey;
use super::spec::SaSpec;
use crate::sa::{AH, BlowfishState, GhashTable, KeyText, SaStatic, encr, family, flag, mac};
use esp_crypto::crypto::aead::hash_key;
use esp_crypto::crypto::blowfish;
use esp_crypto::crypto::ccm;
use esp_crypto::crypto::ghash::fill_table;
use esp_crypto::crypto::material::{Apart, Error, KeyArea, apart};
use esp_crypto::crypto::transform::{Authentication, Direction, Encryption};
use zeroize::Zeroize;

/// A transform of the table, as the programs have it.
pub(super) struct Cipher {
    pub(super) encryption: Encryption,
    family: u8,
    /// Octets of the ICV of a cipher that authenticates; 0 for the others.
    icv_len: u8,
}

/// The cipher with this number ([`encr`]).
pub(super) fn cipher(id: u8) -> Option<Cipher> {
    let (encryption, family, icv_len) = match id {
        encr::NULL => (Encryption::Null, family::NULL, 0),
        encr::DES_CBC => (Encryption::DesCbc, family::DES_CBC, 0),
        encr::TRIPLE_DES_CBC => (Encryption::TripleDesCbc, family::TRIPLE_DES_CBC, 0),
        encr::BLOWFISH_CBC => (Encryption::BlowfishCbc, family::BLOWFISH_CBC, 0),
        encr::AES_CBC => (Encryption::AesCbc, family::AES_CBC, 0),
        encr::AES_CTR => (Encryption::AesCtr, family::AES_CTR, 0),
        encr::AES_CCM_8 => (Encryption::AesCcm, family::AES_CCM, 8),
        encr::AES_CCM_12 => (Encryption::AesCcm, family::AES_CCM, 12),
        encr::AES_CCM_16 => (Encryption::AesCcm, family::AES_CCM, 16),
        encr::AES_GCM_8 => (Encryption::AesGcm, family::AES_GCM, 8),
        encr::AES_GCM_12 => (Encryption::AesGcm, family::AES_GCM, 12),
        encr::AES_GCM_16 => (Encryption::AesGcm, family::AES_GCM, 16),
        encr::NULL_AES_GMAC => (Encryption::AesGmac, family::AES_GMAC, 16),
        encr::CHACHA20_POLY1305 => (Encryption::ChaCha20Poly1305, family::CHACHA20_POLY1305, 16),
        _ => return None,
    };
    Some(Cipher { encryption, family, icv_len })
}

/// The authenticator with this number of the AH table, and the program that computes it.
pub(super) fn authenticator(id: u8) -> Option<(Authentication, u8)> {
    Some(match id {
        0 => (Authentication::None, mac::NONE),
        2 => (Authentication::HmacMd5, mac::HMAC_MD5),
        3 => (Authentication::HmacSha1, mac::HMAC_SHA1),
        5 => (Authentication::HmacSha256, mac::HMAC_SHA256),
        6 => (Authentication::HmacSha384, mac::HMAC_SHA512),
        7 => (Authentication::HmacSha512, mac::HMAC_SHA512),
        _ => return None,
    })
}

/// What an SA keeps of its keys beside its record.
pub(super) struct Material {
    pub(super) text: Wiped<KeyText>,
    pub(super) ghash: Option<Wiped<GhashTable>>,
    pub(super) blowfish: Option<Wiped<BlowfishState>>,
}

/// Writes transforms and keys into the record of an SA of this direction ([`flag::INBOUND`], [`flag::OUTBOUND`]), and
/// gives what lies apart. The keys have been checked.
///
/// # Errors
/// [`Diagnostic::BadContext`] for a transform without code, or one that works one way only on an SA of both directions;
/// the codes of key lengths.
pub(super) fn install(spec: &SaSpec, direction: u32, record: &mut SaStatic) -> Result<Material, SadbError> {
    let bits = || SadbError::diagnostic(Diagnostic::BadEncryptionKeyBits);
    let unknown = || SadbError::explained(Diagnostic::BadContext, "the data path does not have this transform");
    let null = Cipher { encryption: Encryption::Null, family: family::NULL, icv_len: 0 };
    let cipher = if spec.proto == AH { null } else { cipher(spec.encr).ok_or_else(unknown)? };
    let (authentication, program) = authenticator(spec.auth).ok_or_else(unknown)?;
    let encryption = cipher.encryption;
    let one_way = matches!(
        encryption,
        Encryption::AesCbc | Encryption::DesCbc | Encryption::TripleDesCbc | Encryption::BlowfishCbc
    );
    if direction == flag::BOTH && one_way {
        let what = "an SA of both directions needs a transform that enciphers as it deciphers";
        return Err(SadbError::explained(Diagnostic::BadContext, what));
    }
    let way = if direction & flag::OUTBOUND != 0 { Direction::Encrypt } else { Direction::Decrypt };
    record.encr = spec.encr;
    record.auth = spec.auth;
    record.salt = salt_word(encryption, spec.salt.octets()).ok_or_else(bits)?;
    record.key_bits = u16::try_from(spec.key.len() * 8).map_err(|_| bits())?;
    record.auth_bits = u16::try_from(spec.auth_key.len() * 8).map_err(|_| bits())?;
    record.iv_len = encryption.iv_len() as u8;
    record.icv_len = if cipher.icv_len == 0 { authentication.icv_len() as u8 } else { cipher.icv_len };
    record.align = encryption.align() as u8;
    record.family = cipher.family;
    record.mac = program;
    let mut area = KeyArea::ZERO;
    let installed = area.install(way, (encryption, spec.key.octets()), (authentication, spec.auth_key.octets()));
    record.key = area.0;
    area.0.zeroize();
    installed.map_err(|error| match error {
        Error::KeyLength => bits(),
        Error::Room => unknown(),
    })?;
    let (mut ghash, mut state) = (None, None);
    match apart(encryption) {
        Apart::Nothing => {}
        Apart::Ghash => {
            let mut table = Wiped::<GhashTable>::zeroed();
            let schedule = record.key.first_chunk().ok_or_else(bits)?;
            let rounds = record.key.get(crate::sa::AES_ROUNDS_WORD).copied().ok_or_else(bits)?;
            fill_table(&mut table.0.0, &hash_key(schedule, rounds));
            ghash = Some(table);
        }
        Apart::Blowfish => {
            let mut table = Wiped::<BlowfishState>::zeroed();
            blowfish::expand_key(spec.key.octets(), way, &mut table.0.0).ok_or_else(bits)?;
            state = Some(table);
        }
    }
    Ok(Material { text: text(spec).ok_or_else(bits)?, ghash, blowfish: state })
}

/// The salt as the programs want it; none is 0.
fn salt_word(encryption: Encryption, octets: &[u8]) -> Option<u32> {
    match (encryption.salt_len(), octets) {
        (0, []) => Some(0),
        (3, [a, b, c]) => Some(ccm::salt_word([*a, *b, *c])),
        (4, [a, b, c, d]) => Some(u32::from_ne_bytes([*a, *b, *c, *d])),
        _ => None,
    }
}

fn text(spec: &SaSpec) -> Option<Wiped<KeyText>> {
    let mut text = Wiped::<KeyText>::zeroed();
    text.cipher.get_mut(..spec.key.len())?.copy_from_slice(spec.key.octets());
    text.auth.get_mut(..spec.auth_key.len())?.copy_from_slice(spec.auth_key.octets());
    text.cipher_len = u8::try_from(spec.key.len()).ok()?;
    text.auth_len = u8::try_from(spec.auth_key.len()).ok()?;
    text.salt_len = u8::try_from(spec.salt.len()).ok()?;
    Some(text)
}

/// The key of the cipher, as it was given.
pub(super) fn cipher_key(text: &KeyText) -> SecretKey {
    text.cipher.get(..usize::from(text.cipher_len)).unwrap_or_default().into()
}

/// The key of the authenticator, as it was given.
pub(super) fn auth_key(text: &KeyText) -> SecretKey {
    text.auth.get(..usize::from(text.auth_len)).unwrap_or_default().into()
}

/// The salt, as it was given.
pub(super) fn salt(fixed: &SaStatic, text: &KeyText) -> SecretKey {
    let octets = fixed.salt.to_ne_bytes();
    // That of AES-CCM comes behind an octet that is not part of it.
    octets.get(4usize.saturating_sub(usize::from(text.salt_len))..).unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sa::{AES_ROUNDS_WORD, ESP};
    use bytemuck::Zeroable;
    use esp_crypto::crypto::Block16;
    use esp_crypto::crypto::aes::{SCHEDULE_WORDS, TABLES, encrypt_block};
    use esp_crypto::crypto::ghash::block16;
    use ring::aead::{AES_128_GCM, AES_256_GCM, Aad, Algorithm, LessSafeKey, Nonce, UnboundKey};
    use std::net::Ipv4Addr;

    fn spec(encr: u8, key: usize, salt: usize, auth: u8, auth_key: usize) -> SaSpec {
        let here = Ipv4Addr::new(192, 0, 2, 1).into();
        let octets = |len: usize| SecretKey::new((1..=len as u8).collect());
        let (key, salt, auth_key) = (octets(key), octets(salt), octets(auth_key));
        SaSpec { encr, key, salt, auth, auth_key, ..SaSpec::new(ESP, 256, here, here) }
    }

    fn words(octets: [u8; 16]) -> Block16 {
        let mut block = Block16([0; 4]);
        for (word, octets) in block.0.iter_mut().zip(octets.as_chunks::<4>().0) {
            *word = u32::from_ne_bytes(*octets);
        }
        block
    }

    fn octets(block: Block16) -> Vec<u8> {
        block.0.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    /// The tag of GCM over one block of additional data, from nothing but what lies in the maps.
    fn tag(record: &SaStatic, table: &GhashTable, aad: [u8; 16]) -> Vec<u8> {
        let schedule: &[u32; SCHEDULE_WORDS] = record.key.first_chunk().unwrap();
        let mut first = [0; 16];
        first[15] = 1;
        let (counter, mut mask, mut hash) = (words(first), Block16([0; 4]), Block16([0; 4]));
        let mut lengths = [0; 16];
        lengths[7] = 128;
        // SAFETY: every pointer is to a live local; schedule and rounds come from the key expansion.
        unsafe {
            encrypt_block(&TABLES, schedule, record.key[AES_ROUNDS_WORD], &counter, &mut mask);
            block16(&mut hash, &table.0, &words(aad));
            block16(&mut hash, &table.0, &words(lengths));
        }
        octets(hash).iter().zip(octets(mask)).map(|(a, b)| a ^ b).collect()
    }

    #[test]
    fn what_is_installed_is_what_aes_gcm_computes_with() {
        for (len, algorithm) in [(16usize, &AES_128_GCM), (32, &AES_256_GCM)] as [(usize, &Algorithm); 2] {
            let spec = spec(encr::AES_GCM_16, len, 4, 0, 0);
            let mut record = SaStatic::zeroed();
            let material = install(&spec, flag::OUTBOUND, &mut record).unwrap();
            let ring = LessSafeKey::new(UnboundKey::new(algorithm, spec.key.octets()).unwrap());
            let nonce = Nonce::assume_unique_for_key([0; 12]);
            let expected = ring.seal_in_place_separate_tag(nonce, Aad::from([9u8; 16]), &mut []).unwrap();
            assert_eq!(tag(&record, material.ghash.as_ref().unwrap(), [9; 16]), expected.as_ref());
            assert_eq!((record.salt.to_ne_bytes(), record.key_bits), ([1, 2, 3, 4], 8 * len as u16));
        }
    }

    /// Every transform with every length of key: what it needs lies there, and the keys come back as they were given.
    #[test]
    fn every_transform_installs_and_gives_its_keys_back() {
        for (encr, keys, salt, auth, auth_key, shape) in [
            (encr::DES_CBC, &[8][..], 0, 2, 16, (8, 12, 8)),
            (encr::TRIPLE_DES_CBC, &[24], 0, 3, 20, (8, 12, 8)),
            (encr::BLOWFISH_CBC, &[4, 16, 56], 0, 5, 32, (8, 16, 8)),
            (encr::NULL, &[0], 0, 6, 48, (0, 24, 4)),
            (encr::AES_CBC, &[16, 24, 32], 0, 7, 64, (16, 32, 16)),
            (encr::AES_CTR, &[16, 24, 32], 4, 5, 32, (8, 16, 4)),
            (encr::AES_CCM_8, &[16, 24, 32], 3, 0, 0, (8, 8, 4)),
            (encr::AES_CCM_12, &[16, 24, 32], 3, 0, 0, (8, 12, 4)),
            (encr::AES_CCM_16, &[16, 24, 32], 3, 0, 0, (8, 16, 4)),
            (encr::AES_GCM_8, &[16, 24, 32], 4, 0, 0, (8, 8, 4)),
            (encr::AES_GCM_12, &[16, 24, 32], 4, 0, 0, (8, 12, 4)),
            (encr::NULL_AES_GMAC, &[16, 24, 32], 4, 0, 0, (8, 16, 4)),
            (encr::CHACHA20_POLY1305, &[32], 4, 0, 0, (8, 16, 4)),
        ] {
            for key in keys {
                let spec = spec(encr, *key, salt, auth, auth_key);
                for direction in [flag::INBOUND, flag::OUTBOUND] {
                    let mut record = SaStatic::zeroed();
                    let material = install(&spec, direction, &mut record).unwrap();
                    assert_eq!((record.iv_len, record.icv_len, record.align), shape, "{encr}");
                    assert_eq!(cipher_key(&material.text), spec.key);
                    assert_eq!(auth_key_of(&material), spec.auth_key);
                    assert_eq!(super::salt(&record, &material.text), spec.salt);
                    assert_eq!(material.blowfish.is_some(), encr == encr::BLOWFISH_CBC);
                    assert_eq!(record.mac == mac::NONE, auth == 0);
                }
            }
        }
    }

    fn auth_key_of(material: &Material) -> SecretKey {
        auth_key(&material.text)
    }

    #[test]
    fn wrong_lengths_and_ways_are_refused() {
        let mut record = SaStatic::zeroed();
        for bad in [
            spec(encr::AES_GCM_16, 15, 4, 0, 0),
            spec(encr::AES_GCM_16, 16, 3, 0, 0),
            spec(encr::AES_CCM_8, 16, 4, 0, 0),
            spec(encr::AES_CBC, 16, 0, 5, 20),
            spec(99, 16, 0, 5, 32),
        ] {
            assert!(install(&bad, flag::OUTBOUND, &mut record).is_err());
        }
        assert!(install(&spec(encr::AES_CBC, 16, 0, 5, 32), flag::BOTH, &mut record).is_err());
        assert!(install(&spec(encr::AES_GCM_16, 16, 4, 0, 0), flag::BOTH, &mut record).is_ok());
    }
}
