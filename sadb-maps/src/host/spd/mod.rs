//! The SPD: written as a whole, switched with one map update, and looked up in user space as the kernel does
//! (RFC 4301 section 4.4.1, spec sections 4.5 and 8.4).
//!
//! A load writes a generation beside the one in force ([`store`]), with the tables by which the kernel finds the first
//! rule that fits ([`tables`]), adds the outbound bindings of its rules, switches by changing one word, removes the
//! bindings that no rule wants any more, and when no packet can be in sight of it, the old generation. The names of the
//! tunnels that rules refer to are kept beside the maps, one file per generation, so that a tunnel that is created later
//! gives its ends to the rules in force.

pub(super) mod store;
pub mod tables;
#[cfg(test)]
mod tests;
mod vectors;

use super::error::SadbError;
use super::files;
use super::held::Held;
use super::instance::Instance;
use super::sadb::Sadb;
use super::slots;
use super::tunnels::{self, Tunnel, Tunnels};
use crate::Addr;
use crate::abi::MAX_RULES;
use crate::policy::{PolicyHead, Rule, Selectors, rule_flag};
use crate::sa::{BindingKey, Bundle};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use tables::Image;

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
    /// [`SadbError::TooManyRules`], [`SadbError::UnfitRule`], [`SadbError::TooDiverse`], [`SadbError::TooManyBindings`]; maps or files cannot be written.
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
            if sadb.policy.generation()? != generation {
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
        let found = (0..).zip(rules.iter()).find(|(_, rule)| in_scope(rule, scope) && rule.matches(packet, direction));
        Ok(found.map(|(index, rule)| (index, *rule)))
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
    let generation = sadb.policy.generation()?;
    let names: Option<Names> = files::read(&names_path(&sadb.instance, generation)?)?;
    // A file of an older generation with the same parity is left over from a load that was cut short.
    let names = names.filter(|n| n.generation == generation).map(|n| n.tunnels).unwrap_or_default();
    let names = names.into_iter().chain(std::iter::repeat(None));
    Ok(sadb.rules()?.iter().zip(names).map(|(rule, tunnel)| CompiledRule { rule: *rule, tunnel }).collect())
}

fn resolve(instance: &Instance, rules: &mut [CompiledRule]) -> Result<(), SadbError> {
    let tunnels = Tunnels::open(instance)?.list()?;
    let ends: HashMap<&str, (Addr, Addr)> =
        tunnels.iter().map(|t| (t.name.as_str(), (t.local.into(), t.remote.into()))).collect();
    for compiled in rules {
        let Some(name) = &compiled.tunnel else { continue };
        let (local, remote) = ends.get(name.as_str()).copied().unwrap_or_default();
        (compiled.rule.tunnel_local, compiled.rule.tunnel_remote) = (local, remote);
    }
    Ok(())
}

/// Gives the rules in force the ends that their tunnels have now. Under the lock, with the dirty flag raised.
pub(super) fn resolve_in_force(sadb: &mut Sadb) -> Result<(), SadbError> {
    let before = compiled(sadb)?;
    let mut after = before.clone();
    resolve(&sadb.instance, &mut after)?;
    if after == before {
        return Ok(());
    }
    let ready = Ready::new(sadb, after)?;
    put(sadb, &ready).map(drop)
}

fn replace(sadb: &mut Sadb, held: &mut Held, rules: &[CompiledRule]) -> Result<u32, SadbError> {
    if rules.len() > MAX_RULES as usize {
        return Err(SadbError::TooManyRules(rules.len()));
    }
    let mut rules = rules.to_vec();
    resolve(&sadb.instance, &mut rules)?;
    rules.sort_by_key(|c| c.rule.flags & rule_flag::TUNNEL == 0);
    let ready = Ready::new(sadb, rules)?;
    if ready.bindings.len() > sadb.binding_room() as usize {
        return Err(SadbError::TooManyBindings(sadb.binding_room()));
    }
    sadb.begin(held)?;
    put(sadb, &ready)
}

/// All that a load writes.
struct Ready {
    rules: Vec<Rule>,
    tunnels: Vec<Option<String>>,
    image: Image,
    bindings: HashMap<BindingKey, Bundle>,
}

impl Ready {
    /// From rules in their order, with the ends of their tunnels.
    fn new(sadb: &Sadb, rules: Vec<CompiledRule>) -> Result<Self, SadbError> {
        let (mut rules, tunnels): (Vec<_>, _) = rules.into_iter().map(|c| (c.rule, c.tunnel)).unzip();
        let image = Image::new(&mut rules)?;
        let bindings = sadb.wanted(&rules)?;
        Ok(Self { rules, tunnels, image, bindings })
    }
}

/// Puts the rules in force. Gives the generation.
fn put(sadb: &mut Sadb, ready: &Ready) -> Result<u32, SadbError> {
    // Generation 0 is the empty SPD of a new instance; the next even number takes its place when the count wraps.
    let generation = sadb.policy.generation()?.checked_add(1).unwrap_or(2);
    let tunnel_count = ready.rules.iter().filter(|rule| rule.flags & rule_flag::TUNNEL != 0).count() as u32;
    let head = PolicyHead { generation, count: ready.rules.len() as u32, tunnel_count, reserved: 0 };
    sadb.policy.fill(&head, &ready.rules, &ready.image)?;
    let names = Names { generation, tunnels: ready.tunnels.clone() };
    files::replace(&names_path(&sadb.instance, generation)?, &names)?;
    // Every new rule finds its SAs from its first packet on, and every old one up to its last.
    sadb.bind_ahead(&ready.bindings)?;
    sadb.policy.switch(generation)?;
    sadb.rebind()?;
    // A program that read the number of the old generation may still be at its rules.
    slots::grace_period();
    sadb.policy.sweep()?;
    Ok(generation)
}
