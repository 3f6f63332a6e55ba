//! Certificate and Certificate Request payloads (RFC 7296 sections 3.6 and 3.7).

use super::chain::Body;
use super::reader::Reader;
use super::{EncodeError, WireError};

/// Certificate encoding octet.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct CertEncoding(
    /// The number in the registry.
    pub u8,
);

impl CertEncoding {
    /// An X.509 certificate for signatures, in DER.
    pub const X509_SIGNATURE: Self = Self(4);
}

/// A certificate, or something else that belongs to one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CertPayload {
    /// What it is.
    pub encoding: CertEncoding,
    /// The octets.
    pub data: Vec<u8>,
}

impl CertPayload {
    pub(super) fn parse(body: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(body, "CERT payload");
        let encoding = CertEncoding(reader.octet()?);
        Ok(Self { encoding, data: reader.rest().to_vec() })
    }
}

impl Body for CertPayload {
    fn emit(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.push(self.encoding.0);
        out.extend_from_slice(&self.data);
        Ok(())
    }
}

/// A wish for certificates.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CertRequest {
    /// Which kind.
    pub encoding: CertEncoding,
    /// Whose: with [`CertEncoding::X509_SIGNATURE`], SHA-1 hashes of the keys of authorities, one behind the other.
    pub authorities: Vec<u8>,
}

impl CertRequest {
    /// A request for certificates below these authorities; any, if there are none.
    pub fn x509(authorities: &[[u8; 20]]) -> Self {
        Self { encoding: CertEncoding::X509_SIGNATURE, authorities: authorities.concat() }
    }

    /// The hashes; none in a request of another kind, or one whose length is no multiple of 20 (V2-AUTH-13).
    pub fn hashes(&self) -> &[[u8; 20]] {
        match self.authorities.as_chunks::<20>() {
            (hashes, []) if self.encoding == CertEncoding::X509_SIGNATURE => hashes,
            _ => &[],
        }
    }

    pub(super) fn parse(body: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(body, "CERTREQ payload");
        let encoding = CertEncoding(reader.octet()?);
        Ok(Self { encoding, authorities: reader.rest().to_vec() })
    }
}

impl Body for CertRequest {
    fn emit(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.push(self.encoding.0);
        out.extend_from_slice(&self.authorities);
        Ok(())
    }
}
