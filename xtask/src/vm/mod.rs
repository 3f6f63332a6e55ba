//! `cargo xtask vm`: scenarios on kernels of Debian under QEMU, with this machine's root read-only inside. The scenarios
//! are those of [`scenario`](crate::scenario); this program itself runs them in the guest, and says by the lines of
//! [`vm_tests::protocol`] what came of them.

pub mod kernel;

use crate::scenario::{self, ALL, Group, Scenario};
use crate::workspace::{binaries, cargo, root, run_shown, target};
use crate::{build_ebpf, debian, net};
use anyhow::{Context, Result, bail};
use kernel::{Kernel, Series};
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use vm_tests::initramfs;
use vm_tests::job::Job;
use vm_tests::modules::Modules;
use vm_tests::protocol::Mark;
use vm_tests::qemu::{self, Accelerator, Limits, Machine, Outcome};

/// What the scenarios of the guests need here, where they are run from.
const PACKAGES: [&str; 5] = ["qemu-system-x86", "kmod", "iproute2", "ethtool", "iputils-ping"];

const PROCESSORS: u32 = 2;

/// MiB; the maps of two hosts take a tenth of it.
const MEMORY: u32 = 2048;

/// A kernel that the processor runs has started long before.
const PROBE_LIMIT: Duration = Duration::from_secs(30);

const BOOT_LIMIT: Duration = Duration::from_secs(180);

/// Translated instructions take 10 to 20 times longer than on the machine itself.
const TEST_LIMIT: Duration = Duration::from_secs(600);

/// What the user asked for.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Run on this kernel only
    #[arg(long, value_name = "SERIES", value_parser = kernel::ALL.map(|series| series.name))]
    kernel: Option<String>,
    /// Print kernels and tests, and run nothing
    #[arg(long)]
    list: bool,
    /// Take the programs as they are instead of building them first
    #[arg(long)]
    no_build: bool,
    /// Names of tests: those listed, or any of `cargo xtask scenario --list`
    names: Vec<String>,
}

/// Runs the command.
///
/// # Errors
/// Something needed is not there and cannot be had, or a test failed.
pub fn run(arguments: &Arguments) -> Result<()> {
    if arguments.list {
        list();
        return Ok(());
    }
    net::undo::watch_signals();
    let names = scenario::known(&arguments.names)?;
    let names = if names.is_empty() { default_tests().map(|scenario| scenario.name).collect() } else { names };
    debian::ensure(&PACKAGES, "virtual machines")?;
    println!("{}", qemu::version()?);
    if !arguments.no_build {
        build_ebpf::run_quietly()?;
        run_shown(cargo().args(["build", "--quiet", "--workspace"]))?;
    }
    let wanted = |series: &Series| arguments.kernel.as_deref().is_none_or(|name| name == series.name);
    let mut failed = Vec::new();
    let mut accelerator = probable();
    for series in kernel::ALL.into_iter().filter(wanted) {
        let kernel = kernel::ensure(series)?;
        let result = guest(series, &kernel, &names, &mut accelerator)?;
        failed.extend(result.into_iter().map(|test| format!("{}: {test}", series.name)));
    }
    if !failed.is_empty() {
        bail!("{}", failed.join("; "));
    }
    Ok(())
}

/// What a short test runs: one kernel and one scenario that needs it.
pub const QUICK: [&str; 3] = ["--kernel", "6.12", "kernel-xfrm"];

/// Installs and fetches what [`QUICK`] needs.
///
/// # Errors
/// See [`kernel::ensure`] and [`debian::ensure`].
pub fn prepare() -> Result<()> {
    debian::ensure(&PACKAGES, "virtual machines")?;
    let [newest, ..] = kernel::ALL;
    kernel::ensure(newest).map(|_| ())
}

/// Runs scenarios inside a guest, each to its end, with a mark for each.
///
/// # Errors
/// The names of those that failed; why has been printed.
pub fn inside(names: &[String]) -> Result<()> {
    net::undo::watch_signals();
    let mut failed = Vec::new();
    for scenario in ALL.iter().filter(|scenario| names.iter().any(|name| scenario.name == name)) {
        println!("{}: {}", scenario.name, scenario.about);
        let start = Instant::now();
        let result = (scenario.run)();
        if let Err(error) = &result {
            println!("{}: {error:#}", scenario.name);
            failed.push(scenario.name);
        }
        let (name, passed) = (scenario.name.to_owned(), result.is_ok());
        println!("{}", Mark::Result { name, passed, time: start.elapsed() });
    }
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(" "));
    }
    Ok(())
}

fn default_tests() -> impl Iterator<Item = &'static Scenario> {
    ALL.iter().filter(|scenario| scenario.group == Group::Guest)
}

fn list() {
    for series in kernel::ALL {
        println!("--kernel {:<19} {}", series.name, series.about);
    }
    for scenario in default_tests() {
        println!("{:<28} {}", scenario.name, scenario.about);
    }
}

/// KVM where there is a device for it; whether it works is seen when a kernel boots.
fn probable() -> Accelerator {
    match File::options().read(true).write(true).open("/dev/kvm") {
        Ok(_) => Accelerator::Kvm,
        Err(error) => {
            println!("no KVM ({error}): the processor is emulated, which is 10 to 20 times slower");
            Accelerator::Tcg
        }
    }
}

/// Runs tests on a kernel, and hands back those that did not pass.
fn guest(series: Series, kernel: &Kernel, names: &[&str], accelerator: &mut Accelerator) -> Result<Vec<String>> {
    let directory = target("vm").join("run");
    fs::create_dir_all(&directory).with_context(|| format!("creating {}", directory.display()))?;
    let own = |kind: &str| directory.join(format!("{}-{}.{kind}", series.name, std::process::id()));
    let (initramfs, kernel_log) = (own("initramfs"), directory.join(format!("{}.kernel.log", series.name)));
    fs::write(&initramfs, archive(kernel, names)?).with_context(|| format!("writing {}", initramfs.display()))?;
    let gone = initramfs.clone();
    let _guard = net::undo::Guard::new(move || {
        let _ = fs::remove_file(gone);
    })?;
    let mut machine = Machine {
        kernel: kernel.image.clone(),
        initramfs,
        kernel_log,
        accelerator: *accelerator,
        processors: PROCESSORS,
        memory: MEMORY,
        limits: Limits { boot: BOOT_LIMIT, test: TEST_LIMIT },
    };
    if *accelerator == Accelerator::Kvm {
        machine.limits.boot = PROBE_LIMIT;
        match boot(series, &machine, names)? {
            (Outcome::NeverStarted(reason), _) => {
                println!("KVM does not work here ({reason}): the processor is emulated, 10 to 20 times slower");
                *accelerator = Accelerator::Tcg;
                machine.accelerator = Accelerator::Tcg;
                machine.limits.boot = BOOT_LIMIT;
            }
            (outcome, left) => return Ok(judged(&outcome, left, &machine.kernel_log)),
        }
    }
    let (outcome, left) = boot(series, &machine, names)?;
    Ok(judged(&outcome, left, &machine.kernel_log))
}

/// Runs the machine, shows what it says, and hands back what came of it with the tests that did not pass.
fn boot(series: Series, machine: &Machine, names: &[&str]) -> Result<(Outcome, Vec<String>)> {
    let start = Instant::now();
    let mut left: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let log = machine.kernel_log.with_file_name(format!("{}.tests.log", series.name));
    let mut file = File::create(&log).with_context(|| format!("creating {}", log.display()))?;
    let outcome = machine.run(|line, mark| {
        // The log is for later; the terminal has it all.
        let _ = writeln!(file, "{line}");
        let at = start.elapsed().as_secs_f64();
        match mark {
            Some(Mark::Start(release)) => println!("[{at:>5.1} s] {} ({:?})", release, machine.accelerator),
            Some(Mark::Result { name, passed, time }) => {
                let word = if *passed { "passed" } else { "FAILED" };
                println!("[{at:>5.1} s] {name} {word} in {:.1} s", time.as_secs_f64());
                if *passed {
                    left.retain(|test| test != name);
                }
            }
            Some(Mark::End(_)) => println!("[{at:>5.1} s] end"),
            None => println!("    {line}"),
        }
    })?;
    Ok((outcome, left))
}

/// The tests that did not pass, with what is wrong beside them.
fn judged(outcome: &Outcome, mut left: Vec<String>, kernel_log: &Path) -> Vec<String> {
    let reason = match outcome {
        Outcome::Ended(0) if left.is_empty() => return left,
        // A test that failed has said why.
        Outcome::Ended(_) if !left.is_empty() => return left,
        Outcome::Ended(status) => format!("every test passed, and yet the guest ended with status {status}"),
        Outcome::NeverStarted(reason) | Outcome::Broke(reason) => reason.clone(),
    };
    println!("the last messages of the kernel ({}):", kernel_log.display());
    let text = fs::read(kernel_log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    for line in lines.get(lines.len().saturating_sub(60)..).unwrap_or_default() {
        println!("    {line}");
    }
    left.push(reason);
    left
}

/// The initial file system for these tests.
fn archive(kernel: &Kernel, names: &[&str]) -> Result<Vec<u8>> {
    let programs = binaries()?;
    let program = programs.join("xtask");
    let modules = Modules::read(&kernel.modules)?.needed(&initramfs::MODULES)?;
    let mut command = vec![path(&program)?, "scenario".to_owned(), "--inside-vm".to_owned()];
    command.extend(names.iter().map(|name| (*name).to_owned()));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the time is before 1970")?;
    let job = Job {
        modules: Vec::new(),
        module_directory: path(&kernel.modules)?,
        command,
        directory: path(&root())?,
        environment: environment(),
        time: i64::try_from(now.as_secs()).context("the time")?,
    };
    initramfs::build(&programs.join("vm-init"), &modules, job)
}

/// What a login as root would set.
fn environment() -> Vec<(String, String)> {
    let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    [("PATH", path), ("HOME", "/root"), ("LANG", "C.UTF-8"), ("RUST_BACKTRACE", "1")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
}

fn path(path: &Path) -> Result<String> {
    path.to_str().map(str::to_owned).with_context(|| format!("{} is not UTF-8", path.display()))
}
