//! Which algorithms there are, and how to get at them. [`Standard`] has those of ring and RustCrypto.

use ring::hmac;

use super::exchange;
use super::prf::Hmac;
use super::protect::{Aead, AeadShape, CbcHmac, CbcShape, HmacShape};
use super::{CryptoError, KeyExchange, Prf, Protector, Secret};
use crate::wire::transform::{Encr, GroupId, IntegId, PrfId};

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

    /// A key pair with this private value, for known answers; `None` where the library chooses its private values itself
    /// or this is none of the group.
    fn key_exchange_with(&self, group: GroupId, private: &[u8]) -> Option<Box<dyn KeyExchange>>;

    /// Whether the provider can do everything a suite needs.
    fn supports(&self, suite: &IkeSuite) -> bool {
        self.prf(suite.prf).is_some()
            && self.protection(suite.encr, suite.integ).is_some()
            && self.public_len(suite.group).is_some()
    }
}

/// ring, and RustCrypto for what that has not.
#[derive(Clone, Copy, Debug, Default)]
pub struct Standard;

static HMAC_SHA1: Hmac = Hmac(&hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY);
static HMAC_SHA2_256: Hmac = Hmac(&hmac::HMAC_SHA256);
static HMAC_SHA2_384: Hmac = Hmac(&hmac::HMAC_SHA384);
static HMAC_SHA2_512: Hmac = Hmac(&hmac::HMAC_SHA512);

impl Provider for Standard {
    fn prf(&self, id: PrfId) -> Option<&'static dyn Prf> {
        match id {
            PrfId::HMAC_SHA1 => Some(&HMAC_SHA1),
            PrfId::HMAC_SHA2_256 => Some(&HMAC_SHA2_256),
            PrfId::HMAC_SHA2_384 => Some(&HMAC_SHA2_384),
            PrfId::HMAC_SHA2_512 => Some(&HMAC_SHA2_512),
            _ => None,
        }
    }

    fn protection(&self, encr: Encr, integ: IntegId) -> Option<ProtectionShape> {
        if let Some(shape) = AeadShape::of(encr) {
            return (integ == IntegId::NONE).then(|| shape.protection());
        }
        Some(CbcShape::of(encr)?.protection(HmacShape::of(integ)?))
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
        if let Some(shape) = AeadShape::of(encr) {
            return Ok(Box::new(Aead::new(shape, cipher_key.expose())?));
        }
        let cipher = CbcShape::of(encr).ok_or(CryptoError::Unavailable)?;
        let integ = HmacShape::of(integ).ok_or(CryptoError::Unavailable)?;
        Ok(Box::new(CbcHmac { cipher, key: cipher_key.clone(), integ, integ_key: integ_key.clone() }))
    }

    fn public_len(&self, group: GroupId) -> Option<usize> {
        exchange::public_len(group)
    }

    fn key_exchange(&self, group: GroupId) -> Result<Box<dyn KeyExchange>, CryptoError> {
        exchange::generate(group)
    }

    fn key_exchange_with(&self, group: GroupId, private: &[u8]) -> Option<Box<dyn KeyExchange>> {
        exchange::with_private(group, private).ok()
    }
}
