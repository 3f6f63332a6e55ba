//! The Nonce payload (RFC 7296 section 3.9): 16 to 256 octets.

use super::chain::Body;
use super::{EncodeError, WireError};

/// A nonce. The order is that of section 2.8.1: octet by octet, and the shorter one is lower where it is a prefix.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Nonce(Vec<u8>);

impl Nonce {
    /// Checks the length (V2-KEY-01).
    ///
    /// # Errors
    /// [`WireError::Length`] outside 16 to 256 octets.
    pub fn new(octets: Vec<u8>) -> Result<Self, WireError> {
        if (16..=256).contains(&octets.len()) { Ok(Self(octets)) } else { Err(WireError::Length("Nonce payload")) }
    }

    /// Whether the nonce is long enough for a pseudo-random function with a preferred key of `key` octets: at least half of
    /// it (RFC 7296 section 2.10).
    pub fn suffices(&self, key: usize) -> bool {
        self.0.len() >= key.div_ceil(2)
    }

    /// The octets.
    pub fn octets(&self) -> &[u8] {
        &self.0
    }
}

impl Body for Nonce {
    fn emit(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.extend_from_slice(&self.0);
        Ok(())
    }
}
