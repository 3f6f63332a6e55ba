//! The key schedule: SKEYSEED and SK_* of an IKE SA (RFC 7296 section 2.14), of a rekeyed one (section 2.18), and KEYMAT of
//! child SAs (section 2.17).

use super::{CryptoError, IkeSuite, Prf, ProtectionShape, Protector, Provider, Secret};
use crate::wire::nonce::Nonce;
use crate::wire::transform::{Encr, EncrId, IntegId};

/// The seven keys of one IKE SA.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IkeKeys {
    /// Derives child keys.
    pub sk_d: Secret,
    /// Integrity, initiator to responder; empty with an AEAD.
    pub sk_ai: Secret,
    /// Integrity, responder to initiator; empty with an AEAD.
    pub sk_ar: Secret,
    /// Cipher, initiator to responder; with the salt behind it for an AEAD.
    pub sk_ei: Secret,
    /// Cipher, responder to initiator; with the salt behind it for an AEAD.
    pub sk_er: Secret,
    /// AUTH of the initiator.
    pub sk_pi: Secret,
    /// AUTH of the responder.
    pub sk_pr: Secret,
}

/// Nonces of the exchange that makes keys, and the SPIs the keys are bound to.
#[derive(Clone, Copy, Debug)]
pub struct Freshness<'a> {
    /// Ni.
    pub nonce_initiator: &'a Nonce,
    /// Nr.
    pub nonce_responder: &'a Nonce,
    /// SPIi of the IKE SA that gets the keys.
    pub spi_initiator: [u8; 8],
    /// SPIr of the IKE SA that gets the keys.
    pub spi_responder: [u8; 8],
}

impl IkeKeys {
    /// Keys of an IKE SA made by IKE_SA_INIT.
    ///
    /// # Errors
    /// [`CryptoError::Unavailable`] when the provider has not the suite.
    pub fn initial(
        provider: &dyn Provider,
        suite: &IkeSuite,
        shared: &Secret,
        fresh: &Freshness<'_>,
    ) -> Result<Self, CryptoError> {
        let prf = provider.prf(suite.prf).ok_or(CryptoError::Unavailable)?;
        let nonces = [fresh.nonce_initiator.octets(), fresh.nonce_responder.octets()].concat();
        let seed = prf.compute(&nonces, &[shared.expose()]);
        Self::expand(provider, prf, suite, &seed, fresh)
    }

    /// Keys of the IKE SA that replaces one with this SK_d and `old_prf`: the seed is made with the old function, the keys
    /// with the new one (V2-KEY-09).
    ///
    /// # Errors
    /// [`CryptoError::Unavailable`] when the provider has not the suite.
    pub fn rekeyed(
        &self,
        provider: &dyn Provider,
        old_prf: &dyn Prf,
        suite: &IkeSuite,
        shared: &Secret,
        fresh: &Freshness<'_>,
    ) -> Result<Self, CryptoError> {
        let prf = provider.prf(suite.prf).ok_or(CryptoError::Unavailable)?;
        let parts = [shared.expose(), fresh.nonce_initiator.octets(), fresh.nonce_responder.octets()];
        let seed = old_prf.compute(self.sk_d.expose(), &parts);
        Self::expand(provider, prf, suite, &seed, fresh)
    }

    fn expand(
        provider: &dyn Provider,
        prf: &dyn Prf,
        suite: &IkeSuite,
        seed: &Secret,
        fresh: &Freshness<'_>,
    ) -> Result<Self, CryptoError> {
        let shape = provider.protection(suite.encr, suite.integ).ok_or(CryptoError::Unavailable)?;
        let (cipher, own) = (shape.cipher + shape.salt, prf.output_len());
        let parts = [
            fresh.nonce_initiator.octets(),
            fresh.nonce_responder.octets(),
            &fresh.spi_initiator,
            &fresh.spi_responder,
        ];
        let stream = prf.expand(seed.expose(), &parts, 3 * own + 2 * shape.integ + 2 * cipher)?;
        let mut cut = Cutter(stream.expose());
        Ok(Self {
            sk_d: cut.take(own)?,
            sk_ai: cut.take(shape.integ)?,
            sk_ar: cut.take(shape.integ)?,
            sk_ei: cut.take(cipher)?,
            sk_er: cut.take(cipher)?,
            sk_pi: cut.take(own)?,
            sk_pr: cut.take(own)?,
        })
    }

    /// Protection of both directions.
    ///
    /// # Errors
    /// [`CryptoError::Unavailable`] when the provider has not the suite.
    pub fn protectors(&self, provider: &dyn Provider, suite: &IkeSuite) -> Result<Protectors, CryptoError> {
        Ok(Protectors {
            initiator: provider.protector(suite.encr, suite.integ, &self.sk_ei, &self.sk_ai)?,
            responder: provider.protector(suite.encr, suite.integ, &self.sk_er, &self.sk_ar)?,
        })
    }
}

/// Protection of both directions of an IKE SA.
pub struct Protectors {
    /// Of what the original initiator sends.
    pub initiator: Box<dyn Protector>,
    /// Of what the original responder sends.
    pub responder: Box<dyn Protector>,
}

/// Takes keys from a stream in order (V2-KEY-03).
struct Cutter<'a>(&'a [u8]);

impl Cutter<'_> {
    fn take(&mut self, length: usize) -> Result<Secret, CryptoError> {
        let (head, rest) = self.0.split_at_checked(length).ok_or(CryptoError::Length)?;
        self.0 = rest;
        Ok(Secret::copy_of(head))
    }
}

/// Keys of one direction of a child.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DirectionKeys {
    /// Cipher, without salt.
    pub cipher: Secret,
    /// Salt of a counter mode.
    pub salt: Secret,
    /// Integrity.
    pub integ: Secret,
}

/// Key lengths of a child's algorithms; `None` for combinations that are not known or not allowed: encryption without
/// integrity (ALG-01), an AEAD with an integrity transform, a key length the cipher has not.
///
/// The salt follows the key of the cipher: three octets for AES-CCM (RFC 4309 section 7.1), four for AES-CTR (RFC 3686
/// section 5.1), AES-GCM (RFC 4106 section 8.1), AES-GMAC (RFC 4543 section 5.1) and ChaCha20-Poly1305 (RFC 7634
/// section 4).
pub fn child_shape(encr: Option<Encr>, integ: IntegId) -> Option<ProtectionShape> {
    let integ_len = child_integ_key_len(integ)?;
    let Some(encr) = encr else {
        return (integ_len > 0).then_some(ProtectionShape { cipher: 0, salt: 0, integ: integ_len });
    };
    let octets = |bits: u16| usize::from(bits / 8);
    let (cipher, salt) = match (encr.id, encr.key_bits) {
        (
            EncrId::AES_GCM_8 | EncrId::AES_GCM_12 | EncrId::AES_GCM_16 | EncrId::NULL_AES_GMAC | EncrId::AES_CTR,
            Some(bits @ (128 | 192 | 256)),
        ) => (octets(bits), 4),
        (EncrId::AES_CCM_8 | EncrId::AES_CCM_12 | EncrId::AES_CCM_16, Some(bits @ (128 | 192 | 256))) => {
            (octets(bits), 3)
        }
        (EncrId::CHACHA20_POLY1305, None) => (32, 4),
        (EncrId::AES_CBC, Some(bits @ (128 | 192 | 256))) => (octets(bits), 0),
        (EncrId::BLOWFISH, None) => (16, 0),
        (EncrId::BLOWFISH, Some(bits @ 32..=448)) if bits.is_multiple_of(8) => (octets(bits), 0),
        (EncrId::TRIPLE_DES, None) => (24, 0),
        (EncrId::DES, None) => (8, 0),
        (EncrId::NULL, None) => (0, 0),
        _ => return None,
    };
    let one_integrity = encr.is_aead() == (integ == IntegId::NONE);
    one_integrity.then_some(ProtectionShape { cipher, salt, integ: integ_len })
}

/// Key of the integrity algorithm of a child: the length of the hash (RFC 2403, RFC 2404, RFC 4868 section 2.1.1).
fn child_integ_key_len(integ: IntegId) -> Option<usize> {
    match integ {
        IntegId::NONE => Some(0),
        IntegId::HMAC_MD5_96 => Some(16),
        IntegId::HMAC_SHA1_96 => Some(20),
        IntegId::HMAC_SHA2_256_128 => Some(32),
        IntegId::HMAC_SHA2_384_192 => Some(48),
        IntegId::HMAC_SHA2_512_256 => Some(64),
        _ => None,
    }
}

/// KEYMAT of a child (section 2.17): first what the initiator of the exchange sends with, then what it receives with.
/// `shared` is the secret of a key exchange of its own.
///
/// # Errors
/// [`CryptoError::Exhausted`] never for the shapes there are.
pub fn child_keys(
    prf: &dyn Prf,
    sk_d: &Secret,
    shared: Option<&Secret>,
    nonces: (&Nonce, &Nonce),
    shape: ProtectionShape,
) -> Result<(DirectionKeys, DirectionKeys), CryptoError> {
    let parts = [shared.map_or(&[][..], Secret::expose), nonces.0.octets(), nonces.1.octets()];
    let stream = prf.expand(sk_d.expose(), &parts, 2 * (shape.cipher + shape.salt + shape.integ))?;
    let mut cut = Cutter(stream.expose());
    let mut direction = || -> Result<DirectionKeys, CryptoError> {
        Ok(DirectionKeys {
            cipher: cut.take(shape.cipher)?,
            salt: cut.take(shape.salt)?,
            integ: cut.take(shape.integ)?,
        })
    };
    Ok((direction()?, direction()?))
}
