//! Packets without an SA go to the process that holds them until there is one, where there is such a process.

use aya_ebpf::bindings::{xdp_action, xdp_md};
use aya_ebpf::helpers::generated::{bpf_xdp_adjust_head, bpf_xdp_store_bytes};
use sadb_maps::counter::Counter;
use sadb_maps::sa::BindingKey;

use crate::maps::{XSKS, count};
use crate::scratch::scratch;
use crate::stage;

/// Whether somebody holds packets. The holder has a socket for every queue or none, and its death takes them out.
#[inline(always)]
pub fn is_possible() -> bool {
    XSKS.get(0).is_some()
}

/// Hands the frame over with the binding in the scratch in front of it, or drops it.
#[inline(always)]
pub fn hand_over(ctx: *mut xdp_md) -> u32 {
    match redirected(ctx) {
        Some(action) => {
            count(Counter::Held);
            action
        }
        None => stage::drop(Counter::DropNoSaOut as u32),
    }
}

#[inline(always)]
fn redirected(ctx: *mut xdp_md) -> Option<u32> {
    const FRONT: u32 = size_of::<BindingKey>() as u32;
    let sc = scratch()?;
    // SAFETY: the context is valid, and the binding is as long as the call is told.
    unsafe {
        if bpf_xdp_adjust_head(ctx, -(FRONT as i32)) != 0
            || bpf_xdp_store_bytes(ctx, 0, (&raw mut (*sc).binding).cast(), FRONT) != 0
        {
            return None;
        }
        XSKS.redirect((*ctx).rx_queue_index, xdp_action::XDP_DROP as u64).ok()
    }
}
