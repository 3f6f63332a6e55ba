//! To the maps of a later version and back. There is none yet: an object whose `SaStatic` has 64 octets more in front of the key
//! area, built with the feature `next-abi`, stands for it.

use crate::instance;
use anyhow::{Result, ensure};
use sadb_maps::abi::{ABI_VERSION, map};
use sadb_maps::host::Instance;
use sadb_maps::host::layout::{MAPS, MapSpec};
use sadb_maps::host::migrate::{Step, Target};
use sadb_maps::host::upgrade::{UpgradeOptions, upgrade_to};
use sadb_maps::sa::SaStatic;
use std::mem::offset_of;
use std::path::Path;
use zeroize::Zeroizing;

/// The version that the object stands for.
const NEXT: u32 = ABI_VERSION + 1;

/// Octets that its records have more, and where.
const MORE: usize = 64;
const AT: usize = offset_of!(SaStatic, key);

const UP: &[Step] = &[Step { from: ABI_VERSION, to: NEXT, value: longer, iv_limit: offset_of!(SaStatic, iv_limit) }];
const DOWN: &[Step] = &[Step { from: NEXT, to: ABI_VERSION, value: shorter, iv_limit: offset_of!(SaStatic, iv_limit) }];

fn longer(map: &str, value: Zeroizing<Vec<u8>>) -> Zeroizing<Vec<u8>> {
    match value.split_at_checked(AT) {
        Some((front, key)) if map == map::SA_STATIC => Zeroizing::new([front, &[0x5a; MORE], key].concat()),
        _ => value,
    }
}

fn shorter(map: &str, value: Zeroizing<Vec<u8>>) -> Zeroizing<Vec<u8>> {
    match value.get(..AT).zip(value.get(AT + MORE..)) {
        Some((front, key)) if map == map::SA_STATIC => Zeroizing::new([front, key].concat()),
        _ => value,
    }
}

/// Moves an instance there, or back.
pub(crate) fn run(instance: &str, object: Option<&Path>) -> Result<()> {
    let instance = Instance::open(instance)?;
    let longer = |spec: &MapSpec| match spec.name {
        map::SA_STATIC => MapSpec { value: spec.value + MORE, ..*spec },
        _ => *spec,
    };
    let there: Vec<MapSpec> = MAPS.iter().map(longer).collect();
    let there = Target { abi: NEXT, maps: there.leak(), steps: DOWN, after: UP };
    let back = Target { steps: DOWN, ..Target::OURS };
    let options = UpgradeOptions { object: object.map(instance::read).transpose()?, ..UpgradeOptions::default() };
    let report = upgrade_to(&instance, &options, if object.is_some() { &there } else { &back })?;
    ensure!(report.moved.is_some(), "the maps stayed");
    println!("{}", report.moved.unwrap_or_default());
    Ok(())
}
