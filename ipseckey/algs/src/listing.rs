//! How `ipsecalgs` prints tables (spec section 4.9).

use crate::file::{AlgorithmFile, Entry, Keys, flag, joined};
use crate::table::{Listed, Table};
use serde::Serialize;
use std::fmt::Write as _;

/// The file: its protocols, and the algorithms of each.
pub fn file(file: &AlgorithmFile) -> String {
    let mut out = "List of algorithms, grouped by IPsec protocol:\n\n".to_owned();
    for protocol in &file.protocols {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "Protocol {}/{} (execution mode: {})\n", protocol.number, protocol.name, protocol.mode);
        for entry in file.entries.iter().filter(|entry| entry.protocol == protocol.number) {
            block(&mut out, entry, &flags(entry.flags));
        }
    }
    out
}

/// The table in force: what the data path cannot do is called invalid, with the reason.
pub fn table(table: &Table) -> String {
    let mut out = "Kernel list of algorithms:\n\n".to_owned();
    for Listed { entry, usable } in table.listed().iter().filter(|listed| listed.entry.number != 0) {
        let flags = match usable {
            Ok(_) => flags(entry.flags | flag::VALID),
            Err(reason) => format!("INVALID {}({reason})", flags(entry.flags & !flag::VALID)),
        };
        block(&mut out, entry, &flags);
    }
    out
}

fn block(out: &mut String, entry: &Entry, flags: &str) {
    let keys = match &entry.keys {
        Keys::List(sizes) => joined(sizes, ", "),
        Keys::Range { low, high, step, default } => format!("{low}-{high}, increment {step}, default {default}"),
    };
    // Writing to a String cannot fail.
    let _ = write!(
        out,
        "\tProtocol number: {}\n\tAlgorithm number: {}\n\tAlgorithm names: {}\n\tMechanism Name: {}\n\tBlock sizes or MAC \
         sizes: {}\n\tKey sizes: {keys}\n\tAlgorithm parameters: {}\n\tAlgorithm flags: {flags}\n\n",
        entry.protocol,
        entry.number,
        entry.names.join(","),
        entry.mechanism,
        joined(&entry.sizes, ", "),
        joined(&entry.parameters, ", "),
    );
}

/// Names of flags, each followed by a blank.
fn flags(flags: u16) -> String {
    flag::NAMES.iter().filter(|(_, bit)| flags & bit != 0).map(|(name, _)| format!("{name} ")).collect()
}

/// An algorithm for `--json`.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "the names of the fields are the documentation; ipsecalgs(8) repeats them")]
pub struct JsonAlgorithm {
    pub protocol: u8,
    pub number: u8,
    pub names: Vec<String>,
    pub mechanism: String,
    pub key_sizes: String,
    pub default_key_size: u16,
    pub block_or_mac_sizes: Vec<u16>,
    pub parameters: Vec<u16>,
    pub flags: Vec<&'static str>,
    pub usable: bool,
    pub reason: Option<String>,
}

/// A protocol for `--json`.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "the names of the fields are the documentation; ipsecalgs(8) repeats them")]
pub struct JsonProtocol {
    pub number: u8,
    pub name: String,
    pub mode: String,
}

/// A file or a table for `--json`; protocols are those of a file.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "the names of the fields are the documentation; ipsecalgs(8) repeats them")]
pub struct JsonTable {
    pub protocols: Vec<JsonProtocol>,
    pub algorithms: Vec<JsonAlgorithm>,
}

/// What `--json` prints of a table, and of the file that it comes from.
pub fn json(file: Option<&AlgorithmFile>, table: &Table) -> JsonTable {
    let protocols = file.map(|file| file.protocols.iter()).into_iter().flatten();
    let protocol =
        |p: &crate::file::Protocol| JsonProtocol { number: p.number, name: p.name.clone(), mode: p.mode.to_string() };
    let algorithm = |Listed { entry, usable }: &Listed| JsonAlgorithm {
        protocol: entry.protocol,
        number: entry.number,
        names: entry.names.clone(),
        mechanism: entry.mechanism.clone(),
        key_sizes: match &entry.keys {
            Keys::List(sizes) => joined(sizes, ","),
            Keys::Range { low, high, step, .. } => format!("{low}-{high},{step}"),
        },
        default_key_size: entry.keys.default(),
        block_or_mac_sizes: entry.sizes.clone(),
        parameters: entry.parameters.clone(),
        flags: flag::NAMES.iter().filter(|(_, bit)| entry.flags & bit != 0).map(|(name, _)| *name).collect(),
        usable: usable.is_ok(),
        reason: usable.as_ref().err().cloned(),
    };
    JsonTable {
        protocols: protocols.map(protocol).collect(),
        algorithms: table.listed().iter().map(algorithm).collect(),
    }
}
