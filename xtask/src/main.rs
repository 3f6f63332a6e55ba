//! `cargo xtask`: build, demo, test and bench of the IPsec suite.

use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Build, demonstrate, test and measure the IPsec suite")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Measure: cost of a packet, throughput, memory, size of the programs; everything when nothing is named
    Bench(xtask::bench::Arguments),
    /// Build the programs that run in the kernel into target/ebpf/
    BuildEbpf,
    /// Write what bash, zsh and fish complete for every command below a directory, from what has been built
    Completions {
        /// Taken for the root: files go to usr/share below it
        directory: std::path::PathBuf,
    },
    /// Show two hosts that negotiate, pass traffic through XDP and rekey, in network namespaces
    Demo,
    /// Look for octets that a parser, a codec or a cipher takes wrongly
    Fuzz(xtask::fuzz::Arguments),
    /// Check the manual pages, and what shells complete, against the commands that have been built
    Manuals,
    /// Build for release and make a package for Debian, the same octets from the same sources
    Package(xtask::package::Arguments),
    /// Run every test there is, with the time of each stage and a closing count
    Test,
    /// Build everything, and run tests between hosts in network namespaces; all of them when none is named
    Scenario {
        /// Print what there is and run nothing
        #[arg(long)]
        list: bool,
        /// Say in the lines of `cargo xtask vm` what came of each, and go on after a failure
        #[arg(long, hide = true)]
        inside_vm: bool,
        /// Everything has been built
        #[arg(long, hide = true)]
        built: bool,
        /// Names of scenarios
        names: Vec<String>,
    },
    /// Run tests on other kernels in virtual machines
    Vm(xtask::vm::Arguments),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().task {
        Task::Bench(arguments) => xtask::bench::run(&arguments),
        Task::BuildEbpf => xtask::build_ebpf::run_task(),
        Task::Completions { directory } => xtask::manuals::write_completions(&directory),
        Task::Demo => xtask::demo::run(),
        Task::Fuzz(arguments) => xtask::fuzz::run(&arguments),
        Task::Manuals => xtask::manuals::prepare().and_then(|()| xtask::manuals::check()).map(drop),
        Task::Package(arguments) => xtask::package::run_task(&arguments),
        Task::Test => xtask::test::run(),
        Task::Scenario { list: true, .. } => {
            xtask::scenario::list();
            Ok(())
        }
        Task::Scenario { inside_vm: true, names, .. } => xtask::vm::inside(&names),
        Task::Scenario { built: true, names, .. } => xtask::scenario::run(&names),
        Task::Scenario { names, .. } => xtask::scenario::build().and_then(|()| xtask::scenario::run(&names)),
        Task::Vm(arguments) => xtask::vm::run(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
