//! The programs as the kernel sees them.

use super::{Figures, Part, tools};
use crate::workspace::{binaries, run_text, target};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::process::Command;

/// What is measured here.
pub(super) const PARTS: &[Part] =
    &[Part { name: "programs", about: "instructions that the verifier walks, time to load, machine code", run }];

fn run() -> Result<Figures> {
    tools::build(&["esp-kernel"])?;
    let load = tools::load();
    let mut command = Command::new(binaries()?.join("esp-kernel"));
    let text = run_text(command.arg("programs").arg(target("ebpf/ipsec-esp.o")))?;
    let mut json: Value = serde_json::from_str(&text).context("what esp-kernel programs printed")?;
    let rows = json.get("rows").and_then(Value::as_array).cloned().unwrap_or_default();
    let number = |row: &Value, name: &str| row.get(name).and_then(Value::as_f64).unwrap_or(f64::NAN);
    let mut text = format!("{}.\n", load.machine());
    text.extend(load.warning().map(|warning| warning + "\n"));
    text += &format!("\n{:<20} {:>9} {:>8} {:>12} {:>9}\n", "program", "verified", "load ms", "BPF octets", "x86");
    for row in &rows {
        let name = row.get("program").and_then(Value::as_str).unwrap_or_default();
        let [verified, time, octets, machine] =
            ["verified", "load_ms", "translated_octets", "machine_code_octets"].map(|name| number(row, name));
        text += &format!("{name:<20} {verified:>9.0} {time:>8.1} {octets:>12.0} {machine:>9.0}\n");
    }
    let sum = |name: &str| rows.iter().map(|row| number(row, name)).sum::<f64>();
    text += &format!("{:<20} {:>9.0} {:>8.1}\n", "all", sum("verified"), sum("load_ms"));
    text += METHOD;
    if let Some(members) = json.as_object_mut() {
        members.insert("machine".to_owned(), load.json());
        members.insert("method".to_owned(), json!(METHOD.trim()));
    }
    Ok(Figures { text, json })
}

const METHOD: &str = "
verified: instructions that the verifier walked, all paths and functions together; the kernel refuses a million.
load: the system call that verifies and translates one program, median of 5; maps and BTF are there before.
";
