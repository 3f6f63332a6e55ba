//! strongSwan as a peer, without the kernel's IPsec: charon with kernel-libipsec, which does ESP in user space over a
//! TUN device. It knows tunnel mode with UDP encapsulation and 32-bit sequence numbers, and nothing else.

use crate::debian;
use crate::net::daemon::Daemon;
use crate::net::{Host, Lab};
use crate::workspace::run_text;
use anyhow::{Context, Result};
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

const CHARON: &str = "/usr/lib/ipsec/charon";

/// charon on one host of a lab.
pub struct Strongswan {
    host: Host,
    /// Its process and log.
    pub daemon: Daemon,
    directory: PathBuf,
}

impl Strongswan {
    /// Installs what is missing of strongSwan.
    ///
    /// # Errors
    /// See [`debian::ensure`].
    pub fn ensure() -> Result<()> {
        // kernel-libipsec is an extra plugin of charon, openssl a standard one of the library, which only recommends it.
        let packages = [
            "strongswan-charon",
            "strongswan-swanctl",
            "libcharon-extra-plugins",
            "libstrongswan-extra-plugins",
            "libstrongswan-standard-plugins",
        ];
        debian::ensure(&packages, "strongSwan as a peer of the tests")
    }

    /// Where charon on `host` has its files; below it swanctl looks for `x509`, `x509ca`, `x509crl` and `private`.
    pub fn directory(lab: &Lab, host: &Host) -> PathBuf {
        lab.directory().join(format!("strongswan-{}", host.name()))
    }

    /// Starts charon on `host` and loads `connections`, which is in the syntax of swanctl.conf.
    ///
    /// # Errors
    /// charon does not start, or refuses the configuration; the error has what it said.
    pub fn start(lab: &Lab, host: &Host, connections: &str) -> Result<Self> {
        Self::ensure()?;
        let directory = Self::directory(lab, host);
        fs::create_dir_all(&directory).with_context(|| format!("creating {}", directory.display()))?;
        fs::write(directory.join("strongswan.conf"), settings(&directory))?;
        // Two charons would fight over the process id file in /run: each gets a /run of its own.
        let mut command = host.command("unshare");
        command
            .args(["--mount", "sh", "-c", "mount -t tmpfs tmpfs /run && exec \"$0\"", CHARON])
            .env("STRONGSWAN_CONF", directory.join("strongswan.conf"));
        let daemon = host.start(command, &directory.join("charon.out"))?;
        let charon = Self { host: host.clone(), daemon, directory };
        charon.wait_for_socket()?;
        charon.load(connections)?;
        Ok(charon)
    }

    /// Replaces what is configured; SAs stay.
    ///
    /// # Errors
    /// See [`Strongswan::start`].
    pub fn load(&self, connections: &str) -> Result<()> {
        fs::write(self.directory.join("swanctl.conf"), connections)?;
        self.swanctl(&["--load-all", "--clear", "--file", &self.path("swanctl.conf")]).map(|_| ())
    }

    /// Runs swanctl against this charon and hands back what it printed.
    ///
    /// # Errors
    /// swanctl failed; the error has its output and the end of charon's log.
    pub fn swanctl(&self, arguments: &[&str]) -> Result<String> {
        let mut command: Command = self.host.command("swanctl");
        command.args(arguments).args(["--uri", &format!("unix://{}", self.path("vici"))]);
        command.env("STRONGSWAN_CONF", self.path("strongswan.conf")).env("SWANCTL_DIR", &self.directory);
        run_text(&mut command).with_context(|| format!("strongSwan on {} says:\n{}", self.host.name(), self.log_end()))
    }

    /// What charon has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("charon.log")).unwrap_or_default()
    }

    /// The last lines of the log.
    pub fn log_end(&self) -> String {
        let log = self.log() + &self.daemon.log().unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines.get(lines.len().saturating_sub(40)..).unwrap_or_default().join("\n")
    }

    fn path(&self, name: &str) -> String {
        self.directory.join(name).to_string_lossy().into_owned()
    }

    fn wait_for_socket(&self) -> Result<()> {
        for _ in 0..200 {
            if self.directory.join("vici").exists() {
                return Ok(());
            }
            if let Some(status) = self.daemon.status()? {
                anyhow::bail!("charon ended with {status}\n{}", self.log_end());
            }
            std::thread::sleep(Duration::from_millis(25));
        }
        anyhow::bail!("charon did not open its control socket\n{}", self.log_end())
    }
}

fn settings(directory: &std::path::Path) -> String {
    let directory = directory.display();
    format!(
        "charon {{
    load = random nonce openssl gcm ccm ctr kdf pem pkcs1 pkcs8 pubkey x509 constraints revocation kernel-libipsec kernel-netlink socket-default vici updown
    retransmit_timeout = 1.0
    retransmit_tries = 4
    fragment_size = 600
    filelog {{
        all {{
            path = {directory}/charon.log
            time_format = %H:%M:%S
            flush_line = yes
            default = 1
            ike = 2
            cfg = 2
            chd = 2
            esp = 1
        }}
    }}
    plugins {{
        vici {{
            socket = unix://{directory}/vici
        }}
    }}
}}
"
    )
}
