//! The demonstration: two hosts negotiate when traffic asks for it, pass a transfer through XDP, rekey under load, and
//! show that the wire carries nothing in clear. Everything it prints was measured in this run, and a step that does not
//! hold fails the demonstration.

use crate::debian;
use crate::net::capture::{Capture, Seen};
use crate::net::transfer::{self, Transfer};
use crate::scenario::topology::{A, B, INNER_B, Protected};
use crate::suite::{Suite, counter, drops};
use crate::workspace::{cargo, run_shown};
use crate::{build_ebpf, net};
use anyhow::{Context, Result, bail, ensure};
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

const TRANSFER: u64 = 256 << 20;

/// Payload of one round while the rekey is waited for.
const ROUND: u64 = 32 << 20;

const REKEY_LIMIT: Duration = Duration::from_secs(15);

/// The daemons' rules: AES-GCM and X25519 for the negotiation, and children that are rekeyed after a few seconds, so
/// that a demonstration shows it.
fn config(local: &str, remote: &str) -> String {
    format!(
        "ikesa_xform {{ encr_alg aes-gcm(256) auth_alg sha256 oakley_group 31 }}
childsa_lifetime_secs 60
childsa_softlife_secs 6
{{
    label \"demo\"
    auth_method preshared
    local_addr {local}
    remote_addr {remote}
}}
"
    )
}

struct Screen {
    start: Instant,
    terminal: bool,
}

impl Screen {
    fn step(&self, text: &str) {
        println!("[{:>5.1} s] {text}", self.start.elapsed().as_secs_f64());
    }

    /// A line that is overwritten, on a terminal only.
    fn progress(&self, done: u64, all: u64) {
        if self.terminal {
            let tenths = usize::try_from(done * 40 / all.max(1)).unwrap_or(40);
            print!("\r          [{:<40}] {} MiB", "#".repeat(tenths), done >> 20);
            let _ = std::io::stdout().flush();
        }
    }

    fn end_progress(&self) {
        if self.terminal {
            print!("\r{:70}\r", "");
        }
    }
}

/// Builds everything and runs the demonstration.
///
/// # Errors
/// The first step that does not hold, with what was found instead.
pub fn run() -> Result<()> {
    net::undo::watch_signals();
    debian::ensure(&["iproute2", "ethtool", "iputils-ping"], "hosts in network namespaces")?;
    build_ebpf::run_quietly()?;
    run_shown(cargo().args(["build", "--quiet", "-p", "ipseckey", "-p", "ike-daemon", "-p", "ikeadm"]))?;
    let screen = Screen { start: Instant::now(), terminal: std::io::stdout().is_terminal() };
    let result = demonstrate(&screen);
    if result.is_ok() {
        screen.step("everything is removed again");
    }
    result
}

fn demonstrate(screen: &Screen) -> Result<()> {
    screen.step("two hosts with a router between them; the data path attached, a tunnel and its policy loaded");
    let net = Protected::new("demo", "encr_algs chacha20-poly1305", &[])?;
    print!("{}", indent(&net.a.tool("espadm", &["show"])?));
    print!("{}", indent(&net.a.tool("ipsecconf", &["-L"])?));
    let _daemons = daemons(&net)?;
    screen.step("in.ikev2d runs on both; there is no SA yet");

    let first = protected_transfer(screen, &net)?;
    show(screen, &net)?;
    let rekey = rekey_under_load(screen, &net)?;
    let marked = clear_transfer(screen, &net)?;

    println!();
    println!(
        "  connected after {:.0} ms: the first packet made the daemons negotiate, TCP's repetition of it was protected",
        first.transfer.connect.as_secs_f64() * 1e3
    );
    println!(
        "  {} MiB in {:.2} s: {:.2} Gbit/s through two hosts and a router on this machine",
        TRANSFER >> 20,
        first.transfer.time.as_secs_f64(),
        first.transfer.gigabits()
    );
    println!("  {} frames on the wire, {} of them ESP, 0 with the flow in clear", first.seen.frames, first.seen.esp);
    println!("  the same capture without policy: {marked} frames with the flow in clear");
    println!("  rekeyed {} times under load: {} packets sealed, as many opened, 0 dropped", rekey.times, rekey.packets);
    println!();
    Ok(())
}

fn daemons(net: &Protected) -> Result<[net::daemon::Daemon; 2]> {
    let preshared = "{ label \"demo\" key \"a demonstration needs no better key than this\" }\n";
    Ok([net.a.daemon(&config(A, B), preshared)?, net.b.daemon(&config(B, A), preshared)?])
}

struct First {
    transfer: Transfer,
    seen: Seen,
}

fn protected_transfer(screen: &Screen, net: &Protected) -> Result<First> {
    screen.step(&format!("A sends {} MiB to B; a capture on the router looks for the payload", TRANSFER >> 20));
    let capture = Capture::start(&net.sites.router, "to-a")?;
    let sent = transfer::tcp(&net.sites.a, &net.sites.b, INNER_B, TRANSFER, |done| screen.progress(done, TRANSFER));
    screen.end_progress();
    let transfer = sent.with_context(|| diagnosis(net))?;
    let seen = capture.finish()?;
    ensure!(seen.missed == 0, "the capture missed {} frames: nothing can be said about them", seen.missed);
    ensure!(seen.marked == 0 && seen.tcp == 0, "{} frames of the flow were in clear", seen.marked.max(seen.tcp));
    ensure!(seen.esp * 1500 > TRANSFER, "only {} ESP frames were seen", seen.esp);
    Ok(First { transfer, seen })
}

fn show(screen: &Screen, net: &Protected) -> Result<()> {
    screen.step("ikeadm dump ikesa, on A");
    print!("{}", indent(&net.a.tool("ikeadm", &["-n", "-p", "dump", "ikesa"])?));
    screen.step("ipseckey -n -p dump, on A");
    print!("{}", indent(&net.a.tool("ipseckey", &["-n", "-p", "dump"])?));
    screen.step("espadm stats, on A and on B");
    print!("{}", indent(&net.a.tool("espadm", &["stats"])?));
    println!();
    print!("{}", indent(&net.b.tool("espadm", &["stats"])?));
    Ok(())
}

struct Rekey {
    times: usize,
    packets: u64,
}

/// Transfers one after the other until the outbound SA is another, and then compares what was sealed with what was
/// opened, in both directions.
fn rekey_under_load(screen: &Screen, net: &Protected) -> Result<Rekey> {
    screen.step("transfers go on until the SAs have been rekeyed");
    let before = quiet(net)?;
    let drops_before = (net.a.counters()?, net.b.counters()?);
    let start = Instant::now();
    let mut spis = net.a.outbound_spis()?;
    let mut times = 0;
    while times == 0 {
        ensure!(start.elapsed() < REKEY_LIMIT, "no rekey within {REKEY_LIMIT:?}: {}", diagnosis(net));
        transfer::tcp(&net.sites.a, &net.sites.b, INNER_B, ROUND, |done| screen.progress(done, ROUND))
            .with_context(|| diagnosis(net))?;
        let now = net.a.outbound_spis()?;
        times += now.iter().filter(|spi| !spis.contains(spi)).count();
        spis = now;
    }
    screen.end_progress();
    let after = quiet(net)?;
    let drops_after = (net.a.counters()?, net.b.counters()?);
    let lost = [drops(&drops_before.0, &drops_after.0), drops(&drops_before.1, &drops_after.1)].concat();
    ensure!(lost.is_empty(), "packets were dropped during the rekey: {}", lost.join(", "));
    Ok(Rekey { times, packets: after - before })
}

/// Waits until every packet that one host sealed was opened by the other, and hands back how many there were.
fn quiet(net: &Protected) -> Result<u64> {
    let start = Instant::now();
    loop {
        let (a, b) = (net.a.counters()?, net.b.counters()?);
        let there = (counter(&a, "sealed"), counter(&b, "opened"));
        let back = (counter(&b, "sealed"), counter(&a, "opened"));
        if there.0 == there.1 && back.0 == back.1 {
            return Ok(there.0 + back.0);
        }
        if start.elapsed() > Duration::from_secs(2) {
            bail!("A sealed {} packets and B opened {}; B sealed {} and A opened {}", there.0, there.1, back.0, back.1);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn clear_transfer(screen: &Screen, net: &Protected) -> Result<u64> {
    screen.step("the policy is removed; the same capture again");
    net.unprotect()?;
    let capture = Capture::start(&net.sites.router, "to-a")?;
    transfer::tcp(&net.sites.a, &net.sites.b, INNER_B, 1 << 20, |_| {}).context("in clear, without policy")?;
    let seen = capture.finish()?;
    ensure!(seen.marked > 0, "the capture does not see the flow in clear: it proves nothing");
    Ok(seen.marked)
}

/// What both hosts know about a failure.
fn diagnosis(net: &Protected) -> String {
    let ask = |suite: &Suite| {
        let stats = suite.tool("espadm", &["stats"]).unwrap_or_else(|error| format!("{error:#}"));
        let sas = suite.tool("ikeadm", &["-n", "-p", "dump", "ikesa"]).unwrap_or_else(|error| format!("{error:#}"));
        format!("{}:\n{stats}\n{sas}", suite.host().name())
    };
    format!("{}\n{}", ask(&net.a), ask(&net.b))
}

fn indent(text: &str) -> String {
    text.lines().map(|line| format!("          {line}\n")).collect()
}
