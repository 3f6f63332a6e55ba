//! The cryptography of the IKE SA: which algorithms there are ([`Provider`]), what is derived from what
//! ([`keys`], RFC 7296 sections 2.13 to 2.18), how the SK payload is sealed and opened ([`Protector`], RFC 5282 and section
//! 3.14), what a pre-shared key signs ([`auth`], section 2.15), and signatures ([`sign`]). The algorithms themselves come from libraries: ring, and
//! RustCrypto where ring has none.

pub mod auth;
mod exchange;
pub mod keys;
mod nat;
mod prf;
mod protect;
mod provider;
mod secret;
mod selftest;
pub mod sign;
#[cfg(test)]
mod tests;

pub use exchange::KeyExchange;
pub use nat::nat_detection_hash;
pub use prf::Prf;
pub use protect::{IvKind, Protector};
pub use provider::{IkeSuite, ProtectionShape, Provider, Standard};
pub use secret::Secret;
pub use selftest::{Algorithm, Tested};

/// SHA-256, to recognise octets seen before.
pub fn digest(octets: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    let hash = ring::digest::digest(&ring::digest::SHA256, octets);
    out.iter_mut().zip(hash.as_ref()).for_each(|(to, from)| *to = *from);
    out
}

/// What can fail in the cryptography.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CryptoError {
    /// This build cannot compute with the algorithm.
    #[error("algorithm not available")]
    Unavailable,
    /// A key or public value has not the length of its algorithm.
    #[error("wrong length")]
    Length,
    /// The public value is no point of the curve, or the shared secret would be zero (RFC 6989).
    #[error("invalid public value")]
    PublicValue,
    /// The message was not sealed with this key, or was changed on the way.
    #[error("integrity check failed")]
    Integrity,
    /// The padding contradicts the length of the plaintext.
    #[error("impossible padding")]
    Padding,
    /// More key material than prf+ gives.
    #[error("prf+ is exhausted")]
    Exhausted,
    /// The random source failed.
    #[error("the random source failed")]
    Entropy,
}
