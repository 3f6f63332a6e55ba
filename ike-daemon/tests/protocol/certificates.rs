//! IKE_AUTH with certificates: every kind of key, chains, mixed methods, and everything that has to be refused.

use std::sync::Arc;

use ike_daemon::core::api::*;
use ike_daemon::crypto::sign::{KeyKind, PrivateKey};
use ike_daemon::pki::{Certificate, Crl, DnPattern, KeyStore};
use ike_daemon::wire::id::{IdType, Identification};
use rcgen::date_time_ymd;

use crate::authority::{Authority, Issued, Kind, self_signed};
use crate::util::*;

fn fqdn(name: &str) -> Identification {
    Identification::new(IdType::FQDN, name.as_bytes().to_vec()).unwrap()
}

/// A host that holds these certificates, with the key of `own`.
fn equip(node: &mut Node, own: Option<&Issued>, others: &[&[u8]], crls: &[&[u8]]) {
    let own_der = own.map(|own| own.der.as_slice());
    let certificates = own_der.into_iter().chain(others.iter().copied()).map(|der| Certificate::from_der(der).unwrap());
    let keys = own.map(|own| PrivateKey::from_der(&own.key).unwrap()).into_iter().collect();
    let crls = crls.iter().map(|der| Crl::from_der(der).unwrap()).collect();
    node.host().store = Arc::new(KeyStore::new(certificates.collect(), keys, crls).0);
}

/// Both sides by certificate, each with its name.
fn by_certificates(world: &mut World) {
    for (node, ours, theirs) in [(&mut world.a, "a", "b"), (&mut world.b, "b", "a")] {
        node.rule(|rule| {
            rule.local_auth = AuthBy::Certificate(None);
            rule.remote_auth = AuthBy::Certificate(None);
            rule.psk = None;
            rule.local_id = LocalIdentity::Fixed(fqdn(&format!("{ours}.example.com")));
            rule.remote_id = IdPattern::Fqdn(IdGlob(format!("{theirs}.example.com")));
        });
    }
}

fn issue(authority: &Authority, kind: Kind) -> [Issued; 2] {
    ["a", "b"].map(|name| authority.issue(kind, name, &[&format!("{name}.example.com")]))
}

/// Two hosts below one root.
fn certified(seed: u64, kind: Kind) -> World {
    let root = Authority::root("root");
    let [a, b] = issue(&root, kind);
    let mut world = World::new(seed);
    by_certificates(&mut world);
    equip(&mut world.a, Some(&a), &[&root.der], &[]);
    equip(&mut world.b, Some(&b), &[&root.der], &[]);
    world
}

/// A asks, B refuses with these words, A is told, and nothing is left of it.
fn refused(world: &mut World, words: &str) {
    world.acquire(Side::A);
    world.settle();
    assert!(world.b.logged(words), "{words} is missing in\n{}", world.story());
    assert!(world.b.logged("ikev2.config:12"), "{}", world.story());
    assert!(world.a.logged("AUTHENTICATION_FAILED") || world.a.logged("identity not accepted"), "{}", world.story());
    assert!(world.a.up(world.now).is_empty() && world.b.up(world.now).is_empty());
    assert!(world.a.installed.is_empty() && world.b.installed.is_empty());
    world.run(seconds(60));
    world.assert_no_leak();
    world.assert_answered();
}

/// V2-AUTH-11, V2-AUTH-12, V2-MISC-03: every kind of key signs and verifies in both roles, and the IKE SA lives on.
#[test]
fn v2_auth_12_every_kind_of_key_in_both_roles() {
    for (seed, kind) in (1..).zip(Kind::ALL) {
        for side in [Side::A, Side::B] {
            let mut world = certified(seed, kind);
            world.acquire(side);
            world.settle();
            world.assert_mirrored(1);
            world.assert_one_ike();
            world.rekey_ike(Side::B);
            world.settle();
            world.assert_mirrored(1);
            world.assert_answered();
        }
    }
    // The two need not have the same kind.
    let root = Authority::root("root");
    let a = root.issue(Kind::Rsa, "a", &["a.example.com"]);
    let b = root.issue(Kind::Ed25519, "b", &["b.example.com"]);
    let mut world = World::new(9);
    by_certificates(&mut world);
    equip(&mut world.a, Some(&a), &[&root.der], &[]);
    equip(&mut world.b, Some(&b), &[&root.der], &[]);
    world.acquire(Side::A);
    world.settle();
    world.assert_mirrored(1);
}

/// V2-AUTH-04: a certificate one way, a preshared key the other.
#[test]
fn v2_auth_04_mixed_methods() {
    for certified_side in [Side::A, Side::B] {
        let root = Authority::root("root");
        let [a, b] = issue(&root, Kind::P256);
        let mut world = World::new(3);
        by_certificates(&mut world);
        equip(&mut world.a, (certified_side == Side::A).then_some(&a), &[&root.der], &[]);
        equip(&mut world.b, (certified_side == Side::B).then_some(&b), &[&root.der], &[]);
        let psk = rule("x").psk;
        world.node(certified_side).rule(|rule| rule.remote_auth = AuthBy::Preshared);
        let other = if certified_side == Side::A { Side::B } else { Side::A };
        world.node(other).rule(|rule| rule.local_auth = AuthBy::Preshared);
        // Without the key nothing begins, and the log says which.
        world.acquire(Side::A);
        world.settle();
        assert!(world.a.logged("the rule has no pre-shared key"), "{}", world.story());
        for node in [&mut world.a, &mut world.b] {
            node.rule(|rule| rule.psk = psk.clone());
        }
        world.acquire(Side::A);
        world.settle();
        world.assert_mirrored(1);
    }
}

/// V2-AUTH-11: intermediates travel with the certificate; peers may be trusted one by one as well.
#[test]
fn v2_auth_11_chains_and_self_signed_peers() {
    let root = Authority::root("root");
    let middle = root.intermediate("middle", |_| {});
    let [a, b] = issue(&middle, Kind::P384);
    let mut world = World::new(4);
    by_certificates(&mut world);
    // Each has its own intermediate and the root; neither has the other's certificate.
    equip(&mut world.a, Some(&a), &[&root.der, &middle.der], &[]);
    equip(&mut world.b, Some(&b), &[&root.der, &middle.der], &[]);
    world.acquire(Side::A);
    world.settle();
    world.assert_mirrored(1);

    let [a, b] = ["a", "b"].map(|name| self_signed(Kind::Ed25519, name, &[&format!("{name}.example.com")]));
    let mut world = World::new(5);
    by_certificates(&mut world);
    equip(&mut world.a, Some(&a), &[&b.der], &[]);
    equip(&mut world.b, Some(&b), &[&a.der], &[]);
    world.acquire(Side::A);
    world.settle();
    world.assert_mirrored(1);
    let stranger = self_signed(Kind::Ed25519, "a", &["a.example.com"]);
    let mut world = World::new(6);
    by_certificates(&mut world);
    equip(&mut world.a, Some(&stranger), &[&b.der], &[]);
    equip(&mut world.b, Some(&b), &[&a.der], &[]);
    refused(&mut world, "no certificate in the key store leads there");
}

/// V2-AUTH-08, CRT-01: identities by every type; one that the certificate does not have is refused.
#[test]
fn v2_auth_08_identities_are_those_of_the_certificate() {
    let root = Authority::root("root");
    let names = ["a.example.com", "192.0.2.1", "ops@a.example.com"];
    let a = root.issue(Kind::P256, "a", &names);
    let b = root.issue(Kind::P256, "b", &["b.example.com"]);
    let dn = Identification::new(IdType::DER_ASN1_DN, Certificate::from_der(&a.der).unwrap().subject().der().to_vec());
    let mail = Identification::new(IdType::RFC822_ADDR, b"ops@a.example.com".to_vec()).unwrap();
    let pattern = |text: &str| IdPattern::Dn(DnPattern::parse(text).unwrap());
    let cases = [
        (LocalIdentity::Address, IdPattern::PeerAddress),
        (LocalIdentity::Fixed(mail.clone()), IdPattern::Email(IdGlob("ops@*".to_owned()))),
        (LocalIdentity::Fixed(dn.clone().unwrap()), pattern("O=Tests, CN=a")),
        (LocalIdentity::Fixed(dn.clone().unwrap()), pattern("CN=A, O=tests")),
        (LocalIdentity::Fixed(dn.unwrap()), pattern("O=Tests, CN=*")),
        (LocalIdentity::Fixed(fqdn("A.example.com")), IdPattern::Any),
    ];
    for (seed, (local, remote)) in (10..).zip(cases) {
        let mut world = World::new(seed);
        by_certificates(&mut world);
        equip(&mut world.a, Some(&a), &[&root.der], &[]);
        equip(&mut world.b, Some(&b), &[&root.der], &[]);
        let shown = format!("{local:?} {remote:?}");
        world.a.rule(|rule| rule.local_id = local);
        world.b.rule(|rule| rule.remote_id = remote);
        world.acquire(Side::A);
        world.settle();
        assert_eq!(world.b.installed.len(), 1, "{shown}\n{}", world.story());
    }
    // Nothing begins with a name that is not ours.
    let mut world = World::new(20);
    by_certificates(&mut world);
    equip(&mut world.a, Some(&a), &[&root.der], &[]);
    world.a.rule(|rule| rule.local_id = LocalIdentity::Fixed(fqdn("b.example.com")));
    world.acquire(Side::A);
    world.settle();
    assert_eq!(world.a.acquire_failures(), [(1, FailureCause::NoCertificate)]);
    assert!(world.a.logged("no certificate with its key for b.example.com") && world.a.sent.is_empty());
}

/// V2-AUTH-06, V2-AUTH-08, CRT-02, CRT-03, CRT-04: whatever is wrong with a certificate, the log names it and the rule.
#[test]
fn v2_auth_06_bad_certificates_are_refused() {
    let root = Authority::root("root");
    let [a, b] = issue(&root, Kind::P256);
    let world = |seed, a: &Issued, trust: &[&[u8]], crls: &[&[u8]]| {
        let mut world = World::new(seed);
        by_certificates(&mut world);
        equip(&mut world.a, Some(a), &[&root.der], &[]);
        equip(&mut world.b, Some(&b), trust, crls);
        world
    };
    let good = [root.der.as_slice()];
    let other = Authority::root("other root");
    refused(&mut world(1, &a, &[&other.der], &[]), "was issued by O=Tests, CN=root");
    let changed =
        |change: &dyn Fn(&mut rcgen::CertificateParams)| root.issue_with(Kind::P256, "a", &["a.example.com"], change);
    let expired = changed(&|params| params.not_after = date_time_ymd(2021, 1, 1));
    refused(&mut world(2, &expired, &good, &[]), "the certificate of O=Tests, CN=a has expired");
    let usage = changed(&|params| params.key_usages = vec![rcgen::KeyUsagePurpose::KeyAgreement]);
    refused(&mut world(3, &usage, &good, &[]), "does not include signatures");
    let crl = root.crl(&[&a.serial], |_| {});
    refused(&mut world(4, &a, &good, &[&crl]), "the certificate of O=Tests, CN=a was revoked by O=Tests, CN=root");
    // Good, but of another kind, of another issuer, of somebody else.
    let mut kind = world(5, &a, &good, &[]);
    kind.b.rule(|rule| rule.remote_auth = AuthBy::Certificate(Some(KeyKind::Rsa)));
    refused(&mut kind, "has a key for ECDSA, the rule wants RSA");
    let mut issuer = world(6, &a, &good, &[]);
    issuer.b.rule(|rule| rule.required_issuer = Some(DnPattern::parse("O=Tests, CN=other root").unwrap()));
    refused(&mut issuer, "the rule wants O=Tests, CN=other root");
    let mut issuer = world(7, &a, &good, &[]);
    issuer.b.rule(|rule| rule.required_issuer = Some(DnPattern::parse("O=Tests, CN=root").unwrap()));
    issuer.acquire(Side::A);
    issuer.settle();
    issuer.assert_mirrored(1);
    // A preshared key where a certificate is wanted, and the other way round.
    let mut psk = world(8, &a, &good, &[]);
    psk.a.rule(|rule| {
        rule.local_auth = AuthBy::Preshared;
        rule.psk = crate::util::rule("x").psk;
    });
    refused(&mut psk, "the peer used a pre-shared key, the rule wants a certificate");
    let mut psk = world(9, &a, &good, &[]);
    psk.b.rule(|rule| {
        rule.remote_auth = AuthBy::Preshared;
        rule.psk = crate::util::rule("x").psk;
    });
    refused(&mut psk, "the rule wants preshared");
}

/// V2-AUTH-07: the initiator does not believe the responder, removes the IKE SA and tells it.
#[test]
fn v2_auth_07_a_bad_responder_is_told() {
    let root = Authority::root("root");
    let [a, b] = issue(&root, Kind::P256);
    let mut world = World::new(2);
    by_certificates(&mut world);
    let other = Authority::root("other root");
    equip(&mut world.a, Some(&a), &[&other.der], &[]);
    equip(&mut world.b, Some(&b), &[&root.der], &[]);
    world.acquire(Side::A);
    world.settle();
    assert!(world.a.logged("no certificate in the key store leads there"), "{}", world.story());
    assert_eq!(world.a.acquire_failures(), [(1, FailureCause::AuthenticationFailed)]);
    world.run(seconds(10));
    assert!(world.b.up(world.now).is_empty() && world.b.installed.is_empty(), "{}", world.story());
}

/// A responder without a certificate of its own says so in its log, and the initiator that it failed; nothing comes up.
#[test]
fn a_responder_without_certificate_refuses() {
    let root = Authority::root("root");
    let [a, _] = issue(&root, Kind::P256);
    let mut world = World::new(3);
    by_certificates(&mut world);
    equip(&mut world.a, Some(&a), &[&root.der], &[]);
    equip(&mut world.b, None, &[&root.der], &[]);
    refused(&mut world, "no certificate of our own: the key store has no certificate with its key for b.example.com");
}

/// CRT-10: certificates and lists that come while a daemon runs hold from the next negotiation on; SAs stay.
#[test]
fn crt_10_a_new_store_holds_from_now_on() {
    let root = Authority::root("root");
    let [a, b] = issue(&root, Kind::P256);
    let mut world = World::new(4);
    by_certificates(&mut world);
    equip(&mut world.a, Some(&a), &[&root.der], &[]);
    equip(&mut world.b, Some(&b), &[&root.der], &[]);
    world.acquire(Side::A);
    world.settle();
    world.assert_mirrored(1);
    equip(&mut world.b, Some(&b), &[&root.der], &[&root.crl(&[&a.serial], |_| {})]);
    world.rekey_ike(Side::A);
    world.settle();
    world.assert_mirrored(1);
    let spis = world.assert_one_ike();
    world.command(Side::A, Command::DeleteIkeSa(spis));
    world.settle();
    refused(&mut world, "was revoked by");
}

/// FRG-03: certificates make IKE_AUTH long; it goes in fragments.
#[test]
fn frg_03_certificates_in_fragments() {
    let root = Authority::root("root");
    let middle = root.intermediate("middle", |_| {});
    let [a, b] = issue(&middle, Kind::Rsa);
    let config = EndpointConfig { fragment_mtu: Some(576), ..EndpointConfig::default() };
    let mut world = World::with_config(5, config);
    by_certificates(&mut world);
    equip(&mut world.a, Some(&a), &[&root.der, &middle.der], &[]);
    equip(&mut world.b, Some(&b), &[&root.der, &middle.der], &[]);
    world.acquire(Side::A);
    world.settle();
    world.assert_mirrored(1);
    assert!(world.a.sent.len() > 4 && world.a.sent.iter().all(|t| t.bytes.len() <= 576 - 28), "{}", world.a.sent.len());
}
