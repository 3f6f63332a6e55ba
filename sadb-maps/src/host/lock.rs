//! The lock of an instance: one holder at a time changes more than one map.
//!
//! A holder that dies between two writes leaves the dirty flag of the header set, and the next holder repairs
//! ([`Sadb`](super::Sadb) knows how). The lock file holds a count of changes, so that a process can tell whether what
//! it remembers of the maps is still true, and the slots of the latest changes, so that it reads those anew and no others.

use super::error::SadbError;
use super::files;
use super::instance::Instance;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

/// How long a tool waits for another one, in seconds.
pub const LOCK_TIMEOUT: u64 = 10;

/// Slots that the lock file remembers.
const RING: u64 = 8192;

/// How far somebody has followed the changes of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    /// Count of changes.
    changes: u64,
    /// Count of slots noted.
    noted: u64,
}

#[cfg(test)]
impl Mark {
    pub(super) fn changes(self) -> u64 {
        self.changes
    }
}

/// The held lock; dropping it, or the death of the process, gives it back.
///
/// The file holds three numbers of eight octets, those of [`Mark`] with the count of changes at the latest note between
/// them, and then a ring of slots of four octets each.
#[derive(Debug)]
pub struct InstanceLock {
    file: Flock<File>,
    mark: Mark,
    /// Every change up to now has noted its slots, or that it noted none of them.
    complete: bool,
}

impl InstanceLock {
    /// Takes the lock, waiting up to [`LOCK_TIMEOUT`] seconds.
    ///
    /// # Errors
    /// [`SadbError::Busy`] after the time; a lock file that cannot be made.
    pub fn acquire(instance: &Instance) -> Result<Self, SadbError> {
        let path = instance.run_dir()?.join("lock");
        let mut file = files::private(&path).map_err(|e| SadbError::io(path.display().to_string(), e))?;
        let deadline = Instant::now() + Duration::from_secs(LOCK_TIMEOUT);
        loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(locked) => return Self::count(locked),
                Err((back, Errno::EWOULDBLOCK | Errno::EINTR)) => file = back,
                Err((_, e)) => return Err(SadbError::io("flock", e)),
            }
            if Instant::now() >= deadline {
                return Err(SadbError::Busy(LOCK_TIMEOUT));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Reads how often the lock was taken before.
    fn count(file: Flock<File>) -> Result<Self, SadbError> {
        let mut octets = [0; 24];
        let read = file.read_at(&mut octets, 0).map_err(|e| SadbError::io("lock file", e))?;
        let number = |index: usize| {
            let end = 8 * (index + 1);
            let octets = octets.get(8 * index..end).filter(|_| end <= read).and_then(|o| o.first_chunk());
            // A new file is empty: no change so far.
            octets.map_or(0, |octets| u64::from_ne_bytes(*octets))
        };
        let mark = Mark { changes: number(0), noted: number(2) };
        // A change that was cut short, or made by a version that notes nothing, is not among those noted.
        Ok(Self { complete: number(1) == mark.changes, file, mark })
    }

    /// How far the changes have come: equal marks mean that nobody changed anything in between.
    pub(super) fn mark(&self) -> Mark {
        self.mark
    }

    /// The slots that were changed since `mark`, some of them more than once; `None` when that is not known.
    ///
    /// # Errors
    /// The lock file cannot be read.
    pub(super) fn changed_since(&self, mark: Mark) -> Result<Option<Vec<u32>>, SadbError> {
        let count = self.mark.noted.wrapping_sub(mark.noted);
        if !self.complete || count > RING {
            return Ok(None);
        }
        let mut octets = vec![0; 4 * RING as usize];
        let read = self.file.read_at(&mut octets, 24).map_err(|e| SadbError::io("lock file", e))?;
        let slot = |number: u64| {
            let start = 4 * (number % RING) as usize;
            let octets = octets.get(start..read).and_then(|octets| octets.first_chunk())?;
            Some(u32::from_ne_bytes(*octets))
        };
        Ok((0..count).map(|index| slot(mark.noted.wrapping_add(index))).collect())
    }

    /// Announces a change. Called before the first write, so that a change that is cut short counts as well.
    pub(super) fn announce(&mut self) -> Result<(), SadbError> {
        self.mark.changes = self.mark.changes.wrapping_add(1);
        self.file.write_all_at(&self.mark.changes.to_ne_bytes(), 0).map_err(|e| SadbError::io("lock file", e))
    }

    /// Another change after one that was announced.
    pub(super) fn count_another(&mut self) {
        self.mark.changes = self.mark.changes.wrapping_add(1);
    }

    /// Notes which slots the announced changes was about, `None` for any; called while the dirty flag is still raised.
    ///
    /// # Errors
    /// The lock file cannot be written.
    pub(super) fn note(&mut self, slots: Option<&BTreeSet<u32>>) -> Result<(), SadbError> {
        let write = |octets: &[u8], at| self.file.write_all_at(octets, at).map_err(|e| SadbError::io("lock file", e));
        match slots.filter(|slots| self.complete && slots.len() as u64 <= RING) {
            Some(slots) => {
                // As many as there are up to the end of the ring, and the others from its beginning.
                let octets: Vec<u8> = slots.iter().flat_map(|slot| slot.to_ne_bytes()).collect();
                let start = self.mark.noted % RING;
                let (here, wrapped) = octets.split_at(octets.len().min(4 * (RING - start) as usize));
                write(here, 24 + 4 * start)?;
                if !wrapped.is_empty() {
                    write(wrapped, 24)?;
                }
                self.mark.noted = self.mark.noted.wrapping_add(slots.len() as u64);
            }
            // Further than anybody can follow.
            None => self.mark.noted = self.mark.noted.wrapping_add(RING + 1),
        }
        let Mark { changes, noted } = self.mark;
        write([changes, changes, noted].map(u64::to_ne_bytes).as_flattened(), 0)?;
        self.complete = true;
        Ok(())
    }
}
