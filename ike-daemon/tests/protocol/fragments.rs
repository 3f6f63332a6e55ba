//! Messages in fragments (RFC 7383).

use ike_daemon::core::api::*;
use ike_daemon::wire::chain::{PayloadType, parse_message};
use ike_daemon::wire::header::{ExchangeType, Header};

use crate::forge::{Claim, Forger, give};
use crate::util::*;

/// Room for 76 octets of payloads in each, 75 with a block cipher.
const MTU: u16 = 165;

fn config(mtu: u16) -> EndpointConfig {
    EndpointConfig { fragment_mtu: Some(mtu), ..EndpointConfig::default() }
}

fn world(seed: u64) -> World {
    World::with_config(seed, config(MTU))
}

/// Kind, fragment number and total, of what a node has sent; 0 of 0 for whole messages.
fn sent(node: &Node) -> Vec<(ExchangeType, u16, u16)> {
    let place = |transmit: &Transmit| {
        let received = Header::parse(&transmit.bytes).unwrap();
        let outer = parse_message(&transmit.bytes, &received).unwrap();
        let fragment = outer.sealed.and_then(|sealed| {
            let fragment = sealed.fragment?;
            // FRG-03: the first names the first payload inside, the others none.
            assert_eq!(fragment.number == 1, sealed.first_inner != PayloadType::NONE);
            assert!(outer.clear.is_empty());
            Some(fragment)
        });
        let (number, total) = fragment.map_or((0, 0), |fragment| (fragment.number, fragment.total));
        (received.header.exchange, number, total)
    };
    node.sent.iter().map(place).collect()
}

/// FRG-01, FRG-02, FRG-03: a handshake and rekeys whose messages are too long for the link, with every kind of cipher.
#[test]
fn frg_01_02_03_every_message_too_long() {
    let ciphers = ike_daemon::config::ciphers().flat_map(|(id, lengths)| match lengths {
        None => vec![ike_daemon::wire::transform::Encr { id, key_bits: None }],
        Some(_) => vec![ike_daemon::wire::transform::Encr { id, key_bits: Some(256) }],
    });
    for (seed, encr) in (0..).zip(ciphers) {
        let mut world = world(seed);
        for side in [Side::A, Side::B] {
            world.node(side).rule(|rule| {
                rule.proposals[0].encr = vec![encr];
                if !encr.is_aead() {
                    rule.proposals[0].integ = ike_daemon::config::integrity().collect();
                }
            });
        }
        world.acquire(Side::A);
        world.settle();
        world.expire(Side::B, ExpireKind::Soft);
        world.settle();
        world.rekey_ike(Side::A);
        world.settle();
        // The successor has it from its predecessor.
        world.expire(Side::A, ExpireKind::Soft);
        world.settle();
        world.assert_mirrored(1);
        world.assert_one_ike();
        for node in [&world.a, &world.b] {
            let sent = sent(node);
            let cut = |kind| sent.iter().filter(|(found, _, total)| *found == kind && *total > 1).count();
            assert!(cut(ExchangeType::IKE_AUTH) >= 2 && cut(ExchangeType::CREATE_CHILD_SA) >= 6, "{encr}: {sent:?}");
            assert_eq!(cut(ExchangeType::IKE_SA_INIT), 0);
            let longest = node.sent.iter().zip(&sent).filter(|(_, (kind, ..))| *kind != ExchangeType::IKE_SA_INIT);
            assert!(longest.map(|(transmit, _)| transmit.bytes.len()).max().unwrap() <= usize::from(MTU) - 28);
            let stats = node.endpoint.stats();
            assert!(stats.fragmented >= 4 && stats.reassembled >= 4 && stats.fragments_dropped == 0);
        }
    }
}

/// FRG-01: not unless both have said that they can; what comes all the same is as if it had never come.
#[test]
fn frg_01_only_when_both_can() {
    for able in [Side::A, Side::B] {
        let mut world = World::new(70);
        let (other, seed) = if able == Side::A { (Side::B, 141) } else { (Side::A, 142) };
        world.give_config(able, seed, config(MTU));
        world.acquire(Side::A);
        world.settle();
        world.assert_mirrored(1);
        assert!(sent(world.node(able)).iter().all(|(_, _, total)| *total == 0));
        assert!(sent(world.node(other)).iter().all(|(_, _, total)| *total == 0));
    }
}

/// FRG-05, FRG-06, FRG-09: fragments in any order, twice, with others that are forged between them.
#[test]
fn frg_05_06_order_copies_and_forgeries() {
    let mut world = world(71);
    world.acquire(Side::A);
    for _ in 0..2 {
        let packet = world.wire.pop_front().unwrap();
        world.deliver(&packet);
    }
    let mut request: Vec<Packet> = world.wire.drain(..).collect();
    assert!(request.len() >= 3, "{} fragments", request.len());
    request.reverse();
    let last = request.pop().unwrap();
    for packet in &request {
        let mut forged = packet.clone();
        for at in [forged.bytes.len() - 1, 33, 35] {
            forged.bytes[at] ^= 1;
            world.deliver(&forged);
        }
        world.deliver(packet);
        world.deliver(packet);
    }
    assert_eq!(world.b.endpoint.stats().fragments_dropped, request.len() as u64);
    assert!(world.b.endpoint.stats().integrity_failures >= 2 * request.len() as u64);
    assert!(world.b.installed.is_empty());
    world.deliver(&last);
    assert_eq!(world.b.installed.len(), 1);
    world.settle();
    world.assert_mirrored(1);
}

/// FRG-08, V2-MID-03: a request that comes again has one answer again, not one for each fragment.
#[test]
fn frg_08_one_answer_for_a_repeated_request() {
    let mut world = world(72);
    world.acquire(Side::A);
    world.settle();
    world.expire(Side::A, ExpireKind::Soft);
    let request: Vec<Packet> = world.wire.iter().filter(|packet| packet.to == Side::B).cloned().collect();
    assert!(request.len() >= 2);
    request.iter().for_each(|packet| world.deliver(packet));
    let answered = world.b.sent.len();
    request.iter().for_each(|packet| world.deliver(packet));
    let again = sent(&world.b).split_off(answered);
    assert_eq!(again.len(), usize::from(again[0].2), "{again:?}");
    assert_eq!(world.b.endpoint.stats().responses_repeated, 1);
    world.settle();
    world.assert_mirrored(1);
}

/// FRG-10, ROB-05: loss, copies and reordering of fragments: they are sent again until the message is whole.
#[test]
fn frg_whole_life_over_a_bad_wire() {
    for seed in 700..730 {
        let mut world = world(seed);
        for side in [Side::A, Side::B] {
            world.node(side).rule(|rule| {
                rule.retry = RetryPolicy { limit: 15, initial: seconds(1), max: seconds(4), patience: None }
            });
        }
        world.faults = Faults { lose: 10, double: 20, delay: 50 };
        world.acquire(Side::A);
        world.run(seconds(100));
        world.assert_mirrored(1);
        world.expire(Side::B, ExpireKind::Soft);
        world.run(seconds(100));
        world.assert_mirrored(1);
        world.rekey_ike(Side::A);
        world.run(seconds(150));
        world.assert_mirrored(1);
        world.assert_one_ike();
        world.command(Side::B, Command::FlushIkeSas);
        world.run(seconds(200));
        world.assert_mirrored(0);
    }
}

/// FRG-06: authentic fragments without a place in a message are dropped, and keep nobody from the whole one.
#[test]
fn frg_06_no_place_for_them() {
    let mut world = world(40);
    world.acquire(Side::A);
    world.settle();
    let forger = Forger::of(&world.b, world.now);
    let claim = Claim { from: Role::Initiator, exchange: ExchangeType::INFORMATIONAL, response: false, id: 2 };
    for place in [(0, 0), (0, 2), (1, 0), (3, 2), (u16::MAX, u16::MAX - 1)] {
        let bytes = forger.seal_fragment(claim, place, PayloadType::NOTIFY, &[0, 0, 0, 8, 0, 0, 0x9c, 0x40]);
        assert_eq!(give(&mut world, Side::B, bytes), [], "{place:?}");
    }
    assert_eq!(world.b.endpoint.stats().fragments_dropped, 5);
    let inner = [0, 0, 0, 8, 0, 0, 0x9c, 0x40];
    let halves = [(1, PayloadType::NOTIFY, &inner[..3]), (2, PayloadType::NONE, &inner[3..])];
    let answers = halves.map(|(number, first, part)| {
        let bytes = forger.seal_fragment(claim, (number, 2), first, part);
        give(&mut world, Side::B, bytes).len()
    });
    assert_eq!(answers, [0, 1]);
}
