//! Instances: one data path, with its maps, policy and SAs, in one network namespace.
//!
//! An instance is a name. Its pins are a directory on our BPF file system (module `bpffs`), its runtime files
//! live in `/run/ipsec/<name>`, what outlives a boot in `/var/lib/ipsec/<name>`. It belongs to the network namespace it
//! was attached in, and every tool refuses to touch it from another one.

use super::{bpffs, fault, sockopt};
use crate::abi::{ABI_VERSION, HEADER_MAGIC, Header};
use crate::name::{self, BadName};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Directory of everything that outlives a boot.
pub const STATE_DIR: &str = "/var/lib/ipsec";

/// Why an instance cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InstanceError {
    /// No instance can have this name.
    #[error(transparent)]
    Name(#[from] BadName),
    /// Nothing is pinned under the name.
    #[error("instance {0:?} is not attached; run espadm attach")]
    NotAttached(String),
    /// The instance belongs to another network namespace.
    #[error(
        "instance {name:?} belongs to network namespace {theirs}, and this is {ours}; use ip netns exec or --instance"
    )]
    OtherNamespace {
        /// Name of the instance.
        name: String,
        /// Inode of the namespace it was attached in.
        theirs: u64,
        /// Inode of the namespace of this process.
        ours: u64,
    },
    /// The maps were made by another version.
    #[error("instance {name:?} has map version {theirs}, this tool knows {ours}; {}", after_abi(*theirs, *ours))]
    Abi {
        /// Name of the instance.
        name: String,
        /// Version in the header.
        theirs: u32,
        /// [`ABI_VERSION`].
        ours: u32,
    },
    /// A pinned map is not what this tool expects.
    #[error("map {map} of the instance does not fit: {what}; run espadm detach --all and attach again")]
    Map {
        /// Name of the map.
        map: &'static str,
        /// The difference.
        what: String,
    },
    /// A pinned program is missing.
    #[error(
        "instance {name:?} has no program {program}: it is damaged, or another version attached it; \
         run espadm upgrade, or espadm detach --all and attach again"
    )]
    NoProgram {
        /// Name of the instance.
        name: String,
        /// Name of the program.
        program: &'static str,
    },
    /// Pins made here would vanish with the command.
    #[error(
        "this mount namespace ends with the command (ip netns exec {0}) and no outer one can be entered: \
         mount a BPF file system at /run/ipsec/bpf first, with any tool of the suite run outside ip netns exec"
    )]
    PrivateMountNamespace(String),
    /// A directory belongs to someone else or is no directory.
    #[error("{} is not a directory of our own", .0.display())]
    ForeignDirectory(PathBuf),
    /// A file or a system call.
    #[error("{what}: {source}")]
    Io {
        /// The file or the call.
        what: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

/// What to do about maps of another version.
fn after_abi(theirs: u32, ours: u32) -> &'static str {
    if theirs > ours {
        "use the tools that attached it, or run espadm detach --all with these and attach again"
    } else {
        "run espadm upgrade, or espadm detach --all and attach again"
    }
}

impl InstanceError {
    pub(crate) fn io(what: impl AsRef<Path>, source: impl Into<io::Error>) -> Self {
        Self::Io { what: what.as_ref().display().to_string(), source: source.into() }
    }
}

/// A named instance, seen from this process. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Instance {
    name: String,
    /// Root of the BPF file system.
    bpffs: Arc<OwnedFd>,
}

/// The run directory of the instance of this name, as [`Instance::run_dir`] gives it, for those that have nothing to do with
/// its maps.
///
/// # Errors
/// A bad name; the directory cannot be made or belongs to another user.
pub fn run_dir(name: &str) -> Result<PathBuf, InstanceError> {
    name::check(name)?;
    bpffs::private_dir(Path::new(bpffs::RUN_DIR))?;
    let dir = Path::new(bpffs::RUN_DIR).join(name);
    bpffs::private_dir(&dir)?;
    Ok(dir)
}

impl Instance {
    /// The instance that an option names, else the environment, else [`DEFAULT_INSTANCE`].
    ///
    /// The environment is ignored where somebody else may have set it: under `AT_SECURE` and under sudo.
    ///
    /// # Errors
    /// See [`Instance::open`].
    pub fn from_env_or(name: Option<&str>) -> Result<Self, InstanceError> {
        Self::open(&name::chosen(name)?)
    }

    /// The instance of this name, whether or not it is attached. Mounts the BPF file system if it is not mounted.
    ///
    /// # Errors
    /// A bad name; no permission; a mount namespace that is about to vanish.
    pub fn open(name: &str) -> Result<Self, InstanceError> {
        name::check(name)?;
        Ok(Self { name: name.to_owned(), bpffs: Arc::new(bpffs::open_root()?) })
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Directory of the pins as a path that works from every mount namespace, as long as this value or a clone lives.
    /// It exists only once the instance is attached.
    pub fn pin_dir(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{}", self.bpffs.as_raw_fd(), self.name))
    }

    /// Path of the pin of that name.
    pub fn pin(&self, name: &str) -> PathBuf {
        self.pin_dir().join(name)
    }

    /// Directory of the runtime files (lock, event lease), mode 0700, made if missing.
    ///
    /// # Errors
    /// The directory cannot be made or belongs to another user.
    pub fn run_dir(&self) -> Result<PathBuf, InstanceError> {
        run_dir(&self.name)
    }

    /// Directory of what outlives a boot (tunnel definitions), mode 0700, made if missing.
    ///
    /// # Errors
    /// The directory cannot be made or belongs to another user.
    pub fn state_dir(&self) -> Result<PathBuf, InstanceError> {
        bpffs::private_dir(Path::new(STATE_DIR))?;
        let dir = Path::new(STATE_DIR).join(&self.name);
        bpffs::private_dir(&dir)?;
        Ok(dir)
    }

    /// Whether something is pinned under this name.
    pub fn is_attached(&self) -> bool {
        self.pin(crate::abi::map::HEADER).exists()
    }

    /// Makes the directory of the pins, mode 0700.
    ///
    /// # Errors
    /// No permission.
    pub fn create_pin_dir(&self) -> Result<PathBuf, InstanceError> {
        let dir = self.pin_dir();
        bpffs::private_dir(&dir)?;
        Ok(dir)
    }

    /// Removes every pin: what nothing else refers to, programs, links and maps with the keys in them, is gone. Of the
    /// runtime files only the locks stay, because somebody may be waiting for them.
    ///
    /// # Errors
    /// A file cannot be removed.
    pub fn remove_pins(&self) -> Result<(), InstanceError> {
        let gone = |result: io::Result<()>, path: &Path| match result {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(InstanceError::io(path, e)),
            _ => Ok(()),
        };
        let remove = |path: &Path| {
            fault::point();
            if path.is_dir() {
                // Of an upgrade that was cut short: pins, and no further directories.
                for entry in std::fs::read_dir(path).map_err(|e| InstanceError::io(path, e))? {
                    let pin = entry.map_err(|e| InstanceError::io(path, e))?.path();
                    gone(std::fs::remove_file(&pin), &pin)?;
                }
                return gone(std::fs::remove_dir(path), path);
            }
            gone(std::fs::remove_file(path), path)
        };
        // The header first: who dies on the way leaves remains, not an instance that lacks something.
        remove(&self.pin(crate::abi::map::HEADER))?;
        let pins = self.pin_dir();
        match std::fs::read_dir(&pins) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(InstanceError::io(&pins, e)),
            Ok(entries) => {
                for entry in entries {
                    remove(&entry.map_err(|e| InstanceError::io(&pins, e))?.path())?;
                }
            }
        }
        gone(std::fs::remove_dir(&pins), &pins)?;
        let run = self.run_dir()?;
        ["policy-0.json", "policy-1.json"].iter().try_for_each(|name| remove(&run.join(name)))
    }

    /// A header for an instance that is attached from this process.
    ///
    /// # Errors
    /// The network namespace cannot be read.
    pub fn new_header(&self, capacity: u32) -> Result<Header, InstanceError> {
        let (netns_inode, netns_cookie) = own_netns()?;
        Ok(Header { magic: HEADER_MAGIC, abi: ABI_VERSION, netns_inode, netns_cookie, capacity, dirty: 0 })
    }

    /// Checks version and network namespace.
    ///
    /// # Errors
    /// Not attached (the header is empty), another version, another namespace.
    pub fn check_header(&self, header: &Header) -> Result<(), InstanceError> {
        if header.magic == HEADER_MAGIC && header.abi != ABI_VERSION {
            return Err(InstanceError::Abi { name: self.name.clone(), theirs: header.abi, ours: ABI_VERSION });
        }
        self.check_place(header)
    }

    /// Checks the network namespace, whatever the version is.
    ///
    /// # Errors
    /// Not attached (the header is empty), another namespace.
    pub(super) fn check_place(&self, header: &Header) -> Result<(), InstanceError> {
        if header.magic != HEADER_MAGIC {
            return Err(InstanceError::NotAttached(self.name.clone()));
        }
        let (ours, cookie) = own_netns()?;
        if (header.netns_inode, header.netns_cookie) != (ours, cookie) {
            return Err(InstanceError::OtherNamespace { name: self.name.clone(), theirs: header.netns_inode, ours });
        }
        Ok(())
    }
}

/// Inode number and cookie of the network namespace of this thread.
fn own_netns() -> Result<(u64, u64), InstanceError> {
    let path = "/proc/thread-self/ns/net";
    let meta = std::fs::metadata(path).map_err(|e| InstanceError::io(path, e))?;
    let socket = socket(AddressFamily::Unix, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)
        .map_err(|e| InstanceError::io("socket", e))?;
    let cookie = sockopt::u64(&socket, libc::SO_NETNS_COOKIE).map_err(|e| InstanceError::io("SO_NETNS_COOKIE", e))?;
    Ok((meta.ino(), cookie))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        assert!(matches!(Instance::open(".."), Err(InstanceError::Name(_))));
        assert_eq!(Instance::open("east-2").unwrap().name(), "east-2");
    }

    #[test]
    fn another_version_or_namespace_is_refused() {
        let instance = Instance::open("test-header").unwrap();
        let header = instance.new_header(8).unwrap();
        instance.check_header(&header).unwrap();
        let refused = |h: Header| instance.check_header(&h).unwrap_err();
        assert!(matches!(refused(Header { abi: 0, ..header }), InstanceError::Abi { theirs: 0, .. }));
        assert!(matches!(
            refused(Header { netns_inode: 1, ..header }),
            InstanceError::OtherNamespace { theirs: 1, .. }
        ));
        assert!(matches!(refused(Header::default()), InstanceError::NotAttached(_)));
    }

    #[test]
    fn directories_are_for_the_owner_only() {
        let instance = Instance::open(&format!("test-dirs-{}", std::process::id())).unwrap();
        assert!(!instance.is_attached());
        let (pins, run) = (instance.create_pin_dir().unwrap(), instance.run_dir().unwrap());
        for dir in [&pins, &run] {
            assert_eq!(std::fs::metadata(dir).unwrap().mode() & 0o777, 0o700);
        }
        instance.remove_pins().unwrap();
        assert!(!pins.exists());
        std::fs::remove_dir_all(run).unwrap();
    }
}
