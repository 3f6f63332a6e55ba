//! What leads to an SA: indexes, outbound bindings, the link between the two of a pair; and how an SA is taken out of all
//! of them before its slot is wiped.

use super::bind;
use super::diagnostic::Diagnostic as D;
use super::error::SadbError;
use super::maps::Wiped;
use super::sadb::Sadb;
use super::slots::{self, Known};
use crate::policy::Rule;
use crate::sa::{Bundle, SlotRef, flag, state};
use std::collections::HashMap;

impl Sadb {
    /// The partner that `known` asks for, checked: of the other direction, alive, alone, ends swapped.
    pub(super) fn partner(&self, spi: u32, known: &Known) -> Result<Known, SadbError> {
        let fail = |code| Err(SadbError::diagnostic(code));
        if known.flags & flag::BOTH == flag::BOTH {
            return fail(D::PairInappropriate);
        }
        let other = known.flags & flag::BOTH ^ flag::BOTH;
        let Some(found) = self.register.occupant(other, known.proto, spi, known.src) else {
            return fail(D::PairInappropriate);
        };
        if found.flags & flag::BOTH == flag::BOTH {
            return fail(D::PairInappropriate);
        }
        // Both SAs of a pair have one mode (RFC 4301 section 4.1).
        if (found.flags ^ known.flags) & flag::TUNNEL != 0 {
            return fail(D::PairInappropriate);
        }
        if found.src != known.dst {
            return fail(D::PairAddressMismatch);
        }
        if found.flags & flag::PAIRED != 0 {
            return fail(D::PairAlready);
        }
        if self.maps.states.get(found.slot.slot)?.state != u64::from(state::MATURE) {
            return fail(D::PairInappropriate);
        }
        Ok(found.clone())
    }

    /// The partner that an SA is linked to.
    pub(super) fn paired(&self, known: &Known) -> Option<Known> {
        if known.flags & flag::PAIRED == 0 {
            return None;
        }
        let other = known.flags & flag::BOTH ^ flag::BOTH;
        let found = self.register.occupant(other, known.proto, known.pair_spi, known.src)?;
        (found.flags & flag::PAIRED != 0 && found.pair_spi == known.spi).then(|| found.clone())
    }

    /// Links an SA to a partner, or with SPI 0 to none.
    pub(super) fn set_pair(&mut self, mut known: Known, spi: u32) -> Result<(), SadbError> {
        let mut record = Wiped::new(self.maps.statics.get(known.slot.slot)?);
        record.pair_spi = spi;
        record.flags = if spi == 0 { record.flags & !flag::PAIRED } else { record.flags | flag::PAIRED };
        self.maps.statics.set(known.slot.slot, &record)?;
        (known.flags, known.pair_spi) = (record.flags, spi);
        self.register.put(known);
        Ok(())
    }

    /// The rules in force.
    pub(super) fn rules(&self) -> Result<Vec<Rule>, SadbError> {
        self.policy.in_force()
    }

    /// Makes the SA the one that its bindings use.
    pub(super) fn bind(&mut self, known: &Known) -> Result<(), SadbError> {
        for key in bind::keys(known, &self.rules()?) {
            let bundle = self.maps.outbound.get(&key)?.unwrap_or_default();
            self.maps.outbound.insert(&key, &bind::with(bundle, known.proto, known.slot))?;
            // Should the SA go soon, the next packet is to ask again at once.
            self.maps.acquires.remove(&key)?;
        }
        Ok(())
    }

    /// Brings every outbound binding in line with rules and SAs: what is missing or wrong is written first, what
    /// should not be there is removed last, so that no packet misses an SA that it had.
    pub(super) fn rebind(&mut self) -> Result<(), SadbError> {
        let wanted = bind::wanted(self.register.iter(), &self.rules()?);
        let present: HashMap<_, _> = self.maps.outbound.entries()?.into_iter().collect();
        for (key, bundle) in wanted.iter().filter(|(key, bundle)| present.get(key) != Some(bundle)) {
            self.maps.outbound.insert(key, bundle)?;
        }
        for key in present.keys().filter(|key| !wanted.contains_key(key)) {
            self.maps.outbound.remove(key)?;
        }
        Ok(())
    }

    /// Unlinks SAs, waits until no program uses them, wipes and frees their slots.
    pub(super) fn remove(&mut self, all: Vec<Known>) -> Result<(), SadbError> {
        if let [known] = all.as_slice() {
            self.unlink(known)?;
        } else {
            for known in &all {
                self.unlink_inbound(known)?;
            }
            self.rebind()?;
        }
        self.discard(all)
    }

    /// Takes an SA out of the indexes and out of the register. Outbound bindings go to the newest SA that is left.
    pub(super) fn unlink(&mut self, known: &Known) -> Result<(), SadbError> {
        self.unlink_inbound(known)?;
        let rules = self.rules()?;
        let rivals = self.register.iter().filter(|k| k.src == known.src && k.dst == known.dst);
        let left = bind::wanted(rivals, &rules);
        for key in bind::keys(known, &rules) {
            let Some(bundle) = self.maps.outbound.get(&key)?.filter(|b| b.sa.contains(&known.slot)) else { continue };
            let rest = Bundle { sa: bundle.sa.map(|s| if s == known.slot { SlotRef::default() } else { s }) };
            match left.get(&key) {
                Some(next) => self.maps.outbound.insert(&key, next)?,
                None if rest == Bundle::default() => self.maps.outbound.remove(&key)?,
                None => self.maps.outbound.insert(&key, &rest)?,
            }
        }
        Ok(())
    }

    /// Takes an SA out of register and inbound index, and the link from its partner.
    pub(super) fn unlink_inbound(&mut self, known: &Known) -> Result<(), SadbError> {
        if let Some(partner) = self.paired(known) {
            self.set_pair(partner, 0)?;
        }
        self.register.remove(known.slot.slot);
        if known.flags & flag::INBOUND != 0 && self.maps.inbound.get(&known.inbound_key())? == Some(known.slot) {
            self.maps.inbound.remove(&known.inbound_key())?;
        }
        Ok(())
    }

    /// Wipes and frees slots that nothing refers to any more.
    pub(super) fn discard(&mut self, all: Vec<Known>) -> Result<(), SadbError> {
        if all.is_empty() {
            return Ok(());
        }
        slots::grace_period();
        for known in all {
            if self.register.get(known.slot.slot).is_some_and(|k| k.slot == known.slot) {
                self.register.remove(known.slot.slot);
            }
            slots::wipe(&mut self.maps, known.slot)?;
        }
        Ok(())
    }
}
