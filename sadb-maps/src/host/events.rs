//! The event lease: the right to drain the ring of an instance.
//!
//! A BPF ring has one consumer. Whoever holds the lease (a flock on a runtime file, so it moves on when the holder dies)
//! reads the events and republishes them on the [bus](super::bus). Without a holder states still change; only the
//! messages are missing.

use super::error::SadbError;
use super::instance::Instance;
use super::maps::{self, failed};
use crate::abi::map;
use crate::event::Event;
use aya::maps::{Map, MapData, RingBuf};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;

/// The held lease. Its descriptor becomes readable when there are events; fit for `AsyncFd`.
pub struct EventLease {
    ring: RingBuf<MapData>,
    /// Held for its lock.
    _lock: Flock<File>,
}

impl std::fmt::Debug for EventLease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("EventLease")
    }
}

impl EventLease {
    /// Takes the lease; `None` while another process has it. Ask again every second or so to take over.
    ///
    /// # Errors
    /// Not attached, another network namespace, another version; the runtime file cannot be made.
    pub fn acquire(instance: &Instance) -> Result<Option<Self>, SadbError> {
        maps::checked_header(instance)?;
        let path = instance.run_dir()?.join("events");
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
            .open(&path)
            .map_err(|e| SadbError::io(path.display().to_string(), e))?;
        let lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err((_, Errno::EWOULDBLOCK)) => return Ok(None),
            Err((_, e)) => return Err(SadbError::io("flock", e)),
        };
        let data = maps::open(instance, map::EVENTS)?;
        let ring = RingBuf::try_from(Map::RingBuf(data)).map_err(failed(map::EVENTS, "open"))?;
        Ok(Some(Self { ring, _lock: lock }))
    }

    /// The next event; `None` when the ring is empty, and then the descriptor tells when it no longer is. Drain until
    /// `None` after each wake-up.
    pub fn next_event(&mut self) -> Option<Event> {
        loop {
            let item = self.ring.next()?;
            // A record of another size is not ours to understand; the version check makes that impossible.
            if item.len() == size_of::<Event>() {
                return Some(bytemuck::pod_read_unaligned(&item));
            }
        }
    }
}

impl AsRawFd for EventLease {
    fn as_raw_fd(&self) -> RawFd {
        self.ring.as_raw_fd()
    }
}

impl AsFd for EventLease {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor belongs to the ring, which lives as long as the borrow of self.
        unsafe { BorrowedFd::borrow_raw(self.ring.as_raw_fd()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::testing::TestInstance;

    #[test]
    fn one_process_at_a_time_drains_the_ring() {
        let test = TestInstance::with_maps(2).unwrap();
        let mut lease = EventLease::acquire(&test).unwrap().unwrap();
        assert!(EventLease::acquire(&test).unwrap().is_none());
        assert_eq!(lease.next_event(), None);
        drop(lease);
        assert!(EventLease::acquire(&test).unwrap().is_some());
    }
}
