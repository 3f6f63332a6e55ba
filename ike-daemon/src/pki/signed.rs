//! What certificates and CRLs have in common: octets to be signed, an algorithm, a signature (RFC 5280 section 4.1). The
//! octets are taken as they came in, never encoded again.

use der::asn1::{AnyRef, BitStringRef};
use der::{Decode, Reader, SliceReader, Tag, Tagged};
use x509_cert::spki::AlgorithmIdentifierRef;

use crate::crypto::sign::{BadScheme, BadSignature, PublicKey, Scheme};

/// The outer SEQUENCE.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Signed {
    tbs: Vec<u8>,
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
        let algorithm = AlgorithmIdentifierRef::decode(&mut reader)?;
        let signature = BitStringRef::decode(&mut reader)?;
        reader.finish()?;
        let signature = signature.as_bytes().ok_or_else(|| der::Error::from(Tag::BitString.value_error()))?.to_vec();
        Ok(Self { tbs, scheme: Scheme::of(&algorithm), signature })
    }

    pub(super) fn scheme(&self) -> &Result<Scheme, BadScheme> {
        &self.scheme
    }

    pub(super) fn verify(&self, key: &PublicKey) -> Result<(), BadSignature> {
        let scheme = self.scheme.as_ref().map_err(|_| BadSignature)?;
        key.verify(*scheme, &self.tbs, &self.signature)
    }
}
