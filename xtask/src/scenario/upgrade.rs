//! The data path replaced by another version while traffic goes through it.

use super::manual::{manual_keys, nothing_in_clear};
use super::topology::{INNER_A, INNER_B, Protected};
use crate::build_ebpf;
use crate::net::capture::{Capture, Seen, replay};
use crate::net::transfer;
use crate::suite::{Suite, counter, drops, number, text};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// A key and a salt of AES-GCM that nothing is sealed with.
const SPARE: &str = "000102030405060708090a0b0c0d0e0f10111213";

/// Upgrades on both hosts together.
const UPGRADES: u32 = 20;

/// A packet that met two builds, or none, would be dropped or go in clear.
pub(super) fn same_maps() -> Result<()> {
    let net = Protected::new("upgrade", "encr_algs chacha20-poly1305", &[])?;
    manual_keys(&net, "chacha20-poly1305")?;
    ensure!(net.sites.a.ping(&INNER_B.to_string(), &[])?, "no answer through the tunnel");
    let again = upgrade(&net.a, &[])?;
    ensure!(again.get("replaced") == Some(&Value::Bool(false)), "the same programs were replaced unasked: {again}");
    let spis = (net.a.outbound_spis()?, net.b.outbound_spis()?);
    let before = (net.a.counters()?, net.b.counters()?);
    let capture = Capture::start(&net.sites.router, "to-a")?;
    let done = AtomicU32::new(0);
    let octets = std::thread::scope(|scope| {
        let upgrades = scope.spawn(|| -> Result<u64> {
            let mut longest = 0;
            while done.load(Ordering::Relaxed) < UPGRADES {
                let n = done.fetch_add(1, Ordering::Relaxed);
                let suite = if n.is_multiple_of(2) { &net.a } else { &net.b };
                let report = upgrade(suite, &["--force"]).with_context(|| format!("upgrade {n}"))?;
                ensure!(report.get("replaced") == Some(&Value::Bool(true)), "nothing was replaced: {report}");
                longest = longest.max(number(&report, "switch_us"));
            }
            Ok(longest)
        });
        let mut octets = 0;
        while !upgrades.is_finished() {
            for (from, to, address) in [(&net.sites.a, &net.sites.b, INNER_B), (&net.sites.b, &net.sites.a, INNER_A)] {
                octets += transfer::tcp(from, to, address, 8 << 20, |_| {})
                    .with_context(|| format!("after {} upgrades", done.load(Ordering::Relaxed)))?
                    .bytes;
            }
        }
        let longest = upgrades.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        println!("{UPGRADES} upgrades, programs exchanged in at most {longest} us");
        Ok::<_, anyhow::Error>(octets)
    })?;
    let seen = capture.finish()?;
    println!("{} MiB went through, {} ESP frames", octets >> 20, seen.esp);
    nothing_in_clear(&seen)?;
    let after = (net.a.counters()?, net.b.counters()?);
    let lost = [drops(&before.0, &after.0), drops(&before.1, &after.1)].concat();
    ensure!(lost.is_empty(), "packets were dropped: {}", lost.join(", "));
    ensure!(spis == (net.a.outbound_spis()?, net.b.outbound_spis()?), "SAs are others than before");
    for suite in [&net.a, &net.b] {
        // What the programs have counted and what the SAs have counted went through every exchange. TCP may have a last word.
        let start = Instant::now();
        loop {
            let counters = suite.counters()?;
            let packets: u64 = suite.sas()?.iter().map(|sa| number(sa, "packets")).sum();
            let passed = counter(&counters, "sealed") + counter(&counters, "opened");
            if packets == passed && packets > 1000 {
                break;
            }
            let late = start.elapsed() > Duration::from_secs(5);
            ensure!(!late, "the SAs say {packets} packets, the counters {passed}");
        }
        suite.tool("espadm", &["show", "--strict"])?;
    }
    Ok(())
}

/// Numbers that an outbound SA leaves out when it moves.
const LEAP: u64 = 1 << 20;

/// Both hosts move to maps for more and for fewer SAs, while TCP goes through.
pub(super) fn capacity() -> Result<()> {
    let net = Protected::new("capacity", "encr_algs chacha20-poly1305", &["--capacity", "60"])?;
    manual_keys(&net, "chacha20-poly1305")?;
    // One whose slot the smaller maps have not, and which must not be lost.
    let spare = |spi: u32| {
        format!("add esp spi {spi:#x} src 192.0.2.1 dst 192.0.2.2 outbound encr_alg aes-gcm encrkey {SPARE}\n")
    };
    net.a.keys(&(0x5001..0x5008).map(spare).collect::<String>())?;
    for spi in 0x5001..0x5007 {
        net.a.tool("ipseckey", &["delete", "esp", "spi", &format!("{spi:#x}"), "dst", "192.0.2.2"])?;
    }
    let too_small = net.a.command("espadm").args(["upgrade", "--capacity", "1"]).output()?;
    let said = String::from_utf8_lossy(&too_small.stderr);
    ensure!(!too_small.status.success() && said.contains("3 SAs are there"), "two SAs fit into one: {said}");
    let to_capacity = |suite: &Suite, capacity: &str| {
        let report = upgrade(suite, &["--capacity", capacity])?;
        ensure!(report.get("moved").is_some_and(Value::is_number), "nothing moved: {report}");
        Ok(())
    };
    moved_under_traffic(
        &net,
        &[&|| to_capacity(&net.a, "4000"), &|| to_capacity(&net.b, "4"), &|| to_capacity(&net.a, "4")],
    )?;
    let spis: Vec<String> = net.a.sas()?.iter().map(|sa| text(sa, "spi").to_owned()).collect();
    ensure!(spis.len() == 3 && spis.iter().any(|spi| spi.ends_with("5007")), "SAs of A: {spis:?}");
    let shown: Value = serde_json::from_str(&net.a.tool("espadm", &["--json", "show", "--strict"])?)?;
    ensure!(number(&shown, "capacity") == 4, "A shows {shown}");
    Ok(())
}

/// To maps of a later version, where these tools do not follow, and back.
pub(super) fn other_abi() -> Result<()> {
    let object = build_ebpf::variant("next-abi")?;
    let object = object.to_str().context("the path of the object is no text")?;
    let net = Protected::new("abi", "encr_algs chacha20-poly1305", &["--capacity", "60"])?;
    manual_keys(&net, "chacha20-poly1305")?;
    let there_and_back = |suite: &Suite| -> Result<()> {
        suite.tool("esp-kernel", &["move", object])?;
        for arguments in [["upgrade", "--force"], ["attach", "wan0"]] {
            let refused = suite.command("espadm").args(arguments).output()?;
            let said = String::from_utf8_lossy(&refused.stderr);
            ensure!(
                !refused.status.success() && said.contains("use the tools that attached it"),
                "maps of a later version were not refused: {said}"
            );
        }
        std::thread::sleep(Duration::from_millis(300));
        suite.tool("esp-kernel", &["move"]).map(drop)
    };
    moved_under_traffic(&net, &[&|| there_and_back(&net.a), &|| there_and_back(&net.b)])
}

/// Does these moves of A and B, one after another, under TCP traffic: nothing is lost but packets in the milliseconds of an
/// exchange, no number is used twice, and what was received before is a replay after.
fn moved_under_traffic(net: &Protected, moves: &[&(dyn Fn() -> Result<()> + Sync)]) -> Result<()> {
    let policy = |suite: &Suite| suite.tool("ipsecconf", &["-l"]);
    let policies = (policy(&net.a)?, policy(&net.b)?);
    let spis = (net.a.outbound_spis()?, net.b.outbound_spis()?);
    let capture = Capture::start(&net.sites.router, "to-b")?;
    for _ in 0..3 {
        ensure!(net.sites.a.ping(&INNER_B.to_string(), &[])?, "no answer through the tunnel");
    }
    let old: Vec<Vec<u8>> = toward_b(capture.finish()?);
    ensure!(old.len() >= 3, "only {} sealed packets", old.len());
    let before = (net.a.counters()?, net.b.counters()?);
    let capture = Capture::start(&net.sites.router, "to-b")?;
    let finished = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let traffic = scope.spawn(|| -> Result<u64> {
            let mut octets = 0;
            while !finished.load(Ordering::Acquire) {
                octets += transfer::tcp(&net.sites.a, &net.sites.b, INNER_B, 2 << 20, |_| {})?.bytes;
                octets += transfer::tcp(&net.sites.b, &net.sites.a, INNER_A, 2 << 20, |_| {})?.bytes;
            }
            Ok(octets)
        });
        let moved = moves.iter().enumerate().try_for_each(|(n, step)| step().with_context(|| format!("move {n}")));
        finished.store(true, Ordering::Release);
        let octets = traffic.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        moved?;
        println!("{} moves while {} MiB went through", moves.len(), octets? >> 20);
        Ok::<_, anyhow::Error>(())
    })?;
    let seen = capture.finish()?;
    nothing_in_clear(&seen)?;
    let after = (net.a.counters()?, net.b.counters()?);
    let lost = [drops(&before.0, &after.0), drops(&before.1, &after.1)].concat();
    println!("dropped on the way: {lost:?}");
    // A packet that the old programs sealed may come after the first of the new ones, far left of the window by then. Numbers
    // used twice would be replays by the hundred.
    let expected = |drop: &String| drop.starts_with("drop-larval ") || drop.starts_with("drop-replay ");
    ensure!(lost.iter().all(expected), "packets were dropped: {}", lost.join(", "));
    for (before, after) in [(&before.0, &after.0), (&before.1, &after.1)] {
        let replays = counter(after, "drop-replay") - counter(before, "drop-replay");
        ensure!(replays < 64, "{replays} packets were replays: numbers came twice");
    }
    ensure!(spis == (net.a.outbound_spis()?, net.b.outbound_spis()?), "SAs are others than before");
    ensure!(policies == (policy(&net.a)?, policy(&net.b)?), "the policy is another one than before");
    for suite in [&net.a, &net.b] {
        let sas = suite.sas()?;
        let ahead = sas.iter().filter(|sa| text(sa, "direction") == "out" && number(sa, "packets") > 0);
        let ahead: Vec<u64> = ahead.map(|sa| number(sa, "replay_value")).collect();
        ensure!(!ahead.is_empty() && ahead.iter().all(|seq| *seq > LEAP), "numbers were not left out: {ahead:?}");
    }
    // Old packets, within the window or beyond it, are known.
    let opened = counter(&after.1, "opened");
    replay(&net.sites.router, "to-b", &old)?;
    let start = Instant::now();
    while counter(&net.b.counters()?, "drop-replay") < counter(&after.1, "drop-replay") + old.len() as u64 {
        ensure!(start.elapsed() < Duration::from_secs(20), "{} old packets were not refused as replays", old.len());
        std::thread::sleep(Duration::from_millis(20));
    }
    ensure!(counter(&net.b.counters()?, "opened") == opened, "an old packet was opened");
    ensure!(net.sites.a.ping(&INNER_B.to_string(), &[])?, "no answer through the tunnel");
    Ok(())
}

/// The sealed packets to B among those that were kept.
fn toward_b(seen: Seen) -> Vec<Vec<u8>> {
    let is_sealed = |frame: &[u8]| frame.get(12..14) == Some(&[8, 0]) && frame.get(23) == Some(&50);
    let to_b = |frame: &[u8]| frame.get(30..34) == Some(&[203, 0, 113, 2]);
    seen.kept.into_iter().map(|(_, frame)| frame).filter(|frame| is_sealed(frame) && to_b(frame)).collect()
}

fn upgrade(suite: &Suite, options: &[&str]) -> Result<Value> {
    let text = suite.tool("espadm", &[&["--json", "upgrade"], options].concat())?;
    serde_json::from_str(&text).with_context(|| format!("espadm upgrade printed {text:?}"))
}
