//! The test stages, each with its time, and a closing count. What a stage prints is kept in `target/test-logs` and
//! shown when it fails; a stage that does not come to an end is ended.

use crate::scenario::{ALL, Group, Scenario, faults};
use crate::strongswan::Strongswan;
use crate::workspace::{binaries, cargo, root, target};
use crate::{build_ebpf, checklist, debian, manuals, net, package, scapy, vm};
use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

const BUILD_LIMIT: Duration = Duration::from_secs(20 * 60);
const UNIT_LIMIT: Duration = Duration::from_secs(25 * 60);
const SCENARIO_LIMIT: Duration = Duration::from_secs(600);
const VM_LIMIT: Duration = Duration::from_secs(300);

/// How long what was asked to end may take before it is killed.
const GRACE: Duration = Duration::from_secs(15);

/// What went well and what did not; a stage that is not a set of tests counts as one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    passed: u32,
    failed: u32,
}

impl Count {
    fn one(passed: bool) -> Self {
        if passed { Self { passed: 1, failed: 0 } } else { Self { passed: 0, failed: 1 } }
    }

    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

/// Scenarios that run one after another, beside those of the other lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lane {
    /// They keep processors busy.
    Busy,
    /// They mostly wait, for time-outs or for other implementations.
    Waiting,
}

impl Lane {
    const BOTH: [Self; 2] = [Self::Busy, Self::Waiting];

    /// Where a scenario runs, if it is one that always does.
    fn of(scenario: &Scenario) -> Option<Self> {
        match scenario.group {
            Group::Namespace if !scenario.waits => Some(Self::Busy),
            Group::Namespace | Group::Interop => Some(Self::Waiting),
            Group::Guest | Group::Long => None,
        }
    }
}

struct Runner {
    logs: PathBuf,
    /// This program, before a build stage replaces the file.
    own: PathBuf,
    /// The process groups of the commands that are running, to be ended with us.
    running: Arc<Mutex<Vec<Pid>>>,
    total: Count,
    summary: Vec<(String, Duration, Count)>,
}

/// Runs every stage; the last line is `N passed, N failed`.
///
/// # Errors
/// Something failed.
pub fn run() -> Result<()> {
    let start = Instant::now();
    net::undo::watch_signals();
    let logs = target("test-logs");
    fs::create_dir_all(&logs).with_context(|| format!("creating {}", logs.display()))?;
    let running = Arc::new(Mutex::new(vec![]));
    let own = binaries()?.join("xtask");
    let mut runner = Runner { logs, own, running, total: Count::default(), summary: Vec::new() };
    let end = Arc::clone(&runner.running);
    let guard = net::undo::Guard::new(move || {
        for group in end.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let _ = killpg(group, Signal::SIGTERM);
        }
    })?;
    runner.stages();
    drop(guard);
    println!("\n{:<16} {:>9} {:>8} {:>8}", "stage", "seconds", "passed", "failed");
    for (name, time, count) in &runner.summary {
        println!("{name:<16} {:>9.1} {:>8} {:>8}", time.as_secs_f64(), count.passed, count.failed);
    }
    println!("{:<16} {:>9.1}", "all", start.elapsed().as_secs_f64());
    println!("{} passed, {} failed", runner.total.passed, runner.total.failed);
    if runner.total.failed > 0 {
        bail!("see {}", runner.logs.display());
    }
    Ok(())
}

impl Runner {
    fn stages(&mut self) {
        let prepared = self.stage("prepare", |_| prepare().map(|()| Count::one(true)));
        // One processor is enough for the programs of the kernel.
        let programs = std::thread::spawn(|| build_ebpf::run_quietly().map(|_| Count::one(true)));
        self.stage("fmt", |runner| {
            let mut count = runner.cargo("fmt", &["fmt", "--all", "--check"])?;
            let programs = ["fmt", "--manifest-path", "ebpf-esp/bpf/Cargo.toml", "--check"];
            count.add(runner.cargo("fmt-ebpf", &programs)?);
            Ok(count)
        });
        self.stage("clippy", |runner| {
            runner.cargo("clippy", &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])
        });
        let built = prepared
            & self.stage("build-ebpf", |_| programs.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            & self.stage("build", |runner| runner.cargo("build", &["build", "--workspace"]));
        if !built {
            eprintln!("the remaining stages need what could not be built");
            return;
        }
        self.stage("checklist", |_| {
            print!("{}", checklist::report()?);
            Ok(Count::one(true))
        });
        self.stage("manuals", |_| manuals::check().map(|passed| Count { passed, failed: 0 }));
        self.stage("unit", Self::unit);
        // Nobody waits for these before the scenarios that need them.
        let variants = std::thread::spawn(|| {
            build_ebpf::be_modest();
            faults::VARIANTS.iter().try_for_each(|feature| build_ebpf::variant(feature).map(drop))
        });
        self.stage("scenarios", |runner| runner.scenarios());
        // If one does not build, the scenario that needs it has said so.
        let _ = variants.join();
        self.stage("vm", Self::virtual_machine);
    }

    /// Runs one stage and says whether nothing in it failed.
    fn stage(&mut self, name: &str, work: impl FnOnce(&mut Self) -> Result<Count>) -> bool {
        println!("== {name}");
        let start = Instant::now();
        let count = work(self).unwrap_or_else(|error| {
            println!("{error:#}");
            Count::one(false)
        });
        let time = start.elapsed();
        println!("   {} passed, {} failed in {:.1} s", count.passed, count.failed, time.as_secs_f64());
        self.total.add(count);
        self.summary.push((name.to_owned(), time, count));
        count.failed == 0
    }

    /// A cargo command that counts as one test.
    fn cargo(&mut self, log: &str, arguments: &[&str]) -> Result<Count> {
        let mut command = cargo();
        let (passed, output) = self.logged(command.args(arguments), log, BUILD_LIMIT)?;
        if !passed {
            println!("{output}");
        }
        Ok(Count::one(passed))
    }

    fn unit(&mut self) -> Result<Count> {
        let mut command = cargo();
        command.args(["test", "--workspace", "--no-fail-fast"]);
        let (passed, output) = self.logged(&mut command, "unit", UNIT_LIMIT)?;
        let mut count = count_tests(&output);
        if !passed {
            println!("{}", failures(&output));
            // A test binary that crashed has no result line.
            count.failed = count.failed.max(1);
        }
        Ok(count)
    }

    /// Both lanes at once. Each scenario is a process of its own, and what it makes is named after that.
    fn scenarios(&self) -> Result<Count> {
        std::thread::scope(|scope| {
            let lanes = Lane::BOTH.map(|lane| scope.spawn(move || self.lane(lane)));
            let mut count = Count::default();
            for lane in lanes {
                count.add(lane.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
            }
            Ok(count)
        })
    }

    fn lane(&self, lane: Lane) -> Result<Count> {
        let mut count = Count::default();
        for scenario in ALL.iter().filter(|scenario| Lane::of(scenario) == Some(lane)) {
            let start = Instant::now();
            let mut command = Command::new(&self.own);
            command.args(["scenario", "--built", scenario.name]);
            let log = format!("scenario-{}", scenario.name);
            let (passed, output) = self.logged(&mut command, &log, SCENARIO_LIMIT)?;
            let word = if passed { "ok" } else { "FAILED" };
            println!("   {:<28} {word:<7} {:>5.1} s", scenario.name, start.elapsed().as_secs_f64());
            if !passed {
                println!("{output}");
            }
            count.add(Count::one(passed));
        }
        Ok(count)
    }

    /// Another kernel, and ESP against its own; `cargo xtask vm` runs all there is.
    fn virtual_machine(&mut self) -> Result<Count> {
        let mut command = Command::new(&self.own);
        command.args(["vm", "--no-build"]).args(vm::QUICK);
        let (passed, output) = self.logged(&mut command, "vm", VM_LIMIT)?;
        if !passed {
            println!("{output}");
        }
        Ok(Count::one(passed))
    }

    /// Runs a command with its output in a log, and hands back whether it succeeded and what it printed.
    fn logged(&self, command: &mut Command, log: &str, limit: Duration) -> Result<(bool, String)> {
        let path = self.logs.join(log).with_extension("log");
        let file = File::create(&path).with_context(|| format!("creating {}", path.display()))?;
        command.current_dir(root()).process_group(0).stdin(Stdio::null());
        command.stdout(file.try_clone()?).stderr(file);
        let mut child = command.spawn().with_context(|| format!("could not start {log}"))?;
        let group = Pid::from_raw(i32::try_from(child.id())?);
        self.running.lock().unwrap_or_else(PoisonError::into_inner).push(group);
        let start = Instant::now();
        let mut asked: Option<Instant> = None;
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            match asked {
                None if start.elapsed() > limit => {
                    println!("   {log} did not end within {} s", limit.as_secs());
                    let _ = killpg(group, Signal::SIGTERM);
                    asked = Some(Instant::now());
                }
                Some(since) if since.elapsed() > GRACE => {
                    let _ = killpg(group, Signal::SIGKILL);
                }
                _ => {}
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        self.running.lock().unwrap_or_else(PoisonError::into_inner).retain(|running| *running != group);
        Ok((status.success() && asked.is_none(), read(&path)?))
    }
}

/// Everything that has to be installed, before anything is timed.
fn prepare() -> Result<()> {
    debian::ensure(&["iproute2", "ethtool", "iputils-ping", "tshark"], "the tests between hosts")?;
    // Two scenarios that install at once would be in each other's way.
    package::prepare()?;
    debian::ensure(&["dbus", "lintian", "man-db", "pkexec", "polkitd", "systemd"], "the services and the package")?;
    net::nat::ensure()?;
    manuals::prepare()?;
    Strongswan::ensure()?;
    vm::prepare()?;
    scapy::ensure().map(|_| ())
}

fn read(path: &Path) -> Result<String> {
    let bytes = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Adds up the lines `test result: ok. 12 passed; 0 failed; ...`.
fn count_tests(output: &str) -> Count {
    let mut count = Count::default();
    for line in output.lines().filter_map(|line| line.strip_prefix("test result: ")) {
        let number = |what: &str| {
            let words: Vec<&str> = line.split([' ', ';', '.']).filter(|word| !word.is_empty()).collect();
            let pair = words.array_windows().find(|[_, word]| *word == what)?;
            let [number, _] = pair;
            number.parse().ok()
        };
        count.add(Count { passed: number("passed").unwrap_or(0), failed: number("failed").unwrap_or(0) });
    }
    count
}

/// The part of cargo's output that says what failed: from the first failure on, without the tests that passed.
fn failures(output: &str) -> String {
    let lines: Vec<&str> = output.lines().filter(|line| !line.ends_with("... ok")).collect();
    let tells = |line: &&str| ["failures:", "error", "---- "].iter().any(|start| line.starts_with(start));
    let first = lines.iter().position(tells).unwrap_or(0);
    let rest = lines.get(first..).unwrap_or_default();
    rest.get(..300.min(rest.len())).unwrap_or_default().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_several_binaries_are_added() {
        let output = "test a ... ok\n\
            test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s\n\
            test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s\n";
        assert_eq!(count_tests(output), Count { passed: 15, failed: 2 });
    }

    #[test]
    fn every_scenario_that_always_runs_is_in_a_lane() {
        for scenario in ALL {
            let always = matches!(scenario.group, Group::Namespace | Group::Interop);
            assert_eq!(Lane::of(scenario).is_some(), always, "{}", scenario.name);
        }
        for lane in Lane::BOTH {
            assert!(ALL.iter().filter(|scenario| Lane::of(scenario) == Some(lane)).count() > 10, "{lane:?}");
        }
    }

    #[test]
    fn failures_are_told_without_what_passed() {
        let output = "running 2 tests\ntest a ... ok\ntest b ... FAILED\n\nfailures:\n\n---- b stdout ----\nwrong\n";
        assert_eq!(failures(output), "failures:\n\n---- b stdout ----\nwrong");
    }
}
