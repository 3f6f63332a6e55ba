//! What the kernel's own ESP and AH (xfrm) seal and a router on the way, or the kernel itself, cuts: it is made whole
//! here before it is opened (RFC 4303 section 3.4.1, RFC 4302 section 3.4.1).

use super::echo::datagrams;
use super::fragments::slow_path;
use super::matrix::{AUTHENTICATORS, Direction, Protection, Shape, transforms, transport, tunnel};
use super::topology::{A, A6, B, B6, TwoSites};
use super::xfrm::{Kernel, decapsulator};
use crate::net::transfer;
use crate::suite::{Suite, counter, drops};
use anyhow::{Context, Result, ensure};

/// The router passes on no more than this to host A; it cuts IPv4 only.
const NARROW: &str = "route replace 198.51.100.0/24 dev to-a src 198.51.100.1 mtu lock 1000";

/// Payloads of datagrams in tunnel mode: in one piece, then sealed in one piece and cut, then cut by the kernel before
/// each part is sealed, and cut again.
const TUNNEL: [usize; 7] = [64, 900, 1200, 1391, 1398, 2000, 2800];

/// In transport mode the kernel seals what is whole, and cuts after that; the last makes 3506 octets nearly full.
const TRANSPORT: [usize; 7] = [64, 900, 1480, 1600, 2000, 3001, 3400];

const BYTES: u64 = 32 << 10;

/// ESP-IN-01, AH-08: from the kernel's own, in both modes, IPv4 and IPv6, and in UDP.
pub(super) fn inbound() -> Result<()> {
    let sites = TwoSites::new("kernfrag")?;
    sites.add_ipv6()?;
    let ours = Suite::attach(&sites.lab, &sites.a, &["wan0"])?;
    ours.tunnel("vpn4", A, B)?;
    ours.tunnel("vpn6", A6, B6)?;
    let _encapsulation = [decapsulator(&sites.b, B)?, decapsulator(&sites.b, B6)?];
    sites.router.ip(&[NARROW])?;
    // What the kernel sends may be cut.
    sites.b.sysctl("ipv4.ip_no_pmtu_disc", "1")?;
    let _process = slow_path(&ours, sites.lab.directory())?;
    let chacha20 = transforms().into_iter().find(|transform| transform.cipher.ours == "chacha20-poly1305");
    let esp = Protection::esp(chacha20.context("ChaCha20-Poly1305 is gone")?);
    let [_, sha256, ..] = &AUTHENTICATORS;
    let ah = Protection { ah: Some(sha256), esp: None };
    for (protection, shape) in [
        (esp, tunnel(4, 4, true, false)),
        (esp, tunnel(4, 6, true, false)),
        (esp, tunnel(4, 4, false, true)),
        (esp, transport(4, true, false)),
        (esp, transport(4, false, true)),
        (esp, transport(6, true, false)),
        (ah, tunnel(4, 4, true, false)),
        (ah, transport(4, true, false)),
        (ah, transport(6, false, false)),
    ] {
        one(&sites, &ours, protection, shape).with_context(|| protection.name(shape))?;
    }
    Ok(())
}

fn one(sites: &TwoSites, ours: &Suite, protection: Protection, shape: Shape) -> Result<()> {
    ours.policy(&shape.rule(&protection.policy()))?;
    let encap = if shape.udp { "encap udp nat_lport 4500 nat_rport 4500" } else { "" };
    let sas = |direction| protection.sas(shape, direction, &format!("replay 1024 {encap}"));
    ours.keys(&format!("flush\n{}{}", sas(Direction::Out), sas(Direction::In)))?;
    // The bit against fragmentation is not that of the packet inside, which in IPv6 counts as set.
    let further = if shape.tunnel { "flag nopmtudisc" } else { "" };
    Kernel { further, ..Kernel::new(protection, shape) }.configure(&sites.b)?;
    let before = ours.counters()?;
    let (here, _) = shape.inner();
    let sizes = if shape.tunnel { TUNNEL } else { TRANSPORT };
    let sent = datagrams(&sites.b, &sites.a, here, &sizes);
    let after = ours.counters()?;
    let lost = drops(&before, &after);
    let grown = |name: &str| counter(&after, name) - counter(&before, name);
    let (handed, whole) = (grown("slow-path"), grown("reassembled"));
    sent.with_context(|| format!("{handed} fragments made {whole} packets; dropped: {lost:?}"))?;
    ensure!(lost.is_empty(), "packets were dropped: {lost:?}");
    // All but the first two were cut, in IPv6 all but the first three.
    let least = if shape.outer6 { 4 } else { 5 };
    ensure!(whole >= least && handed >= 2 * whole, "{handed} fragments made {whole} packets");
    // A burst may overflow a ring on a slow machine, which TCP repairs.
    transfer::tcp(&sites.b, &sites.a, here, BYTES, |_| {}).context("TCP from the kernel")?;
    println!("{}: {handed} fragments made {whole} packets", protection.name(shape));
    Ok(())
}
