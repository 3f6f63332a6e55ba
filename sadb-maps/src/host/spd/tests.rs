//! The SPD in its maps, and the death of a load at every write.

use super::store::PolicyMaps;
use super::*;
use crate::host::spec::{Direction, SaKey, SaSpec};
use crate::host::testing::TestInstance;
use crate::host::{SecretKey, fault};
use crate::policy::{Action, MAX_ACTIONS, direction, verdict};
use crate::sa::{ESP, encr};
use bytemuck::Zeroable;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn host_rule(id: u64) -> CompiledRule {
    let mut actions = [Action::default(); MAX_ACTIONS];
    actions[0] = Action { encr: encr::CHACHA20_POLY1305, encr_bits: [256, 256], ..Action::default() };
    let rule = Rule {
        verdict: verdict::PROTECT,
        directions: direction::IN | direction::OUT,
        action_id: id,
        action_count: 1,
        lport: [0, u16::MAX],
        rport: [0, u16::MAX],
        actions,
        ..Rule::zeroed()
    };
    CompiledRule { rule, tunnel: None }
}

fn tunnel_rule(id: u64) -> CompiledRule {
    let rule = Rule { flags: rule_flag::TUNNEL, tunnel_mode: 1, ..host_rule(id).rule };
    CompiledRule { rule, tunnel: Some("vpn0".into()) }
}

fn sa() -> SaSpec {
    SaSpec {
        encr: encr::CHACHA20_POLY1305,
        key: SecretKey::new(vec![3; 32]),
        salt: SecretKey::new(vec![1; 4]),
        direction: Direction::Out,
        ..SaSpec::new(ESP, 5, ip("192.0.2.1"), ip("198.51.100.7"))
    }
}

#[test]
fn a_load_replaces_everything_and_rebinds() {
    let test = TestInstance::with_maps(4).unwrap();
    let mut spd = Spd::open(&test).unwrap();
    assert_eq!(spd.rules().unwrap(), []);
    let slot = spd.sadb.add(&sa()).unwrap();
    let bound = |spd: &Spd| -> Vec<u64> {
        let entries = spd.sadb.maps.outbound.entries().unwrap();
        assert!(entries.iter().all(|(_, bundle)| bundle.sa[0] == slot));
        entries.iter().map(|(key, _)| key.action).collect()
    };
    assert!(bound(&spd).is_empty());
    assert_eq!(spd.replace(&[host_rule(7)]).unwrap(), 1);
    assert_eq!(bound(&spd), [7]);
    assert_eq!(spd.replace(&[host_rule(8), tunnel_rule(9)]).unwrap(), 2);
    assert_eq!(bound(&spd), [8]);
    let ids: Vec<_> = Spd::open(&test).unwrap().rules().unwrap().iter().map(|c| c.rule.action_id).collect();
    assert_eq!(ids, [9, 8], "tunnel rules come first");
    assert_eq!(spd.sadb.policy.head().unwrap().tunnel_count, 1);
    assert_eq!(spd.rule_at(2, 1).unwrap().unwrap().rule.action_id, 8);
    assert_eq!(spd.rule_at(1, 1).unwrap(), None);
    spd.replace(&[]).unwrap();
    assert!(bound(&spd).is_empty());
    let many = MAX_RULES as usize + 1;
    assert!(matches!(spd.replace(&vec![host_rule(1); many]), Err(SadbError::TooManyRules(n)) if n == many));
}

#[test]
fn rules_get_their_ends_when_the_tunnel_comes() {
    let test = TestInstance::with_maps(4).unwrap();
    let mut spd = Spd::open(&test).unwrap();
    spd.replace(&[tunnel_rule(9)]).unwrap();
    assert!(spd.rules().unwrap()[0].rule.tunnel_local.is_unspecified());
    let tunnel = Tunnel::new("vpn0", ip("192.0.2.1"), ip("198.51.100.7"));
    Tunnels::open(&test).unwrap().create(tunnel).unwrap();
    let rules = spd.rules().unwrap();
    assert_eq!(rules[0].rule.tunnel_remote, ip("198.51.100.7").into());
    assert_eq!(rules[0].tunnel.as_deref(), Some("vpn0"));
    Tunnels::open(&test).unwrap().delete("vpn0").unwrap();
    assert!(spd.rules().unwrap()[0].rule.tunnel_local.is_unspecified());
}

#[test]
fn user_space_finds_what_the_kernel_would() {
    let test = TestInstance::with_maps(4).unwrap();
    let mut spd = Spd::open(&test).unwrap();
    let narrow = CompiledRule { rule: Rule { proto: 6, rport: [443, 443], ..host_rule(1).rule }, tunnel: None };
    let ends = (ip("192.0.2.1"), ip("198.51.100.7"));
    let mut inside = tunnel_rule(3);
    (inside.tunnel, inside.rule.tunnel_local, inside.rule.tunnel_remote) = (None, ends.0.into(), ends.1.into());
    spd.replace(&[narrow, host_rule(2), inside]).unwrap();
    let mut find = |rport, scope| {
        let packet = Selectors { laddr: ends.0.into(), raddr: ends.1.into(), proto: 6, rport, ..Selectors::default() };
        spd.classify(&packet, direction::OUT, scope).unwrap().map(|(i, r)| (i, r.action_id))
    };
    assert_eq!(find(443, Scope::Host), Some((1, 1)));
    assert_eq!(find(80, Scope::Host), Some((2, 2)));
    assert_eq!(find(80, Scope::Tunnel { local: ends.0, remote: ends.1 }), Some((0, 3)));
    assert_eq!(find(80, Scope::Tunnel { local: ends.1, remote: ends.0 }), None);
}

/// What a program sees of the SPD now: the actions of the rules in force, and of the bindings. The tables must be those of
/// these rules.
fn seen(test: &TestInstance) -> (Vec<u64>, Vec<u64>) {
    let maps = PolicyMaps::open(test).unwrap();
    assert!(maps.generation().unwrap() == 0 || maps.is_whole());
    let ids = maps.in_force().unwrap().iter().map(|rule| rule.action_id).collect();
    let bindings = super::super::maps::SaMaps::open(test).unwrap().outbound.keys().unwrap();
    (ids, bindings.iter().map(|key| key.action).collect())
}

#[test]
fn at_every_moment_of_a_load_the_rules_in_force_are_whole_and_bound() {
    let test = TestInstance::with_maps(4).unwrap();
    let mut spd = Spd::open(&test).unwrap();
    spd.sadb.add(&sa()).unwrap();
    let narrow = |id: u64| {
        let rule = Rule {
            proto: 6,
            rport: [80, 90],
            raddr: ip("198.51.100.7").into(),
            rmask: Addr::mask(128),
            ..host_rule(id).rule
        };
        CompiledRule { rule, tunnel: None }
    };
    let (few, many) = (vec![host_rule(1)], vec![narrow(2), host_rule(3), narrow(4)]);
    for (from, to) in [(&few, &many), (&many, &few)] {
        for n in 1.. {
            spd.replace(from).unwrap();
            let lived = fault::survives(n, || {
                Spd::open(&test).unwrap().replace(to).unwrap();
            });
            let (ids, bound) = seen(&test);
            let list = |rules: &[CompiledRule]| rules.iter().map(|c| c.rule.action_id).collect::<Vec<_>>();
            assert!(ids == list(from) || ids == list(to), "write {n}: {ids:?}");
            assert!(ids.iter().all(|id| bound.contains(id)), "write {n}: {ids:?} of {bound:?}");
            if lived {
                break;
            }
        }
    }
}

#[test]
fn more_bindings_than_there_is_room_for_are_refused_and_break_nothing() {
    let test = TestInstance::with_maps(2).unwrap();
    let mut spd = Spd::open(&test).unwrap();
    spd.sadb.add(&sa()).unwrap();
    let rules = |n: u64| (1..=n).map(host_rule).collect::<Vec<_>>();
    spd.replace(&rules(4)).unwrap();
    assert!(matches!(spd.replace(&rules(5)), Err(SadbError::TooManyBindings(4))));
    assert_eq!(spd.rules().unwrap(), rules(4));
    spd.sadb.flush(None).unwrap();
    spd.replace(&rules(5)).unwrap();
    assert!(matches!(spd.sadb.add(&sa()), Err(SadbError::TooManyBindings(4))));
    assert!(spd.sadb.dump(None).unwrap().is_empty());
    assert!(spd.sadb.maps.outbound.keys().unwrap().is_empty());
    // Full, and all of it replaced.
    spd.replace(&rules(4)).unwrap();
    spd.sadb.add(&sa()).unwrap();
    spd.replace(&(11..15).map(host_rule).collect::<Vec<_>>()).unwrap();
    assert_eq!(spd.sadb.maps.outbound.keys().unwrap().len(), 4);
}

#[test]
fn a_dead_sa_is_bound_by_no_load() {
    let test = TestInstance::with_maps(4).unwrap();
    let mut spd = Spd::open(&test).unwrap();
    let old = spd.sadb.add(&sa()).unwrap();
    let new = spd.sadb.add(&SaSpec { spi: 6, ..sa() }).unwrap();
    let moving = spd.sadb.maps.states.get(new.slot).unwrap();
    let dead = crate::sa::SaState { state: crate::sa::state::DEAD.into(), ..moving };
    spd.sadb.maps.states.set(new.slot, &dead).unwrap();
    spd.replace(&[host_rule(1)]).unwrap();
    let entries = spd.sadb.maps.outbound.entries().unwrap();
    assert_eq!(entries.iter().map(|(_, bundle)| bundle.sa[0]).collect::<Vec<_>>(), [old]);
}

#[test]
fn a_load_killed_at_any_write_leaves_the_old_rules_or_the_new() {
    let test = TestInstance::with_maps(4).unwrap();
    let mut spd = Spd::open(&test).unwrap();
    spd.sadb.add(&sa()).unwrap();
    for n in 1.. {
        spd.replace(&[host_rule(1)]).unwrap();
        let lived = fault::survives(n, || {
            Spd::open(&test).unwrap().replace(&[host_rule(2), host_rule(3)]).unwrap();
        });
        let mut other = Spd::open(&test).unwrap();
        let mut ids: Vec<_> = other.rules().unwrap().iter().map(|c| c.rule.action_id).collect();
        assert!(ids == [1] || ids == [2, 3], "write {n}: {ids:?}");
        let mut bound: Vec<_> = other.sadb.maps.outbound.keys().unwrap().iter().map(|k| k.action).collect();
        ids.sort();
        bound.sort();
        assert_eq!(bound, ids, "write {n}");
        assert!(other.sadb.policy.is_whole() && other.sadb.policy.is_alone(), "write {n}");
        if lived {
            break;
        }
    }
    spd.sadb.delete(&SaKey { direction: Direction::Out, ..SaKey::new(ESP, 5, ip("198.51.100.7")) }).unwrap();
}

#[test]
fn as_many_rules_as_fit_are_loaded_and_leave_nothing_behind() {
    let test = TestInstance::with_maps(4).unwrap();
    let mut spd = Spd::open(&test).unwrap();
    let narrow = |n: u32| {
        let rule = Rule {
            raddr: Addr::v4(n.to_be()),
            rmask: Addr::mask(128),
            lport: [n as u16, n as u16],
            ..host_rule(u64::from(n) + 1).rule
        };
        CompiledRule { rule, tunnel: None }
    };
    let rules: Vec<_> = (0..MAX_RULES).map(narrow).collect();
    for _ in 0..2 {
        spd.replace(&rules).unwrap();
        assert_eq!(spd.rules().unwrap(), rules);
        assert!(spd.sadb.policy.is_whole() && spd.sadb.policy.is_alone());
    }
    spd.replace(&[]).unwrap();
    assert!(spd.sadb.policy.is_whole() && spd.sadb.policy.is_alone());
    let crooked = Rule { rmask: Addr([0, u32::MAX, 0, 0]), ..host_rule(1).rule };
    let refused = spd.replace(&[host_rule(1), CompiledRule { rule: crooked, tunnel: None }]);
    assert!(matches!(refused, Err(SadbError::UnfitRule { index: 1, .. })));
}
