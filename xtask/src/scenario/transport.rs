//! Transport mode that the daemons negotiate for a host rule, IPv4 and IPv6. strongSwan's ESP in user space knows tunnel
//! mode only, so the second opinion is tshark's: it gets the keys and decodes the negotiation and every packet.

use super::manual::nothing_in_clear;
use super::topology::{A, A6, B, B6, TwoSites};
use crate::net::capture::{Capture, Seen};
use crate::net::transfer;
use crate::suite::{Suite, text};
use crate::tshark;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::path::Path;

const PRESHARED: &str = "{ label \"hosts\" key \"a secret of the tests, shared by two\" }\n";

/// Everything between the two hosts, in both families.
fn policy([here, there]: [&str; 2], [here6, there6]: [&str; 2]) -> String {
    [(here, there), (here6, there6)]
        .map(|(laddr, raddr)| {
            format!("{{ laddr {laddr} raddr {raddr} }} ipsec {{ encr_algs aes-gcm(256) sa shared }}\n")
        })
        .concat()
}

fn config([here, there]: [&str; 2], [here6, there6]: [&str; 2]) -> String {
    format!(
        "ikesa_xform {{ encr_alg aes-gcm(256) auth_alg sha256 oakley_group 31 }}\n\
         {{ label \"hosts\" auth_method preshared\n\
         local_addr {here} local_addr {here6} remote_addr {there} remote_addr {there6} }}\n"
    )
}

pub(super) fn negotiated() -> Result<()> {
    let sites = TwoSites::new("transport")?;
    sites.add_ipv6()?;
    let side = |host, v4, v6| -> Result<_> {
        let suite = Suite::attach(&sites.lab, host, &["wan0"])?;
        suite.policy(&policy(v4, v6))?;
        let daemon = suite.daemon_with(&config(v4, v6), PRESHARED, &["--admin-privilege", "keymat"])?;
        Ok((suite, daemon))
    };
    let (a, a_daemon) = side(&sites.a, [A, B], [A6, B6])?;
    let (b, b_daemon) = side(&sites.b, [B, A], [B6, A6])?;
    for [here, there] in [[A, B], [A6, B6]] {
        let capture = Capture::start(&sites.router, "to-a")?;
        let stats = |suite: &Suite| suite.tool("espadm", &["stats"]).unwrap_or_default();
        let logs = || format!("A:\n{}\n{}\nB:\n{}\n{}", stats(&a), a_daemon.log_end(), stats(&b), b_daemon.log_end());
        // Full size both ways: an answer to a packet that is too big lowers what the host sends to the very address that
        // the sealed packets go to.
        transfer::tcp(&sites.a, &sites.b, there.parse()?, 4 << 20, |_| {}).with_context(logs)?;
        transfer::tcp(&sites.b, &sites.a, here.parse()?, 4 << 20, |_| {}).with_context(logs)?;
        ensure!(sites.a.ping(there, &[])?, "no answer to a ping\n{}", logs());
        let seen = capture.finish()?;
        nothing_in_clear(&seen)?;
        ensure!(seen.esp_in_udp == 0, "{} packets were encapsulated, and there is no NAT", seen.esp_in_udp);
        let ends = |sa: &Value| [text(sa, "src"), text(sa, "dst")].contains(&here);
        let sas: Vec<Value> = b.sas()?.into_iter().filter(ends).collect();
        let right = sas.len() == 2 && sas.iter().all(|sa| text(sa, "mode") == "transport");
        ensure!(right, "no pair in transport mode: {sas:?}");
        decoded(&seen, &a, &sites.lab.directory().join(format!("decoded-{}", here.replace(':', "-"))))?;
    }
    Ok(())
}

/// tshark, which has the keys of `suite`, finds USE_TRANSPORT_MODE in both IKE_AUTH messages, and in every ESP packet what
/// was sent, with a right checksum. It does not know 64-bit sequence numbers, so it cannot judge the ICV.
fn decoded(seen: &Seen, suite: &Suite, profile: &Path) -> Result<()> {
    tshark::Keys { ike: ike_keys(suite)?, esp: esp_keys(suite)? }.write(profile)?;
    let file = profile.join("wire.pcap");
    tshark::accept(seen, &file, 4)?;
    let count = |filter: &str| tshark::count_decoded(profile, &file, filter);
    let asked = count("isakmp.notify.msgtype == 16391")?;
    ensure!(asked == 2, "USE_TRANSPORT_MODE is in {asked} messages, not in request and answer");
    let (esp, right) = (count("esp")?, count("esp && (tcp.checksum.status == Good || icmp || icmpv6)")?);
    println!("tshark decodes {right} of {esp} ESP packets");
    ensure!(esp > 1000 && right == esp, "tshark decodes {right} of {esp} ESP packets");
    Ok(())
}

fn ike_keys(suite: &Suite) -> Result<Vec<String>> {
    let sas: Vec<Value> = serde_json::from_str(&suite.tool("ikeadm", &["--json", "dump", "ikesa"])?)?;
    let line = |sa: &Value| {
        let keys = sa.get("keys").and_then(Value::as_array)?;
        let key = |name| keys.iter().find(|key| text(key, "name") == name).map(|key| text(key, "value"));
        let (initiator, responder) = (text(sa, "spi_initiator"), text(sa, "spi_responder"));
        Some(format!(
            "{initiator},{responder},{},{},\"AES-GCM-256 with 16 octet ICV [RFC5282]\",,,\"NONE [RFC4306]\"",
            key("SK_ei")?,
            key("SK_er")?
        ))
    };
    sas.iter().map(|sa| line(sa).context("in.ikev2d does not show its keys")).collect()
}

fn esp_keys(suite: &Suite) -> Result<Vec<String>> {
    let sas: Vec<Value> = serde_json::from_str(&suite.tool("ipseckey", &["--json", "dump"])?)?;
    let line = |sa: &Value| {
        let (key, _bits) = text(sa, "encrkey").split_once('/').context("ipseckey does not show its keys")?;
        let family = if text(sa, "src").contains(':') { "IPv6" } else { "IPv4" };
        let spi = text(sa, "spi");
        Ok(format!(
            "\"{family}\",\"*\",\"*\",\"{spi}\",\"AES-GCM with 16 octet ICV [RFC4106]\",\"0x{key}\",\"NULL\",\"\""
        ))
    };
    sas.iter().map(line).collect()
}
