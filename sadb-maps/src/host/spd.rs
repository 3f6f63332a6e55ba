//! The SPD: written as a whole, switched with one map update, and looked up in user space as the kernel does
//! (RFC 4301 section 4.4.1, spec sections 4.5 and 8.4).
//!
//! Rules lie in two generations. A load fills the idle one, adds the outbound bindings of its rules, switches the head and
//! removes the bindings that no rule wants any more. The
//! names of the tunnels that rules refer to are kept beside the maps, one file per generation, so that a tunnel that is
//! created later gives its ends to the rules in force.

use super::error::SadbError;
use super::files;
use super::instance::Instance;
use super::sadb::{Held, Sadb};
use super::slots;
use super::tunnels::{self, Tunnel, Tunnels};
use crate::Addr;
use crate::abi::MAX_RULES;
use crate::policy::{PolicyHead, Rule, Selectors, rule_flag};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::path::PathBuf;

/// A rule, and the name of the tunnel it belongs to. The ends of the tunnel are filled in when the rule is written.
#[derive(Clone, Debug, PartialEq)]
pub struct CompiledRule {
    /// The rule.
    pub rule: Rule,
    /// Name of its tunnel; `None` for a host rule, or where the rule carries its ends itself.
    pub tunnel: Option<String>,
}

/// Where a packet is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// On this host: rules that belong to no tunnel.
    Host,
    /// Inside a tunnel with these ends.
    Tunnel {
        /// Outer address of this end.
        local: IpAddr,
        /// Outer address of the other end.
        remote: IpAddr,
    },
}

/// Names of the tunnels of one generation, beside the rules.
#[derive(Serialize, Deserialize)]
struct Names {
    generation: u32,
    tunnels: Vec<Option<String>>,
}

/// The handle on the SPD of an instance.
#[derive(Debug)]
pub struct Spd {
    sadb: Sadb,
}

impl Spd {
    /// Opens the maps of an attached instance.
    ///
    /// # Errors
    /// As [`Sadb::open`].
    pub fn open(instance: &Instance) -> Result<Self, SadbError> {
        Ok(Self { sadb: Sadb::open(instance)? })
    }

    /// Puts these rules, in this order but tunnel rules first, in the place of those in force. Gives the generation.
    ///
    /// # Errors
    /// [`SadbError::TooManyRules`], [`SadbError::TooManyBindings`]; maps or files cannot be written.
    pub fn replace(&mut self, rules: &[CompiledRule]) -> Result<u32, SadbError> {
        self.sadb.locked(|sadb, held| replace(sadb, held, rules))
    }

    /// The rules in force, as the kernel applies them.
    ///
    /// # Errors
    /// A map cannot be read.
    pub fn rules(&mut self) -> Result<Vec<CompiledRule>, SadbError> {
        self.sadb.locked(|sadb, _| compiled(sadb))
    }

    /// The rule that an event refers to, while its generation is in force.
    ///
    /// # Errors
    /// A map cannot be read.
    pub fn rule_at(&mut self, generation: u32, index: u32) -> Result<Option<CompiledRule>, SadbError> {
        self.sadb.locked(|sadb, _| {
            if sadb.policy.head.get(0)?.generation != generation {
                return Ok(None);
            }
            Ok(compiled(sadb)?.into_iter().nth(index as usize))
        })
    }

    /// Lets `edit` hand over the new definitions of the tunnels, and gives their ends to the rules in force that name
    /// them; unspecified where there is none.
    pub(super) fn change_tunnels<T>(
        &mut self,
        edit: impl FnOnce(&mut dyn FnMut(&[Tunnel]) -> Result<(), SadbError>) -> Result<T, SadbError>,
    ) -> Result<T, SadbError> {
        self.sadb.locked(|sadb, held| {
            edit(&mut |tunnels| {
                // From here on whoever comes after a death looks at the definitions.
                sadb.begin(held)?;
                files::replace(&tunnels::path(&sadb.instance)?, &tunnels)?;
                resolve_in_force(sadb)
            })
        })
    }

    /// The first rule in force that the packet fits, and its index: what the kernel would find. `direction` is a bit
    /// of [`direction`](crate::policy::direction). Selectors are those of the inner packet for a tunnel.
    ///
    /// # Errors
    /// A map cannot be read.
    pub fn classify(
        &mut self,
        packet: &Selectors,
        direction: u8,
        scope: Scope,
    ) -> Result<Option<(u32, Rule)>, SadbError> {
        let rules = self.sadb.rules()?;
        Ok((0..).zip(rules).find(|(_, rule)| in_scope(rule, scope) && rule.matches(packet, direction)))
    }
}

fn in_scope(rule: &Rule, scope: Scope) -> bool {
    let tunnel = rule.flags & rule_flag::TUNNEL != 0;
    match scope {
        Scope::Host => !tunnel,
        Scope::Tunnel { local, remote } => {
            tunnel && rule.tunnel_local == Addr::from(local) && rule.tunnel_remote == Addr::from(remote)
        }
    }
}

/// File with the tunnel names of the generation.
fn names_path(instance: &Instance, generation: u32) -> Result<PathBuf, SadbError> {
    Ok(instance.run_dir()?.join(format!("policy-{}.json", generation & 1)))
}

/// The rules in force with the names of their tunnels.
fn compiled(sadb: &Sadb) -> Result<Vec<CompiledRule>, SadbError> {
    let generation = sadb.policy.head.get(0)?.generation;
    let names: Option<Names> = files::read(&names_path(&sadb.instance, generation)?)?;
    // A file of an older generation with the same parity is left over from a load that was cut short.
    let names = names.filter(|n| n.generation == generation).map(|n| n.tunnels).unwrap_or_default();
    let names = names.into_iter().chain(std::iter::repeat(None));
    Ok(sadb.rules()?.into_iter().zip(names).map(|(rule, tunnel)| CompiledRule { rule, tunnel }).collect())
}

fn resolve(instance: &Instance, rules: &mut [CompiledRule]) -> Result<(), SadbError> {
    let tunnels = Tunnels::open(instance)?.list()?;
    for compiled in rules {
        let Some(name) = &compiled.tunnel else { continue };
        let tunnel = tunnels.iter().find(|t| t.name == *name);
        compiled.rule.tunnel_local = tunnel.map(|t| t.local.into()).unwrap_or_default();
        compiled.rule.tunnel_remote = tunnel.map(|t| t.remote.into()).unwrap_or_default();
    }
    Ok(())
}

/// Gives the rules in force the ends that their tunnels have now. Under the lock, with the dirty flag raised.
pub(super) fn resolve_in_force(sadb: &mut Sadb) -> Result<(), SadbError> {
    let before = compiled(sadb)?;
    let mut after = before.clone();
    resolve(&sadb.instance, &mut after)?;
    if after == before { Ok(()) } else { put(sadb, after).map(drop) }
}

fn replace(sadb: &mut Sadb, held: &mut Held, rules: &[CompiledRule]) -> Result<u32, SadbError> {
    if rules.len() > MAX_RULES as usize {
        return Err(SadbError::TooManyRules(rules.len()));
    }
    let mut rules = rules.to_vec();
    resolve(&sadb.instance, &mut rules)?;
    rules.sort_by_key(|c| c.rule.flags & rule_flag::TUNNEL == 0);
    let wanted = sadb.wanted(&rows(&rules))?;
    if wanted.len() > sadb.binding_room() as usize {
        return Err(SadbError::TooManyBindings(sadb.binding_room()));
    }
    sadb.begin(held)?;
    put(sadb, rules)
}

fn rows(rules: &[CompiledRule]) -> Vec<Rule> {
    rules.iter().map(|compiled| compiled.rule).collect()
}

/// Puts the rules, whose ends are filled in, in force. Gives the generation.
fn put(sadb: &mut Sadb, rules: Vec<CompiledRule>) -> Result<u32, SadbError> {
    let tunnels = rules.iter().filter(|c| c.rule.flags & rule_flag::TUNNEL != 0).count();
    // Generation 0 is the empty SPD of a new instance; the next even number takes its place when the count wraps.
    let generation = sadb.policy.head.get(0)?.generation.checked_add(1).unwrap_or(2);
    // A program that read the head before the last load may still be at the rules that are about to be overwritten.
    slots::grace_period();
    let rows = rows(&rules);
    sadb.policy.fill(generation, &rows)?;
    let count = rows.len() as u32;
    let names = Names { generation, tunnels: rules.into_iter().map(|c| c.tunnel).collect() };
    files::replace(&names_path(&sadb.instance, generation)?, &names)?;
    // Every new rule finds its SAs from its first packet on, and every old one up to its last.
    let wanted = sadb.wanted(&rows)?;
    sadb.bind_ahead(&wanted)?;
    sadb.policy.switch(&PolicyHead { generation, count, tunnel_count: tunnels as u32, reserved: 0 })?;
    sadb.rebind()?;
    Ok(generation)
}

#[cfg(test)]
mod tests {
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
        assert_eq!(spd.sadb.policy.head.get(0).unwrap().tunnel_count, 1);
        assert_eq!(spd.rule_at(2, 1).unwrap().unwrap().rule.action_id, 8);
        assert_eq!(spd.rule_at(1, 1).unwrap(), None);
        spd.replace(&[]).unwrap();
        assert!(bound(&spd).is_empty());
        assert!(matches!(spd.replace(&vec![host_rule(1); 65]), Err(SadbError::TooManyRules(65))));
    }

    #[test]
    fn rules_get_their_ends_when_the_tunnel_comes() {
        let test = TestInstance::with_maps(4).unwrap();
        let mut spd = Spd::open(&test).unwrap();
        spd.replace(&[tunnel_rule(9)]).unwrap();
        assert!(spd.rules().unwrap()[0].rule.tunnel_local.is_unspecified());
        let tunnel = Tunnel { name: "vpn0".into(), local: ip("192.0.2.1"), remote: ip("198.51.100.7") };
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
            let packet =
                Selectors { laddr: ends.0.into(), raddr: ends.1.into(), proto: 6, rport, ..Selectors::default() };
            spd.classify(&packet, direction::OUT, scope).unwrap().map(|(i, r)| (i, r.action_id))
        };
        assert_eq!(find(443, Scope::Host), Some((1, 1)));
        assert_eq!(find(80, Scope::Host), Some((2, 2)));
        assert_eq!(find(80, Scope::Tunnel { local: ends.0, remote: ends.1 }), Some((0, 3)));
        assert_eq!(find(80, Scope::Tunnel { local: ends.1, remote: ends.0 }), None);
    }

    /// What a program sees of the SPD now: rules that can match, by the head as it lies there, and bound actions.
    fn seen(test: &TestInstance) -> (Vec<u64>, Vec<u64>) {
        let maps = super::super::maps::PolicyMaps::open(test).unwrap();
        let head = maps.head.get(0).unwrap();
        let first = (head.generation & 1) * MAX_RULES;
        let rules = (first..first + head.count).map(|i| maps.rules.get(i).unwrap());
        let ids = rules.filter(|rule| rule.directions != 0).map(|rule| rule.action_id).collect();
        let bindings = super::super::maps::SaMaps::open(test).unwrap().outbound.keys().unwrap();
        (ids, bindings.iter().map(|key| key.action).collect())
    }

    #[test]
    fn at_every_moment_of_a_load_the_rules_in_force_are_whole_and_bound() {
        let test = TestInstance::with_maps(4).unwrap();
        let mut spd = Spd::open(&test).unwrap();
        spd.sadb.add(&sa()).unwrap();
        let (few, many) = (vec![host_rule(1)], vec![host_rule(2), host_rule(3), host_rule(4)]);
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
    fn a_head_that_is_seen_half_written_shows_no_rules_of_the_past() {
        let test = TestInstance::with_maps(4).unwrap();
        let mut spd = Spd::open(&test).unwrap();
        for count in [3, 3, 1, 2] {
            spd.replace(&vec![host_rule(1); count]).unwrap();
        }
        // The generation of one write of the head with the count of another.
        let able: Vec<_> = (0..2 * MAX_RULES)
            .filter(|index| spd.sadb.policy.rules.get(*index).unwrap().directions != 0)
            .map(|index| index % MAX_RULES)
            .collect();
        assert_eq!(able, [0, 1, 0]);
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
            if lived {
                break;
            }
        }
        spd.sadb.delete(&SaKey { direction: Direction::Out, ..SaKey::new(ESP, 5, ip("198.51.100.7")) }).unwrap();
    }
}
