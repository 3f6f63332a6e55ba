//! Child SAs: modes, selectors, algorithms, sequence numbers, key exchange of their own, refusals.

use ike_daemon::core::api::*;
use ike_daemon::crypto::keys::child_shape;
use ike_daemon::wire::transform::{Encr, EncrId, GroupId, IntegId};
use ike_daemon::wire::ts::{Ports, TrafficSelector};

use crate::util::*;

/// V2-REK-02: transport mode, asked for and agreed.
#[test]
fn v2_rek_02_transport_mode() {
    let mut world = World::new(30);
    let (a, b) = (TrafficSelector::host(world.a.address), TrafficSelector::host(world.b.address));
    for (side, local, remote) in [(Side::A, a, b), (Side::B, b, a)] {
        let policy = world.node(side).policy();
        policy.mode = Mode::Transport;
        (policy.ts_local, policy.ts_remote) = (vec![local], vec![remote]);
    }
    world.acquire(Side::A);
    world.settle();
    world.assert_mirrored(1);
    assert_eq!(world.a.only_child().mode, Mode::Transport);
    world.expire(Side::B, ExpireKind::Soft);
    world.settle();
    world.assert_mirrored(1);
    assert_eq!(world.a.only_child().mode, Mode::Transport);
}

/// V2-REK-02, V2-AUTH-17: a mode that was not agreed: the initiator takes the pair back, the IKE SA stays.
#[test]
fn v2_rek_02_mode_not_agreed() {
    let mut world = World::new(31);
    world.a.policy().mode = Mode::Transport;
    world.acquire(Side::A);
    world.settle();
    assert_eq!(world.a.acquire_failures(), [(1, FailureCause::ModeRefused)]);
    world.assert_mirrored(0);
    world.assert_one_ike();

    let mut world = World::new(32);
    world.b.policy().mode = Mode::Transport;
    world.acquire(Side::A);
    world.settle();
    assert_eq!(world.a.acquire_failures(), [(1, FailureCause::NoProposalChosen)]);
    assert!(world.b.logged("mode not agreed") && world.b.logged("ipsecinit.conf:3"));
    world.assert_mirrored(0);
    world.assert_one_ike();
}

/// V2-TS-05, V2-TS-06: the responder narrows to what its policy permits; the packet's selector stays inside.
#[test]
fn v2_ts_05_06_narrowing() {
    let mut world = World::new(33);
    world.b.policy().ts_local = vec![net("10.2.3.0", "10.2.3.255")];
    let port = |p: u16, address: &str| {
        let address = address.parse().unwrap();
        TrafficSelector::new(6, Ports::Range(p, p), address, address).unwrap()
    };
    let acquire = Acquire {
        id: 5,
        local: world.a.address,
        remote: world.b.address,
        policy: world.a.policy().clone(),
        packet: Some((port(4711, "10.1.0.9"), port(80, "10.2.3.4"))),
        rule_label: None,
    };
    world.a.endpoint.handle_acquire(world.now, acquire.clone());
    world.flush();
    world.settle();
    world.assert_mirrored(1);
    assert_eq!(world.a.only_child().ts_remote, [net("10.2.3.0", "10.2.3.255")]);
    assert_eq!(world.a.only_child().acquire, Some(5));

    // V2-TS-11: a narrowed answer that leaves the waiting packet out is taken back, and the request fails once.
    let outside = Acquire { id: 6, packet: Some((port(4711, "10.1.0.9"), port(80, "10.2.9.9"))), ..acquire };
    world.a.endpoint.handle_acquire(world.now, outside);
    world.flush();
    world.settle();
    assert_eq!(world.a.acquire_failures(), [(6, FailureCause::TsUnacceptable)]);
    world.assert_mirrored(1);
}

/// V2-TS-07, V2-AUTH-17, V2-TS-13: nothing in common, or no policy at all: TS_UNACCEPTABLE, and the IKE SA stays and serves.
#[test]
fn v2_ts_07_13_unacceptable() {
    let mut world = World::new(34);
    world.b.policy().ts_local = vec![net("172.16.0.0", "172.16.0.255")];
    world.acquire(Side::A);
    world.settle();
    assert_eq!(world.a.acquire_failures(), [(1, FailureCause::TsUnacceptable)]);
    assert!(world.b.logged("TS_UNACCEPTABLE") && world.b.logged("10.2.0.0-10.2.255.255"), "{}", world.story());
    world.assert_mirrored(0);
    let ike = world.assert_one_ike();
    let kept = world.b.host().policy.take();
    world.acquire(Side::A);
    world.settle();
    assert!(world.b.logged("no policy protects this traffic"));
    world.b.host().policy = kept;
    world.b.policy().ts_local = vec![net(B_NET.0, B_NET.1)];
    world.acquire(Side::A);
    world.settle();
    world.assert_mirrored(1);
    assert_eq!(world.assert_one_ike(), ike);
}

/// V2-SA-02, V2-SA-14: the responder's preference decides; no algorithm in common is NO_PROPOSAL_CHOSEN with both lists.
#[test]
fn v2_sa_02_14_algorithms_of_children() {
    let mut world = World::new(35);
    let gcm = |bits| ChildSuite::esp_aead(Encr::aes_gcm_16(bits));
    world.a.policy().suites = vec![gcm(256), gcm(128)];
    world.b.policy().suites = vec![gcm(128), gcm(256)];
    world.acquire(Side::A);
    world.settle();
    world.assert_mirrored(1);
    assert_eq!(world.a.only_child().suite, gcm(128));
    assert_eq!(world.a.only_child().inbound.cipher_key.len(), 16);
    assert_eq!(world.a.only_child().inbound.salt.len(), 4);

    let mut world = World::new(36);
    world.b.policy().suites = vec![gcm(256)];
    world.acquire(Side::A);
    world.settle();
    assert_eq!(world.a.acquire_failures(), [(1, FailureCause::NoProposalChosen)]);
    assert!(world.b.logged("ESN") && world.b.logged("AES-GCM-16(256)"), "{}", world.story());
    world.assert_one_ike();
}

/// V2-KEY-07, V2-SA-07: every transform, and AH, is negotiated and rekeyed; both sides have the same keys of the right
/// lengths, and the logs name both algorithms.
#[test]
fn v2_key_07_every_transform() {
    let integ = IntegId::HMAC_SHA2_256_128;
    let esp = |id: u16, key_bits, integ| ChildSuite {
        protocol: Protocol::Esp,
        encr: Some(Encr { id: EncrId(id), key_bits }),
        integ,
    };
    let mut suites = vec![
        ChildSuite { protocol: Protocol::Ah, encr: None, integ },
        esp(2, None, IntegId::HMAC_MD5_96),
        esp(3, None, IntegId::HMAC_SHA1_96),
        esp(7, Some(448), integ),
        esp(11, None, IntegId::HMAC_SHA2_384_192),
        ChildSuite::esp_aead(Encr::CHACHA20_POLY1305),
    ];
    for bits in [128, 192, 256] {
        suites.extend([1, 2, 12, 13, 14].map(|id| esp(12, Some(bits), IntegId(id))));
        suites.extend([1, 2, 12, 13, 14].map(|id| esp(13, Some(bits), IntegId(id))));
        suites.extend([14, 15, 16, 18, 19, 20, 21].map(|id| esp(id, Some(bits), IntegId::NONE)));
    }
    for (seed, suite) in (1000..).zip(suites) {
        let mut world = World::new(seed);
        world.a.policy().suites = vec![suite];
        world.b.policy().suites = vec![suite];
        world.acquire(Side::A);
        world.settle();
        world.assert_mirrored(1);
        let shape = child_shape(suite.encr, suite.integ).unwrap();
        let child = world.a.only_child();
        assert_eq!(child.suite, suite);
        for keys in [&child.inbound, &child.outbound] {
            let lengths = (keys.cipher_key.len(), keys.salt.len(), keys.integ_key.len());
            assert_eq!(lengths, (shape.cipher, shape.salt, shape.integ), "{suite}");
        }
        assert_ne!(child.inbound, child.outbound);
        world.expire(Side::A, ExpireKind::Soft);
        world.settle();
        world.assert_mirrored(1);
        assert_eq!(world.b.only_child().suite, suite);
    }
}

const AH: ChildSuite = ChildSuite { protocol: Protocol::Ah, encr: None, integ: IntegId::HMAC_SHA2_256_128 };

/// V2-SA-02, V2-REK-02: AH and ESP as alternatives; whichever the peer takes, nothing stays reserved for the other, and
/// a rekey stays with it.
#[test]
fn v2_sa_02_rek_02_ah_beside_esp() {
    let gcm = ChildSuite::esp_aead(Encr::aes_gcm_16(256));
    for (seed, (ours, theirs)) in (1200..).zip([
        (vec![AH, gcm], vec![gcm]),
        (vec![AH, gcm], vec![AH]),
        (vec![gcm, AH], vec![AH, gcm]),
        (vec![gcm, AH], vec![gcm, AH]),
    ]) {
        let mut world = World::new(seed);
        world.a.policy().suites = ours;
        world.b.policy().suites.clone_from(&theirs);
        world.acquire(Side::A);
        world.settle();
        world.assert_mirrored(1);
        assert_eq!(world.a.only_child().suite, theirs[0]);
        for side in [Side::A, Side::B] {
            world.expire(side, ExpireKind::Soft);
            world.settle();
            world.assert_mirrored(1);
            assert_eq!(world.a.only_child().suite, theirs[0]);
        }
    }
}

/// AH-11: through a NAT nobody offers AH, and nobody takes it.
#[test]
fn ah_11_not_through_a_nat() {
    let gcm = ChildSuite::esp_aead(Encr::aes_gcm_16(256));
    let world = |seed, ours: &[ChildSuite], theirs: &[ChildSuite]| {
        let mut world = World::new(seed);
        world.nat = Some(("203.0.113.9".parse().unwrap(), 20_000));
        world.a.policy().suites = ours.to_vec();
        world.b.policy().suites = theirs.to_vec();
        world.acquire(Side::A);
        world.settle();
        world
    };
    let met = world(1210, &[AH, gcm], &[AH, gcm]);
    met.assert_mirrored(1);
    assert_eq!(met.a.only_child().suite, gcm);
    let ours = world(1211, &[AH], &[AH]);
    assert_eq!(ours.a.acquire_failures(), [(1, FailureCause::Local)]);
    assert!(ours.a.logged("does not pass the NAT"), "{}", ours.story());
    let theirs = world(1212, &[gcm], &[AH]);
    assert_eq!(theirs.a.acquire_failures(), [(1, FailureCause::NoProposalChosen)]);
    assert!(theirs.b.logged("does not pass the NAT"), "{}", theirs.story());
    for world in [ours, theirs] {
        world.assert_mirrored(0);
    }
}

/// V2-SA-07, V2-SA-14: AEADs and ciphers with an integrity algorithm beside each other: whoever answers decides by its
/// own order.
#[test]
fn v2_sa_07_14_aead_beside_integrity() {
    let cbc = |bits, integ| ChildSuite { protocol: Protocol::Esp, encr: Some(Encr::aes_cbc(bits)), integ };
    let gcm = ChildSuite::esp_aead(Encr::aes_gcm_16(256));
    let (sha256, sha512) = (IntegId::HMAC_SHA2_256_128, IntegId::HMAC_SHA2_512_256);
    let offered = vec![gcm, cbc(256, sha256), cbc(128, sha256), cbc(256, sha512), cbc(128, sha512)];
    for (seed, accepted) in (1100..).zip([
        vec![gcm],
        vec![cbc(128, sha512), gcm],
        vec![cbc(256, sha512), cbc(128, sha256)],
        vec![cbc(192, sha256), cbc(128, sha256)],
    ]) {
        let mut world = World::new(seed);
        world.a.policy().suites.clone_from(&offered);
        world.b.policy().suites.clone_from(&accepted);
        world.acquire(Side::A);
        world.settle();
        world.assert_mirrored(1);
        let expected = accepted.iter().find(|suite| offered.contains(suite)).unwrap();
        assert_eq!(world.a.only_child().suite, *expected);
    }
    let mut world = World::new(1110);
    world.a.policy().suites = vec![cbc(256, sha256)];
    world.b.policy().suites = vec![cbc(256, sha512)];
    world.acquire(Side::A);
    world.settle();
    assert_eq!(world.a.acquire_failures(), [(1, FailureCause::NoProposalChosen)]);
    assert!(world.a.logged("AES-CBC(256)/HMAC-SHA2-256-128") && world.b.logged("AES-CBC(256)/HMAC-SHA2-512-256"));
}

/// V2-SA-12: sequence numbers of 64 and of 32 bits.
#[test]
fn v2_sa_12_esn() {
    use EsnPolicy::{Never, Preferred, Required};
    let cases = [
        (Preferred, Preferred, Some(true)),
        (Preferred, Never, Some(false)),
        (Never, Preferred, Some(false)),
        (Required, Preferred, Some(true)),
        (Preferred, Required, Some(true)),
        (Never, Required, None),
        (Required, Never, None),
    ];
    for (seed, (a, b, agreed)) in (40..).zip(cases) {
        let mut world = World::new(seed);
        world.a.policy().esn = a;
        world.b.policy().esn = b;
        world.acquire(Side::A);
        world.settle();
        world.assert_mirrored(usize::from(agreed.is_some()));
        assert_eq!(world.a.installed.values().next().map(|sa| sa.esn), agreed);
    }
}

/// V2-REK-01, V2-SA-16, V2-KEY-07, V2-KEY-11: with and without a key exchange of the child's own.
#[test]
fn v2_rek_01_sa_16_pfs() {
    for (seed, a, b) in [
        (50, GroupId::ECP_384, GroupId::ECP_384),
        (51, GroupId::ECP_256, GroupId::NONE),
        (52, GroupId::CURVE25519, GroupId::CURVE25519),
    ] {
        let mut world = World::new(seed);
        world.a.rule(|rule| rule.childsa_pfs = a);
        world.b.rule(|rule| rule.childsa_pfs = b);
        world.acquire(Side::A);
        world.settle();
        world.acquire(Side::A);
        world.settle();
        world.assert_mirrored(2);
        let before: Vec<ChildSa> = world.a.installed.values().cloned().collect();
        world.expire(Side::A, ExpireKind::Soft);
        world.settle();
        world.assert_mirrored(2);
        let fresh = world.a.installed.values().find(|sa| sa.rekeys.is_some()).unwrap();
        assert!(before.iter().all(|old| old.inbound.cipher_key != fresh.inbound.cipher_key));
    }
}

/// V2-REK-01, V2-REK-04: a group the other side does not want is refused; the IKE SA and other children stay.
#[test]
fn v2_rek_01_04_pfs_refused() {
    let mut world = World::connected(53);
    world.b.rule(|rule| rule.childsa_pfs = GroupId::ECP_256);
    let mut fresh = World::new(54);
    fresh.b.rule(|rule| rule.childsa_pfs = GroupId::ECP_256);
    fresh.acquire(Side::A);
    fresh.settle();
    fresh.assert_mirrored(1);
    fresh.acquire(Side::A);
    fresh.settle();
    assert_eq!(fresh.a.acquire_failures(), [(2, FailureCause::NoProposalChosen)]);
    fresh.assert_mirrored(1);
    fresh.assert_one_ike();
}

/// V2-REK-05: NO_ADDITIONAL_SAS, sent and obeyed.
#[test]
fn v2_rek_05_no_additional_sas() {
    let config = EndpointConfig { max_children: 2, ..EndpointConfig::default() };
    let mut world = World::with_config(55, config);
    for _ in 0..3 {
        world.acquire(Side::A);
        world.settle();
    }
    world.assert_mirrored(2);
    assert_eq!(world.a.acquire_failures(), [(3, FailureCause::NoAdditionalSas)]);
}

/// Requests that come while the handshake runs wait for it and become children of the same IKE SA.
#[test]
fn v2_mid_10_requests_wait_for_the_handshake() {
    let mut world = World::new(56);
    for _ in 0..3 {
        world.acquire(Side::A);
    }
    world.settle();
    world.assert_mirrored(3);
    world.assert_one_ike();
    let acquires: Vec<_> = world.a.installed.values().filter_map(|sa| sa.acquire).collect();
    assert_eq!(acquires.len(), 3);
}

fn refusals() -> [InstallRefusal; 3] {
    [RefusalKind::Full, RefusalKind::Failure, RefusalKind::Taken]
        .map(|kind| InstallRefusal { reason: "no room".to_owned(), kind })
}

/// ROB-09: an SADB that refuses a pair of either side: the peer is told, before it has one itself when it is the one that
/// asks; the IKE SA stays, and the next request is met.
#[test]
fn rob_09_install_failed() {
    let cases = [Side::A, Side::B].map(|side| refusals().map(|refusal| (side, refusal))).into_iter().flatten();
    for (seed, (side, refusal)) in (1200..).zip(cases) {
        let mut world = World::new(seed);
        let kind = refusal.kind;
        world.node(side).host().refuses = Some(refusal);
        world.acquire(Side::A);
        world.settle();
        world.assert_mirrored(0);
        let cause = match (side, kind) {
            (_, RefusalKind::Full) => FailureCause::NoAdditionalSas,
            (_, RefusalKind::Taken) => FailureCause::TsUnacceptable,
            (Side::A, RefusalKind::Failure) => FailureCause::Local,
            (Side::B, RefusalKind::Failure) => FailureCause::TemporaryFailure,
        };
        assert_eq!(world.a.acquire_failures(), [(1, cause)]);
        assert!(world.node(side).logged("cannot be installed: no room"), "{}", world.story());
        let installed = |node: &Node| node.effects.iter().any(|e| matches!(e, Effect::ChildInstalled(_)));
        assert!(side == Side::A || !installed(&world.a) && !installed(&world.b));
        let ike = world.assert_one_ike();
        world.node(side).host().refuses = None;
        world.acquire(Side::A);
        world.settle();
        world.assert_mirrored(1);
        assert_eq!(world.assert_one_ike(), ike);
        world.assert_answered();
    }
}

/// ROB-09: a rekey whose new pair the SADB of either side refuses leaves the old pair in use at both ends, and it can be
/// replaced later.
#[test]
fn rob_09_a_refused_pair_does_not_cost_the_one_it_replaces() {
    let sides = [(Side::A, Side::A), (Side::B, Side::B), (Side::A, Side::B), (Side::B, Side::A)];
    let cases = sides.into_iter().flat_map(|sides| refusals().map(|refusal| (sides, refusal)));
    for (seed, ((begins, refuses), refusal)) in (1220..).zip(cases) {
        let mut world = World::connected(seed);
        let old = world.a.only_child().spis();
        world.node(refuses).host().refuses = Some(refusal);
        world.expire(begins, ExpireKind::Soft);
        world.settle();
        world.assert_mirrored(1);
        world.assert_bound_together();
        assert_eq!(world.a.only_child().spis(), old);
        world.node(refuses).host().refuses = None;
        world.expire(begins, ExpireKind::Soft);
        world.run(seconds(20));
        world.assert_mirrored(1);
        world.assert_bound_together();
        assert_ne!(world.a.only_child().spis(), old);
    }
}

/// ALG-11: an offer of nothing but what we do not do is refused, in IKE and in children.
#[test]
fn alg_11_only_unknown_algorithms() {
    let mut world = World::new(58);
    let suite = ChildSuite { protocol: Protocol::Esp, encr: Some(Encr::aes_cbc(128)), integ: IntegId::NONE };
    world.a.policy().suites = vec![suite];
    world.acquire(Side::A);
    world.settle();
    world.run(seconds(60));
    assert_eq!(world.a.acquire_failures().len(), 1);
    world.assert_mirrored(0);
}
