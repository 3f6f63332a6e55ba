//! Whether the scenarios can fail: each deliberate fault of the data path is built into an object of its own, which is never
//! installed, and scenarios that pass without it have to fail for the reason that it is.

use crate::build_ebpf;
use crate::workspace::binaries;
use anyhow::{Context, Result, bail, ensure};
use std::process::{Command, Stdio};

/// Names the object that scenarios attach in place of the one that is embedded.
const OBJECT: &str = "IPSEC_TEST_OBJECT";

/// A fault, by the feature of the package of the programs, a scenario that has to see it, and what it says then.
const FAULTS: [(&str, &str, &str); 5] = [
    ("fault-icv", "manual-chacha20-poly1305", "drop-integrity"),
    ("fault-icv", "kernel-packets", "RFC 4303 and RustCrypto say"),
    ("fault-replay", "kernel-packets", "a replayed packet"),
    ("fault-clear", "manual-chacha20-poly1305", "in clear"),
    ("fault-clear", "leak", "in clear"),
];

/// Features of the package of the programs that scenarios build objects with, in the order in which they need them.
pub(crate) const VARIANTS: [&str; 4] = ["next-abi", "fault-icv", "fault-replay", "fault-clear"];

/// The object that this process is to attach, when it is not the one that is embedded.
pub(crate) fn object() -> Option<String> {
    std::env::var(OBJECT).ok().filter(|path| !path.is_empty())
}

pub(super) fn are_seen() -> Result<()> {
    for (fault, scenario, reason) in FAULTS {
        let object = build_ebpf::variant(fault)?;
        let mut command = Command::new(binaries()?.join("xtask"));
        command.args(["scenario", "--built", scenario]).env(OBJECT, &object).stdin(Stdio::null());
        let output = command.output().with_context(|| format!("could not start scenario {scenario}"))?;
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        if output.status.success() {
            bail!("scenario {scenario} passes with {fault}\n{said}");
        }
        ensure!(said.contains(reason), "scenario {scenario} fails with {fault}, but not for {reason:?}:\n{said}");
        println!("{fault}: {scenario} fails");
    }
    Ok(())
}
