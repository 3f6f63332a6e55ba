//! Which build of the programs an instance runs, and which one this tool has.
//!
//! The record is a map of one entry that is pinned with the programs of a build, and goes with them.

use super::instance::Instance;
use super::raw::{RawMap, Shape};
use serde::{Serialize, Serializer};
use std::fmt;
use std::io;
use std::path::Path;

/// Name of the map, and of its pin.
pub(super) const BUILD: &str = "BUILD";

/// Octets of the record that hold the version, padded with zeros.
const VERSION: usize = 56;

/// A build of the programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Build {
    /// Version of the package.
    version: String,
    /// FNV-1a over the object: tells builds apart, and is no defence against anybody.
    digest: u64,
}

impl Build {
    /// The build that an object is.
    pub fn of(object: &[u8]) -> Self {
        let digest = object
            .iter()
            .fold(0xcbf2_9ce4_8422_2325, |hash: u64, octet| (hash ^ u64::from(*octet)).wrapping_mul(0x100_0000_01b3));
        Self { version: env!("CARGO_PKG_VERSION").to_owned(), digest }
    }

    /// The build that is embedded in this tool; `None` when it was built without the programs.
    pub fn installed() -> Option<Self> {
        super::object::OBJECT.map(Self::of)
    }

    /// The build whose programs the instance runs; `None` when it is not attached, or by a version that left no record.
    ///
    /// # Errors
    /// The record cannot be read.
    pub(super) fn loaded(instance: &Instance) -> io::Result<Option<Self>> {
        let path = instance.pin(BUILD);
        if !path.exists() {
            return Ok(None);
        }
        let value = RawMap::open(&path)?.get(&[0; 4])?;
        Ok(value.and_then(|value| Self::parse(&value)))
    }

    fn parse(record: &[u8]) -> Option<Self> {
        let (version, digest) = record.split_at_checked(VERSION)?;
        let digest = u64::from_ne_bytes(*digest.first_chunk()?);
        let end = version.iter().position(|octet| *octet == 0).unwrap_or(VERSION);
        let version = String::from_utf8_lossy(version.get(..end)?).into_owned();
        Some(Self { version, digest })
    }

    /// Pins the record in a directory of pins.
    pub(super) fn pin(&self, directory: &Path) -> io::Result<()> {
        let shape = Shape { kind: 2, key: 4, value: VERSION as u32 + 8, entries: 1, flags: 0 };
        let map = RawMap::create(BUILD, shape)?;
        let mut record: Vec<u8> = self.version.bytes().take(VERSION).collect();
        record.resize(VERSION, 0);
        record.extend(self.digest.to_ne_bytes());
        map.set(&[0; 4], &record)?;
        super::fault::point();
        map.pin(&directory.join(BUILD))
    }
}

impl fmt::Display for Build {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:016x}", self.version, self.digest)
    }
}

impl Serialize for Build {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::testing::TestInstance;

    #[test]
    fn a_build_is_known_by_its_object() {
        let test = TestInstance::with_maps(2).unwrap();
        assert_eq!(Build::loaded(&test).unwrap(), None);
        let (one, other) = (Build::of(b"one"), Build::of(b"other"));
        assert_ne!(one, other);
        one.pin(&test.pin_dir()).unwrap();
        assert_eq!(Build::loaded(&test).unwrap(), Some(one.clone()));
        // FNV-1a of "one" by its definition.
        assert!(one.to_string().starts_with(env!("CARGO_PKG_VERSION")) && one.to_string().len() > 17);
        assert_eq!(Build::parse(&[0; 8]), None);
    }
}
