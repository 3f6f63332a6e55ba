//! The maps of the SPD: the generation in force, and the writing of the next one beside it.

use super::super::error::SadbError;
use super::super::instance::Instance;
use super::super::maps::{Slots, Table, Trie};
use super::tables::Image;
use crate::Addr;
use crate::abi::map;
use crate::policy::{PolicyHead, Rule};
use crate::spd::{AddressKey, Chunk, Class, Page, TunnelKey, numbered, parity};
#[cfg(test)]
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

/// See the module. Every key has the parity of its generation, so the two never touch each other.
pub(in super::super) struct PolicyMaps {
    head: Slots<u32>,
    generations: Slots<PolicyHead>,
    rules: Table<u32, Rule>,
    addresses: Trie<AddressKey, u32>,
    chunks: Table<u32, Chunk>,
    tunnels: Table<TunnelKey, u32>,
    classes: Table<u32, Class>,
    pages: Table<u32, Page>,
    /// The rules of a generation once read: while it is in force they do not change.
    read: Mutex<Option<(u32, Arc<[Rule]>)>>,
}

impl PolicyMaps {
    pub(in super::super) fn open(instance: &Instance) -> Result<Self, SadbError> {
        Ok(Self {
            head: Slots::open(instance, map::SPD_HEAD)?,
            generations: Slots::open(instance, map::SPD_GENERATIONS)?,
            rules: Table::open(instance, map::SPD_RULES)?,
            addresses: Trie::open(instance, map::SPD_ADDRESSES)?,
            chunks: Table::open(instance, map::SPD_CHUNKS)?,
            tunnels: Table::open(instance, map::SPD_TUNNELS)?,
            classes: Table::open(instance, map::SPD_CLASSES)?,
            pages: Table::open(instance, map::SPD_PAGES)?,
            read: Mutex::default(),
        })
    }

    /// Number of the generation in force.
    pub(in super::super) fn generation(&self) -> Result<u32, SadbError> {
        self.head.get(0)
    }

    /// The generation in force.
    pub(in super::super) fn head(&self) -> Result<PolicyHead, SadbError> {
        self.generations.get(self.generation()? & 1)
    }

    /// The rules of the generation in force, in their order.
    pub(in super::super) fn in_force(&self) -> Result<Arc<[Rule]>, SadbError> {
        let head = self.head()?;
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, rules)) = read.as_ref().filter(|(generation, _)| *generation == head.generation) {
            return Ok(rules.clone());
        }
        let rule = |index| self.rules.get(&numbered(head.generation, index))?.ok_or(SadbError::NotFound);
        let rules: Arc<[Rule]> = (0..head.count).map(rule).collect::<Result<_, SadbError>>()?;
        *read = Some((head.generation, rules.clone()));
        Ok(rules)
    }

    /// Writes a generation that is not in force. Nothing of its parity is there.
    pub(super) fn fill(&mut self, head: &PolicyHead, rules: &[Rule], image: &Image) -> Result<(), SadbError> {
        let generation = head.generation;
        for (index, rule) in (0..).zip(rules) {
            self.rules.insert(&numbered(generation, index), rule)?;
        }
        for (number, page) in (0..).zip(&image.pages) {
            self.pages.insert(&numbered(generation, number), page)?;
        }
        for (number, class) in &image.classes {
            self.classes.insert(&numbered(generation, *number), class)?;
        }
        for (number, chunk) in &image.chunks {
            self.chunks.insert(&numbered(generation, *number), chunk)?;
        }
        for (prefix, class) in &image.addresses {
            let key = AddressKey { parity: (generation & 1) as u8, ..prefix.key };
            self.addresses.insert(prefix.bits, &key, &u32::from(*class))?;
        }
        for ((local, remote), scope) in &image.tunnels {
            self.tunnels.insert(&tunnel_key(generation, local, remote), scope)?;
        }
        self.generations.set(generation & 1, head)
    }

    /// Puts a generation in force: one word changes.
    pub(super) fn switch(&mut self, generation: u32) -> Result<(), SadbError> {
        self.head.set(0, &generation)
    }

    /// Removes whatever there is of the generation that is not in force. No program may still be at work with it
    /// ([`grace_period`](super::super::slots::grace_period)).
    pub(in super::super) fn sweep(&mut self) -> Result<(), SadbError> {
        let idle = (self.generation()? & 1) ^ 1;
        for key in self.rules.keys()?.iter().filter(|key| parity(**key) == idle) {
            self.rules.remove(key)?;
        }
        for key in self.pages.keys()?.iter().filter(|key| parity(**key) == idle) {
            self.pages.remove(key)?;
        }
        for key in self.classes.keys()?.iter().filter(|key| parity(**key) == idle) {
            self.classes.remove(key)?;
        }
        for key in self.chunks.keys()?.iter().filter(|key| parity(**key) == idle) {
            self.chunks.remove(key)?;
        }
        for key in self.tunnels.keys()?.iter().filter(|key| parity(key.generation) == idle) {
            self.tunnels.remove(key)?;
        }
        for (bits, key) in self.addresses.keys()?.iter().filter(|(_, key)| u32::from(key.parity) == idle) {
            self.addresses.remove(*bits, key)?;
        }
        Ok(())
    }
}

fn tunnel_key(generation: u32, local: &Addr, remote: &Addr) -> TunnelKey {
    TunnelKey { generation: numbered(generation, 0), local: *local, remote: *remote }
}

#[cfg(test)]
impl PolicyMaps {
    /// Whether what lies in the maps for the generation in force is what its rules make.
    pub(super) fn is_whole(&self) -> bool {
        let head = self.head().unwrap();
        let rules = self.in_force().unwrap();
        let mut again = rules.to_vec();
        let image = Image::new(&mut again).unwrap();
        let own = |key: u32| numbered(head.generation, key);
        head.generation == self.generation().unwrap()
            && again[..] == rules[..]
            && (0..).zip(&image.pages).all(|(n, page)| self.pages.get(&own(n)).unwrap() == Some(*page))
            && image.classes.iter().all(|(n, class)| self.classes.get(&own(*n)).unwrap() == Some(*class))
            && image.chunks.iter().all(|(n, chunk)| self.chunks.get(&own(*n)).unwrap() == Some(*chunk))
            && image
                .tunnels
                .iter()
                .all(|((l, r), scope)| self.tunnels.get(&tunnel_key(head.generation, l, r)).unwrap() == Some(*scope))
            && {
                let parity = (head.generation & 1) as u8;
                let keys: HashSet<_> = self.addresses.keys().unwrap().into_iter().collect();
                let there = |p: &super::tables::Prefix| keys.contains(&(p.bits, AddressKey { parity, ..p.key }));
                image.addresses.iter().all(|(prefix, _)| there(prefix))
            }
    }

    /// Whether nothing else lies there.
    pub(super) fn is_alone(&self) -> bool {
        let rules = self.in_force().unwrap();
        let image = Image::new(&mut rules.to_vec()).unwrap();
        let entries = self.rules.keys().unwrap().len()
            + self.addresses.keys().unwrap().len()
            + self.chunks.keys().unwrap().len()
            + self.tunnels.keys().unwrap().len()
            + self.classes.keys().unwrap().len()
            + self.pages.keys().unwrap().len();
        entries == rules.len() + image.entries()
    }
}
