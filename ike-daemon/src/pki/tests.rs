//! Certificates of authorities that the tests make: paths, identities, CRLs, the key store.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    CertificateParams, CidrSubnet, CustomExtension, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, KeyUsagePurpose,
    NameConstraints, date_time_ymd,
};

use self::authority::{Authority, Issued, Kind, NOW, self_signed};
use super::*;
use crate::crypto::sign::PrivateKey;
use crate::wire::id::{IdType, Identification};

#[path = "../../tests/protocol/authority.rs"]
mod authority;

fn read(der: &[u8]) -> Certificate {
    Certificate::from_der(der).unwrap()
}

fn store(certificates: &[&[u8]]) -> KeyStore {
    KeyStore::new(certificates.iter().map(|der| read(der)).collect(), Vec::new(), Vec::new()).0
}

fn with_crl(certificates: &[&[u8]], crls: &[&[u8]]) -> KeyStore {
    let crls = crls.iter().map(|der| Crl::from_der(der).unwrap()).collect();
    KeyStore::new(certificates.iter().map(|der| read(der)).collect(), Vec::new(), crls).0
}

fn check(leaf: &[u8], others: &[&[u8]], store: &KeyStore) -> Result<usize, PathError> {
    check_by(leaf, others, store, &ValidationPolicy::default())
}

fn check_by(leaf: &[u8], others: &[&[u8]], store: &KeyStore, policy: &ValidationPolicy) -> Result<usize, PathError> {
    let others: Vec<_> = others.iter().map(|der| Arc::new(read(der))).collect();
    validate(&Arc::new(read(leaf)), &others, store, policy, Duration::from_secs(NOW)).map(|path| path.len())
}

fn leaf(authority: &Authority) -> Issued {
    authority.issue(Kind::P256, "gw", &["gw.example.com", "192.0.2.1"])
}

fn changed(authority: &Authority, change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
    authority.issue_with(Kind::P256, "gw", &["gw.example.com", "192.0.2.1", "a@example.com"], change).der
}

/// CRT-02: from the leaf over intermediates, which come from the peer or from the store, to a root of the store.
#[test]
fn crt_02_paths() {
    let root = Authority::root("root");
    let middle = root.intermediate("middle", |_| {});
    let low = middle.intermediate("low", |_| {});
    for kind in Kind::ALL {
        let direct = root.issue(kind, "gw", &[]);
        assert_eq!(check(&direct.der, &[], &store(&[&root.der])), Ok(2), "{kind:?}");
    }
    let gw = leaf(&low);
    assert_eq!(check(&gw.der, &[&low.der, &middle.der], &store(&[&root.der])), Ok(4));
    assert_eq!(check(&gw.der, &[&middle.der, &low.der, &gw.der], &store(&[&root.der])), Ok(4));
    assert_eq!(check(&gw.der, &[&low.der], &store(&[&root.der, &middle.der])), Ok(4));
    // Without one of them, without the root, with the root of somebody of the same name, with the peer's own root only.
    assert!(matches!(check(&gw.der, &[&low.der], &store(&[&root.der])), Err(PathError::NoIssuer { .. })));
    assert!(matches!(check(&gw.der, &[&low.der, &middle.der], &store(&[])), Err(PathError::NoIssuer { .. })));
    let chain = [&low.der[..], &middle.der, &root.der];
    assert!(check(&gw.der, &chain, &store(&[])).is_err());
    let namesake = Authority::root("root");
    assert!(check(&gw.der, &chain, &store(&[&namesake.der])).is_err());
    // An intermediate in the store is no root, unless policy says so.
    assert!(check(&gw.der, &[&low.der], &store(&[&middle.der])).is_err());
    let lenient = ValidationPolicy { ignore_trust_anchor: true, ..ValidationPolicy::default() };
    assert_eq!(check_by(&gw.der, &[&low.der], &store(&[&middle.der]), &lenient), Ok(3));
    assert!(check_by(&gw.der, &chain, &store(&[]), &lenient).is_err());
}

/// A peer whose own certificate is in the store needs no path; its neighbour does.
#[test]
fn crt_02_self_signed_peers() {
    let (peer, stranger) = (self_signed(Kind::P384, "peer", &[]), self_signed(Kind::P384, "peer", &[]));
    assert_eq!(check(&peer.der, &[], &store(&[&peer.der])), Ok(1));
    assert!(check(&stranger.der, &[], &store(&[&peer.der])).is_err());
    // Nor does it become an authority by being there.
    let root = Authority::root("root");
    let gw = leaf(&root);
    assert_eq!(check(&gw.der, &[], &store(&[&gw.der])), Ok(1));
    assert!(check(&gw.der, &[&peer.der], &store(&[&peer.der])).is_err());
}

/// CRT-02: an end entity, or a CA without the usage, issues nothing; path lengths hold.
#[test]
fn crt_02_who_may_issue() {
    let root = Authority::root("root");
    let no_ca = root.intermediate("middle", |params| params.is_ca = IsCa::ExplicitNoCa);
    let gw = leaf(&no_ca);
    assert!(matches!(check(&gw.der, &[&no_ca.der], &store(&[&root.der])), Err(PathError::NotCa(_))));
    let no_usage = root.intermediate("middle", |params| params.key_usages = vec![KeyUsagePurpose::CrlSign]);
    let gw = leaf(&no_usage);
    assert!(matches!(check(&gw.der, &[&no_usage.der], &store(&[&root.der])), Err(PathError::NotCa(_))));
    let flat = Authority::root_with("root", |params| params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Constrained(0)));
    assert_eq!(check(&leaf(&flat).der, &[], &store(&[&flat.der])), Ok(2));
    let middle = flat.intermediate("middle", |_| {});
    let gw = leaf(&middle);
    assert!(matches!(check(&gw.der, &[&middle.der], &store(&[&flat.der])), Err(PathError::PathLength(_))));
}

/// CRT-02, CRT-03: dates, usages and critical extensions of the leaf.
#[test]
fn crt_03_what_a_leaf_must_have() {
    let root = Authority::root("root");
    let trust = store(&[&root.der]);
    let expired = changed(&root, |params| params.not_after = date_time_ymd(2021, 1, 1));
    assert!(matches!(check(&expired, &[], &trust), Err(PathError::Expired(_))));
    let lenient = ValidationPolicy { ignore_date: true, ..ValidationPolicy::default() };
    assert_eq!(check_by(&expired, &[], &trust, &lenient), Ok(2));
    let soon = changed(&root, |params| params.not_before = date_time_ymd(2039, 1, 1));
    assert!(matches!(check(&soon, &[], &trust), Err(PathError::NotYet(_))));
    let adjusted = ValidationPolicy { adjust: Duration::from_secs(20 * 366 * 86400), ..ValidationPolicy::default() };
    assert_eq!(check_by(&soon, &[], &trust, &adjusted), Ok(2));

    let usage = |usage| changed(&root, move |params| params.key_usages = vec![usage]);
    assert_eq!(check(&usage(KeyUsagePurpose::DigitalSignature), &[], &trust), Ok(2));
    assert_eq!(check(&usage(KeyUsagePurpose::ContentCommitment), &[], &trust), Ok(2));
    assert!(matches!(check(&usage(KeyUsagePurpose::KeyAgreement), &[], &trust), Err(PathError::Usage(_))));

    let purpose = |purpose| changed(&root, move |params| params.extended_key_usages = vec![purpose]);
    for good in [ExtendedKeyUsagePurpose::Any, ExtendedKeyUsagePurpose::ServerAuth] {
        assert_eq!(check(&purpose(good), &[], &trust), Ok(2));
    }
    let ipsec = purpose(ExtendedKeyUsagePurpose::Other(vec![1, 3, 6, 1, 5, 5, 7, 3, 17]));
    assert_eq!(check(&ipsec, &[], &trust), Ok(2));
    let other = purpose(ExtendedKeyUsagePurpose::CodeSigning);
    assert!(matches!(check(&other, &[], &trust), Err(PathError::Purpose(_))));
    let lenient = ValidationPolicy { ignore_unknown_eku: true, ..ValidationPolicy::default() };
    assert_eq!(check_by(&other, &[], &trust, &lenient), Ok(2));

    let extension = |critical| {
        let mut extension = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 32473, 7], vec![5, 0]);
        extension.set_criticality(critical);
        changed(&root, |params| params.custom_extensions = vec![extension])
    };
    assert_eq!(check(&extension(false), &[], &trust), Ok(2));
    assert!(matches!(check(&extension(true), &[], &trust), Err(PathError::Critical(..))));
}

/// CRT-02: permitted and excluded subtrees of every type that is processed; another type refuses everything.
#[test]
fn crt_02_name_constraints() {
    let dns = |name: &str| GeneralSubtree::DnsName(name.to_owned());
    let mail = |name: &str| GeneralSubtree::Rfc822Name(name.to_owned());
    let net = |address: [u8; 4], prefix| GeneralSubtree::IpAddress(CidrSubnet::from_v4_prefix(address, prefix));
    let under = |permitted: Vec<GeneralSubtree>, excluded: Vec<GeneralSubtree>| {
        let root = Authority::root_with("root", |params| {
            params.name_constraints =
                Some(NameConstraints { permitted_subtrees: permitted, excluded_subtrees: excluded });
        });
        let middle = root.intermediate("middle", |_| {});
        let gw = changed(&middle, |_| {});
        check(&gw, &[&middle.der], &store(&[&root.der]))
    };
    let good = [
        (vec![dns("example.com")], vec![]),
        (vec![dns("other.org"), dns("example.com")], vec![dns("bad.example.com")]),
        (vec![net([192, 0, 2, 0], 24), mail("example.com")], vec![net([198, 51, 100, 0], 24)]),
    ];
    for (permitted, excluded) in good {
        let shown = format!("{permitted:?} {excluded:?}");
        assert_eq!(under(permitted, excluded), Ok(3), "{shown}");
    }
    let bad = [
        (vec![dns("example.org")], vec![]),
        (vec![], vec![dns("example.com")]),
        (vec![net([192, 0, 3, 0], 24)], vec![]),
        (vec![], vec![net([192, 0, 2, 1], 32)]),
        (vec![mail("b@example.com")], vec![]),
        (vec![], vec![mail("example.com")]),
    ];
    for (permitted, excluded) in bad {
        let shown = format!("{permitted:?} {excluded:?}");
        assert!(matches!(under(permitted, excluded), Err(PathError::Names(..))), "{shown}");
    }
    let mut other = rcgen::DistinguishedName::new();
    other.push(rcgen::DnType::OrganizationName, "Others");
    let mut ours = rcgen::DistinguishedName::new();
    ours.push(rcgen::DnType::OrganizationName, "Tests");
    assert_eq!(under(vec![GeneralSubtree::DirectoryName(ours.clone())], vec![]), Ok(3));
    assert!(under(vec![GeneralSubtree::DirectoryName(other)], vec![]).is_err());
    assert!(under(vec![], vec![GeneralSubtree::DirectoryName(ours)]).is_err());
}

/// CRT-06: loops, long chains and many certificates of one name end soon.
#[test]
fn crt_06_bounded() {
    let root = Authority::root("root");
    let trust = store(&[&root.der]);
    let mut chain = vec![root.intermediate("1", |_| {})];
    for number in 2..=8 {
        let next = chain.last().unwrap().intermediate(&number.to_string(), |_| {});
        chain.push(next);
    }
    let others = |count: usize| chain.iter().take(count).map(|ca| ca.der.as_slice()).collect::<Vec<_>>();
    assert_eq!(check(&leaf(&chain[5]).der, &others(6), &trust), Ok(MAX_PATH));
    assert!(matches!(check(&leaf(&chain[6]).der, &others(7), &trust), Err(PathError::TooLong(_))));
    // A hundred CAs of one name, of which none is the right one, cost no more than the budget.
    let namesakes: Vec<Authority> = (0..100).map(|_| Authority::root("root")).collect();
    let all: Vec<&[u8]> = namesakes.iter().map(|ca| ca.der.as_slice()).collect();
    let stranger = leaf(&Authority::root_with("root", |params| params.use_authority_key_identifier_extension = false));
    assert!(check(&stranger.der, &all, &store(&[])).is_err());
    // Two that issued each other.
    let a = Authority::root("a");
    let b = a.intermediate("b", |_| {});
    let a_again = b.intermediate("a", |_| {});
    assert!(check(&leaf(&b).der, &[&a_again.der, &b.der, &a.der], &trust).is_err());
}

/// CRT-04: a CRL revokes; one of somebody else, forged or stale, does what it has to.
#[test]
fn crt_04_revocation() {
    let root = Authority::root("root");
    let gw = leaf(&root);
    let good = root.crl(&[&[1, 2, 3]], |_| {});
    let bad = root.crl(&[&gw.serial], |_| {});
    assert_eq!(check(&gw.der, &[], &with_crl(&[&root.der], &[&good])), Ok(2));
    for crls in [vec![&bad[..]], vec![&good, &bad], vec![&bad, &good]] {
        assert!(matches!(check(&gw.der, &[], &with_crl(&[&root.der], &crls)), Err(PathError::Revoked(..))));
    }
    let stale = root.crl(&[&[1]], |params| params.next_update = date_time_ymd(2025, 1, 1));
    let early = root.crl(&[&[1]], |params| params.this_update = date_time_ymd(2039, 1, 1));
    let lenient = ValidationPolicy { crl_ignore_date: true, ..ValidationPolicy::default() };
    for crl in [&stale, &early] {
        let trust = with_crl(&[&root.der], &[crl]);
        assert!(matches!(check(&gw.der, &[], &trust), Err(PathError::Crl(..))));
        assert_eq!(check_by(&gw.der, &[], &trust, &lenient), Ok(2));
    }
    assert_eq!(check(&gw.der, &[], &with_crl(&[&root.der], &[&stale, &good])), Ok(2));
    let gone = root.crl(&[&gw.serial], |params| params.next_update = date_time_ymd(2025, 1, 1));
    assert!(matches!(check_by(&gw.der, &[], &with_crl(&[&root.der], &[&gone]), &lenient), Err(PathError::Revoked(..))));
    // Of somebody of the same name: it says nothing, neither good nor bad, but that somebody tries.
    let forged = Authority::root("root").crl(&[&gw.serial], |_| {});
    assert!(matches!(check(&gw.der, &[], &with_crl(&[&root.der], &[&forged])), Err(PathError::Crl(..))));
    assert_eq!(check(&gw.der, &[], &with_crl(&[&root.der], &[&forged, &good])), Ok(2));
    let other = Authority::root("other").crl(&[&gw.serial], |_| {});
    assert_eq!(check(&gw.der, &[], &with_crl(&[&root.der], &[&other])), Ok(2));
    // A CA that was taken back takes its leaves with it.
    let middle = root.intermediate("middle", |params| params.serial_number = Some(vec![9, 9].into()));
    let below = leaf(&middle);
    let crl = root.crl(&[&[9, 9]], |_| {});
    assert!(matches!(check(&below.der, &[&middle.der], &with_crl(&[&root.der], &[&crl])), Err(PathError::Revoked(..))));
    // rcgen makes no CRL of one whose usage excludes it; the certificate says so, and the list is not looked at.
    let mute = Authority::root_with("root", |params| params.key_usages = vec![KeyUsagePurpose::KeyCertSign]);
    assert!(!read(&mute.der).signs_crls());
}

/// V2-AUTH-08, CRT-01: an identity is covered by its own kind of name, whole.
#[test]
fn crt_01_identities() {
    let root = Authority::root("root");
    let gw = root.issue(Kind::P256, "gw", &["gw.example.com", "192.0.2.1", "2001:db8::1", "Ops@example.com"]);
    let gw = read(&gw.der);
    let id = |kind, data: &[u8]| Identification::new(kind, data.to_vec()).unwrap();
    let good = [
        id(IdType::FQDN, b"GW.example.com"),
        id(IdType::IPV4_ADDR, &[192, 0, 2, 1]),
        Identification::address("2001:db8::1".parse().unwrap()),
        id(IdType::RFC822_ADDR, b"Ops@EXAMPLE.com"),
        id(IdType::DER_ASN1_DN, gw.subject().der()),
    ];
    for good in &good {
        assert!(covers(&gw, good), "{good}");
    }
    let bad = [
        id(IdType::FQDN, b"gw"),
        id(IdType::FQDN, b"example.com"),
        id(IdType::FQDN, b"*.example.com"),
        id(IdType::FQDN, b"gw.example.com\0.org"),
        id(IdType::IPV4_ADDR, &[192, 0, 2, 2]),
        id(IdType::RFC822_ADDR, b"ops@example.com"),
        id(IdType::KEY_ID, b"gw.example.com"),
        id(IdType::DER_ASN1_DN, read(&root.der).subject().der()),
        id(IdType::DER_ASN1_DN, &[0x30, 0]),
        id(IdType::DER_ASN1_DN, b"gw"),
    ];
    for bad in &bad {
        assert!(!covers(&gw, bad), "{bad}");
    }
    assert_eq!(describe_names(&gw), "O=Tests, CN=gw, gw.example.com, 192.0.2.1, 2001:db8::1, Ops@example.com");
}

/// OpenSSL makes CRLs of version 1, without a version and without extensions, unless it is told otherwise.
#[test]
fn crt_04_a_crl_of_version_1() {
    let crl = include_bytes!("../../../fuzz/corpus/certificates/crl");
    let ca = read(include_bytes!("../../../fuzz/corpus/certificates/ca"));
    let gw = read(include_bytes!("../../../fuzz/corpus/certificates/leaf-ed25519"));
    let other = read(include_bytes!("../../../fuzz/corpus/certificates/leaf-rsa"));
    let crl = Crl::from_der(crl).unwrap();
    assert_eq!((crl.revoked(), crl.issuer()), (1, ca.subject()));
    // In force when it was made, some hours before this was written.
    let now = Duration::from_secs(1_795_500_000);
    let verdict =
        |certificate: &Certificate| crl::judge([&crl].into_iter(), certificate, &ca, now, &ValidationPolicy::default());
    assert_eq!(verdict(&gw), crl::Verdict::Revoked);
    assert_eq!(verdict(&other), crl::Verdict::Good);
}

/// Octets that are no certificate or CRL never do more than be refused (CRT-06, ROB-01).
#[test]
fn damaged_certificates_and_crls() {
    let root = Authority::root("root");
    let gw = leaf(&root);
    let crl = root.crl(&[&[1]], |_| {});
    let trust = store(&[&root.der]);
    for at in 0..gw.der.len() {
        let mut damaged = gw.der.clone();
        damaged[at] ^= 0x10;
        if let Ok(certificate) = Certificate::from_der(&damaged) {
            let result =
                validate(&Arc::new(certificate), &[], &trust, &ValidationPolicy::default(), Duration::from_secs(NOW));
            assert!(result.is_err(), "one bit more at {at}, and the certificate is still believed");
        }
        assert!(Certificate::from_der(&gw.der[..at]).is_err());
    }
    for at in 0..crl.len() {
        let mut damaged = crl.clone();
        damaged[at] ^= 0x10;
        let _ = Crl::from_der(&damaged);
        assert!(Crl::from_der(&crl[..at]).is_err());
    }
    assert_eq!(Certificate::from_der(&vec![0x30; MAX_CERTIFICATE + 1]).unwrap_err(), CertificateError::TooLong);
}

/// The three directories: PEM and DER, owners and modes, keys found by their public half.
#[test]
fn key_store_from_files() {
    let dir = tempfile::tempdir().unwrap();
    let place = |name: &str| dir.path().join(name);
    let put = |name: &str, octets: &[u8], mode| {
        fs::write(place(name), octets).unwrap();
        fs::set_permissions(place(name), Permissions::from_mode(mode)).unwrap();
    };
    assert!(KeyStore::load(dir.path()).unwrap().0.is_empty());
    for name in ["certs", "private", "crls"] {
        fs::create_dir(place(name)).unwrap();
        fs::set_permissions(place(name), Permissions::from_mode(0o755)).unwrap();
    }
    let root = Authority::root("root");
    let middle = root.intermediate("middle", |_| {});
    let gw = middle.issue(Kind::Rsa, "gw", &["gw.example.com"]);
    let pem = |label: &str, der: &[u8]| der::pem::encode_string(label, der::pem::LineEnding::LF, der).unwrap();
    let bundle = format!("text in front\n{}{}", pem("CERTIFICATE", &root.der), pem("CERTIFICATE", &middle.der));
    put("certs/ca.pem", bundle.as_bytes(), 0o644);
    put("certs/gw.der", &gw.der, 0o644);
    put("certs/.gw.swp", b"an editor's", 0o644);
    put("private/gw", pem("PRIVATE KEY", &gw.key).as_bytes(), 0o600);
    put("crls/root.pem", pem("X509 CRL", &root.crl(&[&[1]], |_| {})).as_bytes(), 0o644);
    let (store, notes) = KeyStore::load(dir.path()).unwrap();
    assert_eq!((store.certificates().len(), store.own().len(), store.crls().count(), notes.len()), (3, 1, 1, 0));
    let id = Identification::new(IdType::FQDN, b"gw.example.com".to_vec()).unwrap();
    let own = store.own_for(&id).next().unwrap();
    assert_eq!(own.key.public(), PrivateKey::from_der(&gw.key).unwrap().public());
    // What a peer is sent, and asked for.
    assert_eq!(store.intermediates(&own.certificate), [Arc::new(read(&middle.der))]);
    assert_eq!(store.authority_hashes(), [*read(&root.der).key_hash()]);
    assert_eq!(store.lineage(&own.certificate).len(), 3);

    put("certs/none.pem", b"nonsense", 0o644);
    let (store, notes) = KeyStore::load(dir.path()).unwrap();
    assert_eq!(store.certificates().len(), 3);
    assert!(notes[0].contains("none.pem: malformed certificate") && notes.len() == 1, "{notes:?}");
    for (name, mode, word) in [
        ("private/gw", 0o640, "chmod 600"),
        ("certs/gw.der", 0o664, "chmod go-w"),
        ("crls/root.pem", 0o666, "chmod go-w"),
    ] {
        let before = fs::metadata(place(name)).unwrap().permissions();
        fs::set_permissions(place(name), Permissions::from_mode(mode)).unwrap();
        let error = KeyStore::load(dir.path()).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
        fs::set_permissions(place(name), before).unwrap();
    }
    fs::set_permissions(place("certs"), Permissions::from_mode(0o777)).unwrap();
    assert!(matches!(KeyStore::load(dir.path()), Err(KeyStoreError::Writable(_))));
    fs::set_permissions(place("certs"), Permissions::from_mode(0o755)).unwrap();
    put("private/bad", b"no key", 0o600);
    assert!(matches!(KeyStore::load(dir.path()), Err(KeyStoreError::File { .. })));
    fs::remove_file(place("private/bad")).unwrap();
    put("crls/bad", b"no CRL", 0o644);
    assert!(matches!(KeyStore::load(dir.path()), Err(KeyStoreError::File { .. })));
}
