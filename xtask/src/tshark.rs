//! tshark as a judge of what was on the wire.

use crate::debian;
use crate::net::capture::Seen;
use crate::workspace::run_text;
use anyhow::{Context, Result, ensure};
use std::fs;
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
    Ok(Verdict { ike: count(file, "isakmp")?, malformed: count(file, "_ws.malformed")? })
}

/// Frames of a pcap file that fit a display filter. UDP checksums are verified.
///
/// # Errors
/// tshark does not understand the filter or the file.
pub fn count(file: &Path, filter: &str) -> Result<usize> {
    frames(&mut Command::new("tshark"), file, filter)
}

/// Keys for tshark, each a line of its table.
#[derive(Default)]
pub struct Keys {
    /// Lines of `ikev2_decryption_table`.
    pub ike: Vec<String>,
    /// Lines of `esp_sa`.
    pub esp: Vec<String>,
}

impl Keys {
    /// Writes the tables into `profile`, a directory that is made.
    ///
    /// # Errors
    /// The directory or a file cannot be written.
    pub fn write(&self, profile: &Path) -> Result<()> {
        fs::create_dir_all(profile).with_context(|| format!("creating {}", profile.display()))?;
        for (name, lines) in [("ikev2_decryption_table", &self.ike), ("esp_sa", &self.esp)] {
            let path = profile.join(name);
            fs::write(&path, lines.join("\n") + "\n").with_context(|| format!("writing {}", path.display()))?;
        }
        Ok(())
    }
}

/// As [`count`], with what the keys in `profile` open. TCP checksums are verified too.
///
/// # Errors
/// As [`count`], or a table that tshark does not understand.
pub fn count_decoded(profile: &Path, file: &Path, filter: &str) -> Result<usize> {
    let mut command = Command::new("tshark");
    command.env("WIRESHARK_CONFIG_DIR", profile);
    command.args(["-o", "esp.enable_encryption_decode:TRUE", "-o", "tcp.check_checksum:TRUE"]);
    frames(&mut command, file, filter)
}

fn frames(tshark: &mut Command, file: &Path, filter: &str) -> Result<usize> {
    tshark.arg("-r").arg(file).args(["-n", "-o", "udp.check_checksum:TRUE", "-Y", filter]);
    Ok(run_text(tshark)?.lines().count())
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
