//! Keys as the programs want them: the words of ChaCha20, the key schedule of AES, the GHASH table of AES-GCM.

use super::diagnostic::Diagnostic;
use super::error::SadbError;
use super::maps::Wiped;
use super::secret::SecretKey;
use crate::sa::{AES_ROUNDS_WORD, GhashTable, SaStatic, encr};
use esp_crypto::crypto::aead::hash_key;
use esp_crypto::crypto::aes::{SCHEDULE_WORDS, expand_key};
use esp_crypto::crypto::ghash::fill_table;
use zeroize::Zeroizing;

/// Octets of explicit IV and of ICV of both AEADs (RFC 4106 section 3, RFC 7634 section 2).
const IV_LEN: u8 = 8;
const ICV_LEN: u8 = 16;

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
    (record.iv_len, record.icv_len) = (IV_LEN, ICV_LEN);
    match id {
        encr::CHACHA20_POLY1305 => {
            let words = record.key.iter_mut().zip(key.octets().as_chunks::<4>().0);
            words.for_each(|(word, octets)| *word = u32::from_ne_bytes(*octets));
            Ok(None)
        }
        encr::AES_GCM_16 => {
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
