//! What the parts share: building what they measure, and what machine it is.

use crate::build_ebpf;
use crate::workspace::{cargo, run_shown};
use anyhow::Result;
use serde_json::{Value, json};
use std::fs;

/// Builds the programs in the kernel and these packages of the workspace.
///
/// # Errors
/// What the build said.
pub(super) fn build(packages: &[&str]) -> Result<()> {
    build_ebpf::run_quietly()?;
    let mut command = cargo();
    command.args(["build", "--quiet"]);
    for package in packages {
        command.args(["-p", package]);
    }
    run_shown(&mut command)
}

/// The machine, and how busy it was with other things before a measurement.
pub(super) struct Load {
    processors: usize,
    model: String,
    kernel: String,
    average: f64,
}

/// Reads what machine this is; empty where the system does not say.
pub(super) fn load() -> Load {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    Load {
        processors: std::thread::available_parallelism().map_or(0, usize::from),
        model: model.map_or_else(String::new, |(_, model)| model.trim().to_owned()),
        kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        average: read("/proc/loadavg").split(' ').next().and_then(|word| word.parse().ok()).unwrap_or(0.0),
    }
}

impl Load {
    /// One line.
    pub(super) fn machine(&self) -> String {
        format!("{} processors, {}, Linux {}", self.processors, self.model, self.kernel)
    }

    /// What to say when others were at work.
    pub(super) fn warning(&self) -> Option<String> {
        let busy = self.average > 0.3;
        busy.then(|| format!("The load average was {:.2} before: the machine did other things too.", self.average))
    }

    /// For programs.
    pub(super) fn json(&self) -> Value {
        json!({
            "processors": self.processors, "model": self.model, "kernel": self.kernel, "load_before": self.average
        })
    }
}
