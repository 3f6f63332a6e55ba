//! What the data path needs of a kernel, and whether this one has it: asked by trying, never by its version.

use super::kernel::{bpf, descriptor};
use super::netdev::{IPSEC0X, Route};
use super::{LoaderError, clsact, xdp_features};
use aya::maps::MapType;
use aya::programs::ProgramType;
use aya::sys::{BpfHelper, is_helper_supported, is_map_supported, is_program_supported};
use nix::sched::{CloneFlags, unshare};
use serde::Serialize;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

/// One thing that a kernel has or has not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Feature {
    /// Name.
    pub name: &'static str,
    /// The first kernel of kernel.org that has it.
    pub since: &'static str,
    /// What it is for.
    pub purpose: &'static str,
    /// What is done without it; `None` where the data path cannot do without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub otherwise: Option<&'static str>,
    /// Whether this kernel has it.
    pub present: bool,
}

impl Feature {
    /// Whether the data path cannot be loaded for want of it.
    pub fn is_lacking(&self) -> bool {
        !self.present && self.otherwise.is_none()
    }
}

/// A question to the kernel. What it does not answer counts as a no.
enum Probe {
    Program(ProgramType),
    Map(MapType),
    Helper(ProgramType, BpfHelper),
    Other(fn() -> bool),
}

const XDP: ProgramType = ProgramType::Xdp;
const TC: ProgramType = ProgramType::SchedClassifier;

/// Name, first kernel, purpose, question.
const NEEDED: [(&str, &str, &str, Probe); 13] = [
    ("BTF of the kernel", "4.18", "types of maps and global functions", Probe::Other(has_btf)),
    ("XDP", "4.8", "opening and sealing packets", Probe::Program(XDP)),
    ("TC programs", "4.1", "packets that leave and that have been opened", Probe::Program(TC)),
    ("XDP in the driver of veth", "4.19", "the pair ipsec0", Probe::Other(has_xdp_on_veth)),
    ("ring buffer", "5.8", "events for key management", Probe::Map(MapType::RingBuf)),
    ("bpf_ktime_get_boot_ns", "5.8", "lifetimes", Probe::Helper(XDP, BpfHelper::BPF_FUNC_ktime_get_boot_ns)),
    ("bpf_fib_lookup", "4.18", "routes of sealed packets", Probe::Helper(XDP, BpfHelper::BPF_FUNC_fib_lookup)),
    (
        "bpf_redirect_neigh",
        "5.10",
        "neighbours of sealed packets",
        Probe::Helper(TC, BpfHelper::BPF_FUNC_redirect_neigh),
    ),
    ("bpf_xdp_load_bytes", "5.18", "ends of packets", Probe::Helper(XDP, BpfHelper::BPF_FUNC_xdp_load_bytes)),
    ("bpf_xdp_store_bytes", "5.18", "ends of packets", Probe::Helper(XDP, BpfHelper::BPF_FUNC_xdp_store_bytes)),
    ("bpf_timer", "5.15", "SAs that expire without traffic", Probe::Helper(TC, BpfHelper::BPF_FUNC_timer_init)),
    (
        "bpf_get_socket_cookie",
        "4.12",
        "letting key management out",
        Probe::Helper(TC, BpfHelper::BPF_FUNC_get_socket_cookie),
    ),
    (
        "bpf_skb_change_tail",
        "4.9",
        "answers to packets that are too big",
        Probe::Helper(TC, BpfHelper::BPF_FUNC_skb_change_tail),
    ),
];

/// The same, and what is done without.
const WANTED: [(&str, &str, &str, Probe, &str); 2] = [
    ("TCX", "6.6", "TC programs as links", Probe::Other(clsact::has_tcx), "filters on a clsact qdisc"),
    (
        "XDP features of drivers",
        "6.3",
        "the XDP exit, the gateway shortcut out of tunnels",
        Probe::Other(tells_xdp_features),
        "the exit as asked for, the shortcut into tunnels only",
    ),
];

/// Asked about the loopback interface.
fn tells_xdp_features() -> bool {
    const LOOPBACK: u32 = 1;
    xdp_features::transmits(LOOPBACK).is_ok_and(|told| told.is_some())
}

/// Asks the kernel. Takes some milliseconds, and root.
pub fn probe() -> Vec<Feature> {
    let needed = NEEDED.iter().map(|(name, since, purpose, probe)| (name, since, purpose, None, probe));
    let wanted = WANTED.iter().map(|(name, since, purpose, probe, other)| (name, since, purpose, Some(*other), probe));
    needed
        .chain(wanted)
        .map(|(name, since, purpose, otherwise, probe)| Feature {
            name,
            since,
            purpose,
            otherwise,
            present: ask(probe),
        })
        .collect()
}

fn ask(probe: &Probe) -> bool {
    match probe {
        Probe::Program(kind) => is_program_supported(*kind).unwrap_or(false),
        Probe::Map(kind) => is_map_supported(*kind).unwrap_or(false),
        Probe::Helper(kind, helper) => is_helper_supported(*kind, *helper).unwrap_or(false),
        Probe::Other(has) => has(),
    }
}

/// Names what the kernel lacks in the error of a load that failed; without a lack the error stays as it is.
pub(super) fn explain(error: LoaderError) -> LoaderError {
    let LoaderError::Kernel { what, reason } = error else { return error };
    let lacking: Vec<String> = probe()
        .iter()
        .filter(|feature| feature.is_lacking())
        .map(|feature| format!("{} (Linux {})", feature.name, feature.since))
        .collect();
    if lacking.is_empty() {
        return LoaderError::Kernel { what, reason };
    }
    LoaderError::Kernel { what: format!("this kernel lacks {}; {what}", lacking.join(", ")), reason }
}

fn has_btf() -> bool {
    Path::new("/sys/kernel/btf/vmlinux").exists()
}

/// Tries it on a pair in a network namespace that is gone with the thread.
fn has_xdp_on_veth() -> bool {
    let attempt = || -> Result<(), LoaderError> {
        unshare(CloneFlags::CLONE_NEWNET).map_err(|e| LoaderError::io("network namespace")(e.into()))?;
        let route = Route::open()?;
        route.create_pair(1500)?;
        let end = route.find(IPSEC0X)?.ok_or_else(|| LoaderError::NoInterface(IPSEC0X.to_owned()))?;
        let program = passing_xdp().map_err(LoaderError::io("an XDP program"))?;
        attach_native(&program, end.index).map_err(LoaderError::io("XDP on veth")).map(drop)
    };
    std::thread::scope(|scope| scope.spawn(attempt).join().is_ok_and(|result| result.is_ok()))
}

/// The leading fields of `union bpf_attr` for `BPF_PROG_LOAD`.
#[repr(C)]
struct LoadAttr {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
}

/// The leading fields of `union bpf_attr` for `BPF_LINK_CREATE`.
#[repr(C)]
struct LinkAttr {
    program: u32,
    ifindex: u32,
    attach_type: u32,
    flags: u32,
}

/// An XDP program that passes every packet.
fn passing_xdp() -> std::io::Result<OwnedFd> {
    const BPF_PROG_LOAD: i64 = 5;
    const BPF_PROG_TYPE_XDP: u32 = 6;
    // r0 = XDP_PASS; exit. The immediate value is the upper half of an instruction.
    let instructions = [0xb7 | 2 << 32, 0x95_u64];
    let attr = LoadAttr {
        kind: BPF_PROG_TYPE_XDP,
        count: instructions.len() as u32,
        instructions: instructions.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
    };
    bpf(BPF_PROG_LOAD, &attr).map(descriptor)
}

fn attach_native(program: &OwnedFd, ifindex: u32) -> std::io::Result<OwnedFd> {
    const BPF_LINK_CREATE: i64 = 28;
    const BPF_XDP: u32 = 37;
    const XDP_FLAGS_DRV_MODE: u32 = 4;
    let attr =
        LinkAttr { program: program.as_raw_fd() as u32, ifindex, attach_type: BPF_XDP, flags: XDP_FLAGS_DRV_MODE };
    bpf(BPF_LINK_CREATE, &attr).map(descriptor)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tests of the loader attach on this kernel, so it has all that is needed.
    #[test]
    fn this_kernel_lacks_nothing() {
        let features = probe();
        let lacking: Vec<_> = features.iter().filter(|feature| feature.is_lacking()).collect();
        assert!(lacking.is_empty(), "{lacking:?}");
        assert_eq!(features.len(), NEEDED.len() + WANTED.len());
    }

    #[test]
    fn what_is_not_there_is_not_found() {
        // A helper of perf events, which XDP programs may not call.
        assert!(!ask(&Probe::Helper(XDP, BpfHelper::BPF_FUNC_perf_prog_read_value)));
        assert!(!ask(&Probe::Map(MapType::Unspecified)) && !ask(&Probe::Program(ProgramType::Unspecified)));
        assert!(attach_native(&passing_xdp().unwrap(), 4_000_000).is_err());
    }

    #[test]
    fn an_error_that_is_not_of_the_kernel_stays_as_it_is() {
        assert!(matches!(explain(LoaderError::NoObject), LoaderError::NoObject));
        let error = LoaderError::Kernel { what: "a".to_owned(), reason: "b".to_owned() };
        assert_eq!(explain(error).to_string(), "a: b");
    }
}
