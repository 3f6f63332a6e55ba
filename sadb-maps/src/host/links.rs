//! What leads to an SA: indexes, outbound bindings, the link between the two of a pair; and how an SA is taken out of all
//! of them before its slot is wiped.

use super::bind;
use super::clock;
use super::diagnostic::Diagnostic as D;
use super::error::SadbError;
use super::layout::BINDINGS_PER_SLOT;
use super::maps::Wiped;
use super::sadb::Sadb;
use super::slots::{self, Known};
use crate::policy::Rule;
use crate::sa::{BindingKey, Bundle, InboundKey, SaState, SaStatic, SlotRef, flag, state};
use std::collections::HashMap;
use std::sync::Arc;

/// SAs from which on they are wiped together.
const MANY: usize = 16;

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
        if found.state_at(&self.moving(found.slot.slot)?, clock::boot_time()) != state::MATURE {
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
        let slot = known.slot.slot;
        let link = |record: &mut SaStatic| {
            record.pair_spi = spi;
            record.flags = if spi == 0 { record.flags & !flag::PAIRED } else { record.flags | flag::PAIRED };
            record.flags
        };
        let flags = match self.pending.record_mut(slot) {
            Some(record) => link(record),
            None => {
                let mut record = Wiped::new(self.maps.statics.get(slot)?);
                link(&mut record);
                self.maps.statics.set(slot, &record)?;
                record.flags
            }
        };
        (known.flags, known.pair_spi) = (flags, spi);
        self.register.put(known);
        Ok(())
    }

    /// The state record of an SA, written or not.
    pub(super) fn moving(&self, slot: u32) -> Result<SaState, SadbError> {
        self.pending.state(slot).map_or_else(|| self.maps.states.get(slot), |state| Ok(*state))
    }

    /// The rules in force.
    pub(super) fn rules(&self) -> Result<Arc<[Rule]>, SadbError> {
        self.policy.in_force()
    }

    /// Makes the SA the one that its bindings use.
    ///
    /// # Errors
    /// [`SadbError::TooManyBindings`], and then it has some of them.
    pub(super) fn bind(&mut self, known: &Known) -> Result<(), SadbError> {
        for key in bind::keys(known, &self.rules()?) {
            let bundle = self.maps.outbound.get(&key)?.unwrap_or_default();
            if !self.maps.outbound.insert_if_room(&key, &bind::with(bundle, known.proto, known.slot))? {
                return Err(SadbError::TooManyBindings(self.binding_room()));
            }
            // Should the SA go soon, the next packet is to ask again at once.
            self.maps.acquires.remove(&key)?;
        }
        Ok(())
    }

    /// Number of bindings that fit.
    pub(super) fn binding_room(&self) -> u32 {
        BINDINGS_PER_SLOT * self.maps.states.len()
    }

    /// Every binding that should be there under these rules.
    pub(super) fn wanted(&self, rules: &[Rule]) -> Result<HashMap<BindingKey, Bundle>, SadbError> {
        self.wanted_by(self.register.iter(), rules)
    }

    /// The bindings of some SAs. The dead are passed over: they would only shadow an older SA that still works.
    fn wanted_by<'a>(
        &self,
        all: impl Iterator<Item = &'a Known>,
        rules: &[Rule],
    ) -> Result<HashMap<BindingKey, Bundle>, SadbError> {
        let now = clock::boot_time();
        let mut living = vec![];
        for known in all.filter(|known| known.flags & flag::OUTBOUND != 0) {
            if !known.is_gone(&self.maps.states.get(known.slot.slot)?, now) {
                living.push(known);
            }
        }
        Ok(bind::wanted(living.into_iter(), rules))
    }

    /// Writes the bindings that are missing or wrong, and gives those that the map has no room for.
    pub(super) fn bind_ahead(
        &mut self,
        wanted: &HashMap<BindingKey, Bundle>,
    ) -> Result<Vec<(BindingKey, Bundle)>, SadbError> {
        let present: HashMap<_, _> = self.maps.outbound.entries()?.into_iter().collect();
        let mut waiting = vec![];
        for (key, bundle) in wanted.iter().filter(|(key, bundle)| present.get(key) != Some(bundle)) {
            if !self.maps.outbound.insert_if_room(key, bundle)? {
                waiting.push((*key, *bundle));
            }
        }
        Ok(waiting)
    }

    /// Brings every outbound binding in line with rules and SAs: what is missing or wrong is written first, what
    /// should not be there is removed last, so that no packet misses an SA that it had. Should there be more than the
    /// map holds, the rest is left out, and what it is for is dropped.
    pub(super) fn rebind(&mut self) -> Result<(), SadbError> {
        let wanted = self.wanted(&self.rules()?)?;
        let waiting = self.bind_ahead(&wanted)?;
        for key in self.maps.outbound.keys()?.iter().filter(|key| !wanted.contains_key(key)) {
            self.maps.outbound.remove(key)?;
        }
        for (key, bundle) in &waiting {
            if !self.maps.outbound.insert_if_room(key, bundle)? {
                break;
            }
        }
        Ok(())
    }

    /// Unlinks SAs, waits until no program uses them, wipes and frees their slots.
    pub(super) fn remove(&mut self, all: Vec<Known>) -> Result<(), SadbError> {
        match all.as_slice() {
            [known] => self.unlink(known)?,
            all => {
                if all.len() > MANY {
                    self.unlink_many(all)?;
                } else {
                    all.iter().try_for_each(|known| self.unlink_names(known))?;
                }
                self.rebind()?;
            }
        }
        self.discard(all)
    }

    /// What [`Sadb::unlink_names`] does, for many together.
    fn unlink_many(&mut self, all: &[Known]) -> Result<(), SadbError> {
        self.register.remove_many(all);
        for known in all {
            // Only of one that stays: the others are not in the register any more.
            if let Some(partner) = self.paired(known) {
                self.set_pair(partner, 0)?;
            }
        }
        for bit in [flag::INBOUND, flag::OUTBOUND] {
            let of = all.iter().filter(|known| known.flags & bit != 0);
            // A name that leads to another SA by now is that of one that stays.
            let free = of.filter(|k| self.register.occupant(bit, k.proto, k.spi, k.dst).is_none());
            let names: Vec<InboundKey> = free.map(Known::name).collect();
            let index = if bit == flag::INBOUND { &mut self.maps.inbound } else { &mut self.maps.names };
            index.remove_many(&names)?;
        }
        Ok(())
    }

    /// Takes an SA out of the indexes and out of the register. Outbound bindings go to the newest SA that is left.
    pub(super) fn unlink(&mut self, known: &Known) -> Result<(), SadbError> {
        self.unlink_names(known)?;
        let rules = self.rules()?;
        let keys = bind::keys(known, &rules);
        if keys.is_empty() {
            return Ok(());
        }
        // Of two that were negotiated each has its one binding, whatever the rules are.
        let negotiated = |k: &Known| k.action != 0 && known.action != 0;
        let rivals = self.register.between(known.src, known.dst);
        let rivals = rivals.filter(|k| !negotiated(k) || bind::keys(k, &[]) == keys);
        let left = self.wanted_by(rivals, &rules)?;
        for key in keys {
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

    /// Takes an SA out of register and indexes, and the link from its partner.
    pub(super) fn unlink_names(&mut self, known: &Known) -> Result<(), SadbError> {
        if let Some(partner) = self.paired(known) {
            self.set_pair(partner, 0)?;
        }
        self.register.remove(known.slot.slot);
        let name = known.name();
        if known.flags & flag::INBOUND != 0 && self.maps.inbound.get(&name)? == Some(known.slot) {
            self.maps.inbound.remove(&name)?;
        }
        if known.flags & flag::OUTBOUND != 0 && self.maps.names.get(&name)? == Some(known.slot) {
            self.maps.names.remove(&name)?;
        }
        Ok(())
    }

    /// Wipes and frees slots that nothing refers to any more.
    pub(super) fn discard(&mut self, all: Vec<Known>) -> Result<(), SadbError> {
        if all.is_empty() {
            return Ok(());
        }
        // A reserved SPI has no key, and a program that still finds it drops the packet.
        let larval = all.len() <= MANY && {
            let states =
                all.iter().map(|known| self.maps.states.get(known.slot.slot)).collect::<Result<Vec<_>, _>>()?;
            states.iter().all(|moving| moving.state == u64::from(state::LARVAL))
        };
        if !larval {
            slots::grace_period();
        }
        for known in &all {
            if self.register.get(known.slot.slot).is_some_and(|k| k.slot == known.slot) {
                self.register.remove(known.slot.slot);
            }
        }
        match all.as_slice() {
            // The tables beside the slots are looked through once for all.
            all if all.len() > MANY => {
                let slots: Vec<SlotRef> = all.iter().map(|known| known.slot).collect();
                slots::wipe_many(&mut self.maps, &slots)
            }
            all => all.iter().try_for_each(|known| slots::wipe(&mut self.maps, known.slot)),
        }
    }
}
