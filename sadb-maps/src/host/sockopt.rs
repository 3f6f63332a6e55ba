//! Socket options that are numbers and that no library has yet.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// A 64-bit option of level `SOL_SOCKET`.
pub(super) fn u64(socket: &impl AsFd, option: libc::c_int) -> io::Result<u64> {
    let mut value = 0u64;
    let mut len = size_of::<u64>() as libc::socklen_t;
    // SAFETY: value and length are live variables, and the call is told the size of the value.
    let result = unsafe {
        libc::getsockopt(socket.as_fd().as_raw_fd(), libc::SOL_SOCKET, option, (&raw mut value).cast(), &raw mut len)
    };
    if result == 0 { Ok(value) } else { Err(io::Error::last_os_error()) }
}
