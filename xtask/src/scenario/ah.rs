//! AH with keys by hand: alone and around ESP.

use super::manual::{same_counts, state};
use super::topology::{
    A, A6, B, B6, INNER_A, INNER_A6, INNER_B, INNER_B6, NET_A, NET_A6, NET_B, NET_B6, Protected, SPI_A_TO_B,
    SPI_B_TO_A, rule,
};
use crate::net::capture::Capture;
use crate::net::transfer;
use crate::suite::drops;
use anyhow::{Context, Result, ensure};

/// What one run protects, and how.
struct Case {
    /// Name of the authenticator and octets of its key.
    auth: (&'static str, usize),
    /// ESP inside, with AES-CBC and HMAC-SHA1.
    esp: bool,
    tunnel: bool,
    outer6: bool,
    inner6: bool,
    esn: bool,
}

const MD5: (&str, usize) = ("hmac-md5", 16);
const SHA1: (&str, usize) = ("hmac-sha1", 20);
const SHA256: (&str, usize) = ("hmac-sha256", 32);
const SHA384: (&str, usize) = ("hmac-sha384", 48);
const SHA512: (&str, usize) = ("hmac-sha512", 64);

/// AH-10: every authenticator, and both modes, both families, ESN on and off, with and without ESP, spread over them.
pub(super) fn every_way() -> Result<()> {
    let net = Protected::new("ah", "encr_algs aes-gcm", &[])?;
    net.sites.add_ipv6()?;
    for (auth, esp, tunnel, outer6, inner6, esn) in [
        (SHA256, false, false, false, false, false),
        (SHA1, false, false, true, true, true),
        (SHA512, false, true, false, false, true),
        (MD5, false, true, true, true, false),
        (SHA384, false, true, true, false, false),
        (SHA256, true, true, false, false, true),
        (SHA1, true, true, false, true, false),
        (SHA512, true, false, true, true, true),
        (SHA256, true, false, false, false, false),
    ] {
        let case = Case { auth, esp, tunnel, outer6, inner6, esn };
        run(&net, &case).with_context(|| case.name())?;
    }
    Ok(())
}

impl Case {
    fn name(&self) -> String {
        let (auth, _) = self.auth;
        let family = |six: bool| if six { 6 } else { 4 };
        let mode = if self.tunnel { "tunnel" } else { "transport" };
        let esp = if self.esp { " around ESP" } else { "" };
        format!(
            "AH {auth}{esp}, {mode}, outer {}, inner {}, ESN {}",
            family(self.outer6),
            family(self.inner6),
            self.esn
        )
    }

    fn policy(&self) -> String {
        let (auth, _) = self.auth;
        let esp = if self.esp { " encr_algs aes-cbc(128) encr_auth_algs hmac-sha1" } else { "" };
        format!("auth_algs {auth}{esp}")
    }

    /// The SAs of one direction; `which` makes their keys and SPIs differ.
    fn keys(&self, which: u8, [src, dst]: [&str; 2], [isrc, idst]: [&str; 2], direction: &str) -> String {
        let (auth, octets) = self.auth;
        let spi = if which == 0 { SPI_A_TO_B } else { SPI_B_TO_A };
        let key =
            |octets: usize| (0..octets).map(|i| format!("{:02x}", i as u8 ^ ((which + 1) * 85))).collect::<String>();
        let inner = if self.tunnel { format!("isrc {isrc} idst {idst}") } else { String::new() };
        let esn = if self.esn { "esn" } else { "" };
        let common = |spi: u32| format!("spi {spi:#x} src {src} dst {dst} {direction} {inner} replay 1024 {esn}");
        let mut text = format!("add ah {} auth_alg {auth} authkey {}\n", common(spi), key(octets));
        if self.esp {
            text += &format!(
                "add esp {} encr_alg aes-cbc encrkey {} auth_alg hmac-sha1 authkey {}\n",
                common(spi + 0x100),
                key(16),
                key(20)
            );
        }
        text
    }
}

/// TUN-10: what may not be fragmented and is too long once AH is around it is answered with the size that fits, and that size
/// arrives.
fn answered(net: &Protected, case: &Case, target: &str) -> Result<()> {
    const MTU: usize = 1500;
    let host = &net.sites.a;
    let header = if case.inner6 { 40 } else { 20 };
    // Sizes that are too long have been tried before.
    for family in ["-4", "-6"] {
        host.run("ip", &[family, "route", "flush", "cache"])?;
    }
    let echo = |len: usize| (len - header - 8).to_string();
    ensure!(host.silent(target, &["-M", "do", "-s", &echo(MTU)])?, "{MTU} octets and AH arrived");
    let route = host.run("ip", &["route", "get", target])?;
    let mut words = route.split_whitespace().skip_while(|word| *word != "mtu").skip(1);
    let told: usize = words.next().with_context(|| format!("nothing was told: {route}"))?.parse()?;
    if !case.esp {
        let (_, key) = case.auth;
        // The ICVs of HMAC with MD5 and SHA-1 have 96 bits, those with SHA-2 half of the hash.
        let icv = if key < 32 { 12 } else { key / 2 };
        let (align, outer) = if case.outer6 { (8, 40) } else { (4, 20) };
        let fits = MTU - (12 + icv).next_multiple_of(align) - if case.tunnel { outer } else { 0 };
        ensure!(told == fits, "{told} octets were told, and {fits} fit");
    }
    ensure!(
        host.ping(target, &["-M", "do", "-s", &echo(told)])?,
        "{told} octets were told and do not pass: {}",
        state(net)
    );
    Ok(())
}

fn run(net: &Protected, case: &Case) -> Result<()> {
    let outer = if case.outer6 { [A6, B6] } else { [A, B] };
    let [a, b] = outer;
    let nets = if case.inner6 { [NET_A6, NET_B6] } else { [NET_A, NET_B] };
    let [net_a, net_b] = nets;
    let (inner_a, inner_b) = match (case.tunnel, case.inner6) {
        (true, true) => (INNER_A6, INNER_B6),
        (true, false) => (INNER_A, INNER_B),
        (false, _) => (a.parse()?, b.parse()?),
    };
    let policy = case.policy();
    for (suite, own, peer, here, there) in [(&net.a, a, b, net_a, net_b), (&net.b, b, a, net_b, net_a)] {
        // It may be there from the case before, as what the host has learnt of the way.
        let _ = suite.tool("espadm", &["tunnel", "delete", "vpn0"]);
        suite.tool("ipseckey", &["flush"])?;
        for family in ["-4", "-6"] {
            suite.host().run("ip", &[family, "route", "flush", "cache"])?;
        }
        if case.tunnel {
            suite.tunnel("vpn0", own, peer)?;
            suite.policy(&rule(here, there, &policy))?;
        } else {
            suite.policy(&format!("{{ laddr {own} raddr {peer} }} ipsec {{ {policy} sa shared }}"))?;
        }
    }
    for (suite, first, second) in [(&net.a, "outbound", "inbound"), (&net.b, "inbound", "outbound")] {
        let there = case.keys(0, outer, nets, first);
        let back = case.keys(1, [b, a], [net_b, net_a], second);
        suite.keys(&(there + &back))?;
    }
    let before = (net.a.counters()?, net.b.counters()?);
    let capture = Capture::start(&net.sites.router, "to-a")?;
    for size in (0..66).step_by(5).chain([1000, 2000]) {
        let size = size.to_string();
        // Above the limit the stack sends fragments, which only tunnel mode carries; the first ones are too long, in both
        // directions, and are answered with the size that is not.
        if size == "2000" {
            if !case.tunnel {
                continue;
            }
            for _ in 0..4 {
                if !net.sites.a.silent(&inner_b.to_string(), &["-s", &size, "-W", "0.5"])? {
                    break;
                }
            }
        }
        ensure!(net.sites.a.ping(&inner_b.to_string(), &["-s", &size])?, "no answer to {size} octets: {}", state(net));
    }
    answered(net, case, &inner_b.to_string())?;
    transfer::tcp(&net.sites.a, &net.sites.b, inner_b, 1 << 20, |_| {}).with_context(|| state(net))?;
    transfer::tcp(&net.sites.b, &net.sites.a, inner_a, 1 << 20, |_| {}).with_context(|| state(net))?;
    let seen = capture.finish()?;
    println!("{}: {} frames with AH", case.name(), seen.ah);
    ensure!(seen.ah > 0, "no AH was seen on the wire");
    // AH alone hides nothing; around ESP nothing may be seen.
    ensure!(!case.esp || seen.marked == 0, "{} frames in clear", seen.marked);
    let after = (net.a.counters()?, net.b.counters()?);
    let lost = [drops(&before.0, &after.0), drops(&before.1, &after.1)].concat();
    ensure!(lost.is_empty(), "packets were dropped: {}", lost.join(", "));
    same_counts(net)?;
    // ESP alone is not what the rule asks for: without the AH SA nothing leaves.
    if case.esp {
        net.a.tool("ipseckey", &["delete", "ah", "spi", &SPI_A_TO_B.to_string(), "dst", b])?;
        let capture = Capture::start(&net.sites.router, "to-a")?;
        ensure!(net.sites.a.silent(&inner_b.to_string(), &[])?, "half of what the rule asks for was enough");
        let seen = capture.finish()?;
        ensure!(seen.esp + seen.ah == 0, "{} ESP and {} AH frames left", seen.esp, seen.ah);
    }
    Ok(())
}
