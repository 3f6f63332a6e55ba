//! What certificates and CRLs have in common: octets to be signed, an algorithm, a signature (RFC 5280 section 4.1). The
//! octets are taken as they came in, never encoded again.

use der::asn1::{AnyRef, BitStringRef};
use der::{Decode, Reader, SliceReader, Tag, Tagged};
use x509_cert::spki::{AlgorithmIdentifierOwned, AlgorithmIdentifierRef};

use crate::crypto::sign::{BadScheme, BadSignature, PublicKey, Scheme};

/// The outer SEQUENCE.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Signed {
    tbs: Vec<u8>,
    algorithm: AlgorithmIdentifierOwned,
    scheme: Result<Scheme, BadScheme>,
    signature: Vec<u8>,
}

impl Signed {
    pub(super) fn parse(octets: &[u8]) -> Result<Self, der::Error> {
        let outer = AnyRef::from_der(octets)?;
        if outer.tag() != Tag::Sequence {
            return Err(Tag::Sequence.value_error().into());
        }
        let mut reader = SliceReader::new(outer.value())?;
        let tbs = reader.tlv_bytes()?.to_vec();
        let named = reader.tlv_bytes()?;
        let algorithm = AlgorithmIdentifierOwned::from_der(named)?;
        let scheme = Scheme::of(&AlgorithmIdentifierRef::from_der(named)?);
        let signature = BitStringRef::decode(&mut reader)?;
        reader.finish()?;
        let signature = signature.as_bytes().ok_or_else(|| der::Error::from(Tag::BitString.value_error()))?.to_vec();
        Ok(Self { tbs, algorithm, scheme, signature })
    }

    /// The octets that were signed.
    pub(super) fn tbs(&self) -> &[u8] {
        &self.tbs
    }

    /// The signature algorithm as the outer SEQUENCE names it.
    pub(super) fn algorithm(&self) -> &AlgorithmIdentifierOwned {
        &self.algorithm
    }

    pub(super) fn scheme(&self) -> &Result<Scheme, BadScheme> {
        &self.scheme
    }

    pub(super) fn verify(&self, key: &PublicKey) -> Result<(), BadSignature> {
        let scheme = self.scheme.as_ref().map_err(|_| BadSignature)?;
        key.verify(*scheme, &self.tbs, &self.signature)
    }
}
