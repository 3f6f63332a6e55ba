//! Tests of the SADB on real maps. They run as root.

use super::fault;
use super::pfkey::kind;
use super::spec::{Encap, IvSource, Mode};
use super::testing::{self, TestInstance};
use super::*;
use crate::Addr;
use crate::abi::map;
use crate::nat;
use crate::policy::{Action, MAX_ACTIONS, Rule, direction, verdict};
use crate::sa::{
    AH, BindingKey, ESP, GhashTable, Identities, InboundKey, Lifetime, MAX_REPLAY_WINDOW, MAX_WINDOW_PAGES,
    OuterHeader, PAGE_BITS, SaSelectors, SaState, SaStatic, SlotRef, Window, WindowPage, WindowPageKey, encr, flag, km,
    outer, ring_bits, state,
};
use bytemuck::Zeroable;
use maps::{SaMaps, Slots, Table};
use slots::Register;
use std::net::IpAddr;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn spec(spi: u32, direction: Direction) -> SaSpec {
    let (a, b) = (ip("192.0.2.1"), ip("198.51.100.7"));
    let (src, dst) = if direction == Direction::In { (b, a) } else { (a, b) };
    SaSpec {
        direction,
        encr: encr::AES_GCM_16,
        key: SecretKey::new((1..=16).collect()),
        salt: SecretKey::new(vec![0xa, 0xb, 0xc, 0xd]),
        replay_window: 64,
        ..SaSpec::new(ESP, spi, src, dst)
    }
}

fn key(spi: u32, direction: Direction) -> SaKey {
    SaKey { direction, ..SaKey::new(ESP, spi, spec(spi, direction).dst) }
}

fn rule() -> Rule {
    let mut actions = [Action::default(); MAX_ACTIONS];
    actions[0] = Action { encr: encr::AES_GCM_16, encr_bits: [128, 256], ..Action::default() };
    Rule {
        verdict: verdict::PROTECT,
        directions: direction::IN | direction::OUT,
        action_id: 77,
        action_count: 1,
        lport: [0, u16::MAX],
        rport: [0, u16::MAX],
        actions,
        ..Rule::zeroed()
    }
}

fn put_rule(instance: &Instance, rule: Rule) {
    Spd::open(instance).unwrap().replace(&[CompiledRule { rule, tunnel: None }]).unwrap();
}

fn bound(instance: &Instance) -> Option<SlotRef> {
    let table = Table::<BindingKey, crate::sa::Bundle>::open(instance, map::SA_OUT).unwrap();
    let (src, dst) = (Addr::from(ip("192.0.2.1")), Addr::from(ip("198.51.100.7")));
    let key = BindingKey { action: 77, src, dst, ..BindingKey::default() };
    table.get(&key).unwrap().map(|b| b.sa[0])
}

/// No slot holds anything, no index leads anywhere: what a flush must leave, and repair after half an ADD.
fn assert_clean(instance: &Instance, capacity: u32) {
    let statics = Slots::<SaStatic>::open(instance, map::SA_STATIC).unwrap();
    let states = Slots::<SaState>::open(instance, map::SA_STATE).unwrap();
    let windows = Slots::<Window>::open(instance, map::SA_WINDOW).unwrap();
    for slot in 1..capacity {
        let fixed = statics.get(slot).unwrap();
        let generation = fixed.generation;
        assert!(bytemuck::bytes_of(&fixed) == bytemuck::bytes_of(&SaStatic { generation, ..SaStatic::zeroed() }));
        assert!(slots::is_free(&states.get(slot).unwrap()));
        assert!(windows.get(slot).unwrap() == Window::zeroed());
    }
    let pages = Table::<WindowPageKey, WindowPage>::open(instance, map::SA_WINDOW_PAGES).unwrap();
    assert!(pages.keys().unwrap().is_empty());
    assert!(Table::<InboundKey, SlotRef>::open(instance, map::SA_NAMES).unwrap().keys().unwrap().is_empty());
    assert!(Table::<u32, Identities>::open(instance, map::SA_IDENTITIES).unwrap().keys().unwrap().is_empty());
    assert!(Table::<u32, GhashTable>::open(instance, map::SA_GHASH).unwrap().keys().unwrap().is_empty());
    assert!(Table::<InboundKey, SlotRef>::open(instance, map::SA_IN).unwrap().keys().unwrap().is_empty());
    assert!(Table::<BindingKey, crate::sa::Bundle>::open(instance, map::SA_OUT).unwrap().keys().unwrap().is_empty());
}

#[test]
fn an_sa_is_added_shown_and_deleted_without_a_trace() {
    let test = TestInstance::with_maps(8).unwrap();
    let mut sadb = Sadb::open(&test).unwrap();
    let slot = sadb.add(&spec(0x1001, Direction::In)).unwrap();
    assert_eq!(slot, SlotRef { slot: 1, generation: 1 });
    // Another process sees the same.
    let mut other = Sadb::open(&test).unwrap();
    let info = other.get(&key(0x1001, Direction::In).toward(Direction::Unspecified)).unwrap();
    assert_eq!((info.key(), info.salt()), (&spec(1, Direction::In).key, &spec(1, Direction::In).salt));
    assert_eq!((info.state, info.replay_window, info.slot), (state::MATURE, 64, slot));
    assert!(info.is_inbound() && !info.is_outbound());
    assert!(matches!(other.add(&spec(0x1001, Direction::In)), Err(SadbError::Exists)));
    other.add(&spec(0x1001, Direction::Out)).unwrap();
    assert_eq!(sadb.dump(None).unwrap().len(), 2);
    assert_eq!(sadb.dump(Some(AH)).unwrap().len(), 0);
    sadb.delete(&key(0x1001, Direction::In)).unwrap();
    assert!(matches!(other.get(&key(0x1001, Direction::In)), Err(SadbError::NotFound)));
    assert_eq!(sadb.flush(None).unwrap(), 1);
    assert_clean(&test, 8);
    // A slot that is used again has another generation.
    assert_eq!(other.add(&spec(0x1001, Direction::In)).unwrap(), SlotRef { slot: 1, generation: 2 });
}

/// ARC-SAD-01: all that an SA holds is kept and shown: names and ends, keys and algorithms, 64-bit counter, window, lifetimes of
/// each kind, mode, DSCP, DF, TTL and ECN of the outer header, UDP ports, selectors and key manager. Its counter
/// always stops at the end, so that there is no flag for that; the path MTU is kept apart, by SPI and peer; there is no
/// stateful check of fragments.
#[test]
fn all_that_an_sa_holds_comes_back() {
    let test = TestInstance::with_maps(8).unwrap();
    let mut sadb = Sadb::open(&test).unwrap();
    let low = |first: u8| Addr::from(IpAddr::from([10, first, 0, 0]));
    let high = |first: u8| Addr::from(IpAddr::from([10, first, 255, 255]));
    let selectors = SaSelectors {
        src_low: low(1),
        src_high: high(1),
        dst_low: low(2),
        dst_high: high(2),
        sport: [0, u16::MAX],
        dport: [5000, 5009],
        proto: 17,
        reserved: [0; 7],
    };
    let asked = SaSpec {
        mode: Mode::Tunnel,
        esn: true,
        replay_value: 0x2_0000_0007,
        replay_window: 2048,
        encap: Some(Encap { sport: 4500, dport: 61_000, nat_local: None, nat_remote: Some(ip("10.9.9.9")) }),
        selectors: Some(selectors),
        outer: OuterHeader { dscp: outer::FIXED_DSCP | 46, df: outer::SET_DF, ttl: 33, ecn: outer::ECN_COMPATIBLE },
        pfs: true,
        soft: Lifetime { bytes: 1, add: 200, used: 300, allocations: 4 },
        hard: Lifetime { bytes: 10, add: 2000, used: 3000, allocations: 40 },
        idle: [50, 60],
        km: km::IKEV2,
        km_cookie: 0xfeed,
        iv: IvSource::FreshKey,
        ..spec(0x1001, Direction::Out)
    };
    sadb.add(&asked).unwrap();
    let info = Sadb::open(&test).unwrap().get(&key(0x1001, Direction::Out)).unwrap();
    assert_eq!((info.proto, info.spi, info.src, info.dst), (ESP, 0x1001, asked.src, asked.dst));
    assert_eq!((info.encr, info.key_bits, info.auth), (encr::AES_GCM_16, 128, 0));
    assert_eq!((info.key(), info.salt()), (&asked.key, &asked.salt));
    assert_eq!((info.seq, info.replay_window, info.state), (0x2_0000_0007, 2048, state::MATURE));
    assert_eq!((info.hard, info.idle), (asked.hard, asked.idle));
    // Of a negotiated SA the soft limit in seconds is a little earlier on one end than on the other.
    assert_eq!(Lifetime { add: 200, ..info.soft }, asked.soft);
    assert!((100..=200).contains(&info.soft.add));
    assert_eq!((info.outer, info.encap, info.selectors), (asked.outer, asked.encap, asked.selectors));
    assert_eq!((info.km, info.km_cookie), (km::IKEV2, 0xfeed));
    let flags = flag::TUNNEL | flag::ESN | flag::UDP_ENCAP | flag::SELECTORS | flag::PFS | flag::NAT_REMOTE;
    assert_eq!(info.flags & flags, flags);
}

#[test]
fn capacity_is_a_clear_limit() {
    let test = TestInstance::with_maps(4).unwrap();
    let mut sadb = Sadb::open(&test).unwrap();
    for spi in 1..=3 {
        sadb.add(&spec(spi, Direction::In)).unwrap();
    }
    assert!(matches!(sadb.add(&spec(4, Direction::In)), Err(SadbError::Full(3))));
    sadb.delete(&key(2, Direction::In)).unwrap();
    assert_eq!(sadb.add(&spec(4, Direction::In)).unwrap().slot, 2);
}

/// ESP-FMT-11: IVs of counter modes are unique, across loads of the same key as well.
#[test]
fn nonces_of_a_key_loaded_twice_do_not_meet() {
    let test = TestInstance::with_maps(8).unwrap();
    let mut sadb = Sadb::open(&test).unwrap();
    let statics = Slots::<SaStatic>::open(&test, map::SA_STATIC).unwrap();
    let states = Slots::<SaState>::open(&test, map::SA_STATE).unwrap();
    let mut ranges = vec![];
    for _ in 0..4 {
        let slot = sadb.add(&spec(9, Direction::Out)).unwrap().slot;
        ranges.push(states.get(slot).unwrap().iv..statics.get(slot).unwrap().iv_limit);
        sadb.flush(None).unwrap();
    }
    for (i, a) in ranges.iter().enumerate() {
        assert_eq!(a.end - a.start, 1 << 32);
        assert!(ranges[..i].iter().all(|b| b.end <= a.start || a.end <= b.start));
    }
    let fresh = SaSpec { iv: IvSource::FreshKey, ..spec(9, Direction::Out) };
    let slot = sadb.add(&fresh).unwrap().slot;
    assert_eq!((states.get(slot).unwrap().iv, statics.get(slot).unwrap().iv_limit), (1, u64::MAX));
}

/// ARC-SAD-05: several SAs with the same selectors may exist side by side.
#[test]
fn outbound_traffic_goes_to_the_newest_sa() {
    let test = TestInstance::with_maps(8).unwrap();
    put_rule(&test, rule());
    let mut sadb = Sadb::open(&test).unwrap();
    let old = sadb.add(&spec(1, Direction::Out)).unwrap();
    assert_eq!(bound(&test), Some(old));
    let waiting = sadb.add_unbound(&spec(2, Direction::Out)).unwrap();
    assert_eq!(bound(&test), Some(old));
    // V2-REK-10: its time has not come by a change of policy, nor by the end of the one in use.
    put_rule(&test, Rule { priority: 5, ..rule() });
    assert_eq!(bound(&test), Some(old));
    sadb.add(&spec(9, Direction::Out)).unwrap();
    sadb.delete(&key(9, Direction::Out)).unwrap();
    assert_eq!(bound(&test), Some(old));
    sadb.switch_outbound(&key(2, Direction::Out)).unwrap();
    assert_eq!(bound(&test), Some(waiting));
    sadb.delete(&key(2, Direction::Out)).unwrap();
    assert_eq!(bound(&test), Some(old));
    sadb.delete(&key(1, Direction::Out)).unwrap();
    assert_eq!(bound(&test), None);
    // Negotiated for the action by its id, whatever the rules say.
    let negotiated = SaSpec { action: 77, km: km::IKEV2, iv: IvSource::FreshKey, ..spec(3, Direction::Out) };
    let slot = sadb.add(&negotiated).unwrap();
    assert_eq!(bound(&test), Some(slot));
}

/// V2-NAT-08, UDP-04: what is to be added to checksums of packets that come in by an SA in transport mode.
#[test]
fn the_addresses_behind_nats_become_a_delta() {
    let test = TestInstance::with_maps(8).unwrap();
    let mut sadb = Sadb::open(&test).unwrap();
    let statics = Slots::<SaStatic>::open(&test, map::SA_STATIC).unwrap();
    let nat = |nat_local: Option<&str>, nat_remote: Option<&str>| {
        Some(Encap { sport: 1024, dport: 4500, nat_local: nat_local.map(ip), nat_remote: nat_remote.map(ip) })
    };
    let ends = |src: &str, dst: &str| [ip(src).into(), ip(dst).into()];
    let header = ends("198.51.100.7", "192.0.2.1");
    let delta = |src, dst| nat::checksum_delta(ends(src, dst), header);
    let transport = spec(1, Direction::In);
    for (spi, encap, mode, wanted) in [
        (1, nat(None, Some("10.0.0.5")), Mode::Transport, delta("10.0.0.5", "192.0.2.1")),
        (2, nat(Some("203.0.113.9"), None), Mode::Transport, delta("198.51.100.7", "203.0.113.9")),
        (3, nat(Some("203.0.113.9"), Some("10.0.0.5")), Mode::Transport, delta("10.0.0.5", "203.0.113.9")),
        (4, nat(Some("0.0.0.0"), Some("0.0.0.0")), Mode::Transport, 0),
        (5, nat(Some("203.0.113.9"), Some("10.0.0.5")), Mode::Tunnel, 0),
        (6, None, Mode::Transport, 0),
    ] {
        let slot = sadb.add(&SaSpec { spi, encap, mode, ..transport.clone() }).unwrap().slot;
        assert_eq!(statics.get(slot).unwrap().checksum_delta, wanted, "{encap:?}");
        assert!(wanted != 0 || spi > 3);
        assert_eq!(sadb.get(&key(spi, Direction::In)).unwrap().encap, encap);
    }
    let any = SaSpec { spi: 7, src: ip("0.0.0.0"), encap: nat(None, Some("10.0.0.5")), ..transport };
    assert_eq!(sadb.add(&any).unwrap_err().code(), Some(Diagnostic::BadSource));
}

#[test]
fn a_reserved_spi_matures_in_place() {
    let test = TestInstance::with_maps(8).unwrap();
    let mut sadb = Sadb::open(&test).unwrap();
    let (src, dst) = (ip("198.51.100.7"), ip("192.0.2.1"));
    let spi = sadb.reserve_spi(ESP, src, dst, 0x2000..=0x2000, km::IKEV2).unwrap();
    assert!(matches!(sadb.reserve_spi(ESP, src, dst, 0x2000..=0x2000, km::IKEV2), Err(SadbError::Exists)));
    assert_eq!(sadb.get(&key(spi, Direction::In)).unwrap().state, state::LARVAL);
    // ESP-FMT-02: 1 to 255 are never allocated.
    let low = sadb.reserve_spi(ESP, src, dst, 255..=300, km::IKEV2).unwrap_err();
    assert_eq!(low.code(), Some(Diagnostic::MalformedRange));
    assert!(matches!(sadb.add(&spec(spi, Direction::In)), Err(SadbError::Exists)));
    let negotiated = SaSpec { km: km::IKEV2, iv: IvSource::FreshKey, ..spec(spi, Direction::In) };
    sadb.add(&negotiated).unwrap();
    assert_eq!(sadb.get(&key(spi, Direction::In)).unwrap().state, state::MATURE);
    assert_eq!(sadb.dump(None).unwrap().len(), 1);
    assert_eq!(sadb.flush(None).unwrap(), 1);
    assert_clean(&test, 8);
}

#[test]
fn pairs_are_linked_updated_and_deleted_together() {
    let test = TestInstance::with_maps(8).unwrap();
    let mut sadb = Sadb::open(&test).unwrap();
    let code = |r: Result<SlotRef, SadbError>| r.unwrap_err().code();
    let paired = |spi, direction, pair| SaSpec { pair_spi: Some(pair), ..spec(spi, direction) };
    assert_eq!(code(sadb.add(&paired(1, Direction::Out, 2))), Some(Diagnostic::PairInappropriate));
    sadb.add(&spec(2, Direction::In)).unwrap();
    let elsewhere = SaSpec { dst: ip("198.51.100.8"), ..paired(1, Direction::Out, 2) };
    assert_eq!(code(sadb.add(&elsewhere)), Some(Diagnostic::PairAddressMismatch));
    // ARC-SAD-04: both SAs of a pair have one mode.
    let tunnel = SaSpec { mode: Mode::Tunnel, ..paired(1, Direction::Out, 2) };
    assert_eq!(code(sadb.add(&tunnel)), Some(Diagnostic::PairInappropriate));
    sadb.add(&paired(1, Direction::Out, 2)).unwrap();
    assert_eq!(code(sadb.add(&paired(3, Direction::Out, 2))), Some(Diagnostic::PairAlready));
    assert_eq!(sadb.get(&key(2, Direction::In)).unwrap().pair_spi, Some(1));
    let hard = Lifetime { add: 60, ..Lifetime::default() };
    sadb.update_pair(&key(1, Direction::Out), &SaUpdate { hard: Some(hard), ..SaUpdate::default() }).unwrap();
    assert_eq!(sadb.get(&key(2, Direction::In)).unwrap().hard, hard);
    // What one of the two cannot take is refused for both.
    let low = Lifetime { add: 5, ..Lifetime::default() };
    sadb.update(&key(2, Direction::In), &SaUpdate { soft: Some(hard), ..SaUpdate::default() }).unwrap();
    let refused = sadb.update_pair(&key(1, Direction::Out), &SaUpdate { hard: Some(low), ..SaUpdate::default() });
    assert_eq!(refused.unwrap_err().code(), Some(Diagnostic::AddTimeSoftHard));
    assert_eq!(sadb.get(&key(1, Direction::Out)).unwrap().hard, hard);
    sadb.delete_pair(&key(2, Direction::In)).unwrap();
    assert_clean(&test, 8);
    sadb.add(&spec(2, Direction::In)).unwrap();
    let alone = sadb.delete_pair(&key(2, Direction::In)).unwrap_err();
    assert_eq!(alone.code(), Some(Diagnostic::PairNotFound));
    assert_clean(&test, 8);
}

#[test]
fn an_update_keeps_counters_and_refuses_other_owners() {
    let test = TestInstance::with_maps(8).unwrap();
    let mut sadb = Sadb::open(&test).unwrap();
    let slot = sadb.add(&SaSpec { km: km::IKEV2, km_cookie: 7, ..spec(1, Direction::In) }).unwrap();
    let mut states = Slots::<SaState>::open(&test, map::SA_STATE).unwrap();
    let moving = SaState { packets: 5, ..states.get(slot.slot).unwrap() };
    states.set(slot.slot, &moving).unwrap();
    let soft = Lifetime { bytes: 10, ..Lifetime::default() };
    let update = SaUpdate { soft: Some(soft), km: Some((km::IKEV2, 8)), ..SaUpdate::default() };
    sadb.update(&key(1, Direction::In), &update).unwrap();
    let info = sadb.get(&key(1, Direction::In)).unwrap();
    assert_eq!((info.packets, info.soft, info.km_cookie), (5, soft, 8));
    let foreign = SaUpdate { km: Some((km::IKEV1, 8)), ..SaUpdate::default() };
    let refused = sadb.update(&key(1, Direction::In), &foreign).unwrap_err();
    assert_eq!(refused.code(), Some(Diagnostic::DuplicateKmProtocol));
    states.set(slot.slot, &SaState { state: state::DYING.into(), ..moving }).unwrap();
    let refused = sadb.update(&key(1, Direction::In), &update).unwrap_err();
    assert_eq!(refused.code(), Some(Diagnostic::BadState));
}

#[test]
fn the_dead_are_invisible_and_make_room() {
    let test = TestInstance::with_maps(3).unwrap();
    let mut sadb = Sadb::open(&test).unwrap();
    let slot = sadb.add(&spec(1, Direction::In)).unwrap();
    sadb.add(&spec(2, Direction::In)).unwrap();
    let mut states = Slots::<SaState>::open(&test, map::SA_STATE).unwrap();
    let moving = states.get(slot.slot).unwrap();
    states.set(slot.slot, &SaState { state: state::DEAD.into(), ..moving }).unwrap();
    assert!(matches!(sadb.get(&key(1, Direction::In)), Err(SadbError::NotFound)));
    assert_eq!(sadb.dump(None).unwrap().len(), 1);
    // Both when the name is wanted again and when the slot is.
    sadb.add(&spec(1, Direction::In)).unwrap();
    let moving = states.get(slot.slot).unwrap();
    states.set(slot.slot, &SaState { state: state::DEAD.into(), ..moving }).unwrap();
    sadb.add(&spec(3, Direction::In)).unwrap();
    assert_eq!(sadb.flush(None).unwrap(), 2);
    assert_clean(&test, 3);
}

#[test]
fn restored_counters_close_the_window_below() {
    let test = TestInstance::with_maps(3).unwrap();
    let mut sadb = Sadb::open(&test).unwrap();
    let slot = sadb.add(&SaSpec { replay_value: 70, ..spec(1, Direction::In) }).unwrap();
    let window = Slots::<Window>::open(&test, map::SA_WINDOW).unwrap().get(slot.slot).unwrap();
    assert_eq!(window.0[..4], [0xffff_ffff, 0xffff_ffff, 0x7f, 0]);
    assert_eq!(sadb.get(&key(1, Direction::In)).unwrap().top, 70);
}

#[test]
fn a_large_window_takes_pages_while_there_are_some_and_gives_them_back() {
    let test = TestInstance::with_maps(2100).unwrap();
    let mut sadb = Sadb::open(&test).unwrap();
    let large = |spi| SaSpec { replay_window: MAX_REPLAY_WINDOW, replay_value: 70_000, ..spec(spi, Direction::In) };
    let fit = MAX_WINDOW_PAGES >> (ring_bits(MAX_REPLAY_WINDOW) - PAGE_BITS);
    for spi in 0..fit {
        sadb.add(&large(1000 + spi)).unwrap();
    }
    assert!(matches!(sadb.add(&large(999)), Err(SadbError::WindowsFull(_))));
    // Nothing is left of it, and what needs no page still fits.
    sadb.add(&SaSpec { replay_window: 1024, ..spec(999, Direction::In) }).unwrap();
    sadb.delete(&key(1000, Direction::In)).unwrap();
    sadb.add(&large(998)).unwrap();
    assert_eq!(sadb.flush(None).unwrap(), fit as usize + 1);
    assert_clean(&test, 2100);
}

#[test]
fn a_tool_killed_at_any_write_of_add_leaves_all_or_nothing() {
    let test = TestInstance::with_maps(4).unwrap();
    put_rule(&test, rule());
    for n in 1.. {
        let lived = fault::survives(n, || {
            let mut sadb = Sadb::open(&test).unwrap();
            sadb.add(&SaSpec { replay_window: 5000, ..spec(2, Direction::In) }).unwrap();
            sadb.add(&SaSpec { pair_spi: Some(2), ..spec(1, Direction::Out) }).unwrap();
        });
        let mut sadb = Sadb::open(&test).unwrap();
        let all = sadb.dump(None).unwrap();
        for sa in &all {
            let alone = all.len() == 1;
            assert!(sa.pair_spi.is_none() || !alone, "write {n}: half a pair");
            assert_eq!(sa.is_outbound() && bound(&test) == Some(sa.slot), sa.is_outbound(), "write {n}: not bound");
        }
        assert_eq!(Slots::<crate::abi::Header>::open(&test, map::HEADER).unwrap().get(0).unwrap().dirty, 0);
        sadb.flush(None).unwrap();
        assert_clean(&test, 4);
        if lived {
            assert_eq!(all.len(), 2);
            assert!(n > 10, "{n} writes are too few to have been the whole change");
            return;
        }
    }
}

#[test]
fn a_tool_killed_at_any_write_of_delete_leaves_all_or_nothing() {
    let test = TestInstance::with_maps(4).unwrap();
    put_rule(&test, rule());
    for n in 1.. {
        let mut sadb = Sadb::open(&test).unwrap();
        sadb.add(&spec(2, Direction::In)).unwrap();
        sadb.add(&SaSpec { pair_spi: Some(2), ..spec(1, Direction::Out) }).unwrap();
        let lived = fault::survives(n, || Sadb::open(&test).unwrap().delete_pair(&key(1, Direction::Out)).unwrap());
        let all = sadb.dump(None).unwrap();
        assert!(all.iter().all(|sa| !sa.is_outbound() || bound(&test) == Some(sa.slot)), "write {n}");
        assert!(all.iter().all(|sa| sa.state == state::MATURE && sa.flags & flag::BOTH != 0), "write {n}");
        sadb.flush(None).unwrap();
        assert_clean(&test, 4);
        if lived {
            assert!(all.is_empty());
            return;
        }
    }
}

#[test]
fn every_change_is_announced_and_no_key_with_it() {
    testing::in_new_netns(|| {
        let test = TestInstance::with_maps(8).unwrap();
        let mut listener = Subscriber::open(None).unwrap();
        let mut sadb = Sadb::open(&test).unwrap();
        sadb.reserve_spi(ESP, ip("198.51.100.7"), ip("192.0.2.1"), 256..=256, km::IKEV2).unwrap();
        sadb.add(&SaSpec { km: km::IKEV2, ..spec(256, Direction::In) }).unwrap();
        sadb.add(&SaSpec { pair_spi: Some(256), ..spec(6, Direction::Out) }).unwrap();
        sadb.update(&key(6, Direction::Out), &SaUpdate::default()).unwrap();
        sadb.delete(&key(6, Direction::Out)).unwrap();
        assert!(sadb.delete(&key(6, Direction::Out)).is_err());
        sadb.flush(Some(ESP)).unwrap();
        let mut heard = vec![];
        while let Some(Heard::Message(message)) = listener.next_message().unwrap() {
            heard.push((message.kind, message.sa.map(|sa| sa.spi)));
            assert_eq!(message.satype, 3);
        }
        use pfkey::kind::{ADD, DELETE, FLUSH, GETSPI, UPDATE};
        let wanted = [(GETSPI, 256), (UPDATE, 256), (ADD, 6), (UPDATE, 6), (DELETE, 6)];
        assert_eq!(heard[..5], wanted.map(|(kind, spi)| (kind, Some(spi))));
        assert_eq!(heard[5..], [(FLUSH, None)]);
    });
}

#[test]
fn a_tool_killed_at_any_other_write_leaves_something_whole() {
    let test = TestInstance::with_maps(4).unwrap();
    put_rule(&test, rule());
    let (src, dst) = (ip("198.51.100.7"), ip("192.0.2.1"));
    for n in 1.. {
        let lived = fault::survives(n, || {
            let mut sadb = Sadb::open(&test).unwrap();
            sadb.reserve_spi(ESP, src, dst, 0x2000..=0x2000, km::IKEV2).unwrap();
            sadb.add(&SaSpec { km: km::IKEV2, ..spec(0x2000, Direction::In) }).unwrap();
            sadb.add_unbound(&spec(1, Direction::Out)).unwrap();
            sadb.update(&key(1, Direction::Out), &SaUpdate { pair_spi: Some(0x2000), ..SaUpdate::default() }).unwrap();
            sadb.switch_outbound(&key(1, Direction::Out)).unwrap();
            sadb.flush(None).unwrap();
        });
        let mut sadb = Sadb::open(&test).unwrap();
        let all = sadb.dump(None).unwrap();
        let paired: Vec<_> = all.iter().filter_map(|sa| sa.pair_spi).collect();
        assert!(paired.is_empty() || paired.len() == 2, "write {n}: half a pair");
        for sa in &all {
            // Whoever is in the dump is found by name as well, and nobody is there twice.
            assert_eq!(sadb.get(&sa.sa_key()).unwrap().slot, sa.slot, "write {n}");
        }
        sadb.flush(None).unwrap();
        assert_clean(&test, 4);
        if lived {
            assert!(all.is_empty());
            return;
        }
    }
}

/// Outbound and inbound SAs in turn, each two a pair, with all that lies beside the slots.
fn with_everything(number: u32) -> SaSpec {
    let direction = if number.is_multiple_of(2) { Direction::Out } else { Direction::In };
    SaSpec {
        pair_spi: (number % 2 == 1).then(|| number - 1),
        src_identity: number.is_multiple_of(3).then(|| Identity::new(2, "gw.example.com").unwrap()),
        replay_window: if number == 3 { 2000 } else { 64 },
        ..spec(number, direction)
    }
}

/// A batch is many operations, each of them whole, and not one.
#[test]
fn a_tool_killed_at_any_write_of_a_batch_leaves_whole_sas() {
    const COUNT: u32 = 20;
    let test = TestInstance::with_maps(32).unwrap();
    put_rule(&test, rule());
    for n in (1..).step_by(5) {
        let lived = fault::survives(n, || {
            let mut sadb = Sadb::open(&test).unwrap();
            sadb.begin_batch();
            (0x100..0x100 + COUNT).for_each(|number| _ = sadb.add(&with_everything(number)).unwrap());
            sadb.end_batch().unwrap();
            sadb.flush(None).unwrap();
        });
        let mut sadb = Sadb::open(&test).unwrap();
        let all = sadb.dump(None).unwrap();
        for sa in &all {
            assert_eq!(sadb.get(&sa.sa_key()).unwrap().slot, sa.slot, "write {n}");
            let partner = sa.pair_spi.map(|spi| sadb.get(&key(spi, with_everything(spi).direction)).unwrap().pair_spi);
            assert!(partner.is_none_or(|spi| spi == Some(sa.spi)), "write {n}: half a pair");
            assert_eq!(sa.src_identity, with_everything(sa.spi).src_identity, "write {n}");
        }
        assert!(sadb.dump(None).unwrap().len() == all.len());
        sadb.flush(None).unwrap();
        assert_clean(&test, 32);
        if lived {
            assert!(all.is_empty());
            return;
        }
    }
}

/// Whoever adds thousands does not keep others waiting for all of them.
#[test]
fn others_get_the_lock_in_the_middle_of_a_batch() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let test = TestInstance::with_maps(8).unwrap();
    let (begun, over) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut sadb = Sadb::open(&test).unwrap();
            sadb.begin_batch();
            while !over.load(Ordering::Relaxed) {
                sadb.add(&spec(0x100, Direction::Out)).unwrap();
                sadb.delete(&key(0x100, Direction::Out)).unwrap();
                begun.store(true, Ordering::Relaxed);
            }
        });
        let mut other = Sadb::open(&test).unwrap();
        while !begun.load(Ordering::Relaxed) {
            std::thread::yield_now();
        }
        // None of these waits for the ten seconds after which it would give up.
        let found: Result<Vec<_>, _> = (0..5).map(|_| other.dump(None)).collect();
        over.store(true, Ordering::Relaxed);
        assert!(found.unwrap().iter().all(|all| all.len() < 2));
    });
}

/// What was done in a batch is there for others once it is finished, and its messages were sent.
#[test]
fn a_batch_is_as_good_as_its_operations() {
    testing::in_new_netns(|| {
        let test = TestInstance::with_maps(64).unwrap();
        let (mut sadb, mut other) = (Sadb::open(&test).unwrap(), Sadb::open(&test).unwrap());
        other.dump(None).unwrap();
        let mut bus = Subscriber::open(None).unwrap();
        sadb.begin_batch();
        (0x100..0x114).for_each(|number| _ = sadb.add(&with_everything(number)).unwrap());
        assert!(matches!(sadb.add(&with_everything(0x100)), Err(SadbError::Exists)));
        sadb.delete(&key(0x113, Direction::In)).unwrap();
        assert!(matches!(sadb.get(&key(0x113, Direction::In)), Err(SadbError::NotFound)));
        assert_eq!(sadb.get(&key(0x112, Direction::Out)).unwrap().pair_spi, None);
        sadb.end_batch().unwrap();
        assert_eq!(other.dump(None).unwrap().len(), 19);
        assert_true(&mut other, &test);
        let mut kinds = vec![];
        while let Some(Heard::Message(message)) = bus.next_message().unwrap() {
            kinds.push(message.kind);
        }
        assert_eq!(kinds, [vec![kind::ADD; 20], vec![kind::DELETE]].concat());
        assert_eq!(other.flush(None).unwrap(), 19);
        assert_clean(&test, 64);
    });
}

/// More than are written together, without policy, so that nothing but their number has them written: pairs across the borders
/// of the portions are pairs, and all of them go together, but not what others hold.
#[test]
fn many_together_are_what_each_alone_would_be() {
    testing::in_new_netns(|| {
        const COUNT: u32 = 1_100;
        let test = TestInstance::with_maps(COUNT + 2).unwrap();
        let (mut sadb, mut other) = (Sadb::open(&test).unwrap(), Sadb::open(&test).unwrap());
        sadb.begin_batch();
        sadb.add(&SaSpec {
            proto: AH,
            encr: 0,
            salt: SecretKey::default(),
            auth: 5,
            auth_key: SecretKey::new(vec![7; 32]),
            key: SecretKey::default(),
            ..spec(0x99, Direction::Out)
        })
        .unwrap();
        // With the one before, a portion ends between the two of a pair.
        (0x100..0x100 + COUNT).for_each(|number| _ = sadb.add(&with_everything(number)).unwrap());
        assert!(matches!(sadb.add(&with_everything(0xff + COUNT)), Err(SadbError::Exists)));
        sadb.end_batch().unwrap();
        assert_true(&mut other, &test);
        for sa in other.dump(Some(ESP)).unwrap() {
            assert_eq!(other.get(&sa.sa_key()).unwrap().slot, sa.slot);
            assert_eq!(sa.pair_spi, Some(sa.spi ^ 1));
        }
        assert_eq!(other.flush(Some(ESP)).unwrap(), COUNT as usize);
        assert_eq!(other.get(&SaKey { proto: AH, ..key(0x99, Direction::Out) }).unwrap().spi, 0x99);
        assert_eq!(sadb.flush(None).unwrap(), 1);
        assert_clean(&test, COUNT + 2);
    });
}

#[test]
fn the_end_of_one_sa_is_seen_of_both_of_a_pair() {
    let test = TestInstance::with_maps(8).unwrap();
    let mut sadb = Sadb::open(&test).unwrap();
    let first = sadb.add(&with_everything(0x100)).unwrap();
    sadb.add(&with_everything(0x101)).unwrap();
    let mut states = Slots::<SaState>::open(&test, map::SA_STATE).unwrap();
    let dead = SaState { state: state::DEAD.into(), ..states.get(first.slot).unwrap() };
    states.set(first.slot, &dead).unwrap();
    assert!(sadb.dump(None).unwrap().is_empty());
    let partner = key(0x101, Direction::In);
    assert!(matches!(sadb.get(&partner), Err(SadbError::NotFound)));
    assert!(matches!(sadb.update(&partner, &SaUpdate::default()), Err(SadbError::NotFound)));
    assert!(matches!(sadb.delete(&partner), Err(SadbError::NotFound)));
}

#[test]
fn the_ends_of_a_negotiated_pair_do_not_rekey_at_once() {
    let test = TestInstance::with_maps(4).unwrap();
    let mut sadb = Sadb::open(&test).unwrap();
    let soft = Lifetime { add: 3600, ..Lifetime::default() };
    let mut stored = |direction, km| {
        sadb.add(&SaSpec { soft, km, ..spec(9, direction) }).unwrap();
        let add = sadb.get(&key(9, direction)).unwrap().soft.add;
        sadb.delete(&key(9, direction)).unwrap();
        add
    };
    assert!((3600 - 23..=3600 - 8).contains(&stored(Direction::Out, km::IKEV2)));
    assert_eq!(stored(Direction::In, km::IKEV2), 3600);
    assert_eq!(stored(Direction::Out, km::MANUAL), 3600);
}

#[test]
fn a_handle_may_move_between_threads() {
    fn is_send<T: Send>() {}
    is_send::<Sadb>();
    is_send::<Spd>();
    is_send::<EventLease>();
    is_send::<Subscriber>();
}

/// What a handle remembers, and what the maps say.
fn assert_true(sadb: &mut Sadb, test: &TestInstance) {
    sadb.locked(|_, _| Ok(())).unwrap();
    let read = Register::read(&SaMaps::open(test).unwrap()).unwrap();
    let list = |register: &Register| register.iter().map(|known| format!("{known:?}")).collect::<Vec<_>>();
    assert_eq!(list(&sadb.register), list(&read));
    assert_eq!(sadb.register.free(64), read.free(64));
}

/// A negotiation, as in.ikev2d has it: one handle for SAs and one for policy.
fn negotiate(sadb: &mut Sadb, spd: &mut Spd, number: u32) -> u64 {
    let before = fault::lookups();
    let (here, there) = (ip("192.0.2.1"), IpAddr::from(u32::to_be_bytes(0x0a00_0000 + number)));
    let inbound = sadb.reserve_spi(ESP, there, here, 256..=u32::MAX, km::IKEV2).unwrap();
    spd.rules().unwrap();
    let sa = |spi, src, dst, direction| SaSpec { km: km::IKEV2, action: 77, src, dst, ..spec(spi, direction) };
    sadb.add(&sa(inbound, there, here, Direction::In)).unwrap();
    let outbound = SaSpec { pair_spi: Some(inbound), ..sa(number + 256, here, there, Direction::Out) };
    sadb.add(&outbound).unwrap();
    fault::lookups() - before
}

#[test]
fn what_a_change_costs_does_not_grow_with_the_number_of_sas() {
    let test = TestInstance::with_maps(1024).unwrap();
    let (mut sadb, mut spd) = (Sadb::open(&test).unwrap(), Spd::open(&test).unwrap());
    spd.replace(&[CompiledRule { rule: rule(), tunnel: None }]).unwrap();
    negotiate(&mut sadb, &mut spd, 0);
    let few = negotiate(&mut sadb, &mut spd, 1);
    (2..400).for_each(|number| _ = negotiate(&mut sadb, &mut spd, number));
    let many = negotiate(&mut sadb, &mut spd, 400);
    assert_eq!(few, many);
    // Somebody else changes two: those are read anew, and no others.
    let mut other = Sadb::open(&test).unwrap();
    other.delete_each(&[key(256, Direction::Out).toward(Direction::Out)]).unwrap();
    negotiate(&mut other, &mut spd, 500);
    assert!(negotiate(&mut sadb, &mut spd, 501) < few + 20);
    // Two handles of this process, one that was away for more changes than are kept, and one that is new.
    assert_true(&mut sadb, &test);
    let mut late = Sadb::open(&test).unwrap();
    late.dump(None).unwrap();
    for _ in 0..10 {
        sadb.flush(None).unwrap();
        (0..200).for_each(|number| _ = negotiate(&mut sadb, &mut spd, number));
    }
    let before = fault::lookups();
    assert_true(&mut late, &test);
    assert!(fault::lookups() - before > 1024);
    let one = SaKey::new(ESP, 256 + 7, IpAddr::from(u32::to_be_bytes(0x0a00_0007))).toward(Direction::Out);
    let before = fault::lookups();
    late.delete(&one).unwrap();
    assert!(fault::lookups() - before < 20);
    assert_true(&mut sadb, &test);
}

/// Whoever is killed at whatever write: a process that remembers the maps from before still knows what is true.
#[test]
fn what_is_remembered_survives_the_death_of_others() {
    let test = TestInstance::with_maps(16).unwrap();
    let mut spd = Spd::open(&test).unwrap();
    spd.replace(&[CompiledRule { rule: rule(), tunnel: None }]).unwrap();
    let mut witness = Sadb::open(&test).unwrap();
    for n in 1.. {
        witness.flush(None).unwrap();
        negotiate(&mut witness, &mut spd, 1);
        let lived = fault::survives(n, || {
            let (mut sadb, mut spd) = (Sadb::open(&test).unwrap(), Spd::open(&test).unwrap());
            negotiate(&mut sadb, &mut spd, 2);
            let gone =
                |number: u32| SaKey::new(ESP, 256 + number, IpAddr::from(u32::to_be_bytes(0x0a00_0000 + number)));
            sadb.delete_each(&[gone(1).toward(Direction::Out), gone(2).toward(Direction::Out)]).unwrap();
            negotiate(&mut sadb, &mut spd, 3);
        });
        assert_true(&mut witness, &test);
        negotiate(&mut witness, &mut spd, 4);
        assert_true(&mut witness, &test);
        if lived {
            break;
        }
    }
}
