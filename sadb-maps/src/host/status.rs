//! What is attached: interfaces and their modes, memory by map, programs with what the verifier counted.

use super::attach::{self, InterfaceReport};
use super::build::Build;
use super::error::SadbError;
use super::instance::{Instance, InstanceError};
use super::loader::{self, LoaderError};
use super::maps;
use super::netdev::Route;
use super::object;
use super::watch;
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

/// A process that watches the interfaces of an instance.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Watcher {
    /// Number of the process.
    pub process: u32,
    /// It takes down what is not attached.
    pub strict: bool,
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
    /// The programs that are loaded; `None` when nothing is attached, or by a version that left no record.
    pub loaded: Option<Build>,
    /// The programs that this tool has; `None` when it was built without. `espadm upgrade` loads them.
    pub installed: Option<Build>,
    /// Whether `ipsec0` and `ipsec0x` are there and up, with their programs; `espadm attach` mends them.
    pub pair: bool,
    /// Who attaches interfaces that come later; `None` when nobody does. `espadm watch` does.
    pub watcher: Option<Watcher>,
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
            loaded: None,
            installed: Build::installed(),
            pair: false,
            watcher: None,
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
                Some((_, record, true)) => status.interfaces.push(InterfaceReport::of(instance, interface, record)),
                _ if interface.is_outer() => status.unattached.push(interface.name.clone()),
                _ if interface.is_beyond_reach() => status.unattachable.push(interface.name.clone()),
                _ => {}
            }
        }
        if status.attached {
            status.pair = loader::pair_is_whole(instance, &all)?;
            status.loaded = Build::loaded(instance).map_err(LoaderError::io("record of the build"))?;
            status.watcher = watch::watcher(instance)?.map(|(process, strict)| Watcher { process, strict });
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
    // Another build may have other programs.
    object::programs().filter(|name| instance.pin(name).exists()).map(read).collect()
}
