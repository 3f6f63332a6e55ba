//! A router that passes on less than the links at the ends carry: what is sealed and may not be fragmented is answered
//! by it, and who sends learns the size that passes (RFC 4301 section 8.2); what may be is, and arrives in fragments.

use super::echo::datagrams;
use super::matrix::{Direction, Protection, Shape, transforms, transport, tunnel};
use super::topology::{A, A6, B, B6, TwoSites};
use super::xfrm::Kernel;
use crate::net::transfer;
use crate::suite::{Suite, drops};
use anyhow::{Context, Result, ensure};

/// Octets that the router passes on in one piece.
const NARROW: usize = 1400;

const BYTES: u64 = 512 << 10;

/// Shapes of which the packets that A seals may not be fragmented: IPv6 outside, or the DF bit is set.
const WHOLE: [(Shape, &str); 6] = [
    (tunnel(4, 4, true, false), ",df=set"),
    (tunnel(4, 6, true, false), ",df=set"),
    (tunnel(6, 4, true, false), ""),
    (tunnel(6, 6, true, false), ""),
    (transport(4, true, false), ""),
    (transport(6, true, false), ""),
];

/// TUN-09, TUN-10, TUN-11: both ends are ours.
pub(super) fn ours() -> Result<()> {
    let sites = narrowed()?;
    let (a, b) = (Suite::attach(&sites.lab, &sites.a, &["wan0"])?, Suite::attach(&sites.lab, &sites.b, &["wan0"])?);
    // Transport mode comes last: what it teaches the host about the peer's address stays in force for tunnels to it.
    for (shape, properties) in [(tunnel(4, 4, true, true), ",df=set")].into_iter().chain(WHOLE) {
        let protection = protection()?;
        define(&a, shape, properties)?;
        // That policy lets the error itself pass, or names it at all, is no reason not to learn from it.
        let errors = "{ ulp icmp type 3 dir both } pass { }\n{ ulp ipv6-icmp type 2 dir both } pass { }\n";
        a.policy(&(shape.rule(&protection.policy()) + errors))?;
        a.keys(&keys(&protection, shape))?;
        let ((here, there), (net, remote_net)) = (shape.outer(), shape.nets());
        let (name, policy) = (tunnel_name(shape), protection.policy());
        if shape.tunnel {
            // It may be there from the shape before.
            let _ = b.tool("espadm", &["tunnel", "delete", name]);
            b.tool("espadm", &["tunnel", "create", name, "-a", &format!("local={there},remote={here}{properties}")])?;
            let pattern = format!("tunnel {name} negotiate tunnel laddr {remote_net} raddr {net}");
            b.policy(&format!("{{ {pattern} }} ipsec {{ {policy} }}\n"))?;
        } else {
            b.policy(&format!("{{ laddr {there} raddr {here} }} ipsec {{ {policy} sa shared }}\n"))?;
        }
        // The same SAs; what goes out of one host comes into the other.
        let exchanged = |line: &str| match line.contains(" outbound ") {
            true => line.replace(" outbound ", " inbound "),
            false => line.replace(" inbound ", " outbound "),
        };
        let keys: Vec<String> = keys(&protection, shape).lines().map(exchanged).collect();
        b.keys(&(keys.join("\n") + "\n"))?;
        learned(&sites, &protection, shape, &[&a, &b]).with_context(|| protection.name(shape))?;
    }
    Ok(())
}

/// TUN-09, TUN-10, TUN-11: host B is the kernel, which also puts together what A lets the router cut.
pub(super) fn kernel() -> Result<()> {
    let sites = narrowed()?;
    let a = Suite::attach(&sites.lab, &sites.a, &["wan0"])?;
    let set_up = |shape: Shape, properties: &str| -> Result<Protection> {
        let protection = protection()?;
        define(&a, shape, properties)?;
        a.policy(&shape.rule(&protection.policy()))?;
        a.keys(&keys(&protection, shape))?;
        Kernel::new(protection, shape).configure(&sites.b)?;
        Ok(protection)
    };
    // First: what is learnt about the way of an SPI is kept.
    for shape in [tunnel(4, 4, false, false), tunnel(4, 6, true, false)] {
        let protection = set_up(shape, "")?;
        forget(&sites)?;
        let (_, there) = shape.inner();
        datagrams(&sites.a, &sites.b, there, &[1360, 1391, 1398])
            .with_context(|| format!("fragments, {}", protection.name(shape)))?;
        println!("{}: put together", protection.name(shape));
    }
    for (shape, properties) in WHOLE {
        let protection = set_up(shape, properties)?;
        learned(&sites, &protection, shape, &[&a]).with_context(|| protection.name(shape))?;
    }
    Ok(())
}

fn narrowed() -> Result<TwoSites> {
    let sites = TwoSites::new("narrow")?;
    sites.add_ipv6()?;
    // Without `lock` a router goes by the link.
    let routes = [(A, "to-a"), (A6, "to-a"), (B, "to-b"), (B6, "to-b")]
        .map(|(address, link)| format!("route replace {address} dev {link} mtu lock {NARROW}"));
    sites.router.ip(&routes.each_ref().map(String::as_str))?;
    Ok(sites)
}

fn protection() -> Result<Protection> {
    let found = transforms().into_iter().find(|transform| transform.policy() == "encr_algs chacha20-poly1305(256)");
    found.map(Protection::esp).context("ChaCha20-Poly1305 is gone")
}

fn tunnel_name(shape: Shape) -> &'static str {
    if shape.outer6 { "vpn6" } else { "vpn4" }
}

/// The tunnel of host A, if there is one, anew.
fn define(a: &Suite, shape: Shape, properties: &str) -> Result<()> {
    if !shape.tunnel {
        return Ok(());
    }
    let ((here, there), name) = (shape.outer(), tunnel_name(shape));
    // It may be there from the shape before.
    let _ = a.tool("espadm", &["tunnel", "delete", name]);
    a.tool("espadm", &["tunnel", "create", name, "-a", &format!("local={here},remote={there}{properties}")])?;
    Ok(())
}

fn keys(protection: &Protection, shape: Shape) -> String {
    let encap = if shape.udp { "encap udp nat_lport 4500 nat_rport 4500" } else { "" };
    let further = format!("replay 1024 {encap}");
    let sas = [Direction::Out, Direction::In].map(|direction| protection.sas(shape, direction, &further));
    format!("flush\n{}", sas.concat())
}

/// What the hosts have learnt about the way is gone.
fn forget(sites: &TwoSites) -> Result<()> {
    for host in [&sites.a, &sites.b] {
        for family in ["-4", "-6"] {
            host.run("ip", &[family, "route", "flush", "cache"])?;
        }
    }
    Ok(())
}

/// Packets that may not be fragmented: the router answers the first, we the next with the size that passes when sealed,
/// and one of that size arrives. Then TCP both ways.
fn learned(sites: &TwoSites, protection: &Protection, shape: Shape, ours: &[&Suite]) -> Result<()> {
    forget(sites)?;
    let (here, there) = shape.inner();
    let target = there.to_string();
    // The payload of an echo that fits into 1500 octets, and that which fits the narrow link: ChaCha20-Poly1305 pads to
    // four octets, and so is the difference.
    let fits = protection.largest(shape) - (1500 - NARROW);
    let ping = |size: usize| sites.a.ping(&target, &["-M", "do", "-s", &size.to_string()]);
    let silent = || sites.a.silent(&target, &["-M", "do", "-s", &(fits + 100).to_string()]);
    ensure!(silent()? && silent()?, "{} octets passed the narrow link", fits + 100);
    let limit = fits + 8 + if shape.inner6 { 40 } else { 20 };
    let route = sites.a.run("ip", &["route", "get", &target])?;
    ensure!(route.contains(&format!("mtu {limit}")), "the host was not told {limit}: {}", route.trim());
    ensure!(ping(fits)?, "{fits} octets do not pass");
    let before: Vec<_> = ours.iter().map(|suite| suite.counters()).collect::<Result<_>>()?;
    transfer::tcp(&sites.a, &sites.b, there, BYTES, |_| {}).context("TCP from A")?;
    transfer::tcp(&sites.b, &sites.a, here, BYTES, |_| {}).context("TCP to A")?;
    for (suite, before) in ours.iter().zip(&before) {
        let lost = drops(before, &suite.counters()?);
        ensure!(lost.is_empty(), "packets were dropped: {}", lost.join(", "));
    }
    println!("{}: learned {limit}", protection.name(shape));
    Ok(())
}
