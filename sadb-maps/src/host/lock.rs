//! The lock of an instance: one holder at a time changes more than one map.
//!
//! A holder that dies between two writes leaves the dirty flag of the header set, and the next holder repairs
//! ([`Sadb`](super::Sadb) knows how). The lock file holds a count of changes, so that a process can tell whether what
//! it remembers of the maps is still true.

use super::error::SadbError;
use super::instance::Instance;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::time::{Duration, Instant};

/// How long a tool waits for another one, in seconds.
pub const LOCK_TIMEOUT: u64 = 10;

/// The held lock; dropping it, or the death of the process, gives it back.
#[derive(Debug)]
pub struct InstanceLock {
    file: Flock<File>,
    changes: u64,
}

impl InstanceLock {
    /// Takes the lock, waiting up to [`LOCK_TIMEOUT`] seconds.
    ///
    /// # Errors
    /// [`SadbError::Busy`] after the time; a lock file that cannot be made.
    pub fn acquire(instance: &Instance) -> Result<Self, SadbError> {
        let path = instance.run_dir()?.join("lock");
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
            .open(&path)
            .map_err(|e| SadbError::io(path.display().to_string(), e))?;
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
        let mut octets = [0; 8];
        // A new file is empty: no change so far.
        let read = file.read_at(&mut octets, 0).map_err(|e| SadbError::io("lock file", e))?;
        let changes = if read == octets.len() { u64::from_ne_bytes(octets) } else { 0 };
        Ok(Self { file, changes })
    }

    /// Count of changes up to now. Equal counts mean that nobody changed anything in between.
    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    /// Announces a change. Called before the first write, so that a change that is cut short counts as well.
    pub(super) fn announce(&mut self) -> Result<(), SadbError> {
        self.changes = self.changes.wrapping_add(1);
        self.file.write_all_at(&self.changes.to_ne_bytes(), 0).map_err(|e| SadbError::io("lock file", e))
    }
}
