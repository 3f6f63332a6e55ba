//! Many requests from those who have no key: what they make is bounded, and others still get through.

use std::net::IpAddr;

use ike_daemon::core::api::*;
use ike_daemon::crypto::Secret;
use ike_daemon::wire::header::{ExchangeType, Header};

use crate::util::*;

/// A host at `address` that does everything right but has another key: how far it gets with B of `world`.
fn stranger(world: &mut World, seed: u64, address: IpAddr, with_proof: bool) {
    let mut other = World::new(seed);
    (other.a.address, other.b.address) = (address, world.b.address);
    let wrong = || Secret::copy_of(b"some other key");
    other.a.rule(|rule| rule.psk = Some(Psk { local: wrong(), remote: wrong() }));
    other.acquire(Side::A);
    while let Some(packet) = other.wire.pop_front() {
        let exchange = Header::parse(&packet.bytes).unwrap().header.exchange;
        if exchange == ExchangeType::IKE_AUTH && !with_proof {
            break;
        }
        world.deliver(&packet);
        for answer in std::mem::take(&mut world.wire) {
            other.deliver(&answer);
        }
    }
}

/// V2-CKY-04, DOS-01: who answers cookies and has no key still makes no more than a bounded number of SAs, also where the
/// SAs are only kept to repeat the refusal; hosts elsewhere get through, and this one when its SAs have timed out.
#[test]
fn v2_cky_04_dos_01_failed_proofs_are_bounded() {
    for with_proof in [true, false] {
        let config = EndpointConfig { max_half_open_per_source: 40, ..EndpointConfig::default() };
        let mut world = World::with_config(800, config);
        let address: IpAddr = "203.0.113.66".parse().unwrap();
        for seed in 0..100 {
            stranger(&mut world, 10_000 + seed, address, with_proof);
        }
        let stats = world.b.endpoint.stats();
        assert_eq!((stats.attempted_responder, stats.limited), (40, 60), "with proof: {with_proof}");
        assert!(stats.cookies_sent >= 8, "{}", stats.cookies_sent);
        world.acquire(Side::A);
        world.settle();
        world.assert_mirrored(1);

        world.run(seconds(60));
        stranger(&mut world, 20_000, address, with_proof);
        assert_eq!(world.b.endpoint.stats().attempted_responder, 42);
    }
}

/// DOS-01: an IPv6 source is its network, since one host has all of its addresses.
#[test]
fn dos_01_ipv6_sources_are_networks() {
    let config = EndpointConfig { max_half_open_per_source: 4, ..EndpointConfig::default() };
    let mut world = World::with_config(801, config);
    world.a.address = "2001:db8::1".parse().unwrap();
    world.b.address = "2001:db8:2::2".parse().unwrap();
    for seed in 0..10u64 {
        let address = format!("2001:db8:bad::{seed:x}").parse().unwrap();
        stranger(&mut world, 10_000 + seed, address, false);
    }
    assert_eq!(world.b.endpoint.stats().attempted_responder, 4);
    world.acquire(Side::A);
    world.settle();
    world.assert_mirrored(1);
}

/// ROB-01: while a peer does not answer, requests of the data path do not pile up without bound, in any state; each of them
/// is answered, and what waits is served when the peer is back.
#[test]
fn rob_01_waiting_requests_are_bounded() {
    for state in [IkeState::InitSent, IkeState::AuthSent, IkeState::Established] {
        let config = EndpointConfig { max_waiting: 8, ..EndpointConfig::default() };
        let mut world = World::with_config(802, config);
        world.acquire(Side::A);
        if state == IkeState::AuthSent {
            for _ in 0..2 {
                let packet = world.wire.pop_front().unwrap();
                world.deliver(&packet);
            }
        } else if state == IkeState::Established {
            world.settle();
        }
        assert_eq!(world.a.endpoint.snapshot(world.now)[0].state, state);
        for _ in 0..50 {
            world.acquire(Side::A);
        }
        let refused = world.a.acquire_failures();
        assert!((41..=43).contains(&refused.len()), "{state}: {}", refused.len());
        assert!(refused.iter().all(|(_, cause)| *cause == FailureCause::Local));
        world.settle();
        world.assert_mirrored(51 - refused.len());
        world.assert_answered();
    }
}

/// A asks B for an IKE SA under a rule of its own of that name, so that it makes another one beside those it has.
fn another(world: &mut World, number: u64) {
    let label = format!("to-b-{number}");
    let mut own = rule(&label);
    own.retry = RetryPolicy { limit: 1, ..own.retry };
    world.a.host().rules.push(std::sync::Arc::new(own));
    let (local, remote) = (world.a.address, world.b.address);
    let policy = world.a.policy().clone();
    let acquire = Acquire { id: 1000 + number, local, remote, policy, packet: None, rule_label: Some(label) };
    world.a.endpoint.handle_acquire(world.now, acquire);
    world.flush();
    world.settle();
}

/// DOS-05: of the IKE SAs that an authenticated peer begins only its latest are kept; the others are deleted at both ends.
#[test]
fn dos_05_a_peer_has_a_share() {
    let mut world = World::with_config(810, EndpointConfig { max_ike_sas_per_peer: 3, ..EndpointConfig::default() });
    let mut begun = Vec::new();
    for number in 0..8 {
        another(&mut world, number);
        world.run(seconds(1));
        let spis: Vec<IkeSpis> = world.b.up(world.now).iter().map(|sa| sa.spis).collect();
        begun.extend(spis.iter().copied().filter(|spis| !begun.contains(spis)).collect::<Vec<_>>());
        assert_eq!(begun.len(), usize::try_from(number).unwrap() + 1);
        let kept = &begun[begun.len().saturating_sub(3)..];
        assert!(
            spis.len() == kept.len() && kept.iter().all(|spis| world.b.up(world.now).iter().any(|sa| sa.spis == *spis))
        );
        assert_eq!(world.a.up(world.now).len(), kept.len(), "{}", world.story());
        world.assert_mirrored(kept.len());
    }
    assert!(world.b.logged("the peer has begun too many"));
    // What this end begins is not counted.
    world.acquire(Side::B);
    world.settle();
    assert!(world.b.up(world.now).iter().filter(|sa| sa.role == Role::Responder).count() == 3);
}

/// DOS-05: peers cannot take all the room: an eighth of it is for what this end begins.
#[test]
fn dos_05_room_for_our_own() {
    let config = EndpointConfig { max_ike_sas: 16, max_ike_sas_per_peer: 100, ..EndpointConfig::default() };
    let mut world = World::with_config(811, config);
    for number in 0..20 {
        another(&mut world, number);
    }
    let responders = |world: &World| world.b.up(world.now).iter().filter(|sa| sa.role == Role::Responder).count();
    assert_eq!(responders(&world), 14);
    assert!(world.b.endpoint.stats().limited >= 1);
    world.run(seconds(60));
    let (local, remote) = (world.b.address, "192.0.2.77".parse().unwrap());
    let policy = world.b.policy().clone();
    let acquire = Acquire { id: 1, local, remote, policy, packet: None, rule_label: None };
    let before = world.b.endpoint.stats().attempted_initiator;
    world.b.endpoint.handle_acquire(world.now, acquire);
    world.flush();
    assert_eq!(world.b.endpoint.stats().attempted_initiator, before + 1);
    assert!(world.b.acquire_failures().is_empty());
}
