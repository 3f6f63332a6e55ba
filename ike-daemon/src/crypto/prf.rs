//! Pseudo-random functions and prf+ (RFC 7296 section 2.13).

use ring::hmac;

use super::{CryptoError, Secret};

/// A pseudo-random function with a key of any length.
pub trait Prf: Send + Sync {
    /// Octets of output; also the preferred key length.
    fn output_len(&self) -> usize;

    /// The function over the parts one after the other.
    fn compute(&self, key: &[u8], parts: &[&[u8]]) -> Secret;

    /// prf+ (section 2.13): `length` octets.
    ///
    /// # Errors
    /// [`CryptoError::Exhausted`] when that takes more than 255 rounds (V2-KEY-02).
    fn expand(&self, key: &[u8], parts: &[&[u8]], length: usize) -> Result<Secret, CryptoError> {
        let mut stream = Vec::with_capacity(length + self.output_len());
        let mut block = Secret::default();
        let mut round: u8 = 0;
        while stream.len() < length {
            round = round.checked_add(1).ok_or(CryptoError::Exhausted)?;
            let count = [round];
            let input: Vec<&[u8]> =
                [block.expose()].into_iter().chain(parts.iter().copied()).chain([&count[..]]).collect();
            let next = self.compute(key, &input);
            stream.extend_from_slice(next.expose());
            block = next;
        }
        let stream = Secret::new(stream);
        stream.expose().get(..length).map(Secret::copy_of).ok_or(CryptoError::Length)
    }
}

pub(super) struct Hmac(pub(super) &'static hmac::Algorithm);

impl Prf for Hmac {
    fn output_len(&self) -> usize {
        self.0.digest_algorithm().output_len()
    }

    fn compute(&self, key: &[u8], parts: &[&[u8]]) -> Secret {
        Secret::copy_of(mac(*self.0, key, parts).as_ref())
    }
}

pub(super) fn mac(algorithm: hmac::Algorithm, key: &[u8], parts: &[&[u8]]) -> hmac::Tag {
    let mut context = hmac::Context::with_key(&hmac::Key::new(algorithm, key));
    parts.iter().for_each(|part| context.update(part));
    context.sign()
}
