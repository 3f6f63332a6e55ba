//! Certificate revocation lists (RFC 5280 sections 5 and 6.3), complete ones of the issuer itself: no delta, no indirect
//! list, no list of some reasons.

use std::collections::HashSet;
use std::fmt;
use std::time::Duration;

use der::asn1::ObjectIdentifier;
use der::{Decode, Encode, Sequence};
use x509_cert::certificate::Version;
use x509_cert::crl::RevokedCert;
use x509_cert::ext::Extensions;
use x509_cert::ext::pkix::IssuingDistributionPoint;
use x509_cert::name::Name;
use x509_cert::spki::AlgorithmIdentifierOwned;
use x509_cert::time::Time;

use super::certificate::Certificate;
use super::name::DistinguishedName;
use super::policy::ValidationPolicy;
use super::signed::Signed;
use crate::crypto::sign::HashAlgorithm;

/// The longest CRL that is read, in octets.
pub const MAX_CRL: usize = 1024 * 1024;

const ISSUING_DISTRIBUTION_POINT: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.28");

/// Octets that are no CRL that can be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CrlError {
    /// Longer than [`MAX_CRL`].
    #[error("longer than 1 MiB")]
    TooLong,
    /// No DER, or none of a CRL.
    #[error("malformed CRL: {0}")]
    Malformed(der::ErrorKind),
    /// A critical extension that is not processed here.
    #[error("critical extension {0} is not supported in CRLs")]
    Critical(ObjectIdentifier),
    /// Indirect, of some reasons only, or of attribute certificates.
    #[error("the CRL does not speak for all certificates of its issuer")]
    Partial,
}

impl From<der::Error> for CrlError {
    fn from(error: der::Error) -> Self {
        Self::Malformed(error.kind())
    }
}

/// TBSCertList. That of x509-cert lacks the lists of version 1, which name no version and which OpenSSL makes unless it is told
/// otherwise.
#[derive(Sequence)]
struct List {
    version: Option<Version>,
    signature: AlgorithmIdentifierOwned,
    issuer: Name,
    this_update: Time,
    next_update: Option<Time>,
    revoked_certificates: Option<Vec<RevokedCert>>,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", optional = "true")]
    crl_extensions: Option<Extensions>,
}

/// A CRL.
#[derive(Clone)]
pub struct Crl {
    signed: Signed,
    issuer: DistinguishedName,
    this_update: Duration,
    next_update: Option<Duration>,
    revoked: HashSet<Vec<u8>>,
    only_users: bool,
    only_cas: bool,
}

impl fmt::Debug for Crl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Crl({}, {} revoked)", self.issuer, self.revoked.len())
    }
}

/// What the CRLs at hand say about a certificate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// No CRL of this issuer speaks about it.
    Silent,
    /// A CRL in force does not name it.
    Good,
    /// A CRL names it.
    Revoked,
    /// There is a CRL, but its time is over, or has not come.
    Stale,
    /// There is a CRL, but its issuer did not sign it, or may not.
    Forged,
}

impl Crl {
    /// Reads a CRL in DER.
    ///
    /// # Errors
    /// [`CrlError`].
    pub fn from_der(octets: &[u8]) -> Result<Self, CrlError> {
        if octets.len() > MAX_CRL {
            return Err(CrlError::TooLong);
        }
        let signed = Signed::parse(octets)?;
        let list = List::from_der(signed.tbs())?;
        if list.signature != *signed.algorithm() {
            return Err(CrlError::Malformed(der::ErrorKind::Failed));
        }
        // Extensions belong to version 2, as does a version at all (RFC 5280 section 5.1.2.1).
        let extended = list.crl_extensions.is_some()
            || list.revoked_certificates.iter().flatten().any(|entry| entry.crl_entry_extensions.is_some());
        let sound = match list.version {
            Some(version) => version == Version::V2,
            None => !extended,
        };
        if !sound {
            return Err(CrlError::Malformed(der::ErrorKind::Failed));
        }
        let mut crl = Self {
            signed,
            issuer: DistinguishedName::from_der(&list.issuer.to_der()?)?,
            this_update: list.this_update.to_unix_duration(),
            next_update: list.next_update.map(|time| time.to_unix_duration()),
            revoked: HashSet::new(),
            only_users: false,
            only_cas: false,
        };
        for extension in list.crl_extensions.iter().flatten() {
            if extension.extn_id == ISSUING_DISTRIBUTION_POINT {
                let point = IssuingDistributionPoint::from_der(extension.extn_value.as_bytes())?;
                if point.indirect_crl || point.only_some_reasons.is_some() || point.only_contains_attribute_certs {
                    return Err(CrlError::Partial);
                }
                crl.only_users = point.only_contains_user_certs;
                crl.only_cas = point.only_contains_ca_certs;
            } else if extension.critical {
                return Err(CrlError::Critical(extension.extn_id));
            }
        }
        for entry in list.revoked_certificates.into_iter().flatten() {
            if let Some(critical) = entry.crl_entry_extensions.iter().flatten().find(|extension| extension.critical) {
                return Err(CrlError::Critical(critical.extn_id));
            }
            crl.revoked.insert(entry.serial_number.as_bytes().to_vec());
        }
        Ok(crl)
    }

    /// Whose it is.
    pub fn issuer(&self) -> &DistinguishedName {
        &self.issuer
    }

    /// How many certificates it names.
    pub fn revoked(&self) -> usize {
        self.revoked.len()
    }

    /// What it says about a certificate of `issuer` at the time `now` (CRT-04).
    fn verdict(
        &self,
        certificate: &Certificate,
        issuer: &Certificate,
        now: Duration,
        policy: &ValidationPolicy,
    ) -> Verdict {
        let speaks = if certificate.is_ca() { !self.only_users } else { !self.only_cas };
        if self.issuer != *issuer.subject() || !speaks {
            return Verdict::Silent;
        }
        let weak = matches!(self.signed.scheme(), Ok(scheme) if scheme.hash() == Some(HashAlgorithm::Sha1));
        let signed = !weak && issuer.signs_crls() && issuer.key().is_ok_and(|key| self.signed.verify(key).is_ok());
        if !signed && !policy.crl_ignore_sign {
            return Verdict::Forged;
        }
        if self.revoked.contains(certificate.serial()) {
            return Verdict::Revoked;
        }
        let in_force = self.this_update <= now && self.next_update.is_some_and(|next| now <= next);
        if in_force || policy.crl_ignore_date { Verdict::Good } else { Verdict::Stale }
    }
}

/// What all CRLs together say: one that revokes is enough, and so is one in force that does not.
pub(super) fn judge<'a>(
    crls: impl Iterator<Item = &'a Crl>,
    certificate: &Certificate,
    issuer: &Certificate,
    now: Duration,
    policy: &ValidationPolicy,
) -> Verdict {
    let mut result = Verdict::Silent;
    for crl in crls {
        result = match (crl.verdict(certificate, issuer, now, policy), result) {
            (Verdict::Revoked, _) => return Verdict::Revoked,
            (Verdict::Good, _) | (_, Verdict::Good) => Verdict::Good,
            (Verdict::Stale, _) | (_, Verdict::Stale) => Verdict::Stale,
            (Verdict::Forged, _) | (_, Verdict::Forged) => Verdict::Forged,
            (Verdict::Silent, Verdict::Silent | Verdict::Revoked) => Verdict::Silent,
        };
    }
    result
}
