//! The few bpf(2) commands that aya does not offer: looking at a pinned link, detaching it at once, making a bare map.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

const BPF_OBJ_GET: i64 = 7;
const BPF_OBJ_GET_INFO_BY_FD: i64 = 15;
const BPF_LINK_DETACH: i64 = 34;

/// Leading fields of `union bpf_attr` for pinned objects.
#[repr(C)]
pub(super) struct ObjectAttr {
    pathname: u64,
    fd: u32,
    flags: u32,
}

#[repr(C)]
struct InfoAttr {
    fd: u32,
    len: u32,
    info: u64,
}

#[repr(C)]
struct LinkAttr {
    fd: u32,
}

/// `struct bpf_link_info`, as far as XDP and TCX links fill it.
#[repr(C)]
#[derive(Default)]
struct LinkInfo {
    kind: u32,
    id: u32,
    program: u32,
    pad: u32,
    ifindex: u32,
    rest: [u32; 15],
}

pub(super) fn bpf<T>(command: i64, attr: &T) -> io::Result<i64> {
    // SAFETY: attr is a properly initialised prefix of union bpf_attr and lives through the call; the kernel takes the
    // rest of the union as zero because it is told the size.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attr), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The descriptor that a successful command returned.
pub(super) fn descriptor(result: i64) -> OwnedFd {
    // SAFETY: the caller passes what bpf(2) just returned, a new descriptor that nobody else owns.
    unsafe { OwnedFd::from_raw_fd(result as i32) }
}

fn path_string(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)
}

/// A pinned link.
pub(super) struct Link(OwnedFd);

impl Link {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let path = path_string(path)?;
        let attr = ObjectAttr { pathname: path.as_ptr() as u64, fd: 0, flags: 0 };
        bpf(BPF_OBJ_GET, &attr).map(|fd| Self(descriptor(fd)))
    }

    /// Index of the interface that the link is attached to; 0 when that is gone, or its network namespace.
    pub(super) fn ifindex(&self) -> io::Result<u32> {
        let mut info = LinkInfo::default();
        let attr = InfoAttr {
            fd: self.0.as_fd().as_raw_fd() as u32,
            len: size_of::<LinkInfo>() as u32,
            info: &raw mut info as u64,
        };
        bpf(BPF_OBJ_GET_INFO_BY_FD, &attr)?;
        Ok(info.ifindex)
    }

    /// Detaches the program now. Dropping the last reference would do it as well, but some time later.
    pub(super) fn detach(&self) -> io::Result<()> {
        match bpf(BPF_LINK_DETACH, &LinkAttr { fd: self.0.as_fd().as_raw_fd() as u32 }) {
            // Detached already, with its interface.
            Err(e) if e.raw_os_error() == Some(libc::ENOLINK) => Ok(()),
            other => other.map(drop),
        }
    }
}

#[cfg(any(test, feature = "testing"))]
pub(super) fn pin(fd: impl AsFd, path: &Path) -> io::Result<()> {
    const BPF_OBJ_PIN: i64 = 6;
    let path = path_string(path)?;
    let fd = fd.as_fd().as_raw_fd() as u32;
    bpf(BPF_OBJ_PIN, &ObjectAttr { pathname: path.as_ptr() as u64, fd, flags: 0 }).map(drop)
}
