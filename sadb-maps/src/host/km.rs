//! The sockets of key management: what they send leaves in clear, whatever the policy says.
//!
//! The programs know them by socket cookie, so no other process gets the bypass by using port 500.

use super::error::SadbError;
use super::instance::Instance;
use super::maps::{self, Table};
use super::sockopt;
use crate::abi::map;
use std::os::fd::AsFd;
use std::path::Path;

/// The registered sockets of an instance.
pub struct KmSockets {
    instance: Instance,
    /// Number of the map.
    id: u32,
    table: Table<u64, u32>,
}

impl std::fmt::Debug for KmSockets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KmSockets")
    }
}

impl KmSockets {
    /// Opens the registry of an attached instance.
    ///
    /// # Errors
    /// Not attached, another network namespace, another version.
    pub fn open(instance: &Instance) -> Result<Self, SadbError> {
        let id = maps::map_id(instance, map::KM_SOCKETS)?;
        maps::checked_header(instance)?;
        Ok(Self { instance: instance.clone(), id, table: Table::open(instance, map::KM_SOCKETS)? })
    }

    /// Whether the programs still look here. They do not once the instance was detached, or attached anew: open another
    /// registry then, and register again. Worth asking every second or so.
    pub fn is_current(&self) -> bool {
        maps::map_id(&self.instance, map::KM_SOCKETS).is_ok_and(|id| id == self.id)
    }

    /// Lets what this socket sends leave in clear, and gives its cookie. Ends with [`KmSockets::unregister`]; the
    /// kernel gives no cookie twice, so one that is left over by a killed daemon opens nothing.
    ///
    /// # Errors
    /// The descriptor is no socket; the registry is full of living processes.
    pub fn register(&mut self, socket: impl AsFd) -> Result<u64, SadbError> {
        let cookie = sockopt::u64(&socket, libc::SO_COOKIE).map_err(|e| SadbError::io("SO_COOKIE", e))?;
        let owner = std::process::id();
        if self.table.insert(&cookie, &owner).is_err() {
            for (old, pid) in self.table.entries()? {
                if !Path::new(&format!("/proc/{pid}")).exists() {
                    self.table.remove(&old)?;
                }
            }
            self.table.insert(&cookie, &owner)?;
        }
        Ok(cookie)
    }

    /// Whether the socket with this cookie has the right.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn is_registered(&self, cookie: u64) -> Result<bool, SadbError> {
        Ok(self.table.get(&cookie)?.is_some())
    }

    /// Takes the right back.
    ///
    /// # Errors
    /// The map cannot be written.
    pub fn unregister(&mut self, cookie: u64) -> Result<(), SadbError> {
        self.table.remove(&cookie)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::testing::TestInstance;
    use std::net::UdpSocket;

    #[test]
    fn sockets_are_known_by_cookie() {
        let test = TestInstance::with_maps(2).unwrap();
        let mut km = KmSockets::open(&test).unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let cookie = km.register(&socket).unwrap();
        assert_eq!(km.table.get(&cookie).unwrap(), Some(std::process::id()));
        assert_eq!(km.register(&socket).unwrap(), cookie);
        km.unregister(cookie).unwrap();
        assert!(km.table.keys().unwrap().is_empty());
    }

    #[test]
    fn a_registry_that_nobody_looks_into_is_known() {
        let test = TestInstance::with_maps(2).unwrap();
        let km = KmSockets::open(&test).unwrap();
        assert!(km.is_current());
        test.remove_pins().unwrap();
        assert!(!km.is_current());
        crate::host::layout::create_pinned(&test, 2).unwrap();
        assert!(!km.is_current() && KmSockets::open(&test).unwrap().is_current());
    }

    #[test]
    fn a_full_registry_forgets_the_dead() {
        let test = TestInstance::with_maps(2).unwrap();
        let mut km = KmSockets::open(&test).unwrap();
        // A process number that cannot be: above the largest that the kernel gives out.
        for cookie in 0..256 {
            km.table.insert(&(1 << 60 | cookie), &0x7fff_ffff).unwrap();
        }
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let cookie = km.register(&socket).unwrap();
        assert_eq!(km.table.keys().unwrap(), [cookie]);
    }
}
