//! scapy from PyPI, in an environment of its own below `target`: a second opinion on every octet of ESP.

use crate::debian;
use crate::workspace::{run, run_text, target};
use anyhow::{Context, Result};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// scapy leaves the ciphers to `cryptography`.
const PACKAGES: [&str; 2] = ["scapy==2.6.1", "cryptography==45.0.7"];

/// The Python that has scapy, which is installed when it is not there.
///
/// # Errors
/// Python cannot make an environment, or the packages cannot be fetched.
pub fn ensure() -> Result<PathBuf> {
    let environment = target("scapy");
    let (python, stamp) = (environment.join("bin/python3"), environment.join("installed"));
    let wanted = PACKAGES.join("\n");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(python);
    }
    if run(Command::new("python3").args(["-c", "import venv, ensurepip"])).is_err() {
        debian::ensure(&["python3-venv"], "scapy")?;
    }
    eprintln!("installing into {}: {}", environment.display(), PACKAGES.join(", "));
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&environment))?;
    run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(PACKAGES))?;
    fs::write(&stamp, wanted).with_context(|| format!("writing {}", stamp.display()))?;
    Ok(python)
}

/// Runs a program that uses scapy and hands back what it printed.
///
/// # Errors
/// As [`ensure`], or what the program said on its way out.
pub fn run_script(script: &str, arguments: &[&str]) -> Result<String> {
    run_text(Command::new(ensure()?).args(["-c", script]).args(arguments)).context("scapy")
}
