//! Key octets that wipe themselves, do not show in logs and compare in constant time.

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// Octets of a key or a salt, most significant (first on the wire) first.
#[derive(Clone, Default)]
pub struct SecretKey(Zeroizing<Vec<u8>>);

impl SecretKey {
    /// Takes the octets over.
    pub fn new(octets: Vec<u8>) -> Self {
        Self(Zeroizing::new(octets))
    }

    /// The octets. Keep copies out of anything that outlives the call.
    pub fn octets(&self) -> &[u8] {
        &self.0
    }

    /// Length in octets.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no octet.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether every octet is zero, an empty key included. Takes the same time whatever the octets are.
    pub fn is_zero(&self) -> bool {
        self.0.iter().fold(0u8, |seen, octet| seen | octet) == 0
    }
}

impl From<Vec<u8>> for SecretKey {
    fn from(octets: Vec<u8>) -> Self {
        Self::new(octets)
    }
}

impl From<&[u8]> for SecretKey {
    fn from(octets: &[u8]) -> Self {
        Self::new(octets.to_vec())
    }
}

impl PartialEq for SecretKey {
    /// In constant time for keys of one length.
    fn eq(&self, other: &Self) -> bool {
        self.0.as_slice().ct_eq(other.0.as_slice()).into()
    }
}

impl Eq for SecretKey {}

impl std::fmt::Debug for SecretKey {
    /// The length, never the octets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SecretKey({} bits)", self.len() * 8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_not_shown() {
        let key = SecretKey::new(vec![0xab; 16]);
        assert_eq!(format!("{key:?}"), "SecretKey(128 bits)");
        assert_eq!(key, SecretKey::from([0xab; 16].as_slice()));
        assert_ne!(key, SecretKey::from([0xab; 15].as_slice()));
        assert!(SecretKey::new(vec![0; 4]).is_zero() && !key.is_zero());
    }
}
