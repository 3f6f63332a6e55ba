//! WireGuard in user space between the two gateways: wireguard-go over a TUN device, set up by wg(8).

use crate::net::daemon::Daemon;
use crate::net::{Host, Lab};
use crate::workspace::run_text;
use anyhow::{Context, Result, bail};
use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Packages of Debian.
pub(super) const PACKAGES: [&str; 2] = ["wireguard-go", "wireguard-tools"];

const PORT: u16 = 51820;

/// One end.
pub(super) struct Wireguard {
    host: Host,
    interface: String,
    key_file: PathBuf,
    public_key: String,
    _daemon: Daemon,
}

impl Wireguard {
    /// Starts wireguard-go on a host, with a fresh key.
    ///
    /// # Errors
    /// It does not start, or wg refuses; the error has what they said.
    pub(super) fn start(lab: &Lab, host: &Host) -> Result<Self> {
        // The control socket goes by the name of the interface, and /run is shared by all hosts.
        let interface = format!("wg{}{}", std::process::id(), host.name());
        let socket = PathBuf::from("/run/wireguard").join(format!("{interface}.sock"));
        let left_by_kill = socket.clone();
        lab.on_end(move || {
            let _ = fs::remove_file(left_by_kill);
        })?;
        let mut command = host.command("wireguard-go");
        // It warns on Linux that the kernel has a WireGuard of its own, and goes on.
        command.args(["--foreground", &interface]).env("LOG_LEVEL", "error");
        let daemon = host.start(command, &lab.directory().join(format!("{}-wireguard.log", host.name())))?;
        let start = Instant::now();
        while !socket.exists() {
            if let Some(status) = daemon.status()? {
                bail!("wireguard-go on {} ended with {status}\n{}", host.name(), daemon.log_end());
            }
            if start.elapsed() > Duration::from_secs(5) {
                bail!("wireguard-go on {} does not open {}\n{}", host.name(), socket.display(), daemon.log_end());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let key_file = lab.directory().join(format!("{}-wireguard.key", host.name()));
        let key = run_text(Command::new("wg").arg("genkey"))?;
        let mut options = fs::OpenOptions::new();
        let file = options.create(true).truncate(true).write(true).mode(0o600).open(&key_file);
        file.and_then(|mut file| file.write_all(key.as_bytes()))
            .with_context(|| format!("writing {}", key_file.display()))?;
        Ok(Self { host: host.clone(), interface, key_file, public_key: public_key(&key)?, _daemon: daemon })
    }

    /// Joins it to its peer at the address `remote`, with the network `net` behind it; `own` is the address that
    /// packets of this host carry.
    ///
    /// # Errors
    /// What wg or ip said.
    pub(super) fn join(&self, peer: &Self, remote: &str, net: &str, own: &str) -> Result<()> {
        let (interface, port) = (&self.interface, PORT.to_string());
        let key_file = self.key_file.to_string_lossy();
        self.host.run(
            "wg",
            &[
                &["set", interface, "private-key", &key_file, "listen-port", &port][..],
                &["peer", &peer.public_key, "allowed-ips", net, "endpoint", &format!("{remote}:{PORT}")],
            ]
            .concat(),
        )?;
        // wireguard-go makes the interface with the MTU that fits 1500 outside over IPv6.
        self.host.ip(&[&format!("link set {interface} up"), &format!("route replace {net} dev {interface} src {own}")])
    }
}

fn public_key(key: &str) -> Result<String> {
    let child = Command::new("wg").arg("pubkey").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut child = child.context("could not start wg")?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(key.as_bytes()).context("writing to wg pubkey")?;
    }
    let output = child.wait_with_output().context("waiting for wg pubkey")?;
    if !output.status.success() {
        bail!("wg pubkey ended with {}", output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
