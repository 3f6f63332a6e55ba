//! What is attached: interfaces and their modes, memory by map, programs with what the verifier counted.

use super::attach::{self, InterfaceReport};
use super::error::SadbError;
use super::instance::{Instance, InstanceError};
use super::loader::{self, LoaderError};
use super::maps::{self, Slots};
use super::netdev::Route;
use crate::abi::{Config, EXIT_XDP, map};
use aya::maps::MapInfo;
use aya::programs::ProgramInfo;
use serde::Serialize;
use std::os::fd::{AsFd, AsRawFd};

/// A map.
#[derive(Clone, Debug, Serialize)]
pub struct MapReport {
    /// Name.
    pub name: String,
    /// Number of entries that fit; octets for a ring.
    pub entries: u32,
    /// Octets of kernel memory, as the kernel accounts them.
    pub bytes: u64,
}

/// A program.
#[derive(Clone, Debug, Serialize)]
pub struct ProgramReport {
    /// Name.
    pub name: &'static str,
    /// Number by which bpftool knows it.
    pub id: u32,
    /// Instructions that the verifier walked; 0 where the kernel does not say.
    pub verified: u32,
    /// Octets of machine code.
    pub machine_code: u32,
}

/// State of an instance.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// Name of the instance.
    pub instance: String,
    /// Whether it has its base in this network namespace.
    pub attached: bool,
    /// Number of SAs that fit.
    pub capacity: u32,
    /// Whether `ipsec0` and `ipsec0x` are there and up, with their programs; `espadm attach` mends them.
    pub pair: bool,
    /// The outer interfaces that have their programs.
    pub interfaces: Vec<InterfaceReport>,
    /// Ethernet interfaces of this network namespace that are not attached: what leaves there is not judged.
    pub unattached: Vec<String>,
    /// Interfaces that are up and cannot be attached, because they have no Ethernet framing: what leaves there is not
    /// judged either.
    pub unattachable: Vec<String>,
    /// The maps.
    pub maps: Vec<MapReport>,
    /// The programs.
    pub programs: Vec<ProgramReport>,
}

impl Status {
    /// Reads the state of the instance.
    ///
    /// # Errors
    /// It belongs to another network namespace or version; maps cannot be read. That nothing is attached is no error.
    pub fn read(instance: &Instance) -> Result<Self, LoaderError> {
        let header = match maps::checked_header(instance) {
            Ok(header) => Some(header),
            Err(SadbError::Instance(InstanceError::NotAttached(_))) => None,
            Err(e) => return Err(e.into()),
        };
        let mut status = Self {
            instance: instance.name().to_owned(),
            attached: header.is_some(),
            capacity: header.map_or(0, |h| h.capacity.saturating_sub(1)),
            pair: false,
            interfaces: vec![],
            unattached: vec![],
            unattachable: vec![],
            maps: vec![],
            programs: vec![],
        };
        let all = Route::open()?.interfaces()?;
        let outer = if status.attached { attach::attached(instance)? } else { vec![] };
        for interface in &all {
            match outer.iter().find(|(index, ..)| *index == interface.index) {
                Some((index, record, true)) => status.interfaces.push(InterfaceReport {
                    name: interface.name.clone(),
                    ifindex: *index,
                    native: record.native != 0,
                    xdp_exit: record.exit == EXIT_XDP,
                    mtu: record.mtu,
                    clsact: attach::is_filter(instance, *index),
                    fallback: None,
                }),
                _ if interface.is_outer() => status.unattached.push(interface.name.clone()),
                _ if interface.is_beyond_reach() => status.unattachable.push(interface.name.clone()),
                _ => {}
            }
        }
        if status.attached {
            let config = Slots::<Config>::open(instance, map::CONFIG)?.get(0)?;
            let up = |index| all.iter().any(|i| i.index == index && i.up);
            status.pair = up(config.ipsec0)
                && up(config.ipsec0x)
                && attach::pair_is_whole(instance, config.ipsec0, config.ipsec0x);
            status.maps = memory(instance)?;
            status.programs = programs(instance)?;
        }
        Ok(status)
    }
}

/// Memory of every pinned map.
pub(super) fn memory(instance: &Instance) -> Result<Vec<MapReport>, LoaderError> {
    let entries = std::fs::read_dir(instance.pin_dir()).map_err(LoaderError::io("directory of the pins"))?;
    let mut reports = vec![];
    for entry in entries {
        let entry = entry.map_err(LoaderError::io("directory of the pins"))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // Maps are in capitals; programs and links are not, and opening one as a map would fail.
        if name.chars().any(|c| c.is_ascii_lowercase()) {
            continue;
        }
        let failed = |e| LoaderError::kernel(format!("map {name}"), &e);
        let info = MapInfo::from_pin(entry.path()).map_err(failed)?;
        let fd = info.fd().map_err(failed)?;
        let path = format!("/proc/self/fdinfo/{}", fd.as_fd().as_raw_fd());
        let text = std::fs::read_to_string(path).map_err(LoaderError::io("fdinfo of a map"))?;
        let bytes = text.lines().find_map(|line| line.strip_prefix("memlock:")?.trim().parse().ok()).unwrap_or(0);
        reports.push(MapReport { entries: info.max_entries(), bytes, name });
    }
    reports.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(reports)
}

fn programs(instance: &Instance) -> Result<Vec<ProgramReport>, LoaderError> {
    let read = |name: &'static str| {
        let info = ProgramInfo::from_pin(instance.pin(name))
            .map_err(|e| LoaderError::kernel(format!("program {name}"), &e))?;
        Ok(ProgramReport {
            name,
            id: info.id(),
            verified: info.verified_instruction_count().unwrap_or(0),
            machine_code: info.size_jitted(),
        })
    };
    loader::programs().map(read).collect()
}
