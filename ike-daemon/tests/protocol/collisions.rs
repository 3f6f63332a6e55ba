//! Both ends at once (RFC 7296 sections 2.8.1 and 2.25), over many seeds, so that either side wins and loses.

use ike_daemon::core::api::*;
use ike_daemon::wire::header::{ExchangeType, Header};

use crate::util::*;

fn header(packet: &Packet) -> Header {
    Header::parse(&packet.bytes).unwrap().header
}

fn is_request(packet: &Packet) -> bool {
    !header(packet).response
}

/// V2-COL-01, V2-COL-02, V2-COL-04, V2-MID-11: both rekey the same child at once; one pair survives, the same at both ends,
/// and both send on it.
#[test]
fn v2_col_01_02_04_both_rekey_the_child() {
    let mut winners = [0, 0];
    for seed in 100..140 {
        let mut world = World::connected(seed);
        world.expire(Side::A, ExpireKind::Soft);
        world.expire(Side::B, ExpireKind::Soft);
        world.settle();
        world.assert_mirrored(1);
        world.assert_bound_together();
        world.assert_one_ike();
        winners[usize::from(world.a.only_child().initiator)] += 1;
        world.run(seconds(100));
        world.assert_mirrored(1);
    }
    assert!(winners.iter().all(|wins| *wins > 5), "{winners:?}");
}

/// V2-COL-14: the same with every order in which the packets can arrive, and with requests or answers late.
#[test]
fn v2_col_14_both_rekey_the_child_in_any_order() {
    for seed in 140..220 {
        let mut world = World::connected(seed);
        world.faults = Faults { lose: 0, double: 0, delay: 60 };
        world.expire(Side::A, ExpireKind::Soft);
        world.expire(Side::B, ExpireKind::Soft);
        world.run(seconds(100));
        world.assert_mirrored(1);
        world.assert_bound_together();
    }
}

/// V2-COL-03: a rekey request for a child whose Delete is on its way meets TEMPORARY_FAILURE; the child goes.
/// V2-COL-05: both delete it at once: answers without Delete, no error.
#[test]
fn v2_col_03_05_delete_against_rekey_and_delete() {
    let mut world = World::connected(220);
    world.expire(Side::A, ExpireKind::Hard);
    world.expire(Side::B, ExpireKind::Soft);
    world.settle();
    world.run(seconds(30));
    world.assert_mirrored(0);
    world.assert_one_ike();

    let mut world = World::connected(221);
    world.expire(Side::A, ExpireKind::Hard);
    world.expire(Side::B, ExpireKind::Hard);
    world.settle();
    world.assert_mirrored(0);
    world.assert_one_ike();
}

/// V2-COL-06, V2-REK-07: a Delete overtakes our rekey of the same child: it is answered, the rekey meets
/// CHILD_SA_NOT_FOUND and ends cleanly.
#[test]
fn v2_col_06_rek_07_delete_overtakes_rekey() {
    let mut world = World::connected(222);
    world.hold = Some(|p| p.to == Side::B && is_request(p));
    world.expire(Side::A, ExpireKind::Soft);
    world.expire(Side::B, ExpireKind::Hard);
    world.settle();
    assert!(world.a.installed.is_empty() && world.b.installed.is_empty());
    world.hold = None;
    world.settle();
    world.assert_mirrored(0);
    world.assert_one_ike();
    assert!(world.b.logged("CHILD_SA_NOT_FOUND"));
}

/// V2-COL-08, V2-COL-09, V2-COL-13: an IKE rekey against a child rekey: TEMPORARY_FAILURE both ways, retried later, both done.
#[test]
fn v2_col_08_09_13_ike_rekey_against_child_rekey() {
    for seed in 223..233 {
        let mut world = World::connected(seed);
        let (ike, child) = (world.assert_one_ike(), world.a.only_child().spis());
        world.rekey_ike(Side::A);
        world.expire(Side::B, ExpireKind::Soft);
        world.settle();
        assert!(world.a.logged("TEMPORARY_FAILURE"), "{}", world.story());
        assert!(world.b.logged("TEMPORARY_FAILURE"));
        world.run(seconds(120));
        world.assert_mirrored(1);
        world.assert_bound_together();
        assert_ne!(world.assert_one_ike(), ike);
        assert_ne!(world.a.only_child().spis(), child);
    }
}

/// V2-COL-08: an IKE rekey against a new child: the child waits or comes first, and both get done.
#[test]
fn v2_col_08_ike_rekey_against_new_child() {
    let mut world = World::connected(233);
    let ike = world.assert_one_ike();
    world.rekey_ike(Side::A);
    world.acquire(Side::B);
    world.run(seconds(120));
    world.assert_mirrored(2);
    assert_ne!(world.assert_one_ike(), ike);
    assert_eq!(world.b.acquire_failures(), []);
}

/// V2-COL-10: both rekey the IKE SA at once; one successor survives with all children, at both ends the same one.
#[test]
fn v2_col_10_both_rekey_the_ike_sa() {
    let mut winners = [0, 0];
    for seed in 240..280 {
        let mut world = World::connected(seed);
        let (ike, child) = (world.assert_one_ike(), world.a.only_child().spis());
        world.rekey_ike(Side::A);
        world.rekey_ike(Side::B);
        world.settle();
        world.run(seconds(100));
        let new = world.assert_one_ike();
        assert_ne!(new, ike);
        world.assert_mirrored(1);
        assert_eq!(world.a.only_child().spis(), child);
        assert_eq!(world.a.endpoint.snapshot(world.now).len(), 1);
        assert_eq!(world.b.endpoint.snapshot(world.now).len(), 1);
        let role = world.a.up(world.now)[0].role;
        winners[usize::from(role == Role::Initiator)] += 1;
        world.expire(Side::A, ExpireKind::Soft);
        world.settle();
        world.expire(Side::B, ExpireKind::Soft);
        world.settle();
        world.assert_mirrored(1);
    }
    assert!(winners.iter().all(|wins| *wins > 5), "{winners:?}");
}

/// V2-COL-14: the same with late packets: whatever is seen in which order, both ends agree in the end.
#[test]
fn v2_col_14_both_rekey_the_ike_sa_in_any_order() {
    for seed in 280..360 {
        let mut world = World::connected(seed);
        world.faults = Faults { lose: 0, double: 10, delay: 60 };
        world.rekey_ike(Side::A);
        world.rekey_ike(Side::B);
        world.run(seconds(200));
        world.assert_mirrored(1);
        world.assert_one_ike();
    }
}

/// V2-COL-11: an IKE rekey request that meets a closing IKE SA. V2-COL-12: a Delete of the IKE SA ends our rekey of it.
#[test]
fn v2_col_11_12_delete_against_ike_rekey() {
    for seed in 360..370 {
        let mut world = World::connected(seed);
        let spis = world.assert_one_ike();
        world.rekey_ike(Side::A);
        world.command(Side::B, Command::DeleteIkeSa(spis));
        world.run(seconds(120));
        world.assert_mirrored(0);
        assert!(world.a.endpoint.is_idle() && world.b.endpoint.is_idle(), "{}", world.story());
    }
}

/// V2-COL-13: a peer that puts off a rekey for ever loses the IKE SA after a bounded time.
#[test]
fn v2_col_13_patience_ends() {
    // B always has a request of its own outstanding, because its requests never arrive.
    let mut world = World::new(370);
    world.b.rule(|rule| rule.retry = RetryPolicy { limit: 1000, initial: seconds(5), max: seconds(5), patience: None });
    world.acquire(Side::A);
    world.settle();
    world.hold = Some(|p| p.to == Side::A && is_request(p) && header(p).exchange == ExchangeType::CREATE_CHILD_SA);
    world.acquire(Side::B);
    world.rekey_ike(Side::A);
    world.run(seconds(300));
    assert!(world.a.endpoint.is_idle(), "{}", world.story());
    assert!(world.a.logged("TEMPORARY_FAILURE"));
}
