//! From one program to the next: see `sadb_maps::abi::stage`.

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::programs::XdpContext;
pub use sadb_maps::abi::stage::{
    AH_OPEN_END, AH_SEAL, AH_SEAL_END, OPEN_END, OPEN_WHOLE, SEAL_END, SHORTCUT, authenticate, open, seal,
};
use sadb_maps::counter::Counter;

use crate::maps::STAGES;
use crate::report;
use crate::scratch::scratch;

/// Jumps to a stage; there is no way back. A stage that is not there drops the packet.
#[inline(always)]
pub fn next(ctx: &XdpContext, index: u32) -> u32 {
    // SAFETY: nothing here waits to be dropped.
    unsafe { STAGES.tail_call(ctx, index) };
    drop(Counter::DropNoTransform as u32)
}

/// Drops the packet for this reason; bits above the counter are ignored.
#[inline(always)]
pub fn drop(reason: u32) -> u32 {
    report::dropped(reason & 0xff);
    xdp_action::XDP_DROP
}

/// Jumps to the stage that the plan names.
#[inline(always)]
pub fn follow_plan(ctx: &XdpContext) -> u32 {
    match scratch() {
        // SAFETY: the scratch of this CPU.
        Some(sc) => next(ctx, unsafe { (*sc).plan.next }),
        None => drop(Counter::DropInternal as u32),
    }
}
