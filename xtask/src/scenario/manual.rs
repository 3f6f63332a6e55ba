//! Tunnels with keys from ipseckey: no daemon, so what fails here is the data path or its tools.

use super::topology::{INNER_A, INNER_B, KEY_A_TO_B, KEY_B_TO_A, Protected};
use crate::net::capture::{Capture, Seen};
use crate::net::transfer;
use crate::suite::{Suite, counter, drops, number, text};
use anyhow::{Context, Result, bail, ensure};
use std::time::{Duration, Instant};

/// The transform of a manual SA with a name that the tools know.
fn transform(name: &str, key: &str) -> String {
    format!("encr_alg {name} encrkey {key} replay 1024")
}

/// Loads SAs for a tunnel on both hosts; `name` is one that ipseckey knows.
pub(super) fn manual_keys(net: &Protected, name: &str) -> Result<()> {
    net.keys(&transform(name, KEY_A_TO_B), &transform(name, KEY_B_TO_A))
}

pub(super) fn chacha20() -> Result<()> {
    let net = Protected::new("chacha", "encr_algs chacha20-poly1305", &[])?;
    through_the_tunnel(&net, "chacha20-poly1305")
}

pub(super) fn aes_gcm() -> Result<()> {
    let net = Protected::new("gcm", "encr_algs aes-gcm(256)", &[])?;
    through_the_tunnel(&net, "aes-gcm")
}

pub(super) fn generic_xdp() -> Result<()> {
    let net = Protected::new("generic", "encr_algs chacha20-poly1305", &["--mode", "generic"])?;
    through_the_tunnel(&net, "chacha20-poly1305")
}

pub(super) fn xdp_exit() -> Result<()> {
    let net = Protected::new("exit", "encr_algs chacha20-poly1305", &["--exit", "xdp"])?;
    through_the_tunnel(&net, "chacha20-poly1305")
}

pub(super) fn strict_rp_filter() -> Result<()> {
    let net = Protected::new("rp", "encr_algs chacha20-poly1305", &[])?;
    for host in [&net.sites.a, &net.sites.b, &net.sites.router] {
        for interface in ["all", "default"] {
            host.sysctl(&format!("ipv4.conf.{interface}.rp_filter"), "1")?;
        }
    }
    through_the_tunnel(&net, "chacha20-poly1305")
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
        same_counts(&net.a, &net.b)?;
    }
    Ok(())
}

/// Octets of an echo request that just fit: 1446 of an inner packet at MTU 1500, less IPv4 and ICMP header.
const LARGEST_ECHO: u32 = 1446 - 28;

/// Ping and TCP at full MTU through the tunnel, nothing in clear on the wire, nothing lost, and the same flow in clear
/// once the policy is gone.
fn through_the_tunnel(net: &Protected, algorithm: &str) -> Result<()> {
    ensure!(!net.sites.a.ping(&INNER_B.to_string(), &[])?, "a ping was answered although there is no SA");
    let before = (net.a.counters()?, net.b.counters()?);
    let unsealed = counter(&before.0, "drop-no-sa-outbound");
    ensure!(unsealed > 0, "the packet that had no SA was not counted as dropped for that");

    manual_keys(net, algorithm)?;
    let capture = Capture::start(&net.sites.router, "to-a")?;
    ensure!(net.sites.a.ping(&INNER_B.to_string(), &[])?, "no answer through the tunnel: {}", state(net));
    let there = transfer::tcp(&net.sites.a, &net.sites.b, INNER_B, 32 << 20, |_| {}).with_context(|| state(net))?;
    let back = transfer::tcp(&net.sites.b, &net.sites.a, INNER_A, 32 << 20, |_| {}).with_context(|| state(net))?;
    let seen = capture.finish()?;
    println!("{algorithm}: {:.2} and {:.2} Gbit/s, {} ESP frames", there.gigabits(), back.gigabits(), seen.esp);
    nothing_in_clear(&seen)?;
    let after = (net.a.counters()?, net.b.counters()?);
    let lost = [drops(&before.0, &after.0), drops(&before.1, &after.1)].concat();
    ensure!(lost.is_empty(), "packets were dropped: {}", lost.join(", "));
    same_counts(&net.a, &net.b)?;

    net.unprotect()?;
    let capture = Capture::start(&net.sites.router, "to-a")?;
    transfer::tcp(&net.sites.a, &net.sites.b, INNER_B, 1 << 20, |_| {}).context("in clear, without policy")?;
    let seen = capture.finish()?;
    ensure!(seen.marked > 0 && seen.esp == 0, "without policy the capture sees {} marked frames", seen.marked);
    Ok(())
}

/// What the capture saw has to be ESP and no octet of the flow.
pub(super) fn nothing_in_clear(seen: &Seen) -> Result<()> {
    ensure!(seen.missed == 0, "the capture missed {} frames", seen.missed);
    ensure!(seen.marked == 0 && seen.tcp == 0, "{} frames of the flow were in clear", seen.marked.max(seen.tcp));
    ensure!(seen.esp + seen.esp_in_udp > 0, "nothing was protected in {} frames", seen.frames);
    Ok(())
}

/// Packets that one host sealed with an SA are those that the other opened with it, in both directions.
fn same_counts(a: &Suite, b: &Suite) -> Result<()> {
    // The last acknowledgement may still be on its way.
    let start = Instant::now();
    loop {
        let (here, there) = (counts(a)?, counts(b)?);
        if !here.is_empty() && here == there {
            return Ok(());
        }
        if start.elapsed() > Duration::from_secs(2) {
            bail!("packets and octets by SA differ: {here:?} and {there:?}");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn counts(suite: &Suite) -> Result<Vec<(String, u64, u64)>> {
    let mut counts: Vec<_> = suite
        .sas()?
        .iter()
        .map(|sa| (text(sa, "spi").to_owned(), number(sa, "packets"), number(sa, "bytes")))
        .collect();
    counts.sort();
    Ok(counts)
}

/// What both hosts have counted, for an error message.
fn state(net: &Protected) -> String {
    let show = |suite: &Suite| {
        let text = suite.tool("espadm", &["stats"]).unwrap_or_else(|error| format!("{error:#}"));
        format!("{}:\n{text}", suite.host().name())
    };
    format!("{}\n{}", show(&net.a), show(&net.b))
}
