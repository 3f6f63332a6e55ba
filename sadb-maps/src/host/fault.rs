//! Sudden death on demand: proves that a tool killed at any map write, or a loader killed at any step, leaves something
//! that the next one repairs.

#[cfg(any(test, feature = "testing"))]
mod armed {
    use std::sync::atomic::{AtomicI64, Ordering};

    /// Environment variable: the process kills itself before the map write of this number, counted from 1.
    pub const VARIABLE: &str = "IPSEC_FAULT_AT_WRITE";

    const UNREAD: i64 = i64::MIN;

    static LEFT: AtomicI64 = AtomicI64::new(UNREAD);

    /// Kills this process with SIGKILL before the `n`th map write from now, counted from 1.
    pub fn kill_at_write(n: i64) {
        LEFT.store(n, Ordering::SeqCst);
    }

    pub(in super::super) fn is_armed() -> bool {
        if LEFT.load(Ordering::SeqCst) == UNREAD {
            let n = std::env::var(VARIABLE).ok().and_then(|n| n.parse().ok()).unwrap_or(0);
            LEFT.store(n, Ordering::SeqCst);
        }
        LEFT.load(Ordering::SeqCst) > 0
    }

    pub(in super::super) fn point() {
        if is_armed() && LEFT.fetch_sub(1, Ordering::SeqCst) == 1 {
            // SAFETY: raise has no precondition; SIGKILL ends the process as kill -9 does, without unwinding.
            unsafe { libc::raise(libc::SIGKILL) };
        }
    }
}

#[cfg(any(test, feature = "testing"))]
pub use armed::{VARIABLE, kill_at_write};

/// Every map write of the library and every step of the loader passes here.
#[inline]
pub(super) fn point() {
    #[cfg(any(test, feature = "testing"))]
    armed::point();
}

/// Whether death lies ahead.
pub(super) fn is_armed() -> bool {
    #[cfg(any(test, feature = "testing"))]
    return armed::is_armed();
    #[cfg(not(any(test, feature = "testing")))]
    false
}

/// Runs `work` in a child that dies before its `n`th map write; true if it lived to the end.
#[cfg(test)]
pub(super) fn survives(n: i64, work: impl FnOnce()) -> bool {
    // SAFETY: the child runs on the forking thread's copy only, uses no other thread's locks but the allocator's,
    // which the C library resets, and leaves through _exit or SIGKILL.
    match unsafe { nix::unistd::fork() }.unwrap() {
        nix::unistd::ForkResult::Child => {
            kill_at_write(n);
            work();
            // SAFETY: ends the child without running what the parent registered for its own exit.
            unsafe { libc::_exit(0) }
        }
        nix::unistd::ForkResult::Parent { child } => match nix::sys::wait::waitpid(child, None).unwrap() {
            nix::sys::wait::WaitStatus::Exited(_, 0) => true,
            nix::sys::wait::WaitStatus::Signaled(..) => false,
            other => panic!("child ended with {other:?}"),
        },
    }
}

#[cfg(test)]
thread_local! {
    static LOOKUPS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// Every lookup of the library passes here, so that tests can count them.
#[inline]
pub(super) fn lookup() {
    lookups_of(1);
}

/// So many lookups in one.
#[inline]
pub(super) fn lookups_of(_count: u32) {
    #[cfg(test)]
    LOOKUPS.set(LOOKUPS.get() + u64::from(_count));
}

/// Lookups of this thread.
#[cfg(test)]
pub(super) fn lookups() -> u64 {
    LOOKUPS.get()
}
