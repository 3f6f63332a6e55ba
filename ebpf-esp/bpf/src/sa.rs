//! From an index entry to a usable SA: generation, state and lifetimes.

use aya_ebpf::helpers::generated::{bpf_jiffies64, bpf_ktime_get_boot_ns};
use sadb_maps::counter::Counter;
use sadb_maps::event::{Event, expire, kind};
use sadb_maps::sa::{InboundKey, SaState, SaStatic, SlotRef, flag, notified, state};

use crate::atomic;
use crate::maps::{EVENTS, SA_IN, SA_NAMES, SA_STATE, SA_STATIC, count};
use crate::scratch::scratch;

/// Nanoseconds in a second.
pub const SECOND: u64 = 1_000_000_000;

/// An SA that may be used for one packet.
#[derive(Clone, Copy)]
pub struct Usable {
    /// The immutable part.
    pub fixed: &'static SaStatic,
    /// The mutable part.
    pub state: *mut SaState,
    /// Where it lies.
    pub place: SlotRef,
}

/// Looks the slot up and checks its generation.
#[inline(always)]
pub fn resolve(place: SlotRef) -> Option<Usable> {
    if place.slot == 0 {
        return None;
    }
    let fixed = SA_STATIC.get(place.slot)?;
    if fixed.generation != place.generation {
        return None;
    }
    let state = SA_STATE.get_ptr_mut(place.slot)?;
    Some(Usable { fixed, state, place })
}

/// The SA of the packet in hand.
#[inline(always)]
pub fn planned() -> Result<Usable, Counter> {
    let sc = scratch().ok_or(Counter::DropInternal)?;
    // SAFETY: the scratch of this CPU.
    resolve(unsafe { (*sc).plan.place }).ok_or(Counter::DropExpired)
}

/// Boot time in nanoseconds.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: no preconditions.
    unsafe { bpf_ktime_get_boot_ns() }
}

/// The same to a tick of the kernel, a few milliseconds, for every packet: the clock itself takes longer to read than all
/// counters of an SA. Of two processors one may be behind.
#[inline(always)]
pub fn now_to_a_tick() -> u64 {
    let Some(sc) = scratch() else { return now() };
    // SAFETY: no preconditions.
    let tick = unsafe { bpf_jiffies64() };
    // SAFETY: the scratch of this CPU.
    let clock = unsafe { &mut (*sc).clock };
    if clock.tick != tick {
        clock.tick = tick;
        clock.now = now();
    }
    clock.now
}

#[inline(always)]
fn passed(limit: &sadb_maps::sa::Lifetime, sa: &SaState, bytes: u64, now: u64) -> bool {
    (limit.bytes != 0 && bytes >= limit.bytes)
        || (limit.add != 0 && now >= sa.added + limit.add * SECOND)
        || (limit.used != 0 && sa.first_use != 0 && now >= sa.first_use + limit.used * SECOND)
}

/// Whether the SA may carry another packet now (RFC 4301 section 4.4.2.1): moves the state word forward and raises EXPIRE when
/// a limit is passed, and refuses what is dead, larval or at a hard limit.
///
/// # Errors
/// The counter to count the drop under.
#[inline(always)]
pub fn admit(sa: &Usable, now: u64) -> Result<(), Counter> {
    // SAFETY: a live map value; fields read here are words that others only add to or swap.
    let current = unsafe { &*sa.state };
    match current.state as u32 {
        state::MATURE | state::DYING => {}
        state::LARVAL => return Err(Counter::DropLarval),
        _ => return Err(Counter::DropExpired),
    }
    let bytes = current.bytes;
    if passed(&sa.fixed.hard, current, bytes, now) {
        expire_hard(sa, now);
        return Err(Counter::DropExpired);
    }
    if current.state as u32 == state::MATURE && passed(&sa.fixed.soft, current, bytes, now) {
        expire_soft(sa, now);
    }
    Ok(())
}

/// Moves the SA to dead and raises one EXPIRE (hard); its partner goes with it.
#[inline(always)]
pub fn expire_hard(sa: &Usable, now: u64) {
    if die(sa) {
        announce(sa, expire::HARD, now);
        end_partner(sa.place.slot, sa.place.generation, now);
    }
}

/// Moves the state word to dead; whether it was this call that did so.
#[inline(always)]
fn die(sa: &Usable) -> bool {
    let swap = |from: u32| {
        // SAFETY: a live map value.
        unsafe { atomic::compare_swap(&raw mut (*sa.state).state, from as u64, state::DEAD as u64) == from as u64 }
    };
    swap(state::MATURE) || swap(state::DYING)
}

/// Ends the partner of the SA in `slot`: the hard expiry of one SA of a pair is that of both (spec section 7.9).
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn end_partner(slot: u32, generation: u32, now: u64) -> u32 {
    let Some(sa) = resolve(SlotRef { slot, generation }) else { return 0 };
    let SaStatic { flags, spi, proto, pair_spi, src, .. } = *sa.fixed;
    if flags & flag::PAIRED == 0 {
        return 0;
    }
    let key = InboundKey { dst: src, spi: pair_spi, proto, reserved: [0; 3] };
    let place = if flags & flag::INBOUND != 0 { SA_NAMES.get_ptr(&key) } else { SA_IN.get_ptr(&key) };
    let Some(place) = place else { return 0 };
    // SAFETY: a live map value.
    let Some(partner) = resolve(unsafe { *place }) else { return 0 };
    // The element may be that of another name by now.
    let SaStatic { flags, spi: its_spi, pair_spi: its_pair, dst, .. } = *partner.fixed;
    if flags & flag::PAIRED != 0 && its_spi == pair_spi && its_pair == spi && dst == src && die(&partner) {
        announce(&partner, expire::HARD, now);
    }
    0
}

/// Moves the SA from mature to dying and raises one EXPIRE (soft).
#[inline(always)]
pub fn expire_soft(sa: &Usable, now: u64) {
    // SAFETY: a live map value.
    unsafe {
        if atomic::compare_swap(&raw mut (*sa.state).state, state::MATURE as u64, state::DYING as u64)
            != state::MATURE as u64
        {
            return;
        }
    }
    announce(sa, expire::SOFT, now);
}

#[inline(always)]
fn announce(sa: &Usable, what: u32, now: u64) {
    announce_expire(sa.place.slot, sa.place.generation, sa.fixed.spi, what, now);
}

/// Raises EXPIRE for the SA in `slot`.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn announce_expire(slot: u32, generation: u32, spi: u32, what: u32, now: u64) -> u32 {
    let Some(sc) = scratch() else { return 0 };
    // SAFETY: the scratch of this CPU.
    let event = unsafe { &mut (*sc).event };
    *event = Event::default();
    event.kind = kind::EXPIRE;
    event.detail = what;
    event.time = now;
    event.sa = SlotRef { slot, generation };
    event.spi = spi;
    submit(event, Counter::Expires);
    0
}

/// Puts an event into the ring.
#[inline(always)]
pub fn submit(event: &Event, counter: Counter) {
    if EVENTS.output::<Event>(event, 0).is_ok() {
        count(counter);
    } else {
        count(Counter::EventsLost);
    }
}

/// Takes the octets of one packet from what the SA may carry, which is the same sum for every processor: none goes past a hard
/// limit.
///
/// # Errors
/// [`Counter::DropExpired`]: the SA has not as many left, and is dead now.
#[inline(always)]
pub fn spend(sa: &Usable, octets: u64, now: u64) -> Result<(), Counter> {
    // SAFETY: a live map value.
    let bytes = octets + unsafe { atomic::fetch_add(&raw mut (*sa.state).bytes, octets) };
    let (hard, soft) = (sa.fixed.hard.bytes, sa.fixed.soft.bytes);
    if hard != 0 && bytes >= hard {
        expire_hard(sa, now);
        if bytes == hard {
            return Ok(());
        }
        // It has not carried them.
        // SAFETY: as above.
        unsafe { atomic::fetch_add(&raw mut (*sa.state).bytes, octets.wrapping_neg()) };
        return Err(Counter::DropExpired);
    }
    // SAFETY: as above.
    if soft != 0 && bytes >= soft && unsafe { (*sa.state).state } == state::MATURE as u64 {
        expire_soft(sa, now);
    }
    Ok(())
}

/// Accounts for one packet, beside its octets.
#[inline(always)]
pub fn account(sa: &Usable, now: u64) {
    // SAFETY: a live map value. Plain stores of times: the last writer wins, which is what a time of last use is.
    unsafe {
        atomic::fetch_add(&raw mut (*sa.state).packets, 1);
        if (*sa.state).first_use == 0 {
            (*sa.state).first_use = now;
        }
        (*sa.state).last_use = now;
        if (*sa.state).notified & notified::IDLE != 0 {
            (*sa.state).notified = 0;
        }
    }
}

/// The SA that a frame tag names, when the slot still holds it and it may be used.
#[inline(always)]
pub fn resolve_tagged(tag: &sadb_maps::tag::Tag) -> Option<Usable> {
    if tag.slot == 0 {
        return None;
    }
    let fixed = SA_STATIC.get(tag.slot)?;
    if fixed.generation & 0xff_ffff != tag.generation {
        return None;
    }
    let state = SA_STATE.get_ptr_mut(tag.slot)?;
    // SAFETY: a live map value.
    match unsafe { (*state).state } as u32 {
        state::MATURE | state::DYING => {}
        _ => return None,
    }
    Some(Usable { fixed, state, place: SlotRef { slot: tag.slot, generation: fixed.generation } })
}
