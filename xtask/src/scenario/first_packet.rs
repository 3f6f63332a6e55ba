//! The packets that ask for an SA: the daemon holds them and sends them when it is there; without it they are dropped and
//! counted. Tunnel and transport mode, IPv4 and IPv6.

use super::manual::nothing_in_clear;
use super::topology::{A, A6, B, B6, INNER_B, INNER_B6, NET_A, NET_A6, NET_B, NET_B6, TwoSites, rule};
use crate::net::capture::Capture;
use crate::net::daemon::Daemon;
use crate::net::transfer::{self, MARKER};
use crate::suite::{Suite, counter};
use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

const PRESHARED: &str = "{ label \"pair\" key \"a secret of the tests, shared by two\" }\n";

/// How long what is to happen may take on a machine that does other things too.
const PATIENCE: Duration = Duration::from_secs(20);

/// Datagrams of a burst, and how many of them wait for an SA.
const BURST: u8 = 10;
const KEPT: u8 = 4;

/// Two hosts whose every packet to each other, or between their networks, is protected.
struct Hosts {
    a: Suite,
    b: Suite,
    sites: TwoSites,
}

impl Hosts {
    fn new(name: &str) -> Result<Self> {
        let sites = TwoSites::new(name)?;
        sites.add_ipv6()?;
        let side = |host, [own, other]: [&str; 2]| -> Result<Suite> {
            let suite = Suite::attach(&sites.lab, host, &["--acquire-hold", "1", "wan0"])?;
            suite.tunnel("vpn0", own, other)?;
            Ok(suite)
        };
        let hosts = Self { a: side(&sites.a, [A, B])?, b: side(&sites.b, [B, A])?, sites };
        hosts.a.policy(&policy([[A, B], [A6, B6]], [[NET_A, NET_B], [NET_A6, NET_B6]]))?;
        hosts.policy_of_b()?;
        Ok(hosts)
    }

    fn policy_of_b(&self) -> Result<()> {
        self.b.policy(&policy([[B, A], [B6, A6]], [[NET_B, NET_A], [NET_B6, NET_A6]]))
    }

    fn daemons(&self) -> Result<[Daemon; 2]> {
        Ok([self.a.daemon(&config([A, B], [A6, B6]), PRESHARED)?, self.b.daemon(&config([B, A], [B6, A6]), PRESHARED)?])
    }

    /// Removes every SA, and waits until the next packet asks for one again.
    fn forget(&self) -> Result<()> {
        if !self.a.ike_sas()?.is_empty() {
            self.a.tool("ikeadm", &["flush", "ikesa"])?;
        }
        let start = Instant::now();
        while !(self.a.sas()?.is_empty() && self.b.sas()?.is_empty()) {
            ensure!(start.elapsed() < PATIENCE, "SAs are left after the flush");
            std::thread::sleep(Duration::from_millis(50));
        }
        std::thread::sleep(Duration::from_millis(1100));
        Ok(())
    }

    fn state(&self, daemons: &[Daemon]) -> String {
        let stats = |suite: &Suite| suite.tool("espadm", &["stats"]).unwrap_or_default();
        let logs: Vec<String> = daemons.iter().map(Daemon::log_end).collect();
        format!("A:\n{}\nB:\n{}\n{}", stats(&self.a), stats(&self.b), logs.join("\n\n"))
    }
}

fn policy(hosts: [[&str; 2]; 2], nets: [[&str; 2]; 2]) -> String {
    const ALGORITHMS: &str = "encr_algs chacha20-poly1305";
    let tunnels = nets.map(|[here, there]| rule(here, there, ALGORITHMS));
    let hosts =
        hosts.map(|[here, there]| format!("{{ laddr {here} raddr {there} }} ipsec {{ {ALGORITHMS} sa shared }}\n"));
    tunnels.concat() + &hosts.concat()
}

fn config([here, there]: [&str; 2], [here6, there6]: [&str; 2]) -> String {
    format!(
        "ikesa_xform {{ encr_alg chacha20-poly1305 auth_alg sha256 oakley_group 31 }}\n\
         {{ label \"pair\" auth_method preshared\n\
         local_addr {here} local_addr {here6} remote_addr {there} remote_addr {there6} }}\n"
    )
}

/// A number of `ikeadm get stats`.
fn said(suite: &Suite, name: &str) -> Result<u64> {
    let stats = suite.ike_stats()?;
    let number = stats.get("counters").and_then(|counters| counters.get(name)).and_then(Value::as_u64);
    number.with_context(|| format!("no {name:?} in {stats}"))
}

/// ARC-OUT-01, ARC-OUT-03: the first packet is sent once its SA is there, and of a burst the newest, after one negotiation;
/// nothing goes in clear meanwhile.
pub(super) fn waits() -> Result<()> {
    let hosts = Hosts::new("first")?;
    let daemons = hosts.daemons()?;
    let targets: [(&str, IpAddr, u32); 4] = [
        ("tunnel mode", INNER_B, 1446),
        ("tunnel mode, IPv6 inside", INNER_B6, 1446),
        ("transport mode", B.parse()?, 1466),
        ("transport mode, IPv6", B6.parse()?, 1466),
    ];
    for (what, target, limit) in targets {
        let state = || format!("{what}\n{}", hosts.state(&daemons));
        let capture = Capture::start(&hosts.sites.router, "to-a")?;
        ensure!(hosts.sites.a.ping(&target.to_string(), &[])?, "the first ping was lost\n{}", state());
        hosts.forget()?;
        let before = said(&hosts.a, "held packets sent")?;
        let transfer = transfer::tcp(&hosts.sites.a, &hosts.sites.b, target, 1 << 20, |_| {}).with_context(state)?;
        // On a machine that does other things too TCP may send another one before the first is through.
        let sent = said(&hosts.a, "held packets sent")? - before;
        ensure!(sent > 0, "the first SYN was lost: connected in {:?}\n{}", transfer.connect, state());
        hosts.forget()?;
        let arrived = burst(&hosts, &daemons, target).with_context(state)?;
        let newest: Vec<u8> = (BURST - KEPT..BURST).collect();
        ensure!(arrived == newest, "of a burst {arrived:?} arrived, and not the newest {KEPT}\n{}", state());
        hosts.forget()?;
        too_big(&hosts, target, limit).with_context(state)?;
        nothing_in_clear(&capture.finish()?).with_context(state)?;
        println!("{what}: connected in {:?}", transfer.connect);
        hosts.forget()?;
    }
    let counters = hosts.a.counters()?;
    ensure!(counter(&counters, "drop-no-sa-outbound") == 0, "packets were dropped\n{}", hosts.state(&daemons));
    let (held, taken, sent) =
        (counter(&counters, "held"), said(&hosts.a, "packets held")?, said(&hosts.a, "held packets sent")?);
    let replaced = said(&hosts.a, "held packets dropped for newer ones")?;
    ensure!(held == taken && taken == sent + replaced, "of {held} held packets {taken} came, {sent} were sent");
    ensure!(replaced == 4 * u64::from(BURST - KEPT), "{replaced} packets were replaced");
    Ok(())
}

/// Sends a burst while the peer does not answer, and gives the numbers of the datagrams that arrive once it does.
fn burst(hosts: &Hosts, daemons: &[Daemon; 2], target: IpAddr) -> Result<Vec<u8>> {
    let receiver = hosts.sites.b.within(|| Ok(UdpSocket::bind((target, 0))?))?;
    receiver.set_read_timeout(Some(Duration::from_millis(500)))?;
    let to = receiver.local_addr()?;
    daemons[1].signal(Signal::SIGSTOP)?;
    let sent = hosts.sites.a.within(|| {
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let sender = UdpSocket::bind(any.parse::<SocketAddr>()?)?;
        (0..BURST).try_for_each(|number| {
            sender.send_to(&[&[number], MARKER].concat(), to)?;
            Ok(())
        })
    });
    daemons[1].signal(Signal::SIGCONT)?;
    sent?;
    let mut arrived = Vec::new();
    let mut datagram = [0; 64];
    // The request is repeated after a while if the peer was too slow for the first. Behind the newest no others come.
    let start = Instant::now();
    while arrived.len() < usize::from(BURST) && start.elapsed() < PATIENCE {
        match receiver.recv(&mut datagram) {
            Ok(_) => arrived.extend(datagram.first()),
            Err(_) if arrived.len() < usize::from(KEPT) => {}
            Err(_) => break,
        }
    }
    Ok(arrived)
}

/// One that is too big waits as well, for nobody knows the limit before there is an SA, and is answered then.
fn too_big(hosts: &Hosts, target: IpAddr, limit: u32) -> Result<()> {
    let headers = if target.is_ipv4() { 28 } else { 48 };
    let (a, target) = (&hosts.sites.a, target.to_string());
    let ping = |length: u32| a.ping(&target, &["-M", "do", "-s", &(length - headers).to_string()]);
    let answered = || Ok::<_, anyhow::Error>(counter(&hosts.a.counters()?, "too-big-answered"));
    // What TCP has learnt before.
    a.run("ip", &[if headers == 28 { "-4" } else { "-6" }, "route", "flush", "cache"])?;
    let before = answered()?;
    // The answer ends the wait.
    ensure!(!ping(1500)?, "1500 octets went through");
    ensure!(answered()? == before + 1, "the packet that waited was not answered");
    let route = a.run("ip", &["route", "get", &target])?;
    ensure!(route.contains(&format!("mtu {limit}")), "the host was not told {limit}: {}", route.trim());
    ensure!(ping(limit)?, "{limit} octets do not go through");
    Ok(())
}

/// ARC-OUT-01: without somebody to hold it the packet is dropped, and never sent in clear.
pub(super) fn dropped() -> Result<()> {
    let hosts = Hosts::new("nofirst")?;
    let target = INNER_B.to_string();
    let unsealed = || Ok::<_, anyhow::Error>(counter(&hosts.a.counters()?, "drop-no-sa-outbound"));
    let held = || Ok::<_, anyhow::Error>(counter(&hosts.a.counters()?, "held"));
    // No ping: some versions of it send again what the classifier refused.
    let receiver = hosts.sites.b.within(|| Ok(UdpSocket::bind((INNER_B, 0))?))?;
    receiver.set_read_timeout(Some(Duration::from_secs(1)))?;
    let to = receiver.local_addr()?;
    let lost = |why: &str| -> Result<()> {
        let before = (unsealed()?, held()?);
        // What the socket says of it does not matter.
        let _ = hosts.sites.a.within(|| Ok(UdpSocket::bind("0.0.0.0:0")?.send_to(MARKER, to)?));
        ensure!(receiver.recv(&mut [0; 64]).is_err(), "{why}: a datagram arrived");
        let counted = (unsealed()? - before.0, held()? - before.1);
        ensure!(counted == (1, 0), "{why}: one datagram was to be dropped, and counted were {counted:?}");
        Ok(())
    };
    let capture = Capture::start(&hosts.sites.router, "to-a")?;
    lost("without a daemon")?;
    // Without a peer, whose messages to a port without a socket would bring about ICMP errors, packets as well.
    hosts.a.daemon(&config([A, B], [A6, B6]), PRESHARED)?.kill()?;
    lost("after kill -9")?;
    no_sa_in_time(&hosts)?;
    // A process that the kernel gives no AF_XDP sockets.
    let a = hosts.a.daemon_without_raw(&config([A, B], [A6, B6]), PRESHARED)?;
    let _b = hosts.b.daemon(&config([B, A], [B6, A6]), PRESHARED)?;
    let warning = "packets that find no SA are dropped";
    a.wait_for(warning, PATIENCE)?;
    // What it found to do when it started.
    hosts.forget()?;
    lost("without AF_XDP")?;
    let start = Instant::now();
    while hosts.sites.a.silent(&target, &[])? {
        ensure!(start.elapsed() < PATIENCE, "no answer without AF_XDP\n{}", a.log_end());
    }
    std::thread::sleep(Duration::from_secs(2));
    ensure!(a.log()?.matches(warning).count() == 1, "it is said more than once\n{}", a.log_end());
    nothing_in_clear(&capture.finish()?)?;
    Ok(())
}

/// Packets whose negotiation gets no answer are dropped after fifteen seconds, and those of a refused one at once.
fn no_sa_in_time(hosts: &Hosts) -> Result<()> {
    let daemons = hosts.daemons()?;
    let wait = |name: &str, limit: u64| -> Result<Duration> {
        let start = Instant::now();
        while said(&hosts.a, name)? == 0 {
            if start.elapsed() > Duration::from_secs(limit) {
                bail!("no {name}\n{}", hosts.state(&daemons));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(start.elapsed())
    };
    daemons[1].signal(Signal::SIGSTOP)?;
    let pinged = hosts.sites.a.silent(&INNER_B.to_string(), &[]);
    let waited = wait("held packets without an SA in time", 40);
    daemons[1].signal(Signal::SIGCONT)?;
    ensure!(pinged?, "a ping was answered without an SA");
    // The ping itself took a second.
    let waited = waited? + Duration::from_secs(1);
    ensure!(waited > Duration::from_secs(14), "the packet waited only {waited:?}");
    ensure!(said(&hosts.a, "packets waiting for an SA now")? == 0, "packets are left");
    hosts.forget()?;
    // The peer's policy has no such traffic.
    hosts.b.policy("{ laddr 192.0.2.1 raddr 192.0.2.2 } ipsec { encr_algs chacha20-poly1305 sa shared }\n")?;
    ensure!(hosts.sites.a.silent(&INNER_B.to_string(), &[])?, "a ping was answered without an SA");
    wait("held packets whose SA was refused", 20)?;
    hosts.policy_of_b()
}
