//! SAs that a batch has added and not written yet: many together take a system call for each map, where each alone takes one
//! for each of its records.
//!
//! They have their slots, and stand in the register; nothing in the maps leads to them. Whatever else is done under the lock,
//! or gives it back, has them written first ([`Sadb::write_pending`](super::Sadb)).

use super::batch::{CHUNK, WipedList};
use super::error::SadbError;
use super::maps::SaMaps;
use super::slots::Known;
use crate::policy::Rule;
use crate::sa::{InboundKey, KeyText, SaState, SaStatic, SlotRef, flag, state};
use bytemuck::Pod;
use std::sync::Arc;
use zeroize::Zeroize;

/// What is to be written. The lists of records are of one length; wiped when dropped.
#[derive(Default)]
pub(super) struct Pending {
    slots: Vec<u32>,
    statics: Vec<SaStatic>,
    keys: Vec<KeyText>,
    states: Vec<SaState>,
    inbound: Index,
    outbound: Index,
    /// The records of slots from the first on that hold nothing, as far as they were read.
    free: Option<(u32, WipedList<SaState>)>,
    /// The rules in force.
    rules: Option<Arc<[Rule]>>,
}

/// New elements of an index.
#[derive(Default)]
struct Index {
    names: Vec<InboundKey>,
    slots: Vec<SlotRef>,
}

impl Index {
    fn push(&mut self, known: &Known) {
        self.names.push(known.name());
        self.slots.push(known.slot);
    }
}

impl Pending {
    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Whether no more are to be put off.
    pub(super) fn is_full(&self) -> bool {
        self.slots.len() >= CHUNK as usize
    }

    /// Puts off an SA.
    pub(super) fn push(&mut self, known: &Known, record: &SaStatic, text: &KeyText, moving: &SaState) {
        // All room at once: a list that grew would leave copies of keys behind.
        self.statics.reserve_exact(CHUNK as usize - self.statics.len().min(CHUNK as usize));
        self.keys.reserve_exact(CHUNK as usize - self.keys.len().min(CHUNK as usize));
        self.slots.push(known.slot.slot);
        self.statics.push(*record);
        self.keys.push(*text);
        self.states.push(*moving);
        if known.flags & flag::INBOUND != 0 {
            self.inbound.push(known);
        }
        if known.flags & flag::OUTBOUND != 0 {
            self.outbound.push(known);
        }
    }

    fn index(&self, slot: u32) -> Option<usize> {
        // The one that is asked for is the latest, or its partner just before it.
        self.slots.iter().rposition(|other| *other == slot)
    }

    /// The state record of an SA that was put off.
    pub(super) fn state(&self, slot: u32) -> Option<&SaState> {
        self.states.get(self.index(slot)?)
    }

    /// The record of an SA that was put off.
    pub(super) fn record_mut(&mut self, slot: u32) -> Option<&mut SaStatic> {
        let index = self.index(slot)?;
        self.statics.get_mut(index)
    }

    /// The generation of a slot that holds nothing. Valid until something else than an add that is put off writes.
    pub(super) fn generation(&mut self, maps: &SaMaps, slot: u32) -> Result<u32, SadbError> {
        if self.is_empty() {
            // It may be the only one.
            return Ok(maps.states.get(slot)?.generation);
        }
        let at =
            |(first, read): &(u32, WipedList<SaState>)| Some(read.get(slot.checked_sub(*first)? as usize)?.generation);
        if let Some(generation) = self.free.as_ref().and_then(at) {
            return Ok(generation);
        }
        self.free = Some((slot, maps.states.range(slot, CHUNK)?));
        self.free.as_ref().and_then(at).ok_or(SadbError::NotFound)
    }

    /// The rules in force, which `read` gives where they are not known.
    pub(super) fn rules(
        &mut self,
        read: impl FnOnce() -> Result<Arc<[Rule]>, SadbError>,
    ) -> Result<Arc<[Rule]>, SadbError> {
        match &self.rules {
            Some(rules) => Ok(rules.clone()),
            None => Ok(self.rules.insert(read()?).clone()),
        }
    }

    /// Writes what was put off: contents first, then the state words, and what leads there last.
    pub(super) fn write(&mut self, maps: &mut SaMaps) -> Result<(), SadbError> {
        if !self.is_empty() {
            maps.statics.set_many(&self.slots, &self.statics)?;
            maps.keys.set_many(&self.slots, &self.keys)?;
            // The times before the words, see `slots::enliven`.
            let asleep: Vec<_> = self.states.iter().map(|s| SaState { state: state::FREE.into(), ..*s }).collect();
            maps.states.set_many(&self.slots, &asleep)?;
            maps.states.set_many(&self.slots, &self.states)?;
            maps.inbound.insert_many(&self.inbound.names, &self.inbound.slots)?;
            maps.names.insert_many(&self.outbound.names, &self.outbound.slots)?;
        }
        self.clear();
        Ok(())
    }

    /// Forgets all, which is what becomes of it when it could not be written.
    pub(super) fn clear(&mut self) {
        wipe(&mut self.statics);
        wipe(&mut self.keys);
        self.slots.clear();
        self.states.clear();
        (self.inbound, self.outbound) = (Index::default(), Index::default());
        (self.free, self.rules) = (None, None);
    }
}

fn wipe<T: Pod>(records: &mut Vec<T>) {
    bytemuck::cast_slice_mut::<T, u8>(records).zeroize();
    records.clear();
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.clear();
    }
}
