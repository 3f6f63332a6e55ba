//! The parts of the core that decide without a peer: proposals, selectors, identities, NAT hashes, cookies, intervals.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::api::*;
use super::child::Peer;
use super::context::{Ctx, Outbox};
use super::cookie::CookieJar;
use super::established::{Established, Verdict};
use super::link::{Link, Message, Place};
use super::natd;
use super::proposal::*;
use super::retransmit::{Due, Retransmission};
use super::sa::Sa;
use super::selectors::{covered, narrow, offer};
use crate::crypto::keys::Freshness;
use crate::crypto::{IkeSuite, Secret, Standard, nat_detection_hash};
use crate::wire::header::{ExchangeType, Header, Received};
use crate::wire::id::{IdType, Identification};
use crate::wire::nonce::Nonce;
use crate::wire::notify::{Notify, NotifyType};
use crate::wire::payloads::Payloads;
use crate::wire::sa::{Proposal, ProtocolId, Transform};
use crate::wire::transform::{Encr, EncrId, GroupId, IntegId, PrfId};
use crate::wire::ts::{Ports, TrafficSelector};

const PRF: Transform = Transform::Prf(PrfId::HMAC_SHA2_256);
const X25519: Transform = Transform::Group(GroupId::CURVE25519);
const GCM: Transform = Transform::Encr(Encr::aes_gcm_16(256));
const CBC: Transform = Transform::Encr(Encr::aes_cbc(128));
const SHA: Transform = Transform::Integ(IntegId::HMAC_SHA2_256_128);

fn rule() -> Rule {
    Rule {
        label: "r".to_owned(),
        source: SourceLine { file: "ikev2.config".to_owned(), line: 1 },
        local_id: LocalIdentity::Address,
        remote_id: IdPattern::Any,
        local_auth: AuthBy::Preshared,
        remote_auth: AuthBy::Preshared,
        required_issuer: None,
        psk: None,
        proposals: vec![IkeProposal {
            encr: vec![Encr::aes_gcm_16(256), Encr::aes_cbc(128), Encr { id: EncrId::DES, key_bits: None }],
            integ: vec![IntegId::HMAC_MD5_96, IntegId::HMAC_SHA2_256_128],
            prf: vec![PrfId(1), PrfId::HMAC_SHA2_256],
            groups: vec![GroupId::MODP_768, GroupId::CURVE25519, GroupId::ECP_256],
        }],
        ikesa_lifetime: Duration::ZERO,
        child_lifetimes: ChildLifetimes::default(),
        childsa_pfs: GroupId::NONE,
        retry: RetryPolicy::default(),
        dpd_interval: Duration::ZERO,
    }
}

fn ike(number: u8, transforms: &[Transform]) -> Proposal {
    Proposal { number, protocol: ProtocolId::IKE, spi: vec![], transforms: transforms.to_vec() }
}

fn choose(offered: &[Proposal], sent: GroupId) -> Option<(IkeSuite, Proposal)> {
    choose_ike(&Standard, &rule(), offered, 0, Some(sent), &[]).map(|chosen| (chosen.agreed, chosen.answer))
}

/// V2-SA-07, V2-SA-18, ALG-11: AEAD and other ciphers go into proposals of their own, numbered from 1; what this build
/// cannot compute is not offered.
#[test]
fn v2_sa_01_07_18_alg_11_what_is_offered() {
    let p256 = Transform::Group(GroupId::ECP_256);
    let expected = [ike(1, &[GCM, PRF, X25519, p256]), ike(2, &[CBC, SHA, PRF, X25519, p256])];
    assert_eq!(ike_offer(&Standard, &rule(), &[]), expected);
}

/// V2-SA-01, V2-SA-02, V2-SA-08, V2-SA-09, V2-SA-14: unusable transforms and proposals are passed over, the answer repeats
/// the number and has one transform of each type.
#[test]
fn v2_sa_01_02_08_09_what_is_chosen() {
    let unknown_type = ike(1, &[GCM, PRF, X25519, Transform::UnknownType(77)]);
    let unusable = ike(2, &[Transform::Unusable(1), GCM, PRF, Transform::Unusable(2), X25519]);
    let (suite, answer) = choose(&[unknown_type.clone(), unusable], GroupId::CURVE25519).unwrap();
    assert_eq!(suite.encr, Encr::aes_gcm_16(256));
    assert_eq!(answer, ike(2, &[GCM, PRF, X25519]));
    assert!(choose(&[unknown_type], GroupId::CURVE25519).is_none());
    let with_none = ike(1, &[GCM, Transform::Integ(IntegId::NONE), PRF, X25519]);
    assert_eq!(choose(std::slice::from_ref(&with_none), GroupId::CURVE25519).unwrap().1, with_none);
}

/// V2-SA-06, V2-SA-07, V2-SA-13: proposals that lack a type, mix AEAD with integrity, or are for another protocol.
#[test]
fn v2_sa_04_06_07_13_what_is_refused() {
    for transforms in [
        &[GCM, PRF][..],
        &[GCM, X25519],
        &[PRF, X25519],
        &[CBC, PRF, X25519],
        &[CBC, Transform::Integ(IntegId::NONE), PRF, X25519],
        &[GCM, SHA, PRF, X25519],
        &[GCM, CBC, SHA, PRF, X25519],
        &[GCM, PRF, X25519, Transform::Esn(false)],
        &[Transform::Encr(Encr { id: EncrId::AES_GCM_16, key_bits: None }), PRF, X25519],
        &[Transform::Encr(Encr { id: EncrId::CHACHA20_POLY1305, key_bits: Some(256) }), PRF, X25519],
    ] {
        assert!(choose(&[ike(1, transforms)], GroupId::CURVE25519).is_none(), "{transforms:?}");
    }
    let esp = Proposal { protocol: ProtocolId::ESP, ..ike(1, &[GCM, PRF, X25519]) };
    assert!(choose(&[esp], GroupId::CURVE25519).is_none());
    let with_spi = Proposal { spi: vec![1; 8], ..ike(1, &[GCM, PRF, X25519]) };
    assert!(choose(std::slice::from_ref(&with_spi), GroupId::CURVE25519).is_none());
    assert!(choose_ike(&Standard, &rule(), &[with_spi], 8, None, &[2; 8]).is_some());
}

/// V2-KE-01: the group already sent is taken when both allow it, the preferred one is named otherwise.
#[test]
fn v2_ke_01_group_of_the_choice() {
    let offered =
        [ike(1, &[GCM, PRF, Transform::Group(GroupId::MODP_768), X25519, Transform::Group(GroupId::ECP_256)])];
    assert_eq!(choose(&offered, GroupId::ECP_256).unwrap().0.group, GroupId::ECP_256);
    assert_eq!(choose(&offered, GroupId::MODP_768).unwrap().0.group, GroupId::CURVE25519);
}

/// V2-SA-03: only a subset of one of our own proposals is accepted as an answer.
#[test]
fn v2_sa_03_answers() {
    let offered = ike_offer(&Standard, &rule(), &[]);
    let accepted = |number, transforms: &[Transform]| accept_ike(&offered, &[ike(number, transforms)], 0).is_some();
    assert!(accepted(1, &[GCM, PRF, X25519]));
    assert!(accepted(1, &[X25519, PRF, GCM]));
    assert!(accepted(1, &[GCM, Transform::Integ(IntegId::NONE), PRF, X25519]));
    assert!(!accepted(2, &[GCM, PRF, X25519]), "another proposal's transforms");
    assert!(!accepted(3, &[GCM, PRF, X25519]), "no such proposal");
    assert!(!accepted(1, &[GCM, GCM, PRF, X25519]), "twice");
    assert!(!accepted(1, &[GCM, PRF]), "no group");
    assert!(!accepted(1, &[Transform::Encr(Encr::aes_gcm_16(128)), PRF, X25519]), "another key length");
    assert!(!accepted(1, &[GCM, SHA, PRF, X25519]));
    assert!(!accepted(1, &[GCM, PRF, X25519, Transform::UnknownType(9)]));
    assert!(!accepted(1, &[GCM, PRF, X25519, Transform::Esn(false)]));
    assert!(accept_ike(&offered, &[ike(1, &[GCM, PRF, X25519]), ike(2, &[])], 0).is_none(), "two proposals");
    assert!(accept_ike(&offered, &[], 0).is_none());
}

fn policy() -> ChildPolicy {
    let host = TrafficSelector::host("10.0.0.1".parse().unwrap());
    let integ = IntegId::HMAC_SHA2_256_128;
    ChildPolicy {
        action: 1,
        source: String::new(),
        mode: Mode::Tunnel,
        suites: vec![
            ChildSuite::esp_aead(Encr::CHACHA20_POLY1305),
            ChildSuite { protocol: Protocol::Esp, encr: Some(Encr::aes_cbc(128)), integ },
        ],
        esn: EsnPolicy::Preferred,
        ts_local: vec![host],
        ts_remote: vec![host],
    }
}

fn esp(number: u8, transforms: &[Transform]) -> Proposal {
    Proposal { number, protocol: ProtocolId::ESP, spi: vec![0, 0, 9, 9], transforms: transforms.to_vec() }
}

const CHACHA: Transform = Transform::Encr(Encr::CHACHA20_POLY1305);
const ESN: Transform = Transform::Esn(true);
const NO_ESN: Transform = Transform::Esn(false);

/// V2-SA-06, V2-SA-12, V2-SA-16, V2-AUTH-18: children: ESN is required, a group is left out in IKE_AUTH, NONE means none.
#[test]
fn v2_sa_06_12_16_children() {
    let choose = |groups: GroupRule<'_>, offered: &[Proposal]| {
        choose_child(&policy(), groups, offered, None).map(|c| (c.agreed, c.answer.transforms))
    };
    assert!(choose(GroupRule::NoExchange, &[esp(1, &[CHACHA])]).is_none(), "no ESN transform");
    let (agreed, answer) = choose(GroupRule::NoExchange, &[esp(1, &[CHACHA, X25519, NO_ESN, ESN])]).unwrap();
    assert_eq!((agreed.group, agreed.esn, answer), (GroupId::NONE, true, vec![CHACHA, ESN]));
    let none = Transform::Group(GroupId::NONE);
    let (agreed, answer) = choose(GroupRule::Any(&Standard), &[esp(1, &[CHACHA, none, NO_ESN])]).unwrap();
    assert_eq!((agreed.group, answer), (GroupId::NONE, vec![CHACHA, none, NO_ESN]));
    let (agreed, _) = choose(GroupRule::Any(&Standard), &[esp(1, &[CHACHA, X25519, NO_ESN])]).unwrap();
    assert_eq!(agreed.group, GroupId::CURVE25519);
    let only = GroupRule::Only(GroupId::CURVE25519);
    assert!(choose(only, &[esp(1, &[CHACHA, NO_ESN])]).is_none());
    assert!(choose(GroupRule::NoExchange, &[esp(1, &[CBC, ESN])]).is_none(), "no integrity (ALG-01)");
    assert!(choose(GroupRule::NoExchange, &[esp(1, &[CHACHA, SHA, ESN])]).is_none(), "AEAD with integrity");
    let short = Proposal { spi: vec![1], ..esp(1, &[CHACHA, ESN]) };
    assert!(choose(GroupRule::NoExchange, &[short]).is_none(), "V2-SA-04");
    let (agreed, _) = choose(GroupRule::NoExchange, &[esp(1, &[CBC, SHA, ESN]), esp(2, &[CHACHA, ESN])]).unwrap();
    assert_eq!(agreed.suite.encr, Some(Encr::CHACHA20_POLY1305), "our preference");
}

/// V2-SA-03 for children.
#[test]
fn v2_sa_03_answers_for_children() {
    let offered = child_offer(&policy(), |_| 0x1000, GroupId::CURVE25519);
    let accepted = |number, transforms: &[Transform]| accept_child(&offered, &[esp(number, transforms)]).is_some();
    assert!(accepted(1, &[CHACHA, X25519, ESN]) && accepted(1, &[CHACHA, X25519, NO_ESN]));
    assert!(accepted(2, &[CBC, SHA, X25519, ESN]));
    assert!(!accepted(1, &[CHACHA, ESN]), "the group is missing");
    assert!(!accepted(1, &[CHACHA, X25519]), "ESN is missing");
    assert!(!accepted(1, &[CHACHA, X25519, ESN, NO_ESN]));
    assert!(!accepted(2, &[CBC, X25519, ESN]), "integrity is missing");
    let reserved = Proposal { spi: vec![0, 0, 0, 9], ..esp(1, &[CHACHA, X25519, ESN]) };
    assert!(accept_child(&offered, &[reserved]).is_none());
    let no_group = child_offer(&policy(), |_| 0x1000, GroupId::NONE);
    assert!(accept_child(&no_group, &[esp(1, &[CHACHA, X25519, ESN])]).is_none(), "a group nobody offered");
}

/// V2-SA-07: proposals hold what goes together, in the policy's order: ciphers with the integrity algorithms that each of
/// them may have, AEADs apart, and nothing that the policy does not say.
#[test]
fn v2_sa_07_suites_share_proposals() {
    let suite = |encr, integ| ChildSuite { protocol: Protocol::Esp, encr: Some(encr), integ };
    let (long, short) = (Encr::aes_cbc(256), Encr::aes_cbc(128));
    let (sha256, sha512) = (IntegId::HMAC_SHA2_256_128, IntegId::HMAC_SHA2_512_256);
    let aead = ChildSuite::esp_aead;
    let offered = |suites: &[ChildSuite]| {
        let policy = ChildPolicy { suites: suites.to_vec(), esn: EsnPolicy::Never, ..policy() };
        let offer = child_offer(&policy, |_| 0x1000, GroupId::NONE);
        let rows = |p: &Proposal| p.transforms.iter().filter(|t| **t != Transform::Esn(false)).copied().collect();
        assert!(offer.iter().zip(1..).all(|(p, number)| p.number == number));
        // What is offered is what the policy says, no more and no less.
        let pairs = offer.iter().flat_map(|p| {
            let integ: Vec<_> = if p.integ().next().is_none() { vec![IntegId::NONE] } else { p.integ().collect() };
            p.encr().flat_map(move |encr| integ.clone().into_iter().map(move |integ| suite(encr, integ)))
        });
        let key = |s: &ChildSuite| (s.encr.map(|e| (e.id, e.key_bits)), s.integ);
        let (mut pairs, mut wanted): (Vec<_>, Vec<_>) =
            (pairs.map(|s| key(&s)).collect(), suites.iter().map(key).collect());
        pairs.sort();
        wanted.sort();
        wanted.dedup();
        assert_eq!(pairs, wanted);
        offer.iter().map(rows).collect::<Vec<Vec<Transform>>>()
    };
    let (e, i) = (Transform::Encr, Transform::Integ);
    let cross = [suite(long, sha256), suite(short, sha256), suite(long, sha512), suite(short, sha512)];
    assert_eq!(offered(&cross), [vec![e(long), e(short), i(sha256), i(sha512)]]);
    let uneven = [suite(long, sha256), suite(short, sha256), suite(long, sha512)];
    assert_eq!(offered(&uneven), [vec![e(long), e(short), i(sha256)], vec![e(long), i(sha512)]]);
    let mixed = [aead(Encr::aes_gcm_16(128)), aead(Encr::CHACHA20_POLY1305), cross[0], aead(Encr::aes_gcm_16(256))];
    assert_eq!(
        offered(&mixed),
        [
            vec![e(Encr::aes_gcm_16(128)), e(Encr::CHACHA20_POLY1305)],
            vec![e(long), i(sha256)],
            vec![e(Encr::aes_gcm_16(256))]
        ]
    );
    assert_eq!(offered(&[cross[0], cross[0]]), [vec![e(long), i(sha256)]]);
    let ah = |integ| ChildSuite { protocol: Protocol::Ah, encr: None, integ };
    let policy = ChildPolicy { suites: vec![ah(sha256), ah(sha512)], ..policy() };
    let [offer] = &child_offer(&policy, |_| 0x1000, GroupId::NONE)[..] else { panic!("one proposal for AH") };
    assert_eq!((offer.encr().count(), offer.integ().count(), offer.protocol), (0, 2, ProtocolId::AH));
}

/// V2-SA-09: Blowfish without key length has 128 bits, and an answer repeats what was offered.
#[test]
fn v2_sa_09_a_length_that_is_not_said() {
    let blowfish = |key_bits| Encr { id: EncrId::BLOWFISH, key_bits };
    let suite = |bits| ChildSuite {
        protocol: Protocol::Esp,
        encr: Some(blowfish(Some(bits))),
        integ: IntegId::HMAC_SHA2_256_128,
    };
    let policy = ChildPolicy { suites: vec![suite(256), suite(128)], ..policy() };
    let unsaid = Transform::Encr(blowfish(None));
    let chosen = choose_child(&policy, GroupRule::NoExchange, &[esp(1, &[unsaid, SHA, NO_ESN])], None).unwrap();
    assert_eq!(chosen.agreed.suite, suite(128));
    assert_eq!(chosen.answer.transforms, [unsaid, SHA, NO_ESN]);
    let offered = child_offer(&policy, |_| 0x1000, GroupId::NONE);
    let (agreed, _) = accept_child(&offered, &[esp(1, &[unsaid, SHA, NO_ESN])]).unwrap();
    assert_eq!(agreed.suite, suite(128));
    let other = Transform::Encr(blowfish(Some(192)));
    assert!(accept_child(&offered, &[esp(1, &[other, SHA, NO_ESN])]).is_none());
}

fn net(protocol: u8, ports: Ports, first: &str, last: &str) -> TrafficSelector {
    TrafficSelector::new(protocol, ports, first.parse().unwrap(), last.parse().unwrap()).unwrap()
}

/// V2-TS-03, V2-TS-05, V2-TS-06, V2-TS-07: narrowing is intersection, without what another selector covers.
#[test]
fn v2_ts_03_05_06_07_narrowing() {
    let wide = net(0, Ports::ANY, "10.0.0.0", "10.0.255.255");
    let packet = net(6, Ports::Range(80, 80), "10.0.1.1", "10.0.1.1");
    let half = net(0, Ports::ANY, "10.0.1.0", "10.0.1.255");
    assert_eq!(narrow(&[packet, wide], &[half]), [half]);
    let web = net(6, Ports::Range(80, 443), "0.0.0.0", "255.255.255.255");
    assert_eq!(narrow(&[wide], &[web]), [net(6, Ports::Range(80, 443), "10.0.0.0", "10.0.255.255")]);
    assert_eq!(narrow(&[wide], &[net(0, Ports::ANY, "2001:db8::", "2001:db8::1")]), []);
    let echo = net(1, Ports::Range(0x0800, 0x08ff), "10.0.0.0", "10.0.0.9");
    assert_eq!(narrow(&[echo], &[wide]), [echo]);
    assert_eq!(
        narrow(&[net(6, Ports::ANY, "10.0.0.1", "10.0.0.1")], &[net(17, Ports::ANY, "10.0.0.1", "10.0.0.1")]),
        []
    );
    assert!(covered(&[packet], &[half]) && !covered(&[wide], &[half]));
    assert_eq!(offer(Some(packet), &[wide]), [packet, wide]);
    assert_eq!(offer(Some(wide), &[wide]), [wide]);
    assert_eq!(offer(Some(packet), &[net(0, Ports::ANY, "10.9.0.0", "10.9.0.9")]).len(), 1);
}

/// V2-SA-15, V2-TS-05: many selectors stay within bounds.
#[test]
fn v2_sa_15_many_selectors() {
    let points: Vec<_> = (0..=255u8).map(|n| TrafficSelector::host([10, 0, n, 1].into())).collect();
    assert_eq!(narrow(&points, &points).len(), 64);
}

/// V2-AUTH-08, V2-AUTH-10: identity patterns.
#[test]
fn v2_auth_08_10_identity_patterns() {
    let peer = "192.0.2.7".parse().unwrap();
    let id = |kind, text: &str| Identification::new(kind, text.as_bytes().to_vec()).unwrap();
    let fqdn =
        |pattern: &str, name: &str| IdPattern::Fqdn(IdGlob(pattern.to_owned())).matches(&id(IdType::FQDN, name), peer);
    assert!(fqdn("gw.example", "GW.Example") && fqdn("*.example", "a.b.example") && fqdn("g*y.*le", "gateway.example"));
    assert!(!fqdn("gw.example", "gw.example.org") && !fqdn("*.example", "example") && !fqdn("gw*gw", "gw"));
    assert!(!IdPattern::Fqdn(IdGlob("a".to_owned())).matches(&id(IdType::KEY_ID, "a"), peer));
    let mail = |pattern: &str, name: &str| {
        IdPattern::Email(IdGlob(pattern.to_owned())).matches(&id(IdType::RFC822_ADDR, name), peer)
    };
    assert!(mail("Joe@example.org", "Joe@EXAMPLE.org") && mail("*@example.org", "x@example.org"));
    assert!(!mail("Joe@example.org", "joe@example.org") && !mail("*@example.org", "x@example.com"));
    let range = IdPattern::AddressRange("10.0.0.0".parse().unwrap(), "10.0.0.9".parse().unwrap());
    assert!(range.matches(&Identification::address("10.0.0.9".parse().unwrap()), peer));
    assert!(!range.matches(&Identification::address("10.0.0.10".parse().unwrap()), peer));
    assert!(!range.matches(&id(IdType::FQDN, "10.0.0.1"), peer));
    assert!(IdPattern::PeerAddress.matches(&Identification::address(peer), peer));
    assert!(!IdPattern::PeerAddress.matches(&Identification::address("10.0.0.1".parse().unwrap()), peer));
    assert_eq!(IdPattern::Fqdn(IdGlob("*.example".to_owned())).single(), None);
    assert_eq!(IdPattern::Fqdn(IdGlob("a.example".to_owned())).single(), Some(id(IdType::FQDN, "a.example")));
}

/// V2-NAT-01, V2-NAT-02: several source hashes are allowed and one that fits is enough; none at all means no knowledge.
#[test]
fn v2_nat_01_02_evaluation() {
    let ends: [SocketAddr; 2] = ["192.0.2.1:500".parse().unwrap(), "198.51.100.2:500".parse().unwrap()];
    let path = Path { local: ends[0], remote: ends[1] };
    let spis = IkeSpis { initiator: [1; 8], responder: [0; 8] };
    let hash = |end| nat_detection_hash(spis.initiator, spis.responder, end).to_vec();
    let evaluate = |source: &[Vec<u8>], destination: &[Vec<u8>]| {
        let notifies = |kind, data: &[Vec<u8>]| data.iter().map(|d| Notify::plain(kind, d.clone())).collect::<Vec<_>>();
        let mut all = notifies(NotifyType::NAT_DETECTION_SOURCE_IP, source);
        all.extend(notifies(NotifyType::NAT_DETECTION_DESTINATION_IP, destination));
        natd::evaluate(&Payloads { notifies: all, ..Payloads::default() }, spis, &path)
    };
    assert!(!evaluate(&[hash(ends[1])], &[hash(ends[0])]).any());
    assert!(!evaluate(&[vec![0; 20], hash(ends[1])], &[hash(ends[0])]).any());
    assert!(!evaluate(&[], &[]).any());
    assert_eq!(evaluate(&[vec![0; 20]], &[hash(ends[0])]), NatState { local: false, remote: true });
    assert_eq!(evaluate(&[hash(ends[1])], &[vec![0; 3]]), NatState { local: true, remote: false });
}

struct Counting(u8);

impl RandomSource for Counting {
    fn fill(&mut self, out: &mut [u8]) -> Result<(), EntropyError> {
        self.0 += 1;
        out.fill(self.0);
        Ok(())
    }
}

/// V2-CKY-01, V2-CKY-05: the cookie binds nonce, address and SPI; its secret changes and the one before is still good once.
#[test]
fn v2_cky_01_05_cookie() {
    let config = EndpointConfig { cookie_lifetime: Duration::from_secs(60), ..EndpointConfig::default() };
    let at = |seconds| Timestamp::from_duration(Duration::from_secs(seconds));
    let path = |port| Path { local: "192.0.2.1:500".parse().unwrap(), remote: ([192, 0, 2, 2], port).into() };
    let nonce = |octet| Nonce::new(vec![octet; 16]).unwrap();
    let (mut jar, mut random) = (CookieJar::default(), Counting(0));
    let cookie = jar.cookie(at(0), &config, &mut random, (&path(500), [1; 8], &nonce(1))).unwrap();
    assert!((1..=64).contains(&cookie.len()));
    let mut good = |now, port, spi, octet, cookie: &[u8]| {
        jar.verify(at(now), &config, (&path(port), [spi; 8], &nonce(octet)), cookie)
    };
    assert!(good(1, 500, 1, 1, &cookie));
    assert!(!good(1, 501, 1, 1, &cookie) && !good(1, 500, 2, 1, &cookie) && !good(1, 500, 1, 2, &cookie));
    assert!(!good(1, 500, 1, 1, &cookie[1..]) && !good(1, 500, 1, 1, &[]));
    assert!(good(70, 500, 1, 1, &cookie), "the previous secret");
    assert!(!good(200, 500, 1, 1, &cookie));
}

struct Nobody;

impl Host for Nobody {
    fn rule_for_initiator(&self, _: &Acquire) -> Option<Arc<Rule>> {
        None
    }

    fn rules_for_responder(&self, _: IpAddr, _: IpAddr) -> Vec<Arc<Rule>> {
        Vec::new()
    }

    fn child_policy(&self, _: &ChildQuery<'_>) -> Result<ChildPolicy, ChildRefusal> {
        Err(ChildRefusal { reason: String::new() })
    }

    fn allocate_spi(&mut self, _: &SpiRequest) -> Result<u32, SpiRefusal> {
        Err(SpiRefusal { reason: String::new() })
    }

    fn install_child(&mut self, _: &ChildSa) -> Result<(), InstallRefusal> {
        Err(InstallRefusal { reason: String::new(), kind: RefusalKind::Failure })
    }

    fn last_inbound(&self, _: u32) -> Option<Timestamp> {
        None
    }

    fn last_outbound(&self, _: u32) -> Option<Timestamp> {
        None
    }
}

/// V2-MID-09: when message IDs run out the IKE SA is rekeyed; the last ID is never taken.
#[test]
fn v2_mid_09_message_ids_run_out() {
    let (config, mut random, mut host, mut out) = (EndpointConfig::default(), Counting(0), Nobody, Outbox::default());
    let mut ctx = Ctx {
        now: Timestamp::default(),
        config: &config,
        provider: &Standard,
        random: &mut random,
        host: &mut host,
        out: &mut out,
    };
    let suite = IkeSuite {
        encr: Encr::aes_gcm_16(256),
        integ: IntegId::NONE,
        prf: PrfId::HMAC_SHA2_256,
        group: GroupId::CURVE25519,
    };
    let spis = IkeSpis { initiator: [1; 8], responder: [2; 8] };
    let path = Path { local: "192.0.2.1:500".parse().unwrap(), remote: "198.51.100.2:500".parse().unwrap() };
    let nonce = Nonce::new(vec![1; 32]).unwrap();
    let fresh = Freshness {
        nonce_initiator: &nonce,
        nonce_responder: &nonce,
        spi_initiator: spis.initiator,
        spi_responder: spis.responder,
    };
    let keys = IkeKeys::initial(&Standard, &suite, &Secret::copy_of(&[7; 32]), &fresh).unwrap();
    let ids = (u32::MAX - 10, u32::MAX);
    let link = Link::new(&ctx, spis, Role::Initiator, path, suite, keys, ids).unwrap();
    let header = Header {
        spi_initiator: spis.initiator,
        spi_responder: spis.responder,
        exchange: ExchangeType::INFORMATIONAL,
        from_initiator: false,
        response: false,
        message_id: u32::MAX,
    };
    let received = Received { header, major: 2, first_payload: 0 };
    assert_eq!(link.place(&Message { path, octets: &[], received }, None), Place::Outside);
    let id = Identification::address(path.local.ip());
    let peer = Peer { rule: Arc::new(rule()), local_id: id.clone(), remote_id: id };
    let sa = Box::new(Established::new(&mut ctx, link, peer));
    let Some(Sa::Established(sa)) = sa.conclude(&mut ctx, Verdict::Stay) else { panic!("closed") };
    assert!(sa.is_rekeying());
}

/// V2-MID-06: a wait of zero does not spin, and the limit is kept.
#[test]
fn v2_mid_06_degenerate_policy() {
    let policy = RetryPolicy { limit: 3, initial: Duration::ZERO, max: Duration::ZERO, patience: None };
    let mut timer = Retransmission::start(Timestamp::default(), policy, vec![vec![1]]);
    let mut resent = 0;
    loop {
        let now = timer.deadline();
        assert!(now > Timestamp::default());
        match timer.poll(now) {
            Due::Resend(octets) => {
                assert_eq!(octets, [vec![1]]);
                resent += 1;
            }
            Due::GiveUp => break,
            Due::Nothing => panic!("due and nothing to do"),
        }
    }
    assert_eq!(resent, 3);
}

/// V2-MID-06: given up at the time that was set, and not by a number of retransmissions.
#[test]
fn v2_mid_06_patience_in_place_of_a_limit() {
    for (seconds, expected) in [(10, vec![500, 1500, 3500, 7500]), (100, vec![500, 1500, 3500, 7500, 11500, 15500])] {
        let policy = RetryPolicy {
            limit: 1,
            initial: Duration::from_millis(500),
            max: Duration::from_secs(4),
            patience: Some(Duration::from_secs(seconds)),
        };
        let mut timer = Retransmission::start(Timestamp::default(), policy, vec![vec![1]]);
        let mut resent = vec![];
        while resent.len() < 1000 {
            let now = timer.deadline();
            match timer.poll(now) {
                Due::Resend(_) => resent.push(now.since(Timestamp::default()).as_millis()),
                Due::GiveUp => break,
                Due::Nothing => panic!("due and nothing to do"),
            }
        }
        assert_eq!(resent.iter().take(expected.len()).copied().collect::<Vec<_>>(), expected);
        assert_eq!(timer.deadline().since(Timestamp::default()), Duration::from_secs(seconds));
    }
}
