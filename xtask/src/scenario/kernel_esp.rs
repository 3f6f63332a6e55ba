//! ESP against the kernel's own (xfrm, with keys by hand on both sides): what it seals we open, what we seal it opens,
//! for every transform that both have, in every shape of packet. Needs a kernel that has xfrm, so it runs in a guest.

use super::manual::nothing_in_clear;
use super::topology::{
    A, A6, B, B6, INNER_A, INNER_A6, INNER_B, INNER_B6, NET_A, NET_A6, NET_B, NET_B6, SPI_A_TO_B, SPI_B_TO_A, TwoSites,
};
use crate::net::capture::Capture;
use crate::net::{Host, transfer};
use crate::suite::{Counters, Suite, drops, number};
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A transform, as both sides name it. `{encr}` and `{auth}` stand for keys in hexadecimal.
pub(super) struct Transform {
    /// The properties of a rule in ipsecinit.conf.
    policy: &'static str,
    /// The extensions of ipseckey.
    ours: &'static str,
    /// The algorithms of `ip xfrm state`.
    kernels: &'static str,
    /// Octets of the keys for encryption, with the salt, and for authentication.
    keys: [usize; 2],
    /// Octets of the explicit IV, of the alignment of what is enciphered, and of the ICV.
    overhead: [usize; 3],
}

/// RFC 7634.
pub(super) const CHACHA20_POLY1305: Transform = Transform {
    policy: "encr_algs chacha20-poly1305",
    ours: "encr_alg chacha20-poly1305 encrkey {encr}",
    kernels: "aead rfc7539esp(chacha20,poly1305) 0x{encr} 128",
    keys: [36, 0],
    overhead: [8, 4, 16],
};

/// RFC 4106 with a key of 128 bits.
pub(super) const AES_128_GCM_16: Transform = Transform {
    policy: "encr_algs aes-gcm(128)",
    ours: "encr_alg aes-gcm encrkey {encr}",
    kernels: "aead rfc4106(gcm(aes)) 0x{encr} 128",
    keys: [20, 0],
    overhead: [8, 4, 16],
};

/// RFC 4106 with a key of 256 bits.
pub(super) const AES_256_GCM_16: Transform =
    Transform { policy: "encr_algs aes-gcm(256)", keys: [36, 0], ..AES_128_GCM_16 };

/// What a packet looks like from outside.
#[derive(Clone, Copy)]
struct Shape {
    tunnel: bool,
    outer6: bool,
    inner6: bool,
    esn: bool,
    udp: bool,
}

const fn tunnel(outer: u8, inner: u8, esn: bool, udp: bool) -> Shape {
    Shape { tunnel: true, outer6: outer == 6, inner6: inner == 6, esn, udp }
}

const fn transport(family: u8, esn: bool, udp: bool) -> Shape {
    Shape { tunnel: false, outer6: family == 6, inner6: family == 6, esn, udp }
}

/// Every pairing of families and every mode, with and without 64-bit sequence numbers, then in UDP.
const SHAPES: [Shape; 16] = [
    tunnel(4, 4, false, false),
    tunnel(4, 4, true, false),
    tunnel(4, 6, false, false),
    tunnel(4, 6, true, false),
    tunnel(6, 4, false, false),
    tunnel(6, 4, true, false),
    tunnel(6, 6, false, false),
    tunnel(6, 6, true, false),
    transport(4, false, false),
    transport(4, true, false),
    transport(6, false, false),
    transport(6, true, false),
    tunnel(4, 4, true, true),
    tunnel(4, 6, false, true),
    tunnel(6, 6, true, true),
    transport(4, true, true),
];

/// One of each mode, for a test that has to be quick.
const FEW: [Shape; 2] = [tunnel(4, 4, true, false), transport(6, false, false)];

pub(super) fn chacha20_poly1305() -> Result<()> {
    all(&CHACHA20_POLY1305, &SHAPES)
}

pub(super) fn aes_128_gcm() -> Result<()> {
    all(&AES_128_GCM_16, &SHAPES)
}

pub(super) fn aes_256_gcm() -> Result<()> {
    all(&AES_256_GCM_16, &SHAPES)
}

pub(super) fn quick() -> Result<()> {
    all(&CHACHA20_POLY1305, &FEW)
}

/// Every shape, one after the other, on the same two hosts; the failures of all are told.
fn all(transform: &Transform, shapes: &[Shape]) -> Result<()> {
    let sites = TwoSites::new("kernel")?;
    sites.add_ipv6()?;
    let ours = Suite::attach(&sites.lab, &sites.a, &["wan0"])?;
    ours.tunnel("vpn4", A, B)?;
    ours.tunnel("vpn6", A6, B6)?;
    let _encapsulation = [decapsulator(&sites.b, B)?, decapsulator(&sites.b, B6)?];
    let mut failed = Vec::new();
    for shape in shapes {
        let name = shape.name(transform);
        match one(&sites, &ours, transform, *shape) {
            Ok(packets) => println!("{name}: {packets} packets"),
            Err(error) => {
                println!("{name}: {error:#}");
                failed.push(name);
            }
        }
    }
    if !failed.is_empty() {
        bail!("{} of {} failed: {}", failed.len(), shapes.len(), failed.join("; "));
    }
    Ok(())
}

/// One shape: datagrams of many sizes there and back, started by either side, and TCP both ways.
fn one(sites: &TwoSites, ours: &Suite, transform: &Transform, shape: Shape) -> Result<u64> {
    shape.configure(ours, &sites.b, transform)?;
    // What one shape has taught the hosts about the way is not for the next.
    for host in [&sites.a, &sites.b] {
        for family in ["-4", "-6"] {
            host.run("ip", &[family, "route", "flush", "cache"])?;
        }
    }
    let before = ours.counters()?;
    let errors = kernel_errors(&sites.b)?;
    let capture = Capture::start(&sites.router, "to-a")?;
    let (here, there) = shape.inner();
    let largest = shape.largest(transform);
    let carried = echoes(&sites.a, &sites.b, there, largest)
        .context("datagrams that we start")
        .and_then(|()| echoes(&sites.b, &sites.a, here, largest).context("datagrams that the kernel starts"))
        .and_then(|()| transfer::tcp(&sites.a, &sites.b, there, BYTES, |_| {}).context("TCP to the kernel"))
        .and_then(|_| transfer::tcp(&sites.b, &sites.a, here, BYTES, |_| {}).context("TCP from the kernel"));
    let seen = capture.finish()?;
    let after = ours.counters()?;
    carried.map(drop).with_context(|| {
        let state = state(&before, &after, &errors, &kernel_errors(&sites.b).unwrap_or_default());
        format!("on the wire {} frames, {} ESP, {} ESP in UDP; {state}", seen.frames, seen.esp, seen.esp_in_udp)
    })?;
    nothing_in_clear(&seen)?;
    let (right, wrong) = if shape.udp { (seen.esp_in_udp, seen.esp) } else { (seen.esp, seen.esp_in_udp) };
    ensure!(right > 0 && wrong == 0, "{right} packets as asked for, {wrong} not");
    let lost = drops(&before, &after);
    ensure!(lost.is_empty(), "packets were dropped: {}", lost.join(", "));
    let now = kernel_errors(&sites.b)?;
    ensure!(now == errors, "the kernel dropped packets: {}", difference(&errors, &now));
    let packets: u64 = ours.sas()?.iter().map(|sa| number(sa, "packets")).sum();
    ensure!(packets >= right, "{right} packets on the wire, {packets} by the counters of the SAs");
    Ok(packets)
}

/// Payload of each transfer.
const BYTES: u64 = 256 << 10;

impl Shape {
    fn name(self, transform: &Transform) -> String {
        let version = |six| if six { 6 } else { 4 };
        let mode = match self.tunnel {
            true => format!("tunnel {} in {}", version(self.inner6), version(self.outer6)),
            false => format!("transport {}", version(self.outer6)),
        };
        let esn = if self.esn { ", ESN" } else { "" };
        let udp = if self.udp { ", in UDP" } else { "" };
        format!("{} {mode}{esn}{udp}", transform.policy)
    }

    fn outer(self) -> (&'static str, &'static str) {
        if self.outer6 { (A6, B6) } else { (A, B) }
    }

    fn nets(self) -> (&'static str, &'static str) {
        if self.inner6 { (NET_A6, NET_B6) } else { (NET_A, NET_B) }
    }

    /// The addresses that talk to each other.
    fn inner(self) -> (IpAddr, IpAddr) {
        match (self.tunnel, self.inner6) {
            (true, false) => (INNER_A, INNER_B),
            (true, true) => (INNER_A6, INNER_B6),
            // They are constants; what is no address would fail the first datagram.
            (false, _) => {
                let address = |text: &str| text.parse().unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
                let (a, b) = self.outer();
                (address(a), address(b))
            }
        }
    }

    /// Octets of the largest UDP payload that fits when sealed into 1500 octets: outer header, UDP, SPI and sequence
    /// number, IV, padding with its two octets, ICV. In transport mode the header of the packet is the outer one.
    fn largest(self, transform: &Transform) -> usize {
        let header = |six| if six { 40 } else { 20 };
        let [iv, align, icv] = transform.overhead;
        let outer = header(self.outer6) + if self.udp { 8 } else { 0 };
        let room = 1500 - outer - 8 - iv - icv;
        let sealed = room - room % align - 2;
        sealed - 8 - if self.tunnel { header(self.inner6) } else { 0 }
    }

    fn configure(self, ours: &Suite, kernel: &Host, transform: &Transform) -> Result<()> {
        let ((a, b), (net_a, net_b)) = (self.outer(), self.nets());
        let keys = [key(transform, 1), key(transform, 2)];
        let [there, back] = &keys;
        ours.policy(&match self.tunnel {
            true => {
                let name = if self.outer6 { "vpn6" } else { "vpn4" };
                let policy = transform.policy;
                format!("{{ tunnel {name} negotiate tunnel laddr {net_a} raddr {net_b} }} ipsec {{ {policy} }}\n")
            }
            false => format!("{{ laddr {a} raddr {b} }} ipsec {{ {} sa shared }}\n", transform.policy),
        })?;
        let add = |spi: u32, [src, dst, isrc, idst]: [&str; 4], direction: &str, key: &[String; 2]| {
            let inner = if self.tunnel { format!("isrc {isrc} idst {idst}") } else { String::new() };
            let esn = if self.esn { "esn" } else { "" };
            let encap = if self.udp { "encap udp nat_lport 4500 nat_rport 4500" } else { "" };
            let transform = with_keys(transform.ours, key);
            format!(
                "add esp spi {spi:#x} src {src} dst {dst} {direction} {inner} {transform} replay 1024 {esn} {encap}\n"
            )
        };
        let outbound = add(SPI_A_TO_B, [a, b, net_a, net_b], "outbound", there);
        ours.keys(&("flush\n".to_owned() + &outbound + &add(SPI_B_TO_A, [b, a, net_b, net_a], "inbound", back)))?;

        let mode = if self.tunnel { "tunnel" } else { "transport" };
        let state = |spi: u32, src: &str, dst: &str, key: &[String; 2]| {
            // Without the flag a tunnel carries only the family that is outside.
            let flags =
                [(self.tunnel, "af-unspec"), (self.esn, "esn")].iter().fold(String::new(), |flags, (set, flag)| {
                    if *set { format!("{flags} flag {flag}") } else { flags }
                });
            let encap = if self.udp {
                format!("encap espinudp 4500 4500 {}", if self.outer6 { "::" } else { "0.0.0.0" })
            } else {
                String::new()
            };
            let algorithms = with_keys(transform.kernels, key);
            format!(
                "xfrm state add src {src} dst {dst} proto esp spi {spi:#x} reqid 1 mode {mode} replay-window 1024{flags} {algorithms} {encap}"
            )
        };
        let policy = |direction: &str, [src, dst]: [&str; 2], [from, to]: [&str; 2]| {
            format!(
                "xfrm policy add src {src} dst {dst} dir {direction} priority 2 \
                 tmpl src {from} dst {to} proto esp reqid 1 mode {mode}"
            )
        };
        // What arrives at the socket is judged before the kernel takes ESP out of it.
        let socket = format!("xfrm policy add src {a} dst {b} proto udp dport 4500 dir in priority 1 action allow");
        // The kernel's selectors of one address are the address alone.
        let (net_a, net_b) = if self.tunnel { (net_a, net_b) } else { (a, b) };
        kernel.ip(&[
            "xfrm policy flush",
            "xfrm state flush",
            &state(SPI_A_TO_B, a, b, there),
            &state(SPI_B_TO_A, b, a, back),
            &socket,
            &policy("in", [net_a, net_b], [a, b]),
            &policy("out", [net_b, net_a], [b, a]),
        ])
    }
}

/// Keys for one direction: no two octets of a key are the same, nor are two keys.
fn key(transform: &Transform, direction: u8) -> [String; 2] {
    let mut next = direction.wrapping_mul(0x51);
    transform.keys.map(|octets| {
        (0..octets).fold(String::new(), |text, _| {
            next = next.wrapping_add(7);
            format!("{text}{next:02x}")
        })
    })
}

fn with_keys(text: &str, [encr, auth]: &[String; 2]) -> String {
    text.replace("{encr}", encr).replace("{auth}", auth)
}

/// A socket by which the kernel takes ESP out of the UDP that arrives at it; it does so as long as the socket is open.
fn decapsulator(host: &Host, address: &'static str) -> Result<UdpSocket> {
    /// `linux/udp.h`.
    const UDP_ENCAP: libc::c_int = 100;
    const UDP_ENCAP_ESPINUDP: libc::c_int = 2;
    host.within(move || {
        let address: IpAddr = address.parse().with_context(|| format!("the address {address}"))?;
        let socket = UdpSocket::bind((address, 4500)).with_context(|| format!("binding {address}"))?;
        let value = UDP_ENCAP_ESPINUDP;
        // SAFETY: the value lives across the call and its size is given.
        let result = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::IPPROTO_UDP,
                UDP_ENCAP,
                (&raw const value).cast(),
                size_of::<libc::c_int>() as libc::socklen_t,
            )
        };
        ensure!(result == 0, "UDP_ENCAP: {}", std::io::Error::last_os_error());
        Ok(socket)
    })
}

/// The sizes that are sent: all around a block and a word, some in between, all around the largest.
fn sizes(largest: usize) -> Vec<usize> {
    (0..=40).chain((41..largest.saturating_sub(20)).step_by(97)).chain(largest.saturating_sub(20)..=largest).collect()
}

/// How long an answer may take; a host that translates its instructions needs milliseconds for a packet.
const PATIENCE: Duration = Duration::from_secs(5);

/// Sends datagrams of many sizes from one host to the other, which sends them back, and compares what comes.
pub(super) fn echoes(from: &Host, to: &Host, address: IpAddr, largest: usize) -> Result<()> {
    let server = to.within(move || UdpSocket::bind((address, 0)).with_context(|| format!("binding {address}")))?;
    let port = server.local_addr()?.port();
    server.set_read_timeout(Some(Duration::from_millis(50)))?;
    let ended = Arc::new(AtomicBool::new(false));
    let end = Arc::clone(&ended);
    let echo = std::thread::spawn(move || -> Result<()> {
        let mut buffer = vec![0; 1 << 16];
        while !end.load(Ordering::Acquire) {
            match server.recv_from(&mut buffer) {
                Ok((length, peer)) => {
                    server.send_to(buffer.get(..length).unwrap_or_default(), peer).context("sending back")?;
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error).context("receiving"),
            }
        }
        Ok(())
    });
    let asked = from.within(move || ask(SocketAddr::new(address, port), largest));
    ended.store(true, Ordering::Release);
    let answered = echo.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    asked.and(answered)
}

fn ask(server: SocketAddr, largest: usize) -> Result<()> {
    let any = if server.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" };
    let socket = UdpSocket::bind(any)?;
    socket.connect(server).with_context(|| format!("a route to {server}"))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut buffer = vec![0; 1 << 16];
    for size in sizes(largest) {
        // No two datagrams have the same content, so that an answer is to this one.
        let sent: Vec<u8> = (0..size).map(|i| ((i * 131) ^ (size * 17)) as u8).collect();
        socket.send(&sent).with_context(|| format!("sending {size} octets"))?;
        let length = socket.recv(&mut buffer).with_context(|| format!("no answer to {size} octets"))?;
        ensure!(buffer.get(..length) == Some(&*sent), "{size} octets came back as {length} others");
    }
    Ok(())
}

/// What the kernel's xfrm has counted as wrong.
fn kernel_errors(host: &Host) -> Result<BTreeMap<String, u64>> {
    let text = host.within(|| fs::read_to_string("/proc/thread-self/net/xfrm_stat").context("the counters of xfrm"))?;
    let mut errors = BTreeMap::new();
    for line in text.lines() {
        let (name, value) = line.split_once(char::is_whitespace).context("a counter of xfrm without a value")?;
        errors.insert(name.to_owned(), value.trim().parse().with_context(|| format!("the counter {line:?}"))?);
    }
    ensure!(!errors.is_empty(), "xfrm counts nothing");
    Ok(errors)
}

fn difference(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) -> String {
    let grown = after.iter().filter(|(name, value)| before.get(*name) != Some(value));
    grown.map(|(name, value)| format!("{name} now {value}")).collect::<Vec<_>>().join(", ")
}

/// What both sides have counted since, for an error message.
fn state(before: &Counters, after: &Counters, errors: &BTreeMap<String, u64>, now: &BTreeMap<String, u64>) -> String {
    format!("dropped by us: [{}]; by the kernel: [{}]", drops(before, after).join(", "), difference(errors, now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_their_lengths_and_differ() {
        let [encr, auth] = key(&AES_256_GCM_16, 1);
        assert_eq!((encr.len(), auth.len()), (72, 0));
        assert_ne!(encr, key(&AES_256_GCM_16, 2).concat());
        assert_eq!(with_keys("a {encr} {auth}", &["11".into(), "22".into()]), "a 11 22");
    }

    /// The sum is worked out by hand: 1500 - 20 - 8 - 8 - 16 = 1448, less two for pad length and next header.
    #[test]
    fn the_largest_payload_fills_a_packet() {
        assert_eq!(tunnel(4, 4, false, false).largest(&AES_128_GCM_16), 1446 - 28);
        assert_eq!(transport(4, false, false).largest(&AES_128_GCM_16), 1446 - 8);
        assert_eq!(tunnel(4, 4, false, true).largest(&AES_128_GCM_16), 1438 - 28);
        assert_eq!(tunnel(6, 6, false, false).largest(&AES_128_GCM_16), 1426 - 48);
    }
}
