//! The maps of an instance as a table: type, sizes, number of entries.
//!
//! The object in [`loader`](super::loader) declares the same maps; this table sizes them by capacity, checks what is
//! pinned before anything is written to it, and lets tests make the maps without loading a program.

use super::error::SadbError;
use super::instance::{Instance, InstanceError};
#[cfg(any(test, feature = "testing"))]
use super::raw::{RawMap, Shape};
use crate::abi::{Config, Header, MAX_QUEUES, MAX_RULES, Outer, map};
use crate::counter::COUNTERS;
use crate::policy::{PolicyHead, Rule};
use crate::sa::{
    BindingKey, BlowfishState, Bundle, GhashTable, Identities, InboundKey, KeyText, MAX_WINDOW_PAGES, PathMtu, SaState,
    SaStatic, SlotRef, Window, WindowPage, WindowPageKey,
};
use crate::slow::{RING, SlowState};
use crate::spd::{
    AddressKey, Chunk, Class, FLOW_SETS, FlowSet, MAX_CHUNKS, MAX_CLASSES, MAX_PAGES, MAX_PREFIXES, Page, TunnelKey,
};
use aya::maps::MapInfo;
use aya::maps::lpm_trie::Key as LpmKey;

/// Number of entries of a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entries {
    /// Whatever the capacity.
    Fixed(u32),
    /// That many per SA slot.
    PerSlot(u32),
    /// At least that many, as the object declares; octets for a ring buffer.
    Declared(u32),
}

/// Map type numbers of bpf(2) that we use.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `BPF_MAP_TYPE_HASH`.
    Hash = 1,
    /// `BPF_MAP_TYPE_ARRAY`.
    Array = 2,
    /// `BPF_MAP_TYPE_PERCPU_ARRAY`.
    PerCpuArray = 6,
    /// `BPF_MAP_TYPE_LRU_HASH`.
    LruHash = 9,
    /// `BPF_MAP_TYPE_LPM_TRIE`.
    LpmTrie = 11,
    /// `BPF_MAP_TYPE_XSKMAP`.
    XskMap = 17,
    /// `BPF_MAP_TYPE_RINGBUF`.
    RingBuf = 27,
}

/// One map.
#[derive(Clone, Copy, Debug)]
pub struct MapSpec {
    /// Name of map and pin.
    pub name: &'static str,
    /// Type.
    pub kind: Kind,
    /// Octets of a key.
    pub key: usize,
    /// Octets of a value.
    pub value: usize,
    /// Number of entries.
    pub entries: Entries,
    /// Entries are allocated when they are made (`BPF_F_NO_PREALLOC`).
    pub on_demand: bool,
}

impl MapSpec {
    const fn new<K, V>(name: &'static str, kind: Kind, entries: Entries) -> Self {
        Self { name, kind, key: size_of::<K>(), value: size_of::<V>(), entries, on_demand: false }
    }

    const fn on_demand<K, V>(name: &'static str, kind: Kind, entries: Entries) -> Self {
        Self { on_demand: true, ..Self::new::<K, V>(name, kind, entries) }
    }

    /// Number of entries for `capacity` SA slots.
    pub const fn max_entries(&self, capacity: u32) -> u32 {
        match self.entries {
            Entries::Fixed(n) | Entries::Declared(n) => n,
            Entries::PerSlot(n) => capacity.saturating_mul(n),
        }
    }

    /// The map as it is made for `capacity` SA slots.
    #[cfg(any(test, feature = "testing"))]
    fn shape(&self, capacity: u32) -> Shape {
        const BPF_F_NO_PREALLOC: u32 = 1;
        Shape {
            kind: self.kind as u32,
            key: self.key as u32,
            value: self.value as u32,
            entries: self.max_entries(capacity),
            flags: if self.on_demand { BPF_F_NO_PREALLOC } else { 0 },
        }
    }

    /// Octets that the map takes when full, without the overhead of the kernel; `cpus` counts for per-CPU maps.
    pub const fn memory(&self, entries: u32, cpus: u64) -> u64 {
        let one = (self.key + self.value) as u64;
        match self.kind {
            Kind::RingBuf => entries as u64,
            Kind::PerCpuArray => entries as u64 * self.value as u64 * cpus,
            Kind::Array => entries as u64 * self.value as u64,
            // A pointer to a socket.
            Kind::XskMap => entries as u64 * 8,
            Kind::Hash | Kind::LruHash | Kind::LpmTrie => entries as u64 * one,
        }
    }

    /// Compares a pinned map with this entry of the table.
    fn check(&self, info: &MapInfo, capacity: u32) -> Result<(), InstanceError> {
        let fault = |what: String| Err(InstanceError::Map { map: self.name, what });
        match info.map_type() {
            Ok(kind) if kind as u32 == self.kind as u32 => {}
            other => return fault(format!("type {other:?}, expected {:?}", self.kind)),
        }
        if info.key_size() as usize != self.key || info.value_size() as usize != self.value {
            return fault(format!(
                "key and value of {} and {} octets, expected {} and {}",
                info.key_size(),
                info.value_size(),
                self.key,
                self.value
            ));
        }
        let wanted = self.max_entries(capacity);
        let enough = match self.entries {
            Entries::Declared(_) => true,
            Entries::Fixed(_) | Entries::PerSlot(_) => info.max_entries() == wanted,
        };
        if !enough {
            return fault(format!("{} entries, expected {wanted}", info.max_entries()));
        }
        Ok(())
    }
}

/// Outbound bindings for each SA slot.
pub const BINDINGS_PER_SLOT: u32 = 2;

/// Every map of the contract.
pub const MAPS: &[MapSpec] = &[
    MapSpec::new::<u32, Header>(map::HEADER, Kind::Array, Entries::Fixed(1)),
    MapSpec::new::<u32, Config>(map::CONFIG, Kind::Array, Entries::Fixed(1)),
    MapSpec::new::<u32, Outer>(map::OUTER, Kind::Hash, Entries::Declared(256)),
    MapSpec::new::<InboundKey, SlotRef>(map::SA_IN, Kind::Hash, Entries::PerSlot(1)),
    MapSpec::new::<InboundKey, SlotRef>(map::SA_NAMES, Kind::Hash, Entries::PerSlot(1)),
    MapSpec::new::<BindingKey, Bundle>(map::SA_OUT, Kind::Hash, Entries::PerSlot(BINDINGS_PER_SLOT)),
    MapSpec::new::<u32, SaStatic>(map::SA_STATIC, Kind::Array, Entries::PerSlot(1)),
    MapSpec::new::<u32, KeyText>(map::SA_KEYS, Kind::Array, Entries::PerSlot(1)),
    MapSpec::on_demand::<u32, Identities>(map::SA_IDENTITIES, Kind::Hash, Entries::PerSlot(1)),
    MapSpec::new::<u32, SaState>(map::SA_STATE, Kind::Array, Entries::PerSlot(1)),
    MapSpec::new::<u32, Window>(map::SA_WINDOW, Kind::Array, Entries::PerSlot(1)),
    MapSpec::on_demand::<WindowPageKey, WindowPage>(map::SA_WINDOW_PAGES, Kind::Hash, Entries::Fixed(MAX_WINDOW_PAGES)),
    MapSpec::on_demand::<u32, GhashTable>(map::SA_GHASH, Kind::Hash, Entries::PerSlot(1)),
    MapSpec::on_demand::<u32, BlowfishState>(map::SA_BLOWFISH, Kind::Hash, Entries::PerSlot(1)),
    MapSpec::new::<u32, u32>(map::SPD_HEAD, Kind::Array, Entries::Fixed(1)),
    MapSpec::new::<u32, PolicyHead>(map::SPD_GENERATIONS, Kind::Array, Entries::Fixed(2)),
    MapSpec::on_demand::<u32, Rule>(map::SPD_RULES, Kind::Hash, Entries::Fixed(2 * MAX_RULES)),
    MapSpec::on_demand::<LpmKey<AddressKey>, u32>(map::SPD_ADDRESSES, Kind::LpmTrie, Entries::Fixed(2 * MAX_PREFIXES)),
    MapSpec::on_demand::<u32, Chunk>(map::SPD_CHUNKS, Kind::Hash, Entries::Fixed(2 * MAX_CHUNKS)),
    MapSpec::on_demand::<TunnelKey, u32>(map::SPD_TUNNELS, Kind::Hash, Entries::Fixed(2 * MAX_RULES)),
    MapSpec::on_demand::<u32, Class>(map::SPD_CLASSES, Kind::Hash, Entries::Fixed(2 * MAX_CLASSES)),
    MapSpec::on_demand::<u32, Page>(map::SPD_PAGES, Kind::Hash, Entries::Fixed(2 * MAX_PAGES)),
    MapSpec::new::<u32, FlowSet>(map::SPD_FLOWS, Kind::PerCpuArray, Entries::Fixed(FLOW_SETS)),
    MapSpec::new::<u64, u32>(map::KM_SOCKETS, Kind::Hash, Entries::Declared(256)),
    MapSpec::new::<BindingKey, u64>(map::ACQUIRES, Kind::LruHash, Entries::Declared(4096)),
    MapSpec::new::<InboundKey, PathMtu>(map::PATH_MTUS, Kind::LruHash, Entries::Declared(4096)),
    MapSpec { key: 0, value: 0, ..MapSpec::new::<u32, u32>(map::EVENTS, Kind::RingBuf, Entries::Declared(1 << 18)) },
    MapSpec::new::<u32, u64>(map::COUNTERS, Kind::PerCpuArray, Entries::Fixed(COUNTERS)),
    MapSpec::new::<u32, u32>(map::XSKS, Kind::XskMap, Entries::Declared(MAX_QUEUES)),
    MapSpec { key: 0, value: 0, ..MapSpec::new::<u32, u32>(map::SLOW, Kind::RingBuf, Entries::Declared(RING)) },
    MapSpec::new::<u32, SlowState>(map::SLOW_STATE, Kind::Array, Entries::Fixed(1)),
];

/// Checks every pinned map of the instance against the table.
///
/// # Errors
/// [`InstanceError::NotAttached`] when a pin is missing, [`InstanceError::Map`] for the first that differs.
pub(super) fn check(instance: &Instance, capacity: u32) -> Result<(), SadbError> {
    for spec in MAPS {
        let info = MapInfo::from_pin(instance.pin(spec.name))
            .map_err(|_| InstanceError::NotAttached(instance.name().to_owned()))?;
        spec.check(&info, capacity)?;
    }
    Ok(())
}

/// Makes and pins every map of the table, without any program, and writes the header. For tests.
///
/// # Errors
/// Something is pinned there already; no permission.
#[cfg(any(test, feature = "testing"))]
pub fn create_pinned(instance: &Instance, capacity: u32) -> Result<(), SadbError> {
    instance.create_pin_dir()?;
    for spec in MAPS {
        RawMap::create(spec.name, spec.shape(capacity))
            .and_then(|map| map.pin(&instance.pin(spec.name)))
            .map_err(|e| SadbError::io(spec.name, e))?;
    }
    super::maps::write_header(instance, &instance.new_header(capacity)?)
}
