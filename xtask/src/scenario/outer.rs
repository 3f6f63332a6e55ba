//! Outer interfaces that are no network card: a bridge and a VLAN, on a veth. What cannot work is refused with the reason.

use super::manual::through_the_tunnel;
use super::topology::{Protected, TwoSites};
use crate::net::Host;
use anyhow::{Context, Result, ensure};
use std::process::Command;

const ALGORITHM: &str = "encr_algs chacha20-poly1305";

/// Moves the address and the routes of host A to `interface`, and those of the router to `router`.
fn move_addresses(sites: &TwoSites, interface: &str, router: &str) -> Result<()> {
    sites.a.ip(&[
        "address flush dev wan0",
        &format!("address add 198.51.100.2/24 dev {interface}"),
        "route replace default via 198.51.100.1",
        "route replace 10.2.0.0/24 via 198.51.100.1 src 10.1.0.1",
    ])?;
    if router != "to-a" {
        sites.router.ip(&[
            "address flush dev to-a",
            &format!("address add 198.51.100.1/24 dev {router}"),
            "route replace 10.1.0.0/24 via 198.51.100.2",
        ])?;
    }
    Ok(())
}

/// What espadm says when it refuses to attach.
fn refusal(command: &mut Command) -> Result<String> {
    let output = command.output().context("could not start espadm")?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(1), "espadm attached what cannot work: {text}");
    Ok(text)
}

/// The bridge has address and programs; XDP is generic there. Its port and the exit by XDP redirect are refused, and what
/// is refused leaves nothing attached.
pub(super) fn bridge() -> Result<()> {
    let sites = TwoSites::new("bridge")?;
    sites.a.ip(&["link add br0 type bridge", "link set wan0 master br0", "link set br0 up"])?;
    move_addresses(&sites, "br0", "to-a")?;
    let net = Protected::on(sites, ALGORITHM, &["br0"], &["wan0"])?;
    shows(&net, "br0", "generic")?;
    through_the_tunnel(&net, "chacha20-poly1305", 4 << 20)?;
    let espadm = |arguments: &[&str]| refusal(net.a.command("espadm").arg("attach").args(arguments));
    let port = espadm(&["wan0"])?;
    ensure!(port.contains("a port of br0") && port.contains("attach br0"), "{port}");
    net.a.tool("espadm", &["detach", "br0"])?;
    for (arguments, reason) in [
        (&["--exit", "xdp", "br0"][..], "does not transmit XDP frames; --exit neighbour"),
        (&["--mode", "native", "br0"], "--mode generic works everywhere"),
        (&["--lan", "br0", "br0"], "the gateway shortcut needs XDP in the driver"),
    ] {
        let said = espadm(arguments)?;
        ensure!(said.contains(reason), "{arguments:?}: {said}");
        let shown = net.a.tool("espadm", &["--json", "show"])?;
        ensure!(shown.contains("\"interfaces\": []"), "{arguments:?} left something: {shown}");
    }
    Ok(())
}

/// A VLAN of 802.1Q, attached alone, and attached together with the veth that carries it, whose programs see its frames
/// first: without their tags, as those of a card that takes them out.
pub(super) fn vlan() -> Result<()> {
    for (alone, attach) in [(true, &["vlan7"][..]), (false, &[])] {
        let mut sites = TwoSites::new(if alone { "vlan" } else { "vlanall" })?;
        let add = |host: &Host, lower: &str| -> Result<()> {
            host.ip(&[&format!("link add link {lower} name vlan7 type vlan id 7"), "link set vlan7 up"])
        };
        add(&sites.a, "wan0")?;
        add(&sites.router, "to-a")?;
        move_addresses(&sites, "vlan7", "vlan7")?;
        sites.wire = "vlan7";
        let net = Protected::on(sites, ALGORITHM, attach, &["wan0"])?;
        shows(&net, "vlan7", "generic")?;
        through_the_tunnel(&net, "chacha20-poly1305", 512 << 10).with_context(|| format!("attached: {attach:?}"))?;
    }
    Ok(())
}

/// `espadm show` names the interface with its mode, and the exit that works there.
fn shows(net: &Protected, interface: &str, mode: &str) -> Result<()> {
    let shown = net.a.tool("espadm", &["show"])?;
    let line = shown.lines().find(|line| line.starts_with(interface)).unwrap_or_default();
    ensure!(line.contains(mode) && line.contains("neighbour"), "{shown}");
    Ok(())
}
