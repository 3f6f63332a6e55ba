//! Whether the scenarios can fail: an object of its own, which is never installed, has the deliberate faults of the data path, one at
//! a time as a word of it says, and scenarios that pass without the fault have to fail for the reason that it is.

use crate::build_ebpf;
use crate::workspace::{binaries, target};
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::process::{Command, Stdio};

/// Names the object that scenarios attach in place of the one that is embedded.
const OBJECT: &str = "IPSEC_TEST_OBJECT";

/// A fault, by its number in the programs, a scenario that has to see it, and what it says then.
const FAULTS: [(u8, &str, &str, &str); 9] = [
    (1, "a wrong ICV", "manual-chacha20-poly1305", "drop-integrity"),
    (1, "a wrong ICV", "kernel-packets", "RFC 4303 and RustCrypto say"),
    (2, "no replay protection", "kernel-packets", "a replayed packet"),
    (3, "one in 64 in clear", "manual-chacha20-poly1305", "in clear"),
    (3, "one in 64 in clear", "leak", "in clear"),
    (4, "AH that is not verified", "kernel-corners", "forged AH"),
    (5, "no policy behind an SA", "kernel-corners", "a later fragment"),
    (6, "no policy past XDP", "kernel-corners", "past XDP"),
    (7, "one in 64 in clear by the shortcut", "shortcut", "in clear"),
];

/// What is no fault, and a scenario that passes all the same.
const HARMLESS: [(u8, &str, &str); 1] = [(8, "no metadata in front of frames", "manual-chacha20-poly1305")];

/// Features of the package of the programs that scenarios build objects with, in the order in which they need them.
pub(crate) const VARIANTS: [&str; 2] = ["next-abi", "faults"];

/// What the object has in front of the number of its fault: four octets to a word, in the order of this machine.
const MARK: [u32; 3] = [0x6465_6c69, 0x6265_7261, 0x7465_6c79];

/// The object that this process is to attach, when it is not the one that is embedded.
pub(crate) fn object() -> Option<String> {
    std::env::var(OBJECT).ok().filter(|path| !path.is_empty())
}

pub(super) fn are_seen() -> Result<()> {
    let built = build_ebpf::variant("faults")?;
    let built = fs::read(&built).with_context(|| format!("reading {}", built.display()))?;
    for (number, what, scenario) in HARMLESS {
        let (passed, said) = with_fault(&built, number, scenario)?;
        ensure!(passed, "scenario {scenario} fails with {what}:\n{said}");
        println!("{what}: {scenario} passes");
    }
    for (number, what, scenario, reason) in FAULTS {
        let (passed, said) = with_fault(&built, number, scenario)?;
        ensure!(!passed, "scenario {scenario} passes with {what}:\n{said}");
        ensure!(said.contains(reason), "scenario {scenario} fails with {what}, but not for {reason:?}:\n{said}");
        println!("{what}: {scenario} fails");
    }
    Ok(())
}

/// Whether a scenario passes with the fault of this number, and what it says.
fn with_fault(built: &[u8], number: u8, scenario: &str) -> Result<(bool, String)> {
    let object = target("variants/faults").join(format!("fault-{number}.o"));
    fs::write(&object, chosen(built, number)?).with_context(|| format!("writing {}", object.display()))?;
    let mut command = Command::new(binaries()?.join("xtask"));
    command.args(["scenario", "--built", scenario]).env(OBJECT, &object).stdin(Stdio::null());
    let output = command.output().with_context(|| format!("could not start scenario {scenario}"))?;
    let said = [output.stdout, output.stderr].concat();
    Ok((output.status.success(), String::from_utf8_lossy(&said).into_owned()))
}

/// The object with this fault.
fn chosen(built: &[u8], number: u8) -> Result<Vec<u8>> {
    let mark: Vec<u8> = MARK.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let mut places = built.windows(mark.len()).enumerate().filter(|(_, window)| *window == mark).map(|(at, _)| at);
    let (Some(at), None) = (places.next(), places.next()) else { bail!("the object has no fault to choose, or two") };
    let mut object = built.to_vec();
    let word =
        object.get_mut(at + mark.len()..).and_then(|rest| rest.first_chunk_mut::<4>()).context("no word there")?;
    *word = u32::from(number).to_ne_bytes();
    Ok(object)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_behind_the_mark_is_the_fault() {
        let mark: Vec<u8> = MARK.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let object = [&[7; 9][..], &mark, &[0; 8]].concat();
        let faulty = chosen(&object, 5).unwrap();
        assert_eq!(faulty, [&[7; 9][..], &mark, &5u32.to_ne_bytes(), &[0; 4]].concat());
        assert!(chosen(&[7; 30], 5).is_err() && chosen(&[&object[..], &object].concat(), 5).is_err());
    }
}
