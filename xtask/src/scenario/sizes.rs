//! Packets that are longer than what the way takes: own fragments in transport mode, packets that may be cut and those that
//! may not.

use super::fragments::slow_path;
use super::manual::{manual_keys, state};
use super::topology::{A, A6, B, B6, KEY_A_TO_B, KEY_B_TO_A, Protected, SPI_A_TO_B, SPI_B_TO_A};
use crate::net::Host;
use crate::net::capture::{Capture, Seen};
use crate::suite::{counter, drops};
use anyhow::{Context, Result, ensure};
use std::net::UdpSocket;
use std::time::Duration;

/// ESP-FMT-12, AH-08, ARC-FRG-01: what the host has cut itself is made whole, protected in one piece, and cut again, as the
/// other end sees when it makes it whole. Nothing of it is in clear, and without somebody to do it nothing leaves.
pub(super) fn own_fragments() -> Result<()> {
    let net = Protected::new("ownfrag", "encr_algs chacha20-poly1305", &[])?;
    net.sites.add_ipv6()?;
    let esp = |key| format!("encr_alg chacha20-poly1305 encrkey {key} replay 1024");
    let ah = |octet: &str| format!("auth_alg hmac-sha256 authkey {} replay 1024", octet.repeat(32));
    for (name, policy, [a, b], protocol, keys) in [
        ("ESP", "encr_algs chacha20-poly1305", [A, B], "esp", [esp(KEY_A_TO_B), esp(KEY_B_TO_A)]),
        ("ESP, IPv6", "encr_algs chacha20-poly1305", [A6, B6], "esp", [esp(KEY_A_TO_B), esp(KEY_B_TO_A)]),
        ("AH", "auth_algs hmac-sha256", [A, B], "ah", [ah("11"), ah("22")]),
    ] {
        for (suite, [own, peer], [first, second]) in
            [(&net.a, [a, b], ["outbound", "inbound"]), (&net.b, [b, a], ["inbound", "outbound"])]
        {
            suite.policy(&format!("{{ laddr {own} raddr {peer} }} ipsec {{ {policy} sa shared }}\n"))?;
            let [there, back] = &keys;
            suite.keys(&format!(
                "flush\nadd {protocol} spi {SPI_A_TO_B:#x} src {a} dst {b} {first} {there}\n\
                 add {protocol} spi {SPI_B_TO_A:#x} src {b} dst {a} {second} {back}\n"
            ))?;
        }
        one_transport(&net, [a, b]).with_context(|| format!("{name}: {}", state(&net)))?;
    }
    Ok(())
}

fn socket(host: &Host, address: &str) -> Result<UdpSocket> {
    let socket = host.within(|| UdpSocket::bind((address, 4800)).context("a socket"))?;
    socket.set_read_timeout(Some(Duration::from_secs(15)))?;
    Ok(socket)
}

fn one_transport(net: &Protected, [a, b]: [&str; 2]) -> Result<()> {
    let ping = |size: &str| net.sites.a.ping(b, &["-M", "dont", "-s", size]);
    ensure!(ping("100")?, "no answer");
    let capture = Capture::start(&net.sites.router, "to-a")?;
    let before = net.a.counters()?;
    ensure!(net.sites.a.silent(b, &["-M", "dont", "-s", "2000"])?, "an answer, and nobody makes fragments whole");
    let after = net.a.counters()?;
    ensure!(drops(&before, &after) == ["drop-fragment +2"], "{:?}", drops(&before, &after));
    let processes = [&net.a, &net.b].map(|suite| slow_path(suite, net.sites.lab.directory()));
    if b.contains(':') {
        // The first that are too long are answered, at either end: in IPv6 only their source may cut them, and then it does.
        let learn = || net.sites.a.silent(b, &["-M", "dont", "-s", "1450", "-W", "0.5"]);
        let _ = learn()? && learn()? && learn()? && learn()?;
    }
    let before = (net.a.counters()?, net.b.counters()?);
    // What fits, what fits before it is protected, and what never does, up to what a frame takes.
    for size in ["1400", "1450", "1460", "1472", "2000", "2961", "3400"] {
        ensure!(ping(size)?, "no answer to {size} octets");
    }
    let (from, to) = (socket(&net.sites.a, a)?, socket(&net.sites.b, b)?);
    for size in (1380..3400).step_by(101) {
        let content: Vec<u8> = (0..size).map(|i| (i * 7) as u8 ^ (i >> 8) as u8).collect();
        from.send_to(&content, (b, 4800)).context("sending")?;
        let mut buffer = [0; 4000];
        let (length, _) = to.recv_from(&mut buffer).with_context(|| format!("{size} octets did not arrive"))?;
        ensure!(buffer.get(..length) == Some(&content[..]), "{size} octets arrived as others");
    }
    let after = (net.a.counters()?, net.b.counters()?);
    let lost = [drops(&before.0, &after.0), drops(&before.1, &after.1)].concat();
    ensure!(lost.is_empty(), "packets were dropped: {}", lost.join(", "));
    for (name, before, after) in [("A", &before.0, &after.0), ("B", &before.1, &after.1)] {
        let grown = |what: &str| counter(after, what) - counter(before, what);
        ensure!(grown("fragmented") > 3 && grown("reassembled") > 6, "{name} cut or made whole too few packets");
    }
    only_protected(&capture.finish()?)?;
    processes.into_iter().try_for_each(|process| process?.terminate().map(drop))
}

/// Everything on the wire is ESP or AH, whole or in fragments, or belongs to the link.
fn only_protected(seen: &Seen) -> Result<()> {
    let mut protected = 0;
    for (_, frame) in &seen.kept {
        let octet = |at: usize| frame.get(at).copied().unwrap_or_default();
        let proto = match (octet(12), octet(13)) {
            (0x08, 0x00) => octet(23),
            (0x86, 0xdd) if octet(20) == 44 => octet(54),
            (0x86, 0xdd) => octet(20),
            _ => continue,
        };
        // Neighbours, and who listens to which group.
        let discovery = octet(12) == 0x86 && (proto == 58 && (133..=137).contains(&octet(54)) || proto == 0);
        ensure!(matches!(proto, 50 | 51) || discovery, "protocol {proto} in clear");
        protected += u32::from(!discovery);
    }
    ensure!(protected > 10, "only {protected} protected packets were seen");
    Ok(())
}

/// TUN-11: a packet that is too long for the tunnel and may be cut is cut, from the first one on; one that may not is answered.
pub(super) fn cut_or_answered() -> Result<()> {
    let net = Protected::new("cut", "encr_algs chacha20-poly1305", &[])?;
    manual_keys(&net, "chacha20-poly1305")?;
    let (left, _right) = net.sites.add_hosts()?;
    let _processes = [&net.a, &net.b].map(|suite| slow_path(suite, net.sites.lab.directory()));
    let run = || -> Result<()> {
        let capture = Capture::start(&net.sites.router, "to-a")?;
        let back = Capture::start(&left, "eth0")?;
        let before = (net.a.counters()?, net.b.counters()?);
        for size in ["1419", "1450", "1472"] {
            ensure!(left.ping("10.2.0.9", &["-M", "dont", "-s", size])?, "{size} octets that may be cut did not pass");
        }
        let seen = back.finish()?;
        let errors = seen.kept.iter().filter(|(_, f)| f.get(23) == Some(&1) && f.get(34) == Some(&3)).count();
        ensure!(errors == 0, "a sender that lets its packets be cut was sent {errors} ICMP errors");
        ensure!(left.silent("10.2.0.9", &["-M", "do", "-s", "1419"])?, "1447 octets went through in one piece");
        let route = left.run("ip", &["route", "get", "10.2.0.9"])?;
        ensure!(route.contains("mtu 1446"), "the host was not told 1446: {}", route.trim());
        // The gateway itself: its first fragment is as long as its link takes, and passes; then it knows.
        let (from, to) = (socket(&net.sites.a, "10.1.0.1")?, socket(&net.sites.b, "10.2.0.1")?);
        from.send_to(&[0x55; 3000], ("10.2.0.1", 4800)).context("sending")?;
        let (length, _) = to.recv_from(&mut [0; 4000]).context("the first datagram of the gateway did not arrive")?;
        ensure!(length == 3000, "{length} octets arrived");
        let route = net.sites.a.run("ip", &["route", "get", "10.2.0.1", "from", "10.1.0.1"])?;
        ensure!(route.contains("mtu 1446"), "the gateway was not told 1446: {}", route.trim());
        let after = (net.a.counters()?, net.b.counters()?);
        let lost = [drops(&before.0, &after.0), drops(&before.1, &after.1)].concat();
        ensure!(lost.is_empty(), "packets were dropped: {}", lost.join(", "));
        ensure!(counter(&after.0, "fragmented") >= 4, "nothing was cut");
        only_protected(&capture.finish()?)
    };
    run().with_context(|| state(&net))
}
