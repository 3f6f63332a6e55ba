//! Sealing and opening the body of an SK payload: AEAD (RFC 5282) and encrypt-then-MAC with a cipher in CBC mode (RFC 7296
//! section 3.14). What is sealed is padded here and what is opened is stripped of its padding here.

mod aead;
mod cbc;

use zeroize::Zeroizing;

pub(super) use self::aead::{Aead, AeadShape};
pub(super) use self::cbc::{CbcHmac, CbcShape, HmacShape};
use super::CryptoError;

/// What an explicit IV has to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IvKind {
    /// Never the same twice under one key: a counter of eight octets.
    Counter,
    /// Unpredictable: so many random octets, the block of the cipher.
    Random(usize),
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

/// Removes the Pad Length octet and as much padding as it says; the content of the padding does not matter (V2-ENC-04).
fn strip(mut octets: Zeroizing<Vec<u8>>) -> Result<Zeroizing<Vec<u8>>, CryptoError> {
    let padding = octets.pop().ok_or(CryptoError::Padding)?;
    let length = octets.len().checked_sub(usize::from(padding)).ok_or(CryptoError::Padding)?;
    octets.truncate(length);
    Ok(octets)
}
