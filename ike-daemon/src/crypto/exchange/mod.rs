//! Ephemeral key exchange. A private value is used once (V2-KE-07), and every public value is checked as RFC 6989 asks
//! (V2-KE-05).
//!
//! Curve25519 (RFC 8031), P-256 and P-384 (RFC 5903) are ring's; the other curves are those of RustCrypto, MODP groups
//! are computed with its integers.

mod ecp;
mod modp;
pub(super) mod primes;
mod ring_groups;

use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

use super::{CryptoError, Secret};
use crate::wire::transform::GroupId;

/// Our half of a key exchange.
pub trait KeyExchange: Send {
    /// The group.
    fn group(&self) -> GroupId;

    /// Our public value, as the KE payload carries it.
    fn public(&self) -> &[u8];

    /// The shared secret with the peer's public value.
    ///
    /// # Errors
    /// [`CryptoError::Length`] when the value has not the group's length (V2-KE-04), [`CryptoError::PublicValue`] when it is
    /// no valid one (V2-KE-05).
    fn complete(self: Box<Self>, peer: &[u8]) -> Result<Secret, CryptoError>;
}

/// Octets of a public value, and of the shared secret of MODP groups; `None` for groups that are not there.
pub(super) fn public_len(id: GroupId) -> Option<usize> {
    ring_groups::public_len(id).or_else(|| ecp::public_len(id)).or_else(|| modp::public_len(id))
}

/// A fresh key pair.
pub(super) fn generate(id: GroupId) -> Result<Box<dyn KeyExchange>, CryptoError> {
    if ring_groups::public_len(id).is_some() {
        return Ok(Box::new(ring_groups::Ephemeral::generate(id)?));
    }
    let octets = private_len(id).ok_or(CryptoError::Unavailable)?;
    // Of the curves here the least favourable order rejects one value in two, the least favourable MODP group one in
    // two as well.
    for _ in 0..128 {
        let mut private = Zeroizing::new(vec![0; octets]);
        SystemRandom::new().fill(&mut private).map_err(|_| CryptoError::Entropy)?;
        match with_private(id, &private) {
            Err(CryptoError::Length) => {}
            result => return result,
        }
    }
    Err(CryptoError::Entropy)
}

fn private_len(id: GroupId) -> Option<usize> {
    ecp::private_len(id).or_else(|| modp::private_len(id))
}

/// A key pair with this private value, most significant octet first: for tests with known answers. Bits above those of the
/// group's order are ignored.
///
/// # Errors
/// [`CryptoError::Unavailable`] where the library sets its private values itself, [`CryptoError::Length`] when this is no
/// private value of the group.
pub(super) fn with_private(id: GroupId, private: &[u8]) -> Result<Box<dyn KeyExchange>, CryptoError> {
    if ecp::private_len(id).is_some() {
        return Ok(Box::new(ecp::Ephemeral::new(id, private)?));
    }
    Ok(Box::new(modp::Ephemeral::new(id, private)?))
}
