//! Which algorithms there are, and how to get at them. [`Standard`] has those of ring and RustCrypto.

use ring::{aead, hmac};

use super::exchange::{self, Ephemeral};
use super::prf::Hmac;
use super::protect::{Aead, CbcHmac, HmacShape};
use super::{CryptoError, KeyExchange, Prf, Protector, Secret};
use crate::wire::transform::{Encr, EncrId, GroupId, IntegId, PrfId};

/// The algorithms of one IKE SA.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct IkeSuite {
    /// Cipher.
    pub encr: Encr,
    /// Integrity algorithm; `NONE` with an AEAD cipher.
    pub integ: IntegId,
    /// Pseudo-random function.
    pub prf: PrfId,
    /// Group.
    pub group: GroupId,
}

/// Octets of key material that one direction of a protocol takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProtectionShape {
    /// Key of the cipher, without salt.
    pub cipher: usize,
    /// Salt of an AEAD.
    pub salt: usize,
    /// Key of the integrity algorithm.
    pub integ: usize,
}

/// A source of algorithms.
pub trait Provider: Send + Sync {
    /// A pseudo-random function, or `None` where this provider has it not.
    fn prf(&self, id: PrfId) -> Option<&'static dyn Prf>;

    /// Key lengths of a cipher with its integrity algorithm for the IKE SA; `None` where this provider cannot, or the two do
    /// not go together.
    fn protection(&self, encr: Encr, integ: IntegId) -> Option<ProtectionShape>;

    /// One direction of an IKE SA. `cipher_key` has the salt of an AEAD behind it.
    ///
    /// # Errors
    /// [`CryptoError::Unavailable`] or [`CryptoError::Length`].
    fn protector(
        &self,
        encr: Encr,
        integ: IntegId,
        cipher_key: &Secret,
        integ_key: &Secret,
    ) -> Result<Box<dyn Protector>, CryptoError>;

    /// Octets of a public value of the group; `None` where this provider has it not.
    fn public_len(&self, group: GroupId) -> Option<usize>;

    /// A fresh key pair.
    ///
    /// # Errors
    /// [`CryptoError::Unavailable`] or [`CryptoError::Entropy`].
    fn key_exchange(&self, group: GroupId) -> Result<Box<dyn KeyExchange>, CryptoError>;

    /// Whether the provider can do everything a suite needs.
    fn supports(&self, suite: &IkeSuite) -> bool {
        self.prf(suite.prf).is_some()
            && self.protection(suite.encr, suite.integ).is_some()
            && self.public_len(suite.group).is_some()
    }
}

/// ring, and RustCrypto for AES-CBC.
#[derive(Clone, Copy, Debug, Default)]
pub struct Standard;

static HMAC_SHA2_256: Hmac = Hmac(&hmac::HMAC_SHA256);
static HMAC_SHA2_384: Hmac = Hmac(&hmac::HMAC_SHA384);
static HMAC_SHA2_512: Hmac = Hmac(&hmac::HMAC_SHA512);

fn aead_algorithm(encr: Encr) -> Option<&'static aead::Algorithm> {
    match (encr.id, encr.key_bits) {
        (EncrId::AES_GCM_16, Some(128)) => Some(&aead::AES_128_GCM),
        (EncrId::AES_GCM_16, Some(256)) => Some(&aead::AES_256_GCM),
        (EncrId::CHACHA20_POLY1305, None) => Some(&aead::CHACHA20_POLY1305),
        _ => None,
    }
}

fn hmac_shape(integ: IntegId) -> Option<HmacShape> {
    match integ {
        IntegId::HMAC_SHA2_256_128 => Some(HmacShape { algorithm: hmac::HMAC_SHA256, icv: 16 }),
        IntegId::HMAC_SHA2_384_192 => Some(HmacShape { algorithm: hmac::HMAC_SHA384, icv: 24 }),
        IntegId::HMAC_SHA2_512_256 => Some(HmacShape { algorithm: hmac::HMAC_SHA512, icv: 32 }),
        _ => None,
    }
}

impl Provider for Standard {
    fn prf(&self, id: PrfId) -> Option<&'static dyn Prf> {
        match id {
            PrfId::HMAC_SHA2_256 => Some(&HMAC_SHA2_256),
            PrfId::HMAC_SHA2_384 => Some(&HMAC_SHA2_384),
            PrfId::HMAC_SHA2_512 => Some(&HMAC_SHA2_512),
            _ => None,
        }
    }

    fn protection(&self, encr: Encr, integ: IntegId) -> Option<ProtectionShape> {
        if let Some(algorithm) = aead_algorithm(encr) {
            let alone = integ == IntegId::NONE;
            return alone.then(|| ProtectionShape { cipher: algorithm.key_len(), salt: 4, integ: 0 });
        }
        let shape = hmac_shape(integ)?;
        match (encr.id, encr.key_bits) {
            (EncrId::AES_CBC, Some(bits @ (128 | 192 | 256))) => Some(ProtectionShape {
                cipher: usize::from(bits / 8),
                salt: 0,
                integ: shape.algorithm.digest_algorithm().output_len(),
            }),
            _ => None,
        }
    }

    fn protector(
        &self,
        encr: Encr,
        integ: IntegId,
        cipher_key: &Secret,
        integ_key: &Secret,
    ) -> Result<Box<dyn Protector>, CryptoError> {
        let shape = self.protection(encr, integ).ok_or(CryptoError::Unavailable)?;
        if cipher_key.len() != shape.cipher + shape.salt || integ_key.len() != shape.integ {
            return Err(CryptoError::Length);
        }
        if let Some(algorithm) = aead_algorithm(encr) {
            return Ok(Box::new(Aead::new(algorithm, cipher_key.expose())?));
        }
        let integ = hmac_shape(integ).ok_or(CryptoError::Unavailable)?;
        Ok(Box::new(CbcHmac { key: cipher_key.clone(), integ, integ_key: integ_key.clone() }))
    }

    fn public_len(&self, group: GroupId) -> Option<usize> {
        exchange::group(group).map(|g| g.public_len)
    }

    fn key_exchange(&self, group: GroupId) -> Result<Box<dyn KeyExchange>, CryptoError> {
        Ok(Box::new(Ephemeral::generate(group)?))
    }
}
