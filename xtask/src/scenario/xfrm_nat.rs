//! Transport mode through a NAT against the kernel's own ESP (xfrm), keys by hand, which know IPv4 addresses behind a NAT
//! only: the kernel computes checksums with the addresses that it knows, and believes what comes out of ESP in UDP; we
//! repair those that arrive (RFC 3948 section 3.1.2).

use super::manual::nothing_in_clear;
use super::matrix::{Direction, Protection, transforms, transport};
use super::nat_transport::traffic;
use super::topology::{A, B, TwoSites};
use super::xfrm::{Kernel, decapsulator, difference, kernel_errors};
use crate::net::capture::Capture;
use crate::suite::{Suite, drops};
use anyhow::{Context, Result, ensure};
use std::net::IpAddr;

/// The router, as host A sees it.
const TO_A: &str = "198.51.100.1";
/// The router, as host B sees it.
const TO_B: &str = "203.0.113.1";

/// What the NAT makes of the port of the host behind it.
const PORT: u16 = 24_500;

const BYTES: u64 = 128 << 10;

/// UDP-04 against the kernel's own, which is outside first and then behind the NAT.
pub(super) fn either_side() -> Result<()> {
    for ours_behind in [true, false] {
        let sites = TwoSites::new(if ours_behind { "kernnat" } else { "kernnat2" })?;
        let ours = Suite::attach(&sites.lab, &sites.a, &["wan0"])?;
        let name = if ours_behind { "we are behind the NAT" } else { "the kernel is behind the NAT" };
        one(&sites, &ours, ours_behind).context(name)?;
        println!("{name}: passed");
    }
    Ok(())
}

fn one(sites: &TwoSites, ours: &Suite, ours_behind: bool) -> Result<()> {
    let shape = transport(4, true, true);
    let chacha20 = transforms().into_iter().find(|transform| transform.cipher.ours == "chacha20-poly1305");
    let protection = Protection::esp(chacha20.context("ChaCha20-Poly1305 is gone")?);
    // What we call the kernel, what the kernel calls us, and what we know of the NAT.
    let (peer, kernel, nat) = if ours_behind {
        sites.router.translate("to-b", A, &format!("{TO_B}:{PORT}"))?;
        let kernel = Kernel { ends: [TO_B, B], port: PORT, ..Kernel::new(protection, shape) };
        (B, kernel, format!("nat_loc {TO_B} nat_lport 4500 nat_rport 4500"))
    } else {
        sites.router.translate("to-a", B, &format!("{TO_A}:{PORT}"))?;
        (TO_A, Kernel::new(protection, shape), format!("nat_rem {B} nat_lport 4500 nat_rport {PORT}"))
    };
    kernel.configure(&sites.b)?;
    let _encapsulation = decapsulator(&sites.b, B)?;
    ours.policy(&shape.rule(&protection.policy()).replace(B, peer))?;
    let sas = |direction| {
        let known = protection.sas(shape, direction, "replay 1024 encap udp").replace(B, peer);
        known.replace("encap udp", &format!("encap udp {nat}"))
    };
    ours.keys(&format!("flush\n{}{}", sas(Direction::Out), sas(Direction::In)))?;
    let (before, errors) = (ours.counters()?, kernel_errors(&sites.b)?);
    let capture = Capture::start(&sites.router, "to-b")?;
    let address = |text: &str| text.parse::<IpAddr>().with_context(|| format!("the address {text}"));
    let carried = if ours_behind {
        traffic([&sites.a, &sites.b], [address(A)?, address(B)?, address(TO_B)?], BYTES)
    } else {
        traffic([&sites.b, &sites.a], [address(B)?, address(A)?, address(TO_A)?], BYTES)
    };
    let seen = capture.finish()?;
    let (after, now) = (ours.counters()?, kernel_errors(&sites.b)?);
    let lost = drops(&before, &after);
    carried.with_context(|| format!("dropped by us: {lost:?}; by the kernel: [{}]", difference(&errors, &now)))?;
    nothing_in_clear(&seen)?;
    ensure!(seen.esp == 0 && seen.esp_in_udp > 0, "{} ESP packets not in UDP, {} in it", seen.esp, seen.esp_in_udp);
    ensure!(lost.is_empty(), "packets were dropped: {lost:?}");
    ensure!(now == errors, "the kernel dropped packets: {}", difference(&errors, &now));
    Ok(())
}
