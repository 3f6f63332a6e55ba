//! Programs that run on a host for a while: started, watched through their log, ended by their process id.

use super::Host;
use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::{self, File};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a daemon may take to clean up after SIGTERM.
const GRACE: Duration = Duration::from_secs(20);

const POLL: Duration = Duration::from_millis(20);

/// A running program; ended when dropped.
pub struct Daemon {
    name: String,
    child: Arc<Mutex<Child>>,
    log: PathBuf,
}

impl Host {
    /// Starts `command` (made by [`Host::command`]) with its output in the file `log`.
    ///
    /// # Errors
    /// The log cannot be written, or the program cannot be started.
    pub fn start(&self, mut command: Command, log: &Path) -> Result<Daemon> {
        let file = File::create(log).with_context(|| format!("creating {}", log.display()))?;
        let errors = file.try_clone().context("a second handle of the log")?;
        // Not in our process group: an interrupt at the terminal is for us, who end the daemons in order.
        command.process_group(0).stdin(Stdio::null()).stdout(file).stderr(errors);
        let name = command.get_program().to_string_lossy().into_owned();
        let child = command.spawn().with_context(|| format!("could not start {name} on {}", self.name()))?;
        let child = Arc::new(Mutex::new(child));
        let daemon = Daemon { name, child: Arc::clone(&child), log: log.to_owned() };
        self.undo.push(move || {
            let _ = end(&child, Signal::SIGTERM);
        })?;
        Ok(daemon)
    }
}

impl Daemon {
    /// Waits until its log has a line with `text`.
    ///
    /// # Errors
    /// It ended or the time was up first; the error has the end of the log.
    pub fn wait_for(&self, text: &str, limit: Duration) -> Result<()> {
        let start = Instant::now();
        while !self.log()?.contains(text) {
            if let Some(status) = self.status()? {
                bail!("{} ended with {status} before it said {text:?}\n{}", self.name, self.log_end());
            }
            if start.elapsed() > limit {
                bail!("{} did not say {text:?} within {limit:?}\n{}", self.name, self.log_end());
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    /// Everything it has printed.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn log(&self) -> Result<String> {
        let bytes = fs::read(&self.log).with_context(|| format!("reading {}", self.log.display()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The last lines it printed, for an error message.
    pub fn log_end(&self) -> String {
        let log = self.log().unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines.get(lines.len().saturating_sub(25)..).unwrap_or_default().join("\n")
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// The system does not tell.
    pub fn status(&self) -> Result<Option<ExitStatus>> {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        child.try_wait().with_context(|| format!("the state of {}", self.name))
    }

    /// Asks it to end (SIGTERM) and waits; after some seconds it is killed, which is an error.
    ///
    /// # Errors
    /// It had to be killed.
    pub fn terminate(&self) -> Result<ExitStatus> {
        let status = end(&self.child, Signal::SIGTERM)?;
        if status.signal() == Some(Signal::SIGKILL as i32) {
            bail!("{} did not end within {GRACE:?} of SIGTERM\n{}", self.name, self.log_end());
        }
        Ok(status)
    }

    /// Kills it (SIGKILL).
    ///
    /// # Errors
    /// The system does not tell how it ended.
    pub fn kill(&self) -> Result<ExitStatus> {
        end(&self.child, Signal::SIGKILL)
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// It is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        kill(pid(&child)?, signal).with_context(|| format!("signalling {}", self.name))
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.lock().unwrap_or_else(PoisonError::into_inner).id()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = end(&self.child, Signal::SIGTERM);
    }
}

fn end(child: &Mutex<Child>, signal: Signal) -> Result<ExitStatus> {
    let mut child = child.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(status) = child.try_wait().context("the state of a child")? {
        return Ok(status);
    }
    // A child that was not waited for keeps its id, so the signal cannot reach another process.
    let _ = kill(pid(&child)?, signal);
    let start = Instant::now();
    while start.elapsed() < GRACE {
        if let Some(status) = child.try_wait().context("the state of a child")? {
            return Ok(status);
        }
        std::thread::sleep(POLL);
    }
    let _ = child.kill();
    child.wait().context("waiting for a child")
}

fn pid(child: &Child) -> Result<Pid> {
    Ok(Pid::from_raw(i32::try_from(child.id()).context("a process id beyond 2^31")?))
}
