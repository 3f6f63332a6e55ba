//! The clock and the randomness of a running daemon.

use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};

use crate::core::api::{EntropyError, RandomSource, Timestamp};

/// Now, on the clock that also runs in suspend (ROB-08).
pub(super) fn now() -> Timestamp {
    Timestamp::from_duration(Duration::from_nanos(sadb_maps::host::clock::boot_time()))
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
