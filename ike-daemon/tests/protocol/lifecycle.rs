//! Rekeying, deleting, dying: one side at a time.

use std::time::Duration;

use ike_daemon::core::api::*;
use ike_daemon::wire::header::ExchangeType;
use ike_daemon::wire::notify::NotifyType;
use ike_daemon::wire::transform::{Encr, GroupId};

use crate::forge::{Claim, Forger, give, notify_chain};
use crate::util::*;

/// V2-REK-06, V2-REK-08, V2-REK-09, V2-REK-10, V2-KEY-11: a child is rekeyed by each side: new pair first, old one after,
/// outbound traffic of the answering side switches when the old pair is deleted.
#[test]
fn v2_rek_06_08_09_10_rekey_child_by_each_side() {
    for (seed, side) in [(60, Side::A), (61, Side::B)] {
        let mut world = World::connected(seed);
        let old = world.a.only_child().clone();
        world.expire(side, ExpireKind::Soft);
        world.settle();
        world.assert_mirrored(1);
        world.assert_bound_together();
        let new = world.a.only_child();
        assert_ne!(new.inbound, old.inbound);
        assert_eq!((&new.ts_local, &new.ts_remote, new.action), (&old.ts_local, &old.ts_remote, old.action));
        assert_eq!(new.rekeys, Some(old.spis()));
        let other = if side == Side::A { &world.b } else { &world.a };
        let order: Vec<&str> = other
            .effects
            .iter()
            .filter_map(|e| match e {
                Effect::ChildInstalled(sa) if sa.rekeys.is_some() => {
                    assert_eq!(sa.outbound_use, OutboundUse::Later);
                    Some("install")
                }
                Effect::SwitchOutbound { .. } => Some("switch"),
                Effect::RemoveChild(_) => Some("remove"),
                _ => None,
            })
            .collect();
        assert_eq!(order, ["install", "switch", "remove"]);
        assert_eq!(world.a.endpoint.stats().children_rekeyed, 1);
    }
}

/// V2-REK-10: the answering side switches as soon as traffic comes in on the new pair.
#[test]
fn v2_rek_10_switch_on_use() {
    let mut world = World::connected(62);
    world.hold = Some(|p| p.to == Side::A);
    world.expire(Side::A, ExpireKind::Soft);
    world.settle();
    let new = *world.b.installed.keys().next_back().unwrap();
    assert_eq!(world.b.installed.len(), 2);
    assert_ne!(world.b.bound, Some(new));
    world.b.endpoint.handle_inbound_used(world.now, new);
    world.flush();
    assert_eq!(world.b.bound, Some(new));
    world.hold = None;
    world.settle();
    world.assert_mirrored(1);
    world.assert_bound_together();
}

/// V2-REK-13, V2-MID-08, V2-KEY-09, V2-KEY-10: the IKE SA is rekeyed by each side, twice; children move; IDs start at 0; the
/// new SA serves requests of both sides.
#[test]
fn v2_rek_13_mid_08_rekey_ike_by_each_side() {
    for (seed, side) in [(63, Side::A), (64, Side::B)] {
        let mut world = World::connected(seed);
        let mut old = world.assert_one_ike();
        let child = world.a.only_child().spis();
        for round in 1..=2 {
            world.rekey_ike(side);
            world.settle();
            world.run(seconds(40));
            let new = world.assert_one_ike();
            assert_ne!(new, old);
            old = new;
            assert_eq!(world.a.only_child().spis(), child, "children do not notice");
            assert_eq!(world.a.endpoint.stats().ike_rekeyed, round);
        }
        world.expire(Side::A, ExpireKind::Soft);
        world.settle();
        world.expire(Side::B, ExpireKind::Soft);
        world.settle();
        world.acquire(Side::B);
        world.settle();
        world.assert_mirrored(2);
        assert_eq!(world.a.endpoint.snapshot(world.now).len(), 1, "{}", world.story());
        assert_eq!(world.b.endpoint.snapshot(world.now).len(), 1);
    }
}

/// V2-KE-01, V2-KE-02 in a rekey: INVALID_KE_PAYLOAD with another offered group.
#[test]
fn v2_ke_01_02_rekey_ike_with_another_group() {
    let mut world = World::connected(65);
    world.b.host();
    let mut world2 = World::new(66);
    world2.a.rule(|rule| rule.proposals[0].groups = vec![GroupId::CURVE25519, GroupId::ECP_384]);
    world2.b.rule(|rule| {
        rule.proposals = vec![proposal(
            Encr::aes_gcm_16(256),
            &[],
            ike_daemon::wire::transform::PrfId::HMAC_SHA2_256,
            GroupId::CURVE25519,
        )];
    });
    world2.acquire(Side::A);
    world2.settle();
    world2.rekey_ike(Side::A);
    world2.settle();
    world2.assert_one_ike();
    world2.assert_mirrored(1);
    world.rekey_ike(Side::B);
    world.settle();
    world.assert_one_ike();
}

/// V2-REK-11, V2-REK-12: the IKE SA is rekeyed before its life ends, at a jittered time, and deleted at its end if that
/// fails; child soft limits are jittered.
#[test]
fn v2_rek_11_12_lifetimes() {
    let mut world = World::new(67);
    for side in [Side::A, Side::B] {
        world.node(side).rule(|rule| rule.ikesa_lifetime = seconds(1000));
    }
    world.acquire(Side::A);
    world.settle();
    let first = world.assert_one_ike();
    let soft = world.a.only_child().lifetimes.soft;
    assert!(soft > seconds(2160) && soft <= seconds(2400) && soft != world.b.only_child().lifetimes.soft);
    let rekey_in = |node: &Node, now| node.up(now)[0].rekey_in.unwrap();
    let (a, b) = (rekey_in(&world.a, world.now), rekey_in(&world.b, world.now));
    assert!(a >= seconds(790) && a < seconds(890) && b > a && b < seconds(1000));
    world.run(seconds(5000));
    let later = world.assert_one_ike();
    assert_ne!(first, later);
    world.assert_mirrored(1);
    assert!(world.a.endpoint.stats().ike_rekeyed >= 5);

    world.faults.lose = 100;
    world.run(seconds(2000));
    assert!(world.a.installed.is_empty() && world.a.endpoint.is_idle(), "{}", world.story());
}

/// ikev2.config(5): a soft limit that equals the hard one asks for none, which the rule says with zero. The core does not
/// make up one of its own.
#[test]
fn v2_rek_11_no_soft_limit() {
    let mut world = World::new(90);
    for side in [Side::A, Side::B] {
        world.node(side).rule(|rule| {
            rule.child_lifetimes =
                ChildLifetimes { hard: seconds(2880), hard_bytes: 1 << 20, ..ChildLifetimes::default() };
        });
    }
    world.acquire(Side::A);
    world.settle();
    for node in [&world.a, &world.b] {
        let limits = node.only_child().lifetimes;
        assert_eq!((limits.soft, limits.soft_bytes), (Duration::ZERO, 0));
        assert_eq!((limits.hard, limits.hard_bytes), (seconds(2880), 1 << 20));
    }
}

/// V2-INF-02, V2-INF-03, V2-COL-07: a child is deleted by each side; both directions go.
#[test]
fn v2_inf_02_03_delete_child_by_each_side() {
    for (seed, side) in [(68, Side::A), (69, Side::B)] {
        let mut world = World::connected(seed);
        world.expire(side, ExpireKind::Hard);
        world.settle();
        world.assert_mirrored(0);
        world.assert_one_ike();
        world.acquire(Side::A);
        world.settle();
        world.assert_mirrored(1);
        let inbound_spi = *world.node(side).installed.keys().next().unwrap();
        world.command(side, Command::DeleteChild { inbound_spi });
        world.settle();
        world.assert_mirrored(0);
    }
}

/// V2-INF-06, V2-MID-03: the IKE SA is deleted by each side with its children; a lost answer is repeated.
#[test]
fn v2_inf_06_delete_ike_by_each_side() {
    for (seed, side) in [(70, Side::A), (71, Side::B)] {
        let mut world = World::connected(seed);
        let spis = world.assert_one_ike();
        world.hold = if side == Side::A { Some(|p| p.to == Side::A) } else { Some(|p| p.to == Side::B) };
        world.command(side, Command::DeleteIkeSa(spis));
        world.settle();
        world.assert_mirrored(0);
        world.wire.clear();
        world.hold = None;
        world.run(seconds(2));
        assert!(world.a.endpoint.is_idle() && world.b.endpoint.is_idle(), "{}", world.story());
        world.run(seconds(60));
        assert!(world.a.endpoint.poll_timeout().is_none() && world.b.endpoint.poll_timeout().is_none());
    }
}

/// Shutdown tells every peer, answers nothing new and ends.
#[test]
fn shutdown_deletes_at_the_peer() {
    let mut world = World::connected(72);
    world.command(Side::A, Command::Shutdown);
    world.acquire(Side::A);
    assert_eq!(world.a.acquire_failures(), [(2, FailureCause::Local)]);
    world.settle();
    assert!(world.a.endpoint.is_idle());
    world.assert_mirrored(0);
    world.acquire(Side::B);
    world.run(seconds(60));
    assert_eq!(world.b.acquire_failures(), [(3, FailureCause::Timeout)]);
}

/// Flush in every state of a handshake leaves nothing behind.
#[test]
fn flush_in_every_state() {
    for steps in 0..6 {
        for side in [Side::A, Side::B] {
            let mut world = World::new(73);
            world.acquire(Side::A);
            for _ in 0..steps {
                if let Some(packet) = world.wire.pop_front() {
                    world.deliver(&packet);
                }
            }
            world.command(side, Command::FlushIkeSas);
            world.run(seconds(90));
            // B, flushed before A's first packet came, has a new IKE SA by now.
            world.command(Side::A, Command::FlushIkeSas);
            world.run(seconds(90));
            let failures = world.a.acquire_failures().len();
            let installs = world.a.effects.iter().filter(|e| matches!(e, Effect::ChildInstalled(_))).count();
            assert_eq!(failures + installs, 1, "step {steps} {side:?}: {}", world.story());
            assert!(
                world.a.endpoint.is_idle() && world.b.endpoint.is_idle(),
                "step {steps} {side:?}: {}",
                world.story()
            );
            world.assert_mirrored(0);
        }
    }
}

/// V2-MID-01, V2-MID-02, V2-MID-06: the same octets at doubling intervals up to the limit, then the end.
#[test]
fn v2_mid_01_02_06_retransmission_gaps() {
    let mut world = World::new(74);
    world.faults.lose = 100;
    let started = world.now;
    let id = world.acquire(Side::A);
    let mut times = vec![0];
    while let Some(at) = world.a.endpoint.poll_timeout() {
        world.now = at;
        let sent = world.a.sent.len();
        world.a.endpoint.handle_timeout(at);
        world.flush();
        if world.a.sent.len() > sent {
            times.push(at.since(started).as_secs());
        } else {
            assert_eq!(at.since(started), seconds(23), "given up after one more wait");
        }
    }
    assert_eq!(times, [0, 1, 3, 7, 15], "1, 2, 4 and 8 seconds, 8 at most");
    assert!(world.a.sent.iter().all(|t| t.bytes == world.a.sent[0].bytes));
    assert_eq!(world.a.acquire_failures(), [(id, FailureCause::Timeout)]);
    assert_eq!(world.a.endpoint.stats().initiator_timeouts, 1);
    assert!(world.a.endpoint.is_idle());
}

/// V2-LIVE-02, V2-LIVE-03, V2-LIVE-04: silence is asked about, traffic is proof enough, a dead peer loses its children.
#[test]
fn v2_live_02_03_04_dead_peer() {
    let mut world = World::new(75);
    world.a.rule(|rule| rule.dpd_interval = seconds(30));
    world.acquire(Side::A);
    world.settle();
    let sent = world.a.sent.len();
    world.run(seconds(100));
    assert_eq!(world.a.sent.len(), sent + 3, "one check per interval");
    world.assert_mirrored(1);

    for _ in 0..10 {
        let (spi, now) = (*world.a.installed.keys().next().unwrap(), world.now);
        world.a.host().heard.insert(spi, now);
        world.run(seconds(10));
    }
    assert_eq!(world.a.sent.len(), sent + 3, "traffic suppresses the check");

    world.faults.lose = 100;
    world.run(seconds(40));
    assert_eq!(world.a.installed.len(), 1, "not before the retransmissions are over");
    world.run(seconds(50));
    assert!(world.a.installed.is_empty());
    assert!(world.a.effects.iter().any(|e| matches!(e, Effect::IkeSaDown { reason: RemoveReason::PeerDead, .. })));
    assert_eq!(world.a.endpoint.stats().peers_dead, 1);
}

/// V2-LIVE-03: an idle child leads to one check.
#[test]
fn v2_live_03_idle_child() {
    let mut world = World::connected(76);
    let sent = world.b.sent.len();
    world.expire(Side::B, ExpireKind::Idle);
    world.expire(Side::B, ExpireKind::Idle);
    world.settle();
    assert_eq!(world.b.sent.len(), sent + 1);
    world.assert_mirrored(1);
}

/// ROB-01: limits that are met again and again while the peer is silent pile nothing up.
#[test]
fn rob_01_repeated_limits_do_not_pile_up() {
    let mut world = World::connected(79);
    world.hold = Some(|_| true);
    for _ in 0..50 {
        world.expire(Side::A, ExpireKind::Soft);
        world.expire(Side::A, ExpireKind::Idle);
        world.rekey_ike(Side::A);
    }
    world.hold = None;
    let sent = world.a.sent.len();
    world.run(seconds(60));
    world.assert_mirrored(1);
    assert_eq!(world.a.endpoint.stats().ike_rekeyed, 1);
    assert!(world.a.sent.len() < sent + 10);
}

/// V2-MID-03, V2-MID-04, V2-MID-12: a repeated request gets the stored octets again and changes nothing; an older one gets
/// nothing; so does one that is too new.
#[test]
fn v2_mid_03_04_12_repeated_requests() {
    let mut world = World::connected(77);
    let path = Path { local: "198.51.100.2:500".parse().unwrap(), remote: "192.0.2.1:500".parse().unwrap() };
    let again = |world: &mut World, index: usize| {
        let bytes = world.a.sent[index].bytes.clone();
        let before = world.b.sent.len();
        world.deliver(&Packet { at: world.now, to: Side::B, path, bytes });
        world.wire.clear();
        world.b.sent.split_off(before)
    };
    let effects = world.b.effects.len();
    assert_eq!(again(&mut world, 1)[0].bytes, world.b.sent[1].bytes);
    assert_eq!(world.b.effects.len(), effects);
    assert_eq!(world.b.endpoint.stats().responses_repeated, 1);
    world.expire(Side::A, ExpireKind::Idle);
    world.settle();
    assert_eq!(again(&mut world, 1), [], "the stored response is gone");
    world.assert_mirrored(1);
}

/// V2-MID-05: a repeated IKE_SA_INIT request gets the same answer; a changed one with the same SPI is another initiator.
#[test]
fn v2_mid_05_repeated_init() {
    let mut world = World::new(78);
    world.acquire(Side::A);
    let packet = world.wire.pop_front().unwrap();
    world.deliver(&packet);
    world.deliver(&packet);
    assert_eq!(world.b.sent[0], world.b.sent[1]);
    assert_eq!(world.b.endpoint.snapshot(world.now).len(), 1);
    world.settle();
    world.assert_mirrored(1);
    // A copy that comes late, or is played back, begins nothing: not while the SA is up, nor while its last answer is kept.
    let answers = world.b.sent.len();
    world.deliver(&packet);
    world.command(Side::A, Command::FlushIkeSas);
    world.settle();
    world.deliver(&packet);
    world.run(seconds(20));
    world.deliver(&packet);
    assert_eq!(world.b.sent.len(), answers + 1, "only the answer to the Delete");
    assert!(world.b.endpoint.snapshot(world.now).is_empty());
    assert!(!world.b.logged("IKE_SA_INIT of the peer"), "{}", world.story());
    assert_eq!(world.b.endpoint.stats().attempted_responder, 1);
}

/// AUTH_LIFETIME in a request of B's, under the keys of the IKE SA.
fn announce_lifetime(world: &mut World, id: u32, seconds: u32) {
    let forger = Forger::of(&world.a, world.now);
    let claim = Claim { from: Role::Responder, exchange: ExchangeType::INFORMATIONAL, response: false, id };
    let chain = notify_chain(NotifyType(16403), &seconds.to_be_bytes());
    assert_eq!(give(world, Side::A, forger.seal(claim, &chain)).len(), 1);
    // B has not sent it, and does not expect the answer.
    world.wire.clear();
}

/// V2-REK-14, EXT-15: before the peer's time is over, an IKE SA is made from scratch, with children for all traffic; only then
/// does the old one go, at both ends. At no time is there no pair to send on.
#[test]
fn v2_rek_14_ext_15_make_before_break() {
    let mut world = World::connected(91);
    world.acquire(Side::A);
    world.settle();
    let old = world.assert_one_ike();
    announce_lifetime(&mut world, 0, 1000);
    world.run(seconds(790));
    assert_eq!(world.assert_one_ike(), old, "not before its time");
    let (seen, other) = (world.a.effects.len(), world.b.effects.len());
    world.run(seconds(120));
    let new = world.assert_one_ike();
    assert!(new.initiator != old.initiator && new.responder != old.responder);
    world.assert_mirrored(2);
    for (effects, up) in [(&world.a.effects[seen..], 1), (&world.b.effects[other..], 1)] {
        let steps: Vec<&str> = effects
            .iter()
            .filter_map(|effect| match effect {
                Effect::IkeSaUp { rekeys, .. } => Some(if rekeys.is_none() { "up" } else { "rekeyed" }),
                Effect::ChildInstalled(sa) => {
                    assert!(sa.rekeys.is_none() && sa.outbound_use == OutboundUse::Now);
                    Some("install")
                }
                Effect::RemoveChild(_) => Some("remove"),
                Effect::IkeSaDown { .. } => Some("down"),
                _ => None,
            })
            .collect();
        assert_eq!(steps.iter().filter(|step| **step == "up").count(), up);
        let last_install = steps.iter().rposition(|step| *step == "install").unwrap();
        assert!(steps[last_install..].contains(&"remove") && !steps[..last_install].contains(&"remove"), "{steps:?}");
        assert_eq!(steps.iter().filter(|step| **step == "install").count(), 2);
    }
    assert!(world.b.bound.is_some_and(|spi| world.b.installed.contains_key(&spi)));
    world.run(seconds(2000));
    assert_eq!(world.assert_one_ike(), new, "once is enough, where the peer does not ask again");
}

/// V2-REK-14: a reauthentication that fails leaves the old IKE SA and its children as they are, and is tried again; an IKE
/// SA that was rekeyed meanwhile still obeys; without children there is nothing to take over. A wrong length is nothing.
#[test]
fn v2_rek_14_the_old_one_stays_until_the_new_one_serves() {
    let mut world = World::connected(92);
    announce_lifetime(&mut world, 0, 100);
    world.rekey_ike(Side::A);
    world.settle();
    let old = world.assert_one_ike();
    let children = world.a.only_child().spis();
    world.b.rule(|rule| rule.psk.as_mut().unwrap().remote = ike_daemon::crypto::Secret::copy_of(b"another"));
    world.run(seconds(150));
    assert!(world.b.endpoint.stats().failed_responder >= 1, "{}", world.story());
    assert_eq!((world.assert_one_ike(), world.a.only_child().spis()), (old, children));
    world.b.rule(|known| known.psk = rule("").psk);
    world.run(seconds(100));
    assert_ne!(world.assert_one_ike(), old);
    world.assert_mirrored(1);

    let mut world = World::connected(93);
    let forger = Forger::of(&world.a, world.now);
    let claim = Claim { from: Role::Responder, exchange: ExchangeType::INFORMATIONAL, response: false, id: 0 };
    give(&mut world, Side::A, forger.seal(claim, &notify_chain(NotifyType(16403), &[0, 0, 1])));
    world.wire.clear();
    let old = world.assert_one_ike();
    world.run(seconds(300));
    assert_eq!(world.assert_one_ike(), old);

    let mut world = World::connected(94);
    announce_lifetime(&mut world, 0, 0);
    world.expire(Side::A, ExpireKind::Hard);
    world.settle();
    world.run(seconds(50));
    world.assert_one_ike();
    world.run(seconds(100));
    assert!(world.a.endpoint.is_idle() && world.b.endpoint.is_idle());
    world.assert_mirrored(0);
}
