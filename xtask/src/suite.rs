//! This suite on one host of a lab: its tools and its daemon, run as an administrator would, each host with an
//! instance of its own, which is gone with the lab.

use crate::net::daemon::Daemon;
use crate::net::{Host, Lab};
use crate::scenario::faults;
use crate::workspace::{binaries, run_text};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Instances are called `xtask-PID-LAB-HOST`, for the same reason as namespaces.
pub(crate) const PREFIX: &str = "xtask-";

/// Where instances leave something: pins, sockets, definitions that outlive a boot.
pub(crate) const DIRECTORIES: [&str; 3] = ["/run/ipsec/bpf", "/run/ipsec", "/var/lib/ipsec"];

/// The suite on one host.
pub struct Suite {
    host: Host,
    instance: String,
    binaries: PathBuf,
    directory: PathBuf,
}

/// What the data path of a host has counted, by the names that `espadm stats` prints.
pub type Counters = BTreeMap<String, u64>;

impl Suite {
    /// Attaches the data path to `interfaces` of `host`, with further options of `espadm attach`.
    ///
    /// # Errors
    /// What espadm said.
    pub fn attach(lab: &Lab, host: &Host, arguments: &[&str]) -> Result<Self> {
        let instance = format!("{PREFIX}{}-{}-{}", std::process::id(), lab.name(), host.name());
        let directory = lab.directory().join(host.name());
        fs::create_dir_all(&directory).with_context(|| format!("creating {}", directory.display()))?;
        let suite = Self { host: host.clone(), instance: instance.clone(), binaries: binaries()?, directory };
        let mut detach = suite.command("espadm");
        detach.args(["detach", "--all"]);
        lab.on_end(move || {
            let _ = detach.output();
            for directory in DIRECTORIES {
                let _ = fs::remove_dir_all(Path::new(directory).join(&instance));
            }
        })?;
        match faults::object() {
            None => suite.tool("espadm", &[&["attach"], arguments].concat())?,
            Some(object) => suite.tool("esp-kernel", &[&["attach", &object], arguments].concat())?,
        };
        Ok(suite)
    }

    /// The host it is on.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The name of its instance.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// A command of this workspace, by name, for this host and instance.
    pub fn command(&self, program: &str) -> Command {
        let mut command = self.host.command(self.binaries.join(program));
        command.env("IPSEC_INSTANCE", &self.instance).env_remove("SUDO_UID");
        command
    }

    /// Runs a tool to its end and hands back what it printed on standard output.
    ///
    /// # Errors
    /// The tool failed; the error has its output.
    pub fn tool(&self, program: &str, arguments: &[&str]) -> Result<String> {
        run_text(self.command(program).args(arguments)).with_context(|| format!("on {}", self.host.name()))
    }

    /// Defines a tunnel.
    ///
    /// # Errors
    /// What espadm said.
    pub fn tunnel(&self, name: &str, local: &str, remote: &str) -> Result<()> {
        self.tool("espadm", &["tunnel", "create", name, "-a", &format!("local={local},remote={remote}")]).map(|_| ())
    }

    /// Replaces the whole policy by `text`, which is in the syntax of ipsecinit.conf; nothing at all removes it.
    ///
    /// # Errors
    /// What ipsecconf said.
    pub fn policy(&self, text: &str) -> Result<()> {
        if text.is_empty() {
            return self.tool("ipsecconf", &["-F"]).map(|_| ());
        }
        let file = self.file("ipsecinit.conf", text)?;
        self.tool("ipsecconf", &["-F", "-q", "-a", &file]).map(|_| ())
    }

    /// Loads SAs by commands of ipseckey.
    ///
    /// # Errors
    /// What ipseckey said, on standard output as its original does.
    pub fn keys(&self, text: &str) -> Result<()> {
        let file = self.file("ipseckeys", text)?;
        self.tool("ipseckey", &["-f", &file]).map(|_| ())
    }

    /// All SAs, as `ipseckey --json dump` prints them, without keys.
    ///
    /// # Errors
    /// What ipseckey said.
    pub fn sas(&self) -> Result<Vec<Value>> {
        let text = self.tool("ipseckey", &["-p", "--json", "dump"])?;
        serde_json::from_str(&text).with_context(|| format!("ipseckey --json dump printed {text:?}"))
    }

    /// All IKE SAs, as `ikeadm --json dump ikesa` prints them, without keys.
    ///
    /// # Errors
    /// What ikeadm said.
    pub fn ike_sas(&self) -> Result<Vec<Value>> {
        let text = self.tool("ikeadm", &["-n", "-p", "--json", "dump", "ikesa"])?;
        serde_json::from_str(&text).with_context(|| format!("ikeadm --json dump ikesa printed {text:?}"))
    }

    /// The counters of in.ikev2d, as `ikeadm --json get stats` prints them.
    ///
    /// # Errors
    /// What ikeadm said.
    pub fn ike_stats(&self) -> Result<Value> {
        let text = self.tool("ikeadm", &["--json", "get", "stats"])?;
        serde_json::from_str(&text).with_context(|| format!("ikeadm --json get stats printed {text:?}"))
    }

    /// The SPIs of the outbound SAs that carry traffic.
    ///
    /// # Errors
    /// See [`Suite::sas`].
    pub fn outbound_spis(&self) -> Result<Vec<String>> {
        let sas = self.sas()?;
        let mature = sas.iter().filter(|sa| text(sa, "direction") == "out" && text(sa, "state") == "mature");
        Ok(mature.map(|sa| text(sa, "spi").to_owned()).collect())
    }

    /// Every counter of the data path.
    ///
    /// # Errors
    /// What espadm said.
    pub fn counters(&self) -> Result<Counters> {
        let text = self.tool("espadm", &["--json", "stats", "--all"])?;
        serde_json::from_str(&text).with_context(|| format!("espadm --json stats printed {text:?}"))
    }

    /// Starts in.ikev2d with these files and waits until it is ready for peers.
    ///
    /// # Errors
    /// It refuses the files or does not start; the error has its log.
    pub fn daemon(&self, config: &str, preshared: &str) -> Result<Daemon> {
        self.daemon_with(config, preshared, &[])
    }

    /// The same with further options of in.ikev2d.
    ///
    /// # Errors
    /// As [`Suite::daemon`].
    pub fn daemon_with(&self, config: &str, preshared: &str, options: &[&str]) -> Result<Daemon> {
        self.start_daemon(self.command("in-ikev2d"), config, preshared, options)
    }

    /// The same without CAP_NET_RAW, which AF_XDP needs and nothing else that it does.
    ///
    /// # Errors
    /// As [`Suite::daemon`].
    pub fn daemon_without_raw(&self, config: &str, preshared: &str) -> Result<Daemon> {
        let mut command = self.host.command("setpriv");
        command.args(["--bounding-set", "-net_raw"]).arg(self.binaries.join("in-ikev2d"));
        command.env("IPSEC_INSTANCE", &self.instance).env_remove("SUDO_UID");
        self.start_daemon(command, config, preshared, &[])
    }

    fn start_daemon(&self, mut command: Command, config: &str, preshared: &str, options: &[&str]) -> Result<Daemon> {
        let config = self.file("ikev2.config", config)?;
        let preshared = self.file("ikev2.preshared", preshared)?;
        command.args(["-f", &config, "--preshared", &preshared, "-d"]).args(options);
        let daemon = self.host.start(command, &self.directory.join("in.ikev2d.log"))?;
        let start = Instant::now();
        while !self.command("ikeadm").args(["get", "stats"]).output()?.status.success() {
            if let Some(status) = daemon.status()? {
                bail!("in.ikev2d on {} ended with {status}\n{}", self.host.name(), daemon.log_end());
            }
            if start.elapsed() > Duration::from_secs(30) {
                bail!("in.ikev2d on {} does not answer at its door\n{}", self.host.name(), daemon.log_end());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(daemon)
    }

    /// Writes a file that only root can read, as keys have to be kept.
    pub(crate) fn file(&self, name: &str, text: &str) -> Result<String> {
        let path = self.directory.join(name);
        let mut options = fs::OpenOptions::new();
        let file = options.create(true).truncate(true).write(true).mode(0o600).open(&path);
        file.and_then(|mut file| file.write_all(text.as_bytes()))
            .with_context(|| format!("writing {}", path.display()))?;
        Ok(path.to_string_lossy().into_owned())
    }
}

/// A member of an SA as text; empty when it is not there or no text.
pub fn text<'a>(sa: &'a Value, member: &str) -> &'a str {
    sa.get(member).and_then(Value::as_str).unwrap_or_default()
}

/// A member of an SA as a number; 0 when it is not there or no number.
pub fn number(sa: &Value, member: &str) -> u64 {
    sa.get(member).and_then(Value::as_u64).unwrap_or_default()
}

/// One counter; 0 when it is not there.
pub fn counter(counters: &Counters, name: &str) -> u64 {
    counters.get(name).copied().unwrap_or_default()
}

/// The counters for lost packets that moved between two readings, as `name +N`.
pub fn drops(before: &Counters, after: &Counters) -> Vec<String> {
    let grown = |name: &str| counter(after, name).saturating_sub(counter(before, name));
    let names = after.keys().filter(|name| name.starts_with("drop-"));
    names.filter(|name| grown(name) > 0).map(|name| format!("{name} +{}", grown(name))).collect()
}
