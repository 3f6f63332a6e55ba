//! Certificates: what a certificate says ([`Certificate`]), who it speaks for ([`covers`]), whether it is to be believed
//! ([`validate`], RFC 5280 section 6 in the profile of RFC 4945), whether it was revoked ([`Crl`]), and where the trusted
//! ones and our own keys come from ([`KeyStore`]).
//!
//! Nothing here knows a message or a rule, and nothing but [`KeyStore::load`] opens a file. Every input is bounded: a
//! certificate to [`MAX_CERTIFICATE`] octets, a path to [`MAX_PATH`] certificates, one validation to [`MAX_SIGNATURES`]
//! signatures (CRT-06).

mod certificate;
mod constraints;
mod crl;
mod identity;
mod name;
mod path;
mod policy;
mod signed;
mod store;
#[cfg(test)]
mod tests;

pub use certificate::{Certificate, CertificateError, MAX_CERTIFICATE};
pub use crl::{Crl, CrlError, MAX_CRL};
pub use identity::{covers, describe_names};
pub use name::{BadDn, DistinguishedName, DnPattern};
pub use path::{MAX_PATH, MAX_SIGNATURES, PathError, validate};
pub use policy::ValidationPolicy;
pub use store::{KeyStore, KeyStoreError, OwnCertificate};
