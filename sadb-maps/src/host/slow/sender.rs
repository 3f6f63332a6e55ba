//! Sealed packets that leave in fragments: raw IP, with the mark by which the programs know what is sealed.

use crate::abi::Config;
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, setsockopt, socket, sockopt};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};

/// The sockets for it; they receive nothing.
pub(super) struct Sender {
    v4: OwnedFd,
    /// None where the kernel has no IPv6.
    v6: Option<OwnedFd>,
    ident: u32,
}

impl Sender {
    /// # Errors
    /// No permission (CAP_NET_RAW), or no random numbers.
    pub(super) fn open(config: &Config) -> io::Result<Self> {
        let open = |family| -> io::Result<OwnedFd> {
            let socket = socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Raw)?;
            setsockopt(&socket, sockopt::Mark, &config.mark_sealed)?;
            Ok(socket)
        };
        let v6 = match open(AddressFamily::Inet6) {
            Err(e) if e.raw_os_error() == Some(libc::EAFNOSUPPORT) => None,
            other => Some(other?),
        };
        let ident = getrandom::u32().map_err(|e| io::Error::other(e.to_string()))?;
        Ok(Self { v4: open(AddressFamily::Inet)?, v6, ident })
    }

    /// The identification of the next packet in IPv6 (RFC 8200 section 4.5: not one that is in use).
    pub(super) fn ident(&mut self) -> u32 {
        self.ident = self.ident.wrapping_add(1);
        self.ident
    }

    /// Sends an IP packet as it is. Its identification in IPv4 must not be 0, which the kernel would replace.
    ///
    /// # Errors
    /// There is no route; the route does not take as much; no IPv6.
    pub(super) fn send(&self, ip: &[u8]) -> io::Result<()> {
        let short = || io::Error::from(io::ErrorKind::InvalidData);
        if ip.first().is_some_and(|first| first >> 4 == 4) {
            let to: [u8; 4] = ip.get(16..20).and_then(|octets| octets.try_into().ok()).ok_or_else(short)?;
            let address = libc::sockaddr_in {
                sin_family: libc::AF_INET as u16,
                sin_port: 0,
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(Ipv4Addr::from(to).octets()) },
                sin_zero: [0; 8],
            };
            return send_to(&self.v4, ip, &address);
        }
        let to: [u8; 16] = ip.get(24..40).and_then(|octets| octets.try_into().ok()).ok_or_else(short)?;
        let address = libc::sockaddr_in6 {
            sin6_family: libc::AF_INET6 as u16,
            sin6_port: 0,
            sin6_flowinfo: 0,
            sin6_addr: libc::in6_addr { s6_addr: Ipv6Addr::from(to).octets() },
            sin6_scope_id: 0,
        };
        send_to(self.v6.as_ref().ok_or(io::ErrorKind::Unsupported)?, ip, &address)
    }
}

fn send_to<A>(socket: &OwnedFd, ip: &[u8], address: &A) -> io::Result<()> {
    let len = size_of::<A>() as libc::socklen_t;
    let to = std::ptr::from_ref(address).cast();
    // SAFETY: packet and address are live and of the sizes that the call is told.
    let sent = unsafe { libc::sendto(socket.as_raw_fd(), ip.as_ptr().cast(), ip.len(), libc::MSG_DONTWAIT, to, len) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
