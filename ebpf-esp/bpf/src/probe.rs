//! What the test-only object asks the classifier: shared with the program that loads it.

use sadb_maps::policy::Selectors;

/// A packet to be classified.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Probe {
    /// The packet.
    pub packet: Selectors,
    /// A bit of `sadb_maps::policy::direction`.
    pub direction: u32,
    /// A `sadb_maps::spd::scope`.
    pub scope: u32,
}

/// Probes that fit.
pub const PROBES: u32 = 1 << 16;

/// Names of the maps.
pub mod map {
    /// `Array<Probe>`.
    pub const PROBES: &str = "TEST_PROBES";
    /// `Array<u32>`: which probe is next, and how many there are.
    pub const CURSOR: &str = "TEST_CURSOR";
}

/// Names of the programs, all of them XDP. Each takes the next probe and returns what the classifier says of it.
pub mod program {
    /// With the flow cache.
    pub const CLASSIFY: &str = "spd_classify";
    /// Without it.
    pub const SEARCH: &str = "spd_search";
    /// Nothing but taking the probe.
    pub const NOTHING: &str = "spd_nothing";
}
