//! Changes to the policy in force: add, replace, delete, flush (spec sections 4.1, 4.5).
//!
//! Every change computes the whole list of rules and puts it in place with one switch; the cache follows. The lock of
//! the cache is held throughout, so two tools cannot build on the same old list.

use super::cache::{self, Cache, Cached};
use super::compile::{self, Compiled};
use super::entry::Entry;
use super::{Malformed, PolicyFile, Problem, Warning};
use sadb_maps::abi::MAX_RULES;
use sadb_maps::host::spd::{CompiledRule, Spd};
use sadb_maps::host::tunnels::Tunnels;
use sadb_maps::host::{Instance, InstanceError, SadbError};
use std::collections::{HashMap, HashSet};
use std::io;
use std::net::IpAddr;

/// A part of the policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Host rules.
    Host,
    /// The rules of one tunnel.
    Tunnel(String),
    /// Everything.
    All,
}

impl Part {
    /// Whether a rule with this tunnel belongs to the part.
    pub fn holds(&self, tunnel: Option<&str>) -> bool {
        match self {
            Self::Host => tunnel.is_none(),
            Self::Tunnel(name) => tunnel == Some(name.as_str()),
            Self::All => true,
        }
    }
}

/// Why the policy was not changed.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file has errors; nothing was installed.
    #[error("{} of the rules are bad; nothing was changed", .1.len())]
    Bad(Vec<Problem>, Vec<Malformed>),
    /// More rules than the data path holds.
    #[error("the policy would have {0} rules, but this release holds {MAX_RULES}; join rules or use prefixes")]
    TooMany(usize),
    /// Nothing with this index.
    #[error("there is no entry with #INDEX {0}; 'ipsecconf' lists the entries")]
    NoIndex(String),
    /// The maps.
    #[error(transparent)]
    Sadb(#[from] SadbError),
    /// The instance.
    #[error(transparent)]
    Instance(#[from] InstanceError),
    /// The cache or its lock.
    #[error("policy cache: {0}")]
    Cache(#[from] io::Error),
}

/// What a load did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Entries that were added.
    pub added: usize,
    /// Warnings of the load itself: duplicates, tunnels that do not exist yet.
    pub warnings: Vec<Warning>,
}

/// What a removal did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Entries of the policy that went.
    pub count: usize,
    /// Entries of the file that the policy does not have.
    pub missing: Vec<Entry>,
}

/// The policy of an instance.
pub struct Policy {
    spd: Spd,
    cache: Cache,
    tunnels: Tunnels,
}

impl Policy {
    /// Opens the policy of an attached instance.
    ///
    /// # Errors
    /// Not attached, another network namespace, another version; the run directory cannot be made.
    pub fn open(instance: &Instance) -> Result<Self, LoadError> {
        let spd = Spd::open(instance)?;
        Ok(Self { spd, cache: Cache::new(&instance.run_dir()?), tunnels: Tunnels::open(instance)? })
    }

    /// The rules in force, in the order in which they are compared.
    ///
    /// # Errors
    /// A map cannot be read.
    pub fn rules(&mut self) -> Result<Vec<CompiledRule>, LoadError> {
        Ok(self.spd.rules()?)
    }

    /// The loaded entries as typed.
    ///
    /// # Errors
    /// Maps or cache cannot be read.
    pub fn entries(&mut self) -> Result<Vec<Cached>, LoadError> {
        Ok(self.without(|_| false)?.1)
    }

    /// Adds the entries of a file; with `instead_of` they take the place of that part, in one step.
    ///
    /// # Errors
    /// [`LoadError::Bad`] when one entry is bad; then nothing has changed. [`LoadError::TooMany`]; maps and cache.
    pub fn add(&mut self, file: &PolicyFile, instead_of: Option<&Part>) -> Result<Loaded, LoadError> {
        let _lock = self.cache.lock()?;
        let (rules, mut entries) = self.without(|rule| instead_of.is_some_and(|p| p.holds(rule.tunnel.as_deref())))?;
        let first_index = self.first_index(!rules.is_empty(), file.entries.len())?;
        let defined = self.tunnels.list()?;
        let ends = |name: &str| -> Option<(IpAddr, IpAddr)> {
            defined.iter().find(|t| t.name == name).map(|t| (t.local, t.remote))
        };
        let Compiled { rules, indexes, problems, malformed, warnings } =
            compile::compile(rules, &file.entries, first_index, &ends);
        if !problems.is_empty() {
            return Err(LoadError::Bad(problems, malformed));
        }
        let before = entries.len();
        for (entry, index) in file.entries.iter().zip(indexes) {
            entries.extend(index.map(|index| Cached { index, text: entry.text.clone() }));
        }
        let added = entries.len() - before;
        self.put(&rules, &entries)?;
        Ok(Loaded { added, warnings })
    }

    /// Deletes the rules of a part.
    ///
    /// # Errors
    /// Maps and cache.
    pub fn flush(&mut self, part: &Part) -> Result<(), LoadError> {
        let _lock = self.cache.lock()?;
        let (rules, entries) = self.without(|rule| part.holds(rule.tunnel.as_deref()))?;
        self.put(&rules, &entries)
    }

    /// Deletes the entry with this index, which must belong to `tunnel` if one is given.
    ///
    /// # Errors
    /// [`LoadError::NoIndex`]; maps and cache.
    pub fn delete(&mut self, index: u32, tunnel: Option<&str>) -> Result<(), LoadError> {
        let _lock = self.cache.lock()?;
        let before = self.spd.rules()?.len();
        let (rules, entries) = self.without(|rule| rule.rule.index == index && rule.tunnel.as_deref() == tunnel)?;
        if rules.len() == before {
            return Err(LoadError::NoIndex(tunnel.map_or(index.to_string(), |t| format!("{t},{index}"))));
        }
        self.put(&rules, &entries)
    }

    /// Deletes every entry whose text, blanks and comments aside, is that of an entry of the file.
    ///
    /// # Errors
    /// Maps and cache.
    pub fn remove(&mut self, file: &PolicyFile) -> Result<Removed, LoadError> {
        let _lock = self.cache.lock()?;
        let mut loaded: HashMap<Vec<String>, Vec<u32>> = HashMap::new();
        for cached in self.without(|_| false)?.1 {
            loaded.entry(cache::words(&cached.text)).or_default().push(cached.index);
        }
        let (mut gone, mut removed) = (HashSet::<u32>::new(), Removed::default());
        for entry in &file.entries {
            match loaded.get(&cache::words(&entry.text)) {
                Some(indexes) => gone.extend(indexes),
                None => removed.missing.push(entry.clone()),
            }
        }
        removed.count = gone.len();
        let (rules, entries) = self.without(|rule| gone.contains(&rule.rule.index))?;
        self.put(&rules, &entries)?;
        Ok(removed)
    }

    /// Rules and entries that are left when the rules that `gone` picks go. An entry goes with its rules.
    fn without(&mut self, gone: impl Fn(&CompiledRule) -> bool) -> Result<(Vec<CompiledRule>, Vec<Cached>), LoadError> {
        let (gone, kept): (Vec<_>, Vec<_>) = self.spd.rules()?.into_iter().partition(gone);
        let mut entries = self.cache.read()?;
        let indexes: HashSet<u32> = kept.iter().map(|rule| rule.rule.index).collect();
        // Also drops what is not in force: entries of a change that died before its switch, or that it was to replace.
        entries.retain(|e| indexes.contains(&e.index));
        debug_assert!(gone.iter().all(|g| !indexes.contains(&g.rule.index)), "an entry goes as a whole");
        Ok((kept, entries))
    }

    /// Index for the first of `count` new entries: none of them may be in use, not even by an entry that goes.
    fn first_index(&mut self, some_stay: bool, count: usize) -> Result<u32, LoadError> {
        let used: Vec<u32> = self.spd.rules()?.iter().map(|r| r.rule.index).collect();
        match (used.iter().min(), used.iter().max()) {
            (Some(least), _) if !some_stay && (count as u64) < u64::from(*least) => Ok(1),
            (_, Some(last)) => Ok(last.saturating_add(1)),
            _ => Ok(1),
        }
    }

    /// Puts rules and cache in place. The cache is written before the switch and renamed after it.
    fn put(&mut self, rules: &[CompiledRule], entries: &[Cached]) -> Result<(), LoadError> {
        if rules.len() > MAX_RULES as usize {
            return Err(LoadError::TooMany(rules.len()));
        }
        let staged = self.cache.stage(entries)?;
        self.spd.replace(rules)?;
        Ok(staged.commit()?)
    }
}

/// What can be said about a file without an instance: what is wrong whatever tunnels and rules there are.
///
/// # Errors
/// [`LoadError::Bad`], [`LoadError::TooMany`].
pub fn check(file: &PolicyFile) -> Result<Loaded, LoadError> {
    let unknown: IpAddr = std::net::Ipv4Addr::UNSPECIFIED.into();
    let Compiled { rules, indexes, problems, malformed, warnings } =
        compile::compile(Vec::new(), &file.entries, 1, &|_| Some((unknown, unknown)));
    if !problems.is_empty() {
        return Err(LoadError::Bad(problems, malformed));
    }
    if rules.len() > MAX_RULES as usize {
        return Err(LoadError::TooMany(rules.len()));
    }
    Ok(Loaded { added: indexes.into_iter().flatten().count(), warnings })
}
