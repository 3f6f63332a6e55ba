//! Our own daemon on both ends, and what a host meets beside plain traffic: packets that are too big, forwarded
//! traffic, a killed daemon, a tool in a mount namespace of its own.

use super::manual::{manual_keys, nothing_in_clear};
use super::topology::{
    A, B, INNER_A, INNER_B, KEY_A_TO_B, KEY_B_TO_A, NET_A, NET_B, Protected, SPI_A_TO_B, SPI_B_TO_A, rule,
};
use crate::net::capture::Capture;
use crate::net::transfer;
use crate::suite::{Suite, counter, text};
use crate::workspace::run_text;
use anyhow::{Context, Result, bail, ensure};
use std::net::Ipv4Addr;
use std::process::Command;
use std::time::{Duration, Instant};

/// How long what is to happen may take on a machine that does other things too.
const PATIENCE: Duration = Duration::from_secs(20);

const PRESHARED: &str = "{ label \"pair\" key \"a secret of the tests, shared by two\" }\n";

fn config(local: &str, remote: &str, lifetimes: &str) -> String {
    format!(
        "ikesa_xform {{ encr_alg chacha20-poly1305 auth_alg sha256 oakley_group 31 }}\n{lifetimes}\n\
         {{ label \"pair\" auth_method preshared local_addr {local} remote_addr {remote} }}\n"
    )
}

/// The first SYN asks for the SA, waits for it, and goes through it.
pub(super) fn negotiated_by_traffic() -> Result<()> {
    let net = Protected::new("ike", "encr_algs aes-gcm(256)", &[])?;
    let daemons = [net.a.daemon(&config(A, B, ""), PRESHARED)?, net.b.daemon(&config(B, A, ""), PRESHARED)?];
    let capture = Capture::start(&net.sites.router, "to-a")?;
    let transfer = transfer::tcp(&net.sites.a, &net.sites.b, INNER_B, 16 << 20, |_| {})
        .with_context(|| format!("{}\n{}", daemons[0].log_end(), daemons[1].log_end()))?;
    println!("connected in {:?}, {:.2} Gbit/s", transfer.connect, transfer.gigabits());
    let seen = capture.finish()?;
    nothing_in_clear(&seen)?;
    ensure!(seen.ike >= 4, "a negotiation has four messages, not {}", seen.ike);
    let [a, b] = daemons;
    ensure!(a.terminate()?.success(), "in.ikev2d on A did not end well\n{}", a.log_end());
    let start = Instant::now();
    while !net.b.sas()?.is_empty() {
        ensure!(start.elapsed() < PATIENCE, "B kept SAs that A deleted\n{}", b.log_end());
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// Traffic of both hosts asks for an SA at the same moment: of the two IKE SAs that come of it one is left, the same on
/// both hosts, with one pair that carries the traffic both ways.
pub(super) fn both_begin() -> Result<()> {
    /// Rounds in which nobody meets the other on the way are possible, so many in a row are not.
    const ROUNDS: usize = 12;
    let net = Protected::new("both", "encr_algs chacha20-poly1305", &["--acquire-hold", "1"])?;
    let daemons = [net.a.daemon(&config(A, B, ""), PRESHARED)?, net.b.daemon(&config(B, A, ""), PRESHARED)?];
    let logs = || format!("A:\n{}\nB:\n{}", daemons[0].log_end(), daemons[1].log_end());
    let until = |what: &str, holds: &dyn Fn() -> Result<bool>| -> Result<()> {
        let start = Instant::now();
        while !holds()? {
            ensure!(start.elapsed() < PATIENCE, "{what}\n{}", logs());
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    };
    let met = || -> Result<usize> {
        let log = daemons[0].log()? + &daemons[1].log()?;
        Ok(log.matches("(Initiator): redundant, both sides made one at once").count())
    };
    for round in 1..=ROUNDS {
        std::thread::scope(|scope| {
            let one = scope.spawn(|| net.sites.a.ping(&INNER_B.to_string(), &["-W", "0.1"]));
            net.sites.b.ping(&INNER_A.to_string(), &["-W", "0.1"])?;
            one.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })?;
        let one_left = || {
            let (a, b) = (net.a.ike_sas()?, net.b.ike_sas()?);
            let same = a.first().map(|sa| text(sa, "spi_initiator")) == b.first().map(|sa| text(sa, "spi_initiator"));
            Ok(a.len() == 1 && b.len() == 1 && same && net.a.sas()?.len() == 2 && net.b.sas()?.len() == 2)
        };
        until("there is not one IKE SA with one pair in the end", &one_left)?;
        transfer::tcp(&net.sites.a, &net.sites.b, INNER_B, 1 << 20, |_| {}).with_context(logs)?;
        transfer::tcp(&net.sites.b, &net.sites.a, INNER_A, 1 << 20, |_| {}).with_context(logs)?;
        ensure!(one_left()?, "the traffic asked for more\n{}", logs());
        if met()? >= 2 {
            println!("both began at once in {} of {round} rounds", met()?);
            return Ok(());
        }
        net.a.tool("ikeadm", &["flush", "ikesa"])?;
        until("SAs are left after the flush", &|| Ok(net.a.sas()?.is_empty() && net.b.sas()?.is_empty()))?;
    }
    bail!("never did both begin at once\n{}", logs())
}

/// ARC-SAD-03: the daemon is killed: what it negotiated carries on until its limit, then nothing passes, and nothing in clear. One
/// that is started again negotiates anew.
pub(super) fn killed_daemon() -> Result<()> {
    let net = Protected::new("kill", "encr_algs chacha20-poly1305", &["--acquire-hold", "1"])?;
    let lifetimes = "childsa_lifetime_secs 6\nchildsa_softlife_secs 6";
    let a = net.a.daemon(&config(A, B, lifetimes), PRESHARED)?;
    let b = net.b.daemon(&config(B, A, lifetimes), PRESHARED)?;
    let capture = Capture::start(&net.sites.router, "to-a")?;
    transfer::tcp(&net.sites.a, &net.sites.b, INNER_B, 1 << 20, |_| {})?;
    a.kill()?;
    b.kill()?;
    transfer::tcp(&net.sites.a, &net.sites.b, INNER_B, 4 << 20, |_| {})
        .context("right after kill -9 of the daemons")?;
    let start = Instant::now();
    while !net.sites.a.silent(&INNER_B.to_string(), &[])? {
        ensure!(start.elapsed() < PATIENCE, "SAs work beyond their hard limit");
        std::thread::sleep(Duration::from_millis(200));
    }
    nothing_in_clear(&capture.finish()?)?;
    let _a = net.a.daemon(&config(A, B, lifetimes), PRESHARED)?;
    let b = net.b.daemon(&config(B, A, lifetimes), PRESHARED)?;
    transfer::tcp(&net.sites.a, &net.sites.b, INNER_B, 1 << 20, |_| {})
        .with_context(|| format!("after a new start of the daemons\n{}", b.log_end()))?;
    Ok(())
}

/// The data path is detached and attached again under the daemon: it may send IKE in clear again, hears of the traffic that
/// wants an SA, and tells the peer which SAs are no more.
pub(super) fn attached_anew() -> Result<()> {
    let net = Protected::new("anew", "encr_algs chacha20-poly1305", &["--acquire-hold", "1"])?;
    // Between the hosts themselves everything is protected too, IKE excepted.
    let policies = [[A, B, NET_A, NET_B], [B, A, NET_B, NET_A]].map(|[here, there, near, far]| {
        let algorithms = "encr_algs chacha20-poly1305";
        rule(near, far, algorithms) + &format!("{{ laddr {here} raddr {there} }} ipsec {{ {algorithms} sa shared }}\n")
    });
    net.a.policy(&policies[0])?;
    net.b.policy(&policies[1])?;
    let daemons = [net.a.daemon(&config(A, B, ""), PRESHARED)?, net.b.daemon(&config(B, A, ""), PRESHARED)?];
    let logs = || format!("A:\n{}\nB:\n{}", daemons[0].log_end(), daemons[1].log_end());
    let passes = || transfer::tcp(&net.sites.a, &net.sites.b, INNER_B, 1 << 20, |_| {}).with_context(logs);
    passes()?;
    let spis = net.b.outbound_spis()?;
    ensure!(!spis.is_empty(), "no SA carries the traffic");
    net.a.tool("espadm", &["detach", "--all"])?;
    net.a.tool("espadm", &["attach", "--acquire-hold", "1", "wan0"])?;
    net.a.policy(&policies[0])?;
    let capture = Capture::start(&net.sites.router, "to-a")?;
    passes()?;
    // The first ring was a second away at most; negotiating takes no longer than before.
    let start = Instant::now();
    while net.b.outbound_spis()?.iter().any(|spi| spis.contains(spi)) {
        ensure!(start.elapsed() < PATIENCE, "B sends on SAs that A has lost\n{}", logs());
        std::thread::sleep(Duration::from_millis(50));
    }
    passes()?;
    nothing_in_clear(&capture.finish()?)?;
    ensure!(net.a.ike_sas()?.len() == 1 && net.b.ike_sas()?.len() == 1, "the IKE SA was lost\n{}", logs());
    Ok(())
}

/// A packet that would not fit when sealed is answered with the exact size that does, also under strict reverse path
/// filtering, and one of that size goes through.
pub(super) fn too_big() -> Result<()> {
    let net = Protected::new("toobig", "encr_algs chacha20-poly1305", &[])?;
    for interface in ["all", "default", "wan0"] {
        net.sites.a.sysctl(&format!("ipv4.conf.{interface}.rp_filter"), "1")?;
    }
    manual_keys(&net, "chacha20-poly1305")?;
    let target = INNER_B.to_string();
    ensure!(net.sites.a.ping(&target, &[])?, "no answer through the tunnel");
    // 1500 less outer header, ESP header, IV, ICV, rounded down to four, less pad length and next header.
    let (limit, headers) = (1446, 28);
    let size = |length: usize| (length - headers).to_string();
    ensure!(net.sites.a.silent(&target, &["-M", "do", "-s", &size(1500)])?, "1500 octets went through a tunnel");
    let route = net.sites.a.run("ip", &["route", "get", &target])?;
    ensure!(route.contains(&format!("mtu {limit}")), "the host was not told {limit}: {}", route.trim());
    ensure!(net.sites.a.ping(&target, &["-M", "do", "-s", &size(limit)])?, "{limit} octets do not go through");
    ensure!(counter(&net.a.counters()?, "too-big-answered") > 0, "no answer was counted");
    Ok(())
}

/// ARC-AUD-01: a clear packet that policy protects is dropped, and the daemon says so where its debug level has `pfkey`, and only
/// there.
pub(super) fn path_log() -> Result<()> {
    let net = Protected::new("log", "encr_algs chacha20-poly1305", &[])?;
    let daemon = net.a.daemon(&config(A, B, ""), PRESHARED)?;
    net.b.policy("")?;
    let said = "10.2.0.1 > 10.1.0.1 protocol 1 SPI 0x0: drop-clear-inbound";
    let target = INNER_A.to_string();
    ensure!(net.sites.b.silent(&target, &[])?, "a clear packet got an answer");
    daemon.wait_for(said, PATIENCE).with_context(|| net.a.tool("espadm", &["stats"]).unwrap_or_default())?;
    net.a.tool("ikeadm", &["set", "debug", "op"])?;
    let lines = daemon.log()?.matches(said).count();
    let dropped = counter(&net.a.counters()?, "drop-clear-inbound");
    ensure!(net.sites.b.silent(&target, &[])?, "a clear packet got an answer");
    net.a.tool("ikeadm", &["set", "debug", "op+pfkey"])?;
    ensure!(counter(&net.a.counters()?, "drop-clear-inbound") > dropped, "the drop was not counted");
    ensure!(daemon.log()?.matches(said).count() == lines, "a line was logged while nobody wanted it");
    ensure!(net.sites.b.silent(&target, &[])?, "a clear packet got an answer");
    let start = Instant::now();
    while daemon.log()?.matches(said).count() == lines {
        ensure!(start.elapsed() < PATIENCE, "the log stays off\n{}", daemon.log_end());
        std::thread::sleep(Duration::from_millis(20));
    }
    // Other programs write another log.
    net.a.tool("espadm", &["upgrade", "--force"])?;
    let (lines, start) = (daemon.log()?.matches(said).count(), Instant::now());
    while daemon.log()?.matches(said).count() == lines {
        ensure!(start.elapsed() < PATIENCE, "the log of the new programs is off\n{}", daemon.log_end());
        ensure!(net.sites.b.silent(&target, &["-W", "0.2"])?, "a clear packet got an answer");
    }
    Ok(())
}

/// TUN-04, TUN-06: DSCP, ECN, DF and TTL of outer headers are what the tunnel is defined with.
pub(super) fn outer_header() -> Result<()> {
    let net = Protected::new("outer", "encr_algs chacha20-poly1305", &[])?;
    // Properties, TOS of what is sent; TOS, DF bit and TTL of what is seen.
    for (properties, sent, seen) in [
        ("", "0xb8", (0xb8, false, 64)),
        ("", "0x02", (0x02, false, 64)),
        (",dscp=46,df=set,ttl=77", "0x03", (0xbb, true, 77)),
        (",dscp=0,df=copy", "0xb9", (0x01, true, 64)),
        (",ecn=compatible,ttl=255", "0x2a", (0x28, false, 255)),
    ] {
        net.a.tool("espadm", &["tunnel", "delete", "vpn0"])?;
        let ends = format!("local={A},remote={B}{properties}");
        net.a.tool("espadm", &["tunnel", "create", "vpn0", "-a", &ends])?;
        for suite in [&net.a, &net.b] {
            suite.tool("ipseckey", &["flush"])?;
        }
        manual_keys(&net, "chacha20-poly1305")?;
        let capture = Capture::start(&net.sites.router, "to-a")?;
        ensure!(net.sites.a.ping(&INNER_B.to_string(), &["-M", "do", "-Q", sent])?, "no answer with {properties:?}");
        let seen_all = capture.finish()?;
        let ours: Vec<u8> = A.parse::<Ipv4Addr>()?.octets().to_vec();
        let sealed = seen_all.kept.iter().map(|(_, frame)| frame);
        let mut sealed = sealed.filter(|f| f.get(23) == Some(&50) && f.get(26..30) == Some(&ours));
        let frame = sealed.next().context("no ESP from A")?;
        let octet = |at: usize| frame.get(at).copied().unwrap_or_default();
        let found = (octet(15), octet(20) & 0x40 != 0, octet(22));
        ensure!(found == seen, "{properties:?} with TOS {sent}: outer TOS, DF and TTL are {found:?}, not {seen:?}");
    }
    let listed = net.a.tool("espadm", &["tunnel", "list"])?;
    ensure!(listed.contains("compatible"), "the list does not say what outer headers are: {listed}");
    Ok(())
}

/// The same for IPv6 inside the tunnel, up to TCP that finds its segment size by the answer.
pub(super) fn too_big_ipv6() -> Result<()> {
    const NET_A6: &str = "fd01::/64";
    const NET_B6: &str = "fd02::/64";
    const INNER_B6: &str = "fd02::1";
    let net = Protected::new("toobig6", "encr_algs chacha20-poly1305", &[])?;
    let ends = [
        (&net.a, &net.sites.a, "fd01::1", [NET_A6, NET_B6], ["outbound", "inbound"]),
        (&net.b, &net.sites.b, INNER_B6, [NET_B6, NET_A6], ["inbound", "outbound"]),
    ];
    for (suite, host, own, [here, there], [a_to_b, b_to_a]) in ends {
        // The sealed packets go to the router; that there is no such neighbour for the inner ones does not matter.
        host.ip(&[
            &format!("address add {own}/64 dev lo nodad"),
            "neigh add fe80::1 lladdr 02:00:00:00:00:01 dev wan0",
            &format!("route add {there} via fe80::1 dev wan0 src {own}"),
        ])?;
        suite.policy(&rule(here, there, "encr_algs chacha20-poly1305"))?;
        let add = |spi: u32, from: &str, to: &str, inner: [&str; 2], direction: &str, key: &str| {
            let [isrc, idst] = inner;
            format!(
                "add esp spi {spi:#x} src {from} dst {to} {direction} isrc {isrc} idst {idst} \
                 encr_alg chacha20-poly1305 encrkey {key} replay 1024\n"
            )
        };
        let keys = add(SPI_A_TO_B, A, B, [NET_A6, NET_B6], a_to_b, KEY_A_TO_B)
            + &add(SPI_B_TO_A, B, A, [NET_B6, NET_A6], b_to_a, KEY_B_TO_A);
        suite.keys(&keys)?;
    }
    let a = &net.sites.a;
    let ping = |length: usize| a.ping(INNER_B6, &["-M", "do", "-s", &(length - 48).to_string()]);
    ensure!(ping(100)?, "no answer through the tunnel");
    // The answer ends the wait.
    ensure!(!ping(1500)?, "1500 octets went through a tunnel");
    let route = a.run("ip", &["-6", "route", "get", INNER_B6])?;
    ensure!(route.contains("mtu 1446"), "the host was not told 1446: {}", route.trim());
    ensure!(ping(1446)?, "1446 octets do not go through");
    let transfer = transfer::tcp(a, &net.sites.b, INNER_B6.parse()?, 8 << 20, |_| {})?;
    println!("{:.2} Gbit/s", transfer.gigabits());
    Ok(())
}

/// A host behind A reaches a host behind B, with every offload on and no MTU set anywhere.
/// TUN-03: of the hops that a packet has left either gateway takes one. TUN-14: what the stack hands over joined together
/// goes out as the packets that it would be without that.
pub(super) fn forwarded() -> Result<()> {
    let net = Protected::new("fwd", "encr_algs chacha20-poly1305", &[])?;
    manual_keys(&net, "chacha20-poly1305")?;
    let (left, right) = net.sites.add_hosts()?;
    let capture = Capture::start(&net.sites.router, "to-a")?;
    let transfer = transfer::tcp(&left, &right, "10.2.0.9".parse()?, 32 << 20, |_| {})
        .with_context(|| net.a.tool("espadm", &["stats"]).unwrap_or_default())?;
    println!("{:.2} Gbit/s forwarded", transfer.gigabits());
    let seen = capture.finish()?;
    nothing_in_clear(&seen)?;
    let longest = seen.kept.iter().map(|(_, frame)| frame.len()).max().unwrap_or_default();
    ensure!((1400..=1514).contains(&longest), "the longest frame has {longest} octets");
    ensure!(left.ping("10.2.0.9", &["-t", "3"])?, "two gateways took more than two hops from three");
    ensure!(left.silent("10.2.0.9", &["-t", "2"])?, "two gateways took less than two hops from two");
    Ok(())
}

/// `ip netns exec` gives a program a mount namespace of its own; what it pins must not die with it.
pub(super) fn netns_exec() -> Result<()> {
    let net = Protected::new("exec", "encr_algs chacha20-poly1305", &[])?;
    manual_keys(&net, "chacha20-poly1305")?;
    let tool = |suite: &Suite, words: &[&str]| -> Result<String> {
        let program = suite.command(words.first().copied().unwrap_or_default());
        let mut command = Command::new("ip");
        command.args(["netns", "exec", suite.host().namespace()]).arg(program.get_program());
        command.args(words.get(1..).unwrap_or_default()).env("IPSEC_INSTANCE", suite.instance());
        run_text(&mut command)
    };
    ensure!(tool(&net.a, &["espadm", "show"])?.contains("wan0"), "espadm does not see what is attached");
    ensure!(tool(&net.a, &["ipsecconf", "-L"])?.contains("vpn0"), "ipsecconf does not see the rule");
    ensure!(tool(&net.a, &["ipseckey", "-n", "-p", "dump"])?.contains("0x1001"), "ipseckey does not see the SA");
    tool(&net.a, &["espadm", "detach", "--all"])?;
    tool(&net.a, &["espadm", "attach", "wan0"])?;
    ensure!(net.a.tool("espadm", &["show"])?.contains("wan0"), "what a tool in a namespace attached is not there");
    ensure!(net.a.sas()?.is_empty(), "SAs outlived detach --all");
    let other = net.b.host().run(net.a.command("espadm").get_program(), &["show", "--instance", net.a.instance()]);
    ensure!(other.is_err(), "an instance of one network namespace was shown from another");
    Ok(())
}
