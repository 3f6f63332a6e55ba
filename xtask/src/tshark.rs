//! tshark as a judge of what was on the wire.

use crate::debian;
use crate::net::capture::Seen;
use crate::workspace::run_text;
use anyhow::{Result, ensure};
use std::path::Path;
use std::process::Command;

/// What tshark thinks of the IKE messages of a capture.
#[derive(Clone, Copy, Debug)]
pub struct Verdict {
    /// Frames that it decodes as IKE.
    pub ike: usize,
    /// Frames of any protocol that it calls malformed.
    pub malformed: usize,
}

/// Decodes a capture; `file` is where the pcap goes and stays.
///
/// # Errors
/// tshark is missing or fails.
pub fn judge(seen: &Seen, file: &Path) -> Result<Verdict> {
    debian::ensure(&["tshark"], "decoding captures")?;
    seen.write_pcap(file)?;
    let count = |filter: &str| -> Result<usize> {
        let text = run_text(Command::new("tshark").arg("-r").arg(file).args(["-n", "-Y", filter]))?;
        Ok(text.lines().count())
    };
    Ok(Verdict { ike: count("isakmp")?, malformed: count("_ws.malformed")? })
}

/// Fails unless tshark finds at least `least` IKE messages in the capture and nothing malformed.
///
/// # Errors
/// Says what was found instead and where the pcap is.
pub fn accept(seen: &Seen, file: &Path, least: usize) -> Result<()> {
    let verdict = judge(seen, file)?;
    ensure!(verdict.malformed == 0, "tshark calls {} frames of {} malformed", verdict.malformed, file.display());
    ensure!(verdict.ike >= least, "tshark finds {} IKE messages in {}, not {least}", verdict.ike, file.display());
    Ok(())
}
