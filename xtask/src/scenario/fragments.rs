//! Packets that are cut on their way: what is sealed and arrives in fragments, and what has to be sent in some.

use super::manual::{same_counts, state};
use super::topology::{
    A, B, INNER_A, INNER_B, KEY_A_TO_B, KEY_B_TO_A, NET_A, NET_B, Protected, SPI_A_TO_B, SPI_B_TO_A, rule,
};
use crate::net::capture::{Capture, Seen};
use crate::net::daemon::Daemon;
use crate::net::transfer;
use crate::suite::{Suite, counter, drops};
use anyhow::{Context, Result, ensure};
use std::net::{IpAddr, UdpSocket};
use std::time::{Duration, Instant};

/// What the router sends to B is at most this long: every full packet comes in two fragments. The way back is as wide as
/// ever.
const NARROW: &str = "route replace 203.0.113.0/24 dev to-b src 203.0.113.1 mtu 1000";
const WIDE: &str = "route replace 203.0.113.0/24 dev to-b src 203.0.113.1";

/// How packets are protected.
struct Way {
    name: &'static str,
    /// Properties of the rule.
    policy: &'static str,
    tunnel: bool,
    /// Further words of ipseckey, for the SA from A to B and the one back.
    keys: [String; 2],
    protocol: &'static str,
}

fn ways() -> [Way; 5] {
    let esp = |more: &str| {
        [KEY_A_TO_B, KEY_B_TO_A].map(|key| format!("encr_alg chacha20-poly1305 encrkey {key} replay 1024 {more}"))
    };
    let ah = ["11", "22"].map(|octet| format!("auth_alg hmac-sha256 authkey {} replay 1024", octet.repeat(32)));
    let encapsulated = || esp("encap udp nat_lport 4500 nat_rport 4500");
    let sealed = "encr_algs chacha20-poly1305";
    let authentic = "auth_algs hmac-sha256";
    [
        Way { name: "ESP", policy: sealed, tunnel: true, keys: esp(""), protocol: "esp" },
        Way { name: "ESP in UDP", policy: sealed, tunnel: true, keys: encapsulated(), protocol: "esp" },
        Way { name: "AH", policy: authentic, tunnel: true, keys: ah.clone(), protocol: "ah" },
        Way { name: "AH, transport mode", policy: authentic, tunnel: false, keys: ah, protocol: "ah" },
        Way { name: "ESP, transport mode", policy: sealed, tunnel: false, keys: esp(""), protocol: "esp" },
    ]
}

impl Way {
    fn configure(&self, net: &Protected) -> Result<()> {
        for (suite, [own, peer], [here, there], [first, second]) in [
            (&net.a, [A, B], [NET_A, NET_B], ["outbound", "inbound"]),
            (&net.b, [B, A], [NET_B, NET_A], ["inbound", "outbound"]),
        ] {
            suite.policy(&match self.tunnel {
                true => rule(here, there, self.policy),
                false => format!("{{ laddr {own} raddr {peer} }} ipsec {{ {} sa shared }}\n", self.policy),
            })?;
            let add = |spi: u32, [src, dst]: [&str; 2], [isrc, idst]: [&str; 2], direction: &str, how: &str| {
                let inner = if self.tunnel { format!("isrc {isrc} idst {idst}") } else { String::new() };
                format!("add {} spi {spi:#x} src {src} dst {dst} {direction} {inner} {how}\n", self.protocol)
            };
            let [there, back] = &self.keys;
            let there = add(SPI_A_TO_B, [A, B], [NET_A, NET_B], first, there);
            suite.keys(&("flush\n".to_owned() + &there + &add(SPI_B_TO_A, [B, A], [NET_B, NET_A], second, back)))?;
        }
        Ok(())
    }

    /// The addresses of A and B that talk to each other.
    fn ends(&self) -> Result<[IpAddr; 2]> {
        Ok(if self.tunnel { [INNER_A, INNER_B] } else { [A.parse()?, B.parse()?] })
    }
}

/// Starts the slow path by hand, as a host without a daemon does.
pub(super) fn slow_path(suite: &Suite, log: &std::path::Path) -> Result<Daemon> {
    let mut command = suite.command("espadm");
    command.arg("slow-path");
    let process = suite.host().start(command, &log.join(format!("slow-path-{}.log", suite.host().name())))?;
    process.wait_for("taking packets", Duration::from_secs(20))?;
    Ok(process)
}

/// ESP-IN-01, AH-08: fragments are made whole before ESP, AH and UDP are taken off; without somebody to do that they are
/// dropped and counted, and nobody is told that there is no such protocol.
pub(super) fn inbound() -> Result<()> {
    let net = Protected::new("frag", "encr_algs chacha20-poly1305", &[])?;
    for way in ways() {
        way.configure(&net).with_context(|| way.name)?;
        one_way(&way, &net).with_context(|| format!("{}: {}", way.name, state(&net)))?;
        if !way.tunnel && way.protocol == "esp" {
            clear_ones_stay_out(&net).with_context(|| state(&net))?;
        }
    }
    Ok(())
}

fn one_way(way: &Way, net: &Protected) -> Result<()> {
    let [here, there] = way.ends()?;
    // In transport mode the bit against fragmentation is that of the packet itself.
    let bit = if way.tunnel { "do" } else { "dont" };
    let ping = |size: &str| net.sites.a.ping(&there.to_string(), &["-M", bit, "-s", size]);
    ensure!(ping("1400")?, "no answer, and nothing is in fragments yet");
    net.sites.router.ip(&[NARROW])?;
    // In UDP only the first says what it is a fragment of; the other is judged as one in clear, and there is no rule for it.
    let lost = if way.name == "ESP in UDP" { ["drop-fragment +1"] } else { ["drop-fragment +2"] };
    let before = net.b.counters()?;
    let capture = Capture::start(&net.sites.router, "to-b")?;
    let silent = || net.sites.a.silent(&there.to_string(), &["-M", bit, "-s", "1400"]);
    ensure!(silent()?, "an answer, and nobody makes fragments whole");
    let after = net.b.counters()?;
    ensure!(drops(&before, &after) == lost, "{:?}", drops(&before, &after));
    no_errors(&capture.finish()?)?;

    let process = slow_path(&net.b, net.sites.lab.directory())?;
    let before = net.b.counters()?;
    // Those at the limit, some that come in one piece, and some of which the last fragment is short.
    for size in ["1400", "1399", "1000", "955", "930", "900", "64", "1380"] {
        ensure!(ping(size)?, "no answer to {size} octets");
    }
    let after = net.b.counters()?;
    ensure!(drops(&before, &after).is_empty(), "{:?}", drops(&before, &after));
    let grown = |name: &str| counter(&after, name) - counter(&before, name);
    let (handed, whole) = (grown("slow-path"), grown("reassembled"));
    ensure!(whole >= 4 && handed == 2 * whole, "{handed} fragments made {whole} packets");
    if way.tunnel {
        transfer::tcp(&net.sites.a, &net.sites.b, there, 1 << 20, |_| {})?;
        transfer::tcp(&net.sites.b, &net.sites.a, here, 1 << 20, |_| {})?;
    }
    process.terminate()?;
    let before = net.b.counters()?;
    ensure!(silent()?, "an answer, and nobody makes fragments whole any more");
    let after = net.b.counters()?;
    let grown = |name: &str| counter(&after, name) - counter(&before, name);
    // More than the one packet may be lost, since TCP may still have had something to say; but for no other reason.
    let dropped = drops(&before, &after);
    ensure!(
        matches!(&dropped[..], [one] if one.starts_with("drop-fragment ")) && grown("reassembled") == 0,
        "not dropped at once when the process ends: {dropped:?}"
    );
    net.sites.router.ip(&[WIDE])?;
    ensure!(ping("1400")?, "no answer in one piece");
    if way.tunnel { Ok(()) } else { same_counts_but_lost(net) }
}

/// The SA from A to B has sealed what was lost in fragments; the way back lost nothing.
fn same_counts_but_lost(net: &Protected) -> Result<()> {
    ensure!(same_counts(net).is_err(), "what was lost in fragments was counted as opened");
    Ok(())
}

/// B said to nobody that it cannot be reached.
fn no_errors(seen: &Seen) -> Result<()> {
    let icmp = |frame: &&(Duration, Vec<u8>)| frame.1.get(12..14) == Some(&[8, 0]) && frame.1.get(23) == Some(&1);
    let errors = seen.kept.iter().filter(icmp).count();
    ensure!(errors == 0, "{errors} ICMP messages in clear");
    Ok(())
}

/// Fragments of what is not sealed are judged as before: dropped where policy wants protection, whatever their first one
/// says, and never made whole.
fn clear_ones_stay_out(net: &Protected) -> Result<()> {
    let _process = slow_path(&net.b, net.sites.lab.directory())?;
    net.a.policy("")?;
    let from = net.sites.a.within(|| UdpSocket::bind((A, 0)).context("a socket"))?;
    let to = net.sites.b.within(|| UdpSocket::bind((B, 4700)).context("a socket"))?;
    to.set_read_timeout(Some(Duration::from_millis(300)))?;
    // Discovery for a whole path does not come into it: the datagram does not fit the link of A.
    let send = |port: u16, content: &[u8]| from.send_to(content, (B, port)).context("sending");
    let before = net.b.counters()?;
    send(4700, &[0x55; 2000])?;
    ensure!(to.recv_from(&mut [0; 2000]).is_err(), "a datagram in clear came in by fragments");
    let after = net.b.counters()?;
    ensure!(drops(&before, &after) == ["drop-clear-inbound +2"], "{:?}", drops(&before, &after));
    ensure!(counter(&after, "slow-path") == counter(&before, "slow-path"), "fragments in clear took the slow path");
    // What says that it is ESP in UDP is made whole, and then nobody knows its SPI.
    send(4500, &[0x55; 2000])?;
    let start = Instant::now();
    loop {
        let now = net.b.counters()?;
        if counter(&now, "reassembled") > counter(&after, "reassembled") {
            ensure!(drops(&after, &now) == ["drop-no-sa-inbound +1"], "{:?}", drops(&after, &now));
            return Ok(());
        }
        ensure!(start.elapsed() < Duration::from_secs(20), "ESP in UDP was not made whole");
        std::thread::sleep(Duration::from_millis(20));
    }
}
