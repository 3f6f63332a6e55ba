//! The counters of the data path, summed over the CPUs.

use super::error::SadbError;
use super::instance::Instance;
use super::maps::{self, failed};
use crate::abi::map;
use crate::counter::Counter;
use aya::maps::{Map, MapData, PerCpuArray};

/// The handle on the counters of an instance.
pub struct Counters(PerCpuArray<MapData, u64>);

impl std::fmt::Debug for Counters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Counters")
    }
}

impl Counters {
    /// Opens the counters of an attached instance.
    ///
    /// # Errors
    /// Not attached, another network namespace, another version.
    pub fn open(instance: &Instance) -> Result<Self, SadbError> {
        maps::checked_header(instance)?;
        let data = maps::open(instance, map::COUNTERS)?;
        PerCpuArray::try_from(Map::PerCpuArray(data)).map(Self).map_err(failed(map::COUNTERS, "open"))
    }

    /// One counter.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn get(&self, counter: Counter) -> Result<u64, SadbError> {
        let cpus = self.0.get(&(counter as u32), 0).map_err(failed(map::COUNTERS, "lookup"))?;
        Ok(cpus.iter().fold(0, |sum, cpu| sum.wrapping_add(*cpu)))
    }

    /// Every counter, in the order of the map.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn all(&self) -> Result<Vec<(Counter, u64)>, SadbError> {
        Counter::ALL.iter().map(|counter| Ok((*counter, self.get(*counter)?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::testing::TestInstance;
    use aya::maps::PerCpuValues;

    #[test]
    fn cpus_are_summed() {
        let test = TestInstance::with_maps(2).unwrap();
        let mut counters = Counters::open(&test).unwrap();
        let cpus = aya::util::nr_cpus().unwrap();
        let values = PerCpuValues::try_from(vec![3; cpus]).unwrap();
        counters.0.set(Counter::DropAuth as u32, values, 0).unwrap();
        let all = counters.all().unwrap();
        assert_eq!(all.len(), Counter::ALL.len());
        for (counter, value) in all {
            assert_eq!(value, if counter == Counter::DropAuth { 3 * cpus as u64 } else { 0 });
        }
    }
}
