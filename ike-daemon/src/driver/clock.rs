//! The clock and the randomness of a running daemon.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ring::rand::{SecureRandom, SystemRandom};

use crate::core::api::{EntropyError, RandomSource, Timestamp};

/// Now, on the clock that also runs in suspend (ROB-08).
pub(super) fn now() -> Timestamp {
    Timestamp::from_duration(Duration::from_nanos(sadb_maps::host::clock::boot_time()))
}

/// The time of day, since 1970.
pub(super) fn wall() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The operating system's random source.
pub(super) struct SystemSource(SystemRandom);

impl SystemSource {
    pub(super) fn new() -> Self {
        Self(SystemRandom::new())
    }
}

impl RandomSource for SystemSource {
    fn fill(&mut self, out: &mut [u8]) -> Result<(), EntropyError> {
        self.0.fill(out).map_err(|_| EntropyError)
    }
}
