//! Tunnels with keys from ipseckey: no daemon, so what fails here is the data path or its tools.

use super::topology::{A, A6, B, B6, INNER_A, INNER_A6, INNER_B, INNER_B6, KEY_A_TO_B, KEY_B_TO_A};
use super::topology::{NET_A6, NET_B6, Protected, SPI_A_TO_B, SPI_B_TO_A, rule};
use crate::net::capture::{Capture, Seen, Unread};
use crate::net::{Host, transfer};
use crate::suite::{Suite, counter, drops, number, text};
use crate::tshark;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

/// The transform of a manual SA with a name that the tools know.
pub(super) fn transform(name: &str, key: &str) -> String {
    format!("encr_alg {name} encrkey {key} replay 1024")
}

/// Loads SAs for a tunnel on both hosts; `name` is one that ipseckey knows.
pub(super) fn manual_keys(net: &Protected, name: &str) -> Result<()> {
    net.keys(&transform(name, KEY_A_TO_B), &transform(name, KEY_B_TO_A))
}

pub(super) fn chacha20() -> Result<()> {
    let net = Protected::new("chacha", "encr_algs chacha20-poly1305", &[])?;
    through_the_tunnel(&net, "chacha20-poly1305", OCTETS)
}

pub(super) fn aes_gcm() -> Result<()> {
    let net = Protected::new("gcm", "encr_algs aes-gcm(256)", &[])?;
    through_the_tunnel(&net, "aes-gcm", OCTETS)
}

pub(super) fn generic_xdp() -> Result<()> {
    let net = Protected::new("generic", "encr_algs chacha20-poly1305", &["--mode", "generic"])?;
    through_the_tunnel(&net, "chacha20-poly1305", OCTETS)
}

pub(super) fn xdp_exit() -> Result<()> {
    let net = Protected::new("exit", "encr_algs chacha20-poly1305", &["--exit", "xdp"])?;
    through_the_tunnel(&net, "chacha20-poly1305", OCTETS)
}

pub(super) fn strict_rp_filter() -> Result<()> {
    let net = Protected::new("rp", "encr_algs chacha20-poly1305", &[])?;
    for host in [&net.sites.a, &net.sites.b, &net.sites.router] {
        for interface in ["all", "default"] {
            host.sysctl(&format!("ipv4.conf.{interface}.rp_filter"), "1")?;
        }
    }
    through_the_tunnel(&net, "chacha20-poly1305", OCTETS)
}

/// Every size there is, sealed by one host and opened by the other and the same for the answer: a third of all sizes has
/// no tailroom on a veth. ping compares the octets that come back.
pub(super) fn every_size() -> Result<()> {
    for (algorithm, policy) in
        [("chacha20-poly1305", "encr_algs chacha20-poly1305"), ("aes-gcm", "encr_algs aes-gcm(256)")]
    {
        let net = Protected::new("sizes", policy, &[])?;
        manual_keys(&net, algorithm)?;
        let before = (net.a.counters()?, net.b.counters()?);
        for size in 0..=LARGEST_ECHO {
            let size = size.to_string();
            let answered = net.sites.a.ping(&INNER_B.to_string(), &["-M", "do", "-s", &size])?;
            ensure!(answered, "{algorithm}: no answer to {size} octets: {}", state(&net));
        }
        let after = (net.a.counters()?, net.b.counters()?);
        let lost = [drops(&before.0, &after.0), drops(&before.1, &after.1)].concat();
        ensure!(lost.is_empty(), "packets were dropped: {}", lost.join(", "));
        same_counts(&net)?;
    }
    Ok(())
}

/// Payload of a transfer.
const OCTETS: u64 = 32 << 20;

/// Octets of an echo request that just fit: 1446 of an inner packet at MTU 1500, less IPv4 and ICMP header.
const LARGEST_ECHO: u32 = 1446 - 28;

/// Ping and TCP at full MTU through the tunnel, nothing in clear on the wire, nothing lost, and the same flow in clear
/// once the policy is gone.
pub(super) fn through_the_tunnel(net: &Protected, algorithm: &str, octets: u64) -> Result<()> {
    ensure!(net.sites.a.silent(&INNER_B.to_string(), &[])?, "a ping was answered although there is no SA");
    let before = (net.a.counters()?, net.b.counters()?);
    let unsealed = counter(&before.0, "drop-no-sa-outbound");
    ensure!(unsealed > 0, "the packet that had no SA was not counted as dropped for that");

    manual_keys(net, algorithm)?;
    let capture = Capture::start(&net.sites.router, net.sites.wire)?;
    ensure!(net.sites.a.ping(&INNER_B.to_string(), &[])?, "no answer through the tunnel: {}", state(net));
    let there = transfer::tcp(&net.sites.a, &net.sites.b, INNER_B, octets, |_| {}).with_context(|| state(net))?;
    let back = transfer::tcp(&net.sites.b, &net.sites.a, INNER_A, octets, |_| {}).with_context(|| state(net))?;
    let seen = capture.finish()?;
    println!("{algorithm}: {:.2} and {:.2} Gbit/s, {} ESP frames", there.gigabits(), back.gigabits(), seen.esp);
    nothing_in_clear(&seen)?;
    let after = (net.a.counters()?, net.b.counters()?);
    let lost = [drops(&before.0, &after.0), drops(&before.1, &after.1)].concat();
    ensure!(lost.is_empty(), "packets were dropped: {}", lost.join(", "));
    same_counts(net)?;
    others_keep_theirs(net)?;

    net.unprotect()?;
    let capture = Capture::start(&net.sites.router, net.sites.wire)?;
    transfer::tcp(&net.sites.a, &net.sites.b, INNER_B, octets.min(1 << 20), |_| {})
        .context("in clear, without policy")?;
    let seen = capture.finish()?;
    ensure!(seen.marked > 0 && seen.esp == 0, "without policy the capture sees {} marked frames", seen.marked);
    Ok(())
}

/// ESP-IN-16: a packet that somebody else holds as well, a socket that has not read it yet, stays sealed there when the host
/// that it went on to has opened it.
fn others_keep_theirs(net: &Protected) -> Result<()> {
    let (near_a, near_b) = (Unread::start(&net.sites.router, "to-a")?, Unread::start(&net.sites.router, "to-b")?);
    for size in ["0", "64", "1000", "1400"] {
        let answered = net.sites.a.ping(&INNER_B.to_string(), &["-s", size])?;
        ensure!(answered, "no answer to {size} octets: {}", state(net));
    }
    let [on_one, on_other] = [near_a.frames()?, near_b.frames()?].map(|frames| {
        // Behind Ethernet and IPv4, which a router changes.
        let sealed = frames.into_iter().filter(|frame| frame.get(23) == Some(&50));
        sealed.filter_map(|frame| frame.get(34..).map(<[u8]>::to_vec)).collect::<BTreeSet<_>>()
    });
    ensure!(on_one.len() >= 8, "{} ESP packets, not 8", on_one.len());
    ensure!(on_one == on_other, "what was sent on is not what had come: {} and {}", on_one.len(), on_other.len());
    Ok(())
}

/// ESP in UDP without a NAT and without IKE, IPv4 and IPv6 outside. In IPv6 every datagram needs a checksum (RFC 8200
/// section 8.1), which tshark verifies.
pub(super) fn udp_encapsulation() -> Result<()> {
    for outer in [[A, B], [A6, B6]] {
        let net = Protected::new("udp", "encr_algs aes-gcm(256)", &[])?;
        let [a_outer, b_outer] = outer;
        net.sites.add_ipv6()?;
        let keys = |first: &str, second: &str| {
            let add = |spi: u32, [src, dst]: [&str; 2], [isrc, idst]: [&str; 2], direction: &str, key: &str| {
                let transform = transform("aes-gcm", key);
                format!(
                    "add esp spi {spi:#x} src {src} dst {dst} {direction} isrc {isrc} idst {idst} {transform} \
                     encap udp nat_lport 4500 nat_rport 4500\n"
                )
            };
            add(SPI_A_TO_B, outer, [NET_A6, NET_B6], first, KEY_A_TO_B)
                + &add(SPI_B_TO_A, [b_outer, a_outer], [NET_B6, NET_A6], second, KEY_B_TO_A)
        };
        let policy = "encr_algs aes-gcm(256)";
        net.a.tool("espadm", &["tunnel", "delete", "vpn0"])?;
        net.b.tool("espadm", &["tunnel", "delete", "vpn0"])?;
        net.a.tunnel("vpn0", a_outer, b_outer)?;
        net.b.tunnel("vpn0", b_outer, a_outer)?;
        net.a.policy(&rule(NET_A6, NET_B6, policy))?;
        net.b.policy(&rule(NET_B6, NET_A6, policy))?;
        net.a.keys(&keys("outbound", "inbound"))?;
        net.b.keys(&keys("inbound", "outbound"))?;
        let before = (net.a.counters()?, net.b.counters()?);
        let capture = Capture::start(&net.sites.router, "to-a")?;
        // Odd sizes too: a checksum pads them with a zero that is not there.
        for size in 0..64 {
            let size = size.to_string();
            ensure!(net.sites.a.ping(&INNER_B6.to_string(), &["-s", &size])?, "no answer: {}", state(&net));
        }
        transfer::tcp(&net.sites.a, &net.sites.b, INNER_B6, 8 << 20, |_| {}).with_context(|| state(&net))?;
        transfer::tcp(&net.sites.b, &net.sites.a, INNER_A6, 8 << 20, |_| {}).with_context(|| state(&net))?;
        let seen = capture.finish()?;
        nothing_in_clear(&seen)?;
        ensure!(seen.esp == 0, "{} ESP packets were not encapsulated", seen.esp);
        let after = (net.a.counters()?, net.b.counters()?);
        let lost = [drops(&before.0, &after.0), drops(&before.1, &after.1)].concat();
        ensure!(lost.is_empty(), "packets were dropped: {}", lost.join(", "));
        same_counts(&net)?;
        checksums(&seen, &net.sites.lab.directory().join("udp.pcap"), a_outer == A6)?;
    }
    Ok(())
}

/// UDP-01: every UDP datagram with ESP in it has a right checksum over IPv6, and none over IPv4, as RFC 3948 section 2.1
/// suggests.
pub(super) fn checksums(seen: &Seen, file: &Path, six: bool) -> Result<()> {
    seen.write_pcap(file)?;
    let (esp, right) = (tshark::count(file, "esp")?, tshark::count(file, "esp && udp.checksum.status == Good")?);
    let absent = tshark::count(file, "esp && udp.checksum == 0")?;
    println!("{right} of {esp} UDP datagrams have a right checksum, {absent} have none");
    ensure!(esp > 100 && if six { right == esp } else { absent == esp }, "a checksum is wrong, see above");
    Ok(())
}

/// What the capture saw has to be ESP and no octet of the flow.
pub(super) fn nothing_in_clear(seen: &Seen) -> Result<()> {
    ensure!(seen.missed == 0, "the capture missed {} frames", seen.missed);
    ensure!(seen.marked == 0 && seen.tcp == 0, "{} frames of the flow were in clear", seen.marked.max(seen.tcp));
    ensure!(seen.esp + seen.esp_in_udp > 0, "nothing was protected in {} frames", seen.frames);
    Ok(())
}

/// Packets that one host sealed with an SA are those that the other opened with it, in both directions, less those that
/// the interfaces on the way say they lost: the ring of a veth takes 256 frames and drops what comes while it is full, and
/// XDP tells no sender to wait.
pub(super) fn same_counts(net: &Protected) -> Result<()> {
    // The last acknowledgement may still be on its way.
    let start = Instant::now();
    loop {
        let (here, there) = (counts(&net.a)?, counts(&net.b)?);
        let lost = [lost(&here, &there), lost(&there, &here)];
        if let ([Some(0), Some(0)], false) = (lost, here.is_empty()) {
            return Ok(());
        }
        if start.elapsed() > Duration::from_secs(2) {
            let sites = &net.sites;
            let by_rings = [
                dropped_by(&sites.a, "wan0")? + dropped_by(&sites.router, "to-b")?,
                dropped_by(&sites.b, "wan0")? + dropped_by(&sites.router, "to-a")?,
            ];
            let told = |way: usize| matches!((lost.get(way), by_rings.get(way)), (Some(&Some(n)), Some(&m)) if n <= m);
            ensure!(
                !here.is_empty() && told(0) && told(1),
                "packets and octets by SA differ: {here:?} and {there:?}; interfaces lost {by_rings:?}"
            );
            println!("lost in full rings of interfaces: {by_rings:?} frames");
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// SPI, direction, packets and octets of an SA.
type Count = (String, String, u64, u64);

fn counts(suite: &Suite) -> Result<Vec<Count>> {
    let count = |sa: &Value| {
        (text(sa, "spi").to_owned(), text(sa, "direction").to_owned(), number(sa, "packets"), number(sa, "bytes"))
    };
    Ok(suite.sas()?.iter().map(count).collect())
}

/// How many packets of the outbound SAs of `sender` the inbound ones of `receiver` have not counted; nothing when an SA is
/// missing, has counted more than was sent, or as many packets but not their octets.
fn lost(sender: &[Count], receiver: &[Count]) -> Option<u64> {
    let mut lost = 0;
    for (spi, _, sent, octets) in sender.iter().filter(|count| count.1 == "out") {
        let mut same = receiver.iter().filter(|count| count.0 == *spi && count.1 == "in");
        let (_, _, taken, taken_octets) = same.next()?;
        if taken == sent && taken_octets != octets {
            return None;
        }
        lost += sent.checked_sub(*taken)?;
    }
    Some(lost)
}

/// Frames that the interface could not hand on: its own, and those that XDP sent through it.
fn dropped_by(host: &Host, interface: &str) -> Result<u64> {
    let text = host.run("ip", &["-json", "-stats", "link", "show", "dev", interface])?;
    let links: Value = serde_json::from_str(&text).with_context(|| format!("ip -json printed {text:?}"))?;
    links.pointer("/0/stats64/tx/dropped").and_then(Value::as_u64).context("ip tells no drops")
}

/// What both hosts have counted, for an error message.
pub(super) fn state(net: &Protected) -> String {
    let show = |suite: &Suite| {
        let text = suite.tool("espadm", &["stats"]).unwrap_or_else(|error| format!("{error:#}"));
        format!("{}:\n{text}", suite.host().name())
    };
    format!("{}\n{}", show(&net.a), show(&net.b))
}
