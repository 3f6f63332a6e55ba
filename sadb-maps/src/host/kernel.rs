//! The few bpf(2) commands that aya does not offer: looking at a pinned link, giving it another program, detaching it at
//! once.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

const BPF_OBJ_GET: i64 = 7;
const BPF_OBJ_GET_INFO_BY_FD: i64 = 15;
const BPF_LINK_UPDATE: i64 = 29;
const BPF_LINK_DETACH: i64 = 34;

/// Leading fields of `union bpf_attr` for pinned objects.
#[repr(C)]
pub(super) struct ObjectAttr {
    pathname: u64,
    fd: u32,
    flags: u32,
}

impl ObjectAttr {
    /// The path must live through the call.
    pub(super) fn new(path: &CStr, fd: u32) -> Self {
        Self { pathname: path.as_ptr() as u64, fd, flags: 0 }
    }
}

/// `union bpf_attr` for `BPF_OBJ_GET_INFO_BY_FD`.
#[repr(C)]
pub(super) struct InfoAttr {
    pub(super) fd: u32,
    pub(super) len: u32,
    pub(super) info: u64,
}

/// `union bpf_attr` for `BPF_LINK_UPDATE`.
#[repr(C)]
struct UpdateAttr {
    link: u32,
    program: u32,
    flags: u32,
    old_program: u32,
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

pub(super) fn path_string(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)
}

/// Opens a pin: a map, a program or a link.
pub(super) fn object(path: &Path) -> io::Result<OwnedFd> {
    let path = path_string(path)?;
    bpf(BPF_OBJ_GET, &ObjectAttr::new(&path, 0)).map(descriptor)
}

/// A pinned link.
pub(super) struct Link(OwnedFd);

impl Link {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        object(path).map(Self)
    }

    /// Index of the interface that the link is attached to; 0 when that is gone, or its network namespace.
    pub(super) fn ifindex(&self) -> io::Result<u32> {
        Ok(self.info()?.ifindex)
    }

    /// Number of the program.
    pub(super) fn program(&self) -> io::Result<u32> {
        Ok(self.info()?.program)
    }

    fn info(&self) -> io::Result<LinkInfo> {
        let mut info = LinkInfo::default();
        let attr = InfoAttr {
            fd: self.0.as_fd().as_raw_fd() as u32,
            len: size_of::<LinkInfo>() as u32,
            info: &raw mut info as u64,
        };
        bpf(BPF_OBJ_GET_INFO_BY_FD, &attr)?;
        Ok(info)
    }

    /// Puts another program in the place of the one that is there; every packet meets the one or the other. A link whose
    /// interface is gone stays as it is.
    pub(super) fn update(&self, program: &OwnedFd) -> io::Result<()> {
        let attr = UpdateAttr {
            link: self.0.as_raw_fd() as u32,
            program: program.as_raw_fd() as u32,
            flags: 0,
            old_program: 0,
        };
        match bpf(BPF_LINK_UPDATE, &attr) {
            Err(e) if e.raw_os_error() == Some(libc::ENOLINK) => Ok(()),
            other => other.map(drop),
        }
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
