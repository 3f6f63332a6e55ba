//! The Authentication payload (RFC 7296 section 3.8).

use super::chain::Body;
use super::reader::Reader;
use super::{EncodeError, WireError};

/// AUTH method octet.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct AuthMethod(
    /// The number in the registry.
    pub u8,
);

impl AuthMethod {
    /// RSA with PKCS#1 v1.5; the hash is not said.
    pub const RSA: Self = Self(1);
    /// Shared key message integrity code: pre-shared keys.
    pub const SHARED_KEY: Self = Self(2);
    /// ECDSA on P-256 with SHA2-256 (RFC 4754).
    pub const ECDSA_256: Self = Self(9);
    /// ECDSA on P-384 with SHA2-384 (RFC 4754).
    pub const ECDSA_384: Self = Self(10);
    /// ECDSA on P-521 with SHA2-512 (RFC 4754).
    pub const ECDSA_521: Self = Self(11);
    /// A signature whose algorithm stands in front of it (RFC 7427).
    pub const DIGITAL_SIGNATURE: Self = Self(14);
}

/// Method and data.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Authentication {
    /// Method.
    pub method: AuthMethod,
    /// What the method computed.
    pub data: Vec<u8>,
}

impl Authentication {
    pub(super) fn parse(body: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(body, "AUTH payload");
        let method = AuthMethod(reader.octet()?);
        reader.take(3)?;
        Ok(Self { method, data: reader.rest().to_vec() })
    }
}

impl Body for Authentication {
    fn emit(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.extend_from_slice(&[self.method.0, 0, 0, 0]);
        out.extend_from_slice(&self.data);
        Ok(())
    }
}
