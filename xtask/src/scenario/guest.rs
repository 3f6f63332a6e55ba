//! The data path on another kernel: what it finds there, and whether it carries packets.

use super::echo::{Plan, echoes};
use super::manual::{manual_keys, nothing_in_clear};
use super::topology::{INNER_A, INNER_B, Protected};
use crate::net::capture::Capture;
use crate::net::{Lab, transfer};
use crate::suite::{Suite, drops};
use crate::workspace::{binaries, run_text};
use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// The kernel has exactly those features that its version promises.
pub(super) fn features() -> Result<()> {
    let lab = Lab::new("features")?;
    let host = lab.host("a")?;
    println!("{}", run_text(host.command(binaries()?.join("espadm")).arg("features"))?.trim_end());
    let text = run_text(host.command(binaries()?.join("espadm")).args(["features", "--json"]))?;
    let features: Vec<Value> = serde_json::from_str(&text).with_context(|| format!("espadm printed {text:?}"))?;
    let release = nix::sys::utsname::uname().context("uname")?.release().to_string_lossy().into_owned();
    let kernel = version(&release).with_context(|| format!("the release {release}"))?;
    for feature in &features {
        let member = |name: &str| feature.get(name).and_then(Value::as_str).unwrap_or_default();
        let since = version(member("since")).with_context(|| format!("no version in {feature}"))?;
        let present = feature.get("present").and_then(Value::as_bool).context("a feature that is neither")?;
        ensure!(present == (kernel >= since), "{} on {release}: present is {present}", member("name"));
    }
    ensure!(features.iter().any(|feature| feature.get("name").is_some_and(|name| name == "TCX")), "nothing about TCX");
    // Programs are where the features say that they are.
    let clsact = kernel < (6, 6);
    lab.join((&host, "wan0"), (&lab.host("b")?, "wan0"))?;
    let suite = Suite::attach(&lab, &host, &["wan0"])?;
    let shown: Value = serde_json::from_str(&suite.tool("espadm", &["--json", "show"])?)?;
    let interface = shown.pointer("/interfaces/0").context("no interface is attached")?;
    ensure!(interface.get("clsact") == Some(&Value::Bool(clsact)), "the programs are elsewhere: {interface}");
    let filters = |direction: &str| host.run("tc", &["filter", "show", "dev", "wan0", direction]);
    let has = |text: String| text.contains("direct-action");
    ensure!(has(filters("ingress")?) == clsact && has(filters("egress")?) == clsact, "tc does not list our filters");
    suite.tool("espadm", &["detach", "wan0"])?;
    ensure!(!has(filters("ingress")?) && !has(filters("egress")?), "detached, and yet the filters are there");
    Ok(())
}

/// The numbers of `6.12.117+deb12-amd64`, the first two.
fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// Both ends are ours. Little traffic: an emulated processor loses packets of a burst in the queues of the kernel.
pub(super) fn tunnel() -> Result<()> {
    for (algorithm, policy) in
        [("chacha20-poly1305", "encr_algs chacha20-poly1305"), ("aes-gcm", "encr_algs aes-gcm(256)")]
    {
        let net = Protected::new("guest", policy, &[])?;
        manual_keys(&net, algorithm)?;
        let before = (net.a.counters()?, net.b.counters()?);
        let capture = Capture::start(&net.sites.router, "to-a")?;
        echoes(&net.sites.a, &net.sites.b, INNER_B, Plan::new(LARGEST))?;
        echoes(&net.sites.b, &net.sites.a, INNER_A, Plan::new(LARGEST))?;
        transfer::tcp(&net.sites.a, &net.sites.b, INNER_B, BYTES, |_| {})?;
        transfer::tcp(&net.sites.b, &net.sites.a, INNER_A, BYTES, |_| {})?;
        let seen = capture.finish()?;
        nothing_in_clear(&seen)?;
        let after = (net.a.counters()?, net.b.counters()?);
        let lost = [drops(&before.0, &after.0), drops(&before.1, &after.1)].concat();
        ensure!(lost.is_empty(), "{algorithm}: packets were dropped: {}", lost.join(", "));
        println!("{algorithm}: {} ESP packets", seen.esp);
    }
    Ok(())
}

/// Octets of UDP payload that just fit: 1446 of an inner packet at MTU 1500, less IPv4 and UDP header.
const LARGEST: usize = 1446 - 28;

/// Payload of each transfer.
const BYTES: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert_eq!(version("6.12.117+deb12-amd64"), Some((6, 12)));
        assert!(version("6.6") > version("6.1.0-56-amd64") && version("6.12") > version("6.6"));
        assert_eq!(version("linux"), None);
    }
}
