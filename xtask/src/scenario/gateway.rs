//! Gateways with hosts behind them: the shortcut past the stack, and the packet filter of the stack.

use super::manual::{manual_keys, nothing_in_clear, same_counts, state, transform};
use super::topology::{A, B, KEY_A_TO_B, KEY_B_TO_A, NET_A6, NET_B6, Protected, SPI_A_TO_B, SPI_B_TO_A, rule};
use crate::net::capture::{Capture, replay};
use crate::net::{Host, transfer};
use crate::suite::{Suite, counter, drops};
use anyhow::{Context, Result, ensure};
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

const RIGHT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 2, 0, 9));
const LEFT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 1, 0, 9));

/// Two gateways with the shortcut, and a host behind each.
struct Gateways {
    net: Protected,
    left: Host,
    right: Host,
}

impl Gateways {
    fn new(name: &str, attach: &[&str]) -> Result<Self> {
        let net = Protected::new(name, "encr_algs chacha20-poly1305", attach)?;
        manual_keys(&net, "chacha20-poly1305")?;
        let (left, right) = net.sites.add_hosts()?;
        for host in [&left, &right] {
            // What a network card would do before a frame is on the wire.
            host.run("ethtool", &["-K", "eth0", "tx", "off"])?;
        }
        Ok(Self { net, left, right })
    }

    /// Turns the shortcut on; whether it goes both ways.
    fn shortcut(&self, suite: &Suite) -> Result<bool> {
        let said = suite.tool("espadm", &["attach", "--lan", "lan0", "wan0"])?;
        let both = said.contains("gateway shortcut to and from tunnels");
        let one = said.contains("gateway shortcut to tunnels") && said.contains("before 6.3");
        ensure!((both || one) && said.contains("must finish their checksums"), "espadm attach --lan: {said}");
        let shown = suite.tool("espadm", &["show"])?;
        let line = shown.lines().find(|line| line.starts_with("lan0")).unwrap_or_default();
        ensure!(line.contains("native") && line.contains(if both { "both" } else { "in" }), "espadm show: {shown}");
        Ok(both)
    }

    /// How much the counter of a gateway grew while `work` ran.
    fn grown(&self, suite: &Suite, name: &str, work: impl FnOnce() -> Result<()>) -> Result<u64> {
        let before = suite.counters()?;
        work()?;
        Ok(counter(&suite.counters()?, name) - counter(&before, name))
    }

    fn answered(&self, arguments: &[&str]) -> Result<()> {
        let answered = self.left.ping(&RIGHT.to_string(), arguments)?;
        ensure!(answered, "no answer to a ping {arguments:?}: {}", state(&self.net));
        Ok(())
    }

    fn unanswered(&self, arguments: &[&str]) -> Result<()> {
        let silent = self.left.silent(&RIGHT.to_string(), arguments)?;
        ensure!(silent, "a ping {arguments:?} was answered: {}", state(&self.net));
        Ok(())
    }
}

/// Everything that each exit of sealed packets has to show.
pub(super) fn shortcut() -> Result<()> {
    for exit in ["neighbour", "xdp"] {
        let gateways = Gateways::new(&format!("lan{exit}"), &["--exit", exit])?;
        ensure!(all(&gateways, 8 << 20).with_context(|| format!("exit {exit}"))?, "the shortcut has one way only");
    }
    Ok(())
}

/// The same with little traffic. Kernels before 6.3 have the way into tunnels only.
pub(super) fn shortcut_of_guest() -> Result<()> {
    let both = all(&Gateways::new("languest", &[])?, 512 << 10)?;
    println!("the shortcut goes {}", if both { "both ways" } else { "into tunnels" });
    Ok(())
}

/// Says whether the shortcut goes both ways.
fn all(gateways: &Gateways, octets: u64) -> Result<bool> {
    gateways.answered(&[])?;
    let both = gateways.shortcut(&gateways.net.a)?;
    ensure!(gateways.shortcut(&gateways.net.b)? == both, "two gateways on one kernel differ");
    flows(gateways, octets, both)?;
    hops(gateways)?;
    neighbours(gateways, both)?;
    left_to_the_stack(gateways)?;
    wrong_checksum(gateways)?;
    refused(gateways)?;
    six(gateways, both)?;
    Ok(both)
}

/// TCP both ways: every packet by the shortcut of both gateways, none in clear, none lost.
fn flows(gateways: &Gateways, octets: u64, both: bool) -> Result<()> {
    let Gateways { net, left, right } = gateways;
    gateways.answered(&[])?;
    let before = (net.a.counters()?, net.b.counters()?);
    let capture = Capture::start(&net.sites.router, net.sites.wire)?;
    let there = transfer::tcp(left, right, RIGHT, octets, |_| {}).with_context(|| state(net))?;
    let back = transfer::tcp(right, left, LEFT, octets, |_| {}).with_context(|| state(net))?;
    println!("{:.2} and {:.2} Gbit/s by the shortcut", there.gigabits(), back.gigabits());
    nothing_in_clear(&capture.finish()?)?;
    same_counts(net)?;
    let after = (net.a.counters()?, net.b.counters()?);
    let lost = [drops(&before.0, &after.0), drops(&before.1, &after.1)].concat();
    ensure!(lost.is_empty(), "packets were dropped: {}", lost.join(", "));
    for (before, after) in [(&before.0, &after.0), (&before.1, &after.1)] {
        let grown = |name: &str| counter(after, name) - counter(before, name);
        ensure!(grown("sealed") > octets / 1500 && grown("opened") > octets / 1500, "{after:?}");
        // Neighbours that are verified again in the meantime may send some by the stack.
        let parts = [("shortcut-sealed", "sealed", true), ("shortcut-opened", "opened", both)];
        for (part, all, _) in parts.into_iter().filter(|(.., expected)| *expected) {
            ensure!(grown(part) + 100 > grown(all), "{} {part} of {} {all}", grown(part), grown(all));
        }
    }
    Ok(())
}

/// Each gateway takes a hop, and the one where none is left says so.
fn hops(gateways: &Gateways) -> Result<()> {
    let ping = |ttl: &str| {
        let mut command = gateways.left.command("ping");
        let output = command.args(["-n", "-c", "1", "-W", "5", "-t", ttl, &RIGHT.to_string()]).output()?;
        anyhow::Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    for (ttl, expected) in [
        ("1", "From 10.1.0.1 icmp_seq=1 Time to live exceeded"),
        ("2", "icmp_seq=1 Time to live exceeded"),
        ("3", "64 bytes from 10.2.0.9: icmp_seq=1 ttl=62"),
    ] {
        let said = ping(ttl)?;
        ensure!(said.contains(expected), "TTL {ttl}: {said}\n{}", state(&gateways.net));
    }
    Ok(())
}

/// A neighbour that is not known is looked for; the packet that needs it is not lost.
fn neighbours(gateways: &Gateways, both: bool) -> Result<()> {
    let Gateways { net, .. } = gateways;
    for (gateway, interface) in
        [(&net.sites.a, "wan0"), (&net.sites.b, "lan0"), (&net.sites.b, "wan0"), (&net.sites.a, "lan0")]
    {
        gateway.ip(&[&format!("neighbour flush dev {interface}")])?;
        gateways.answered(&[]).with_context(|| format!("no neighbour on {interface} of {}", gateway.name()))?;
    }
    let name = if both { "shortcut-opened" } else { "shortcut-sealed" };
    let by_shortcut = gateways.grown(&net.b, name, || gateways.answered(&[]))?;
    ensure!(by_shortcut > 0, "the shortcut is not taken again once the neighbours are known");
    Ok(())
}

/// What the shortcut cannot decide goes through the stack, and comes to the same as without it.
fn left_to_the_stack(gateways: &Gateways) -> Result<()> {
    let Gateways { net, left, right } = gateways;
    // Too long: the exact limit is told, 1500 less outer header, ESP header, IV, ICV and trailer.
    left.ip(&["route flush cache"])?;
    let answers = gateways.grown(&net.a, "too-big-answered", || gateways.unanswered(&["-M", "do", "-s", "1472"]))?;
    ensure!(answers > 0, "a packet that is too long was not answered");
    let route = left.run("ip", &["route", "get", &RIGHT.to_string()])?;
    ensure!(route.contains("mtu 1446"), "the host was not told 1446: {}", route.trim());
    gateways.answered(&["-M", "do", "-s", "1418"])?;
    // Fragments, of hosts that have been told the limit, and options.
    right.ping(&LEFT.to_string(), &["-M", "dont", "-s", "3000"])?;
    let left_out = gateways.grown(&net.a, "shortcut-left", || gateways.answered(&["-M", "dont", "-s", "3000"]))?;
    ensure!(left_out >= 3, "{left_out} of 3 fragments were left to the stack");
    let left_out = gateways.grown(&net.a, "shortcut-left", || gateways.answered(&["-R"]))?;
    ensure!(left_out > 0, "a packet with options took the shortcut");
    // No SA: nothing leaves.
    net.a.tool("ipseckey", &["flush"])?;
    let capture = Capture::start(&net.sites.router, net.sites.wire)?;
    let dropped = gateways.grown(&net.a, "drop-no-sa-outbound", || gateways.unanswered(&[]))?;
    ensure!(dropped > 0, "what has no SA was not dropped for that");
    let seen = capture.finish()?;
    ensure!(seen.marked == 0 && seen.esp == 0, "something left without an SA");
    net.b.tool("ipseckey", &["flush"])?;
    manual_keys(net, "chacha20-poly1305")?;
    gateways.answered(&[])?;
    // No rule: in clear, by the stack.
    net.unprotect()?;
    let sealed = gateways.grown(&net.a, "sealed", || gateways.answered(&[]))?;
    ensure!(sealed == 0, "{sealed} packets were sealed without a rule");
    net.policy("encr_algs chacha20-poly1305")?;
    gateways.answered(&[])
}

/// The stack of a router drops packets with a wrong header checksum (RFC 1812 section 5.2.2), so they are left to it; the
/// same packet with the right one is sealed.
fn wrong_checksum(gateways: &Gateways) -> Result<()> {
    let Gateways { net, left, .. } = gateways;
    let octets = |mac: String| -> Result<Vec<u8>> {
        mac.split(':').map(|octet| u8::from_str_radix(octet, 16).context("a MAC address")).collect()
    };
    let ethernet = [octets(net.sites.a.mac("lan0")?)?, octets(left.mac("eth0")?)?, vec![0x08, 0]].concat();
    // An empty UDP datagram from 10.1.0.9 to 10.2.0.9, both ports 9.
    let sealed_with = |checksum: [u8; 2]| {
        let begin = [0x45, 0, 0, 28, 0, 0, 0x40, 0, 64, 17];
        let end = [10, 1, 0, 9, 10, 2, 0, 9, 0, 9, 0, 9, 0, 8, 0, 0];
        let frame = [&ethernet[..], &begin, &checksum, &end].concat();
        gateways.grown(&net.a, "sealed", || {
            replay(left, "eth0", &[frame])?;
            gateways.answered(&[])
        })
    };
    let sealed = sealed_with([0x26, 0xbd])?;
    ensure!(sealed == 2, "{sealed} of a datagram and a ping were sealed");
    let sealed = sealed_with([0x36, 0xbd])?;
    ensure!(sealed == 1, "a packet with a wrong checksum was sealed, or the ping was not: {sealed}");
    Ok(())
}

/// IPv6 within the same tunnel.
fn six(gateways: &Gateways, both: bool) -> Result<()> {
    let Gateways { net, left, right } = gateways;
    net.sites.add_ipv6()?;
    let nets = [(&net.sites.a, left, "2001:db8:a"), (&net.sites.b, right, "2001:db8:b")];
    for (gateway, host, prefix) in nets {
        gateway.sysctl("ipv6.conf.all.forwarding", "1")?;
        gateway.ip(&[
            &format!("address delete {prefix}::1/64 dev lo"),
            &format!("address add {prefix}::1/64 dev lan0 nodad"),
        ])?;
        host.ip(&[
            &format!("address add {prefix}::9/64 dev eth0 nodad"),
            &format!("route add default via {prefix}::1"),
        ])?;
    }
    // The routes went with the addresses that they name.
    net.sites.a.ip(&[&format!("route replace {NET_B6} via 2001:db8:1::1")])?;
    net.sites.b.ip(&[&format!("route replace {NET_A6} via 2001:db8:2::1")])?;
    for (suite, local, remote, first, second) in
        [(&net.a, NET_A6, NET_B6, "outbound", "inbound"), (&net.b, NET_B6, NET_A6, "inbound", "outbound")]
    {
        suite.tool("ipseckey", &["flush"])?;
        suite.policy(&rule(local, remote, "encr_algs chacha20-poly1305"))?;
        let add = |spi: u32, [src, dst, isrc, idst]: [&str; 4], direction: &str, key: &str| {
            let transform = transform("chacha20-poly1305", key);
            format!("add esp spi {spi:#x} src {src} dst {dst} {direction} isrc {isrc} idst {idst} {transform}\n")
        };
        let there = add(SPI_A_TO_B, [A, B, NET_A6, NET_B6], first, KEY_A_TO_B);
        suite.keys(&(there + &add(SPI_B_TO_A, [B, A, NET_B6, NET_A6], second, KEY_B_TO_A)))?;
    }
    let answered = |arguments: &[&str]| {
        let mut command = left.command("ping");
        let output = command.args(["-n", "-c", "1", "-W", "5"]).args(arguments).arg("2001:db8:b::9").output()?;
        anyhow::Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    // Until the kernel has looked for the neighbours, which takes the first packets.
    let start = Instant::now();
    while !answered(&[])?.contains("ttl=62") {
        ensure!(start.elapsed() < Duration::from_secs(20), "no answer in IPv6: {}", state(net));
    }
    let before = (net.a.counters()?, net.b.counters()?);
    let capture = Capture::start(&net.sites.router, net.sites.wire)?;
    transfer::tcp(left, right, "2001:db8:b::9".parse()?, 256 << 10, |_| {}).with_context(|| state(net))?;
    transfer::tcp(right, left, "2001:db8:a::9".parse()?, 256 << 10, |_| {}).with_context(|| state(net))?;
    nothing_in_clear(&capture.finish()?)?;
    for (before, after) in [(&before.0, net.a.counters()?), (&before.1, net.b.counters()?)] {
        let grown = |name: &str| counter(&after, name) - counter(before, name);
        let (sealed, opened) = (grown("shortcut-sealed"), grown("shortcut-opened"));
        ensure!(sealed > 100 && (opened > 100 || !both), "{sealed} sealed and {opened} opened by the shortcut");
    }
    for (hops, expected) in [("1", "From 2001:db8:a::1"), ("2", "Hop limit"), ("3", "ttl=62")] {
        let said = answered(&["-t", hops])?;
        ensure!(said.contains(expected), "hop limit {hops}: {said}\n{}", state(net));
    }
    Ok(())
}

/// What must not come in from the LAN does not, with the shortcut either.
fn refused(gateways: &Gateways) -> Result<()> {
    let Gateways { net, left, .. } = gateways;
    let sealed = |work: &dyn Fn() -> Result<()>| gateways.grown(&net.a, "sealed", work);
    // In clear from the other end of the tunnel: policy says that it must be protected.
    left.ip(&["address add 10.2.0.77/32 dev eth0"])?;
    let dropped = gateways.grown(&net.a, "drop-clear-inbound", || {
        ensure!(left.silent("10.1.0.1", &["-I", "10.2.0.77"])?, "a clear packet got an answer");
        Ok(())
    })?;
    ensure!(dropped > 0, "a clear packet that should be protected was let in");
    // A source whose way back is another interface, with strict reverse path filtering.
    left.ip(&["address add 10.1.0.200/32 dev eth0"])?;
    gateways.answered(&["-I", "10.1.0.200"])?;
    let a = &net.sites.a;
    a.ip(&["route add 10.1.0.200/32 dev wan0"])?;
    for interface in ["all", "lan0"] {
        a.sysctl(&format!("ipv4.conf.{interface}.rp_filter"), "1")?;
    }
    let spoofed = sealed(&|| gateways.unanswered(&["-I", "10.1.0.200"]))?;
    ensure!(spoofed == 0, "a packet from a source that is elsewhere was sealed");
    a.ip(&["route delete 10.1.0.200/32 dev wan0"])?;
    gateways.answered(&["-I", "10.1.0.200"])?;
    // A gateway that does not forward from this interface.
    a.sysctl("ipv4.conf.lan0.forwarding", "0")?;
    let forwarded = sealed(&|| gateways.unanswered(&[]))?;
    ensure!(forwarded == 0, "a packet was sealed that nobody was to forward");
    a.sysctl("ipv4.conf.lan0.forwarding", "1")?;
    gateways.answered(&[])
}

/// ARC-IN-06: strict reverse path filtering on every interface, and a firewall on both gateways that accepts nothing but what comes
/// out of a tunnel, on `ipsec0`, and what goes into one. Without the rule for `ipsec0` nothing passes; with the shortcut
/// the firewall is not asked, which is why nobody gets it unasked.
pub(super) fn firewall() -> Result<()> {
    let gateways = Gateways::new("nft", &[])?;
    let Gateways { net, left, right } = &gateways;
    for host in [&net.sites.a, &net.sites.b, &net.sites.router] {
        for interface in ["all", "default"] {
            host.sysctl(&format!("ipv4.conf.{interface}.rp_filter"), "1")?;
        }
    }
    let rules = |from_tunnel: &str| {
        format!(
            "flush ruleset; table inet filter {{\n\
             chain input {{ type filter hook input priority 0; policy drop;\n\
             iifname lo accept\niifname lan0 accept\n{from_tunnel}\n}}\n\
             chain forward {{ type filter hook forward priority 0; policy drop;\n\
             iifname lan0 oifname wan0 accept\n{from_tunnel}\n}}\n}}"
        )
    };
    let everywhere = |from_tunnel: &str| -> Result<()> {
        net.sites.a.nftables(&rules(from_tunnel))?;
        net.sites.b.nftables(&rules(from_tunnel))
    };
    everywhere("iifname ipsec0 accept")?;
    let capture = Capture::start(&net.sites.router, net.sites.wire)?;
    for (from, to, address) in [
        (left, right, RIGHT),
        (right, left, LEFT),
        (&net.sites.a, &net.sites.b, IpAddr::V4(Ipv4Addr::new(10, 2, 0, 1))),
    ] {
        transfer::tcp(from, to, address, 1 << 20, |_| {}).with_context(|| state(net))?;
    }
    nothing_in_clear(&capture.finish()?)?;
    everywhere("iifname ipsec0 ip protocol tcp accept")?;
    gateways.unanswered(&[])?;
    transfer::tcp(left, right, RIGHT, 1 << 20, |_| {}).context("TCP, which the firewall lets pass")?;
    everywhere("")?;
    gateways.unanswered(&[])?;
    gateways.shortcut(&net.a)?;
    gateways.shortcut(&net.b)?;
    // The packets that look for the neighbours go through the stack.
    everywhere("iifname ipsec0 accept")?;
    gateways.answered(&[])?;
    everywhere("")?;
    gateways.answered(&[]).context("the shortcut goes past the firewall")?;
    for suite in [&net.a, &net.b] {
        suite.tool("espadm", &["attach", "--no-lan", "lan0"])?;
        let shown = suite.tool("espadm", &["--json", "show"])?;
        ensure!(!shown.contains("\"both\""), "the shortcut is still there: {shown}");
    }
    gateways.unanswered(&[]).context("without the shortcut the firewall is asked again")
}
