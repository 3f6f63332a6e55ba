//! Packages of Debian: which are there, and installing what is missing when the user may. Everywhere else the missing
//! ones are listed, so that whoever looks after the machine knows what to do.

use crate::workspace::{run, run_shown};
use anyhow::{Context, Result, bail};
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// What was found installed. dpkg-query reads a list of thousands, and every lab asks for the same.
static SEEN: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Makes sure that `packages` are installed, and says what it installs. `purpose` ends the sentence "needed for ...".
///
/// # Errors
/// Names the missing packages when this is not Debian or the user is not root, or what apt-get said.
pub fn ensure(packages: &[&str], purpose: &str) -> Result<()> {
    let known = |package: &&str| SEEN.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|seen| seen == package);
    if packages.iter().all(known) {
        return Ok(());
    }
    let missing = missing(packages)?;
    if missing.is_empty() {
        let seen = packages.iter().map(|package| (*package).to_owned());
        SEEN.lock().unwrap_or_else(PoisonError::into_inner).extend(seen);
        return Ok(());
    }
    let list = missing.join(" ");
    if !Path::new("/usr/bin/apt-get").exists() {
        bail!("needed for {purpose} and not found; by the names Debian gives them: {list}");
    }
    if !nix::unistd::geteuid().is_root() {
        bail!("needed for {purpose} and not installed: run as root `apt-get install --no-install-recommends {list}`");
    }
    eprintln!("installing for {purpose}: {list}");
    let apt = || {
        let mut command = Command::new("apt-get");
        command.args(["-y", "-qq", "-o", "Dpkg::Use-Pty=0"]).env("DEBIAN_FRONTEND", "noninteractive");
        command
    };
    // A list of packages that is out of date fails the installation: fetch it first, it costs seconds.
    run(apt().arg("update"))?;
    run_shown(apt().args(["install", "--no-install-recommends"]).args(&missing).stdout(std::process::Stdio::null()))
        .with_context(|| format!("installing {list}"))
}

/// Those of `packages` that dpkg does not list as installed.
fn missing<'a>(packages: &[&'a str]) -> Result<Vec<&'a str>> {
    if !Path::new("/usr/bin/dpkg-query").exists() {
        return Ok(packages.to_vec());
    }
    // dpkg-query ends with an error when one of the names is unknown to it; what it prints counts.
    let output = Command::new("dpkg-query")
        .args(["-W", "-f", "${db:Status-Status} ${Package}\n"])
        .args(packages)
        .output()
        .context("could not start dpkg-query")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let installed: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("installed ")).collect();
    Ok(packages.iter().copied().filter(|package| !installed.contains(package)).collect())
}
