//! Keys as the programs want them: the words of ChaCha20, the key schedule of AES, the GHASH table of AES-GCM.

use super::diagnostic::Diagnostic;
use super::error::SadbError;
use super::maps::Wiped;
use super::secret::SecretKey;
use crate::sa::{AES_ROUNDS_WORD, GhashTable, SaStatic, encr, family};
use esp_crypto::crypto::aead::hash_key;
use esp_crypto::crypto::aes::{SCHEDULE_WORDS, expand_key};
use esp_crypto::crypto::ghash::fill_table;
use zeroize::Zeroizing;

/// Octets of explicit IV and of ICV of both AEADs (RFC 4106 section 3, RFC 7634 section 2).
const IV_LEN: u8 = 8;
const ICV_LEN: u8 = 16;
/// Octets to which an AEAD pads: what RFC 4303 section 2.4 asks for at least.
const ALIGN: u8 = 4;

/// Writes transform, key and salt into the record, and gives the GHASH table where the transform needs one. The key has
/// been checked.
///
/// # Errors
/// [`Diagnostic::BadContext`] for a transform without code, [`Diagnostic::BadEncryptionKeyBits`] for a key of another
/// length.
pub(super) fn install(
    id: u8,
    key: &SecretKey,
    salt: &SecretKey,
    record: &mut SaStatic,
) -> Result<Option<Wiped<GhashTable>>, SadbError> {
    let bits = || SadbError::diagnostic(Diagnostic::BadEncryptionKeyBits);
    let octets = <[u8; 4]>::try_from(salt.octets()).map_err(|_| bits())?;
    record.encr = id;
    record.salt = u32::from_ne_bytes(octets);
    record.key_bits = u16::try_from(key.len() * 8).map_err(|_| bits())?;
    (record.iv_len, record.icv_len, record.align) = (IV_LEN, ICV_LEN, ALIGN);
    match id {
        encr::CHACHA20_POLY1305 => {
            record.family = family::CHACHA20_POLY1305;
            let words = record.key.iter_mut().zip(key.octets().as_chunks::<4>().0);
            words.for_each(|(word, octets)| *word = u32::from_ne_bytes(*octets));
            Ok(None)
        }
        encr::AES_GCM_16 => {
            record.family = family::AES_GCM;
            let mut schedule = Zeroizing::new([0; SCHEDULE_WORDS]);
            let rounds = expand_key(key.octets(), &mut schedule).ok_or_else(bits)?;
            record.key.iter_mut().zip(schedule.iter()).for_each(|(word, expanded)| *word = *expanded);
            let rounds_word = record.key.get_mut(AES_ROUNDS_WORD).ok_or_else(bits)?;
            *rounds_word = rounds;
            let mut table = Wiped::<GhashTable>::zeroed();
            fill_table(&mut table.0.0, &hash_key(&schedule, rounds));
            Ok(Some(table))
        }
        _ => Err(SadbError::diagnostic(Diagnostic::BadContext)),
    }
}

/// The key of a record, as it was installed.
pub(super) fn key_octets(record: &SaStatic) -> SecretKey {
    let mut octets = Zeroizing::new(Vec::with_capacity(32));
    for word in record.key.iter().take(usize::from(record.key_bits / 32)) {
        octets.extend_from_slice(&word.to_ne_bytes());
    }
    octets.as_slice().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytemuck::Zeroable;
    use esp_crypto::crypto::Block16;
    use esp_crypto::crypto::aes::{TABLES, encrypt_block};
    use esp_crypto::crypto::ghash::block16;
    use ring::aead::{AES_128_GCM, AES_256_GCM, Aad, Algorithm, LessSafeKey, Nonce, UnboundKey};

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
        let salt = SecretKey::new(vec![1, 2, 3, 4]);
        for (len, algorithm) in [(16usize, &AES_128_GCM), (32, &AES_256_GCM)] as [(usize, &Algorithm); 2] {
            let key = SecretKey::new((0..len as u8).collect());
            let mut record = SaStatic::zeroed();
            let table = install(encr::AES_GCM_16, &key, &salt, &mut record).unwrap().unwrap();
            let ring = LessSafeKey::new(UnboundKey::new(algorithm, key.octets()).unwrap());
            let nonce = Nonce::assume_unique_for_key([0; 12]);
            let expected = ring.seal_in_place_separate_tag(nonce, Aad::from([9u8; 16]), &mut []).unwrap();
            assert_eq!(tag(&record, &table, [9; 16]), expected.as_ref());
            assert_eq!(key_octets(&record), key);
            assert_eq!((record.salt.to_ne_bytes(), record.key_bits), ([1, 2, 3, 4], 8 * len as u16));
        }
    }

    #[test]
    fn a_chacha_key_lies_there_as_it_came() {
        let (key, salt) = (SecretKey::new((0..32).collect()), SecretKey::new(vec![5; 4]));
        let mut record = SaStatic::zeroed();
        assert!(install(encr::CHACHA20_POLY1305, &key, &salt, &mut record).unwrap().is_none());
        assert_eq!(record.key[0].to_ne_bytes(), [0, 1, 2, 3]);
        assert_eq!(key_octets(&record), key);
        assert!(install(encr::NULL, &key, &salt, &mut record).is_err());
        assert!(install(encr::AES_GCM_16, &SecretKey::new(vec![1; 15]), &salt, &mut record).is_err());
        assert!(install(encr::AES_GCM_16, &key, &SecretKey::new(vec![1; 3]), &mut record).is_err());
    }
}
