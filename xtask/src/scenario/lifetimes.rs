//! The ends of SAs with keys by hand: by octets, by time since they were added and first used, by want of use; what is seen
//! of them, and what is heard.

use super::manual::state;
use super::topology::{A, B, INNER_B, KEY_A_TO_B, KEY_B_TO_A, NET_A, NET_B, Protected};
use crate::net::capture::Capture;
use crate::net::daemon::Daemon;
use crate::suite::{counter, number, text};
use crate::workspace::root;
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::time::{Duration, Instant};

/// SPI of what A sends, of an SA with limits of time.
const TIMED: u32 = 0x1001;
/// The same of one with limits of octets.
const COUNTED: u32 = 0x1011;

/// Number of ChaCha20-Poly1305.
const CHACHA: u8 = 28;

/// Long enough for any machine: nothing waits for it unless the test fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// PFK-04, ARC-SAD-02, ARC-SAD-03: states, events and the end of traffic, with somebody who listens and without.
pub(super) fn all_kinds() -> Result<()> {
    let net = Protected::new("lifetimes", "encr_algs chacha20-poly1305", &[])?;
    by_time_alone(&net).context("by time, and nobody listens")?;
    let host = net.a.host();
    let directory = net.sites.lab.directory();
    let mut command = net.a.command("espadm");
    command.arg("events");
    let events = host.start(command, &directory.join("events.log"))?;
    let mut command = net.a.command("ipseckey");
    command.args(["--json", "monitor"]);
    let monitor = host.start(command, &directory.join("monitor.log"))?;
    // What ipsec-bus(7) shows to those who write programs of their own.
    let example = root().join("docs/examples/ipsec-listen.py");
    let listener = host.start(host.command(example), &directory.join("listen.log"))?;
    listener.wait_for("listening", PATIENCE)?;
    // Whoever listens hears of this, sooner or later.
    until("the monitor hears nothing", || {
        net.a.tool("ipseckey", &["flush", "ah"])?;
        Ok(!monitor.log()?.is_empty())
    })?;
    by_octets(&net, &monitor).with_context(|| format!("by octets: {}", events.log_end()))?;
    each_once(&net, &monitor).with_context(|| format!("events: {}", events.log_end()))?;
    both_of_a_pair(&net, &monitor).with_context(|| format!("a pair: {}", events.log_end()))?;
    heard_by_the_example(&net, &listener).with_context(|| listener.log_end())
}

/// The example of ipsec-bus(7) has heard of an SA from its beginning to its end, and hears who asks for one: both ACQUIREs.
fn heard_by_the_example(net: &Protected, listener: &Daemon) -> Result<()> {
    let lines = [
        format!("ADD esp spi={COUNTED:#x} src={A} dst={B}\n"),
        format!("EXPIRE esp spi={COUNTED:#x} limit=soft src={A} dst={B}\n"),
        format!("EXPIRE esp spi={COUNTED:#x} limit=hard src={A} dst={B}\n"),
        format!("ACQUIRE all src={A} dst={B} proposal=esp-encr-{CHACHA}\n"),
        format!("ACQUIRE esp src={A} dst={B} proposal={CHACHA}/0\n"),
    ];
    net.a.tool("ipseckey", &["flush"])?;
    until("the example does not print what it should", || {
        // Nobody answers: there is no SA.
        net.sites.a.ping(&INNER_B.to_string(), &["-W", "1"])?;
        let log = listener.log()?;
        Ok(lines.iter().all(|line| log.contains(line.as_str())))
    })
}

/// Replaces the SAs: A sends by one with these limits.
fn load(net: &Protected, spi: u32, limits: &str) -> Result<()> {
    for suite in [&net.a, &net.b] {
        suite.tool("ipseckey", &["flush"])?;
    }
    let sa = |spi: u32, [src, dst]: [&str; 2], [isrc, idst]: [&str; 2], rest: &str| {
        format!("add esp spi {spi:#x} src {src} dst {dst} isrc {isrc} idst {idst} encr_alg chacha20-poly1305 {rest}\n")
    };
    let there = |rest: &str| sa(spi, [A, B], [NET_A, NET_B], &format!("encrkey {KEY_A_TO_B} {rest}"));
    let back = |rest: &str| sa(spi + 1, [B, A], [NET_B, NET_A], &format!("encrkey {KEY_B_TO_A} {rest}"));
    net.b.keys(&(there("inbound") + &back("outbound")))?;
    net.a.keys(&(there(&format!("outbound {limits}")) + &back("inbound")))
}

/// The SA that A sends by, if it is seen.
fn sender(net: &Protected) -> Result<Option<Value>> {
    Ok(net.a.sas()?.into_iter().find(|sa| text(sa, "direction") == "out"))
}

fn until(what: &str, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let start = Instant::now();
    while !holds()? {
        ensure!(start.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// Looks at the SA again and again until it is gone. No listing, however late it comes, shows it past a limit, and none shows
/// it mature past a soft one. `age` says how old it is, in seconds, as far as its limits go.
fn watch_it_go(net: &Protected, soft: u64, hard: u64, age: impl Fn(&Value) -> Option<u64>) -> Result<()> {
    let mut dying = 0;
    until("the SA stays", || {
        let Some(sa) = sender(net)? else { return Ok(true) };
        let Some(age) = age(&sa) else { bail!("{sa} has no such age") };
        ensure!(age < hard, "it is shown {age} seconds old: {sa}");
        let wanted = if age >= soft { "dying" } else { "mature" };
        ensure!(text(&sa, "state") == wanted, "{age} seconds old it is {}", text(&sa, "state"));
        dying += u32::from(age >= soft);
        Ok(false)
    })?;
    println!("gone after {dying} listings that had it dying");
    let mut get = net.a.command("ipseckey");
    let get = get.args(["get", "esp", "spi", &TIMED.to_string(), "dst", B]).output()?;
    ensure!(!get.status.success(), "get shows what dump does not");
    Ok(())
}

/// Nothing runs but the programs in the kernel: the SA works until its time, and not a packet longer.
fn by_time_alone(net: &Protected) -> Result<()> {
    let age = |sa: &Value| Some(number(sa, "age_seconds"));
    load(net, TIMED, "soft_addtime 1 hard_addtime 2")?;
    watch_it_go(net, 1, 2, age).context("since it was added")?;
    stopped(net)?;
    // Nobody uses it, and so its time does not come.
    load(net, TIMED, "soft_usetime 1 hard_usetime 2")?;
    std::thread::sleep(Duration::from_millis(1200));
    let sa = sender(net)?.context("it is gone although it was never used")?;
    ensure!(text(&sa, "state") == "mature", "it is {} although it was never used", text(&sa, "state"));
    ensure!(net.sites.a.ping(&INNER_B.to_string(), &[])?, "no answer: {}", state(net));
    watch_it_go(net, 1, 2, |sa| sa.get("first_use_seconds_ago")?.as_u64()).context("since it was first used")?;
    stopped(net)
}

/// No packet leaves, sealed or in clear, and what is dropped is counted.
fn stopped(net: &Protected) -> Result<()> {
    let before = net.a.counters()?;
    let capture = Capture::start(&net.sites.router, "to-a")?;
    ensure!(!net.sites.a.ping(&INNER_B.to_string(), &[])?, "a ping is answered past the hard limit");
    let seen = capture.finish()?;
    // ICMP over IPv4 over Ethernet.
    let clear = |frame: &[u8]| frame.get(12..14) == Some(&[8, 0]) && frame.get(23) == Some(&1);
    ensure!(seen.missed == 0 && !seen.kept.iter().any(|(_, frame)| clear(frame)), "the ping is in clear");
    let after = net.a.counters()?;
    let dropped = counter(&after, "drop-expired") - counter(&before, "drop-expired")
        + counter(&after, "drop-no-sa-outbound")
        - counter(&before, "drop-no-sa-outbound");
    ensure!(dropped > 0 && seen.esp == 0, "{dropped} packets were dropped, {} ESP packets seen", seen.esp);
    Ok(())
}

/// The messages about the end of the SA with this SPI, by the limit that they name.
fn heard(monitor: &Daemon, spi: &str) -> Result<[usize; 3]> {
    let mut counts = [0; 3];
    for line in monitor.log()?.lines() {
        // The last line may be half written.
        let Ok(message) = serde_json::from_str::<Value>(line) else { continue };
        if text(&message, "message") == "expire" && text(&message, "spi") == spi {
            for (count, limit) in counts.iter_mut().zip(["soft", "hard", "idle"]) {
                *count += usize::from(message.get(limit).is_some());
            }
        }
    }
    Ok(counts)
}

/// More octets than the soft limit: it goes on, and somebody is told. More than the hard one: not a packet.
fn by_octets(net: &Protected, monitor: &Daemon) -> Result<()> {
    load(net, COUNTED, "soft_bytes 3000 hard_bytes 6000")?;
    let (mut answered, start) = (0, Instant::now());
    while let Some(sa) = sender(net)? {
        ensure!(start.elapsed() < PATIENCE, "it does not end: {sa}");
        // One that is lost on its way counts all the same.
        answered += u32::from(net.sites.a.ping(&INNER_B.to_string(), &["-s", "472"])?);
        let (bytes, state) = (number(&sa, "bytes"), text(&sa, "state"));
        ensure!(bytes < 6000, "{bytes} octets went past the limit");
        ensure!((state == "dying") == (bytes >= 3000), "it is {state} after {bytes} octets");
    }
    ensure!(answered >= 6, "only {answered} pings were answered: {}", state(net));
    stopped(net)?;
    until("nobody was told", || Ok(heard(monitor, &format!("{COUNTED:#x}"))? == [1, 1, 0]))
        .with_context(|| monitor.log_end())
}

/// One message for each limit that is passed, however often the sweep comes by.
fn each_once(net: &Protected, monitor: &Daemon) -> Result<()> {
    net.a.tool("ipseckey", &["flush"])?;
    let sa = |spi: u32, limits: &str| {
        format!(
            "add esp spi {spi:#x} src {B} dst {A} inbound encr_alg chacha20-poly1305 encrkey {KEY_B_TO_A} {limits}\n"
        )
    };
    let all = [(0x2001, "soft_addtime 1"), (0x2002, "hard_addtime 1"), (0x2003, "idle_addtime 1"), (0x2004, "")];
    net.a.keys(&all.iter().map(|(spi, limits)| sa(*spi, limits)).collect::<String>())?;
    let counts =
        || -> Result<Vec<[usize; 3]>> { all.iter().map(|(spi, _)| heard(monitor, &format!("{spi:#x}"))).collect() };
    let wanted = [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]];
    until("not every limit was told", || Ok(counts()? == wanted)).with_context(|| monitor.log_end())?;
    // Several sweeps more.
    std::thread::sleep(Duration::from_millis(1000));
    ensure!(counts()? == wanted, "told again: {:?}", counts()?);
    let states: Vec<_> = net.a.sas()?.iter().map(|sa| text(sa, "state").to_owned()).collect();
    ensure!(states == ["dying", "mature", "mature"], "{states:?}");
    Ok(())
}

/// The hard limit of one SA is the end of its partner, in the kernel as well, whichever of them it is.
fn both_of_a_pair(net: &Protected, monitor: &Daemon) -> Result<()> {
    let chacha = "encr_alg chacha20-poly1305 encrkey";
    for (out, limits) in [(0x3001, ["hard_addtime 1", ""]), (0x3011, ["", "hard_addtime 1"])] {
        net.a.tool("ipseckey", &["flush"])?;
        let [ours, theirs] = limits;
        let inbound = out + 1;
        net.a.keys(&format!(
            "add esp spi {out:#x} src {A} dst {B} outbound {chacha} {KEY_A_TO_B} {ours}\n\
             add esp spi {inbound:#x} src {B} dst {A} inbound pair-spi {out:#x} {chacha} {KEY_B_TO_A} {theirs}\n"
        ))?;
        let pair = [format!("{out:#x}"), format!("{inbound:#x}")];
        let expired = |spi: &String| -> Result<bool> {
            let ends = |line: &str| {
                let message = serde_json::from_str::<Value>(line).unwrap_or_default();
                text(&message, "message") == "expire" && text(&message, "spi") == spi
            };
            Ok(monitor.log()?.lines().any(ends))
        };
        until("not both were told", || Ok(expired(&pair[0])? && expired(&pair[1])?))
            .with_context(|| format!("{pair:?}: {}", monitor.log_end()))?;
        ensure!(net.a.sas()?.is_empty(), "one of {pair:?} is still there");
    }
    Ok(())
}
