//! The object with the programs: loaded, verified, joined to each other and to the maps, and pinned. What they are attached
//! to is not known here.

use super::build::Build;
use super::fault;
use super::instance::Instance;
use super::layout::{Entries, MapSpec};
use super::loader::LoaderError;
use crate::abi::{map, program};
use aya::maps::ProgramArray;
use aya::programs::{Program, SchedClassifier, TestRun, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader};
use std::path::Path;

/// The programs, embedded; `None` when they had not been built.
#[cfg(ebpf_object)]
pub(super) const OBJECT: Option<&[u8]> = Some(aya::include_bytes_aligned!(env!("IPSEC_EBPF_OBJECT")));
/// The programs, embedded; `None` when they had not been built.
#[cfg(not(ebpf_object))]
pub(super) const OBJECT: Option<&[u8]> = None;

/// The programs that are not reached through the `STAGES` map.
const ATTACHED: [&str; 8] = [
    program::XDP_IPSEC0,
    program::XDP_IPSEC0X,
    program::XDP_OUTER,
    program::TC_OUTER_EGRESS,
    program::TC_OUTER_INGRESS,
    program::TC_IPSEC0_EGRESS,
    program::TC_IPSEC0X_INGRESS,
    program::ARM_SWEEP,
];

/// Every program that is pinned, in the order of loading: the stages before those that jump to them.
pub(super) fn programs() -> impl Iterator<Item = &'static str> {
    program::STAGES.iter().map(|(name, _)| *name).chain(ATTACHED)
}

/// Programs that the kernel has verified, with the maps that they use.
pub(super) struct Loaded {
    ebpf: Ebpf,
    build: Build,
    /// The maps of the contract are those that an instance has.
    shared: bool,
}

impl Loaded {
    /// Loads an object with maps for `capacity` slots, or on those that an instance has.
    ///
    /// # Errors
    /// The object lacks a program, or the kernel refuses something.
    pub(super) fn new(
        object: &[u8],
        specs: &[MapSpec],
        capacity: u32,
        maps_of: Option<&Instance>,
    ) -> Result<Self, LoaderError> {
        let mut loader = EbpfLoader::new();
        for spec in specs {
            if let Some(instance) = maps_of {
                loader.map_pin_path(spec.name, instance.pin(spec.name));
            }
            if !matches!(spec.entries, Entries::Declared(_)) {
                loader.map_max_entries(spec.name, spec.max_entries(capacity));
            }
        }
        let mut ebpf = loader.load(object).map_err(|e| LoaderError::kernel("loading the eBPF maps", &e))?;
        for name in programs() {
            verify(&mut ebpf, name)?;
        }
        join_stages(&mut ebpf)?;
        Ok(Self { ebpf, build: Build::of(object), shared: maps_of.is_some() })
    }

    /// Pins programs and maps in a directory, save the maps that an instance has already. A timer or an array of programs
    /// in a map lasts only as long as user space has a hold on that map.
    pub(super) fn pin(&mut self, directory: &Path, specs: &[MapSpec]) -> Result<(), LoaderError> {
        for name in programs() {
            let program = self.ebpf.program_mut(name).ok_or(LoaderError::NoProgram(name))?;
            fault::point();
            program
                .pin(directory.join(name))
                .map_err(|e| LoaderError::kernel(format!("pinning program {name}"), &e))?;
        }
        for (name, inner) in self.ebpf.maps() {
            // Global data has a dot in its name, which the file system reserves, and nothing in it that needs a hold.
            if name.contains('.') || (self.shared && specs.iter().any(|spec| spec.name == name)) {
                continue;
            }
            fault::point();
            inner.pin(directory.join(name)).map_err(|e| LoaderError::kernel(format!("pinning map {name}"), &e))?;
        }
        self.build.pin(directory).map_err(LoaderError::io("record of the build"))
    }

    /// Starts the sweep, which ages the SAs.
    pub(super) fn arm_sweep(&mut self) -> Result<(), LoaderError> {
        arm(program_mut::<SchedClassifier>(&mut self.ebpf, program::ARM_SWEEP)?)
    }
}

/// Starts the sweep of the programs that are pinned in a directory; again does no harm.
pub(super) fn arm_pinned_sweep(directory: &Path) -> Result<(), LoaderError> {
    let mut sweep = SchedClassifier::from_pin(directory.join(program::ARM_SWEEP))
        .map_err(|e| LoaderError::kernel(format!("program {}", program::ARM_SWEEP), &e))?;
    arm(&mut sweep)
}

fn arm(sweep: &mut SchedClassifier) -> Result<(), LoaderError> {
    // The kernel builds a packet for a TC program and wants at least an Ethernet header.
    let frame = [0; 64];
    let run = sweep
        .test_run(TestRunOptions { data_in: Some(&frame), ..TestRunOptions::default() })
        .map_err(|e| LoaderError::kernel("arming the sweep timer", &e))?;
    match run.return_value {
        0 => Ok(()),
        code => Err(LoaderError::Kernel {
            what: "arming the sweep timer".to_owned(),
            reason: format!("the program says {}", code as i32),
        }),
    }
}

fn program_mut<'a, P>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut P, LoaderError>
where
    &'a mut P: TryFrom<&'a mut Program>,
{
    let program = ebpf.program_mut(name).ok_or(LoaderError::NoProgram(name))?;
    program.try_into().map_err(|_| LoaderError::NoProgram(name))
}

fn verify(ebpf: &mut Ebpf, name: &'static str) -> Result<(), LoaderError> {
    let failed = |e| LoaderError::kernel(format!("loading program {name}"), &e);
    if name.starts_with("xdp") || program::STAGES.iter().any(|(stage, _)| *stage == name) {
        program_mut::<Xdp>(ebpf, name)?.load().map_err(failed)
    } else {
        program_mut::<SchedClassifier>(ebpf, name)?.load().map_err(failed)
    }
}

/// Puts the stages where the programs look for them. The array is of this object alone: a packet that one build has
/// begun with never meets a stage of another.
fn join_stages(ebpf: &mut Ebpf) -> Result<(), LoaderError> {
    for (name, index) in program::STAGES {
        let failed = |e: &dyn std::error::Error| LoaderError::kernel(format!("stage {name}"), e);
        let stage = program_mut::<Xdp>(ebpf, name)?.fd().and_then(|fd| Ok(fd.try_clone()?)).map_err(|e| failed(&e))?;
        let map = ebpf.map_mut(map::STAGES).ok_or(LoaderError::NoProgram(map::STAGES))?;
        let mut stages = ProgramArray::try_from(map).map_err(|e| failed(&e))?;
        stages.set(*index, &stage, 0).map_err(|e| failed(&e))?;
    }
    Ok(())
}
