//! The sweep: a timer that ages SAs which carry no packets, a slice of the slots at a time and all of them within a second. It
//! moves state words forward and raises EXPIRE; it never unlinks or frees anything.

use aya_ebpf::bindings::bpf_timer;
use aya_ebpf::btf_maps::Array;
use aya_ebpf::helpers::generated::{bpf_timer_init, bpf_timer_set_callback, bpf_timer_start};
use aya_ebpf::macros::btf_map;
use core::ffi::c_void;
use sadb_maps::event::expire;
use sadb_maps::sa::{ESP, NUMBERS_LEFT, SaState, SlotRef, flag, notified, state};

use crate::atomic;
use crate::maps::{HEADER, SA_IDENTITIES, SA_KEYS};
use crate::sa::{self, SECOND, Usable, announce_expire};

/// Slots looked at in one tick.
const SLICE: u32 = 512;
/// Nanoseconds in which every slot is looked at once: EXPIRE is to be out within a second of the limit, and a little is for
/// ticks that come late.
const ROUND: u64 = SECOND / 8 * 7;
/// `CLOCK_BOOTTIME`: lifetimes count suspended time.
const CLOCK_BOOTTIME: u64 = 7;

/// The timer and where the sweep is.
#[repr(C)]
pub struct Sweep {
    timer: bpf_timer,
    next: u64,
}

#[btf_map]
static SWEEP: Array<Sweep, 1> = Array::new();

/// Arms the timer. Arming it again is harmless: the loader does so after every attach.
#[inline(always)]
pub fn arm() -> i32 {
    // No program reads the keys as they were given, nor identities; named here, the maps are part of the object all the same.
    if SA_KEYS.get_ptr(0).is_none() || SA_IDENTITIES.get_ptr(&0).is_some() {
        return -1;
    }
    let Some(sweep) = SWEEP.get_ptr_mut(0) else { return -1 };
    // SAFETY: a live map value of the map that is named.
    unsafe {
        let timer = &raw mut (*sweep).timer;
        // EBUSY: initialised before.
        bpf_timer_init(timer, core::ptr::addr_of!(SWEEP) as *mut c_void, CLOCK_BOOTTIME);
        if bpf_timer_set_callback(timer, tick as *mut c_void) != 0 {
            return -2;
        }
        if bpf_timer_start(timer, tick_length(), 0) != 0 {
            return -3;
        }
    }
    0
}

/// Slots of the instance.
#[inline(always)]
fn capacity() -> u32 {
    HEADER.get(0).map_or(0, |h| h.capacity)
}

/// Nanoseconds between ticks.
#[inline(always)]
fn tick_length() -> u64 {
    ROUND / (capacity() / SLICE + 1) as u64
}

unsafe extern "C" fn tick(_map: *mut c_void, _key: *mut u32, sweep: *mut Sweep) -> i32 {
    let capacity = capacity();
    // SAFETY: the value that the timer lies in.
    let mut slot = unsafe { (*sweep).next } as u32;
    for _ in 0..SLICE {
        if slot >= capacity {
            slot = 0;
            break;
        }
        age(slot);
        slot += 1;
    }
    // SAFETY: as above.
    unsafe {
        (*sweep).next = slot as u64;
        bpf_timer_start(&raw mut (*sweep).timer, tick_length(), 0);
    }
    0
}

/// Ages one SA.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn age(slot: u32) -> u32 {
    let Some(current) = crate::maps::SA_STATE.get_ptr_mut(slot) else { return 0 };
    // SAFETY: a live map value.
    let (word, generation) = unsafe { ((*current).state as u32, (*current).generation) };
    if generation == 0 || (word != state::MATURE && word != state::DYING) {
        return 0;
    }
    let Some(sa) = sa::resolve(SlotRef { slot, generation }) else { return 0 };
    let now = sa::now();
    if sa::admit(&sa, now).is_ok() {
        if word == state::MATURE && is_running_out(&sa, current) {
            sa::expire_soft(&sa, now);
        }
        idle(&sa, current, now);
    }
    0
}

/// Whether an outbound SA has few sequence numbers or IVs left, so that another one should take its place (RFC 4303 section
/// 3.3.3).
#[inline(always)]
fn is_running_out(sa: &Usable, current: *mut SaState) -> bool {
    if sa.fixed.flags & flag::OUTBOUND == 0 {
        return false;
    }
    let last = if sa.fixed.flags & flag::ESN != 0 { u64::MAX } else { u32::MAX as u64 };
    // SAFETY: a live map value.
    let (seq, iv) = unsafe { ((*current).seq, (*current).iv) };
    // AH has no IVs.
    seq > last - NUMBERS_LEFT || (sa.fixed.proto == ESP && iv.saturating_add(NUMBERS_LEFT) > sa.fixed.iv_limit)
}

/// Raises EXPIRE (idle) once for each stretch without use.
#[inline(always)]
fn idle(sa: &Usable, current: *mut SaState, now: u64) {
    let [since_added, since_used] = sa.fixed.idle;
    // SAFETY: a live map value.
    unsafe {
        let last = (*current).last_use;
        let limit = if last == 0 { since_added } else { since_used };
        let from = if last == 0 { (*current).added } else { last };
        if limit == 0 || now < from + limit as u64 * SECOND {
            return;
        }
        let flags = (*current).notified;
        if flags & notified::IDLE != 0
            || atomic::compare_swap(&raw mut (*current).notified, flags, flags | notified::IDLE) != flags
        {
            return;
        }
    }
    announce_expire(sa.place.slot, sa.place.generation, sa.fixed.spi, expire::IDLE, now);
}
