//! The event lease: the right to drain the ring of an instance.
//!
//! A BPF ring has one consumer. Whoever holds the lease (a flock on a runtime file, so it moves on when the holder dies)
//! reads the events and republishes them on the [bus](super::bus). Without a holder states still change; only the
//! messages are missing.

use super::error::SadbError;
use super::files;
use super::instance::Instance;
use super::maps::{self, failed};
use crate::abi::map;
use crate::event::Event;
use aya::maps::{Map, MapData, RingBuf};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

/// The held lease. Its descriptor becomes readable when there are events; fit for `AsyncFd`.
pub struct EventLease {
    instance: Instance,
    /// Number of the ring's map.
    id: u32,
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
        let Some(lock) = lease(instance, "events")? else { return Ok(None) };
        let id = maps::map_id(instance, map::EVENTS)?;
        let data = maps::open(instance, map::EVENTS)?;
        let ring = RingBuf::try_from(Map::RingBuf(data)).map_err(failed(map::EVENTS, "open"))?;
        Ok(Some(Self { instance: instance.clone(), id, ring, _lock: lock }))
    }

    /// Whether the ring is still the one that the programs write to. Once the instance was detached, or attached anew,
    /// nothing will come out of it any more: drop the lease then and ask for another. Worth asking every second or so.
    pub fn is_current(&self) -> bool {
        maps::map_id(&self.instance, map::EVENTS).is_ok_and(|id| id == self.id)
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

/// Locks a runtime file as long as the value lives; `None` while another process has it locked.
pub(super) fn lease(instance: &Instance, name: &str) -> Result<Option<Flock<File>>, SadbError> {
    let path = instance.run_dir()?.join(name);
    let file = files::private(&path).map_err(|e| SadbError::io(path.display().to_string(), e))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, e)) => Err(SadbError::io("flock", e)),
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
    use crate::host::kernel::{bpf, descriptor};
    use crate::host::testing::TestInstance;
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::OwnedFd;

    #[test]
    fn one_process_at_a_time_drains_the_ring() {
        let test = TestInstance::with_maps(2).unwrap();
        let mut lease = EventLease::acquire(&test).unwrap().unwrap();
        assert!(EventLease::acquire(&test).unwrap().is_none());
        assert_eq!(lease.next_event(), None);
        drop(lease);
        assert!(EventLease::acquire(&test).unwrap().is_some());
    }

    #[test]
    fn a_lease_on_a_ring_that_nobody_fills_is_known() {
        let test = TestInstance::with_maps(2).unwrap();
        let lease = EventLease::acquire(&test).unwrap().unwrap();
        assert!(lease.is_current());
        test.remove_pins().unwrap();
        assert!(!lease.is_current());
        crate::host::layout::create_pinned(&test, 2).unwrap();
        assert!(!lease.is_current());
        drop(lease);
        assert!(EventLease::acquire(&test).unwrap().unwrap().is_current());
    }

    /// `struct bpf_insn`: code, registers (destination low, source high), offset, immediate.
    #[repr(C)]
    struct Instruction(u8, u8, i16, i32);

    /// The leading fields of `union bpf_attr` for `BPF_PROG_LOAD`.
    #[repr(C)]
    struct LoadAttr {
        kind: u32,
        count: u32,
        instructions: u64,
        license: u64,
        log: [u32; 4],
    }

    /// The leading fields of `union bpf_attr` for `BPF_PROG_TEST_RUN`.
    #[repr(C)]
    struct RunAttr {
        program: u32,
        result: u32,
        size_in: u32,
        size_out: u32,
        data_in: u64,
        data_out: u64,
        repeat: u32,
        duration: u32,
    }

    /// A program that puts one record of `words` words, 0, 1, 2 and so on, into the ring each time it runs.
    fn producer(ring: RawFd, words: i32) -> OwnedFd {
        let mut program: Vec<_> = (0..words).map(|i| Instruction(0x62, 10, (4 * (i - words)) as i16, i)).collect();
        program.extend([
            Instruction(0x18, 0x11, 0, ring),
            Instruction(0, 0, 0, 0),
            Instruction(0xbf, 0xa2, 0, 0),
            Instruction(0x07, 2, 0, -4 * words),
            Instruction(0xb7, 3, 0, 4 * words),
            Instruction(0xb7, 4, 0, 0),
            // bpf_ringbuf_output
            Instruction(0x85, 0, 0, 130),
            Instruction(0xb7, 0, 0, 0),
            Instruction(0x95, 0, 0, 0),
        ]);
        let license = c"GPL";
        let load = LoadAttr {
            kind: 1,
            count: program.len() as u32,
            instructions: program.as_ptr() as u64,
            license: license.as_ptr() as u64,
            log: [0; 4],
        };
        descriptor(bpf(5, &load).unwrap())
    }

    fn run(program: &OwnedFd) {
        let packet = [0u8; 64];
        let run = RunAttr {
            program: program.as_raw_fd() as u32,
            result: 0,
            size_in: packet.len() as u32,
            size_out: 0,
            data_in: packet.as_ptr() as u64,
            data_out: 0,
            repeat: 1,
            duration: 0,
        };
        bpf(10, &run).unwrap();
    }

    fn readable(lease: &EventLease) -> bool {
        let mut fds = [PollFd::new(lease.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::ZERO).unwrap() == 1
    }

    #[test]
    fn events_come_out_as_the_programs_put_them_in() {
        let test = TestInstance::with_maps(2).unwrap();
        let mut lease = EventLease::acquire(&test).unwrap().unwrap();
        let ring = maps::open(&test, map::EVENTS).unwrap();
        let fd = ring.fd().as_fd().as_raw_fd();
        let (good, strange) = (producer(fd, 32), producer(fd, 2));
        assert!(!readable(&lease));
        [&good, &strange, &good].into_iter().for_each(run);
        assert!(readable(&lease));
        let event = lease.next_event().unwrap();
        assert_eq!((event.kind, event.detail, event.time), (0, 1, 3 << 32 | 2));
        assert_eq!(lease.next_event(), Some(event));
        assert_eq!(lease.next_event(), None);
        assert!(!readable(&lease));
        // Who takes the lease over goes on where the last holder stopped.
        run(&good);
        drop(lease);
        let mut next = EventLease::acquire(&test).unwrap().unwrap();
        assert_eq!(next.next_event(), Some(event));
        assert_eq!(next.next_event(), None);
    }
}
