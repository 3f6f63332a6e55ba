//! The cost of a packet in the kernel, beside its bare cryptography.

use super::{Figures, Part, tools};
use crate::scenario::kernel::TEST_OBJECT;
use crate::workspace::{binaries, run_text, target};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::process::Command;

/// What is measured here.
pub(super) const PARTS: &[Part] = &[Part {
    name: "esp",
    about: "ns for each packet and transform: the complete programs, their bare ciphers, ring (about 2 minutes)",
    run,
}];

fn run() -> Result<Figures> {
    tools::build(&["esp-kernel"])?;
    let load = tools::load();
    let text = run_text(Command::new(binaries()?.join("esp-kernel")).arg("bench").arg(target(TEST_OBJECT)))?;
    let mut json: Value = serde_json::from_str(&text).context("what esp-kernel bench printed")?;
    let mut text = format!("Nanoseconds for each packet. {}.\n", load.machine());
    text.extend(load.warning().map(|warning| warning + "\n"));
    text += &format!("\n{:<36} {:>5}  {:^31}  {:^31}\n", "", "", "seal", "open");
    let columns = format!("{:>9} {:>7} {:>6} {:>6}", "complete", "bare", "ratio", "ring");
    text += &format!("{:<36} {:>5}  {columns}  {columns}\n", "", "size");
    for row in json.get("rows").and_then(Value::as_array).into_iter().flatten() {
        text += &line(row);
    }
    text += &surroundings(&json);
    text += METHOD;
    if let Some(members) = json.as_object_mut() {
        members.insert("machine".to_owned(), load.json());
        members.insert("method".to_owned(), json!(METHOD.trim()));
    }
    Ok(Figures { text, json })
}

fn line(row: &Value) -> String {
    let member = |way: &str, name: &str| row.get(way).and_then(|way| way.get(name)).and_then(Value::as_f64);
    let number = |way: &str, name: &str| member(way, name).unwrap_or(f64::NAN);
    let side = |way: &str| {
        let (complete, bare) = (number(way, "complete"), number(way, "bare"));
        let ring = member(way, "ring").map_or("-".to_owned(), |ring| format!("{ring:.0}"));
        format!("{complete:>9.0} {bare:>7.0} {:>6.3} {ring:>6}", number(way, "ratio"))
    };
    let name = row.get("algorithm").and_then(Value::as_str).unwrap_or_default();
    let size = row.get("size").and_then(Value::as_u64).unwrap_or_default();
    format!("{name:<36} {size:>5}  {}  {}\n", side("seal"), side("open"))
}

/// Where the difference to the bare cipher goes, at the largest size.
fn surroundings(json: &Value) -> String {
    let rows = json.get("rows").and_then(Value::as_array).into_iter().flatten();
    let largest = rows.filter(|row| row.get("size").and_then(Value::as_u64) == Some(LARGEST));
    let mut text = format!("\nAround the cipher, at {LARGEST} octets:\n");
    for row in largest {
        let number = |way: &str, name: &str| {
            row.get(way).and_then(|way| way.get(name)).and_then(Value::as_f64).unwrap_or(f64::NAN)
        };
        text += &format!(
            "{:<36} seal {:>4.0} before and {:>4.0} after it, open {:>4.0} before and {:>4.0} after it\n",
            row.get("algorithm").and_then(Value::as_str).unwrap_or_default(),
            number("seal", "before"),
            number("seal", "after"),
            number("open", "before"),
            number("open", "after"),
        );
    }
    text
}

/// The size whose surroundings are shown.
const LARGEST: u64 = 1400;

const METHOD: &str = "
size: octets of an IPv4 packet that goes through an IPv4 tunnel; 32-bit sequence numbers, replay window of 1024.
complete: the programs as they are installed, xdp_ipsec0x from the tagged frame to XDP_PASS with the route known (no FIB
lookup, no redirect), xdp_outer from the ESP packet to XDP_PASS, with all the programs that they go on to.
bare: the functions of cipher and authenticator of the same source on the same octets, in an object for tests: no SA
lookup, no headers.
before: reading, SA, sequence number and room; SA, replay window (measured with a packet that it refuses). after: headers
and exit (that program run by itself); replay, headers, policy. What was not measured by itself is the difference.
Each figure is the median of 1000 runs of BPF_PROG_TEST_RUN, each with a fresh copy of its frame, in turns of 20; that of
a program that does nothing, measured in the same way, is subtracted. ring: batches of 20 messages in user space, with
its SIMD code, which the kernel does not let BPF use; it has three of the transforms.
";
