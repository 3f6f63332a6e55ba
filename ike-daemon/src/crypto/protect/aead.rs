//! Combined-mode ciphers: those of ring, and of RustCrypto what ring has not (keys of 192 bits, other ICVs, CCM).

use aes::{Aes128, Aes192, Aes256};
use aes_gcm::AesGcm;
use aes_gcm::aead::consts::{U8, U11, U12, U16};
use aes_gcm::aead::{AeadInPlace, KeyInit, Nonce};
use ccm::Ccm;
use ring::aead as ring_aead;
use zeroize::Zeroizing;

use super::{IvKind, Protector, strip};
use crate::crypto::{CryptoError, ProtectionShape, Secret};
use crate::wire::transform::{Encr, EncrId};

const AEAD_IV: usize = 8;

/// A cipher with its key.
trait Cipher: Send + Sync {
    /// Seals what `octets` hold and puts the ICV behind it.
    fn seal(&self, nonce: &[u8], associated: &[u8], octets: &mut Vec<u8>) -> Result<(), CryptoError>;

    /// Checks and opens what `octets` hold, ICV included, and takes that away.
    fn open(&self, nonce: &[u8], associated: &[u8], octets: &mut Vec<u8>) -> Result<(), CryptoError>;
}

impl Cipher for ring_aead::LessSafeKey {
    fn seal(&self, nonce: &[u8], associated: &[u8], octets: &mut Vec<u8>) -> Result<(), CryptoError> {
        let nonce = ring_aead::Nonce::try_assume_unique_for_key(nonce).map_err(|_| CryptoError::Length)?;
        self.seal_in_place_append_tag(nonce, ring_aead::Aad::from(associated), octets).map_err(|_| CryptoError::Length)
    }

    fn open(&self, nonce: &[u8], associated: &[u8], octets: &mut Vec<u8>) -> Result<(), CryptoError> {
        let nonce = ring_aead::Nonce::try_assume_unique_for_key(nonce).map_err(|_| CryptoError::Length)?;
        let opened = self.open_in_place(nonce, ring_aead::Aad::from(associated), octets);
        let opened = opened.map_err(|_| CryptoError::Integrity)?.len();
        octets.truncate(opened);
        Ok(())
    }
}

/// A cipher of RustCrypto.
struct Soft<A>(A);

/// RustCrypto's nonces have a length of their type.
fn nonce<A: AeadInPlace>(octets: &[u8]) -> Result<&Nonce<A>, CryptoError> {
    let fits = octets.len() == Nonce::<A>::default().len();
    fits.then(|| Nonce::<A>::from_slice(octets)).ok_or(CryptoError::Length)
}

impl<A: AeadInPlace + Send + Sync> Cipher for Soft<A> {
    fn seal(&self, octets: &[u8], associated: &[u8], plain: &mut Vec<u8>) -> Result<(), CryptoError> {
        self.0.encrypt_in_place(nonce::<A>(octets)?, associated, plain).map_err(|_| CryptoError::Length)
    }

    fn open(&self, octets: &[u8], associated: &[u8], sealed: &mut Vec<u8>) -> Result<(), CryptoError> {
        self.0.decrypt_in_place(nonce::<A>(octets)?, associated, sealed).map_err(|_| CryptoError::Integrity)
    }
}

type Make = fn(&[u8]) -> Option<Box<dyn Cipher>>;

fn soft<A: AeadInPlace + KeyInit + Send + Sync + 'static>(key: &[u8]) -> Option<Box<dyn Cipher>> {
    Some(Box::new(Soft(A::new_from_slice(key).ok()?)))
}

fn of_ring(algorithm: &'static ring_aead::Algorithm, key: &[u8]) -> Option<Box<dyn Cipher>> {
    Some(Box::new(ring_aead::LessSafeKey::new(ring_aead::UnboundKey::new(algorithm, key).ok()?)))
}

/// Lengths of a combined-mode cipher in octets, and how to make it.
#[derive(Clone, Copy)]
pub(in crate::crypto) struct AeadShape {
    key: usize,
    /// The rest of the nonce, in front of the IV of the message.
    salt: usize,
    icv: usize,
    make: Make,
}

impl AeadShape {
    /// The cipher of a transform; `None` when it is no combined-mode one or not there. AES-GCM with an ICV of 8 octets is in
    /// neither library.
    pub(in crate::crypto) fn of(encr: Encr) -> Option<Self> {
        let gcm = |icv, bits: u16, make| Self { key: usize::from(bits / 8), salt: 4, icv, make };
        let ccm = |icv, bits: u16, make| Self { key: usize::from(bits / 8), salt: 3, icv, make };
        let bits = encr.key_bits.unwrap_or(256);
        let shape = match (encr.id, encr.key_bits) {
            (EncrId::AES_GCM_16, Some(128)) => gcm(16, bits, |key| of_ring(&ring_aead::AES_128_GCM, key)),
            (EncrId::AES_GCM_16, Some(192)) => gcm(16, bits, soft::<AesGcm<Aes192, U12>>),
            (EncrId::AES_GCM_16, Some(256)) => gcm(16, bits, |key| of_ring(&ring_aead::AES_256_GCM, key)),
            (EncrId::AES_GCM_12, Some(128)) => gcm(12, bits, soft::<AesGcm<Aes128, U12, U12>>),
            (EncrId::AES_GCM_12, Some(192)) => gcm(12, bits, soft::<AesGcm<Aes192, U12, U12>>),
            (EncrId::AES_GCM_12, Some(256)) => gcm(12, bits, soft::<AesGcm<Aes256, U12, U12>>),
            (EncrId::AES_CCM_8, Some(128)) => ccm(8, bits, soft::<Ccm<Aes128, U8, U11>>),
            (EncrId::AES_CCM_8, Some(192)) => ccm(8, bits, soft::<Ccm<Aes192, U8, U11>>),
            (EncrId::AES_CCM_8, Some(256)) => ccm(8, bits, soft::<Ccm<Aes256, U8, U11>>),
            (EncrId::AES_CCM_12, Some(128)) => ccm(12, bits, soft::<Ccm<Aes128, U12, U11>>),
            (EncrId::AES_CCM_12, Some(192)) => ccm(12, bits, soft::<Ccm<Aes192, U12, U11>>),
            (EncrId::AES_CCM_12, Some(256)) => ccm(12, bits, soft::<Ccm<Aes256, U12, U11>>),
            (EncrId::AES_CCM_16, Some(128)) => ccm(16, bits, soft::<Ccm<Aes128, U16, U11>>),
            (EncrId::AES_CCM_16, Some(192)) => ccm(16, bits, soft::<Ccm<Aes192, U16, U11>>),
            (EncrId::AES_CCM_16, Some(256)) => ccm(16, bits, soft::<Ccm<Aes256, U16, U11>>),
            (EncrId::CHACHA20_POLY1305, None) => gcm(16, bits, |key| of_ring(&ring_aead::CHACHA20_POLY1305, key)),
            _ => return None,
        };
        Some(shape)
    }

    /// Octets of key material.
    pub(in crate::crypto) fn protection(&self) -> ProtectionShape {
        ProtectionShape { cipher: self.key, salt: self.salt, integ: 0 }
    }
}

pub(in crate::crypto) struct Aead {
    cipher: Box<dyn Cipher>,
    salt: Secret,
    icv: usize,
}

impl Aead {
    /// `key` has the salt behind it.
    pub(in crate::crypto) fn new(shape: AeadShape, key: &[u8]) -> Result<Self, CryptoError> {
        let (key, salt) = key.split_at_checked(shape.key).ok_or(CryptoError::Length)?;
        let cipher = (shape.make)(key).ok_or(CryptoError::Length)?;
        Ok(Self { cipher, salt: Secret::copy_of(salt), icv: shape.icv })
    }

    fn nonce(&self, iv: &[u8]) -> Vec<u8> {
        [self.salt.expose(), iv].concat()
    }
}

impl Protector for Aead {
    fn iv(&self) -> IvKind {
        IvKind::Counter
    }

    fn body_len(&self, plain: usize) -> usize {
        AEAD_IV + plain + 1 + self.icv
    }

    fn seal(&self, iv: &[u8], associated: &[u8], plain: &[u8]) -> Result<Vec<u8>, CryptoError> {
        // Room for all of it: what grows leaves copies of the plaintext behind.
        let mut sealed = Vec::with_capacity(plain.len() + 1 + self.icv);
        sealed.extend_from_slice(plain);
        sealed.push(0);
        self.cipher.seal(&self.nonce(iv), associated, &mut sealed)?;
        Ok([iv, &sealed].concat())
    }

    fn open(&self, associated: &[u8], body: &[u8]) -> Result<Zeroizing<Vec<u8>>, CryptoError> {
        let (iv, sealed) = body.split_at_checked(AEAD_IV).ok_or(CryptoError::Integrity)?;
        let mut octets = Zeroizing::new(sealed.to_vec());
        self.cipher.open(&self.nonce(iv), associated, &mut octets)?;
        strip(octets)
    }
}
