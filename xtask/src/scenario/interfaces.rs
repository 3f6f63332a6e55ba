//! Interfaces that come and go under a watch: what goes there is protected or does not go at all.

use super::manual::{manual_keys, nothing_in_clear};
use super::topology::{INNER_B, NET_B, Protected};
use crate::net::capture::Capture;
use crate::net::daemon::Daemon;
use crate::net::transfer;
use crate::suite::{Suite, text};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::time::{Duration, Instant};

/// A second way from A to the router, over an interface that appears, goes away and appears again.
pub(super) fn come_and_go() -> Result<()> {
    let net = Protected::new("watch", "encr_algs chacha20-poly1305", &[])?;
    manual_keys(&net, "chacha20-poly1305")?;
    let log = net.sites.lab.directory().join("watch.log");
    let mut command = net.a.command("espadm");
    command.arg("watch");
    let watch = net.sites.a.start(command, &log)?;
    until(&net.a, &watch, "a watch", |shown| !is_unwatched(shown))?;
    for round in 0..2 {
        // Made as a hotplugged one is, down.
        net.sites.a.ip(&["link add late0 type veth peer name to-late"])?;
        let start = Instant::now();
        until(&net.a, &watch, "late0 attached", |shown| is_attached(shown, "late0"))?;
        println!("round {round}: attached after {:?}", start.elapsed());
        net.sites.a.ip(&[&format!("link set to-late netns {}", net.sites.router.namespace())])?;
        net.sites.router.ip(&["address add 192.0.2.1/24 dev to-late", "link set to-late up"])?;
        net.sites.a.ip(&[
            "address add 192.0.2.2/24 dev late0",
            "link set late0 up",
            "route replace 10.2.0.0/24 via 192.0.2.1 src 10.1.0.1",
            // Sealed packets go to the other gateway.
            "route replace 203.0.113.2/32 via 192.0.2.1",
        ])?;
        net.sites.router.run("ethtool", &["-K", "to-late", "gro", "on"])?;
        let capture = Capture::start(&net.sites.router, "to-late")?;
        transfer::tcp(&net.sites.a, &net.sites.b, INNER_B, 4 << 20, |_| {}).with_context(|| watch.log_end())?;
        nothing_in_clear_at_all(&capture.finish()?)?;
        // And back, when the interface is gone.
        net.sites.a.ip(&["link delete late0"])?;
        net.sites.a.ip(&[&format!("route replace {NET_B} via 198.51.100.1 src 10.1.0.1")])?;
        until(&net.a, &watch, "late0 forgotten", |shown| !is_attached(shown, "late0"))?;
    }
    // The pair is made anew, and traffic goes on.
    net.sites.a.ip(&["link delete ipsec0"])?;
    let start = Instant::now();
    until(&net.a, &watch, "ipsec0 made anew", |shown| shown.get("pair") == Some(&Value::Bool(true)))?;
    println!("ipsec0 was back after {:?}", start.elapsed());
    let capture = Capture::start(&net.sites.router, "to-a")?;
    transfer::tcp(&net.sites.a, &net.sites.b, INNER_B, 4 << 20, |_| {}).with_context(|| watch.log_end())?;
    nothing_in_clear(&capture.finish()?)?;
    watch.terminate()?;
    // Nobody watches, and what is attached is.
    let shown = show(&net.a)?;
    ensure!(is_unwatched(&shown) && is_attached(&shown, "wan0"), "after the end of the watch: {shown}");
    transfer::tcp(&net.sites.a, &net.sites.b, INNER_B, 1 << 20, |_| {}).map(drop)
}

/// ESP that leaves by another interface than the one to the peer is as good; what matters is that nothing else does.
fn nothing_in_clear_at_all(seen: &crate::net::capture::Seen) -> Result<()> {
    ensure!(seen.marked == 0 && seen.tcp == 0, "{} frames in clear on a new interface", seen.marked.max(seen.tcp));
    ensure!(seen.esp > 0, "no traffic on the new interface");
    Ok(())
}

fn show(suite: &Suite) -> Result<Value> {
    let text = suite.tool("espadm", &["--json", "show"])?;
    serde_json::from_str(&text).with_context(|| format!("espadm show printed {text:?}"))
}

fn is_unwatched(shown: &Value) -> bool {
    shown.get("watcher").is_none_or(Value::is_null)
}

fn is_attached(shown: &Value, name: &str) -> bool {
    let all = shown.get("interfaces").and_then(Value::as_array);
    all.is_some_and(|all| all.iter().any(|interface| text(interface, "name") == name))
}

fn until(suite: &Suite, watch: &Daemon, what: &str, holds: impl Fn(&Value) -> bool) -> Result<()> {
    let start = Instant::now();
    loop {
        let shown = show(suite)?;
        if holds(&shown) {
            return Ok(());
        }
        ensure!(start.elapsed() < Duration::from_secs(30), "not {what}: {shown}\n{}", watch.log_end());
        std::thread::sleep(Duration::from_millis(10));
    }
}
