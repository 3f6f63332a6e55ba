//! The configuration that the README shows, word for word, on two hosts with the addresses it uses.

use super::manual::nothing_in_clear;
use super::topology::{A, B, INNER_B, NET_A, NET_B, TwoSites};
use crate::net::capture::Capture;
use crate::net::transfer;
use crate::suite::Suite;
use crate::workspace::root;
use anyhow::{Context, Result, ensure};
use std::fs;

/// Configuration lines that one side may need.
const MOST_LINES: usize = 5;

pub(super) fn two_hosts() -> Result<()> {
    let path = root().join("README.md");
    let readme = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let block = readme.split("```text\n").nth(1).and_then(|rest| rest.split("```").next());
    let lines_a = block.context("the README has no block of configuration")?;
    // B has the same with A and B exchanged.
    let lines_b = [(A, B), (NET_A, NET_B)]
        .iter()
        .fold(lines_a.to_owned(), |text, (a, b)| text.replace(a, "\0").replace(b, a).replace('\0', b));
    let sites = TwoSites::new("readme")?;
    let a = configure(&sites, &sites.a, lines_a)?;
    let b = configure(&sites, &sites.b, &lines_b)?;
    let capture = Capture::start(&sites.router, "to-a")?;
    transfer::tcp(&sites.a, &sites.b, INNER_B, 1 << 20, |_| {})
        .with_context(|| format!("{}\n{}", a.1.log_end(), b.1.log_end()))?;
    nothing_in_clear(&capture.finish()?)
}

fn configure(sites: &TwoSites, host: &crate::net::Host, lines: &str) -> Result<(Suite, crate::net::daemon::Daemon)> {
    let command = |start: &str| -> Result<Vec<&str>> {
        let line = lines.lines().find_map(|line| line.strip_prefix(&format!("# {start}")));
        Ok(line.with_context(|| format!("the README does not say {start}"))?.split_whitespace().collect())
    };
    let file = |name: &str| -> Result<String> {
        let mut rest = lines.lines().skip_while(|line| !line.starts_with(name));
        rest.next().with_context(|| format!("the README has no {name}"))?;
        Ok(rest.take_while(|line| !line.is_empty()).map(|line| format!("{line}\n")).collect())
    };
    let policy = file("/etc/inet/ipsecinit.conf")?;
    let (config, preshared) = (file("/etc/inet/ike/ikev2.config")?, file("/etc/inet/ike/ikev2.preshared")?);
    let count = 1 + [&policy, &config, &preshared].iter().map(|text| text.lines().count()).sum::<usize>();
    ensure!(count <= MOST_LINES, "one side needs {count} lines of configuration, more than {MOST_LINES}");
    let suite = Suite::attach(&sites.lab, host, &command("espadm attach")?)?;
    suite.tool("espadm", &[vec!["tunnel", "create"], command("espadm tunnel create")?].concat())?;
    suite.policy(&policy)?;
    let daemon = suite.daemon(&config, &preshared)?;
    Ok((suite, daemon))
}
