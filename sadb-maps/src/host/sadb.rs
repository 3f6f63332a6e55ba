//! The SADB: ADD, UPDATE, DELETE, GET, DUMP, FLUSH and GETSPI on the maps (RFC 2367 section 3.1, spec sections 7.9 and
//! 8.2), and the outbound bindings that follow from them.
//!
//! Every operation takes the instance lock. A change first raises the dirty flag and announces itself, then writes in
//! an order in which every prefix is a valid state: contents of a slot before the index that leads to it, and the index
//! gone before the contents. Who dies in between leaves the flag, and the next holder repairs (module `repair`).

use super::bind;
use super::bus::Publisher;
use super::check::{self, LocalAddresses};
use super::diagnostic::Diagnostic as D;
use super::epoch::EpochSource;
use super::error::SadbError;
use super::held::Held;
use super::identity::Identity;
use super::instance::Instance;
use super::lock::Mark;
use super::maps::{SaMaps, Wiped};
use super::pending::Pending;
use super::pfkey::{Message, kind};
use super::slots::{self, Known, LARVAL_SECONDS, Register};
use super::spd::store::PolicyMaps;
use super::spec::{Direction, IvSource, Mode, SaInfo, SaKey, SaSpec, SaUpdate};
use super::tunnels::Tunnel;
use super::{clock, transform, tunnels, window};
use crate::sa::{
    BindingKey, Bundle, Identities, InboundKey, Lifetime, OuterHeader, SaState, SaStatic, SlotRef, flag, km, state,
};
use bytemuck::Zeroable;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Instant;

/// Tries to find a free SPI at random before the range counts as full.
const SPI_TRIES: u32 = 1000;

/// SPIs up to this one are reserved by IANA.
const LAST_RESERVED_SPI: u32 = 255;

/// The handle on the SADB of an instance. Every change is announced on the [bus](super::bus).
pub struct Sadb {
    pub(super) instance: Instance,
    pub(super) maps: SaMaps,
    pub(super) policy: PolicyMaps,
    epoch: EpochSource,
    local: Option<LocalAddresses>,
    pub(super) register: Register,
    /// Changes up to which `register` is true.
    pub(super) seen: Option<Mark>,
    /// Changes that the latest operation saw, its own included.
    #[cfg(test)]
    pub(super) latest: Option<Mark>,
    /// The lock, between the operations of a batch.
    pub(super) kept: Option<Held>,
    pub(super) batching: bool,
    /// SAs of the batch that are not in the maps yet.
    pub(super) pending: Pending,
    pub(super) gave_back: Option<Instant>,
    /// Definitions of tunnels, as long as the lock is kept.
    pub(super) tunnels: Option<Vec<Tunnel>>,
    /// `None` where there is no bus: the messages are hints, the maps are what counts.
    pub(super) publisher: Option<Publisher>,
    /// Messages to send once the lock is given back.
    pub(super) news: Vec<Message>,
}

impl std::fmt::Debug for Sadb {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sadb").field("instance", &self.instance.name()).finish_non_exhaustive()
    }
}

/// What becomes of an SA that is added.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Added {
    /// Outbound, traffic goes by it at once.
    Bound,
    /// Outbound, it waits to be bound.
    Unbound,
    /// It takes the place of a larval one, and of no other.
    Matured,
}

impl Sadb {
    /// Opens the maps of an attached instance.
    ///
    /// # Errors
    /// Not attached; another network namespace; maps of another version.
    pub fn open(instance: &Instance) -> Result<Self, SadbError> {
        Ok(Self {
            instance: instance.clone(),
            maps: SaMaps::open(instance)?,
            policy: PolicyMaps::open(instance)?,
            epoch: EpochSource::default(),
            local: None,
            register: Register::default(),
            seen: None,
            #[cfg(test)]
            latest: None,
            kept: None,
            batching: false,
            pending: Pending::default(),
            gave_back: None,
            tunnels: None,
            publisher: Publisher::open().ok(),
            news: vec![],
        })
    }

    /// Uses these addresses as those of this host instead of asking the kernel before every ADD.
    pub fn set_local_addresses(&mut self, local: Option<LocalAddresses>) {
        self.local = local;
    }

    /// Number of SAs that fit.
    pub fn capacity(&self) -> u32 {
        self.maps.states.len().saturating_sub(1)
    }

    /// Adds an SA (ADD). An inbound SA whose SPI the same key manager reserved with [`Sadb::reserve_spi`] takes the
    /// place of the larval one (UPDATE of a larval SA). An outbound SA is bound at once: traffic switches to it.
    ///
    /// # Errors
    /// A [`SadbError::Diagnostic`] of spec section 7.9, [`SadbError::Exists`], [`SadbError::Full`],
    /// [`SadbError::TooManyBindings`], [`SadbError::Epoch`].
    pub fn add(&mut self, spec: &SaSpec) -> Result<SlotRef, SadbError> {
        self.add_with(spec, Added::Bound)
    }

    /// Gives a larval SA its keys and all else (UPDATE of a larval SA), whoever reserved it.
    ///
    /// # Errors
    /// As [`Sadb::add`]; [`SadbError::NotFound`] when there is no SA of that name, [`D::EncryptionKeyPresent`] when it has
    /// its keys already.
    pub fn mature(&mut self, spec: &SaSpec) -> Result<SlotRef, SadbError> {
        self.add_with(spec, Added::Matured)
    }

    /// Adds an SA as [`Sadb::add`] does, but leaves an outbound one unbound until [`Sadb::switch_outbound`], whatever
    /// becomes of policy meanwhile.
    ///
    /// # Errors
    /// As [`Sadb::add`].
    pub fn add_unbound(&mut self, spec: &SaSpec) -> Result<SlotRef, SadbError> {
        self.add_with(spec, Added::Unbound)
    }

    fn add_with(&mut self, spec: &SaSpec, how: Added) -> Result<SlotRef, SadbError> {
        let read;
        let local = match &self.local {
            Some(local) => local,
            None => {
                read = LocalAddresses::read()?;
                &read
            }
        };
        check::check(spec, local)?;
        let (inbound, outbound) = check::tables(spec.direction, spec.dst, local);
        let bits = (if inbound { flag::INBOUND } else { 0 }) | (if outbound { flag::OUTBOUND } else { 0 });
        let mut record = Wiped::new(slots::record(spec, bits));
        record.soft.add = record.soft.add.min(earlier(spec, outbound)?);
        if outbound && spec.mode == Mode::Tunnel && spec.outer == OuterHeader::default() {
            record.outer = self.outer_header(spec.src, spec.dst)?;
        }
        if outbound && how == Added::Unbound {
            record.flags |= flag::UNBOUND;
        }
        let material = transform::install(spec, bits, &mut record)?;
        let (first_iv, iv_limit) = match spec.iv {
            // An inbound SA gives out no IV, so it costs no epoch.
            IvSource::Epoch if outbound => {
                let epoch = u64::from(self.epoch.next_epoch()?);
                (epoch << 32, (epoch + 1) << 32)
            }
            IvSource::Epoch | IvSource::FreshKey => (1, u64::MAX),
        };
        record.iv_limit = iv_limit;
        let identities = (record.flags & flag::IDENTITIES != 0).then(|| identities(spec));
        let moving = SaState {
            state: state::MATURE.into(),
            seq: if outbound { spec.replay_value } else { 0 },
            top: if inbound { spec.replay_value } else { 0 },
            iv: first_iv,
            added: clock::boot_time(),
            added_wall: clock::wall_seconds(),
            ..SaState::default()
        };
        self.adding(|sadb, held| {
            let replaced = sadb.vacate(held, bits, spec, how)?;
            let partner = match spec.pair_spi {
                Some(spi) => Some(sadb.partner(spi, &Known::new(0, &record, &moving))?),
                None => None,
            };
            sadb.begin(held)?;
            let slot = sadb.allocate(held)?;
            record.generation = slot.generation;
            let moving = SaState { generation: slot.generation, ..moving };
            // What only some SAs have is written now, and wiped when nothing comes to lead there.
            window::write(&mut sadb.maps, slot.slot, record.ring_bits.into(), moving.top)?;
            if let Some(identities) = &identities {
                sadb.maps.identities.insert(&slot.slot, identities)?;
            }
            if let Some(table) = &material.ghash {
                sadb.maps.ghash.insert(&slot.slot, table)?;
            }
            if let Some(table) = &material.blowfish {
                sadb.maps.blowfish.insert(&slot.slot, table)?;
            }
            let known = Known::new(slot.slot, &record, &moving);
            let alone = !sadb.batching;
            let bound = outbound && how != Added::Unbound && {
                let Sadb { pending, policy, .. } = &mut *sadb;
                !bind::keys(&known, &pending.rules(|| policy.in_force())?).is_empty()
            };
            sadb.pending.push(&known, &record, &material.text, &moving);
            sadb.register.put(known.clone());
            if alone || bound || replaced.is_some() || sadb.pending.is_full() {
                sadb.write_pending()?;
            }
            let kind = if replaced.is_some() { kind::UPDATE } else { kind::ADD };
            if let Some(larval) = replaced {
                sadb.discard(vec![larval])?;
            }
            if let Some(partner) = partner {
                sadb.set_pair(partner, spec.spi)?;
            }
            if bound && let Err(error) = sadb.bind(&known) {
                sadb.write_pending()?;
                sadb.remove(vec![known])?;
                return Err(error);
            }
            if !held.heard {
                return Ok(slot);
            }
            let info = slots::info(slot.slot, &record, &material.text, &moving, clock::boot_time());
            let [src_identity, dst_identity] = [&spec.src_identity, &spec.dst_identity].map(Option::clone);
            let info = SaInfo { src_identity, dst_identity, ..info };
            sadb.news.push(Message::about(kind, &info));
            Ok(slot)
        })
    }

    /// The outer header that the tunnel between these ends is defined with.
    fn outer_header(&mut self, local: IpAddr, remote: IpAddr) -> Result<OuterHeader, SadbError> {
        // Definitions change under the lock.
        if self.kept.is_none() || self.tunnels.is_none() {
            self.tunnels = Some(tunnels::read(&self.instance)?);
        }
        Ok(tunnels::outer_header(self.tunnels.as_deref().unwrap_or_default(), local, remote))
    }

    /// Makes room in the tables: a dead SA of the same name is removed, a larval one of the same key manager is handed
    /// back to be replaced.
    fn vacate(&mut self, held: &mut Held, bits: u32, spec: &SaSpec, how: Added) -> Result<Option<Known>, SadbError> {
        let matured = how == Added::Matured;
        let now = clock::boot_time();
        while let Some(known) = self.register.occupant(bits, spec.proto, spec.spi, spec.dst.into()).cloned() {
            let moving = self.moving(known.slot.slot)?;
            if known.is_gone(&moving, now) {
                self.begin(held)?;
                self.write_pending()?;
                self.unlink(&known)?;
                self.discard(vec![known])?;
            } else if moving.state == u64::from(state::LARVAL)
                && (matured || (known.km == spec.km && spec.km != km::MANUAL))
            {
                return Ok(Some(known));
            } else if matured {
                return Err(SadbError::diagnostic(D::EncryptionKeyPresent));
            } else {
                return Err(SadbError::Exists);
            }
        }
        if matured { Err(SadbError::NotFound) } else { Ok(None) }
    }

    /// A free slot with the generation that its next content gets.
    fn allocate(&mut self, held: &mut Held) -> Result<SlotRef, SadbError> {
        let capacity = self.maps.states.len();
        let slot = match self.register.free(capacity) {
            Some(slot) => slot,
            None => {
                // Room is worth more than what the data path would have said about their end.
                self.write_pending()?;
                self.remove_dead(held, |known, moving, now| known.is_gone(moving, now))?;
                self.register.free(capacity).ok_or(SadbError::Full(capacity.saturating_sub(1)))?
            }
        };
        // 0 marks a slot that was never used.
        let generation = match self.pending.generation(&self.maps, slot)?.wrapping_add(1) {
            0 => 1,
            generation => generation,
        };
        Ok(SlotRef { slot, generation })
    }

    /// Reserves a random SPI of the range with a larval inbound SA that lives 90 s (GETSPI).
    ///
    /// # Errors
    /// [`D::MalformedRange`] when the range is empty or begins below 256 (RFC 4303 section 2.1 reserves 1 to 255), [`SadbError::Exists`] when every SPI is taken,
    /// [`SadbError::Full`].
    pub fn reserve_spi(
        &mut self,
        proto: u8,
        src: IpAddr,
        dst: IpAddr,
        range: RangeInclusive<u32>,
        km: u8,
    ) -> Result<u32, SadbError> {
        if range.is_empty() || *range.start() <= LAST_RESERVED_SPI {
            return Err(SadbError::diagnostic(D::MalformedRange));
        }
        let span = u64::from(range.end() - range.start()) + 1;
        self.locked(|sadb, held| {
            let mut free = None;
            for _ in 0..SPI_TRIES {
                let spi = range.start() + (random()? % span) as u32;
                if sadb.register.occupant(flag::INBOUND, proto, spi, dst.into()).is_none() {
                    free = Some(spi);
                    break;
                }
            }
            let spi = free.ok_or(SadbError::Exists)?;
            sadb.begin(held)?;
            let slot = sadb.allocate(held)?;
            let record = SaStatic {
                generation: slot.generation,
                flags: flag::INBOUND,
                spi,
                proto,
                src: src.into(),
                dst: dst.into(),
                km,
                hard: Lifetime { add: LARVAL_SECONDS, ..Lifetime::default() },
                ..SaStatic::zeroed()
            };
            let moving = SaState {
                state: state::LARVAL.into(),
                generation: slot.generation,
                added: clock::boot_time(),
                added_wall: clock::wall_seconds(),
                ..SaState::default()
            };
            sadb.maps.statics.set(slot.slot, &record)?;
            slots::enliven(&mut sadb.maps, slot.slot, &moving)?;
            let known = Known::new(slot.slot, &record, &moving);
            sadb.maps.inbound.insert(&known.name(), &slot)?;
            sadb.tell(held, kind::GETSPI, &known)?;
            sadb.register.put(known);
            Ok(spi)
        })
    }

    /// Binds an outbound SA now: traffic of its bindings switches to it with one map update each.
    ///
    /// # Errors
    /// [`SadbError::NotFound`]; [`D::BadDirection`] for an inbound SA.
    pub fn switch_outbound(&mut self, key: &SaKey) -> Result<(), SadbError> {
        self.locked(|sadb, held| {
            let (known, _) = sadb.living(key)?;
            if known.flags & flag::OUTBOUND == 0 {
                return Err(SadbError::diagnostic(D::BadDirection));
            }
            sadb.begin(held)?;
            let mut record = Wiped::new(sadb.maps.statics.get(known.slot.slot)?);
            record.flags &= !flag::UNBOUND;
            sadb.rewrite(&known, &record)?;
            sadb.bind(&Known { flags: record.flags, ..known })
        })
    }

    /// Forgets that an ACQUIRE was raised for a binding, so that the next packet raises another one: for a key manager
    /// whose negotiation has failed (the error ACQUIRE of spec section 4.5).
    ///
    /// # Errors
    /// The map cannot be written.
    pub fn forget_acquire(&mut self, binding: &BindingKey) -> Result<(), SadbError> {
        self.maps.acquires.remove(binding)
    }

    /// Whether packets of this binding find an SA.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn is_bound(&self, binding: &BindingKey) -> Result<bool, SadbError> {
        Ok(self.maps.outbound.get(binding)?.is_some_and(|bundle| bundle != Bundle::default()))
    }

    /// The SA that packets of this binding go by: ESP where there are both.
    ///
    /// # Errors
    /// A map cannot be read.
    pub fn bound(&mut self, binding: &BindingKey) -> Result<Option<SaInfo>, SadbError> {
        let [esp, ah] = self.maps.outbound.get(binding)?.unwrap_or_default().sa;
        match self.get_slot(if esp.slot != 0 { esp } else { ah }) {
            Ok(info) => Ok(Some(info)),
            Err(SadbError::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The snapshot of the SA in a slot at this time.
    pub(super) fn info(&self, slot: u32, moving: &SaState, now: u64) -> Result<SaInfo, SadbError> {
        let fixed = Wiped::new(self.maps.statics.get(slot)?);
        let keys = Wiped::new(self.maps.keys.get(slot)?);
        self.with_identities(slots::info(slot, &fixed, &keys, moving, now))
    }

    /// The snapshot with the identities that the SA has.
    fn with_identities(&self, info: SaInfo) -> Result<SaInfo, SadbError> {
        if info.flags & flag::IDENTITIES == 0 {
            return Ok(info);
        }
        let kept = self.maps.identities.get(&info.slot.slot)?;
        let [src_identity, dst_identity] = kept.map_or([None, None], |i| [&i.src, &i.dst].map(Identity::of));
        Ok(SaInfo { src_identity, dst_identity, ..info })
    }

    /// One SA (GET).
    ///
    /// # Errors
    /// [`SadbError::NotFound`], also for a dead one.
    pub fn get(&mut self, key: &SaKey) -> Result<SaInfo, SadbError> {
        self.looking(|sadb| {
            let now = clock::boot_time();
            let (known, moving) = sadb.look_up(key)?.ok_or(SadbError::NotFound)?;
            if known.is_gone(&moving, now) || sadb.has_lost_its_partner(&known, now)? {
                return Err(SadbError::NotFound);
            }
            sadb.info(known.slot.slot, &moving, now)
        })
    }

    /// The SA of that name by the indexes of the maps, for whom reading all slots would take longer than one look.
    fn look_up(&self, key: &SaKey) -> Result<Option<(Known, SaState)>, SadbError> {
        let name = InboundKey { dst: key.dst.into(), spi: key.spi, proto: key.proto, reserved: [0; 3] };
        let tables = match key.direction {
            Direction::In => [Some(&self.maps.inbound), None],
            Direction::Out => [Some(&self.maps.names), None],
            Direction::Unspecified => [Some(&self.maps.names), Some(&self.maps.inbound)],
        };
        for table in tables.into_iter().flatten() {
            if let Some(place) = table.get(&name)?
                && let Some((known, moving)) = slots::read(&self.maps, place.slot)?
                && known.slot == place
                && known.matches(key, name.dst)
            {
                return Ok(Some((known, moving)));
            }
        }
        Ok(None)
    }

    /// Whether the hard limit of the other SA of a pair has passed, which is the end of both (spec section 7.9).
    fn has_lost_its_partner(&self, known: &Known, now: u64) -> Result<bool, SadbError> {
        if known.flags & flag::PAIRED == 0 {
            return Ok(false);
        }
        let direction = if known.flags & flag::INBOUND != 0 { Direction::Out } else { Direction::In };
        let key = SaKey { direction, ..SaKey::new(known.proto, known.pair_spi, known.src.into()) };
        let partner = self.look_up(&key)?.filter(|(partner, _)| partner.is_paired_with(known));
        Ok(partner.is_some_and(|(partner, moving)| partner.state_at(&moving, now) == state::DEAD))
    }

    /// The SA in a slot, if it is still the one of that generation. For events, which name slots.
    ///
    /// # Errors
    /// [`SadbError::NotFound`].
    pub fn get_slot(&mut self, slot: SlotRef) -> Result<SaInfo, SadbError> {
        self.locked(|sadb, _| {
            let known = sadb.register.get(slot.slot).filter(|k| k.slot == slot).ok_or(SadbError::NotFound)?;
            let index = known.slot.slot;
            let moving = sadb.maps.states.get(index)?;
            sadb.info(index, &moving, clock::boot_time())
        })
    }

    /// Every SA that is not dead (DUMP), of one protocol or of all, in the order of the slots.
    ///
    /// # Errors
    /// A map cannot be read.
    pub fn dump(&mut self, proto: Option<u8>) -> Result<Vec<SaInfo>, SadbError> {
        self.locked(|sadb, _| {
            let now = clock::boot_time();
            let states = slots::states(&sadb.maps, sadb.register.top())?;
            let of = |known: &Known| states.get(known.slot.slot as usize).copied().unwrap_or_default();
            let mut all = vec![];
            let mut chunk = slots::Chunk::default();
            for known in sadb.register.iter().filter(|k| proto.is_none_or(|p| k.proto == p)) {
                let moving = of(known);
                let partner = sadb.paired(known);
                if known.is_gone(&moving, now) || partner.is_some_and(|p| p.state_at(&of(&p), now) == state::DEAD) {
                    continue;
                }
                let (fixed, keys) = chunk.at(&sadb.maps, known.slot.slot)?;
                all.push(sadb.with_identities(slots::info(known.slot.slot, fixed, keys, &moving, now))?);
            }
            Ok(all)
        })
    }

    /// Changes limits, partner and cookie of a mature SA (UPDATE). Counters and the time it was added stay.
    ///
    /// # Errors
    /// [`SadbError::NotFound`]; [`D::BadState`] unless the SA is mature; the codes of limits and pairing;
    /// [`D::DuplicateKmProtocol`] and [`D::DuplicateKmCookie`] when another key manager owns the SA.
    pub fn update(&mut self, key: &SaKey, update: &SaUpdate) -> Result<(), SadbError> {
        self.locked(|sadb, held| {
            let (known, _) = sadb.living(key)?;
            let mut record = sadb.updated(&known, update)?;
            let partner = match update.pair_spi {
                Some(_) if record.flags & flag::PAIRED != 0 => return Err(SadbError::diagnostic(D::PairAlready)),
                Some(spi) => Some((spi, sadb.partner(spi, &known)?)),
                None => None,
            };
            sadb.begin(held)?;
            if let Some((spi, _)) = &partner {
                record.flags |= flag::PAIRED;
                record.pair_spi = *spi;
            }
            sadb.rewrite(&known, &record)?;
            if let Some((_, partner)) = partner {
                sadb.set_pair(partner, known.spi)?;
            }
            sadb.tell(held, kind::UPDATE, &known)
        })
    }

    /// Applies the limits of the update to both SAs of a pair (X_UPDATEPAIR).
    ///
    /// # Errors
    /// As [`Sadb::update`]; [`D::PairNotFound`] when the SA has no partner.
    pub fn update_pair(&mut self, key: &SaKey, update: &SaUpdate) -> Result<(), SadbError> {
        self.locked(|sadb, held| {
            let (known, _) = sadb.living(key)?;
            let partner = sadb.paired(&known).ok_or(SadbError::diagnostic(D::PairNotFound))?;
            // Both are checked before one is changed.
            let pair = [sadb.updated(&known, update)?, sadb.updated(&partner, update)?];
            sadb.begin(held)?;
            for (known, record) in [known, partner].iter().zip(&pair) {
                sadb.rewrite(known, record)?;
                sadb.tell(held, kind::UPDATE_PAIR, known)?;
            }
            Ok(())
        })
    }

    /// The record of a mature SA with the limits and the cookie of the update.
    fn updated(&self, known: &Known, update: &SaUpdate) -> Result<Wiped<SaStatic>, SadbError> {
        let moving = self.maps.states.get(known.slot.slot)?;
        if known.state_at(&moving, clock::boot_time()) != state::MATURE {
            return Err(SadbError::diagnostic(D::BadState));
        }
        let mut record = Wiped::new(self.maps.statics.get(known.slot.slot)?);
        record.soft = update.soft.map_or(record.soft, slots::countable);
        record.hard = update.hard.map_or(record.hard, slots::countable);
        record.idle = update.idle.unwrap_or(record.idle);
        check::lifetimes(&record.soft, &record.hard, record.idle)?;
        if let Some((km, cookie)) = update.km {
            if record.km != km && record.km_cookie != 0 {
                return Err(SadbError::diagnostic(D::DuplicateKmProtocol));
            }
            if record.km_cookie != 0 && record.km_cookie != cookie && km != km::IKEV2 {
                return Err(SadbError::diagnostic(D::DuplicateKmCookie));
            }
            (record.km, record.km_cookie) = (km, cookie);
        }
        Ok(record)
    }

    /// Writes the immutable part anew, in place: nothing that the data path counts is in it.
    pub(super) fn rewrite(&mut self, known: &Known, record: &SaStatic) -> Result<(), SadbError> {
        let slot = known.slot.slot;
        self.maps.statics.set(slot, record)?;
        let moving = self.maps.states.get(slot)?;
        self.register.put(Known::new(slot, record, &moving));
        Ok(())
    }

    /// Removes an SA, wipes its keys and frees its slot (DELETE). Its partner, if any, loses the link.
    ///
    /// # Errors
    /// [`SadbError::NotFound`], also for a dead one, which is then removed nevertheless.
    pub fn delete(&mut self, key: &SaKey) -> Result<(), SadbError> {
        self.locked(|sadb, held| {
            let known = sadb.register.find(key).cloned().ok_or(SadbError::NotFound)?;
            let gone = sadb.is_over(&known, &sadb.maps.states.get(known.slot.slot)?, clock::boot_time())?;
            sadb.begin(held)?;
            if !gone {
                sadb.tell(held, kind::DELETE, &known)?;
            }
            sadb.remove(vec![known])?;
            if gone { Err(SadbError::NotFound) } else { Ok(()) }
        })
    }

    /// Removes those of these SAs that are there, dead ones too, and gives the number of those that were alive. Programs are
    /// waited for once, and not once for each.
    ///
    /// # Errors
    /// A map cannot be written.
    pub fn delete_each(&mut self, keys: &[SaKey]) -> Result<usize, SadbError> {
        self.locked(|sadb, held| {
            let (mut found, mut alive) = (vec![], 0);
            for key in keys {
                let Some(known) = sadb.register.find(key).cloned() else { continue };
                sadb.begin(held)?;
                if !sadb.is_over(&known, &sadb.maps.states.get(known.slot.slot)?, clock::boot_time())? {
                    alive += 1;
                    sadb.tell(held, kind::DELETE, &known)?;
                }
                sadb.unlink(&known)?;
                found.push(known);
            }
            sadb.discard(found)?;
            Ok(alive)
        })
    }

    /// Removes both SAs of a pair (X_DELPAIR).
    ///
    /// # Errors
    /// [`SadbError::NotFound`]; [`D::PairNotFound`] when there is no partner, and then the SA is gone nevertheless.
    pub fn delete_pair(&mut self, key: &SaKey) -> Result<(), SadbError> {
        self.locked(|sadb, held| {
            let known = sadb.register.find(key).cloned().ok_or(SadbError::NotFound)?;
            let partner = sadb.paired(&known);
            let alone = partner.is_none();
            sadb.begin(held)?;
            sadb.tell(held, kind::DELETE_PAIR, &known)?;
            sadb.remove(std::iter::once(known).chain(partner).collect())?;
            if alone { Err(SadbError::diagnostic(D::PairNotFound)) } else { Ok(()) }
        })
    }

    /// Removes every SA (FLUSH), of one protocol or of all; gives the number of those that were alive.
    ///
    /// # Errors
    /// A map cannot be written.
    pub fn flush(&mut self, proto: Option<u8>) -> Result<usize, SadbError> {
        self.locked(|sadb, held| {
            let all: Vec<_> = sadb.register.iter().filter(|k| proto.is_none_or(|p| k.proto == p)).cloned().collect();
            sadb.news.push(Message::flush(proto));
            if all.is_empty() {
                return Ok(0);
            }
            let now = clock::boot_time();
            let states = slots::states(&sadb.maps, sadb.register.top())?;
            let is_gone = |known: &Known| states.get(known.slot.slot as usize).is_none_or(|s| known.is_gone(s, now));
            let alive = all.iter().filter(|known| !is_gone(known)).count();
            sadb.begin(held)?;
            sadb.remove(all)?;
            Ok(alive)
        })
    }

    /// Removes the dead: SAs past a hard limit and SPIs that were reserved and not used in time. Gives their number.
    ///
    /// # Errors
    /// A map cannot be written.
    pub fn reap(&mut self) -> Result<usize, SadbError> {
        self.locked(|sadb, held| sadb.remove_dead(held, |_, moving, now| slots::is_dead(moving, now)))
    }

    /// Removes the SAs that `is_over` says are, and gives their number.
    fn remove_dead(
        &mut self,
        held: &mut Held,
        is_over: impl Fn(&Known, &SaState, u64) -> bool,
    ) -> Result<usize, SadbError> {
        let now = clock::boot_time();
        let states = slots::states(&self.maps, self.register.top())?;
        let mut dead = BTreeMap::new();
        for known in self.register.iter() {
            if states.get(known.slot.slot as usize).is_some_and(|moving| is_over(known, moving, now)) {
                // The hard expiry of one SA is the end of its partner as well (spec section 7.9).
                dead.extend(self.paired(known).map(|partner| (partner.slot.slot, partner)));
                dead.insert(known.slot.slot, known.clone());
            }
        }
        let count = dead.len();
        if count > 0 {
            self.begin(held)?;
            self.remove(dead.into_values().collect())?;
        }
        Ok(count)
    }

    /// The SA of that name and its state, unless it is dead.
    pub(super) fn living(&self, key: &SaKey) -> Result<(Known, SaState), SadbError> {
        let known = self.register.find(key).ok_or(SadbError::NotFound)?;
        let moving = self.maps.states.get(known.slot.slot)?;
        if self.is_over(known, &moving, clock::boot_time())? {
            return Err(SadbError::NotFound);
        }
        Ok((known.clone(), moving))
    }

    /// Whether tools do not see the SA any more: gone, or its partner past a hard limit.
    fn is_over(&self, known: &Known, moving: &SaState, now: u64) -> Result<bool, SadbError> {
        if known.is_gone(moving, now) {
            return Ok(true);
        }
        match self.paired(known) {
            Some(partner) => Ok(partner.state_at(&self.maps.states.get(partner.slot.slot)?, now) == state::DEAD),
            None => Ok(false),
        }
    }
}

/// The soft limit of the time since added. That of a negotiated outbound SA is shortened at random, so that the two ends
/// do not both rekey (spec section 7.10).
fn earlier(spec: &SaSpec, outbound: bool) -> Result<u64, SadbError> {
    const LEAST: u64 = 8;
    const SPAN: u64 = 16;
    if !outbound || spec.km == km::MANUAL || spec.soft.add <= 2 * (LEAST + SPAN) {
        return Ok(spec.soft.add);
    }
    Ok(spec.soft.add - LEAST - random()? % SPAN)
}

/// The identities as the map keeps them.
fn identities(spec: &SaSpec) -> Identities {
    let [src, dst] = [&spec.src_identity, &spec.dst_identity].map(|identity| Identity::record(identity.as_ref()));
    Identities { src, dst }
}

fn random() -> Result<u64, SadbError> {
    getrandom::u64().map_err(|e| SadbError::io("getrandom", std::io::Error::other(e.to_string())))
}

impl SaKey {
    /// The key of this SA in the given direction.
    pub fn toward(self, direction: Direction) -> Self {
        Self { direction, ..self }
    }
}
