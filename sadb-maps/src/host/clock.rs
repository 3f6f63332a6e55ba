//! The clocks: boot time, which the programs in the kernel use too, and wall time for display.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Nanoseconds since boot, suspend included: the clock of `bpf_ktime_get_boot_ns`.
pub fn boot_time() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec of our own; CLOCK_BOOTTIME exists since Linux 2.6.39.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &mut now) };
    (now.tv_sec as u64).saturating_mul(1_000_000_000).saturating_add(now.tv_nsec as u64)
}

/// Seconds since 1970.
pub(super) fn wall_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}

/// Time from `then` (boot time in nanoseconds) to `now`.
pub(super) fn since(then: u64, now: u64) -> Duration {
    Duration::from_nanos(now.saturating_sub(then))
}
