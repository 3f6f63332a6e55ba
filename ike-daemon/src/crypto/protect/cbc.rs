//! A cipher in CBC mode with a truncated HMAC around it.

use aes::cipher::block_padding::NoPadding;
use aes::cipher::{BlockDecryptMut, BlockEncryptMut, KeyIvInit};
use aes::{Aes128, Aes192, Aes256};
use des::TdesEde3;
use ring::hmac;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::{IvKind, Protector, strip};
use crate::crypto::prf::mac;
use crate::crypto::{CryptoError, ProtectionShape, Secret};
use crate::wire::transform::{Encr, EncrId, IntegId};

/// An HMAC and how many octets of it make the ICV (RFC 2404, RFC 4868; SHA-1 whole as RFC 4595 section 2 has it).
#[derive(Clone, Copy)]
pub(in crate::crypto) struct HmacShape {
    algorithm: hmac::Algorithm,
    icv: usize,
}

impl HmacShape {
    /// The integrity algorithm of a transform.
    pub(in crate::crypto) fn of(integ: IntegId) -> Option<Self> {
        let (algorithm, icv) = match integ {
            IntegId::HMAC_SHA1_96 => (hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, 12),
            IntegId::HMAC_SHA1_160 => (hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, 20),
            IntegId::HMAC_SHA2_256_128 => (hmac::HMAC_SHA256, 16),
            IntegId::HMAC_SHA2_384_192 => (hmac::HMAC_SHA384, 24),
            IntegId::HMAC_SHA2_512_256 => (hmac::HMAC_SHA512, 32),
            _ => return None,
        };
        Some(Self { algorithm, icv })
    }

    fn key_len(&self) -> usize {
        self.algorithm.digest_algorithm().output_len()
    }
}

type Run = fn(&[u8], &[u8], &[u8]) -> Result<Vec<u8>, CryptoError>;

/// Lengths of a block cipher in octets, and what it does to whole blocks: key, IV, octets.
#[derive(Clone, Copy)]
pub(in crate::crypto) struct CbcShape {
    key: usize,
    block: usize,
    encrypt: Run,
    decrypt: Run,
}

fn encrypt<C: KeyIvInit + BlockEncryptMut>(key: &[u8], iv: &[u8], plain: &[u8]) -> Result<Vec<u8>, CryptoError> {
    let cipher = C::new_from_slices(key, iv).map_err(|_| CryptoError::Length)?;
    Ok(cipher.encrypt_padded_vec_mut::<NoPadding>(plain))
}

fn decrypt<C: KeyIvInit + BlockDecryptMut>(key: &[u8], iv: &[u8], sealed: &[u8]) -> Result<Vec<u8>, CryptoError> {
    let cipher = C::new_from_slices(key, iv).map_err(|_| CryptoError::Length)?;
    cipher.decrypt_padded_vec_mut::<NoPadding>(sealed).map_err(|_| CryptoError::Length)
}

impl CbcShape {
    /// The cipher of a transform; `None` when it is none of CBC mode or not there.
    pub(in crate::crypto) fn of(encr: Encr) -> Option<Self> {
        let (key, block, encrypt, decrypt): (_, _, Run, Run) = match (encr.id, encr.key_bits) {
            (EncrId::AES_CBC, Some(128)) => {
                (16, 16, encrypt::<cbc::Encryptor<Aes128>>, decrypt::<cbc::Decryptor<Aes128>>)
            }
            (EncrId::AES_CBC, Some(192)) => {
                (24, 16, encrypt::<cbc::Encryptor<Aes192>>, decrypt::<cbc::Decryptor<Aes192>>)
            }
            (EncrId::AES_CBC, Some(256)) => {
                (32, 16, encrypt::<cbc::Encryptor<Aes256>>, decrypt::<cbc::Decryptor<Aes256>>)
            }
            (EncrId::TRIPLE_DES, None) => {
                (24, 8, encrypt::<cbc::Encryptor<TdesEde3>>, decrypt::<cbc::Decryptor<TdesEde3>>)
            }
            _ => return None,
        };
        Some(Self { key, block, encrypt, decrypt })
    }

    /// Octets of key material with this integrity algorithm.
    pub(in crate::crypto) fn protection(&self, integ: HmacShape) -> ProtectionShape {
        ProtectionShape { cipher: self.key, salt: 0, integ: integ.key_len() }
    }
}

/// A cipher in CBC mode with a truncated HMAC.
pub(in crate::crypto) struct CbcHmac {
    pub(in crate::crypto) cipher: CbcShape,
    pub(in crate::crypto) key: Secret,
    pub(in crate::crypto) integ: HmacShape,
    pub(in crate::crypto) integ_key: Secret,
}

impl CbcHmac {
    /// Padding that fills the last block, its Pad Length octet not counted.
    fn padding(&self, plain: usize) -> usize {
        self.cipher.block - 1 - plain % self.cipher.block
    }
}

impl Protector for CbcHmac {
    fn iv(&self) -> IvKind {
        IvKind::Random(self.cipher.block)
    }

    fn body_len(&self, plain: usize) -> usize {
        self.cipher.block + plain + self.padding(plain) + 1 + self.integ.icv
    }

    fn seal(&self, iv: &[u8], associated: &[u8], plain: &[u8]) -> Result<Vec<u8>, CryptoError> {
        let padding = self.padding(plain.len());
        let mut padded = Zeroizing::new(Vec::with_capacity(plain.len() + padding + 1));
        padded.extend_from_slice(plain);
        padded.resize(plain.len() + padding, 0);
        padded.push(u8::try_from(padding).map_err(|_| CryptoError::Length)?);
        let mut body = [iv, &(self.cipher.encrypt)(self.key.expose(), iv, &padded)?].concat();
        let tag = mac(self.integ.algorithm, self.integ_key.expose(), &[associated, &body]);
        body.extend_from_slice(tag.as_ref().get(..self.integ.icv).ok_or(CryptoError::Length)?);
        Ok(body)
    }

    fn open(&self, associated: &[u8], body: &[u8]) -> Result<Zeroizing<Vec<u8>>, CryptoError> {
        let covered = body.len().checked_sub(self.integ.icv).ok_or(CryptoError::Integrity)?;
        let (covered, icv) = body.split_at_checked(covered).ok_or(CryptoError::Integrity)?;
        let tag = mac(self.integ.algorithm, self.integ_key.expose(), &[associated, covered]);
        let expected = tag.as_ref().get(..self.integ.icv).ok_or(CryptoError::Integrity)?;
        if !bool::from(expected.ct_eq(icv)) {
            return Err(CryptoError::Integrity);
        }
        let (iv, sealed) = covered.split_at_checked(self.cipher.block).ok_or(CryptoError::Integrity)?;
        if sealed.is_empty() || sealed.len() % self.cipher.block != 0 {
            return Err(CryptoError::Padding);
        }
        strip(Zeroizing::new((self.cipher.decrypt)(self.key.expose(), iv, sealed)?))
    }
}
