//! Runs the programs of the data path on packets of its own with `BPF_PROG_TEST_RUN`, as root: known answers and random
//! packets against RustCrypto and `ring`, and what a packet costs. `cargo xtask scenario kernel-vectors`, `kernel-packets` and
//! `cargo xtask bench` start it.

mod bench;
mod check;
mod corners;
mod ecn;
mod forge;
mod ingress;
mod instance;
mod next_abi;
mod packets;
mod programs;
#[path = "../../tests/support/reference.rs"]
#[allow(
    dead_code,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "shared with the host tests: fails by panicking, and its numbers are its own"
)]
mod reference;
mod run;
mod scale;
mod spd;
#[path = "../../tests/support/mod.rs"]
#[allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "shared with the host tests: fails by panicking, and its numbers are its own"
)]
mod support;
mod test_object;
mod transforms;
mod vectors;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "esp-kernel", about = "Run the eBPF programs on packets of our own")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Known answers, forgeries and random packets through the ciphers in the kernel
    Vectors {
        /// The test-only object
        object: PathBuf,
    },
    /// Random packets of every size through the real programs: sealed, compared with RustCrypto, opened
    Packets {
        /// Another object than the one that is embedded
        #[arg(long)]
        object: Option<PathBuf>,
    },
    /// Every ECN field inside and outside, through the real programs
    Ecn,
    /// Path MTU, ICMP errors, fragments and lost packets, through the real programs
    Corners {
        /// Another object than the one that is embedded
        #[arg(long)]
        object: Option<PathBuf>,
    },
    /// Frames that nobody sends, through the whole ingress
    Ingress {
        /// Another object than the one that is embedded
        #[arg(long)]
        object: Option<PathBuf>,
        /// What the frames are made from
        #[arg(long, default_value_t = 4303)]
        seed: u64,
        /// Frames
        #[arg(long, default_value_t = 8_000)]
        frames: u64,
        /// Minutes of processor time, instead of a number of frames
        #[arg(long)]
        minutes: Option<f64>,
    },
    /// Attach the programs of an object, in place of those that espadm has embedded
    Attach {
        /// Instance of the data path
        #[arg(long, env = "IPSEC_INSTANCE")]
        instance: String,
        /// An object with the real programs
        object: PathBuf,
        /// Outer interfaces
        interfaces: Vec<String>,
    },
    /// Move an instance to an object that was built with the feature next-abi, or from there to the programs that espadm has
    Move {
        /// Instance of the data path
        #[arg(long, env = "IPSEC_INSTANCE")]
        instance: String,
        /// The object; without, the way back
        object: Option<PathBuf>,
    },
    /// Nanoseconds for each packet, as JSON
    Bench {
        /// The test-only object
        object: PathBuf,
        /// Another object with the real programs than the one that is embedded
        #[arg(long)]
        programs: Option<PathBuf>,
        /// Transforms to measure, by name; all without it
        transforms: Vec<String>,
        /// Times that every kind takes its turn
        #[arg(long, default_value_t = 50)]
        rounds: usize,
    },
    /// Nanoseconds for each packet with up to 100,000 SAs, and on two processors, as JSON
    Scale {
        /// The test-only object
        object: PathBuf,
    },
    /// Random rules and packets through the classifier in the kernel, compared with the plain scan
    Policy {
        /// The test-only object
        object: PathBuf,
    },
    /// Nanoseconds for each classified packet, and the time that loading a policy takes, as JSON
    PolicyBench {
        /// The test-only object
        object: PathBuf,
        /// The program that loads a policy file
        ipsecconf: PathBuf,
    },
    /// Load time, verified instructions and size of each real program, as JSON
    Programs {
        /// The real object
        object: PathBuf,
    },
}

fn main() -> ExitCode {
    let result: Result<()> = match Arguments::parse().task {
        Task::Vectors { object } => vectors::run(&object),
        Task::Packets { object } => packets::run(object.as_deref()),
        Task::Ecn => ecn::run(),
        Task::Corners { object } => corners::run(object.as_deref()),
        Task::Ingress { object, seed, frames, minutes } => ingress::run(object.as_deref(), seed, frames, minutes),
        Task::Attach { instance, object, interfaces } => instance::attach(&instance, &object, &interfaces),
        Task::Move { instance, object } => next_abi::run(&instance, object.as_deref()),
        Task::Bench { object, programs, transforms, rounds } => {
            bench::run(&object, programs.as_deref(), &transforms, rounds)
        }
        Task::Scale { object } => scale::run(&object),
        Task::Policy { object } => spd::check(&object),
        Task::PolicyBench { object, ipsecconf } => spd::bench(&object, &ipsecconf),
        Task::Programs { object } => programs::run(&object),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
