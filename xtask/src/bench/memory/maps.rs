//! SAs in the maps.
//!
//! Of maps whose entries are made in advance, what one more slot takes is the difference between two capacities. Of
//! those whose entries are made when needed, it is what they grow by when SAs are added. The kernel's count of a map
//! does not have what its allocator rounds up; the growth of what the allocator took from the machine does.

use super::Figures;
use crate::net::{Host, Lab};
use crate::suite::{Suite, number, text};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;

/// Slots of the two instances that are compared: powers of two, because that is what hash tables are rounded up to.
/// One slot is never used.
const SLOTS: [u32; 2] = [1 << 10, 1 << 14];

/// SAs that are added of each algorithm, half of them in each direction. Nothing is removed meanwhile: the kernel takes
/// its time to give memory back.
const SAS: u32 = 4000;

/// What ipseckey has to be told, and octets of key and salt.
const ALGORITHMS: [(&str, &str, usize); 3] =
    [("ChaCha20-Poly1305", "chacha20-poly1305", 36), ("AES-128-GCM", "aes-gcm", 20), ("AES-256-GCM", "aes-gcm", 36)];

/// Octets by map, as the kernel counts them (`memlock` in /proc/PID/fdinfo, which espadm shows).
type Maps = BTreeMap<String, u64>;

/// What SAs of one algorithm added.
struct Growth {
    name: &'static str,
    /// Octets for each SA that the maps grew by, by the kernel's count.
    counted: f64,
    /// Octets for each SA that the kernel's allocator took.
    allocated: f64,
}

pub(super) fn measure() -> Result<Figures> {
    let [small, large] = SLOTS;
    let small_maps = Attached::new("memorysmall", small)?.maps()?;
    let attached = Attached::new("memorylarge", large)?;
    let large_maps = attached.maps()?;
    let slots = f64::from(large - small);
    let per_slot: BTreeMap<String, f64> = large_maps
        .iter()
        .map(|(name, octets)| (name.clone(), octets - small_maps.get(name).copied().unwrap_or(*octets)))
        .map(|(name, octets)| (name, octets as f64 / slots))
        .filter(|(_, octets)| *octets > 0.0)
        .collect();
    let growth = (0..).zip(ALGORITHMS).map(|(index, algorithm)| attached.grow(index * SAS, algorithm));
    Ok(report(&large_maps, &per_slot, &growth.collect::<Result<Vec<_>>>()?))
}

/// A host with the data path.
struct Attached {
    suite: Suite,
    _lab: Lab,
}

impl Attached {
    fn new(name: &str, slots: u32) -> Result<Self> {
        let lab = Lab::new(name)?;
        let (a, b): (Host, Host) = (lab.host("a")?, lab.host("b")?);
        lab.join((&a, "wan0"), (&b, "wan0"))?;
        a.ip(&["address add 192.0.2.1/24 dev wan0"])?;
        let capacity = (slots - 1).to_string();
        let suite = Suite::attach(&lab, &a, &["--capacity", &capacity, "wan0"])?;
        Ok(Self { suite, _lab: lab })
    }

    fn maps(&self) -> Result<Maps> {
        let text = self.suite.tool("espadm", &["--json", "show"])?;
        let status: Value =
            serde_json::from_str(&text).with_context(|| format!("espadm --json show printed {text:?}"))?;
        let maps = status.get("maps").and_then(Value::as_array).context("espadm shows no maps")?;
        Ok(maps.iter().map(|map| (self::text(map, "name").to_owned(), number(map, "bytes"))).collect())
    }

    /// Adds SAs of one algorithm to those that are there.
    fn grow(&self, there: u32, (name, ipseckey, key): (&'static str, &str, usize)) -> Result<Growth> {
        let (maps_before, kernel_before) = (self.maps()?, kernel_memory()?);
        let mut commands = String::new();
        for number in 0..SAS {
            let (from, to, direction) = match number % 2 {
                0 => ("192.0.2.1", "192.0.2.2", "outbound"),
                _ => ("192.0.2.2", "192.0.2.1", "inbound"),
            };
            let (spi, replay) = (0x1000 + there + number, if number % 2 == 0 { 0 } else { 1024 });
            // A key for each, as SAs have; nothing is ever sealed with them.
            let key = format!("{spi:08x}").repeat(key / 4);
            let _ = writeln!(
                commands,
                "add esp spi {spi:#x} src {from} dst {to} {direction} encr_alg {ipseckey} encrkey {key} replay {replay}"
            );
        }
        self.suite.keys(&commands)?;
        let (maps, kernel) = (self.maps()?, kernel_memory()?);
        let added = self.suite.sas()?.len();
        ensure!(added == (there + SAS) as usize, "{added} SAs are there after {SAS} were added to {there}");
        let grown = maps.values().sum::<u64>().saturating_sub(maps_before.values().sum());
        let sas = f64::from(SAS);
        let allocated = kernel.saturating_sub(kernel_before) as f64 / sas;
        Ok(Growth { name, counted: grown as f64 / sas, allocated })
    }
}

/// Octets that the kernel's allocator of objects has taken and cannot give back: what other programs do changes it
/// little.
fn kernel_memory() -> Result<u64> {
    let text = fs::read_to_string("/proc/meminfo").context("reading /proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("SUnreclaim:"));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    Ok(kibibytes.context("/proc/meminfo has no SUnreclaim")? * 1024)
}

fn report(maps: &Maps, per_slot: &BTreeMap<String, f64>, growth: &[Growth]) -> Figures {
    let [small, large] = SLOTS;
    let preallocated: f64 = per_slot.values().sum();
    let mut text = format!(
        "Octets for each SA in the maps, as the kernel counts them: difference between {small} and {large} slots\n"
    );
    for (name, octets) in per_slot {
        let _ = writeln!(text, "  {name:<24} {octets:>8.0}");
    }
    let _ = writeln!(text, "  {:<24} {preallocated:>8.0}", "in advance, of any kind");
    let _ = writeln!(
        text,
        "What {SAS} SAs of an algorithm add to that, each, in entries that are made when needed: as the kernel counts\n\
         a map, by what its unreclaimable memory grew (with whatever else it did), and the sum for one SA\n\
         {:<26} {:>8} {:>10} {:>8}",
        "", "counted", "allocated", "in all"
    );
    for Growth { name, counted, allocated } in growth {
        // Where no map grew, what else the kernel did is all that is left.
        let all = preallocated + if *counted > 0.0 { *allocated } else { 0.0 };
        let _ = writeln!(text, "  {name:<24} {counted:>8.0} {allocated:>10.0} {all:>8.0}");
    }
    let whole: u64 = maps.values().sum();
    let _ = writeln!(text, "All maps with {large} slots and no SA: {:.1} MiB", whole as f64 / f64::from(1 << 20));
    let json = json!({
        "slots_compared": SLOTS,
        "per_slot": per_slot,
        "in_advance": preallocated,
        "all_maps_without_sa": whole,
        "on_demand": growth.iter().map(|growth| json!({
            "algorithm": growth.name, "counted": growth.counted, "allocated": growth.allocated
        })).collect::<Vec<_>>(),
    });
    Figures { text, json }
}
