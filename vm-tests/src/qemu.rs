//! QEMU: one machine, from its start to its end, under time limits.

use crate::job::SHARE;
use crate::protocol::Mark;
use anyhow::{Context, Result, bail};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// The emulator.
pub const PROGRAM: &str = "qemu-system-x86_64";

/// How instructions of the guest are run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accelerator {
    /// By the processor, through `/dev/kvm`.
    Kvm,
    /// Translated by QEMU: works everywhere, 10 to 20 times slower.
    Tcg,
}

impl Accelerator {
    fn arguments(self) -> [&'static str; 4] {
        match self {
            Self::Kvm => ["-accel", "kvm", "-cpu", "host"],
            Self::Tcg => ["-accel", "tcg,thread=multi", "-cpu", "max"],
        }
    }
}

/// How long each part may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// From the start of QEMU to the first line of the guest.
    pub boot: Duration,
    /// From one line of the protocol to the next.
    pub test: Duration,
}

/// A machine that can be started.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The kernel, as a boot loader would load it.
    pub kernel: PathBuf,
    /// The initial file system.
    pub initramfs: PathBuf,
    /// Where the messages of the kernel go.
    pub kernel_log: PathBuf,
    /// How instructions are run.
    pub accelerator: Accelerator,
    /// Number of processors.
    pub processors: u32,
    /// Memory in MiB.
    pub memory: u32,
    /// Time limits.
    pub limits: Limits,
}

/// What came of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The tests ran to their end, with this status.
    Ended(i32),
    /// The first process never spoke; why it is believed that it will not.
    NeverStarted(String),
    /// It ended or fell silent in the middle; what was observed.
    Broke(String),
}

/// A child that does not outlive its owner.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Machine {
    /// Runs the machine to its end and hands every line of its second serial port to `seen`, with the mark that it is.
    /// QEMU is gone when this returns.
    ///
    /// # Errors
    /// QEMU cannot be started.
    pub fn run(&self, mut seen: impl FnMut(&str, Option<&Mark>)) -> Result<Outcome> {
        let mut child = self.command().spawn().with_context(|| format!("could not start {PROGRAM}"))?;
        let (output, errors) = (child.stdout.take(), child.stderr.take());
        let mut running = Running(child);
        let lines = lines(output.context("QEMU has no output")?);
        let errors = errors.context("QEMU has no standard error")?;
        let errors = std::thread::spawn(move || {
            let mut text = String::new();
            // What QEMU says last is of use only for a message; that it cannot be read is no reason to fail.
            let _ = BufReader::new(errors).read_to_string(&mut text);
            text
        });
        let outcome = self.follow(&lines, &mut seen);
        // A guest that has said its last word is given the time to switch off; then QEMU is ended.
        let patience = if matches!(outcome, Outcome::Ended(_)) { Duration::from_secs(10) } else { Duration::ZERO };
        let end = Instant::now() + patience;
        while Instant::now() < end && running.0.try_wait().context("the state of QEMU")?.is_none() {
            std::thread::sleep(Duration::from_millis(50));
        }
        drop(running);
        let said = errors.join().unwrap_or_default();
        let with_errors = |reason: String| match said.trim() {
            "" => reason,
            said => format!("{reason}; QEMU said: {said}"),
        };
        Ok(match outcome {
            Outcome::NeverStarted(reason) => Outcome::NeverStarted(with_errors(reason)),
            Outcome::Broke(reason) => Outcome::Broke(with_errors(reason)),
            ended => ended,
        })
    }

    fn follow(&self, lines: &Receiver<String>, seen: &mut impl FnMut(&str, Option<&Mark>)) -> Outcome {
        let mut started = false;
        let mut deadline = Instant::now() + self.limits.boot;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = match lines.recv_timeout(left) {
                Ok(line) => line,
                Err(error) => {
                    let reason = match error {
                        RecvTimeoutError::Disconnected => "QEMU ended".to_owned(),
                        RecvTimeoutError::Timeout if started => {
                            format!("no test came to an end for {} s", self.limits.test.as_secs())
                        }
                        RecvTimeoutError::Timeout => format!("no sign of life for {} s", self.limits.boot.as_secs()),
                    };
                    return if started { Outcome::Broke(reason) } else { Outcome::NeverStarted(reason) };
                }
            };
            let mark = Mark::parse(&line);
            seen(&line, mark.as_ref());
            match mark {
                Some(Mark::End(status)) => return Outcome::Ended(status),
                Some(_) => {
                    started = true;
                    deadline = Instant::now() + self.limits.test;
                }
                None => {}
            }
        }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(PROGRAM);
        command
            .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
            .args(self.accelerator.arguments())
            .args(["-smp", &self.processors.to_string(), "-m", &self.memory.to_string()])
            .arg("-kernel")
            .arg(&self.kernel)
            .arg("-initrd")
            .arg(&self.initramfs)
            // A kernel that panics ends the machine instead of waiting for somebody to look at it.
            .args(["-append", "console=ttyS0 panic=-1 oops=panic loglevel=6 random.trust_cpu=on mitigations=off"])
            .arg("-serial")
            .arg(format!("file:{}", self.kernel_log.display()))
            .args(["-serial", "stdio"])
            .args(["-device", "virtio-rng-pci"])
            .arg("-fsdev")
            .arg(format!("local,id={SHARE},path=/,security_model=none,readonly=on,multidevs=remap"))
            .arg("-device")
            .arg(format!("virtio-9p-pci,fsdev={SHARE},mount_tag={SHARE}"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        // Whatever ends this process ends the machine.
        let follow = || Ok(set_pdeathsig(Signal::SIGKILL)?);
        // SAFETY: the closure makes one system call and allocates nothing, so it may run between fork and exec.
        unsafe { command.pre_exec(follow) };
        command
    }
}

/// The lines of a stream, read by a thread that ends with it.
fn lines(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut stream = BufReader::new(stream);
        let mut line = Vec::new();
        while matches!(stream.read_until(b'\n', &mut line), Ok(n) if n > 0) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            if sender.send(text).is_err() {
                return;
            }
            line.clear();
        }
    });
    receiver
}

/// Checks that QEMU can be started at all.
///
/// # Errors
/// It cannot.
pub fn version() -> Result<String> {
    let output =
        Command::new(PROGRAM).arg("--version").output().with_context(|| format!("could not start {PROGRAM}"))?;
    if !output.status.success() {
        bail!("{PROGRAM} --version: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn follow(said: &[&str], silent: bool) -> (Outcome, usize) {
        let machine = Machine {
            kernel: PathBuf::new(),
            initramfs: PathBuf::new(),
            kernel_log: PathBuf::new(),
            accelerator: Accelerator::Tcg,
            processors: 1,
            memory: 1,
            limits: Limits { boot: Duration::from_millis(20), test: Duration::from_millis(40) },
        };
        let (sender, receiver) = mpsc::channel();
        for line in said {
            sender.send((*line).to_owned()).unwrap();
        }
        // A guest that hangs keeps its serial port.
        let kept = silent.then_some(sender);
        let mut marks = 0;
        let outcome = machine.follow(&receiver, &mut |_, mark| marks += usize::from(mark.is_some()));
        drop(kept);
        (outcome, marks)
    }

    #[test]
    fn every_way_to_end_is_told_apart() {
        assert_eq!(follow(&["x", "@vm start 6", "@vm end 3", "y"], false), (Outcome::Ended(3), 2));
        assert_eq!(follow(&["x"], false), (Outcome::NeverStarted("QEMU ended".into()), 0));
        assert_eq!(follow(&["@vm start 6", "x"], false), (Outcome::Broke("QEMU ended".into()), 1));
        assert!(matches!(follow(&["x"], true), (Outcome::NeverStarted(reason), 0) if reason.starts_with("no sign")));
        assert!(matches!(follow(&["@vm start 6"], true), (Outcome::Broke(reason), 1) if reason.starts_with("no test")));
    }
}
