//! The classifier in the kernel, and how long loading a policy takes.

use super::{Figures, Part, tools};
use crate::scenario::kernel::TEST_OBJECT;
use crate::workspace::{binaries, run_text, target};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::process::Command;

/// What is measured here.
pub(super) const PARTS: &[Part] =
    &[Part { name: "spd", about: "ns for each classified packet with 1 to 10,000 rules, ms for loading them", run }];

fn run() -> Result<Figures> {
    tools::build(&["esp-kernel", "ipseckey"])?;
    let load = tools::load();
    let mut command = Command::new(binaries()?.join("esp-kernel"));
    command.arg("policy-bench").arg(target(TEST_OBJECT)).arg(binaries()?.join("ipsecconf"));
    let mut json: Value = serde_json::from_str(&run_text(&mut command)?).context("what esp-kernel printed")?;
    let mut text = format!("Nanoseconds for each packet. {}.\n", load.machine());
    text.extend(load.warning().map(|warning| warning + "\n"));
    text += &format!(
        "\n{:<7} {:>6} {:>8} {:>8} {:>8} {:>8} {:>7}\n",
        "shape", "rules", "hit", "256 hits", "miss", "miss hot", "fit"
    );
    let rows = |name: &str| json.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    let number = |row: &Value, name: &str| row.get(name).and_then(Value::as_f64).unwrap_or(f64::NAN);
    for row in rows("rows") {
        let shape = row.get("shape").and_then(Value::as_str).unwrap_or_default();
        let [rules, hit, hits, miss, again, fit] =
            ["rules", "hit", "hit_of_256_flows", "miss", "search_again", "packets_with_rule"]
                .map(|name| number(&row, name));
        let fit = fit * 100.0;
        text += &format!("{shape:<7} {rules:>6.0} {hit:>8.0} {hits:>8.0} {miss:>8.0} {again:>8.0} {fit:>6.0}%\n");
    }
    text += &format!("\n{:<7} {:>6} {:>8} {:>8}\n", "load", "rules", "ms", "again");
    for row in rows("loads") {
        let [rules, first, again] = ["rules", "first_ms", "again_ms"].map(|name| number(&row, name));
        text += &format!("{:<7} {rules:>6.0} {first:>8.0} {again:>8.0}\n", "");
    }
    text += METHOD;
    if let Some(members) = json.as_object_mut() {
        members.insert("machine".to_owned(), load.json());
        members.insert("method".to_owned(), json!(METHOD.trim()));
    }
    Ok(Figures { text, json })
}

const METHOD: &str = "
The functions of the data path on selectors that are there already, in an object for tests, over the maps of an attached
instance; 200,000 packets in one BPF_PROG_TEST_RUN, median of 7, less what a program costs that takes the packet and
asks nothing. hit: one flow, and 256 of them, found in the flow cache. miss: 32,768 different packets in turn, four times
as many as the cache holds; fit: how many of them have a rule. miss hot: one packet with a rule, without the cache.
sites: a network at each end for each rule. flows: a host and a port. worst: rules that overlap so that every page of
the bit vectors has to be looked at, and then there is none.
load: ipsecconf -F -a of a file with that many rules in the place of the last policy, and once more; it ends when no
packet can be judged by the old policy and that has been removed.
";
