//! Repair after a tool died between the writes of one change (architecture section 4, "Lock and crash safety").
//!
//! What a dead tool can have left behind: a slot with contents but no valid state word, an inbound SA that no index
//! leads to, an index or binding that leads to a slot with another generation, a GHASH table or a replay window without its SA, one half of
//! a pair, rules without the ends of a tunnel that was just defined, a generation of the policy that is not in force. An
//! SA that was only half there, on its way in or out, is removed; bindings are recomputed.

use super::clock;
use super::error::SadbError;
use super::maps::Wiped;
use super::sadb::Sadb;
use super::slots::{self, Register};
use super::spd;
use crate::sa::{KeyText, SaStatic, SlotRef, Window, flag};
use bytemuck::Zeroable;

/// Brings every map back into agreement. The caller holds the lock and clears the dirty flag afterwards.
pub(super) fn repair(sadb: &mut Sadb) -> Result<(), SadbError> {
    sadb.maps.set_dirty(true)?;
    sadb.register = Register::read(&sadb.maps)?;
    let now = clock::boot_time();
    // Inbound SAs that no packet reaches, and the dead, which nobody will miss.
    let mut broken = vec![];
    for known in sadb.register.iter() {
        let lost = known.flags & flag::INBOUND != 0 && sadb.maps.inbound.get(&known.name())? != Some(known.slot);
        if lost || slots::is_dead(&sadb.maps.states.get(known.slot.slot)?, now) {
            broken.push(known.clone());
        }
    }
    for known in &broken {
        sadb.register.remove(known.slot.slot);
    }
    for (key, slot) in sadb.maps.inbound.entries()? {
        let good = sadb.register.get(slot.slot).is_some_and(|k| k.slot == slot && k.name() == key);
        if !good {
            sadb.maps.inbound.remove(&key)?;
        }
    }
    name_outbound(sadb)?;
    sadb.rebind()?;
    unpair(sadb)?;
    slots::grace_period();
    sadb.policy.sweep()?;
    for known in broken {
        slots::wipe(&mut sadb.maps, known.slot)?;
    }
    wipe_leftovers(sadb)?;
    spd::resolve_in_force(sadb)
}

/// Makes the index of the outbound SAs anew: nothing but this index depends on it.
fn name_outbound(sadb: &mut Sadb) -> Result<(), SadbError> {
    for (name, slot) in sadb.maps.names.entries()? {
        if !sadb.register.get(slot.slot).is_some_and(|k| k.slot == slot && k.name() == name) {
            sadb.maps.names.remove(&name)?;
        }
    }
    for known in sadb.register.iter().filter(|known| known.flags & flag::OUTBOUND != 0) {
        if sadb.maps.names.get(&known.name())? != Some(known.slot) {
            sadb.maps.names.insert(&known.name(), &known.slot)?;
        }
    }
    Ok(())
}

/// Clears links to partners that do not link back.
fn unpair(sadb: &mut Sadb) -> Result<(), SadbError> {
    let linked: Vec<_> = sadb.register.iter().filter(|k| k.flags & flag::PAIRED != 0).cloned().collect();
    for known in linked {
        let other = known.flags & flag::BOTH ^ flag::BOTH;
        let found = sadb.register.occupant(other, known.proto, known.pair_spi, known.src);
        if found.is_some_and(|f| f.flags & flag::PAIRED != 0 && f.pair_spi == known.spi) {
            continue;
        }
        let mut record = Wiped::new(sadb.maps.statics.get(known.slot.slot)?);
        record.flags &= !flag::PAIRED;
        record.pair_spi = 0;
        sadb.maps.statics.set(known.slot.slot, &record)?;
        let moving = sadb.maps.states.get(known.slot.slot)?;
        sadb.register.put(slots::Known::new(known.slot.slot, &record, &moving));
    }
    Ok(())
}

/// Wipes what lies in slots that hold no SA.
fn wipe_leftovers(sadb: &mut Sadb) -> Result<(), SadbError> {
    for slot in 1..sadb.maps.states.len() {
        if sadb.register.get(slot).is_some() {
            continue;
        }
        let moving = sadb.maps.states.get(slot)?;
        let fixed = Wiped::new(sadb.maps.statics.get(slot)?);
        let generation = moving.generation.max(fixed.generation);
        let clean = SaStatic { generation: fixed.generation, ..SaStatic::zeroed() };
        let unused = moving.generation == 0 || moving == slots::free_state(moving.generation);
        if bytemuck::bytes_of(&*fixed) != bytemuck::bytes_of(&clean)
            || !unused
            || sadb.maps.windows.get(slot)? != Window::zeroed()
            || *Wiped::new(sadb.maps.keys.get(slot)?) != KeyText::zeroed()
        {
            slots::wipe(&mut sadb.maps, SlotRef { slot, generation })?;
        }
    }
    let pages = sadb.maps.pages.keys()?.into_iter().map(|key| key.slot).collect();
    let tables = [sadb.maps.ghash.keys()?, sadb.maps.blowfish.keys()?, sadb.maps.identities.keys()?, pages];
    for slot in tables.into_iter().flatten() {
        if sadb.register.get(slot).is_none() {
            let generation = sadb.maps.states.get(slot)?.generation;
            slots::wipe(&mut sadb.maps, SlotRef { slot, generation })?;
        }
    }
    Ok(())
}
