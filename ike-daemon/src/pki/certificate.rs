//! A certificate, read once and checked for what can be checked without any other (RFC 5280 section 4).

use std::fmt;
use std::time::Duration;

use der::asn1::ObjectIdentifier;
use der::{Decode, Encode};
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{
    AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage, NameConstraints, SubjectAltName,
    SubjectKeyIdentifier,
};
use x509_cert::spki::SubjectPublicKeyInfoRef;

use super::name::DistinguishedName;
use super::signed::Signed;
use crate::crypto::digest;
use crate::crypto::sign::{BadScheme, BadSignature, HashAlgorithm, PublicKey, PublicKeyError, Scheme, sha1};

/// The longest certificate that is read, in octets: one with an RSA key of 8192 bits and a long list of names has a third.
pub const MAX_CERTIFICATE: usize = 16_384;
/// Extensions, names and usages of one certificate.
const MAX_LIST: usize = 256;

const SUBJECT_KEY_ID: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.14");
const KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.15");
const SUBJECT_ALT_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.17");
const BASIC_CONSTRAINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.19");
const NAME_CONSTRAINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.30");
const CERTIFICATE_POLICIES: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.32");
const AUTHORITY_KEY_ID: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.35");
const EXT_KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37");

/// Octets that are no certificate that can be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CertificateError {
    /// Longer than [`MAX_CERTIFICATE`], or with too long a list in it.
    #[error("longer than any honest certificate")]
    TooLong,
    /// No DER, or none of a certificate.
    #[error("malformed certificate: {0}")]
    Malformed(der::ErrorKind),
    /// The same extension twice.
    #[error("extension {0} occurs twice")]
    Twice(ObjectIdentifier),
    /// The two places that name the signature algorithm differ (RFC 5280 section 4.1.1.2).
    #[error("the signature algorithm is named twice and differs")]
    Algorithm,
}

impl From<der::Error> for CertificateError {
    fn from(error: der::Error) -> Self {
        Self::Malformed(error.kind())
    }
}

/// A certificate.
#[derive(Clone)]
pub struct Certificate {
    der: Vec<u8>,
    fingerprint: [u8; 32],
    signed: Signed,
    serial: Vec<u8>,
    subject: DistinguishedName,
    issuer: DistinguishedName,
    not_before: Duration,
    not_after: Duration,
    key: Result<PublicKey, PublicKeyError>,
    key_hash: [u8; 20],
    basic: Option<BasicConstraints>,
    usage: Option<KeyUsage>,
    purposes: Option<Vec<ObjectIdentifier>>,
    names: Vec<GeneralName>,
    constraints: Option<NameConstraints>,
    key_id: Option<Vec<u8>>,
    issuer_key_id: Option<Vec<u8>>,
    unknown_critical: Option<ObjectIdentifier>,
}

impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        self.der == other.der
    }
}

impl Eq for Certificate {}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificate({})", self.subject)
    }
}

impl Certificate {
    /// Reads a certificate in DER.
    ///
    /// # Errors
    /// [`CertificateError`]. A key or an algorithm that is not supported is none: it shows when it is needed.
    pub fn from_der(octets: &[u8]) -> Result<Self, CertificateError> {
        if octets.len() > MAX_CERTIFICATE {
            return Err(CertificateError::TooLong);
        }
        let signed = Signed::parse(octets)?;
        let parsed = x509_cert::Certificate::from_der(octets)?;
        let tbs = parsed.tbs_certificate();
        if tbs.signature() != parsed.signature_algorithm() {
            return Err(CertificateError::Algorithm);
        }
        let info = tbs.subject_public_key_info().to_der()?;
        let mut certificate = Self {
            der: octets.to_vec(),
            fingerprint: digest(octets),
            signed,
            serial: tbs.serial_number().as_bytes().to_vec(),
            subject: DistinguishedName::from_der(&tbs.subject().to_der()?)?,
            issuer: DistinguishedName::from_der(&tbs.issuer().to_der()?)?,
            not_before: tbs.validity().not_before.to_unix_duration(),
            not_after: tbs.validity().not_after.to_unix_duration(),
            key: PublicKey::of(&SubjectPublicKeyInfoRef::from_der(&info)?),
            key_hash: sha1(&info),
            basic: None,
            usage: None,
            purposes: None,
            names: Vec::new(),
            constraints: None,
            key_id: None,
            issuer_key_id: None,
            unknown_critical: None,
        };
        let extensions = tbs.extensions().map_or(&[][..], Vec::as_slice);
        if extensions.len() > MAX_LIST {
            return Err(CertificateError::TooLong);
        }
        for (index, extension) in extensions.iter().enumerate() {
            if extensions.iter().take(index).any(|earlier| earlier.extn_id == extension.extn_id) {
                return Err(CertificateError::Twice(extension.extn_id));
            }
            certificate.extension(extension.extn_id, extension.critical, extension.extn_value.as_bytes())?;
        }
        let lists = certificate.names.len().max(certificate.purposes.as_ref().map_or(0, Vec::len));
        if lists > MAX_LIST { Err(CertificateError::TooLong) } else { Ok(certificate) }
    }

    fn extension(&mut self, oid: ObjectIdentifier, critical: bool, value: &[u8]) -> Result<(), der::Error> {
        match oid {
            BASIC_CONSTRAINTS => self.basic = Some(BasicConstraints::from_der(value)?),
            KEY_USAGE => self.usage = Some(KeyUsage::from_der(value)?),
            EXT_KEY_USAGE => self.purposes = Some(ExtendedKeyUsage::from_der(value)?.0),
            SUBJECT_ALT_NAME => self.names = SubjectAltName::from_der(value)?.0,
            NAME_CONSTRAINTS => self.constraints = Some(NameConstraints::from_der(value)?),
            SUBJECT_KEY_ID => self.key_id = Some(SubjectKeyIdentifier::from_der(value)?.0.as_bytes().to_vec()),
            AUTHORITY_KEY_ID => {
                let id = AuthorityKeyIdentifier::from_der(value)?.key_identifier;
                self.issuer_key_id = id.map(|id| id.as_bytes().to_vec());
            }
            // Nobody here asks for a policy, so every one will do.
            CERTIFICATE_POLICIES => {}
            _ if critical => self.unknown_critical = Some(oid),
            _ => {}
        }
        Ok(())
    }

    /// The octets that were read.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// SHA-256 over them.
    pub fn fingerprint(&self) -> &[u8; 32] {
        &self.fingerprint
    }

    /// SHA-1 over the SubjectPublicKeyInfo, by which CERTREQ names it (RFC 7296 section 3.7).
    pub fn key_hash(&self) -> &[u8; 20] {
        &self.key_hash
    }

    /// Whose key it is.
    pub fn subject(&self) -> &DistinguishedName {
        &self.subject
    }

    /// Who says so.
    pub fn issuer(&self) -> &DistinguishedName {
        &self.issuer
    }

    /// The serial number, big-endian as it was encoded.
    pub fn serial(&self) -> &[u8] {
        &self.serial
    }

    /// First and last second of its life since 1970.
    pub fn validity(&self) -> (Duration, Duration) {
        (self.not_before, self.not_after)
    }

    /// The key.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub fn key(&self) -> Result<&PublicKey, PublicKeyError> {
        self.key.as_ref().map_err(Clone::clone)
    }

    /// The signature algorithm of its issuer.
    pub(super) fn scheme(&self) -> &Result<Scheme, BadScheme> {
        self.signed.scheme()
    }

    /// Subject alternative names.
    pub(super) fn names(&self) -> &[GeneralName] {
        &self.names
    }

    pub(super) fn constraints(&self) -> Option<&NameConstraints> {
        self.constraints.as_ref()
    }

    /// A critical extension that is not processed here: then the certificate must not be used (RFC 5280 section 4.2).
    pub(super) fn unknown_critical(&self) -> Option<ObjectIdentifier> {
        self.unknown_critical
    }

    /// Extended key usage, where it is limited.
    pub(super) fn purposes(&self) -> Option<&[ObjectIdentifier]> {
        self.purposes.as_deref()
    }

    /// Key usage, where it is limited.
    pub(super) fn usage(&self) -> Option<&KeyUsage> {
        self.usage.as_ref()
    }

    /// Whether the key may sign certificates.
    pub fn is_ca(&self) -> bool {
        self.basic.as_ref().is_some_and(|basic| basic.ca) && self.usage.is_none_or(|usage| usage.key_cert_sign())
    }

    /// Whether the key may sign CRLs (CRT-03).
    pub(super) fn signs_crls(&self) -> bool {
        self.usage.is_none_or(|usage| usage.crl_sign())
    }

    /// How many intermediate certificates may follow.
    pub(super) fn path_length(&self) -> Option<usize> {
        self.basic.as_ref().and_then(|basic| basic.path_len_constraint).map(usize::from)
    }

    /// Whether subject and issuer are the same name.
    pub fn is_self_issued(&self) -> bool {
        self.subject == self.issuer
    }

    /// Whether it could be issued by `issuer`, by names and key identifiers; the signature decides.
    pub(super) fn may_come_from(&self, issuer: &Self) -> bool {
        let ids_fit = match (&self.issuer_key_id, &issuer.key_id) {
            (Some(wanted), Some(has)) => wanted == has,
            _ => true,
        };
        self.issuer == issuer.subject && ids_fit
    }

    /// Verifies the signature under the key of `issuer`. SHA-1 signs nothing any more (RFC 8247 section 3.2).
    ///
    /// # Errors
    /// [`BadSignature`].
    pub(super) fn verify(&self, issuer: &Self) -> Result<(), BadSignature> {
        let weak = matches!(self.signed.scheme(), Ok(scheme) if scheme.hash() == Some(HashAlgorithm::Sha1));
        if weak {
            return Err(BadSignature);
        }
        self.signed.verify(issuer.key.as_ref().map_err(|_| BadSignature)?)
    }

    /// Whether it signed itself and may sign others: the beginning of a path.
    pub(super) fn is_root(&self) -> bool {
        self.is_self_issued() && self.is_ca()
    }
}
