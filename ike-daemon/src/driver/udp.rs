//! The UDP sockets of IKE: ports 500 and 4500 of both families on the wildcard address, with the local address of every
//! datagram known, so that an answer leaves from where the question came to (V2-HDR transport rules, RFC 7296 section 2.11
//! and 2.23).
//!
//! On port 4500 four zero octets mark IKE (RFC 3948 section 2.2). ESP on that port is consumed by the programs in the kernel
//! before it gets here; what arrives without the marker is counted and dropped.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, SockaddrIn, SockaddrIn6,
    SockaddrLike, SockaddrStorage, bind, recvmsg, sendmsg, setsockopt, socket, sockopt,
};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tracing::debug;

use crate::core::api::{Path, Transmit};

/// Octets of the marker.
const MARKER: [u8; 4] = [0; 4];

/// A keepalive (RFC 3948 section 2.3).
const KEEPALIVE: [u8; 1] = [0xff];

/// Room for one datagram: the longest message the core takes, and the marker.
const ROOM: usize = 16_384 + MARKER.len();

/// Datagrams on their way to the core. When it is full, the kernel's own queue holds what comes, then drops.
const QUEUE: usize = 256;

/// What came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Datagram {
    pub(super) path: Path,
    /// Without the marker.
    pub(super) bytes: Vec<u8>,
}

/// Datagrams that never reach the core or the wire.
#[derive(Debug, Default)]
pub(super) struct Dropped {
    /// On port 4500 without the marker, and no keepalive.
    pub(super) unmarked: AtomicU64,
    /// Keepalives of peers behind NATs.
    pub(super) keepalives: AtomicU64,
    /// Longer than there is room.
    pub(super) too_long: AtomicU64,
    /// Answers that the kernel did not take.
    pub(super) unsent: AtomicU64,
}

/// Why the sockets cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on UDP port {port} ({family}): {error}{}", hint(.error))]
pub(super) struct SocketError {
    port: u16,
    family: &'static str,
    error: io::Error,
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "; another IKE daemon runs in this network namespace",
        io::ErrorKind::PermissionDenied => "; run as root",
        _ => "",
    }
}

/// One socket.
struct Port {
    socket: UdpSocket,
    v4: bool,
    number: u16,
    marked: bool,
}

/// All sockets of a daemon. Each has a task that reads it; the tasks end with the receiver.
pub(super) struct Sockets {
    ports: Vec<Arc<Port>>,
    pub(super) dropped: Arc<Dropped>,
}

impl Sockets {
    /// Opens the sockets and begins to read them. A host without IPv6 gets along with IPv4.
    pub(super) fn open(ike_port: u16, natt_port: u16) -> Result<(Self, mpsc::Receiver<Datagram>), SocketError> {
        let mut ports = Vec::new();
        for (number, marked) in [(ike_port, false), (natt_port, true)] {
            for v4 in [true, false] {
                match open(v4, number, marked) {
                    Ok(port) => ports.push(Arc::new(port)),
                    Err(error) if !v4 && error.raw_os_error() == Some(libc::EAFNOSUPPORT) => {}
                    Err(error) => {
                        let family = if v4 { "IPv4" } else { "IPv6" };
                        return Err(SocketError { port: number, family, error });
                    }
                }
            }
        }
        let (sender, receiver) = mpsc::channel(QUEUE);
        let dropped = Arc::new(Dropped::default());
        for port in &ports {
            tokio::spawn(read_all(Arc::clone(port), Arc::clone(&dropped), sender.clone()));
        }
        Ok((Self { ports, dropped }, receiver))
    }

    /// The sockets, for those who have to know them.
    pub(super) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.ports.iter().map(|port| port.socket.as_fd())
    }

    /// Sends. What cannot be sent now is lost as on the way: the core repeats it.
    ///
    /// # Errors
    /// For the log only.
    pub(super) fn send(&self, transmit: &Transmit) -> io::Result<()> {
        let result = self.try_send(transmit);
        if result.is_err() {
            self.dropped.unsent.fetch_add(1, Ordering::Relaxed);
        }
        result
    }

    fn try_send(&self, transmit: &Transmit) -> io::Result<()> {
        let (local, remote) = (transmit.path.local, transmit.path.remote);
        let fits = |port: &&Arc<Port>| port.v4 == remote.is_ipv4() && port.number == local.port();
        let Some(port) = self.ports.iter().find(fits) else {
            return Err(io::Error::new(io::ErrorKind::AddrNotAvailable, "no socket for this family and port"));
        };
        let marker = if transmit.natt_marker { &MARKER[..] } else { &[] };
        let parts = [IoSlice::new(marker), IoSlice::new(&transmit.bytes)];
        let to = SockaddrStorage::from(remote);
        let descriptor = port.socket.as_raw_fd();
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        let sent = match local.ip() {
            IpAddr::V4(address) => {
                let info = libc::in_pktinfo {
                    ipi_ifindex: 0,
                    ipi_spec_dst: libc::in_addr { s_addr: u32::from_ne_bytes(address.octets()) },
                    ipi_addr: libc::in_addr { s_addr: 0 },
                };
                sendmsg(descriptor, &parts, &[ControlMessage::Ipv4PacketInfo(&info)], flags, Some(&to))
            }
            IpAddr::V6(address) => {
                let info =
                    libc::in6_pktinfo { ipi6_addr: libc::in6_addr { s6_addr: address.octets() }, ipi6_ifindex: 0 };
                sendmsg(descriptor, &parts, &[ControlMessage::Ipv6PacketInfo(&info)], flags, Some(&to))
            }
        };
        sent.map(|_| ()).map_err(io::Error::from)
    }
}

fn open(v4: bool, number: u16, marked: bool) -> io::Result<Port> {
    let family = if v4 { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let descriptor: OwnedFd = socket(family, SockType::Datagram, flags, None)?;
    if v4 {
        setsockopt(&descriptor, sockopt::Ipv4PacketInfo, &true)?;
        bind_to(&descriptor, &SockaddrIn::from(std::net::SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, number)))?;
    } else {
        setsockopt(&descriptor, sockopt::Ipv6V6Only, &true)?;
        setsockopt(&descriptor, sockopt::Ipv6RecvPacketInfo, &true)?;
        bind_to(&descriptor, &SockaddrIn6::from(std::net::SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, number, 0, 0)))?;
    }
    let socket = UdpSocket::from_std(descriptor.into())?;
    let number = socket.local_addr()?.port();
    Ok(Port { socket, v4, number, marked })
}

fn bind_to(descriptor: &OwnedFd, address: &dyn SockaddrLike) -> io::Result<()> {
    bind(descriptor.as_raw_fd(), address).map_err(io::Error::from)
}

/// Reads one socket until nobody listens any more.
async fn read_all(port: Arc<Port>, dropped: Arc<Dropped>, sender: mpsc::Sender<Datagram>) {
    let mut room = vec![0; ROOM];
    loop {
        if port.socket.readable().await.is_err() {
            return;
        }
        let datagram = match port.socket.try_io(Interest::READABLE, || read_one(&port, &mut room, &dropped)) {
            Ok(Some(datagram)) => datagram,
            Ok(None) => continue,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => {
                // An ICMP error for a datagram sent earlier shows up here; retransmission deals with it.
                debug!(target: "ikev2d::udp", port = port.number, %error, "receive");
                continue;
            }
        };
        if sender.send(datagram).await.is_err() {
            return;
        }
    }
}

/// One datagram; `None` for one that goes no further.
fn read_one(port: &Port, room: &mut [u8], dropped: &Dropped) -> io::Result<Option<Datagram>> {
    let mut control = nix::cmsg_space!(libc::in_pktinfo, libc::in6_pktinfo);
    let mut parts = [IoSliceMut::new(room)];
    let message =
        recvmsg::<SockaddrStorage>(port.socket.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::MSG_DONTWAIT)?;
    let length = message.bytes;
    let truncated = message.flags.contains(MsgFlags::MSG_TRUNC);
    let local = message.cmsgs()?.find_map(|control| match control {
        ControlMessageOwned::Ipv4PacketInfo(info) => {
            Some(IpAddr::from(Ipv4Addr::from(info.ipi_addr.s_addr.to_ne_bytes())))
        }
        ControlMessageOwned::Ipv6PacketInfo(info) => Some(IpAddr::from(Ipv6Addr::from(info.ipi6_addr.s6_addr))),
        _ => None,
    });
    let remote = message.address.and_then(|address| {
        let v4 = address.as_sockaddr_in().map(|a| SocketAddr::from(std::net::SocketAddrV4::from(*a)));
        v4.or_else(|| address.as_sockaddr_in6().map(|a| SocketAddr::from(std::net::SocketAddrV6::from(*a))))
    });
    let (Some(local), Some(remote)) = (local, remote) else { return Ok(None) };
    if truncated {
        dropped.too_long.fetch_add(1, Ordering::Relaxed);
        return Ok(None);
    }
    let bytes = room.get(..length).unwrap_or_default();
    let Some(bytes) = strip(bytes, port.marked, dropped) else { return Ok(None) };
    let path = Path { local: SocketAddr::new(local, port.number), remote };
    Ok(Some(Datagram { path, bytes: bytes.to_vec() }))
}

/// The IKE message in a payload; `None` where it holds none.
fn strip<'a>(bytes: &'a [u8], marked: bool, dropped: &Dropped) -> Option<&'a [u8]> {
    if !marked {
        return Some(bytes);
    }
    if bytes == KEEPALIVE {
        dropped.keepalives.fetch_add(1, Ordering::Relaxed);
        return None;
    }
    let message = bytes.strip_prefix(&MARKER);
    if message.is_none() {
        dropped.unmarked.fetch_add(1, Ordering::Relaxed);
    }
    message
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    impl Sockets {
        /// The numbers of the IKE port and the NAT port, chosen by the kernel.
        fn numbers(&self, v4: bool) -> (u16, u16) {
            let of = |marked| self.ports.iter().find(|port| port.v4 == v4 && port.marked == marked).unwrap().number;
            (of(false), of(true))
        }
    }

    async fn next(receiver: &mut mpsc::Receiver<Datagram>) -> Datagram {
        timeout(Duration::from_secs(5), receiver.recv()).await.unwrap().unwrap()
    }

    /// RFC 7296 section 2.11: the answer leaves from the address the question came to.
    #[tokio::test(flavor = "current_thread")]
    async fn answers_leave_from_the_address_that_was_asked() {
        let (sockets, mut receiver) = Sockets::open(0, 0).unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (ike, _) = sockets.numbers(true);
        let asked: SocketAddr = ([127, 0, 0, 77], ike).into();
        client.send_to(b"question", asked).unwrap();
        let datagram = next(&mut receiver).await;
        assert_eq!(datagram.path, Path { local: asked, remote: client.local_addr().unwrap() });
        assert_eq!(datagram.bytes, b"question");
        sockets.send(&Transmit { path: datagram.path, bytes: b"answer".to_vec(), natt_marker: false }).unwrap();
        let mut room = [0; 64];
        client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let (length, from) = client.recv_from(&mut room).unwrap();
        assert_eq!((&room[..length], from), (&b"answer"[..], asked));
    }

    /// RFC 3948 section 2.2 and 2.3: marker, keepalive, and what is neither.
    #[tokio::test(flavor = "current_thread")]
    async fn the_nat_port_is_marked() {
        let (sockets, mut receiver) = Sockets::open(0, 0).unwrap();
        let Ok(client) = UdpSocket::bind("[::1]:0") else {
            // A host without IPv6.
            return;
        };
        let (_, natt) = sockets.numbers(false);
        let asked: SocketAddr = (Ipv6Addr::LOCALHOST, natt).into();
        for bytes in [&[0xff][..], &[0, 0, 0], &[1, 2, 3, 4, 5], b"\0\0\0\0ike"] {
            client.send_to(bytes, asked).unwrap();
        }
        let datagram = next(&mut receiver).await;
        assert_eq!(datagram.bytes, b"ike");
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        assert_eq!((count(&sockets.dropped.keepalives), count(&sockets.dropped.unmarked)), (1, 2));
        sockets.send(&Transmit { path: datagram.path, bytes: b"answer".to_vec(), natt_marker: true }).unwrap();
        let mut room = [0; 64];
        client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let (length, from) = client.recv_from(&mut room).unwrap();
        assert_eq!((&room[..length], from), (&b"\0\0\0\0answer"[..], asked));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn too_long_is_counted_and_unsendable_is_lost() {
        let (sockets, mut receiver) = Sockets::open(0, 0).unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (ike, _) = sockets.numbers(true);
        client.send_to(&vec![0; ROOM + 1], ("127.0.0.1", ike)).unwrap();
        client.send_to(b"next", ("127.0.0.1", ike)).unwrap();
        assert_eq!(next(&mut receiver).await.bytes, b"next");
        assert_eq!(sockets.dropped.too_long.load(Ordering::Relaxed), 1);
        let path = Path { local: "127.0.0.1:1".parse().unwrap(), remote: client.local_addr().unwrap() };
        assert!(sockets.send(&Transmit { path, bytes: Vec::new(), natt_marker: false }).is_err());
        assert_eq!(sockets.dropped.unsent.load(Ordering::Relaxed), 1);
    }
}
