//! Hosts on one machine: network namespaces joined by veth pairs, programs and threads that run inside them, captures
//! on their wires. Everything a [`Lab`] makes is undone when it goes out of scope, on a panic and on a signal; what a
//! killed process left behind is removed by the next one.

pub mod booted;
pub mod capture;
pub mod daemon;
pub mod nat;
pub mod relay;
pub mod transfer;
pub mod undo;

use crate::debian;
use crate::suite;
use crate::workspace::{run, run_text};
use anyhow::{Context, Result, anyhow, bail};
use nix::sched::{CloneFlags, setns};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use undo::Undo;

/// Namespaces are called `ipsec-PID-LAB-HOST`, so that those of a dead process can be told from those in use.
const PREFIX: &str = "ipsec-";

const NAMESPACES: &str = "/run/netns";

/// A set of hosts that live and die together.
pub struct Lab {
    name: String,
    prefix: String,
    undo: Arc<Undo>,
    directory: PathBuf,
}

impl Lab {
    /// An empty lab. `name` is a short word of lower-case letters and digits, unique among the labs of this process.
    ///
    /// # Errors
    /// The user is not root, or what the harness needs is not installed and cannot be.
    pub fn new(name: &str) -> Result<Self> {
        if !nix::unistd::geteuid().is_root() {
            bail!("network namespaces and BPF programs need root: run this as root");
        }
        debian::ensure(&["iproute2", "ethtool", "iputils-ping"], "hosts in network namespaces")?;
        remove_leftovers();
        let prefix = format!("{PREFIX}{}-{name}", std::process::id());
        let undo = Undo::new();
        let directory = std::env::temp_dir().join(&prefix);
        fs::create_dir_all(&directory).with_context(|| format!("creating {}", directory.display()))?;
        let gone = directory.clone();
        undo.push(move || {
            let _ = fs::remove_dir_all(gone);
        })?;
        Ok(Self { name: name.to_owned(), prefix, undo, directory })
    }

    /// The name it was given.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A directory for the files of the lab, removed with it.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Runs `action` when the lab ends, before what was made earlier is undone.
    ///
    /// # Errors
    /// A signal ended the lab in the meantime; `action` has been run then.
    pub fn on_end(&self, action: impl FnOnce() + Send + 'static) -> Result<()> {
        self.undo.push(action)
    }

    /// A new host with nothing but a loopback interface.
    ///
    /// # Errors
    /// What `ip netns add` said.
    pub fn host(&self, name: &str) -> Result<Host> {
        let namespace = format!("{}-{name}", self.prefix);
        run(Command::new("ip").args(["netns", "add", &namespace]))?;
        let gone = namespace.clone();
        self.undo.push(move || {
            let _ = Command::new("ip").args(["netns", "delete", &gone]).stderr(Stdio::null()).status();
        })?;
        let path = Path::new(NAMESPACES).join(&namespace);
        let file = File::open(&path).with_context(|| format!("opening {}", path.display()))?;
        let host = Host { name: name.to_owned(), namespace, file: Arc::new(file), undo: Arc::clone(&self.undo) };
        host.ip(&["link set lo up"])?;
        // Nobody else is there to have an address twice; for as long as the kernel looks, it resolves no neighbour.
        host.sysctl("ipv6.conf.default.accept_dad", "0")?;
        Ok(host)
    }

    /// Joins two hosts by a veth pair whose ends carry the given names; both are up.
    ///
    /// A frame that an XDP program sends is lost when the other end has neither an XDP program nor GRO; a network card
    /// has no such condition, so GRO is turned on at both ends.
    ///
    /// # Errors
    /// What `ip` or `ethtool` said.
    pub fn join(&self, (a, a_name): (&Host, &str), (b, b_name): (&Host, &str)) -> Result<()> {
        run(Command::new("ip").args(["-n", &a.namespace, "link", "add", a_name, "type", "veth"]).args([
            "peer",
            "name",
            b_name,
            "netns",
            &b.namespace,
        ]))?;
        for (host, name) in [(a, a_name), (b, b_name)] {
            host.ip(&[&format!("link set {name} up")])?;
            // Only once it is up: before, the kernel does not tell the other end that it may send by XDP.
            host.run("ethtool", &["-K", name, "gro", "on"])?;
        }
        Ok(())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.undo.run();
    }
}

/// A network namespace that stands for a host.
#[derive(Clone)]
pub struct Host {
    name: String,
    namespace: String,
    file: Arc<File>,
    undo: Arc<Undo>,
}

impl Host {
    /// The name it has in its lab.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name that `ip netns` knows.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Runs commands of `ip`, one a string, in the order given.
    ///
    /// # Errors
    /// What `ip` said about the first that failed.
    pub fn ip(&self, commands: &[&str]) -> Result<()> {
        let mut child = Command::new("ip")
            .args(["-n", &self.namespace, "-batch", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("could not start ip")?;
        if let Some(mut input) = child.stdin.take() {
            // An `ip` that stops at the first error closes its input early; its own message says more than EPIPE.
            let _ = input.write_all((commands.join("\n") + "\n").as_bytes());
        }
        let output = child.wait_with_output().context("waiting for ip")?;
        if !output.status.success() {
            bail!("{}: ip: {}", self.name, String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    }

    /// Sets a sysctl below `net`, for example `ipv4.ip_forward`.
    ///
    /// # Errors
    /// The kernel has no such setting, or refuses the value.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        let path = Path::new("/proc/sys/net").join(key.replace('.', "/"));
        let value = value.to_owned();
        self.within(move || fs::write(&path, value).with_context(|| format!("writing {}", path.display())))
    }

    /// A command that runs on this host; it shares files and processes with the machine.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        enter_before_exec(&mut command, self.file.as_raw_fd());
        command
    }

    /// Runs a program to its end and hands back what it printed.
    ///
    /// # Errors
    /// It could not be started or failed; the error has its output.
    pub fn run(&self, program: impl AsRef<OsStr>, arguments: &[&str]) -> Result<String> {
        run_text(self.command(program).args(arguments)).with_context(|| format!("on {}", self.name))
    }

    /// Runs `work` on a thread inside the namespace and hands back its result.
    ///
    /// # Errors
    /// Those of `work`; a panic of it goes on in the caller.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                setns(&*self.file, CloneFlags::CLONE_NEWNET).context("entering the network namespace")?;
                work()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Starts a thread inside the namespace that runs on while the caller does other things.
    pub fn spawn_within<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> std::thread::JoinHandle<Result<T>> {
        let file = Arc::clone(&self.file);
        std::thread::spawn(move || {
            setns(&*file, CloneFlags::CLONE_NEWNET).context("entering the network namespace")?;
            work()
        })
    }

    /// The MAC address of an interface.
    ///
    /// # Errors
    /// There is no such interface.
    pub fn mac(&self, interface: &str) -> Result<String> {
        let text = self.run("ip", &["-o", "link", "show", "dev", interface])?;
        let mut words = text.split_whitespace().skip_while(|word| *word != "link/ether").skip(1);
        words.next().map(str::to_owned).with_context(|| format!("{interface} has no MAC address"))
    }

    /// Sends one ping and says whether its answer came within five seconds: for an answer that is to come. `arguments` may
    /// hold size, count, DF.
    ///
    /// # Errors
    /// `ping` could not be started, or it refuses its arguments.
    pub fn ping(&self, to: &str, arguments: &[&str]) -> Result<bool> {
        let output = self
            .command("ping")
            .args(["-n", "-q", "-c", "1", "-W", "5"])
            .args(arguments)
            .arg(to)
            .output()
            .context("could not start ping")?;
        match output.status.code() {
            Some(0) => Ok(true),
            Some(1) => Ok(false),
            _ => Err(anyhow!("ping {to}: {}", String::from_utf8_lossy(&output.stderr).trim())),
        }
    }

    /// As [`Host::ping`] for an answer that is not to come, or whose request is repeated: says whether none came within a
    /// second.
    ///
    /// # Errors
    /// As [`Host::ping`].
    pub fn silent(&self, to: &str, arguments: &[&str]) -> Result<bool> {
        Ok(!self.ping(to, &[&["-W", "1"], arguments].concat())?)
    }
}

/// Makes the child enter a network namespace, and die with the thread that started it: nothing of a lab outlives a
/// process that was killed.
fn enter_before_exec(command: &mut Command, namespace: RawFd) {
    let enter = move || {
        // SAFETY: both are plain system calls on values that were copied into the closure; the descriptor stays open in
        // the parent, which holds the host, until after the child was started.
        let failed = unsafe {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 || libc::setns(namespace, libc::CLONE_NEWNET) != 0
        };
        if failed { Err(std::io::Error::last_os_error()) } else { Ok(()) }
    };
    // SAFETY: the closure makes two system calls and allocates nothing, so it may run between fork and exec.
    unsafe {
        command.pre_exec(enter);
    }
}

/// Deletes the namespaces, files and instances of processes that are gone. Another process may be doing the same: what
/// cannot be deleted is left to the next.
fn remove_leftovers() {
    for (name, _) in leftovers(Path::new(NAMESPACES), PREFIX) {
        let _ = Command::new("ip").args(["netns", "delete", &name]).stderr(Stdio::null()).status();
    }
    let instances = suite::DIRECTORIES.iter().map(|directory| (PathBuf::from(directory), suite::PREFIX));
    for (directory, prefix) in instances.chain([(std::env::temp_dir(), PREFIX)]) {
        for (_, path) in leftovers(&directory, prefix) {
            let _ = fs::remove_dir_all(path);
        }
    }
}

/// What is in `directory` and carries the number of a process that is gone.
fn leftovers(directory: &Path, prefix: &str) -> Vec<(String, PathBuf)> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let named = entries.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path()));
    named.filter(|(name, _)| owner(name, prefix).is_some_and(|pid| !is_alive(pid))).collect()
}

/// The process that made what carries this name.
fn owner(name: &str, prefix: &str) -> Option<u32> {
    name.strip_prefix(prefix)?.split_once('-')?.0.parse().ok()
}

/// A zombie is dead: whoever should have waited for it may never do so.
fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The state follows the name, which is in parentheses and may hold anything.
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_labs_have_an_owner() {
        assert_eq!(owner("ipsec-123-demo-a", PREFIX), Some(123));
        assert_eq!(owner("ipsec-gateway", PREFIX), None);
        assert_eq!(owner("blue", PREFIX), None);
    }
}
