//! Many SAs, and two processors.

use super::{Figures, Part, tools};
use crate::scenario::kernel::TEST_OBJECT;
use crate::workspace::{binaries, run_text, target};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::process::Command;

/// What is measured here.
pub(super) const PARTS: &[Part] =
    &[Part { name: "scale", about: "ns for each packet of one SA and of 100,000, on one processor and on two", run }];

fn run() -> Result<Figures> {
    tools::build(&["esp-kernel"])?;
    let load = tools::load();
    let text = run_text(Command::new(binaries()?.join("esp-kernel")).arg("scale").arg(target(TEST_OBJECT)))?;
    let mut json: Value = serde_json::from_str(&text).context("what esp-kernel scale printed")?;
    let number = |value: &Value, at: &str| value.pointer(at).and_then(Value::as_f64).unwrap_or(f64::NAN);
    let mut text = format!("Nanoseconds for each packet. {}.\n", load.machine());
    text.extend(load.warning().map(|warning| warning + "\n"));
    text += &format!("\n{:>6} {:>10} {:>7} {:>7}\n", "size", "drawn from", "seal", "open");
    for row in json.get("lookups").and_then(Value::as_array).into_iter().flatten() {
        let [size, drawn, seal, open] = ["/size", "/drawn_from", "/seal", "/open"].map(|at| number(row, at));
        text += &format!("{size:>6.0} {drawn:>10.0} {seal:>7.0} {open:>7.0}\n");
    }
    if let Some(cores) = json.get("cores").filter(|cores| cores.is_object()) {
        let [seal, open] = ["/one_processor/seal", "/one_processor/open"].map(|at| number(cores, at));
        text += &format!("\n{:<28} seal {seal:>5.0}        open {open:>5.0}\n", "one processor");
        for (name, about) in
            [("two_with_one_pair", "two, the same SA on both"), ("two_with_two_pairs", "two, an SA for each")]
        {
            let [s0, s1, o0, o1, seal, open] = ["seal/0", "seal/1", "open/0", "open/1", "seal_scaling", "open_scaling"]
                .map(|at| number(cores, &format!("/{name}/{at}")));
            text += &format!(
                "{about:<28} seal {s0:>5.0} {s1:>5.0}  open {o0:>5.0} {o1:>5.0}  times one: {seal:.2} {open:.2}\n"
            );
        }
    }
    text += METHOD;
    if let Some(members) = json.as_object_mut() {
        members.insert("machine".to_owned(), load.json());
        members.insert("method".to_owned(), json!(METHOD.trim()));
    }
    Ok(Figures { text, json })
}

const METHOD: &str = "
The complete programs as in bench esp, ChaCha20-Poly1305, with 50,000 pairs of SAs in the maps. drawn from: each packet
takes one of the first so many pairs, each as likely as any other; the packet is sealed with the outbound SA and opened
with the inbound one. Between two packets are system calls, which leave less in the caches than packets behind one
another would. Medians of 3,000. Two processors: bursts of 400 packets of 1400 octets sealed and then opened, begun
together, medians of 6,000; times one: how many times the packets of one processor two pass in the same time of the
programs. The copies of frames and the system calls around them are not in it.
";
