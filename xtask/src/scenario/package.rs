//! The package on a host that systemd has booted: installed, in use, upgraded under traffic, purged.

use super::manual::nothing_in_clear;
use super::topology::{A, B, INNER_B, NET_A, NET_B, TwoSites};
use crate::net::booted::Booted;
use crate::net::capture::Capture;
use crate::net::daemon::Daemon;
use crate::net::transfer;
use crate::package::{self, Effort, NAME};
use crate::suite::{Suite, text};
use crate::workspace::{binaries, run_text};
use crate::{debian, workspace};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

const RULES: &str = "ikesa_xform { encr_alg aes-gcm(256) auth_alg sha256 oakley_group 31 }\n";

const KEYS: &str = "{ label \"vpn0\" key 0x7b1a4e8c30d95f62a7c4e01b88f3d6259e0c4b7d12aa5f3860d1e94c3b7f2a60 }\n";

/// Where what the package installs, or its programs make, may be left behind.
const PLACES: [&str; 7] = ["/etc", "/lib/systemd", "/run/ipsec", "/usr/libexec", "/usr/sbin", "/usr/share", "/var"];

pub(super) fn life() -> Result<()> {
    package::prepare()?;
    debian::ensure(&["dbus", "lintian", "man-db", "systemd"], "the package")?;
    let sites = TwoSites::new("package")?;
    let directory = sites.lab.directory().join("packages");
    let start = Instant::now();
    let told = |what: &str| println!("{:>5.1} s {what}", start.elapsed().as_secs_f64());
    // Once, not for each package: what debuggers need is ten times the rest.
    let programs = directory.join("programs");
    package::strip(&binaries()?, &programs)?;
    let build = |number| package::build(&programs, &directory, number, Effort::Test);
    let (first, second) = (build(1)?, build(2)?);
    let octets = fs::metadata(&first)?.len();
    told(&format!("packages of {} MiB are made", octets >> 20));
    form(&programs, &directory.join("form"))?;
    told("checked");
    let booted = Booted::boot(&sites.lab, &sites.a)?;
    let before = files(&booted)?;
    for package in [&first, &second] {
        let name = package.file_name().context("a package without a name")?;
        fs::copy(package, booted.path("/tmp").join(name)).context("copying the package")?;
    }
    install(&booted, 1)?;
    delivered(&booted)?;
    told("installed");
    let (suite, _daemon) = configure(&sites, &booted)?;
    told("in use");
    upgrade(&sites, &booted, &suite)?;
    told("upgraded");
    purge(&booted, &before)
}

/// Made twice from the same, the package has the same octets, and Debian's own checker finds no error, but for what a
/// package outside of Debian does not need. The programs make no difference to either and are others here, small ones.
fn form(programs: &Path, directory: &Path) -> Result<()> {
    let small = directory.join("programs");
    fs::create_dir_all(&small)?;
    for program in fs::read_dir(programs)? {
        fs::copy("/bin/true", small.join(program?.file_name())).context("copying /bin/true")?;
    }
    let build = || package::build(&small, directory, 1, Effort::Release);
    let package = build()?;
    let octets = fs::read(&package)?;
    ensure!(fs::read(build()?)? == octets, "the same sources have made other octets");
    let mut command = Command::new("lintian");
    command.args(["--allow-root", "--fail-on=error", "--no-cfg", "--suppress-tags=bogus-mail-host,no-manual-page"]);
    run_text(command.arg(&package)).map(drop)
}

fn install(booted: &Booted, number: u32) -> Result<()> {
    let version = format!("{}-{number}", env!("CARGO_PKG_VERSION"));
    let mut command = booted.command("sh");
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command.args(["-c", &format!("dpkg --install /tmp/{NAME}_{version}_*.deb")]);
    let said = workspace::run(&mut command)?;
    println!("{}", String::from_utf8_lossy(&said.stderr).trim());
    let status = booted.run("dpkg-query", &["-W", "-f", "${db:Status-Status} ${Version}", NAME])?;
    ensure!(status == format!("installed {version}"), "the package is {status}");
    Ok(())
}

/// Modes, units and groups after the first installation; nothing is attached yet.
fn delivered(booted: &Booted) -> Result<()> {
    for (path, mode) in [("/etc/inet/ike", "700"), ("/etc/inet/secret", "700"), ("/etc/inet", "755")] {
        let found = booted.run("stat", &["-c", "%a %U:%G", path])?;
        ensure!(found.trim() == format!("{mode} root:root"), "{path} is {found}");
    }
    for (unit, expected) in [
        ("ipsec-algs.service", "enabled"),
        ("ipsec-policy.service", "enabled"),
        ("ipsec-datapath.service", "disabled"),
        ("ipsec-manual-key.service", "disabled"),
        ("ipsec-ikev2.service", "disabled"),
    ] {
        let state = booted.output("systemctl", &["is-enabled", unit])?;
        let state = String::from_utf8_lossy(&state.stdout).into_owned();
        ensure!(state.trim() == expected, "{unit} is {state}");
    }
    ensure!(booted.show("ipsec-policy.service", ["ActiveState"])? == ["active"], "the policy was not started");
    ensure!(booted.show("ipsec-datapath.service", ["ActiveState"])? == ["inactive"], "something was attached unasked");
    booted.run("getent", &["group", "ipsec-manage", "ipsec-value"])?;
    booted.run("systemd-analyze", &["verify", "--man=no", "ipsec-policy.service", "ipsec-ikev2.service"])?;
    let completion = booted.run("cat", &["/usr/share/bash-completion/completions/ipsecprop"])?;
    ensure!(completion.contains("unset"), "the completion for bash is {completion:?}");
    booted.run("man", &["--where", "8", "ipsecprop"]).map(drop)
}

/// A tunnel that the installed services negotiate with a host beside.
fn configure(sites: &TwoSites, booted: &Booted) -> Result<(Suite, Daemon)> {
    let suite = Suite::attach(&sites.lab, &sites.b, &[])?;
    suite.tool("espadm", &["tunnel", "create", "vpn0", "-a", &format!("local={B},remote={A}")])?;
    suite.policy(&format!(
        "{{ tunnel vpn0 negotiate tunnel laddr {NET_B} raddr {NET_A} }} ipsec {{ encr_algs aes-gcm }}\n"
    ))?;
    let rule = |local: &str, remote: &str| {
        format!("{RULES}{{ label \"vpn0\" auth_method preshared local_addr {local} remote_addr {remote} }}\n")
    };
    let daemon = suite.daemon(&rule(B, A), KEYS)?;
    let policy =
        format!("{{ tunnel vpn0 negotiate tunnel laddr {NET_A} raddr {NET_B} }} ipsec {{ encr_algs aes-gcm }}\n");
    booted.write("/etc/inet/ipsecinit.conf", &policy, 0o644)?;
    booted.write("/etc/inet/ike/ikev2.config", &rule(A, B), 0o644)?;
    booted.write("/etc/inet/ike/ikev2.preshared", KEYS, 0o600)?;
    booted.run("systemctl", &["start", "ipsec-datapath.service"])?;
    booted.run("espadm", &["tunnel", "create", "vpn0", "-a", &format!("local={A},remote={B}")])?;
    booted.run("systemctl", &["restart", "ipsec-policy.service"])?;
    booted.run("systemctl", &["enable", "--now", "ipsec-ikev2.service"])?;
    booted.until("ipsec-ikev2.service", "ActiveState", "active")?;
    let log = || format!("{}\n{}", booted.journal("ipsec-ikev2.service"), daemon.log_end());
    transfer::tcp(&sites.a, &sites.b, INNER_B, 1 << 20, |_| {}).with_context(log)?;
    Ok((suite, daemon))
}

/// Under traffic: nothing in clear, no SA lost, the daemon not touched, the services not started anew.
fn upgrade(sites: &TwoSites, booted: &Booted, suite: &Suite) -> Result<()> {
    let state = || -> Result<(BTreeSet<String>, [String; 2])> {
        let daemon = booted.show("ipsec-ikev2.service", ["MainPID", "UnitFileState"])?;
        Ok((spis(booted)?, daemon))
    };
    let before = (state()?, suite.outbound_spis()?);
    ensure!(!before.0.0.is_empty(), "there are no SAs");
    let capture = Capture::start(&sites.router, "to-a")?;
    let octets = std::thread::scope(|scope| -> Result<u64> {
        let upgraded = scope.spawn(|| install(booted, 2));
        let mut octets = 0;
        while !upgraded.is_finished() {
            octets += transfer::tcp(&sites.a, &sites.b, INNER_B, 1 << 20, |_| {})?.bytes;
        }
        upgraded.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok(octets)
    })?;
    nothing_in_clear(&capture.finish()?)?;
    println!("{} MiB went through while the package was upgraded", octets >> 20);
    ensure!((state()?, suite.outbound_spis()?) == before, "the upgrade has changed SAs or the daemon");
    booted.until("ipsec-datapath.service", "ActiveState", "active")?;
    transfer::tcp(&sites.a, &sites.b, INNER_B, 1 << 20, |_| {}).map(drop)
}

fn spis(booted: &Booted) -> Result<BTreeSet<String>> {
    let dump = booted.run("ipseckey", &["--json", "dump"])?;
    let sas: Vec<Value> = serde_json::from_str(&dump).with_context(|| format!("ipseckey dump printed {dump:?}"))?;
    Ok(sas.iter().map(|sa| text(sa, "spi").to_owned()).collect())
}

/// Every file is gone, with what the programs and the administrator made, and so are groups, units and the data path.
fn purge(booted: &Booted, before: &BTreeSet<String>) -> Result<()> {
    booted.run("ipsecprop", &["set", "ike:ikev2", "config/debug_level=op"])?;
    booted.run("dpkg", &["--purge", NAME])?;
    let left: Vec<String> = files(booted)?.difference(before).cloned().collect();
    ensure!(left.is_empty(), "the package has left {}", left.join(" "));
    let groups = booted.output("getent", &["group", "ipsec-manage"])?;
    ensure!(!groups.status.success(), "a group is left");
    let units = booted.run("systemctl", &["list-units", "--all", "--plain", "--no-legend", "ipsec-*", "run-ipsec*"])?;
    let active: Vec<&str> = units.lines().filter(|line| line.contains(" active ")).collect();
    ensure!(active.is_empty(), "units are left: {}", active.join("\n"));
    let links = booted.run("ip", &["-o", "link", "show"])?;
    ensure!(!links.contains("ipsec0") && !links.contains("xdp"), "the data path is left: {links}");
    Ok(())
}

/// What is in the places of the package, less what dpkg and systemd write for themselves.
fn files(booted: &Booted) -> Result<BTreeSet<String>> {
    let listed = booted.output("find", &[&PLACES, ["-xdev"].as_slice()].concat())?;
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let theirs = [
        "/var/lib/dpkg/",
        "/var/log/journal/",
        "/var/lib/systemd/",
        "/var/cache/",
        "/var/tmp/",
        "/etc/group",
        "/etc/gshadow",
    ];
    let ours = |line: &&str| !theirs.iter().any(|start| line.starts_with(start));
    Ok(listed.lines().filter(ours).map(str::to_owned).collect())
}
