//! Datagrams of many sizes that a host sends back, with IP options or extension headers where that is asked for.

use crate::net::Host;
use anyhow::{Context, Result, ensure};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// How much is sent.
#[derive(Clone, Copy)]
pub(super) struct Plan {
    /// Octets of the largest payload.
    pub(super) largest: usize,
    /// Every so many octets between the small ones and the large ones.
    pub(super) step: usize,
    /// So many of the largest ones, and twice as many of the smallest.
    pub(super) edge: usize,
    /// What goes in front of UDP.
    pub(super) options: bool,
}

impl Plan {
    /// Without options.
    pub(super) fn new(largest: usize) -> Self {
        Self { largest, step: 97, edge: 20, options: false }
    }

    /// The sizes: all around a block and a word, some in between, all around the largest.
    fn sizes(self) -> Vec<usize> {
        let (first, last) = (2 * self.edge, self.largest.saturating_sub(self.edge));
        (0..=first).chain((first + 1..last).step_by(self.step)).chain(last..=self.largest).collect()
    }
}

/// How long an answer may take; a host that translates its instructions needs milliseconds for a packet.
const PATIENCE: Duration = Duration::from_secs(15);

/// Sends datagrams of many sizes from one host to the other, which sends them back, and compares what comes.
pub(super) fn echoes(from: &Host, to: &Host, address: IpAddr, plan: Plan) -> Result<()> {
    let server = Server::start(to, address, plan.options)?;
    let port = server.port;
    let asked = from.within(move || ask(SocketAddr::new(address, port), plan));
    asked.and(server.end())
}

/// A thread that sends datagrams back.
pub(super) struct Server {
    pub(super) port: u16,
    ended: Arc<AtomicBool>,
    thread: JoinHandle<Result<()>>,
}

impl Server {
    /// On `host`, at `address`; what it sends has options in front if that is asked for.
    pub(super) fn start(host: &Host, address: IpAddr, options: bool) -> Result<Self> {
        let socket =
            host.within(move || UdpSocket::bind((address, 0)).with_context(|| format!("binding {address}")))?;
        let port = socket.local_addr()?.port();
        if options {
            set_options(&socket)?;
        }
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        let ended = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&ended);
        let thread = std::thread::spawn(move || -> Result<()> {
            let mut buffer = vec![0; 1 << 16];
            while !end.load(Ordering::Acquire) {
                match socket.recv_from(&mut buffer) {
                    Ok((length, peer)) => {
                        socket.send_to(buffer.get(..length).unwrap_or_default(), peer).context("sending back")?;
                    }
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error).context("receiving"),
                }
            }
            Ok(())
        });
        Ok(Self { port, ended, thread })
    }

    /// Ends it; what went wrong, if something did.
    pub(super) fn end(self) -> Result<()> {
        self.ended.store(true, Ordering::Release);
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

fn ask(server: SocketAddr, plan: Plan) -> Result<()> {
    let any = if server.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" };
    let socket = UdpSocket::bind(any)?;
    socket.connect(server).with_context(|| format!("a route to {server}"))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    if plan.options {
        set_options(&socket)?;
    }
    let mut buffer = vec![0; 1 << 16];
    for size in plan.sizes() {
        let sent = content(size);
        socket.send(&sent).with_context(|| format!("sending {size} octets"))?;
        let length = socket.recv(&mut buffer).with_context(|| format!("no answer to {size} octets"))?;
        ensure!(buffer.get(..length) == Some(&*sent), "{size} octets came back as {length} others");
    }
    Ok(())
}

/// No two datagrams have the same content, so that an answer is to this one.
fn content(size: usize) -> Vec<u8> {
    (0..size).map(|i| ((i * 131) ^ (size * 17)) as u8).collect()
}

/// Sends a datagram of each size, one way only, and compares what arrives.
pub(super) fn datagrams(from: &Host, to: &Host, address: IpAddr, sizes: &[usize]) -> Result<()> {
    let receiver = to.within(move || UdpSocket::bind((address, 0)).with_context(|| format!("binding {address}")))?;
    receiver.set_read_timeout(Some(PATIENCE))?;
    let server = receiver.local_addr()?;
    let any = if server.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" };
    let sender = from.within(move || UdpSocket::bind(any).context("a socket"))?;
    let mut buffer = vec![0; 1 << 16];
    for size in sizes.iter().copied() {
        let sent = content(size);
        sender.send_to(&sent, server).with_context(|| format!("sending {size} octets"))?;
        let (length, _) = receiver.recv_from(&mut buffer).with_context(|| format!("{size} octets did not arrive"))?;
        ensure!(buffer.get(..length) == Some(&*sent), "{size} octets arrived as {length} others");
    }
    Ok(())
}

/// Octets that options add to the header.
pub(super) fn options_len(v6: bool) -> usize {
    if v6 { HOP_BY_HOP.len() + DESTINATION.len() } else { IPV4_OPTIONS.len() }
}

/// Router alert, which keeps its value, and a record of the route with room for three addresses, which does not.
const IPV4_OPTIONS: [u8; 20] = [148, 4, 0, 0, 7, 15, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// Experimental options (RFC 4727 section 5.1) whose data may change on the way, and may not.
const HOP_BY_HOP: [u8; 8] = [0, 0, 0x3e, 4, 1, 2, 3, 4];
const DESTINATION: [u8; 16] = [0, 1, 0x1e, 3, 5, 6, 7, 0x3e, 5, 8, 8, 8, 8, 8, 0, 0];

/// What the socket sends has options from here on.
fn set_options(socket: &UdpSocket) -> Result<()> {
    let set = |level, name, value: &[u8]| {
        // SAFETY: the value lives across the call and its size is given.
        let result = unsafe {
            libc::setsockopt(socket.as_raw_fd(), level, name, value.as_ptr().cast(), value.len() as libc::socklen_t)
        };
        ensure!(result == 0, "options of a socket: {}", std::io::Error::last_os_error());
        Ok(())
    };
    if socket.local_addr()?.is_ipv6() {
        set(libc::IPPROTO_IPV6, libc::IPV6_HOPOPTS, &HOP_BY_HOP)?;
        set(libc::IPPROTO_IPV6, libc::IPV6_DSTOPTS, &DESTINATION)
    } else {
        set(libc::IPPROTO_IP, libc::IP_OPTIONS, &IPV4_OPTIONS)
    }
}
