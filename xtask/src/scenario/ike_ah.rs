//! AH that IKEv2 negotiates, alone or as an alternative to ESP.

use super::topology::{A, A6, B, B6, INNER_A, INNER_B, NET_A, NET_B, TwoSites, rule};
use crate::net::capture::Capture;
use crate::net::daemon::Daemon;
use crate::net::{Host, transfer};
use crate::suite::{Suite, drops, text};
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::net::IpAddr;
use std::time::{Duration, Instant};

const SECRET: &str = "{ label \"hosts\" key \"a secret of the tests, shared by two\" }\n";

fn config([here, there]: [&str; 2], [here6, there6]: [&str; 2]) -> String {
    format!(
        "ikesa_xform {{ encr_alg aes-gcm(256) auth_alg sha256 oakley_group 31 }}\n\
         {{ label \"hosts\" auth_method preshared\n\
         local_addr {here} local_addr {here6} remote_addr {there} remote_addr {there6} }}\n"
    )
}

/// One negotiation.
struct Case {
    /// Properties of the rules of A and of B.
    rules: [&'static str; 2],
    /// The addresses of both ends of a host rule; a tunnel between the networks without.
    hosts: Option<[&'static str; 2]>,
    /// What comes of it.
    protocol: &'static str,
}

const CASES: [Case; 4] = [
    Case { rules: ["auth_algs sha256"; 2], hosts: Some([A, B]), protocol: "ah" },
    Case { rules: ["auth_algs sha384"; 2], hosts: Some([A6, B6]), protocol: "ah" },
    Case { rules: ["auth_algs sha512"; 2], hosts: None, protocol: "ah" },
    // B takes what A has as its second choice.
    Case {
        rules: ["encr_algs aes-gcm(256) } or ipsec { auth_algs sha1", "auth_algs sha1"],
        hosts: Some([A, B]),
        protocol: "ah",
    },
];

/// V2-SA-07, AH-10, AH-11: both modes and families, started by traffic; then what cannot be negotiated says so.
pub(super) fn negotiated() -> Result<()> {
    let sites = TwoSites::new("ikeah")?;
    sites.add_ipv6()?;
    let side = |host: &Host, v4: [&str; 2], v6: [&str; 2]| -> Result<(Suite, Daemon)> {
        let suite = Suite::attach(&sites.lab, host, &["wan0"])?;
        let [local, remote] = v4;
        suite.tunnel("vpn0", local, remote)?;
        let daemon = suite.daemon(&config(v4, v6), SECRET)?;
        Ok((suite, daemon))
    };
    let a = side(&sites.a, [A, B], [A6, B6])?;
    let b = side(&sites.b, [B, A], [B6, A6])?;
    for case in &CASES {
        run(&sites, &a, &b, case).with_context(|| {
            let stats = |suite: &Suite| suite.tool("espadm", &["stats"]).unwrap_or_default();
            let logs = [stats(&a.0), a.1.log_end(), stats(&b.0), b.1.log_end()].join("\n");
            format!("{}: {logs}", case.rules.join(" and "))
        })?;
    }
    bundle(&sites, &a)
}

fn run(sites: &TwoSites, (a, _): &(Suite, Daemon), (b, _): &(Suite, Daemon), case: &Case) -> Result<()> {
    let [of_a, of_b] = case.rules;
    let (here, there): (IpAddr, IpAddr) = match case.hosts {
        Some([here, there]) => {
            let host = |local, remote, rule| format!("{{ laddr {local} raddr {remote} }} ipsec {{ {rule} }}\n");
            a.policy(&host(here, there, of_a))?;
            b.policy(&host(there, here, of_b))?;
            (here.parse()?, there.parse()?)
        }
        None => {
            a.policy(&rule(NET_A, NET_B, of_a))?;
            b.policy(&rule(NET_B, NET_A, of_b))?;
            (INNER_A, INNER_B)
        }
    };
    for suite in [a, b] {
        suite.tool("ipseckey", &["flush"])?;
    }
    let capture = Capture::start(&sites.router, "to-a")?;
    ensure!(sites.a.ping(&there.to_string(), &[])?, "no answer to the first ping");
    let before = (a.counters()?, b.counters()?);
    transfer::tcp(&sites.a, &sites.b, there, BYTES, |_| {})?;
    transfer::tcp(&sites.b, &sites.a, here, BYTES, |_| {})?;
    let seen = capture.finish()?;
    let after = (a.counters()?, b.counters()?);
    let lost = [drops(&before.0, &after.0), drops(&before.1, &after.1)].concat();
    ensure!(lost.is_empty(), "packets were dropped: {}", lost.join(", "));
    ensure!(seen.ah > 0 && seen.esp + seen.tcp == 0, "{} AH, {} ESP, {} clear", seen.ah, seen.esp, seen.tcp);
    for suite in [a, b] {
        let sas = suite.sas()?;
        let right = |sa: &Value| text(sa, "type") == case.protocol;
        ensure!(sas.len() == 2 && sas.iter().all(right), "no pair of {}: {sas:?}", case.protocol);
    }
    println!("{}: {} AH packets", case.rules.join(" and "), seen.ah);
    Ok(())
}

const BYTES: u64 = 1 << 20;

/// AH around ESP: the log names the rule and the reason, and nothing leaves.
fn bundle(sites: &TwoSites, (a, daemon): &(Suite, Daemon)) -> Result<()> {
    a.policy(&rule(NET_A, NET_B, "auth_algs sha256 encr_algs aes-gcm(256)"))?;
    let capture = Capture::start(&sites.router, "to-a")?;
    ensure!(sites.a.silent(&INNER_B.to_string(), &[])?, "answered without AH around ESP");
    let start = Instant::now();
    while !daemon.log()?.contains("asks for AH around ESP") {
        if start.elapsed() > Duration::from_secs(20) {
            bail!("no word about AH around ESP: {}", daemon.log_end());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let seen = capture.finish()?;
    ensure!(seen.esp + seen.ah == 0, "{} ESP and {} AH packets left", seen.esp, seen.ah);
    Ok(())
}
