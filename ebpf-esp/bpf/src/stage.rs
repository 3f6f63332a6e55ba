//! From one program to the next: see `sadb_maps::abi::stage`.

use core::arch::asm;

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::programs::XdpContext;
pub use sadb_maps::abi::stage::{
    AH_OPEN_END, AH_SEAL, AH_SEAL_END, OPEN_END, OPEN_WHOLE, SEAL_END, SHORTCUT, authenticate, open, seal,
};
use sadb_maps::counter::Counter;
use sadb_maps::sa::family;

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
    let Some(sc) = scratch() else { return drop(Counter::DropInternal as u32) };
    // SAFETY: the scratch of this CPU.
    let index = unsafe { (*sc).plan.next };
    jump_if::<{ seal(family::CHACHA20_POLY1305) }>(ctx, index);
    jump_if::<{ open(family::CHACHA20_POLY1305) }>(ctx, index);
    jump_if::<{ seal(family::AES_GCM) }>(ctx, index);
    jump_if::<{ open(family::AES_GCM) }>(ctx, index);
    next(ctx, index)
}

/// Jumps to the stage `STAGE` if that is the one. Where the verifier knows it, the kernel makes a jump of the call, which
/// processors with mitigations make much faster than one through the map.
#[inline(always)]
fn jump_if<const STAGE: u32>(ctx: &XdpContext, index: u32) {
    if index == STAGE {
        // SAFETY: nothing here waits to be dropped.
        unsafe { STAGES.tail_call(ctx, STAGE) };
        // So that the compiler does not make one call of all of these.
        // SAFETY: register arithmetic only.
        unsafe { asm!("{0} = {stage}", out(reg) _, stage = const STAGE, options(nomem, nostack, preserves_flags)) };
    }
}
