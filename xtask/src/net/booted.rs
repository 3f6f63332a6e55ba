//! A host that systemd has booted: process 1 of its own process, mount, control group, IPC and host name namespaces, in
//! the network namespace of a [`Host`]. Its root is this machine's with a layer in memory on top, so what is installed and
//! started there is gone with it.
//!
//! Only units that touch nothing but the host are left: what would change settings of this machine's kernel is masked.

use super::{Host, Lab};
use crate::debian;
use crate::workspace::{run_text, show};
use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A machine under load takes its time; on an idle one it is two seconds.
const BOOT_LIMIT: Duration = Duration::from_secs(120);

const POLL: Duration = Duration::from_millis(50);

/// Units that change what this machine's kernel has only once, or that have nothing to do here.
const MASKED: [&str; 26] = [
    "apt-daily-upgrade.timer",
    "apt-daily.timer",
    "console-getty.service",
    "dev-hugepages.mount",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "getty.target",
    "man-db.timer",
    "proc-sys-fs-binfmt_misc.automount",
    "proc-sys-fs-binfmt_misc.mount",
    "sys-fs-fuse-connections.mount",
    "sys-kernel-config.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "systemd-binfmt.service",
    "systemd-modules-load.service",
    "systemd-random-seed.service",
    "systemd-remount-fs.service",
    "systemd-sysctl.service",
    "systemd-timesyncd.service",
    "systemd-tmpfiles-setup-dev.service",
    "systemd-udev-trigger.service",
    "systemd-udevd-control.socket",
    "systemd-udevd-kernel.socket",
    "systemd-udevd.service",
    "tmp.mount",
];

/// Mounts what a host needs, and becomes its first process. `$1` is the directory of the host.
const BOOT: &str = r#"
set -e
cd "$1"
mount -t tmpfs -o size=2G,mode=0755 layer layer
mkdir -p layer/upper/etc/systemd layer/work layer/root
cp -a masks layer/upper/etc/systemd/system
mount -t overlay -o lowerdir=/,upperdir=layer/upper,workdir=layer/work overlay layer/root
cd layer/root
# Where services must not be started, packages may not start theirs.
rm -f usr/sbin/policy-rc.d
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=0755 run run
mount -t tmpfs -o mode=1777 tmp tmp
mount -t tmpfs -o mode=0755 dev dev
for node in null zero full random urandom tty; do : > "dev/$node"; mount --bind "/dev/$node" "dev/$node"; done
ln -s /proc/self/fd dev/fd
ln -s /proc/self/fd/0 dev/stdin
ln -s /proc/self/fd/1 dev/stdout
ln -s /proc/self/fd/2 dev/stderr
mkdir dev/shm dev/pts
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
hostname booted
exec chroot . env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --system --unit=basic.target --log-target=journal-or-kmsg
"#;

/// A host with systemd as its first process; ends with its lab.
pub struct Booted {
    /// Process 1 of the host, as this machine counts.
    init: u32,
}

impl Booted {
    /// Boots `host` up to `basic.target`. Units of this machine that are enabled for later targets are not started.
    ///
    /// # Errors
    /// systemd or overlayfs is not there, or the host is not up in time.
    pub fn boot(lab: &Lab, host: &Host) -> Result<Self> {
        debian::ensure(&["systemd", "dbus"], "hosts that systemd boots")?;
        let directory = lab.directory().join("booted");
        let masks = directory.join("masks");
        for made in [&masks, &directory.join("layer")] {
            fs::create_dir_all(made).with_context(|| format!("creating {}", made.display()))?;
        }
        for unit in MASKED {
            symlink("/dev/null", masks.join(unit)).with_context(|| format!("masking {unit}"))?;
        }
        let group = control_group(lab)?;
        let log = fs::File::create(directory.join("log"))?;
        // The namespace of control groups has its root where the process is when it is made.
        let enter = "echo $$ > \"$1/cgroup.procs\" && shift && exec \"$@\"";
        let mut command = host.command("sh");
        command
            .args(["-c", enter, "sh"])
            .arg(&group)
            .args(["unshare", "--mount", "--pid", "--uts", "--ipc", "--cgroup"]);
        command.args(["--fork", "--kill-child=KILL", "sh", "-c", BOOT, "sh"]).arg(&directory);
        command.process_group(0).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let mut child = command.spawn().context("could not start unshare")?;
        let id = child.id();
        lab.on_end(move || {
            // unshare takes SIGTERM for its child, which is killed with it.
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(id.cast_signed()), Signal::SIGKILL);
            let _ = child.wait();
        })?;
        let start = Instant::now();
        let up = |text: &str| ["running", "degraded"].contains(&text.trim());
        loop {
            if let Some(init) = first_child(id) {
                let host = Self { init };
                let state = host.command("systemctl").arg("is-system-running").output();
                if state.is_ok_and(|output| up(&String::from_utf8_lossy(&output.stdout))) {
                    return Ok(host);
                }
            }
            if start.elapsed() > BOOT_LIMIT || !Path::new(&format!("/proc/{id}")).exists() {
                let log = fs::read_to_string(directory.join("log")).unwrap_or_default();
                bail!("systemd has not booted the host after {:?}\n{log}", start.elapsed());
            }
            std::thread::sleep(POLL);
        }
    }

    /// A command that runs on this host, with its files.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg("--target").arg(self.init.to_string());
        command
            .args(["--mount", "--pid", "--uts", "--ipc", "--cgroup", "--net", "--root", "--wdns=/", "--"])
            .arg(program);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C.UTF-8").stdin(Stdio::null());
        command
    }

    /// Runs a program to its end and hands back what it printed on standard output.
    ///
    /// # Errors
    /// It could not be started or failed; the error has its output.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        run_text(self.command(program).args(arguments))
    }

    /// Runs a program to its end, whatever its exit status.
    ///
    /// # Errors
    /// It could not be started.
    pub fn output(&self, program: &str, arguments: &[&str]) -> Result<Output> {
        let mut command = self.command(program);
        command.args(arguments);
        command.output().with_context(|| format!("could not start `{}`", show(&command)))
    }

    /// A path on this host as a path of this machine, as long as the host is up.
    pub fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.init))
    }

    /// Writes a file on this host, with the directories it is in.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: &str, text: &str, mode: u32) -> Result<()> {
        let there = self.path(path);
        if let Some(parent) = there.parent() {
            fs::create_dir_all(parent).with_context(|| format!("creating {}", parent.display()))?;
        }
        fs::write(&there, text).with_context(|| format!("writing {path}"))?;
        fs::set_permissions(&there, std::os::unix::fs::PermissionsExt::from_mode(mode))?;
        Ok(())
    }

    /// Properties of a unit, in the order asked for, as `systemctl show` prints them.
    ///
    /// # Errors
    /// What systemctl said.
    pub fn show<const N: usize>(&self, unit: &str, properties: [&str; N]) -> Result<[String; N]> {
        let mut values = properties.map(str::to_owned);
        for value in &mut values {
            let text = self.run("systemctl", &["show", "--value", "--property", value, unit])?;
            text.trim().clone_into(value);
        }
        Ok(values)
    }

    /// Waits until a property of a unit has a value.
    ///
    /// # Errors
    /// It has not within a minute; the error has what the unit printed.
    pub fn until(&self, unit: &str, property: &str, value: &str) -> Result<()> {
        let start = Instant::now();
        loop {
            let [now] = self.show(unit, [property])?;
            if now == value {
                return Ok(());
            }
            ensure!(
                start.elapsed() < Duration::from_secs(60),
                "{unit} has {property}={now}, not {value}\n{}",
                self.journal(unit)
            );
            std::thread::sleep(POLL);
        }
    }

    /// What a unit has printed, and what systemd says about it.
    pub fn journal(&self, unit: &str) -> String {
        let text = self.output("journalctl", &["--no-pager", "--output=cat", "--unit", unit]);
        text.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
    }
}

/// A control group for the processes of the host, removed with the lab.
fn control_group(lab: &Lab) -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("reading /proc/self/mountinfo")?;
    let mount = mounts.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        right.starts_with("cgroup2 ").then(|| left.split(' ').nth(4)).flatten()
    });
    let name = format!("{}{}-{}", super::PREFIX, std::process::id(), lab.name());
    let group = Path::new(mount.context("no control groups of version 2 are mounted here")?).join(name);
    fs::create_dir(&group).with_context(|| format!("creating {}", group.display()))?;
    let gone = group.clone();
    lab.on_end(move || remove_group(&gone))?;
    Ok(group)
}

/// Removes a control group with those below it. Processes that were killed may still be leaving it.
pub(super) fn remove_group(group: &Path) {
    let start = Instant::now();
    while group.exists() && start.elapsed() < Duration::from_secs(10) {
        remove_below(group);
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn remove_below(group: &Path) {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_below(&entry.path());
        }
    }
    let _ = fs::remove_dir(group);
}

fn first_child(process: u32) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{process}/task/{process}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok()
}
