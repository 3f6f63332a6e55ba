//! `cargo xtask fuzz`: libFuzzer over the targets of `fuzz/`.
//!
//! Coverage comes from LLVM's own instrumentation, which the stable compiler has behind `-C passes`; cargo-fuzz is not
//! needed, nor a nightly toolchain, but a C++ compiler for libFuzzer. What a run reaches is kept in `target/fuzz`; the
//! tests replay `fuzz/corpus`, which is checked in.

#[allow(unreachable_pub, reason = "a module of the package fuzz-targets as well, which exports it")]
#[path = "../../fuzz/src/list.rs"]
mod list;

use crate::net::undo::{Guard, watch_signals};
use crate::workspace::{binaries, cargo, on_path, root, run_shown, target};
use crate::{build_ebpf, debian};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use list::{About, TARGETS};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// What `cargo xtask fuzz` is told.
#[derive(Args)]
pub struct Arguments {
    /// Print the targets and run nothing
    #[arg(long)]
    list: bool,
    /// Minutes for each target
    #[arg(long, default_value_t = 1.0)]
    minutes: f64,
    /// Seed of libFuzzer; another one each time by default
    #[arg(long)]
    seed: Option<u32>,
    /// Run this file through the target, once
    #[arg(long)]
    input: Option<PathBuf>,
    /// Take what earlier runs reached into fuzz/corpus, where it reaches more than what is there
    #[arg(long, conflicts_with = "input")]
    keep: bool,
    /// Names of targets; all of them when none is named
    names: Vec<String>,
}

/// Runs the fuzzer of the ingress, which is no libFuzzer: its frames are made anew from the seed, and there is nothing to keep.
fn ingress(arguments: &Arguments) -> Result<bool> {
    ensure!(arguments.input.is_none(), "ingress reads no files: the same --seed makes the same frames");
    if arguments.keep {
        return Ok(true);
    }
    build_ebpf::run_quietly()?;
    run_shown(cargo().args(["build", "--quiet", "--package", "esp-kernel"]))?;
    let mut command = Command::new(binaries()?.join("esp-kernel"));
    command
        .args(["ingress", "--minutes", &arguments.minutes.to_string()])
        .arg("--seed")
        .arg(seed(arguments).to_string());
    Ok(command.status().context("could not start esp-kernel")?.success())
}

/// The one that is asked for, or another one each time.
fn seed(arguments: &Arguments) -> u32 {
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    arguments.seed.unwrap_or(clock.subsec_nanos() | 1)
}

/// What cargo-fuzz passes as well: counters for every edge, operands of comparisons.
const FLAGS: [&str; 5] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];

/// Named, so that build scripts and macros are built without [`FLAGS`].
const HOST: &str = "x86_64-unknown-linux-gnu";

/// What is fuzzed in the kernel, with frames that are made from the seed: the programs have no coverage to go by.
const IN_KERNEL: About = About {
    name: "ingress",
    shows: "frames that nobody sends through the real programs in the kernel, which needs root",
    max_len: 0,
};

/// Seconds that one input may take: everything here is done in milliseconds (bounded time).
const SLOWEST: u32 = 5;

/// Runs the targets that are asked for, one after another.
///
/// # Errors
/// There is no target of that name, the driver cannot be built, or something was found.
pub fn run(arguments: &Arguments) -> Result<()> {
    if arguments.list {
        TARGETS.iter().chain([&IN_KERNEL]).for_each(|target| println!("{:<16} {}", target.name, target.shows));
        return Ok(());
    }
    watch_signals();
    let targets = named(&arguments.names)?;
    let mut found = Vec::new();
    let (in_kernel, targets): (Vec<_>, Vec<_>) = targets.into_iter().partition(|about| about.name == IN_KERNEL.name);
    if !in_kernel.is_empty() && !ingress(arguments)? {
        found.push(IN_KERNEL.name);
    }
    let driver = if targets.is_empty() { PathBuf::new() } else { build()? };
    for about in targets {
        let passed = match &arguments.input {
            Some(input) => replay(&driver, about, input)?,
            None if arguments.keep => keep(&driver, about)?,
            None => fuzz(&driver, about, arguments)?,
        };
        if !passed {
            found.push(about.name);
        }
    }
    ensure!(found.is_empty(), "findings in {}", found.join(", "));
    Ok(())
}

fn named(names: &[String]) -> Result<Vec<&'static About>> {
    let all = || TARGETS.iter().chain([&IN_KERNEL]);
    if let Some(unknown) = names.iter().find(|name| all().all(|target| target.name != **name)) {
        let all: Vec<_> = all().map(|target| target.name).collect();
        bail!("no target is called {unknown}; there are: {}", all.join(" "));
    }
    let asked = |target: &&About| names.is_empty() || names.iter().any(|name| name == target.name);
    Ok(all().filter(asked).collect())
}

/// The driver, instrumented. It has a lock file of its own.
fn build() -> Result<PathBuf> {
    if on_path("c++").is_none() {
        debian::ensure(&["g++"], "libFuzzer, which is C++")?;
    }
    let directory = target("fuzz-build");
    let mut command = cargo();
    command.args(["build", "--release", "--quiet", "--locked", "--target", HOST]).arg("--manifest-path");
    command.arg(root().join("fuzz/driver/Cargo.toml")).env("CARGO_TARGET_DIR", &directory);
    command.env_remove("RUSTFLAGS").env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\x1f"));
    run_shown(&mut command).context("building the driver of the fuzz targets")?;
    Ok(directory.join(HOST).join("release/fuzz-driver"))
}

fn driver_for(driver: &Path, about: &About) -> Command {
    let mut command = Command::new(driver);
    command.env("FUZZ_TARGET", about.name).stdin(Stdio::null());
    command.arg(format!("-max_len={}", about.max_len)).arg(format!("-timeout={SLOWEST}"));
    command
}

/// What earlier runs reached.
fn reached(about: &About) -> Result<PathBuf> {
    let directory = target("fuzz").join("corpus").join(about.name);
    fs::create_dir_all(&directory).with_context(|| format!("creating {}", directory.display()))?;
    Ok(directory)
}

fn checked_in(about: &About) -> PathBuf {
    root().join("fuzz/corpus").join(about.name)
}

fn fuzz(driver: &Path, about: &About, arguments: &Arguments) -> Result<bool> {
    let findings = target("fuzz").join("findings");
    fs::create_dir_all(&findings).with_context(|| format!("creating {}", findings.display()))?;
    let seed = seed(arguments);
    let mut command = driver_for(driver, about);
    command
        .arg(format!("-seed={seed}"))
        .arg(format!("-max_total_time={:.0}", (arguments.minutes * 60.0).max(1.0)))
        .arg(format!("-artifact_prefix={}/{}-", findings.display(), about.name))
        .args(["-print_final_stats=1", "-use_value_profile=1", "-detect_leaks=0"])
        .arg(reached(about)?)
        .arg(checked_in(about));
    let dictionary = root().join("fuzz/dictionary").join(about.name);
    if dictionary.is_file() {
        command.arg(format!("-dict={}", dictionary.display()));
    }
    let (start, before) = (Instant::now(), processor_seconds()?);
    let output = output(&mut command)?;
    let text = String::from_utf8_lossy(&output.stderr);
    let executions = executions(&text).map_or_else(|| "some".to_owned(), |number| number.to_string());
    let word = if output.status.success() { "nothing found" } else { "FOUND SOMETHING" };
    let (seconds, processor) = (start.elapsed().as_secs_f64(), processor_seconds()? - before);
    println!(
        "{:<16} {executions:>12} executions in {seconds:.0} s, {processor:.0} s of processor time, seed {seed}: {word}",
        about.name
    );
    if !output.status.success() {
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        println!("{}", lines.get(lines.len().saturating_sub(60)..).unwrap_or_default().join("\n"));
        println!("again: cargo xtask fuzz {} --input FILE, the file named above", about.name);
    }
    Ok(output.status.success())
}

/// Runs the driver, which is ended when we are.
fn output(command: &mut Command) -> Result<Output> {
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().context("could not start the driver")?;
    let running = Arc::new(Mutex::new(Some(Pid::from_raw(child.id().try_into().context("the number of a process")?))));
    let end = Arc::clone(&running);
    let _guard = Guard::new(move || {
        if let Some(process) = *end.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = kill(process, Signal::SIGTERM);
        }
    })?;
    let output = child.wait_with_output().context("waiting for the driver");
    *running.lock().unwrap_or_else(PoisonError::into_inner) = None;
    output
}

/// Of the children that have ended, in user and kernel mode: what a busy machine has left of the minutes.
fn processor_seconds() -> Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).context("getrusage")?;
    Ok([usage.user_time(), usage.system_time()]
        .iter()
        .map(|time| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6)
        .sum())
}

/// `stat::number_of_executed_units: 12` of what libFuzzer prints in the end.
fn executions(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:")?.trim().parse().ok())
}

fn replay(driver: &Path, about: &About, input: &Path) -> Result<bool> {
    let status = driver_for(driver, about).arg(input).status().context("could not start the driver")?;
    Ok(status.success())
}

fn keep(driver: &Path, about: &About) -> Result<bool> {
    let corpus = checked_in(about);
    fs::create_dir_all(&corpus).with_context(|| format!("creating {}", corpus.display()))?;
    let before = fs::read_dir(&corpus)?.count();
    let mut command = driver_for(driver, about);
    let output = command.arg("-merge=1").arg(&corpus).arg(reached(about)?).output().context("the driver")?;
    println!("{:<16} {} files, {before} before", about.name, fs::read_dir(&corpus)?.count());
    Ok(output.status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executions_are_read() {
        assert_eq!(executions("Done\nstat::number_of_executed_units: 1204\nstat::x: 3\n"), Some(1204));
    }

    #[test]
    fn names_are_looked_up() {
        assert_eq!(named(&[]).unwrap().len(), TARGETS.len() + 1);
        assert_eq!(named(&["ingress".to_owned()]).unwrap()[0].name, IN_KERNEL.name);
        assert_eq!(named(&["pfkey".to_owned()]).unwrap()[0].name, "pfkey");
        assert!(named(&["nothing".to_owned()]).is_err());
    }
}
