//! Signatures: which algorithms there are ([`Scheme`]), who verifies ([`PublicKey`]) and who signs ([`PrivateKey`]). RSA,
//! ECDSA on P-256 and P-384 and Ed25519 are computed by ring; what ring has not (P-521, hashes that do not belong to the
//! curve) by RustCrypto.
//!
//! Nothing here knows a certificate or an identity.

mod private;
mod public;
mod scheme;
#[cfg(test)]
mod tests;

pub use private::{KeyError, PrivateKey};
pub use public::{KeyKind, PublicKey, PublicKeyError};
pub use scheme::{BadScheme, EcdsaForm, HashAlgorithm, Scheme};

/// The signature does not belong to this message and key. Says no more: why is of use to a forger only.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the signature does not verify")]
pub struct BadSignature;

/// SHA-1, by which CERTREQ names keys (RFC 7296 section 3.7). Good for nothing else.
pub fn sha1(octets: &[u8]) -> [u8; 20] {
    let mut out = [0; 20];
    let hash = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, octets);
    out.iter_mut().zip(hash.as_ref()).for_each(|(to, from)| *to = *from);
    out
}
