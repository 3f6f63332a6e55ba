//! Building and validating a path from a peer's certificate to one that we trust (RFC 5280 section 6, in the profile of RFC
//! 4945 section 5), with bounds on its length and on the work.
//!
//! What the key store holds is trusted: a certificate of a peer that is itself in the store needs no path, and a path ends at
//! a self-signed CA certificate of the store. Intermediate certificates come from the peer or from the store.

use std::sync::Arc;
use std::time::Duration;

use der::asn1::ObjectIdentifier;

use super::certificate::Certificate;
use super::constraints;
use super::crl::{self, Verdict};
use super::policy::ValidationPolicy;
use super::store::KeyStore;

/// Certificates of one path, the peer's and the trusted one included.
pub const MAX_PATH: usize = 8;
/// Signatures verified in one search.
pub const MAX_SIGNATURES: usize = 32;

const ANY_PURPOSE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37.0");
/// Extended key usages of peers (RFC 4945 section 5.1.3.12): ipsecIKE, iKEIntermediate, the three of old drafts, and those
/// of TLS, which CAs for VPN gateways issue.
const PURPOSES: [ObjectIdentifier; 7] = [
    ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.17"),
    ObjectIdentifier::new_unwrap("1.3.6.1.5.5.8.2.2"),
    ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.5"),
    ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.6"),
    ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.7"),
    ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.1"),
    ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.2"),
];

/// Why a certificate is not believed. Each names the certificate that is to blame.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PathError {
    /// Nobody we trust signed it, directly or not.
    #[error("the certificate of {subject} was issued by {issuer}, and no certificate in the key store leads there")]
    NoIssuer {
        /// The last certificate of the path as far as it could be built.
        subject: String,
        /// Who is to have issued it.
        issuer: String,
    },
    /// Its life has not begun.
    #[error("the certificate of {0} is not valid yet")]
    NotYet(String),
    /// Its life is over.
    #[error("the certificate of {0} has expired")]
    Expired(String),
    /// Somebody of the issuer's name, but not the issuer, signed it.
    #[error("the signature on the certificate of {0} does not verify")]
    Signature(String),
    /// It was signed with an algorithm that is not accepted.
    #[error("the certificate of {0} is signed with {1}, which is not accepted")]
    Algorithm(String, String),
    /// Its key cannot be used.
    #[error("the certificate of {0}: {1}")]
    Key(String, String),
    /// It is no certificate of a CA.
    #[error("the certificate of {0} is no CA certificate and must not issue any")]
    NotCa(String),
    /// More intermediate certificates follow than it allows.
    #[error("the CA certificate of {0} does not allow a path as long as this")]
    PathLength(String),
    /// Names below a CA are not those it may give.
    #[error("the CA certificate of {0} may not issue certificates for {1}")]
    Names(String, String),
    /// It has a critical extension that is not processed.
    #[error("the certificate of {0} has critical extension {1}, which is not known here")]
    Critical(String, String),
    /// Its key must not sign.
    #[error("the key usage of the certificate of {0} does not include signatures")]
    Usage(String),
    /// It was issued for something else.
    #[error("the extended key usage of the certificate of {0} does not include IKE")]
    Purpose(String),
    /// Its issuer took it back.
    #[error("the certificate of {0} was revoked by {1}")]
    Revoked(String, String),
    /// Whether it was revoked cannot be told.
    #[error("the CRL of {1}, which is to say whether the certificate of {0} was revoked, {2}")]
    Crl(String, String, &'static str),
    /// The path is too long, or the search took too long.
    #[error("the path of the certificate of {0} is too long or too tangled")]
    TooLong(String),
}

/// Finds a path from `leaf` to a certificate that is trusted, over `others` and the store, and validates it at the time `now`
/// since 1970. The path comes back with the leaf first.
///
/// # Errors
/// What stands against the most promising path.
pub fn validate(
    leaf: &Arc<Certificate>,
    others: &[Arc<Certificate>],
    store: &KeyStore,
    policy: &ValidationPolicy,
    now: Duration,
) -> Result<Vec<Arc<Certificate>>, PathError> {
    let mut search = Search { others, store, policy, now, budget: MAX_SIGNATURES, worst: None };
    search.check_leaf(leaf)?;
    if store.trusts(leaf) {
        return Ok(vec![Arc::clone(leaf)]);
    }
    let mut path = vec![Arc::clone(leaf)];
    if search.extend(&mut path) {
        return Ok(path);
    }
    Err(search.worst.map_or_else(|| no_issuer(leaf), |(_, error)| error))
}

struct Search<'a> {
    others: &'a [Arc<Certificate>],
    store: &'a KeyStore,
    policy: &'a ValidationPolicy,
    now: Duration,
    budget: usize,
    /// The error of the longest path that was tried: that is the one the administrator meant.
    worst: Option<(usize, PathError)>,
}

impl Search<'_> {
    fn note(&mut self, depth: usize, error: PathError) {
        if self.worst.as_ref().is_none_or(|(deepest, _)| depth > *deepest) {
            self.worst = Some((depth, error));
        }
    }

    fn check_leaf(&self, leaf: &Certificate) -> Result<(), PathError> {
        let subject = || leaf.subject().to_string();
        self.check_any(leaf)?;
        // CRT-03
        if leaf.usage().is_some_and(|usage| !usage.digital_signature() && !usage.non_repudiation()) {
            return Err(PathError::Usage(subject()));
        }
        let suits = |purposes: &[ObjectIdentifier]| {
            purposes.iter().any(|purpose| *purpose == ANY_PURPOSE || PURPOSES.contains(purpose))
        };
        if !self.policy.ignore_unknown_eku && leaf.purposes().is_some_and(|purposes| !suits(purposes)) {
            return Err(PathError::Purpose(subject()));
        }
        Ok(())
    }

    /// What has to hold for every certificate of a path.
    fn check_any(&self, certificate: &Certificate) -> Result<(), PathError> {
        let subject = || certificate.subject().to_string();
        certificate.key().map_err(|error| PathError::Key(subject(), error.to_string()))?;
        if let Some(oid) = certificate.unknown_critical() {
            return Err(PathError::Critical(subject(), oid.to_string()));
        }
        if self.policy.ignore_date {
            return Ok(());
        }
        let (not_before, not_after) = certificate.validity();
        if self.now.saturating_add(self.policy.adjust) < not_before {
            return Err(PathError::NotYet(subject()));
        }
        if self.now > not_after.saturating_add(self.policy.adjust) {
            return Err(PathError::Expired(subject()));
        }
        Ok(())
    }

    /// Goes on from the last certificate of `path` until one is trusted; on failure the path is as before.
    fn extend(&mut self, path: &mut Vec<Arc<Certificate>>) -> bool {
        let Some(last) = path.last().cloned() else { return false };
        let depth = path.len();
        if depth >= MAX_PATH {
            self.note(depth, PathError::TooLong(last.subject().to_string()));
            return false;
        }
        let (store, others) = (self.store, self.others);
        let mut found = false;
        // Ours first: they are more likely to be good, and a peer cannot hide them behind its own.
        let candidates = store.authorities().chain(others).filter(|candidate| last.may_come_from(candidate));
        for candidate in candidates {
            if path.iter().any(|earlier| earlier == candidate) {
                continue;
            }
            found = true;
            if self.budget == 0 {
                self.note(depth, PathError::TooLong(last.subject().to_string()));
                return false;
            }
            self.budget -= 1;
            if let Err(error) = self.check_issuer(&last, candidate, path) {
                self.note(depth, error);
                continue;
            }
            path.push(Arc::clone(candidate));
            if self.is_anchor(candidate) {
                match self.check_path(path) {
                    Ok(()) => return true,
                    Err(error) => self.note(depth + 1, error),
                }
            } else if self.extend(path) {
                return true;
            }
            path.pop();
        }
        if !found {
            self.note(depth, no_issuer(&last));
        }
        false
    }

    /// Whether `issuer` issued `certificate` and was allowed to.
    fn check_issuer(
        &self,
        certificate: &Certificate,
        issuer: &Certificate,
        path: &[Arc<Certificate>],
    ) -> Result<(), PathError> {
        let subject = || certificate.subject().to_string();
        let name = || issuer.subject().to_string();
        if !issuer.is_ca() {
            return Err(PathError::NotCa(name()));
        }
        self.check_any(issuer)?;
        // The leaf does not count, nor does what a CA issued to itself.
        let between = path.iter().skip(1).filter(|below| !below.is_self_issued()).count();
        if issuer.path_length().is_some_and(|most| between > most) {
            return Err(PathError::PathLength(name()));
        }
        match certificate.scheme() {
            Err(error) => return Err(PathError::Algorithm(subject(), error.to_string())),
            Ok(scheme) if certificate.verify(issuer).is_err() => {
                let weak = scheme.hash() == Some(crate::crypto::sign::HashAlgorithm::Sha1);
                return Err(match weak {
                    true => PathError::Algorithm(subject(), scheme.to_string()),
                    false => PathError::Signature(subject()),
                });
            }
            Ok(_) => {}
        }
        Ok(())
    }

    fn is_anchor(&self, certificate: &Arc<Certificate>) -> bool {
        if !self.store.trusts(certificate) {
            return false;
        }
        match &self.policy.trust_anchor {
            Some((name, serial)) => name.matches(certificate.subject()) && serial.as_slice() == certificate.serial(),
            None => certificate.is_root() || self.policy.ignore_trust_anchor,
        }
    }

    /// What only a whole path can tell: names, and whether anything was revoked.
    fn check_path(&self, path: &[Arc<Certificate>]) -> Result<(), PathError> {
        for (index, authority) in path.iter().enumerate().skip(1) {
            let Some(constraints) = authority.constraints() else { continue };
            for (place, below) in path.iter().enumerate().take(index) {
                let exempt = place > 0 && below.is_self_issued();
                if !exempt && !constraints::permits(constraints, below) {
                    return Err(PathError::Names(authority.subject().to_string(), super::describe_names(below)));
                }
            }
        }
        for pair in path.windows(2) {
            let [certificate, issuer] = pair else { continue };
            let (subject, by) = (|| certificate.subject().to_string(), || issuer.subject().to_string());
            match crl::judge(self.store.crls(), certificate, issuer, self.now, self.policy) {
                Verdict::Silent | Verdict::Good => {}
                Verdict::Revoked => return Err(PathError::Revoked(subject(), by())),
                Verdict::Stale => return Err(PathError::Crl(subject(), by(), "is not in force any more")),
                Verdict::Forged => return Err(PathError::Crl(subject(), by(), "was not signed by it")),
            }
        }
        Ok(())
    }
}

fn no_issuer(certificate: &Certificate) -> PathError {
    PathError::NoIssuer { subject: certificate.subject().to_string(), issuer: certificate.issuer().to_string() }
}
