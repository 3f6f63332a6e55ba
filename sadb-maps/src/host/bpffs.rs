//! The BPF file system that the pins of every instance live on: found, or mounted where it outlives the tool.
//!
//! `ip netns exec` gives a command a mount namespace of its own, which ends with the command and every mount made in it.
//! So the file system belongs into the mount namespace of PID 1 or, where that may not be entered, into that of the
//! outermost ancestor that may. A helper thread goes there and hands back a descriptor of the directory; paths below
//! `/proc/self/fd/N` then lead there from whatever namespace the tool itself is in.

use super::instance::InstanceError;
pub(super) use crate::name::RUN_DIR;
use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::stat::Mode;
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Mount point of the BPF file system.
pub(super) const BPF_DIR: &str = "/run/ipsec/bpf";

/// Descriptor (`O_PATH`) of the root of the BPF file system, mounted if it was not.
pub(super) fn open_root() -> Result<OwnedFd, InstanceError> {
    let own = namespace_id(Path::new("/proc/self/ns/mnt"))?;
    match outer_namespace() {
        Some((file, id)) if id != own => in_namespace(file),
        Some(_) => mount_here(),
        None => match private_netns_name() {
            // One that is there was there when the namespace was copied, and is the same as outside.
            Some(name) if !is_bpffs(Path::new(BPF_DIR))? => Err(InstanceError::PrivateMountNamespace(name)),
            _ => mount_here(),
        },
    }
}

/// Device and inode of a namespace file.
fn namespace_id(path: &Path) -> Result<(u64, u64), InstanceError> {
    let meta = std::fs::metadata(path).map_err(|e| InstanceError::io(path, e))?;
    Ok((meta.dev(), meta.ino()))
}

/// The mount namespace of PID 1 or of the outermost ancestor whose namespace may be opened.
fn outer_namespace() -> Option<(File, (u64, u64))> {
    let mut pids = vec![];
    let mut pid = std::process::id();
    while let Some(parent) = parent_of(pid) {
        // A chain of this length is a loop made by reused numbers.
        if parent == 0 || pids.len() > 1024 {
            break;
        }
        pids.push(parent);
        pid = parent;
    }
    std::iter::once(1).chain(pids.into_iter().rev()).find_map(|pid| {
        let path = format!("/proc/{pid}/ns/mnt");
        let file = File::open(path).ok()?;
        let meta = file.metadata().ok()?;
        Some((file, (meta.dev(), meta.ino())))
    })
}

fn parent_of(pid: u32) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:")?.trim().parse().ok())
}

/// Name of the network namespace for which `ip netns exec` made our mount namespace: it mounts a sysfs whose source is
/// that name.
fn private_netns_name() -> Option<String> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    mounts.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        if left.split(' ').nth(4)? != "/sys" {
            return None;
        }
        let mut fields = right.split(' ');
        let (kind, source) = (fields.next()?, fields.next()?);
        (kind == "sysfs" && source != "sysfs" && Path::new("/run/netns").join(source).exists())
            .then(|| source.to_owned())
    })
}

/// Does the work in another mount namespace. The namespace belongs to the thread, which ends with it.
fn in_namespace(namespace: File) -> Result<OwnedFd, InstanceError> {
    let thread = std::thread::Builder::new().name("bpffs".into()).spawn(move || {
        // The kernel refuses to change the mount namespace of a thread that shares root and working directory.
        unshare(CloneFlags::CLONE_FS).map_err(|e| InstanceError::io("unshare", e))?;
        setns(&namespace, CloneFlags::CLONE_NEWNS).map_err(|e| InstanceError::io("setns to the outer mounts", e))?;
        mount_here()
    });
    let joined = thread.map_err(|e| InstanceError::io("thread", e))?.join();
    joined.map_err(|_| InstanceError::io("thread", io::Error::other("the mount helper died")))?
}

/// Makes sure that the file system is mounted in the mount namespace of this thread and opens its root.
fn mount_here() -> Result<OwnedFd, InstanceError> {
    private_dir(Path::new(RUN_DIR))?;
    // Two tools that mount at once would stack two file systems, and the pins of the first would be out of sight.
    let path = Path::new(RUN_DIR).join(".mount.lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
        .open(&path)
        .map_err(|e| InstanceError::io(&path, e))?;
    let lock = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, e)| InstanceError::io(&path, e))?;
    let dir = Path::new(BPF_DIR);
    if !is_bpffs(dir)? {
        private_dir(dir)?;
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        mount(Some("bpf"), dir, Some("bpf"), flags, Some("mode=0700"))
            .map_err(|e| InstanceError::io("mount of the BPF file system at /run/ipsec/bpf", e))?;
    }
    let fd = nix::fcntl::open(dir, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(|e| InstanceError::io(dir, e));
    drop(lock);
    fd
}

fn is_bpffs(dir: &Path) -> Result<bool, InstanceError> {
    match statfs(dir) {
        Ok(fs) => Ok(fs.filesystem_type() == BPF_FS_MAGIC),
        Err(nix::Error::ENOENT) => Ok(false),
        Err(e) => Err(InstanceError::io(dir, e)),
    }
}

/// Makes a directory that only its owner, who must be the effective user, can enter.
pub(super) fn private_dir(path: &Path) -> Result<(), InstanceError> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
        Err(e) => return Err(InstanceError::io(path, e)),
    }
    let meta = std::fs::symlink_metadata(path).map_err(|e| InstanceError::io(path, e))?;
    if !meta.is_dir() || meta.uid() != nix::unistd::geteuid().as_raw() {
        return Err(InstanceError::ForeignDirectory(path.to_owned()));
    }
    if meta.mode() & 0o777 != 0o700 {
        std::fs::set_permissions(path, Permissions::from_mode(0o700)).map_err(|e| InstanceError::io(path, e))?;
    }
    Ok(())
}
