//! ESP against scapy, in both directions: what it seals we open, what we seal it opens, for every combination of
//! algorithm, mode, address family and sequence number size.

use super::topology::{
    A, A6, B, B6, INNER_A, INNER_A6, INNER_B, INNER_B6, KEY_A_TO_B, KEY_B_TO_A, NET_A, NET_A6, NET_B, NET_B6,
    SHORT_KEY_A_TO_B, SHORT_KEY_B_TO_A, SPI_A_TO_B, SPI_B_TO_A, TwoSites,
};
use crate::scapy;
use crate::suite::Suite;
use anyhow::{Context, Result, ensure};
use serde_json::json;
use std::fs;

/// scapy takes milliseconds for a packet: all sizes around a block and a word, and some up to the largest.
fn sizes(largest: usize) -> Vec<usize> {
    let ends = largest.saturating_sub(40)..=largest;
    (0..=80).chain((97..largest).step_by(61)).chain(ends).collect()
}

/// What differs between the cases.
struct Case {
    algorithm: Algorithm,
    tunnel: bool,
    outer6: bool,
    inner6: bool,
    esn: bool,
}

#[derive(Clone, Copy)]
struct Algorithm {
    ours: &'static str,
    scapys: &'static str,
    policy: &'static str,
    /// Key and salt of what A sends and of what B sends.
    keys: [&'static str; 2],
}

const CHACHA20: Algorithm = Algorithm {
    ours: "chacha20-poly1305",
    scapys: "CHACHA20-POLY1305",
    policy: "encr_algs chacha20-poly1305",
    keys: [KEY_A_TO_B, KEY_B_TO_A],
};
const AES_GCM_128: Algorithm = Algorithm {
    ours: "aes-gcm",
    scapys: "AES-GCM",
    policy: "encr_algs aes-gcm(128)",
    keys: [SHORT_KEY_A_TO_B, SHORT_KEY_B_TO_A],
};
const AES_GCM_256: Algorithm =
    Algorithm { ours: "aes-gcm", scapys: "AES-GCM", policy: "encr_algs aes-gcm(256)", keys: [KEY_A_TO_B, KEY_B_TO_A] };

pub(super) fn tunnel() -> Result<()> {
    for algorithm in [CHACHA20, AES_GCM_128, AES_GCM_256] {
        for esn in [false, true] {
            run(&Case { algorithm, tunnel: true, outer6: false, inner6: false, esn })?;
        }
    }
    Ok(())
}

pub(super) fn tunnel_ipv6() -> Result<()> {
    for (outer6, inner6) in [(true, true), (true, false), (false, true)] {
        run(&Case { algorithm: CHACHA20, tunnel: true, outer6, inner6, esn: false })?;
        run(&Case { algorithm: AES_GCM_128, tunnel: true, outer6, inner6, esn: true })?;
    }
    Ok(())
}

pub(super) fn transport() -> Result<()> {
    for algorithm in [CHACHA20, AES_GCM_128] {
        for six in [false, true] {
            run(&Case { algorithm, tunnel: false, outer6: six, inner6: six, esn: six })?;
        }
    }
    Ok(())
}

fn run(case: &Case) -> Result<()> {
    let (local, remote) = if case.outer6 { (A6, B6) } else { (A, B) };
    let (inner_local, inner_remote) = match (case.tunnel, case.inner6) {
        (false, _) => (local.to_owned(), remote.to_owned()),
        (true, true) => (INNER_A6.to_string(), INNER_B6.to_string()),
        (true, false) => (INNER_A.to_string(), INNER_B.to_string()),
    };
    let (net, remote_net) = if case.inner6 { (NET_A6, NET_B6) } else { (NET_A, NET_B) };
    let sites = TwoSites::new("scapy")?;
    sites.add_ipv6()?;
    let a = Suite::attach(&sites.lab, &sites.a, &["wan0"])?;
    let [key_out, key_in] = case.algorithm.keys;
    let policy = case.algorithm.policy;
    if case.tunnel {
        a.tunnel("vpn0", local, remote)?;
        a.policy(&format!("{{ tunnel vpn0 negotiate tunnel laddr {net} raddr {remote_net} }} ipsec {{ {policy} }}"))?;
    } else {
        a.policy(&format!("{{ laddr {local} raddr {remote} }} ipsec {{ {policy} sa shared }}"))?;
    }
    let add = |spi: u32, from: &str, to: &str, inner: (&str, &str), direction: &str, key: &str| {
        let inner = if case.tunnel { format!("isrc {} idst {}", inner.0, inner.1) } else { String::new() };
        let esn = if case.esn { "esn" } else { "" };
        let algorithm = case.algorithm.ours;
        format!(
            "add esp spi {spi} src {from} dst {to} {direction} {inner} encr_alg {algorithm} encrkey {key} replay 64 {esn}\n"
        )
    };
    let outbound = add(SPI_A_TO_B, local, remote, (net, remote_net), "outbound", key_out);
    let inbound = add(SPI_B_TO_A, remote, local, (remote_net, net), "inbound", key_in);
    a.keys(&(outbound + &inbound))?;

    let header = if case.inner6 { 48 } else { 28 };
    let largest = limit(case) - header;
    let case_json = json!({
        "interface": "wan0", "gateway": sites.router.mac("to-b")?,
        "local": remote, "remote": local,
        "inner_local": inner_remote, "inner_remote": inner_local,
        "tunnel": case.tunnel, "esn": case.esn, "algorithm": case.algorithm.scapys,
        "spi_out": SPI_B_TO_A, "key_out": key_in, "spi_in": SPI_A_TO_B, "key_in": key_out,
        "sizes": sizes(largest),
    });
    let mut peer = sites.b.command(scapy::ensure()?);
    let script = sites.lab.directory().join("esp_peer.py");
    fs::write(&script, include_str!("esp_peer.py"))?;
    let output = crate::workspace::run_text(peer.arg(&script).arg(case_json.to_string()))
        .with_context(|| a.tool("espadm", &["stats"]).unwrap_or_default())?;
    println!(
        "{} {} outer {} inner {} esn {}: {}",
        case.algorithm.policy,
        if case.tunnel { "tunnel" } else { "transport" },
        if case.outer6 { 6 } else { 4 },
        if case.inner6 { 6 } else { 4 },
        case.esn,
        output.trim()
    );
    ensure!(output.contains("answered"), "the peer did not finish");
    Ok(())
}

/// The largest packet that fits when sealed into 1500 octets: outer header, SPI and sequence number, IV, padding to four
/// octets with its two, ICV. In transport mode the header of the packet is the outer one.
fn limit(case: &Case) -> usize {
    let outer = if case.outer6 { 40 } else { 20 };
    let sealed = ((1500 - outer - 8 - 8 - 16) & !3) - 2;
    if case.tunnel { sealed } else { sealed + outer }
}
