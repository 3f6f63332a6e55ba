//! Certificates, CRLs, names and private keys (CRT-06): any octets are read or refused, and no path search runs away.

use ike_daemon::crypto::sign::{PrivateKey, Scheme};
use ike_daemon::pki::{
    Certificate, Crl, DistinguishedName, DnPattern, KeyStore, ValidationPolicy, covers, describe_names, validate,
};
use ike_daemon::wire::id::{IdType, Identification};
use std::sync::Arc;
use std::time::Duration;

/// A day in 2026, on which the certificates of the corpus are valid.
const NOW: Duration = Duration::from_secs(1_795_500_000);

/// Octets as each of them.
pub(crate) fn run(octets: &[u8]) {
    let _ = Scheme::split_der(octets);
    let _ = PrivateKey::read(octets);
    if let Ok(text) = std::str::from_utf8(octets)
        && let Ok(pattern) = DnPattern::parse(text)
        && let Some(name) = pattern.to_der()
    {
        // A value may be nothing but blanks, which no comparison sees.
        let _ = pattern.matches(&DistinguishedName::from_der(&name).expect("a name that was written"));
    }
    if let Ok(name) = DistinguishedName::from_der(octets) {
        assert!(name == name.clone() && name.to_string().len() <= 4 * 260);
    }
    let crl = Crl::from_der(octets).ok();
    let Ok(certificate) = Certificate::from_der(octets) else { return };
    assert_eq!(certificate.der(), octets);
    let subject = DistinguishedName::from_der(certificate.subject().der()).expect("a name that was read");
    assert!(subject == *certificate.subject());
    describe_names(&certificate);
    for (kind, data) in [
        (IdType::FQDN, &b"gw.example.com"[..]),
        (IdType::RFC822_ADDR, b"ops@example.com"),
        (IdType::IPV4_ADDR, &[192, 0, 2, 1]),
        (IdType::DER_ASN1_DN, certificate.subject().der()),
    ] {
        if let Ok(id) = Identification::new(kind, data.to_vec()) {
            covers(&certificate, &id);
        }
    }
    let (store, _) = KeyStore::new(vec![certificate.clone()], Vec::new(), crl.into_iter().collect());
    store.lineage(&certificate);
    store.authority_hashes();
    let leaf = Arc::new(certificate);
    let policy = ValidationPolicy::default();
    let _ = validate(&leaf, std::slice::from_ref(&leaf), &store, &policy, NOW);
    // Nobody is believed whom nobody trusts.
    assert!(validate(&leaf, std::slice::from_ref(&leaf), &KeyStore::default(), &policy, NOW).is_err());
}
