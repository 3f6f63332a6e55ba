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
pub struct KmSockets(Table<u64, u32>);

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
        maps::checked_header(instance)?;
        Table::open(instance, map::KM_SOCKETS).map(Self)
    }

    /// Lets what this socket sends leave in clear, and gives its cookie. Ends with [`KmSockets::unregister`]; the
    /// kernel gives no cookie twice, so one that is left over by a killed daemon opens nothing.
    ///
    /// # Errors
    /// The descriptor is no socket; the registry is full of living processes.
    pub fn register(&mut self, socket: impl AsFd) -> Result<u64, SadbError> {
        let cookie = sockopt::u64(&socket, libc::SO_COOKIE).map_err(|e| SadbError::io("SO_COOKIE", e))?;
        let owner = std::process::id();
        if self.0.insert(&cookie, &owner).is_err() {
            for (old, pid) in self.0.entries()? {
                if !Path::new(&format!("/proc/{pid}")).exists() {
                    self.0.remove(&old)?;
                }
            }
            self.0.insert(&cookie, &owner)?;
        }
        Ok(cookie)
    }

    /// Takes the right back.
    ///
    /// # Errors
    /// The map cannot be written.
    pub fn unregister(&mut self, cookie: u64) -> Result<(), SadbError> {
        self.0.remove(&cookie)
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
        assert_eq!(km.0.get(&cookie).unwrap(), Some(std::process::id()));
        assert_eq!(km.register(&socket).unwrap(), cookie);
        km.unregister(cookie).unwrap();
        assert!(km.0.keys().unwrap().is_empty());
    }

    #[test]
    fn a_full_registry_forgets_the_dead() {
        let test = TestInstance::with_maps(2).unwrap();
        let mut km = KmSockets::open(&test).unwrap();
        // A process number that cannot be: above the largest that the kernel gives out.
        for cookie in 0..256 {
            km.0.insert(&(1 << 60 | cookie), &0x7fff_ffff).unwrap();
        }
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let cookie = km.register(&socket).unwrap();
        assert_eq!(km.0.keys().unwrap(), [cookie]);
    }
}
