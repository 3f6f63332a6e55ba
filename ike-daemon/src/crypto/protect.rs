//! Sealing and opening the body of an SK payload: AEAD (RFC 5282) and encrypt-then-MAC with AES-CBC (RFC 7296 section 3.14).
//! What is sealed is padded here and what is opened is stripped of its padding here.

use aes::cipher::block_padding::NoPadding;
use aes::cipher::{BlockDecryptMut, BlockEncryptMut, KeyIvInit};
use aes::{Aes128, Aes192, Aes256};
use ring::{aead, hmac};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::prf::mac;
use super::{CryptoError, Secret};

/// What an explicit IV has to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IvKind {
    /// Never the same twice under one key: a counter of eight octets.
    Counter,
    /// Unpredictable: sixteen random octets.
    Random,
}

/// One direction of an IKE SA.
pub trait Protector: Send + Sync {
    /// What IV [`seal`](Self::seal) wants.
    fn iv(&self) -> IvKind;

    /// Octets of the SK body for so many octets of inner payloads.
    fn body_len(&self, plain: usize) -> usize;

    /// The SK body: IV, ciphertext, ICV. `associated` is the message up to and including SK's generic header.
    ///
    /// # Errors
    /// [`CryptoError::Length`] when the IV is not of the length that [`iv`](Self::iv) says.
    fn seal(&self, iv: &[u8], associated: &[u8], plain: &[u8]) -> Result<Vec<u8>, CryptoError>;

    /// The inner payloads. The ICV is checked before anything is decrypted (V2-ENC-02).
    ///
    /// # Errors
    /// [`CryptoError::Integrity`] when the message is not authentic or too short to be; [`CryptoError::Padding`] when it is
    /// authentic and padded impossibly.
    fn open(&self, associated: &[u8], body: &[u8]) -> Result<Zeroizing<Vec<u8>>, CryptoError>;
}

const SALT: usize = 4;
const AEAD_IV: usize = 8;
const AEAD_ICV: usize = 16;
const BLOCK: usize = 16;

pub(super) struct Aead {
    key: aead::LessSafeKey,
    salt: [u8; SALT],
}

impl Aead {
    /// `key` has the salt behind it.
    pub(super) fn new(algorithm: &'static aead::Algorithm, key: &[u8]) -> Result<Self, CryptoError> {
        let (key, salt) = key.split_last_chunk::<SALT>().ok_or(CryptoError::Length)?;
        let key = aead::UnboundKey::new(algorithm, key).map_err(|_| CryptoError::Length)?;
        Ok(Self { key: aead::LessSafeKey::new(key), salt: *salt })
    }

    fn nonce(&self, iv: &[u8]) -> Result<aead::Nonce, CryptoError> {
        let nonce = [&self.salt, iv].concat();
        aead::Nonce::try_assume_unique_for_key(&nonce).map_err(|_| CryptoError::Length)
    }
}

impl Protector for Aead {
    fn iv(&self) -> IvKind {
        IvKind::Counter
    }

    fn body_len(&self, plain: usize) -> usize {
        AEAD_IV + plain + 1 + AEAD_ICV
    }

    fn seal(&self, iv: &[u8], associated: &[u8], plain: &[u8]) -> Result<Vec<u8>, CryptoError> {
        let nonce = self.nonce(iv)?;
        let mut sealed = plain.to_vec();
        sealed.push(0);
        self.key
            .seal_in_place_append_tag(nonce, aead::Aad::from(associated), &mut sealed)
            .map_err(|_| CryptoError::Length)?;
        Ok([iv, &sealed].concat())
    }

    fn open(&self, associated: &[u8], body: &[u8]) -> Result<Zeroizing<Vec<u8>>, CryptoError> {
        let (iv, sealed) = body.split_at_checked(AEAD_IV).ok_or(CryptoError::Integrity)?;
        let nonce = self.nonce(iv)?;
        let mut octets = Zeroizing::new(sealed.to_vec());
        let opened = self
            .key
            .open_in_place(nonce, aead::Aad::from(associated), &mut octets)
            .map_err(|_| CryptoError::Integrity)?
            .len();
        octets.truncate(opened);
        strip(octets)
    }
}

/// Removes the Pad Length octet and as much padding as it says; the content of the padding does not matter (V2-ENC-04).
fn strip(mut octets: Zeroizing<Vec<u8>>) -> Result<Zeroizing<Vec<u8>>, CryptoError> {
    let padding = octets.pop().ok_or(CryptoError::Padding)?;
    let length = octets.len().checked_sub(usize::from(padding)).ok_or(CryptoError::Padding)?;
    octets.truncate(length);
    Ok(octets)
}

/// AES in CBC mode with a truncated HMAC.
pub(super) struct CbcHmac {
    pub(super) key: Secret,
    pub(super) integ: HmacShape,
    pub(super) integ_key: Secret,
}

/// An HMAC and how many octets of it make the ICV (RFC 4868).
#[derive(Clone, Copy)]
pub(super) struct HmacShape {
    pub(super) algorithm: hmac::Algorithm,
    pub(super) icv: usize,
}

impl CbcHmac {
    fn encrypt(&self, iv: &[u8], plain: &[u8]) -> Result<Vec<u8>, CryptoError> {
        fn run<C: KeyIvInit + BlockEncryptMut>(key: &[u8], iv: &[u8], plain: &[u8]) -> Result<Vec<u8>, CryptoError> {
            let cipher = C::new_from_slices(key, iv).map_err(|_| CryptoError::Length)?;
            Ok(cipher.encrypt_padded_vec_mut::<NoPadding>(plain))
        }
        match self.key.len() {
            16 => run::<cbc::Encryptor<Aes128>>(self.key.expose(), iv, plain),
            24 => run::<cbc::Encryptor<Aes192>>(self.key.expose(), iv, plain),
            32 => run::<cbc::Encryptor<Aes256>>(self.key.expose(), iv, plain),
            _ => Err(CryptoError::Length),
        }
    }

    fn decrypt(&self, iv: &[u8], sealed: &[u8]) -> Result<Vec<u8>, CryptoError> {
        fn run<C: KeyIvInit + BlockDecryptMut>(key: &[u8], iv: &[u8], sealed: &[u8]) -> Result<Vec<u8>, CryptoError> {
            let cipher = C::new_from_slices(key, iv).map_err(|_| CryptoError::Length)?;
            cipher.decrypt_padded_vec_mut::<NoPadding>(sealed).map_err(|_| CryptoError::Length)
        }
        match self.key.len() {
            16 => run::<cbc::Decryptor<Aes128>>(self.key.expose(), iv, sealed),
            24 => run::<cbc::Decryptor<Aes192>>(self.key.expose(), iv, sealed),
            32 => run::<cbc::Decryptor<Aes256>>(self.key.expose(), iv, sealed),
            _ => Err(CryptoError::Length),
        }
    }

    /// Padding that fills the last block, its Pad Length octet included.
    fn padding(plain: usize) -> usize {
        BLOCK - 1 - plain % BLOCK
    }
}

impl Protector for CbcHmac {
    fn iv(&self) -> IvKind {
        IvKind::Random
    }

    fn body_len(&self, plain: usize) -> usize {
        BLOCK + plain + Self::padding(plain) + 1 + self.integ.icv
    }

    fn seal(&self, iv: &[u8], associated: &[u8], plain: &[u8]) -> Result<Vec<u8>, CryptoError> {
        let padding = Self::padding(plain.len());
        let mut padded = Zeroizing::new(Vec::with_capacity(plain.len() + padding + 1));
        padded.extend_from_slice(plain);
        padded.resize(plain.len() + padding, 0);
        padded.push(u8::try_from(padding).map_err(|_| CryptoError::Length)?);
        let mut body = [iv, &self.encrypt(iv, &padded)?].concat();
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
        let (iv, sealed) = covered.split_at_checked(BLOCK).ok_or(CryptoError::Integrity)?;
        if sealed.is_empty() || sealed.len() % BLOCK != 0 {
            return Err(CryptoError::Padding);
        }
        strip(Zeroizing::new(self.decrypt(iv, sealed)?))
    }
}
