//! Frames that go into `ipsec0` as if the programs had put them there: with their mark, which nobody else knows, and a tag.

use crate::abi::Config;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, setsockopt, socket, sockopt};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

/// The socket for it; it receives nothing.
pub(super) struct Injector {
    socket: OwnedFd,
    ipsec0: u32,
}

impl Injector {
    /// # Errors
    /// No permission (CAP_NET_RAW).
    pub(super) fn open(config: &Config) -> io::Result<Self> {
        let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)?;
        setsockopt(&socket, sockopt::Mark, &config.mark_tagged)?;
        Ok(Self { socket, ipsec0: config.ipsec0 })
    }

    /// Sends a frame whose addresses are a tag.
    ///
    /// # Errors
    /// `ipsec0` is gone or down, or takes no more at the moment, or none of that length.
    pub(super) fn send(&self, frame: &[u8]) -> io::Result<()> {
        let protocol = frame.get(12..14).and_then(|octets| octets.try_into().ok()).map_or(0, u16::from_ne_bytes);
        let address = libc::sockaddr_ll {
            sll_family: libc::AF_PACKET as u16,
            sll_protocol: protocol,
            sll_ifindex: i32::try_from(self.ipsec0).map_err(io::Error::other)?,
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 0,
            sll_addr: [0; 8],
        };
        let len = size_of_val(&address) as libc::socklen_t;
        let flags = libc::MSG_DONTWAIT;
        // SAFETY: frame and address are live and of the sizes that the call is told.
        let sent = unsafe {
            let to = (&raw const address).cast();
            libc::sendto(self.socket.as_raw_fd(), frame.as_ptr().cast(), frame.len(), flags, to, len)
        };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}
