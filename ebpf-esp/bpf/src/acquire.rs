//! ACQUIRE events: one per binding in a while.

use sadb_maps::counter::Counter;
use sadb_maps::event::kind;
use sadb_maps::sa::SlotRef;

use crate::maps::{ACQUIRES, CONFIG};
use crate::sa;
use crate::scratch::scratch;

/// Asks key management for an SA for the binding and selectors in the scratch, unless it was asked for the same binding
/// a moment ago.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn raise_acquire(policy: u32, rule: u32, ifindex: u32) -> u32 {
    let Some(sc) = scratch() else { return 0 };
    let now = sa::now();
    let hold = CONFIG.get(0).map_or(1, |c| c.acquire_hold) as u64 * 1_000_000_000;
    // SAFETY: the scratch of this CPU; the value of the map is copied at once.
    unsafe {
        let binding = &(*sc).binding;
        if let Some(last) = ACQUIRES.get(binding).copied()
            && now - last < hold
        {
            return 0;
        }
        if ACQUIRES.insert(binding, now, 0).is_err() {
            return 0;
        }
        let event = &mut (*sc).event;
        event.kind = kind::ACQUIRE;
        event.detail = 0;
        event.time = now;
        event.sa = SlotRef { slot: 0, generation: 0 };
        event.spi = 0;
        event.ifindex = ifindex;
        event.policy = policy;
        event.rule = rule;
        event.binding = (*sc).binding;
        event.packet = (*sc).selectors;
        sa::submit(event, Counter::Acquires);
    }
    0
}
