//! States and lifetimes of SAs, and requests that are refused, on real maps (spec sections 7.9, 7.10 and 8.2). They run as
//! root. No program runs here: time passes by changing when an SA was added or first used.

use super::testing::TestInstance;
use super::*;
use crate::abi::map;
use crate::sa::{
    AH, BindingKey, Bundle, ESP, InboundKey, KeyText, Lifetime, SaState, SaStatic, SlotRef, encr, flag, km, state,
};
use maps::{Slots, Table};
use std::net::IpAddr;

const SECOND: u64 = 1_000_000_000;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn spec(proto: u8, spi: u32, direction: Direction) -> SaSpec {
    let (a, b) = (ip("192.0.2.1"), ip("198.51.100.7"));
    let (src, dst) = if direction == Direction::In { (b, a) } else { (a, b) };
    let (encr, key) = if proto == AH { (0, vec![]) } else { (encr::NULL, vec![]) };
    SaSpec {
        direction,
        encr,
        key: SecretKey::new(key),
        auth: 5,
        auth_key: SecretKey::new((1..=32).collect()),
        ..SaSpec::new(proto, spi, src, dst)
    }
}

fn key(proto: u8, spi: u32, direction: Direction) -> SaKey {
    SaKey { direction, ..SaKey::new(proto, spi, spec(proto, spi, direction).dst) }
}

/// Changes the moving part of an SA, as the data path does.
fn change(test: &TestInstance, slot: SlotRef, change: impl FnOnce(&mut SaState)) {
    let mut states = Slots::<SaState>::open(test, map::SA_STATE).unwrap();
    let mut moving = states.get(slot.slot).unwrap();
    change(&mut moving);
    states.set(slot.slot, &moving).unwrap();
}

/// Moves the time when an SA was added into the past.
fn age(test: &TestInstance, slot: SlotRef, seconds: u64) {
    change(test, slot, |moving| moving.added = clock::boot_time().saturating_sub(seconds * SECOND));
}

fn added_for(add: u64) -> Lifetime {
    Lifetime { add, ..Lifetime::default() }
}

/// Everything that the maps hold about SAs.
fn picture(test: &TestInstance, capacity: u32) -> Vec<Vec<u8>> {
    let mut all = vec![];
    let statics = Slots::<SaStatic>::open(test, map::SA_STATIC).unwrap();
    let states = Slots::<SaState>::open(test, map::SA_STATE).unwrap();
    let keys = Slots::<KeyText>::open(test, map::SA_KEYS).unwrap();
    for slot in 0..capacity {
        all.push(bytemuck::bytes_of(&statics.get(slot).unwrap()).to_vec());
        all.push(bytemuck::bytes_of(&states.get(slot).unwrap()).to_vec());
        all.push(bytemuck::bytes_of(&keys.get(slot).unwrap()).to_vec());
    }
    let octets = |key: &[u8], value: &[u8]| [key, value].concat();
    for (key, slot) in Table::<InboundKey, SlotRef>::open(test, map::SA_IN).unwrap().entries().unwrap() {
        all.push(octets(bytemuck::bytes_of(&key), bytemuck::bytes_of(&slot)));
    }
    for (key, bundle) in Table::<BindingKey, Bundle>::open(test, map::SA_OUT).unwrap().entries().unwrap() {
        all.push(octets(bytemuck::bytes_of(&key), bytemuck::bytes_of(&bundle)));
    }
    all.sort_unstable();
    all
}

/// PFK-03
#[test]
fn a_reserved_spi_that_nobody_used_is_free_again_after_its_time() {
    let test = TestInstance::with_maps(8).unwrap();
    let mut sadb = Sadb::open(&test).unwrap();
    let (src, dst) = (ip("198.51.100.7"), ip("192.0.2.1"));
    let mut reserve = |km| sadb.reserve_spi(ESP, src, dst, 0x2000..=0x2000, km);
    reserve(km::IKEV2).unwrap();
    assert!(matches!(reserve(km::IKEV2), Err(SadbError::Exists)));
    let slot = sadb.get(&key(ESP, 0x2000, Direction::In)).unwrap().slot;
    age(&test, slot, 89);
    assert_eq!(sadb.get(&key(ESP, 0x2000, Direction::In)).unwrap().state, state::LARVAL);
    assert_eq!(sadb.reap().unwrap(), 0);
    age(&test, slot, 91);
    assert!(matches!(sadb.get(&key(ESP, 0x2000, Direction::In)), Err(SadbError::NotFound)));
    assert!(sadb.dump(None).unwrap().is_empty());
    // Late keys are those of an SA of their own: the reservation is over.
    sadb.add(&SaSpec { km: km::IKEV2, ..spec(ESP, 0x2000, Direction::In) }).unwrap();
    assert_eq!(sadb.get(&key(ESP, 0x2000, Direction::In)).unwrap().state, state::MATURE);
    sadb.delete(&key(ESP, 0x2000, Direction::In)).unwrap();
    let spi = sadb.reserve_spi(ESP, src, dst, 0x2001..=0x2001, km::IKEV2).unwrap();
    let slot = sadb.get(&key(ESP, spi, Direction::In)).unwrap().slot;
    age(&test, slot, 91);
    assert_eq!(sadb.reap().unwrap(), 1);
    assert_eq!(sadb.flush(None).unwrap(), 0);
}

/// PFK-04: what is past a limit is seen so at once, whether a packet or the sweep timer came by or not.
#[test]
fn an_sa_is_dying_and_dead_by_the_clock() {
    let test = TestInstance::with_maps(8).unwrap();
    let mut sadb = Sadb::open(&test).unwrap();
    let mut witness = Sadb::open(&test).unwrap();
    let sa = SaSpec { soft: added_for(100), hard: added_for(200), ..spec(ESP, 1, Direction::In) };
    let name = key(ESP, 1, Direction::In);
    let slot = sadb.add(&sa).unwrap();
    age(&test, slot, 99);
    assert_eq!(witness.get(&name).unwrap().state, state::MATURE);
    age(&test, slot, 100);
    assert_eq!(witness.get(&name).unwrap().state, state::DYING);
    assert_eq!(witness.dump(None).unwrap().len(), 1);
    let more = SaUpdate { soft: Some(added_for(150)), ..SaUpdate::default() };
    assert_eq!(sadb.update(&name, &more).unwrap_err().code(), Some(Diagnostic::BadState));
    let pair = SaSpec { pair_spi: Some(1), ..spec(ESP, 2, Direction::Out) };
    assert_eq!(sadb.add(&pair).unwrap_err().code(), Some(Diagnostic::PairInappropriate));
    age(&test, slot, 200);
    for sadb in [&mut sadb, &mut witness] {
        assert!(matches!(sadb.get(&name), Err(SadbError::NotFound)));
        assert!(sadb.dump(None).unwrap().is_empty());
        assert!(matches!(sadb.update(&name, &SaUpdate::default()), Err(SadbError::NotFound)));
    }
    // The data path has not said so yet, and is to be heard: nothing is taken away but for room or its name.
    assert_eq!(witness.reap().unwrap(), 0);
    assert_eq!(sadb.get_slot(slot).unwrap().state, state::DEAD);
    sadb.add(&sa).unwrap();
    assert_eq!(witness.dump(None).unwrap().len(), 1);
    let slot = witness.get(&name).unwrap().slot;
    age(&test, slot, 200);
    assert!(matches!(witness.delete(&name), Err(SadbError::NotFound)));
    assert!(matches!(witness.get_slot(slot), Err(SadbError::NotFound)));
}

/// PFK-04
#[test]
fn the_time_of_use_begins_with_the_first_packet() {
    let test = TestInstance::with_maps(8).unwrap();
    let mut sadb = Sadb::open(&test).unwrap();
    let used = |used| Lifetime { used, ..Lifetime::default() };
    let sa = SaSpec { soft: used(10), hard: used(20), ..spec(ESP, 1, Direction::Out) };
    let slot = sadb.add(&sa).unwrap();
    let name = key(ESP, 1, Direction::Out);
    age(&test, slot, 3600);
    assert_eq!(sadb.get(&name).unwrap().state, state::MATURE);
    for (seconds, wanted) in [(9, Some(state::MATURE)), (10, Some(state::DYING)), (20, None)] {
        change(&test, slot, |moving| moving.first_use = clock::boot_time() - seconds * SECOND);
        assert_eq!(sadb.get(&name).ok().map(|sa| sa.state), wanted, "{seconds}");
    }
}

/// More seconds than the programs can count in nanoseconds are a very long time, not a short one.
#[test]
fn the_longest_lifetimes_do_not_wrap() {
    let test = TestInstance::with_maps(8).unwrap();
    let mut sadb = Sadb::open(&test).unwrap();
    let longest = Lifetime { add: u64::MAX, used: u64::MAX, bytes: u64::MAX, allocations: 0 };
    let slot = sadb.add(&SaSpec { soft: longest, hard: longest, ..spec(ESP, 1, Direction::In) }).unwrap();
    let update = SaUpdate { hard: Some(longest), ..SaUpdate::default() };
    sadb.update(&key(ESP, 1, Direction::In), &update).unwrap();
    change(&test, slot, |moving| moving.first_use = moving.added);
    let info = sadb.get(&key(ESP, 1, Direction::In)).unwrap();
    assert_eq!((info.state, info.hard.bytes), (state::MATURE, u64::MAX));
    for limit in [info.soft, info.hard] {
        let century = 100 * 365 * 86_400;
        // What the programs add up: added + limit * SECOND, with what wraps.
        assert!(limit.add > century && clock::boot_time().checked_add(limit.add * SECOND).is_some());
        assert!(limit.used > century && limit.used.checked_mul(SECOND).is_some());
    }
}

#[test]
fn what_is_past_its_time_makes_room_and_gives_its_packets_to_another() {
    let test = TestInstance::with_maps(3).unwrap();
    let mut sadb = Sadb::open(&test).unwrap();
    let first = sadb.add(&SaSpec { hard: added_for(10), ..spec(ESP, 1, Direction::In) }).unwrap();
    sadb.add(&SaSpec { pair_spi: Some(1), ..spec(ESP, 2, Direction::Out) }).unwrap();
    assert!(matches!(sadb.add(&spec(ESP, 3, Direction::In)), Err(SadbError::Full(2))));
    age(&test, first, 10);
    // The end of one is the end of both.
    sadb.add(&spec(ESP, 3, Direction::In)).unwrap();
    assert_eq!(sadb.dump(None).unwrap().iter().map(|sa| sa.spi).collect::<Vec<_>>(), [3]);
}

/// PFK-07, PFK-09
#[test]
fn what_is_refused_changes_nothing() {
    let test = TestInstance::with_maps(8).unwrap();
    let mut sadb = Sadb::open(&test).unwrap();
    sadb.add(&spec(ESP, 1, Direction::In)).unwrap();
    sadb.add(&SaSpec { pair_spi: Some(1), soft: added_for(50), ..spec(ESP, 2, Direction::Out) }).unwrap();
    sadb.add(&spec(ESP, 3, Direction::In)).unwrap();
    let before = picture(&test, 8);
    let out = |spi| spec(ESP, spi, Direction::Out);
    let elsewhere = ip("198.51.100.8");
    let add = |sadb: &mut Sadb, sa: &SaSpec| sadb.add(sa).map(|_| ()).unwrap_err();
    for (what, error) in [
        ("the same SA again", add(&mut sadb, &spec(ESP, 1, Direction::In))),
        ("its name with other keys", add(&mut sadb, &SaSpec { encr: 20, auth: 0, ..gcm(1) })),
        ("its name for a pair", add(&mut sadb, &SaSpec { pair_spi: Some(3), ..out(2) })),
        ("nobody to pair with", add(&mut sadb, &SaSpec { pair_spi: Some(99), ..out(9) })),
        ("one of the same direction", add(&mut sadb, &SaSpec { pair_spi: Some(2), ..out(9) })),
        ("one with other ends", add(&mut sadb, &SaSpec { pair_spi: Some(3), dst: elsewhere, ..out(9) })),
        ("one that has a partner", add(&mut sadb, &SaSpec { pair_spi: Some(1), ..out(9) })),
        ("a weak key", add(&mut sadb, &SaSpec { encr: 2, key: SecretKey::new(vec![1; 8]), ..out(9) })),
        ("soft above hard", add(&mut sadb, &SaSpec { soft: added_for(2), hard: added_for(1), ..out(9) })),
    ] {
        assert_eq!(picture(&test, 8), before, "{what}: {error}");
    }
    let update = |update: SaUpdate, spi, direction| (key(ESP, spi, direction), update);
    for (what, (name, update)) in [
        ("a second partner", update(SaUpdate { pair_spi: Some(3), ..SaUpdate::default() }, 2, Direction::Out)),
        ("no partner", update(SaUpdate { pair_spi: Some(99), ..SaUpdate::default() }, 3, Direction::In)),
        ("hard below soft", update(SaUpdate { hard: Some(added_for(5)), ..SaUpdate::default() }, 2, Direction::Out)),
        ("nobody", update(SaUpdate::default(), 77, Direction::Out)),
    ] {
        sadb.update(&name, &update).unwrap_err();
        assert_eq!(picture(&test, 8), before, "update: {what}");
    }
    sadb.update_pair(&key(ESP, 3, Direction::In), &SaUpdate::default()).unwrap_err();
    sadb.update_pair(&key(ESP, 1, Direction::In), &SaUpdate { hard: Some(added_for(5)), ..SaUpdate::default() })
        .unwrap_err();
    assert!(matches!(sadb.delete(&key(ESP, 77, Direction::In)), Err(SadbError::NotFound)));
    assert!(matches!(sadb.delete_pair(&key(ESP, 77, Direction::In)), Err(SadbError::NotFound)));
    assert_eq!(picture(&test, 8), before);
}

/// An SA with a cipher of its own name.
fn gcm(spi: u32) -> SaSpec {
    SaSpec {
        key: SecretKey::new((1..=16).collect()),
        salt: SecretKey::new(vec![1, 2, 3, 4]),
        auth_key: SecretKey::default(),
        ..spec(ESP, spi, Direction::In)
    }
}

/// PFK-08
#[test]
fn a_flush_of_one_type_leaves_the_other() {
    let test = TestInstance::with_maps(8).unwrap();
    let mut sadb = Sadb::open(&test).unwrap();
    for (proto, spi) in [(AH, 1), (ESP, 1), (AH, 2), (ESP, 3)] {
        sadb.add(&spec(proto, spi, Direction::In)).unwrap();
    }
    let names = |sadb: &mut Sadb| sadb.dump(None).unwrap().iter().map(|sa| (sa.proto, sa.spi)).collect::<Vec<_>>();
    assert_eq!(sadb.flush(Some(AH)).unwrap(), 2);
    assert_eq!(names(&mut sadb), [(ESP, 1), (ESP, 3)]);
    assert_eq!(sadb.flush(Some(AH)).unwrap(), 0);
    sadb.add(&spec(AH, 1, Direction::In)).unwrap();
    assert_eq!(sadb.flush(Some(ESP)).unwrap(), 2);
    assert_eq!(names(&mut sadb), [(AH, 1)]);
    assert_eq!(sadb.flush(None).unwrap(), 1);
}

/// PFK-09
#[test]
fn who_loses_a_partner_is_alone_and_may_have_another() {
    let test = TestInstance::with_maps(8).unwrap();
    let mut sadb = Sadb::open(&test).unwrap();
    sadb.add(&spec(ESP, 1, Direction::In)).unwrap();
    sadb.add(&SaSpec { pair_spi: Some(1), ..spec(ESP, 2, Direction::Out) }).unwrap();
    sadb.delete(&key(ESP, 2, Direction::Out)).unwrap();
    let left = sadb.get(&key(ESP, 1, Direction::In)).unwrap();
    assert_eq!((left.pair_spi, left.flags & flag::PAIRED), (None, 0));
    // The other way round, and by UPDATE (spec section 7.9).
    sadb.add(&spec(ESP, 3, Direction::Out)).unwrap();
    sadb.update(&key(ESP, 1, Direction::In), &SaUpdate { pair_spi: Some(3), ..SaUpdate::default() }).unwrap();
    assert_eq!(sadb.get(&key(ESP, 3, Direction::Out)).unwrap().pair_spi, Some(1));
    // An SA for both directions has no opposite.
    let group = SaSpec { dst: ip("224.0.0.1"), src: ip("192.0.2.1"), direction: Direction::Unspecified, ..gcm(4) };
    let group = SaSpec { encr: 20, auth: 0, ..group };
    sadb.add(&group).unwrap();
    let name = SaKey::new(ESP, 4, ip("224.0.0.1"));
    let refused = sadb.update(&name, &SaUpdate { pair_spi: Some(3), ..SaUpdate::default() }).unwrap_err();
    assert_eq!(refused.code(), Some(Diagnostic::PairInappropriate));
    // It is found in either direction, and goes as one.
    for direction in [Direction::In, Direction::Out, Direction::Unspecified] {
        assert_eq!(sadb.get(&name.toward(direction)).unwrap().spi, 4);
    }
    assert_eq!(sadb.delete_pair(&name).unwrap_err().code(), Some(Diagnostic::PairNotFound));
    assert!(matches!(sadb.get(&name), Err(SadbError::NotFound)));
}
