//! The counters of the data path, summed over the CPUs, and those of the slow path.

use super::error::SadbError;
use super::instance::Instance;
use super::maps::{self, Slots, failed};
use crate::abi::map;
use crate::counter::Counter;
use crate::slow::{Outcome, SlowState};
use aya::maps::{Map, MapData, PerCpuArray};

/// The handle on the counters of an instance.
pub struct Counters {
    programs: PerCpuArray<MapData, u64>,
    slow: Slots<SlowState>,
}

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
        let programs = PerCpuArray::try_from(Map::PerCpuArray(data)).map_err(failed(map::COUNTERS, "open"))?;
        Ok(Self { programs, slow: Slots::open(instance, map::SLOW_STATE)? })
    }

    /// One counter.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn get(&self, counter: Counter) -> Result<u64, SadbError> {
        let cpus = self.programs.get(&(counter as u32), 0).map_err(failed(map::COUNTERS, "lookup"))?;
        Ok(cpus.iter().fold(0, |sum, cpu| sum.wrapping_add(*cpu)))
    }

    /// Every counter by name: those of the programs, then what became of packets on the slow path.
    ///
    /// # Errors
    /// The maps cannot be read.
    pub fn all(&self) -> Result<Vec<(&'static str, u64)>, SadbError> {
        let programs = Counter::ALL.iter().map(|counter| Ok((counter.name(), self.get(*counter)?)));
        let counts = self.slow.get(0)?.counts;
        let slow = Outcome::ALL.iter().zip(counts).map(|(outcome, count)| Ok((outcome.name(), count)));
        programs.chain(slow).collect()
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
        counters.programs.set(Counter::DropAuth as u32, values, 0).unwrap();
        let all = counters.all().unwrap();
        assert_eq!(all.len(), Counter::ALL.len() + Outcome::ALL.len());
        for (index, (name, value)) in all.iter().enumerate() {
            assert_eq!(*value, if *name == Counter::DropAuth.name() { 3 * cpus as u64 } else { 0 });
            assert!(all.iter().skip(index + 1).all(|(other, _)| other != name), "{name} is there twice");
        }
    }
}
