//! Packets that are handed to the programs in the kernel directly: `esp-kernel` makes them and judges what comes out.

use super::faults;
use crate::workspace::{binaries, run_shown, target};
use anyhow::{Result, ensure};
use std::process::Command;

/// The object that only tests and measurements load.
pub(crate) const TEST_OBJECT: &str = "ebpf/ipsec-esp-test.o";

pub(super) fn vectors() -> Result<()> {
    with_object("vectors")
}

pub(super) fn policy() -> Result<()> {
    with_object("policy")
}

fn with_object(task: &str) -> Result<()> {
    let object = target(TEST_OBJECT);
    ensure!(object.is_file(), "{} is not there: run `cargo xtask build-ebpf`", object.display());
    run_shown(Command::new(binaries()?.join("esp-kernel")).arg(task).arg(object))
}

pub(super) fn ecn() -> Result<()> {
    run_shown(Command::new(binaries()?.join("esp-kernel")).arg("ecn"))
}

pub(super) fn corners() -> Result<()> {
    with_programs("corners")
}

pub(super) fn packets() -> Result<()> {
    with_programs("packets")
}

pub(super) fn ingress() -> Result<()> {
    with_programs("ingress")
}

/// With the real programs, or those that have a fault.
fn with_programs(task: &str) -> Result<()> {
    let object = faults::object();
    let object = object.iter().flat_map(|object| ["--object", object]);
    run_shown(Command::new(binaries()?.join("esp-kernel")).arg(task).args(object))
}
