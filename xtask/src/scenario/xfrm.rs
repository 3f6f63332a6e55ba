//! ESP and AH against the kernel's own (xfrm, with keys by hand on both sides): what it seals we open, what we seal it
//! opens, for every transform that both have, in every shape of packet. Needs a kernel that has xfrm, so it runs in a
//! guest.

use super::echo::{Plan, echoes, options_len};
use super::matrix::{
    AUTHENTICATORS, Authenticator, Direction, Protection, Shape, Transform, transforms, transport, tunnel,
};
use super::topology::{A, A6, B, B6, TwoSites};
use crate::net::capture::{Capture, Seen};
use crate::net::{Host, transfer};
use crate::suite::{Counters, Suite, drops, number};
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Instant;

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

/// What goes over the wire in one case.
#[derive(Clone, Copy)]
struct Way {
    protection: Protection,
    shape: Shape,
    /// Datagrams have IP options, or extension headers, in front of UDP.
    options: bool,
}

impl Way {
    fn esp(transform: Transform, shape: Shape) -> Self {
        Self { protection: Protection::esp(transform), shape, options: false }
    }

    fn name(&self) -> String {
        format!("{}{}", self.protection.name(self.shape), if self.options { ", with options" } else { "" })
    }
}

/// Every shape with these algorithms.
fn every_shape(policy: &str) -> Result<()> {
    let transform = transforms().into_iter().find(|transform| transform.policy() == policy);
    let transform = transform.with_context(|| format!("no transform is called {policy}"))?;
    all(&SHAPES.map(|shape| Way::esp(transform, shape)), THOROUGH)
}

pub(super) fn chacha20_poly1305() -> Result<()> {
    every_shape("encr_algs chacha20-poly1305(256)")
}

pub(super) fn aes_128_gcm() -> Result<()> {
    every_shape("encr_algs aes-gcm(128)")
}

pub(super) fn aes_256_gcm() -> Result<()> {
    every_shape("encr_algs aes-gcm(256)")
}

pub(super) fn aes_cbc_sha256() -> Result<()> {
    every_shape("encr_algs aes-cbc(256) encr_auth_algs hmac-sha256")
}

/// ALG-22, ALG-23, ALG-24, ALG-25: transforms whose cipher authenticates as well, each once; the shapes take turns.
pub(super) fn combined() -> Result<()> {
    turns(|transform| transform.auth.is_none())
}

/// ALG-21, ALG-26, ALG-27: AES-CBC with every authenticator; fifteen with each length of key make a scenario that an
/// emulated processor ends in time.
pub(super) fn aes_cbc() -> Result<()> {
    turns(|transform| transform.cipher.ours == "aes-cbc")
}

/// ALG-21, ALG-26, ALG-27: AES-CTR with every authenticator.
pub(super) fn aes_ctr() -> Result<()> {
    turns(|transform| transform.cipher.ours == "aes-ctr")
}

/// ALG-20, ALG-26, ALG-27: authenticators alone.
pub(super) fn null() -> Result<()> {
    turns(|transform| transform.cipher.ours == "null")
}

/// What RFC 8221 says not to use.
pub(super) fn legacy() -> Result<()> {
    turns(deprecated)
}

fn deprecated(transform: &Transform) -> bool {
    ["des-cbc", "3des-cbc", "blowfish-cbc"].contains(&transform.cipher.ours)
}

fn turns(wanted: impl Fn(&Transform) -> bool) -> Result<()> {
    // Every fifth meets all sixteen before one comes again, and both modes and families early.
    let shapes = SHAPES.into_iter().cycle().step_by(5);
    let ways = transforms().into_iter().filter(wanted).zip(shapes).map(|(transform, shape)| Way::esp(transform, shape));
    all(&ways.collect::<Vec<_>>(), BRIEF)
}

/// AH-01 to AH-10: every authenticator, alone and around ESP, in one shape of each mode, in transport mode also with
/// options and extension headers; the shapes take turns.
pub(super) fn ah() -> Result<()> {
    let nth = |tunnel: bool, n| {
        SHAPES.into_iter().filter(move |shape| shape.tunnel == tunnel && !shape.udp).cycle().step_by(3).nth(n)
    };
    let mut ways = vec![];
    for (n, auth) in AUTHENTICATORS.iter().enumerate() {
        for shape in [nth(true, n), nth(false, n)].into_iter().flatten() {
            ways.extend(ah_ways(auth, shape));
        }
    }
    all(&ways, BRIEF)
}

/// The same in every shape, with one authenticator.
pub(super) fn ah_sha256() -> Result<()> {
    let [_, sha256, ..] = &AUTHENTICATORS;
    let shapes = SHAPES.into_iter().filter(|shape| !shape.udp);
    all(&shapes.flat_map(|shape| ah_ways(sha256, shape)).collect::<Vec<_>>(), BRIEF)
}

/// Alone and around ESP, in transport mode with options as well.
fn ah_ways(auth: &'static Authenticator, shape: Shape) -> Vec<Way> {
    let cbc = |transform: &Transform| transform.policy() == "encr_algs aes-cbc(128) encr_auth_algs hmac-sha1";
    let alone = Way { protection: Protection { ah: Some(auth), esp: None }, shape, options: false };
    let esp = transforms().into_iter().find(cbc);
    let around = Way { protection: Protection { esp, ..alone.protection }, ..alone };
    let mut ways = vec![alone, around];
    if !shape.tunnel {
        ways.push(Way { options: true, ..alone });
    }
    ways
}

/// One of each kind, for a test that has to be quick.
pub(super) fn quick() -> Result<()> {
    let few = ["encr_algs chacha20-poly1305(256)", "encr_algs aes-cbc(256) encr_auth_algs hmac-sha256"];
    let transforms = transforms().into_iter().filter(|transform| few.contains(&transform.policy().as_str()));
    let esp = transforms.zip([tunnel(4, 4, true, false), transport(6, false, false)]);
    let [_, _, _, sha512, _] = &AUTHENTICATORS;
    let ah = ah_ways(sha512, transport(4, true, false)).into_iter().filter(|way| way.options);
    all(&esp.map(|(transform, shape)| Way::esp(transform, shape)).chain(ah).collect::<Vec<_>>(), BRIEF)
}

/// How much goes over the wire in one case.
#[derive(Clone, Copy)]
struct Load {
    /// Octets between the sizes of datagrams.
    step: usize,
    /// See [`Plan`].
    edge: usize,
    /// Payload of each TCP transfer.
    bytes: u64,
}

const THOROUGH: Load = Load { step: 97, edge: 20, bytes: 96 << 10 };

/// An emulated processor has many cases to go; sizes go over one block of a cipher.
const BRIEF: Load = Load { step: 389, edge: 9, bytes: 24 << 10 };

/// One after the other on the same two hosts; the failures of all are told.
fn all(ways: &[Way], load: Load) -> Result<()> {
    let sites = TwoSites::new("kernel")?;
    sites.add_ipv6()?;
    let ours = Suite::attach(&sites.lab, &sites.a, &["wan0"])?;
    ours.tunnel("vpn4", A, B)?;
    ours.tunnel("vpn6", A6, B6)?;
    let _encapsulation = [decapsulator(&sites.b, B)?, decapsulator(&sites.b, B6)?];
    let mut failed = Vec::new();
    for way in ways {
        let (name, start) = (way.name(), Instant::now());
        match one(&sites, &ours, way, load) {
            Ok(packets) => println!("{name}: {packets} packets in {:.1} s", start.elapsed().as_secs_f64()),
            Err(error) => {
                println!("{name}: {error:#}");
                failed.push(name);
            }
        }
    }
    ensure!(!ways.is_empty(), "nothing was tried");
    if !failed.is_empty() {
        bail!("{} of {} failed: {}", failed.len(), ways.len(), failed.join("; "));
    }
    Ok(())
}

/// One case: datagrams of many sizes there and back, started by either side, and TCP both ways.
fn one(sites: &TwoSites, ours: &Suite, way: &Way, load: Load) -> Result<u64> {
    let Way { protection, shape, options } = *way;
    ours.policy(&shape.rule(&protection.policy()))?;
    let encap = if shape.udp { "encap udp nat_lport 4500 nat_rport 4500" } else { "" };
    let sas = |direction| protection.sas(shape, direction, &format!("replay 1024 {encap}"));
    ours.keys(&format!("flush\n{}{}", sas(Direction::Out), sas(Direction::In)))?;
    Kernel::new(protection, shape).configure(&sites.b)?;
    // What one case has taught the hosts about the way is not for the next.
    for host in [&sites.a, &sites.b] {
        for family in ["-4", "-6"] {
            host.run("ip", &[family, "route", "flush", "cache"])?;
        }
    }
    let before = ours.counters()?;
    let errors = kernel_errors(&sites.b)?;
    let capture = Capture::start(&sites.router, "to-a")?;
    let (here, there) = shape.inner();
    let largest = protection.largest(shape) - if options { options_len(shape.inner6) } else { 0 };
    let plan = Plan { largest, step: load.step, edge: load.edge, options };
    let carried = echoes(&sites.a, &sites.b, there, plan)
        .context("datagrams that we start")
        .and_then(|()| echoes(&sites.b, &sites.a, here, plan).context("datagrams that the kernel starts"))
        .and_then(|()| transfer::tcp(&sites.a, &sites.b, there, load.bytes, |_| {}).context("TCP to the kernel"))
        .and_then(|_| transfer::tcp(&sites.b, &sites.a, here, load.bytes, |_| {}).context("TCP from the kernel"));
    let seen = capture.finish()?;
    let after = ours.counters()?;
    carried.map(drop).with_context(|| {
        let state = state(&before, &after, &errors, &kernel_errors(&sites.b).unwrap_or_default());
        let Seen { frames, ah, esp, esp_in_udp, .. } = seen;
        format!("on the wire {frames} frames, {ah} AH, {esp} ESP, {esp_in_udp} ESP in UDP; {state}")
    })?;
    ensure!(seen.missed == 0, "the capture missed {} frames", seen.missed);
    let marked = if protection.esp.is_some_and(|esp| esp.hides()) { seen.marked } else { 0 };
    ensure!(marked == 0 && seen.tcp == 0, "{} frames of the flow were in clear", marked.max(seen.tcp));
    let right = match (protection.ah.is_some(), shape.udp) {
        (true, _) => seen.ah,
        (false, true) => seen.esp_in_udp,
        (false, false) => seen.esp,
    };
    let wrong = seen.ah + seen.esp + seen.esp_in_udp - right;
    ensure!(right > 0 && wrong == 0, "{right} packets as asked for, {wrong} not");
    let lost = drops(&before, &after);
    ensure!(lost.is_empty(), "packets were dropped: {}", lost.join(", "));
    let now = kernel_errors(&sites.b)?;
    ensure!(now == errors, "the kernel dropped packets: {}", difference(&errors, &now));
    let packets: u64 = ours.sas()?.iter().map(|sa| number(sa, "packets")).sum();
    ensure!(packets >= right, "{right} packets on the wire, {packets} by the counters of the SAs");
    Ok(packets)
}

/// The kernel's side: SAs and policy for what host A sends and gets.
pub(super) struct Kernel<'a> {
    pub(super) protection: Protection,
    pub(super) shape: Shape,
    /// Host A and the kernel's own, as the kernel knows them.
    pub(super) ends: [&'a str; 2],
    /// The port of host A, as the kernel knows it; its own is 4500.
    pub(super) port: u16,
    /// Further words for each SA.
    pub(super) further: &'static str,
}

impl Kernel<'static> {
    /// Nothing between the hosts changes addresses or ports.
    pub(super) fn new(protection: Protection, shape: Shape) -> Self {
        let (a, b) = shape.outer();
        Self { protection, shape, ends: [a, b], port: 4500, further: "" }
    }
}

impl Kernel<'_> {
    /// In place of all SAs and policy that are there.
    pub(super) fn configure(&self, host: &Host) -> Result<()> {
        let Self { protection, shape, ends: [a, b], .. } = *self;
        let nets = shape.nets();
        let mut commands = vec!["xfrm policy flush".to_owned(), "xfrm state flush".to_owned()];
        commands.extend(self.states(Direction::Out).chain(self.states(Direction::In)));
        // What arrives at the socket is judged before the kernel takes ESP out of it.
        commands.push(format!("xfrm policy add src {a} dst {b} proto udp dport 4500 dir in priority 1 action allow"));
        // The kernel's selectors of one address are the address alone.
        let (net_a, net_b) = if shape.tunnel { nets } else { (a, b) };
        for (direction, [src, dst], [from, to]) in [("in", [net_a, net_b], [a, b]), ("out", [net_b, net_a], [b, a])] {
            let template =
                |protocol: &str, mode: &str| format!("tmpl src {from} dst {to} proto {protocol} reqid 1 mode {mode}");
            let esp = protection.esp.map(|_| template("esp", self.mode())).unwrap_or_default();
            let ah = protection.ah.map(|_| template("ah", self.ah_mode())).unwrap_or_default();
            commands.push(format!("xfrm policy add src {src} dst {dst} dir {direction} priority 2 {esp} {ah}"));
        }
        host.ip(&commands.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn mode(&self) -> &'static str {
        if self.shape.tunnel { "tunnel" } else { "transport" }
    }

    /// Around ESP, AH stands behind the IP header that ESP has put on.
    fn ah_mode(&self) -> &'static str {
        if self.protection.esp.is_some() { "transport" } else { self.mode() }
    }

    /// The SAs of one direction, as host A sees it.
    fn states(&self, direction: Direction) -> impl Iterator<Item = String> + use<> {
        let Self { protection, shape, ends: [a, b], port, further } = *self;
        let (src, dst, ports) = match direction {
            Direction::Out => (a, b, format!("{port} 4500")),
            Direction::In => (b, a, format!("4500 {port}")),
        };
        let esn = if shape.esn { "flag esn" } else { "" };
        let common = |mode: &str| {
            // Without the flag a tunnel carries only the family that is outside, and AH around one likewise.
            let family = if shape.tunnel { "flag af-unspec" } else { "" };
            format!("reqid 1 mode {mode} replay-window 1024 {family} {esn} {further}")
        };
        let encap = match (shape.udp, shape.outer6) {
            (false, _) => String::new(),
            (true, false) => format!("encap espinudp {ports} 0.0.0.0"),
            (true, true) => format!("encap espinudp {ports} ::"),
        };
        let esp = protection.esp.map(|esp| {
            let (spi, keys) = (direction.spi(), esp.kernels(&esp.keys(direction.number())));
            format!("xfrm state add src {src} dst {dst} proto esp spi {spi:#x} {} {keys} {encap}", common(self.mode()))
        });
        let ah = protection.ah.map(|auth| {
            let (spi, key) = (direction.ah_spi(), auth.kernels(&Protection::ah_key(auth, direction)));
            // Without the flag the kernel pads the header to eight octets in IPv4 as well, which RFC 4302 has not.
            let align = if shape.outer6 { "" } else { "flag align4" };
            let common = common(self.ah_mode());
            format!("xfrm state add src {src} dst {dst} proto ah spi {spi:#x} {common} {align} {key}")
        });
        esp.into_iter().chain(ah)
    }
}

/// A socket by which the kernel takes ESP out of the UDP that arrives at it; it does so as long as the socket is open.
pub(super) fn decapsulator(host: &Host, address: &'static str) -> Result<UdpSocket> {
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

/// What the kernel's xfrm has counted as wrong.
pub(super) fn kernel_errors(host: &Host) -> Result<BTreeMap<String, u64>> {
    let text = host.within(|| fs::read_to_string("/proc/thread-self/net/xfrm_stat").context("the counters of xfrm"))?;
    let mut errors = BTreeMap::new();
    for line in text.lines() {
        let (name, value) = line.split_once(char::is_whitespace).context("a counter of xfrm without a value")?;
        errors.insert(name.to_owned(), value.trim().parse().with_context(|| format!("the counter {line:?}"))?);
    }
    ensure!(!errors.is_empty(), "xfrm counts nothing");
    Ok(errors)
}

pub(super) fn difference(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) -> String {
    let grown = after.iter().filter(|(name, value)| before.get(*name) != Some(value));
    grown.map(|(name, value)| format!("{name} now {value}")).collect::<Vec<_>>().join(", ")
}

/// What both sides have counted since, for an error message.
fn state(before: &Counters, after: &Counters, errors: &BTreeMap<String, u64>, now: &BTreeMap<String, u64>) -> String {
    format!("dropped by us: [{}]; by the kernel: [{}]", drops(before, after).join(", "), difference(errors, now))
}
