//! The way to the process that does what cannot be done with one packet in hand: see `sadb_maps::slow`.

use aya_ebpf::bindings::{xdp_action, xdp_md};
use aya_ebpf::helpers::generated::bpf_xdp_load_bytes;
use ebpf_esp::packet::Parsed;
use sadb_maps::counter::Counter;
use sadb_maps::slow::{FragmentKey, Handed, MAX_HANDED, PATIENCE, errand};
use sadb_maps::tag::{FLAG_SPLIT, Tag};

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
pub fn fragment(ctx: *mut xdp_md, parsed: &Parsed, errand: u32) -> Result<u32, Counter> {
    if !parsed.opaque && is_served() {
        remember();
    }
    hand_over(ctx, errand, 0)
}

#[inline(always)]
fn key(parsed: &Parsed) -> FragmentKey {
    FragmentKey { src: parsed.src, dst: parsed.dst, ident: parsed.ident, reserved: 0 }
}

/// Has the later fragments of the packet in the scratch known.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn remember() -> u32 {
    let Some(sc) = scratch() else { return 0 };
    // SAFETY: the scratch of this CPU.
    let key = key(unsafe { &(*sc).parsed });
    // A full map forgets the oldest by itself; without an entry the packet stays incomplete.
    let _ = FRAGMENTS.insert(&key, &sa::now(), 0);
    0
}

/// Whether the later fragment in the scratch belongs to a sealed packet whose first fragment was here: 1 or 0.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn is_known() -> u32 {
    let Some(sc) = scratch() else { return 0 };
    // SAFETY: the scratch of this CPU.
    let key = key(unsafe { &(*sc).parsed });
    // SAFETY: copied at once.
    let since = unsafe { FRAGMENTS.get(&key) }.copied();
    since.is_some_and(|since| sa::now() - since < PATIENCE) as u32
}

/// XDP on `ipsec0x`, for a frame that TC has sent on the slow path.
#[inline(always)]
pub fn run_errand(ctx: *mut xdp_md, tag: &Tag) -> u32 {
    let what = if tag.flags & FLAG_SPLIT != 0 { errand::SPLIT } else { errand::FRAGMENT_OUT };
    match hand_over(ctx, what, tag.slot) {
        Ok(action) => action,
        Err(reason) => stage::drop(reason as u32),
    }
}
