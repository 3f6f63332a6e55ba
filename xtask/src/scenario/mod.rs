//! What is tested between hosts: each scenario is a function with a name that makes its own lab, and fails with an
//! error that says what was expected. `cargo xtask scenario NAME` runs one by hand.

mod baseline;
mod topology;

use anyhow::{Context, Result, bail};
use std::time::Instant;

/// What a scenario needs beside the programs of this workspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Nothing: hosts in network namespaces.
    Namespace,
    /// Other implementations.
    Interop,
}

/// One test between hosts.
pub struct Scenario {
    /// What it is called on the command line.
    pub name: &'static str,
    /// The stage of `cargo xtask test` that runs it.
    pub group: Group,
    /// What it shows, in one line.
    pub about: &'static str,
    /// The test.
    pub run: fn() -> Result<()>,
}

/// All of them, in the order in which they run.
pub const ALL: &[Scenario] = &[
    Scenario {
        name: "harness",
        group: Group::Namespace,
        about: "a transfer in clear between two hosts is seen on the wire between them",
        run: baseline::clear_transfer,
    },
    Scenario {
        name: "strongswan-pair",
        group: Group::Interop,
        about: "two strongSwans agree in this harness: what fails against us is not the harness",
        run: baseline::strongswan_pair,
    },
];

/// Runs the named scenarios, or all, in this process.
///
/// # Errors
/// There is no scenario of that name, or one failed.
pub fn run(names: &[String]) -> Result<()> {
    crate::net::undo::watch_signals();
    if let Some(unknown) = names.iter().find(|name| !ALL.iter().any(|scenario| scenario.name == *name)) {
        bail!(
            "no scenario is called {unknown}; there are: {}",
            ALL.iter().map(|s| s.name).collect::<Vec<_>>().join(" ")
        );
    }
    for scenario in ALL.iter().filter(|scenario| names.is_empty() || names.iter().any(|name| scenario.name == name)) {
        let start = Instant::now();
        println!("{}: {}", scenario.name, scenario.about);
        (scenario.run)().with_context(|| format!("scenario {}", scenario.name))?;
        println!("{}: passed in {:.1} s", scenario.name, start.elapsed().as_secs_f64());
    }
    Ok(())
}

/// Prints the names and what they show.
pub fn list() {
    for scenario in ALL {
        println!("{:<28} {}", scenario.name, scenario.about);
    }
}
