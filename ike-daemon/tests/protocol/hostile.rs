//! Damage, lies and garbage: no panic, no state that stays, and the next handshake succeeds.

use ike_daemon::core::api::*;
use ike_daemon::wire::auth::{AuthMethod, Authentication};
use ike_daemon::wire::chain::{ChainBuilder, PayloadType};
use ike_daemon::wire::delete::Delete;
use ike_daemon::wire::header::{ExchangeType, Header};
use ike_daemon::wire::id::{IdPayload, Identification};
use ike_daemon::wire::ke::KeyExchange;
use ike_daemon::wire::nonce::Nonce;
use ike_daemon::wire::notify::NotifyType;
use ike_daemon::wire::sa::{Proposal, ProtocolId, SecurityAssociation, Transform};
use ike_daemon::wire::transform::{Encr, GroupId, PrfId};
use ike_daemon::wire::ts::TsPayload;

use crate::forge::{Claim, Forger, answer_to, give, notify_chain};
use crate::util::*;

/// Everything of an SA that must not change, counters aside.
fn essence(node: &Node, now: Timestamp) -> Vec<(IkeSpis, IkeState, Path, usize)> {
    node.endpoint.snapshot(now).iter().map(|sa| (sa.spis, sa.state, sa.path, sa.children.len())).collect()
}

fn damaged(original: &[u8]) -> Vec<Vec<u8>> {
    let flips = (0..original.len() * 8).filter(|bit| bit % 8 == (bit / 8) % 8).map(|bit| {
        let mut bad = original.to_vec();
        bad[bit / 8] ^= 1 << (bit % 8);
        bad
    });
    let cuts = (0..original.len()).flat_map(|cut| {
        let short = original[..cut].to_vec();
        let mut relabelled = short.clone();
        if cut >= 28 {
            relabelled[24..28].copy_from_slice(&u32::try_from(cut).unwrap().to_be_bytes());
        }
        [short, relabelled]
    });
    flips.chain(cuts).collect()
}

/// V2-ENC-01, V2-ENC-02, V2-ERR-07, V2-HDR-10: every protected message, damaged at every octet, is dropped in silence and
/// changes nothing; the undamaged one still does its work.
#[test]
fn v2_enc_01_02_err_07_damaged_protected_messages() {
    // The messages after IKE_SA_INIT: IKE_AUTH, a child rekey by A with its Delete, an IKE rekey by B with its Delete.
    for index in 2..12 {
        let mut world = World::new(700);
        let mut delivered = 0;
        let mut phase = 0;
        world.acquire(Side::A);
        loop {
            let Some(packet) = world.wire.pop_front() else {
                phase += 1;
                match phase {
                    1 => world.expire(Side::A, ExpireKind::Soft),
                    2 => world.rekey_ike(Side::B),
                    _ => break,
                }
                continue;
            };
            if delivered == index {
                let (a, b) = (essence(&world.a, world.now), essence(&world.b, world.now));
                for bad in damaged(&packet.bytes) {
                    // A flip of the SPI, version or exchange octets makes it another message, never a better one.
                    assert_eq!(give(&mut world, packet.to, bad).len(), 0);
                }
                assert_eq!((a, b), (essence(&world.a, world.now), essence(&world.b, world.now)));
                let stats = world.node(packet.to).endpoint.stats();
                assert!(stats.integrity_failures > 20 && stats.malformed > 50);
            }
            world.deliver(&packet);
            delivered += 1;
        }
        world.assert_mirrored(1);
        world.assert_one_ike();
        assert_eq!(delivered, 12);
    }
}

/// ROB-01, V2-HDR-11: IKE_SA_INIT damaged at every octet: no panic, no state that stays, the next handshake succeeds.
#[test]
fn rob_01_damaged_init_messages() {
    let mut probe = World::new(701);
    probe.acquire(Side::A);
    let request = probe.wire[0].bytes.clone();
    let mut world = World::new(702);
    for bad in damaged(&request) {
        give(&mut world, Side::B, bad);
    }
    world.wire.clear();
    world.run(seconds(60));
    assert!(world.b.endpoint.is_idle(), "half-open SAs are gone");
    world.acquire(Side::A);
    world.settle();
    world.assert_mirrored(1);

    for nth in (0..1500).step_by(7) {
        let mut world = World::new(703);
        world.acquire(Side::A);
        let packet = world.wire.pop_front().unwrap();
        world.deliver(&packet);
        let good = world.wire.pop_front().unwrap();
        let all = damaged(&good.bytes);
        let bad = all[nth % all.len()].clone();
        give(&mut world, Side::A, bad);
        world.deliver(&good);
        world.run(seconds(100));
        assert_eq!(world.a.acquire_failures().len() + world.a.installed.len(), 1);
        if world.a.installed.is_empty() {
            world.acquire(Side::A);
            world.settle();
        }
        world.assert_mirrored(1);
    }
}

/// V2-HDR-16, V2-HDR-17, V2-HDR-15: an unknown critical payload is refused by name and the IKE SA stays.
#[test]
fn v2_hdr_15_16_17_unknown_payloads() {
    let mut world = World::connected(710);
    let forger = Forger::of(&world.b, world.now);
    let claim = Claim { from: Role::Initiator, exchange: ExchangeType::INFORMATIONAL, response: false, id: 2 };
    let critical = forger.seal_octets(claim, PayloadType(200), &[0, 0x80, 0, 5, 1]);
    assert_eq!(give(&mut world, Side::B, critical).len(), 1);
    let harmless = forger.seal_octets(Claim { id: 3, ..claim }, PayloadType(200), &[0, 0, 0, 5, 1]);
    assert_eq!(give(&mut world, Side::B, harmless).len(), 1);
    world.wire.clear();
    world.assert_mirrored(1);
}

/// V2-ERR-06, V2-ERR-03: malformed content inside a valid SK: INVALID_SYNTAX and the end of the IKE SA, children included.
#[test]
fn v2_err_06_malformed_inside_protection() {
    for inner in [&[0u8, 0, 0, 3][..], &[0, 0, 0, 9, 1], &[41, 0, 0, 4, 0, 0, 0, 4]] {
        let mut world = World::connected(711);
        let forger = Forger::of(&world.b, world.now);
        let claim = Claim { from: Role::Initiator, exchange: ExchangeType::INFORMATIONAL, response: false, id: 2 };
        assert_eq!(give(&mut world, Side::B, forger.seal_octets(claim, PayloadType::NOTIFY, inner)).len(), 1);
        assert!(world.b.installed.is_empty() && world.b.endpoint.is_idle());
        assert!(world.b.logged("INVALID_SYNTAX"));
    }
}

/// V2-ERR-08: a malformed response gets no answer; the IKE SA ends with a Delete of ours.
#[test]
fn v2_err_08_malformed_response() {
    let mut world = World::connected(712);
    world.hold = Some(|_| true);
    world.expire(Side::A, ExpireKind::Idle);
    let forger = Forger::of(&world.a, world.now);
    let claim = Claim { from: Role::Responder, exchange: ExchangeType::INFORMATIONAL, response: true, id: 2 };
    let sent = give(&mut world, Side::A, forger.seal_octets(claim, PayloadType::NOTIFY, &[0, 0, 0, 3]));
    let header = Header::parse(&sent[0].bytes).unwrap().header;
    assert_eq!((sent.len(), header.response, header.exchange), (1, false, ExchangeType::INFORMATIONAL));
    assert!(world.a.installed.is_empty());
}

/// V2-INF-01, V2-INF-07, V2-COL-07, V2-ERR-01, V2-ERR-02: what is not understood is answered and changes nothing.
#[test]
fn v2_inf_01_07_col_07_err_01_02_odd_informationals() {
    let mut world = World::connected(713);
    let forger = Forger::of(&world.b, world.now);
    let claim = |id| Claim { from: Role::Initiator, exchange: ExchangeType::INFORMATIONAL, response: false, id };
    let mut deletes = ChainBuilder::new();
    let unknown = Delete::Children { protocol: ProtocolId::ESP, spis: vec![0xdead_beef, 0] };
    deletes.push(PayloadType::DELETE, &unknown).unwrap();
    deletes.push(PayloadType::DELETE, &Delete::Children { protocol: ProtocolId::AH, spis: vec![] }).unwrap();
    let odd = [
        ChainBuilder::new(),
        notify_chain(NotifyType(8192), b"?"),
        notify_chain(NotifyType(40_000), b"?"),
        notify_chain(NotifyType::INVALID_SPI, &[1, 2, 3, 4]),
        notify_chain(NotifyType::REKEY_SA, b""),
        deletes,
    ];
    for (id, chain) in (2..).zip(odd) {
        assert_eq!(give(&mut world, Side::B, forger.seal(claim(id), &chain)).len(), 1);
        world.wire.clear();
        world.assert_mirrored(1);
    }
    let mut last = ChainBuilder::new();
    last.push(PayloadType::DELETE, &Delete::Ike).unwrap();
    let spis = vec![world.a.installed.keys().next().copied().unwrap()];
    last.push(PayloadType::DELETE, &Delete::Children { protocol: ProtocolId::ESP, spis }).unwrap();
    assert_eq!(give(&mut world, Side::B, forger.seal(claim(8), &last)).len(), 1);
    assert!(world.b.installed.is_empty() && world.b.endpoint.is_idle());
}

/// V2-ENC-09, V2-LIVE-01, V2-INF-10: what stands in clear, beside SK or alone, deletes nothing.
#[test]
fn v2_enc_09_live_01_inf_10_unprotected_messages() {
    let mut world = World::connected(714);
    let forger = Forger::of(&world.b, world.now);
    let kinds = [NotifyType::INVALID_SPI, NotifyType::INVALID_IKE_SPI, NotifyType::AUTHENTICATION_FAILED];
    for id in [0, 1, 2] {
        for response in [false, true] {
            let claim = Claim { from: Role::Initiator, exchange: ExchangeType::INFORMATIONAL, response, id };
            let mut delete = ChainBuilder::new();
            delete.push(PayloadType::DELETE, &Delete::Ike).unwrap();
            let mut plain = vec![delete.into_message(&forger.header(claim)).unwrap()];
            plain.extend(kinds.iter().map(|k| notify_chain(*k, b"").into_message(&forger.header(claim)).unwrap()));
            for message in plain {
                assert_eq!(give(&mut world, Side::B, message), []);
            }
        }
    }
    world.assert_mirrored(1);
    world.assert_one_ike();
}

/// V2-HDR-06: a higher major version gets one unprotected answer per request, a bounded number of them, and no state.
#[test]
fn v2_hdr_06_major_version() {
    let mut world = World::new(715);
    world.acquire(Side::A);
    let mut message = world.wire.pop_front().unwrap().bytes;
    message[17] = 0x30;
    let mut answers = 0;
    for _ in 0..100 {
        answers += give(&mut world, Side::B, message.clone()).len();
    }
    assert_eq!(answers, 10);
    let reply = world.b.sent[0].bytes.clone();
    assert_eq!((reply[17], reply[30..34].to_vec()), (0x20, vec![0, 8, 0, 0]));
    assert!(world.b.endpoint.is_idle());
    message[17] = 0x10;
    assert_eq!(give(&mut world, Side::B, message), []);
}

/// V2-LIVE-06, V2-CKY-01, V2-KE-03, V2-SA-03: forged answers to IKE_SA_INIT do not end the attempt: the good one still wins.
#[test]
fn v2_live_06_cky_01_ke_03_sa_03_forged_answers() {
    let mut world = World::new(716);
    world.acquire(Side::A);
    let request = world.wire.pop_front().unwrap();
    let sa = |transforms: Vec<Transform>| {
        let mut chain = ChainBuilder::new();
        let proposal = Proposal { number: 1, protocol: ProtocolId::IKE, spi: vec![], transforms };
        chain.push(PayloadType::SA, &SecurityAssociation { proposals: vec![proposal] }).unwrap();
        chain.push(PayloadType::KE, &KeyExchange { group: GroupId::CURVE25519, public: vec![9; 32] }).unwrap();
        chain.push(PayloadType::NONCE, &Nonce::new(vec![1; 32]).unwrap()).unwrap();
        chain
    };
    let suite =
        |encr, group| vec![Transform::Encr(encr), Transform::Prf(PrfId::HMAC_SHA2_256), Transform::Group(group)];
    let forged = [
        notify_chain(NotifyType::NO_PROPOSAL_CHOSEN, b""),
        notify_chain(NotifyType::AUTHENTICATION_FAILED, b""),
        notify_chain(NotifyType::COOKIE, b""),
        notify_chain(NotifyType::COOKIE, &[1; 65]),
        notify_chain(NotifyType::INVALID_KE_PAYLOAD, &[0, 14]),
        notify_chain(NotifyType::INVALID_KE_PAYLOAD, &[0, 31]),
        notify_chain(NotifyType::INVALID_KE_PAYLOAD, &[31]),
        notify_chain(NotifyType(40_000), b""),
        sa(suite(Encr::aes_gcm_16(128), GroupId::CURVE25519)),
        sa(suite(Encr::aes_gcm_16(256), GroupId::ECP_256)),
        sa(vec![Transform::Encr(Encr::aes_gcm_16(256)), Transform::Group(GroupId::CURVE25519)]),
        ChainBuilder::new(),
    ];
    for chain in forged {
        let bytes = answer_to(&request.bytes, chain, [5; 8]);
        assert_eq!(give(&mut world, Side::A, bytes), []);
    }
    world.deliver(&request);
    world.settle();
    world.assert_mirrored(1);
}

/// V2-CKY-08: a peer that asks for one thing after the other is left after a bounded number of rounds.
#[test]
fn v2_cky_08_rounds_are_bounded() {
    let mut world = World::new(717);
    world.acquire(Side::A);
    for round in 0..50u8 {
        let Some(request) = world.wire.pop_front() else { break };
        let group = if round % 2 == 0 { GroupId::ECP_256 } else { GroupId::CURVE25519 };
        let chain = match round % 4 {
            0 | 1 => notify_chain(NotifyType::INVALID_KE_PAYLOAD, &group.0.to_be_bytes()),
            _ => notify_chain(NotifyType::COOKIE, &[round; 8]),
        };
        give(&mut world, Side::A, answer_to(&request.bytes, chain, [0; 8]));
    }
    assert_eq!(world.a.acquire_failures(), [(1, FailureCause::TooManyRounds)]);
    assert!(world.a.sent.len() <= 9);
    world.assert_no_leak();
}

/// V2-KE-04, V2-KE-05, V2-KE-06: public values of the wrong length or off the curve end the exchange at either side.
#[test]
fn v2_ke_04_05_06_bad_public_values() {
    for (group, public) in [
        (GroupId::CURVE25519, vec![0; 32]),
        (GroupId::CURVE25519, vec![9; 31]),
        (GroupId::ECP_256, vec![1; 64]),
        (GroupId::ECP_256, vec![1; 65]),
    ] {
        let mut world = World::new(718);
        world.acquire(Side::A);
        let request = world.wire.pop_front().unwrap();
        let header = Header::parse(&request.bytes).unwrap().header;
        let transforms =
            vec![Transform::Encr(Encr::aes_gcm_16(256)), Transform::Prf(PrfId::HMAC_SHA2_256), Transform::Group(group)];
        let proposal = Proposal { number: 1, protocol: ProtocolId::IKE, spi: vec![], transforms };
        let mut chain = ChainBuilder::new();
        chain.push(PayloadType::SA, &SecurityAssociation { proposals: vec![proposal] }).unwrap();
        chain.push(PayloadType::KE, &KeyExchange { group, public }).unwrap();
        chain.push(PayloadType::NONCE, &Nonce::new(vec![1; 32]).unwrap()).unwrap();
        let answer = answer_to(&request.bytes, chain.clone(), [5; 8]);
        assert_eq!(give(&mut world, Side::B, chain.into_message(&header).unwrap()).len(), 1);
        assert!(world.b.endpoint.is_idle() && world.b.logged("INVALID_KE_PAYLOAD"), "{}", world.story());
        give(&mut world, Side::A, answer);
        world.faults.lose = 100;
        world.wire.clear();
        world.run(seconds(60));
        assert_eq!(world.a.acquire_failures().len(), 1);
        assert!(world.a.installed.is_empty());
    }
}

/// V2-KEY-01: a nonce of less than half the key of the pseudo-random function is a syntax error, in every exchange and in
/// both roles; one of half is enough.
#[test]
fn v2_key_01_nonces_fit_the_prf() {
    let with_sha512 = |seed| {
        let mut world = World::new(seed);
        for side in [Side::A, Side::B] {
            world.node(side).rule(|rule| rule.proposals[0].prf = vec![PrfId::HMAC_SHA2_512]);
        }
        world
    };
    let init = |nonce: usize| {
        let transforms = vec![
            Transform::Encr(Encr::aes_gcm_16(256)),
            Transform::Prf(PrfId::HMAC_SHA2_512),
            Transform::Group(GroupId::CURVE25519),
        ];
        let proposal = Proposal { number: 1, protocol: ProtocolId::IKE, spi: vec![], transforms };
        let mut chain = ChainBuilder::new();
        chain.push(PayloadType::SA, &SecurityAssociation { proposals: vec![proposal] }).unwrap();
        chain.push(PayloadType::KE, &KeyExchange { group: GroupId::CURVE25519, public: vec![9; 32] }).unwrap();
        chain.push(PayloadType::NONCE, &Nonce::new(vec![1; nonce]).unwrap()).unwrap();
        chain
    };
    for (length, refused) in [(16, true), (31, true), (32, false)] {
        let mut world = with_sha512(722);
        world.acquire(Side::A);
        let request = world.wire.pop_front().unwrap();
        let header = Header::parse(&request.bytes).unwrap().header;
        assert_eq!(give(&mut world, Side::B, init(length).into_message(&header).unwrap()).len(), 1);
        assert_eq!(world.b.endpoint.is_idle(), refused, "{length}");
        assert_eq!(world.b.logged("INVALID_SYNTAX"), refused, "{length}");

        // An answer with such a nonce is nobody's: the good one still wins.
        let mut world = with_sha512(723);
        world.acquire(Side::A);
        let request = world.wire.pop_front().unwrap();
        if refused {
            assert_eq!(give(&mut world, Side::A, answer_to(&request.bytes, init(length), [5; 8])), []);
        }
        world.deliver(&request);
        world.settle();
        world.assert_mirrored(1);

        let forger = Forger::of(&world.b, world.now);
        let claim = Claim { from: Role::Initiator, exchange: ExchangeType::CREATE_CHILD_SA, response: false, id: 2 };
        let mut chain = ChainBuilder::new();
        let transforms = vec![Transform::Encr(Encr::CHACHA20_POLY1305), Transform::Esn(true)];
        let proposal = Proposal { number: 1, protocol: ProtocolId::ESP, spi: vec![3; 4], transforms };
        chain.push(PayloadType::SA, &SecurityAssociation { proposals: vec![proposal] }).unwrap();
        chain.push(PayloadType::NONCE, &Nonce::new(vec![1; length]).unwrap()).unwrap();
        for (kind, (first, last)) in [(PayloadType::TS_I, A_NET), (PayloadType::TS_R, B_NET)] {
            chain.push(kind, &TsPayload { selectors: vec![net(first, last)] }).unwrap();
        }
        assert_eq!(give(&mut world, Side::B, forger.seal(claim, &chain)).len(), 1);
        assert_eq!((world.b.installed.len(), world.b.endpoint.is_idle()), if refused { (0, true) } else { (2, false) });
    }
}

/// V2-AUTH-15, V2-AUTH-16, V2-AUTH-21, V2-EAP-01, V2-ERR-05: an initiator with keys and without proof gets nowhere.
#[test]
fn v2_auth_15_16_21_eap_01_err_05_no_proof() {
    let attempt = |claim: Claim, auth: Option<Authentication>, with_id: bool| {
        let mut world = World::new(719);
        world.acquire(Side::A);
        let packet = world.wire.pop_front().unwrap();
        world.deliver(&packet);
        world.wire.clear();
        let forger = Forger::of(&world.b, world.now);
        let mut chain = ChainBuilder::new();
        if with_id {
            let id = IdPayload::new(Identification::address(world.a.address));
            chain.push(PayloadType::ID_I, &id).unwrap();
        }
        if let Some(auth) = auth {
            chain.push(PayloadType::AUTH, &auth).unwrap();
        }
        let answers = give(&mut world, Side::B, forger.seal(claim, &chain)).len();
        assert!(world.b.effects.iter().all(|e| !matches!(e, Effect::ChildInstalled(_) | Effect::IkeSaUp { .. })));
        (answers, world.b.endpoint.is_idle())
    };
    let claim = Claim { from: Role::Initiator, exchange: ExchangeType::IKE_AUTH, response: false, id: 1 };
    let auth = |method, octet, length| Some(Authentication { method: AuthMethod(method), data: vec![octet; length] });
    for proof in [auth(2, 0, 32), auth(2, 0xff, 32), auth(2, 0, 0), auth(1, 0, 32), auth(14, 7, 256), None] {
        assert_eq!(attempt(claim, proof, true), (1, true), "refused under protection, and gone");
    }
    assert_eq!(attempt(claim, auth(2, 0, 32), false), (1, true), "no identity");
    for exchange in [ExchangeType::CREATE_CHILD_SA, ExchangeType::INFORMATIONAL, ExchangeType(99)] {
        assert_eq!(attempt(Claim { exchange, ..claim }, None, true), (0, false), "no answer, and still half open");
    }
    assert_eq!(attempt(Claim { id: 2, ..claim }, None, true), (0, false));
}

/// A scenario stopped in each of its states: nobody, InitSent, HalfOpen, AuthSent, Established, rekeying, retiring.
fn in_state(state: usize) -> World {
    let mut world = World::new(720);
    if state == 0 {
        return world;
    }
    world.acquire(Side::A);
    if state == 1 {
        return world;
    }
    let steps = [0, 0, 1, 2, 3, 4];
    for _ in 0..steps.get(state).copied().unwrap_or(4) {
        let packet = world.wire.pop_front().unwrap();
        world.deliver(&packet);
    }
    match state {
        6 => world.expire(Side::A, ExpireKind::Soft),
        7 => world.rekey_ike(Side::B),
        8 => {
            let spis = world.a.up(world.now)[0].spis;
            world.command(Side::A, Command::DeleteIkeSa(spis));
        }
        _ => {}
    }
    world
}

/// Everything ends when it is told to, nothing stays, and a new handshake succeeds.
pub(crate) fn recovered(mut world: World, side: Side) {
    world.run(seconds(120));
    world.command(Side::A, Command::FlushIkeSas);
    world.command(Side::B, Command::FlushIkeSas);
    world.run(seconds(120));
    world.assert_mirrored(0);
    assert!(world.a.endpoint.poll_timeout().is_none() && world.b.endpoint.poll_timeout().is_none());
    world.acquire(side);
    world.settle();
    world.assert_mirrored(1);
    world.assert_answered();
}

/// After hostile input in any state everything ends, and a handshake succeeds.
#[test]
fn rob_05_recovery_after_hostile_input() {
    for state in 0..9 {
        let mut world = in_state(state);
        let mut random = Seeded(9000 + u64::try_from(state).unwrap());
        for _ in 0..200 {
            let to = if random.chance(50) { Side::A } else { Side::B };
            let now = world.now;
            let known = world.node(to).endpoint.snapshot(now);
            if known.first().is_none_or(|sa| sa.encr.is_none()) {
                continue;
            }
            let forger = Forger::of(world.node(to), now);
            assert!(!forger.keys().sk_d.is_empty());
            let length = random.below(60);
            let mut inner = vec![0; length];
            random.fill(&mut inner).unwrap();
            let claim = Claim {
                from: if random.chance(50) { Role::Initiator } else { Role::Responder },
                exchange: ExchangeType(34 + u8::try_from(random.below(5)).unwrap()),
                response: random.chance(50),
                id: u32::try_from(random.below(6)).unwrap(),
            };
            let first = PayloadType(33 + u8::try_from(random.below(17)).unwrap());
            give(&mut world, to, forger.seal_octets(claim, first, &inner));
        }
        recovered(world, Side::B);
    }
}

/// ROB-01, ROB-02: garbage, and mutations of real messages, in all states.
#[test]
fn rob_01_02_garbage() {
    let mut donor = World::connected(721);
    donor.expire(Side::A, ExpireKind::Soft);
    donor.settle();
    let real: Vec<Vec<u8>> = donor.a.sent.iter().chain(&donor.b.sent).map(|t| t.bytes.clone()).collect();
    let mut random = Seeded(4242);
    for state in 0..9 {
        let mut world = in_state(state);
        let own: Vec<Vec<u8>> = world.a.sent.iter().chain(&world.b.sent).map(|t| t.bytes.clone()).collect();
        for _ in 0..1500 {
            let mut bytes = match random.next() % 3 {
                0 => vec![0; random.below(300)],
                1 => real[random.below(real.len())].clone(),
                _ if own.is_empty() => vec![0; 28],
                _ => own[random.below(own.len())].clone(),
            };
            if bytes.iter().all(|octet| *octet == 0) {
                random.fill(&mut bytes).unwrap();
            }
            for _ in 0..random.below(4) {
                if !bytes.is_empty() {
                    let at = random.below(bytes.len());
                    bytes[at] = random.next().to_be_bytes()[0];
                }
            }
            let length = u32::try_from(bytes.len()).unwrap();
            if bytes.len() >= 28 && random.chance(80) {
                bytes[24..28].copy_from_slice(&length.to_be_bytes());
            }
            let to = if random.chance(50) { Side::A } else { Side::B };
            give(&mut world, to, bytes);
            world.wire.truncate(4);
        }
        let half_open = world.b.endpoint.snapshot(world.now).len();
        assert!(half_open <= 40, "{half_open}");
        world.wire.clear();
        world.run(seconds(200));
        world.command(Side::A, Command::FlushIkeSas);
        world.command(Side::B, Command::FlushIkeSas);
        world.run(seconds(200));
        world.assert_mirrored(0);
        world.acquire(Side::A);
        world.settle();
        world.assert_mirrored(1);
    }
}
