//! The way to the process that does what cannot be done with one packet in hand: see `sadb_maps::slow`.

use aya_ebpf::bindings::{xdp_action, xdp_md};
use aya_ebpf::helpers::generated::bpf_xdp_load_bytes;
use ebpf_esp::packet::Parsed;
use sadb_maps::counter::Counter;
use sadb_maps::slow::{FragmentKey, Handed, MAX_HANDED, PATIENCE, errand};
use sadb_maps::tag::{FLAG_SPLIT, FLAG_WHOLE, Tag};

use crate::frame::{XdpFrame, size};
use crate::maps::{FRAGMENTS, SLOW, SLOW_STATE, count};
use crate::sa;
use crate::scratch::scratch;
use crate::stage;

/// Whether somebody takes packets.
#[inline(always)]
pub fn is_served() -> bool {
    let Some(state) = SLOW_STATE.get_ptr(0) else { return false };
    // SAFETY: a live map value; one aligned load.
    unsafe { (&raw const (*state).until).read_volatile() > sa::now() }
}

/// Hands the frame over; then it is gone: the action, or the counter of the drop.
#[inline(always)]
pub fn hand_over(ctx: *mut xdp_md, errand: u32, detail: u32) -> Result<u32, Counter> {
    if !is_served() {
        return Err(Counter::DropFragment);
    }
    match record(ctx, errand, detail) {
        0 => {
            count(Counter::SlowPath);
            Ok(xdp_action::XDP_DROP)
        }
        _ => Err(Counter::DropSlowPathFull),
    }
}

/// Writes the record: 0, or 1 when there is no room.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn record(ctx: *mut xdp_md, errand: u32, detail: u32) -> u32 {
    let len = XdpFrame(ctx).len();
    if len == 0 || len > MAX_HANDED as u32 {
        return 1;
    }
    let Some(mut entry) = SLOW.reserve::<Handed>(0) else { return 1 };
    let handed = entry.as_mut_ptr();
    // SAFETY: the record is ours until it is submitted, and the frame has room for the most octets that are loaded.
    let loaded = unsafe {
        (*handed).time = sa::now();
        (*handed).errand = errand;
        (*handed).len = len;
        (*handed).detail = detail;
        (*handed).reserved = 0;
        bpf_xdp_load_bytes(ctx, 0, (&raw mut (*handed).frame).cast(), size::<{ MAX_HANDED as u32 }>(len))
    };
    if loaded != 0 {
        entry.discard(0);
        return 1;
    }
    entry.submit(0);
    0
}

/// A fragment of a sealed packet for this host: on its way to be made whole. A later fragment does not say what it is
/// a fragment of, where a header that only the first one has comes between, so that one is remembered.
#[inline(always)]
pub fn fragment(ctx: *mut xdp_md, parsed: &Parsed) -> Result<u32, Counter> {
    if !parsed.opaque && is_served() {
        remember(of::SEALED);
    }
    hand_over(ctx, errand::FRAGMENT_IN, 0)
}

/// What later fragments in UDP are part of, as far as the first one has been seen: the low bits of a time.
pub mod of {
    /// ESP.
    pub const SEALED: u32 = 1;
    /// What key managers say to each other.
    pub const KEY_MANAGEMENT: u32 = 2;
    /// Something else.
    pub const CLEAR: u32 = 3;
    /// All bits.
    pub const MASK: u64 = 3;
    /// The first one has not been seen.
    pub const UNKNOWN: u32 = 0;
}

/// Hands over the frame, a later fragment whose first one has not been seen, which goes its way all the same: 1, or 0 when
/// there is no room.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn copy_early(ctx: *mut xdp_md) -> u32 {
    if record(ctx, errand::FRAGMENT_IN, 0) != 0 {
        return 0;
    }
    count(Counter::SlowPath);
    1
}

#[inline(always)]
fn key(parsed: &Parsed) -> FragmentKey {
    FragmentKey { src: parsed.src, dst: parsed.dst, ident: parsed.ident, reserved: 0 }
}

/// Has the later fragments of the packet in the scratch known as parts of this. 0.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn remember(what: u32) -> u32 {
    let Some(sc) = scratch() else { return 0 };
    // SAFETY: the scratch of this CPU.
    let key = key(unsafe { &(*sc).parsed });
    // A full map forgets the oldest by itself; without an entry the packet stays incomplete.
    let _ = FRAGMENTS.insert(&key, &(sa::now() & !of::MASK | what as u64 & of::MASK), 0);
    0
}

/// What the later fragment in the scratch is part of: see [`of`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn part_of() -> u32 {
    let Some(sc) = scratch() else { return of::UNKNOWN };
    // SAFETY: the scratch of this CPU.
    let key = key(unsafe { &(*sc).parsed });
    // SAFETY: copied at once.
    let since = unsafe { FRAGMENTS.get(&key) }.copied();
    match since {
        Some(since) if sa::now() - since < PATIENCE => (since & of::MASK) as u32,
        _ => of::UNKNOWN,
    }
}

/// XDP on `ipsec0x`, for a frame that TC has sent on the slow path.
#[inline(always)]
pub fn run_errand(ctx: *mut xdp_md, tag: &Tag) -> u32 {
    let what = if tag.flags & FLAG_SPLIT != 0 {
        errand::SPLIT
    } else if tag.flags & FLAG_WHOLE != 0 {
        errand::FRAGMENT_IN
    } else {
        errand::FRAGMENT_OUT
    };
    match hand_over(ctx, what, tag.slot) {
        Ok(action) => action,
        Err(reason) => stage::drop(reason as u32),
    }
}
