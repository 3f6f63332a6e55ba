//! Instances for tests: a name of their own, maps without programs, gone when dropped, also by a panic.

use super::bpffs::RUN_DIR;
use super::error::SadbError;
use super::instance::{Instance, STATE_DIR};
use super::layout;
use std::ops::Deref;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

/// An instance that lasts as long as the value.
#[derive(Debug)]
pub struct TestInstance {
    instance: Instance,
    /// The process that made it; a forked child must not take it away.
    owner: u32,
}

impl TestInstance {
    /// A new name with every map pinned, for `capacity` slots, in the network namespace of this thread.
    ///
    /// # Errors
    /// The maps cannot be made; the tests run as root.
    pub fn with_maps(capacity: u32) -> Result<Self, SadbError> {
        let this = Self::bare()?;
        layout::create_pinned(&this.instance, capacity)?;
        Ok(this)
    }

    /// A new name with nothing attached.
    ///
    /// # Errors
    /// The BPF file system cannot be reached.
    pub fn bare() -> Result<Self, SadbError> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        Ok(Self { instance: Instance::open(&name)?, owner: std::process::id() })
    }
}

impl Deref for TestInstance {
    type Target = Instance;
    fn deref(&self) -> &Instance {
        &self.instance
    }
}

impl Drop for TestInstance {
    fn drop(&mut self) {
        if std::process::id() != self.owner {
            return;
        }
        // Nothing is left to report to; whatever stays behind has a name of its own.
        let _ = self.instance.remove_pins();
        let _ = std::fs::remove_dir_all(Path::new(RUN_DIR).join(self.instance.name()));
        let _ = std::fs::remove_dir_all(Path::new(STATE_DIR).join(self.instance.name()));
    }
}

/// Runs `work` in a thread with a network namespace of its own, which ends with it.
///
/// # Panics
/// When the namespace cannot be made, or `work` panics.
#[cfg(test)]
pub(super) fn in_new_netns<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            work()
        });
        thread.join().unwrap()
    })
}

/// Runs ip(8) with these arguments.
#[cfg(test)]
pub(super) fn ip(arguments: &str) {
    assert!(std::process::Command::new("ip").args(arguments.split(' ')).status().unwrap().success(), "ip {arguments}");
}

/// Makes the interfaces `lan0` and `lan1`, which are the ends of one pair.
#[cfg(test)]
pub(super) fn two_interfaces() {
    ip("link add lan0 type veth peer name lan1");
    ip("link set lan0 up");
    ip("link set lan1 up");
}

/// An inbound SA.
#[cfg(test)]
pub(super) fn an_sa() -> super::SaSpec {
    use super::{Direction, SaSpec, SecretKey};
    use crate::sa::{ESP, encr};
    SaSpec {
        encr: encr::CHACHA20_POLY1305,
        key: SecretKey::new(vec![7; 32]),
        salt: SecretKey::new(vec![7; 4]),
        direction: Direction::In,
        ..SaSpec::new(ESP, 0x1001, [192, 0, 2, 1].into(), [192, 0, 2, 2].into())
    }
}
