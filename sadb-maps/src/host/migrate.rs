//! Moving an instance to other maps: of another version, or for another number of SAs.
//!
//! The new maps are made and filled beside the old ones, while the old programs are at work. An outbound SA begins in them
//! [`LEAP`] numbers and IVs further on, and the old one is told to stop there, so that none is ever used twice, whatever happens
//! in between. An inbound SA waits until no old program runs any more; then its replay window comes over, and with it the SA to
//! life: a packet that comes in those milliseconds is dropped as for a larval SA, and a replay finds the window as it was.
//! Records of another version go through the [`Step`]s that lead from one to the next.

use super::attach;
use super::error::SadbError;
use super::instance::{Instance, InstanceError};
use super::layout::MapSpec;
use super::loader::LoaderError;
use super::maps;
use super::raw::{Octets, RawMap};
use super::slots;
use crate::abi::{ABI_VERSION, Config, HEADER_MAGIC, Header, any, map};
use crate::sa::{Bundle, InboundKey, SaState, SaStatic, SlotRef, WINDOW_BITS, Window, WindowPageKey, flag, state};
use bytemuck::Pod;
use std::collections::{BTreeSet, HashMap};
use std::mem::offset_of;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Sequence numbers and IVs that an outbound SA leaves out when it moves: more than can go out while it does.
pub const LEAP: u64 = 1 << 20;

/// From one version of the maps to the one that follows.
#[derive(Clone, Copy)]
pub struct Step {
    /// [`ABI_VERSION`] of the records that are given.
    pub from: u32,
    /// [`ABI_VERSION`] of those that come out.
    pub to: u32,
    /// The value of a map of that name, which may hold keys; as it is when nothing has changed.
    pub value: fn(&str, Octets) -> Octets,
    /// Offset of `iv_limit` in the [`SaStatic`] of `from`.
    pub iv_limit: usize,
}

/// Where an instance moves to.
#[derive(Clone, Copy)]
pub struct Target {
    /// Version of the new maps.
    pub abi: u32,
    /// The new maps.
    pub maps: &'static [MapSpec],
    /// Steps that lead from other versions to [`ABI_VERSION`].
    pub steps: &'static [Step],
    /// Steps from there to `abi`: none, unless a test moves to a version that these records are not of.
    pub after: &'static [Step],
}

/// The first version that can be moved from.
const FIRST: u32 = 4;

/// Where `iv_limit` is in every version so far.
const IV_LIMIT: usize = offset_of!(SaStatic, iv_limit);

/// The steps from every version that can be moved from, each to the next. Whoever raises [`ABI_VERSION`] adds one, and those that
/// have installed the version before lose no SA.
const STEPS: &[Step] = &[
    Step { from: 4, to: 5, value: with_ring_bits, iv_limit: IV_LIMIT },
    // More counters, behind the others.
    Step { from: 5, to: 6, value: as_it_is, iv_limit: IV_LIMIT },
    // More counters, and maps that begin empty.
    Step { from: 6, to: 7, value: as_it_is, iv_limit: IV_LIMIT },
    // One more counter, and addresses of a NAT in place of zeros.
    Step { from: 7, to: 8, value: as_it_is, iv_limit: IV_LIMIT },
    // One more counter, and a map of what routers have said, which begins empty.
    Step { from: 8, to: 9, value: as_it_is, iv_limit: IV_LIMIT },
    // More counters.
    Step { from: 9, to: 10, value: as_it_is, iv_limit: IV_LIMIT },
    // One more counter, and a number of queues in place of a zero.
    Step { from: 10, to: 11, value: as_it_is, iv_limit: IV_LIMIT },
    // Three more counters, a shortcut that interfaces have in place of a zero, and what some of them have.
    Step { from: 11, to: 12, value: with_any, iv_limit: IV_LIMIT },
    // An index of the outbound SAs, which is made anew in any case, and a map that begins empty.
    Step { from: 12, to: 13, value: as_it_is, iv_limit: IV_LIMIT },
];

const _: () = assert!(STEPS.len() as u32 == ABI_VERSION - FIRST, "a new ABI_VERSION needs a step from the one before");

fn as_it_is(_: &str, value: Octets) -> Octets {
    value
}

/// In version 4 every SA had a ring of one size, and an octet that was zero says now how long it is.
fn with_ring_bits(map: &str, mut value: Octets) -> Octets {
    if map == map::SA_STATIC
        && let Some(octet) = value.get_mut(offset_of!(SaStatic, ring_bits))
    {
        *octet = WINDOW_BITS as u8;
    }
    value
}

/// Before version 12 the configuration did not say what some interface has: XDP may be generic anywhere, until the loader looks.
fn with_any(map: &str, value: Octets) -> Octets {
    match value.get(..offset_of!(Config, any)) {
        Some(before) if map == map::CONFIG => Octets::new([before, &any::GENERIC.to_ne_bytes()].concat()),
        _ => value,
    }
}

impl Target {
    /// The version that this library speaks.
    pub const OURS: Self = Self { abi: ABI_VERSION, maps: super::layout::MAPS, steps: STEPS, after: &[] };

    /// The steps from a version to [`ABI_VERSION`], or `None` where there is no way.
    fn way(&self, from: u32) -> Option<Vec<Step>> {
        let mut way: Vec<Step> = vec![];
        let mut at = from;
        while at != ABI_VERSION {
            // No version twice: there are only so many steps.
            let step = self.steps.iter().find(|step| step.from == at && way.len() < self.steps.len())?;
            way.push(*step);
            at = step.to;
        }
        Some(way)
    }

    /// Whether an instance whose header this is can come here.
    ///
    /// # Errors
    /// [`InstanceError::Abi`].
    pub(super) fn check(&self, instance: &Instance, header: &Header) -> Result<(), LoaderError> {
        match self.way(header.abi) {
            Some(_) => Ok(()),
            None => {
                let name = instance.name().to_owned();
                Err(InstanceError::Abi { name, theirs: header.abi, ours: self.abi }.into())
            }
        }
    }
}

/// Maps as they are pinned in a directory, read and written as records of this version.
struct Side {
    directory: PathBuf,
    /// To records of this version when they are read.
    read: Vec<Step>,
    /// From records of this version when they are written.
    written: &'static [Step],
}

impl Side {
    /// Whether the version of this side has the map.
    fn has(&self, name: &str) -> bool {
        self.directory.join(name).exists()
    }

    fn map(&self, name: &str) -> Result<RawMap, SadbError> {
        RawMap::open(&self.directory.join(name)).map_err(|e| SadbError::io(name, e))
    }

    fn value(&self, map: &RawMap, name: &str, key: &[u8]) -> Result<Option<Octets>, SadbError> {
        let value = map.get(key).map_err(|e| SadbError::io(name, e))?;
        Ok(value.map(|value| self.read.iter().fold(value, |value, step| (step.value)(name, value))))
    }

    fn record<T: Pod>(&self, map: &RawMap, name: &'static str, key: &[u8]) -> Result<T, SadbError> {
        let value = self.value(map, name, key)?.ok_or(SadbError::NotFound)?;
        bytemuck::try_pod_read_unaligned(&value)
            .map_err(|_| SadbError::io(name, std::io::Error::other("a record of another size than expected")))
    }

    fn put(&self, map: &RawMap, name: &str, key: &[u8], value: &[u8]) -> Result<(), SadbError> {
        let value = Zeroizing::new(value.to_vec());
        let value = self.written.iter().fold(value, |value, step| (step.value)(name, value));
        map.set(key, &value).map_err(|e| SadbError::io(name, e))
    }

    fn put_record<T: Pod>(&self, map: &RawMap, name: &str, key: &[u8], record: &T) -> Result<(), SadbError> {
        self.put(map, name, key, bytemuck::bytes_of(record))
    }
}

/// The maps of an SA, of one side.
struct SaSide {
    side: Side,
    statics: RawMap,
    states: RawMap,
    windows: RawMap,
}

impl SaSide {
    fn open(side: Side) -> Result<Self, SadbError> {
        let (statics, states) = (side.map(map::SA_STATIC)?, side.map(map::SA_STATE)?);
        let windows = side.map(map::SA_WINDOW)?;
        Ok(Self { side, statics, states, windows })
    }

    fn fixed(&self, slot: u32) -> Result<Zeroizing<Vec<u8>>, SadbError> {
        self.side.value(&self.statics, map::SA_STATIC, &slot.to_ne_bytes())?.ok_or(SadbError::NotFound)
    }

    fn state(&self, slot: u32) -> Result<SaState, SadbError> {
        self.side.record(&self.states, map::SA_STATE, &slot.to_ne_bytes())
    }

    fn set_state(&self, slot: u32, record: &SaState) -> Result<(), SadbError> {
        self.side.put_record(&self.states, map::SA_STATE, &slot.to_ne_bytes(), record)
    }

    /// The times and the counters first and the state word after them: an update is not atomic, and others look at the word.
    fn enliven(&self, slot: u32, record: &SaState, before: u32) -> Result<(), SadbError> {
        self.set_state(slot, &SaState { state: before.into(), ..*record })?;
        self.set_state(slot, record)
    }
}

/// One SA on its way.
#[derive(Clone, Copy)]
struct Passage {
    from: SlotRef,
    to: SlotRef,
    flags: u32,
    name: InboundKey,
    iv_limit: u64,
}

/// An instance on its way to other maps. Both sides are as they were until [`Move::fill`] is called.
pub(super) struct Move {
    old: SaSide,
    new: SaSide,
    header: Header,
    abi: u32,
    /// Offset of `iv_limit` in the old [`SaStatic`].
    iv_limit: usize,
    passages: Vec<Passage>,
}

impl Move {
    /// Looks at the maps of the instance and at those that are pinned in `directory`, which are of the target.
    ///
    /// # Errors
    /// [`LoaderError::NoRoom`]; maps that cannot be read.
    pub(super) fn new(
        instance: &Instance,
        directory: &Path,
        header: Header,
        target: &Target,
        capacity: u32,
    ) -> Result<Self, LoaderError> {
        target.check(instance, &header)?;
        let way = target.way(header.abi).unwrap_or_default();
        let iv_limit = way.first().map_or(offset_of!(SaStatic, iv_limit), |step| step.iv_limit);
        let old = SaSide::open(Side { directory: instance.pin_dir(), read: way, written: &[] })?;
        // What is read there was written there: its way back is that of the steps of a test.
        let back = if target.after.is_empty() { vec![] } else { target.steps.to_vec() };
        let new = SaSide::open(Side { directory: directory.to_owned(), read: back, written: target.after })?;
        let passages = passages(&old, header.capacity, capacity)?;
        Ok(Self { old, new, header: Header { capacity, ..header }, abi: target.abi, iv_limit, passages })
    }

    /// Number of SAs that move.
    pub(super) fn len(&self) -> usize {
        self.passages.len()
    }

    /// Fills the new maps, which no program uses yet.
    ///
    /// # Errors
    /// [`LoaderError::NearEnd`]; maps that cannot be read or written.
    pub(super) fn fill(&self) -> Result<(), LoaderError> {
        for name in [
            map::CONFIG,
            map::OUTER,
            map::KM_SOCKETS,
            map::PATH_MTUS,
            map::SPD_GENERATIONS,
            map::SPD_RULES,
            map::SPD_ADDRESSES,
            map::SPD_CHUNKS,
            map::SPD_TUNNELS,
            map::SPD_CLASSES,
            map::SPD_PAGES,
            map::SPD_HEAD,
        ] {
            // An older version has not all of them.
            if self.old.side.has(name) {
                self.copy(name)?;
            }
        }
        let places: HashMap<SlotRef, SlotRef> = self.passages.iter().map(|p| (p.from, p.to)).collect();
        let mut beside = vec![];
        for name in [map::SA_KEYS, map::SA_GHASH, map::SA_BLOWFISH, map::SA_IDENTITIES] {
            if self.old.side.has(name) {
                beside.push((name, self.old.side.map(name)?, self.new.side.map(name)?));
            }
        }
        let names = self.new.side.map(map::SA_NAMES)?;
        for passage in &self.passages {
            self.bring(passage)?;
            if passage.flags & flag::OUTBOUND != 0 {
                let key = bytemuck::bytes_of(&passage.name);
                self.new.side.put_record(&names, map::SA_NAMES, key, &passage.to)?;
            }
            for (name, old, new) in &beside {
                if let Some(value) = self.old.side.value(old, name, &passage.from.slot.to_ne_bytes())? {
                    self.new.side.put(new, name, &passage.to.slot.to_ne_bytes(), &value)?;
                }
            }
        }
        let place = |slot: &SlotRef| places.get(slot).copied().unwrap_or_default();
        self.lead(map::SA_IN, |slot: SlotRef| Some(place(&slot)).filter(|to| *to != SlotRef::default()))?;
        self.lead(map::SA_OUT, |bundle: Bundle| {
            let bundle = Bundle { sa: bundle.sa.map(|slot| place(&slot)) };
            (bundle != Bundle::default()).then_some(bundle)
        })?;
        let header = Header { magic: HEADER_MAGIC, abi: self.abi, ..self.header };
        Ok(self.new.side.put_record(&self.new.side.map(map::HEADER)?, map::HEADER, &[0; 4], &header)?)
    }

    /// Copies a map that says nothing of slots.
    fn copy(&self, name: &'static str) -> Result<(), SadbError> {
        let (old, new) = (self.old.side.map(name)?, self.new.side.map(name)?);
        for key in old.keys().map_err(|e| SadbError::io(name, e))? {
            if let Some(value) = self.old.side.value(&old, name, &key)? {
                self.new.side.put(&new, name, &key, &value)?;
            }
        }
        Ok(())
    }

    /// Copies the larger replay windows of these.
    fn bring_pages(&self, passages: &[Passage]) -> Result<(), SadbError> {
        let name = map::SA_WINDOW_PAGES;
        if passages.is_empty() || !self.old.side.has(name) {
            return Ok(());
        }
        let (old, new) = (self.old.side.map(name)?, self.new.side.map(name)?);
        let places: HashMap<u32, u32> = passages.iter().map(|p| (p.from.slot, p.to.slot)).collect();
        for octets in old.keys().map_err(|e| SadbError::io(name, e))? {
            let Ok(key) = bytemuck::try_pod_read_unaligned::<WindowPageKey>(&octets) else { continue };
            let Some(slot) = places.get(&key.slot) else { continue };
            if let Some(page) = self.old.side.value(&old, name, &octets)? {
                let key = WindowPageKey { slot: *slot, ..key };
                self.new.side.put(&new, name, bytemuck::bytes_of(&key), &page)?;
            }
        }
        Ok(())
    }

    /// Copies an index with what it leads to where that is now; without what leads nowhere.
    fn lead<T: Pod>(&self, name: &'static str, place: impl Fn(T) -> Option<T>) -> Result<(), SadbError> {
        let (old, new) = (self.old.side.map(name)?, self.new.side.map(name)?);
        for key in old.keys().map_err(|e| SadbError::io(name, e))? {
            let record: T = match self.old.side.record(&old, name, &key) {
                Err(SadbError::NotFound) => continue,
                other => other?,
            };
            if let Some(record) = place(record) {
                self.new.side.put_record(&new, name, &key, &record)?;
            }
        }
        Ok(())
    }

    /// Puts an SA into its slot: what receives as a larval one.
    fn bring(&self, passage: &Passage) -> Result<(), LoaderError> {
        let Passage { from, to, flags, .. } = *passage;
        let moving = self.old.state(from.slot)?;
        let mut fixed = self.old.fixed(from.slot)?;
        let generation = offset_of!(SaStatic, generation);
        if let Some(octets) = fixed.get_mut(generation..generation + 4) {
            octets.copy_from_slice(&to.generation.to_ne_bytes());
        }
        self.new.side.put(&self.new.statics, map::SA_STATIC, &to.slot.to_ne_bytes(), &fixed)?;
        let moving = SaState { generation: to.generation, ..moving };
        let moving = if flags & flag::OUTBOUND != 0 && is_alive(&moving) { passage.leap(&moving)? } else { moving };
        let waits = flags & flag::INBOUND != 0 && is_alive(&moving);
        let word = if waits { state::LARVAL.into() } else { moving.state };
        Ok(self.new.enliven(to.slot, &SaState { state: word, ..moving }, state::FREE)?)
    }

    /// Lets go of the numbers that the old programs may still use: they stop where the new ones begin. To be called as the last
    /// thing before the first packet is sealed by a new program; again does no harm.
    ///
    /// # Errors
    /// Maps that cannot be read or written.
    pub(super) fn part(&self) -> Result<(), LoaderError> {
        for passage in self.passages.iter().filter(|passage| passage.flags & flag::OUTBOUND != 0) {
            let moving = self.old.state(passage.from.slot)?;
            if !is_alive(&moving) {
                continue;
            }
            // One that came near its end since it was looked at stops in both.
            let ahead = passage.leap(&moving).unwrap_or(SaState { seq: u64::MAX, iv: passage.iv_limit, ..moving });
            let key = passage.from.slot.to_ne_bytes();
            let statics = &self.old.statics;
            let failed = |e| SadbError::io(map::SA_STATIC, e);
            let Some(mut fixed) = statics.get(&key).map_err(failed)? else { continue };
            if let Some(octets) = fixed.get_mut(self.iv_limit..self.iv_limit + 8) {
                octets.copy_from_slice(&ahead.iv.to_ne_bytes());
            }
            statics.set(&key, &fixed).map_err(failed)?;
            let now = self.new.state(passage.to.slot)?;
            self.new.set_state(passage.to.slot, &SaState { seq: ahead.seq, iv: ahead.iv, ..now })?;
        }
        // What is counted from here to the exchange is counted nowhere.
        Ok(self.copy(map::COUNTERS)?)
    }

    /// Brings over what receiving has changed, and the inbound SAs to life. No old program receives any more.
    ///
    /// # Errors
    /// Maps that cannot be read or written.
    pub(super) fn complete(&self) -> Result<(), LoaderError> {
        slots::grace_period();
        let mut waiting = vec![];
        for passage in self.passages.iter().filter(|passage| passage.flags & flag::INBOUND != 0) {
            let (old, new) = (self.old.state(passage.from.slot)?, self.new.state(passage.to.slot)?);
            // One that lives already has seen more than the old maps know.
            if old.state != u64::from(state::LARVAL) && new.state == u64::from(state::LARVAL) {
                waiting.push(*passage);
            }
        }
        self.bring_pages(&waiting)?;
        for passage in &waiting {
            let (from, to) = (passage.from.slot, passage.to.slot);
            let (old, new) = (self.old.state(from)?, self.new.state(to)?);
            let window: Window = self.old.side.record(&self.old.windows, map::SA_WINDOW, &from.to_ne_bytes())?;
            self.new.side.put_record(&self.new.windows, map::SA_WINDOW, &to.to_ne_bytes(), &window)?;
            let moving = SaState { generation: passage.to.generation, seq: new.seq, iv: new.iv, ..old };
            self.new.enliven(to, &moving, state::LARVAL)?;
        }
        Ok(())
    }
}

impl Passage {
    /// The state of an outbound SA as it begins in the new maps.
    ///
    /// # Errors
    /// [`LoaderError::NearEnd`].
    fn leap(&self, moving: &SaState) -> Result<SaState, LoaderError> {
        let last = if self.flags & flag::ESN != 0 { u64::MAX } else { u64::from(u32::MAX) };
        let ahead = |value: u64, end: u64| value.checked_add(LEAP).filter(|value| *value < end);
        match ahead(moving.seq, last).zip(ahead(moving.iv, self.iv_limit)) {
            Some((seq, iv)) => Ok(SaState { seq, iv, ..*moving }),
            None => Err(LoaderError::NearEnd(self.name.spi)),
        }
    }
}

fn is_alive(moving: &SaState) -> bool {
    [state::MATURE, state::DYING].map(u64::from).contains(&moving.state)
}

/// Where every SA goes: into the slot of the same number where that is there, or into the lowest that is free. The same maps
/// give the same answer each time.
fn passages(old: &SaSide, before: u32, after: u32) -> Result<Vec<Passage>, LoaderError> {
    let mut passages = vec![];
    let mut generations = HashMap::new();
    for slot in 1..before {
        let moving = old.state(slot)?;
        generations.insert(slot, moving.generation);
        if slots::is_free(&moving) {
            continue;
        }
        let octets = old.fixed(slot)?;
        let fixed: SaStatic = bytemuck::try_pod_read_unaligned(&octets).map_err(|_| {
            SadbError::io(map::SA_STATIC, std::io::Error::other("a record of another size than expected"))
        })?;
        let fixed = maps::Wiped::new(fixed);
        // One that is half there is of no use.
        if fixed.generation != moving.generation {
            continue;
        }
        let place = SlotRef { slot, generation: fixed.generation };
        let name = InboundKey { dst: fixed.dst, spi: fixed.spi, proto: fixed.proto, reserved: [0; 3] };
        passages.push(Passage { from: place, to: place, flags: fixed.flags, name, iv_limit: fixed.iv_limit });
    }
    let room = after.saturating_sub(1);
    if passages.len() > room as usize {
        return Err(LoaderError::NoRoom { capacity: room, present: passages.len() });
    }
    let taken: BTreeSet<u32> = passages.iter().map(|passage| passage.from.slot).collect();
    let mut free = (1..after).filter(|slot| !taken.contains(slot));
    for passage in passages.iter_mut().filter(|passage| passage.from.slot >= after) {
        let slot = free.next().ok_or(LoaderError::NoRoom { capacity: room, present: taken.len() })?;
        // One that no reference to either slot has had.
        let own = generations.get(&slot).copied().unwrap_or(0).max(passage.from.generation);
        passage.to = SlotRef { slot, generation: own.wrapping_add(1).max(1) };
    }
    Ok(passages)
}

/// Whether packets are sealed by the programs in `directory` already: then numbers have parted.
pub(super) fn has_parted(instance: &Instance, directory: &Path) -> bool {
    attach::runs(instance, crate::abi::program::XDP_IPSEC0X, directory)
}

#[cfg(test)]
mod tests {
    use super::super::spd::Spd;
    use super::super::testing::{TestInstance, an_sa};
    use super::super::{Direction, SaSpec, Sadb, SecretKey};
    use super::*;
    use crate::sa::{BindingKey, ESP, encr};

    /// Octets in front of the key area that a record of the version before had more.
    const MORE: usize = 16;
    const AT: usize = offset_of!(SaStatic, key);

    fn shorter(map: &str, value: Octets) -> Octets {
        match value.get(..AT).zip(value.get(AT + MORE..)) {
            Some((front, key)) if map == map::SA_STATIC => Zeroizing::new([front, key].concat()),
            _ => value,
        }
    }

    fn outbound(spi: u32, esn: bool, seq: u64) -> SaSpec {
        SaSpec {
            encr: encr::AES_GCM_16,
            key: SecretKey::new(vec![9; 16]),
            salt: SecretKey::new(vec![9; 4]),
            direction: Direction::Out,
            esn,
            replay_value: seq,
            action: 77,
            km: crate::sa::km::IKEV2,
            ..SaSpec::new(ESP, spi, [192, 0, 2, 2].into(), [192, 0, 2, 1].into())
        }
    }

    /// Maps of an instance and empty ones to move to.
    struct Bench {
        from: TestInstance,
        to: TestInstance,
    }

    impl Bench {
        fn new(before: u32, after: u32) -> Self {
            Self { from: TestInstance::with_maps(before).unwrap(), to: TestInstance::with_maps(after).unwrap() }
        }

        fn start(&self) -> Result<Move, LoaderError> {
            let header = maps::header(&self.from).unwrap();
            let capacity = maps::header(&self.to).unwrap().capacity;
            Move::new(&self.from, &self.to.pin_dir(), header, &Target::OURS, capacity)
        }

        fn state(instance: &Instance, slot: u32) -> SaState {
            maps::Slots::open(instance, map::SA_STATE).unwrap().get(slot).unwrap()
        }
    }

    #[test]
    fn sas_move_with_numbers_ahead_and_windows_as_they_were() {
        let bench = Bench::new(16, 6);
        let mut sadb = Sadb::open(&bench.from).unwrap();
        // The inbound SA lies in a slot that the new maps have not.
        let spare: Vec<_> = (0..8).map(|spi| outbound(0x6000 + spi, true, 0)).collect();
        spare.iter().for_each(|spec| assert!(sadb.add(spec).is_ok()));
        let far = sadb.add(&SaSpec { replay_value: 500, replay_window: 64, ..an_sa() }).unwrap();
        for spec in &spare {
            sadb.delete(&super::super::SaKey {
                direction: Direction::Out,
                ..super::super::SaKey::new(ESP, spec.spi, spec.dst)
            })
            .unwrap();
        }
        let near = sadb.add(&outbound(0x7001, true, 40)).unwrap();
        let binding = BindingKey {
            action: 77,
            src: std::net::IpAddr::from([192, 0, 2, 2]).into(),
            dst: std::net::IpAddr::from([192, 0, 2, 1]).into(),
            ..BindingKey::default()
        };
        assert!(sadb.is_bound(&binding).unwrap() && far.slot > 6 && near.slot < 6);
        let first = Bench::state(&bench.from, near.slot);

        let moving = bench.start().unwrap();
        assert_eq!(moving.len(), 2);
        moving.fill().unwrap();
        let there = Bench::state(&bench.to, near.slot);
        assert_eq!((there.seq, there.iv, there.state), (40 + LEAP, first.iv + LEAP, state::MATURE.into()));
        // Both sides go on for a moment: the old one up to where the new one begins.
        let mut states = maps::Slots::<SaState>::open(&bench.from, map::SA_STATE).unwrap();
        states.set(near.slot, &SaState { seq: 45, iv: first.iv + 5, ..first }).unwrap();
        for _ in 0..2 {
            moving.part().unwrap();
            let there = Bench::state(&bench.to, near.slot);
            assert_eq!((there.seq, there.iv), (45 + LEAP, first.iv + 5 + LEAP));
            let fixed = maps::Slots::<SaStatic>::open(&bench.from, map::SA_STATIC).unwrap().get(near.slot).unwrap();
            assert_eq!(fixed.iv_limit, there.iv);
            let fixed = maps::Slots::<SaStatic>::open(&bench.to, map::SA_STATIC).unwrap().get(near.slot).unwrap();
            assert!(fixed.iv_limit > there.iv);
        }
        // Received meanwhile: it is a replay afterwards, and until then nothing is opened.
        let mut windows = maps::Slots::<Window>::open(&bench.from, map::SA_WINDOW).unwrap();
        let seen = Window(std::array::from_fn(|n| n as u64 * 0x1_0000_0003));
        windows.set(far.slot, &seen).unwrap();
        let old = Bench::state(&bench.from, far.slot);
        states.set(far.slot, &SaState { top: 700, packets: 9, ..old }).unwrap();
        let place = moving.passages.iter().find(|passage| passage.from == far).unwrap().to;
        assert!(place.slot < 6 && place != far && place != near);
        assert_eq!(Bench::state(&bench.to, place.slot).state, u64::from(state::LARVAL));
        for _ in 0..2 {
            moving.complete().unwrap();
            let there = Bench::state(&bench.to, place.slot);
            assert_eq!((there.state, there.top, there.packets), (state::MATURE.into(), 700, 9));
            assert_eq!(there.generation, place.generation);
            let window = maps::Slots::<Window>::open(&bench.to, map::SA_WINDOW).unwrap().get(place.slot).unwrap();
            assert!(window == seen);
        }
        // And the tools find all of it.
        let mut sadb = Sadb::open(&bench.to).unwrap();
        let all = sadb.dump(None).unwrap();
        assert_eq!(all.iter().map(|sa| sa.spi).collect::<BTreeSet<_>>(), BTreeSet::from([0x1001, 0x7001]));
        assert!(all.iter().all(|sa| sa.key().octets() == if sa.spi == 0x7001 { vec![9; 16] } else { vec![7; 32] }));
        assert!(sadb.is_bound(&binding).unwrap());
        sadb.delete_each(&all.iter().map(|sa| super::super::SaKey::new(ESP, sa.spi, sa.dst)).collect::<Vec<_>>())
            .unwrap();
        assert!(sadb.dump(None).unwrap().is_empty());
    }

    #[test]
    fn what_does_not_fit_is_refused_before_anything_changes() {
        let bench = Bench::new(8, 3);
        let mut sadb = Sadb::open(&bench.from).unwrap();
        let near_end = outbound(0x7001, false, u64::from(u32::MAX) - LEAP / 2);
        sadb.add(&near_end).unwrap();
        let refused = bench.start().unwrap().fill().unwrap_err();
        assert!(matches!(refused, LoaderError::NearEnd(0x7001)), "{refused}");
        sadb.flush(None).unwrap();
        // With extended numbers it is far from its end.
        sadb.add(&SaSpec { esn: true, ..near_end }).unwrap();
        bench.start().unwrap().fill().unwrap();
        for spi in 0x7002..0x7004 {
            sadb.add(&outbound(spi, true, 0)).unwrap();
        }
        let refused = bench.start().err().unwrap();
        assert!(matches!(refused, LoaderError::NoRoom { capacity: 2, present: 3 }), "{refused}");
        assert_eq!(sadb.dump(None).unwrap().len(), 3);
    }

    #[test]
    fn policy_counters_and_sockets_move_as_well() {
        let bench = Bench::new(8, 40);
        let rules: Vec<_> = (0..20)
            .map(|n| super::super::CompiledRule {
                rule: crate::policy::Rule { action_id: n + 1, ..bytemuck::Zeroable::zeroed() },
                tunnel: None,
            })
            .collect();
        Spd::open(&bench.from).unwrap().replace(&rules).unwrap();
        let counters = RawMap::open(&bench.from.pin(map::COUNTERS)).unwrap();
        let cpus = aya::util::nr_cpus().unwrap();
        counters.set(&3_u32.to_ne_bytes(), &7_u64.to_ne_bytes().repeat(cpus)).unwrap();
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let cookie = super::super::KmSockets::open(&bench.from).unwrap().register(&socket).unwrap();
        let moving = bench.start().unwrap();
        moving.fill().unwrap();
        moving.part().unwrap();
        moving.complete().unwrap();
        let ids = |instance: &Instance| {
            let rules = super::super::spd::store::PolicyMaps::open(instance).unwrap().in_force().unwrap();
            rules.iter().map(|rule| rule.action_id).collect::<Vec<_>>()
        };
        assert_eq!(ids(&bench.to), (1..=20).collect::<Vec<_>>());
        let counted = super::super::Counters::open(&bench.to).unwrap().all().unwrap();
        assert_eq!(
            counted.iter().map(|(_, value)| *value).collect::<BTreeSet<_>>(),
            BTreeSet::from([0, 7 * cpus as u64])
        );
        assert!(super::super::KmSockets::open(&bench.to).unwrap().is_registered(cookie).unwrap());
        assert_eq!(maps::header(&bench.to).unwrap().capacity, 40);
    }

    #[test]
    fn versions_lead_to_each_other_or_are_refused() {
        const fn step(from: u32, to: u32) -> Step {
            Step { from, to, value: shorter, iv_limit: 0 }
        }
        static CHAIN: [Step; 2] = [step(2, 3), step(3, ABI_VERSION)];
        static RING: [Step; 2] = [step(2, 3), step(3, 2)];
        let target = Target { steps: &CHAIN, ..Target::OURS };
        let numbers = |from| Some(target.way(from)?.iter().map(|step| step.to).collect::<Vec<_>>());
        assert_eq!(numbers(2), Some(vec![3, ABI_VERSION]));
        assert_eq!(numbers(3), Some(vec![ABI_VERSION]));
        assert_eq!((numbers(ABI_VERSION), numbers(1), numbers(ABI_VERSION + 1)), (Some(vec![]), None, None));
        assert!(Target { steps: &RING, ..target }.way(2).is_none());
        let value = Zeroizing::new(vec![1; size_of::<SaStatic>() + MORE]);
        assert_eq!(shorter(map::SA_STATIC, value).len(), size_of::<SaStatic>());
    }

    #[test]
    fn larger_windows_move_page_by_page() {
        let bench = Bench::new(8, 40);
        let mut sadb = Sadb::open(&bench.from).unwrap();
        let slot = sadb.add(&SaSpec { replay_value: 90_000, replay_window: 8000, ..an_sa() }).unwrap().slot;
        let pages = |instance: &Instance| {
            let table =
                maps::Table::<WindowPageKey, crate::sa::WindowPage>::open(instance, map::SA_WINDOW_PAGES).unwrap();
            let mut pages = table.entries().unwrap();
            pages.sort_by_key(|(key, _)| key.page);
            pages
        };
        let moving = bench.start().unwrap();
        moving.fill().unwrap();
        assert!(pages(&bench.from).len() > 1 && pages(&bench.to).is_empty());
        let mut table = maps::Table::open(&bench.from, map::SA_WINDOW_PAGES).unwrap();
        let key = WindowPageKey { slot, page: 1 };
        table.insert(&key, &crate::sa::WindowPage([u64::MAX; crate::sa::PAGE_WORDS])).unwrap();
        moving.complete().unwrap();
        assert!(pages(&bench.to) == pages(&bench.from));
        // Once the SA lives, what it has seen is not taken back.
        table.insert(&key, &crate::sa::WindowPage([0; crate::sa::PAGE_WORDS])).unwrap();
        moving.complete().unwrap();
        assert!(pages(&bench.to) != pages(&bench.from));
    }

    /// RFC 4303 section 3.4.3: what was a replay in version 4 is one in version 5, which asks how long the ring is.
    #[test]
    fn rings_of_version_4_have_a_length_in_version_5() {
        let record = |ring_bits| SaStatic { ring_bits, spi: 7, ..bytemuck::Zeroable::zeroed() };
        let old = Zeroizing::new(bytemuck::bytes_of(&record(0)).to_vec());
        let new = with_ring_bits(map::SA_STATIC, old.clone());
        assert_eq!(new.as_slice(), bytemuck::bytes_of(&record(WINDOW_BITS as u8)));
        assert_eq!(*with_ring_bits(map::SA_KEYS, old.clone()), *old);
    }

    #[test]
    fn configurations_of_version_11_let_every_interface_be_generic() {
        let record = |any| Config { ipsec0: 3, log_level: 1, any, ..Config::default() };
        let new = bytemuck::bytes_of(&record(any::GENERIC)).to_vec();
        let old = Zeroizing::new(new[..44].to_vec());
        assert_eq!(*with_any(map::CONFIG, old.clone()), new);
        assert_eq!(*with_any(map::OUTER, old.clone()), *old);
    }

    #[test]
    fn no_version_is_left_behind() {
        for from in FIRST..=ABI_VERSION {
            assert!(Target::OURS.way(from).is_some(), "no step leads on from version {from}");
        }
    }

    #[test]
    fn tools_wait_for_an_upgrade_that_was_cut_short() {
        let test = TestInstance::with_maps(4).unwrap();
        let mut sadb = Sadb::open(&test).unwrap();
        sadb.add(&an_sa()).unwrap();
        let directory = super::super::staging::begin(&test).unwrap();
        super::super::layout::MAPS.iter().filter(|spec| spec.name == map::HEADER).for_each(|spec| {
            let shape = super::super::raw::Shape { kind: 2, key: 4, value: spec.value as u32, entries: 1, flags: 0 };
            RawMap::create(spec.name, shape).unwrap().pin(&directory.join(spec.name)).unwrap();
        });
        super::super::staging::commit(&test).unwrap();
        let refused = Sadb::open(&test).unwrap().dump(None).unwrap_err();
        assert!(matches!(refused, SadbError::Moving), "{refused}");
    }
}
