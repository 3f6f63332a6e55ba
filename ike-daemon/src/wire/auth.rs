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
    /// Shared key message integrity code: pre-shared keys.
    pub const SHARED_KEY: Self = Self(2);
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
