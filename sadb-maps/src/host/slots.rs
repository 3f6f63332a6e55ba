//! Slots: what is known of them, how one is filled, wiped and found.

use super::batch::{CHUNK, WipedList};
use super::clock;
use super::error::SadbError;
use super::maps::{SaMaps, Wiped};
use super::spec::{Direction, Encap, Mode, SaInfo, SaKey, SaSpec};
use super::{transform, window};
use crate::sa::{
    BlowfishState, GhashTable, InboundKey, KeyText, Lifetime, SaSelectors, SaState, SaStatic, SlotRef, flag, ring_bits,
    state,
};
use crate::{Addr, nat};
use bytemuck::Zeroable;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::Hash;
use std::net::IpAddr;
use std::time::{Duration, UNIX_EPOCH};

/// Seconds that a reserved SPI is kept (spec section 4.5, `larval_timeout`).
pub(super) const LARVAL_SECONDS: u64 = 90;

/// Identity of an SA and what its bindings depend on; never its key.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    pub(super) slot: SlotRef,
    pub(super) proto: u8,
    pub(super) spi: u32,
    pub(super) src: Addr,
    pub(super) dst: Addr,
    pub(super) flags: u32,
    pub(super) encr: u8,
    pub(super) auth: u8,
    pub(super) key_bits: u16,
    pub(super) action: u64,
    pub(super) km: u8,
    pub(super) pair_spi: u32,
    pub(super) selectors: Option<SaSelectors>,
    pub(super) added: u64,
    pub(super) soft: Lifetime,
    pub(super) hard: Lifetime,
}

impl Known {
    pub(super) fn new(slot: u32, fixed: &SaStatic, moving: &SaState) -> Self {
        Self {
            slot: SlotRef { slot, generation: fixed.generation },
            proto: fixed.proto,
            spi: fixed.spi,
            src: fixed.src,
            dst: fixed.dst,
            flags: fixed.flags,
            encr: fixed.encr,
            auth: fixed.auth,
            key_bits: fixed.key_bits,
            action: fixed.action,
            km: fixed.km,
            pair_spi: fixed.pair_spi,
            selectors: (fixed.flags & flag::SELECTORS != 0).then_some(fixed.sel),
            added: moving.added,
            soft: fixed.soft,
            hard: fixed.hard,
        }
    }

    /// The state of the SA at this time. Its state word lags behind until a packet or the sweep timer comes by, and what
    /// is past a limit is not to be seen as if it were not.
    pub(super) fn state_at(&self, moving: &SaState, now: u64) -> u32 {
        state_at(&self.soft, &self.hard, moving, now)
    }

    /// Whether get and dump do not see the SA: dead, or larval for too long.
    pub(super) fn is_gone(&self, moving: &SaState, now: u64) -> bool {
        self.state_at(moving, now) >= state::DEAD || is_dead(moving, now)
    }

    /// What leads to it in the indexes.
    pub(super) fn name(&self) -> InboundKey {
        InboundKey { dst: self.dst, spi: self.spi, proto: self.proto, reserved: [0; 3] }
    }

    /// Whether it is the partner of the other: of another direction, and each has the SPI of the other.
    pub(super) fn is_paired_with(&self, other: &Self) -> bool {
        let linked = self.flags & other.flags & flag::PAIRED != 0;
        linked && self.pair_spi == other.spi && other.pair_spi == self.spi && self.dst == other.src
    }

    pub(super) fn matches(&self, key: &SaKey, dst: Addr) -> bool {
        let from = key.src.filter(|src| !src.is_unspecified());
        self.proto == key.proto && self.spi == key.spi && self.dst == dst && from.is_none_or(|s| self.src == s.into())
    }
}

/// What this process remembers of the slots, valid while nobody else changed them.
#[derive(Debug, Default)]
pub(super) struct Register {
    known: BTreeMap<u32, Known>,
    by_spi: HashMap<u32, BTreeSet<u32>>,
    /// Outbound SAs by source and destination.
    by_ends: HashMap<(Addr, Addr), BTreeSet<u32>>,
    /// Slots below `top` that hold nothing.
    gaps: BTreeSet<u32>,
    /// Every slot from here on holds nothing.
    top: u32,
    /// Slots that were changed since [`Register::forget_changed`]; `None` for any.
    changed: Option<BTreeSet<u32>>,
}

impl Register {
    /// Reads every slot.
    pub(super) fn read(maps: &SaMaps) -> Result<Self, SadbError> {
        let mut register = Self { top: 1, ..Self::default() };
        let capacity = maps.states.len();
        for first in (0..capacity).step_by(CHUNK as usize) {
            let states = maps.states.range(first, CHUNK)?;
            if states.iter().all(is_free) {
                continue;
            }
            let statics = maps.statics.range(first, CHUNK)?;
            for ((slot, moving), fixed) in (first..).zip(states.iter()).zip(statics.iter()) {
                if slot != 0 && !is_free(moving) && fixed.generation == moving.generation {
                    register.put(Known::new(slot, fixed, moving));
                }
            }
        }
        register.changed = None;
        Ok(register)
    }

    /// Every slot from here on holds nothing.
    pub(super) fn top(&self) -> u32 {
        self.top
    }

    /// Reads one slot.
    pub(super) fn refresh(&mut self, maps: &SaMaps, slot: u32) -> Result<(), SadbError> {
        self.remove(slot);
        if let Some((known, _)) = read(maps, slot)? {
            self.put(known);
        }
        Ok(())
    }

    /// Slots that were changed; `None` when that may be any.
    pub(super) fn changed(&self) -> Option<&BTreeSet<u32>> {
        self.changed.as_ref()
    }

    /// What has been changed up to now is not to be counted.
    pub(super) fn forget_changed(&mut self) {
        self.changed = Some(BTreeSet::new());
    }

    pub(super) fn put(&mut self, known: Known) {
        let slot = known.slot.slot;
        self.remove(slot);
        self.changed.iter_mut().for_each(|changed| _ = changed.insert(slot));
        self.gaps.remove(&slot);
        if slot >= self.top {
            self.gaps.extend(self.top..slot);
            self.top = slot + 1;
        }
        self.by_spi.entry(known.spi).or_default().insert(slot);
        if known.flags & flag::OUTBOUND != 0 {
            self.by_ends.entry((known.src, known.dst)).or_default().insert(slot);
        }
        self.known.insert(slot, known);
    }

    pub(super) fn remove(&mut self, slot: u32) -> Option<Known> {
        let known = self.known.remove(&slot)?;
        self.changed.iter_mut().for_each(|changed| _ = changed.insert(slot));
        take(&mut self.by_spi, known.spi, slot);
        take(&mut self.by_ends, (known.src, known.dst), slot);
        self.gaps.insert(slot);
        Some(known)
    }

    /// Takes out many, all of them perhaps.
    pub(super) fn remove_many(&mut self, all: &[Known]) {
        if all.len() == self.known.len() && all.iter().all(|known| self.known.contains_key(&known.slot.slot)) {
            *self = Self { top: 1, ..Self::default() };
        } else {
            for known in all {
                self.remove(known.slot.slot);
            }
        }
    }

    pub(super) fn get(&self, slot: u32) -> Option<&Known> {
        self.known.get(&slot)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Known> {
        self.known.values()
    }

    /// Outbound SAs with these ends.
    pub(super) fn between(&self, src: Addr, dst: Addr) -> impl Iterator<Item = &Known> {
        self.by_ends.get(&(src, dst)).into_iter().flatten().filter_map(|slot| self.known.get(slot))
    }

    /// The lowest slot that holds nothing.
    pub(super) fn free(&self, capacity: u32) -> Option<u32> {
        let top = self.top.max(1);
        self.gaps.first().copied().or((top < capacity).then_some(top))
    }

    fn with_spi(&self, spi: u32) -> impl Iterator<Item = &Known> {
        self.by_spi.get(&spi).into_iter().flatten().filter_map(|slot| self.known.get(slot))
    }

    /// The SA of that key: of the given direction, else outbound before inbound.
    pub(super) fn find(&self, key: &SaKey) -> Option<&Known> {
        let dst = Addr::from(key.dst);
        let of = |bit: u32| self.with_spi(key.spi).find(|k| k.flags & bit != 0 && k.matches(key, dst));
        match key.direction {
            Direction::In => of(flag::INBOUND),
            Direction::Out => of(flag::OUTBOUND),
            Direction::Unspecified => of(flag::OUTBOUND).or_else(|| of(flag::INBOUND)),
        }
    }

    /// The SA in the tables given by `bits` with this protocol, SPI and destination, whatever its source.
    pub(super) fn occupant(&self, bits: u32, proto: u8, spi: u32, dst: Addr) -> Option<&Known> {
        self.with_spi(spi).find(|k| k.flags & bits != 0 && k.proto == proto && k.dst == dst)
    }
}

/// The SA in a slot and its state, if there is a whole one.
pub(super) fn read(maps: &SaMaps, slot: u32) -> Result<Option<(Known, SaState)>, SadbError> {
    if slot == 0 || slot >= maps.states.len() {
        return Ok(None);
    }
    let moving = maps.states.get(slot)?;
    if is_free(&moving) {
        return Ok(None);
    }
    let fixed = Wiped::new(maps.statics.get(slot)?);
    Ok((fixed.generation == moving.generation).then(|| (Known::new(slot, &fixed, &moving), moving)))
}

/// The states of the slots below `top`, by slot.
pub(super) fn states(maps: &SaMaps, top: u32) -> Result<Vec<SaState>, SadbError> {
    let mut all = vec![];
    for first in (0..top).step_by(CHUNK as usize) {
        all.extend_from_slice(&maps.states.range(first, CHUNK)?);
    }
    Ok(all)
}

/// Records and keys of neighbouring slots, read together for who looks at one slot after the other.
#[derive(Default)]
pub(super) struct Chunk {
    first: u32,
    read: Option<(WipedList<SaStatic>, WipedList<KeyText>)>,
}

impl Chunk {
    /// Those of a slot.
    pub(super) fn at(&mut self, maps: &SaMaps, slot: u32) -> Result<(&SaStatic, &KeyText), SadbError> {
        let first = slot - slot % CHUNK;
        if self.read.is_none() || self.first != first {
            self.first = first;
            self.read = Some((maps.statics.range(first, CHUNK)?, maps.keys.range(first, CHUNK)?));
        }
        let index = (slot - first) as usize;
        let found = self.read.as_ref().and_then(|(statics, keys)| statics.get(index).zip(keys.get(index)));
        found.ok_or(SadbError::NotFound)
    }
}

/// Takes a slot out of an index.
fn take<K: Hash + Eq>(index: &mut HashMap<K, BTreeSet<u32>>, key: K, slot: u32) {
    if let Entry::Occupied(mut slots) = index.entry(key) {
        slots.get_mut().remove(&slot);
        if slots.get().is_empty() {
            slots.remove();
        }
    }
}

/// Whether nothing is in the slot: never used, or given back.
pub(super) fn is_free(moving: &SaState) -> bool {
    moving.generation == 0 || moving.state == u64::from(state::FREE)
}

/// The state of an SA with these limits, see [`Known::state_at`].
fn state_at(soft: &Lifetime, hard: &Lifetime, moving: &SaState, now: u64) -> u32 {
    let word = moving.state as u32;
    let past = |limit: &Lifetime| {
        let over = |seconds: u64, since: u64| {
            seconds != 0 && now >= since.saturating_add(seconds.saturating_mul(1_000_000_000))
        };
        over(limit.add, moving.added) || (moving.first_use != 0 && over(limit.used, moving.first_use))
    };
    match word {
        state::MATURE | state::DYING if past(hard) => state::DEAD,
        state::MATURE if past(soft) => state::DYING,
        _ => word,
    }
}

/// A limit in seconds that the programs can count with, in nanoseconds: 146 years stand for more.
pub(super) fn countable(limits: Lifetime) -> Lifetime {
    const MOST: u64 = (u64::MAX >> 2) / 1_000_000_000;
    Lifetime { add: limits.add.min(MOST), used: limits.used.min(MOST), ..limits }
}

/// Whether the state word says that the SA is dead, or it has been larval for too long: what may be taken away. One that
/// is only past a limit waits for the data path to say so, lest nobody hear of its end.
pub(super) fn is_dead(moving: &SaState, now: u64) -> bool {
    let larval = moving.state == u64::from(state::LARVAL);
    let age = now.saturating_sub(moving.added);
    moving.state >= u64::from(state::DEAD) || (larval && age > LARVAL_SECONDS * 1_000_000_000)
}

/// Wipes and frees many slots, as [`wipe`] does one.
pub(super) fn wipe_many(maps: &mut SaMaps, slots: &[SlotRef]) -> Result<(), SadbError> {
    // What only some SAs have.
    let mut apart: HashSet<u32> = HashSet::new();
    apart.extend(maps.blowfish.keys()?);
    apart.extend(maps.identities.keys()?);
    apart.extend(maps.pages.keys()?.into_iter().map(|key| key.slot));
    let (special, plain): (Vec<SlotRef>, Vec<SlotRef>) = slots.iter().partition(|s| apart.contains(&s.slot));
    let tables: HashSet<u32> = maps.ghash.keys()?.into_iter().collect();
    let top = plain.iter().map(|slot| slot.slot + 1).max().unwrap_or(0);
    let states = states(maps, top)?;
    let state = |slot: u32| states.get(slot as usize).copied().unwrap_or_default();
    for chunk in plain.chunks(CHUNK as usize) {
        let numbers: Vec<u32> = chunk.iter().map(|s| s.slot).collect();
        let ended = |slot: &SlotRef| SaState { state: state::FREE.into(), ..state(slot.slot) };
        let free: Vec<SaState> = chunk.iter().map(|slot| free_state(slot.generation)).collect();
        let empty = |slot: &SlotRef| SaStatic { generation: slot.generation, ..SaStatic::zeroed() };
        maps.states.set_many(&numbers, &chunk.iter().map(ended).collect::<Vec<_>>())?;
        maps.states.set_many(&numbers, &free)?;
        maps.statics.set_many(&numbers, &chunk.iter().map(empty).collect::<Vec<_>>())?;
        maps.keys.clear_many(&numbers)?;
        // No number was seen, so no bit is set.
        let seen: Vec<u32> = numbers.iter().copied().filter(|slot| state(*slot).top != 0).collect();
        maps.windows.clear_many(&seen)?;
        for some in numbers.iter().copied().filter(|slot| tables.contains(slot)).collect::<Vec<_>>().chunks(FEW) {
            maps.ghash.clear_many(some)?;
            maps.ghash.remove_many(some)?;
        }
    }
    special.into_iter().try_for_each(|slot| wipe(maps, slot))
}

/// GHASH tables that are wiped together, of 8 KiB each.
const FEW: usize = 32;

/// Overwrites everything that the slot held with zeros, in place, and frees it. Nothing may refer to the slot any more,
/// and no program may still be at work with it ([`grace_period`]).
pub(super) fn wipe(maps: &mut SaMaps, slot: SlotRef) -> Result<(), SadbError> {
    let SlotRef { slot, generation } = slot;
    // First the word that says whether there is an SA: repair wipes what lies in a free slot. It goes alone, because
    // the sweep timer looks at every slot, and an update of a record is not atomic.
    let moving = maps.states.get(slot)?;
    maps.states.set(slot, &SaState { state: state::FREE.into(), ..moving })?;
    maps.states.set(slot, &free_state(generation))?;
    maps.statics.set(slot, &SaStatic { generation, ..SaStatic::zeroed() })?;
    maps.keys.set(slot, &KeyText::zeroed())?;
    // The elements go back to an allocator that does not clear them.
    if maps.ghash.get(&slot)?.map(Wiped::new).is_some() {
        maps.ghash.insert(&slot, &GhashTable::zeroed())?;
        maps.ghash.remove(&slot)?;
    }
    maps.identities.remove(&slot)?;
    if maps.blowfish.get(&slot)?.map(Wiped::new).is_some() {
        maps.blowfish.insert(&slot, &BlowfishState::zeroed())?;
        maps.blowfish.remove(&slot)?;
    }
    window::clear(maps, slot)
}

/// Brings an SA to life whose static part is in place: the times first and the state word after them, because the sweep
/// timer may look at the slot in between, and to it an SA of age nothing would be one that expired long ago.
pub(super) fn enliven(maps: &mut SaMaps, slot: u32, moving: &SaState) -> Result<(), SadbError> {
    maps.states.set(slot, &SaState { state: state::FREE.into(), ..*moving })?;
    maps.states.set(slot, moving)
}

/// The state record of a slot that was given back.
pub(super) fn free_state(generation: u32) -> SaState {
    SaState { state: state::FREE.into(), generation, ..SaState::default() }
}

/// Waits until no program can still be using what was unlinked before the call.
///
/// The programs run inside RCU read-side sections, and the global membarrier is `synchronize_rcu`. Where it is not to
/// be had (nohz_full kernels) a sleep of many times the longest program run has to do; the data path also compares
/// generations, so a packet that overslept is dropped, not sealed with another key.
pub(super) fn grace_period() {
    const MEMBARRIER_CMD_GLOBAL: libc::c_int = 1;
    // SAFETY: the call takes two integers and has no precondition.
    let result = unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0) };
    if result != 0 {
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The immutable part, without key and IV limit.
pub(super) fn record(spec: &SaSpec, direction: u32) -> SaStatic {
    let bit = |on: bool, bit: u32| if on { bit } else { 0 };
    let encap = spec.encap.unwrap_or_default();
    // An inbound SA with any source sees several senders, whose numbers do not form one sequence (spec section 7.9).
    let replay_window = if spec.src.is_unspecified() { 0 } else { spec.replay_window };
    // An unspecified source is one of the family of the destination.
    let src = match (spec.src.is_unspecified(), spec.dst) {
        (true, IpAddr::V4(_)) => Addr::v4(0),
        (true, IpAddr::V6(_)) => Addr::UNSPECIFIED,
        (false, _) => spec.src.into(),
    };
    let known = |nat: Option<IpAddr>| nat.map_or(Addr::UNSPECIFIED, Addr::from);
    let mut record = SaStatic {
        flags: direction
            | bit(spec.mode == Mode::Tunnel, flag::TUNNEL)
            | bit(spec.esn, flag::ESN)
            | bit(spec.encap.is_some(), flag::UDP_ENCAP)
            | bit(spec.pair_spi.is_some(), flag::PAIRED)
            | bit(spec.unique, flag::UNIQUE)
            | bit(spec.selectors.is_some(), flag::SELECTORS)
            | bit(spec.pfs, flag::PFS)
            | bit(spec.src_identity.is_some() || spec.dst_identity.is_some(), flag::IDENTITIES)
            | bit(encap.nat_local.is_some(), flag::NAT_LOCAL)
            | bit(encap.nat_remote.is_some(), flag::NAT_REMOTE),
        spi: spec.spi,
        proto: spec.proto,
        auth: spec.auth,
        engine: crate::sa::engine::INLINE,
        replay_window,
        // What goes out needs no ring.
        ring_bits: ring_bits(if direction & flag::INBOUND == 0 { 0 } else { replay_window }) as u8,
        pair_spi: spec.pair_spi.unwrap_or(0),
        src,
        dst: spec.dst.into(),
        encap_ports: [encap.sport, encap.dport],
        action: spec.action,
        km_cookie: spec.km_cookie,
        km: spec.km,
        soft: countable(spec.soft),
        hard: countable(spec.hard),
        idle: spec.idle,
        outer: spec.outer,
        nat_local: known(encap.nat_local),
        nat_remote: known(encap.nat_remote),
        sel: spec.selectors.unwrap_or_default(),
        ..SaStatic::zeroed()
    };
    if direction & flag::INBOUND != 0 && spec.mode == Mode::Transport {
        let or = |known: Addr, seen: Addr| if known.is_unspecified() { seen } else { known };
        let summed = [or(record.nat_remote, record.src), or(record.nat_local, record.dst)];
        record.checksum_delta = nat::checksum_delta(summed, [record.src, record.dst]);
    }
    record
}

/// The encapsulation as a record has it.
fn encap(fixed: &SaStatic) -> Encap {
    let [sport, dport] = fixed.encap_ports;
    let nat = |bit: u32, known: Addr| {
        // The unspecified address of no family is one of the family of the SA.
        let any = if fixed.dst.is_v4() { Addr::v4(0) } else { Addr::UNSPECIFIED };
        (fixed.flags & bit != 0).then(|| IpAddr::from(if known.is_unspecified() { any } else { known }))
    };
    Encap {
        sport,
        dport,
        nat_local: nat(flag::NAT_LOCAL, fixed.nat_local),
        nat_remote: nat(flag::NAT_REMOTE, fixed.nat_remote),
    }
}

/// The snapshot that tools see.
pub(super) fn info(slot: u32, fixed: &SaStatic, keys: &KeyText, moving: &SaState, now: u64) -> SaInfo {
    let has = |bit: u32| fixed.flags & bit != 0;
    let used = |at: u64| (at != 0).then(|| clock::since(at, now));
    SaInfo {
        slot: SlotRef { slot, generation: fixed.generation },
        proto: fixed.proto,
        spi: fixed.spi,
        src: IpAddr::from(fixed.src),
        dst: IpAddr::from(fixed.dst),
        state: state_at(&fixed.soft, &fixed.hard, moving, now),
        flags: fixed.flags,
        encr: fixed.encr,
        auth: fixed.auth,
        key_bits: fixed.key_bits,
        engine: fixed.engine,
        replay_window: fixed.replay_window,
        seq: moving.seq,
        top: moving.top,
        encap: has(flag::UDP_ENCAP).then(|| encap(fixed)),
        moved_to: (fixed.peer != Addr::UNSPECIFIED).then(|| IpAddr::from(fixed.peer)),
        selectors: has(flag::SELECTORS).then_some(fixed.sel),
        pair_spi: has(flag::PAIRED).then_some(fixed.pair_spi),
        km: fixed.km,
        km_cookie: fixed.km_cookie,
        action: fixed.action,
        soft: fixed.soft,
        hard: fixed.hard,
        idle: fixed.idle,
        outer: fixed.outer,
        packets: moving.packets,
        bytes: moving.bytes,
        auth_failed: moving.auth_failed,
        replayed: moving.replayed,
        added: UNIX_EPOCH + Duration::from_secs(moving.added_wall),
        age: clock::since(moving.added, now),
        first_use: used(moving.first_use),
        last_use: used(moving.last_use),
        src_identity: None,
        dst_identity: None,
        key: transform::cipher_key(keys),
        salt: transform::salt(fixed, keys),
        auth_key: transform::auth_key(keys),
    }
}
