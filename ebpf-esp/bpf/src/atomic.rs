//! Atomic operations on map values. Never Relaxed: with a used result LLVM 22 emits the form that does not fetch.

use core::intrinsics::{AtomicOrdering, atomic_cxchg, atomic_xadd};

/// Adds; returns the value before.
///
/// # Safety
/// `cell` points to a live, aligned map value.
#[inline(always)]
pub unsafe fn fetch_add(cell: *mut u64, value: u64) -> u64 {
    // SAFETY: by the caller.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::AcqRel }>(cell, value) }
}

/// Swaps `new` in if the cell holds `old`; returns what it held.
///
/// # Safety
/// As for [`fetch_add`].
#[inline(always)]
pub unsafe fn compare_swap(cell: *mut u64, old: u64, new: u64) -> u64 {
    // SAFETY: by the caller.
    unsafe { atomic_cxchg::<u64, { AtomicOrdering::AcqRel }, { AtomicOrdering::Acquire }>(cell, old, new).0 }
}
