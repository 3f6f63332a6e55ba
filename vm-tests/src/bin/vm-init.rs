//! The first process of a guest: loads the modules without which there is no root, mounts the root of the machine
//! outside with a layer in memory over it, runs the job, says how it ended, switches the machine off.

use anyhow::{Context, Result, bail};
use nix::kmod::{ModuleInitFlags, finit_module};
use nix::mount::{MsFlags, mount};
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::time::TimeSpec;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::time::{ClockId, clock_settime};
use nix::unistd::{Pid, chdir, chroot};
use std::ffi::CStr;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use vm_tests::job::{self, Job, SHARE, TTY};
use vm_tests::protocol::Mark;

fn main() {
    if std::process::id() != 1 {
        eprintln!("vm-init is the first process of a virtual machine; here it would do harm");
        std::process::exit(2);
    }
    let status = run().unwrap_or_else(|error| {
        // Whoever looks for the reason looks at both ports.
        eprintln!("vm-init: {error:#}");
        if let Ok(mut tty) = tty() {
            let _ = writeln!(tty, "vm-init: {error:#}");
        }
        101
    });
    if let Ok(mut tty) = tty() {
        let _ = writeln!(tty, "{}", Mark::End(status));
        // The port has a buffer that is lost with the machine.
        let _ = nix::sys::termios::tcdrain(&tty);
    }
    let _ = reboot(RebootMode::RB_POWER_OFF);
}

fn run() -> Result<i32> {
    mount_on("devtmpfs", "/dev", "devtmpfs", MsFlags::empty(), "")?;
    mount_on("proc", "/proc", "proc", MsFlags::empty(), "")?;
    let text = fs::read(job::PATH).with_context(|| format!("reading {}", job::PATH))?;
    let job: Job = serde_json::from_slice(&text).context("the job")?;
    for module in &job.modules {
        let file = File::open(module).with_context(|| format!("opening {module}"))?;
        finit_module(&file, c"", ModuleInitFlags::empty()).with_context(|| format!("loading {module}"))?;
    }
    let now = TimeSpec::from_duration(Duration::from_secs(u64::try_from(job.time).unwrap_or(0)));
    clock_settime(ClockId::CLOCK_REALTIME, now).context("setting the clock")?;
    root(&job)?;
    let release = nix::sys::utsname::uname().context("uname")?.release().to_string_lossy().into_owned();
    writeln!(tty()?, "{}", Mark::Start(release)).context("writing to the serial port")?;
    work(&job)
}

/// The second serial port, with lines that end as they are written.
fn tty() -> Result<File> {
    let file = OpenOptions::new().read(true).write(true).open(TTY).with_context(|| format!("opening {TTY}"))?;
    let mut settings = nix::sys::termios::tcgetattr(&file).with_context(|| format!("settings of {TTY}"))?;
    nix::sys::termios::cfmakeraw(&mut settings);
    nix::sys::termios::tcsetattr(&file, nix::sys::termios::SetArg::TCSANOW, &settings)
        .with_context(|| format!("settings of {TTY}"))?;
    Ok(file)
}

/// Mounts the root from outside and makes it ours, with a layer in memory for what is written.
fn root(job: &Job) -> Result<()> {
    // What is on the root does not change while we run, so all that was read may be kept.
    let options = "trans=virtio,version=9p2000.L,msize=524288,cache=loose";
    mount_on(SHARE, "/root", "9p", MsFlags::MS_RDONLY, options)?;
    mount_on("tmpfs", "/layer", "tmpfs", MsFlags::empty(), "mode=755")?;
    for directory in ["/layer/upper", "/layer/work"] {
        fs::create_dir(directory).with_context(|| format!("creating {directory}"))?;
    }
    mount_on(
        "overlay",
        "/new",
        "overlay",
        MsFlags::empty(),
        "lowerdir=/root,upperdir=/layer/upper,workdir=/layer/work",
    )?;
    for (kind, place, options) in [
        ("proc", "/new/proc", ""),
        ("sysfs", "/new/sys", ""),
        ("devtmpfs", "/new/dev", ""),
        ("tmpfs", "/new/run", "mode=755"),
        ("tmpfs", "/new/dev/shm", ""),
        ("cgroup2", "/new/sys/fs/cgroup", ""),
    ] {
        fs::create_dir_all(place).with_context(|| format!("creating {place}"))?;
        mount_on(kind, place, kind, MsFlags::empty(), options)?;
    }
    let release = Path::new(&job.module_directory).file_name().context("the modules have no directory")?;
    let modules = Path::new("/new/lib/modules").join(release);
    fs::create_dir_all(&modules).with_context(|| format!("creating {}", modules.display()))?;
    let from = Path::new("/root").join(job.module_directory.trim_start_matches('/'));
    mount(Some(&from), &modules, None::<&CStr>, MsFlags::MS_BIND, None::<&CStr>)
        .with_context(|| format!("mounting {}", from.display()))?;
    chdir("/new").context("entering the new root")?;
    mount(Some("/new"), "/", None::<&CStr>, MsFlags::MS_MOVE, None::<&CStr>).context("moving the root")?;
    // The kernel's own helpers (modprobe) have the root that we have: process 1 shares it with them.
    chroot(".").context("taking the new root")?;
    chdir("/").context("entering the new root")
}

fn mount_on(from: &str, place: &str, kind: &str, flags: MsFlags, options: &str) -> Result<()> {
    mount(Some(from), place, Some(kind), flags, Some(options)).with_context(|| format!("mounting {kind} on {place}"))
}

/// Runs the command of the job and hands back its status, as a shell would.
fn work(job: &Job) -> Result<i32> {
    let Some((program, arguments)) = job.command.split_first() else { bail!("the job has no command") };
    let output = tty()?;
    let errors = output.try_clone().context("a second handle of the serial port")?;
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(job.environment.iter().map(|(name, value)| (name, value)))
        .current_dir(&job.directory)
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .spawn()
        .with_context(|| format!("could not start {program}"))?;
    let pid = Pid::from_raw(i32::try_from(child.id()).context("a process id beyond 2^31")?);
    loop {
        // Orphans come to the first process; whoever does not wait for them keeps them forever.
        match waitpid(None, Some(WaitPidFlag::empty())) {
            Ok(WaitStatus::Exited(ended, status)) if ended == pid => return Ok(status),
            Ok(WaitStatus::Signaled(ended, signal, _)) if ended == pid => return Ok(128 + signal as i32),
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => {
                let status = child.wait().with_context(|| format!("waiting for {program} after {error}"))?;
                return Ok(status.code().or(status.signal().map(|signal| 128 + signal)).unwrap_or(1));
            }
        }
    }
}
