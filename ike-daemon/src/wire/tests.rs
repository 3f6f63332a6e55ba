//! Codecs against themselves and against damage: round trips, every truncation, every flipped bit.

use proptest::collection::vec;
use proptest::prelude::*;

use super::auth::{AuthMethod, Authentication};
use super::chain::{Body, ChainBuilder, PayloadType, RawPayload, parse_inner, parse_message};
use super::delete::Delete;
use super::header::{self, ExchangeType, Header};
use super::id::{IdPayload, IdType, Identification};
use super::ke::KeyExchange;
use super::nonce::Nonce;
use super::notify::{Notify, NotifyType};
use super::payloads::Payloads;
use super::sa::{Proposal, ProtocolId, SecurityAssociation, Transform};
use super::transform::{Encr, EncrId, GroupId, IntegId, PrfId};
use super::ts::{Ports, TrafficSelector, TsPayload};
use super::{EncodeError, WireError};

fn init_header() -> Header {
    Header {
        spi_initiator: *b"initiatr",
        spi_responder: [0; 8],
        exchange: ExchangeType::IKE_SA_INIT,
        from_initiator: true,
        response: false,
        message_id: 0,
    }
}

fn sample_sa() -> SecurityAssociation {
    let transforms = vec![
        Transform::Encr(Encr::aes_gcm_16(256)),
        Transform::Encr(Encr::CHACHA20_POLY1305),
        Transform::Prf(PrfId::HMAC_SHA2_256),
        Transform::Group(GroupId::CURVE25519),
        Transform::Group(GroupId::ECP_256),
    ];
    let second = vec![
        Transform::Encr(Encr::aes_cbc(128)),
        Transform::Integ(IntegId::HMAC_SHA2_256_128),
        Transform::Prf(PrfId::HMAC_SHA2_256),
        Transform::Group(GroupId::CURVE25519),
        Transform::Esn(true),
        Transform::Esn(false),
    ];
    SecurityAssociation {
        proposals: vec![
            Proposal { number: 1, protocol: ProtocolId::IKE, spi: vec![], transforms },
            Proposal { number: 2, protocol: ProtocolId::IKE, spi: vec![], transforms: second },
        ],
    }
}

fn sample_chain() -> ChainBuilder {
    let id = |text: &str| IdPayload::new(Identification::new(IdType::FQDN, text.as_bytes().to_vec()).unwrap());
    let v4 = TrafficSelector::new(6, Ports::Range(80, 443), "10.0.0.0".parse().unwrap(), "10.0.0.255".parse().unwrap());
    let v6 = TrafficSelector::new(0, Ports::ANY, "2001:db8::".parse().unwrap(), "2001:db8::ff".parse().unwrap());
    let opaque = TrafficSelector::new(17, Ports::Opaque, "10.1.0.1".parse().unwrap(), "10.1.0.1".parse().unwrap());
    let mut chain = ChainBuilder::new();
    chain.push(PayloadType::SA, &sample_sa()).unwrap();
    chain.push(PayloadType::KE, &KeyExchange { group: GroupId::CURVE25519, public: vec![7; 32] }).unwrap();
    chain.push(PayloadType::NONCE, &Nonce::new(vec![9; 32]).unwrap()).unwrap();
    chain.push(PayloadType::ID_I, &id("left.example")).unwrap();
    chain.push(PayloadType::ID_R, &id("right.example")).unwrap();
    chain.push(PayloadType::AUTH, &Authentication { method: AuthMethod::SHARED_KEY, data: vec![3; 32] }).unwrap();
    chain.push(PayloadType::TS_I, &TsPayload { selectors: vec![v4.unwrap(), opaque.unwrap()] }).unwrap();
    chain.push(PayloadType::TS_R, &TsPayload { selectors: vec![v6.unwrap()] }).unwrap();
    chain.push(PayloadType::NOTIFY, &Notify::about_child(NotifyType::REKEY_SA, 3, 0x1234_5678)).unwrap();
    chain.push(PayloadType::DELETE, &Delete::Children { protocol: ProtocolId::ESP, spis: vec![1, 2, 3] }).unwrap();
    chain.push(PayloadType::DELETE, &Delete::Ike).unwrap();
    chain
}

fn decode(message: &[u8]) -> Result<Payloads, WireError> {
    let received = Header::parse(message)?;
    let outer = parse_message(message, &received)?;
    Payloads::decode(&outer.clear)
}

fn emitted(body: &impl Body) -> Vec<u8> {
    let mut out = Vec::new();
    body.emit(&mut out).unwrap();
    out
}

fn decode_one(kind: PayloadType, body: &[u8]) -> Result<Payloads, WireError> {
    Payloads::decode(&[RawPayload { kind, critical: false, body }])
}

#[test]
fn v2_hdr_05_07_sent_header_octets() {
    let octets = init_header().emit(33, 28).unwrap();
    assert_eq!(octets[16..28], [33, 0x20, 34, 0x08, 0, 0, 0, 0, 0, 0, 0, 28]);
}

/// V2-HDR-05, V2-HDR-07: minor version and unused flag bits that arrive set change nothing.
#[test]
fn v2_hdr_05_07_ignored_when_received() {
    let mut octets = init_header().emit(0, 28).unwrap();
    let clean = Header::parse(&octets).unwrap();
    octets[17] = 0x2f;
    octets[19] |= 0xd7;
    assert_eq!(Header::parse(&octets).unwrap(), clean);
}

/// V2-HDR-02, V2-HDR-10.
#[test]
fn v2_hdr_02_10_zero_spi_and_wrong_length_are_refused() {
    let zero = Header { spi_initiator: [0; 8], ..init_header() };
    assert_eq!(Header::parse(&zero.emit(0, 28).unwrap()), Err(WireError::Value("initiator SPI")));
    let long = init_header().emit(0, 29).unwrap();
    assert_eq!(Header::parse(&long), Err(WireError::Length("IKE message")));
    let mut padded = init_header().emit(0, 28).unwrap().to_vec();
    padded.push(0);
    assert_eq!(Header::parse(&padded), Err(WireError::Length("IKE message")));
}

#[test]
fn message_round_trip() {
    let message = sample_chain().into_message(&init_header()).unwrap();
    let all = decode(&message).unwrap();
    assert_eq!(all.sa.as_ref(), Some(&sample_sa()));
    assert_eq!(all.ke.unwrap().public, vec![7; 32]);
    assert_eq!(all.nonce.unwrap().octets(), [9; 32]);
    assert_eq!(all.id_initiator.unwrap().id.as_text(), Some("left.example"));
    assert_eq!(all.ts_initiator.unwrap().selectors[1].ports(), Ports::Opaque);
    assert_eq!(all.notifies[0].child_spi(), Some(0x1234_5678));
    assert_eq!(all.deletes.len(), 2);
}

/// V2-HDR-11: every truncation of a message is refused, with the old length field and with a corrected one.
#[test]
fn v2_hdr_11_truncated_at_every_octet() {
    let message = sample_chain().into_message(&init_header()).unwrap();
    for cut in 0..message.len() {
        let mut short = message[..cut].to_vec();
        assert!(decode(&short).is_err(), "cut at {cut}");
        if cut >= header::LEN {
            short[24..28].copy_from_slice(&u32::try_from(cut).unwrap().to_be_bytes());
            assert!(decode(&short).is_err(), "cut at {cut} with its length");
        }
    }
}

/// ROB-01: no flipped bit makes a decoder panic, and what still decodes encodes again or says why not.
#[test]
fn rob_01_every_bit_flipped() {
    let message = sample_chain().into_message(&init_header()).unwrap();
    for bit in 0..message.len() * 8 {
        let mut bad = message.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        if let Ok(all) = decode(&bad)
            && let Some(sa) = all.sa
        {
            let mut out = Vec::new();
            let _: Result<(), EncodeError> = sa.emit(&mut out);
        }
    }
}

/// V2-HDR-15, V2-HDR-16, V2-HDR-18.
#[test]
fn v2_hdr_15_16_18_critical_bit() {
    let nonce = [1; 16];
    let unknown = RawPayload { kind: PayloadType(200), critical: false, body: &[1, 2, 3] };
    let known = RawPayload { kind: PayloadType::NONCE, critical: true, body: &nonce };
    assert!(Payloads::decode(&[unknown, known]).unwrap().nonce.is_some());
    let critical = RawPayload { critical: true, ..unknown };
    assert_eq!(Payloads::decode(&[known, critical]), Err(WireError::Critical(200)));
}

/// ROB-04.
#[test]
fn rob_04_doubled_payload_is_refused() {
    let nonce = RawPayload { kind: PayloadType::NONCE, critical: false, body: &[1; 16] };
    assert_eq!(Payloads::decode(&[nonce, nonce]), Err(WireError::Duplicate("Nonce payload")));
}

/// V2-HDR-22: nothing follows SK, and SK is not inside SK.
#[test]
fn v2_hdr_22_sk_is_last() {
    let mut octets = super::chain::sealed_prefix(&init_header(), PayloadType::NONCE, 8).unwrap();
    octets.extend_from_slice(&[0; 8]);
    let received = Header::parse(&octets).unwrap();
    let outer = parse_message(&octets, &received).unwrap();
    let sealed = outer.sealed.unwrap();
    assert_eq!((sealed.first_inner, sealed.associated.len(), sealed.body.len()), (PayloadType::NONCE, 32, 8));
    octets.extend_from_slice(&[0, 0, 0, 4]);
    let length = u32::try_from(octets.len()).unwrap();
    octets[24..28].copy_from_slice(&length.to_be_bytes());
    assert!(parse_message(&octets, &received).is_err());
    assert!(parse_inner(&[0, 0, 0, 4], PayloadType::SK).is_err());
}

/// V2-KEY-01.
#[test]
fn v2_key_01_nonce_length() {
    for (length, good) in [(0, false), (15, false), (16, true), (256, true), (257, false)] {
        assert_eq!(Nonce::new(vec![0; length]).is_ok(), good, "{length}");
    }
}

/// V2-COL-02: octet by octet; where one is the prefix of the other, the shorter is lower.
#[test]
fn v2_col_02_nonce_order() {
    let nonce = |octets: &[u8]| Nonce::new(octets.to_vec()).unwrap();
    assert!(nonce(&[1; 16]) < nonce(&[2; 16]));
    assert!(nonce(&[1; 16]) < nonce(&[1; 17]));
    assert!(nonce(&[1; 200]) < nonce(&[2; 16]));
}

/// V2-AUTH-09: addresses have the length of their type.
#[test]
fn v2_auth_09_identity_lengths() {
    assert!(decode_one(PayloadType::ID_I, &[1, 0, 0, 0, 192, 0, 2, 1]).is_ok());
    assert!(decode_one(PayloadType::ID_I, &[1, 0, 0, 0, 192, 0, 2]).is_err());
    assert!(decode_one(PayloadType::ID_I, &[5, 0, 0, 0, 192, 0, 2, 1]).is_err());
    assert!(decode_one(PayloadType::ID_R, &[2, 0, 0, 0]).is_err());
    assert!(decode_one(PayloadType::ID_R, &[11, 0, 0, 0, 0xff]).is_ok());
}

/// V2-HDR-13: RESERVED octets of an ID are kept for AUTH.
#[test]
fn v2_hdr_13_reserved_octets_of_an_identity_are_signed() {
    let body = [2, 0xaa, 0xbb, 0xcc, b'x'];
    let all = decode_one(PayloadType::ID_I, &body).unwrap();
    assert_eq!(all.id_initiator.unwrap().signed_body(), body);
}

/// ROB-02: a peer's identity in a log line is short and printable.
#[test]
fn rob_02_identities_in_logs() {
    let shown = |kind, data: &[u8]| Identification::new(kind, data.to_vec()).unwrap().to_string();
    assert_eq!(shown(IdType::FQDN, b"gw.example"), "gw.example");
    assert_eq!(shown(IdType::FQDN, b"a\n"), "type 2:610a");
    assert_eq!(shown(IdType::KEY_ID, &[0xab; 300]), format!("type 11:{}...", "ab".repeat(128)));
    assert_eq!(shown(IdType::FQDN, &[b'x'; 300]), format!("{}...", "x".repeat(128)));
    assert_eq!(shown(IdType::IPV6_ADDR, &[0; 16]), "::");
}

/// V2-TS-01, V2-TS-02, V2-TS-04.
#[test]
fn v2_ts_01_02_04_selector_shapes() {
    let v4 = |ports: [u8; 4], first: [u8; 4], last: [u8; 4]| {
        let mut body = vec![1, 0, 0, 0, 7, 0, 0, 16];
        body.extend_from_slice(&ports);
        body.extend_from_slice(&first);
        body.extend_from_slice(&last);
        decode_one(PayloadType::TS_I, &body)
    };
    assert!(v4([0, 0, 255, 255], [10, 0, 0, 0], [10, 0, 0, 9]).is_ok());
    assert!(v4([255, 255, 0, 0], [10, 0, 0, 0], [10, 0, 0, 9]).is_ok(), "OPAQUE");
    assert!(v4([0, 2, 0, 1], [10, 0, 0, 0], [10, 0, 0, 9]).is_err(), "ports backwards");
    assert!(v4([0, 0, 255, 255], [10, 0, 0, 9], [10, 0, 0, 0]).is_err(), "addresses backwards");
    assert!(decode_one(PayloadType::TS_I, &[0, 0, 0, 0]).is_err(), "no selector");
    assert!(decode_one(PayloadType::TS_I, &[2, 0, 0, 0, 7, 0, 0, 16, 0, 0, 255, 255, 1, 1, 1, 1, 1, 1, 1, 1]).is_err());
    let unknown = [1, 0, 0, 0, 99, 0, 0, 6, 1, 2];
    assert_eq!(decode_one(PayloadType::TS_I, &unknown).unwrap().ts_initiator.unwrap().selectors, vec![]);
}

/// V2-INF-04, V2-INF-05.
#[test]
fn v2_inf_04_05_delete_shapes() {
    let good = |body: &[u8]| decode_one(PayloadType::DELETE, body).is_ok();
    assert!(good(&[1, 0, 0, 0]));
    assert!(!good(&[1, 8, 0, 0]) && !good(&[1, 0, 0, 1]) && !good(&[1, 0, 0, 0, 0]));
    assert!(good(&[3, 4, 0, 1, 1, 2, 3, 4]));
    assert!(!good(&[3, 4, 0, 2, 1, 2, 3, 4]) && !good(&[3, 8, 0, 0]) && !good(&[9, 4, 0, 0]));
}

/// V2-MID-13.
#[test]
fn v2_mid_13_window_size() {
    let window = |data: &[u8]| {
        let notify = Notify::plain(NotifyType::SET_WINDOW_SIZE, data.to_vec());
        decode_one(PayloadType::NOTIFY, &emitted(&notify)).is_ok()
    };
    assert!(window(&[0, 0, 0, 1]));
    assert!(!window(&[0, 0, 0, 0]) && !window(&[0, 0, 1]) && !window(&[]));
}

/// V2-SA-01, V2-SA-05: numbering, last marks, counts and lengths.
#[test]
fn v2_sa_01_05_shape() {
    let body = emitted(&sample_sa());
    assert!(decode_one(PayloadType::SA, &body).is_ok());
    let damage = |at: usize, value: u8| {
        let mut bad = body.clone();
        bad[at] = value;
        decode_one(PayloadType::SA, &bad).is_err()
    };
    assert!(damage(0, 0), "first proposal marked last");
    assert!(damage(0, 3), "unknown mark");
    assert!(damage(4, 2), "numbering starts at two");
    assert!(damage(7, 4), "fewer transforms than announced");
    assert!(damage(7, 6), "more transforms than announced");
    assert!(damage(8, 0), "first transform marked last");
}

/// V2-SA-08, V2-SA-09, V2-SA-10, V2-SA-11.
#[test]
fn v2_sa_08_to_11_transforms_that_cannot_be_chosen() {
    let parse = |transform: &[u8]| {
        let mut body = vec![0, 0, 0, 0, 1, 1, 0, 1];
        body.extend_from_slice(&[0, 0, 0, u8::try_from(transform.len() + 4).unwrap()]);
        body.extend_from_slice(transform);
        body[3] = u8::try_from(body.len()).unwrap();
        decode_one(PayloadType::SA, &body).unwrap().sa.unwrap().proposals[0].transforms[0]
    };
    assert_eq!(parse(&[1, 0, 0, 20, 0x80, 14, 1, 0]), Transform::Encr(Encr::aes_gcm_16(256)));
    assert_eq!(parse(&[1, 0, 0, 20, 0, 14, 0, 2, 1, 0]), Transform::Unusable(1), "long form");
    assert_eq!(parse(&[1, 0, 0, 20, 0x80, 14, 1, 0, 0x80, 14, 0, 128]), Transform::Unusable(1), "twice");
    assert_eq!(parse(&[1, 0, 0, 20, 0x80, 99, 1, 0]), Transform::Unusable(1), "unknown attribute");
    assert_eq!(parse(&[2, 0, 0, 5, 0x80, 14, 1, 0]), Transform::Unusable(2), "key length on a PRF");
    assert_eq!(parse(&[5, 0, 0, 2]), Transform::Unusable(5), "ESN number");
    assert_eq!(parse(&[77, 0, 0, 1]), Transform::UnknownType(77));
    assert_eq!(parse(&[1, 0, 9, 9]), Transform::Encr(Encr { id: EncrId(0x909), key_bits: None }));
}

/// V2-HDR-01: an encoder never writes a payload that its length field cannot count.
#[test]
fn encoders_refuse_what_does_not_fit() {
    let mut chain = ChainBuilder::new();
    let huge = Notify::plain(NotifyType::COOKIE, vec![0; 70_000]);
    assert_eq!(chain.push(PayloadType::NOTIFY, &huge), Err(EncodeError::TooLong("payload")));
    assert!(chain.octets().is_empty());
    assert!(chain.push(PayloadType::TS_I, &TsPayload { selectors: vec![] }).is_err());
    assert!(chain.push(PayloadType::SA, &SecurityAssociation { proposals: vec![] }).is_err());
}

fn any_transform() -> impl Strategy<Value = Transform> {
    prop_oneof![
        (any::<u16>(), any::<Option<u16>>())
            .prop_map(|(id, key_bits)| Transform::Encr(Encr { id: EncrId(id), key_bits })),
        any::<u16>().prop_map(|id| Transform::Prf(PrfId(id))),
        any::<u16>().prop_map(|id| Transform::Integ(IntegId(id))),
        any::<u16>().prop_map(|id| Transform::Group(GroupId(id))),
        any::<bool>().prop_map(Transform::Esn),
    ]
}

fn any_selector() -> impl Strategy<Value = TrafficSelector> {
    let ports = prop_oneof![
        Just(Ports::Opaque),
        any::<(u16, u16)>()
            .prop_map(|(a, b)| Ports::Range(a.min(b), a.max(b)))
            .prop_filter("OPAQUE", |p| { *p != Ports::Range(u16::MAX, 0) }),
    ];
    let v4 = any::<(u32, u32)>()
        .prop_map(|(a, b)| (std::net::Ipv4Addr::from(a.min(b)).into(), std::net::Ipv4Addr::from(a.max(b)).into()));
    let v6 = any::<(u128, u128)>()
        .prop_map(|(a, b)| (std::net::Ipv6Addr::from(a.min(b)).into(), std::net::Ipv6Addr::from(a.max(b)).into()));
    (any::<u8>(), ports, prop_oneof![v4, v6])
        .prop_map(|(protocol, ports, (a, b))| TrafficSelector::new(protocol, ports, a, b).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn sa_round_trip(groups in vec((vec(any_transform(), 0..9), vec(any::<u8>(), 0..9)), 1..6)) {
        let proposals = groups.into_iter().zip(1..).map(|((transforms, spi), number)| {
            Proposal { number, protocol: ProtocolId::ESP, spi, transforms }
        });
        let sa = SecurityAssociation { proposals: proposals.collect() };
        prop_assert_eq!(decode_one(PayloadType::SA, &emitted(&sa)).unwrap().sa, Some(sa));
    }

    #[test]
    fn ts_round_trip(selectors in vec(any_selector(), 1..9)) {
        let ts = TsPayload { selectors };
        prop_assert_eq!(decode_one(PayloadType::TS_R, &emitted(&ts)).unwrap().ts_responder, Some(ts));
    }

    #[test]
    fn notify_round_trip(protocol in any::<u8>(), spi in vec(any::<u8>(), 0..20), kind in any::<u16>(),
                         data in vec(any::<u8>(), 0..64)) {
        prop_assume!(kind != NotifyType::SET_WINDOW_SIZE.0);
        let notify = Notify { protocol, spi, kind: NotifyType(kind), data };
        prop_assert_eq!(&decode_one(PayloadType::NOTIFY, &emitted(&notify)).unwrap().notifies, &[notify]);
    }

    #[test]
    fn selectors_intersect_like_sets(a in any_selector(), b in any_selector()) {
        prop_assert_eq!(a.intersect(&b), b.intersect(&a));
        prop_assert_eq!(a.intersect(&a), Some(a));
        if let Some(both) = a.intersect(&b) {
            prop_assert!(a.contains(&both) && b.contains(&both));
        }
    }

    /// ROB-01.
    #[test]
    fn garbage_never_panics(octets in vec(any::<u8>(), 0..400), first in any::<u8>()) {
        let _: Result<Payloads, WireError> = decode(&octets);
        if let Ok(chain) = parse_inner(&octets, PayloadType(first)) {
            let _: Result<Payloads, WireError> = Payloads::decode(&chain);
        }
    }
}
